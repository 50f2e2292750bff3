/* What a merge does to a shard: new segments in, old ones out, and the index moved over.
 *
 * Order, each step durable before the next: the outputs (bytes, hints), the manifest that names
 * them instead of the inputs, the unlinking of the inputs. Interrupted anywhere, the next open
 * finds either set listed, and removes the files of the other.
 */
#include <time.h>

#include "shard/shard.h"

#define CANDIDATES 16u
#define AT_ONCE 64u /* entries moved under the lock in one go */
#define WAIT_NS 2000000
#define WAITS_MAX 50u /* 100 ms */

/* ---- outputs --------------------------------------------------------------------------------- */

static void unlink_files(struct shard *shard, uint64_t id)
{
    char name[SEGMENT_NAME_BYTES];
    int status;

    segment_data_name(id, name);
    status = io_unlink(shard->dir, name);
    segment_hint_name(id, name);
    status = status_first(status, io_unlink(shard->dir, name));
    (void)status; /* orphans, if they stay, are removed by the next open */
}

int shard_create_output(struct shard *shard, uint64_t bytes, struct segment **ret_segment)
{
    uint64_t capacity = SEGMENT_HEADER_BYTES + bytes + SEGMENT_SEAL_BYTES;
    struct log_config config = shard->config;
    struct segment *segment;
    uint64_t id = 0;
    int status = CASK_OK;

    config.write_mapped =
        false; /* written once in large pieces: a mapping would pay for its faults */
    pthread_mutex_lock(&shard->manifest_lock);
    if (shard->next_segment > location_segment_max(shard->config.offset_bits))
        status = CASK_ENOTSUP;
    else
        id = shard->next_segment++;
    pthread_mutex_unlock(&shard->manifest_lock);
    if (status == CASK_OK)
        status = segment_create(shard->dir, &config, id, 0, capacity, &segment);
    if (status != CASK_OK)
        return status;
    segment->unlisted = true;
    status = segment_ensure(segment, bytes, false);
    if (status == CASK_OK) {
        pthread_mutex_lock(&shard->lock);
        status = segments_add(&shard->segments, segment);
        pthread_mutex_unlock(&shard->lock);
    }
    if (status != CASK_OK) {
        segment_close(segment);
        unlink_files(shard, id);
        return status;
    }
    *ret_segment = segment;
    return CASK_OK;
}

/* Of a shard that has failed nobody knows which manifest holds: then the files stay. What has been
 * stored is committed first, so that a file that stays is one like any other. */
void shard_discard_output(struct shard *shard, struct segment *output)
{
    int status = output->sealed ? CASK_OK : segment_commit(output);

    (void)status; /* no manifest that lists it is known of */
    pthread_mutex_lock(&shard->lock);
    segments_remove(&shard->segments, output->id);
    pthread_mutex_unlock(&shard->lock);
    if (atomic_load(&shard->failed) == CASK_OK)
        unlink_files(shard, output->id);
    segment_close(output);
}

static int append_seal(struct segment *output, uint64_t sequence)
{
    struct record record = {.type = RECORD_SEAL, .sequence = sequence};
    uint8_t value[8] = {0}; /* no segment follows */
    uint64_t offset;
    int status;

    record.value = (struct cask_slice){value, sizeof value};
    status = segment_append(output, &record, &offset);
    return status == CASK_OK ? segment_commit(output) : status;
}

int shard_finish_output(struct shard *shard, struct segment *output, struct hint *hint)
{
    int status = append_seal(output, hint->max_sequence);

    if (status == CASK_OK)
        status = segment_trim(output);
    if (status == CASK_OK)
        status = io_sync(output->file);
    pthread_mutex_lock(&shard->lock); /* it is in the table already */
    output->sealed = true;
    output->synced = true;
    output->counts.dead_bytes = segment_tail(output) - SEGMENT_HEADER_BYTES;
    pthread_mutex_unlock(&shard->lock);
    hint->length = segment_tail(output);
    if (status == CASK_OK)
        status = shard_checksum_segment(output, hint->length, &hint->data_checksum);
    output->sealed_checksum = hint->data_checksum;
    if (status == CASK_OK) { /* syncs the directory too, which names both files */
        status = shard_write_hint(shard, hint);
        output->hintless = status == CASK_ENOSPC;
        if (output->hintless) /* a pity: the next open reads the segment instead */
            status = io_dir_sync(shard->dir);
    }
    if (status == CASK_OK)
        segment_let_file_go(output, shard->config.read_mapped);
    return status;
}

/* ---- the manifest ---------------------------------------------------------------------------- */

