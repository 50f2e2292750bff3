/* Counts of durations, log-linear: 64 steps to each power of two, so that a percentile is read to
 * within 1.6 %. The largest value is kept as it was. One writer at a time.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEP_BITS 6
#define HISTOGRAM_STEPS (1u << HISTOGRAM_STEP_BITS)
/* Values below HISTOGRAM_STEPS have a bucket each; then 64 for each of the 58 powers above. */
#define HISTOGRAM_BUCKETS (HISTOGRAM_STEPS * (64 - HISTOGRAM_STEP_BITS + 1))

struct histogram {
    uint64_t max;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_bucket(uint64_t value)
{
    if (value < HISTOGRAM_STEPS) {
        return (unsigned)value;
    }
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_STEP_BITS;
    return (shift + 1) * HISTOGRAM_STEPS + (unsigned)((value >> shift) - HISTOGRAM_STEPS);
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->counts[histogram_bucket(value)]++;
    if (value > histogram->max) {
        histogram->max = value;
    }
}

void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value that the given share of all values (0..1) does not pass, to the bucket's upper edge and
 * never over max; 0 for an empty histogram. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);

#endif
