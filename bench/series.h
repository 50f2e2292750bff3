/* What a store takes on disk over time, sampled by a thread while a load runs.
 *
 *  1. A sample costs a stat() of each of the store's files and one call of the engine's figures:
 *     well under a millisecond, every SERIES_INTERVAL_MS.
 *  2. Samples are in the order of time. Besides the thread's there are those that series_mark()
 *     takes, so that a load that is over within one interval has some as well.
 */
#ifndef BENCH_SERIES_H
#define BENCH_SERIES_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "engine.h"

#define SERIES_INTERVAL_MS 50

struct sample {
    double seconds; /* since the series began */
    uint64_t ops;   /* puts since the store was opened */
    uint64_t disk_bytes;
    uint64_t live_bytes;
    uint64_t written_bytes;
    uint64_t merge_read_bytes;
    uint64_t merge_written_bytes;
};

struct series {
    const struct engine *engine;
    struct engine_store *store;
    const char *dir; /* NULL: disk_bytes is 0 */
    uint64_t start_ns;
    struct sample *samples;
    size_t count;
    size_t capacity;
    pthread_t thread;
    pthread_mutex_t mutex; /* over the samples and stopping */
    pthread_cond_t changed;
    bool stopping;
    bool failed; /* for want of memory */
};

/* Starts sampling store, whose files are under dir. Returns 0, or -1 with a message on stderr. */
int series_start(struct series *series, const struct engine *engine, struct engine_store *store,
                 const char *dir);

/* Takes a sample now. */
void series_mark(struct series *series);

/* Ends the sampling. The samples stay until series_release(). Returns 0, or -1 with a message if
 * some are missing. */
int series_stop(struct series *series);
void series_release(struct series *series);

/* The largest of disk use over live bytes among the samples taken after from_ops puts or more; 0
 * where there are none. */
double series_worst_ratio(const struct sample *samples, size_t count, uint64_t from_ops);

/* The largest disk use. */
uint64_t series_largest_disk(const struct sample *samples, size_t count);

/* The share of the time in which merging went on: that between two neighbours counts if merging
 * read or wrote in it. */
double series_merging_share(const struct sample *samples, size_t count);

/* The names of a sample's columns and its values, each in brackets as JSON has it. */
void series_print_json(const struct sample *samples, size_t count, FILE *file);

/* A head line and one line per sample, in columns of bytes and seconds, tabs between. */
void series_print_data(const struct sample *samples, size_t count, FILE *file);

#endif
