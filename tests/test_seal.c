/* shard/seal: hints and the manifest behind the writers' backs, and the same at close. */
#include "unit_shard.h"

#include "base/checksum.h"

/* Keys of their own until `count` segments are full. */
static unsigned fill_segments(struct rig *rig, unsigned count)
{
    unsigned keys = 0;

    while (only(rig)->segments.count < count + 1) {
        char key[16];

        snprintf(key, sizeof key, "key%u", keys++);
        assert_ok(rig_put(rig, key, key));
    }
    return keys;
}

static const struct manifest_segment *entry_of(const struct manifest *manifest, uint64_t id)
{
    for (uint64_t i = 0; i < manifest->count; i++)
        if (manifest->segments[i].id == id)
            return &manifest->segments[i];
    fail_msg("segment %llu is not listed", (unsigned long long)id);
    return NULL;
}

static void assert_sealed_on_disk(struct rig *rig, uint64_t id)
{
    struct manifest manifest;
    struct hint hint;
    char name[SEGMENT_NAME_BYTES];
    size_t size;
    uint8_t *bytes;
    const struct manifest_segment *entry;

    segment_data_name(id, name);
    bytes = read_whole_file(rig_path(rig, 0, name), &size);
    assert_ok(manifest_read(only(rig)->dir, &only(rig)->config, &manifest));
    entry = entry_of(&manifest, id);
    assert_int_equal(entry->flags, MANIFEST_SEALED);
    assert_int_equal(entry->length, size);
    assert_true(entry->checksum == checksum_bytes(bytes, size));
    assert_ok(hint_read(only(rig)->dir, &only(rig)->config, id, &hint));
    assert_int_equal(hint.length, size);
    assert_true(hint.data_checksum == entry->checksum);
    hint_release(&hint);
    manifest_release(&manifest);
    free(bytes);
}

static void test_a_put_that_rotates_writes_no_hint(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);
        unsigned keys = fill_segments(rig, 3);

        assert_false(path_exists(rig_path(rig, 0, "1.hint")));
        assert_true(shard_work_due(only(rig)) & SHARD_WORK_SEAL);
        assert_int_equal(only(rig)->sealing_count, 3);
        assert_keys(rig, 0, keys);
        rig_stop(rig);
    }
}

static void test_the_background_work_seals_what_was_rotated(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);
        unsigned keys = fill_segments(rig, 3);

        shard_do_work(only(rig), SHARD_WORK_SEAL);
        for (uint64_t id = 1; id <= 3; id++)
            assert_sealed_on_disk(rig, id);
        assert_false(path_exists(rig_path(rig, 0, "4.hint")));
        assert_null(only(rig)->sealing_first);
        assert_int_equal(only(rig)->sealing_count, 0);
        assert_true(atomic_load(&only(rig)->synced) >=
                    segments_get(&only(rig)->segments, 3)->end_position);
        assert_keys(rig, 0, keys);
        rig_crash(rig); /* only the last one has to be read */
        assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_WARNING), 0);
        assert_true(only(rig)->counts.recovered_records <= 1);
        assert_keys(rig, 0, keys);
        rig_stop(rig);
    }
}

/* More entries than are held at a time: the hint is made of several parts of the segment. */
static void test_a_hint_of_very_many_records_is_whole(void **state)
{
    struct rig *rig = rig_make(1, unit_modes[0]);
    const uint64_t count = 700000;
    uint64_t sum = 0;
    uint32_t previous = 0;
    struct hint hint;

    (void)state;
    rig->config.segment_bytes = (uint64_t)40 << 20;
    rig->env.budget.limit_bytes = (uint64_t)64 << 20;
    rig_open(rig);
    for (unsigned i = 0; i < count; i++) {
        char key[16];

        snprintf(key, sizeof key, "%x", i % 50000);
        assert_ok(rig_put(rig, key, "v"));
    }
    rig_close(rig);
    rig_open(rig);
    assert_quiet(rig);
    assert_ok(hint_read(only(rig)->dir, &only(rig)->config, 1, &hint));
    assert_int_equal(hint.count, count);
    assert_int_equal(hint.min_sequence, 1);
    assert_int_equal(hint.max_sequence, count);
    for (uint64_t i = 0; i < count; i++) {
        struct hint_entry entry = hint_entry_at(&hint, i);
        uint32_t tag = hash_tag(entry.hash, rig->env.shard_bits);

        assert_true(tag >= previous);
        previous = tag;
        sum += entry.sequence;
    }
    assert_int_equal(sum, count * (count + 1) / 2);
    hint_release(&hint);
    rig_stop(rig);
}

