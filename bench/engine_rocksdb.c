/* RocksDB, through its C interface.
 *  - Block cache of index_memory bytes (1 GiB where none is given), full bloom filters of 10 bits a
 *    key, hash index in the data blocks. Filters and index blocks of the tables stay in memory
 *    beside the cache (its default): every table is open.
 *  - No compression: keys and values of the benchmark are random bytes.
 *  - No write-ahead log but for sync_always: its puts are faster without. What is in its memtables
 *    would not survive kill -9, so closing a session that wrote flushes them.
 *  - As many background jobs as there are processors; the rest is its defaults.
 *  - Gets borrow the value from the cache, without a copy; get_many is its batched MultiGet.
 * Debian's library is built with assertions on; CMAKE_PREFIX_PATH may name a better one.
 */
#include "engine.h"

#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CACHE_BYTES ((size_t)1 << 30)
#define BLOOM_BITS 10

struct engine_store {
    rocksdb_t *db;
    rocksdb_column_family_handle_t *family;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read_options;
    rocksdb_writeoptions_t *write_options;
    bool has_log;
};

struct engine_session {
    struct engine_store *store;
    rocksdb_writebatch_t *batch;
    size_t room; /* of the arrays */
    size_t held; /* values of the last call */
    rocksdb_pinnableslice_t **values;
    const char **keys;
    size_t *key_sizes;
    char **errors;
};

/* Takes error over. */
static int failed(const char *call, char *error)
{
    fprintf(stderr, "caskade-bench: rocksdb: %s: %s\n", call, error);
    rocksdb_free(error);
    return ENGINE_FAILED;
}

static int out_of_memory(void)
{
    fprintf(stderr, "caskade-bench: rocksdb: out of memory\n");
    return ENGINE_FAILED;
}

/* The options take the filter over, and share the cache. */
static rocksdb_options_t *make_options(rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    rocksdb_block_based_options_set_data_block_index_type(
        table, rocksdb_block_based_table_data_block_index_type_binary_search_and_hash);
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    rocksdb_options_increase_parallelism(options, processors > 2 ? (int)processors : 2);
    rocksdb_block_based_options_destroy(table);
    return options;
}

static void release(struct engine_store *store)
{
    if (store->db != NULL) {
        rocksdb_column_family_handle_destroy(store->family);
        rocksdb_close(store->db);
    }
    rocksdb_writeoptions_destroy(store->write_options);
    rocksdb_readoptions_destroy(store->read_options);
    rocksdb_options_destroy(store->options);
    rocksdb_cache_destroy(store->cache);
    free(store);
}

static int store_open(const struct engine_config *config, struct engine_store **ret_store)
{
    struct engine_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return out_of_memory();
    }
    store->cache = rocksdb_cache_create_lru(config->index_memory != 0 ? config->index_memory
                                                                      : CACHE_BYTES);
    store->options = make_options(store->cache);
    store->read_options = rocksdb_readoptions_create();
    store->write_options = rocksdb_writeoptions_create();
    store->has_log = config->sync_always;
    rocksdb_writeoptions_set_sync(store->write_options, config->sync_always);
    rocksdb_writeoptions_disable_WAL(store->write_options, !store->has_log);
    /* The only family there is; opened so for the handle that get_many wants. */
    const char *const names[] = {"default"};
    const rocksdb_options_t *const options[] = {store->options};
    char *error = NULL;
    store->db = rocksdb_open_column_families(store->options, config->dir, 1, names, options,
                                             &store->family, &error);
    if (error != NULL) {
        release(store);
        return failed("rocksdb_open", error);
    }
    *ret_store = store;
    return ENGINE_OK;
}

static int store_close(struct engine_store *store)
{
    release(store);
    return ENGINE_OK;
}

static int make_room(struct engine_session *session, size_t count)
{
    if (count <= session->room) {
        return ENGINE_OK;
    }
    free(session->values);
    free(session->keys);
    free(session->key_sizes);
    free(session->errors);
    session->values = calloc(count, sizeof *session->values);
    session->keys = calloc(count, sizeof *session->keys);
    session->key_sizes = calloc(count, sizeof *session->key_sizes);
    session->errors = calloc(count, sizeof *session->errors);
    session->room = count;
    return session->values != NULL && session->keys != NULL && session->key_sizes != NULL &&
                   session->errors != NULL
               ? ENGINE_OK
               : out_of_memory();
}

static void let_go(struct engine_session *session)
{
    for (size_t i = 0; i < session->held; i++) {
        rocksdb_pinnableslice_destroy(session->values[i]);
    }
    session->held = 0;
}

