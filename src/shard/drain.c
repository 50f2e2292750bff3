/* Emptying the stage: staged entries take their places in the keydir, and what they replace is
 * counted dead. Old records are read for their keys alone, their checksums not asked for: the entry
 * of a damaged one can be replaced as well, and the lines of the value are not touched. */
#include "shard/shard.h"

#define CANDIDATES 8u

void shard_count_replaced(struct shard *shard, struct segment *segment, uint64_t size,
                          bool tombstone)
{
    if (!tombstone)
        shard_count_dead(shard, segment, size);
    else if (shard->index.tombstones > 0)
        shard->index.tombstones--;
}

/* Puts one staged entry into the keydir, in place of the older record of the same key. An old
 * record that cannot be read proves nothing: both entries stay, and look-ups go by the sequence
 * number. */
static int settle(struct shard *shard, struct keydir_entry entry)
{
    struct keydir *keydir = index_keydir(&shard->index);
    uint64_t locations[CANDIDATES];
    unsigned found = keydir_find(keydir, entry.tag, locations, CANDIDATES);
    struct record_buffer fresh_buffer;
    struct record_buffer old_buffer;
    struct found fresh;
    struct found old;
    bool same = false;
    int fresh_status;

    record_buffer_init(&fresh_buffer);
    record_buffer_init(&old_buffer);
    fresh_status = shard_read_unverified(shard, entry.location, &fresh_buffer, &fresh);
    if (fresh_status == CASK_OK) {
        for (unsigned i = 0; i < found && i < CANDIDATES; i++) {
            if (locations[i] == entry.location) {
                same = true;
                continue;
            }
            if (shard_read_unverified(shard, locations[i], &old_buffer, &old) != CASK_OK) {
                shard->index.doubles = true;
                continue;
            }
            if (old.record.key.size != fresh.record.key.size ||
                !bytes_equal(old.record.key.data, fresh.record.key.data, old.record.key.size))
                continue;
            if (same)
                keydir_remove(keydir, entry.tag, locations[i]);
            else
                keydir_replace(keydir, entry.tag, locations[i], entry.location);
            same = true;
            shard_count_replaced(shard, old.segment, record_size(&old.record),
                                 old.record.type == RECORD_DELETE);
        }
    }
    if (!same && fresh_status != CASK_OK)
        shard->index.doubles = true;
    record_buffer_release(&fresh_buffer);
    record_buffer_release(&old_buffer);
    return same ? CASK_OK : keydir_insert(keydir, entry.tag, entry.location);
}

/* Starts all misses of a drain that can overlap: those on buckets, those on the buckets behind,
 * then those on old records. Returns a bit for each entry whose tag is new to the keydir. */
static uint32_t prefetch_staged(const struct shard *shard)
{
    const struct index *index = &shard->index;
    const struct keydir *keydir = index_keydir(index);
    unsigned offset_bits = shard->config.offset_bits;
    uint32_t staged = index_staged(index);
    uint32_t fresh = 0;

    for (uint32_t i = 0; i < staged; i++)
        keydir_prefetch(keydir, index_staged_at(index, i).tag);
    for (uint32_t i = 0; i < staged; i++)
        keydir_prefetch_passed(keydir, index_staged_at(index, i).tag);
    for (uint32_t i = 0; i < staged; i++) {
        struct segment *segment;
        uint64_t location;

        if (keydir_find(keydir, index_staged_at(index, i).tag, &location, 1) == 0) {
            fresh |= UINT32_C(1) << i;
            continue;
        }
        segment = segments_get(&shard->segments, location_segment(location, offset_bits));
        if (segment)
            segment_prefetch_key(segment, location_offset(location, offset_bits));
    }
    return fresh;
}

/* Whether an earlier entry of the stage has the tag of entry i. */
static bool repeats_tag(const struct index *index, uint32_t i)
{
    bool repeats = false;

    for (uint32_t j = 0; j < i; j++)
        repeats |= index->stage_tags[j] == index->stage_tags[i];
    return repeats;
}

static int settle_staged(struct shard *shard)
{
    struct index *index = &shard->index;
    uint32_t staged = index_staged(index);
    uint32_t fresh = prefetch_staged(shard);
    int status = CASK_OK;

    for (uint32_t i = 0; status == CASK_OK && i < staged; i++) {
        struct keydir_entry entry = index_staged_at(index, i);

        if ((fresh >> i & 1) != 0 && !repeats_tag(index, i))
            status = keydir_insert(index_keydir(index), entry.tag, entry.location);
        else
            status = settle(shard, entry);
    }
    return status;
}

/* Entries that were settled before a failure stay staged as well; settling them again does
 * nothing. */
int shard_drain(struct shard *shard)
{
    struct index *index = &shard->index;
    uint32_t staged = index_staged(index);
    int status = staged == 0 ? CASK_OK : keydir_reserve(index_keydir(index), staged);

    /* With the budget used up, what is staged replaces entries; the few that do not find the slots
     * that a full table still has. */
    if (status == CASK_ENOMEM && keydir_count(index_keydir(index)) > 0)
        status = CASK_OK;
    if (status == CASK_OK)
        status = settle_staged(shard);
    if (status == CASK_OK)
        index_clear_stage(index);
    if (shard->counts.dead_bytes > shard->merge_above)
        shard_ask_for_work(shard, SHARD_WORK_MERGE);
    spill_look(shard->env);
    if (keydir_has_begun_growing(index_keydir(index)))
        shard_ask_for_work(shard, SHARD_WORK_POPULATE);
    if (keydir_has_grown(index_keydir(index)))
        shard_ask_for_work(shard, SHARD_WORK_COLLAPSE);
    return status;
}
