/* When the index is moved to disk: workers are asked in time, and writers who find the budget used
 * up see to it themselves. A writer waits for a flush, never for merges of runs if it can be
 * helped: those hold the merge_lock for long.
 */
#include <time.h>

#include "shard/spill.h"

#define ASK_ABOVE_PERCENT 80u /* of what keydirs may take */
#define ASK_TWO_ABOVE_PERCENT 90u
#define FAILED_FLUSH (UINT64_MAX / 2)
#define FREED_PART 16u     /* of what keydirs may take: enough to try again */
#define WORTH_PART 4u      /* of the largest keydir: smaller ones are not moved in its place */
#define TINY_PART 8u       /* of a shard's even share of the budget: not worth a run */
#define BYTES_AN_ENTRY 12u /* in a keydir, about */
#define EXCESS_PART 4u     /* of the budget's reserve: less is left to the next flush */
#define ASIDE_PART 2u      /* of what keydirs may take: the rest is left to writers */
#define ASIDE_FLUSHES_MAX 4u
#define ASIDE_LOOKS_MAX 1000u /* a merge that is kept slow is not waited for longer than a second */
#define ASIDE_LEAST 16384u    /* bytes */
#define BYTES_GROWN 15u       /* for an entry in a keydir that has just grown */
#define LOOKS_MAX 50u
#define LOOK_AGAIN_NS 1000000

/* Entries that a flush of the shard would move: one that is under way, or failed and holds memory
 * for nothing, comes before all. Those of a shard that takes no more writes stay where they are:
 * who writes to another would be told of its failure. */
static uint64_t movable(const struct shard *shard)
{
    if (atomic_load_explicit(&shard->failed, memory_order_relaxed) != CASK_OK)
        return 0;
    if (atomic_load_explicit(&shard->index.flushing, memory_order_relaxed))
        return FAILED_FLUSH;
    return keydir_count(index_keydir(&shard->index));
}

/* The shard with most to move of those with less than `below`; of those, if idle, that neither
 * flush nor have been asked to. */
static struct shard *largest(struct shard_env *env, uint64_t below, bool idle)
{
    struct shard *found = NULL;
    uint64_t most = 0;

    for (uint32_t i = 0; i < env->shard_count; i++) {
        struct shard *shard = &env->shards[i];
        uint64_t count = movable(shard);

        if (idle && (count == FAILED_FLUSH || shard_work_due(shard) & SHARD_WORK_FLUSH))
            continue;
        if (count > most && count < below) {
            most = count;
            found = shard;
        }
    }
    return found;
}

static uint64_t keydirs_may_take(const struct budget *budget)
{
    return budget->limit_bytes - budget->reserve_bytes;
}

static bool is_above(struct budget *budget, unsigned percent)
{
    return budget_used(budget) >= keydirs_may_take(budget) / 100 * percent;
}

/* Below this many entries in the largest keydir it is not keydirs that fill the budget. */
static uint64_t worth_moving(const struct shard_env *env)
{
    return keydirs_may_take(&env->budget) / env->shard_count / TINY_PART / BYTES_AN_ENTRY;
}

/* One at a time, and a second one where the first is waited for in vain: its worker may be busy. */
void spill_look(struct shard_env *env)
{
    struct shard *shard;
    unsigned asked = 0;

    if (!env->spills || !is_above(&env->budget, ASK_ABOVE_PERCENT))
        return;
    for (uint32_t i = 0; i < env->shard_count; i++)
        asked += (shard_work_due(&env->shards[i]) & SHARD_WORK_FLUSH) != 0;
    if (asked > 1 || (asked == 1 && !is_above(&env->budget, ASK_TWO_ABOVE_PERCENT)))
        return;
    shard = largest(env, UINT64_MAX, true);
    if (shard && movable(shard) >= worth_moving(env))
        shard_ask_for_work(shard, SHARD_WORK_FLUSH);
}

