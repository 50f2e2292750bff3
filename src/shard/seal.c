/* What is done behind the writers' backs: next segments made ready, sealed ones given their hint
 * and their line in the manifest; and the same once more when the shard is closed.
 *
 * Order for a sealed segment, each step durable before the next: its bytes (with whatever they
 * depend on in other shards), its hint, the manifest that calls it sealed. Interrupted anywhere,
 * the next open finds it unsealed and does it again.
 */
#include <stdlib.h>

#include "base/checksum.h"
#include "base/thread.h"
#include "shard/tail.h"

#define CHUNK_BYTES ((size_t)1 << 20)
#define WAITING_MAX 3u

void shard_ask_for_work(struct shard *shard, enum shard_work work)
{
    if (shard_work_due(shard) & (unsigned)work)
        return;
    pthread_mutex_lock(&shard->work_lock);
    atomic_fetch_or(&shard->work, (unsigned)work);
    pthread_cond_signal((unsigned)work & SHARD_WORK_AHEAD ? &shard->ahead_wanted
                                                          : &shard->work_wanted);
    pthread_mutex_unlock(&shard->work_lock);
}

static void warn(struct shard *shard, uint64_t segment, int status, const char *doing)
{
    report(&shard->env->reporter, CASK_LOG_WARNING, "%s/shard-%03u/%llu.data: %s failed (%s)",
           shard->env->path, (unsigned)shard->number, (unsigned long long)segment, doing,
           cask_strerror(status));
}

static int checksum_file(const struct segment *segment, uint64_t length, uint64_t *ret_checksum)
{
    uint8_t *chunk = malloc((size_t)min_u64(CHUNK_BYTES, length) + 1);
    int status = chunk ? CASK_OK : CASK_ENOMEM;
    XXH3_state_t state;

    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    for (uint64_t at = 0; status == CASK_OK && at < length; at += CHUNK_BYTES) {
        size_t want = (size_t)min_u64(CHUNK_BYTES, length - at);

        /* A file cut within its header holds no record, and can be sealed as it is. */
        status = io_read(segment->file, at, chunk, want,
                         length <= SEGMENT_HEADER_BYTES ? &want : NULL);
        if (status == CASK_OK)
            XXH3_64bits_update(&state, chunk, want);
    }
    free(chunk);
    *ret_checksum = XXH3_64bits_digest(&state);
    return status;
}

int shard_checksum_segment(const struct segment *segment, uint64_t length, uint64_t *ret_checksum)
{
    if (!segment->map || !segment->sealed)
        return checksum_file(segment, length, ret_checksum);
    *ret_checksum = checksum_bytes(segment->map, (size_t)length);
    return CASK_OK;
}

/* What the hint of the last close knows of the segment is taken over from there, not read again: a
 * record damaged since then must not drop out of the hint, or an older value of its key would come
 * back. Returns where to read on. */
static int take_over_hint(struct shard *shard, const struct segment *segment, struct hint *hint,
                          uint64_t *ret_from)
{
    struct hint old;
    int status = CASK_OK;

    *ret_from = SEGMENT_HEADER_BYTES;
    if (segment->clean_length == 0 ||
        hint_read(shard->dir, &shard->config, segment->id, &old) != CASK_OK)
        return CASK_OK;
    if (old.length == segment->clean_length) {
        *ret_from = old.length;
        status = hint_take_over(hint, &old);
    }
    hint_release(&old);
    return status;
}

/* A hint is a convenience: on a full disk it takes no room that merging needs. */
int shard_write_hint(struct shard *shard, struct hint *hint)
{
    int status = reserve_enter(&shard->env->reserve, 0);

    if (status != CASK_OK)
        return CASK_ENOSPC;
    status = hint_write(hint, shard->dir, &shard->config, shard->env->shard_bits);
    reserve_exit(&shard->env->reserve);
    return status;
}

/* Writes the hint of a segment that is durable as far as its tail, and returns the checksum of its
 * bytes. A segment with damage gets none: then every open reads it, and says so. */
static int write_hint(struct shard *shard, struct segment *segment, uint64_t *ret_checksum,
                      bool *ret_damaged)
{
    uint64_t length = segment_tail(segment);
    struct hint hint;
    struct tail tail;
    uint64_t from;
    int status = shard_checksum_segment(segment, length, ret_checksum);

    if (status != CASK_OK)
        return status;
    hint_init(&hint, segment->id);
    status = take_over_hint(shard, segment, &hint, &from);
    if (status == CASK_OK)
        status = tail_read(shard, segment, from, length, length, true, &tail);
    if (status != CASK_OK) {
        hint_release(&hint);
        return status;
    }
    *ret_damaged = tail.damaged;
    if (!tail.damaged) {
        status = hint_take_over(&hint, &tail.hint);
        hint.length = length;
        hint.data_checksum = *ret_checksum;
        hint.max_sequence = max_u64(hint.max_sequence, tail.max_sequence);
        if (status == CASK_OK)
            status = segment->sealed
                         ? shard_write_hint(shard, &hint)
                         : hint_write(&hint, shard->dir, &shard->config, shard->env->shard_bits);
        if (status == CASK_ENOSPC && segment->sealed) {
            warn(shard, segment->id, status, "writing the hint");
            segment->hintless = true;
            status = CASK_OK; /* the next open reads the segment instead */
        }
    }
    tail_release(&tail);
    hint_release(&hint);
    return status;
}

