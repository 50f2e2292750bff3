/* What spill.c (flushing), relief.c (when) and run_merges.c (merging what was flushed) share. */
#ifndef CASKADE_SPILL_H
#define CASKADE_SPILL_H

#include "index/runbuild.h"
#include "shard/shard.h"

#define SPILL_DIR "index"
#define SPILL_FILTER_BITS 10u   /* an entry, where the budget has room for as many */
#define SPILL_RUNS_LEFT_MAX 16u /* more of a shard do not wait to be merged */
#define SPILL_ALWAYS_VALIDATED ((uint64_t)16 << 20) /* runs up to here, at every open */

struct run_config spill_run_config(const struct shard *shard);

/* Starts a run with as good a filter as the budget allows, once filters of replaced_bytes are
 * gone. */
CHECKED int spill_begin_run(struct shard *shard, uint64_t count, uint64_t replaced_bytes,
                            struct run_build **ret_build);
CHECKED int spill_open_built(struct shard *shard, const struct run_config *config,
                             const struct run_summary *summary, struct run **ret_run);
void spill_remove_run(struct shard *shard, uint64_t id);

/* Flushes the shard, whose merge_lock is held, for a writer who waits. Its runs are left to the
 * worker, unless they are what fills the budget, or nobody has merged them for long. */
CHECKED int spill_flush_for_writer(struct shard *shard);

/* A flush and nothing else. Under the merge_lock. CASK_NOTFOUND: there is nothing to move. */
CHECKED int spill_flush_held(struct shard *shard);

/* Orders entries of a keydir, nearly ordered as they come, by tag; those of one tag stay as they
 * are. */
void spill_sort(struct keydir_entry *entries, size_t count);

/* Puts a list of runs in the place of the one there is, in the manifest too unless the shard is
 * being opened; *list is the old one then. covers: what is flushing is in it. */
CHECKED int spill_install(struct shard *shard, struct run_list **list, bool covers, bool loading);

/* Merges runs where there are many of one size, or all of them. Under the merge_lock. */
CHECKED int spill_merge_runs(struct shard *shard, bool into_one);

/* The same where there are many, by a worker whose turn it is; another one is asked again. */
CHECKED int spill_merge_runs_in_turn(struct shard *shard);

/* While the shard is being opened: merges some of those runs that were made since, if there are
 * more than `most`. Those that the manifest names stay: they lead to segments not opened yet, and
 * the next open may need them. */
CHECKED int spill_merge_loaded(struct shard *shard, uint32_t most);

/* Pure: which runs to merge, given their entries, newest first: *ret_count from *ret_first on, at
 * least fan_in, or none with 0. */
void spill_plan_runs(const uint64_t *counts, uint32_t count, uint32_t fan_in, uint32_t *ret_first,
                     uint32_t *ret_count);

#endif
