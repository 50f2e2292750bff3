/* Work on all shards of a store, handed out one by one to a few threads, one per processor. The
 * caller is one of them; where no more threads can be had it does all the work. */
#ifndef CASKADE_CREW_H
#define CASKADE_CREW_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/status.h"

struct crew {
    void *context;
    int (*step)(void *context, uint32_t shard);
    uint32_t shard_count;
    _Atomic uint32_t next;
    _Atomic int status;
};

/* Calls step for each shard, whatever the others return. Returns the first failure. */
CHECKED int crew_do(uint32_t shard_count, int (*step)(void *context, uint32_t shard),
                    void *context);

/* The same with two threads per processor, for steps that wait for the disk as long as they
 * compute. */
CHECKED int crew_do_waiting(uint32_t shard_count, int (*step)(void *context, uint32_t shard),
                            void *context);

#endif
