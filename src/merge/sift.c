/* Which records of the inputs are kept. */
#include <stdlib.h>

#include "merge/merge_internal.h"
#include "merge/sweep.h"

#define SURVIVORS_MIN 4096u  /* 256 KiB */
#define GUARDED_ENTRIES 256u /* looked at within one epoch guard */
#define PACE_ENTRIES 65536u
#define EXPECTED_SPARE 1.06 /* records are not all of one size */
#define AHEAD 16u           /* entries whose buckets are asked for before their turn */

/* ---- survivors ------------------------------------------------------------------------------- */

static int resize_survivors(struct merge *merge, size_t room)
{
    void *grown = merge->survivors;
    int status = pages_resize(&grown, merge->survivor_room * sizeof *merge->survivors,
                              room * sizeof *merge->survivors);

    if (status != CASK_OK)
        return status;
    pages_populate(grown, 0, room * sizeof *merge->survivors);
    merge->survivors = grown;
    merge->survivor_room = room;
    return CASK_OK;
}

/* About as many as the figures of the inputs say, so that they need not be moved as they become
 * more. */
int merge_expect_survivors(struct merge *merge)
{
    struct shard *shard = merge->shard;
    uint64_t expected = 0;

    pthread_mutex_lock(&shard->lock);
    for (size_t i = 0; i < merge->input_count; i++) {
        const struct segment *input = merge->inputs[i];
        const struct segment_counts *counts = &input->counts;
        double kept = (double)(counts->live_bytes + counts->tombstone_bytes);
        double all = (double)(counts->live_bytes + counts->dead_bytes);

        if (all > 0)
            expected += (uint64_t)((double)merge_records_of(input) *
                                   (kept < all ? kept / all : 1.0) * EXPECTED_SPARE);
    }
    pthread_mutex_unlock(&shard->lock);
    merge->survivors_expected = expected;
    return resize_survivors(merge, (size_t)expected + SURVIVORS_MIN);
}

int merge_add_survivor(struct merge *merge, const struct survivor *survivor)
{
    if (merge->survivor_count == merge->survivor_room) {
        int status = resize_survivors(merge, merge->survivor_room + merge->survivor_room / 2);

        if (status != CASK_OK)
            return status;
    }
    merge->survivors[merge->survivor_count++] = *survivor;
    return CASK_OK;
}

/* Expiry is not in the hint: the record says. One that cannot be read is met again by the copy. */
static bool is_expired(const struct merge *merge, const struct segment *input, uint64_t location,
                       uint8_t type)
{
    struct record_buffer buffer;
    struct found found;
    bool expired;

    if (!(type & RECORD_EXPIRES))
        return false;
    if (input->counts.last_expiry <= merge->now_ms)
        return true;
    record_buffer_init(&buffer);
    expired = shard_read_at(merge->shard, location, &buffer, &found) == CASK_OK &&
              found.record.expires_at_ms != 0 && found.record.expires_at_ms <= merge->now_ms;
    record_buffer_release(&buffer);
    return expired;
}

/* What becomes of a record that an entry may lead to; false where it is dead. */
static bool decide(struct merge *merge, uint32_t input, const struct hint_entry *entry,
                   uint64_t location, bool live, bool alone, enum fate *ret_fate)
{
    *ret_fate = FATE_KEEP;
    if ((entry->type & RECORD_TYPE_MASK) == RECORD_DELETE) {
        *ret_fate = FATE_TOMBSTONE;
        return true;
    }
    /* One that may hide an older entry of its key goes on hiding it. */
    if (live && is_expired(merge, merge->inputs[input], location, entry->type)) {
        *ret_fate = alone ? FATE_EXPIRED : FATE_KEEP;
        merge->carries_tombstones |= !alone;
    }
    return live;
}

static int sift_entry(struct merge *merge, struct sweep *sweep, uint32_t input,
                      const struct hint_entry *entry)
{
    const struct shard *shard = merge->shard;
    uint64_t location = location_make(merge->inputs[input]->id, entry->offset,
                                      shard->config.offset_bits);
    uint32_t tag = hash_tag(entry->hash, shard->env->shard_bits);
    enum fate fate;
    bool live;
    bool alone;
    int status = sweep_is_live(sweep, tag, location, &live, &alone);

    merge->records_in++;
    if (status != CASK_OK)
        return status;
    if (!decide(merge, input, entry, location, live, alone, &fate)) {
        merge->records_dead++;
        return CASK_OK;
    }
    return merge_add_survivor(
        merge, &(struct survivor){.hash = entry->hash,
                                  .sequence = entry->sequence,
                                  .from = (uint32_t)(entry->offset / RECORD_ALIGNMENT),
                                  .size = (uint32_t)entry->size,
                                  .input = input,
                                  .fate = (unsigned)fate & 3u,
                                  .indexed = live});
}

