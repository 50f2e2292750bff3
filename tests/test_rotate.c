/* shard/rotate: moving on from segment to segment. */
#include <sched.h>

#include "unit_shard.h"

static struct rig *rig_of_segments(struct unit_mode mode, uint64_t segment_bytes)
{
    struct rig *rig = rig_make(1, mode);

    rig->config.segment_bytes = segment_bytes;
    rig_open(rig);
    return rig;
}

static struct manifest read_manifest(struct rig *rig)
{
    struct manifest manifest;

    assert_ok(manifest_read(only(rig)->dir, &only(rig)->config, &manifest));
    return manifest;
}

/* Puts until the next put of that size has to move on. */
static void fill_active(struct rig *rig)
{
    do
        assert_ok(rig_put(rig, "key", "value"));
    while (segment_has_room(only(rig)->active, 32, true));
}

/* What ends a segment: the id in its seal; 0 if it ends without one. */
static uint64_t seal_of(struct rig *rig, struct segment *segment)
{
    struct scan scan;
    enum record_outcome outcome = RECORD_VALID;
    struct record record;
    uint64_t offset;
    uint64_t next = 0;

    (void)rig;
    assert_ok(scan_init(&scan, segment, NULL, SEGMENT_HEADER_BYTES, segment_tail(segment)));
    while (outcome == RECORD_VALID) {
        assert_ok(scan_next(&scan, &outcome, &record, &offset));
        if (outcome == RECORD_VALID && record.type == RECORD_SEAL) {
            assert_int_equal(scan.at, segment_tail(segment));
            next = get_u64(record.value.data);
        }
    }
    scan_release(&scan);
    return next;
}

static void test_the_directory_comes_with_the_first_write(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], 4096);

    (void)state;
    assert_false(path_exists(rig_path(rig, 0, "")));
    assert_int_equal(rig_delete(rig, "key"), CASK_NOTFOUND);
    assert_ok(rig_put(rig, "key", "value"));
    assert_true(path_exists(rig_path(rig, 0, "1.data")));
    assert_true(path_exists(rig_path(rig, 0, MANIFEST_NAME)));
    rig_stop(rig);
}

static void test_a_full_segment_ends_with_a_seal_that_names_the_next(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_segments(unit_modes[m], 256);
        struct segments *segments = &only(rig)->segments;
        struct segment *segment;
        uint64_t position = 0;

        for (int i = 0; i < 4; i++)
            fill_active(rig);
        assert_int_equal(segments->count, 4);
        segment = segments_at_or_after(segments, 0);
        while (segment != only(rig)->active) {
            struct segment *next = segments_at_or_after(segments, segment->id + 1);

            assert_true(segment->sealed);
            assert_true(segment_tail(segment) <= 256);
            assert_int_equal(seal_of(rig, segment), next->id);
            assert_int_equal(next->predecessor, segment->id);
            position += segment_tail(segment) - SEGMENT_HEADER_BYTES;
            assert_int_equal(segment->end_position, position);
            segment = next;
        }
        assert_int_equal(seal_of(rig, only(rig)->active), 0);
        assert_value(rig, "key", "value");
        rig_stop(rig);
    }
}

static void test_a_segment_is_listed_before_a_record_goes_into_it(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], 256);

    (void)state;
    for (int i = 0; i < 20; i++) {
        struct manifest manifest;

        assert_ok(rig_put(rig, "key", "value"));
        manifest = read_manifest(rig);
        assert_int_equal(manifest.count, only(rig)->segments.count);
        assert_int_equal(manifest.segments[manifest.count - 1].id, only(rig)->active->id);
        assert_true(manifest.next_segment > only(rig)->active->id);
        assert_int_equal(manifest.generation, only(rig)->manifest_generation);
        manifest_release(&manifest);
    }
    rig_stop(rig);
}

static void test_a_large_value_gets_a_segment_of_its_own(void **state)
{
    char *large = malloc(3 << 20);

    (void)state;
    memset(large, 'x', (3 << 20) - 1);
    large[(3 << 20) - 1] = '\0';
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_segments(unit_modes[m], 4096);

        assert_ok(rig_put(rig, "before", "small"));
        assert_ok(rig_put(rig, "large", large));
        assert_int_equal(only(rig)->segments.count, 2);
        assert_true(only(rig)->active->capacity > 3 << 20);
        assert_ok(rig_put(rig, "after", "small"));
        assert_int_equal(only(rig)->segments.count, 3);
        assert_int_equal(only(rig)->active->capacity, 4096);
        for (int again = 0; again < 2; again++) {
            assert_value(rig, "before", "small");
            assert_value(rig, "large", large);
            assert_value(rig, "after", "small");
            if (again == 0)
                rig_reopen(rig);
        }
        rig_stop(rig);
    }
    free(large);
}

/* A segment whose size was wanted smaller was made ready already: it stays empty but for its
 * seal. */
