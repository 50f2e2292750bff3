#include "index/index.h"

#include <stdlib.h>

int index_init(struct index *index, size_t reserve_bytes, struct budget *budget, uint32_t shard,
               uint32_t shard_count)
{
    int status;

    atomic_init(&index->staged, 0);
    atomic_init(&index->keydir, &index->keydirs[0]);
    atomic_init(&index->flushing, NULL);
    atomic_init(&index->runs, NULL);
    status = keydir_init(&index->keydirs[0], reserve_bytes, budget);
    if (status == CASK_OK)
        status = keydir_init(&index->keydirs[1], reserve_bytes, budget);
    for (unsigned i = 0; i < 2; i++)
        keydir_set_phase(&index->keydirs[i], shard, shard_count);
    return status;
}

void index_release(struct index *index)
{
    struct run_list *runs = atomic_load_explicit(&index->runs, memory_order_relaxed);

    for (uint32_t i = 0; runs && i < runs->count; i++)
        run_close(runs->runs[i]);
    free(runs);
    atomic_store_explicit(&index->runs, NULL, memory_order_relaxed);
    keydir_release(&index->keydirs[0]);
    keydir_release(&index->keydirs[1]);
}

/* A reader loads the keydir first and flushing second: whichever keydir it got, it meets both. */
void index_begin_flush(struct index *index)
{
    struct keydir *old = index_keydir(index);
    struct keydir *empty = old == &index->keydirs[0] ? &index->keydirs[1] : &index->keydirs[0];

    atomic_store_explicit(&index->flushing, old, memory_order_release);
    atomic_store_explicit(&index->keydir, empty, memory_order_release);
    atomic_fetch_add_explicit(&index->swaps, 1, memory_order_release);
    index->lower_tombstones += index->tombstones;
    index->flushing_tombstones += index->tombstones;
    index->tombstones = 0;
}

void index_hide_flushed(struct index *index)
{
    atomic_store_explicit(&index->flushing, NULL, memory_order_release);
}

struct run_list *index_set_runs(struct index *index, struct run_list *runs)
{
    return atomic_exchange_explicit(&index->runs, runs, memory_order_acq_rel);
}

int index_find_lower(const struct index_lower *lower, unsigned tier, uint32_t tag,
                     uint64_t *ret_locations, unsigned room, unsigned *ret_found)
{
    if (tier == 0) {
        *ret_found = lower->flushing ? keydir_find(lower->flushing, tag, ret_locations, room) : 0;
        return CASK_OK;
    }
    if (!lower->runs || tier > lower->runs->count)
        return CASK_NOTFOUND;
    return run_find(lower->runs->runs[tier - 1], tag, ret_locations, room, ret_found);
}

uint64_t index_entries(const struct index *index)
{
    struct index_lower lower = index_lower(index);
    uint64_t sum = keydir_count(index_keydir(index));

    if (lower.flushing)
        sum += keydir_count(lower.flushing);
    for (uint32_t i = 0; lower.runs && i < lower.runs->count; i++)
        sum += lower.runs->runs[i]->count;
    return sum;
}
