/* Disk space that is kept so that a full disk can be freed: what merging needs to begin with.
 *
 * Invariants:
 *  1. It is a file of the store that holds nothing but blocks; while it is in use they are free.
 *  2. While it is in use no put gets a new segment: the room is for merges and for sealing.
 *  3. A store on a disk that was full already when it was opened has none.
 */
#ifndef CASKADE_RESERVE_H
#define CASKADE_RESERVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "io/io.h"

#define RESERVE_NAME "RESERVE"

struct reserve {
    struct io_dir *dir;
    struct io_file *file;
    uint64_t bytes;
    pthread_mutex_t lock;
    _Atomic unsigned users;
    bool ready;
    _Atomic bool tried;
};

void reserve_init(struct reserve *reserve, struct io_dir *dir, uint64_t bytes);

/* Takes the space, once: called when a store has grown so far that it matters. Where it cannot be
 * had the store does without. */
void reserve_have(struct reserve *reserve);

void reserve_close(struct reserve *reserve);

void reserve_use(struct reserve *reserve);
void reserve_leave(struct reserve *reserve);

static inline bool reserve_is_used(struct reserve *reserve)
{
    return atomic_load_explicit(&reserve->users, memory_order_relaxed) > 0;
}

#endif
