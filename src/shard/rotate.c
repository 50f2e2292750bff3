/* Moving on from segment to segment. The next one is made ready ahead of time, off the lock, so
 * that moving on costs a put no more than one small record. */
#include "shard/shard.h"

#include <stdlib.h>

#define SEALING_MAX 16u
#define WAITS_FOR_RESERVE 3u
#define RESERVE_FROM ((uint64_t)4 << 20)   /* smaller stores need none with room on the disk */
#define RESERVE_BASE ((uint64_t)32 << 10)  /* for manifests, and what files are rounded up by */
#define RESERVE_COPY ((uint64_t)256 << 10) /* at least, or a segment, if that is smaller */
#define RESERVE_PART 64u                   /* of the store, to begin with */
#define RESERVE_STEP 4096u
#define SCARCE_BYTES ((uint64_t)64 << 20) /* and two segments: with less free, it is a whole copy */
#define RUN_ENTRY_COST 15u                /* bytes of a run, with its share of fence and filter */
#define RUN_LEAST_BYTES ((uint64_t)512 << 10) /* of two runs in the making, allocated ahead */
#define LISTED_TWICE 256u                     /* bytes of a segment in two manifests, and more */

/* ---- the manifest ---------------------------------------------------------------------------- */

static void describe(const struct segment *segment, struct manifest_segment *to)
{
    *to = (struct manifest_segment){.id = segment->id, .predecessor = segment->predecessor};
    if (segment->in_manifest_sealed) {
        to->flags = MANIFEST_SEALED;
        to->length = segment_tail(segment);
        to->checksum = segment->sealed_checksum;
    } else if (segment->clean_length > 0) {
        to->flags = MANIFEST_CLEAN;
        to->length = segment->clean_length;
    }
}

/* The figures of what an open need not read, which it cannot know otherwise. */
static void describe_covered(const struct segment *segment, struct manifest_segment *to)
{
    const struct segment_counts *counts = &segment->covered.counts;

    to->indexed = min_u64(segment->covered.end, segment_tail(segment));
    to->live_bytes = counts->live_bytes;
    to->dead_bytes = counts->dead_bytes;
    to->tombstone_bytes = min_u64(counts->tombstone_bytes, counts->dead_bytes);
    to->records = counts->records;
    to->min_sequence = counts->min_sequence;
    to->max_sequence = counts->max_sequence;
    to->last_expiry = counts->last_expiry;
}

/* Those made while the shard is being opened are of what is not called covered yet: the next open
 * would load it once more, and have entries in two tiers. */
static bool is_to_be_listed(const struct shard *shard, const struct run *run)
{
    return !shard->has_unlisted_runs || run->id < shard->first_loaded_run;
}

/* Under manifest_lock, as the list of runs changes. */
static void list_runs(struct shard *shard, struct manifest *manifest)
{
    const struct run_list *runs = index_lower(&shard->index).runs;

    for (uint32_t i = 0; runs && i < runs->count; i++) {
        const struct run *run = runs->runs[i];

        if (!is_to_be_listed(shard, run))
            continue;
        manifest->runs[manifest->run_count++] = (struct manifest_run){run->id, run->count,
                                                                      run->bytes, run->checksum};
    }
}

/* In ascending order of ids. Under the lock. */
static void list_segments(struct shard *shard, struct manifest *manifest, bool has_runs)
{
    struct segment *segment = segments_at_or_after(&shard->segments, 0);

    for (; segment; segment = segments_at_or_after(&shard->segments, segment->id + 1))
        if (!segment->unlisted) {
            describe(segment, &manifest->segments[manifest->count]);
            if (has_runs)
                describe_covered(segment, &manifest->segments[manifest->count]);
            manifest->count++;
        }
}

