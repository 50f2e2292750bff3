/* What is alive and what is dead of a shard whose index is on disk: counted once, whatever is
 * moved, merged, killed and opened. A figure too high keeps space; one too low calls a segment dead
 * that is not. */
#include <sys/stat.h>
#include <unistd.h>

#include "unit_shard.h"

#include "merge/merge.h"
#include "shard/spill.h"

#define OUTPUT_BYTES 512u

static void flush_index(struct rig *rig)
{
    assert_ok(spill_flush(only(rig), true));
}

static void drain(struct rig *rig)
{
    pthread_mutex_lock(&only(rig)->lock);
    assert_ok(shard_drain(only(rig)));
    pthread_mutex_unlock(&only(rig)->lock);
}

static void write_manifest(struct rig *rig)
{
    pthread_mutex_lock(&only(rig)->manifest_lock);
    assert_ok(shard_write_manifest(only(rig)));
    pthread_mutex_unlock(&only(rig)->manifest_lock);
}

/* Leaves the active segment, seals it and returns its id. */
static uint64_t seal_active(struct rig *rig)
{
    uint64_t id = only(rig)->active->id;

    drain(rig);
    assert_ok(shard_leave_active(only(rig), PREPARE_FOR_WRITES));
    assert_ok(shard_seal_waiting(only(rig), false));
    return id;
}

static void merge_segment(struct rig *rig, uint64_t id)
{
    struct shard *shard = only(rig);
    struct segment *input = segments_get(&shard->segments, id);

    assert_non_null(input);
    pthread_mutex_lock(&shard->merge_lock);
    assert_ok(merge_segments(shard, &input, 1, OUTPUT_BYTES, NULL));
    pthread_mutex_unlock(&shard->merge_lock);
}

static uint64_t live_bytes_of(struct rig *rig, uint64_t id)
{
    const struct segment *segment = segments_get(&only(rig)->segments, id);

    assert_non_null(segment);
    return segment->counts.live_bytes;
}