static void test_a_next_segment_that_is_too_small_is_passed_over(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], 256);
    char large[1001];

    (void)state;
    memset(large, 'x', 1000);
    large[1000] = '\0';
    assert_ok(rig_put(rig, "key", "value"));
    assert_ok(shard_prepare(only(rig), 0, PREPARE_FOR_WRITES));
    assert_int_equal(only(rig)->next->id, 2);
    assert_ok(rig_put(rig, "large", large));
    assert_int_equal(only(rig)->active->id, 3);
    assert_int_equal(segment_tail(segments_get(&only(rig)->segments, 2)),
                     SEGMENT_HEADER_BYTES + SEGMENT_SEAL_BYTES);
    rig_crash(rig);
    assert_value(rig, "key", "value");
    assert_value(rig, "large", large);
    assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_ERROR), 0);
    rig_stop(rig);
}

static void test_preparing_twice_makes_one_segment(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], 4096);
    struct segment *next;

    (void)state;
    assert_ok(rig_put(rig, "key", "value"));
    assert_ok(shard_prepare(only(rig), 0, PREPARE_FOR_WRITES));
    next = only(rig)->next;
    assert_non_null(next);
    assert_int_equal(segment_tail(next), SEGMENT_HEADER_BYTES);
    assert_ok(shard_prepare(only(rig), 0, PREPARE_FOR_WRITES));
    assert_ptr_equal(only(rig)->next, next);
    assert_int_equal(only(rig)->segments.count, 2);
    rig_close(rig);
    assert_false(path_exists(rig_path(rig, 0, "2.data"))); /* an empty one is not kept */
    rig_open(rig);
    assert_int_equal(only(rig)->segments.count, 1);
    assert_value(rig, "key", "value");
    rig_stop(rig);
}

static void test_a_half_full_segment_asks_for_the_next(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], 1 << 20);
    char value[1001];

    (void)state;
    memset(value, 'x', 1000);
    value[1000] = '\0';
    do {
        assert_ok(rig_put(rig, "key", value));
        assert_false(shard_work_due(only(rig)) & SHARD_WORK_PREPARE);
    } while (segment_tail(only(rig)->active) < (1 << 19) - 2000);
    for (int i = 0; i < 5; i++)
        assert_ok(rig_put(rig, "key", value));
    assert_true(shard_work_due(only(rig)) & SHARD_WORK_PREPARE);
    shard_do_work(only(rig), SHARD_WORK_PREPARE);
    assert_non_null(only(rig)->next);
    rig_stop(rig);
}

/* A put in a shard with dead records made the next segment itself, with two syncs. */
static void test_a_segment_is_left_early_once_the_next_is_there(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], (uint64_t)4 << 20);
    struct shard *shard = only(rig);
    struct segment *first;

    (void)state;
    assert_ok(rig_put(rig, "key", "value"));
    first = shard->active;
    shard->rotate_above = first->pending + 1;
    atomic_store(&shard->work, 0);
    assert_ok(rig_put(rig, "key", "value"));
    assert_ok(rig_put(rig, "key", "value"));
    assert_ptr_equal(shard->active, first);
    assert_null(shard->next);
    assert_true(atomic_load(&shard->work) & SHARD_WORK_PREPARE);
    assert_ok(shard_prepare(shard, 0, PREPARE_FOR_WRITES));
    assert_ok(rig_put(rig, "key", "value"));
    assert_ptr_not_equal(shard->active, first);
    assert_true(first->sealed);
    rig_stop(rig);
}

static void test_ids_are_never_used_twice(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], 256);
    uint64_t last = 0;

    (void)state;
    for (int round = 0; round < 10; round++) {
        fill_active(rig);
        fill_active(rig);
        assert_ok(shard_prepare(only(rig), 0, PREPARE_FOR_WRITES));
        assert_true(only(rig)->next->id > last);
        last = only(rig)->next->id;
        if (round % 2)
            rig_crash(rig);
        else
            rig_reopen(rig);
        assert_true(only(rig)->next_segment > last);
    }
    rig_stop(rig);
}

static void test_when_ids_run_out_writes_are_refused_and_reads_go_on(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], 256);

    (void)state;
    assert_ok(rig_put(rig, "key", "value"));
    only(rig)->next_segment = location_segment_max(rig->config.offset_bits);
    fill_active(rig);
    fill_active(rig); /* and the last one */
    assert_int_equal(rig_put(rig, "new", "value"), CASK_ENOTSUP);
    assert_int_equal(only(rig)->active->id, location_segment_max(rig->config.offset_bits));
    assert_value(rig, "key", "value");
    assert_value(rig, "new", NULL);
    rig_reopen(rig);
    assert_value(rig, "key", "value");
    assert_int_equal(rig_put(rig, "new", "value"), CASK_ENOTSUP);
    rig_stop(rig);
}

