/* log/segment: opening and reading, in all four ways of writing and reading. */
#include <sys/stat.h>
#include <unistd.h>

#include "unit_segment.h"

/* ---- reading --------------------------------------------------------------------------------- */

static void test_reads_at_wrong_offsets_find_no_record(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        uint64_t first = add_text(bench.segment, 1, "key", "value");
        uint64_t second = add_text(bench.segment, 2, "key", "another value");
        static const uint64_t wild[] = {CAPACITY, CAPACITY * 2, (uint64_t)1 << 40, UINT64_MAX};

        assert_ok(segment_commit(bench.segment));
        for (uint64_t offset = 0; offset < segment_tail(bench.segment) + 100; offset++)
            assert_int_equal(read_status(&bench, offset),
                             offset == first || offset == second ? CASK_OK : CASK_ECORRUPT);
        for (size_t i = 0; i < COUNT_OF(wild); i++) {
            assert_int_equal(read_status(&bench, wild[i]), CASK_ECORRUPT);
            segment_prefetch(bench.segment, wild[i]);
        }
        bench_stop(&bench);
    }
}

static void test_a_flipped_bit_is_corruption_unless_nobody_asks(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        uint64_t offset = add_text(bench.segment, 1, "key", "value");
        struct record_buffer buffer;
        struct record record;

        assert_ok(segment_commit(bench.segment));
        store_byte(&bench, offset + RECORD_HEADER_BYTES + 3, 'V');
        assert_int_equal(read_status(&bench, offset), CASK_ECORRUPT);
        record_buffer_init(&buffer);
        assert_ok(
            segment_read(bench.segment, offset, bench.config.read_mapped, false, &buffer, &record));
        assert_slice(record.value, "Value", 5);
        record_buffer_release(&buffer);
        bench_stop(&bench);
    }
}

/* A value that claims more than there is, with nobody checking: no read beyond the tail. */
static void test_a_claimed_size_beyond_the_tail_is_corruption(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        uint64_t offset = add_text(bench.segment, 1, "key", "value");
        struct record_buffer buffer;
        struct record record;

        assert_ok(segment_commit(bench.segment));
        for (uint64_t at = offset + 4; at < offset + 8; at++) {
            store_byte(&bench, at, 0xff);
            record_buffer_init(&buffer);
            assert_int_equal(segment_read(bench.segment, offset, bench.config.read_mapped, false,
                                          &buffer, &record),
                             CASK_ECORRUPT);
            record_buffer_release(&buffer);
        }
        bench_stop(&bench);
    }
}

static void test_a_record_copied_elsewhere_is_none(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        uint64_t first = add_text(bench.segment, 1, "keyA", "value");
        uint64_t second = add_text(bench.segment, 2, "keyB", "value");
        struct segment *other;
        size_t size;
        uint8_t *bytes;

        assert_ok(segment_commit(bench.segment));
        bytes = file_bytes(&bench, &size);
        for (uint64_t i = 0; i < second - first; i++)
            store_byte(&bench, second + i, bytes[first + i]);
        assert_ok(read_status(&bench, first));
        assert_int_equal(read_status(&bench, second), CASK_ECORRUPT);
        /* The whole file under another id. */
        write_file(path_in(bench.place.path, "8.data"), bytes, size);
        free(bytes);
        assert_ok(segment_open(bench.place.dir, &bench.config, 8, &other));
        assert_true(other->header_damaged);
        segment_close(bench.segment);
        bench.segment = other;
        assert_int_equal(read_status(&bench, first), CASK_ECORRUPT);
        bench_stop(&bench);
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static void test_an_opened_segment_reads_what_was_written(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        uint64_t offset = add_text(bench.segment, 1, "key", "value");

        assert_ok(segment_commit(bench.segment));
        for (size_t n = 0; n < UNIT_MODES; n++) {
            bench.config = unit_config(unit_modes[n]);
            reopen(&bench);
            assert_false(bench.segment->header_damaged);
            assert_int_equal(bench.segment->predecessor, 6);
            assert_text(&bench, offset, "key", "value");
        }
        bench_stop(&bench);
    }
}

