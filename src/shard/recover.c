#include "shard/recover.h"

#include <stdio.h>
#include <stdlib.h>

#define CHUNK_BYTES ((size_t)1 << 20)
#define HINT_AT_LENGTH 40u /* see log/hint.h */
#define REBUILD_LINES 8u   /* told while the runs of a shard are made anew */
#define WAITING_PART 16u   /* of the index's budget, for entries that wait */
#define WAITING_MIN 64u

void recover_release(struct recovery *recovery)
{
    for (uint64_t i = 0; i < recovery->tail_count; i++)
        tail_release(&recovery->tails[i]);
    free(recovery->tails);
    free(recovery->loader.tombstones);
    manifest_release(&recovery->manifest);
    memset(recovery, 0, sizeof *recovery);
}

void recover_tell(struct shard *shard, enum cask_log_level level, uint64_t segment, uint64_t offset,
                  const char *what)
{
    if (level == CASK_LOG_WARNING && shard->env->read_only)
        level = CASK_LOG_INFO;
    report(&shard->env->reporter, level, "%s/shard-%03u/%llu.data: offset %llu: %s",
           shard->env->path, (unsigned)shard->number, (unsigned long long)segment,
           (unsigned long long)offset, what);
}

/* ---- the manifest ---------------------------------------------------------------------------- */

static int read_manifest(struct recovery *recovery)
{
    static const uint8_t unknown[16];
    struct shard *shard = recovery->shard;
    char name[SEGMENT_NAME_BYTES];
    int status;

    shard_dir_name(shard->number, name);
    status = io_dir_open_at(shard->env->root, name, &shard->dir);
    if (status == CASK_NOTFOUND)
        return CASK_OK; /* nothing was ever written here */
    if (status == CASK_OK)
        status = manifest_read(shard->dir, &shard->config, &recovery->manifest);
    if (status == CASK_NOTFOUND) {
        status = recover_check_unlisted(shard);
        if (status != CASK_OK)
            report(&shard->env->reporter, CASK_LOG_ERROR, "%s/%s/" MANIFEST_NAME ": %s",
                   shard->env->path, name,
                   status == CASK_ECORRUPT ? "missing, though there are records"
                                           : cask_strerror(status));
        recovery->told = status != CASK_OK;
        return status;
    }
    if (status != CASK_OK) {
        recovery->told = true;
        report(&shard->env->reporter, CASK_LOG_ERROR, "%s/%s/" MANIFEST_NAME ": %s",
               shard->env->path, name, cask_strerror(status));
        return status;
    }
    recovery->exists = true;
    /* A system that does not tell its boot id may have lost power at any time. */
    recovery->same_boot = memcmp(recovery->manifest.boot_id, shard->env->boot_id, sizeof unknown) ==
                              0 &&
                          memcmp(shard->env->boot_id, unknown, sizeof unknown) != 0;
    return CASK_OK;
}

static void note_loaded(struct recovery *recovery, uint64_t sequence)
{
    recovery->max_sequence = max_u64(recovery->max_sequence, sequence);
    recovery->loaded_sequence = max_u64(recovery->loaded_sequence, sequence);
}

/* ---- the segments ---------------------------------------------------------------------------- */

static int open_listed(struct recovery *recovery, const struct manifest_segment *listed,
                       struct segment **ret_segment)
{
    struct shard *shard = recovery->shard;
    int status = segment_open(shard->dir, &shard->config, listed->id, ret_segment);

    recovery->missed |= status == CASK_NOTFOUND;
    if (status == CASK_NOTFOUND && listed->flags == 0) {
        if (recovery->same_boot)
            recover_tell(shard, CASK_LOG_ERROR, listed->id, 0, "the segment is missing");
        *ret_segment =
            NULL; /* listed, but lost before it was durable: it held nothing that counts */
        recovery->relist = true;
        return CASK_OK;
    }
    if (status == CASK_NOTFOUND) {
        recover_tell(shard, CASK_LOG_ERROR, listed->id, 0, "the segment is missing");
        status = segment_open_missing(&shard->config, listed->id, ret_segment);
    }
    if (status != CASK_OK) {
        recover_tell(shard, CASK_LOG_ERROR, listed->id, 0, cask_strerror(status));
        recovery->told = true;
        return status;
    }
    if ((*ret_segment)->header_damaged && (*ret_segment)->file && listed->flags != 0)
        recover_tell(shard, CASK_LOG_ERROR, listed->id, 0, "the segment's header is damaged");
    status = segments_add(&shard->segments, *ret_segment);
    if (status != CASK_OK)
        segment_close(*ret_segment);
    return status;
}

