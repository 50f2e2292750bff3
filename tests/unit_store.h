/* A store by its public calls, for the tests of what stands behind them. */
#ifndef CASKADE_TESTS_UNIT_STORE_H
#define CASKADE_TESTS_UNIT_STORE_H

#include "unit.h"

struct store {
    char *path;
    struct log_lines lines;
    struct cask_options options;
    struct cask_db *db;
};

/* A store in a new directory, not open yet. */
static inline struct store *store_make(uint32_t shard_count)
{
    struct store *store = calloc(1, sizeof *store);

    assert_non_null(store);
    store->path = scratch_make(SCRATCH_MEMORY);
    log_lines_init(&store->lines);
    store->options = options_with_log(&store->lines);
    store->options.shard_count = shard_count;
    return store;
}

static inline void store_up(struct store *store)
{
    assert_ok(cask_open(store->path, &store->options, &store->db));
}

static inline void store_down(struct store *store)
{
    assert_ok(cask_close(store->db));
    store->db = NULL;
}

static inline void store_again(struct store *store)
{
    store_down(store);
    store_up(store);
}

static inline struct store *store_begin(uint32_t shard_count)
{
    struct store *store = store_make(shard_count);

    store_up(store);
    return store;
}

/* In one of the four modes, with small segments. */
static inline struct store *store_begin_mode(uint32_t shard_count, size_t mode,
                                             uint64_t segment_bytes)
{
    struct store *store = store_make(shard_count);

    store->options.write_mode = unit_modes[mode].write_mapped ? CASK_WRITE_MAPPED
                                                              : CASK_WRITE_SYSCALL;
    store->options.read_mode = unit_modes[mode].read_mapped ? CASK_READ_MAPPED : CASK_READ_PREAD;
    store->options.segment_bytes = segment_bytes;
    store_up(store);
    return store;
}

static inline void store_end(struct store *store)
{
    if (store->db)
        store_down(store);
    scratch_remove(store->path);
    pthread_mutex_destroy(&store->lines.lock);
    free(store);
}

static inline void put(struct store *store, const char *key, const char *value)
{
    assert_ok(cask_put(store->db, slice_of(key), slice_of(value)));
}

/* "key0" and so on, with the key as the value. */
static inline struct cask_slice numbered(char buffer[24], unsigned number)
{
    snprintf(buffer, 24, "key%u", number);
    return slice_of(buffer);
}

static inline void put_numbers(struct store *store, unsigned first, unsigned end)
{
    char key[24];

    for (unsigned i = first; i < end; i++)
        assert_ok(cask_put(store->db, numbered(key, i), numbered(key, i)));
}

static inline void check_numbers(struct store *store, unsigned first, unsigned end)
{
    char key[24];

    for (unsigned i = first; i < end; i++) {
        numbered(key, i);
        check_value(store->db, key, key);
    }
}

static inline struct cask_stats stats_of(struct store *store)
{
    struct cask_stats stats = {.size = sizeof stats};

    assert_ok(cask_stats(store->db, &stats));
    return stats;
}

static inline void patch_file(const char *path, uint64_t offset, const void *bytes, size_t size)
{
    size_t file_size;
    uint8_t *file = read_whole_file(path, &file_size);

    assert_true(offset + size <= file_size);
    memcpy(file + offset, bytes, size);
    write_file(path, file, file_size);
    free(file);
}

/* Another store with the same files as this one has at the moment: what a kill would leave. */
static inline struct store *store_copy(struct store *store)
{
    struct store *copy = store_make(0);

    copy->options = store->options;
    copy->options.log_context = &copy->lines;
    tree_copy_still(store->path, copy->path);
    return copy;
}

#endif
