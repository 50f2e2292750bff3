/* Before the inputs of a merge are given up: is all that lives in them among what survives? Sifting
 * asks the index about each record; here it is asked the other way round.
 *
 * Each put that is replaced or deleted is counted dead under the lock. So while the whole index is
 * in memory, with one entry of each key, the figures of an input call alive just what the index
 * leads to; if that is more than what survives, every entry is looked at. */
#include <stdlib.h>

#include "merge/merge_internal.h"

#define COLLECTED_MIN 4096u /* entries looked at under the lock in one go */

/* Where survivors lie that entries lead to, in ascending order. */
struct places {
    uint64_t *items;
    size_t count;
};

static int sum_up(const struct merge *merge, uint64_t **ret_bytes)
{
    uint64_t *bytes = calloc(merge->input_count + 1, sizeof *bytes);

    if (!bytes)
        return CASK_ENOMEM;
    for (size_t i = 0; i < merge->survivor_count; i++)
        if (merge->survivors[i].fate != FATE_TOMBSTONE)
            bytes[merge->survivors[i].input] += merge->survivors[i].size;
    *ret_bytes = bytes;
    return CASK_OK;
}

/* What is overwritten meanwhile is alive no more; nothing comes to life. */
static int figures_agree(const struct merge *merge, bool *ret_agree)
{
    struct shard *shard = merge->shard;
    uint64_t *bytes;
    int status = sum_up(merge, &bytes);

    if (status != CASK_OK)
        return status;
    *ret_agree = true;
    pthread_mutex_lock(&shard->lock);
    for (size_t i = 0; i < merge->input_count; i++)
        *ret_agree &= merge->inputs[i]->counts.live_bytes <= bytes[i];
    *ret_agree |= index_has_lower(&shard->index) || shard->index.doubles;
    pthread_mutex_unlock(&shard->lock);
    free(bytes);
    return CASK_OK;
}

static int by_place(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

static int list_places(const struct merge *merge, struct places *places)
{
    unsigned offset_bits = merge->shard->config.offset_bits;

    places->count = 0;
    places->items = malloc((merge->survivor_count + 1) * sizeof *places->items);
    if (!places->items)
        return CASK_ENOMEM;
    for (size_t i = 0; i < merge->survivor_count; i++) {
        const struct survivor *survivor = &merge->survivors[i];

        if (survivor->indexed)
            places->items[places->count++] = location_make(merge->inputs[survivor->input]->id,
                                                           survivor_offset(survivor), offset_bits);
    }
    qsort(places->items, places->count, sizeof *places->items, by_place);
    return CASK_OK;
}

static bool is_in_input(const struct merge *merge, uint64_t location)
{
    uint64_t id = location_segment(location, merge->shard->config.offset_bits);

    for (size_t i = 0; i < merge->input_count; i++)
        if (merge->inputs[i]->id == id)
            return true;
    return false;
}

/* Entries from a tag on; CASK_NOTFOUND: one leads to what does not survive. Under the lock. */
static int check_entries(const struct merge *merge, const struct places *places,
                         struct keydir_entry *entries, size_t room, uint64_t *from)
{
    uint64_t next;
    size_t count = keydir_collect(index_keydir(&merge->shard->index), *from, entries, room, &next);

    for (size_t i = 0; i < count; i++)
        if (is_in_input(merge, entries[i].location) &&
            !bsearch(&entries[i].location, places->items, places->count, sizeof *places->items,
                     by_place))
            return CASK_NOTFOUND;
    *from = next;
    return CASK_OK;
}

static int index_agrees(const struct merge *merge, const struct places *places)
{
    struct shard *shard = merge->shard;
    size_t room = COLLECTED_MIN;
    struct keydir_entry *entries = malloc(room * sizeof *entries);
    uint64_t from = 0;
    int status = entries ? CASK_OK : CASK_ENOMEM;

    while (status == CASK_OK && from <= UINT32_MAX) {
        uint64_t before = from;

        pthread_mutex_lock(&shard->lock);
        status = check_entries(merge, places, entries, room, &from);
        pthread_mutex_unlock(&shard->lock);
        if (status == CASK_OK && from == before) { /* very many of one tag */
            free(entries);
            room *= 2;
            entries = malloc(room * sizeof *entries);
            status = entries ? CASK_OK : CASK_ENOMEM;
        }
    }
    free(entries);
    return status;
}

int merge_check(const struct merge *merge)
{
    struct shard *shard = merge->shard;
    struct places places;
    bool agree;
    int status = figures_agree(merge, &agree);

    if (status != CASK_OK || agree)
        return status;
    status = list_places(merge, &places);
    if (status == CASK_OK)
        status = index_agrees(merge, &places);
    free(places.items);
    if (status != CASK_NOTFOUND)
        return status;
    report(&shard->env->reporter, CASK_LOG_ERROR,
           "%s/shard-%03u: a merge was given up that would have lost records", shard->env->path,
           (unsigned)shard->number);
    return CASK_ECORRUPT;
}