/* The hint, if there is a good one for just what the manifest says is settled. A missing or bad
 * one, or one that a crash left newer than the manifest, is CASK_NOTFOUND. */
static int usable_hint(struct recovery *recovery, const struct manifest_segment *listed,
                       struct hint *ret_hint)
{
    struct shard *shard = recovery->shard;
    bool sealed = (listed->flags & MANIFEST_SEALED) != 0;
    int status;

    if (listed->flags == 0)
        return CASK_NOTFOUND;
    status = hint_read(shard->dir, &shard->config, listed->id, ret_hint);
    if (status == CASK_OK && (ret_hint->length != listed->length ||
                              (sealed && ret_hint->data_checksum != listed->checksum))) {
        hint_release(ret_hint);
        return CASK_NOTFOUND;
    }
    if (status == CASK_OK || status == CASK_EIO || status == CASK_ENOMEM)
        return status;
    recovery->missed |= status == CASK_NOTFOUND;
    if (listed->length > SEGMENT_HEADER_BYTES) {
        report(&shard->env->reporter, CASK_LOG_WARNING,
               "%s/shard-%03u/%llu.hint: %s; the segment is read instead", shard->env->path,
               (unsigned)shard->number, (unsigned long long)listed->id,
               status == CASK_NOTFOUND ? "missing" : cask_strerror(status));
        shard->counts.hints_rebuilt++;
    }
    return CASK_NOTFOUND;
}

static void report_damage(struct shard *shard, const struct tail *tail)
{
    if (tail->bad_bytes > 0)
        recover_tell(shard, CASK_LOG_ERROR, tail->segment->id, tail->end,
                     "damaged records were left out; the rest stays readable");
}

/* A sealed segment whose hint is no good: read it, and give it a new one. */
static int load_by_reading(struct recovery *recovery, struct segment *segment,
                           const struct manifest_segment *listed)
{
    struct shard *shard = recovery->shard;
    struct tail tail;
    uint64_t length = segment_tail(segment);
    int status = tail_read(shard, segment, SEGMENT_HEADER_BYTES, length, length, true, &tail);

    if (status != CASK_OK)
        return status;
    if (!tail.sealed || tail.damaged)
        report_damage(shard, &tail);
    segment->unmergeable = tail.damaged || tail.bad_bytes > 0;
    tail.end = length;
    status = load_tail(&recovery->loader, &tail);
    note_loaded(recovery, tail.max_sequence);
    if (status == CASK_OK && !shard->env->read_only && !tail.damaged && tail.bad_bytes == 0) {
        int written;

        tail.hint.length = listed->length;
        tail.hint.data_checksum = listed->checksum;
        tail.hint.max_sequence = max_u64(tail.hint.max_sequence, tail.max_sequence);
        written = hint_write(&tail.hint, shard->dir, &shard->config, shard->env->shard_bits);
        segment->hintless = written == CASK_ENOSPC; /* the next open reads the segment again */
    }
    tail_release(&tail);
    return status;
}

/* A sealed segment that the runs do not know all of: by its hint, or by reading it. */
static int load_sealed(struct recovery *recovery, struct segment *segment,
                       const struct manifest_segment *listed)
{
    struct hint hint;
    int status = usable_hint(recovery, listed, &hint);

    if (status == CASK_OK) {
        status = load_hint(&recovery->loader, segment, &hint);
        note_loaded(recovery, hint.max_sequence);
        hint_release(&hint);
    } else if (status == CASK_NOTFOUND) {
        /* with neither data nor hint it was reported already */
        status = segment->file ? load_by_reading(recovery, segment, listed) : CASK_OK;
    }
    return status;
}

