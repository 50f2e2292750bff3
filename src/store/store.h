/* The open store: its lock, its shards, and the threads behind them.
 *
 * Invariants:
 *  1. The LOCK file is held from before any file but the superblock is read until the last byte is
 *     written, but for read-only handles, which take no lock and write nothing.
 *  2. Workers are started by writers, when there is work for them.
 *  3. A failed open leaves nothing behind that was not there before.
 */
#ifndef CASKADE_STORE_H
#define CASKADE_STORE_H

#include "merge/worker.h"
#include "store/superblock.h"

/* What an open has made, to be undone if it fails. */
struct directory_made {
    bool directory;
    bool lock;
    bool superblock;
};

struct cask_db {
    struct shard_env env;
    struct log_config config;
    struct shard *shards;
    struct worker *workers;
    struct merge_control merging;
    pthread_mutex_t workers_lock;
    struct io_dir *dir;
    struct io_file *lock;
    struct directory_made made;
    char *path;
    char *real_path;
    const volatile uint8_t *fork_mark; /* reads 0 in a forked child */

    _Atomic bool reads_disk; /* as look-ups of many keys have lately found: see lookup.c */
    enum cask_sync_mode sync_mode;
    uint32_t sync_interval_ms;
    pthread_t sync_thread;
    bool sync_thread_started;
    bool sync_stopping;
    pthread_mutex_t sync_lock;
    pthread_cond_t sync_wanted;
};

/* The options with their defaults filled in, and checked (options.c). */
CHECKED int options_fill(const struct cask_options *options, const struct reporter *reporter,
                         const char *path, struct cask_options *ret_filled);

uint32_t options_shards(const struct cask_options *filled);

CHECKED int store_open(const char *path, const struct cask_options *filled,
                       struct cask_db **ret_db);
CHECKED int store_close(struct cask_db *db);

/* Sees to it that somebody does the shard's work. */
void store_wake_worker(struct cask_db *db, struct shard *shard);

/* Makes every shard durable as it is now. */
CHECKED int store_sync(struct cask_db *db);

#define DIRECTORY_PROBE_TMP "probe.tmp"

/* The directory part of open (directory.c): opens path, creating the store if that is asked for,
 * and takes the lock. If it fails, or the open does later on, directory_undo() takes back what it
 * made and closes; after directory_close() or that, nothing is left open. */
CHECKED int directory_open(struct cask_db *db, const struct cask_options *options,
                           struct superblock *ret_superblock);
void directory_undo(struct cask_db *db);
void directory_close(struct cask_db *db);

static inline struct shard *store_shard_of(struct cask_db *db, uint64_t hash)
{
    return &db->shards[hash_shard(hash, db->env.shard_bits)];
}

static inline uint64_t store_hash(const struct cask_db *db, struct cask_slice key)
{
    return hash_key(key.data, key.size, db->env.hash_seed);
}

#endif
