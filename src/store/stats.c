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

static void add_counts(struct shard *shard, struct cask_stats *stats)
{
    const struct shard_counts *counts = &shard->counts;
    const struct merge_counts *merges = &shard->merge_counts;

    stats->live_keys += keydir_count(&shard->index.keydir);
    stats->index_ram_keys += keydir_count(&shard->index.keydir);
    stats->live_bytes += counts->live_bytes;
    stats->dead_bytes += counts->dead_bytes;
    stats->segments += shard->segments.count;
    stats->writes += counts->writes;
    stats->written_bytes += counts->written_bytes;
    stats->syncs += counts->syncs;
    stats->recovered_records += counts->recovered_records;
    stats->cut_bytes += counts->cut_bytes;
    stats->hints_rebuilt += counts->hints_rebuilt;
    stats->merge_read_bytes += merges->read_bytes;
    stats->merge_written_bytes += merges->written_bytes;
    stats->merge_freed_bytes += merges->freed_bytes;
    stats->merges += merges->done;
    stats->merges_failed += merges->failed;
    if (merges->last_error != CASK_OK)
        stats->merge_last_error = merges->last_error;
}

static int add_shard(struct cask_db *db, struct shard *shard, struct cask_stats *stats)
{
    struct io_dir *dir;
    int status;

    pthread_mutex_lock(&shard->manifest_lock);
    dir = shard->dir; /* once there it stays until the store is closed */
    pthread_mutex_unlock(&shard->manifest_lock);
    pthread_mutex_lock(&shard->lock);
    status = shard_drain(shard);
    add_counts(shard, stats);
    pthread_mutex_unlock(&shard->lock);
    stats->disk_bytes += disk_bytes_of(dir);
    stats->merge_debt_bytes += merge_debt(&db->merging, shard);
    return status;
}

/* A full index still counts what it has. */
static int hand_out(const struct cask_stats *stats, struct cask_stats *ret_stats, int status)
{
    size_t size = ret_stats->size;

    memcpy(ret_stats, stats, size);
    ret_stats->size = size;
    return status == CASK_ENOMEM ? CASK_OK : status;
}

int stats_collect(struct cask_db *db, struct cask_stats *ret_stats)
{
    struct cask_stats stats = {0};
    int status = CASK_OK;

    stats.shards = db->env.shard_count;
    stats.disk_bytes = disk_bytes_of(db->dir);
    for (uint32_t i = 0; i < db->env.shard_count; i++)
        status = status_first(status, add_shard(db, &db->shards[i], &stats));
    stats.index_ram_bytes = budget_used(&db->env.budget);
    stats.index_memory = db->env.budget.limit_bytes;
    stats.reads = epoch_entries(&db->env.epoch);
    return hand_out(&stats, ret_stats, status);
}

int stats_collect_shard(struct cask_db *db, uint32_t shard, struct cask_stats *ret_stats)
{
    struct cask_stats stats = {.shards = 1, .index_memory = db->env.budget.limit_bytes};
    int status = add_shard(db, &db->shards[shard], &stats);

    stats.index_ram_bytes = db->shards[shard].index.keydir.committed_bytes;
    return hand_out(&stats, ret_stats, status);
}