/* Where hints are not in the order of tags, a bucket of the keydir is a miss. */
static void prefetch(const struct merge *merge, const struct hint *hint, uint64_t number)
{
    const struct shard *shard = merge->shard;

    keydir_prefetch(index_keydir(&shard->index),
                    hash_tag(hint_entry_at(hint, number).hash, shard->env->shard_bits));
}

static int sift_entries(struct merge *merge, uint32_t input, struct hint *hint, struct sweep *sweep)
{
    bool by_place = hint->file == NULL;
    int status = CASK_OK;

    if (by_place && sweep->run_count > 0) { /* runs are read once, from front to back */
        hint_sort(hint, merge->shard->env->shard_bits);
        by_place = false;
    }
    for (uint64_t at = 0; status == CASK_OK && at < hint->count; at += GUARDED_ENTRIES) {
        struct epoch_guard guard = epoch_enter(&merge->shard->env->epoch);

        for (uint64_t i = at; status == CASK_OK && i < hint->count && i < at + GUARDED_ENTRIES;
             i++) {
            struct hint_entry entry = hint_entry_at(hint, i);

            if (by_place && i + AHEAD < hint->count)
                prefetch(merge, hint, i + AHEAD);
            status = sift_entry(merge, sweep, input, &entry);
        }
        epoch_leave(guard);
        if (status == CASK_OK && at % PACE_ENTRIES == PACE_ENTRIES - GUARDED_ENTRIES)
            status = merge_pause(merge, (uint64_t)PACE_ENTRIES * HINT_ENTRY_BYTES);
    }
    return status;
}

static int sift_input(struct merge *merge, uint32_t input)
{
    struct hint hint;
    struct sweep sweep;
    int status = merge_read_hint(merge, merge->inputs[input], &hint);

    if (status != CASK_OK)
        return status;
    status = sweep_open(&sweep, merge->shard);
    if (status == CASK_OK) {
        status = sift_entries(merge, input, &hint, &sweep);
        sweep_close(&sweep);
    }
    hint_release(&hint);
    return status;
}

/* ---- tombstones ------------------------------------------------------------------------------ */

/* Survivors that hide older records, in the order of their hashes: those still on trial first. */
struct hiders {
    struct survivor **items;
    bool *needed;
    size_t count;
    uint64_t max_sequence;
};

static int by_hash(const void *a, const void *b)
{
    const struct survivor *left = *(struct survivor *const *)a;
    const struct survivor *right = *(struct survivor *const *)b;

    if (left->hash != right->hash)
        return left->hash < right->hash ? -1 : 1;
    return left->sequence < right->sequence ? -1 : left->sequence > right->sequence;
}

static bool hides(const struct survivor *survivor)
{
    return survivor->fate == FATE_TOMBSTONE || survivor->fate == FATE_EXPIRED;
}

static int collect_hiders(struct merge *merge, struct hiders *hiders)
{
    size_t count = 0;

    for (size_t i = 0; i < merge->survivor_count; i++)
        count += hides(&merge->survivors[i]);
    hiders->items = malloc((count + 1) * sizeof(struct survivor *));
    hiders->needed = calloc(count + 1, sizeof *hiders->needed);
    if (!hiders->items || !hiders->needed)
        return CASK_ENOMEM;
    for (size_t i = 0; i < merge->survivor_count; i++) {
        struct survivor *survivor = &merge->survivors[i];

        if (!hides(survivor))
            continue;
        hiders->items[hiders->count++] = survivor;
        hiders->max_sequence = max_u64(hiders->max_sequence, survivor->sequence);
    }
    qsort(hiders->items, hiders->count, sizeof(struct survivor *), by_hash);
    return CASK_OK;
}

