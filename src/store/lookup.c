#include "store/lookup.h"

#include <stdlib.h>

#define GROUP                                                                                      \
    32u /* keys whose misses are overlapped: about what a core keeps in flight twice over */

int lookup_exists(struct cask_db *db, struct cask_slice key)
{
    uint64_t hash = store_hash(db, key);
    struct shard *shard = store_shard_of(db, hash);
    struct epoch_guard guard = epoch_enter(&db->env.epoch);
    struct record_buffer buffer;
    struct found found;
    int status;

    record_buffer_init(&buffer);
    status = shard_find(shard, hash, key, &buffer, &found);
    record_buffer_release(&buffer);
    epoch_leave(guard);
    return status;
}

static int copy_out(const struct record *record, void *buffer, size_t capacity, size_t *ret_size)
{
    if (ret_size)
        *ret_size = record->value.size;
    if (record->value.size > capacity)
        return CASK_ERANGE;
    bytes_copy(buffer, record->value.data, record->value.size);
    return CASK_OK;
}

static int get_hashed(struct cask_db *db, uint64_t hash, struct cask_slice key, void *buffer,
                      size_t capacity, size_t *ret_size)
{
    struct shard *shard = store_shard_of(db, hash);
    struct epoch_guard guard = epoch_enter(&db->env.epoch);
    struct record_buffer read_buffer;
    struct found found;
    int status;

    record_buffer_init(&read_buffer);
    status = shard_find(shard, hash, key, &read_buffer, &found);
    if (status == CASK_OK)
        status = copy_out(&found.record, buffer, capacity, ret_size);
    record_buffer_release(&read_buffer);
    epoch_leave(guard);
    return status;
}

int lookup_get(struct cask_db *db, struct cask_slice key, void *buffer, size_t capacity,
               size_t *ret_size)
{
    return get_hashed(db, store_hash(db, key), key, buffer, capacity, ret_size);
}

/* ---- views ----------------------------------------------------------------------------------- */

/* A view's owner is the pinned segment, or a copy on the heap, told apart by the lowest bit. */
#define OWNER_IS_COPY ((uintptr_t)1)

static int view_copy(const struct record *record, struct cask_view *ret_view)
{
    uint8_t *copy = malloc(record->value.size + 1);

    if (!copy)
        return CASK_ENOMEM;
    bytes_copy(copy, record->value.data, record->value.size);
    ret_view->value = (struct cask_slice){copy, record->value.size};
    ret_view->owner = (void *)((uintptr_t)copy | OWNER_IS_COPY);
    return CASK_OK;
}

int lookup_view(struct cask_db *db, struct cask_slice key, struct cask_view *ret_view)
{
    uint64_t hash = store_hash(db, key);
    struct shard *shard = store_shard_of(db, hash);
    struct epoch_guard guard = epoch_enter(&db->env.epoch);
    struct record_buffer buffer;
    struct found found;
    int status;

    record_buffer_init(&buffer);
    status = shard_find(shard, hash, key, &buffer, &found);
    if (status == CASK_OK && !db->config.read_mapped) {
        status = view_copy(&found.record, ret_view);
    } else if (status == CASK_OK) {
        segment_pin(found.segment);
        ret_view->value = found.record.value;
        ret_view->owner = found.segment;
    }
    if (status == CASK_OK)
        ret_view->sequence = found.record.sequence;
    record_buffer_release(&buffer);
    epoch_leave(guard);
    return status;
}

void lookup_view_release(struct cask_view *view)
{
    uintptr_t owner = (uintptr_t)view->owner;

    if (owner & OWNER_IS_COPY)
        free((void *)(owner & ~OWNER_IS_COPY));
    else if (owner != 0)
        segment_unpin((struct segment *)owner);
    *view = (struct cask_view){{NULL, 0}, NULL, 0};
}

/* ---- many ------------------------------------------------------------------------------------ */

/* Where look-ups read from the disk, the reads of a group are all asked for before the first is
 * waited for. Asking costs system calls, so a call in LOOK_EVERY of a thread's looks whether any of
 * its keys had to be read from a disk, and each one does while that is so. */
