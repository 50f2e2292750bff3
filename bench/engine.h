/* What the benchmark asks of a store. Each engine is one file that fills in a struct engine; the
 * workloads know nothing else of it.
 *
 * Rules that every engine follows, so that the figures compare:
 *  1. A put that returned survives kill -9 of the process, or does so once its session is closed
 *     (engines that commit in transactions). sync_always asks for more: it survives a power loss.
 *  2. A value that get returns is whole: the caller compares every byte of it. It stays valid until
 *     the next call on the same session.
 *  3. A session belongs to one thread. The calls of one session do not lock out another, except
 *     where the engine itself does.
 *  4. An engine that fails says so on stderr, naming the call and the cause.
 */
#ifndef BENCH_ENGINE_H
#define BENCH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "caskade.h" /* struct cask_slice: bytes, by value */

#ifdef __cplusplus
extern "C" {
#endif

enum engine_status { ENGINE_OK = 0, ENGINE_NOTFOUND = 1, ENGINE_FAILED = -1 };

/* A figure the engine has no way to tell. */
#define ENGINE_UNKNOWN UINT64_MAX

struct engine_config {
    const char *dir; /* exists; empty where the store is to be made */
    uint64_t num;    /* keys it will hold, for engines that want to know */
    size_t key_bytes;
    size_t value_bytes;
    bool sync_always;       /* every put durable when it returns */
    uint32_t shards;        /* Caskade only; 0 is its default */
    uint64_t index_memory;  /* for the index, or for the block cache; 0 is the engine's default */
    uint64_t memory_bytes;  /* that the process may use, page cache included; 0: the machine's */
    unsigned sorted_puts;   /* engines that gain by it collect and sort so many; 0: none */
    uint64_t segment_bytes; /* for engines with merge, as all below; 0 is their default */
    bool merge_off;         /* merge only when told to */
    uint32_t merge_trigger_percent;
    uint32_t merge_segment_percent;
};

/* Each of them ENGINE_UNKNOWN where the engine can't tell. An engine with merge tells them all. */
struct engine_figures {
    uint64_t index_ram_bytes;
    uint64_t recovered_records; /* that the last open had to read again */
    uint64_t live_bytes;        /* of records that can be read */
    uint64_t dead_bytes;        /* of records that cannot, and tombstones */
    uint64_t writes;            /* since the last open, as all below: puts */
    uint64_t written_bytes;     /* for puts */
    uint64_t merge_read_bytes;
    uint64_t merge_written_bytes;
    uint64_t merges;
    uint64_t merges_failed;
    /* Of engines that spill, also since the last open: */
    uint64_t index_disk_bytes; /* now, as the next two */
    uint64_t index_spilled_keys;
    uint64_t index_runs;
    uint64_t index_flushes;
    uint64_t index_run_merges;
    uint64_t index_written_bytes;
    uint64_t index_stalls;
    uint64_t index_failures;
    uint64_t index_block_reads;
    uint64_t index_fruitless_reads;
};

/* Each engine's file defines its own. */
struct engine_store;
struct engine_session;

struct engine {
    const char *name;
    const char *settings; /* one line, for --help and the reader of the figures */
    size_t max_key_bytes;
    bool spills; /* its index goes to disk beyond index_memory, and figures tells of it */

    int (*open)(const struct engine_config *config, struct engine_store **ret_store);
    int (*close)(struct engine_store *store);
    /* NULL where the engine can tell nothing. Any thread may call it at any time. */
    void (*figures)(struct engine_store *store, struct engine_figures *ret_figures);

    /* writes: the session will put; otherwise it will get. Closing commits what is pending. */
    int (*session_open)(struct engine_store *store, bool writes,
                        struct engine_session **ret_session);
    int (*session_close)(struct engine_session *session);

    int (*put)(struct engine_session *session, struct cask_slice key, struct cask_slice value);
    int (*get)(struct engine_session *session, struct cask_slice key, struct cask_slice *ret_value);
    /* NULL: the caller gets them one by one. statuses[i] is ENGINE_OK or ENGINE_NOTFOUND; the
     * values stay valid until the next call. */
    int (*get_many)(struct engine_session *session, size_t count, const struct cask_slice *keys,
                    struct cask_slice *ret_values, int *statuses);
    /* count puts as one atomic unit. */
    int (*write)(struct engine_session *session, size_t count, const struct cask_slice *keys,
                 const struct cask_slice *values);

    /* Reclaims the space of all dead records before it returns. NULL: the engine has no such thing,
     * and the workloads that are about it skip it. */
    int (*merge)(struct engine_store *store);
};

extern const struct engine engine_caskade;
extern const struct engine engine_none;
extern const struct engine engine_leveldb;
extern const struct engine engine_lmdb;
extern const struct engine engine_rocksdb;
extern const struct engine engine_tkrzw;

/* Every engine this source knows, built in or not. */
struct engine_entry {
    const char *name;
    const struct engine *engine; /* NULL: the library was not found when this was built */
};

/* The entry of that name, NULL where there is none; and the i-th, NULL behind the last. */
const struct engine_entry *engine_find(const char *name);
const struct engine_entry *engine_at(size_t i);

#ifdef __cplusplus
}
#endif

#endif
