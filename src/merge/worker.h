/* The threads that do a shard's background work: one what writers will soon want (blocks, memory),
 * one the rest, which syncs files and takes longer. They start when there is work for the first
 * time and then wait for more until they are stopped. */
#ifndef CASKADE_WORKER_H
#define CASKADE_WORKER_H

#include <stdatomic.h>

#include "merge/control.h"

struct worker;

struct worker_hand {
    struct worker *worker;
    unsigned kinds; /* of enum shard_work */
    pthread_cond_t *wanted;
    pthread_t thread;
    bool started;
};

struct worker {
    struct shard *shard;
    struct merge_control *control;
    struct worker_hand hands[2];
    _Atomic bool started; /* all of it */
};

/* shard has its locks already. */
void worker_init(struct worker *worker, struct shard *shard, struct merge_control *control);

/* Starts what does not run yet. One caller at a time. CASK_ENOMEM if a thread cannot be had. */
CHECKED int worker_start(struct worker *worker);

/* Waits for the work in hand, leaves the rest, ends the threads. */
void worker_stop(struct worker *worker);

#endif
