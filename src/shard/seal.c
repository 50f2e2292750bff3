/* What is done behind the writers' backs: next segments made ready, sealed ones given their hint
 * and their line in the manifest; and the same once more when the shard is closed.
 *
 * Order for a sealed segment, each step durable before the next: its bytes (with whatever they
 * depend on in other shards), its hint, the manifest that calls it sealed. Interrupted anywhere,
 * the next open finds it unsealed and does it again.
 */
#include "base/checksum.h"
#include "base/pages.h"
#include "base/thread.h"
#include "shard/tail.h"
#include "shard/turn.h"

#define CHUNK_BYTES ((size_t)256 << 10)
#define WAITING_MAX 3u
#define PART_BYTES_MIN ((uint64_t)8 << 20) /* of a hint that is being made */
#define PART_BYTES_MAX ((uint64_t)32 << 20)
#define PART_OF_BUDGET 8u
#define PARTS_MAX 16u

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
    uint8_t *chunk = pages_borrow(CHUNK_BYTES);
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
    pages_return(chunk, CHUNK_BYTES);
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

int shard_write_hint(struct shard *shard, struct hint *hint)
{
    int status = reserve_enter(&shard->env->reserve, 0);

    if (status != CASK_OK)
        return CASK_ENOSPC;
    status = hint_write(hint, shard->dir, &shard->config, shard->env->shard_bits);
    reserve_exit(&shard->env->reserve);
    return status;
}

/* ---- making a hint --------------------------------------------------------------------------- */

/* The hint of a segment in the making: of one part of the tags after the other, for which the
 * segment is read anew each time, since all entries at once would be half as large as it. */
struct making {
    struct shard *shard;
    struct segment *segment;
    uint64_t length;
    uint64_t checksum; /* of its bytes */
    struct hint old;   /* of the last close; all zeros if there is none */
    uint64_t from;     /* behind what that covers */
    struct hint part;
    struct hint_writer writer;
    bool writing;
    bool damaged;
};

/* What the hint of the last close knows of the segment is taken over from there, not read again: a
 * record damaged since then must not drop out of the hint, or an older value of its key would come
 * back. */
static void find_old_hint(struct making *making)
{
    struct shard *shard = making->shard;
    const struct segment *segment = making->segment;

    making->from = SEGMENT_HEADER_BYTES;
    if (segment->clean_length == 0 ||
        hint_read(shard->dir, &shard->config, segment->id, &making->old) != CASK_OK)
        return;
    if (making->old.length == segment->clean_length) {
        making->from = making->old.length;
    } else {
        hint_release(&making->old);
        making->old = (struct hint){0};
    }
}

/* The entries of a part, and the header fields of the whole. */
static int collect_part(struct making *making, uint32_t first_tag, uint32_t last_tag)
{
    struct hint *part = &making->part;
    struct tail tail;
    int status;

    hint_keep(part, first_tag, last_tag, making->shard->env->shard_bits);
    status = hint_take_over(part, &making->old);
    if (status == CASK_OK)
        status = tail_read_settled(making->shard, making->segment, making->from, making->length,
                                   part, &tail);
    if (status != CASK_OK)
        return status;
    making->damaged = tail.damaged;
    part->length = making->length;
    part->data_checksum = making->checksum;
    part->max_sequence = max_u64(part->max_sequence, tail.max_sequence);
    tail_release(&tail);
    return CASK_OK;
}

/* A hint is a convenience: on a full disk that of a sealed segment takes no room that merging
 * needs. */
static int write_part(struct making *making)
{
    struct shard *shard = making->shard;
    bool needs_room = making->segment->sealed;
    int status = CASK_OK;

    if (needs_room && reserve_enter(&shard->env->reserve, 0) != CASK_OK)
        return CASK_ENOSPC;
    if (!making->writing) {
        status = hint_writer_open(&making->writer, shard->dir, &shard->config, &making->part);
        making->writing = status == CASK_OK;
    }
    if (status == CASK_OK)
        status = hint_writer_add(&making->writer, &making->part, shard->env->shard_bits);
    if (needs_room)
        reserve_exit(&shard->env->reserve);
    return status;
}

/* Each part costs a pass over the segment, so they are as large as befits the memory that the store
 * was given for its index. */
static uint64_t part_bytes_for(const struct budget *budget)
{
    return min_u64(max_u64(budget->limit_bytes / PART_OF_BUDGET, PART_BYTES_MIN), PART_BYTES_MAX);
}

