/* Merging a shard's runs: fewer to look at, and what newer ones shadow is dropped. */
#include <stdlib.h>

#include "index/runmerge.h"
#include "shard/cover.h"
#include "shard/spill.h"
#include "shard/turn.h"

#define ALIKE_PERCENT 250u /* of the largest newer one of its group a run may have */
#define FAN_IN 4u
#define BUFFER_PART 64u /* of the budget, for one buffer at most */
#define CURSORS_PART 4u /* of what is kept for buffers, for all that are read through */
#define RUNS_WANTED_MAX 12u
#define ALONE_MAX 1000000u /* entries merged while no other shard moves anything to disk */
#define GROUP_MAX 64u      /* entries of one tag whose keys are compared; what is beyond stays */

/* ---- which ----------------------------------------------------------------------------------- */

/* Shards that are filled alike come to have runs alike: with one number for all they would merge
 * them at the same time, after a long time of no merges. */
static uint32_t fan_in_of(const struct shard *shard)
{
    static const uint32_t fan_ins[] = {FAN_IN, FAN_IN - 1, FAN_IN + 1};

    return fan_ins[shard->number % (sizeof fan_ins / sizeof fan_ins[0])];
}

/* Neighbours of about one size, if there are enough; the newest first, which are the smallest. With
 * too many of them, all but the largest at the end. */
void spill_plan_runs(const uint64_t *counts, uint32_t count, uint32_t fan_in, uint32_t *ret_first,
                     uint32_t *ret_count)
{
    uint32_t first = 0;

    *ret_first = 0;
    *ret_count = 0;
    while (first < count) {
        uint32_t end = first + 1;
        uint64_t largest = counts[first];

        while (end < count && counts[end] * 100 <= largest * ALIKE_PERCENT) {
            largest = max_u64(largest, counts[end]);
            end++;
        }
        if (end - first >= fan_in) {
            *ret_first = first;
            *ret_count = end - first;
            return;
        }
        first = end;
    }
    if (count > RUNS_WANTED_MAX)
        *ret_count = count - 1;
}

/* ---- what is kept ---------------------------------------------------------------------------- */

struct resolver {
    struct shard *shard;
    bool oldest;    /* no run is below these */
    bool every_tag; /* what leads nowhere is to be found and dropped too */
    struct dead {
        struct segment *segment;
        uint64_t offset;
        uint64_t bytes;
    } * dead; /* found, not counted yet */
    size_t dead_count;
    size_t dead_room;
    uint64_t tombstones;        /* entries dropped that led to one */
    uint64_t tombstones_before; /* what the index knew of its lower tiers */
    bool doubts_before;
};

/* One entry of a group with its record. */
struct proof {
    struct run_merge_entry *entry;
    struct record_buffer buffer;
    struct found found;
    int status;
};

static int note_dead(struct resolver *resolver, const struct proof *proof)
{
    if (proof->found.record.type == RECORD_DELETE) {
        resolver->tombstones++;
        return CASK_OK;
    }
    if (resolver->dead_count == resolver->dead_room) {
        size_t room = resolver->dead_room == 0 ? 64 : resolver->dead_room * 2;
        struct dead *grown = realloc(resolver->dead, room * sizeof *grown);

        if (!grown)
            return CASK_ENOMEM;
        resolver->dead = grown;
        resolver->dead_room = room;
    }
    resolver->dead[resolver->dead_count++] = (struct dead){
        proof->found.segment,
        location_offset(proof->entry->location, resolver->shard->config.offset_bits),
        record_size(&proof->found.record)};
    return CASK_OK;
}

/* Whether another entry of the group is of the same key and newer. */
static bool is_shadowed(const struct proof *proofs, size_t count, size_t at)
{
    for (size_t i = 0; i < count; i++) {
        if (i == at || proofs[i].status != CASK_OK ||
            !record_same_key(&proofs[i].found.record, &proofs[at].found.record))
            continue;
        if (proofs[i].found.record.sequence > proofs[at].found.record.sequence ||
            (proofs[i].found.record.sequence == proofs[at].found.record.sequence && i < at))
            return true;
    }
    return false;
}

