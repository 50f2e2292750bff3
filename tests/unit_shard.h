/* A few shards without the store above them: opened, recovered, closed or abandoned as by a
 * kill. */
#ifndef CASKADE_TESTS_UNIT_SHARD_H
#define CASKADE_TESTS_UNIT_SHARD_H

#include "unit.h"

#include "shard/recover.h"

#define RIG_SHARDS_MAX 4

struct rig {
    struct shard_env env;
    struct place place;
    struct log_config config;
    struct log_lines lines;
    struct shard *shards;
    uint64_t position; /* of the last write */
    bool unsettled;    /* opens stop before what was made on the way is listed, as by a kill then */
    /* For a reader: called with the writer once all shards have been read. */
    void (*meanwhile)(struct rig *writer);
    struct rig *writer;
};

/* A rig in an empty directory, not open yet. Change config and env before rig_open(). */
static inline struct rig *rig_make(uint32_t shard_count, struct unit_mode mode)
{
    struct rig *rig = aligned_alloc(64, align_up(sizeof *rig, 64));

    assert_non_null(rig);
    memset(rig, 0, sizeof *rig);
    rig->place = place_make();
    rig->config = unit_config(mode);
    rig->config.shard_count = shard_count;
    rig->env.shard_count = shard_count;
    rig->env.path = rig->place.path;
    rig->env.hash_seed = 42;
    rig->env.budget.limit_bytes = (uint64_t)16 << 20;
    rig->env.keydir_reserve_bytes = 16 << 20;
    while (1u << rig->env.shard_bits < shard_count)
        rig->env.shard_bits++;
    memset(rig->env.boot_id, 7, sizeof rig->env.boot_id);
    log_lines_init(&rig->lines);
    rig->env.reporter = (struct reporter){log_lines_collect, &rig->lines};
    return rig;
}

static inline void rig_abandon(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->env.shard_count; i++)
        shard_release(&rig->shards[i]);
    free(rig->shards);
    rig->shards = NULL;
    pthread_rwlock_destroy(&rig->env.building);
    epoch_release(&rig->env.epoch);
}

/* What recovery says; on a failure the rig is not open. */
static inline int rig_try_open(struct rig *rig)
{
    struct recovery recoveries[RIG_SHARDS_MAX];
    uint32_t count = rig->env.shard_count;
    int status = CASK_OK;

    memset(recoveries, 0, sizeof recoveries);
    assert_ok(epoch_init(&rig->env.epoch));
    pthread_rwlock_init(&rig->env.building, NULL);
    rig->env.root = rig->place.dir;
    rig->shards = aligned_alloc(64, align_up(count * sizeof *rig->shards, 64));
    assert_non_null(rig->shards);
    rig->env.shards = rig->shards;
    for (uint32_t i = 0; i < count; i++)
        assert_ok(shard_init(&rig->shards[i], &rig->env, i, &rig->config));
    for (uint32_t i = 0; i < count && status == CASK_OK; i++)
        status = recover_read(&rig->shards[i], &recoveries[i]);
    for (uint32_t i = 0; i < count && status == CASK_OK; i++)
        rig->env.batch_number = max_u64(rig->env.batch_number,
                                        recoveries[i].manifest.settled_batch);
    for (uint32_t i = 0; i < count && status == CASK_OK; i++)
        for (uint64_t j = 0; j < recoveries[i].tail_count; j++)
            rig->env.batch_number = max_u64(rig->env.batch_number,
                                            recoveries[i].tails[j].hint.max_batch);
    if (status == CASK_OK && rig->meanwhile)
        rig->meanwhile(rig->writer);
    if (status == CASK_OK && rig->env.read_only)
        status = recover_follow(recoveries, count);
    if (status == CASK_OK)
        recover_resolve(recoveries, count);
    for (uint32_t i = 0; i < count && status == CASK_OK; i++)
        status = recover_apply(&recoveries[i]);
    for (uint32_t i = 0; i < count && status == CASK_OK && !rig->unsettled; i++)
        status = recover_settle(&recoveries[i]);
    for (uint32_t i = 0; i < count; i++)
        recover_release(&recoveries[i]);
    if (status != CASK_OK)
        rig_abandon(rig);
    return status;
}

static inline void rig_open(struct rig *rig)
{
    assert_ok(rig_try_open(rig));
}

static inline void rig_close(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->env.shard_count; i++)
        assert_ok(shard_close(&rig->shards[i]));
    rig_abandon(rig);
}

static inline void rig_reopen(struct rig *rig)
{
    rig_close(rig);
    rig_open(rig);
}

/* As after kill -9: what was appended is in the file, and nothing is told to anybody. */
static inline void rig_crash(struct rig *rig)
{
    rig_abandon(rig);
    rig_open(rig);
}

static inline struct rig *rig_start(uint32_t shard_count, struct unit_mode mode)
{
    struct rig *rig = rig_make(shard_count, mode);

    rig_open(rig);
    return rig;
}

