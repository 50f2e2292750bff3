/* Loads a source into a store with several threads. See loader.c for how. */
#ifndef CASKADE_CLI_LOADER_H
#define CASKADE_CLI_LOADER_H

#include "load/source.h"

struct load_job {
    struct cask_db *db;
    struct source *source;
    unsigned threads;
    bool keep_going;    /* skip bad lines instead of stopping at the first */
    bool batches;       /* write in batches: where every write costs a system call */
    struct out *report; /* gets "loaded N" lines; NULL: none */
};

struct load_result {
    uint64_t loaded;           /* records that are in the store */
    uint64_t rejected;         /* bad lines */
    uint64_t lines;            /* of the input that were dealt with */
    int status;                /* CASK_OK, or what a write to the store failed with */
    const char *input_problem; /* why the input could not be read on; NULL if it could */
};

/* Bad lines are reported as they are met, in their order. The result is filled in any case. */
void loader_run(const struct load_job *job, struct load_result *ret_result);

#endif
