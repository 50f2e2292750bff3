/* No store at all: puts are dropped, no key is found. Its times, of fillrandom and readmissing, are
 * what the benchmark itself takes per operation; workloads that read what is there fail. */
#include "engine.h"

struct engine_store {
    char unused;
};

struct engine_session {
    char unused;
};

static struct engine_store the_store;
static struct engine_session the_session;

static int store_open(const struct engine_config *config, struct engine_store **ret_store)
{
    (void)config;
    *ret_store = &the_store;
    return ENGINE_OK;
}

static int store_close(struct engine_store *store)
{
    (void)store;
    return ENGINE_OK;
}

static int session_open(struct engine_store *store, bool writes,
                        struct engine_session **ret_session)
{
    (void)store;
    (void)writes;
    *ret_session = &the_session;
    return ENGINE_OK;
}

static int session_close(struct engine_session *session)
{
    (void)session;
    return ENGINE_OK;
}

static int session_put(struct engine_session *session, struct cask_slice key,
                       struct cask_slice value)
{
    (void)session;
    (void)key;
    (void)value;
    return ENGINE_OK;
}

static int session_get(struct engine_session *session, struct cask_slice key,
                       struct cask_slice *ret_value)
{
    (void)session;
    (void)key;
    (void)ret_value;
    return ENGINE_NOTFOUND;
}

static int session_write(struct engine_session *session, size_t count,
                         const struct cask_slice *keys, const struct cask_slice *values)
{
    (void)session;
    (void)count;
    (void)keys;
    (void)values;
    return ENGINE_OK;
}

const struct engine engine_none = {
    .name = "none",
    .settings = "calls that do nothing: what the benchmark itself takes",
    .max_key_bytes = CASK_KEY_MAX,
    .open = store_open,
    .close = store_close,
    .session_open = session_open,
    .session_close = session_close,
    .put = session_put,
    .get = session_get,
    .write = session_write,
};