static void list(struct shard *shard, struct segment **segments, size_t count, bool listed)
{
    pthread_mutex_lock(&shard->lock);
    for (size_t i = 0; i < count; i++) {
        segments[i]->unlisted = !listed;
        segments[i]->in_manifest_sealed = listed;
    }
    pthread_mutex_unlock(&shard->lock);
}

int shard_install(struct shard *shard, struct segment **inputs, size_t input_count,
                  struct segment **outputs, size_t output_count)
{
    int status;

    pthread_mutex_lock(&shard->manifest_lock);
    list(shard, outputs, output_count, true);
    list(shard, inputs, input_count, false);
    shard->relocates = true;
    status = shard_write_manifest(shard);
    shard->relocates = false;
    if (status != CASK_OK) {
        list(shard, outputs, output_count, false);
        list(shard, inputs, input_count, true);
    }
    pthread_mutex_unlock(&shard->manifest_lock);
    pthread_mutex_lock(&shard->lock);
    for (size_t i = 0; status == CASK_OK && i < output_count; i++)
        shard->counts.dead_bytes += outputs[i]->counts.dead_bytes;
    pthread_mutex_unlock(&shard->lock);
    return status;
}

/* ---- the index ------------------------------------------------------------------------------- */

/* Whether the keydir or the stage has an entry of the record's own key: then that is newer. */
static bool has_newer(struct shard *shard, const struct relocation *relocation)
{
    uint64_t locations[CANDIDATES];
    unsigned staged;
    unsigned found = index_find(&shard->index, relocation->tag, locations, CANDIDATES, &staged);
    bool newer = found > CANDIDATES; /* beyond all odds: the old entry stays, and is stale */
    struct record_buffer mine_buffer;
    struct found mine;

    if (found == 0)
        return false;
    record_buffer_init(&mine_buffer);
    if (shard_read_unverified(shard, relocation->from, &mine_buffer, &mine) != CASK_OK) {
        shard->index.doubles = true;
        found = 0;
    }
    for (unsigned i = 0; !newer && i < found; i++) {
        struct record_buffer buffer;
        struct found other;
        int status;

        record_buffer_init(&buffer);
        status = shard_read_unverified(shard, locations[i], &buffer, &other);
        newer = status == CASK_OK && record_same_key(&other.record, &mine.record);
        shard->index.doubles |= status != CASK_OK && status != CASK_NOTFOUND;
        record_buffer_release(&buffer);
    }
    record_buffer_release(&mine_buffer);
    return newer;
}

/* An entry that lies in a lower tier, where nothing changes: a new one above shadows it. What it
 * takes may not be refused any more. False if a newer write stands. */
static bool put_above(struct shard *shard, const struct relocation *relocation)
{
    struct keydir *keydir = index_keydir(&shard->index);
    int status;

    if (!index_has_lower(&shard->index) || has_newer(shard, relocation))
        return false;
    keydir->overdraws = true;
    status = keydir_reserve(keydir, 1);
    if (status == CASK_OK)
        status = keydir_insert(keydir, relocation->tag, relocation->to);
    keydir->overdraws = false;
    if (status != CASK_OK)
        shard_fail(shard, status, "indexing a merge");
    return status == CASK_OK;
}

/* An entry that leads to a tombstone is needed only where an older one may lie below, or beside it
 * for want of a proof. */
static void relocate_dead(struct shard *shard, const struct relocation *relocation)
{
    struct keydir *keydir = index_keydir(&shard->index);
    bool keep = relocation->output && (index_has_lower(&shard->index) || shard->index.doubles);
    bool found = keep ? keydir_replace(keydir, relocation->tag, relocation->from, relocation->to)
                      : keydir_remove(keydir, relocation->tag, relocation->from);

    if (found && relocation->was_live)
        shard_count_dead(shard, relocation->input, relocation->size);
    if (found && keep && relocation->was_live)
        shard->index.tombstones++;
    if (found && !keep && !relocation->was_live && shard->index.tombstones > 0)
        shard->index.tombstones--;
    if (found || !index_has_lower(&shard->index))
        return;
    shard->index.lower_tombstones += relocation->was_live; /* the entry below leads nowhere now */
    if (keep && put_above(shard, relocation))
        shard->index.tombstones++;
}

/* Until its entry is moved a copy counts as dead; then the two change places. */
static void relocate(struct shard *shard, const struct relocation *relocation)
{
    struct keydir *keydir = index_keydir(&shard->index);
    struct segment_counts *from = &relocation->input->counts;

    if (!relocation->output || relocation->tombstone) {
        relocate_dead(shard, relocation);
    } else if (keydir_replace(keydir, relocation->tag, relocation->from, relocation->to) ||
               put_above(shard, relocation)) {
        from->live_bytes -= relocation->size;
        from->dead_bytes += relocation->size;
        relocation->output->counts.live_bytes += relocation->size;
        relocation->output->counts.dead_bytes -= relocation->size;
    }
}

