/* The segments of a shard: id -> segment, without a lock for readers.
 *
 * Invariants:
 *  1. Adding and removing happen under the shard's lock; looking up needs an epoch guard only.
 *  2. A segment that is pinned is neither unmapped nor freed.
 *  3. A table that was outgrown is freed with the shard: a reader may still stand in it.
 */
#ifndef CASKADE_SEGMENTS_H
#define CASKADE_SEGMENTS_H

#include "log/segment.h"

struct segments_table {
    struct segments_table *outgrown;
    uint64_t base;
    uint64_t room;
    _Atomic(struct segment *) slots[];
};

struct segments {
    _Atomic(struct segments_table *) table;
    uint64_t count;
    uint64_t first_id; /* of those there are; for the writer */
    uint64_t last_id;
};

void segments_init(struct segments *segments);
void segments_release(struct segments *segments); /* closes them all */

CHECKED int segments_add(struct segments *segments, struct segment *segment);
void segments_remove(struct segments *segments, uint64_t id);

static inline struct segment *segments_get(const struct segments *segments, uint64_t id)
{
    struct segments_table *table = atomic_load_explicit(&segments->table, memory_order_acquire);

    if (!table || id < table->base || id - table->base >= table->room)
        return NULL;
    return atomic_load_explicit(&table->slots[id - table->base], memory_order_acquire);
}

/* The first segment with an id of at least `id`, NULL if none. Under the shard's lock. */
struct segment *segments_at_or_after(const struct segments *segments, uint64_t id);

/* Keeps a segment from being unmapped; inside an epoch guard, or under the shard's lock. */
static inline void segment_pin(struct segment *segment)
{
    atomic_fetch_add_explicit(&segment->pins, 1, memory_order_relaxed);
}

static inline void segment_unpin(struct segment *segment)
{
    atomic_fetch_sub_explicit(&segment->pins, 1, memory_order_release);
}

#endif
