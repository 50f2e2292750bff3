/* shard/recover and shard/load: opening after a close, a kill, a power loss, and with damage. One
 * shard here; batches across shards are in test_batch.c. */
#include "unit_shard.h"

#include "base/checksum.h"

#define SEGMENT_BYTES 512

static struct shard *only(struct rig *rig)
{
    return &rig->shards[0];
}

static struct rig *rig_of_small_segments(struct unit_mode mode)
{
    struct rig *rig = rig_make(1, mode);

    rig->config.segment_bytes = SEGMENT_BYTES;
    rig_open(rig);
    return rig;
}

static void put_keys(struct rig *rig, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        char key[16];

        snprintf(key, sizeof key, "key%u", i);
        assert_ok(rig_put(rig, key, key));
    }
}

static void assert_keys(struct rig *rig, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        char key[16];

        snprintf(key, sizeof key, "key%u", i);
        assert_value(rig, key, key);
    }
}

static void assert_quiet(struct rig *rig)
{
    if (log_lines_count(&rig->lines, CASK_LOG_ERROR) != 0 ||
        log_lines_count(&rig->lines, CASK_LOG_WARNING) != 0)
        fail_msg("the log says: %s", rig->lines.text);
}

/* As after a power loss: the machine's boot id is another one. */
static void other_boot(struct rig *rig)
{
    rig->env.boot_id[0]++;
}

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
        assert_ok(shard_prepare(only(rig), 0));
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

/* ---- damage ---------------------------------------------------------------------------------- */

/* Records that follow a bad one, with the machine up all the time: nothing is removed. */
static void test_damage_in_the_log_is_reported_and_the_rest_stays(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);
        size_t size;

        put_keys(rig, 0, 5);
        size = (size_t)segment_tail(only(rig)->active);
        rig_abandon(rig);
        rig_patch(rig, 0, "1.data", SEGMENT_HEADER_BYTES + 2 * 32 + 20, "?", 1);
        rig_open(rig);
        assert_true(log_lines_count(&rig->lines, CASK_LOG_ERROR) > 0);
        assert_true(log_lines_mention(&rig->lines, "shard-000/1.data"));
        assert_keys(rig, 0, 2);
        assert_value(rig, "key2", NULL);
        assert_keys(rig, 3, 5);
        put_keys(rig, 5, 10);
        assert_true(only(rig)->active->id > 1); /* nothing is appended to a damaged segment */
        for (int again = 0; again < 3; again++) {
            rig_reopen(rig);
            assert_keys(rig, 0, 2);
            assert_keys(rig, 3, 10);
            assert_true(rig_file_size(rig, 0, "1.data") >= size);
        }
        rig_stop(rig);
    }
}

/* What the manifest calls clean was durable. Without its hint the records are read, and one that is
 * bad is no torn tail: nothing of the file may be cut. */
static void test_damage_below_the_clean_length_is_never_cut(void **state)
{
    static const char zeros[64];

    (void)state;
    for (int zeroed = 0; zeroed < 2; zeroed++)
        for (unsigned bad = 0; bad < 5; bad++) {
            struct rig *rig = rig_start(1, unit_modes[0]);
            size_t size;

            put_keys(rig, 0, 5);
            rig_close(rig);
            size = rig_file_size(rig, 0, "1.data");
            tree_remove(rig_path(rig, 0, "1.hint"));
            if (zeroed)
                rig_patch(rig, 0, "1.data", SEGMENT_HEADER_BYTES + bad * 32, zeros, 32);
            else
                rig_patch(rig, 0, "1.data", SEGMENT_HEADER_BYTES + bad * 32 + 20, "?", 1);
            other_boot(rig);
            rig_open(rig);
            assert_true(log_lines_count(&rig->lines, CASK_LOG_ERROR) > 0);
            assert_keys(rig, 0, bad);
            assert_keys(rig, bad + 1, 5);
            assert_true(rig_file_size(rig, 0, "1.data") >= size);
            rig_stop(rig);
        }
}