/* Whether there is no hint of all of a segment: that of an earlier close covers less. */
static bool lacks_hint(const struct shard *shard, const struct manifest_segment *listed)
{
    char name[SEGMENT_NAME_BYTES];
    uint8_t length[8];
    struct io_file *file;
    bool lacks;
    int status;

    segment_hint_name(listed->id, name);
    status = io_open(shard->dir, name, IO_READ, &file);
    if (status != CASK_OK)
        return status == CASK_NOTFOUND;
    lacks = io_read(file, HINT_AT_LENGTH, length, sizeof length, NULL) == CASK_OK &&
            get_u64(length) != listed->length;
    io_close(file);
    return lacks;
}

/* One that the runs know all of, but for its seal. Its hint is read by merges and by verification;
 * where there is none, as the disk was full, it is made now. */
static int see_to_hint(struct recovery *recovery, struct segment *segment,
                       const struct manifest_segment *listed)
{
    const struct shard *shard = recovery->shard;

    if (!shard->env->read_only && segment->file && lacks_hint(shard, listed))
        return load_by_reading(recovery, segment, listed);
    load_rest(recovery->shard, segment, listed->length);
    return CASK_OK;
}

static int read_sealed(struct recovery *recovery, struct segment *segment,
                       const struct manifest_segment *listed)
{
    struct shard *shard = recovery->shard;
    int status = CASK_OK;

    if (segment->file && segment_tail(segment) < listed->length)
        recover_tell(shard, CASK_LOG_ERROR, listed->id, segment_tail(segment),
                     "the segment is shorter than it was when it was sealed");
    segment_set_tail(segment, min_u64(segment_tail(segment), listed->length));
    segment->sealed = true;
    segment->synced = true;
    segment->in_manifest_sealed = true;
    segment->sealed_checksum = listed->checksum;
    segment->predecessor = listed->predecessor;
    if (segment->covered.end + SEGMENT_SEAL_BYTES < listed->length)
        status = load_sealed(recovery, segment, listed);
    else
        status = see_to_hint(recovery, segment, listed);
    segment_let_file_go(segment, shard->config.read_mapped);
    return status;
}

/* One that was not sealed: what a hint or the runs cover is settled, the rest waits for
 * recover_resolve(). */
static int read_open(struct recovery *recovery, struct segment *segment,
                     const struct manifest_segment *listed)
{
    struct shard *shard = recovery->shard;
    struct tail *tail = &recovery->tails[recovery->tail_count];
    uint64_t size = segment_tail(segment);
    uint64_t settled = max_u64(listed->length, segment->covered.end);
    uint64_t from = SEGMENT_HEADER_BYTES;
    struct hint hint;
    int status;

    segment->predecessor = listed->predecessor;
    if ((listed->flags & MANIFEST_CLEAN) && listed->length <= segment->covered.end) {
        from = listed->length;
        segment->clean_length = listed->length;
        status = CASK_NOTFOUND; /* the runs know all that its hint does */
    } else {
        status = usable_hint(recovery, listed, &hint);
    }
    if (status == CASK_OK) {
        from = hint.length;
        segment->clean_length = hint.length;
        status = load_hint(&recovery->loader, segment, &hint);
        note_loaded(recovery, hint.max_sequence);
        hint_release(&hint);
    }
    if (status != CASK_OK && status != CASK_NOTFOUND)
        return status;
    if (!segment->file)
        return CASK_OK;
    if (size < settled)
        recover_tell(shard, CASK_LOG_ERROR, listed->id, size,
                     size < listed->length
                         ? "the segment is shorter than it was when the store was closed"
                         : "the segment is shorter than what the index knows of it");
    status = tail_read_uncovered(shard, segment, from, settled, recovery->same_boot, tail);
    if (status != CASK_OK)
        return status;
    tail->shortened = size < settled;
    tail->damaged |= tail->shortened;
    recovery->tail_count++;
    return CASK_OK;
}

/* What the runs of the index cover need not be read; its figures are in the manifest. */
static void take_covered(struct recovery *recovery, struct segment *segment,
                         const struct manifest_segment *listed)
{
    struct shard *shard = recovery->shard;

    if (!recovery->has_runs || recovery->manifest.run_count == 0)
        return;
    segment->counts = (struct segment_counts){
        listed->live_bytes,   listed->dead_bytes,   listed->tombstone_bytes, listed->records,
        listed->min_sequence, listed->max_sequence, listed->last_expiry};
    segment->covered = (struct segment_cover){listed->indexed, segment->counts};
    segment->covered_before = segment->covered;
    segment->covering = segment->covered;
    shard->counts.live_bytes += listed->live_bytes;
    shard->counts.dead_bytes += listed->dead_bytes;
    recovery->max_sequence = max_u64(recovery->max_sequence, listed->max_sequence);
    if (listed->flags & MANIFEST_SEALED)
        note_loaded(recovery, listed->max_sequence);
}

