/* What is dead in a shard by its index alone: a key that was deleted or put again while its older
 * entry lies in a run. The figures of segments tell of it only when runs have been merged, and that
 * takes room on the disk. On a full one each record is asked for instead, by the sweep that a merge
 * makes, so that cask_merge() finds what it can free. */
#ifndef CASKADE_WEIGH_H
#define CASKADE_WEIGH_H

#include "merge/merge.h"

/* Has surveys show what is dead in sealed segments, until merge_forget_weights(). What cannot be
 * read is left as its figures have it. Under the shard's merge_lock. */
void merge_weigh(struct shard *shard, const struct merge_pace *pace);
void merge_forget_weights(struct shard *shard);

#endif