static void test_damage_in_a_sealed_segment_without_a_hint_leaves_the_rest(void **state)
{
    static const char zeros[64];

    (void)state;
    for (int zeroed = 0; zeroed < 2; zeroed++) {
        struct rig *rig = rig_of_small_segments(unit_modes[0]);

        put_keys(rig, 0, 40);
        rig_close(rig);
        tree_remove(rig_path(rig, 0, "2.hint"));
        if (zeroed)
            rig_patch(rig, 0, "2.data", SEGMENT_HEADER_BYTES + 32, zeros, 32);
        else
            rig_patch(rig, 0, "2.data", SEGMENT_HEADER_BYTES + 32 + 20, "?", 1);
        rig_open(rig);
        assert_true(log_lines_count(&rig->lines, CASK_LOG_ERROR) > 0);
        for (unsigned i = 0, gone = 0; i < 40; i++) {
            char key[16];

            snprintf(key, sizeof key, "key%u", i);
            gone += find_status(rig, key) != CASK_OK;
            assert_int_equal(gone, segments_get(&only(rig)->segments, 1)->counts.records + 1 <= i);
        }
        rig_stop(rig);
    }
}

static void test_a_missing_segment_is_reported_and_its_keys_are_corruption(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);

        put_keys(rig, 0, 40);
        rig_close(rig);
        tree_remove(rig_path(rig, 0, "2.data"));
        rig_open(rig);
        assert_true(
            log_lines_mention(&rig->lines, "shard-000/2.data: offset 0: the segment is missing"));
        assert_keys(rig, 0, (unsigned)segments_get(&only(rig)->segments, 1)->counts.records);
        assert_value(rig, "key39", "key39");
        assert_int_equal(find_status(rig, "key13"), CASK_ECORRUPT);
        assert_ok(rig_put(rig, "key13", "again"));
        assert_value(rig, "key13", "again");
        rig_stop(rig);
    }
}

static void test_a_segment_of_another_store_is_not_taken(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);
    struct rig *other = rig_make(1, unit_modes[0]);
    size_t size;
    uint8_t *bytes;

    (void)state;
    other->config.uuid[0]++;
    other->config.segment_bytes = SEGMENT_BYTES;
    rig_open(other);
    put_keys(rig, 0, 40);
    for (unsigned i = 0; i < 40; i++) {
        char key[16];

        snprintf(key, sizeof key, "key%u", i);
        assert_ok(rig_put(other, key, "foreign"));
    }
    rig_close(rig);
    rig_close(other);
    bytes = read_whole_file(rig_path(other, 0, "2.data"), &size);
    write_file(rig_path(rig, 0, "2.data"), bytes, size);
    free(bytes);
    rig_open(rig);
    assert_true(log_lines_count(&rig->lines, CASK_LOG_ERROR) > 0);
    for (unsigned i = 0; i < 40; i++) {
        char key[16];

        snprintf(key, sizeof key, "key%u", i);
        if (find_status(rig, key) != CASK_ECORRUPT)
            assert_value(rig, key, key);
    }
    rig_open(other);
    rig_stop(other);
    rig_stop(rig);
}

/* ---- hints ----------------------------------------------------------------------------------- */

