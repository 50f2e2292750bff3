/* A scripted run of a store on the simulated machine: puts, deletes, expiring and conditional puts,
 * batches, syncs, merges, flushes of the index, reopening, pauses in which the store's own threads
 * work. The script follows from a seed. */
#ifndef CASKADE_WORKLOAD_H
#define CASKADE_WORKLOAD_H

#include "caskade.h"
#include "history.h"
#include "simlog.h"

#define WORKLOAD_PATH "/store"

struct workload {
    const char *name;
    uint32_t shards;
    enum cask_sync_mode sync_mode;
    enum cask_write_mode write_mode;
    uint64_t segment_bytes;
    size_t steps;
    size_t page_bytes; /* of the crash states */
    size_t sector_bytes;
    bool no_allocate;       /* the file system cannot preallocate */
    unsigned merge_percent; /* of the steps merge all there is, in the caller */
    unsigned spill_percent; /* of the steps move the index to disk */
};

/* Options of a workload; errors of the store's log go to workload_errors(). */
void workload_options(const struct workload *workload, struct cask_options *ret_options);

/* What the store said at CASK_LOG_ERROR since the last clear, all lines; how many they were. */
size_t workload_errors(char *buffer, size_t size);
void workload_clear_errors(void);

/* Runs it on a new machine; the caller releases history and log. False, with a reason, if a call
 * failed. */
bool workload_run(const struct workload *workload, uint64_t seed, struct history *ret_history,
                  struct simlog **ret_log, char *why, size_t size);

#endif
