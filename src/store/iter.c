#include "store/iter.h"

#include <stdlib.h>

#include "index/run_cursor.h"

#define ROOM 512u
#define RUN_READ_BYTES ((size_t)16 << 10)

static int make_room(struct cask_iter *iter, size_t room)
{
    struct keydir_entry *fetched = realloc(iter->fetched, room * sizeof *fetched);

    if (!fetched)
        return CASK_ENOMEM;
    iter->fetched = fetched;
    iter->room = room;
    return CASK_OK;
}

static int make_entry_room(struct cask_iter *iter, size_t room)
{
    struct iter_entry *grown = realloc(iter->entries, room * sizeof *grown);

    if (!grown)
        return CASK_ENOMEM;
    iter->entries = grown;
    iter->entry_room = room;
    return CASK_OK;
}

int iter_create(struct cask_db *db, struct cask_iter **ret_iter)
{
    struct cask_iter *iter = calloc(1, sizeof *iter);
    int status;

    if (!iter)
        return CASK_ENOMEM;
    iter->db = db;
    record_buffer_init(&iter->buffer);
    status = make_room(iter, ROOM);
    if (status == CASK_OK)
        status = make_entry_room(iter, ROOM);
    if (status != CASK_OK) {
        iter_destroy(iter);
        return status;
    }
    *ret_iter = iter;
    return CASK_OK;
}

static void unpin_all(struct cask_iter *iter)
{
    for (size_t i = 0; i < iter->count; i++)
        if (iter->entries[i].segment)
            segment_unpin(iter->entries[i].segment);
    iter->count = 0;
    iter->at = 0;
}

void iter_destroy(struct cask_iter *iter)
{
    if (!iter)
        return;
    unpin_all(iter);
    record_buffer_release(&iter->buffer);
    free(iter->fetched);
    free(iter->entries);
    free(iter);
}

/* Adds an entry, its segment pinned. Inside an epoch guard. */
static int add_entry(struct cask_iter *iter, const struct shard *shard,
                     const struct keydir_entry *entry)
{
    struct segment *segment = segments_get(
        &shard->segments, location_segment(entry->location, shard->config.offset_bits));

    if (iter->count == iter->entry_room) {
        int status = make_entry_room(iter, iter->entry_room * 2);

        if (status != CASK_OK)
            return status;
    }
    if (segment)
        segment_pin(segment);
    iter->entries[iter->count++] = (struct iter_entry){entry->location, segment, entry->tag, false};
    return CASK_OK;
}

/* A keydir's entries up to *limit, which comes down to where room ends. CASK_ERANGE: too little
 * room for a single bucket. */
static int fetch_keydir(struct cask_iter *iter, const struct shard *shard,
                        const struct keydir *keydir, uint64_t *limit)
{
    uint64_t next;
    size_t count = keydir_collect(keydir, iter->from, iter->fetched, iter->room, &next);
    int status = CASK_OK;

    if (next == iter->from)
        return CASK_ERANGE;
    *limit = min_u64(*limit, next);
    for (size_t i = 0; status == CASK_OK && i < count; i++)
        if (iter->fetched[i].tag < *limit)
            status = add_entry(iter, shard, &iter->fetched[i]);
    return status;
}

/* The buffer is the caller's and gone in a moment: the index's budget, which may be used up, is not
 * asked for it. */
static int fetch_run(struct cask_iter *iter, struct shard *shard, struct run *run, uint64_t limit)
{
    struct budget own = {.limit_bytes = RUN_READ_BYTES};
    struct run_cursor cursor;
    struct keydir_entry entry;
    int status = run_cursor_open(&cursor, run, (uint32_t)iter->from, RUN_READ_BYTES, &own);

    if (status != CASK_OK)
        return status;
    while (status == CASK_OK && run_cursor_may_have(&cursor, limit)) {
        status = run_cursor_next(&cursor, &entry);
        if (status == CASK_OK && entry.tag < limit)
            status = add_entry(iter, shard, &entry);
        else if (status == CASK_OK)
            break;
    }
    run_cursor_close(&cursor);
    return status == CASK_NOTFOUND ? CASK_OK : status;
}

/* Through the pin, as iter_next() will: a merge may take the segment out of the table meanwhile. */
static int read_pinned(const struct shard *shard, const struct iter_entry *entry,
                       struct record_buffer *buffer, struct record *ret_record)
{
    const struct log_config *config = &shard->config;

    if (!entry->segment)
        return CASK_NOTFOUND;
    return segment_read(entry->segment, location_offset(entry->location, config->offset_bits),
                        config->read_mapped, config->verify_reads, buffer, ret_record);
}

/* Of two entries of one tag, marks the one that the other shadows, if they are of one key. What
 * cannot be read is met again by whoever comes to it. */
static void compare(const struct shard *shard, struct iter_entry *a, struct iter_entry *b)
{
    struct record_buffer buffers[2];
    struct record records[2];

    record_buffer_init(&buffers[0]);
    record_buffer_init(&buffers[1]);
    if (a->location == b->location) {
        b->shadowed = true;
    } else if (read_pinned(shard, a, &buffers[0], &records[0]) == CASK_OK &&
               read_pinned(shard, b, &buffers[1], &records[1]) == CASK_OK &&
               record_same_key(&records[0], &records[1])) {
        if (records[0].sequence > records[1].sequence)
            b->shadowed = true;
        else
            a->shadowed = true;
    }
    record_buffer_release(&buffers[0]);
    record_buffer_release(&buffers[1]);
}