static void test_missing_and_damaged_hints_are_rebuilt_from_the_data(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++)
        for (int how = 0; how < 4; how++) {
            struct rig *rig = rig_of_small_segments(unit_modes[m]);
            size_t size;
            uint8_t *good;
            uint8_t *bytes;

            put_keys(rig, 0, 40);
            rig_close(rig);
            good = read_whole_file(rig_path(rig, 0, "2.hint"), &size);
            if (how == 0)
                tree_remove(rig_path(rig, 0, "2.hint"));
            else if (how == 1)
                rig_patch(rig, 0, "2.hint", size / 2, "?", 1);
            else if (how == 2)
                rig_cut(rig, 0, "2.hint", size - 1);
            else
                write_file(rig_path(rig, 0, "2.hint"), "", 0);
            rig_open(rig);
            assert_int_equal(only(rig)->counts.hints_rebuilt, 1);
            assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_WARNING), 1);
            assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_ERROR), 0);
            assert_true(log_lines_mention(&rig->lines, "shard-000/2.hint"));
            assert_keys(rig, 0, 40);
            bytes = read_whole_file(rig_path(rig, 0, "2.hint"), &size);
            assert_memory_equal(bytes, good, size);
            free(bytes);
            free(good);
            rig_reopen(rig);
            assert_int_equal(only(rig)->counts.hints_rebuilt, 0);
            rig_stop(rig);
        }
}

/* A good hint, but not of these bytes: of another segment, or of an earlier state of this one. */
static void test_the_hint_of_something_else_is_not_used(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);
    size_t size;
    uint8_t *bytes;

    (void)state;
    put_keys(rig, 0, 40);
    rig_close(rig);
    bytes = read_whole_file(rig_path(rig, 0, "1.hint"), &size);
    write_file(rig_path(rig, 0, "2.hint"), bytes, size);
    free(bytes);
    rig_open(rig);
    assert_keys(rig, 0, 40);
    assert_int_equal(only(rig)->counts.hints_rebuilt, 1);
    rig_stop(rig);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* T14: a copy of a segment taken for one; and names that only look like ours. */
static void test_foreign_files_are_ignored_and_left_alone(void **state)
{
    static const char *const names[] = {
        "1.data.bak", "x.data",  ".data",      "01.data",    "+1.data",      "-1.data",
        "1.dat",      "1.DATA",  "1.data ",    " 1.data",    "0.data",       "0x1.data",
        "notes.txt",  "1.hint~", "1.hint.bak", "5.data.tmp", "MANIFEST.old", "1e1.data"};
    struct rig *rig = rig_of_small_segments(unit_modes[0]);
    size_t size;
    uint8_t *bytes;

    (void)state;
    put_keys(rig, 0, 40);
    rig_close(rig);
    bytes = read_whole_file(rig_path(rig, 0, "1.data"), &size);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        write_file(rig_path(rig, 0, names[i]), bytes, size);
    write_file(rig_path(rig, 0, "70.data"), "not a segment", 13);
    free(bytes);
    rig_open(rig);
    assert_quiet(rig);
    assert_keys(rig, 0, 40);
    put_keys(rig, 40, 80);
    rig_crash(rig);
    assert_keys(rig, 0, 80);
    rig_close(rig);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_true(path_exists(rig_path(rig, 0, names[i])));
    bytes = read_whole_file(rig_path(rig, 0, "70.data"), &size);
    assert_int_equal(size, 13);
    assert_memory_equal(bytes, "not a segment", 13);
    free(bytes);
    rig_open(rig);
    rig_stop(rig);
}

static void test_ids_that_no_location_can_name_do_not_stand_in_the_way(void **state)
{
    static const char *const names[] = {"8388608.data", "99999999.data", "281474976710655.hint",
                                        "18446744073709551615.data",
                                        "99999999999999999999999.data"};
    struct rig *rig = rig_of_small_segments(unit_modes[0]);

    (void)state;
    put_keys(rig, 0, 40);
    rig_close(rig);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        write_file(rig_path(rig, 0, names[i]), "x", 1);
    rig_open(rig);
    put_keys(rig, 40, 80);
    assert_keys(rig, 0, 80);
    rig_stop(rig);
}

