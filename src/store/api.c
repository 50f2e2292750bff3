/* The public calls: the only place that checks what users pass. Below, a wrong argument is a
 * bug. */
#include "store/batch.h"
#include "store/compact.h"
#include "store/iter.h"
#include "store/lookup.h"
#include "store/stats.h"
#include "store/verify.h"

/* A handle that may be used here: not NULL, and not inherited through fork(). */
static inline bool usable(const struct cask_db *db)
{
    return db && *db->fork_mark == 1;
}

static int check_write(const struct cask_db *db, struct cask_slice key, struct cask_slice value)
{
    int status;

    if (!usable(db))
        return CASK_EINVAL;
    if (db->env.read_only)
        return CASK_EREADONLY;
    status = lookup_check_key(key);
    if (status != CASK_OK)
        return status;
    if (!value.data && value.size > 0)
        return CASK_EINVAL;
    return value.size > CASK_VALUE_MAX ? CASK_ETOOBIG : CASK_OK;
}

static int check_read(const struct cask_db *db, struct cask_slice key)
{
    return usable(db) ? lookup_check_key(key) : CASK_EINVAL;
}

int cask_open(const char *path, const struct cask_options *options, struct cask_db **ret_db)
{
    struct reporter reporter = {NULL, NULL};
    struct cask_options filled;
    int status;

    if (!path || !*path || !ret_db)
        return CASK_EINVAL;
    if (options && options->size >= offsetof(struct cask_options, log_context) + sizeof(void *))
        reporter = (struct reporter){options->log, options->log_context};
    status = options_fill(options, &reporter, path, &filled);
    return status == CASK_OK ? store_open(path, &filled, ret_db) : status;
}

int cask_close(struct cask_db *db)
{
    if (!db)
        return CASK_OK;
    return usable(db) ? store_close(db) : CASK_EINVAL;
}

/* After the write itself: who does the background work, and is it to be durable? */
static inline int finish_write(struct cask_db *db, struct shard *shard, int status,
                               uint64_t position)
{
    if (shard_work_due(shard) != 0)
        store_wake_worker(db, shard);
    if (status == CASK_OK && db->sync_mode == CASK_SYNC_ALWAYS)
        return shard_make_durable(shard, position);
    return status;
}

static int put(struct cask_db *db, struct cask_slice key, struct cask_slice value,
               uint64_t expires_at_ms)
{
    struct shard_op op = {.hash = store_hash(db, key),
                          .key = key,
                          .value = value,
                          .expires_at_ms = expires_at_ms,
                          .type = RECORD_PUT};
    struct shard *shard = store_shard_of(db, op.hash);
    uint64_t position = 0;
    int status = shard_put(shard, &op, &position);

    return finish_write(db, shard, status, position);
}

int cask_put(struct cask_db *db, struct cask_slice key, struct cask_slice value)
{
    int status = check_write(db, key, value);

    return status == CASK_OK ? put(db, key, value, 0) : status;
}

int cask_put_expiring(struct cask_db *db, struct cask_slice key, struct cask_slice value,
                      uint64_t expires_at_ms)
{
    int status = check_write(db, key, value);

    if (status == CASK_OK && (expires_at_ms == 0 || expires_at_ms > RECORD_EXPIRY_MAX))
        status = CASK_EINVAL;
    return status == CASK_OK ? put(db, key, value, expires_at_ms) : status;
}

int cask_put_if(struct cask_db *db, struct cask_slice key, struct cask_slice value,
                uint64_t sequence, uint64_t *ret_sequence)
{
    int status = check_write(db, key, value);
    struct shard_op op = {.key = key, .value = value, .type = RECORD_PUT};
    struct shard *shard;
    uint64_t position = 0;
    uint64_t put_sequence = 0;

    if (status != CASK_OK)
        return status;
    op.hash = store_hash(db, key);
    shard = store_shard_of(db, op.hash);
    status = shard_put_if(shard, &op, sequence, &position, &put_sequence);
    status = finish_write(db, shard, status, position);
    if (status == CASK_OK && ret_sequence)
        *ret_sequence = put_sequence;
    return status;
}

int cask_delete(struct cask_db *db, struct cask_slice key)
{
    int status = check_write(db, key, (struct cask_slice){NULL, 0});
    struct shard_op op = {.key = key, .type = RECORD_DELETE};
    struct shard *shard;
    uint64_t position = 0;

    if (status != CASK_OK)
        return status;
    op.hash = store_hash(db, key);
    shard = store_shard_of(db, op.hash);
    status = shard_delete(shard, &op, &position);
    return finish_write(db, shard, status, position);
}

int cask_exists(struct cask_db *db, struct cask_slice key)
{
    int status = check_read(db, key);

    return status == CASK_OK ? lookup_exists(db, key) : status;
}

int cask_get(struct cask_db *db, struct cask_slice key, void *buffer, size_t capacity,
             size_t *ret_size)
{
    int status = check_read(db, key);

    if (status == CASK_OK && !buffer && capacity > 0)
        status = CASK_EINVAL;
    return status == CASK_OK ? lookup_get(db, key, buffer, capacity, ret_size) : status;
}

