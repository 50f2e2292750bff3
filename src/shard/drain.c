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

/* The entry, or one that is in already, stands for the old record. */
static void give_way(struct shard *shard, const struct keydir_entry *entry, uint64_t location,
                     bool is_in, const struct found *old)
{
    struct keydir *keydir = index_keydir(&shard->index);

    if (is_in)
        keydir_remove(keydir, entry->tag, location);
    else
        keydir_replace(keydir, entry->tag, location, entry->location);
    shard_count_replaced(shard, old->segment, record_size(&old->record),
                         old->record.type == RECORD_DELETE);
}

/* Puts one staged entry into the keydir, in place of the older record of the same key. An old
 * record that cannot be read proves nothing: both entries stay, and look-ups go by the sequence
 * number. */
static int settle(struct shard *shard, uint32_t number)
{
    struct keydir_entry entry = index_staged_at(&shard->index, number);
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
            give_way(shard, &entry, locations[i], same, &old);
            same = true;
        }
    }
    if (!same && fresh_status != CASK_OK)
        shard->index.doubles = true;
    record_buffer_release(&fresh_buffer);
    record_buffer_release(&old_buffer);
    return same ? CASK_OK : keydir_insert(keydir, entry.tag, entry.location);
}

/* Starts the misses on buckets, and then those on the buckets behind, so that they overlap. */
static void prefetch_staged(const struct index *index)
{
    const struct keydir *keydir = index_keydir(index);
    uint32_t staged = index_staged(index);

    for (uint32_t i = 0; i < staged; i++)
        keydir_prefetch(keydir, index->stage_tags[i]);
    for (uint32_t i = 0; i < staged; i++)
        keydir_prefetch_passed(keydir, index->stage_tags[i]);
}

static void prefetch_old(const struct shard *shard, uint64_t location)
{
    unsigned offset_bits = shard->config.offset_bits;
    struct segment *segment = segments_get(&shard->segments,
                                           location_segment(location, offset_bits));

    if (segment)
        segment_prefetch_key(segment, location_offset(location, offset_bits));
}

/* Takes out of the keydir again what was settled behind an entry that could not be. Its tags were
 * new, so it has replaced nothing. */
static void unsettle(struct shard *shard, uint32_t from, uint32_t end, uint32_t waiting)
{
    for (uint32_t i = from; i < end; i++) {
        struct keydir_entry entry = index_staged_at(&shard->index, i);

        if ((waiting >> i & 1) == 0)
            keydir_remove(index_keydir(&shard->index), entry.tag, entry.location);
    }
}

/* Settles entries from the first on, in the order of the log; *ret_settled is how many.
 *
 * Those whose tag is new go in at once. The others wait until the old records of all of them are
 * on their way into the cache: an entry that repeats the tag of one before it in the stage is among
 * them, since by then that one, or what it is to replace, is in the keydir. */
static int settle_staged(struct shard *shard, uint32_t *ret_settled)
{
    struct index *index = &shard->index;
    uint32_t staged = index_staged(index);
    uint32_t waiting = 0;
    uint32_t left;
    uint32_t end;
    int failed = CASK_OK;
    int status = CASK_OK;

    prefetch_staged(index);
    for (end = 0; failed == CASK_OK && end < staged; end += failed == CASK_OK) {
        struct keydir_entry entry = index_staged_at(index, end);
        uint64_t old;

        failed = keydir_insert_new(index_keydir(index), entry.tag, entry.location, &old);
        if (failed == CASK_EEXIST) {
            waiting |= UINT32_C(1) << end;
            prefetch_old(shard, old);
            failed = CASK_OK;
        }
    }
    for (left = waiting; left != 0; left &= left - 1) {
        status = settle(shard, (uint32_t)__builtin_ctz(left));
        if (status != CASK_OK)
            break;
    }
    *ret_settled = left == 0 ? end : (uint32_t)__builtin_ctz(left);
    unsettle(shard, *ret_settled, end, waiting);
    return status_first(status, failed);
}

/* What does not find room stays staged: the end of the log, of which the keydir has nothing. */
static int empty_stage(struct shard *shard)
{
    uint32_t settled = 0;
    int status = settle_staged(shard, &settled);

    if (status == CASK_OK)
        index_clear_stage(&shard->index);
    else if (settled > 0)
        index_unstage(&shard->index, settled);
    return status;
}

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
        status = empty_stage(shard);
    if (shard->counts.dead_bytes > shard->merge_above)
        shard_ask_for_work(shard, SHARD_WORK_MERGE);
    spill_look(shard->env);
    if (keydir_has_begun_growing(index_keydir(index)))
        shard_ask_for_work(shard, SHARD_WORK_POPULATE);
    return status;
}

int shard_drain_written(struct shard *shard)
{
    struct keydir *keydir = index_keydir(&shard->index);
    int status = shard_drain(shard);

    if (status == CASK_ENOMEM) {
        keydir->overdraws = true;
        status = empty_stage(shard);
        keydir->overdraws = false;
    }
    return status;
}
