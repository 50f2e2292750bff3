/* A batch: operations in the order they were added, their bytes in blocks that never move.
 *
 * Invariants of cask_write():
 *  1. All its shards are locked, in ascending order, from before the first append until after the
 *     last publication; a batch's numbers therefore rise in every shard's log.
 *  2. Room, blocks and index memory are there in all shards before anything is appended to one.
 *  3. What was appended is taken back everywhere if it fails anywhere.
 */
#ifndef CASKADE_BATCH_H
#define CASKADE_BATCH_H

#include "store/store.h"

struct batch_block {
    struct batch_block *next;
    size_t used;
    size_t room;
    uint8_t bytes[];
};

/* The batch's part in one shard: order[first .. first + count) are indices of its operations. */
struct batch_part {
    uint32_t shard;
    uint32_t first;
    uint32_t count;
    uint64_t bytes; /* in the log, its end included */
    uint64_t tail;  /* of the active segment before the append */
};

struct cask_batch {
    struct cask_db *db;
    struct shard_op *ops;
    uint32_t count;
    uint32_t room;
    struct batch_block *blocks; /* the one being filled first */
    uint32_t *order;
    uint64_t *offsets;
    uint32_t order_room;
    struct batch_part *parts; /* one for each shard, those in use first */
    uint32_t part_count;
};

CHECKED int batch_create(struct cask_db *db, struct cask_batch **ret_batch);
void batch_destroy(struct cask_batch *batch);
void batch_clear(struct cask_batch *batch);
CHECKED int batch_add(struct cask_batch *batch, const struct shard_op *op);
CHECKED int batch_write(struct cask_batch *batch);

#endif