/* What one of them seals takes memory for its hint. */
static void test_workers_take_turns_at_sealing(void **state)
{
    struct rig *rig = rig_make(2, unit_modes[0]);
    struct shard *shards;

    (void)state;
    rig->config.segment_bytes = 512;
    rig_open(rig);
    shards = rig->shards;
    for (unsigned i = 0; shards[0].sealing_count < 3 || shards[1].sealing_count < 3; i++) {
        char key[16];

        snprintf(key, sizeof key, "key%u", i);
        assert_ok(rig_put(rig, key, key));
    }
    for (unsigned i = 0; i < 2; i++)
        assert_int_not_equal(shard_take_work(&shards[i], SHARD_WORK_SEAL), 0);
    atomic_store(&rig->env.turns[TURN_SEAL], 1); /* by a third one */
    for (unsigned i = 0; i < 2; i++) {
        shard_do_work(&shards[i], SHARD_WORK_SEAL);
        assert_true(shards[i].sealing_count >= 3);
        assert_int_equal(shard_take_work(&shards[i], SHARD_WORK_SEAL), 0);
    }
    assert_ok(shard_seal_waiting(&shards[0], false)); /* whoever needs it waits for nobody */
    assert_int_equal(shards[0].sealing_count, 0);
    atomic_store(&rig->env.turns[TURN_SEAL], 0);
    shard_do_work(&shards[0], SHARD_WORK_SEAL);
    assert_int_not_equal(shard_take_work(&shards[1], SHARD_WORK_SEAL), 0);
    shard_do_work(&shards[1], SHARD_WORK_SEAL);
    assert_int_equal(shards[1].sealing_count, 0);
    assert_int_equal(atomic_load(&rig->env.turns[TURN_SEAL]), 0);
    rig_stop(rig);
}

static void test_sealed_segments_keep_no_descriptor_where_reads_are_mapped(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);
        unsigned keys = fill_segments(rig, 10);
        unsigned before = count_descriptors();

        shard_do_work(only(rig), SHARD_WORK_SEAL);
        assert_int_equal(count_descriptors(), before - (rig->config.read_mapped ? 10 : 0));
        assert_keys(rig, 0, keys);
        rig_stop(rig);
    }
}

static void test_writers_go_on_when_many_segments_wait(void **state)
{
    struct rig *rig = rig_of_small_segments(unit_modes[0]);
    unsigned keys = fill_segments(rig, 100);

    (void)state;
    assert_in_range(only(rig)->sealing_count, 1, 40); /* a writer lends a hand */
    assert_keys(rig, 0, keys);
    rig_stop(rig);
}

/* A hint cannot be written: the segment waits, nothing is lost, and the next try does it. */
static void test_sealing_that_fails_is_done_again_later(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);
        unsigned keys = fill_segments(rig, 2);

        assert_ok(io_dir_make_at(only(rig)->dir, "1.hint.tmp"));
        shard_do_work(only(rig), SHARD_WORK_SEAL);
        assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_WARNING), 1);
        assert_true(log_lines_mention(&rig->lines, "1.data"));
        assert_int_equal(only(rig)->sealing_count, 2);
        assert_keys(rig, 0, keys);
        assert_ok(rig_put(rig, "more", "value"));
        assert_int_not_equal(shard_close(only(rig)), CASK_OK);
        assert_ok(io_dir_remove_at(only(rig)->dir, "1.hint.tmp"));
        shard_do_work(only(rig), SHARD_WORK_SEAL);
        assert_sealed_on_disk(rig, 1);
        assert_sealed_on_disk(rig, 2);
        rig_reopen(rig);
        assert_keys(rig, 0, keys);
        assert_value(rig, "more", "value");
        rig_stop(rig);
    }
}

/* A damaged record whose key has an older value: the hint knows of it, and a new hint made from
 * what is still readable would bring the older value back. */
static void test_a_record_damaged_between_two_closes_stays_known(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);

        assert_ok(rig_put(rig, "key", "old"));
        assert_ok(rig_put(rig, "key", "new"));
        rig_close(rig);
        rig_patch(rig, 0, "1.data", SEGMENT_HEADER_BYTES + 24 + RECORD_HEADER_BYTES + 4, "?", 1);
        rig_open(rig);
        for (int round = 0; round < 3; round++) {
            assert_int_equal(find_status(rig, "key"), CASK_ECORRUPT);
            assert_ok(rig_put(rig, "other", "value"));
            rig_reopen(rig);
        }
        assert_ok(rig_put(rig, "key", "newest"));
        assert_value(rig, "key", "newest");
        rig_reopen(rig);
        assert_value(rig, "key", "newest");
        assert_ok(rig_delete(rig, "key"));
        rig_reopen(rig);
        assert_value(rig, "key", NULL);
        rig_stop(rig);
    }
}

