/* log/scan: walking a segment in pieces of 1 MiB. T7: sizes that are multiples of the piece. */
#include "unit.h"

#include "log/scan.h"

#define PIECE ((uint64_t)1 << 20)
#define CAPACITY ((uint64_t)16 << 20)

struct bench {
    struct place place;
    struct log_config config;
    struct segment *segment;
    uint64_t sequence;
};

static struct bench bench_start(void)
{
    struct bench bench = {.place = place_make(), .config = unit_config(unit_modes[0])};

    assert_ok(segment_create(bench.place.dir, &bench.config, 7, 0, CAPACITY, &bench.segment));
    return bench;
}

static void bench_stop(struct bench *bench)
{
    segment_close(bench->segment);
    place_remove(&bench->place);
}

static uint64_t add(struct bench *bench, struct cask_slice key, struct cask_slice value)
{
    struct record record = {
        .type = RECORD_PUT, .sequence = ++bench->sequence, .key = key, .value = value};
    uint64_t offset;

    assert_true(segment_has_room(bench->segment, record_size(&record), false));
    assert_ok(segment_ensure(bench->segment, record_size(&record), false));
    assert_ok(segment_append(bench->segment, &record, &offset));
    assert_ok(segment_commit(bench->segment));
    return offset;
}

/* A record that takes 32 bytes. */
static uint64_t add_small(struct bench *bench)
{
    return add(bench, slice_of("key"), slice_of("value"));
}

/* One that takes `size` bytes, at least 32. */
static uint64_t add_sized(struct bench *bench, uint64_t size, const uint8_t *bytes)
{
    return add(bench, slice_of("k"),
               (struct cask_slice){bytes, (size_t)size - RECORD_HEADER_BYTES - 1});
}

/* Large records while there is room for them, then small ones up to the end. */
static void fill_to(struct bench *bench, uint64_t end)
{
    static const uint8_t zeros[4096];

    while (segment_tail(bench->segment) < end)
        if (end - segment_tail(bench->segment) > 4096 + 512)
            add_sized(bench, 4096, zeros);
        else
            add_small(bench);
    assert_true(segment_tail(bench->segment) == end);
}

static void patch(struct bench *bench, uint64_t offset, const void *bytes, size_t size)
{
    struct io_file *file;

    assert_ok(io_open(bench->place.dir, "7.data", IO_WRITE, &file));
    assert_ok(io_write(file, offset, bytes, size));
    io_close(file);
}

struct tally {
    uint64_t records;
    uint64_t first; /* sequence number */
    uint64_t end;
    enum record_outcome outcome;
};

/* Walks on to the first place without a record; sequence numbers must rise by one. */
static struct tally walk(struct scan *scan)
{
    struct tally tally = {0};
    struct record record;
    uint64_t offset;

    for (;;) {
        uint64_t at = scan->at;

        assert_ok(scan_next(scan, &tally.outcome, &record, &offset));
        if (tally.outcome != RECORD_VALID)
            break;
        assert_true(offset == at && scan->at == at + record_size(&record));
        if (tally.records == 0)
            tally.first = record.sequence;
        assert_true(record.sequence == tally.first + tally.records);
        tally.records++;
    }
    tally.end = scan->at;
    return tally;
}

/* By reading the file, and the same over the mapping. */
static struct tally walk_both(const struct bench *bench, uint64_t from, uint64_t end)
{
    struct tally by_reading;
    struct tally by_mapping;
    struct scan scan;

    assert_ok(scan_init(&scan, bench->segment, NULL, from, end));
    by_reading = walk(&scan);
    scan_release(&scan);
    scan_init_mapped(&scan, bench->segment, from, end);
    by_mapping = walk(&scan);
    scan_release(&scan);
    assert_memory_equal(&by_reading, &by_mapping, sizeof by_reading);
    return by_reading;
}

static void assert_finds_all(const struct bench *bench)
{
    uint64_t tail = segment_tail(bench->segment);
    struct tally tally = walk_both(bench, SEGMENT_HEADER_BYTES, tail);

    assert_int_equal(tally.records, bench->sequence);
    assert_int_equal(tally.end, tail);
    assert_int_equal(tally.outcome, RECORD_NONE);
}

/* ---- where pieces end ------------------------------------------------------------------------ */

static void test_an_empty_segment_has_no_records(void **state)
{
    struct bench bench = bench_start();

    (void)state;
    assert_finds_all(&bench);
    bench_stop(&bench);
}