/* Runs that cannot be used are made anew from the segments, which are all read then. */
static int open_runs(struct recovery *recovery)
{
    struct shard *shard = recovery->shard;
    int status = spill_open_runs(shard, &recovery->manifest);

    recovery->has_runs = status == CASK_OK;
    recovery->missed |= status != CASK_OK;
    if (status != CASK_ECORRUPT)
        return status;
    report(&shard->env->reporter, CASK_LOG_WARNING,
           "%s/shard-%03u/index: a run is missing or damaged; the index is made anew from the log",
           shard->env->path, (unsigned)shard->number);
    shard->has_unlisted_runs = true; /* the manifest is to forget those it names */
    if (shard->env->read_only)       /* which nobody writes */
        atomic_store(&shard->distrusts_runs, true);
    return CASK_OK;
}

/* It takes as long as the log is large. */
static void tell_how_far(const struct recovery *recovery, uint64_t done)
{
    const struct shard *shard = recovery->shard;
    uint64_t count = recovery->manifest.count;

    if (shard->has_unlisted_runs &&
        done * REBUILD_LINES / count != (done - 1) * REBUILD_LINES / count)
        report(&shard->env->reporter, CASK_LOG_INFO,
               "%s/shard-%03u/index: made anew: %llu of %llu segments read", shard->env->path,
               (unsigned)shard->number, (unsigned long long)done, (unsigned long long)count);
}

static int read_segments(struct recovery *recovery)
{
    const struct manifest *manifest = &recovery->manifest;
    int status = CASK_OK;

    recovery->tails = calloc((size_t)manifest->count + 1, sizeof *recovery->tails);
    if (!recovery->tails)
        return CASK_ENOMEM;
    for (uint64_t i = 0; status == CASK_OK && i < manifest->count; i++) {
        const struct manifest_segment *listed = &manifest->segments[i];
        struct segment *segment;

        status = open_listed(recovery, listed, &segment);
        if (status != CASK_OK || !segment)
            continue;
        take_covered(recovery, segment, listed);
        if (listed->flags & MANIFEST_SEALED)
            status = read_sealed(recovery, segment, listed);
        else
            status = read_open(recovery, segment, listed);
        if (!recovery->has_runs)
            tell_how_far(recovery, i + 1);
    }
    return status;
}

/* No open fails without a line in the log that says where. */
static void tell_failure(struct recovery *recovery, int status)
{
    if (status == CASK_OK || recovery->told)
        return;
    recovery->told = true;
    report(&recovery->shard->env->reporter, CASK_LOG_ERROR, "%s/shard-%03u: opening failed (%s)",
           recovery->shard->env->path, (unsigned)recovery->shard->number, cask_strerror(status));
}

/* A reader beside a live writer: what it missed a merge may have taken away meanwhile. Then it is
 * to start again. */
static int check_overtaken(struct recovery *recovery)
{
    struct shard *shard = recovery->shard;
    struct manifest now;
    int status;

    if (!shard->env->read_only || !recovery->missed)
        return CASK_OK;
    status = manifest_read(shard->dir, &shard->config, &now);
    if (status != CASK_OK)
        return status;
    if (now.generation != recovery->manifest.generation)
        status = CASK_NOTFOUND;
    manifest_release(&now);
    return status;
}

int recover_read(struct shard *shard, struct recovery *ret_recovery)
{
    struct recovery *recovery = ret_recovery;
    int status;

    memset(recovery, 0, sizeof *recovery);
    recovery->shard = shard;
    recovery->loader.shard = shard;
    recovery->loader.newest = UINT64_MAX; /* segments are not in the order of sequence numbers */
    spill_bound_loading(shard, shard->env->spills);
    status = read_manifest(recovery);
    if (status == CASK_OK && shard->dir)
        status = recover_look_through_names(recovery);
    if (status == CASK_OK && recovery->exists && !shard->env->read_only)
        status = spill_remove_orphans(shard, &recovery->manifest);
    if (status == CASK_OK && recovery->exists)
        status = open_runs(recovery);
    if (status == CASK_OK && recovery->exists)
        status = read_segments(recovery);
    if (status == CASK_OK && recovery->exists)
        status = check_overtaken(recovery);
    shard->settled_batch = recovery->manifest.settled_batch;
    shard->manifest_generation = recovery->manifest.generation;
    tell_failure(recovery, status);
    return status;
}