struct hint_call {
    struct shard *shard;
    struct segment *segment;
    uint64_t checksum;
    bool damaged;
    int status;
};

static void *run_write_hint(void *argument)
{
    struct hint_call *call = argument;

    call->status = write_hint(call->shard, call->segment, &call->checksum, &call->damaged);
    return NULL;
}

static int write_hint_nice(struct shard *shard, struct segment *segment, uint64_t *ret_checksum,
                           bool *ret_damaged)
{
    struct hint_call call = {.shard = shard, .segment = segment};

    thread_run_nice(run_write_hint, &call);
    *ret_checksum = call.checksum;
    *ret_damaged = call.damaged;
    return call.status;
}

static int trim(struct shard *shard, struct segment *segment)
{
    int status;

    shard_hold_syncs(shard);
    pthread_mutex_lock(&shard->ahead_lock);
    status = segment_trim(segment);
    pthread_mutex_unlock(&shard->ahead_lock);
    shard_allow_syncs(shard);
    return status;
}

/* Under manifest_lock. */
static int list_as_sealed(struct shard *shard, struct segment *segment, uint64_t checksum)
{
    uint64_t settled = shard->settled_batch;
    int status;

    pthread_mutex_lock(&shard->lock);
    segment->sealed_checksum = checksum;
    segment->in_manifest_sealed = true;
    pthread_mutex_unlock(&shard->lock);
    shard->settled_batch = max_u64(settled, segment->max_batch);
    status = shard_write_manifest(shard);
    if (status != CASK_OK) {
        shard->settled_batch = settled;
        pthread_mutex_lock(&shard->lock);
        segment->in_manifest_sealed = false;
        pthread_mutex_unlock(&shard->lock);
    }
    return status;
}

/* Without its hint a segment is scanned when the store is opened: a pity, but no loss. Without its
 * checksum, which is made on the way, it cannot be called sealed. */
static int seal(struct shard *shard, struct segment *segment, bool in_background)
{
    uint64_t checksum = 0;
    bool damaged = false;
    int status = shard_make_durable(shard, segment->end_position);

    if (status == CASK_OK)
        status = trim(shard, segment);
    if (status == CASK_OK && in_background)
        status = write_hint_nice(shard, segment, &checksum, &damaged);
    else if (status == CASK_OK)
        status = write_hint(shard, segment, &checksum, &damaged);
    if (status == CASK_OK) { /* with damage too: it has no hint then, and every open says so */
        pthread_mutex_lock(&shard->manifest_lock);
        status = list_as_sealed(shard, segment, checksum);
        pthread_mutex_unlock(&shard->manifest_lock);
    }
    return status;
}

static void unqueue(struct shard *shard, struct segment *segment)
{
    shard_hold_syncs(shard);
    pthread_mutex_lock(&shard->lock);
    shard->sealing_first = segment->next_sealing;
    if (!shard->sealing_first)
        shard->sealing_last = NULL;
    segment->next_sealing = NULL;
    segment->queued = false;
    shard->sealing_count--;
    segment_let_file_go(segment, shard->config.read_mapped);
    pthread_mutex_unlock(&shard->lock);
    shard_allow_syncs(shard);
}

static int seal_waiting(struct shard *shard, bool in_background)
{
    for (;;) {
        struct segment *segment;
        bool yielding;
        int status;

        pthread_mutex_lock(&shard->lock);
        segment = shard->sealing_first;
        /* Writers come first while only a few segments wait: these are what a crash costs. */
        yielding = in_background && shard->sealing_count <= WAITING_MAX;
        pthread_mutex_unlock(&shard->lock);
        if (!segment)
            return CASK_OK;
        status = seal(shard, segment, yielding);
        if (status != CASK_OK) {
            warn(shard, segment->id, status, "sealing");
            return status;
        }
        unqueue(shard, segment);
    }
}

int shard_seal_waiting(struct shard *shard, bool in_background)
{
    int status;

    pthread_mutex_lock(&shard->seal_lock);
    status = seal_waiting(shard, in_background);
    pthread_mutex_unlock(&shard->seal_lock);
    return status;
}

