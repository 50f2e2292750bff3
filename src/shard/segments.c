#include "shard/segments.h"

#include <stdlib.h>

#define ROOM_MIN 64u

void segments_init(struct segments *segments)
{
    atomic_init(&segments->table, NULL);
    segments->count = 0;
    segments->first_id = 0;
    segments->last_id = 0;
}

void segments_release(struct segments *segments)
{
    struct segments_table *table = atomic_load_explicit(&segments->table, memory_order_relaxed);

    for (uint64_t i = 0; table && i < table->room; i++)
        segment_close(atomic_load_explicit(&table->slots[i], memory_order_relaxed));
    while (table) {
        struct segments_table *outgrown = table->outgrown;

        free(table);
        table = outgrown;
    }
    segments_init(segments);
}

/* A table that starts at the first segment there is and has as much room again behind `id`. */
static int make_room(struct segments *segments, uint64_t id)
{
    struct segments_table *old = atomic_load_explicit(&segments->table, memory_order_relaxed);
    uint64_t base = segments->count == 0 ? id : min_u64(segments->first_id, id);
    uint64_t last = max_u64(segments->last_id, id);
    uint64_t room = max_u64(ROOM_MIN, (last - base + 1) * 2);
    struct segments_table *table = calloc(1, sizeof *table + (size_t)room * sizeof table->slots[0]);

    if (!table)
        return CASK_ENOMEM;
    table->base = base;
    table->room = room;
    table->outgrown = old;
    for (uint64_t i = 0; old && i < old->room; i++) {
        struct segment *segment = atomic_load_explicit(&old->slots[i], memory_order_relaxed);

        if (segment)
            atomic_init(&table->slots[segment->id - base], segment);
    }
    atomic_store_explicit(&segments->table, table, memory_order_release);
    return CASK_OK;
}

int segments_add(struct segments *segments, struct segment *segment)
{
    struct segments_table *table = atomic_load_explicit(&segments->table, memory_order_relaxed);
    uint64_t id = segment->id;

    if (!table || id < table->base || id - table->base >= table->room) {
        int status = make_room(segments, id);

        if (status != CASK_OK)
            return status;
        table = atomic_load_explicit(&segments->table, memory_order_relaxed);
    }
    segments->first_id = segments->count == 0 ? id : min_u64(segments->first_id, id);
    segments->last_id = max_u64(segments->last_id, id);
    segments->count++;
    atomic_store_explicit(&table->slots[id - table->base], segment, memory_order_release);
    return CASK_OK;
}

static uint64_t last_before(const struct segments *segments, uint64_t id)
{
    while (id > segments->first_id && segments->first_id != 0)
        if (segments_get(segments, --id))
            return id;
    return 0;
}

void segments_remove(struct segments *segments, uint64_t id)
{
    struct segments_table *table = atomic_load_explicit(&segments->table, memory_order_relaxed);
    struct segment *next;

    atomic_store_explicit(&table->slots[id - table->base], NULL, memory_order_release);
    segments->count--;
    if (id == segments->first_id) {
        next = segments_at_or_after(segments, id);
        segments->first_id = next ? next->id : 0;
    }
    if (id == segments->last_id)
        segments->last_id = last_before(segments, id);
}

struct segment *segments_at_or_after(const struct segments *segments, uint64_t id)
{
    struct segments_table *table = atomic_load_explicit(&segments->table, memory_order_relaxed);

    if (!table)
        return NULL;
    for (uint64_t i = id < table->base ? 0 : id - table->base; i < table->room; i++) {
        struct segment *segment = atomic_load_explicit(&table->slots[i], memory_order_relaxed);

        if (segment)
            return segment;
    }
    return NULL;
}