/* The next segment cannot be made: the put fails, changes nothing, and works once it can. */
static void test_a_failed_rotation_changes_nothing(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_segments(unit_modes[m], 256);
        uint64_t tail;
        uint64_t sequence;

        fill_active(rig);
        tail = segment_tail(only(rig)->active);
        sequence = only(rig)->next_sequence;
        write_file(rig_path(rig, 0, "2.data"), "in the way", 10);
        assert_int_equal(rig_put(rig, "new", "value"), CASK_EEXIST);
        assert_int_equal(segment_tail(only(rig)->active), tail);
        assert_int_equal(only(rig)->next_sequence, sequence);
        assert_value(rig, "new", NULL);
        assert_value(rig, "key", "value");
        assert_ok(rig_put(rig, "new", "value")); /* with the id behind */
        assert_int_equal(only(rig)->active->id, 3);
        rig_reopen(rig);
        assert_value(rig, "new", "value");
        assert_true(path_exists(rig_path(rig, 0, "2.data"))); /* foreign: left alone */
        rig_stop(rig);
    }
}

static void test_a_manifest_that_cannot_be_written_fails_the_rotation(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], 256);

    (void)state;
    fill_active(rig);
    tree_remove(rig_path(rig, 0, "MANIFEST.tmp"));
    assert_ok(io_dir_make_at(only(rig)->dir, "MANIFEST.tmp"));
    assert_int_not_equal(rig_put(rig, "new", "value"), CASK_OK);
    assert_int_equal(only(rig)->segments.count, 1);
    assert_false(path_exists(rig_path(rig, 0, "2.data")));
    assert_ok(io_dir_remove_at(only(rig)->dir, "MANIFEST.tmp"));
    assert_ok(rig_put(rig, "new", "value"));
    rig_reopen(rig);
    assert_value(rig, "new", "value");
    rig_stop(rig);
}

/* Writers that have left merging behind wait before they move on: for a while, not for ever, and
 * only while a merge is at work. */
static void test_a_writer_waits_for_a_merge_before_it_moves_on(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], 256);
    struct shard *shard = only(rig);

    (void)state;
    shard->stall_above = 0;
    fill_active(rig);
    assert_ok(rig_put(rig, "new", "value"));
    assert_int_equal(shard->active->id, 2);
    assert_int_equal(shard->merge_counts.stalls, 0);
    atomic_store(&shard->merging, true);
    fill_active(rig);
    assert_int_equal(shard->merge_counts.stalls, 0); /* an ordinary put never waits */
    assert_ok(rig_put(rig, "new", "value"));
    assert_int_equal(shard->active->id, 3);
    assert_int_equal(shard->merge_counts.stalls, 1);
    shard->stall_above = shard->counts.dead_bytes + 1000;
    fill_active(rig);
    assert_ok(rig_put(rig, "new", "value"));
    assert_int_equal(shard->active->id, 4);
    assert_int_equal(shard->merge_counts.stalls, 1);
    rig_stop(rig);
}

static void *end_merge(void *argument)
{
    struct shard *shard = argument;

    while (true) {
        bool waits;

        pthread_mutex_lock(&shard->lock);
        waits = shard->merge_counts.stalls > 0;
        pthread_mutex_unlock(&shard->lock);
        if (waits)
            break;
        sched_yield();
    }
    atomic_store(&shard->merging, false);
    return NULL;
}

static void test_a_writer_goes_on_when_the_merge_is_over(void **state)
{
    struct rig *rig = rig_of_segments(unit_modes[0], 256);
    struct shard *shard = only(rig);
    unsigned waits = 0;
    pthread_t thread;

    (void)state;
    shard->stall_above = 0;
    fill_active(rig);
    assert_ok(rig_put(rig, "new", "value")); /* the seal is dead */
    atomic_store(&shard->merging, true);
    assert_int_equal(pthread_create(&thread, NULL, end_merge, shard), 0);
    pthread_mutex_lock(&shard->lock);
    while (shard_wait_for_merge(shard, &waits))
        ;
    pthread_mutex_unlock(&shard->lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(atomic_load(&shard->merging));
    assert_int_equal(shard->merge_counts.stalls, 1);
    rig_stop(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_directory_comes_with_the_first_write),
        cmocka_unit_test(test_a_full_segment_ends_with_a_seal_that_names_the_next),
        cmocka_unit_test(test_a_segment_is_listed_before_a_record_goes_into_it),
        cmocka_unit_test(test_a_large_value_gets_a_segment_of_its_own),
        cmocka_unit_test(test_a_next_segment_that_is_too_small_is_passed_over),
        cmocka_unit_test(test_preparing_twice_makes_one_segment),
        cmocka_unit_test(test_a_half_full_segment_asks_for_the_next),
        cmocka_unit_test(test_a_segment_is_left_early_once_the_next_is_there),
        cmocka_unit_test(test_ids_are_never_used_twice),
        cmocka_unit_test(test_when_ids_run_out_writes_are_refused_and_reads_go_on),
        cmocka_unit_test(test_a_failed_rotation_changes_nothing),
        cmocka_unit_test(test_a_manifest_that_cannot_be_written_fails_the_rotation),
        cmocka_unit_test(test_a_writer_waits_for_a_merge_before_it_moves_on),
        cmocka_unit_test(test_a_writer_goes_on_when_the_merge_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
