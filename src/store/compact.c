#include "store/compact.h"

struct compaction {
    cask_progress_fn progress;
    void *context;
    uint64_t done;
    uint64_t bound; /* what may be reported within the shard at hand */
    uint64_t total;
};

/* Copies are told of as they are read and as they are written; hints come on top. */
static int pace(void *context, uint64_t bytes)
{
    struct compaction *compaction = context;

    compaction->done = max_u64(compaction->done,
                               min_u64(compaction->done + bytes, compaction->bound));
    if (compaction->progress &&
        compaction->progress(compaction->context, compaction->done, compaction->total) != 0)
        return CASK_EBUSY;
    return CASK_OK;
}

int compact_store(struct cask_db *db, cask_progress_fn progress, void *context)
{
    struct compaction compaction = {.progress = progress, .context = context};
    struct merge_pace merge_pace = {pace, &compaction};
    uint64_t done = 0;
    int damaged = CASK_OK;
    int status = CASK_OK;

    for (uint32_t i = 0; i < db->env.shard_count; i++)
        compaction.total += merge_all_bytes(&db->shards[i]);
    for (uint32_t i = 0; status == CASK_OK && i < db->env.shard_count; i++) {
        done = min_u64(done + merge_all_bytes(&db->shards[i]), compaction.total);
        compaction.bound = done;
        status = merge_all(&db->shards[i], &merge_pace);
        if (status == CASK_ECORRUPT) { /* damage in one shard does not keep the others back */
            damaged = status;
            status = CASK_OK;
        }
        compaction.done = max_u64(compaction.done, done);
        if (status == CASK_OK)
            status = pace(&compaction, 0);
    }
    return status == CASK_OK ? damaged : status;
}
