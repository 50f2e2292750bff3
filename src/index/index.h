/* The index of a shard, tier by tier: the staged entries of the latest puts, the keydir, a keydir
 * that is being moved to disk, and runs on disk, newest first.
 *
 * A put's own cost is small beside the cache miss on its bucket, so it only stages its entry and
 * asks for the bucket; some puts later the stage is emptied in one go, its misses overlapped.
 *
 * Invariants:
 *  1. One writer at a time (the shard's lock); readers take no lock, but hold an epoch guard for
 *     what lies below the keydir.
 *  2. An entry is in the next tier before it leaves its own, so a reader that goes down tier by
 *     tier, keydir before flushing before runs, meets every entry.
 *  3. A tier may hold several entries of one key, and tiers below older ones still; in the first
 *     tier that has any the higher sequence number in the log wins.
 *  4. What is below the keydir never changes. A deleted key of which a lower tier may know keeps an
 *     entry that leads to its tombstone.
 *  5. An entry whose segment is gone is stale: it says nothing.
 */
#ifndef CASKADE_INDEX_H
#define CASKADE_INDEX_H

#include "index/keydir.h"
#include "index/run.h"

#define INDEX_STAGE 32u
#define INDEX_STAGE_TAG_SHIFT 48u
#define INDEX_STAGED_MASK 0xffu /* what is above counts how often the stage was emptied */
#define INDEX_LOCATION_MASK (((uint64_t)1 << INDEX_STAGE_TAG_SHIFT) - 1)
#define INDEX_RUNS_MAX 64u

#define INDEX_COUNTERS 16u /* power of two: as many threads count without meeting */

/* Newest first. Replaced as a whole. */
struct run_list {
    uint32_t count;
    struct run *runs[INDEX_RUNS_MAX];
};

/* What look-ups in runs have cost since open, as struct run_counts; one of several, so that readers
 * do not take the line from each other. */
struct index_counter {
    _Alignas(64) _Atomic uint64_t filter_asks;
    _Atomic uint64_t filter_passes;
    _Atomic uint64_t block_reads;
    _Atomic uint64_t fruitless_finds;
};

struct index {
    struct keydir keydirs[2];
    _Atomic(struct keydir *) keydir;   /* that takes the entries */
    _Atomic(struct keydir *) flushing; /* the other one, while it is being moved */
    _Atomic(struct run_list *) runs;   /* NULL: none */
    _Atomic uint64_t run_entries;      /* of all of them */
    bool doubles;        /* some key may have several entries in the keydir, or one that leads to a
                     tombstone: one could not be read */
    uint64_t tombstones; /* entries of the keydir that lead to one, about */
    uint64_t lower_tombstones;    /* the same of the tiers below */
    uint64_t flushing_tombstones; /* of these, those of the keydir that is flushing */
    bool doubts; /* lower_tombstones may be too low: a crash came while a merge moved entries */
    _Atomic uint64_t swaps;               /* how often the keydir was exchanged */
    _Alignas(64) _Atomic uint32_t staged; /* see INDEX_STAGED_MASK */
    _Atomic uint64_t stage[INDEX_STAGE];  /* 16 bits of tag, 48 of location */
    uint32_t stage_tags[INDEX_STAGE];     /* the writer's own */
    struct index_counter counters[INDEX_COUNTERS];
};

CHECKED int index_init(struct index *index, size_t reserve_bytes, struct budget *budget,
                       uint32_t shard, uint32_t shard_count);
void index_release(struct index *index);

static inline struct keydir *index_keydir(const struct index *index)
{
    return atomic_load_explicit(&index->keydir, memory_order_acquire);
}

/* Puts an empty keydir in the place of the one there is, which is flushing from then on. The stage
 * is empty and nothing else flushing. Under the lock. */
void index_begin_flush(struct index *index);

/* The flushing keydir's entries are in the runs. When its readers are gone it is emptied with
 * keydir_empty(). */
void index_hide_flushed(struct index *index);

/* Takes the list over; the one before is the caller's, to be freed when no reader is left. */
struct run_list *index_set_runs(struct index *index, struct run_list *runs);

/* What lies below the keydir, to be had after the keydir was looked at. */
struct index_lower {
    const struct keydir *flushing;
    const struct run_list *runs;
};

