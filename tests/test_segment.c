/* log/segment: creating one, writing to it, going on with it, in all four ways of writing and
 * reading. What it takes to be read: test_segment_read.c. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit_segment.h"

#include "base/checksum.h"

/* ---- creating -------------------------------------------------------------------------------- */

static void test_names_are_made_of_the_id(void **state)
{
    char name[SEGMENT_NAME_BYTES];

    (void)state;
    segment_data_name(1, name);
    assert_string_equal(name, "1.data");
    segment_hint_name(UINT64_MAX, name);
    assert_string_equal(name, "18446744073709551615.hint");
}

static void test_a_new_segment_is_a_header_and_zeros(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        struct stat info;
        size_t size;
        uint8_t *bytes = file_bytes(&bench, &size);

        assert_in_range(size, SEGMENT_HEADER_BYTES + SEGMENT_SEAL_BYTES, CAPACITY);
        assert_memory_equal(bytes, "CASKSEGM", 8);
        assert_int_equal(get_u32(bytes + 8), SEGMENT_VERSION);
        assert_int_equal(get_u32(bytes + 12), bench.config.shard);
        assert_memory_equal(bytes + 16, bench.config.uuid, 16);
        assert_int_equal(get_u64(bytes + 32), 7);
        assert_int_equal(get_u64(bytes + 40), 6);
        assert_true(get_u64(bytes + 56) == checksum_bytes(bytes, 56));
        free(bytes);
        assert_zeros_behind(&bench, SEGMENT_HEADER_BYTES);
        assert_int_equal(segment_tail(bench.segment), SEGMENT_HEADER_BYTES);
        assert_int_equal(stat(path_in(bench.place.path, "7.data"), &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
        bench_stop(&bench);
    }
}

static void test_the_first_segment_of_a_shard_starts_small(void **state)
{
    struct place place = place_make();

    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct log_config config = unit_config(unit_modes[m]);
        struct segment *segment;

        assert_ok(segment_create(place.dir, &config, m + 1, 0, (uint64_t)64 << 20, &segment));
        assert_in_range(segment->allocated, SEGMENT_HEADER_BYTES, 128 << 10);
        segment_close(segment);
    }
    place_remove(&place);
}

static void test_an_existing_file_is_never_taken_over(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        struct segment *again = NULL;
        uint64_t before = tree_checksum(bench.place.path);

        assert_int_equal(segment_create(bench.place.dir, &bench.config, 7, 0, CAPACITY, &again),
                         CASK_EEXIST);
        assert_null(again);
        assert_true(tree_checksum(bench.place.path) == before);
        bench_stop(&bench);
    }
}

static void test_a_failed_creation_leaves_no_file(void **state)
{
    struct place place = place_make();
    struct log_config config = unit_config(unit_modes[0]);
    struct segment *segment = NULL;
    unsigned descriptors = count_descriptors();

    (void)state;
    /* More than can be mapped. */
    assert_int_equal(segment_create(place.dir, &config, 1, 0, (uint64_t)1 << 60, &segment),
                     CASK_EMFILE);
    assert_null(segment);
    assert_false(path_exists(path_in(place.path, "1.data")));
    assert_int_equal(count_descriptors(), descriptors);
    place_remove(&place);
}

/* ---- appending ------------------------------------------------------------------------------- */

static void test_records_of_all_sizes_come_back(void **state)
{
    static const size_t sizes[] = {
        0,     1,          950,       1006,           1007,    1100,
        65535, (64 << 10), (1 << 20), (1 << 20) - 20, 1048600, (1 << 20) + 7};
    uint8_t *bytes = unit_bytes(2 << 20, 1);

    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = {.place = place_make(), .config = unit_config(unit_modes[m])};
        uint64_t offsets[COUNT_OF(sizes)];

        assert_ok(segment_create(bench.place.dir, &bench.config, 7, 6, (uint64_t)16 << 20,
                                 &bench.segment));
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            struct record record = record_of(i + 1, (struct cask_slice){bytes, i % 3 ? 1 : 65535},
                                             (struct cask_slice){bytes + i, sizes[i]});

            offsets[i] = add(bench.segment, &record);
            if (i % 2)
                assert_ok(segment_commit(bench.segment));
        }
        assert_ok(segment_commit(bench.segment));
        for (size_t i = 0; i < COUNT_OF(sizes); i++)
            assert_reads(bench.segment, bench.config.read_mapped, offsets[i],
                         (struct cask_slice){bytes, i % 3 ? 1 : 65535},
                         (struct cask_slice){bytes + i, sizes[i]});
        bench_stop(&bench);
    }
    free(bytes);
}

