/* Opening: where the log of each shard ends, decided over all shards together. */
#include "shard/recover.h"

/* Drops all tails behind the one that the log turned out to end in. */
static bool drop_behind(struct recovery *recovery, uint64_t last)
{
    bool changed = false;

    for (uint64_t i = last + 1; i < recovery->tail_count; i++) {
        changed |= recovery->tails[i].records > 0 && recovery->tails[i].end > SEGMENT_HEADER_BYTES;
        tail_cut(&recovery->tails[i], SEGMENT_HEADER_BYTES);
    }
    return changed;
}

/* A reader beside a live writer: whether a record stands now where the log ended a moment ago. */
static bool has_gone_on(const struct shard *shard, const struct tail *tail)
{
    struct record_buffer buffer;
    struct record record;
    int status;

    if (!shard->env->read_only || !tail->segment->file)
        return false;
    record_buffer_init(&buffer);
    status = segment_read(tail->segment, tail->end, false, true, &buffer, &record);
    record_buffer_release(&buffer);
    return status == CASK_OK;
}

/* What the runs know, or a clean close has settled, was durable: no cut in front of it takes it
 * away. */
static bool is_settled_behind(const struct recovery *recovery, uint64_t i)
{
    while (++i < recovery->tail_count) {
        const struct segment *segment = recovery->tails[i].segment;

        if (max_u64(segment->covered.end, segment->clean_length) > SEGMENT_HEADER_BYTES)
            return true;
    }
    return false;
}

/* Without a seal the log ends there, whatever stands in later segments: a power loss took what was
 * between. Where no power was lost it is damage, and what follows stays. */
static void end_at_first_gap(struct recovery *recovery)
{
    for (uint64_t i = 0; i + 1 < recovery->tail_count; i++) {
        struct tail *tail = &recovery->tails[i];

        if (tail->sealed || tail->damaged)
            continue;
        if ((recovery->same_boot && recovery->tails[i + 1].records > 0) ||
            is_settled_behind(recovery, i)) {
            recovery->overtaken |= has_gone_on(recovery->shard, tail);
            recover_tell(recovery->shard, CASK_LOG_ERROR, tail->segment->id, tail->end,
                         "records are missing in front of the next segment");
            tail->damaged = true;
            continue;
        }
        drop_behind(recovery, i);
        return;
    }
}

static bool has_batch(const struct recovery *recovery, uint64_t number)
{
    if (number <= recovery->manifest.settled_batch)
        return true; /* what is sealed or clean was settled before it was called so */
    for (uint64_t i = 0; i < recovery->tail_count; i++)
        for (uint64_t j = 0; j < recovery->tails[i].batch_count; j++)
            if (recovery->tails[i].batches[j].end.number == number)
                return true;
    return false;
}

static bool is_whole(const struct recovery *recoveries, uint32_t count, const struct batch_end *end)
{
    for (uint32_t i = 0; i < count; i++)
        if (batch_end_has(end, i) && !has_batch(&recoveries[i], end->number))
            return false;
    return true;
}

/* Ends one shard's log in front of its first batch that is not whole. True if there was one. */
static bool end_at_first_half_batch(struct recovery *recoveries, uint32_t count,
                                    struct recovery *recovery)
{
    for (uint64_t i = 0; i < recovery->tail_count; i++) {
        struct tail *tail = &recovery->tails[i];

        for (uint64_t j = 0; j < tail->batch_count; j++) {
            const struct tail_batch *batch = &tail->batches[j];

            if (batch->end.number <= recovery->manifest.settled_batch ||
                is_whole(recoveries, count, &batch->end))
                continue;
            recover_tell(recovery->shard, CASK_LOG_WARNING, tail->segment->id, batch->offset,
                         "a batch is not whole in every shard; the log is cut in front of it");
            tail->bad_bytes = max_u64(tail->bad_bytes, tail->end - batch->offset);
            tail_cut(tail, batch->offset);
            drop_behind(recovery, i);
            return true;
        }
    }
    return false;
}

/* A cut may make batches of other shards half: until nothing changes. Logs only get shorter. */
void recover_resolve(struct recovery *recoveries, uint32_t count)
{
    bool changed = true;

    for (uint32_t i = 0; i < count; i++)
        end_at_first_gap(&recoveries[i]);
    while (changed) {
        changed = false;
        for (uint32_t i = 0; i < count; i++)
            changed |= end_at_first_half_batch(recoveries, count, &recoveries[i]);
    }
}