/* Of the runs, without those that the keydir has which is flushing. Under the lock. */
static void describe_tombstones(const struct shard *shard, struct manifest *manifest)
{
    const struct index *index = &shard->index;
    uint64_t count = index->lower_tombstones -
                     min_u64(index->flushing_tombstones, index->lower_tombstones);

    manifest->tombstones = (uint32_t)min_u64(count, UINT32_MAX);
    if (index->doubts || shard->relocates || count > UINT32_MAX)
        manifest->flags |= MANIFEST_DOUBTS;
}

int shard_write_manifest(struct shard *shard)
{
    struct manifest manifest = {.generation = shard->manifest_generation + 1,
                                .next_segment = shard->next_segment,
                                .next_run = shard->next_run,
                                .settled_batch = shard->settled_batch};
    const struct run_list *runs = index_lower(&shard->index).runs;
    bool trusted = !atomic_load(&shard->distrusts_runs);
    bool has_runs = trusted && runs && runs->count > 0;
    int status = CASK_OK;

    memcpy(manifest.boot_id, shard->env->boot_id, sizeof manifest.boot_id);
    pthread_mutex_lock(&shard->lock);
    if (has_runs)
        describe_tombstones(shard, &manifest);
    manifest.next_sequence = shard->next_sequence;
    manifest.segments = calloc((size_t)shard->segments.count + 1, sizeof *manifest.segments);
    manifest.runs = calloc(INDEX_RUNS_MAX, sizeof *manifest.runs);
    if (manifest.segments && manifest.runs)
        list_segments(shard, &manifest, has_runs);
    pthread_mutex_unlock(&shard->lock);
    if (!manifest.segments || !manifest.runs) {
        manifest_release(&manifest);
        return CASK_ENOMEM;
    }
    if (trusted)
        list_runs(shard, &manifest);
    status = manifest_write(&manifest, shard->dir, &shard->config);
    if (manifest.replaced)
        shard->manifest_generation++;
    /* Which of the two a power loss leaves nobody knows: nothing may be built on either. */
    if (manifest.replaced && status != CASK_OK)
        shard_fail(shard, status, "making the manifest durable");
    manifest_release(&manifest);
    return status;
}

/* ---- preparing ------------------------------------------------------------------------------- */

/* The shard's directory, made with its first segment. */
static int make_dir(struct shard *shard)
{
    char name[SEGMENT_NAME_BYTES];
    struct io_dir *dir;
    int status;

    if (shard->dir)
        return CASK_OK;
    shard_dir_name(shard->number, name);
    status = io_dir_make_at(shard->env->root, name);
    if (status != CASK_OK && status != CASK_EEXIST)
        return status;
    status = io_dir_open_at(shard->env->root, name, &dir);
    if (status != CASK_OK)
        return status;
    status = io_dir_sync(shard->env->root);
    if (status != CASK_OK) {
        io_dir_close(dir);
        return status;
    }
    shard->dir = dir;
    return CASK_OK;
}

/* One that no manifest lists. A shard that has failed does not know, and keeps the file. */
static void discard(struct shard *shard, struct segment *segment)
{
    char name[SEGMENT_NAME_BYTES];
    int status;

    segment_data_name(segment->id, name);
    segment_close(segment);
    if (atomic_load(&shard->failed) != CASK_OK)
        return;
    status = io_unlink(shard->dir, name);
    (void)status; /* an orphan, if it stays, is removed by the next open */
}

bool shard_write_otherwise(struct shard *shard)
{
    bool changed = shard->config.write_mapped && shard->config.write_fallback;

    shard->config.write_mapped &= !changed;
    return changed;
}

/* The first segments of the shards differ in size, so that keys spread evenly over the shards do
 * not make all of them go on to their next segment, and seal the last, at the same time. */
static uint64_t usual_capacity(const struct shard *shard, uint64_t predecessor)
{
    uint64_t usual = shard->config.segment_bytes;

    return predecessor != 0 ? usual : usual - usual / 2 * shard->number / shard->config.shard_count;
}