int spill_flush_asked(struct shard *shard)
{
    return movable(shard) >= worth_moving(shard->env) ? spill_flush(shard, false)
                                                      : spill_tidy(shard);
}

/* Whoever has taken memory for a flush, a merge or a verification holds a merge_lock, and gives the
 * memory back before it lets go of that. */
static void wait_for_buffers(struct shard_env *env)
{
    for (uint32_t i = 0; i < env->shard_count; i++) {
        pthread_mutex_lock(&env->shards[i].merge_lock);
        pthread_mutex_unlock(&env->shards[i].merge_lock);
    }
}

/* A shard with much to move, and its merge_lock, where that can be had at once. */
static struct shard *lock_large(struct shard_env *env)
{
    struct shard *shard = largest(env, FAILED_FLUSH, false);
    uint64_t worth = shard ? movable(shard) / WORTH_PART : 0;
    uint64_t count = UINT64_MAX;

    while ((shard = largest(env, count, false)) != NULL) {
        count = min_u64(count - 1, movable(shard)); /* it may grow meanwhile */
        if (count < worth)
            return NULL;
        if (pthread_mutex_trylock(&shard->merge_lock) == 0)
            return shard;
    }
    return NULL;
}

/* The same, waiting for it; NULL where there is nothing to move. Also where others give back so
 * much meanwhile that the caller may try again, which *ret_freed tells: a flush under way is soon
 * done, but the merges of runs behind it may take long. */
static struct shard *take_large(struct shard_env *env, bool *ret_freed)
{
    struct timespec pause = {0, LOOK_AGAIN_NS};
    uint64_t freed = keydirs_may_take(&env->budget) / FREED_PART;
    uint64_t before = budget_used(&env->budget);
    struct shard *shard = NULL;

    *ret_freed = false;
    for (unsigned looks = 0; looks < LOOKS_MAX; looks++) {
        shard = lock_large(env);
        if (shard || !largest(env, UINT64_MAX, false))
            return shard;
        nanosleep(&pause, NULL);
        *ret_freed = budget_used(&env->budget) + freed <= before;
        if (*ret_freed)
            return NULL;
    }
    shard = largest(env, UINT64_MAX, false);
    if (shard)
        pthread_mutex_lock(&shard->merge_lock);
    return shard;
}

/* That may be merged. */
static uint32_t runs_of(struct shard *shard)
{
    struct epoch_guard guard = epoch_enter(&shard->env->epoch);
    const struct run_list *runs = index_lower(&shard->index).runs;
    uint32_t count = runs ? runs->count : 0;

    epoch_leave(guard);
    return atomic_load(&shard->failed) == CASK_OK ? count : 0;
}

/* Each run takes some memory, however small it is: where many of them fill the budget, they are
 * merged, the shard with the most of them first. */
static void merge_most_runs(struct shard_env *env)
{
    struct shard *found = &env->shards[0];
    int status = CASK_OK;

    for (uint32_t i = 1; i < env->shard_count; i++)
        if (runs_of(&env->shards[i]) > runs_of(found))
            found = &env->shards[i];
    pthread_mutex_lock(&found->merge_lock);
    if (runs_of(found) > 1)
        status = spill_merge_runs(found, true);
    pthread_mutex_unlock(&found->merge_lock);
    (void)status; /* the caller finds out whether there is room now */
}

int spill_relieve(struct shard_env *env)
{
    struct shard *shard;
    bool tiny = true;
    bool freed;
    int status = CASK_ENOMEM;

    if (!env->spills)
        return CASK_ENOMEM;
    shard = take_large(env, &freed);
    if (freed)
        return CASK_OK;
    if (shard) {
        tiny = movable(shard) < worth_moving(env);
        status = spill_flush_for_writer(shard);
        pthread_mutex_unlock(&shard->merge_lock);
    }
    if (tiny && (status == CASK_OK || status == CASK_ENOMEM))
        merge_most_runs(env);
    if (status != CASK_ENOMEM)
        return status;
    wait_for_buffers(env);
    return CASK_OK; /* perhaps: the caller tries again, a number of times */
}