/* The file as a whole, and what is read of it, end with a piece, just before and just after it. */
static void test_sizes_that_are_multiples_of_the_piece_lose_nothing(void **state)
{
    static const uint64_t ends[] = {PIECE - 32, PIECE,     PIECE + 32,     PIECE + 64,
                                    PIECE + 96, 2 * PIECE, 2 * PIECE + 64, 3 * PIECE};
    struct bench bench = bench_start();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        fill_to(&bench, ends[i]);
        assert_finds_all(&bench);
        /* The file cut to that length. */
        assert_ok(io_truncate(bench.segment->file, ends[i]));
        bench.segment->allocated = ends[i];
        assert_finds_all(&bench);
    }
    bench_stop(&bench);
    bench = bench_start();
    for (int i = 0; i < 40; i++)
        add_small(&bench);
    fill_to(&bench, 3 * PIECE);
    for (uint64_t i = 0; i < 40; i++) {
        struct tally tally = walk_both(&bench, 64 + i * 32, 3 * PIECE);

        assert_int_equal(tally.records, bench.sequence - i);
        assert_int_equal(tally.end, 3 * PIECE);
    }
    bench_stop(&bench);
}

/* The border of the first piece falls on every 8-byte step of a record, and of its header. */
static void test_records_across_the_border_of_a_piece_are_found(void **state)
{
    uint8_t *bytes = unit_bytes(PIECE, 1);

    (void)state;
    for (uint64_t before = 0; before <= 96; before += 8) {
        struct bench bench = bench_start();

        add_sized(&bench, PIECE - 96 + before, bytes);
        for (int i = 0; i < 5; i++)
            add_small(&bench);
        add_sized(&bench, 5000, bytes);
        add_small(&bench);
        assert_finds_all(&bench);
        bench_stop(&bench);
    }
    free(bytes);
}

static void test_the_end_that_was_given_is_respected(void **state)
{
    struct bench bench = bench_start();

    (void)state;
    fill_to(&bench, 64 + 320);
    for (uint64_t end = 0; end <= 64 + 320; end++) {
        struct tally tally = walk_both(&bench, 64, end);

        assert_int_equal(tally.end, 64 + tally.records * 32);
        assert_int_equal(tally.records, end < 64 ? 0 : (end - 64) / 32);
        if (tally.outcome == RECORD_TRUNCATED)
            assert_in_range(end - tally.end, RECORD_HEADER_BYTES, 31);
        else
            assert_int_equal(tally.outcome, RECORD_NONE);
    }
    bench_stop(&bench);
}

static void test_a_file_that_ends_early_ends_the_scan(void **state)
{
    (void)state;
    for (uint64_t length = 64 + 96; length <= 64 + 128; length++) {
        struct bench bench = bench_start();
        struct scan scan;
        struct tally tally;

        fill_to(&bench, 64 + 320);
        assert_ok(io_truncate(bench.segment->file, length));
        assert_ok(scan_init(&scan, bench.segment, NULL, 64, 64 + 320));
        tally = walk(&scan);
        assert_int_equal(tally.records, length < 64 + 128 ? 3 : 4);
        assert_int_not_equal(tally.outcome, RECORD_VALID);
        scan_release(&scan);
        bench_stop(&bench);
    }
}

/* ---- records larger than a piece ------------------------------------------------------------- */

static void test_records_as_large_as_a_piece_and_larger_are_checked(void **state)
{
    static const uint64_t sizes[] = {PIECE - 8, PIECE,         PIECE + 8, 2 * PIECE - 8,
                                     2 * PIECE, 2 * PIECE + 8, 5000000};
    uint8_t *bytes = unit_bytes(6 << 20, 2);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct bench bench = bench_start();
        struct record record;
        enum record_outcome outcome;
        struct scan scan;
        uint64_t offset;

        add_small(&bench);
        add_sized(&bench, sizes[i], bytes);
        add_small(&bench);
        add_sized(&bench, sizes[i], bytes);
        assert_finds_all(&bench);
        assert_ok(scan_init(&scan, bench.segment, NULL, 96, segment_tail(bench.segment)));
        assert_ok(scan_next(&scan, &outcome, &record, &offset));
        assert_int_equal(outcome, RECORD_VALID);
        assert_slice(record.key, "k", 1);
        assert_int_equal(record.value.size, sizes[i] - RECORD_HEADER_BYTES - 1);
        if (record.value.data)
            assert_memory_equal(record.value.data, bytes, record.value.size);
        else
            assert_true(sizes[i] > PIECE);
        scan_release(&scan);
        bench_stop(&bench);
    }
    free(bytes);
}