static size_t first_with(const struct hiders *hiders, uint64_t hash)
{
    size_t low = 0;
    size_t high = hiders->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (hiders->items[middle]->hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void all_are_needed(struct hiders *hiders, uint64_t from_sequence)
{
    for (size_t i = 0; i < hiders->count; i++)
        if (hiders->items[i]->sequence > from_sequence)
            hiders->needed[i] = true;
}

/* Marks those that hide a record with this hash. */
static void mark_needed(struct hiders *hiders, uint64_t hash, uint64_t sequence)
{
    for (size_t at = first_with(hiders, hash);
         at < hiders->count && hiders->items[at]->hash == hash; at++)
        if (hiders->items[at]->sequence > sequence)
            hiders->needed[at] = true;
}

/* Those that hide a record which goes on living beside them: it could not be read when its key was
 * deleted, and so kept its entry. */
static void try_against_kept(const struct merge *merge, struct hiders *hiders)
{
    for (size_t i = 0; i < merge->survivor_count; i++)
        if (merge->survivors[i].fate == FATE_KEEP)
            mark_needed(hiders, merge->survivors[i].hash, merge->survivors[i].sequence);
}

/* Marks the tombstones that hide a record of a segment outside the merge. */
static int try_against(struct merge *merge, struct hiders *hiders, struct segment *other)
{
    struct hint hint;
    int status;

    if (!other->in_manifest_sealed || other->unmergeable) {
        all_are_needed(hiders, other->counts.min_sequence);
        return CASK_OK;
    }
    status = merge_read_hint(merge, other, &hint);
    if (status != CASK_OK) { /* what it holds is not known */
        all_are_needed(hiders, other->counts.min_sequence);
        return status == CASK_ENOMEM ? status : CASK_OK;
    }
    for (uint64_t i = 0; i < hint.count; i++) {
        struct hint_entry entry = hint_entry_at(&hint, i);

        mark_needed(hiders, entry.hash, entry.sequence);
    }
    status = merge_pause(merge, hint.file_bytes);
    hint_release(&hint);
    return status;
}

static bool is_input(const struct merge *merge, const struct segment *segment)
{
    for (size_t i = 0; i < merge->input_count; i++)
        if (merge->inputs[i] == segment)
            return true;
    return false;
}

/* The segments outside the merge that may hold something older than the youngest of the hiders. A
 * segment taken into the shard from now on holds newer records only. */
static int list_others(struct merge *merge, uint64_t max_sequence, struct segment ***ret_others,
                       size_t *ret_count)
{
    struct shard *shard = merge->shard;
    struct segment **others;
    size_t count = 0;

    pthread_mutex_lock(&shard->lock);
    others = malloc(((size_t)shard->segments.count + 1) * sizeof(struct segment *));
    for (struct segment *segment = segments_at_or_after(&shard->segments, 0); others && segment;
         segment = segments_at_or_after(&shard->segments, segment->id + 1))
        if (!is_input(merge, segment) && segment->counts.min_sequence != 0 &&
            segment->counts.min_sequence < max_sequence)
            others[count++] = segment;
    pthread_mutex_unlock(&shard->lock);
    *ret_others = others;
    *ret_count = count;
    return others ? CASK_OK : CASK_ENOMEM;
}

static void judge(struct merge *merge, const struct hiders *hiders)
{
    for (size_t i = 0; i < hiders->count; i++) {
        struct survivor *survivor = hiders->items[i];

        if (survivor->fate == FATE_EXPIRED && hiders->needed[i])
            survivor->fate = FATE_TO_TOMBSTONE;
        else if (survivor->fate == FATE_TOMBSTONE && !hiders->needed[i])
            survivor->size = 0; /* dead */
        merge->carries_tombstones |= hiders->needed[i];
    }
}

static void remove_dead(struct merge *merge)
{
    size_t kept = 0;

    for (size_t i = 0; i < merge->survivor_count; i++) {
        if (merge->survivors[i].size == 0)
            merge->records_dead++;
        else
            merge->survivors[kept++] = merge->survivors[i];
    }
    merge->survivor_count = kept;
}

static int sift_hiders(struct merge *merge)
{
    struct hiders hiders = {0};
    struct segment **others = NULL;
    size_t count = 0;
    int status = collect_hiders(merge, &hiders);

    if (status == CASK_OK && hiders.count > 0)
        try_against_kept(merge, &hiders);
    if (status == CASK_OK && hiders.count > 0)
        status = list_others(merge, hiders.max_sequence, &others, &count);
    for (size_t i = 0; status == CASK_OK && i < count; i++)
        status = try_against(merge, &hiders, others[i]);
    if (status == CASK_OK) {
        judge(merge, &hiders);
        remove_dead(merge);
    }
    free(others);
    free(hiders.items);
    free(hiders.needed);
    return status;
}

int merge_sift_inputs(struct merge *merge)
{
    int status = CASK_OK;

    for (uint32_t i = 0; status == CASK_OK && i < merge->input_count; i++)
        status = sift_input(merge, i);
    return status;
}

int merge_sift(struct merge *merge)
{
    int status = merge_sift_inputs(merge);

    return status == CASK_OK ? sift_hiders(merge) : status;
}
