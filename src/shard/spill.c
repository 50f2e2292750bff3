/* The index's overflow: keydirs moved to disk as runs, and runs merged.
 *
 * Order of a flush, each step before the next: the keydir is exchanged for an empty one; the log is
 * made durable as far as the exchanged one knows it; the run is built and synced; the manifest
 * names it, with how far each segment is covered; readers see it; the memory is given back.
 * Interrupted anywhere, the next open loads what the manifest does not call covered from the
 * segments.
 *
 * Under the merge_lock throughout, so that no merge of segments finds the tiers changed under it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/pages.h"
#include "shard/cover.h"
#include "shard/spill.h"

#define ENTRIES_AT_ONCE 2048u
#define SMALL_FLUSH 8192u /* entries: what fills the budget are the runs then */
#define LOADED_RUNS_MAX 16u
#define OPENED_RUNS_PART 4u /* of what keydirs may take, beyond which no run that is opened goes */
#define LOADED_RUNS_PART 8u /* of the budget, for what runs made while loading take in any case */
#define LOADED_RUN_BYTES 8192u
#define LOADING_LEAST 8192u /* bytes of a keydir that is being loaded, whatever the budget has */

/* ---- runs ------------------------------------------------------------------------------------ */

struct run_config spill_run_config(const struct shard *shard)
{
    struct run_config config = {.shard = shard->number};

    memcpy(config.uuid, shard->config.uuid, sizeof config.uuid);
    return config;
}

/* The directory of the runs, made with the first of them. Under manifest_lock. */
static int open_index_dir(struct shard *shard, bool make)
{
    int status;

    if (shard->index_dir)
        return CASK_OK;
    status = make ? io_dir_make_at(shard->dir, SPILL_DIR) : CASK_OK;
    if (status != CASK_OK && status != CASK_EEXIST)
        return status;
    status = io_dir_open_at(shard->dir, SPILL_DIR, &shard->index_dir);
    if (status == CASK_OK && make)
        status = io_dir_sync(shard->dir);
    return status;
}

/* Filters made with a larger budget would leave nothing to the keydirs, nor to what empties
 * them. */
static void bound_filter(struct budget *budget, struct run *run)
{
    uint64_t keydirs_may_take = budget->limit_bytes - budget->reserve_bytes;

    if (budget_used(budget) > keydirs_may_take / OPENED_RUNS_PART * (OPENED_RUNS_PART - 1))
        filter_release(&run->filter);
}

int spill_open_runs(struct shard *shard, const struct manifest *manifest)
{
    struct run_config config = spill_run_config(shard);
    struct run_list *list;
    int status = CASK_OK;

    shard->next_run = max_u64(shard->next_run, max_u64(manifest->next_run, 1));
    shard->first_loaded_run = shard->next_run;
    if (manifest->run_count == 0)
        return CASK_OK;
    list = calloc(1, sizeof *list);
    if (!list)
        return CASK_ENOMEM;
    status = open_index_dir(shard, false);
    while (status == CASK_OK && list->count < manifest->run_count) {
        const struct manifest_run *run = &manifest->runs[list->count];
        struct run_open_options options = {.validate = run->bytes <= SPILL_ALWAYS_VALIDATED,
                                           .mapped = shard->config.read_mapped};

        status = run_open(shard->index_dir, &config, run->id, run->bytes, run->checksum, options,
                          &shard->env->budget, &list->runs[list->count]);
        if (status == CASK_ENOMEM) {
            options.without_filter = true;
            status = run_open(shard->index_dir, &config, run->id, run->bytes, run->checksum,
                              options, &shard->env->budget, &list->runs[list->count]);
        }
        if (status == CASK_OK)
            bound_filter(&shard->env->budget, list->runs[list->count++]);
    }
    if (status == CASK_OK) {
        index_set_runs(&shard->index, list);
        shard->index.lower_tombstones = manifest->tombstones;
        shard->index.doubts = (manifest->flags & MANIFEST_DOUBTS) != 0;
        return CASK_OK;
    }
    while (list->count > 0)
        run_close(list->runs[--list->count]);
    free(list);
    return status == CASK_NOTFOUND ? CASK_ECORRUPT : status;
}