static void test_a_damaged_header_is_noted_and_records_still_prove_themselves(void **state)
{
    struct bench bench = bench_start(unit_modes[0]);
    uint64_t offset = add_text(bench.segment, 1, "key", "value");
    size_t size;
    uint8_t *bytes;

    (void)state;
    assert_ok(segment_commit(bench.segment));
    bytes = file_bytes(&bench, &size);
    for (size_t at = 0; at < SEGMENT_HEADER_BYTES; at++) {
        store_byte(&bench, at, (uint8_t)(bytes[at] ^ 0x10));
        reopen(&bench);
        assert_true(bench.segment->header_damaged);
        assert_text(&bench, offset, "key", "value");
        store_byte(&bench, at, bytes[at]);
    }
    reopen(&bench);
    assert_false(bench.segment->header_damaged);
    free(bytes);
    bench_stop(&bench);
}

static void test_files_of_every_short_length_open(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct bench bench = bench_start(unit_modes[m]);
        size_t size;
        uint8_t *bytes;

        add_text(bench.segment, 1, "key", "value");
        assert_ok(segment_commit(bench.segment));
        bytes = file_bytes(&bench, &size);
        for (size_t length = 0; length < 128; length++) {
            write_file(path_in(bench.place.path, "7.data"), bytes, length);
            segment_close(bench.segment);
            assert_ok(segment_open(bench.place.dir, &bench.config, 7, &bench.segment));
            assert_int_equal(bench.segment->header_damaged, length < SEGMENT_HEADER_BYTES);
            assert_int_equal(segment_tail(bench.segment), max_u64(length, SEGMENT_HEADER_BYTES));
            assert_int_equal(read_status(&bench, SEGMENT_HEADER_BYTES),
                             length < SEGMENT_HEADER_BYTES + 32 ? CASK_ECORRUPT : CASK_OK);
        }
        free(bytes);
        bench_stop(&bench);
    }
}

static void test_only_regular_files_of_that_name_are_segments(void **state)
{
    struct place place = place_make();
    struct log_config config = unit_config(unit_modes[0]);
    struct segment *segment = NULL;

    (void)state;
    assert_int_equal(segment_open(place.dir, &config, 1, &segment), CASK_NOTFOUND);
    assert_int_equal(mkdir(path_in(place.path, "2.data"), 0700), 0);
    assert_int_equal(segment_open(place.dir, &config, 2, &segment), CASK_ENOTSTORE);
    assert_int_equal(mkfifo(path_in(place.path, "3.data"), 0600), 0);
    assert_int_equal(segment_open(place.dir, &config, 3, &segment), CASK_ENOTSTORE);
    write_file(path_in(place.path, "real"), "", 0);
    assert_int_equal(symlink("real", path_in(place.path, "4.data")), 0);
    assert_int_equal(segment_open(place.dir, &config, 4, &segment), CASK_ENOTSTORE);
    assert_null(segment);
    place_remove(&place);
}

static void test_a_missing_segment_answers_every_read_with_corruption(void **state)
{
    struct bench bench = {.place = place_make(), .config = unit_config(unit_modes[0])};

    (void)state;
    assert_ok(segment_open_missing(&bench.config, 3, &bench.segment));
    assert_true(bench.segment->sealed);
    for (uint64_t offset = 0; offset < 200; offset += 8)
        assert_int_equal(read_status(&bench, offset), CASK_ECORRUPT);
    bench_stop(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_at_wrong_offsets_find_no_record),
        cmocka_unit_test(test_a_flipped_bit_is_corruption_unless_nobody_asks),
        cmocka_unit_test(test_a_claimed_size_beyond_the_tail_is_corruption),
        cmocka_unit_test(test_a_record_copied_elsewhere_is_none),
        cmocka_unit_test(test_an_opened_segment_reads_what_was_written),
        cmocka_unit_test(test_a_damaged_header_is_noted_and_records_still_prove_themselves),
        cmocka_unit_test(test_files_of_every_short_length_open),
        cmocka_unit_test(test_only_regular_files_of_that_name_are_segments),
        cmocka_unit_test(test_a_missing_segment_answers_every_read_with_corruption),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