static void test_nothing_is_read_before_it_is_committed(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        uint64_t offset = add_text(bench.segment, 1, "key", "value");

        assert_int_equal(offset, SEGMENT_HEADER_BYTES);
        assert_int_equal(segment_tail(bench.segment), SEGMENT_HEADER_BYTES);
        assert_int_equal(read_status(&bench, offset), CASK_ECORRUPT);
        assert_ok(segment_commit(bench.segment));
        assert_text(&bench, offset, "key", "value");
        assert_int_equal(segment_tail(bench.segment), offset + 32);
        bench_stop(&bench);
    }
}

static void test_a_commit_of_nothing_changes_nothing(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);

        assert_ok(segment_commit(bench.segment));
        assert_int_equal(segment_tail(bench.segment), SEGMENT_HEADER_BYTES);
        assert_ok(segment_rollback(bench.segment));
        assert_int_equal(segment_tail(bench.segment), SEGMENT_HEADER_BYTES);
        bench_stop(&bench);
    }
}

/* Small records stay in memory until the commit, large ones are in the file before: both go. */
static void test_a_rollback_leaves_zeros_and_the_place_is_used_again(void **state)
{
    uint8_t *large = unit_bytes(1200000, 1);

    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        struct record record = record_of(3, slice_of("large"), (struct cask_slice){large, 1200000});
        uint64_t first = add_text(bench.segment, 1, "first", "stays");
        uint64_t tail;

        assert_ok(segment_commit(bench.segment));
        tail = segment_tail(bench.segment);
        assert_int_equal(add_text(bench.segment, 2, "second", "goes"), tail);
        add(bench.segment, &record);
        add_text(bench.segment, 4, "third", "goes too");
        assert_ok(segment_rollback(bench.segment));
        assert_int_equal(segment_tail(bench.segment), tail);
        assert_zeros_behind(&bench, tail);
        assert_int_equal(read_status(&bench, tail), CASK_ECORRUPT);
        assert_int_equal(add_text(bench.segment, 2, "second", "time"), tail);
        assert_ok(segment_commit(bench.segment));
        assert_text(&bench, first, "first", "stays");
        assert_text(&bench, tail, "second", "time");
        bench_stop(&bench);
    }
    free(large);
}

static void test_a_seal_always_fits(void **state)
{
    struct place place = place_make();

    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct log_config config = unit_config(unit_modes[m]);
        struct record seal = {.type = RECORD_SEAL, .sequence = 99, .value = {"12345678", 8}};
        struct segment *segment;
        uint64_t sequence = 1;
        uint64_t offset;
        size_t size;

        assert_int_equal(record_size(&seal), SEGMENT_SEAL_BYTES);
        assert_ok(segment_create(place.dir, &config, m + 1, 0, 256, &segment));
        while (segment_has_room(segment, 32, false))
            add_text(segment, sequence++, "key", "value");
        assert_int_equal(sequence, 6); /* 256 = 64 + 5 * 32 + 32 */
        assert_ok(segment_append(segment, &seal, &offset));
        assert_ok(segment_commit(segment));
        assert_int_equal(segment_tail(segment), 256);
        free(read_whole_file(path_in(place.path, m == 0   ? "1.data"
                                                 : m == 1 ? "2.data"
                                                 : m == 2 ? "3.data"
                                                          : "4.data"),
                             &size));
        assert_int_equal(size, 256);
        segment_close(segment);
    }
    place_remove(&place);
}