static void test_what_a_crash_left_behind_is_removed(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);
    struct segment *orphan;

    (void)state;
    put_keys(rig, 0, 40);
    assert_ok(segment_create(only(rig)->dir, &only(rig)->config, 50, 4, 512, &orphan));
    segment_close(orphan);
    write_file(rig_path(rig, 0, "51.data"), "", 0);
    write_file(rig_path(rig, 0, "52.data"), (const char[4096]){0}, 4096);
    write_file(rig_path(rig, 0, "60.hint"), "left over", 9);
    write_file(rig_path(rig, 0, "1.hint.tmp"), "half", 4);
    write_file(rig_path(rig, 0, "MANIFEST.tmp"), "half", 4);
    rig_crash(rig);
    assert_quiet(rig);
    assert_false(path_exists(rig_path(rig, 0, "50.data")));
    assert_false(path_exists(rig_path(rig, 0, "51.data")));
    assert_false(path_exists(rig_path(rig, 0, "52.data")));
    assert_false(path_exists(rig_path(rig, 0, "60.hint")));
    assert_false(path_exists(rig_path(rig, 0, "1.hint.tmp")));
    assert_true(only(rig)->next_segment > 60); /* an id is never used again */
    put_keys(rig, 40, 80);
    assert_keys(rig, 0, 80);
    rig_stop(rig);
}

/* ---- the manifest ---------------------------------------------------------------------------- */

static void test_a_lost_manifest_is_corruption_if_there_are_records(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);
    uint64_t before;

    (void)state;
    put_keys(rig, 0, 40);
    rig_close(rig);
    tree_remove(rig_path(rig, 0, MANIFEST_NAME));
    before = tree_checksum(rig->place.path);
    assert_int_equal(rig_try_open(rig), CASK_ECORRUPT);
    assert_true(log_lines_mention(&rig->lines, "shard-000/MANIFEST"));
    assert_true(tree_checksum(rig->place.path) == before);
    place_remove(&rig->place);
    rig->place = place_make();
    rig->env.path = rig->place.path;
    rig_open(rig);
    rig_stop(rig);
}

/* A kill between the first segment and the first manifest: nothing was written yet. */
static void test_a_first_segment_without_a_manifest_is_no_obstacle(void **state)
{
    static const char zeros[1 << 16];

    (void)state;
    for (int how = 0; how < 3; how++) {
        struct rig *rig = rig_of_small_segments(unit_modes[0]);
        size_t size;

        put_keys(rig, 0, 1);
        rig_abandon(rig);
        tree_remove(rig_path(rig, 0, MANIFEST_NAME));
        size = rig_file_size(rig, 0, "1.data");
        assert_true(size <= sizeof zeros);
        if (how == 0)
            tree_remove(rig_path(rig, 0, "1.data"));
        else
            write_file(rig_path(rig, 0, "1.data"), zeros, how == 1 ? 0 : size);
        rig_open(rig);
        put_keys(rig, 0, 5);
        rig_crash(rig);
        assert_keys(rig, 0, 5);
        assert_quiet(rig);
        rig_stop(rig);
    }
}

static void test_a_damaged_or_newer_manifest_stops_the_open(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);
    size_t size;
    uint8_t *good;
    uint8_t *bytes;

    (void)state;
    put_keys(rig, 0, 40);
    rig_close(rig);
    good = read_whole_file(rig_path(rig, 0, MANIFEST_NAME), &size);
    rig_patch(rig, 0, MANIFEST_NAME, 60, "?", 1);
    assert_int_equal(rig_try_open(rig), CASK_ECORRUPT);
    bytes = malloc(size);
    memcpy(bytes, good, size);
    put_u32(bytes + 8, 2);
    put_u64(bytes + size - 8, checksum_bytes(bytes, size - 8));
    write_file(rig_path(rig, 0, MANIFEST_NAME), bytes, size);
    assert_int_equal(rig_try_open(rig), CASK_EVERSION);
    write_file(rig_path(rig, 0, MANIFEST_NAME), good, size);
    rig_open(rig);
    assert_keys(rig, 0, 40);
    free(bytes);
    free(good);
    rig_stop(rig);
}

/* ---- reading only ---------------------------------------------------------------------------- */