/* A reader beside a live writer goes on with the entries that there are. */
uint64_t recover_entries_that_wait(const struct shard_env *env)
{
    uint64_t bytes = env->budget.limit_bytes / WAITING_PART / env->shard_count;

    return env->read_only ? UINT64_MAX : max_u64(bytes / HINT_ENTRY_BYTES, WAITING_MIN);
}

/* ---- making it so ---------------------------------------------------------------------------- */

/* Writes the bytes that are kept once more. Where a sync had failed, they may be in the page cache
 * only, and clean: the next sync would say that all is well and write nothing. */
static int write_again(struct io_file *file, const struct tail *tail)
{
    uint8_t *chunk = malloc(CHUNK_BYTES);
    int status = chunk ? CASK_OK : CASK_ENOMEM;

    for (uint64_t at = tail->from; status == CASK_OK && at < tail->end; at += CHUNK_BYTES) {
        size_t size = (size_t)min_u64(CHUNK_BYTES, tail->end - at);
        size_t got;

        status = io_read(file, at, chunk, size, &got);
        if (status == CASK_OK)
            status = io_write(file, at, chunk, got);
    }
    free(chunk);
    return status;
}

/* Cuts the file behind what counts and makes both durable. */
static int settle_file(const struct recovery *recovery, const struct tail *tail)
{
    struct shard *shard = recovery->shard;
    char name[SEGMENT_NAME_BYTES];
    struct io_file *file;
    uint64_t size;
    int status;

    segment_data_name(tail->segment->id, name);
    status = io_open(shard->dir, name, IO_WRITE, &file);
    if (status != CASK_OK)
        return status;
    status = io_size(file, &size);
    if (status == CASK_OK && size > tail->end && !tail->damaged)
        status = io_truncate(file, tail->end);
    if (status == CASK_OK && recovery->same_boot && !tail->damaged)
        status = write_again(file, tail);
    if (status == CASK_OK)
        status = io_sync(file);
    io_close(file);
    return status;
}

static void report_cut(struct shard *shard, const struct tail *tail)
{
    shard->counts.recovered_records += tail->records;
    if (tail->damaged) {
        report_damage(shard, tail);
        return;
    }
    shard->counts.cut_bytes += tail->bad_bytes;
    if (tail->bad_bytes > 0)
        recover_tell(shard, CASK_LOG_WARNING, tail->segment->id, tail->end,
                     "the log is torn here; it was cut");
}

/* A segment that the log does not reach any more: it is empty, or what it had does not count. Its
 * file goes once the manifest no longer lists it. */
static void drop_segment(struct recovery *recovery, struct tail *tail)
{
    struct segment_counts *counts = &tail->segment->counts;

    recovery->shard->counts.live_bytes -= counts->live_bytes;
    recovery->shard->counts.dead_bytes -= counts->dead_bytes;
    segments_remove(&recovery->shard->segments, tail->segment->id);
    segment_close(tail->segment);
    tail->segment = NULL;
    recovery->relist = true;
}

/* A header that never reached the disk: the segment cannot be gone on with. */
static bool can_resume(const struct tail *tail)
{
    return !tail->sealed && !tail->damaged && !tail->segment->header_damaged &&
           tail->end >= SEGMENT_HEADER_BYTES;
}

