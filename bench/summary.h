/* From all results of a run: medians over the rounds, and ratios.
 *
 * A ratio compares two results of the same round, taken within minutes of each other, because times
 * move from hour to hour by more than engines differ; the median over the rounds is reported, with
 * the smallest and the largest. It always says how many times as fast the first is as the second.
 */
#ifndef BENCH_SUMMARY_H
#define BENCH_SUMMARY_H

#include <stdio.h>

#include "options.h"
#include "result.h"

/* Which results are meant: one per round. */
struct summary_key {
    const char *engine;
    const char *workload;
    unsigned threads;
};

struct summary_ratio {
    unsigned rounds; /* 0: there is nothing, and the rest is 0 */
    double median;
    double min;
    double max;
};

/* Of the values, which it sorts; count is at least 1. */
double summary_median(double *values, size_t count);

/* The median over the rounds of nanoseconds per operation; 0 where there are no results. */
double summary_ns_per_op(const struct results *results, const struct summary_key *key);

/* Where both went in steps, of the keys that both have put. */
struct summary_ratio summary_compare(const struct results *results, const struct summary_key *fast,
                                     const struct summary_key *slow);

/* A figure, over the rounds that have it. */
struct summary_ratio summary_figure(const struct results *results, const struct summary_key *key,
                                    const char *name);

/* Prints all of it; json may be NULL. */
void summary_print(const struct results *results, const struct options *options, FILE *file,
                   FILE *json);

#endif
