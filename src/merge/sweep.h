/* Whether records are live, asked in the order of their tags: one pass over keydir and runs.
 *
 * Invariants:
 *  1. Under the shard's merge_lock, with the stage drained before: no entry leads into a sealed
 *     segment but from the keydir and what is below it, and what is below does not change.
 *  2. A record is live if a tier has its entry and no tier above has one of its key, which the keys
 *     in the log prove. On doubt it is live.
 */
#ifndef CASKADE_SWEEP_H
#define CASKADE_SWEEP_H

#include "index/run_cursor.h"
#include "shard/shard.h"

struct sweep_run {
    struct run_cursor cursor;
    struct keydir_entry head;
    bool ended;
};

struct sweep {
    struct shard *shard;
    struct index_lower lower;
    struct sweep_run *runs;
    uint32_t run_count;
};

/* CASK_ENOMEM, CASK_ECORRUPT, CASK_EIO. */
CHECKED int sweep_open(struct sweep *sweep, struct shard *shard);
void sweep_close(struct sweep *sweep);

/* Tags never descend. *ret_alone: no other entry has the tag in any tier looked at, so that the
 * record hides none. Inside an epoch guard. */
CHECKED int sweep_is_live(struct sweep *sweep, uint32_t tag, uint64_t location, bool *ret_live,
                          bool *ret_alone);

#endif
