#include "histogram.h"

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        into->counts[i] += from->counts[i];
    }
    if (from->max > into->max) {
        into->max = from->max;
    }
}

static uint64_t bucket_upper_edge(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS) {
        return bucket;
    }
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t first = (uint64_t)(bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS) << shift;
    return first + ((UINT64_C(1) << shift) - 1);
}

uint64_t histogram_percentile(const struct histogram *histogram, double share)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        total += histogram->counts[i];
    }
    double wanted = share * (double)total;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (histogram->counts[i] != 0 && (double)seen >= wanted) {
            uint64_t edge = bucket_upper_edge(i);
            return edge < histogram->max ? edge : histogram->max;
        }
    }
    return 0;
}