void shard_relocate(struct shard *shard, const struct relocation *relocations, size_t count)
{
    for (size_t at = 0; at < count; at += AT_ONCE) {
        for (size_t i = at; i < count && i < at + AT_ONCE; i++)
            keydir_prefetch(index_keydir(&shard->index), relocations[i].tag);
        thread_lock_soon(&shard->lock); /* without sleeping: a writer would have to wake it */
        for (size_t i = at; i < count && i < at + AT_ONCE; i++)
            relocate(shard, &relocations[i]);
        pthread_mutex_unlock(&shard->lock);
    }
}

/* ---- inputs ---------------------------------------------------------------------------------- */

void shard_reap(struct shard *shard)
{
    struct segment **link = &shard->retired;

    while (*link) {
        struct segment *segment = *link;

        if (atomic_load_explicit(&segment->pins, memory_order_acquire) != 0) {
            link = &segment->next_retired;
            continue;
        }
        *link = segment->next_retired;
        segment_close(segment);
    }
}

/* Twice the readers are waited for: those that hold a location which led into an input must still
 * find it in the table, and those that found it there may pin it. */
void shard_retire(struct shard *shard, struct segment **inputs, size_t count)
{
    epoch_synchronize(&shard->env->epoch);
    pthread_mutex_lock(&shard->lock);
    for (size_t i = 0; i < count; i++) {
        struct segment *segment = inputs[i];

        shard->counts.live_bytes -= segment->counts.live_bytes;
        shard->counts.dead_bytes -= segment->counts.dead_bytes;
        shard->merge_counts.freed_bytes += segment_tail(segment);
        segments_remove(&shard->segments, segment->id);
    }
    pthread_mutex_unlock(&shard->lock);
    epoch_synchronize(&shard->env->epoch);
    for (size_t i = 0; i < count; i++) {
        unlink_files(shard, inputs[i]->id);
        inputs[i]->next_retired = shard->retired;
        shard->retired = inputs[i];
    }
    shard_reap(shard);
}

/* Under ahead_lock, so that nobody gets blocks meanwhile, and the lock, so that nobody uses
 * them. */
int shard_give_back(struct shard *shard)
{
    int status = CASK_OK;

    pthread_mutex_lock(&shard->ahead_lock);
    pthread_mutex_lock(&shard->lock);
    if (shard->active)
        status = segment_give_back(shard->active);
    if (status == CASK_OK && shard->next)
        status = segment_give_back(shard->next);
    pthread_mutex_unlock(&shard->lock);
    pthread_mutex_unlock(&shard->ahead_lock);
    return status;
}

/* No more than WAITS_MAX for each segment, whatever becomes of the merge: a disk that is full, or
 * slow, slows writers down and stops none. */
bool shard_wait_for_merge(struct shard *shard, unsigned *waits)
{
    struct timespec pause = {0, WAIT_NS};

    if (*waits == WAITS_MAX || shard->counts.dead_bytes <= shard->stall_above ||
        !atomic_load(&shard->merging) || atomic_load(&shard->failed) != CASK_OK)
        return false;
    shard->merge_counts.stalls += *waits == 0;
    (*waits)++;
    pthread_mutex_unlock(&shard->lock);
    nanosleep(&pause, NULL);
    pthread_mutex_lock(&shard->lock);
    return true;
}

int shard_leave_active(struct shard *shard, enum preparing why)
{
    int status = shard_prepare(shard, 0, why);

    if (status != CASK_OK)
        return status == CASK_EBUSY ? CASK_ENOSPC : status;
    pthread_mutex_lock(&shard->lock);
    if (shard->active && shard->next && shard->active->pending > SEGMENT_HEADER_BYTES &&
        shard->active->counts.records > 0)
        status = shard_move_on(shard);
    pthread_mutex_unlock(&shard->lock);
    return status;
}

int shard_make_headroom(struct shard *shard)
{
    bool leave = false;
    int status = CASK_OK;

    pthread_mutex_lock(&shard->seal_lock); /* no blocks are given back meanwhile */
    pthread_mutex_lock(&shard->lock);
    if (shard->active && segment_has_room(shard->active, 0, true) &&
        shard->active->pending < shard->rotate_above)
        status = segment_ensure_exactly(shard->active, 0, true);
    else
        leave = shard->active != NULL;
    pthread_mutex_unlock(&shard->lock);
    pthread_mutex_unlock(&shard->seal_lock);
    return leave ? shard_leave_active(shard, PREPARE_IN_NEED) : status;
}
