#include "merge/sweep.h"

#include <stdlib.h>

#define CANDIDATES 32u
#define SWEEP_READ_BYTES ((size_t)256 << 10)
#define BUFFER_PART 64u /* of the budget, for one run at most: others must go on beside a sweep */

static int advance(struct sweep_run *run)
{
    int status = run_cursor_next(&run->cursor, &run->head);

    run->ended = status == CASK_NOTFOUND;
    return run->ended ? CASK_OK : status;
}

int sweep_open(struct sweep *sweep, struct shard *shard)
{
    size_t read_bytes = (size_t)min_u64(SWEEP_READ_BYTES,
                                        shard->env->budget.limit_bytes / BUFFER_PART);
    uint32_t count;
    int status = CASK_OK;

    memset(sweep, 0, sizeof *sweep);
    sweep->shard = shard;
    sweep->lower = index_lower(&shard->index);
    count = sweep->lower.runs ? sweep->lower.runs->count : 0;
    if (count == 0)
        return CASK_OK;
    sweep->runs = calloc(count, sizeof *sweep->runs);
    if (!sweep->runs)
        return CASK_ENOMEM;
    while (status == CASK_OK && sweep->run_count < count) {
        struct sweep_run *run = &sweep->runs[sweep->run_count];

        status = run_cursor_open(&run->cursor, sweep->lower.runs->runs[sweep->run_count], 0,
                                 read_bytes, &shard->env->budget);
        if (status == CASK_OK) {
            sweep->run_count++;
            status = advance(run);
        }
    }
    if (status != CASK_OK)
        sweep_close(sweep);
    return status;
}

void sweep_close(struct sweep *sweep)
{
    for (uint32_t i = 0; i < sweep->run_count; i++)
        run_cursor_close(&sweep->runs[i].cursor);
    free(sweep->runs);
    sweep->runs = NULL;
    sweep->run_count = 0;
}

/* The locations of a tag in one run. Those beyond room are counted only. Several records may be
 * asked about under one tag, so the head may be passed only when the next tag comes: entries of the
 * tag are looked up through the run then. */
static int find_in_run(struct sweep *sweep, uint32_t i, uint32_t tag, uint64_t *ret_locations,
                       unsigned room, unsigned *ret_found)
{
    struct sweep_run *run = &sweep->runs[i];
    int status = CASK_OK;

    *ret_found = 0;
    if (!run->ended && run->head.tag < tag) {
        status = run_cursor_seek(&run->cursor, tag);
        if (status == CASK_OK || status == CASK_NOTFOUND)
            status = advance(run);
    }
    if (status != CASK_OK || run->ended || run->head.tag > tag)
        return status;
    return run_find(sweep->lower.runs->runs[i], tag, ret_locations, room, ret_found, NULL);
}

static bool has(const uint64_t *locations, unsigned found, uint64_t location)
{
    for (unsigned i = 0; i < found && i < CANDIDATES; i++)
        if (locations[i] == location)
            return true;
    return found > CANDIDATES;
}

/* Whether a candidate of a tier above is of the key of the record, and newer. One that cannot be
 * read, or is damaged, and may be of that key, is an error: taken for another key's, the older
 * record would be moved to the top of the index. */
static int compare(const struct sweep *sweep, uint64_t candidate, const struct record *mine,
                   bool *ret_shadowed)
{
    struct record_buffer buffer;
    struct found other;
    int status;

    record_buffer_init(&buffer);
    status = shard_read_at(sweep->shard, candidate, &buffer, &other);
    if (status == CASK_OK)
        *ret_shadowed = other.record.sequence > mine->sequence &&
                        record_same_key(&other.record, mine);
    else if (status == CASK_ECORRUPT &&
             shard_read_unverified(sweep->shard, candidate, &buffer, &other) == CASK_OK &&
             !record_same_key(&other.record, mine))
        status = CASK_OK;
    record_buffer_release(&buffer);
    return status == CASK_NOTFOUND ? CASK_OK : status;
}

/* Whether one of the candidates, which are of tiers above, is of the key of the record. A damaged
 * record counts as live: it is met again by who copies it. */
static int look_above(const struct sweep *sweep, const uint64_t *candidates, unsigned count,
                      uint64_t location, bool *ret_shadowed)
{
    struct record_buffer buffer;
    struct found mine;
    int status;

    *ret_shadowed = false;
    if (count == 0)
        return CASK_OK;
    record_buffer_init(&buffer);
    status = shard_read_at(sweep->shard, location, &buffer, &mine);
    if (status == CASK_ECORRUPT || status == CASK_NOTFOUND) {
        record_buffer_release(&buffer);
        return CASK_OK;
    }
    for (unsigned i = 0; status == CASK_OK && !*ret_shadowed && i < count; i++)
        status = compare(sweep, candidates[i], &mine.record, ret_shadowed);
    record_buffer_release(&buffer);
    return status;
}

static int find_in_tier(struct sweep *sweep, uint32_t tier, uint32_t tag, uint64_t *ret_locations,
                        unsigned *ret_found)
{
    *ret_found = 0;
    if (tier > 0)
        return find_in_run(sweep, tier - 1, tag, ret_locations, CANDIDATES, ret_found);
    if (sweep->lower.flushing)
        *ret_found = keydir_find(sweep->lower.flushing, tag, ret_locations, CANDIDATES);
    return CASK_OK;
}

int sweep_is_live(struct sweep *sweep, uint32_t tag, uint64_t location, bool *ret_live,
                  bool *ret_alone)
{
    uint64_t others[CANDIDATES];
    unsigned count = keydir_find(index_keydir(&sweep->shard->index), tag, others, CANDIDATES);
    bool found_it = has(others, count, location);

    *ret_live = found_it;
    *ret_alone = count == found_it;
    for (uint32_t tier = 0; tier <= sweep->run_count; tier++) {
        uint64_t locations[CANDIDATES];
        unsigned found;
        int status = find_in_tier(sweep, tier, tag, locations, &found);

        if (status != CASK_OK)
            return status;
        if (!found_it && has(locations, found, location)) {
            bool shadowed;

            found_it = true;
            /* A tier has two entries of one key where one of them could not be read. */
            for (unsigned i = 0; i < found && i < CANDIDATES && count < CANDIDATES; i++)
                if (locations[i] != location)
                    others[count++] = locations[i];
            status = look_above(sweep, others, count, location, &shadowed);
            if (status != CASK_OK)
                return status;
            *ret_live = !shadowed;
            *ret_alone &= found == 1;
        } else {
            *ret_alone &= found == 0;
        }
        for (unsigned i = 0; !found_it && i < found && count < CANDIDATES; i++)
            others[count++] = locations[i];
    }
    return CASK_OK;
}
