#include "merge/control.h"

#include <stdlib.h>
#include <time.h>

#include "base/thread.h"
#include "merge/survey.h"

#define LEAST_DEAD_BYTES ((uint64_t)1 << 20)
#define OUTPUT_MIN_BYTES ((uint64_t)4 << 20)
#define PART_OF_LIVE                                                                               \
    8u /* a segment of a shard with dead records is about so much of its live ones */
#define URGENT_PERCENT 10u /* above the trigger */
#define PAUSE_MAX_MS 100u

int merge_control_init(struct merge_control *control, struct shard_env *env,
                       const struct merge_settings *settings)
{
    memset(control, 0, sizeof *control);
    control->env = env;
    control->settings = *settings;
    return pthread_mutex_init(&control->lock, NULL) == 0 ? CASK_OK : CASK_ENOMEM;
}

void merge_control_release(struct merge_control *control)
{
    if (control->env)
        pthread_mutex_destroy(&control->lock);
    control->env = NULL;
}

/* ---- figures ------------------------------------------------------------------------------ */

/* Large shards merge segment by segment; in a small one a whole segment would be most of it. */
static uint64_t part_bytes(const struct shard *shard, uint64_t live_bytes)
{
    uint64_t part = max_u64(live_bytes / PART_OF_LIVE, OUTPUT_MIN_BYTES);

    return min_u64(part, shard->config.segment_bytes);
}

/* So little that is dead is not worth a look. */
static uint64_t least_dead(const struct shard *shard)
{
    return min_u64(LEAST_DEAD_BYTES, shard->config.segment_bytes / 2);
}

static struct plan_limits limits_for(const struct merge_control *control, const struct shard *shard,
                                     const struct survey *survey)
{
    uint64_t part = part_bytes(shard, survey->live_bytes);

    return (struct plan_limits){.trigger_percent = control->settings.trigger_percent,
                                .segment_percent = control->settings.segment_percent,
                                .copy_bytes = part,
                                .small_bytes = part / PART_OF_LIVE,
                                .least_bytes = least_dead(shard),
                                .now_ms = io_clock_ms()};
}

uint64_t merge_debt(struct merge_control *control, struct shard *shard)
{
    struct survey survey;
    struct plan_limits limits;
    struct plan plan;

    if (survey_make(shard, &survey) != CASK_OK)
        return 0;
    limits = limits_for(control, shard, &survey);
    plan_make(survey.figures, survey.count, &limits, survey.choices, &plan);
    survey_release(&survey);
    return plan.debt_bytes;
}

/* ---- when ------------------------------------------------------------------------------------ */

bool merge_is_within(unsigned from_hour, unsigned until_hour, unsigned hour)
{
    if (from_hour == until_hour)
        return true;
    if (from_hour < until_hour)
        return hour >= from_hour && hour < until_hour;
    return hour >= from_hour || hour < until_hour;
}

static bool is_the_hour(const struct merge_control *control)
{
    time_t now = (time_t)(io_clock_ms() / 1000);
    struct tm local;

    return localtime_r(&now, &local) == NULL ||
           merge_is_within(control->settings.from_hour, control->settings.until_hour,
                           (unsigned)local.tm_hour);
}

/* When the next segment will have expired as a whole, by the clock. Under the lock. */
static uint64_t next_expiry(struct shard *shard, uint64_t now_ms)
{
    struct segment *segment = segments_at_or_after(&shard->segments, 0);
    uint64_t next = UINT64_MAX;

    for (; segment; segment = segments_at_or_after(&shard->segments, segment->id + 1))
        if (segment->counts.last_expiry > now_ms)
            next = min_u64(next, segment->counts.last_expiry);
    return next;
}

/* With a segment that has expired meanwhile the first drain asks. */
void merge_arm(const struct merge_control *control, struct shard *shard)
{
    if (!control->settings.automatic || control->env->read_only)
        return;
    shard->merge_expiry = next_expiry(shard, 0);
    shard->merge_above = shard->merge_expiry <= io_clock_ms() ? 0 : least_dead(shard);
}

/* Dead bytes at which they are so much of the shard. Under the lock. */
static uint64_t dead_at(const struct shard *shard, unsigned percent)
{
    return shard->counts.live_bytes / (100 - percent) * percent;
}

/* Asks again when so much more is dead that the answer may be another. */
static void rearm(struct shard *shard, const struct plan_limits *limits, bool failed)
{
    unsigned trigger = limits->trigger_percent;
    uint64_t due;
    uint64_t more;

    pthread_mutex_lock(&shard->lock);
    due = dead_at(shard, trigger);
    shard->merge_sealed = failed ? UINT64_MAX : due;
    shard->merge_expiry = failed ? UINT64_MAX : next_expiry(shard, limits->now_ms);
    if (shard->rotate_above == UINT64_MAX) /* not even half-way: see set_bounds() */
        due = dead_at(shard, trigger / 2);
    more = max_u64(limits->least_bytes, shard->counts.live_bytes / (failed ? 16 : 64));
    shard->merge_above = max_u64(due, shard->counts.dead_bytes + more);
    pthread_mutex_unlock(&shard->lock);
}

