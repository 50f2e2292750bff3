#include "support_spill.h"

#include "merge/merge.h"
#include "store/store.h"

#define INPUTS_MAX 64u
#define OUTPUT_BYTES 500u

int spill_shard(struct cask_db *db, uint32_t shard)
{
    return spill_flush(&db->shards[shard], false);
}

int spill_all(struct cask_db *db)
{
    int status = CASK_OK;

    for (uint32_t i = 0; status == CASK_OK && i < db->env.shard_count; i++)
        status = spill_shard(db, i);
    return status;
}

int spill_merge_segments(struct cask_db *db, uint32_t number, uint64_t picks)
{
    struct shard *shard = &db->shards[number];
    struct segment *inputs[INPUTS_MAX];
    struct segment *segment;
    size_t count = 0;
    int status = CASK_OK;

    pthread_mutex_lock(&shard->merge_lock);
    pthread_mutex_lock(&shard->lock);
    segment = segments_at_or_after(&shard->segments, 0);
    for (; segment && count < INPUTS_MAX;
         segment = segments_at_or_after(&shard->segments, segment->id + 1))
        if (segment->in_manifest_sealed && !segment->queued && (picks >> segment->id % 64 & 1))
            inputs[count++] = segment;
    pthread_mutex_unlock(&shard->lock);
    if (count > 0)
        status = merge_segments(shard, inputs, count, OUTPUT_BYTES, NULL);
    pthread_mutex_unlock(&shard->merge_lock);
    return status;
}

void spill_squeeze(struct cask_db *db)
{
    uint64_t wanted = db->env.budget.limit_bytes / 100 * 71;
    uint64_t used = budget_used(&db->env.budget);

    if (used < wanted)
        budget_overdraw(&db->env.budget, wanted - used);
}