static void session_release(struct engine_session *session)
{
    let_go(session);
    if (session->batch != NULL) {
        rocksdb_writebatch_destroy(session->batch);
    }
    free(session->values);
    free(session->keys);
    free(session->key_sizes);
    free(session->errors);
    free(session);
}

static int session_open(struct engine_store *store, bool writes,
                        struct engine_session **ret_session)
{
    struct engine_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return out_of_memory();
    }
    session->store = store;
    if (make_room(session, 1) != ENGINE_OK) {
        session_release(session);
        return ENGINE_FAILED;
    }
    if (writes) {
        session->batch = rocksdb_writebatch_create();
    }
    *ret_session = session;
    return ENGINE_OK;
}

static int flush(struct engine_store *store)
{
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(options, 1);
    char *error = NULL;
    rocksdb_flush(store->db, options, &error);
    rocksdb_flushoptions_destroy(options);
    return error == NULL ? ENGINE_OK : failed("rocksdb_flush", error);
}

static int session_close(struct engine_session *session)
{
    struct engine_store *store = session->store;
    bool wrote = session->batch != NULL;
    session_release(session);
    return wrote && !store->has_log ? flush(store) : ENGINE_OK;
}

static int session_put(struct engine_session *session, struct cask_slice key,
                       struct cask_slice value)
{
    char *error = NULL;
    rocksdb_put(session->store->db, session->store->write_options, key.data, key.size, value.data,
                value.size, &error);
    return error == NULL ? ENGINE_OK : failed("rocksdb_put", error);
}

static int session_get(struct engine_session *session, struct cask_slice key,
                       struct cask_slice *ret_value)
{
    char *error = NULL;
    let_go(session);
    rocksdb_pinnableslice_t *value = rocksdb_get_pinned(
        session->store->db, session->store->read_options, key.data, key.size, &error);
    if (error != NULL) {
        return failed("rocksdb_get_pinned", error);
    }
    if (value == NULL) {
        return ENGINE_NOTFOUND;
    }
    session->values[0] = value;
    session->held = 1;
    ret_value->data = rocksdb_pinnableslice_value(value, &ret_value->size);
    return ENGINE_OK;
}

/* Of the values read at once: which are there, where they lie, and whether all could be read. */
static int tell_values(const struct engine_session *session, size_t count,
                       struct cask_slice *ret_values, int *statuses)
{
    int status = ENGINE_OK;
    for (size_t i = 0; i < count; i++) {
        if (session->errors[i] != NULL) {
            status = failed("rocksdb_batched_multi_get_cf", session->errors[i]);
        } else if (session->values[i] == NULL) {
            statuses[i] = ENGINE_NOTFOUND;
        } else {
            statuses[i] = ENGINE_OK;
            ret_values[i].data = rocksdb_pinnableslice_value(session->values[i],
                                                             &ret_values[i].size);
        }
    }
    return status;
}

static int session_get_many(struct engine_session *session, size_t count,
                            const struct cask_slice *keys, struct cask_slice *ret_values,
                            int *statuses)
{
    let_go(session);
    if (make_room(session, count) != ENGINE_OK) {
        return ENGINE_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        session->keys[i] = keys[i].data;
        session->key_sizes[i] = keys[i].size;
        session->values[i] = NULL;
        session->errors[i] = NULL;
    }
    rocksdb_batched_multi_get_cf(session->store->db, session->store->read_options,
                                 session->store->family, count, session->keys, session->key_sizes,
                                 session->values, session->errors, false);
    session->held = count;
    return tell_values(session, count, ret_values, statuses);
}

static int session_write(struct engine_session *session, size_t count,
                         const struct cask_slice *keys, const struct cask_slice *values)
{
    rocksdb_writebatch_clear(session->batch);
    for (size_t i = 0; i < count; i++) {
        rocksdb_writebatch_put(session->batch, keys[i].data, keys[i].size, values[i].data,
                               values[i].size);
    }
    char *error = NULL;
    rocksdb_write(session->store->db, session->store->write_options, session->batch, &error);
    return error == NULL ? ENGINE_OK : failed("rocksdb_write", error);
}

const struct engine engine_rocksdb = {
    .name = "rocksdb",
    .settings = "no WAL, cache of --index-memory (1 GiB), bloom 10 bits, no compression",
    .max_key_bytes = 1 << 20,
    .open = store_open,
    .close = store_close,
    .session_open = session_open,
    .session_close = session_close,
    .put = session_put,
    .get = session_get,
    .get_many = session_get_many,
    .write = session_write,
};
