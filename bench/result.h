/* What one workload of one turn gave, as it travels from the turn's process to the one that
 * reports. */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define RESULT_NAME_BYTES 16

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
};

struct results {
    struct result *items;
    size_t count;
    size_t capacity;
};

/* Appends a copy. Returns 0, or -1 when out of memory. */
int results_add(struct results *results, const struct result *result);
void results_release(struct results *results);

double result_ns_per_op(const struct result *result);

/* db_bench's line. */
void result_print(const struct result *result, FILE *file);

/* One line of JSON. What is not known is null. */
void result_print_json(const struct result *result, FILE *file);

#endif
