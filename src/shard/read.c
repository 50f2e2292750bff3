/* Finding a key without a lock: index entries are hints, the record in the log is the proof. */
#include "shard/shard.h"

#define CANDIDATES 48u /* a full stage of one key, and more equal tags than there ever are */

bool record_is_expired(const struct record *record)
{
    return record->expires_at_ms != 0 && io_clock_ms() >= record->expires_at_ms;
}

static int read_at(const struct shard *shard, uint64_t location, bool verify,
                   struct record_buffer *buffer, struct found *ret_found)
{
    unsigned offset_bits = shard->config.offset_bits;
    struct segment *segment = segments_get(&shard->segments,
                                           location_segment(location, offset_bits));

    if (!segment)
        return CASK_NOTFOUND; /* a stale entry: merged away */
    ret_found->segment = segment;
    return segment_read(segment, location_offset(location, offset_bits), shard->config.read_mapped,
                        verify, buffer, &ret_found->record);
}

int shard_read_at(const struct shard *shard, uint64_t location, struct record_buffer *buffer,
                  struct found *ret_found)
{
    return read_at(shard, location, shard->config.verify_reads, buffer, ret_found);
}

int shard_read_unverified(const struct shard *shard, uint64_t location,
                          struct record_buffer *buffer, struct found *ret_found)
{
    return read_at(shard, location, false, buffer, ret_found);
}

void shard_report_unreadable(const struct shard *shard, uint64_t location, int status)
{
    unsigned offset_bits = shard->config.offset_bits;

    report(&shard->env->reporter, CASK_LOG_ERROR, "%s/shard-%03u/%llu.data: offset %llu: %s",
           shard->env->path, (unsigned)shard->number,
           (unsigned long long)location_segment(location, offset_bits),
           (unsigned long long)location_offset(location, offset_bits),
           status == CASK_ECORRUPT ? "the record there is damaged" : cask_strerror(status));
}

static bool is_of_key(const struct record *record, struct cask_slice key)
{
    return record->key.size == key.size && bytes_equal(record->key.data, key.data, key.size);
}

/* Candidates of one look-up, in the index's order: the stage's, newest first, then the keydir's. */
struct candidates {
    uint64_t locations[CANDIDATES];
    unsigned count;
    unsigned staged;
    uint64_t unreadable; /* one of them that could not be read; 0: none */
};

/* The first proof in the stage is the newest; of several in the keydir the higher sequence number
 * is. One that cannot be read may be newer than what is found behind it: then its error is the
 * answer. */
static int prove(struct shard *shard, struct candidates *candidates, struct cask_slice key,
                 struct record_buffer *buffer, struct found *ret_found)
{
    struct found candidate;
    uint64_t best = 0;
    uint64_t best_sequence = 0;
    int failed = CASK_OK;

    candidates->unreadable = 0;
    for (unsigned i = 0; i < candidates->count && !(best != 0 && i <= candidates->staged); i++) {
        int status = shard_read_at(shard, candidates->locations[i], buffer, &candidate);

        if (status == CASK_NOTFOUND)
            continue;
        if (status != CASK_OK) {
            failed = status;
            candidates->unreadable = candidates->locations[i];
        } else if (is_of_key(&candidate.record, key) && candidate.record.sequence > best_sequence) {
            best = candidates->locations[i];
            best_sequence = candidate.record.sequence;
            *ret_found = candidate;
        }
    }
    if (failed != CASK_OK)
        return failed;
    if (best == 0)
        return CASK_NOTFOUND;
    if (candidates->count > candidates->staged + 1) /* buffer may hold another by now */
        return shard_read_at(shard, best, buffer, ret_found);
    return CASK_OK;
}

/* In the tiers below the keydir, newest first: the first one that has the key has its newest
 * record. */
static int find_in_tiers(struct shard *shard, const struct index_lower *lower, uint32_t tag,
                         struct cask_slice key, struct record_buffer *buffer,
                         struct candidates *candidates, struct found *ret_found,
                         struct run_counts *counts)
{
    for (unsigned tier = 0;; tier++) {
        int status = index_find_lower(lower, tier, tag, candidates->locations, CANDIDATES,
                                      &candidates->count, counts);

        if (status == CASK_ECORRUPT)
            shard_distrust_runs(shard);
        if (status != CASK_OK)
            return status;
        if (candidates->count == 0)
            continue;
        if (candidates->count > CANDIDATES)
            candidates->count = CANDIDATES;
        candidates->staged = 0;
        status = prove(shard, candidates, key, buffer, ret_found);
        if (status != CASK_NOTFOUND)
            return status;
    }
}

