/* Opening a shard whose index is on disk: what is read and what memory it takes. The same by public
 * calls is in test_overflow.c. */
#include <unistd.h>

#include "unit_shard.h"

#define BUDGET ((uint64_t)4 << 20)

static struct rig *make(struct unit_mode mode)
{
    struct rig *rig = rig_make(1, mode);

    rig->env.spills = true;
    rig->env.real_path = rig->place.path;
    rig->env.budget.limit_bytes = BUDGET;
    rig->env.budget.reserve_bytes = BUDGET / 2;
    return rig;
}

static struct rig *start(struct unit_mode mode)
{
    struct rig *rig = make(mode);

    rig_open(rig);
    return rig;
}

static uint32_t run_count(struct rig *rig)
{
    const struct run_list *runs = index_lower(&only(rig)->index).runs;

    return runs ? runs->count : 0;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* A share of the budget that lasts for a few hundred entries: over a hundred flushes, and a shard
 * has at most 64 runs. */
static void test_an_open_may_flush_any_number_of_times(void **state)
{
    const unsigned many = 45000;
    struct rig *rig = start(unit_modes[0]);

    (void)state;
    put_keys(rig, 0, many);
    assert_int_equal(run_count(rig), 0);
    rig_close(rig);
    rig->env.budget.limit_bytes = (uint64_t)1 << 20;
    rig->env.budget.reserve_bytes = rig->env.budget.limit_bytes - 8192;
    rig_open(rig);
    assert_true(only(rig)->spill_counts.flushes > INDEX_RUNS_MAX);
    assert_true(only(rig)->spill_counts.run_merges > 0);
    assert_true(run_count(rig) > 0 && run_count(rig) <= 20);
    assert_int_equal(index_entries(&only(rig)->index), many);
    assert_keys(rig, 0, many);
    rig_reopen(rig);
    assert_int_equal(only(rig)->spill_counts.flushes, 0); /* the manifest knows them */
    assert_keys(rig, 0, many);
    assert_quiet(rig);
    rig_stop(rig);
}

/* A table that has room elsewhere, but not there, and may not grow: that is no reason not to
 * open. */
static void test_an_open_copes_with_a_crowd(void **state)
{
    static char keys[600][16];

    (void)state;
    for (unsigned crash = 0; crash < 2; crash++) {
        struct rig *rig = start(unit_modes[0]);

        crowd_of(rig->env.hash_seed, rig->env.shard_bits, COUNT_OF(keys), keys);
        for (unsigned i = 0; i < COUNT_OF(keys); i++)
            assert_ok(rig_put(rig, keys[i], "value"));
        if (crash > 0)
            rig_abandon(rig);
        else
            rig_close(rig);
        rig->env.budget.limit_bytes = (uint64_t)1 << 20;
        rig->env.budget.reserve_bytes = rig->env.budget.limit_bytes - 8192;
        rig_open(rig);
        for (unsigned i = 0; i < COUNT_OF(keys); i++)
            assert_value(rig, keys[i], "value");
        rig_stop(rig);
    }
}

/* What was deleted stays so, though runs are merged before all segments are loaded. */
static void test_runs_merged_while_loading_keep_tombstones(void **state)
{
    const unsigned many = 12000;
    struct rig *rig = make(unit_modes[0]);

    (void)state;
    rig->config.segment_bytes = (uint64_t)64 << 10;
    rig_open(rig);
    put_keys(rig, 0, many);
    for (unsigned i = 0; i < many; i += 3) {
        char key[16];

        snprintf(key, sizeof key, "key%u", i);
        assert_ok(rig_delete(rig, key));
    }
    rig_close(rig);
    rig->env.budget.limit_bytes = (uint64_t)1 << 20;
    rig->env.budget.reserve_bytes = rig->env.budget.limit_bytes - 8192;
    for (unsigned round = 0; round < 2; round++) {
        rig_open(rig);
        assert_true(round == 1 || only(rig)->spill_counts.run_merges > 0);
        for (unsigned i = 0; i < many; i++) {
            char key[16];

            snprintf(key, sizeof key, "key%u", i);
            assert_value(rig, key, i % 3 == 0 ? NULL : key);
        }
        rig_close(rig);
    }
    rig_stop(rig);
}

/* What the open did not load in parts goes to disk at its end; where that gets no buffers it says
 * so, and does not wait for itself. */
static void test_the_end_of_an_open_gets_no_buffers(void **state)
{
    struct rig *rig = start(unit_modes[0]);
    struct budget *budget = &rig->env.budget;
    uint64_t left;

    (void)state;
    put_keys(rig, 0, 300);
    assert_ok(spill_flush(only(rig), true));
    put_keys(rig, 300, 600);
    left = budget->limit_bytes - budget_used(budget);
    assert_true(budget_take(budget, left));
    assert_int_equal(spill_settle(only(rig)), CASK_ENOMEM);
    budget_give(budget, left);
    assert_ok(spill_settle(only(rig)));
    assert_keys(rig, 0, 600);
    rig_crash(rig);
    assert_int_equal(only(rig)->counts.recovered_records, 0);
    assert_keys(rig, 0, 600);
    rig_stop(rig);
}

/* ---- what is read ---------------------------------------------------------------------------- */

static void flush_index(struct rig *rig)
{
    assert_ok(spill_flush(only(rig), true));
}

static void test_after_a_kill_only_what_the_runs_do_not_cover_is_read(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct rig *rig = start(unit_modes[mode]);

        put_keys(rig, 0, 300);
        flush_index(rig);
        rig_crash(rig);
        assert_int_equal(only(rig)->counts.recovered_records, 0);
        assert_keys(rig, 0, 300);
        put_keys(rig, 300, 310);
        rig_crash(rig);
        assert_int_equal(only(rig)->counts.recovered_records, 10);
        assert_keys(rig, 0, 310);
        rig_reopen(rig);
        assert_int_equal(only(rig)->counts.recovered_records, 0);
        assert_keys(rig, 0, 310);
        put_keys(rig, 310, 320);
        rig_crash(rig);
        assert_int_equal(only(rig)->counts.recovered_records, 10);
        assert_keys(rig, 0, 320);
        assert_quiet(rig);
        rig_stop(rig);
    }
}

