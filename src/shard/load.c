/* Filling the index of a shard that is being opened. */
#include <stdlib.h>

#include "shard/recover.h"

#define CANDIDATES 8u
#define AHEAD 16u /* entries whose buckets are on their way into the cache */
#define SAMPLE_TAGS ((uint64_t)8192)
#define SAMPLE_BITS (SAMPLE_TAGS * 32)

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
        shard->index.doubles |= status != CASK_OK || damaged;
        status = CASK_NOTFOUND;
    } else {
        if (damaged || old.record.sequence < entry->sequence) {
            keydir_replace(index_keydir(&shard->index), entry->tag, location, entry->location);
            shard->index.tombstones += entry->tombstone;
            if (old.record.type == RECORD_DELETE)
                shard->index.tombstones -= min_u64(shard->index.tombstones, 1);
            else
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

/* What the runs know of the key of an entry. CASK_EEXIST: the entry itself; CASK_OK: something
 * newer; CASK_NOTFOUND: it is news. What it shadows is counted when it is dropped. A record that
 * cannot be read for the moment may be the newer one, so that is an error; one that is damaged
 * goes by its place. */
static int look_in_run(struct shard *shard, const struct loading *entry, const struct record *fresh,
                       const uint64_t *locations, unsigned found)
{
    int status = CASK_NOTFOUND;

    for (unsigned i = 0; status == CASK_NOTFOUND && i < found && i < CANDIDATES; i++) {
        struct record_buffer buffer;
        struct found old;
        bool damaged;

        if (locations[i] == entry->location)
            return CASK_EEXIST;
        record_buffer_init(&buffer);
        status = shard_read_at(shard, locations[i], &buffer, &old);
        damaged = status == CASK_ECORRUPT;
        if (damaged)
            status = shard_read_unverified(shard, locations[i], &buffer, &old);
        if (status == CASK_ECORRUPT ||
            (status == CASK_OK && (!same_key(shard, entry, fresh, &old.record) ||
                                   (damaged ? is_behind(shard, entry, locations[i], old.segment)
                                            : old.record.sequence <= entry->sequence))))
            status = CASK_NOTFOUND;
        record_buffer_release(&buffer);
    }
    return status;
}

static int look_in_runs(struct shard *shard, struct segment *segment, const struct loading *entry,
                        const struct record *fresh)
{
    struct index_lower lower = index_lower(&shard->index);
    struct run_counts counts = {0};
    int status = CASK_NOTFOUND;

    for (unsigned tier = 1; lower.runs && tier <= lower.runs->count && status == CASK_NOTFOUND;
         tier++) {
        uint64_t locations[CANDIDATES];
        unsigned found;

        status = index_find_lower(&lower, tier, entry->tag, locations, CANDIDATES, &found, &counts);
        if (status != CASK_OK)
            return status;
        status = look_in_run(shard, entry, fresh, locations, found);
    }
    index_count(&shard->index, 0, &counts);
    if (status == CASK_OK && !entry->tombstone)
        shard_count_dead(shard, segment, entry->size);
    return status == CASK_EEXIST ? CASK_OK : status;
}

static int insert(struct shard *shard, const struct loading *entry)
{
    struct keydir *keydir = index_keydir(&shard->index);
    int status = keydir_reserve(keydir, 1);

    return status == CASK_OK ? keydir_insert(keydir, entry->tag, entry->location) : status;
}

/* With the shard's share of the budget used up, what is loaded goes to disk first; also where a
 * table that may not grow has room elsewhere, but not where the entry has to go. */
static int insert_or_spill(struct shard *shard, const struct loading *entry)
{
    int status = insert(shard, entry);

    if (status != CASK_ENOMEM || !shard->env->spills)
        return status;
    status = spill_while_loading(shard);
    return status == CASK_OK ? insert(shard, entry) : status;
}

static int load_entry(struct loader *loader, struct segment *segment, const struct loading *entry)
{
    struct shard *shard = loader->shard;
    struct keydir *keydir = index_keydir(&shard->index);
    uint64_t locations[CANDIDATES];
    unsigned found = keydir_find(keydir, entry->tag, locations, CANDIDATES);
    bool news = entry->sequence > loader->newest; /* than anything that a run may have */
    int status = entry->tombstone ? note_tombstone(loader, entry) : CASK_OK;

    if (status != CASK_OK)
        return status;
    status = CASK_NOTFOUND;
    loader->newest = max_u64(loader->newest, entry->sequence);
    count_added(shard, segment, entry);
    if (found > 0 || (!news && index_lower(&shard->index).runs)) {
        struct record_buffer buffer;
        struct found fresh;
        const struct record *record = NULL;

        record_buffer_init(&buffer);
        if (found > 0 && shard_read_at(shard, entry->location, &buffer, &fresh) == CASK_OK)
            record = &fresh.record;
        for (unsigned i = 0; status != CASK_OK && i < found && i < CANDIDATES; i++)
            status = decide(shard, segment, entry, locations[i], record);
        if (status == CASK_NOTFOUND && !news)
            status = look_in_runs(shard, segment, entry, record);
        record_buffer_release(&buffer);
    }
    if (status != CASK_NOTFOUND)
        return status;
    status = insert_or_spill(shard, entry);
    if (status == CASK_OK)
        shard->index.tombstones += entry->tombstone;
    return status;
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
static void count_rest(struct shard *shard, struct segment *segment, uint64_t bytes,
                       uint64_t listed)
{
    uint64_t rest = bytes > listed ? bytes - listed : 0;

    segment->counts.dead_bytes += rest;
    shard->counts.dead_bytes += rest;
}

/* Tags that the keydir does not have yet, of what the runs do not cover. Those of a hint are in
 * order, so this is a sweep. */
static uint64_t count_new_tags(const struct shard *shard, const struct segment *segment,
                               const struct hint *hint)
{
    uint64_t count = 0;
    uint64_t previous = UINT64_MAX;

    for (uint64_t i = 0; i < hint->count; i++) {
        struct hint_entry entry = hint_entry_at(hint, i);
        uint32_t tag = hash_tag(entry.hash, shard->env->shard_bits);

        if (entry.offset < segment->covered.end)
            continue;
        if (tag != previous)
            count += keydir_find(index_keydir(&shard->index), tag, NULL, 0) == 0;
        previous = tag;
    }
    return count;
}

/* Entries one after the other: in their order, which is the keydir's own, where it could be made
 * large enough before; else spread evenly, since the lowest tags alone would crowd one end. */
static uint64_t stride_for(uint64_t count, bool in_order)
{
    uint64_t stride = in_order || count < 3 ? 1 : 2654435761u % count | 1;

    for (;; stride += 2) {
        uint64_t a = count;
        uint64_t b = stride;

        while (b != 0) {
            uint64_t rest = a % b;

            a = b;
            b = rest;
        }
        if (a <= 1)
            return stride;
    }
}

/* What is behind the part that is counted already. */
static uint64_t uncounted(const struct segment *segment, uint64_t from, uint64_t end)
{
    from = max_u64(max_u64(segment->covered.end, SEGMENT_HEADER_BYTES), from);
    return end > from ? end - from : 0;
}

int load_hint(struct loader *loader, struct segment *segment, const struct hint *hint)
{
    struct shard *shard = loader->shard;
    uint64_t listed = 0;
    uint64_t at = 0;
    int status = keydir_presize(index_keydir(&shard->index), count_new_tags(shard, segment, hint));
    uint64_t stride = stride_for(hint->count, status == CASK_OK);

    if (status == CASK_ENOMEM && shard->env->spills)
        status = CASK_OK;
    for (uint64_t i = 0; status == CASK_OK && i < hint->count; i++) {
        struct hint_entry entry = hint_entry_at(hint, at);
        struct loading loading = loading_of(shard, segment, &entry);

        at = (at + stride) % hint->count;
        if (entry.offset < segment->covered.end)
            continue;
        listed += entry.size;
        status = load_entry(loader, segment, &loading);
    }
    count_rest(shard, segment, uncounted(segment, 0, hint->length), listed);
    segment->counts.last_expiry = hint->max_expiry == 0 ? UINT64_MAX : hint->max_expiry;
    segment->max_batch = max_u64(segment->max_batch, hint->max_batch);
    return status;
}

void load_rest(struct shard *shard, struct segment *segment, uint64_t end)
{
    count_rest(shard, segment, uncounted(segment, 0, end), 0);
}

static uint32_t tag_at(const struct shard *shard, const struct hint *hint, uint64_t i)
{
    return hash_tag(hint_entry_at(hint, i).hash, shard->env->shard_bits);
}

/* About as many tags as the keydir does not have yet, in whatever order they are: those that are
 * found among the lowest ones, of which there are not many, times the share that these are of all.
 * A few too little, since two tags may share a bit. */
static uint64_t estimate_new_tags(const struct shard *shard, const struct hint *hint)
{
    uint64_t seen[SAMPLE_BITS / 64] = {0};
    uint64_t parts = hint->count / SAMPLE_TAGS + 1;
    uint64_t count = 0;

    for (uint64_t i = 0; i < hint->count; i++) {
        uint32_t tag = tag_at(shard, hint, i);
        uint64_t bit = tag * parts / (((uint64_t)1 << 32) / SAMPLE_BITS);

        if (bit >= SAMPLE_BITS || (seen[bit / 64] >> bit % 64 & 1) != 0)
            continue;
        seen[bit / 64] |= (uint64_t)1 << bit % 64;
        count += keydir_find(index_keydir(&shard->index), tag, NULL, 0) == 0;
    }
    return count * parts;
}

/* The buckets of the entries to come, so that the misses on them overlap. */
static void prefetch_ahead(const struct shard *shard, const struct hint *hint, uint64_t i)
{
    const struct keydir *keydir = index_keydir(&shard->index);

    if (i + AHEAD < hint->count)
        keydir_prefetch(keydir, tag_at(shard, hint, i + AHEAD));
    if (i + AHEAD / 2 < hint->count)
        keydir_prefetch_passed(keydir, tag_at(shard, hint, i + AHEAD / 2));
}

int load_tail(struct loader *loader, const struct tail *tail)
{
    struct shard *shard = loader->shard;
    struct segment *segment = tail->segment;
    uint64_t listed = 0;
    int status = keydir_presize(index_keydir(&shard->index), estimate_new_tags(shard, &tail->hint));

    if (status == CASK_ENOMEM) /* then it grows as far as it can */
        status = CASK_OK;
    for (uint64_t i = 0; status == CASK_OK && i < tail->hint.count; i++) {
        struct hint_entry entry = hint_entry_at(&tail->hint, i);
        struct loading loading = loading_of(shard, segment, &entry);

        prefetch_ahead(shard, &tail->hint, i);
        if (entry.offset < segment->covered.end)
            continue;
        listed += loading.size;
        status = load_entry(loader, segment, &loading);
    }
    count_rest(shard, segment, uncounted(segment, tail->from, tail->end), listed);
    segment->counts.last_expiry = max_u64(segment->counts.last_expiry, tail->hint.max_expiry);
    segment->max_batch = max_u64(segment->max_batch, tail->hint.max_batch);
    return status;
}

/* Takes what was cut off out of the figures, before anything else is counted; what of it was alive
 * is not known. */
void load_cut(struct shard *shard, struct segment *segment, uint64_t end)
{
    uint64_t lost = segment->covered.end > end ? segment->covered.end - end : 0;
    uint64_t live = min_u64(lost, segment->counts.live_bytes);
    uint64_t dead = min_u64(lost - live, segment->counts.dead_bytes);

    if (lost == 0)
        return;
    segment->counts.live_bytes -= live;
    segment->counts.dead_bytes -= dead;
    shard->counts.live_bytes -= live;
    shard->counts.dead_bytes -= dead;
    segment->covered = (struct segment_cover){end, segment->counts};
}

void load_finish(struct loader *loader)
{
    /* They hide what lies there, or what could not be read for the moment. */
    if (index_has_lower(&loader->shard->index) || loader->shard->index.doubles) {
        loader->tombstone_count = 0;
        return;
    }
    loader->shard->index.tombstones = 0;
    for (uint64_t i = 0; i < loader->tombstone_count; i++)
        keydir_remove(index_keydir(&loader->shard->index), loader->tombstones[i].tag,
                      loader->tombstones[i].location);
    loader->tombstone_count = 0;
}