/* No more asking until the shard is called or its hour has come: every drain would wake the worker
 * for nothing. */
static void disarm(struct shard *shard)
{
    pthread_mutex_lock(&shard->lock);
    shard->merge_above = UINT64_MAX;
    shard->merge_sealed = UINT64_MAX;
    pthread_mutex_unlock(&shard->lock);
}

/* The same until something more is dead. Whoever merges says better later. */
static void put_off(struct shard *shard)
{
    pthread_mutex_lock(&shard->lock);
    shard->merge_above = shard->counts.dead_bytes + least_dead(shard);
    pthread_mutex_unlock(&shard->lock);
}

/* Dead bytes above which writers wait for merging, unless it is told to be slow: from a sixth of
 * the way from the trigger to nothing but dead records on, (trigger + 20) / (100 - trigger) of the
 * live ones, or where there were more before, if they become more between two rounds. Under the
 * lock. */
static uint64_t stall_above(const struct merge_control *control, const struct shard *shard,
                            uint64_t part)
{
    unsigned trigger = control->settings.trigger_percent;

    if (control->settings.bytes_per_second != 0)
        return UINT64_MAX;
    return max_u64(max_u64(shard->counts.live_bytes / (100 - trigger) * (trigger + 20),
                           shard->counts.dead_bytes + part / 4),
                   2 * part);
}

/* A shard half-way to the trigger writes smaller segments: what is in the active one cannot be
 * merged. Half of what may be dead by the trigger is small enough, and a segment takes a hint, a
 * manifest and their syncs whatever its size. */
static void set_bounds(const struct merge_control *control, struct shard *shard,
                       const struct plan_limits *limits)
{
    unsigned trigger = limits->trigger_percent;
    uint64_t dead;

    pthread_mutex_lock(&shard->lock);
    dead = shard->counts.dead_bytes;
    shard->stall_above = stall_above(control, shard, limits->copy_bytes);
    shard->rotate_above = UINT64_MAX;
    if (dead >= dead_at(shard, trigger / 2) && dead >= limits->least_bytes)
        shard->rotate_above = max_u64(max_u64(limits->copy_bytes, dead_at(shard, trigger) / 2),
                                      SEGMENT_HEADER_BYTES + 1);
    pthread_mutex_unlock(&shard->lock);
}

/* ---- background merges ----------------------------------------------------------------------- */

static bool take_place(struct merge_control *control, struct shard *shard)
{
    bool taken;

    pthread_mutex_lock(&control->lock);
    taken = control->running < control->settings.at_once;
    control->running += taken;
    control->waiting[shard->number] = !taken;
    pthread_mutex_unlock(&control->lock);
    return taken;
}

static void leave_place(struct merge_control *control)
{
    struct shard *next = NULL;

    pthread_mutex_lock(&control->lock);
    control->running--;
    for (uint32_t i = 0; !next && i < control->env->shard_count; i++) {
        if (!control->waiting[i])
            continue;
        control->waiting[i] = false;
        next = &control->env->shards[i];
    }
    pthread_mutex_unlock(&control->lock);
    if (next)
        shard_ask_for_work(next, SHARD_WORK_MERGE);
}

/* Takes bytes out of the bucket; how long to wait until there are any more. */
static uint64_t take_tokens(struct merge_control *control, uint64_t bytes)
{
    uint64_t rate = control->settings.bytes_per_second;
    uint64_t now = io_monotonic_ms();
    uint64_t wait = 0;

    pthread_mutex_lock(&control->lock);
    if (control->filled_ms == 0)
        control->filled_ms = now;
    if (now > control->filled_ms) {
        control->tokens = min_u64(control->tokens + (now - control->filled_ms) * rate / 1000,
                                  max_u64(rate / 10, 1));
        control->filled_ms = now;
    }
    if (control->tokens >= bytes) {
        control->tokens -= bytes;
    } else { /* the debt is paid by waiting, in line with whoever came before */
        control->filled_ms += (bytes - control->tokens) * 1000 / rate;
        control->tokens = 0;
        wait = control->filled_ms - now;
    }
    pthread_mutex_unlock(&control->lock);
    return wait;
}

static bool is_stopping(struct shard *shard)
{
    bool stopping;

    pthread_mutex_lock(&shard->work_lock);
    stopping = shard->stopping;
    pthread_mutex_unlock(&shard->work_lock);
    return stopping;
}

struct background {
    struct merge_control *control;
    struct shard *shard;
    bool was_taken; /* the shard, by whoever verifies it, merges all of it or moves its index */
};

static void do_other_work(struct shard *shard, unsigned kinds)
{
    unsigned due = shard_take_work(shard, kinds);

    if (due != 0)
        shard_do_work(shard, due);
}

/* Between two pieces of a merge: the shard's other work, but what wants the merge_lock too, the
 * rate, and whether to stop. A merge that goes at its own speed is over before what waits to be
 * sealed is missed, and sooner without it. */
