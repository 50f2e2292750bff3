/* Walks all keys, shard by shard, in the order of their tags.
 *
 * Invariants:
 *  1. A key's tag never changes, so a key that lives throughout is met exactly once, however the
 *     index grows or its record moves.
 *  2. Segments of the entries in hand are pinned.
 */
#ifndef CASKADE_ITER_H
#define CASKADE_ITER_H

#include "store/store.h"

struct iter_entry {
    uint64_t location;
    struct segment *segment; /* NULL: its file is gone, and the entry is stale */
    uint32_t tag;
    bool shadowed; /* a newer record of its key is among the others */
};

struct cask_iter {
    struct cask_db *db;
    uint32_t shard;
    uint64_t from; /* the first tag not yet fetched */
    struct keydir_entry *fetched;
    struct iter_entry *entries;
    size_t room; /* of fetched */
    size_t entry_room;
    size_t count;
    size_t at;
    struct record_buffer buffer;
};

CHECKED int iter_create(struct cask_db *db, struct cask_iter **ret_iter);
void iter_destroy(struct cask_iter *iter);
CHECKED int iter_next(struct cask_iter *iter, struct cask_entry *ret_entry);

#endif