/* A tombstone goes only if nothing of its tag is left unread, which it might have to hide. */
static int resolve_group(struct resolver *resolver, struct run_merge_entry *entries, size_t count,
                         bool complete)
{
    struct proof *proofs = malloc(count * sizeof *proofs);
    int status = CASK_OK;

    if (!proofs)
        return CASK_ENOMEM;
    for (size_t i = 0; i < count; i++) {
        proofs[i].entry = &entries[i];
        record_buffer_init(&proofs[i].buffer);
        proofs[i].status = shard_read_at(resolver->shard, entries[i].location, &proofs[i].buffer,
                                         &proofs[i].found);
        complete &= proofs[i].status == CASK_OK || proofs[i].status == CASK_NOTFOUND;
    }
    for (size_t i = 0; status == CASK_OK && i < count; i++) {
        bool same_record = i > 0 && entries[i].location == entries[i - 1].location;
        bool shadowed;

        if (proofs[i].status == CASK_NOTFOUND)
            entries[i].keep = false;
        if (proofs[i].status != CASK_OK)
            continue; /* one that cannot be read proves nothing */
        shadowed = is_shadowed(proofs, count, i);
        if (!shadowed &&
            !(resolver->oldest && complete && proofs[i].found.record.type == RECORD_DELETE))
            continue;
        entries[i].keep = false;
        if (!same_record)
            status = note_dead(resolver, &proofs[i]);
    }
    for (size_t i = 0; i < count; i++)
        record_buffer_release(&proofs[i].buffer);
    free(proofs);
    return status;
}

static int resolve(void *context, struct run_merge_entry *entries,
                   const struct run_merge_group *groups, size_t group_count)
{
    struct resolver *resolver = context;
    int status = CASK_OK;

    for (size_t i = 0; status == CASK_OK && i < group_count; i++) {
        struct epoch_guard guard = epoch_enter(&resolver->shard->env->epoch);

        status = resolve_group(resolver, entries + groups[i].start,
                               groups[i].count < GROUP_MAX ? groups[i].count : GROUP_MAX,
                               groups[i].count <= GROUP_MAX);
        epoch_leave(guard);
    }
    return status;
}

/* Counts what was dropped, before the manifest tells how much is left: what dies in a merge of runs
 * no later open would find. Segments go by merges only, which the merge_lock keeps away, as it does
 * whoever else might change the tombstones of the lower tiers. */
static void count_dropped(struct resolver *resolver)
{
    struct shard *shard = resolver->shard;
    struct index *index = &shard->index;

    pthread_mutex_lock(&shard->lock);
    for (size_t i = 0; i < resolver->dead_count; i++)
        cover_count_dropped(shard, resolver->dead[i].segment, resolver->dead[i].offset,
                            resolver->dead[i].bytes);
    resolver->tombstones_before = index->lower_tombstones;
    resolver->doubts_before = index->doubts;
    index->lower_tombstones -= min_u64(resolver->tombstones, index->lower_tombstones);
    if (resolver->every_tag) {
        index->lower_tombstones = 0;
        index->doubts = false;
    }
    pthread_mutex_unlock(&shard->lock);
}

/* The entries are still there: the list without them did not come to be. */
static void count_them_again(const struct resolver *resolver)
{
    struct shard *shard = resolver->shard;

    pthread_mutex_lock(&shard->lock);
    for (size_t i = 0; i < resolver->dead_count; i++)
        cover_count_again(shard, resolver->dead[i].segment, resolver->dead[i].offset,
                          resolver->dead[i].bytes);
    shard->index.lower_tombstones = resolver->tombstones_before;
    shard->index.doubts = resolver->doubts_before;
    pthread_mutex_unlock(&shard->lock);
}

