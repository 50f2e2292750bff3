/* The workloads by name: what each does and what store it wants to find. */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stddef.h>

enum workload_kind {
    WORKLOAD_FILL,      /* each key once, in random order, into a new store */
    WORKLOAD_BATCH,     /* the same in batches, each an atomic unit */
    WORKLOAD_OVERWRITE, /* each key once more, in another order, with another value */
    WORKLOAD_READ,      /* each key once, in random order */
    WORKLOAD_READ_MISSING,
    WORKLOAD_GET_MANY,
    WORKLOAD_SYNC,        /* puts into a new store, each durable when it returns */
    WORKLOAD_REOPEN,      /* close the store; the time to open it */
    WORKLOAD_REOPEN_KILL, /* a process fills a new store and is killed; the time to open it */
    /* Of merge.h, each on stores of its own. */
    WORKLOAD_CHURN,
    WORKLOAD_DICTIONARY,
    WORKLOAD_MERGE_LATENCY,
    WORKLOAD_MERGE_SPEED,
    WORKLOAD_OVERFLOW /* of overflow.h, the same */
};

struct workload {
    const char *name;
    enum workload_kind kind;
    const char *help;
};

/* The workload of that name, NULL where there is none; and the i-th, NULL behind the last. */
const struct workload *workload_find(const char *name);
const struct workload *workload_at(size_t i);

#endif