static uint64_t bytes_of(const char *key, const char *value)
{
    return record_stored_size(strlen(key), strlen(value), false);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void check_counts(struct rig *rig, uint64_t live, uint64_t dead)
{
    assert_int_equal(only(rig)->counts.live_bytes, live);
    assert_int_equal(only(rig)->counts.dead_bytes, dead);
}

/* Keys in the runs, above them others, some of them overwritten or deleted again: nothing of that
 * is counted twice, nor is what comes behind the figures forgotten. */
static void test_figures_are_the_same_after_any_opening(void **state)
{
    (void)state;
    for (unsigned boot = 0; boot < 2; boot++) {
        struct rig *rig = rig_that_spills(1);
        uint64_t live;
        uint64_t dead;

        put_keys(rig, 0, 40);
        flush_index(rig);
        put_keys(rig, 40, 80);
        put_keys(rig, 50, 60);
        assert_ok(rig_delete(rig, "key70"));
        for (unsigned round = 0; round < 3; round++) {
            drain(rig);
            live = only(rig)->counts.live_bytes;
            dead = only(rig)->counts.dead_bytes;
            rig_reopen(rig);
            check_counts(rig, live, dead);
            rig_reopen(rig);
            check_counts(rig, live, dead);
            put_keys(rig, 60, 65);
            put_keys(rig, 80 + round, 81 + round);
            drain(rig);
            live = only(rig)->counts.live_bytes;
            dead = only(rig)->counts.dead_bytes;
            if (boot > 0)
                other_boot(rig);
            rig_crash(rig);
            check_counts(rig, live, dead);
        }
        rig_stop(rig);
    }
}

/* What the figures count and a power loss took is counted no more. */
static void test_what_was_cut_off_is_not_counted(void **state)
{
    struct rig *rig = rig_that_spills(1);
    uint64_t before;
    size_t kept;

    (void)state;
    put_keys(rig, 0, 40);
    flush_index(rig);
    before = only(rig)->counts.live_bytes;
    kept = segment_tail(only(rig)->active);
    put_keys(rig, 40, 80);
    write_manifest(rig);
    rig_abandon(rig);
    rig_cut(rig, 0, "1.data", kept);
    other_boot(rig);
    rig_open(rig);
    check_counts(rig, before, 0);
    assert_keys(rig, 0, 40);
    rig_stop(rig);
}

static uint64_t live_keys(struct rig *rig)
{
    const struct index *index = &only(rig)->index;

    return index_entries(index) - index->tombstones - index->lower_tombstones;
}

/* A tombstone that is in the runs, one that is loaded, one of a key that was put again, and one
 * that was put in between: as many keys as before, and after a flush as many as there are. */
static void test_tombstones_are_counted_once(void **state)
{
    (void)state;
    for (unsigned crash = 0; crash < 2; crash++) {
        struct rig *rig = rig_that_spills(1);
        uint64_t keys;

        put_keys(rig, 0, 20);
        flush_index(rig);
        put_keys(rig, 20, 30);
        assert_ok(rig_delete(rig, "key25"));
        assert_ok(spill_flush(only(rig), false));
        put_keys(rig, 30, 40);
        assert_ok(rig_delete(rig, "key35"));
        assert_ok(rig_delete(rig, "key36"));
        put_keys(rig, 36, 37);
        assert_ok(rig_delete(rig, "key3"));
        drain(rig);
        keys = live_keys(rig);
        for (unsigned round = 0; round < 2; round++) {
            if (crash > 0)
                rig_crash(rig);
            else
                rig_reopen(rig);
            assert_int_equal(live_keys(rig), keys);
        }
        flush_index(rig);
        assert_int_equal(live_keys(rig), 37);
        assert_int_equal(index_entries(&only(rig)->index), 37);
        rig_crash(rig);
        assert_int_equal(live_keys(rig), 37);
        rig_stop(rig);
    }
}

/* ---- merging --------------------------------------------------------------------------------- */

/* What is overwritten is counted dead when it is; that the newer record was moved by a merge since
 * does not make it so once more, at the cost of what lies beside it. */
static void test_what_a_merge_has_moved_replaces_nothing_twice(void **state)
{
    struct rig *rig = rig_that_spills(1);
    uint64_t older;
    uint64_t newer;

    (void)state;
    put_keys(rig, 0, 10);
    flush_index(rig);
    (void)seal_active(rig);
    assert_ok(rig_put(rig, "overwritten", "older"));
    assert_ok(rig_put(rig, "beside it", "stays"));
    older = seal_active(rig);
    assert_ok(rig_put(rig, "overwritten", "newer"));
    assert_ok(rig_put(rig, "another", "stays"));
    newer = seal_active(rig);
    assert_int_equal(live_bytes_of(rig, older), bytes_of("beside it", "stays"));
    merge_segment(rig, newer);
    rig_crash(rig);
    assert_int_equal(live_bytes_of(rig, older), bytes_of("beside it", "stays"));
    assert_ok(rig_put(rig, "beside it", "goes"));
    drain(rig);
    assert_int_equal(live_bytes_of(rig, older), 0);
    write_manifest(rig);
    rig_crash(rig);
    assert_value(rig, "overwritten", "newer");
    assert_value(rig, "beside it", "goes");
    assert_keys(rig, 0, 10);
    rig_stop(rig);
}

/* What a merge of runs drops is dead in the manifest that names what it has made: a later open
 * finds nothing that would tell. */
static void test_what_a_merge_of_runs_drops_is_dead_after_a_kill(void **state)
{
    struct rig *rig = rig_that_spills(1);
    uint64_t live;
    uint64_t dead;

    (void)state;
    put_keys(rig, 0, 40);
    assert_ok(spill_flush(only(rig), false));
    live = only(rig)->counts.live_bytes;
    put_keys(rig, 0, 40);
    flush_index(rig);
    assert_int_equal(only(rig)->counts.live_bytes, live);
    dead = only(rig)->counts.dead_bytes;
    rig_crash(rig);
    check_counts(rig, live, dead);
    rig_stop(rig);
}

/* Where the manifest cannot be written the entries are still there, and nothing of it is so. */
static void test_a_merge_of_runs_that_fails_counts_nothing(void **state)
{
    struct rig *rig = rig_that_spills(1);
    const char *obstacle = rig_path(rig, 0, "MANIFEST.tmp");
    uint64_t live;
    uint64_t dead;

    (void)state;
    put_keys(rig, 0, 40);
    assert_ok(rig_delete(rig, "key7"));
    assert_ok(spill_flush(only(rig), false));
    put_keys(rig, 20, 60);
    assert_ok(rig_delete(rig, "key8"));
    assert_ok(spill_flush(only(rig), false));
    live = only(rig)->counts.live_bytes;
    dead = only(rig)->counts.dead_bytes;
    assert_int_equal(mkdir(obstacle, 0700), 0);
    pthread_mutex_lock(&only(rig)->merge_lock);
    assert_int_not_equal(spill_merge_runs(only(rig), true), CASK_OK);
    pthread_mutex_unlock(&only(rig)->merge_lock);
    check_counts(rig, live, dead);
    assert_int_equal(rmdir(obstacle), 0);
    flush_index(rig);
    assert_true(only(rig)->counts.live_bytes < live);
    live = only(rig)->counts.live_bytes;
    dead = only(rig)->counts.dead_bytes;
    rig_crash(rig);
    check_counts(rig, live, dead);
    rig_stop(rig);
}

/* ---- opening with little memory -------------------------------------------------------------- */

#define MANY 12000u

/* All of it twice, so that an open has both versions in different runs. */
static struct rig *rig_with_little_memory(void)
{
    struct rig *rig = rig_that_spills(1);

    put_keys(rig, 0, 10);
    flush_index(rig);
    put_keys(rig, 10, MANY);
    put_keys(rig, 10, MANY);
    drain(rig);
    write_manifest(rig);
    rig->env.budget.limit_bytes = (uint64_t)1 << 20;
    rig->env.budget.reserve_bytes = rig->env.budget.limit_bytes - 8192;
    return rig;
}

static void test_what_is_loaded_into_runs_dies_once(void **state)
{
    struct rig *rig = rig_with_little_memory();
    uint64_t live = only(rig)->counts.live_bytes;
    uint64_t dead = only(rig)->counts.dead_bytes;

    (void)state;
    rig_crash(rig);
    assert_true(only(rig)->spill_counts.flushes > 0);
    flush_index(rig);
    check_counts(rig, live, dead);
    rig_crash(rig);
    check_counts(rig, live, dead);
    assert_int_equal(index_entries(&only(rig)->index), MANY);
    assert_keys(rig, 0, MANY);
    rig_stop(rig);
}

/* The next open loads all of it again: runs that have it too are not in the manifest. Here one is
 * written because the segment made ahead is dropped. */
static void test_runs_of_an_open_that_was_killed_are_not_listed(void **state)
{
    struct rig *rig = rig_with_little_memory();
    uint64_t live = only(rig)->counts.live_bytes;
    uint64_t dead = only(rig)->counts.dead_bytes;
    uint64_t generation;

    (void)state;
    assert_ok(shard_prepare(only(rig), 0, PREPARE_FOR_WRITES));
    generation = only(rig)->manifest_generation;
    rig->unsettled = true;
    rig_crash(rig);
    assert_true(only(rig)->spill_counts.flushes > 0);
    assert_true(only(rig)->manifest_generation > generation);
    rig->unsettled = false;
    rig_crash(rig);
    flush_index(rig);
    check_counts(rig, live, dead);
    assert_int_equal(index_entries(&only(rig)->index), MANY);
    assert_keys(rig, 0, MANY);
    rig_stop(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_are_the_same_after_any_opening),
        cmocka_unit_test(test_what_was_cut_off_is_not_counted),
        cmocka_unit_test(test_tombstones_are_counted_once),
        cmocka_unit_test(test_what_a_merge_has_moved_replaces_nothing_twice),
        cmocka_unit_test(test_what_a_merge_of_runs_drops_is_dead_after_a_kill),
        cmocka_unit_test(test_a_merge_of_runs_that_fails_counts_nothing),
        cmocka_unit_test(test_what_is_loaded_into_runs_dies_once),
        cmocka_unit_test(test_runs_of_an_open_that_was_killed_are_not_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