static void test_a_read_only_open_changes_nothing_on_disk(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);
        uint64_t before;

        put_keys(rig, 0, 40);
        shard_do_work(only(rig), SHARD_WORK_SEAL);
        put_keys(rig, 40, 45);
        rig_abandon(rig);
        /* Everything that a writer would tidy up. */
        tree_remove(rig_path(rig, 0, "1.hint"));
        rig_patch(rig, 0, "2.hint", 100, "?", 1);
        write_file(rig_path(rig, 0, "60.hint"), "left over", 9);
        write_file(rig_path(rig, 0, "1.hint.tmp"), "half", 4);
        write_file(rig_path(rig, 0, "MANIFEST.tmp"), "half", 4);
        before = tree_checksum(rig->place.path);
        rig->env.read_only = true;
        rig_open(rig);
        assert_keys(rig, 0, 45);
        rig_close(rig);
        assert_true(tree_checksum(rig->place.path) == before);
        rig->env.read_only = false;
        rig_open(rig);
        assert_keys(rig, 0, 45);
        rig_stop(rig);
    }
}

static void test_a_read_only_open_sees_up_to_the_torn_tail(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    uint64_t tail;
    uint64_t before;

    (void)state;
    put_keys(rig, 0, 5);
    tail = segment_tail(only(rig)->active);
    rig_abandon(rig);
    rig_patch(rig, 0, "1.data", tail - 32 + 20, "????", 4);
    before = tree_checksum(rig->place.path);
    rig->env.read_only = true;
    rig_open(rig);
    assert_keys(rig, 0, 4);
    assert_value(rig, "key4", NULL);
    rig_close(rig);
    assert_true(tree_checksum(rig->place.path) == before);
    rig->env.read_only = false;
    rig_open(rig);
    rig_stop(rig);
}

static void test_an_index_that_does_not_fit_stops_the_open(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    uint64_t limit = rig->env.budget.limit_bytes;
    uint64_t before;

    (void)state;
    put_keys(rig, 0, 5000);
    rig_close(rig);
    before = tree_checksum(rig->place.path);
    rig->env.budget.limit_bytes = 16384;
    assert_int_equal(rig_try_open(rig), CASK_ENOMEM);
    assert_int_equal(budget_used(&rig->env.budget), 0);
    assert_true(tree_checksum(rig->place.path) == before);
    rig->env.budget.limit_bytes = limit;
    rig_open(rig);
    assert_keys(rig, 0, 5000);
    rig_stop(rig);
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
        cmocka_unit_test(test_damage_in_the_log_is_reported_and_the_rest_stays),
        cmocka_unit_test(test_damage_below_the_clean_length_is_never_cut),
        cmocka_unit_test(test_damage_in_a_sealed_segment_without_a_hint_leaves_the_rest),
        cmocka_unit_test(test_a_missing_segment_is_reported_and_its_keys_are_corruption),
        cmocka_unit_test(test_a_segment_of_another_store_is_not_taken),
        cmocka_unit_test(test_missing_and_damaged_hints_are_rebuilt_from_the_data),
        cmocka_unit_test(test_the_hint_of_something_else_is_not_used),
        cmocka_unit_test(test_foreign_files_are_ignored_and_left_alone),
        cmocka_unit_test(test_ids_that_no_location_can_name_do_not_stand_in_the_way),
        cmocka_unit_test(test_what_a_crash_left_behind_is_removed),
        cmocka_unit_test(test_a_lost_manifest_is_corruption_if_there_are_records),
        cmocka_unit_test(test_a_first_segment_without_a_manifest_is_no_obstacle),
        cmocka_unit_test(test_a_damaged_or_newer_manifest_stops_the_open),
        cmocka_unit_test(test_a_read_only_open_changes_nothing_on_disk),
        cmocka_unit_test(test_a_read_only_open_sees_up_to_the_torn_tail),
        cmocka_unit_test(test_an_index_that_does_not_fit_stops_the_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