void shard_distrust_runs(struct shard *shard)
{
    if (!atomic_exchange(&shard->distrusts_runs, true))
        report(&shard->env->reporter, CASK_LOG_ERROR,
               "%s/shard-%03u/" SPILL_DIR ": a run is damaged; it is made anew when the store is "
               "opened again",
               shard->env->path, (unsigned)shard->number);
}

void spill_remove_run(struct shard *shard, uint64_t id)
{
    char name[RUN_NAME_BYTES];
    int status;

    run_name(id, name);
    status = io_unlink(shard->index_dir, name);
    (void)status; /* an orphan, if it stays, is removed by the next open */
}

/* "<id>.mdb" and "<id>.mdb.tmp". */
static bool parse_run_name(const char *name, uint64_t *ret_id, bool *ret_tmp)
{
    uint64_t id = 0;
    char expected[RUN_NAME_BYTES];

    for (const char *p = name; *p >= '0' && *p <= '9' && id < MANIFEST_NEXT_RUN_MAX; p++)
        id = id * 10 + (uint64_t)(*p - '0');
    *ret_id = id;
    run_tmp_name(id, expected);
    *ret_tmp = strcmp(name, expected) == 0;
    run_name(id, expected);
    return id != 0 && (*ret_tmp || strcmp(name, expected) == 0);
}

static bool is_listed(const struct manifest *manifest, uint64_t id)
{
    for (uint64_t i = 0; i < manifest->run_count; i++)
        if (manifest->runs[i].id == id)
            return true;
    return false;
}

int spill_remove_orphans(struct shard *shard, const struct manifest *manifest)
{
    char *names;
    int status = open_index_dir(shard, false);

    if (status == CASK_OK)
        status = io_dir_list(shard->index_dir, &names);
    if (status != CASK_OK)
        return status == CASK_NOTFOUND ? CASK_OK : status;
    for (const char *name = names; *name; name += strlen(name) + 1) {
        uint64_t id;
        bool tmp;

        if (!parse_run_name(name, &id, &tmp))
            continue; /* not ours */
        shard->next_run = max_u64(shard->next_run, id + 1);
        if (tmp || !is_listed(manifest, id)) {
            /* The manifest that orphaned it may have been renamed, but not durably so. */
            int left = io_dir_sync(shard->dir);

            if (left == CASK_OK)
                left = io_unlink(shard->index_dir, name);

            (void)left; /* to the next open */
        }
    }
    free(names);
    return CASK_OK;
}

/* ---- building -------------------------------------------------------------------------------- */

/* Of all shards. */
static uint64_t filters_of(struct shard_env *env)
{
    struct epoch_guard guard = epoch_enter(&env->epoch);
    uint64_t sum = 0;

    for (uint32_t i = 0; i < env->shard_count; i++) {
        struct index_lower lower = index_lower(&env->shards[i].index);

        for (uint32_t j = 0; lower.runs && j < lower.runs->count; j++)
            sum += filter_bytes(&lower.runs->runs[j]->filter);
    }
    epoch_leave(guard);
    return sum;
}

/* Filters may take half of what is not kept for buffers; beyond that new ones get fewer bits, or
 * none. */
static unsigned filter_bits_for(struct shard_env *env, uint64_t count, uint64_t replaced_bytes)
{
    uint64_t most = (env->budget.limit_bytes - env->budget.reserve_bytes) / 2;
    uint64_t there = filters_of(env);
    unsigned bits = SPILL_FILTER_BITS;

    there -= min_u64(there, replaced_bytes);
    while (bits > 0 && there + filter_bytes_for(count, bits) > most)
        bits -= 2;
    return bits;
}

