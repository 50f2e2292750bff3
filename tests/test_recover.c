/* shard/recover and shard/load: opening after a close, a kill and a power loss. With damage:
 * test_recover_damage.c. One shard here; batches across shards are in test_batch.c. */
#include "unit_shard.h"

/* ---- sound stores ---------------------------------------------------------------------------- */

static void test_everything_is_there_after_a_close_and_after_a_kill(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);

        for (unsigned round = 0; round < 12; round++) {
            put_keys(rig, round * 15, round * 15 + 15);
            if (round % 3 == 0)
                rig_reopen(rig);
            else
                rig_crash(rig);
            assert_quiet(rig);
            assert_keys(rig, 0, round * 15 + 15);
        }
        rig_stop(rig);
    }
}

static void test_overwritten_and_deleted_keys_stay_so(void **state)
{
    (void)state;
    for (int hints = 0; hints < 2; hints++)
        for (size_t m = 0; m < UNIT_MODES; m++) {
            struct rig *rig = rig_of_small_segments(unit_modes[m]);

            put_keys(rig, 0, 50);
            for (unsigned i = 0; i < 50; i += 2) {
                char key[16];

                snprintf(key, sizeof key, "key%u", i);
                if (i % 4 == 0)
                    assert_ok(rig_delete(rig, key));
                else
                    assert_ok(rig_put(rig, key, "new"));
            }
            for (int again = 0; again < 3; again++) {
                if (hints)
                    rig_reopen(rig);
                else
                    rig_crash(rig);
                for (unsigned i = 0; i < 50; i++) {
                    char key[16];

                    snprintf(key, sizeof key, "key%u", i);
                    assert_value(rig, key, i % 4 == 0 ? NULL : i % 2 == 0 ? "new" : key);
                }
            }
            assert_quiet(rig);
            rig_stop(rig);
        }
}

static void test_only_the_tail_is_read_after_a_kill(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);
    uint64_t unsealed;

    (void)state;
    put_keys(rig, 0, 100);
    shard_do_work(only(rig), SHARD_WORK_SEAL);
    unsealed = only(rig)->active->counts.records;
    rig_crash(rig);
    assert_int_equal(only(rig)->counts.recovered_records, unsealed);
    assert_int_equal(only(rig)->counts.cut_bytes, 0);
    rig_stop(rig);
}

/* A record's bytes are not even looked at when the hint is good: damage shows when it is read. */
static void test_good_hints_spare_reading_the_records(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);

    (void)state;
    put_keys(rig, 0, 50);
    rig_close(rig);
    rig_patch(rig, 0, "1.data", SEGMENT_HEADER_BYTES + 20, "?", 1);
    rig_open(rig);
    assert_quiet(rig);
    assert_int_equal(find_status(rig, "key0"), CASK_ECORRUPT);
    assert_keys(rig, 1, 50);
    rig_stop(rig);
}

static void test_sequence_numbers_go_on_where_they_were(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);
    uint64_t next;

    (void)state;
    for (int round = 0; round < 10; round++) {
        put_keys(rig, 0, 10);
        next = only(rig)->next_sequence;
        if (round % 2)
            rig_reopen(rig);
        else
            rig_crash(rig);
        assert_in_range(only(rig)->next_sequence, next, next + 1);
    }
    rig_stop(rig);
}

static void test_segments_may_become_larger_and_smaller_between_opens(void **state)
{
    static const uint64_t sizes[] = {512, 100000, 256, 4 << 20, 300};

    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);

        for (unsigned i = 0; i < COUNT_OF(sizes); i++) {
            put_keys(rig, i * 100, i * 100 + 100);
            rig->config.segment_bytes = sizes[i];
            if (i % 2)
                rig_crash(rig);
            else
                rig_reopen(rig);
            assert_keys(rig, 0, i * 100 + 100);
        }
        assert_quiet(rig);
        rig_stop(rig);
    }
}

static void test_recovering_twice_gives_the_same_bytes(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);
        uint64_t once;

        put_keys(rig, 0, 40);
        rig_abandon(rig);
        rig_cut(rig, 0, "4.data", 200);
        rig_open(rig);
        rig_abandon(rig);
        once = tree_checksum(rig->place.path);
        rig_open(rig);
        rig_abandon(rig);
        assert_true(tree_checksum(rig->place.path) == once);
        rig_open(rig);
        rig_stop(rig);
    }
}

/* ---- torn tails ------------------------------------------------------------------------------ */

/* The file ends at every length of its last record: that one is gone, and said to be. */
static void test_a_torn_tail_is_cut_and_reported(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++)
        for (unsigned missing = 1; missing < 32; missing++) {
            struct rig *rig = rig_start(1, unit_modes[m]);
            uint64_t tail;

            check_context("mode %zu, %u bytes missing", m, missing);
            put_keys(rig, 0, 5);
            tail = segment_tail(only(rig)->active);
            rig_abandon(rig);
            rig_cut(rig, 0, "1.data", (size_t)tail - missing);
            rig_open(rig);
            assert_keys(rig, 0, 4);
            assert_value(rig, "key4", NULL);
            assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_WARNING), 1);
            assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_ERROR), 0);
            assert_true(log_lines_mention(&rig->lines, "shard-000/1.data: offset 192"));
            put_keys(rig, 10, 20);
            rig_crash(rig);
            assert_keys(rig, 0, 4);
            assert_keys(rig, 10, 20);
            rig_stop(rig);
        }
}

