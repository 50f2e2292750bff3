/* Merging everything that has dead records in it, on request; on a full disk, out of the reserve.
 *
 * Why that frees a full disk:
 *  1. A merge of one segment ends with no more blocks than it began with, and needs, meanwhile, a
 *     copy of what lives in it and a manifest: the reserve has room for both.
 *  2. Nothing else takes blocks while the reserve is in use, or not had in full again, but a new
 *     active segment with the headroom for deletes, when the old one has used its own up. What that
 *     takes is freed with the tombstones that the old headroom held.
 *  3. Those that hide dead records go last: then nothing is left of these.
 */
#include <stdlib.h>

#include "merge/control.h"
#include "merge/survey.h"
#include "merge/weigh.h"

#define PART_THAT_IS_SMALL 4u  /* of a segment */
#define SMALL_THAT_ARE_MANY 8u /* in a shard */

/* Something is gained by it, now that all older segments have been merged. */
static bool is_worth_it(const struct plan_segment *figures, uint64_t now_ms)
{
    uint64_t dead = figures->dead_bytes - (figures->tombstones_stay ? figures->tombstone_bytes : 0);

    return figures->mergeable && (dead > 0 || figures->last_expiry <= now_ms);
}

static bool is_small(const struct plan_segment *figures, uint64_t segment_bytes)
{
    return figures->mergeable &&
           figures->live_bytes + figures->dead_bytes < segment_bytes / PART_THAT_IS_SMALL;
}

/* Below which size segments are joined, there being many of them; 0: they are not. */
static uint64_t join_below(const struct survey *survey, uint64_t segment_bytes)
{
    size_t small = 0;

    for (size_t i = 0; i < survey->count; i++)
        small += is_small(&survey->figures[i], segment_bytes);
    return small >= SMALL_THAT_ARE_MANY ? segment_bytes : 0;
}

/* The next group in the order of age, from *at on. */
static size_t next_group(const struct survey *survey, const size_t *order, uint64_t copy_bytes,
                         size_t *at, struct segment **ret_inputs)
{
    uint64_t now_ms = io_clock_ms();
    uint64_t joined = join_below(survey, copy_bytes);
    uint64_t copied = 0;
    size_t count = 0;

    for (; *at < survey->count; (*at)++) {
        const struct plan_segment *figures = &survey->figures[order[*at]];

        if (!is_worth_it(figures, now_ms) && !(joined > 0 && is_small(figures, joined)))
            continue;
        if (count > 0 && copied + figures->live_bytes > copy_bytes)
            break;
        copied += figures->live_bytes;
        ret_inputs[count++] = survey->segments[order[*at]];
    }
    return count;
}