static void test_a_flipped_bit_anywhere_in_a_large_record_is_found(void **state)
{
    static const uint64_t places[] = {0,
                                      4,
                                      8,
                                      14,
                                      16,
                                      17,
                                      18,
                                      100,
                                      PIECE - 1,
                                      PIECE,
                                      PIECE + 3,
                                      PIECE + 4,
                                      2 * PIECE - 1,
                                      2 * PIECE + 99};
    uint8_t *bytes = unit_bytes(3 << 20, 3);
    struct bench bench = bench_start();
    uint64_t offset = add_sized(&bench, 2 * PIECE + 104, bytes);
    struct tally tally;

    (void)state;
    add_small(&bench);
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        uint8_t byte = bench.segment->map[offset + places[i]];
        uint8_t flipped = byte ^ 1;

        patch(&bench, offset + places[i], &flipped, 1);
        tally = walk_both(&bench, offset, segment_tail(bench.segment));
        assert_int_equal(tally.records, 0);
        assert_int_not_equal(tally.outcome, RECORD_NONE);
        patch(&bench, offset + places[i], &byte, 1);
    }
    assert_finds_all(&bench);
    free(bytes);
    bench_stop(&bench);
}

static void test_a_cut_large_record_is_truncated(void **state)
{
    uint8_t *bytes = unit_bytes(3 << 20, 4);
    struct bench bench = bench_start();
    static const uint64_t ends[] = {82, PIECE, PIECE + 64, 2 * PIECE + 64, 2 * PIECE + 160};

    (void)state;
    add_sized(&bench, 2 * PIECE + 104, bytes);
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        struct tally tally = walk_both(&bench, 64, ends[i]);

        assert_int_equal(tally.records, 0);
        assert_int_equal(tally.outcome, RECORD_TRUNCATED);
    }
    /* The file itself ends there, though more was to be read. */
    for (size_t i = COUNT_OF(ends); i-- > 0;) {
        struct scan scan;

        assert_ok(io_truncate(bench.segment->file, ends[i]));
        assert_ok(scan_init(&scan, bench.segment, NULL, 64, 2 * PIECE + 168));
        assert_int_not_equal(walk(&scan).outcome, RECORD_VALID);
        assert_int_equal(scan.at, 64);
        scan_release(&scan);
    }
    free(bytes);
    bench_stop(&bench);
}

/* ---- what is no record ----------------------------------------------------------------------- */

static void test_a_scan_stays_where_no_record_is(void **state)
{
    struct bench bench = bench_start();
    struct record record;
    enum record_outcome outcome;
    struct scan scan;
    uint64_t offset = 1234;

    (void)state;
    fill_to(&bench, 64 + 320);
    patch(&bench, 64 + 64, "!", 1);
    assert_ok(scan_init(&scan, bench.segment, NULL, 64, 64 + 320));
    assert_int_equal(walk(&scan).records, 2);
    for (int i = 0; i < 3; i++) {
        assert_ok(scan_next(&scan, &outcome, &record, &offset));
        assert_int_equal(outcome, RECORD_BAD);
        assert_int_equal(scan.at, 64 + 64);
        assert_int_equal(offset, 1234);
    }
    scan_release(&scan);
    bench_stop(&bench);
}

static void test_resync_finds_the_next_record(void **state)
{
    uint8_t *bytes = unit_bytes(3 << 20, 5);

    (void)state;
    for (int mapped = 0; mapped < 2; mapped++)
        for (uint64_t size = 32; size < 3 * PIECE; size = size * 3 + 8) {
            struct bench bench = bench_start();
            struct scan scan;
            struct tally tally;

            add_small(&bench);
            add_sized(&bench, size, bytes);
            fill_to(&bench, 64 + 32 + size + 96);
            patch(&bench, 64 + 32 + 10, "\xff", 1); /* its sequence number */
            if (mapped)
                scan_init_mapped(&scan, bench.segment, 64, segment_tail(bench.segment));
            else
                assert_ok(scan_init(&scan, bench.segment, NULL, 64, segment_tail(bench.segment)));
            assert_int_equal(walk(&scan).records, 1);
            assert_ok(scan_resync(&scan));
            assert_int_equal(scan.at, 64 + 32 + size);
            tally = walk(&scan);
            assert_int_equal(tally.first, 3);
            assert_int_equal(tally.records, 3);
            assert_int_equal(scan_resync(&scan), CASK_NOTFOUND);
            scan_release(&scan);
            bench_stop(&bench);
        }
    free(bytes);
}

