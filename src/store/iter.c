#include "store/iter.h"

#include <stdlib.h>

#define ROOM 512u

static int make_room(struct cask_iter *iter, size_t room)
{
    struct keydir_entry *fetched = realloc(iter->fetched, room * sizeof *fetched);
    struct iter_entry *entries;

    if (!fetched)
        return CASK_ENOMEM;
    iter->fetched = fetched;
    entries = realloc(iter->entries, room * sizeof *entries);
    if (!entries)
        return CASK_ENOMEM;
    iter->entries = entries;
    iter->room = room;
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

/* The next entries of the shard, pinned. Under its lock. */
static int fetch_locked(struct cask_iter *iter, struct shard *shard)
{
    unsigned offset_bits = shard->config.offset_bits;
    int status = shard_drain(shard);
    uint64_t next;
    size_t count;

    if (status != CASK_OK)
        return status;
    count = keydir_collect(&shard->index.keydir, iter->from, iter->fetched, iter->room, &next);
    if (next == iter->from)
        return CASK_ERANGE;
    for (size_t i = 0; i < count; i++) {
        uint64_t location = iter->fetched[i].location;
        struct segment *segment = segments_get(&shard->segments,
                                               location_segment(location, offset_bits));

        if (segment)
            segment_pin(segment);
        iter->entries[i] = (struct iter_entry){location, segment};
    }
    iter->count = count;
    iter->from = next;
    return CASK_OK;
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
    pthread_mutex_lock(&shard->lock);
    status = fetch_locked(iter, shard);
    pthread_mutex_unlock(&shard->lock);
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
        status = entry->segment
                     ? segment_read(entry->segment, location_offset(entry->location, offset_bits),
                                    config->read_mapped, config->verify_reads, &iter->buffer,
                                    &record)
                     : CASK_ECORRUPT;
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
