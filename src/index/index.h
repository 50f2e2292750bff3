/* The index of a shard: first the staged entries of the latest puts, then the keydir.
 *
 * A put's own cost is small beside the cache miss on its bucket, so it only stages its entry and
 * asks for the bucket; some puts later the stage is emptied in one go, its misses overlapped.
 *
 * Invariants:
 *  1. One writer at a time (the shard's lock); readers take no lock.
 *  2. An entry is in the keydir before it leaves the stage, so a reader that looks at the stage
 *     first and the keydir second meets every entry.
 *  3. The stage may hold several entries of one key; the higher sequence number in the log wins.
 */
#ifndef CASKADE_INDEX_H
#define CASKADE_INDEX_H

#include "index/keydir.h"

#define INDEX_STAGE 32u
#define INDEX_STAGE_TAG_SHIFT 48u
#define INDEX_LOCATION_MASK (((uint64_t)1 << INDEX_STAGE_TAG_SHIFT) - 1)

struct index {
    struct keydir keydir;
    _Alignas(64) _Atomic uint32_t staged;
    _Atomic uint64_t stage[INDEX_STAGE]; /* 16 bits of tag, 48 of location */
    uint32_t stage_tags[INDEX_STAGE];    /* the writer's own */
};

static inline int index_init(struct index *index, size_t reserve_bytes, struct budget *budget)
{
    atomic_init(&index->staged, 0);
    return keydir_init(&index->keydir, reserve_bytes, budget);
}

static inline void index_release(struct index *index)
{
    keydir_release(&index->keydir);
}

static inline uint32_t index_staged(const struct index *index)
{
    return atomic_load_explicit(&index->staged, memory_order_relaxed);
}

static inline void index_stage(struct index *index, uint32_t tag, uint64_t location)
{
    uint32_t n = index_staged(index);

    keydir_prefetch(&index->keydir, tag);
    index->stage_tags[n] = tag;
    atomic_store_explicit(&index->stage[n],
                          (uint64_t)(tag & 0xffff) << INDEX_STAGE_TAG_SHIFT | location,
                          memory_order_release);
    atomic_store_explicit(&index->staged, n + 1, memory_order_release);
}

static inline struct keydir_entry index_staged_at(const struct index *index, uint32_t i)
{
    uint64_t word = atomic_load_explicit(&index->stage[i], memory_order_relaxed);

    return (struct keydir_entry){word & INDEX_LOCATION_MASK, index->stage_tags[i]};
}

/* Forgets the stage, whose entries are in the keydir. */
static inline void index_clear_stage(struct index *index)
{
    atomic_store_explicit(&index->staged, 0, memory_order_release);
}

/* Locations that may be the key's, as keydir_find(): those of the stage first, newest first;
 * *ret_staged tells how many. */
static inline unsigned index_find(const struct index *index, uint32_t tag, uint64_t *ret_locations,
                                  unsigned room, unsigned *ret_staged)
{
    uint32_t n = atomic_load_explicit(&index->staged, memory_order_acquire);
    unsigned found = 0;

    while (n-- > 0) {
        uint64_t word = atomic_load_explicit(&index->stage[n], memory_order_acquire);

        if (word >> INDEX_STAGE_TAG_SHIFT != (tag & 0xffff))
            continue;
        if (found < room)
            ret_locations[found] = word & INDEX_LOCATION_MASK;
        found++;
    }
    *ret_staged = found;
    return found + keydir_find(&index->keydir, tag, ret_locations + (found < room ? found : room),
                               found < room ? room - found : 0);
}

#endif
