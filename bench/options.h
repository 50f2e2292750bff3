/* The command line of caskade-bench. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "workload.h"

#define OPTIONS_LIST_MAX 16

struct options {
    const struct engine *engines[OPTIONS_LIST_MAX];
    size_t engine_count;
    const struct workload *workloads[OPTIONS_LIST_MAX];
    size_t workload_count;
    unsigned threads[OPTIONS_LIST_MAX];
    size_t thread_count; /* entries of threads */
    uint64_t num;
    uint64_t seed;
    size_t key_bytes;
    size_t value_bytes;
    unsigned rounds;
    unsigned group;    /* keys of one get_many */
    unsigned batch;    /* puts of one batch */
    unsigned sync_ops; /* synced puts per thread */
    uint32_t shards;
    uint64_t index_memory;
    uint64_t segment_bytes;
    unsigned churn_rounds;
    /* Of overflow. */
    uint64_t step;         /* keys */
    uint64_t ram_num;      /* keys of the fill whose index stays in RAM */
    uint64_t reads;        /* gets of each kind with a warm page cache */
    uint64_t cold_reads;   /* and under the memory limit */
    uint64_t cgroup_bytes; /* 0: no gets under a memory limit */
    bool cgroup_ingest;    /* the fill under it as well */
    unsigned peer_seconds;
    unsigned peer_read_seconds;
    unsigned sorted_puts;
    bool latency;
    bool warm;
    const char *dir;
    const char *json; /* NULL: none */
    const char *plot; /* NULL: none */
};

enum options_outcome { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_USAGE };

/* Fills options from the command line, whose strings it goes on to use. OPTIONS_HELP: help was
 * printed to stdout. OPTIONS_USAGE: what is wrong was printed to stderr. An engine that was not
 * found when this was built is left out with a message. */
enum options_outcome options_parse(struct options *options, int argc, char **argv);

#endif