static int create(struct shard *shard, uint64_t size, uint64_t predecessor,
                  struct segment **ret_segment)
{
    uint64_t wanted = SEGMENT_HEADER_BYTES + size + SEGMENT_SEAL_BYTES;
    uint64_t headroom = min_u64(SEGMENT_HEADROOM_MAX, wanted / 15 + 1);
    uint64_t capacity = max_u64(usual_capacity(shard, predecessor), wanted + headroom);
    int status = segment_create(shard->dir, &shard->config, shard->next_segment++, predecessor,
                                capacity, ret_segment);

    if (status == CASK_ENOTSUP && shard_write_otherwise(shard)) {
        status = segment_create(shard->dir, &shard->config, shard->next_segment++, predecessor,
                                capacity, ret_segment);
    }
    return status;
}

/* The active segment once the blocks for `size` more bytes, which it gets now, are used up. */
static uint64_t copy_of_active(const struct shard *shard, uint64_t size)
{
    const struct segment *active = shard->active;
    uint64_t end = active->pending + size + segment_reserve(active, true);
    uint64_t allocated = max_u64(active->allocated, segment_allocation_for(active, end));

    return active->counts.live_bytes + active->counts.tombstone_bytes + allocated - active->pending;
}

/* The most that the merge of one segment may have to copy. */
static uint64_t largest_copy(const struct shard *shard, uint64_t size)
{
    const struct segment *segment = segments_at_or_after(&shard->segments, 0);
    uint64_t largest = size;

    if (shard->active && shard->active->allocated != UINT64_MAX)
        largest = copy_of_active(shard, size);
    for (; segment; segment = segments_at_or_after(&shard->segments, segment->id + 1))
        largest = max_u64(largest, segment->counts.live_bytes + segment->counts.tombstone_bytes);
    return largest;
}

/* Shards are all of about the same size. While there is room on the disk the copy grows with the
 * store, in steps, until it is a whole segment. */
static uint64_t usual_copy(const struct shard *shard)
{
    uint64_t segment = shard->config.segment_bytes;
    uint64_t store = (shard->counts.live_bytes + shard->counts.dead_bytes) *
                     shard->env->shard_count;
    uint64_t copy = RESERVE_COPY;

    if (store < min_u64(RESERVE_FROM, 2 * segment))
        return 0;
    while (copy < store / RESERVE_PART)
        copy *= 2;
    return min_u64(copy, segment);
}

/* But for what a merge is filling, whose figures are its own until it is listed. */
static uint64_t most_records(const struct shard *shard)
{
    const struct segment *segment = segments_at_or_after(&shard->segments, 0);
    uint64_t most = 0;

    for (; segment; segment = segments_at_or_after(&shard->segments, segment->id + 1))
        if (!segment->unlisted)
            most = max_u64(most, segment->counts.records);
    return most;
}

/* What an index on disk may have to write before anything is freed: a run of the keydir with the
 * entries of a copy, and one of all there is. */
static uint64_t runs_to_write(const struct shard *shard)
{
    uint64_t entries = atomic_load_explicit(&shard->index.run_entries, memory_order_relaxed);

    if (entries == 0)
        return 0;
    entries += 2 * keydir_count(index_keydir(&shard->index)) + most_records(shard);
    return entries * RUN_ENTRY_COST + RUN_LEAST_BYTES;
}

/* Room for a next segment with its headroom, the manifests, the copy of a segment, and runs. */
uint64_t shard_wanted_reserve(const struct shard *shard, uint64_t size)
{
    uint64_t segment = shard->config.segment_bytes;
    uint64_t runs = runs_to_write(shard);
    bool scarce = io_free_bytes(shard->env->root) < 2 * (segment + runs) + SCARCE_BYTES;
    uint64_t copy = scarce ? largest_copy(shard, size) + runs : usual_copy(shard);
    uint64_t listed = LISTED_TWICE;

    if (copy == 0)
        return 0;
    while (listed < shard->segments.count * (uint64_t)LISTED_TWICE)
        listed *= 2;
    return align_up(RESERVE_BASE + min_u64(SEGMENT_HEADROOM_MAX, segment / 16) + listed + copy,
                    RESERVE_STEP);
}