int spill_begin_run(struct shard *shard, uint64_t count, uint64_t replaced_bytes,
                    struct run_build **ret_build)
{
    struct run_config config = spill_run_config(shard);
    unsigned bits = filter_bits_for(shard->env, count, replaced_bytes);
    char name[SEGMENT_NAME_BYTES];
    char path[4096];
    int status;
    uint64_t id;

    pthread_mutex_lock(&shard->manifest_lock);
    id = shard->next_run++;
    status = open_index_dir(shard, true);
    pthread_mutex_unlock(&shard->manifest_lock);
    if (status != CASK_OK)
        return status;
    shard_dir_name(shard->number, name);
    if (snprintf(path, sizeof path, "%s/%s/" SPILL_DIR, shard->env->real_path, name) >=
        (int)sizeof path)
        return CASK_EINVAL;
    status = shard_enter_reserve(shard);
    if (status != CASK_OK)
        return status;
    for (;; bits -= 2) {
        struct run_build_options options = {count, bits};

        status = run_build_begin(shard->index_dir, path, &config, id, options, &shard->env->budget,
                                 ret_build);
        if (status != CASK_ENOMEM || bits == 0)
            break;
    }
    shard_exit_reserve(shard);
    return status;
}

/* By insertion: a keydir is in the order of tags but for what its buckets had no room for. */
void spill_sort(struct keydir_entry *entries, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct keydir_entry entry = entries[i];
        size_t to = i;

        for (; to > 0 && entries[to - 1].tag > entry.tag; to--)
            entries[to] = entries[to - 1];
        entries[to] = entry;
    }
}

/* The flushing keydir changes no more, so no lock is needed. */
static int add_entries(const struct keydir *keydir, struct run_build *build)
{
    size_t room = ENTRIES_AT_ONCE;
    struct keydir_entry *entries = pages_borrow(room * sizeof *entries);
    uint64_t from = 0;
    int status = entries ? CASK_OK : CASK_ENOMEM;

    while (status == CASK_OK && from <= UINT32_MAX) {
        uint64_t next;
        size_t count = keydir_collect(keydir, from, entries, room, &next);

        if (next == from) { /* very many of one tag */
            pages_return(entries, room * sizeof *entries);
            room *= 2;
            entries = pages_borrow(room * sizeof *entries);
            status = entries ? CASK_OK : CASK_ENOMEM;
            continue;
        }
        spill_sort(entries, count);
        for (size_t i = 0; status == CASK_OK && i < count; i++)
            status = run_build_add(build, entries[i].tag, entries[i].location);
        from = next;
    }
    pages_return(entries, room * sizeof *entries);
    return status;
}

/* Builds a run of what is flushing and opens it. */
static int build_run(struct shard *shard, const struct keydir *flushing, struct run **ret_run)
{
    struct run_config config = spill_run_config(shard);
    struct run_summary summary;
    struct run_build *build = NULL;
    int status = spill_begin_run(shard, keydir_count(flushing), 0, &build);

    if (status != CASK_OK)
        return status;
    status = add_entries(flushing, build);
    if (status != CASK_OK) {
        run_build_abort(build);
        return status;
    }
    status = run_build_finish(build, &summary);
    if (status != CASK_OK)
        return status;
    status = spill_open_built(shard, &config, &summary, ret_run);
    if (status != CASK_OK)
        spill_remove_run(shard, summary.id);
    return status;
}

int spill_open_built(struct shard *shard, const struct run_config *config,
                     const struct run_summary *summary, struct run **ret_run)
{
    struct run_open_options options = {.mapped = shard->config.read_mapped};
    int status = run_open(shard->index_dir, config, summary->id, summary->bytes, summary->checksum,
                          options, &shard->env->budget, ret_run);

    if (status == CASK_ENOMEM) {
        options.without_filter = true;
        status = run_open(shard->index_dir, config, summary->id, summary->bytes, summary->checksum,
                          options, &shard->env->budget, ret_run);
    }
    if (status != CASK_OK)
        return status;
    pthread_mutex_lock(&shard->lock);
    shard->spill_counts.written_bytes += summary->bytes;
    pthread_mutex_unlock(&shard->lock);
    return CASK_OK;
}

