#include "shard/cover.h"

/* Takes the latest staged entry of a segment, and what is behind it, out of what will be covered.
 * It has replaced nothing yet and is alive; what else lies there are ends of batches. */
static void leave_out(struct shard *shard, uint64_t location)
{
    unsigned offset_bits = shard->config.offset_bits;
    uint64_t offset = location_offset(location, offset_bits);
    struct segment *segment = segments_get(&shard->segments,
                                           location_segment(location, offset_bits));
    struct segment_counts *counts;
    struct record_buffer buffer;
    struct found found;
    uint64_t bytes;
    uint64_t live = 0;

    if (!segment || segment->covering.end <= offset)
        return;
    bytes = segment->covering.end - offset;
    counts = &segment->covering.counts;
    record_buffer_init(&buffer);
    if (shard_read_unverified(shard, location, &buffer, &found) == CASK_OK) {
        if (found.record.type == RECORD_DELETE)
            counts->tombstone_bytes -= min_u64(record_size(&found.record), counts->tombstone_bytes);
        else
            live = min_u64(record_size(&found.record), counts->live_bytes);
    }
    record_buffer_release(&buffer);
    counts->live_bytes -= live;
    counts->dead_bytes -= min_u64(bytes - live, counts->dead_bytes);
    counts->records -= min_u64(1, counts->records);
    segment->covering.end = offset;
}

void cover_mark(struct shard *shard)
{
    struct segment *segment = segments_at_or_after(&shard->segments, 0);

    shard->covering_batch = 0;
    for (; segment; segment = segments_at_or_after(&shard->segments, segment->id + 1)) {
        segment->covering = segment->unlisted
                                ? (struct segment_cover){0}
                                : (struct segment_cover){segment_tail(segment), segment->counts};
        shard->covering_batch = max_u64(shard->covering_batch, segment->max_batch);
    }
    for (uint32_t i = index_staged(&shard->index); i-- > 0;)
        leave_out(shard, index_staged_at(&shard->index, i).location);
}

void cover_take(struct shard *shard)
{
    struct segment *segment;

    pthread_mutex_lock(&shard->lock);
    segment = segments_at_or_after(&shard->segments, 0);
    for (; segment; segment = segments_at_or_after(&shard->segments, segment->id + 1)) {
        segment->covered_before = segment->covered;
        segment->covered = segment->covering;
    }
    shard->settled_batch = max_u64(shard->settled_batch, shard->covering_batch);
    pthread_mutex_unlock(&shard->lock);
}

void cover_take_back(struct shard *shard)
{
    struct segment *segment;

    pthread_mutex_lock(&shard->lock);
    segment = segments_at_or_after(&shard->segments, 0);
    for (; segment; segment = segments_at_or_after(&shard->segments, segment->id + 1))
        segment->covered = segment->covered_before;
    pthread_mutex_unlock(&shard->lock);
}

static void move(struct segment_counts *counts, uint64_t bytes, bool dies)
{
    bytes = min_u64(bytes, dies ? counts->live_bytes : counts->dead_bytes);
    counts->live_bytes += dies ? 0 - bytes : bytes;
    counts->dead_bytes += dies ? bytes : 0 - bytes;
}

static void count(struct shard *shard, struct segment *segment, uint64_t offset, uint64_t bytes,
                  bool dies)
{
    uint64_t before = segment->counts.live_bytes;

    move(&segment->counts, bytes, dies);
    shard->counts.live_bytes += segment->counts.live_bytes - before;
    shard->counts.dead_bytes -= segment->counts.live_bytes - before;
    if (offset < segment->covered.end)
        move(&segment->covered.counts, bytes, dies);
    if (offset < segment->covering.end) /* of a flush that has failed and will be gone on with */
        move(&segment->covering.counts, bytes, dies);
}

void cover_count_dropped(struct shard *shard, struct segment *segment, uint64_t offset,
                         uint64_t bytes)
{
    count(shard, segment, offset, bytes, true);
}

void cover_count_again(struct shard *shard, struct segment *segment, uint64_t offset,
                       uint64_t bytes)
{
    count(shard, segment, offset, bytes, false);
}