int cask_view(struct cask_db *db, struct cask_slice key, struct cask_view *ret_view)
{
    int status = check_read(db, key);

    if (status == CASK_OK && !ret_view)
        status = CASK_EINVAL;
    return status == CASK_OK ? lookup_view(db, key, ret_view) : status;
}

void cask_view_release(struct cask_view *view)
{
    if (view)
        lookup_view_release(view);
}

int cask_get_many(struct cask_db *db, size_t count, const struct cask_slice *keys, void *buffer,
                  size_t capacity, struct cask_slice *ret_values, int *statuses)
{
    if (!usable(db))
        return CASK_EINVAL;
    if (count == 0)
        return CASK_OK;
    if (!keys || !ret_values || !statuses || (!buffer && capacity > 0))
        return CASK_EINVAL;
    return lookup_many(db, count, keys, buffer, capacity, ret_values, statuses);
}

/* ---- batches --------------------------------------------------------------------------------- */

int cask_batch_create(struct cask_db *db, struct cask_batch **ret_batch)
{
    return usable(db) && ret_batch ? batch_create(db, ret_batch) : CASK_EINVAL;
}

static int batch_op(struct cask_batch *batch, struct cask_slice key, struct cask_slice value,
                    uint64_t expires_at_ms, enum record_type type)
{
    struct shard_op op = {.key = key, .value = value, .expires_at_ms = expires_at_ms, .type = type};
    int status;

    if (!batch)
        return CASK_EINVAL;
    status = check_write(batch->db, key, value);
    if (status != CASK_OK)
        return status;
    op.hash = store_hash(batch->db, key);
    return batch_add(batch, &op);
}

int cask_batch_put(struct cask_batch *batch, struct cask_slice key, struct cask_slice value)
{
    return batch_op(batch, key, value, 0, RECORD_PUT);
}

int cask_batch_put_expiring(struct cask_batch *batch, struct cask_slice key,
                            struct cask_slice value, uint64_t expires_at_ms)
{
    if (expires_at_ms == 0 || expires_at_ms > RECORD_EXPIRY_MAX)
        return CASK_EINVAL;
    return batch_op(batch, key, value, expires_at_ms, RECORD_PUT);
}

int cask_batch_delete(struct cask_batch *batch, struct cask_slice key)
{
    return batch_op(batch, key, (struct cask_slice){NULL, 0}, 0, RECORD_DELETE);
}

void cask_batch_clear(struct cask_batch *batch)
{
    if (batch)
        batch_clear(batch);
}

void cask_batch_destroy(struct cask_batch *batch)
{
    batch_destroy(batch);
}

int cask_write(struct cask_db *db, struct cask_batch *batch)
{
    if (!usable(db) || !batch || batch->db != db)
        return CASK_EINVAL;
    return db->env.read_only ? CASK_EREADONLY : batch_write(batch);
}

/* ---- the rest -------------------------------------------------------------------------------- */

int cask_iter_create(struct cask_db *db, struct cask_iter **ret_iter)
{
    return usable(db) && ret_iter ? iter_create(db, ret_iter) : CASK_EINVAL;
}

int cask_iter_next(struct cask_iter *iter, struct cask_entry *ret_entry)
{
    return iter && usable(iter->db) && ret_entry ? iter_next(iter, ret_entry) : CASK_EINVAL;
}

void cask_iter_destroy(struct cask_iter *iter)
{
    iter_destroy(iter);
}

int cask_sync(struct cask_db *db)
{
    if (!usable(db))
        return CASK_EINVAL;
    return db->env.read_only ? CASK_EREADONLY : store_sync(db);
}

int cask_stats(struct cask_db *db, struct cask_stats *stats)
{
    if (!usable(db) || !stats || stats->size < sizeof stats->size || stats->size > sizeof *stats)
        return CASK_EINVAL;
    return stats_collect(db, stats);
}

int cask_stats_shard(struct cask_db *db, uint32_t shard, struct cask_stats *stats)
{
    if (!usable(db) || !stats || stats->size < sizeof stats->size || stats->size > sizeof *stats ||
        shard >= db->env.shard_count)
        return CASK_EINVAL;
    return stats_collect_shard(db, shard, stats);
}

int cask_flush_index(struct cask_db *db)
{
    if (!usable(db))
        return CASK_EINVAL;
    return db->env.read_only ? CASK_EREADONLY : compact_index(db);
}

int cask_merge(struct cask_db *db, cask_progress_fn progress, void *context)
{
    if (!usable(db))
        return CASK_EINVAL;
    return db->env.read_only ? CASK_EREADONLY : compact_store(db, progress, context);
}

int cask_verify(struct cask_db *db, cask_progress_fn progress, void *context)
{
    return usable(db) ? verify_store(db, progress, context) : CASK_EINVAL;
}

const char *cask_version(void)
{
    return CASK_VERSION_STRING;
}
