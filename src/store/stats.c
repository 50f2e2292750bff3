#include "store/stats.h"

#include <stdlib.h>

/* Bytes on disk of every file in a directory that can be opened; one that goes away meanwhile, or
 * is no regular file, does not count. */
static uint64_t disk_bytes_of(struct io_dir *dir)
{
    uint64_t sum = 0;
    char *names;

    if (!dir || io_dir_list(dir, &names) != CASK_OK)
        return 0;
    for (const char *name = names; *name; name += strlen(name) + 1) {
        struct io_file *file;
        uint64_t bytes;

        if (io_open(dir, name, IO_READ, &file) != CASK_OK)
            continue;
        if (io_disk_bytes(file, &bytes) == CASK_OK)
            sum += bytes;
        io_close(file);
    }
    free(names);
    return sum;
}

static int add_shard(struct shard *shard, struct cask_stats *stats)
{
    struct io_dir *dir;
    int status;

    pthread_mutex_lock(&shard->manifest_lock);
    dir = shard->dir; /* once there it stays until the store is closed */
    pthread_mutex_unlock(&shard->manifest_lock);
    pthread_mutex_lock(&shard->lock);
    status = shard_drain(shard);
    stats->live_keys += keydir_count(&shard->index.keydir);
    stats->index_ram_keys += keydir_count(&shard->index.keydir);
    stats->live_bytes += shard->counts.live_bytes;
    stats->dead_bytes += shard->counts.dead_bytes;
    stats->segments += shard->segments.count;
    stats->writes += shard->counts.writes;
    stats->written_bytes += shard->counts.written_bytes;
    stats->syncs += shard->counts.syncs;
    stats->recovered_records += shard->counts.recovered_records;
    stats->cut_bytes += shard->counts.cut_bytes;
    stats->hints_rebuilt += shard->counts.hints_rebuilt;
    pthread_mutex_unlock(&shard->lock);
    stats->disk_bytes += disk_bytes_of(dir);
    return status;
}

int stats_collect(struct cask_db *db, struct cask_stats *ret_stats)
{
    struct cask_stats stats = {.size = ret_stats->size};
    int status = CASK_OK;

    stats.shards = db->env.shard_count;
    stats.disk_bytes = disk_bytes_of(db->dir);
    for (uint32_t i = 0; i < db->env.shard_count; i++)
        status = status_first(status, add_shard(&db->shards[i], &stats));
    stats.index_ram_bytes = budget_used(&db->env.budget);
    stats.index_memory = db->env.budget.limit_bytes;
    stats.reads = epoch_entries(&db->env.epoch);
    memcpy(ret_stats, &stats, ret_stats->size);
    return status == CASK_ENOMEM ? CASK_OK : status; /* a full index still counts what it has */
}