static inline struct index_lower index_lower(const struct index *index)
{
    struct index_lower lower;

    lower.flushing = atomic_load_explicit(&index->flushing, memory_order_acquire);
    lower.runs = atomic_load_explicit(&index->runs, memory_order_acquire);
    return lower;
}

static inline bool index_has_lower(const struct index *index)
{
    struct index_lower lower = index_lower(index);

    return lower.flushing || lower.runs;
}

/* Candidates of tier 0 (flushing), 1, 2, ... (runs), newest first: locations as keydir_find().
 * CASK_NOTFOUND when there is no such tier; CASK_ECORRUPT, CASK_EIO of a run. Adds to *counts,
 * which may be NULL. */
CHECKED int index_find_lower(const struct index_lower *lower, unsigned tier, uint32_t tag,
                             uint64_t *ret_locations, unsigned room, unsigned *ret_found,
                             struct run_counts *counts);

/* Counts what a look-up has cost. Any thread may, with any number: the same one each time. */
void index_count(struct index *index, unsigned thread, const struct run_counts *counts);

/* All that was counted. */
struct run_counts index_counts(const struct index *index);

/* Entries of all tiers, those that are shadowed included. */
uint64_t index_entries(const struct index *index);

static inline uint32_t index_staged(const struct index *index)
{
    return atomic_load_explicit(&index->staged, memory_order_relaxed) & INDEX_STAGED_MASK;
}

static inline void index_stage(struct index *index, uint32_t tag, uint64_t location)
{
    uint32_t staged = atomic_load_explicit(&index->staged, memory_order_relaxed);
    uint32_t n = staged & INDEX_STAGED_MASK;

    keydir_prefetch(index_keydir(index), tag);
    index->stage_tags[n] = tag;
    atomic_store_explicit(&index->stage[n],
                          (uint64_t)(tag & 0xffff) << INDEX_STAGE_TAG_SHIFT | location,
                          memory_order_release);
    atomic_store_explicit(&index->staged, staged + 1, memory_order_release);
}

static inline struct keydir_entry index_staged_at(const struct index *index, uint32_t i)
{
    uint64_t word = atomic_load_explicit(&index->stage[i], memory_order_relaxed);

    return (struct keydir_entry){word & INDEX_LOCATION_MASK, index->stage_tags[i]};
}

/* Forgets the stage, whose entries are in the keydir. */
static inline void index_clear_stage(struct index *index)
{
    uint32_t staged = atomic_load_explicit(&index->staged, memory_order_relaxed);

    atomic_store_explicit(&index->staged, (staged | INDEX_STAGED_MASK) + 1, memory_order_release);
}

/* Forgets the first `count` entries of the stage, which are in the keydir. */
void index_unstage(struct index *index, uint32_t count);

/* Those of the stage, newest first. Again if it was emptied meanwhile: what is staged by then may
 * not be for others to see yet, and would seem to go away again. */
static inline unsigned index_find_staged(const struct index *index, uint32_t tag,
                                         uint64_t *ret_locations, unsigned room)
{
    uint32_t staged = atomic_load_explicit(&index->staged, memory_order_acquire);

    for (;;) {
        unsigned found = 0;
        uint32_t now;

        for (uint32_t n = staged & INDEX_STAGED_MASK; n-- > 0;) {
            uint64_t word = atomic_load_explicit(&index->stage[n], memory_order_acquire);

            if (word >> INDEX_STAGE_TAG_SHIFT != (tag & 0xffff))
                continue;
            if (found < room)
                ret_locations[found] = word & INDEX_LOCATION_MASK;
            found++;
        }
        now = atomic_load_explicit(&index->staged, memory_order_acquire);
        if (((now ^ staged) & ~INDEX_STAGED_MASK) == 0)
            return found;
        staged = now;
    }
}

/* Locations that may be the key's, as keydir_find(): those of the stage first, newest first;
 * *ret_staged tells how many. */
static inline unsigned index_find(const struct index *index, uint32_t tag, uint64_t *ret_locations,
                                  unsigned room, unsigned *ret_staged)
{
    unsigned found = index_find_staged(index, tag, ret_locations, room);

    *ret_staged = found;
    return found + keydir_find(index_keydir(index), tag,
                               ret_locations + (found < room ? found : room),
                               found < room ? room - found : 0);
}

#endif