/* ---- flushing -------------------------------------------------------------------------------- */

/* Takes the keydir out of use. With no memory left even what is staged may not fit into it: then
 * that stays staged. CASK_NOTFOUND if there is nothing to move. */
static int begin(struct shard *shard, uint64_t *ret_position)
{
    int status;

    pthread_mutex_lock(&shard->lock);
    *ret_position = shard->position;
    if (atomic_load(&shard->index.flushing)) { /* of a flush that failed */
        pthread_mutex_unlock(&shard->lock);
        return CASK_OK;
    }
    status = shard_drain(shard);
    if (status == CASK_ENOMEM)
        status = CASK_OK;
    if (status == CASK_OK && keydir_count(index_keydir(&shard->index)) == 0)
        status = CASK_NOTFOUND;
    if (status == CASK_OK) {
        cover_mark(shard);
        index_begin_flush(&shard->index);
    }
    pthread_mutex_unlock(&shard->lock);
    return status;
}

static uint64_t take_flushing_tombstones(struct shard *shard)
{
    uint64_t taken;

    pthread_mutex_lock(&shard->lock);
    taken = shard->index.flushing_tombstones;
    shard->index.flushing_tombstones = 0;
    pthread_mutex_unlock(&shard->lock);
    return taken;
}

/* Puts the list into the manifest and in front of readers. A failure leaves the old one, and no
 * reader in the new; on success *list is the old one, to be freed when no reader has it. */
int spill_install(struct shard *shard, struct run_list **list, bool covers, bool loading)
{
    struct run_list *old;
    uint64_t tombstones;
    uint64_t settled;
    int status = CASK_OK;

    pthread_mutex_lock(&shard->manifest_lock);
    settled = shard->settled_batch;
    old = index_set_runs(&shard->index, *list);
    tombstones = covers ? take_flushing_tombstones(shard) : 0;
    covers &= !loading; /* what is behind in the log is still to come */
    if (covers)
        cover_take(shard);
    if (!loading)
        status = shard_write_manifest(shard);
    if (status != CASK_OK) {
        index_set_runs(&shard->index, old);
        if (covers)
            cover_take_back(shard);
        pthread_mutex_lock(&shard->lock);
        shard->index.flushing_tombstones += tombstones;
        pthread_mutex_unlock(&shard->lock);
        shard->settled_batch = settled;
    } else {
        *list = old;
    }
    pthread_mutex_unlock(&shard->manifest_lock);
    if (status != CASK_OK)
        epoch_synchronize(&shard->env->epoch);
    return status;
}

static int install_flush(struct shard *shard, struct run *run, bool loading)
{
    struct run_list *list = calloc(1, sizeof *list);
    struct run_list *old = atomic_load(&shard->index.runs);
    struct keydir *flushed = atomic_load(&shard->index.flushing);
    int status;

    if (!list)
        return CASK_ENOMEM;
    list->runs[list->count++] = run;
    for (uint32_t i = 0; old && i < old->count; i++)
        list->runs[list->count++] = old->runs[i];
    status = spill_install(shard, &list, true, loading);
    if (status == CASK_OK) {
        index_hide_flushed(&shard->index);
        epoch_synchronize(&shard->env->epoch);
        pthread_mutex_lock(&shard->ahead_lock); /* its memory may just be brought in */
        keydir_empty(flushed);
        pthread_mutex_unlock(&shard->ahead_lock);
    }
    free(list);
    return status;
}

/* Several shards may build or merge runs at once, each with buffers from the budget. One that gets
 * none waits for the others to be done: so it must not hold `building` itself. */
static int build_beside_others(struct shard *shard, struct run **ret_run)
{
    const struct keydir *flushing = atomic_load(&shard->index.flushing);
    int status;

    pthread_rwlock_rdlock(&shard->env->building);
    status = build_run(shard, flushing, ret_run);
    pthread_rwlock_unlock(&shard->env->building);
    if (status != CASK_ENOMEM)
        return status;
    pthread_rwlock_wrlock(&shard->env->building);
    status = build_run(shard, flushing, ret_run);
    pthread_rwlock_unlock(&shard->env->building);
    return status;
}