static int make_parts(struct making *making)
{
    uint64_t expected = making->segment->counts.records + making->old.count;
    uint64_t bytes = part_bytes_for(&making->shard->env->budget);
    uint64_t parts = min_u64(PARTS_MAX, expected * HINT_ENTRY_BYTES / bytes + 1);
    int status = hint_reserve(&making->part, (expected + expected / 16) / parts + 1);

    for (uint64_t i = 0; status == CASK_OK && i < parts && !making->damaged; i++) {
        status = collect_part(making, (uint32_t)((i << 32) / parts),
                              (uint32_t)(((i + 1) << 32) / parts - 1));
        if (status == CASK_OK && !making->damaged)
            status = write_part(making);
    }
    if (making->writing)
        status = status_first(
            status, hint_writer_close(&making->writer, status == CASK_OK && !making->damaged));
    return status;
}

/* Writes the hint of a segment that is durable as far as its tail, and returns the checksum of its
 * bytes. A segment with damage gets none: then every open reads it, and says so. */
static int write_hint(struct shard *shard, struct segment *segment, uint64_t *ret_checksum,
                      bool *ret_damaged)
{
    struct making making = {.shard = shard, .segment = segment, .length = segment_tail(segment)};
    int status = shard_checksum_segment(segment, making.length, &making.checksum);

    if (status != CASK_OK)
        return status;
    find_old_hint(&making);
    hint_init(&making.part, segment->id);
    status = make_parts(&making);
    hint_release(&making.part);
    hint_release(&making.old);
    if (status == CASK_ENOSPC && segment->sealed) {
        warn(shard, segment->id, status, "writing the hint");
        segment->hintless = true;
        status = CASK_OK; /* the next open reads the segment instead */
    }
    if (making.damaged) { /* what is in it may be worth more than its room */
        pthread_mutex_lock(&shard->lock);
        segment->unmergeable = true;
        pthread_mutex_unlock(&shard->lock);
    }
    *ret_checksum = making.checksum;
    *ret_damaged = making.damaged;
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

    thread_run_nice(THREAD_NICE, run_write_hint, &call);
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

/* What a segment is sealed for. */
enum sealing { SEAL_NOW, SEAL_NICELY, SEAL_TO_MERGE };

/* What a merge is about to read gets no hint: it would be read once, by that merge, which can as
 * well read the segment. */
static int make_hint(struct shard *shard, struct segment *segment, enum sealing why,
                     uint64_t *ret_checksum)
{
    bool damaged = false; /* it has no hint then, and every open says so */
    bool merged;

    pthread_mutex_lock(&shard->lock);
    merged = segment->counts.dead_bytes > SEGMENT_SEAL_BYTES && segment->clean_length == 0;
    pthread_mutex_unlock(&shard->lock);
    if (why == SEAL_TO_MERGE && merged) {
        segment->hintless = true;
        return shard_checksum_segment(segment, segment_tail(segment), ret_checksum);
    }
    return why == SEAL_NICELY ? write_hint_nice(shard, segment, ret_checksum, &damaged)
                              : write_hint(shard, segment, ret_checksum, &damaged);
}

/* Without its hint a segment is scanned when the store is opened: a pity, but no loss. Without its
 * checksum, which is made on the way, it cannot be called sealed. */
static int seal(struct shard *shard, struct segment *segment, enum sealing why)
{
    uint64_t checksum = 0;
    int status = shard_make_durable(shard, segment->end_position);

    if (status == CASK_OK)
        status = trim(shard, segment);
    if (status == CASK_OK)
        status = make_hint(shard, segment, why, &checksum);
    if (status == CASK_OK) {
        pthread_mutex_lock(&shard->manifest_lock);
        status = list_as_sealed(shard, segment, checksum);
        pthread_mutex_unlock(&shard->manifest_lock);
    }
    return status;
}

/* Whether there may be more to merge, with this one sealed. What a look at the shard found due
 * while it waited here can be merged from now on, and there may be no more writes that would ask
 * for it; what has expired counts as live and makes nobody ask. Under the lock. */
static bool is_merge_due(struct shard *shard, const struct segment *segment)
{
    if (segment->counts.last_expiry != 0)
        shard->merge_expiry = min_u64(shard->merge_expiry, segment->counts.last_expiry);
    return shard->counts.dead_bytes > shard->merge_sealed || shard->merge_expiry <= io_clock_ms();
}

static void unqueue(struct shard *shard, struct segment *segment)
{
    bool due;

    shard_hold_syncs(shard);
    pthread_mutex_lock(&shard->lock);
    shard->sealing_first = segment->next_sealing;
    if (!shard->sealing_first)
        shard->sealing_last = NULL;
    segment->next_sealing = NULL;
    segment->queued = false;
    shard->sealing_count--;
    segment_let_file_go(segment, shard->config.read_mapped);
    due = is_merge_due(shard, segment);
    pthread_mutex_unlock(&shard->lock);
    shard_allow_syncs(shard);
    if (due)
        shard_ask_for_work(shard, SHARD_WORK_MERGE);
}

/* A worker goes on with a merge that was asked for before it seals the next: else a writer that
 * fills segments as fast as they are sealed would keep it from ever freeing any. */
static bool merge_comes_first(struct shard *shard)
{
    bool wait;

    if (!(atomic_load(&shard->work) & SHARD_WORK_MERGE))
        return false;
    pthread_mutex_lock(&shard->lock);
    wait = shard->sealing_first != NULL;
    pthread_mutex_unlock(&shard->lock);
    if (wait)
        shard_ask_for_work(shard, SHARD_WORK_SEAL);
    return wait;
}

static int seal_waiting(struct shard *shard, enum sealing why)
{
    for (;;) {
        struct segment *segment;
        enum sealing how = why;
        int status;

        pthread_mutex_lock(&shard->lock);
        segment = shard->sealing_first;
        /* Writers come first while only a few segments wait, and no merge waits for these. */
        if (why == SEAL_NICELY &&
            (shard->sealing_count > WAITING_MAX || atomic_load(&shard->merging)))
            how = SEAL_NOW;
        pthread_mutex_unlock(&shard->lock);
        if (!segment)
            return CASK_OK;
        status = seal(shard, segment, how);
        if (status != CASK_OK) {
            warn(shard, segment->id, status, "sealing");
            return status;
        }
        unqueue(shard, segment);
        if (why == SEAL_NICELY && merge_comes_first(shard))
            return CASK_OK;
    }
}

int shard_seal_waiting(struct shard *shard, bool in_background)
{
    int status;

    if (in_background && !turn_take(shard, TURN_SEAL))
        return CASK_OK;
    pthread_mutex_lock(&shard->seal_lock);
    status = seal_waiting(shard, in_background ? SEAL_NICELY : SEAL_NOW);
    pthread_mutex_unlock(&shard->seal_lock);
    if (in_background)
        turn_pass_on(shard, TURN_SEAL);
    return status;
}

/* One after the other: the lock is not held meanwhile. */
static struct segment *next_hintless(struct shard *shard, uint64_t from_id)
{
    struct segment *segment;

    pthread_mutex_lock(&shard->lock);
    segment = segments_at_or_after(&shard->segments, from_id);
    while (segment && !(segment->hintless && segment->in_manifest_sealed && !segment->unlisted))
        segment = segments_at_or_after(&shard->segments, segment->id + 1);
    pthread_mutex_unlock(&shard->lock);
    return segment;
}

void shard_write_missing_hints(struct shard *shard)
{
    struct segment *segment = next_hintless(shard, 0);

    for (; segment; segment = next_hintless(shard, segment->id + 1)) {
        uint64_t checksum;
        bool damaged;
        int status;

        segment->hintless = false;
        status = write_hint(shard, segment, &checksum, &damaged);
        if (status != CASK_OK) { /* a pity: the next open reads the segment instead */
            segment->hintless = true;
            return;
        }
    }
}

int shard_seal_to_merge(struct shard *shard)
{
    int status;

    pthread_mutex_lock(&shard->seal_lock);
    status = seal_waiting(shard, SEAL_TO_MERGE);
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
static void populate_keydir(struct shard *shard)
{
    pthread_mutex_lock(&shard->ahead_lock);
    keydir_populate(index_keydir(&shard->index));
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

    if (work & SHARD_WORK_POPULATE)
        populate_keydir(shard);
    if (work & SHARD_WORK_EXTEND)
        extend(shard);

    if (work & SHARD_WORK_PREPARE)
        status = shard_prepare(shard, 0, PREPARE_FOR_WRITES);
    if (work & SHARD_WORK_FLUSH) /* before what nobody waits for */
        status = status_first(spill_flush_asked(shard), status);
    else if (work & SHARD_WORK_TIDY)
        status = status_first(spill_tidy(shard), status);
    if (work & SHARD_WORK_SEAL)
        status = status_first(seal_in_background(shard), status);
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