/* A value may hold what looks like a record, byte for byte: its place gives it away. */
static void test_resync_does_not_believe_a_record_inside_a_value(void **state)
{
    struct bench bench = bench_start();
    struct scan scan;
    uint8_t value[63];

    (void)state;
    add_small(&bench);
    memset(value, 0, sizeof value);
    memcpy(value + 6, bench.segment->map + 64, 32); /* at an offset that is a multiple of 8 */
    add(&bench, slice_of("k"), (struct cask_slice){value, sizeof value});
    add_small(&bench);
    patch(&bench, 96, "\x7f", 1);
    assert_ok(scan_init(&scan, bench.segment, NULL, 96, segment_tail(bench.segment)));
    assert_ok(scan_resync(&scan));
    assert_int_equal(scan.at, segment_tail(bench.segment) - 32);
    scan_release(&scan);
    bench_stop(&bench);
}

static uint64_t resync_ns(uint32_t number, size_t size)
{
    struct bench bench = bench_start();
    uint32_t *numbers = malloc(size);
    uint64_t offset;
    uint64_t started;
    struct scan scan;

    for (size_t i = 0; i < size / sizeof *numbers; i++)
        numbers[i] = number;
    offset = add(&bench, slice_of("k"), (struct cask_slice){numbers, size});
    add_small(&bench);
    patch(&bench, offset, "\x7f", 1);
    assert_ok(scan_init(&scan, bench.segment, NULL, 64, segment_tail(bench.segment)));
    started = clock_ns();
    assert_ok(scan_resync(&scan));
    started = clock_ns() - started;
    assert_int_equal(scan.at, segment_tail(bench.segment) - 32);
    scan_release(&scan);
    free(numbers);
    bench_stop(&bench);
    return started;
}

/* A damaged record whose value is an array of numbers, each of which could be the size of a value:
 * to check all those in full would take hours for a value of 64 MiB. */
static void test_resync_over_plausible_lengths_does_not_take_for_ever(void **state)
{
    (void)state;
    assert_in_range(resync_ns(400000, 1 << 20), 0, (uint64_t)5000000000);
    assert_in_range(resync_ns(2000000, 4 << 20), 0, (uint64_t)5000000000);
}

/* ---- another file, another writer ------------------------------------------------------------ */

static void test_a_scan_may_read_by_another_descriptor(void **state)
{
    struct bench bench = bench_start();
    struct io_file *file;
    struct scan scan;

    (void)state;
    fill_to(&bench, 64 + 320);
    assert_ok(segment_trim(bench.segment));
    segment_let_file_go(bench.segment, true);
    assert_null(bench.segment->file);
    assert_ok(io_open(bench.place.dir, "7.data", IO_READ, &file));
    assert_ok(scan_init(&scan, bench.segment, file, 64, 64 + 320));
    assert_int_equal(walk(&scan).records, 10);
    scan_release(&scan);
    io_close(file);
    bench_stop(&bench);
}

static void test_after_forgetting_a_scan_sees_what_was_written_meanwhile(void **state)
{
    struct bench bench = bench_start();
    struct scan scan;

    (void)state;
    fill_to(&bench, 64 + 96);
    assert_ok(scan_init(&scan, bench.segment, NULL, 64, 64 + 320));
    assert_int_equal(walk(&scan).records, 3);
    fill_to(&bench, 64 + 320);
    assert_int_equal(walk(&scan).records, 0); /* as it was when the piece was read */
    scan_forget(&scan);
    assert_int_equal(walk(&scan).records, 7);
    scan_release(&scan);
    bench_stop(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_segment_has_no_records),
        cmocka_unit_test(test_sizes_that_are_multiples_of_the_piece_lose_nothing),
        cmocka_unit_test(test_records_across_the_border_of_a_piece_are_found),
        cmocka_unit_test(test_the_end_that_was_given_is_respected),
        cmocka_unit_test(test_a_file_that_ends_early_ends_the_scan),
        cmocka_unit_test(test_records_as_large_as_a_piece_and_larger_are_checked),
        cmocka_unit_test(test_a_flipped_bit_anywhere_in_a_large_record_is_found),
        cmocka_unit_test(test_a_cut_large_record_is_truncated),
        cmocka_unit_test(test_a_scan_stays_where_no_record_is),
        cmocka_unit_test(test_resync_finds_the_next_record),
        cmocka_unit_test(test_resync_does_not_believe_a_record_inside_a_value),
        cmocka_unit_test(test_resync_over_plausible_lengths_does_not_take_for_ever),
        cmocka_unit_test(test_a_scan_may_read_by_another_descriptor),
        cmocka_unit_test(test_after_forgetting_a_scan_sees_what_was_written_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
