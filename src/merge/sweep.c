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
    return run_find(sweep->lower.runs->runs[i], tag, ret_locations, room, ret_found);
}

static bool has(const uint64_t *locations, unsigned found, uint64_t location)
{
    for (unsigned i = 0; i < found && i < CANDIDATES; i++)
        if (locations[i] == location)
            return true;
    return found > CANDIDATES;
}

/* Whether one of the candidates, which are of tiers above, is of the key of the record. */
static bool is_shadowed(struct sweep *sweep, const uint64_t *candidates, unsigned count,
                        uint64_t location)
{
    struct record_buffer mine_buffer;
    struct found mine;
    bool shadowed = false;

    record_buffer_init(&mine_buffer);
    if (shard_read_at(sweep->shard, location, &mine_buffer, &mine) == CASK_OK) {
        for (unsigned i = 0; !shadowed && i < count; i++) {
            struct record_buffer buffer;
            struct found other;

            record_buffer_init(&buffer);
            shadowed = shard_read_at(sweep->shard, candidates[i], &buffer, &other) == CASK_OK &&
                       other.record.sequence > mine.record.sequence &&
                       record_same_key(&other.record, &mine.record);
            record_buffer_release(&buffer);
        }
    }
    record_buffer_release(&mine_buffer);
    return shadowed;
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
            found_it = true;
            *ret_live = !is_shadowed(sweep, others, count, location);
            *ret_alone &= found == 1;
        } else {
            *ret_alone &= found == 0;
        }
        for (unsigned i = 0; !found_it && i < found && count < CANDIDATES; i++)
            others[count++] = locations[i];
    }
    return CASK_OK;
}
