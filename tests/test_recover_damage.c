/* shard/recover and shard/load with damage: it is told, what is left stays readable, and neither a
 * bad hint nor a foreign file nor a reader changes anything that counts. */
#include "unit_shard.h"

#include <unistd.h>

#include "base/checksum.h"

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

/* A power loss later must not take such damage for the end of the log: the open that met it has
 * told the next ones before anything was appended. */
static void test_damage_is_known_before_anything_is_appended(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);

        put_keys(rig, 0, 5);
        rig_abandon(rig);
        rig_patch(rig, 0, "1.data", SEGMENT_HEADER_BYTES + 2 * 32 + 20, "?", 1);
        rig_open(rig);
        put_keys(rig, 5, 10);
        assert_ok(shard_make_durable(only(rig), rig->position));
        rig_abandon(rig);
        other_boot(rig);
        rig_open(rig);
        assert_keys(rig, 0, 2);
        assert_keys(rig, 3, 10);
        rig_stop(rig);
    }
}

/* T24: a record that stands where another one was written is none. */
static void test_a_record_at_another_place_is_damage(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);
        uint8_t *file;
        size_t size;

        put_keys(rig, 0, 5);
        rig_abandon(rig);
        file = read_whole_file(rig_path(rig, 0, "1.data"), &size);
        rig_patch(rig, 0, "1.data", SEGMENT_HEADER_BYTES + 2 * 32, file + SEGMENT_HEADER_BYTES, 32);
        free(file);
        rig_open(rig);
        assert_true(log_lines_count(&rig->lines, CASK_LOG_ERROR) > 0);
        assert_value(rig, "key2", NULL);
        assert_keys(rig, 0, 2);
        assert_keys(rig, 3, 5);
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

/* Nothing may be appended within what was the header, and no manifest tell of such a length. */
static void test_a_segment_cut_within_its_header_loses_no_later_write(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++)
        for (int which = 0; which < 6; which++) {
            struct rig *rig = rig_of_small_segments(unit_modes[m]);
            char name[32];

            put_keys(rig, 0, 30);
            (void)snprintf(name, sizeof name, "%d.data",
                           (int)only(rig)->active->id - (which < 3 ? 0 : 1));
            rig_abandon(rig);
            assert_int_equal(truncate(rig_path(rig, 0, name), which % 3 * 17), 0);
            rig_open(rig);
            put_keys(rig, 100, 105);
            for (int again = 0; again < 3; again++) {
                rig_reopen(rig);
                assert_keys(rig, 100, 105);
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
    other->config.segment_bytes = 512;
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
        cmocka_unit_test(test_damage_in_the_log_is_reported_and_the_rest_stays),
        cmocka_unit_test(test_damage_is_known_before_anything_is_appended),
        cmocka_unit_test(test_a_record_at_another_place_is_damage),
        cmocka_unit_test(test_damage_below_the_clean_length_is_never_cut),
        cmocka_unit_test(test_damage_in_a_sealed_segment_without_a_hint_leaves_the_rest),
        cmocka_unit_test(test_a_segment_cut_within_its_header_loses_no_later_write),
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