/* Blocks and memory for the active segment, so that a put neither waits for the one nor clears the
 * other. Under ahead_lock, which keeps the file from being cut meanwhile. */
static void extend(struct shard *shard)
{
    struct segment *active;
    uint64_t allocated = 0;
    uint64_t reserve = 0;
    uint64_t tail = 0;
    bool wanted;

    pthread_mutex_lock(&shard->ahead_lock);
    pthread_mutex_lock(&shard->lock);
    active = shard->active;
    wanted = active && segment_wants_blocks(active);
    if (wanted) {
        allocated = active->allocated;
        tail = segment_tail(active);
        reserve = shard_wanted_reserve(shard, allocated - active->pending + 1);
    }
    pthread_mutex_unlock(&shard->lock);
    if (wanted && reserve_enter(&shard->env->reserve, reserve) == CASK_OK) {
        allocated = segment_extend(active, allocated);
        reserve_exit(&shard->env->reserve);
        pthread_mutex_lock(&shard->lock);
        active->allocated = max_u64(active->allocated, allocated);
        pthread_mutex_unlock(&shard->lock);
    }
    if (wanted)
        segment_settle(active, tail);
    pthread_mutex_unlock(&shard->ahead_lock);
}

/* Under ahead_lock, which keeps a flush from emptying it meanwhile. */
static void tend_keydir(struct shard *shard, unsigned work)
{
    pthread_mutex_lock(&shard->ahead_lock);
    if (work & SHARD_WORK_POPULATE)
        keydir_populate(index_keydir(&shard->index));
    if (work & SHARD_WORK_COLLAPSE)
        keydir_use_huge_pages(index_keydir(&shard->index));
    pthread_mutex_unlock(&shard->ahead_lock);
}

/* What is not sealed cannot be merged, so the little that a manifest takes comes out of the reserve
 * if need be; unless a merge uses that, which seals by itself. */
static int seal_in_background(struct shard *shard)
{
    int status = shard_seal_waiting(shard, true);

    if (status == CASK_ENOSPC && reserve_try_use(&shard->env->reserve)) {
        status = shard_seal_waiting(shard, true);
        reserve_leave(&shard->env->reserve);
    }
    return status;
}

void shard_do_work(struct shard *shard, unsigned work)
{
    int status = CASK_OK;

    if (work & (SHARD_WORK_POPULATE | SHARD_WORK_COLLAPSE))
        tend_keydir(shard, work);
    if (work & SHARD_WORK_EXTEND)
        extend(shard);

    if (work & SHARD_WORK_PREPARE)
        status = shard_prepare(shard, 0, PREPARE_FOR_WRITES);
    if (work & SHARD_WORK_SEAL)
        status = status_first(seal_in_background(shard), status);
    if (work & SHARD_WORK_FLUSH)
        status = status_first(spill_flush(shard, false), status);
    (void)status; /* told to the log where it matters; a put or the close meets it again */
}

/* ---- closing --------------------------------------------------------------------------------- */

/* An empty next segment is not kept. */
static int drop_next(struct shard *shard)
{
    struct segment *next = shard->next;
    char name[SEGMENT_NAME_BYTES];
    int status;

    if (!next)
        return CASK_OK;
    next->unlisted = true;
    status = shard_write_manifest(shard);
    if (status != CASK_OK)
        return status;
    shard->next = NULL;
    segments_remove(&shard->segments, next->id);
    segment_data_name(next->id, name);
    status = io_unlink(shard->dir, name);
    segment_close(next);
    return status;
}

static int close_active(struct shard *shard)
{
    struct segment *active = shard->active;
    uint64_t checksum;
    bool damaged = false;
    int status;

    if (!active)
        return CASK_OK;
    status = segment_trim(active);
    if (status != CASK_OK)
        return status;
    if (segment_tail(active) > SEGMENT_HEADER_BYTES)
        status = write_hint(shard, active, &checksum, &damaged);
    if (status == CASK_OK && !damaged) {
        active->clean_length = segment_tail(active);
        shard->settled_batch = max_u64(shard->settled_batch, active->max_batch);
        status = shard_write_manifest(shard);
    }
    return status;
}

int shard_close(struct shard *shard)
{
    int status;

    if (shard->env->read_only || !shard->dir ||
        (!shard->dirty && !shard->sealing_first && !atomic_load(&shard->distrusts_runs)))
        return CASK_OK;
    status = shard_make_durable(shard, shard->position);
    if (status == CASK_OK)
        status = shard_seal_waiting(shard, false);
    if (status == CASK_OK)
        status = drop_next(shard);
    if (status == CASK_OK)
        status = close_active(shard);
    return status;
}