/* On a full disk there is still room for the tombstones that make some. */
static void test_puts_leave_room_for_deletes(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        uint64_t filler = CAPACITY - SEGMENT_HEADER_BYTES - segment_reserve(bench.segment, true);

        assert_int_equal(segment_reserve(bench.segment, false), SEGMENT_SEAL_BYTES);
        assert_int_equal(segment_reserve(bench.segment, true),
                         SEGMENT_SEAL_BYTES + SEGMENT_HEADROOM_MAX);
        assert_true(segment_has_room(bench.segment, filler, true));
        assert_false(segment_has_room(bench.segment, filler + 8, true));
        assert_true(segment_has_room(bench.segment, filler + SEGMENT_HEADROOM_MAX, false));
        assert_false(segment_has_room(bench.segment, filler + SEGMENT_HEADROOM_MAX + 8, false));
        assert_ok(segment_ensure(bench.segment, 5000, true));
        assert_true(bench.segment->allocated >=
                    SEGMENT_HEADER_BYTES + 5000 + segment_reserve(bench.segment, true));
        bench_stop(&bench);
    }
}

static void test_a_full_disk_changes_nothing_and_passes(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        char *path = scratch_make(SCRATCH_DISK);
        struct bench bench = {.config = unit_config(unit_modes[m])};
        uint64_t offset;
        int status = CASK_OK;

        if (!private_mounts() || !mount_memory(path, "size=1m"))
            skip();
        bench.place.path = path;
        assert_ok(io_dir_open(path, &bench.place.dir));
        assert_ok(segment_create(bench.place.dir, &bench.config, 7, 0, CAPACITY, &bench.segment));
        offset = add_text(bench.segment, 1, "key", "value");
        assert_ok(segment_commit(bench.segment));
        assert_int_equal(segment_ensure(bench.segment, 3 << 20, false), CASK_ENOSPC);
        assert_ok(segment_ensure(bench.segment, 128 << 10,
                                 false)); /* what is needed now, no step ahead */
        assert_ok(segment_rollback(bench.segment));
        remount_memory(path, "size=8m", false);
        status = segment_ensure(bench.segment, 3 << 20, false);
        assert_int_equal(status, CASK_OK);
        assert_text(&bench, offset, "key", "value");
        segment_close(bench.segment);
        io_dir_close(bench.place.dir);
        unmount(path);
        scratch_remove(path);
    }
}

/* ---- going on with a segment ----------------------------------------------------------------- */

static void test_a_resumed_segment_goes_on_in_any_mode(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++)
        for (size_t n = 0; n < UNIT_MODES; n++) {
            struct bench bench = bench_start(unit_modes[m]);
            uint64_t first = add_text(bench.segment, 1, "first", "one");
            uint64_t second;
            uint64_t tail;

            assert_ok(segment_commit(bench.segment));
            assert_ok(segment_trim(bench.segment));
            bench.config = unit_config(unit_modes[n]);
            reopen(&bench);
            tail = segment_tail(bench.segment);
            assert_ok(segment_resume(bench.segment, bench.place.dir, &bench.config, tail));
            assert_int_equal(segment_tail(bench.segment), tail);
            second = add_text(bench.segment, 2, "second", "two");
            assert_int_equal(second, tail);
            assert_ok(segment_commit(bench.segment));
            assert_text(&bench, first, "first", "one");
            assert_text(&bench, second, "second", "two");
            assert_zeros_behind(&bench, segment_tail(bench.segment));
            bench_stop(&bench);
        }
}

/* The segment was filled to its end, or is one large value, or segments have become smaller
 * since. */
static void test_a_resumed_segment_has_room_for_its_seal(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        struct record seal = {.type = RECORD_SEAL, .sequence = 99, .value = {"12345678", 8}};
        uint64_t offset;
        uint64_t tail;

        for (uint64_t i = 1; i <= 8; i++)
            add_text(bench.segment, i, "key", "value");
        assert_ok(segment_commit(bench.segment));
        assert_ok(segment_trim(bench.segment));
        tail = segment_tail(bench.segment);
        bench.config.segment_bytes = 256;
        reopen(&bench);
        assert_ok(segment_resume(bench.segment, bench.place.dir, &bench.config, tail));
        assert_false(segment_has_room(bench.segment, 24, false));
        assert_in_range(bench.segment->capacity, tail + SEGMENT_SEAL_BYTES, CAPACITY);
        assert_ok(segment_ensure(bench.segment, 0, false));
        assert_in_range(bench.segment->allocated, tail + SEGMENT_SEAL_BYTES, UINT64_MAX);
        assert_ok(segment_append(bench.segment, &seal, &offset));
        assert_ok(segment_commit(bench.segment));
        assert_int_equal(segment_tail(bench.segment), tail + SEGMENT_SEAL_BYTES);
        assert_ok(read_status(&bench, offset));
        bench_stop(&bench);
    }
}

