/* Filling the index of a shard that is being opened. */
#include <stdlib.h>

#include "shard/recover.h"

#define CANDIDATES 8u

/* One entry of a hint, on its way in. */
struct loading {
    uint64_t location;
    uint64_t sequence;
    uint64_t size;
    uint64_t hash;
    uint32_t tag;
    uint16_t key_size;
    bool tombstone;
};

static void count_added(struct shard *shard, struct segment *segment, const struct loading *entry)
{
    segment_counts_note(&segment->counts, entry->sequence, 0);
    segment->counts.live_bytes += entry->size;
    shard->counts.live_bytes += entry->size;
    if (entry->tombstone) {
        shard_count_dead(shard, segment, entry->size);
        segment->counts.tombstone_bytes += entry->size;
    }
}

/* Whether the entry's key is the old record's. Where the entry's own record is damaged, its hash
 * must do: the newer, unreadable value may not give way to the older one. */
static bool same_key(const struct shard *shard, const struct loading *entry,
                     const struct record *fresh, const struct record *old)
{
    if (old->key.size != entry->key_size)
        return false;
    if (!fresh)
        return hash_key(old->key.data, old->key.size, shard->env->hash_seed) == entry->hash;
    return bytes_equal(old->key.data, fresh->key.data, old->key.size);
}

/* Whether the entry is newer than a record of its key that is damaged, whose own sequence number
 * cannot be believed: so by place alone. */
static bool is_behind(const struct shard *shard, const struct loading *entry, uint64_t location,
                      const struct segment *segment)
{
    unsigned offset_bits = shard->config.offset_bits;

    if (location_segment(entry->location, offset_bits) == location_segment(location, offset_bits))
        return entry->location > location;
    return entry->sequence > segment->counts.max_sequence;
}

/* Compares with one entry that is in. CASK_OK: same key, decided; CASK_NOTFOUND: another key, or
 * one that cannot be told. */
static int decide(struct shard *shard, struct segment *segment, const struct loading *entry,
                  uint64_t location, const struct record *fresh)
{
    struct record_buffer buffer;
    struct found old;
    int status;
    bool damaged;

    record_buffer_init(&buffer);
    status = shard_read_at(shard, location, &buffer, &old);
    damaged = status == CASK_ECORRUPT;
    if (damaged)
        status = shard_read_unverified(shard, location, &buffer, &old);
    if (status != CASK_OK || !same_key(shard, entry, fresh, &old.record) ||
        (damaged && !is_behind(shard, entry, location, old.segment))) {
        status = CASK_NOTFOUND;
    } else {
        if (damaged || old.record.sequence < entry->sequence) {
            keydir_replace(&shard->index.keydir, entry->tag, location, entry->location);
            if (old.record.type != RECORD_DELETE)
                shard_count_dead(shard, old.segment, record_size(&old.record));
        } else if (!entry->tombstone) {
            shard_count_dead(shard, segment, entry->size);
        }
    }
    record_buffer_release(&buffer);
    return status;
}

static int note_tombstone(struct loader *loader, const struct loading *entry)
{
    if (loader->tombstone_count == loader->tombstone_room) {
        uint64_t room = loader->tombstone_room == 0 ? 64 : loader->tombstone_room * 2;
        struct keydir_entry *grown = realloc(loader->tombstones, (size_t)room * sizeof *grown);

        if (!grown)
            return CASK_ENOMEM;
        loader->tombstones = grown;
        loader->tombstone_room = room;
    }
    loader->tombstones[loader->tombstone_count++] = (struct keydir_entry){entry->location,
                                                                          entry->tag};
    return CASK_OK;
}