static bool set_aside(struct shard *shard, uint64_t bytes)
{
    bool done;

    pthread_mutex_lock(&shard->lock);
    done = keydir_set_aside(index_keydir(&shard->index), bytes);
    pthread_mutex_unlock(&shard->lock);
    return done;
}

/* The shard's own keydir, or the largest that nobody else is at work on. */
static int flush_any(struct shard *shard)
{
    struct shard *other;
    int status;

    if (movable(shard) >= worth_moving(shard->env))
        return spill_flush_held(shard);
    other = lock_large(shard->env);
    if (!other)
        return CASK_NOTFOUND;
    status = spill_flush_held(other);
    pthread_mutex_unlock(&other->merge_lock);
    return status;
}

/* Whether another merge has set memory aside: it gives back what it does not use, and its keydir
 * can be moved then. */
static bool others_have_aside(struct shard *shard)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < shard->env->shard_count; i++) {
        struct shard *other = &shard->env->shards[i];

        if (other == shard)
            continue;
        pthread_mutex_lock(&other->lock);
        bytes += other->index.keydirs[0].aside_bytes + other->index.keydirs[1].aside_bytes;
        pthread_mutex_unlock(&other->lock);
    }
    return bytes > 0;
}

/* Who waits has nothing aside itself, so that somebody always goes on. */
void spill_set_aside(struct shard *shard, uint64_t entries)
{
    uint64_t most = keydirs_may_take(&shard->env->budget) / ASIDE_PART;
    uint64_t there = keydir_count(index_keydir(&shard->index));
    uint64_t bytes = min_u64((entries + there / 4) * BYTES_GROWN + ASIDE_LEAST, most);
    struct timespec pause = {0, LOOK_AGAIN_NS};
    unsigned flushes = 0;
    unsigned looks = 0;

    if (!index_has_lower(&shard->index))
        return;
    while (!set_aside(shard, bytes)) {
        int status = flushes++ < ASIDE_FLUSHES_MAX ? flush_any(shard) : CASK_NOTFOUND;

        if (status == CASK_OK)
            continue;
        if (status != CASK_NOTFOUND || looks++ == ASIDE_LOOKS_MAX || !others_have_aside(shard))
            return;
        nanosleep(&pause, NULL);
        flushes = 0;
    }
}

void spill_end_aside(struct shard *shard)
{
    pthread_mutex_lock(&shard->lock);
    for (unsigned i = 0; i < 2; i++)
        keydir_end_aside(&shard->index.keydirs[i]);
    pthread_mutex_unlock(&shard->lock);
}

static bool has_excess(struct shard *shard)
{
    struct budget *budget = &shard->env->budget;
    uint64_t bytes;

    if (budget_excess(budget) < budget->reserve_bytes / EXCESS_PART)
        return false; /* a run of next to nothing takes as much */
    pthread_mutex_lock(&shard->lock);
    bytes = shard->index.keydirs[0].excess_bytes + shard->index.keydirs[1].excess_bytes;
    pthread_mutex_unlock(&shard->lock);
    return bytes > 0;
}

int spill_flush_excess(struct shard *shard)
{
    int status = CASK_OK;

    while (status == CASK_OK && shard->env->spills && has_excess(shard)) {
        status = spill_flush_held(shard);
        if (status == CASK_OK) {
            int merged = spill_merge_runs(shard, shard->uses_reserve);

            (void)merged; /* another time */
        }
    }
    return status;
}

int spill_flush_in_need(struct shard *shard)
{
    int status = CASK_OK;

    if (!index_has_lower(&shard->index))
        return CASK_OK;
    while (status == CASK_OK) /* what is left of one that failed comes first */
        status = spill_flush_held(shard);
    return status == CASK_NOTFOUND ? spill_merge_runs(shard, true) : status;
}
