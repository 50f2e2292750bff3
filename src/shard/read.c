/* Finding a key without a lock: index entries are hints, the record in the log is the proof. */
#include "shard/shard.h"

#define CANDIDATES 48u /* a full stage of one key, and more equal tags than there ever are */

bool record_is_expired(const struct record *record)
{
    return record->expires_at_ms != 0 && io_clock_ms() >= record->expires_at_ms;
}

int shard_read_at(const struct shard *shard, uint64_t location, struct record_buffer *buffer,
                  struct found *ret_found)
{
    unsigned offset_bits = shard->config.offset_bits;
    struct segment *segment =
        segments_get(&shard->segments, location_segment(location, offset_bits));

    if (!segment)
        return CASK_ECORRUPT;
    ret_found->segment = segment;
    return segment_read(segment, location_offset(location, offset_bits), shard->config.read_mapped,
                        shard->config.verify_reads, buffer, &ret_found->record);
}

static bool is_of_key(const struct record *record, struct cask_slice key)
{
    return record->key.size == key.size && bytes_equal(record->key.data, key.data, key.size);
}

/* Proves candidates in the index's order. The stage comes newest first, so that the first proof there
 * is the newest; of several in the keydir the higher sequence number is. */
static int prove(struct shard *shard, const uint64_t *locations, unsigned count,
                 unsigned staged, struct cask_slice key, struct record_buffer *buffer, struct found *ret_found)
{
    struct found candidate;
    uint64_t best = 0;
    uint64_t best_sequence = 0;
    int status = CASK_NOTFOUND;

    for (unsigned i = 0; i < count && !(best != 0 && i <= staged); i++) {
        int outcome = shard_read_at(shard, locations[i], buffer, &candidate);

        if (outcome != CASK_OK) {
            if (best == 0)
                status = outcome;
        } else if (is_of_key(&candidate.record, key) &&
                   candidate.record.sequence > best_sequence) {
            best = locations[i];
            best_sequence = candidate.record.sequence;
            *ret_found = candidate;
            status = CASK_OK;
        }
    }
    if (best != 0 && count > staged + 1)
        status = shard_read_at(shard, best, buffer, ret_found); /* buffer may hold another */
    return status;
}

int shard_find(struct shard *shard, uint64_t hash, struct cask_slice key,
               struct record_buffer *buffer, struct found *ret_found)
{
    uint32_t tag = hash_tag(hash, shard->env->shard_bits);
    uint64_t locations[CANDIDATES];

    for (int attempt = 0;; attempt++) {
        uint32_t generation = keydir_generation(&shard->index.keydir);
        unsigned staged;
        unsigned count = index_find(&shard->index, tag, locations, CANDIDATES, &staged);
        int status;

        if (count > CANDIDATES)
            count = CANDIDATES;
        status = prove(shard, locations, count, staged, key, buffer, ret_found);
        if (status == CASK_OK)
            return ret_found->record.type == RECORD_DELETE || record_is_expired(&ret_found->record)
                       ? CASK_NOTFOUND
                       : CASK_OK;
        /* Entries may have moved past this look-up: then look again. An unreadable candidate may
         * have been replaced since: one more look tells. */
        if (keydir_generation(&shard->index.keydir) == generation &&
            (status == CASK_NOTFOUND || attempt > 0))
            return status;
    }
}

void shard_prefetch_index(const struct shard *shard, uint64_t hash)
{
    keydir_prefetch(&shard->index.keydir, hash_tag(hash, shard->env->shard_bits));
}

void shard_prefetch_record(const struct shard *shard, uint64_t hash)
{
    unsigned offset_bits = shard->config.offset_bits;
    uint32_t tag = hash_tag(hash, shard->env->shard_bits);
    uint64_t location;
    unsigned staged;
    struct segment *segment;

    if (index_find(&shard->index, tag, &location, 1, &staged) == 0)
        return;
    segment = segments_get(&shard->segments, location_segment(location, offset_bits));
    if (segment)
        segment_prefetch(segment, location_offset(location, offset_bits));
}
