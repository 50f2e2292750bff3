/* One engine's turn with one number of threads: the workloads in their order, on a store of its
 * own, in a process of its own.
 *
 *  1. A turn's process is forked by one that has a single thread: its memory figures are its own,
 *     and an engine that crashes takes only its turn with it.
 *  2. Before each new store, memory is warmed (machine.h).
 *  3. A workload that reads finds a store with all keys in it: the one its predecessors left, or
 *     else one that is filled for it, which no figure shows.
 */
#ifndef BENCH_TURN_H
#define BENCH_TURN_H

#include <sys/types.h>

#include "options.h"
#include "result.h"

struct turn_plan {
    const struct options *options;
    const struct engine *engine;
    unsigned threads;
    unsigned round;
    const char *dir; /* for the store; made and removed by the turn */
};

/* Starts the turn's process. Each struct result appears on *ret_fd as soon as it is there; the end
 * of the file comes with the end of the process, whose exit code is 0 if all went well. Returns 0,
 * or -1 with a message on stderr. */
int turn_start(const struct turn_plan *plan, pid_t *ret_pid, int *ret_fd);

#endif
