/* LMDB, set up for speed: one database in one file.
 *  - Puts: 10,000 to a transaction, MDB_NOSYNC and MDB_WRITEMAP. One transaction writes at a time,
 *    so with two threads one waits while the other fills its transaction.
 *  - Gets: a read transaction per session, renewed every 10,000 gets; the value is read where it
 *    lies in the map, without a copy. Renewed for every get it was about 20 ns slower of 850.
 *  - The map is preset to four times the data. Readahead stays on while the store fits in memory.
 *  - sorted_puts: so many puts are collected, sorted by key and put in one transaction.
 *  - sync_always: one put per transaction, without MDB_NOSYNC and MDB_WRITEMAP.
 */
#include "engine.h"

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

#define OPS_PER_TXN 10000

struct engine_store {
    MDB_env *env;
    MDB_dbi dbi;
    unsigned puts_per_txn;
    unsigned sorted_puts; /* 0: puts are not collected */
    size_t key_bytes;     /* of what is collected, where all have one size */
    size_t value_bytes;
};

struct engine_session {
    struct engine_store *store;
    MDB_txn *txn; /* a writer begins it with its first put */
    bool writes;
    unsigned ops;     /* in txn */
    uint8_t *pending; /* NULL: puts are not collected. Key and value of each, one after another */
    unsigned pending_count;
};

static int failed(const char *call, int rc)
{
    fprintf(stderr, "caskade-bench: lmdb: %s: %s\n", call, mdb_strerror(rc));
    return ENGINE_FAILED;
}

static int open_database(struct engine_store *store)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc != 0) {
        return rc;
    }
    rc = mdb_dbi_open(txn, NULL, MDB_CREATE, &store->dbi);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static int store_open(const struct engine_config *config, struct engine_store **ret_store)
{
    uint64_t data_bytes = config->num * (config->key_bytes + config->value_bytes + 32);
    uint64_t map_bytes = ((data_bytes * 4 + (UINT64_C(1) << 30)) >> 20) << 20;
    unsigned flags = MDB_NOMEMINIT;
    if (!config->sync_always) {
        flags |= MDB_NOSYNC | MDB_WRITEMAP;
    }
    uint64_t memory = config->memory_bytes != 0 ? config->memory_bytes : machine_memory_bytes();
    if (data_bytes * 2 > memory) {
        flags |= MDB_NORDAHEAD;
    }
    struct engine_store *store = calloc(1, sizeof *store);
    int rc = store == NULL ? MDB_PANIC : mdb_env_create(&store->env);
    if (rc != 0) {
        free(store);
        return failed("mdb_env_create", rc);
    }
    store->puts_per_txn = config->sync_always ? 1 : OPS_PER_TXN;
    store->sorted_puts = config->sync_always ? 0 : config->sorted_puts;
    store->key_bytes = config->key_bytes;
    store->value_bytes = config->value_bytes;
    rc = mdb_env_set_mapsize(store->env, map_bytes);
    if (rc == 0) {
        rc = mdb_env_open(store->env, config->dir, flags, 0600);
    }
    if (rc == 0) {
        rc = open_database(store);
    }
    if (rc != 0) {
        mdb_env_close(store->env);
        free(store);
        return failed("mdb_env_open", rc);
    }
    *ret_store = store;
    return ENGINE_OK;
}

static int store_close(struct engine_store *store)
{
    mdb_env_close(store->env);
    free(store);
    return ENGINE_OK;
}

static int session_open(struct engine_store *store, bool writes,
                        struct engine_session **ret_session)
{
    struct engine_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return failed("session", MDB_PANIC);
    }
    session->store = store;
    session->writes = writes;
    if (writes && store->sorted_puts != 0) {
        session->pending = malloc(store->sorted_puts * (store->key_bytes + store->value_bytes));
        if (session->pending == NULL) {
            free(session);
            return failed("session", MDB_PANIC);
        }
    }
    if (!writes) {
        int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &session->txn);
        if (rc != 0) {
            free(session);
            return failed("mdb_txn_begin", rc);
        }
    }
    *ret_session = session;
    return ENGINE_OK;
}

static int commit(struct engine_session *session)
{
    int rc = mdb_txn_commit(session->txn);
    session->txn = NULL;
    session->ops = 0;
    return rc == 0 ? ENGINE_OK : failed("mdb_txn_commit", rc);
}

