/* Caskade itself, through its public interface and with its defaults: 16 shards, mapped writes and
 * reads, the checksum verified on every read. cask_get copies into the session's buffer. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>

struct engine_store {
    struct cask_db *db;
    size_t value_bytes;
};

struct engine_session {
    struct cask_db *db;
    struct cask_batch *batch; /* made by the first write */
    uint8_t *buffer;          /* grown by get_many to what a group takes */
    size_t capacity;
    size_t value_bytes;
};

static int failed(const char *call, int status)
{
    fprintf(stderr, "caskade-bench: caskade: %s: %s\n", call, cask_strerror(status));
    return ENGINE_FAILED;
}

static void print_log(void *context, enum cask_log_level level, const char *message)
{
    (void)context;
    if (level <= CASK_LOG_WARNING) {
        fprintf(stderr, "caskade-bench: caskade: %s\n", message);
    }
}

static int store_open(const struct engine_config *config, struct engine_store **ret_store)
{
    struct cask_options options = {
        .size = sizeof options,
        .shard_count = config->shards,
        .index_memory = config->index_memory,
        .segment_bytes = config->segment_bytes,
        .merge = config->merge_off ? CASK_SWITCH_OFF : CASK_SWITCH_DEFAULT,
        .merge_trigger_percent = config->merge_trigger_percent,
        .merge_segment_percent = config->merge_segment_percent,
        .sync_mode = config->sync_always ? CASK_SYNC_ALWAYS : CASK_SYNC_NONE,
        .log = print_log,
    };
    struct engine_store *store = malloc(sizeof *store);
    if (store == NULL) {
        return failed("open", CASK_ENOMEM);
    }
    store->value_bytes = config->value_bytes;
    int status = cask_open(config->dir, &options, &store->db);
    if (status != CASK_OK) {
        free(store);
        return failed("cask_open", status);
    }
    *ret_store = store;
    return ENGINE_OK;
}

static int store_close(struct engine_store *store)
{
    int status = cask_close(store->db);
    free(store);
    return status == CASK_OK ? ENGINE_OK : failed("cask_close", status);
}

static void store_figures(struct engine_store *store, struct engine_figures *ret_figures)
{
    struct cask_stats stats = {.size = sizeof stats};
    int status = cask_stats(store->db, &stats);
    if (status != CASK_OK) {
        failed("cask_stats", status);
        return;
    }
    ret_figures->index_ram_bytes = stats.index_ram_bytes;
    ret_figures->recovered_records = stats.recovered_records;
    ret_figures->live_bytes = stats.live_bytes;
    ret_figures->dead_bytes = stats.dead_bytes;
    ret_figures->writes = stats.writes;
    ret_figures->written_bytes = stats.written_bytes;
    ret_figures->merge_read_bytes = stats.merge_read_bytes;
    ret_figures->merge_written_bytes = stats.merge_written_bytes;
    ret_figures->merges = stats.merges;
    ret_figures->merges_failed = stats.merges_failed;
    ret_figures->index_disk_bytes = stats.index_disk_bytes;
    ret_figures->index_spilled_keys = stats.index_spilled_keys;
    ret_figures->index_runs = stats.index_runs;
    ret_figures->index_flushes = stats.index_flushes;
    ret_figures->index_run_merges = stats.index_run_merges;
    ret_figures->index_written_bytes = stats.index_written_bytes;
    ret_figures->index_stalls = stats.index_stalls;
    ret_figures->index_failures = stats.index_failures;
    ret_figures->index_block_reads = stats.index_block_reads;
    ret_figures->index_fruitless_reads = stats.index_fruitless_reads;
}

static int session_open(struct engine_store *store, bool writes,
                        struct engine_session **ret_session)
{
    (void)writes;
    struct engine_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return failed("session", CASK_ENOMEM);
    }
    session->db = store->db;
    session->value_bytes = store->value_bytes;
    session->capacity = store->value_bytes + 1; /* a value that is too long shows as such */
    session->buffer = malloc(session->capacity);
    if (session->buffer == NULL) {
        free(session);
        return failed("session", CASK_ENOMEM);
    }
    *ret_session = session;
    return ENGINE_OK;
}

static int session_close(struct engine_session *session)
{
    cask_batch_destroy(session->batch);
    free(session->buffer);
    free(session);
    return ENGINE_OK;
}

static int session_put(struct engine_session *session, struct cask_slice key,
                       struct cask_slice value)
{
    int status = cask_put(session->db, key, value);
    return status == CASK_OK ? ENGINE_OK : failed("cask_put", status);
}

static int session_get(struct engine_session *session, struct cask_slice key,
                       struct cask_slice *ret_value)
{
    size_t size = 0;
    int status = cask_get(session->db, key, session->buffer, session->capacity, &size);
    if (status == CASK_NOTFOUND) {
        return ENGINE_NOTFOUND;
    }
    if (status != CASK_OK) {
        return failed("cask_get", status);
    }
    *ret_value = (struct cask_slice){session->buffer, size};
    return ENGINE_OK;
}

static int session_get_many(struct engine_session *session, size_t count,
                            const struct cask_slice *keys, struct cask_slice *ret_values,
                            int *statuses)
{
    size_t wanted = count * (session->value_bytes + 1);
    if (wanted > session->capacity) {
        uint8_t *buffer = realloc(session->buffer, wanted);
        if (buffer == NULL) {
            return failed("cask_get_many", CASK_ENOMEM);
        }
        session->buffer = buffer;
        session->capacity = wanted;
    }
    int status = cask_get_many(session->db, count, keys, session->buffer, session->capacity,
                               ret_values, statuses);
    if (status != CASK_OK) {
        return failed("cask_get_many", status);
    }
    return ENGINE_OK; /* each status is CASK_OK or CASK_NOTFOUND: the same numbers as ours */
}

static int session_write(struct engine_session *session, size_t count,
                         const struct cask_slice *keys, const struct cask_slice *values)
{
    int status = CASK_OK;
    if (session->batch == NULL) {
        status = cask_batch_create(session->db, &session->batch);
    } else {
        cask_batch_clear(session->batch);
    }
    for (size_t i = 0; i < count && status == CASK_OK; i++) {
        status = cask_batch_put(session->batch, keys[i], values[i]);
    }
    if (status == CASK_OK) {
        status = cask_write(session->db, session->batch);
    }
    return status == CASK_OK ? ENGINE_OK : failed("cask_write", status);
}

static int store_merge(struct engine_store *store)
{
    int status = cask_merge(store->db, NULL, NULL);
    return status == CASK_OK ? ENGINE_OK : failed("cask_merge", status);
}

_Static_assert(ENGINE_OK == (int)CASK_OK && ENGINE_NOTFOUND == (int)CASK_NOTFOUND,
               "session_get_many hands statuses through");

const struct engine engine_caskade = {
    .name = "caskade",
    .settings = "defaults: 16 shards, mapped writes and reads, checksums verified",
    .max_key_bytes = CASK_KEY_MAX,
    .spills = true,
    .open = store_open,
    .close = store_close,
    .figures = store_figures,
    .session_open = session_open,
    .session_close = session_close,
    .put = session_put,
    .get = session_get,
    .get_many = session_get_many,
    .write = session_write,
    .merge = store_merge,
};