/* Whose index may go to disk, with 4 MiB for it, of which keydirs may take 3. */
static inline struct rig *rig_that_spills(uint32_t shard_count)
{
    struct rig *rig = rig_make(shard_count, unit_modes[0]);

    rig->env.spills = true;
    rig->env.real_path = rig->place.path;
    rig->env.budget.limit_bytes = (uint64_t)4 << 20;
    rig->env.budget.reserve_bytes = (uint64_t)1 << 20;
    rig_open(rig);
    return rig;
}

static inline void rig_stop(struct rig *rig)
{
    if (rig->shards)
        rig_close(rig);
    place_remove(&rig->place);
    pthread_mutex_destroy(&rig->lines.lock);
    free(rig);
}

static inline struct shard_op op_of(const struct rig *rig, const char *key, const char *value)
{
    struct shard_op op = {.key = slice_of(key), .type = RECORD_PUT};

    if (value)
        op.value = slice_of(value);
    else
        op.type = RECORD_DELETE;
    op.hash = hash_key(op.key.data, op.key.size, rig->env.hash_seed);
    return op;
}

static inline struct shard *shard_of(struct rig *rig, const char *key)
{
    return &rig->shards[hash_shard(hash_key(key, strlen(key), rig->env.hash_seed),
                                   rig->env.shard_bits)];
}

static inline int rig_put(struct rig *rig, const char *key, const char *value)
{
    struct shard_op op = op_of(rig, key, value);

    return shard_put(shard_of(rig, key), &op, &rig->position);
}

static inline int rig_delete(struct rig *rig, const char *key)
{
    struct shard_op op = op_of(rig, key, NULL);

    return shard_delete(shard_of(rig, key), &op, &rig->position);
}

/* The value found under a key and hash; NULL expects none. */
static inline void assert_found(struct rig *rig, struct shard *shard, uint64_t hash,
                                const char *key, const char *value)
{
    struct epoch_guard guard = epoch_enter(&rig->env.epoch);
    struct record_buffer buffer;
    struct found found;
    int status;

    record_buffer_init(&buffer);
    status = shard_find(shard, hash, slice_of(key), &buffer, &found);
    if (status != (value ? CASK_OK : CASK_NOTFOUND))
        fail_msg("%s: %s", key, cask_strerror(status));
    if (value)
        assert_slice(found.record.value, value, strlen(value));
    record_buffer_release(&buffer);
    epoch_leave(guard);
}

static inline void assert_value(struct rig *rig, const char *key, const char *value)
{
    assert_found(rig, shard_of(rig, key), hash_key(key, strlen(key), rig->env.hash_seed), key,
                 value);
}

static inline int find_status(struct rig *rig, const char *key)
{
    struct epoch_guard guard = epoch_enter(&rig->env.epoch);
    struct record_buffer buffer;
    struct found found;
    int status;

    record_buffer_init(&buffer);
    status = shard_find(shard_of(rig, key), hash_key(key, strlen(key), rig->env.hash_seed),
                        slice_of(key), &buffer, &found);
    record_buffer_release(&buffer);
    epoch_leave(guard);
    return status;
}

static inline const char *rig_path(const struct rig *rig, uint32_t shard, const char *name)
{
    return shard_path(rig->place.path, shard, name);
}

/* Changes bytes of a shard's file. */
static inline void rig_patch(struct rig *rig, uint32_t shard, const char *name, uint64_t offset,
                             const void *bytes, size_t size)
{
    size_t file_size;
    uint8_t *file = read_whole_file(rig_path(rig, shard, name), &file_size);

    assert_true(offset + size <= file_size);
    memcpy(file + offset, bytes, size);
    write_file(rig_path(rig, shard, name), file, file_size);
    free(file);
}

static inline void rig_cut(struct rig *rig, uint32_t shard, const char *name, size_t size)
{
    size_t file_size;
    uint8_t *file = read_whole_file(rig_path(rig, shard, name), &file_size);

    assert_true(size <= file_size);
    write_file(rig_path(rig, shard, name), file, size);
    free(file);
}

static inline size_t rig_file_size(struct rig *rig, uint32_t shard, const char *name)
{
    size_t size;

    free(read_whole_file(rig_path(rig, shard, name), &size));
    return size;
}

/* ---- numbered keys in a rig of one shard ----------------------------------------------------- */

static inline struct shard *only(struct rig *rig)
{
    return &rig->shards[0];
}

static inline struct rig *rig_of_small_segments(struct unit_mode mode)
{
    struct rig *rig = rig_make(1, mode);

    rig->config.segment_bytes = 512;
    rig_open(rig);
    return rig;
}

static inline void put_keys(struct rig *rig, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        char key[16];

        snprintf(key, sizeof key, "key%u", i);
        assert_ok(rig_put(rig, key, key));
    }
}

static inline void assert_keys(struct rig *rig, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        char key[16];

        snprintf(key, sizeof key, "key%u", i);
        assert_value(rig, key, key);
    }
}

static inline void assert_quiet(struct rig *rig)
{
    if (log_lines_count(&rig->lines, CASK_LOG_ERROR) != 0 ||
        log_lines_count(&rig->lines, CASK_LOG_WARNING) != 0)
        fail_msg("the log says: %s", rig->lines.text);
}

/* As after a power loss: the machine's boot id is another one. */
static inline void other_boot(struct rig *rig)
{
    rig->env.boot_id[0]++;
}

#endif
