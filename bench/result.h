/* What one workload of one turn gave, as it travels from the turn's process to the one that
 * reports. */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "series.h"
#include "steps.h"

#define RESULT_NAME_BYTES 16
#define RESULT_FIGURES_MAX 64

/* What one workload alone has to tell. */
struct result_figure {
    char name[24];
    double value; /* NaN: it could not be had */
};

struct result {
    char engine[RESULT_NAME_BYTES];
    char workload[RESULT_NAME_BYTES];
    unsigned threads;
    unsigned round; /* from 1 */
    uint64_t num;   /* keys in the store */
    uint64_t ops;   /* keys put or got; for reopen, keys in the store */
    unsigned group; /* keys to a call */
    uint64_t bytes; /* of keys and values moved */
    double seconds;
    bool timed; /* the next four are known; they are of calls, not of keys */
    double p50_ns;
    double p99_ns;
    double p999_ns;
    double max_ns;
    uint64_t rss_anon_bytes;
    uint64_t rss_anon_start_bytes; /* before the turn opened its first store */
    uint64_t disk_bytes;
    uint64_t index_ram_bytes;   /* UINT64_MAX: the engine can't tell */
    uint64_t recovered_records; /* the same */
    bool skipped;               /* the engine has no merge: nothing else is known */
    unsigned figure_count;
    struct result_figure figures[RESULT_FIGURES_MAX];
    size_t sample_count;    /* so many samples follow the result on its way */
    struct sample *samples; /* where it has arrived; of results_release() to free */
    size_t step_count;      /* and so many steps behind them */
    struct step *steps;     /* the same */
};

struct results {
    struct result *items;
    size_t count;
    size_t capacity;
};

/* Appends a copy, which takes samples and steps over. Returns 0, or -1 when out of memory. */
int results_add(struct results *results, const struct result *result);
void results_release(struct results *results);

/* Name and value; there is room for RESULT_FIGURES_MAX. */
void result_add_figure(struct result *result, const char *name, double value);

/* NULL where there is none of that name. */
const struct result_figure *result_figure(const struct result *result, const char *name);

double result_ns_per_op(const struct result *result);

/* db_bench's line, and the figures in lines below it. */
void result_print(const struct result *result, FILE *file);

/* One line of JSON. What is not known is null. */
void result_print_json(const struct result *result, FILE *file);

#endif