static int by_tag(const void *a, const void *b)
{
    const struct iter_entry *left = a;
    const struct iter_entry *right = b;

    return left->tag < right->tag ? -1 : left->tag > right->tag;
}

/* Keys of which several tiers have entries are to be met once. */
static void mark_shadowed(struct cask_iter *iter, struct shard *shard)
{
    if (iter->count > 1)
        qsort(iter->entries, iter->count, sizeof *iter->entries, by_tag);
    for (size_t i = 0; i < iter->count; i++)
        for (size_t j = i + 1; j < iter->count && iter->entries[j].tag == iter->entries[i].tag; j++)
            if (!iter->entries[i].shadowed && !iter->entries[j].shadowed)
                compare(shard, &iter->entries[i], &iter->entries[j]);
}

/* Few enough tags that all tiers together have about half of room for them. */
static uint64_t limit_for(const struct cask_iter *iter, const struct index *index)
{
    uint64_t entries = index_entries(index);
    uint64_t width = ((uint64_t)iter->room << 31) / (entries > 0 ? entries : 1);

    return min_u64(iter->from + max_u64(width, 1), (uint64_t)1 << 32);
}

/* The next entries of the shard, pinned: all tiers as they are at one moment. */
static int fetch_tiers(struct cask_iter *iter, struct shard *shard)
{
    struct index *index = &shard->index;
    uint64_t limit = (uint64_t)1 << 32;
    struct index_lower lower;
    bool doubles;
    int status;

    pthread_mutex_lock(&shard->lock);
    status = shard_drain(shard);
    lower = index_lower(index);
    doubles = index->doubles;
    if (lower.flushing || lower.runs)
        limit = limit_for(iter, index);
    if (status == CASK_OK)
        status = fetch_keydir(iter, shard, index_keydir(index), &limit);
    pthread_mutex_unlock(&shard->lock);
    if (status == CASK_OK && lower.flushing)
        status = fetch_keydir(iter, shard, lower.flushing, &limit);
    for (uint32_t i = 0; status == CASK_OK && lower.runs && i < lower.runs->count; i++)
        status = fetch_run(iter, shard, lower.runs->runs[i], limit);
    if (status == CASK_ECORRUPT || status == CASK_EIO)
        iter->from =
            limit; /* what a page that cannot be read shadows is not known: all of it goes */
    if (status != CASK_OK)
        return status;
    if (lower.flushing || lower.runs || doubles) {
        for (size_t i = 0; i < iter->count; i++) /* those of the keydir from before it came down */
            iter->entries[i].shadowed = iter->entries[i].tag >= limit;
        mark_shadowed(iter, shard);
    }
    iter->from = limit;
    return CASK_OK;
}

/* What is staged has to find room first, as for a put. */
static int fetch_guarded(struct cask_iter *iter, struct shard *shard)
{
    for (unsigned tries = 0;; tries++) {
        struct epoch_guard guard = epoch_enter(&iter->db->env.epoch);
        int status = fetch_tiers(iter, shard);

        epoch_leave(guard);
        if (status == CASK_OK)
            return CASK_OK;
        unpin_all(iter);
        if (status != CASK_ENOMEM || tries == SHARD_RELIEF_TRIES ||
            spill_relieve(shard->env) != CASK_OK)
            return status;
    }
}

static int fetch(struct cask_iter *iter)
{
    struct shard *shard = &iter->db->shards[iter->shard];
    int status;

    unpin_all(iter);
    if (iter->from > UINT32_MAX) {
        iter->shard++;
        iter->from = 0;
        return CASK_OK;
    }
    status = fetch_guarded(iter, shard);
    if (status == CASK_ECORRUPT)
        shard_distrust_runs(shard);
    if (status == CASK_ERANGE)
        status = make_room(iter, iter->room * 2);
    return status;
}

int iter_next(struct cask_iter *iter, struct cask_entry *ret_entry)
{
    const struct log_config *config = &iter->db->config;
    unsigned offset_bits = config->offset_bits;

    for (;;) {
        const struct iter_entry *entry;
        struct record record;
        int status;

        if (iter->at == iter->count) {
            if (iter->shard == iter->db->env.shard_count)
                return CASK_NOTFOUND;
            status = fetch(iter);
            if (status != CASK_OK)
                return status;
            continue;
        }
        entry = &iter->entries[iter->at++];
        if (!entry->segment || entry->shadowed)
            continue;
        status = segment_read(entry->segment, location_offset(entry->location, offset_bits),
                              config->read_mapped, config->verify_reads, &iter->buffer, &record);
        if (status != CASK_OK) {
            shard_report_unreadable(&iter->db->shards[iter->shard], entry->location, status);
            return status;
        }
        if (record.type != RECORD_PUT || record_is_expired(&record))
            continue;
        *ret_entry = (struct cask_entry){record.key, record.value, record.expires_at_ms};
        return CASK_OK;
    }
}
