/* Group commit: writers that want durability share one fdatasync per shard.
 *
 * Invariants:
 *  1. One sync runs at a time in a shard; it covers every byte appended before it began.
 *  2. Segments are synced in order, so what is durable is a prefix of the log.
 *  3. A failed sync is final: the shard refuses writes, every waiter is told.
 *  4. A shard that has part of a batch is durable only together with the batch's other shards.
 */
#include "shard/shard.h"

#include <stdlib.h>

void shard_hold_syncs(struct shard *shard)
{
    pthread_mutex_lock(&shard->sync_lock);
    while (shard->syncing)
        pthread_cond_wait(&shard->sync_done, &shard->sync_lock);
    shard->syncing = true;
    pthread_mutex_unlock(&shard->sync_lock);
}

void shard_allow_syncs(struct shard *shard)
{
    pthread_mutex_lock(&shard->sync_lock);
    shard->syncing = false;
    pthread_cond_broadcast(&shard->sync_done);
    pthread_mutex_unlock(&shard->sync_lock);
}

/* The oldest segment that is not durable: those rotated out first, then the active one. */
static struct segment *first_unsynced(struct shard *shard)
{
    struct segment *segment = shard->sealing_first;

    while (segment && segment->synced)
        segment = segment->next_sealing;
    return segment ? segment : shard->active;
}

/* Syncs all there is; syncs are held, so no descriptor goes away. */
static int sync_all(struct shard *shard, uint64_t *ret_position)
{
    for (;;) {
        struct segment *segment;
        uint64_t position;
        uint64_t tail;
        bool was_sealed;
        int status;

        pthread_mutex_lock(&shard->lock);
        segment = first_unsynced(shard);
        position = shard->position;
        was_sealed = segment && segment->sealed;
        tail = segment ? segment_tail(segment) : 0;
        pthread_mutex_unlock(&shard->lock);
        *ret_position = position;
        if (!segment)
            return CASK_OK;
        status = segment_sync(segment, tail, !was_sealed);
        pthread_mutex_lock(&shard->lock);
        shard->counts.syncs++;
        if (status == CASK_OK && was_sealed)
            segment->synced = true;
        pthread_mutex_unlock(&shard->lock);
        if (status != CASK_OK || !was_sealed)
            return status;
    }
}

static int sync_shard(struct shard *shard, uint64_t position)
{
    uint64_t reached = 0;
    int status;

    if (atomic_load(&shard->synced) >= position)
        return CASK_OK;
    shard_hold_syncs(shard);
    status = atomic_load(&shard->synced) >= position ? CASK_OK : atomic_load(&shard->failed);
    if (status == CASK_OK && atomic_load(&shard->synced) < position) {
        status = sync_all(shard, &reached);
        if (status == CASK_OK)
            atomic_store(&shard->synced, reached);
        else
            shard_fail(shard, CASK_EIO, "a sync");
    }
    shard_allow_syncs(shard);
    return status == CASK_OK ? CASK_OK : CASK_EIO;
}

int shard_depend(struct shard *shard, const struct shard *other)
{
    if (!shard->depends_on) {
        shard->depends_on = calloc(shard->env->shard_count, sizeof *shard->depends_on);
        if (!shard->depends_on)
            return CASK_ENOMEM;
    }
    shard->depends_on[other->number] = other->position;
    return CASK_OK;
}

/* Raises wanted[] to what the shard depends on. True if anything rose. */
static bool add_dependencies(struct shard *shard, uint64_t *wanted)
{
    uint32_t count = shard->env->shard_count;
    bool rose = false;

    pthread_mutex_lock(&shard->lock);
    for (uint32_t i = 0; shard->depends_on && i < count; i++) {
        uint64_t position = shard->depends_on[i];

        if (position > wanted[i] && position > atomic_load(&shard->env->shards[i].synced)) {
            wanted[i] = position;
            rose = true;
        }
    }
    pthread_mutex_unlock(&shard->lock);
    return rose;
}

static int sync_with_others(struct shard *shard, uint64_t position)
{
    struct shard_env *env = shard->env;
    uint64_t wanted[SHARDS_MAX] = {0};
    bool more = true;
    int status = CASK_OK;

    wanted[shard->number] = position;
    while (more) {
        more = false;
        for (uint32_t i = 0; i < env->shard_count; i++)
            if (wanted[i] > 0)
                more |= add_dependencies(&env->shards[i], wanted);
    }
    for (uint32_t i = 0; i < env->shard_count && status == CASK_OK; i++)
        if (wanted[i] > 0)
            status = sync_shard(&env->shards[i], wanted[i]);
    return status;
}

int shard_make_durable(struct shard *shard, uint64_t position)
{
    bool alone;

    pthread_mutex_lock(&shard->lock);
    alone = !shard->depends_on;
    pthread_mutex_unlock(&shard->lock);
    return alone ? sync_shard(shard, position) : sync_with_others(shard, position);
}
