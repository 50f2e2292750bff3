#include "store/stats.h"

#include "shard/spill.h"

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

static void add_run(const struct run *run, struct cask_stats *stats)
{
    uint64_t filter = filter_bytes(&run->filter);

    stats->index_runs++;
    stats->index_spilled_keys += run->count;
    stats->index_disk_bytes += run->bytes;
    stats->index_filter_bytes += filter;
    if (filter == 0)
        stats->index_filters_absent += run->count > 0;
    else if (filter < filter_bytes_for(run->count, SPILL_FILTER_BITS))
        stats->index_filters_reduced++;
}

/* Keys of which several tiers have an entry count several times, until runs are merged. */
static void add_index(const struct index *index, struct cask_stats *stats)
{
    struct run_counts counts = index_counts(index);
    struct index_lower lower = index_lower(index);
    uint64_t entries = index_entries(index);
    uint64_t tombstones = index->tombstones + index->lower_tombstones;

    stats->live_keys += entries - min_u64(tombstones, entries);
    stats->index_ram_keys += keydir_count(index_keydir(index));
    if (lower.flushing)
        stats->index_ram_keys += keydir_count(lower.flushing);
    for (uint32_t i = 0; lower.runs && i < lower.runs->count; i++)
        add_run(lower.runs->runs[i], stats);
    stats->index_filter_asks += counts.filter_asks;
    stats->index_filter_refusals += counts.filter_asks -
                                    min_u64(counts.filter_passes, counts.filter_asks);
    stats->index_block_reads += counts.block_reads;
    stats->index_fruitless_reads += counts.fruitless_finds;
}

static void add_counts(struct shard *shard, struct cask_stats *stats)
{
    const struct shard_counts *counts = &shard->counts;
    const struct merge_counts *merges = &shard->merge_counts;

    add_index(&shard->index, stats);
    stats->index_flushes += shard->spill_counts.flushes;
    stats->index_run_merges += shard->spill_counts.run_merges;
    stats->index_written_bytes += shard->spill_counts.written_bytes;
    stats->index_stalls += shard->spill_counts.stalls;
    stats->index_failures += shard->spill_counts.failed;
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
    stats->merge_stalls += merges->stalls;
    if (merges->last_error != CASK_OK)
        stats->merge_last_error = merges->last_error;
}

static int add_shard(struct cask_db *db, struct shard *shard, struct cask_stats *stats)
{
    struct epoch_guard guard;
    struct io_dir *dir;
    struct io_dir *index_dir;
    int status;

    pthread_mutex_lock(&shard->manifest_lock);
    dir = shard->dir; /* once there they stay until the store is closed */
    index_dir = shard->index_dir;
    pthread_mutex_unlock(&shard->manifest_lock);
    guard = epoch_enter(&db->env.epoch); /* the list of runs may be replaced */
    pthread_mutex_lock(&shard->lock);
    status = shard_drain(shard);
    add_counts(shard, stats);
    pthread_mutex_unlock(&shard->lock);
    epoch_leave(guard);
    stats->reads--; /* this was none */
    stats->disk_bytes += disk_bytes_of(dir) + disk_bytes_of(index_dir);
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
    stats.reads += epoch_entries(&db->env.epoch);
    return hand_out(&stats, ret_stats, status);
}

int stats_collect_shard(struct cask_db *db, uint32_t shard, struct cask_stats *ret_stats)
{
    struct cask_stats stats = {.shards = 1, .index_memory = db->env.budget.limit_bytes};
    int status = add_shard(db, &db->shards[shard], &stats);

    stats.index_ram_bytes = index_keydir(&db->shards[shard].index)->committed_bytes;
    return hand_out(&stats, ret_stats, status);
}
