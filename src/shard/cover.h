/* What of each segment the runs of the index know, and the figures of that part, with which the
 * next open begins.
 *
 * Invariants:
 *  1. Of the records below a segment's covered end the runs have all entries, and the keydir none;
 *     of those behind it the other way round, once the shard is open.
 *  2. So a record dies below that end by a merge of runs alone, which counts it before a manifest
 *     without its entry is written; and what a manifest says is as true for an open that loads what
 *     lies behind it.
 */
#ifndef CASKADE_COVER_H
#define CASKADE_COVER_H

#include "shard/shard.h"

/* How far each segment will be covered by the flush that begins, and with what figures: all that
 * the keydir knows, which is all but what is still staged, the end of the log. Under the lock. */
void cover_mark(struct shard *shard);

/* The run of that flush is about to be listed. What is covered is durable, with what it depends on
 * in other shards, and is not read by an open: so its batches are settled. Under manifest_lock. */
void cover_take(struct shard *shard);

/* The manifest could not be written: as before cover_take(), but for the batches. Under
 * manifest_lock. */
void cover_take_back(struct shard *shard);

/* A record of which the runs drop the entry, as a newer one stands; and one of which they do not,
 * as it turned out. Under the lock. */
void cover_count_dropped(struct shard *shard, struct segment *segment, uint64_t offset,
                         uint64_t bytes);
void cover_count_again(struct shard *shard, struct segment *segment, uint64_t offset,
                       uint64_t bytes);

#endif