/* ---- merging --------------------------------------------------------------------------------- */

static int step_all(struct run_merge *merge, struct run_build *build)
{
    int status = CASK_OK;

    while (status == CASK_OK)
        status = run_merge_step(merge, build);
    return status == CASK_NOTFOUND ? CASK_OK : status;
}

static uint64_t entries_of(struct run *const *runs, uint32_t count)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < count; i++)
        sum += runs[i]->count;
    return sum;
}

/* So that with many runs and little memory enough is left to build with. */
static size_t read_bytes_for(const struct budget *budget, uint32_t count)
{
    uint64_t most = min_u64(RUN_CURSOR_BYTES, budget->limit_bytes / BUFFER_PART);

    return (size_t)max_u64(min_u64(most, budget->reserve_bytes / CURSORS_PART / count),
                           RUN_PAGE_BYTES);
}

static int build_merged(struct resolver *resolver, struct run *const *runs, uint32_t count,
                        struct run **ret_run)
{
    struct shard *shard = resolver->shard;
    uint64_t limit = shard->env->budget.limit_bytes;
    struct run_merge_options options = {
        .resolve = resolve,
        .context = resolver,
        .read_bytes = read_bytes_for(&shard->env->budget, count),
        .every_tag = resolver->every_tag,
        .window_bytes = (size_t)min_u64((uint64_t)1 << 20, limit / BUFFER_PART)};
    struct run_summary summary;
    struct run_build *build = NULL;
    struct run_merge merge;
    uint64_t filters = 0;
    int status;

    for (uint32_t i = 0; i < count; i++)
        filters += filter_bytes(&runs[i]->filter);
    status = run_merge_open(&merge, runs, count, options, &shard->env->budget);
    if (status != CASK_OK)
        return status;
    status = spill_begin_run(shard, entries_of(runs, count), filters, &build);
    if (status == CASK_OK) {
        status = step_all(&merge, build);
        if (status == CASK_OK)
            status = run_build_finish(build, &summary);
        else
            run_build_abort(build);
    }
    run_merge_close(&merge);
    if (status == CASK_OK) {
        struct run_config config = spill_run_config(shard);

        status = spill_open_built(shard, &config, &summary, ret_run);
        if (status != CASK_OK)
            spill_remove_run(shard, summary.id);
    }
    return status;
}

/* The list with one run in the place of several. */
static struct run_list *replaced(const struct run_list *old, uint32_t first, uint32_t count,
                                 struct run *run)
{
    struct run_list *list = calloc(1, sizeof *list);

    for (uint32_t i = 0; list && i < old->count; i++) {
        if (i == first)
            list->runs[list->count++] = run;
        if (i < first || i >= first + count)
            list->runs[list->count++] = old->runs[i];
    }
    return list;
}

static void retire(struct shard *shard, struct run_list *old, uint32_t first, uint32_t count)
{
    epoch_synchronize(&shard->env->epoch);
    for (uint32_t i = first; i < first + count; i++) {
        uint64_t id = old->runs[i]->id;

        run_close(old->runs[i]);
        spill_remove_run(shard, id);
    }
}

/* As flushes do, which wait for these buffers too; an open has seen to that already. With others
 * waiting only if it is done soon. */
static int build_beside_others(struct resolver *resolver, struct run *const *runs, uint32_t count,
                               struct run **ret_run)
{
    struct shard_env *env = resolver->shard->env;
    int status;

    pthread_rwlock_rdlock(&env->building);
    status = build_merged(resolver, runs, count, ret_run);
    pthread_rwlock_unlock(&env->building);
    if (status != CASK_ENOMEM || entries_of(runs, count) > ALONE_MAX)
        return status;
    resolver->dead_count = 0;
    resolver->tombstones = 0;
    pthread_rwlock_wrlock(&env->building);
    status = build_merged(resolver, runs, count, ret_run);
    pthread_rwlock_unlock(&env->building);
    return status;
}