#define LOOK_EVERY 16u

static bool is_to_look(const struct cask_db *db)
{
    static _Thread_local unsigned calls;

    return atomic_load_explicit(&db->reads_disk, memory_order_relaxed) || calls++ % LOOK_EVERY == 0;
}

static void note_reads(struct cask_db *db, bool reads_disk)
{
    if (atomic_load_explicit(&db->reads_disk, memory_order_relaxed) != reads_disk)
        atomic_store_explicit(&db->reads_disk, reads_disk, memory_order_relaxed);
}

static void read_group_ahead(struct cask_db *db, unsigned count, const uint64_t *hashes,
                             const int *statuses)
{
    for (unsigned i = 0; i < count; i++)
        if (statuses[i] == CASK_OK)
            shard_read_ahead_index(store_shard_of(db, hashes[i]), hashes[i]);
    for (unsigned i = 0; i < count; i++)
        if (statuses[i] == CASK_OK)
            shard_read_ahead_record(store_shard_of(db, hashes[i]), hashes[i]);
}

/* Three passes over a group of keys, each asking for what the next will touch: index lines,
 * records, values. */
static void prefetch_group(struct cask_db *db, unsigned count, const struct cask_slice *keys,
                           uint64_t *hashes, const int *statuses)
{
    for (unsigned i = 0; i < count; i++) {
        if (statuses[i] != CASK_OK)
            continue;
        hashes[i] = store_hash(db, keys[i]);
        shard_prefetch_index(store_shard_of(db, hashes[i]), hashes[i]);
    }
    for (unsigned i = 0; i < count; i++)
        if (statuses[i] == CASK_OK)
            shard_prefetch_record(store_shard_of(db, hashes[i]), hashes[i]);
}

/* One group within an epoch; `used` bytes of the buffer are taken. */
static int look_up_group(struct cask_db *db, unsigned count, const struct cask_slice *keys,
                         uint8_t *buffer, size_t capacity, size_t *used,
                         struct cask_slice *ret_values, int *statuses)
{
    uint64_t hashes[GROUP];
    int result = CASK_OK;

    for (unsigned i = 0; i < count; i++)
        statuses[i] = lookup_check_key(keys[i]);
    prefetch_group(db, count, keys, hashes, statuses);
    if (atomic_load_explicit(&db->reads_disk, memory_order_relaxed))
        read_group_ahead(db, count, hashes, statuses);
    for (unsigned i = 0; i < count; i++) {
        uint8_t *to = buffer ? buffer + *used : NULL;
        size_t size = 0;

        ret_values[i] = (struct cask_slice){NULL, 0};
        if (statuses[i] == CASK_OK)
            statuses[i] = get_hashed(db, hashes[i], keys[i], to, capacity - *used, &size);
        if (statuses[i] == CASK_OK)
            ret_values[i] = (struct cask_slice){to, size};
        else if (statuses[i] == CASK_ERANGE)
            ret_values[i].size = size;
        *used += statuses[i] == CASK_OK ? size : 0;
        if (result == CASK_OK && statuses[i] != CASK_NOTFOUND)
            result = statuses[i];
    }
    return result;
}

int lookup_many(struct cask_db *db, size_t count, const struct cask_slice *keys, void *buffer,
                size_t capacity, struct cask_slice *ret_values, int *statuses)
{
    bool looks = is_to_look(db);
    uint64_t reads = looks ? io_thread_reads() : 0;
    size_t used = 0;
    int result = CASK_OK;

    for (size_t first = 0; first < count; first += GROUP) {
        unsigned group = count - first < GROUP ? (unsigned)(count - first) : GROUP;
        struct epoch_guard guard = epoch_enter(&db->env.epoch);
        int status = look_up_group(db, group, keys + first, buffer, capacity, &used,
                                   ret_values + first, statuses + first);

        epoch_leave(guard);
        result = result == CASK_OK ? status : result;
    }
    if (looks)
        note_reads(db, io_thread_reads() != reads);
    return result;
}