int shard_enter_reserve(struct shard *shard)
{
    uint64_t wanted;
    int status;

    if (shard->uses_reserve)
        return CASK_OK;
    pthread_mutex_lock(&shard->lock);
    wanted = shard_wanted_reserve(shard, 0);
    pthread_mutex_unlock(&shard->lock);
    status = reserve_enter(&shard->env->reserve, wanted);
    return status == CASK_EBUSY ? CASK_ENOSPC : status;
}

void shard_exit_reserve(struct shard *shard)
{
    if (!shard->uses_reserve)
        reserve_exit(&shard->env->reserve);
}

/* Its blocks come out of the reserve where a merge in need asks for it; no more than it must have
 * then. */
static int create_with_room(struct shard *shard, uint64_t size, uint64_t predecessor,
                            enum preparing why, struct segment **ret_segment)
{
    struct reserve *reserve = &shard->env->reserve;
    uint64_t wanted;
    int status;

    if (why == PREPARE_IN_NEED) {
        status = create(shard, size, predecessor, ret_segment);
        if (status != CASK_OK)
            return status;
        status = segment_give_back(*ret_segment);
        if (status != CASK_OK)
            discard(shard, *ret_segment);
        return status;
    }
    pthread_mutex_lock(&shard->lock);
    wanted = shard_wanted_reserve(shard, size);
    pthread_mutex_unlock(&shard->lock);
    status = reserve_enter(reserve, wanted);
    if (status != CASK_OK)
        return status;
    status = create(shard, size, predecessor, ret_segment);
    reserve_exit(reserve);
    return status;
}

/* Under manifest_lock. The id is used up even by a failure. */
static int prepare(struct shard *shard, uint64_t size, uint64_t predecessor, enum preparing why)
{
    struct segment *segment;
    int status = make_dir(shard);

    if (status == CASK_OK && shard->next_segment > location_segment_max(shard->config.offset_bits))
        status = CASK_ENOTSUP;
    if (status == CASK_OK)
        status = create_with_room(shard, size, predecessor, why, &segment);
    if (status != CASK_OK)
        return status;
    pthread_mutex_lock(&shard->lock);
    status = segments_add(&shard->segments, segment);
    pthread_mutex_unlock(&shard->lock);
    if (status != CASK_OK) {
        discard(shard, segment);
        return status;
    }
    status = shard_write_manifest(shard);
    pthread_mutex_lock(&shard->lock);
    if (status == CASK_OK)
        shard->next = segment;
    else
        segments_remove(&shard->segments, segment->id);
    pthread_mutex_unlock(&shard->lock);
    if (status != CASK_OK)
        discard(shard, segment);
    return status;
}

int shard_prepare(struct shard *shard, uint64_t size, enum preparing why)
{
    uint64_t predecessor;
    bool needed;
    int status = CASK_OK;

    pthread_mutex_lock(&shard->manifest_lock);
    pthread_mutex_lock(&shard->lock);
    needed = !shard->next;
    predecessor = shard->active ? shard->active->id : shard->segments.last_id;
    pthread_mutex_unlock(&shard->lock);
    if (needed)
        status = prepare(shard, size, predecessor, why);
    pthread_mutex_unlock(&shard->manifest_lock);
    return status;
}

/* ---- moving on ------------------------------------------------------------------------------- */

static int append_seal(struct shard *shard)
{
    struct segment *active = shard->active;
    struct record record = {.type = RECORD_SEAL, .sequence = shard->next_sequence};
    uint8_t value[8];
    uint64_t offset;
    uint64_t size;
    int status;

    put_u64(value, shard->next->id);
    record.value = (struct cask_slice){value, sizeof value};
    size = record_size(&record);
    status = segment_ensure(active, 0,
                            false); /* a resumed segment has no blocks behind its tail yet */
    if (status != CASK_OK)
        return status;
    status = segment_append(active, &record, &offset);
    if (status == CASK_OK)
        status = segment_commit(active);
    if (status != CASK_OK) {
        int undone = segment_rollback(active);

        if (undone != CASK_OK)
            shard_fail(shard, undone, "taking back a failed seal");
        return status;
    }
    shard->next_sequence++;
    shard->position += size;
    shard->dirty = true;
    active->counts.dead_bytes += size;
    active->counts.max_sequence = record.sequence;
    shard->counts.dead_bytes += size;
    shard->counts.written_bytes += size;
    return CASK_OK;
}