static int find_below(struct shard *shard, uint32_t tag, struct cask_slice key,
                      struct record_buffer *buffer, struct candidates *candidates,
                      struct found *ret_found)
{
    struct index_lower lower = index_lower(&shard->index);
    struct run_counts counts = {0};
    int status;

    candidates->unreadable = 0;
    if (!lower.flushing && !lower.runs)
        return CASK_NOTFOUND;
    status = find_in_tiers(shard, &lower, tag, key, buffer, candidates, ret_found, &counts);
    index_count(&shard->index, epoch_stripe_plus_one, &counts);
    return status;
}

/* The filters of the runs, whose misses overlap with the keydir's. */
static void prefetch_filters(const struct shard *shard, uint32_t tag)
{
    const struct run_list *runs = index_lower(&shard->index).runs;

    for (uint32_t i = 0; runs && i < runs->count; i++)
        run_prefetch(runs->runs[i], tag);
}

static int find_once(struct shard *shard, uint32_t tag, struct cask_slice key,
                     struct record_buffer *buffer, struct candidates *candidates,
                     struct found *ret_found)
{
    int status;

    prefetch_filters(shard, tag);
    candidates->count = index_find(&shard->index, tag, candidates->locations, CANDIDATES,
                                   &candidates->staged);
    if (candidates->count > CANDIDATES)
        candidates->count = CANDIDATES;
    status = prove(shard, candidates, key, buffer, ret_found);
    return status == CASK_NOTFOUND ? find_below(shard, tag, key, buffer, candidates, ret_found)
                                   : status;
}

int shard_find(struct shard *shard, uint64_t hash, struct cask_slice key,
               struct record_buffer *buffer, struct found *ret_found)
{
    uint32_t tag = hash_tag(hash, shard->env->shard_bits);
    struct candidates candidates;

    for (int attempt = 0;; attempt++) {
        const struct keydir *keydir = index_keydir(&shard->index);
        int status = find_once(shard, tag, key, buffer, &candidates, ret_found);

        if (status == CASK_OK)
            return ret_found->record.type == RECORD_DELETE || record_is_expired(&ret_found->record)
                       ? CASK_NOTFOUND
                       : CASK_OK;
        /* Entries may have gone to another tier past this look-up: then look again. An unreadable
         * candidate may have been replaced since: one more look tells. */
        if (index_keydir(&shard->index) != keydir || (status != CASK_NOTFOUND && attempt == 0))
            continue;
        if (candidates.unreadable != 0)
            shard_report_unreadable(shard, candidates.unreadable, status);
        return status;
    }
}

void shard_prefetch_index(const struct shard *shard, uint64_t hash)
{
    keydir_prefetch(index_keydir(&shard->index), hash_tag(hash, shard->env->shard_bits));
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

void shard_read_ahead_index(const struct shard *shard, uint64_t hash)
{
    uint32_t tag = hash_tag(hash, shard->env->shard_bits);
    struct index_lower lower = index_lower(&shard->index);
    unsigned staged;

    if (!lower.runs || index_find(&shard->index, tag, NULL, 0, &staged) > 0)
        return;
    for (uint32_t i = 0; i < lower.runs->count; i++)
        run_read_ahead(lower.runs->runs[i], tag);
}

/* The newest candidate, which nearly always is the one. Runs are read by call: those who come here
 * read from the disk, and a page of a run has more that will be asked for than one of the log. */
static unsigned first_candidate(const struct shard *shard, uint32_t tag, uint64_t *ret_location)
{
    struct index_lower lower;
    unsigned staged;
    unsigned found = index_find(&shard->index, tag, ret_location, 1, &staged);

    lower = index_lower(&shard->index);
    if (found == 0 && lower.flushing)
        found = keydir_find(lower.flushing, tag, ret_location, 1);
    for (uint32_t i = 0; found == 0 && lower.runs && i < lower.runs->count; i++)
        if (run_find_by_call(lower.runs->runs[i], tag, ret_location, 1, &found) != CASK_OK)
            return 0;
    return found;
}

void shard_read_ahead_record(const struct shard *shard, uint64_t hash)
{
    unsigned offset_bits = shard->config.offset_bits;
    struct segment *segment;
    uint64_t location;

    if (first_candidate(shard, hash_tag(hash, shard->env->shard_bits), &location) == 0)
        return;
    segment = segments_get(&shard->segments, location_segment(location, offset_bits));
    if (segment)
        segment_read_ahead(segment, location_offset(location, offset_bits),
                           shard->config.read_mapped);
}