static int pace_background(void *context, uint64_t bytes)
{
    struct background *background = context;
    struct shard *shard = background->shard;
    bool slow = background->control->settings.bytes_per_second != 0;
    uint64_t wait = 0;

    do_other_work(shard, ~(unsigned)(SHARD_WORK_MERGE | SHARD_WORK_FLUSH | SHARD_WORK_TIDY |
                                     (slow ? 0 : SHARD_WORK_SEAL)));
    if (slow)
        wait = take_tokens(background->control, bytes);
    while (wait > 0 && !is_stopping(shard)) {
        uint64_t now = min_u64(wait, PAUSE_MAX_MS);
        struct timespec pause = {0, (long)now * 1000000};

        nanosleep(&pause, NULL);
        wait -= now;
    }
    return is_stopping(shard) ? CASK_EBUSY : CASK_OK;
}

static size_t chosen(const struct survey *survey, struct segment **ret_inputs)
{
    size_t count = 0;

    for (size_t i = 0; i < survey->count; i++)
        if (survey->choices[i] == PLAN_DROP || survey->choices[i] == PLAN_MERGE)
            ret_inputs[count++] = survey->segments[i];
    return count;
}

static int merge_chosen(struct shard *shard, const struct survey *survey, uint64_t output_bytes,
                        const struct merge_pace *pace)
{
    struct segment **inputs = malloc((survey->count + 1) * sizeof(struct segment *));
    uint64_t before = survey->live_bytes + survey->dead_bytes;
    bool has_room;
    int status;

    if (!inputs)
        return CASK_ENOMEM;
    status = merge_segments(shard, inputs, chosen(survey, inputs), output_bytes, pace);
    free(inputs);
    if (status != CASK_ENOSPC)
        return status;
    status = merge_in_need(shard, pace, &has_room);
    return status == CASK_OK && merge_bytes_in_segments(shard) >= before ? CASK_ENOSPC : status;
}

static void tell(struct shard *shard, int status)
{
    report(&shard->env->reporter, CASK_LOG_WARNING, "%s/shard-%03u: merging failed (%s)",
           shard->env->path, (unsigned)shard->number, cask_strerror(status));
}

/* One round: false when there is nothing more to do for now. */
static bool merge_some(struct merge_control *control, struct shard *shard,
                       const struct merge_pace *pace)
{
    struct survey survey;
    struct plan_limits limits;
    struct plan plan;
    bool more = false;
    int status = CASK_OK;

    if (atomic_load(&shard->failed) != CASK_OK || survey_make(shard, &survey) != CASK_OK)
        return false;
    limits = limits_for(control, shard, &survey);
    plan_make(survey.figures, survey.count, &limits, survey.choices, &plan);
    if (plan.merged + plan.dropped > 0) {
        status = merge_chosen(shard, &survey, limits.copy_bytes, pace);
        more = status == CASK_OK;
    }
    if (status != CASK_OK && status != CASK_EBUSY)
        tell(shard, status);
    set_bounds(control, shard, &limits);
    if (!more)
        rearm(shard, &limits, status != CASK_OK);
    survey_release(&survey);
    return more;
}

static void *run_background(void *argument)
{
    struct background *background = argument;
    struct shard *shard = background->shard;
    struct merge_pace pace = {.fn = pace_background, .context = background};

    put_off(shard);
    background->was_taken = pthread_mutex_trylock(&shard->merge_lock) != 0;
    if (background->was_taken)
        return NULL;
    shard_reap(shard);
    while (!is_stopping(shard) && merge_some(background->control, shard, &pace))
        do_other_work(shard, SHARD_WORK_SEAL); /* the next round may want it */
    pthread_mutex_unlock(&shard->merge_lock);
    return NULL;
}

/* Merging is nice to writers, but not so that they leave it behind for good. */
static bool is_urgent(const struct merge_control *control, struct shard *shard)
{
    unsigned percent = control->settings.trigger_percent + URGENT_PERCENT;
    uint64_t live;
    uint64_t dead;

    pthread_mutex_lock(&shard->lock);
    live = shard->counts.live_bytes;
    dead = shard->counts.dead_bytes;
    pthread_mutex_unlock(&shard->lock);
    return percent >= 100 || dead / percent >= (live + dead) / 100;
}

bool merge_automatically(struct merge_control *control, struct shard *shard)
{
    struct background background = {.control = control, .shard = shard};

    if (!control->settings.automatic)
        return false;
    if (!is_the_hour(control)) {
        disarm(shard);
        atomic_store(&shard->merging, false);
        return true;
    }
    atomic_store(&shard->merging, true);
    if (!take_place(control, shard)) {
        disarm(shard);
        return false;
    }
    thread_run_nice(is_urgent(control, shard) ? THREAD_LESS_NICE : THREAD_NICE, run_background,
                    &background);
    atomic_store(&shard->merging, false);
    leave_place(control);
    return background.was_taken; /* there may be no more writes that would ask */
}