void shard_queue_for_sealing(struct shard *shard, struct segment *segment)
{
    segment->sealed = true;
    segment->queued = true;
    segment->end_position = shard->position;
    shard->sealing_count++;
    if (shard->sealing_last)
        shard->sealing_last->next_sealing = segment;
    else
        shard->sealing_first = segment;
    shard->sealing_last = segment;
    shard_ask_for_work(shard, SHARD_WORK_SEAL);
}

int shard_move_on(struct shard *shard)
{
    if (shard->active) {
        int status = append_seal(shard);

        if (status != CASK_OK)
            return status;
        shard_queue_for_sealing(shard, shard->active);
    }
    shard->active = shard->next;
    shard->next = NULL;
    return CASK_OK;
}

/* With too many segments waiting to be sealed, the writer lends a hand: descriptors and the work of
 * the next open stay bounded. */
static void help_sealing(struct shard *shard)
{
    int status;

    if (shard->sealing_count < SEALING_MAX)
        return;
    pthread_mutex_unlock(&shard->lock);
    status = shard_seal_waiting(shard, false);
    pthread_mutex_lock(&shard->lock);
    (void)status; /* told to the log; the segments stay in line */
}

/* Blocks for the record and what is kept free behind it: had here, not when it is appended, since
 * the reserve comes first. */
static int ensure_blocks(struct shard *shard, uint64_t size, bool keep_headroom)
{
    struct reserve *reserve = &shard->env->reserve;
    int status;

    if (segment_has_blocks(shard->active, size, keep_headroom))
        return CASK_OK;
    status = reserve_enter(reserve, shard_wanted_reserve(shard, size));
    if (status != CASK_OK)
        return status;
    status = segment_ensure(shard->active, size, keep_headroom);
    reserve_exit(reserve);
    return status;
}

/* Before it is full, so that its dead records can be merged: that is worth no waiting for a next
 * segment which somebody is about to make ready. */
static bool has_to_move_on(const struct shard *shard)
{
    return shard->active->pending >= shard->rotate_above &&
           (shard->next || shard->active->capacity < SHARD_AHEAD_FROM);
}

int shard_make_room(struct shard *shard, uint64_t size, enum record_type type)
{
    bool keep_headroom = type != RECORD_DELETE;
    unsigned waits = 0;
    unsigned merge_waits = 0;

    help_sealing(shard);
    for (;;) {
        int status = atomic_load_explicit(&shard->failed, memory_order_relaxed);

        if (status != CASK_OK)
            return status;
        if (shard->active && segment_has_room(shard->active, size, keep_headroom) &&
            !has_to_move_on(shard)) {
            status = ensure_blocks(shard, size, keep_headroom);
            if (status != CASK_EBUSY)
                return status;
        } else if (shard->next && keep_headroom && shard_wait_for_merge(shard, &merge_waits)) {
            continue;
        } else if (shard->next) {
            status = shard_move_on(shard);
        } else {
            pthread_mutex_unlock(&shard->lock);
            status = shard_prepare(shard, size, PREPARE_FOR_WRITES);
            pthread_mutex_lock(&shard->lock);
        }
        if (status == CASK_EBUSY) { /* a merge is freeing the disk */
            if (++waits > WAITS_FOR_RESERVE)
                return CASK_ENOSPC;
            pthread_mutex_unlock(&shard->lock);
            reserve_wait(&shard->env->reserve);
            pthread_mutex_lock(&shard->lock);
        } else if (status != CASK_OK) {
            return status;
        }
    }
}
