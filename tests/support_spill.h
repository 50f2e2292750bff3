/* Ways to have the index of an open store on disk that the public calls do not give:
 * cask_flush_index() leaves one run in each shard, and an index_memory that a test's few keys would
 * use up is smaller than any that may be asked for. */
#ifndef CASKADE_TESTS_SUPPORT_SPILL_H
#define CASKADE_TESTS_SUPPORT_SPILL_H

#include <stdint.h>

#include "caskade.h"

/* One more run in this shard, as the store's worker makes it: runs are merged where there are
 * many. */
int spill_shard(struct cask_db *db, uint32_t shard);

/* The same in each shard. */
int spill_all(struct cask_db *db);

/* Merges some sealed segments of a shard, picked by the bits of `picks`, as a merge in the
 * background may: the tiers of the index stay as they are. */
int spill_merge_segments(struct cask_db *db, uint32_t shard, uint64_t picks);

#define SPILL_SQUEEZABLE ((uint64_t)16 << 20) /* index_memory for spill_squeeze() */

/* Leaves so little of index_memory that each drain of a stage asks the worker for a flush, and that
 * keydirs can hardly grow. To be called right after the open. */
void spill_squeeze(struct cask_db *db);

#endif