/* ---- closing --------------------------------------------------------------------------------- */

static void test_a_close_leaves_a_hint_for_everything_and_trimmed_files(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);
        unsigned keys = fill_segments(rig, 2);
        struct manifest manifest;
        struct hint hint;
        size_t size;

        rig_close(rig);
        size = rig_file_size(rig, 0, "3.data");
        rig_open(rig);
        assert_sealed_on_disk(rig, 1);
        assert_sealed_on_disk(rig, 2);
        assert_ok(manifest_read(only(rig)->dir, &only(rig)->config, &manifest));
        assert_int_equal(entry_of(&manifest, 3)->flags, MANIFEST_CLEAN);
        assert_int_equal(entry_of(&manifest, 3)->length, size);
        manifest_release(&manifest);
        assert_ok(hint_read(only(rig)->dir, &only(rig)->config, 3, &hint));
        assert_int_equal(hint.length, size);
        hint_release(&hint);
        assert_int_equal(only(rig)->counts.recovered_records, 0);
        assert_int_equal(only(rig)->counts.hints_rebuilt, 0);
        assert_keys(rig, 0, keys);
        rig_stop(rig);
    }
}

static void test_a_close_without_writes_changes_nothing_on_disk(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);
        uint64_t before;

        fill_segments(rig, 2);
        rig_close(rig);
        before = tree_checksum(rig->place.path);
        rig_open(rig);
        rig_close(rig);
        assert_true(tree_checksum(rig->place.path) == before);
        rig_stop(rig);
    }
}

static void test_a_shard_that_was_never_written_leaves_nothing(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);

    (void)state;
    rig_close(rig);
    assert_false(path_exists(rig_path(rig, 0, "")));
    rig_stop(rig);
}

static void test_the_active_segment_goes_on_after_each_close(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);

        for (unsigned i = 0; i < 10; i++) {
            char key[16];

            snprintf(key, sizeof key, "key%u", i);
            assert_ok(rig_put(rig, key, key));
            rig_reopen(rig);
            assert_int_equal(only(rig)->segments.count, 1);
            assert_int_equal(only(rig)->counts.recovered_records, 0);
            assert_keys(rig, 0, i + 1);
        }
        rig_stop(rig);
    }
}

static void test_a_close_after_which_the_hint_is_newer_than_the_manifest(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    size_t size;
    uint8_t *manifest;

    (void)state;
    assert_ok(rig_put(rig, "key0", "key0"));
    rig_reopen(rig);
    manifest = read_whole_file(rig_path(rig, 0, MANIFEST_NAME), &size);
    assert_ok(rig_put(rig, "key1", "key1"));
    rig_close(rig); /* ... but its last step is undone: */
    write_file(rig_path(rig, 0, MANIFEST_NAME), manifest, size);
    free(manifest);
    rig_open(rig);
    assert_keys(rig, 0, 2);
    rig_reopen(rig);
    assert_keys(rig, 0, 2);
    assert_int_equal(only(rig)->counts.recovered_records, 0);
    rig_stop(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_put_that_rotates_writes_no_hint),
        cmocka_unit_test(test_the_background_work_seals_what_was_rotated),
        cmocka_unit_test(test_a_hint_of_very_many_records_is_whole),
        cmocka_unit_test(test_workers_take_turns_at_sealing),
        cmocka_unit_test(test_sealed_segments_keep_no_descriptor_where_reads_are_mapped),
        cmocka_unit_test(test_writers_go_on_when_many_segments_wait),
        cmocka_unit_test(test_sealing_that_fails_is_done_again_later),
        cmocka_unit_test(test_a_record_damaged_between_two_closes_stays_known),
        cmocka_unit_test(test_a_close_leaves_a_hint_for_everything_and_trimmed_files),
        cmocka_unit_test(test_a_close_without_writes_changes_nothing_on_disk),
        cmocka_unit_test(test_a_shard_that_was_never_written_leaves_nothing),
        cmocka_unit_test(test_the_active_segment_goes_on_after_each_close),
        cmocka_unit_test(test_a_close_after_which_the_hint_is_newer_than_the_manifest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
