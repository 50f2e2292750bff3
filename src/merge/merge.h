/* One merge: the live records of some segments copied into new ones, which take their place.
 *
 * Invariants:
 *  1. Records in = records kept + records provably dead, or the merge is given up.
 *  2. What made a record dead is durable before the record's file can go.
 *  3. A tombstone is left out only where no segment outside the merge holds an older record of its
 *     key; so is an expired record, which otherwise leaves a tombstone in its place.
 *  4. Sequence numbers are carried over, so a copy is as old as its original.
 *  5. Up to the installation nothing of the store has changed; a failure leaves no file behind that
 *     the next open does not remove.
 */
#ifndef CASKADE_MERGE_H
#define CASKADE_MERGE_H

#include "shard/shard.h"

/* Told of bytes read and written as they are, without a lock: it may wait, and stops the merge by
 * any status but CASK_OK, which the merge then returns. */
typedef int (*merge_pace_fn)(void *context, uint64_t bytes);

struct merge_pace {
    merge_pace_fn fn;
    void *context;
    bool weighs; /* the tiers of the index could not be merged first: see weigh.h */
};

/* Merges the inputs: sealed, listed, unlinked when it is done. Under the shard's merge_lock. The
 * outputs are of about output_bytes each; where nothing is kept there are none, and no more is read
 * than hints. CASK_ECORRUPT: damage was met in an input, which is
 * marked unmergeable; CASK_ENOSPC, CASK_EIO, CASK_ENOMEM, CASK_EMFILE, or what pace returned. */
CHECKED int merge_segments(struct shard *shard, struct segment **inputs, size_t count,
                           uint64_t output_bytes, const struct merge_pace *pace);

#endif