static int flush(struct shard *shard, bool loading)
{
    struct run_list *runs = atomic_load(&shard->index.runs);
    uint64_t position;
    struct run *run = NULL;
    int status;

    if (runs && runs->count == INDEX_RUNS_MAX)
        return CASK_ENOTSUP; /* merging them has failed all along */
    status = begin(shard, &position);
    if (status == CASK_OK && !loading)
        status = shard_make_durable(shard, position);
    if (status == CASK_OK)
        status = loading ? build_run(shard, atomic_load(&shard->index.flushing), &run)
                         : build_beside_others(shard, &run);
    if (status != CASK_OK)
        return status;
    status = install_flush(shard, run, loading);
    if (status != CASK_OK) {
        uint64_t id = run->id;

        run_close(run);
        if (atomic_load(&shard->failed) == CASK_OK)
            spill_remove_run(shard, id);
        return status;
    }
    pthread_mutex_lock(&shard->lock);
    shard->spill_counts.flushes++;
    pthread_mutex_unlock(&shard->lock);
    return CASK_OK;
}

static void tell(struct shard *shard, int status)
{
    bool again;

    pthread_mutex_lock(&shard->lock);
    again = shard->spill_counts.last_error == status;
    shard->spill_counts.failed++;
    shard->spill_counts.last_error = status;
    pthread_mutex_unlock(&shard->lock);
    if (!again)
        report(&shard->env->reporter, CASK_LOG_WARNING,
               "%s/shard-%03u/" SPILL_DIR ": moving the index to disk failed (%s)",
               shard->env->path, (unsigned)shard->number, cask_strerror(status));
}

/* A shard that was never written to has no directory; its first writer is making it, maybe. */
static bool has_dir(struct shard *shard)
{
    bool has;

    pthread_mutex_lock(&shard->manifest_lock);
    has = shard->dir;
    pthread_mutex_unlock(&shard->manifest_lock);
    return has;
}

int spill_tidy(struct shard *shard)
{
    int status = atomic_load(&shard->failed);

    pthread_mutex_lock(&shard->merge_lock);
    if (status == CASK_OK && has_dir(shard))
        status = spill_merge_runs_in_turn(shard);
    pthread_mutex_unlock(&shard->merge_lock);
    if (status != CASK_OK)
        tell(shard, status);
    return status;
}

/* Runs that could not be merged are merged another time; what a flush has freed is free. */
int spill_flush(struct shard *shard, bool into_one)
{
    int status = atomic_load(&shard->failed);
    int merged = CASK_OK;
    bool again;

    pthread_mutex_lock(&shard->merge_lock);
    again = atomic_load(&shard->index.flushing) != NULL; /* the keydir comes after what is left */
    if (status == CASK_OK && has_dir(shard))
        status = flush(shard, false);
    if (status == CASK_OK && shard->dir && again)
        status = flush(shard, false);
    if (status == CASK_NOTFOUND)
        status = CASK_OK;
    if (status == CASK_OK)
        merged = into_one ? spill_merge_runs(shard, true) : spill_merge_runs_in_turn(shard);
    pthread_mutex_unlock(&shard->merge_lock);
    if (status != CASK_OK || merged != CASK_OK)
        tell(shard, status_first(status, merged));
    return into_one ? status_first(status, merged) : status;
}

/* How many runs made while loading a shard may have: each takes a page for its fence and one for
 * its filter at least. */
static uint32_t loaded_runs_max(const struct shard_env *env)
{
    uint64_t most = env->budget.limit_bytes / LOADED_RUNS_PART / LOADED_RUN_BYTES /
                    env->shard_count;

    return (uint32_t)min_u64(max_u64(most, 1), LOADED_RUNS_MAX);
}

