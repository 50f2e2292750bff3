#include "support_spill.h"

#include "store/store.h"

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

void spill_squeeze(struct cask_db *db)
{
    uint64_t wanted = db->env.budget.limit_bytes / 100 * 71;
    uint64_t used = budget_used(&db->env.budget);

    if (used < wanted)
        budget_overdraw(&db->env.budget, wanted - used);
}
