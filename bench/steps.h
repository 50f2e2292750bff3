/* How a long fill went, step by step: a step is so many puts, and what the store and its process
 * looked like at the end of them.
 *
 *  1. A step's memory is the most that was seen during it, looked at every STEPS_LOOK_MS by a
 *     thread of its own; every other figure of the store is that of the step's end.
 *  2. The last step may be shorter. Steps travel as bytes: none of them is left undefined.
 */
#ifndef BENCH_STEPS_H
#define BENCH_STEPS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define STEPS_LOOK_MS 5

struct step {
    uint64_t keys; /* put by the end of the step */
    double seconds;
    double longest_put_ns;
    uint64_t rss_anon_max_bytes;
    uint64_t index_ram_bytes;
    uint64_t index_disk_bytes;
    uint64_t spilled_keys;
    uint64_t runs;
    uint64_t stalls;
    uint64_t index_written_bytes;
};

/* The thread that looks at this process's anonymous memory. */
struct steps_watch {
    pthread_t thread;
    atomic_bool stopping;
    _Atomic uint64_t max_bytes;
};

/* Starts looking. Returns 0, or -1 with a message on stderr. */
int steps_watch_start(struct steps_watch *watch);

/* The most seen since the last call, this moment included. */
uint64_t steps_watch_take(struct steps_watch *watch);
void steps_watch_stop(struct steps_watch *watch);

/* Seconds until so many keys were put, within a step in proportion; of all steps where there are
 * fewer keys. */
double steps_seconds_at(const struct step *steps, size_t count, double keys);

/* The names of the columns and the steps, each in brackets as JSON has it. */
void steps_print_json(const struct step *steps, size_t count, FILE *file);

/* A head line and one line a step, for people. */
void steps_print(const struct step *steps, size_t count, FILE *file);

#endif