static int flush_and_merge_loaded(struct shard *shard)
{
    int status = flush(shard, true);

    if (status == CASK_OK)
        status = spill_merge_loaded(shard, loaded_runs_max(shard->env));
    return status == CASK_ENOSPC && !atomic_load(&shard->index.flushing) ? CASK_OK : status;
}

/* Shards load at once, and each takes buffers for what it moves to disk. One that gets none tries
 * again with all others waiting: then the whole reserve is its own. */
static int flush_loading(struct shard *shard)
{
    int status;

    pthread_rwlock_rdlock(&shard->env->building);
    status = flush_and_merge_loaded(shard);
    pthread_rwlock_unlock(&shard->env->building);
    if (status != CASK_ENOMEM)
        return status;
    pthread_rwlock_wrlock(&shard->env->building);
    status = spill_merge_loaded(shard, 1);
    if (status == CASK_OK || status == CASK_ENOMEM)
        status = flush_and_merge_loaded(shard);
    pthread_rwlock_unlock(&shard->env->building);
    return status == CASK_NOTFOUND ? CASK_OK : status; /* it was but the merge that failed */
}

int spill_flush_for_writer(struct shard *shard)
{
    bool small = keydir_count(index_keydir(&shard->index)) < SMALL_FLUSH;
    const struct run_list *runs;
    int status = atomic_load(&shard->failed);
    int merged = CASK_OK;

    pthread_mutex_lock(&shard->lock);
    shard->spill_counts.stalls++;
    pthread_mutex_unlock(&shard->lock);
    if (status == CASK_OK && has_dir(shard))
        status = flush(shard, false);
    if (status == CASK_NOTFOUND)
        status = CASK_OK;
    runs = atomic_load(&shard->index.runs);
    if (status == CASK_OK && (small || (runs && runs->count > SPILL_RUNS_LEFT_MAX)))
        merged = spill_merge_runs(shard, false);
    else
        shard_ask_for_work(shard, SHARD_WORK_TIDY);
    if (status != CASK_OK || merged != CASK_OK)
        tell(shard, status_first(status, merged));
    return status;
}

int spill_flush_held(struct shard *shard)
{
    int status = flush(shard, false);

    if (status != CASK_OK && status != CASK_NOTFOUND)
        tell(shard, status);
    return status;
}

int spill_while_loading(struct shard *shard)
{
    int status;

    shard->uses_reserve = true;
    status = shard->env->spills ? flush_loading(shard) : CASK_ENOMEM;
    shard->uses_reserve = false;
    shard->has_unlisted_runs |= status == CASK_OK;
    return status == CASK_NOTFOUND ? CASK_ENOMEM : status;
}

void spill_bound_loading(struct shard *shard, bool loading)
{
    const struct budget *budget = &shard->env->budget;
    uint64_t share = (budget->limit_bytes - budget->reserve_bytes) / shard->env->shard_count;

    for (unsigned i = 0; i < 2; i++)
        keydir_set_bounds(&shard->index.keydirs[i], loading ? LOADING_LEAST : 0,
                          loading ? max_u64(share, LOADING_LEAST) : 0);
}

/* All that was loaded is in the runs or the keydir: with the keydir moved too, all is covered. */
int spill_settle(struct shard *shard)
{
    int status;

    pthread_mutex_lock(&shard->merge_lock);
    shard->uses_reserve = true;
    shard->has_unlisted_runs = false; /* they are to be listed from now on */
    status = index_has_lower(&shard->index) ? flush(shard, false) : CASK_NOTFOUND;
    shard->uses_reserve = false;
    if (status == CASK_NOTFOUND) {
        pthread_mutex_lock(&shard->manifest_lock);
        if (index_has_lower(&shard->index)) {
            pthread_mutex_lock(&shard->lock);
            cover_mark(shard);
            pthread_mutex_unlock(&shard->lock);
            cover_take(shard);
        }
        status = shard_write_manifest(shard);
        pthread_mutex_unlock(&shard->manifest_lock);
    }
    shard->has_unlisted_runs = status != CASK_OK;
    pthread_mutex_unlock(&shard->merge_lock);
    return status;
}