static int put_in_txn(struct engine_session *session, struct cask_slice key,
                      struct cask_slice value)
{
    if (session->txn == NULL) {
        int rc = mdb_txn_begin(session->store->env, NULL, 0, &session->txn);
        if (rc != 0) {
            return failed("mdb_txn_begin", rc);
        }
    }
    MDB_val mdb_key = {key.size, (void *)(uintptr_t)key.data};
    MDB_val mdb_value = {value.size, (void *)(uintptr_t)value.data};
    int rc = mdb_put(session->txn, session->store->dbi, &mdb_key, &mdb_value, 0);
    session->ops++;
    return rc == 0 ? ENGINE_OK : failed("mdb_put", rc);
}

static int compare_keys(const void *a, const void *b, void *key_bytes)
{
    return memcmp(a, b, *(const size_t *)key_bytes);
}

/* Puts what was collected in the order of its keys, in one transaction. */
static int put_pending(struct engine_session *session)
{
    struct engine_store *store = session->store;
    size_t stride = store->key_bytes + store->value_bytes;
    qsort_r(session->pending, session->pending_count, stride, compare_keys, &store->key_bytes);
    for (unsigned i = 0; i < session->pending_count; i++) {
        const uint8_t *at = session->pending + i * stride;
        const struct cask_slice key = {at, store->key_bytes};
        const struct cask_slice value = {at + store->key_bytes, store->value_bytes};
        if (put_in_txn(session, key, value) != ENGINE_OK) {
            return ENGINE_FAILED;
        }
    }
    session->pending_count = 0;
    return session->txn != NULL ? commit(session) : ENGINE_OK;
}

static int collect(struct engine_session *session, struct cask_slice key, struct cask_slice value)
{
    struct engine_store *store = session->store;
    uint8_t *at = session->pending +
                  session->pending_count * (store->key_bytes + store->value_bytes);
    memcpy(at, key.data, store->key_bytes);
    memcpy(at + store->key_bytes, value.data, store->value_bytes);
    session->pending_count++;
    return session->pending_count == store->sorted_puts ? put_pending(session) : ENGINE_OK;
}

static int session_close(struct engine_session *session)
{
    int status = ENGINE_OK;
    if (!session->writes) {
        mdb_txn_abort(session->txn);
    } else if (session->pending != NULL) {
        status = put_pending(session);
    } else if (session->txn != NULL) {
        status = commit(session);
    }
    free(session->pending);
    free(session);
    return status;
}

static int session_put(struct engine_session *session, struct cask_slice key,
                       struct cask_slice value)
{
    if (session->pending != NULL) {
        return collect(session, key, value);
    }
    int status = put_in_txn(session, key, value);
    if (status == ENGINE_OK && session->ops >= session->store->puts_per_txn) {
        status = commit(session);
    }
    return status;
}

static int renew(struct engine_session *session)
{
    mdb_txn_reset(session->txn);
    session->ops = 0;
    int rc = mdb_txn_renew(session->txn);
    return rc == 0 ? ENGINE_OK : failed("mdb_txn_renew", rc);
}

static int session_get(struct engine_session *session, struct cask_slice key,
                       struct cask_slice *ret_value)
{
    if (session->ops >= OPS_PER_TXN && renew(session) != ENGINE_OK) {
        return ENGINE_FAILED;
    }
    session->ops++;
    MDB_val mdb_key = {key.size, (void *)(uintptr_t)key.data};
    MDB_val mdb_value;
    int rc = mdb_get(session->txn, session->store->dbi, &mdb_key, &mdb_value);
    if (rc == MDB_NOTFOUND) {
        return ENGINE_NOTFOUND;
    }
    if (rc != 0) {
        return failed("mdb_get", rc);
    }
    *ret_value = (struct cask_slice){mdb_value.mv_data, mdb_value.mv_size};
    return ENGINE_OK;
}

/* One transaction per batch: that is what makes it a unit. */
static int session_write(struct engine_session *session, size_t count,
                         const struct cask_slice *keys, const struct cask_slice *values)
{
    for (size_t i = 0; i < count; i++) {
        if (put_in_txn(session, keys[i], values[i]) != ENGINE_OK) {
            return ENGINE_FAILED;
        }
    }
    return commit(session);
}

const struct engine engine_lmdb = {
    .name = "lmdb",
    .settings = "10,000 puts or gets per txn, MDB_NOSYNC|MDB_WRITEMAP, map size preset",
    .max_key_bytes = 511,
    .open = store_open,
    .close = store_close,
    .session_open = session_open,
    .session_close = session_close,
    .put = session_put,
    .get = session_get,
    .write = session_write,
};