static void test_a_trimmed_segment_is_as_long_as_its_records(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        uint64_t offset = add_text(bench.segment, 1, "key", "value");
        struct stat info;

        assert_ok(segment_commit(bench.segment));
        assert_ok(segment_trim(bench.segment));
        assert_int_equal(stat(path_in(bench.place.path, "7.data"), &info), 0);
        assert_int_equal(info.st_size, (off_t)segment_tail(bench.segment));
        assert_text(&bench, offset, "key", "value");
        bench_stop(&bench);
    }
}

static void test_a_store_into_a_trimmed_segment_faults(void **state)
{
    struct bench bench = bench_start(unit_modes[0]);
    pid_t child;
    int status;

    (void)state;
    add_text(bench.segment, 1, "key", "value");
    assert_ok(segment_commit(bench.segment));
    assert_ok(segment_trim(bench.segment));
    child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        ((volatile uint8_t *)bench.segment->map)[SEGMENT_HEADER_BYTES] = 1;
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    bench_stop(&bench);
}

static void test_mapped_reads_go_on_without_the_descriptor(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        uint64_t offset = add_text(bench.segment, 1, "key", "value");
        unsigned descriptors = count_descriptors();

        assert_ok(segment_commit(bench.segment));
        assert_ok(segment_trim(bench.segment));
        segment_let_file_go(bench.segment, bench.config.read_mapped);
        assert_int_equal(count_descriptors(), descriptors - bench.config.read_mapped);
        assert_text(&bench, offset, "key", "value");
        bench_stop(&bench);
    }
}

/* As on a file system without fallocate: the file then ends with the last byte written. */
static void test_the_last_large_record_is_readable_where_nothing_is_preallocated(void **state)
{
    uint8_t *large = unit_bytes(1200001, 1);

    (void)state;
    for (size_t m = 2; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        struct record record = record_of(1, slice_of("k"), (struct cask_slice){large, 1200001});
        uint64_t offset;

        assert_ok(io_truncate(bench.segment->file, SEGMENT_HEADER_BYTES));
        bench.segment->allocated = UINT64_MAX;
        offset = add(bench.segment, &record);
        assert_ok(segment_commit(bench.segment));
        assert_reads(bench.segment, bench.config.read_mapped, offset, record.key, record.value);
        bench_stop(&bench);
    }
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_made_of_the_id),
        cmocka_unit_test(test_a_new_segment_is_a_header_and_zeros),
        cmocka_unit_test(test_the_first_segment_of_a_shard_starts_small),
        cmocka_unit_test(test_an_existing_file_is_never_taken_over),
        cmocka_unit_test(test_a_failed_creation_leaves_no_file),
        cmocka_unit_test(test_records_of_all_sizes_come_back),
        cmocka_unit_test(test_nothing_is_read_before_it_is_committed),
        cmocka_unit_test(test_a_commit_of_nothing_changes_nothing),
        cmocka_unit_test(test_a_rollback_leaves_zeros_and_the_place_is_used_again),
        cmocka_unit_test(test_a_seal_always_fits),
        cmocka_unit_test(test_puts_leave_room_for_deletes),
        cmocka_unit_test(test_a_full_disk_changes_nothing_and_passes),
        cmocka_unit_test(test_a_resumed_segment_goes_on_in_any_mode),
        cmocka_unit_test(test_a_resumed_segment_has_room_for_its_seal),
        cmocka_unit_test(test_a_trimmed_segment_is_as_long_as_its_records),
        cmocka_unit_test(test_a_store_into_a_trimmed_segment_faults),
        cmocka_unit_test(test_mapped_reads_go_on_without_the_descriptor),
        cmocka_unit_test(test_the_last_large_record_is_readable_where_nothing_is_preallocated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
