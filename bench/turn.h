/* One engine's turn with one number of threads: the workloads in their order, on a store of its
 * own, in a process of its own.
 *
 *  1. A turn's process is forked by one that has a single thread: its memory figures are its own,
 *     and an engine that crashes takes only its turn with it.
 *  2. Before each new store, memory is warmed (machine.h).
 *  3. What forks processes that open stores is done by a twin, forked before the turn has opened
 *     one: threads of an engine's own, which it keeps from store to store, are not in a child.
 *  4. A workload that reads finds a store with all keys in it: the one its predecessors left, or
 *     else one that is filled for it, which no figure shows.
 */
#ifndef BENCH_TURN_H
#define BENCH_TURN_H

#include <sys/types.h>

#include "load.h"
#include "options.h"
#include "result.h"
#include "series.h"

struct turn_plan {
    const struct options *options;
    const struct engine *engine;
    unsigned threads;
    unsigned round;
    const char *dir; /* for the store; made and removed by the turn */
};

/* The salts of the orders. */
enum { SALT_FILL = 1, SALT_READ, SALT_SAMPLE, SALT_OVERWRITE };

struct turn {
    const struct turn_plan *plan;
    struct keyspace keyspace;
    struct engine_store *store; /* NULL: closed */
    bool filled;                /* the store holds every key, each of this generation */
    uint32_t generation;
    uint64_t rss_anon_start_bytes;
    struct series series; /* its samples go with the next result */
    struct step *steps;   /* so do they; of the heap */
    size_t step_count;
    int fd;        /* where the results go */
    pid_t pid;     /* of the turn, in its twin as well */
    int twin_fd;   /* a workload's number goes there; -1: no twin */
    int answer_fd; /* and what it ended with comes from here */
};

/* What the command line says of a store. */
struct engine_config turn_config(const struct turn *turn);

/* Close what is open; open the turn's store; leave an empty directory, and memory that was warmed
 * for so many bytes; or warm it alone (see machine_warm(); not with --no-warm). */
int turn_close(struct turn *turn);
int turn_open(struct turn *turn, const struct engine_config *config);
int turn_clear(struct turn *turn, uint64_t bytes);
int turn_warm(const struct turn *turn, uint64_t bytes);

/* A load of all keys on the open store. */
struct load turn_load(const struct turn *turn, enum load_kind kind, uint64_t salt);

/* Ends the calling process, a child of parent, with it. */
void turn_die_with_parent(pid_t parent);

/* Starts the turn's process. Each struct result appears on *ret_fd as soon as it is there, its
 * samples and steps behind it; the end of the file comes with the end of the process, whose exit
 * code is 0 if all went well. Returns 0, or -1 with a message on stderr. */
int turn_start(const struct turn_plan *plan, pid_t *ret_pid, int *ret_fd);

#endif