/* By insertion: nearly all of them are in order. Outputs of merges are older than their ids. */
static void order_by_age(const struct survey *survey, size_t *order)
{
    for (size_t i = 0; i < survey->count; i++) {
        size_t at = i;

        for (; at > 0 &&
               survey->figures[order[at - 1]].min_sequence > survey->figures[i].min_sequence;
             at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static int seal_everything(struct shard *shard, enum preparing why)
{
    bool dead;
    int status = CASK_OK;

    pthread_mutex_lock(&shard->lock);
    status = shard_drain(shard);
    dead = shard->active && shard->active->counts.dead_bytes > 0;
    pthread_mutex_unlock(&shard->lock);
    if (status == CASK_OK && dead)
        status = shard_leave_active(shard, why);
    if (status != CASK_OK)
        return status;
    return why == PREPARE_IN_NEED ? shard_seal_waiting(shard, false) : shard_seal_to_merge(shard);
}

/* Merges the group; where damage keeps it back, what is left of it without the damaged. */
static int merge_group(struct shard *shard, struct segment **inputs, size_t count,
                       const struct merge_pace *pace)
{
    int damaged = CASK_OK;

    for (;;) {
        int status = merge_segments(shard, inputs, count, shard->config.segment_bytes, pace);
        size_t kept = 0;

        if (status != CASK_ECORRUPT)
            return status == CASK_OK ? damaged : status;
        for (size_t i = 0; i < count; i++)
            if (!inputs[i]->unmergeable)
                inputs[kept++] = inputs[i];
        if (kept == count || kept == 0)
            return CASK_ECORRUPT;
        damaged = CASK_ECORRUPT;
        count = kept;
    }
}

uint64_t merge_bytes_in_segments(struct shard *shard)
{
    uint64_t bytes;

    pthread_mutex_lock(&shard->lock);
    bytes = shard->counts.live_bytes + shard->counts.dead_bytes;
    pthread_mutex_unlock(&shard->lock);
    return bytes;
}

/* In need tombstones are a gain too, but only when what they may hide has been merged. */
static bool is_worth_it_in_need(const struct plan_segment *figures, bool for_tombstones,
                                uint64_t now_ms)
{
    uint64_t dead = figures->dead_bytes - (for_tombstones ? 0 : figures->tombstone_bytes);

    return figures->mergeable && (dead > 0 || figures->last_expiry <= now_ms);
}

/* At worst. */
static uint64_t bytes_to_copy(const struct plan_segment *figures)
{
    return figures->live_bytes + figures->tombstone_bytes;
}

/* The segment that needs the least room of those that are worth it; each is taken once, and what
 * became of it, which has a higher id, not at all. */
static size_t cheapest(const struct survey *survey, bool for_tombstones, uint64_t end_id)
{
    uint64_t now_ms = io_clock_ms();
    size_t found = survey->count;

    for (size_t i = 0; i < survey->count; i++)
        if (survey->segments[i]->id < end_id &&
            is_worth_it_in_need(&survey->figures[i], for_tombstones, now_ms) &&
            (found == survey->count ||
             bytes_to_copy(&survey->figures[i]) < bytes_to_copy(&survey->figures[found])))
            found = i;
    return found;
}

static int merge_cheapest(struct shard *shard, bool for_tombstones, uint64_t end_id,
                          const struct merge_pace *pace, bool *ret_none)
{
    struct survey survey;
    size_t at;
    int status = survey_make(shard, &survey);

    if (status != CASK_OK)
        return status;
    at = cheapest(&survey, for_tombstones, end_id);
    *ret_none = at == survey.count;
    if (!*ret_none) {
        struct segment *segment = survey.segments[at];

        status = merge_group(shard, &survey.segments[at], 1, pace);
        if (status == CASK_ECORRUPT) /* else it is left alone from now on */
            *ret_none = !segment->unmergeable;
    }
    survey_release(&survey);
    return status;
}

/* One segment at a time, as long as that goes; or until the reserve is had again, which it sets
 * *has_room for. */
static int merge_one_by_one(struct shard *shard, const struct merge_pace *pace, bool for_tombstones,
                            bool *has_room)
{
    uint64_t before = merge_bytes_in_segments(shard);
    int status = CASK_OK;
    int damaged = CASK_OK;
    bool none = false;
    uint64_t end_id;

    pthread_mutex_lock(&shard->manifest_lock);
    end_id = shard->next_segment;
    pthread_mutex_unlock(&shard->manifest_lock);
    while (status == CASK_OK && !none && !*has_room) {
        status = merge_cheapest(shard, for_tombstones, end_id, pace, &none);
        if (status == CASK_ECORRUPT) {
            damaged = status;
            status = CASK_OK;
        }
        if (!for_tombstones && merge_bytes_in_segments(shard) < before)
            *has_room = reserve_get_back(&shard->env->reserve);
    }
    return status == CASK_OK ? damaged : status;
}

static int merge_groups(struct shard *shard, const struct survey *survey,
                        const struct merge_pace *pace)
{
    struct segment **inputs = malloc((survey->count + 1) * sizeof(struct segment *));
    size_t *order = malloc((survey->count + 1) * sizeof *order);
    size_t at = 0;
    size_t count;
    int status = inputs && order ? CASK_OK : CASK_ENOMEM;
    int damaged = CASK_OK;

    if (status == CASK_OK)
        order_by_age(survey, order);
    while (status == CASK_OK &&
           (count = next_group(survey, order, shard->config.segment_bytes, &at, inputs)) > 0) {
        status = merge_group(shard, inputs, count, pace);
        if (status == CASK_ECORRUPT) { /* the rest of the store can still be merged */
            damaged = status;
            status = CASK_OK;
        }
    }
    free(order);
    free(inputs);
    return status == CASK_OK ? damaged : status;
}

/* Damage that was met before is told each time. */
static int told_before(const struct survey *survey)
{
    for (size_t i = 0; i < survey->count; i++)
        if (survey->segments[i]->unmergeable && survey->figures[i].dead_bytes > 0)
            return CASK_ECORRUPT;
    return CASK_OK;
}

static int merge_sealed(struct shard *shard, const struct merge_pace *pace)
{
    struct survey survey;
    int before;
    int status;

    if (pace->weighs)
        merge_weigh(shard, pace);
    status = survey_make(shard, &survey);
    if (status != CASK_OK)
        return status;
    before = told_before(&survey);
    status = merge_groups(shard, &survey, pace);
    survey_release(&survey);
    return status == CASK_OK ? before : status;
}

/* Merging the tiers of the index has room in the reserve, and frees some. */
static void find_dead(struct shard *shard, const struct merge_pace *pace)
{
    if (spill_flush_in_need(shard) != CASK_OK && pace->weighs)
        merge_weigh(shard, pace);
    else
        merge_forget_weights(shard);
}

/* What is not sealed for want of room is left out for now. */
static int merge_what_fits(struct shard *shard, const struct merge_pace *pace, bool *has_room)
{
    int sealed = shard_give_back(shard);
    int status;

    if (sealed == CASK_OK)
        sealed = seal_everything(shard, PREPARE_IN_NEED);
    if (sealed == CASK_OK)
        sealed = shard_make_headroom(shard);
    if (sealed != CASK_OK && sealed != CASK_ENOSPC)
        return sealed;
    find_dead(shard, pace);
    status = merge_one_by_one(shard, pace, false, has_room);
    if (!*has_room && (status == CASK_OK || status == CASK_ENOSPC))
        status = status_first(status, merge_one_by_one(shard, pace, true, has_room));
    return *has_room ? status : status_first(status, sealed);
}

int merge_in_need(struct shard *shard, const struct merge_pace *pace, bool *ret_has_room)
{
    uint64_t before;
    int status;

    *ret_has_room = false;
    reserve_use(&shard->env->reserve);
    shard->uses_reserve = true;
    do {
        before = merge_bytes_in_segments(shard);
        status = merge_what_fits(shard, pace, ret_has_room);
    } while (status == CASK_ENOSPC && merge_bytes_in_segments(shard) < before);
    shard->uses_reserve = false;
    reserve_leave(&shard->env->reserve);
    return status;
}

static int merge_as_usual(struct shard *shard, const struct merge_pace *pace)
{
    int status = seal_everything(shard, PREPARE_FOR_WRITES);

    return status == CASK_OK ? merge_sealed(shard, pace) : status;
}

/* With room again the rest is merged as usual, until there is none: each turn leaves less to do.
 * What was merged one by one is in small pieces, which are joined in the end if that goes. */
static int merge_with_little_room(struct shard *shard, const struct merge_pace *pace)
{
    uint64_t before;
    bool has_room;
    int status;

    do {
        before = merge_bytes_in_segments(shard);
        status = merge_in_need(shard, pace, &has_room);
        if ((status != CASK_OK && status != CASK_ECORRUPT) ||
            reserve_is_short(&shard->env->reserve))
            return status;
        status = merge_as_usual(shard, pace); /* tells of damage again */
    } while (status == CASK_ENOSPC && merge_bytes_in_segments(shard) < before);
    return status == CASK_ENOSPC && !has_room ? CASK_OK : status;
}

/* Where the index finds no room on the disk, there may be no memory for the entries of what is to
 * be deleted. */
static bool is_in_need(const struct shard *shard, const struct merge_pace *pace)
{
    return reserve_is_short(&shard->env->reserve) || pace->weighs;
}

static int merge_with_the_room_there_is(struct shard *shard, const struct merge_pace *pace)
{
    int status = merge_as_usual(shard, pace);

    if (status == CASK_ENOSPC || (status == CASK_OK && is_in_need(shard, pace)))
        status = merge_with_little_room(shard, pace);
    return status;
}

/* What keeps a shard from being merged before any merge has begun is a failure all the same. */
static void count_failure(struct shard *shard, uint64_t failed_before, int status)
{
    pthread_mutex_lock(&shard->lock);
    if (shard->merge_counts.failed == failed_before) {
        shard->merge_counts.failed++;
        shard->merge_counts.last_error = status;
    }
    pthread_mutex_unlock(&shard->lock);
}

int merge_all(struct shard *shard, const struct merge_pace *pace)
{
    uint64_t failed;
    bool exists;
    int status;

    pthread_mutex_lock(&shard->merge_lock);
    shard_reap(shard);
    failed = shard->merge_counts.failed; /* by merges, which the merge_lock keeps away */
    pthread_mutex_lock(&shard->manifest_lock);
    exists = shard->dir != NULL;
    pthread_mutex_unlock(&shard->manifest_lock);
    status = atomic_load(&shard->failed);
    if (status == CASK_OK && exists)
        status = merge_with_the_room_there_is(shard, pace);
    if (status != CASK_OK && status != CASK_EBUSY)
        count_failure(shard, failed, status);
    if (atomic_load(&shard->failed) == CASK_OK)
        shard_write_missing_hints(shard);
    if (pace->weighs)
        merge_forget_weights(shard);
    shard_reap(shard);
    pthread_mutex_unlock(&shard->merge_lock);
    return status;
}

uint64_t merge_all_bytes(struct shard *shard)
{
    uint64_t now_ms = io_clock_ms();
    struct survey survey;
    uint64_t sum = 0;

    if (survey_make(shard, &survey) != CASK_OK)
        return 0;
    for (size_t i = 0; i < survey.count; i++) {
        struct plan_segment figures = survey.figures[i];

        figures.mergeable = true; /* the active segment is sealed for it */
        if (is_worth_it(&figures, now_ms))
            sum += figures.live_bytes + figures.dead_bytes;
    }
    survey_release(&survey);
    return sum;
}
