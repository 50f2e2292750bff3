/* The thread that does a shard's background work. It starts when there is work for the first time
 * and then waits for more until it is stopped. */
#ifndef CASKADE_WORKER_H
#define CASKADE_WORKER_H

#include <stdatomic.h>

#include "merge/control.h"

struct worker {
    struct shard *shard;
    struct merge_control *control;
    pthread_t thread;
    _Atomic bool started;
};

void worker_init(struct worker *worker, struct shard *shard, struct merge_control *control);

/* Starts the thread unless it runs. One caller at a time. CASK_ENOMEM if no thread can be had. */
CHECKED int worker_start(struct worker *worker);

/* Waits for the work in hand, leaves the rest, ends the thread. */
void worker_stop(struct worker *worker);

#endif
