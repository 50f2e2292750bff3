/* Merging all shards on request, a few at a time. */
#include "store/compact.h"

#include <pthread.h>

#include "store/crew.h"

struct compaction {
    struct cask_db *db;
    cask_progress_fn progress;
    void *context;
    pthread_t caller; /* whom alone progress is told */
    pthread_mutex_t lock;
    uint64_t done;
    uint64_t total;
    int stopped;             /* why: the first reason counts; CASK_OK while it goes on */
    _Atomic int passed;      /* the first failure that does not keep other shards back */
    _Atomic bool scarce;     /* some shard was left while there was too little room */
    bool weighs[SHARDS_MAX]; /* by shard: its figures do not tell all that is dead */
};

/* One shard's part: what it tells of stays within it. */
struct part {
    struct compaction *compaction;
    uint64_t done;
    uint64_t total;
};

static void stop(struct compaction *compaction, int status)
{
    pthread_mutex_lock(&compaction->lock);
    compaction->stopped = status_first(compaction->stopped, status);
    pthread_mutex_unlock(&compaction->lock);
}

static bool is_stopped(struct compaction *compaction, uint64_t *ret_done)
{
    bool stopped;

    pthread_mutex_lock(&compaction->lock);
    stopped = compaction->stopped != CASK_OK;
    *ret_done = compaction->done;
    pthread_mutex_unlock(&compaction->lock);
    return stopped;
}

static void add_done(struct part *part, uint64_t bytes)
{
    bytes = min_u64(bytes, part->total - part->done);
    part->done += bytes;
    pthread_mutex_lock(&part->compaction->lock);
    part->compaction->done += bytes;
    pthread_mutex_unlock(&part->compaction->lock);
}

/* Copies are told of as they are read and as they are written; hints come on top. */
static int pace(void *context, uint64_t bytes)
{
    struct part *part = context;
    struct compaction *compaction = part->compaction;
    uint64_t done;

    add_done(part, bytes);
    if (is_stopped(compaction, &done))
        return CASK_EBUSY;
    if (!compaction->progress || !pthread_equal(pthread_self(), compaction->caller) ||
        compaction->progress(compaction->context, min_u64(done, compaction->total),
                             compaction->total) == 0)
        return CASK_OK;
    stop(compaction, CASK_EBUSY);
    return CASK_EBUSY;
}

/* Damage in one shard, or no room for it, does not keep the others back; any other failure does.
 * Those that it stops say CASK_EBUSY, maybe before it has returned: so the reason is kept apart. */
static int compact_shard(void *context, uint32_t number)
{
    struct compaction *compaction = context;
    struct shard *shard = &compaction->db->shards[number];
    struct part part = {.compaction = compaction, .total = merge_all_bytes(shard)};
    struct merge_pace merge_pace = {
        .fn = pace, .context = &part, .weighs = compaction->weighs[number]};
    uint64_t done;
    int status;

    if (is_stopped(compaction, &done))
        return CASK_OK; /* whoever stopped it has told why */
    status = merge_all(shard, &merge_pace);
    if (status == CASK_ENOSPC || reserve_is_short(&shard->env->reserve))
        atomic_store(&compaction->scarce, true);
    if (status == CASK_ECORRUPT || status == CASK_ENOSPC) {
        int none = CASK_OK;

        atomic_compare_exchange_strong(&compaction->passed, &none, status);
        status = CASK_OK;
    }
    if (status == CASK_OK)
        status = pace(&part, part.total);
    stop(compaction, status);
    return status;
}

static uint64_t bytes_to_merge(struct cask_db *db)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < db->env.shard_count; i++)
        sum += merge_all_bytes(&db->shards[i]);
    return sum;
}

/* Shards that were merged at the same time took the little room there was from each other, and what
 * one has freed by now another may need: so they have another turn each, one after the other, as
 * long as that leaves less to do. */
static int compact_in_turn(struct compaction *compaction)
{
    uint64_t left = bytes_to_merge(compaction->db);
    uint64_t before = left + 1;
    int status = CASK_OK;

    while (status == CASK_OK && left > 0 && left < before) {
        before = left;
        atomic_store(&compaction->passed, CASK_OK); /* what stays is met again */
        for (uint32_t i = 0; status == CASK_OK && i < compaction->db->env.shard_count; i++)
            status = compact_shard(compaction, i);
        left = bytes_to_merge(compaction->db);
    }
    return status;
}

/* A record that only an entry of a higher tier replaces is not known to be dead before the tiers
 * are merged. Where that fails, as on a full disk, each record is asked for. */
static int find_dead(void *context, uint32_t number)
{
    struct compaction *compaction = context;
    struct shard *shard = &compaction->db->shards[number];

    if (index_has_lower(&shard->index))
        compaction->weighs[number] = spill_flush(shard, true) != CASK_OK;
    return CASK_OK;
}

/* First all keydirs go to disk: what they have of the budget is then there for merging the runs.
 * One that finds no room at first does so when the others have gone. */
int compact_index(struct cask_db *db)
{
    int status = CASK_OK;

    for (uint32_t i = 0; i < db->env.shard_count; i++) {
        int early = spill_flush(&db->shards[i], false);

        (void)early;
    }
    for (uint32_t i = 0; i < db->env.shard_count; i++)
        status = status_first(status, spill_flush(&db->shards[i], true));
    return status;
}

int compact_store(struct cask_db *db, cask_progress_fn progress, void *context)
{
    struct compaction compaction = {
        .db = db, .progress = progress, .context = context, .caller = pthread_self()};
    int status;

    if (pthread_mutex_init(&compaction.lock, NULL) != 0)
        return CASK_ENOMEM;
    status = crew_do(db->env.shard_count, find_dead, &compaction);
    (void)status; /* of merging itself, if it lasts */
    compaction.total = bytes_to_merge(db);
    status = crew_do_waiting(db->env.shard_count, compact_shard, &compaction);
    if (status == CASK_OK && atomic_load(&compaction.scarce))
        status = compact_in_turn(&compaction);
    if (compaction.stopped != CASK_OK)
        status = compaction.stopped;
    if (status == CASK_OK && progress && progress(context, compaction.total, compaction.total) != 0)
        status = CASK_EBUSY;
    pthread_mutex_destroy(&compaction.lock);
    return status == CASK_OK ? atomic_load(&compaction.passed) : status;
}
