#include "merge/merge.h"

#include <stdlib.h>

#include "merge/merge_internal.h"
#include "shard/tail.h"

#define RELOCATED_AT_ONCE 64u
#define NEIGHBOURS 16u /* survivors whose entries are moved together */

int merge_pause(struct merge *merge, uint64_t bytes)
{
    return merge->pace && merge->pace->fn ? merge->pace->fn(merge->pace->context, bytes) : CASK_OK;
}

void merge_leave_alone(struct merge *merge, struct segment *input)
{
    pthread_mutex_lock(&merge->shard->lock);
    input->unmergeable = true;
    pthread_mutex_unlock(&merge->shard->lock);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

/* From the segment's bytes, in the order of places. */
static int scan_input(struct merge *merge, struct segment *input, struct hint *ret_hint)
{
    struct shard *shard = merge->shard;
    uint64_t length = segment_tail(input);
    struct hint hint;
    struct tail tail;
    int status;

    hint_init(&hint, input->id);
    status = hint_reserve(&hint, merge_records_of(input));
    if (status == CASK_OK)
        status = tail_read_settled(shard, input, SEGMENT_HEADER_BYTES, length, &hint, &tail);
    if (status == CASK_OK) {
        if (tail.damaged || tail.bad_bytes > 0) {
            merge_leave_alone(merge, input);
            status = CASK_ECORRUPT;
        }
        tail_release(&tail);
        merge->read_bytes += length;
    }
    if (status == CASK_OK)
        status = merge_pause(merge, length);
    if (status == CASK_OK)
        *ret_hint = hint;
    else
        hint_release(&hint);
    return status;
}

int merge_read_hint(struct merge *merge, struct segment *input, struct hint *ret_hint)
{
    struct shard *shard = merge->shard;
    int status = input->hintless ? CASK_NOTFOUND
                                 : hint_read(shard->dir, &shard->config, input->id, ret_hint);

    if (status == CASK_OK && (ret_hint->length != segment_tail(input) ||
                              ret_hint->data_checksum != input->sealed_checksum)) {
        hint_release(ret_hint);
        status = CASK_ECORRUPT;
    }
    if (status != CASK_NOTFOUND && status != CASK_ECORRUPT) {
        merge->read_bytes += status == CASK_OK ? ret_hint->file_bytes : 0;
        return status;
    }
    return scan_input(merge, input, ret_hint);
}

static void release(struct merge *merge)
{
    for (size_t i = 0; i < merge->output_count; i++)
        hint_release(&merge->output_hints[i]);
    pages_free(merge->survivors, merge->survivor_room * sizeof *merge->survivors);
    free(merge->outputs);
    free(merge->output_hints);
}

/* ---- the order of things --------------------------------------------------------------------- */

/* All entries that lead into the inputs are in the keydir then, not in the stage. */
static int drain(struct shard *shard)
{
    int status;

    pthread_mutex_lock(&shard->lock);
    status = shard_drain(shard);
    pthread_mutex_unlock(&shard->lock);
    return status;
}

/* What replaced the dead records may be in the page cache only. */
static int make_durable(struct shard *shard)
{
    uint64_t position;

    pthread_mutex_lock(&shard->lock);
    position = shard->position;
    pthread_mutex_unlock(&shard->lock);
    return shard_make_durable(shard, position);
}

static bool adds_up(const struct merge *merge)
{
    return merge->records_in == merge->survivor_count + merge->records_dead;
}

static uint64_t place_of_copy(const struct merge *merge, const struct survivor *survivor)
{
    return location_make(merge->outputs[survivor->output]->id,
                         (uint64_t)survivor->to * RECORD_ALIGNMENT,
                         merge->shard->config.offset_bits);
}

static struct relocation relocation_of(const struct merge *merge, const struct survivor *survivor)
{
    struct segment *input = merge->inputs[survivor->input];
    bool copied = survivor->fate != FATE_EXPIRED;

    return (struct relocation){.input = input,
                               .output = copied ? merge->outputs[survivor->output] : NULL,
                               .tombstone = survivor->fate != FATE_KEEP,
                               .was_live = survivor->fate != FATE_TOMBSTONE,
                               .from = location_make(input->id, survivor_offset(survivor),
                                                     merge->shard->config.offset_bits),
                               .to = copied ? place_of_copy(merge, survivor) : 0,
                               .size = survivor->size,
                               .tag = hash_tag(survivor->hash, merge->shard->env->shard_bits)};
}

/* Steps of this size meet each of `count` things once before any of them again, and what was met at
 * any time lies evenly among them, since it is the golden ratio of them, near enough. */
static size_t even_step(size_t count)
{
    size_t step = (size_t)((double)count * 0.618034);

    for (;; step++) {
        size_t a = count;
        size_t b = step;

        while (b != 0) {
            size_t rest = a % b;

            a = b;
            b = rest;
        }
        if (a == 1)
            return step;
    }
}

/* A few entries at a time. Survivors are in the order of their tags. With the index on disk their
 * entries may be new in the keydir, and in that order they would all crowd at one end of the table:
 * so it is filled everywhere at once. */
static void relocate(struct merge *merge)
{
    struct shard *shard = merge->shard;
    struct relocation batch[RELOCATED_AT_ONCE];
    size_t total = merge->survivor_count;
    size_t groups = (total + NEIGHBOURS - 1) / NEIGHBOURS;
    size_t step = groups > 1 && index_has_lower(&shard->index) ? even_step(groups) : 1;
    size_t group = 0;
    size_t count = 0;

    for (size_t done = 0; done < groups; done++, group = (group + step) % groups) {
        size_t end = (size_t)min_u64((group + 1) * NEIGHBOURS, total);

        for (size_t i = group * NEIGHBOURS; i < end; i++) {
            const struct survivor *survivor = &merge->survivors[i];

            if (survivor->fate != FATE_TOMBSTONE || survivor->indexed)
                batch[count++] = relocation_of(merge, survivor);
        }
        if (count > RELOCATED_AT_ONCE - NEIGHBOURS) {
            shard_relocate(shard, batch, count);
            count = 0;
        }
    }
    shard_relocate(shard, batch, count);
}

static void note_tombstones(struct merge *merge)
{
    struct shard *shard = merge->shard;

    pthread_mutex_lock(&shard->lock);
    for (size_t i = 0; merge->carries_tombstones && i < merge->output_count; i++)
        merge->outputs[i]->carried_at = shard->merge_counts.done + 1;
    pthread_mutex_unlock(&shard->lock);
}

static bool all_have_hints(const struct merge *merge)
{
    for (size_t i = 0; i < merge->input_count; i++)
        if (merge->inputs[i]->hintless)
            return false;
    return true;
}

/* Those that found no room before the inputs were gone: they are no larger than the inputs' own. */
static void write_late_hints(struct merge *merge)
{
    struct shard *shard = merge->shard;

    for (size_t i = 0; i < merge->output_count; i++)
        if (merge->outputs[i]->hintless)
            merge->outputs[i]->hintless = hint_write(&merge->output_hints[i], shard->dir,
                                                     &shard->config,
                                                     shard->env->shard_bits) != CASK_OK;
}

static void discard_outputs(struct merge *merge)
{
    for (size_t i = 0; i < merge->output_count; i++) {
        shard_discard_output(merge->shard, merge->outputs[i]);
        hint_release(&merge->output_hints[i]);
    }
    merge->output_count = 0;
}

static int copy_survivors(struct merge *merge)
{
    int status = merge->by_index ? merge_gather(merge) : merge_sift(merge);

    if (status == CASK_OK && !adds_up(merge))
        status = CASK_ECORRUPT;
    return status == CASK_OK ? merge_copy(merge) : status;
}

/* By the index where that will do. */
static int copy(struct merge *merge)
{
    int status;

    merge->by_index = merge_can_gather(merge);
    status = copy_survivors(merge);
    if (status != CASK_NOTFOUND || !merge->by_index)
        return status;
    discard_outputs(merge);
    merge->by_index = false;
    merge->survivor_count = 0;
    merge->records_in = 0;
    merge->records_dead = 0;
    merge->written_bytes = 0;
    return copy_survivors(merge);
}

/* From the installation on there is no way back: what may fail comes before it. With the index on
 * disk the entries of the copies are new ones in memory, which takes what it must: so that is had
 * first, and there is nothing of an earlier merge. */
static int run(struct merge *merge)
{
    struct shard *shard = merge->shard;
    int status = spill_flush_excess(shard);

    if (status == CASK_OK)
        status = merge_expect_survivors(merge);
    if (status == CASK_OK) {
        spill_set_aside(shard, merge->survivors_expected);
        status = drain(shard);
    }
    if (status == CASK_OK)
        status = copy(merge);
    if (status == CASK_OK)
        status = merge_check(merge);
    if (status == CASK_OK)
        status = make_durable(shard);
    if (status == CASK_OK)
        status = shard_install(shard, merge->inputs, merge->input_count, merge->outputs,
                               merge->output_count);
    return status;
}

static void count(struct merge *merge, int status)
{
    struct shard *shard = merge->shard;

    pthread_mutex_lock(&shard->lock);
    shard->merge_counts.read_bytes += merge->read_bytes;
    shard->merge_counts.written_bytes += merge->written_bytes;
    if (status == CASK_OK) {
        shard->merge_counts.done++;
    } else if (status != CASK_EBUSY) {
        shard->merge_counts.failed++;
        shard->merge_counts.last_error = status;
    }
    pthread_mutex_unlock(&shard->lock);
}

/* The index, from the inputs to the outputs, of which the manifest tells already. Where an entry
 * finds no memory the shard has failed, and the inputs stay, since entries may still lead there:
 * the next open removes them. */
static int move_over(struct merge *merge)
{
    struct shard *shard = merge->shard;
    bool had_hints = all_have_hints(merge);
    int status;

    note_tombstones(merge);
    relocate(merge);
    status = atomic_load(&shard->failed);
    if (status != CASK_OK)
        return status;
    shard_retire(shard, merge->inputs, merge->input_count);
    if (had_hints)
        write_late_hints(merge);
    return CASK_OK;
}

int merge_segments(struct shard *shard, struct segment **inputs, size_t input_count,
                   uint64_t output_bytes, const struct merge_pace *pace)
{
    struct merge merge = {.shard = shard,
                          .inputs = inputs,
                          .input_count = input_count,
                          .pace = pace,
                          .now_ms = io_clock_ms(),
                          .output_bytes = output_bytes};
    int status = run(&merge);

    if (status == CASK_OK)
        status = move_over(&merge);
    else
        discard_outputs(&merge);
    spill_end_aside(shard);
    count(&merge, status);
    release(&merge);
    if (status == CASK_OK) {
        int moved = spill_flush_excess(shard);

        (void)moved; /* else the next merge does so */
    }
    return status;
}
