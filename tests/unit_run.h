/* What the tests of runs share: a directory with a budget, runs built from sorted entries, and
 * their answers checked against those entries. */
#ifndef CASKADE_TESTS_UNIT_RUN_H
#define CASKADE_TESTS_UNIT_RUN_H

#include "unit.h"

#include "index/run_cursor.h"
#include "index/runbuild.h"

struct run_place_dir {
    struct place place;
    struct budget budget;
    struct run_config config;
};

static inline struct run_place_dir runs_start(void)
{
    struct run_place_dir runs = {.place = place_make(),
                                 .budget = {.limit_bytes = (uint64_t)64 << 20},
                                 .config = {.shard = 3}};

    memcpy(runs.config.uuid, "0123456789abcdef", sizeof runs.config.uuid);
    return runs;
}

/* All memory must be back. */
static inline void runs_stop(struct run_place_dir *runs)
{
    assert_int_equal(budget_used(&runs->budget), 0);
    place_remove(&runs->place);
}

/* Sorted entries with the gaps that chance gives; location i + 1. */
static inline struct keydir_entry *run_entries(size_t count, uint64_t seed)
{
    struct keydir_entry *entries = malloc((count + 1) * sizeof *entries);
    struct rng rng = {seed};

    assert_non_null(entries);
    for (size_t i = 0; i < count; i++) {
        uint64_t width = ((uint64_t)1 << 32) / count;

        entries[i].tag = (uint32_t)(i * width + rng_below(&rng, width));
        entries[i].location = i + 1;
    }
    return entries;
}

static inline struct run_summary run_build_all(struct run_place_dir *runs, uint64_t id,
                                               const struct keydir_entry *entries, size_t count,
                                               unsigned filter_bits)
{
    struct run_build_options options = {count, filter_bits};
    struct run_summary summary;
    struct run_build *build;

    assert_ok(run_build_begin(runs->place.dir, runs->place.path, &runs->config, id, options,
                              &runs->budget, &build));
    for (size_t i = 0; i < count; i++)
        assert_ok(run_build_add(build, entries[i].tag, entries[i].location));
    assert_ok(run_build_finish(build, &summary));
    assert_int_equal(summary.id, id);
    assert_int_equal(summary.count, count);
    return summary;
}

static _Thread_local bool unit_mapped; /* how runs are opened */

static inline int run_open_as(struct run_place_dir *runs, const struct run_summary *summary,
                              bool validate, struct run **ret_run)
{
    return run_open(runs->place.dir, &runs->config, summary->id, summary->bytes, summary->checksum,
                    (struct run_open_options){.validate = validate, .mapped = unit_mapped},
                    &runs->budget, ret_run);
}

static _Thread_local struct run_counts unit_counts; /* of the look-ups below */

/* That a look-up finds all entries from number `first` on that have its tag, and no more. */
static inline void check_find(struct run *run, const struct keydir_entry *entries, size_t count,
                              size_t first)
{
    uint64_t locations[8];
    unsigned expected = 0;
    unsigned found;

    while (first > 0 && entries[first - 1].tag == entries[first].tag)
        first--;
    while (first + expected < count && entries[first + expected].tag == entries[first].tag)
        expected++;
    CHECK_OK(run_find(run, entries[first].tag, locations, 8, &found, &unit_counts));
    CHECK(found == expected, "entry %zu: %u found, not %u", first, found, expected);
    for (unsigned i = 0; i < expected && i < 8; i++)
        CHECK(locations[i] == entries[first + i].location, "entry %zu", first + i);
}

/* That a tag that is not there is not found. */
static inline void check_absent(struct run *run, uint32_t tag)
{
    uint64_t location;
    unsigned found;

    CHECK_OK(run_find(run, tag, &location, 1, &found, &unit_counts));
    CHECK(found == 0, "tag %u is found", tag);
}

#endif