static int load_entry(struct loader *loader, struct segment *segment, const struct loading *entry)
{
    struct shard *shard = loader->shard;
    struct keydir *keydir = &shard->index.keydir;
    uint64_t locations[CANDIDATES];
    unsigned found = keydir_find(keydir, entry->tag, locations, CANDIDATES);
    int status = entry->tombstone ? note_tombstone(loader, entry) : CASK_OK;

    if (status != CASK_OK)
        return status;
    status = CASK_NOTFOUND;
    count_added(shard, segment, entry);
    if (found > 0) {
        struct record_buffer buffer;
        struct found fresh;
        bool readable;

        record_buffer_init(&buffer);
        readable = shard_read_at(shard, entry->location, &buffer, &fresh) == CASK_OK;
        for (unsigned i = 0; status != CASK_OK && i < found && i < CANDIDATES; i++)
            status = decide(shard, segment, entry, locations[i], readable ? &fresh.record : NULL);
        record_buffer_release(&buffer);
    }
    if (status == CASK_OK)
        return CASK_OK;
    status = keydir_reserve(keydir, 1);
    return status == CASK_OK ? keydir_insert(keydir, entry->tag, entry->location) : status;
}

static struct loading loading_of(const struct shard *shard, const struct segment *segment,
                                 const struct hint_entry *entry)
{
    return (struct loading){
        .location = location_make(segment->id, entry->offset, shard->config.offset_bits),
        .sequence = entry->sequence,
        .size = entry->size,
        .hash = entry->hash,
        .key_size = entry->key_size,
        .tag = hash_tag(entry->hash, shard->env->shard_bits),
        .tombstone = (entry->type & RECORD_TYPE_MASK) == RECORD_DELETE};
}

/* What of the segment is neither header nor listed record: seals, batch ends, dropped pieces. */
static void count_rest(struct shard *shard, struct segment *segment, uint64_t covered,
                       uint64_t listed)
{
    uint64_t rest = covered > listed ? covered - listed : 0;

    segment->counts.dead_bytes += rest;
    shard->counts.dead_bytes += rest;
}

/* Tags that the index does not have yet. Those of a hint are in order, so this is a sweep. */
static uint64_t count_new_tags(const struct shard *shard, const struct hint *hint)
{
    uint64_t count = 0;
    uint64_t previous = UINT64_MAX;

    for (uint64_t i = 0; i < hint->count; i++) {
        uint32_t tag = hash_tag(hint_entry_at(hint, i).hash, shard->env->shard_bits);

        if (tag != previous)
            count += keydir_find(&shard->index.keydir, tag, NULL, 0) == 0;
        previous = tag;
    }
    return count;
}

int load_hint(struct loader *loader, struct segment *segment, const struct hint *hint)
{
    struct shard *shard = loader->shard;
    uint64_t listed = 0;
    int status = keydir_presize(&shard->index.keydir, count_new_tags(shard, hint));

    for (uint64_t i = 0; status == CASK_OK && i < hint->count; i++) {
        struct hint_entry entry = hint_entry_at(hint, i);
        struct loading loading = loading_of(shard, segment, &entry);

        listed += entry.size;
        status = load_entry(loader, segment, &loading);
    }
    count_rest(shard, segment, hint->length - SEGMENT_HEADER_BYTES, listed);
    segment->counts.last_expiry = hint->max_expiry == 0 ? UINT64_MAX : hint->max_expiry;
    segment->max_batch = max_u64(segment->max_batch, hint->max_batch);
    return status;
}

int load_tail(struct loader *loader, const struct tail *tail)
{
    struct shard *shard = loader->shard;
    struct segment *segment = tail->segment;
    uint64_t listed = 0;
    int status = CASK_OK;

    for (uint64_t i = 0; status == CASK_OK && i < tail->hint.count; i++) {
        struct loading loading = loading_of(shard, segment, &tail->hint.entries[i]);

        listed += loading.size;
        status = load_entry(loader, segment, &loading);
    }
    count_rest(shard, segment, tail->end > tail->from ? tail->end - tail->from : 0, listed);
    segment->counts.last_expiry = max_u64(segment->counts.last_expiry, tail->hint.max_expiry);
    segment->max_batch = max_u64(segment->max_batch, tail->hint.max_batch);
    return status;
}

void load_finish(struct loader *loader)
{
    for (uint64_t i = 0; i < loader->tombstone_count; i++)
        keydir_remove(&loader->shard->index.keydir, loader->tombstones[i].tag,
                      loader->tombstones[i].location);
    loader->tombstone_count = 0;
}