/* It is newer than all that they have, so that they need not be asked. */
static void test_after_a_kill_no_run_is_asked_about_the_tail(void **state)
{
    struct rig *rig = start(unit_modes[0]);

    (void)state;
    put_keys(rig, 0, 300);
    flush_index(rig);
    put_keys(rig, 200, 500);
    rig_crash(rig);
    assert_int_equal(only(rig)->counts.recovered_records, 300);
    assert_int_equal(index_counts(&only(rig)->index).filter_asks, 0);
    assert_int_equal(keydir_count(index_keydir(&only(rig)->index)), 300);
    assert_keys(rig, 0, 500);
    assert_true(index_counts(&only(rig)->index).filter_asks > 0);
    flush_index(rig);
    assert_int_equal(index_entries(&only(rig)->index), 500);
    assert_quiet(rig);
    rig_stop(rig);
}

/* The table is made for the keys of the tail, not for its records. */
static void test_a_tail_of_few_keys_takes_little_memory(void **state)
{
    static const unsigned keys[] = {1, 100, 20000};
    const unsigned records = 40000;

    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct rig *rig = start(unit_modes[0]);

        for (unsigned put = 0; put < records; put += keys[i])
            put_keys(rig, 0, keys[i]);
        rig_crash(rig);
        assert_int_equal(keydir_count(index_keydir(&only(rig)->index)), keys[i]);
        assert_in_range(index_keydir(&only(rig)->index)->committed_bytes, keys[i] * 11,
                        keys[i] * 16 + 8192);
        assert_keys(rig, 0, keys[i]);
        assert_quiet(rig);
        rig_stop(rig);
    }
}

/* Segments that were left but not sealed yet: what the runs cover of them ends with their seal. */
static void test_a_covered_seal_is_still_one(void **state)
{
    (void)state;
    for (unsigned boot = 0; boot < 2; boot++) {
        struct rig *rig = make(unit_modes[0]);

        rig->config.segment_bytes = 512;
        rig_open(rig);
        put_keys(rig, 0, 60);
        flush_index(rig);
        put_keys(rig, 60, 90);
        if (boot > 0)
            other_boot(rig);
        rig_crash(rig);
        assert_true(only(rig)->counts.recovered_records < 60);
        assert_keys(rig, 0, 90);
        put_keys(rig, 90, 100);
        rig_reopen(rig);
        assert_keys(rig, 0, 100);
        assert_quiet(rig);
        rig_stop(rig);
    }
}

/* A hint that was never written, as the disk was full: it is made once there is room, though the
 * runs know all of its segment. */
static void test_a_missing_hint_of_a_covered_segment_is_made(void **state)
{
    struct rig *rig = make(unit_modes[0]);
    const char *path;

    (void)state;
    rig->config.segment_bytes = 512;
    rig_open(rig);
    put_keys(rig, 0, 60);
    flush_index(rig);
    rig_close(rig);
    path = rig_path(rig, 0, "1.hint");
    assert_int_equal(unlink(path), 0);
    rig_open(rig);
    assert_int_equal(access(rig_path(rig, 0, "1.hint"), F_OK), 0);
    assert_int_equal(index_entries(&only(rig)->index), 60);
    assert_int_equal(keydir_count(index_keydir(&only(rig)->index)), 0);
    assert_keys(rig, 0, 60);
    assert_quiet(rig);
    rig_stop(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_open_may_flush_any_number_of_times),
        cmocka_unit_test(test_an_open_copes_with_a_crowd),
        cmocka_unit_test(test_runs_merged_while_loading_keep_tombstones),
        cmocka_unit_test(test_the_end_of_an_open_gets_no_buffers),
        cmocka_unit_test(test_after_a_kill_only_what_the_runs_do_not_cover_is_read),
        cmocka_unit_test(test_after_a_kill_no_run_is_asked_about_the_tail),
        cmocka_unit_test(test_a_tail_of_few_keys_takes_little_memory),
        cmocka_unit_test(test_a_covered_seal_is_still_one),
        cmocka_unit_test(test_a_missing_hint_of_a_covered_segment_is_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