static void test_a_torn_tail_is_gone_for_good_before_anything_is_appended(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    uint64_t tail;

    (void)state;
    put_keys(rig, 0, 5);
    tail = segment_tail(only(rig)->active);
    rig_abandon(rig);
    rig_patch(rig, 0, "1.data", tail - 32 + 20, "????", 4);
    rig_open(rig);
    assert_int_equal(only(rig)->counts.cut_bytes, 32 - 7);
    assert_int_equal(segment_tail(only(rig)->active), tail - 32);
    rig_abandon(rig);
    assert_int_equal(rig_file_size(rig, 0, "1.data"), tail - 32);
    rig_open(rig);
    assert_int_equal(only(rig)->counts.cut_bytes, 0);
    assert_keys(rig, 0, 4);
    rig_stop(rig);
}

static void test_after_a_power_loss_the_log_ends_at_the_first_bad_record(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);

    (void)state;
    put_keys(rig, 0, 5);
    rig_abandon(rig);
    rig_patch(rig, 0, "1.data", SEGMENT_HEADER_BYTES + 2 * 32 + 20, "?", 1);
    other_boot(rig);
    rig_open(rig);
    assert_keys(rig, 0, 2);
    assert_value(rig, "key2", NULL);
    assert_value(rig, "key3", NULL);
    assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_WARNING), 1);
    assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_ERROR), 0);
    put_keys(rig, 2, 5);
    rig_reopen(rig);
    assert_keys(rig, 0, 5);
    rig_stop(rig);
}

/* Segment n+1 reached the disk, the end of segment n did not: the log ends in n. */
static void test_after_a_power_loss_nothing_behind_a_hole_between_segments_counts(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);
    unsigned in_first;
    char key[16];

    (void)state;
    put_keys(rig, 0, 40);
    in_first = (unsigned)segments_get(&only(rig)->segments, 1)->counts.records;
    rig_abandon(rig);
    rig_cut(rig, 0, "1.data", SEGMENT_HEADER_BYTES + 32 * 5);
    other_boot(rig);
    rig_open(rig);
    assert_true(in_first > 5);
    assert_keys(rig, 0, 5);
    for (unsigned i = 5; i < 40; i++) {
        snprintf(key, sizeof key, "key%u", i);
        assert_value(rig, key, NULL);
    }
    assert_false(path_exists(rig_path(rig, 0, "2.data")));
    put_keys(rig, 5, 40);
    rig_crash(rig);
    assert_keys(rig, 0, 40);
    rig_stop(rig);
}

static void test_a_segment_that_never_reached_the_disk_is_forgotten(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct rig *rig = rig_of_small_segments(unit_modes[0]);

        put_keys(rig, 0, 5);
        assert_ok(shard_prepare(only(rig), 0, PREPARE_FOR_WRITES));
        rig_abandon(rig);
        if (how == 0)
            tree_remove(rig_path(rig, 0, "2.data"));
        else if (how == 1)
            rig_cut(rig, 0, "2.data", 0);
        else
            rig_patch(rig, 0, "2.data", 0, (const char[64]){0}, 64);
        other_boot(rig);
        rig_open(rig);
        assert_quiet(rig);
        assert_keys(rig, 0, 5);
        put_keys(rig, 5, 40);
        rig_crash(rig);
        assert_keys(rig, 0, 40);
        assert_quiet(rig);
        rig_stop(rig);
    }
}

/* With the machine up all the time it cannot be lost by itself. */
static void test_a_listed_segment_that_vanished_is_reported(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);

    (void)state;
    put_keys(rig, 0, 40);
    rig_abandon(rig);
    tree_remove(rig_path(rig, 0, "2.data"));
    rig_open(rig);
    assert_true(log_lines_mention(&rig->lines, "shard-000/2.data: offset 0"));
    assert_keys(rig, 0, 5);
    assert_value(rig, "key39", "key39");
    rig_stop(rig);
}

static void test_the_very_first_segment_may_be_lost_with_all_it_had(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        struct rig *rig = rig_of_small_segments(unit_modes[0]);

        put_keys(rig, 0, 5);
        rig_abandon(rig);
        if (how == 0)
            tree_remove(rig_path(rig, 0, "1.data"));
        else
            rig_cut(rig, 0, "1.data", 0);
        other_boot(rig);
        rig_open(rig);
        assert_value(rig, "key0", NULL);
        put_keys(rig, 0, 5);
        rig_reopen(rig);
        assert_keys(rig, 0, 5);
        assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_ERROR), 0);
        rig_stop(rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_there_after_a_close_and_after_a_kill),
        cmocka_unit_test(test_overwritten_and_deleted_keys_stay_so),
        cmocka_unit_test(test_only_the_tail_is_read_after_a_kill),
        cmocka_unit_test(test_good_hints_spare_reading_the_records),
        cmocka_unit_test(test_sequence_numbers_go_on_where_they_were),
        cmocka_unit_test(test_segments_may_become_larger_and_smaller_between_opens),
        cmocka_unit_test(test_recovering_twice_gives_the_same_bytes),
        cmocka_unit_test(test_a_torn_tail_is_cut_and_reported),
        cmocka_unit_test(test_a_torn_tail_is_gone_for_good_before_anything_is_appended),
        cmocka_unit_test(test_after_a_power_loss_the_log_ends_at_the_first_bad_record),
        cmocka_unit_test(test_after_a_power_loss_nothing_behind_a_hole_between_segments_counts),
        cmocka_unit_test(test_a_segment_that_never_reached_the_disk_is_forgotten),
        cmocka_unit_test(test_a_listed_segment_that_vanished_is_reported),
        cmocka_unit_test(test_the_very_first_segment_may_be_lost_with_all_it_had),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