/* While the shard is being opened an older entry may still come: no tombstone goes. */
static int merge_some(struct shard *shard, uint32_t first, uint32_t count, bool every_tag,
                      bool loading)
{
    struct run_list *old = atomic_load(&shard->index.runs);
    struct resolver resolver = {
        .shard = shard, .oldest = first + count == old->count && !loading, .every_tag = every_tag};
    struct run_list *list;
    struct run *run = NULL;
    int status = loading ? build_merged(&resolver, old->runs + first, count, &run)
                         : build_beside_others(&resolver, old->runs + first, count, &run);

    if (status != CASK_OK) {
        free(resolver.dead);
        return status;
    }
    count_dropped(&resolver);
    list = replaced(old, first, count, run);
    status = list ? spill_install(shard, &list, false, loading) : CASK_ENOMEM;
    if (status == CASK_OK) {
        retire(shard, list, first, count);
        pthread_mutex_lock(&shard->lock);
        shard->spill_counts.run_merges++;
        pthread_mutex_unlock(&shard->lock);
    } else {
        uint64_t id = run->id;

        count_them_again(&resolver);
        run_close(run);
        if (atomic_load(&shard->failed) == CASK_OK)
            spill_remove_run(shard, id);
    }
    free(list);
    free(resolver.dead);
    return status;
}

int spill_merge_runs(struct shard *shard, bool into_one)
{
    int status = CASK_OK;

    while (status == CASK_OK) {
        const struct run_list *runs = atomic_load(&shard->index.runs);
        uint64_t counts[INDEX_RUNS_MAX];
        uint32_t first = 0;
        uint32_t count = runs ? runs->count : 0;
        bool every_tag;

        for (uint32_t i = 0; i < count; i++)
            counts[i] = runs->runs[i]->count;
        if (!into_one)
            spill_plan_runs(counts, count, fan_in_of(shard), &first, &count);
        pthread_mutex_lock(&shard->lock);
        every_tag = into_one && (shard->index.lower_tombstones > 0 || shard->index.doubts);
        pthread_mutex_unlock(&shard->lock);
        if (count < (every_tag ? 1 : 2))
            return CASK_OK;
        status = merge_some(shard, first, count, every_tag, false);
        if (status == CASK_ECORRUPT)
            shard_distrust_runs(shard);
    }
    return status;
}

/* Shards that are filled alike come to have many runs alike. Merging them all at once would keep
 * the merge_locks of all for as long as it takes, and no keydir could be moved to disk
 * meanwhile. */
int spill_merge_runs_in_turn(struct shard *shard)
{
    const struct run_list *runs = atomic_load(&shard->index.runs);
    int status;

    if (runs && runs->count > SPILL_RUNS_LEFT_MAX)
        return spill_merge_runs(shard, false);
    if (!turn_take(shard, TURN_MERGE_RUNS))
        return CASK_OK;
    status = spill_merge_runs(shard, false);
    turn_pass_on(shard, TURN_MERGE_RUNS);
    return status;
}

int spill_merge_loaded(struct shard *shard, uint32_t most)
{
    const struct run_list *runs = atomic_load(&shard->index.runs);
    uint64_t counts[INDEX_RUNS_MAX];
    uint32_t first = 0;
    uint32_t count = 0;
    uint32_t loaded = 0;

    while (runs && loaded < runs->count && runs->runs[loaded]->id >= shard->first_loaded_run) {
        counts[loaded] = runs->runs[loaded]->count;
        loaded++;
    }
    if (loaded < 2 || (loaded <= most && runs->count < INDEX_RUNS_MAX))
        return CASK_OK;
    spill_plan_runs(counts, loaded, fan_in_of(shard), &first, &count);
    if (count == 0 || most == 1) {
        first = 0;
        count = loaded;
    }
    return merge_some(shard, first, count, false, true);
}
