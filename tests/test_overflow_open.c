/* Opening a shard whose index is on disk: what is read, what is counted, and what memory it takes.
 * The same by public calls is in test_overflow.c. */
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
    const unsigned many = 36000;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_open_may_flush_any_number_of_times),
        cmocka_unit_test(test_runs_merged_while_loading_keep_tombstones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
