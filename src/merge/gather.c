/* What survives, by the index alone.
 *
 * Where all of the index is in memory, an entry leads to each record that lives, and to no other
 * put. So one walk over the keydir finds the survivors, in the order of their tags; neither hints
 * nor dead records are read at all. Tombstones and expired records, which have no entries or need
 * more than that, leave the merge to the hints (sift.c).
 *
 * Invariants:
 *  1. Each survivor's record is proved when it is copied: checksum, tag and type.
 *  2. The bytes of the survivors are those that the inputs count as live, but for what dies while
 *     the merge goes on; where they are not, the merge begins anew, by the hints.
 */
#include <stdlib.h>

#include "merge/merge_internal.h"

#define ROOM 1024u /* entries had at a time */
#define TRIES 3u   /* before the lock is taken */
#define PACE_RANGES 128u
#define NO_INPUT UINT32_MAX
#define SPAN_MAX ((uint64_t)1 << 20) /* of the inputs' ids */

/* Entries of the keydir for each record of the inputs, at most. An entry passed over costs a few
 * nanoseconds; a record that is looked up by its hint, dead or alive, ten times as much. */
#define ENTRIES_PER_RECORD 8u

struct gathering {
    struct merge *merge;
    uint32_t *numbers; /* of the inputs, by their ids */
    uint64_t first_id;
    uint64_t span;
    uint64_t ranges;
};

static void sum_up_live(struct merge *merge, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;

    pthread_mutex_lock(&merge->shard->lock);
    for (size_t i = 0; i < merge->input_count; i++)
        bytes += merge->inputs[i]->counts.live_bytes;
    pthread_mutex_unlock(&merge->shard->lock);
    *ret_bytes = bytes;
}

bool merge_can_gather(struct merge *merge)
{
    struct shard *shard = merge->shard;
    uint64_t records = 0;
    bool can = !index_has_lower(&shard->index);

    pthread_mutex_lock(&shard->lock);
    for (size_t i = 0; i < merge->input_count; i++) {
        const struct segment *input = merge->inputs[i];

        records += merge_records_of(input);
        can = can && input->counts.tombstone_bytes == 0 &&
              input->counts.last_expiry > merge->now_ms;
    }
    pthread_mutex_unlock(&shard->lock);
    sum_up_live(merge, &merge->live_bytes);
    return can && merge->live_bytes <= merge->output_bytes &&
           keydir_count(index_keydir(&shard->index)) / ENTRIES_PER_RECORD <= records;
}

bool merge_gathered_all(struct merge *merge)
{
    uint64_t still_live;

    sum_up_live(merge, &still_live);
    return merge->kept_bytes <= merge->live_bytes && merge->kept_bytes >= still_live;
}

static int number_inputs(struct gathering *gathering)
{
    const struct merge *merge = gathering->merge;
    uint64_t last_id = 0;

    gathering->first_id = UINT64_MAX;
    for (size_t i = 0; i < merge->input_count; i++) {
        gathering->first_id = min_u64(gathering->first_id, merge->inputs[i]->id);
        last_id = max_u64(last_id, merge->inputs[i]->id);
    }
    gathering->span = last_id - gathering->first_id + 1;
    if (gathering->span > SPAN_MAX)
        return CASK_NOTFOUND;
    gathering->numbers = malloc((size_t)gathering->span * sizeof *gathering->numbers);
    if (!gathering->numbers)
        return CASK_ENOMEM;
    memset(gathering->numbers, 0xff, (size_t)gathering->span * sizeof *gathering->numbers);
    for (size_t i = 0; i < merge->input_count; i++)
        gathering->numbers[merge->inputs[i]->id - gathering->first_id] = (uint32_t)i;
    return CASK_OK;
}

/* Those that lead into inputs, in the order of tags. They come nearly so, bucket by bucket. One
 * that the keydir moves meanwhile may be there twice. */
static size_t choose(const struct gathering *gathering, struct keydir_entry *entries, size_t count)
{
    unsigned offset_bits = gathering->merge->shard->config.offset_bits;
    size_t chosen = 0;

    for (size_t i = 0; i < count; i++) {
        struct keydir_entry entry = entries[i];
        uint64_t number = location_segment(entry.location, offset_bits) - gathering->first_id;
        size_t at = chosen;

        if (number >= gathering->span || gathering->numbers[number] == NO_INPUT)
            continue;
        while (at > 0 &&
               (entries[at - 1].tag > entry.tag ||
                (entries[at - 1].tag == entry.tag && entries[at - 1].location > entry.location)))
            at--;
        if (at > 0 && entries[at - 1].location == entry.location)
            continue;
        memmove(&entries[at + 1], &entries[at], (chosen - at) * sizeof *entries);
        entries[at] = entry;
        chosen++;
    }
    return chosen;
}

static int add(struct gathering *gathering, const struct keydir_entry *entries, size_t count)
{
    struct merge *merge = gathering->merge;
    unsigned offset_bits = merge->shard->config.offset_bits;
    unsigned shard_bits = merge->shard->env->shard_bits;
    int status = CASK_OK;

    for (size_t i = 0; status == CASK_OK && i < count; i++) {
        uint64_t id = location_segment(entries[i].location, offset_bits);
        struct survivor survivor = {
            .hash = hash_of_tag(entries[i].tag, shard_bits),
            .from = (uint32_t)(location_offset(entries[i].location, offset_bits) /
                               RECORD_ALIGNMENT),
            .input = gathering->numbers[id - gathering->first_id],
            .fate = FATE_KEEP,
            .indexed = true};

        status = merge_add_survivor(merge, &survivor);
    }
    return status;
}

/* Entries of the tags from *from on, which becomes the first that is not among them. */
static int gather_range(struct gathering *gathering, uint64_t *from)
{
    struct shard *shard = gathering->merge->shard;
    const struct keydir *keydir = index_keydir(&shard->index);
    struct keydir_entry entries[ROOM];
    uint64_t next = *from;
    size_t count = SIZE_MAX;

    for (unsigned i = 0; count == SIZE_MAX && i < TRIES; i++)
        count = keydir_gather(keydir, *from, entries, ROOM, &next);
    if (count == SIZE_MAX) {
        pthread_mutex_lock(&shard->lock);
        count = keydir_collect(keydir, *from, entries, ROOM, &next);
        pthread_mutex_unlock(&shard->lock);
    }
    if (next == *from) /* more of one tag than any hash gives */
        return CASK_NOTFOUND;
    *from = next;
    return add(gathering, entries, choose(gathering, entries, count));
}

int merge_gather(struct merge *merge)
{
    struct gathering gathering = {.merge = merge};
    uint64_t from = 0;
    int status = number_inputs(&gathering);

    while (status == CASK_OK && from <= UINT32_MAX) {
        status = gather_range(&gathering, &from);
        if (status == CASK_OK && ++gathering.ranges % PACE_RANGES == 0)
            status = merge_pause(merge, 0);
    }
    free(gathering.numbers);
    for (size_t i = 0; i < merge->input_count; i++)
        merge->records_in += merge->inputs[i]->counts.records;
    if (status == CASK_OK && merge->survivor_count > merge->records_in)
        status = CASK_NOTFOUND;
    merge->records_dead = merge->records_in - min_u64(merge->records_in, merge->survivor_count);
    return status;
}
