#include "shard/shard.h"

#include <stdio.h>
#include <stdlib.h>

#define CANDIDATES 8u

void shard_dir_name(uint32_t number, char name[SEGMENT_NAME_BYTES])
{
    (void)snprintf(name, SEGMENT_NAME_BYTES, "shard-%03u", (unsigned)number);
}

static int init_locks(struct shard *shard)
{
    pthread_mutexattr_t adaptive;
    int failed = pthread_mutexattr_init(&adaptive);

    if (failed == 0)
        failed = pthread_mutexattr_settype(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
    if (failed == 0)
        failed = pthread_mutex_init(&shard->lock, &adaptive);
    pthread_mutexattr_destroy(&adaptive);
    if (failed == 0)
        failed = pthread_mutex_init(&shard->manifest_lock, NULL);
    if (failed == 0)
        failed = pthread_mutex_init(&shard->seal_lock, NULL);
    if (failed == 0)
        failed = pthread_mutex_init(&shard->ahead_lock, NULL);
    if (failed == 0)
        failed = pthread_mutex_init(&shard->merge_lock, NULL);
    if (failed == 0)
        failed = pthread_mutex_init(&shard->sync_lock, NULL);
    if (failed == 0)
        failed = pthread_mutex_init(&shard->work_lock, NULL);
    if (failed == 0)
        failed = pthread_cond_init(&shard->sync_done, NULL);
    if (failed == 0)
        failed = pthread_cond_init(&shard->work_wanted, NULL);
    if (failed == 0)
        failed = pthread_cond_init(&shard->ahead_wanted, NULL);
    return failed == 0 ? CASK_OK : CASK_ENOMEM;
}

int shard_init(struct shard *shard, struct shard_env *env, uint32_t number,
               const struct log_config *config)
{
    int status;

    memset(shard, 0, sizeof *shard);
    shard->env = env;
    shard->number = number;
    shard->config = *config;
    shard->config.shard = number;
    shard->next_sequence = 1;
    shard->next_segment = 1;
    shard->next_run = 1;
    shard->merge_above = UINT64_MAX;
    shard->merge_sealed = UINT64_MAX;
    shard->merge_expiry = UINT64_MAX;
    shard->rotate_above = UINT64_MAX;
    shard->stall_above = UINT64_MAX;
    segments_init(&shard->segments);
    status = init_locks(shard);
    if (status == CASK_OK)
        status = index_init(&shard->index, env->keydir_reserve_bytes, &env->budget, number,
                            config->shard_count);
    return status;
}

void shard_release(struct shard *shard)
{
    if (!shard->env)
        return;
    while (shard->retired) {
        struct segment *segment = shard->retired;

        shard->retired = segment->next_retired;
        segment_close(segment);
    }
    segments_release(&shard->segments);
    index_release(&shard->index);
    io_dir_close(shard->index_dir);
    io_dir_close(shard->dir);
    free(shard->depends_on);
    pthread_mutex_destroy(&shard->lock);
    pthread_mutex_destroy(&shard->manifest_lock);
    pthread_mutex_destroy(&shard->seal_lock);
    pthread_mutex_destroy(&shard->ahead_lock);
    pthread_mutex_destroy(&shard->merge_lock);
    pthread_mutex_destroy(&shard->sync_lock);
    pthread_mutex_destroy(&shard->work_lock);
    pthread_cond_destroy(&shard->sync_done);
    pthread_cond_destroy(&shard->work_wanted);
    pthread_cond_destroy(&shard->ahead_wanted);
    shard->env = NULL;
}

void shard_fail(struct shard *shard, int status, const char *doing)
{
    int none = CASK_OK;

    if (atomic_compare_exchange_strong(&shard->failed, &none, status))
        report(&shard->env->reporter, CASK_LOG_ERROR,
               "%s/shard-%03u: %s failed (%s); the shard takes no more writes until it is reopened",
               shard->env->path, (unsigned)shard->number, doing, cask_strerror(status));
}

/* No more than is alive, should a figure be wrong, as where damage was cut off: else it would wrap
 * around, and the next open refuse the manifest. */
void shard_count_dead(struct shard *shard, struct segment *segment, uint64_t bytes)
{
    bytes = min_u64(bytes, segment->counts.live_bytes);
    segment->counts.dead_bytes += bytes;
    segment->counts.live_bytes -= bytes;
    shard->counts.dead_bytes += bytes;
    shard->counts.live_bytes -= bytes;
}

static uint32_t tag_of(const struct shard *shard, uint64_t hash)
{
    return hash_tag(hash, shard->env->shard_bits);
}

/* A key's entry in the keydir. */
struct located {
    struct segment *segment;
    uint64_t location;
    uint64_t sequence;
    uint64_t size;
    bool deleted; /* the entry leads to a tombstone */
    bool expired;
    int unreadable; /* why another, which may be the key's and newer, could not be read; CASK_OK */
};

/* Of several entries of a key, which look-ups tell apart by their sequence numbers. */
enum which { NEWEST, OLDEST };

/* Finds a key's entry, the stage being empty. Where only such are left that cannot be read, one may
 * be the key's: an error. Under the lock. */
static int locate(struct shard *shard, const struct shard_op *op, enum which which,
                  struct located *ret_located)
{
    uint64_t locations[CANDIDATES];
    unsigned found = keydir_find(index_keydir(&shard->index), tag_of(shard, op->hash), locations,
                                 CANDIDATES);
    uint64_t best = 0;
    int status = CASK_NOTFOUND;
    int failed = CASK_OK;

    for (unsigned i = 0; i < found && i < CANDIDATES; i++) {
        struct record_buffer buffer;
        struct found old;
        int outcome;

        record_buffer_init(&buffer);
        outcome = shard_read_unverified(shard, locations[i], &buffer, &old);
        if (outcome == CASK_NOTFOUND) {
            ; /* stale */
        } else if (outcome != CASK_OK) {
            failed = outcome;
        } else if ((best == 0 || (old.record.sequence > best) == (which == NEWEST)) &&
                   old.record.key.size == op->key.size &&
                   bytes_equal(old.record.key.data, op->key.data, op->key.size)) {
            best = old.record.sequence;
            *ret_located = (struct located){.segment = old.segment,
                                            .location = locations[i],
                                            .sequence = best,
                                            .size = record_size(&old.record),
                                            .deleted = old.record.type == RECORD_DELETE,
                                            .expired = record_is_expired(&old.record)};
            status = CASK_OK;
        }
        record_buffer_release(&buffer);
    }
    ret_located->unreadable = failed;
    return status == CASK_NOTFOUND ? status_first(failed, status) : status;
}

/* ---- appending ------------------------------------------------------------------------------- */

static void take_back(struct shard *shard)
{
    int status = segment_rollback(shard->active);

    if (status != CASK_OK)
        shard_fail(shard, status, "taking back a failed write");
}

/* Appends one record, which is committed and counted, but in no index yet. Inline, with its caller,
 * so that a put stays one function however many others append. */
static inline int append(struct shard *shard, struct record *record, uint64_t *ret_offset)
{
    uint64_t size = record_size(record);
    int status;

    if (shard->next_sequence >= RECORD_SEQUENCE_MAX)
        return CASK_ENOTSUP;
    status = segment_ensure(shard->active, size, record->type == RECORD_PUT);
    if (status != CASK_OK)
        return status;
    record->sequence = shard->next_sequence;
    status = segment_append(shard->active, record, ret_offset);
    if (status == CASK_OK)
        status = segment_commit(shard->active);
    if (status != CASK_OK) {
        take_back(shard);
        return status;
    }
    shard->next_sequence++;
    shard->position += size;
    shard->dirty = true;
    shard->counts.writes++;
    shard->counts.written_bytes += size;
    shard->counts.live_bytes += size;
    shard->active->counts.live_bytes += size;
    segment_counts_note(&shard->active->counts, record->sequence,
                        record_expiry_counted(record->type, record->expires_at_ms));
    return CASK_OK;
}

/* Asks for cache lines, blocks and the next segment, in good time. */
static void look_ahead(struct shard *shard)
{
    const struct segment *active = shard->active;

    segment_prefetch_tail(active);
    if (segment_wants_blocks(active))
        shard_ask_for_work(shard, SHARD_WORK_EXTEND);

    if (!shard->next && active->capacity >= SHARD_AHEAD_FROM &&
        active->pending > min_u64(active->capacity, shard->rotate_above) / 2)
        shard_ask_for_work(shard, SHARD_WORK_PREPARE);
}

static uint64_t location_in_active(const struct shard *shard, uint64_t offset)
{
    return location_make(shard->active->id, offset, shard->config.offset_bits);
}

/* Room in the index for what is staged and one more, so that emptying the stage never fails for
 * want of it. With the budget used up, a key that is there already may still be overwritten. */
static int make_index_room(struct shard *shard, const struct shard_op *op)
{
    struct keydir *keydir = index_keydir(&shard->index);
    struct located old;
    int status;

    if (index_staged(&shard->index) == INDEX_STAGE) {
        status = shard_drain(shard);
        if (status != CASK_OK)
            return status;
    }
    if (keydir_has_room(keydir, index_staged(&shard->index) + 1))
        return CASK_OK;
    status = shard_drain(shard);
    if (status == CASK_OK)
        status = keydir_reserve(keydir, INDEX_STAGE);
    if (status == CASK_OK || keydir_has_room(keydir, 1))
        return CASK_OK;
    return status == CASK_ENOMEM && !index_has_lower(&shard->index) &&
                   locate(shard, op, NEWEST, &old) == CASK_OK
               ? CASK_OK
               : status;
}

/* Room in the log first, since that may let go of the lock. */
static int make_ready_once(struct shard *shard, const struct shard_op *op)
{
    uint64_t size = record_stored_size(op->key.size, op->value.size, op->expires_at_ms != 0);
    int status = shard_make_room(shard, size, op->type);

    if (status == CASK_OK && op->type == RECORD_DELETE) {
        status = shard_drain(shard);
        if (status != CASK_OK || !index_has_lower(&shard->index))
            return status;
    }
    return status == CASK_OK ? make_index_room(shard, op) : status;
}

/* With the budget used up the caller waits until entries have gone to disk, or sees to it
 * itself. */
static int make_ready(struct shard *shard, const struct shard_op *op)
{
    int status = make_ready_once(shard, op);

    for (unsigned tries = 0; status == CASK_ENOMEM && tries < SHARD_RELIEF_TRIES; tries++) {
        int relief;

        pthread_mutex_unlock(&shard->lock);
        relief = spill_relieve(shard->env);
        pthread_mutex_lock(&shard->lock);
        if (relief != CASK_OK)
            return relief;
        status = make_ready_once(shard, op);
    }
    return status;
}

static inline int append_op(struct shard *shard, const struct shard_op *op, uint64_t *ret_offset)
{
    struct record record = {
        .type = op->type, .expires_at_ms = op->expires_at_ms, .key = op->key, .value = op->value};

    return append(shard, &record, ret_offset);
}

/* A put that is in the log: into the index, and on with what comes next. */
static inline void stage_put(struct shard *shard, const struct shard_op *op, uint64_t offset,
                             uint64_t *ret_position)
{
    index_stage(&shard->index, tag_of(shard, op->hash), location_in_active(shard, offset));
    *ret_position = shard->position;
    look_ahead(shard);
}

int shard_put(struct shard *shard, const struct shard_op *op, uint64_t *ret_position)
{
    uint64_t offset = 0;
    int status;

    thread_lock_soon(&shard->lock);
    status = make_ready(shard, op);
    if (status == CASK_OK)
        status = append_op(shard, op, &offset);
    if (status == CASK_OK)
        stage_put(shard, op, offset, ret_position);
    pthread_mutex_unlock(&shard->lock);
    return status;
}

/* Takes a key out of the index: its entry, and older ones that have stayed beside it because they
 * could not be read for a while; those first, or readers would meet them. CASK_NOTFOUND when none
 * is left, or why one may be left. */
static int forget(struct shard *shard, const struct shard_op *op)
{
    struct located old;
    int status;

    while ((status = locate(shard, op, OLDEST, &old)) == CASK_OK) {
        keydir_remove(index_keydir(&shard->index), tag_of(shard, op->hash), old.location);
        shard_count_replaced(shard, old.segment, old.size, old.deleted);
    }
    return status;
}

/* With tiers below, the tombstone's entry takes the place of the key's in one step: between
 * removing the one and adding the other a reader would go on to what lies below and find what the
 * key had long ago. */
static void hide_below(struct shard *shard, const struct shard_op *op, uint64_t location)
{
    struct located old;
    int status = locate(shard, op, NEWEST, &old);

    shard->index.tombstones++;
    if (status == CASK_OK && keydir_replace(index_keydir(&shard->index), tag_of(shard, op->hash),
                                            old.location, location))
        shard_count_replaced(shard, old.segment, old.size, old.deleted);
    else
        index_stage(&shard->index, tag_of(shard, op->hash), location);
}

/* After the tombstone is in the log. Where an entry may be left, here or in a lower tier, the
 * tombstone's own goes into the index: its higher sequence number then speaks. */
static void settle_delete(struct shard *shard, const struct shard_op *op, uint64_t offset)
{
    uint64_t location = location_in_active(shard, offset);

    if (index_has_lower(&shard->index)) {
        hide_below(shard, op, location);
    } else if (forget(shard, op) != CASK_NOTFOUND) {
        index_stage(&shard->index, tag_of(shard, op->hash), location);
        shard->index.tombstones++;
        shard->index.doubles = true;
    }
}

/* A tombstone is no data: it is dead as soon as it is written. */
static void count_tombstone(struct shard *shard, const struct shard_op *op)
{
    uint64_t size = record_stored_size(op->key.size, 0, false);

    shard_count_dead(shard, shard->active, size);
    shard->active->counts.tombstone_bytes += size;
}

/* What a look-up without the lock has found, which may read from the disk: of a key that has no
 * entry in the keydir it tells, under the lock, what the tiers below know. `swaps` tells whether
 * they are still the same then. */
struct seen {
    uint64_t swaps;
    uint64_t sequence;
    uint64_t expires_at_ms;
    int status; /* CASK_OK: it lives */
    bool below; /* there were tiers below the keydir */
};

static void look(struct shard *shard, const struct shard_op *op, struct seen *seen)
{
    struct epoch_guard guard = epoch_enter(&shard->env->epoch);
    struct record_buffer buffer;
    struct found found;

    record_buffer_init(&buffer);
    seen->status = shard_find(shard, op->hash, op->key, &buffer, &found);
    if (seen->status == CASK_OK) {
        seen->sequence = found.record.sequence;
        seen->expires_at_ms = found.record.expires_at_ms;
    }
    record_buffer_release(&buffer);
    epoch_leave(guard);
}

static struct seen look_first(struct shard *shard, const struct shard_op *op, bool only_below)
{
    struct seen seen = {.status = CASK_NOTFOUND};

    seen.swaps = atomic_load(&shard->index.swaps); /* first: what is seen is at least as new */
    seen.below = index_has_lower(&shard->index);
    if (seen.below || !only_below)
        look(shard, op, &seen);
    return seen;
}

/* Whether the key is there, and the sequence number of what it has: `exactly` that, or what it had
 * before something that cannot be read. CASK_EBUSY: the tiers below have changed, look again. Under
 * the lock, the stage being empty. */
static int find_current(struct shard *shard, const struct shard_op *op, const struct seen *seen,
                        bool exactly, uint64_t *ret_sequence)
{
    struct located old;
    int status = locate(shard, op, NEWEST, &old);

    if (status == CASK_OK) {
        *ret_sequence = old.sequence;
        if (old.deleted || old.expired || exactly)
            status = old.unreadable;
        return status == CASK_OK && (old.deleted || old.expired) ? CASK_NOTFOUND : status;
    }
    if (status != CASK_NOTFOUND || !index_has_lower(&shard->index))
        return status;
    if (!seen->below || seen->swaps != atomic_load(&shard->index.swaps))
        return CASK_EBUSY;
    if (seen->expires_at_ms != 0 && io_clock_ms() >= seen->expires_at_ms)
        return CASK_NOTFOUND; /* since it was seen */
    *ret_sequence = seen->sequence;
    return seen->status;
}

static int delete_once(struct shard *shard, const struct shard_op *op, uint64_t *ret_position)
{
    struct seen seen = look_first(shard, op, true);
    uint64_t sequence;
    uint64_t offset;
    int status;

    thread_lock_soon(&shard->lock);
    status = make_ready(shard, op);
    if (status == CASK_OK)
        status = find_current(shard, op, &seen, false, &sequence);
    if (status == CASK_OK)
        status = append_op(shard, op, &offset);
    if (status == CASK_OK) {
        count_tombstone(shard, op);
        settle_delete(shard, op, offset);
        *ret_position = shard->position;
        look_ahead(shard);
    }
    pthread_mutex_unlock(&shard->lock);
    return status;
}

int shard_delete(struct shard *shard, const struct shard_op *op, uint64_t *ret_position)
{
    int status = delete_once(shard, op, ret_position);

    while (status == CASK_EBUSY)
        status = delete_once(shard, op, ret_position);
    return status;
}

/* ---- conditional puts ------------------------------------------------------------------------ */

/* Whether what the key has, or that it is not there, meets the condition. */
static int compare(int status, uint64_t sequence, uint64_t wanted)
{
    if (status == CASK_NOTFOUND && wanted == 0)
        return CASK_OK;
    return status == CASK_OK && sequence != wanted ? CASK_EEXIST : status;
}

/* The first look takes no lock, verifies the record and brings it into memory. Where the condition
 * does not hold even then, that is the answer; otherwise it is asked once more under the lock. */
static int put_if_once(struct shard *shard, const struct shard_op *op, uint64_t wanted,
                       uint64_t *ret_position, uint64_t *ret_sequence)
{
    struct seen seen = look_first(shard, op, false);
    int status = compare(seen.status, seen.sequence, wanted);
    uint64_t sequence = 0;
    uint64_t offset;

    if (status != CASK_OK)
        return status;
    thread_lock_soon(&shard->lock);
    status = make_ready(shard, op);
    if (status == CASK_OK)
        status = shard_drain(shard);
    if (status == CASK_OK) {
        status = find_current(shard, op, &seen, true, &sequence);
        status = compare(status, sequence, wanted);
    }
    if (status == CASK_OK)
        status = append_op(shard, op, &offset);
    if (status == CASK_OK) {
        stage_put(shard, op, offset, ret_position);
        *ret_sequence = shard->next_sequence - 1;
    }
    pthread_mutex_unlock(&shard->lock);
    return status;
}

int shard_put_if(struct shard *shard, const struct shard_op *op, uint64_t wanted,
                 uint64_t *ret_position, uint64_t *ret_sequence)
{
    int status = put_if_once(shard, op, wanted, ret_position, ret_sequence);

    while (status == CASK_EBUSY)
        status = put_if_once(shard, op, wanted, ret_position, ret_sequence);
    return status;
}

/* ---- batches --------------------------------------------------------------------------------- */

int shard_batch_room(struct shard *shard, uint64_t bytes)
{
    int status;

    pthread_mutex_lock(&shard->lock);
    status = shard_make_room(shard, bytes, RECORD_PUT);
    pthread_mutex_unlock(&shard->lock);
    return status;
}

int shard_batch_ready(struct shard *shard, uint64_t bytes, uint64_t count)
{
    int status = atomic_load(&shard->failed);

    if (status != CASK_OK)
        return status;
    if (!shard->active || !segment_has_room(shard->active, bytes, true) ||
        !segment_has_blocks(shard->active, bytes, true))
        return CASK_EBUSY;
    status = shard_drain(shard);
    if (status == CASK_OK)
        status = keydir_reserve(index_keydir(&shard->index), count + INDEX_STAGE);
    return status == CASK_OK ? segment_ensure(shard->active, bytes, true) : status;
}

static int append_end(struct shard *shard, const struct batch_end *end, uint64_t sequence)
{
    uint8_t value[BATCH_END_MAX];
    struct record record = {.type = RECORD_BATCH_END, .sequence = sequence};
    uint64_t offset;

    record.value = (struct cask_slice){value,
                                       batch_end_encode(end, shard->config.shard_count, value)};
    return segment_append(shard->active, &record, &offset);
}

int shard_batch_append(struct shard *shard, const struct shard_op *ops, const uint32_t *order,
                       uint32_t count, struct batch_end *end, uint64_t *ret_offsets)
{
    uint64_t sequence = shard->next_sequence;
    int status = CASK_OK;

    if (sequence + count >= RECORD_SEQUENCE_MAX)
        return CASK_ENOTSUP;
    for (uint32_t i = 0; status == CASK_OK && i < count; i++) {
        const struct shard_op *op = &ops[order[i]];
        struct record record = {.type = op->type,
                                .in_batch = true,
                                .sequence = sequence++,
                                .expires_at_ms = op->expires_at_ms,
                                .key = op->key,
                                .value = op->value};

        status = segment_append(shard->active, &record, &ret_offsets[i]);
    }
    end->count = count;
    if (status == CASK_OK)
        status = append_end(shard, end, sequence);
    if (status == CASK_OK)
        status = segment_commit(shard->active);
    if (status != CASK_OK)
        take_back(shard);
    return status;
}

void shard_batch_undo(struct shard *shard, uint64_t tail)
{
    uint64_t end = segment_tail(shard->active);

    segment_set_tail(shard->active, tail);
    shard->active->pending = end;
    take_back(shard);
}

/* Puts are staged, deletes settled at once; the stage is emptied before it overflows. */
static int publish_op(struct shard *shard, const struct shard_op *op, uint64_t offset)
{
    int status = CASK_OK;

    if (op->type == RECORD_DELETE || index_staged(&shard->index) == INDEX_STAGE)
        status = shard_drain_written(shard);
    if (status != CASK_OK) {
        shard_fail(shard, status, "indexing a batch");
    } else if (op->type == RECORD_DELETE) {
        count_tombstone(shard, op);
        settle_delete(shard, op, offset);
    } else {
        index_stage(&shard->index, tag_of(shard, op->hash), location_in_active(shard, offset));
    }
    return status;
}

int shard_batch_publish(struct shard *shard, const struct shard_op *ops, const uint32_t *order,
                        uint32_t count, const uint64_t *offsets, const struct batch_end *end)
{
    struct segment *active = shard->active;
    uint64_t bytes = segment_tail(active) - offsets[0];
    uint64_t end_bytes = bytes;
    int status = CASK_OK;

    shard->next_sequence += count + 1;
    shard->position += bytes;
    shard->dirty = true;
    shard->counts.writes += count;
    shard->counts.written_bytes += bytes;
    shard->counts.live_bytes += bytes;
    active->counts.live_bytes += bytes;
    active->counts.max_sequence = shard->next_sequence - 1;
    active->max_batch = max_u64(active->max_batch, end->number);
    for (uint32_t i = 0; i < count; i++) {
        const struct shard_op *op = &ops[order[i]];

        segment_counts_note(&active->counts, shard->next_sequence - count - 1 + i,
                            record_expiry_counted(op->type, op->expires_at_ms));
        end_bytes -= record_stored_size(op->key.size, op->value.size, op->expires_at_ms != 0);
        status = status_first(status, publish_op(shard, op, offsets[i]));
    }
    shard_count_dead(shard, active, end_bytes);
    look_ahead(shard);
    return status;
}