static int apply_tail(struct recovery *recovery, uint64_t i)
{
    struct shard *shard = recovery->shard;
    struct tail *tail = &recovery->tails[i];
    struct segment *segment = tail->segment;
    int status = CASK_OK;

    report_cut(shard, tail);
    recovery->damaged |= tail->damaged;
    segment->unmergeable = tail->damaged;
    recovery->max_sequence = max_u64(recovery->max_sequence, tail->max_sequence);
    load_cut(shard, segment, max_u64(tail->end, SEGMENT_HEADER_BYTES));
    if (tail->end <= SEGMENT_HEADER_BYTES && !tail->damaged && (i > 0 || segment->header_damaged)) {
        drop_segment(recovery, tail);
        return CASK_OK;
    }
    segment_set_tail(segment, tail->damaged ? segment->capacity : tail->end);
    if (!shard->env->read_only)
        status = settle_file(recovery, tail);
    if (status == CASK_OK)
        status = tail_read_entries(shard, tail);
    if (status == CASK_OK)
        status = load_tail(&recovery->loader, tail);
    hint_release(&tail->hint);
    if (status != CASK_OK || shard->env->read_only)
        return status;
    if (can_resume(tail)) {
        shard->active = segment;
        status = segment_resume(segment, shard->dir, &shard->config, tail->end);
        if (status == CASK_ENOTSUP && shard->config.write_fallback) {
            shard->config.write_mapped = false;
            status = segment_resume(segment, shard->dir, &shard->config, tail->end);
        }
        return status;
    }
    segment->sealed = true;
    segment->synced = true;
    segment->allocated = segment_tail(segment);
    if (!tail->shortened) /* whose hint knows more than its bytes */
        shard_queue_for_sealing(shard, segment);
    return CASK_OK;
}

static int unlink_dropped(struct recovery *recovery)
{
    struct shard *shard = recovery->shard;
    int status;

    pthread_mutex_lock(&shard->manifest_lock);
    status = shard_write_manifest(shard);
    pthread_mutex_unlock(&shard->manifest_lock);
    for (uint64_t i = 0; status == CASK_OK && i < recovery->manifest.count; i++) {
        uint64_t id = recovery->manifest.segments[i].id;
        char name[SEGMENT_NAME_BYTES];

        if (segments_get(&shard->segments, id))
            continue;
        segment_data_name(id, name);
        status = io_unlink(shard->dir, name);
        if (status == CASK_NOTFOUND)
            status = CASK_OK;
    }
    return status;
}

/* The highest sequence number that the index may have before the tails are loaded. Of a tail's own
 * segment it has what was covered, all of which is older than the rest of it: so what is loaded
 * last, which is the log's end and most of what there is, need not be looked for in the runs. */
static uint64_t newest_known(const struct recovery *recovery)
{
    uint64_t newest = recovery->loaded_sequence;

    for (uint64_t i = 0; i < recovery->tail_count; i++) {
        const struct tail *tail = &recovery->tails[i];

        if (tail->segment->covered.end > SEGMENT_HEADER_BYTES)
            newest = max_u64(newest, tail->first_sequence == 0 ? tail->segment->counts.max_sequence
                                                               : tail->first_sequence - 1);
    }
    return newest;
}

int recover_apply(struct recovery *recovery)
{
    struct shard *shard = recovery->shard;
    int status = CASK_OK;

    shard->next_segment = max_u64(recovery->max_id + 1,
                                  max_u64(recovery->manifest.next_segment, 1));
    if (!recovery->exists) {
        spill_bound_loading(shard, false);
        return CASK_OK;
    }
    if (recovery->overtaken) /* the writer went on to the next segment while this one was read */
        return CASK_NOTFOUND;
    recovery->loader.newest = newest_known(recovery);
    for (uint64_t i = 0; status == CASK_OK && i < recovery->tail_count; i++)
        status = apply_tail(recovery, i);
    load_finish(&recovery->loader);
    spill_bound_loading(shard, false);
    recovery->damaged &= !shard->env->read_only;
    shard->next_sequence = max_u64(
        max_u64(recovery->max_sequence + 1, recovery->manifest.next_sequence), 1);
    if (status == CASK_OK && recovery->relist && !shard->env->read_only)
        status = unlink_dropped(recovery);
    shard->dirty = shard->counts.recovered_records > 0;
    /* That a gap does not end the log must be known to the next open before anything is appended:
     * it may come after a power loss, and would have to end the log there. */
    if (status == CASK_OK && recovery->damaged)
        status = shard_seal_waiting(shard, false);
    tell_failure(recovery, status);
    return status;
}

int recover_settle(struct recovery *recovery)
{
    struct shard *shard = recovery->shard;
    int status = CASK_OK;

    if (shard->has_unlisted_runs && !shard->env->read_only)
        status = spill_settle(shard);
    tell_failure(recovery, status);
    return status;
}
