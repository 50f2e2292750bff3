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

/* A reader that goes through the stage meanwhile, from its end to its beginning, meets each of the
 * others: in its old place, or, where that has been written over, in the new one further on. */
void index_unstage(struct index *index, uint32_t count)
{
    uint32_t staged = atomic_load_explicit(&index->staged, memory_order_relaxed);
    uint32_t left = (staged & INDEX_STAGED_MASK) - count;

    for (uint32_t i = 0; i < left; i++) {
        uint64_t word = atomic_load_explicit(&index->stage[i + count], memory_order_relaxed);

        atomic_store_explicit(&index->stage[i], word, memory_order_release);
        index->stage_tags[i] = index->stage_tags[i + count];
    }
    atomic_store_explicit(&index->staged, (staged | INDEX_STAGED_MASK) + 1 + left,
                          memory_order_release);
}

void index_hide_flushed(struct index *index)
{
    atomic_store_explicit(&index->flushing, NULL, memory_order_release);
}

struct run_list *index_set_runs(struct index *index, struct run_list *runs)
{
    uint64_t entries = 0;

    for (uint32_t i = 0; runs && i < runs->count; i++)
        entries += runs->runs[i]->count;
    atomic_store_explicit(&index->run_entries, entries, memory_order_relaxed);
    return atomic_exchange_explicit(&index->runs, runs, memory_order_acq_rel);
}

int index_find_lower(const struct index_lower *lower, unsigned tier, uint32_t tag,
                     uint64_t *ret_locations, unsigned room, unsigned *ret_found,
                     struct run_counts *counts)
{
    if (tier == 0) {
        *ret_found = lower->flushing ? keydir_find(lower->flushing, tag, ret_locations, room) : 0;
        return CASK_OK;
    }
    if (!lower->runs || tier > lower->runs->count)
        return CASK_NOTFOUND;
    return run_find(lower->runs->runs[tier - 1], tag, ret_locations, room, ret_found, counts);
}

/* Most look-ups have nothing to add to most of them. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    if (n > 0)
        atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t sum(uint64_t before, const _Atomic uint64_t *counter)
{
    return before + atomic_load_explicit(counter, memory_order_relaxed);
}

void index_count(struct index *index, unsigned thread, const struct run_counts *counts)
{
    struct index_counter *counter = &index->counters[thread % INDEX_COUNTERS];

    add(&counter->filter_asks, counts->filter_asks);
    add(&counter->filter_passes, counts->filter_passes);
    add(&counter->block_reads, counts->block_reads);
    add(&counter->fruitless_finds, counts->fruitless_finds);
}

struct run_counts index_counts(const struct index *index)
{
    struct run_counts counts = {0};

    for (unsigned i = 0; i < INDEX_COUNTERS; i++) {
        const struct index_counter *counter = &index->counters[i];

        counts.filter_asks = sum(counts.filter_asks, &counter->filter_asks);
        counts.filter_passes = sum(counts.filter_passes, &counter->filter_passes);
        counts.block_reads = sum(counts.block_reads, &counter->block_reads);
        counts.fruitless_finds = sum(counts.fruitless_finds, &counter->fruitless_finds);
    }
    return counts;
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
