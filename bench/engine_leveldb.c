/* LevelDB, through its C interface.
 *  - Block cache of index_memory bytes (1 GiB where none is given), bloom filters of 10 bits a key.
 *  - No compression: keys and values of the benchmark are random bytes.
 *  - Write buffer 64 MiB, tables of 32 MiB (4 and 2 are the defaults): fewer compactions, and files
 *    few enough that all of them stay open.
 *  - Its log is on (it has no way without), not synced: a put survives kill -9. sync_always syncs.
 *  - Gets verify no checksums (its default) and return the value in memory of their own.
 * Debian's library is built with assertions on; CMAKE_PREFIX_PATH may name a better one.
 */
#include "engine.h"

#include <leveldb/c.h>
#include <stdio.h>
#include <stdlib.h>

#define CACHE_BYTES ((size_t)1 << 30)
#define BLOOM_BITS 10
#define WRITE_BUFFER_BYTES ((size_t)64 << 20)
#define TABLE_BYTES ((size_t)32 << 20)

struct engine_store {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter;
    leveldb_readoptions_t *read_options;
    leveldb_writeoptions_t *write_options;
};

struct engine_session {
    struct engine_store *store;
    leveldb_writebatch_t *batch;
    char *value; /* of the last get */
};

/* Takes error over. */
static int failed(const char *call, char *error)
{
    fprintf(stderr, "caskade-bench: leveldb: %s: %s\n", call, error);
    leveldb_free(error);
    return ENGINE_FAILED;
}

static void release(struct engine_store *store)
{
    if (store->db != NULL) {
        leveldb_close(store->db);
    }
    leveldb_writeoptions_destroy(store->write_options);
    leveldb_readoptions_destroy(store->read_options);
    leveldb_options_destroy(store->options);
    leveldb_cache_destroy(store->cache);
    leveldb_filterpolicy_destroy(store->filter);
    free(store);
}

static int store_open(const struct engine_config *config, struct engine_store **ret_store)
{
    struct engine_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        fprintf(stderr, "caskade-bench: leveldb: out of memory\n");
        return ENGINE_FAILED;
    }
    store->cache = leveldb_cache_create_lru(config->index_memory != 0 ? config->index_memory
                                                                      : CACHE_BYTES);
    store->filter = leveldb_filterpolicy_create_bloom(BLOOM_BITS);
    store->read_options = leveldb_readoptions_create();
    store->write_options = leveldb_writeoptions_create();
    leveldb_writeoptions_set_sync(store->write_options, config->sync_always);
    store->options = leveldb_options_create();
    leveldb_options_set_create_if_missing(store->options, 1);
    leveldb_options_set_cache(store->options, store->cache);
    leveldb_options_set_filter_policy(store->options, store->filter);
    leveldb_options_set_compression(store->options, leveldb_no_compression);
    leveldb_options_set_write_buffer_size(store->options, WRITE_BUFFER_BYTES);
    leveldb_options_set_max_file_size(store->options, TABLE_BYTES);
    char *error = NULL;
    store->db = leveldb_open(store->options, config->dir, &error);
    if (error != NULL) {
        release(store);
        return failed("leveldb_open", error);
    }
    *ret_store = store;
    return ENGINE_OK;
}

static int store_close(struct engine_store *store)
{
    release(store);
    return ENGINE_OK;
}

static int session_open(struct engine_store *store, bool writes,
                        struct engine_session **ret_session)
{
    struct engine_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        fprintf(stderr, "caskade-bench: leveldb: out of memory\n");
        return ENGINE_FAILED;
    }
    session->store = store;
    if (writes) {
        session->batch = leveldb_writebatch_create();
    }
    *ret_session = session;
    return ENGINE_OK;
}

static int session_close(struct engine_session *session)
{
    if (session->batch != NULL) {
        leveldb_writebatch_destroy(session->batch);
    }
    leveldb_free(session->value);
    free(session);
    return ENGINE_OK;
}

static int session_put(struct engine_session *session, struct cask_slice key,
                       struct cask_slice value)
{
    char *error = NULL;
    leveldb_put(session->store->db, session->store->write_options, key.data, key.size, value.data,
                value.size, &error);
    return error == NULL ? ENGINE_OK : failed("leveldb_put", error);
}

static int session_get(struct engine_session *session, struct cask_slice key,
                       struct cask_slice *ret_value)
{
    char *error = NULL;
    size_t size = 0;
    leveldb_free(session->value);
    session->value = leveldb_get(session->store->db, session->store->read_options, key.data,
                                 key.size, &size, &error);
    if (error != NULL) {
        return failed("leveldb_get", error);
    }
    if (session->value == NULL) {
        return ENGINE_NOTFOUND;
    }
    *ret_value = (struct cask_slice){session->value, size};
    return ENGINE_OK;
}

static int session_write(struct engine_session *session, size_t count,
                         const struct cask_slice *keys, const struct cask_slice *values)
{
    leveldb_writebatch_clear(session->batch);
    for (size_t i = 0; i < count; i++) {
        leveldb_writebatch_put(session->batch, keys[i].data, keys[i].size, values[i].data,
                               values[i].size);
    }
    char *error = NULL;
    leveldb_write(session->store->db, session->store->write_options, session->batch, &error);
    return error == NULL ? ENGINE_OK : failed("leveldb_write", error);
}

const struct engine engine_leveldb = {
    .name = "leveldb",
    .settings = "cache of --index-memory (1 GiB), bloom 10 bits, no compression, buffer 64 MiB",
    .max_key_bytes = 1 << 20,
    .open = store_open,
    .close = store_close,
    .session_open = session_open,
    .session_close = session_close,
    .put = session_put,
    .get = session_get,
    .write = session_write,
};
