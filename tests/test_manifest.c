/* shard/manifest: the list of segments, and that a wrong one is not believed. */
#include <sys/stat.h>

#include "unit.h"

#include "base/checksum.h"
#include "shard/manifest.h"

/* Offsets in the file, as documented in manifest.c and docs/format.md. */
#define AT_VERSION 8
#define AT_SHARD 12
#define AT_NEXT_SEGMENT 56
#define AT_NEXT_SEQUENCE 64
#define AT_SETTLED_BATCH 72
#define AT_COUNT 80
#define AT_RUNS 88
#define AT_NEXT_RUN 96
#define AT_FLAGS 104
#define HEADER 112
#define SEGMENT 104
#define RUN 32

/* Of a segment. */
#define AT_LENGTH 16
#define AT_SEGMENT_FLAGS 32
#define AT_INDEXED 40
#define AT_LIVE 48
#define AT_DEAD 56
#define AT_RECORDS 72
#define AT_MIN_SEQUENCE 80
#define AT_MAX_SEQUENCE 88

/* What file_of_manifest() lists beside the segments. */
#define RUNS 3
#define NEXT_RUN 20

static struct log_config config_of_test(void)
{
    return unit_config(unit_modes[0]);
}

static void fill_segment(struct manifest_segment *segment, uint64_t i, bool last)
{
    *segment = (struct manifest_segment){.id = 2 * i + 3,
                                         .predecessor = i == 0 ? 0 : 2 * i + 1,
                                         .length = 64 + i * 32,
                                         .checksum = mix64(i),
                                         .flags = last ? MANIFEST_CLEAN : MANIFEST_SEALED,
                                         .indexed = i % 2 == 0 ? 0 : 64 + i * 16,
                                         .live_bytes = 1000 + i,
                                         .dead_bytes = 2000 + i,
                                         .tombstone_bytes = 300 + i,
                                         .records = 40 + i,
                                         .min_sequence = 500 + i,
                                         .max_sequence = 600 + i,
                                         .last_expiry = UINT64_MAX - i};
}

static struct manifest manifest_of(uint64_t count, struct manifest_segment *segments)
{
    struct manifest manifest = {.generation = 5,
                                .next_segment = count * 2 + 10,
                                .next_sequence = 77,
                                .settled_batch = 8,
                                .count = count,
                                .segments = segments};

    memcpy(manifest.boot_id, "BOOTBOOTBOOTBOOT", 16);
    for (uint64_t i = 0; i < count; i++)
        fill_segment(&segments[i], i, i + 1 == count);
    return manifest;
}

/* Newest first, yet not with descending ids: a merge of runs puts a new one behind newer ones. */
static void add_runs(struct manifest *manifest, uint64_t count, struct manifest_run *runs)
{
    manifest->run_count = count;
    manifest->runs = runs;
    manifest->next_run = count + NEXT_RUN - RUNS;
    manifest->flags = MANIFEST_DOUBTS;
    manifest->tombstones = (uint32_t)(UINT32_MAX - count);
    for (uint64_t i = 0; i < count; i++)
        runs[i] = (struct manifest_run){.id = i == 0 ? count : i,
                                        .count = 70 + i,
                                        .bytes = ((uint64_t)1 << 40) + i,
                                        .checksum = mix64(100 + i)};
}

static uint8_t *file_of_manifest(uint64_t count, size_t *ret_size)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct manifest_segment segments[16];
    struct manifest_run runs[RUNS];
    struct manifest manifest = manifest_of(count, segments);
    uint8_t *bytes;

    add_runs(&manifest, RUNS, runs);
    assert_ok(manifest_write(&manifest, place.dir, &config));
    bytes = read_whole_file(path_in(place.path, MANIFEST_NAME), ret_size);
    place_remove(&place);
    return bytes;
}

static int parse(const uint8_t *bytes, size_t size)
{
    struct log_config config = config_of_test();
    struct manifest manifest;
    uint8_t *exact = malloc(size + (size == 0));
    int status;

    bytes_copy(exact, bytes, size);
    status = manifest_parse(exact, size, &config, &manifest);
    free(exact);
    if (status == CASK_OK)
        manifest_release(&manifest);
    return status;
}

static int parse_fixed(uint8_t *bytes, size_t size)
{
    put_u64(bytes + size - 8, checksum_bytes(bytes, size - 8));
    return parse(bytes, size);
}

static int with_number(size_t at, uint64_t value)
{
    size_t size;
    uint8_t *bytes = file_of_manifest(4, &size);
    int status;

    put_u64(bytes + at, value);
    status = parse_fixed(bytes, size);
    free(bytes);
    return status;
}

static int with_segment_number(unsigned segment, size_t at, uint64_t value)
{
    return with_number(HEADER + segment * SEGMENT + at, value);
}

static int with_run_number(unsigned run, size_t at, uint64_t value)
{
    return with_number(HEADER + 4 * SEGMENT + run * RUN + at, value);
}

/* Two numbers of one segment; a sum or an order is wrong only with both. */
static int with_segment_pair(size_t at, uint64_t value, size_t other_at, uint64_t other_value)
{
    size_t size;
    uint8_t *bytes = file_of_manifest(4, &size);
    int status;

    put_u64(bytes + HEADER + SEGMENT + at, value);
    put_u64(bytes + HEADER + SEGMENT + other_at, other_value);
    status = parse_fixed(bytes, size);
    free(bytes);
    return status;
}

/* ---- writing and reading --------------------------------------------------------------------- */

static void check_segment(const struct manifest_segment *back, const struct manifest_segment *was)
{
    assert_int_equal(back->id, was->id);
    assert_int_equal(back->predecessor, was->predecessor);
    assert_int_equal(back->length, was->length);
    assert_true(back->checksum == was->checksum);
    assert_int_equal(back->flags, was->flags);
    assert_int_equal(back->indexed, was->indexed);
    assert_int_equal(back->live_bytes, was->live_bytes);
    assert_int_equal(back->dead_bytes, was->dead_bytes);
    assert_int_equal(back->tombstone_bytes, was->tombstone_bytes);
    assert_int_equal(back->records, was->records);
    assert_int_equal(back->min_sequence, was->min_sequence);
    assert_int_equal(back->max_sequence, was->max_sequence);
    assert_true(back->last_expiry == was->last_expiry);
}

static void test_a_manifest_comes_back(void **state)
{
    (void)state;
    for (uint64_t count = 0; count < 16; count++) {
        struct place place = place_make();
        struct log_config config = config_of_test();
        struct manifest_segment segments[16];
        struct manifest manifest = manifest_of(count, segments);
        struct manifest back;

        assert_ok(manifest_write(&manifest, place.dir, &config));
        assert_ok(manifest_read(place.dir, &config, &back));
        assert_memory_equal(back.boot_id, manifest.boot_id, 16);
        assert_int_equal(back.generation, 5);
        assert_int_equal(back.next_segment, manifest.next_segment);
        assert_int_equal(back.next_sequence, 77);
        assert_int_equal(back.settled_batch, 8);
        assert_int_equal(back.count, count);
        assert_int_equal(back.run_count, 0);
        assert_int_equal(back.next_run, 0);
        assert_int_equal(back.flags, 0);
        for (uint64_t i = 0; i < count; i++)
            check_segment(&back.segments[i], &segments[i]);
        manifest_release(&back);
        place_remove(&place);
    }
}

static void check_runs_come_back(uint64_t count, uint64_t run_count)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct manifest_segment segments[16];
    struct manifest_run runs[MANIFEST_RUNS_MAX];
    struct manifest manifest = manifest_of(count, segments);
    struct manifest back;

    add_runs(&manifest, run_count, runs);
    assert_ok(manifest_write(&manifest, place.dir, &config));
    assert_ok(manifest_read(place.dir, &config, &back));
    assert_int_equal(back.count, count);
    assert_int_equal(back.run_count, run_count);
    assert_int_equal(back.next_run, manifest.next_run);
    assert_int_equal(back.flags, MANIFEST_DOUBTS);
    assert_int_equal(back.tombstones, manifest.tombstones);
    for (uint64_t i = 0; i < count; i++)
        check_segment(&back.segments[i], &segments[i]);
    for (uint64_t i = 0; i < run_count; i++) {
        assert_int_equal(back.runs[i].id, runs[i].id);
        assert_int_equal(back.runs[i].count, runs[i].count);
        assert_int_equal(back.runs[i].bytes, runs[i].bytes);
        assert_true(back.runs[i].checksum == runs[i].checksum);
    }
    manifest_release(&back);
    assert_null(back.segments);
    assert_null(back.runs);
    place_remove(&place);
}

static void test_runs_come_back_in_their_order(void **state)
{
    static const uint64_t counts[] = {0, 1, 16};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        for (uint64_t run_count = 0; run_count <= MANIFEST_RUNS_MAX; run_count++)
            check_runs_come_back(counts[i], run_count);
}

static void test_a_manifest_is_replaced_whole_and_private(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct manifest_segment segments[16];
    struct manifest manifest = manifest_of(16, segments);
    struct manifest back;
    struct stat info;

    (void)state;
    assert_ok(manifest_write(&manifest, place.dir, &config));
    write_file(path_in(place.path, "MANIFEST.tmp"), "half", 4);
    manifest = manifest_of(1, segments);
    assert_ok(manifest_write(&manifest, place.dir, &config));
    assert_false(path_exists(path_in(place.path, "MANIFEST.tmp")));
    assert_ok(manifest_read(place.dir, &config, &back));
    assert_int_equal(back.count, 1);
    assert_int_equal(stat(path_in(place.path, MANIFEST_NAME), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    manifest_release(&back);
    place_remove(&place);
}

static void test_a_manifest_that_cannot_be_written_leaves_the_old_one(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct manifest_segment segments[16];
    struct manifest manifest = manifest_of(2, segments);
    struct manifest back;

    (void)state;
    assert_ok(manifest_write(&manifest, place.dir, &config));
    assert_int_equal(mkdir(path_in(place.path, "MANIFEST.tmp"), 0700), 0);
    manifest = manifest_of(3, segments);
    assert_int_not_equal(manifest_write(&manifest, place.dir, &config), CASK_OK);
    assert_ok(manifest_read(place.dir, &config, &back));
    assert_int_equal(back.count, 2);
    manifest_release(&back);
    place_remove(&place);
}

static void test_a_missing_manifest_is_not_found(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct manifest manifest;

    (void)state;
    assert_int_equal(manifest_read(place.dir, &config, &manifest), CASK_NOTFOUND);
    place_remove(&place);
}

/* ---- what is not believed -------------------------------------------------------------------- */

static void test_parse_rejects_every_flipped_bit(void **state)
{
    size_t size;
    uint8_t *bytes = file_of_manifest(3, &size);

    (void)state;
    assert_ok(parse(bytes, size));
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
        assert_int_equal(parse(bytes, size), CASK_ECORRUPT);
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
    }
    free(bytes);
}

static void test_parse_rejects_every_other_length(void **state)
{
    size_t size;
    uint8_t *bytes = file_of_manifest(3, &size);
    uint8_t *longer = calloc(1, size + 100);

    (void)state;
    memcpy(longer, bytes, size);
    for (size_t length = 0; length < size + 100; length++) {
        assert_int_equal(parse(longer, length), length == size ? CASK_OK : CASK_ECORRUPT);
        if (length >= HEADER + 8 && length != size) {
            uint8_t *copy = malloc(length);

            memcpy(copy, longer, length);
            assert_int_equal(parse_fixed(copy, length), CASK_ECORRUPT);
            free(copy);
        }
    }
    free(longer);
    free(bytes);
}

static void test_parse_rejects_the_manifest_of_another_shard_or_store(void **state)
{
    struct log_config config = config_of_test();
    struct manifest manifest;
    size_t size;
    uint8_t *bytes = file_of_manifest(3, &size);

    (void)state;
    config.shard++;
    assert_int_equal(manifest_parse(bytes, size, &config, &manifest), CASK_ECORRUPT);
    config.shard--;
    config.uuid[0]++;
    assert_int_equal(manifest_parse(bytes, size, &config, &manifest), CASK_ECORRUPT);
    free(bytes);
}

static void test_parse_tells_a_newer_format_from_damage(void **state)
{
    size_t size;
    uint8_t *bytes = file_of_manifest(3, &size);

    (void)state;
    put_u32(bytes + AT_VERSION, 2);
    assert_int_equal(parse(bytes, size), CASK_ECORRUPT); /* by its checksum */
    assert_int_equal(parse_fixed(bytes, size), CASK_EVERSION);
    put_u32(bytes + AT_VERSION, UINT32_MAX);
    assert_int_equal(parse_fixed(bytes, size), CASK_EVERSION);
    put_u32(bytes + AT_VERSION, 0);
    assert_int_equal(parse_fixed(bytes, size), CASK_ECORRUPT);
    free(bytes);
}

/* T33: counts whose product with the size of an entry wraps around. */
static void test_parse_rejects_counts_that_the_file_cannot_hold(void **state)
{
    static const uint64_t counts[] = {0,
                                      3,
                                      5,
                                      UINT64_MAX,
                                      UINT64_MAX / SEGMENT + 1,
                                      UINT64_MAX / SEGMENT + 5,
                                      ((uint64_t)1 << 61) + 4,
                                      ((uint64_t)1 << 32) + 4};

    (void)state;
    assert_ok(with_number(AT_COUNT, 4));
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        assert_int_equal(with_number(AT_COUNT, counts[i]), CASK_ECORRUPT);
}

/* T33: the same of the runs. 16 of them take what the 3 and the 4 segments take. */
static void test_parse_rejects_numbers_of_runs_that_the_file_cannot_hold(void **state)
{
    static const uint64_t counts[] = {0,
                                      RUNS - 1,
                                      RUNS + 1,
                                      16,
                                      17,
                                      MANIFEST_RUNS_MAX,
                                      MANIFEST_RUNS_MAX + 1,
                                      UINT64_MAX,
                                      UINT64_MAX / RUN + 1 + RUNS,
                                      ((uint64_t)1 << 32) + RUNS};

    (void)state;
    assert_ok(with_number(AT_RUNS, RUNS));
    for (size_t i = 0; i < COUNT_OF(counts); i++)
        assert_int_equal(with_number(AT_RUNS, counts[i]), CASK_ECORRUPT);
}

static uint8_t *file_of_runs(uint64_t run_count, size_t *ret_size)
{
    uint8_t *good = file_of_manifest(1, ret_size);
    size_t size = HEADER + SEGMENT + (size_t)run_count * RUN + 8;
    uint8_t *bytes = calloc(1, size);

    memcpy(bytes, good, HEADER + SEGMENT);
    free(good);
    put_u64(bytes + AT_RUNS, run_count);
    put_u64(bytes + AT_NEXT_RUN, run_count + 1);
    for (uint64_t i = 0; i < run_count; i++)
        put_u64(bytes + HEADER + SEGMENT + i * RUN, i + 1);
    *ret_size = size;
    return bytes;
}

static void test_parse_rejects_too_many_runs_that_are_there(void **state)
{
    (void)state;
    for (uint64_t count = MANIFEST_RUNS_MAX - 1; count < MANIFEST_RUNS_MAX + 4; count++) {
        size_t size;
        uint8_t *bytes = file_of_runs(count, &size);

        assert_int_equal(parse_fixed(bytes, size),
                         count <= MANIFEST_RUNS_MAX ? CASK_OK : CASK_ECORRUPT);
        free(bytes);
    }
}

/* The three are 3, 1 and 2. */
static void test_parse_rejects_ids_of_runs_that_are_repeated_or_out_of_range(void **state)
{
    (void)state;
    assert_ok(with_run_number(0, 0, NEXT_RUN - 1));
    assert_ok(with_run_number(2, 0, 4));
    assert_int_equal(with_run_number(0, 0, NEXT_RUN), CASK_ECORRUPT);
    assert_int_equal(with_run_number(2, 0, UINT64_MAX), CASK_ECORRUPT);
    for (unsigned run = 0; run < RUNS; run++)
        assert_int_equal(with_run_number(run, 0, 0), CASK_ECORRUPT);
    assert_int_equal(with_run_number(0, 0, 1), CASK_ECORRUPT);
    assert_int_equal(with_run_number(0, 0, 2), CASK_ECORRUPT);
    assert_int_equal(with_run_number(2, 0, 1), CASK_ECORRUPT);
    assert_int_equal(with_run_number(2, 0, 3), CASK_ECORRUPT);
    assert_ok(with_number(AT_NEXT_RUN, 4));
    assert_int_equal(with_number(AT_NEXT_RUN, 3), CASK_ECORRUPT);
    assert_int_equal(with_number(AT_NEXT_RUN, 0), CASK_ECORRUPT);
    assert_ok(with_number(AT_NEXT_RUN, MANIFEST_NEXT_RUN_MAX));
    assert_int_equal(with_number(AT_NEXT_RUN, MANIFEST_NEXT_RUN_MAX + 1), CASK_ECORRUPT);
    assert_int_equal(with_number(AT_NEXT_RUN, UINT64_MAX), CASK_ECORRUPT);
}

static void test_parse_rejects_unknown_flags_of_the_manifest(void **state)
{
    (void)state;
    assert_ok(with_number(AT_FLAGS, 0));
    assert_ok(with_number(AT_FLAGS, MANIFEST_DOUBTS));
    for (uint64_t flag = 1; flag <= UINT32_MAX; flag <<= 1) {
        if (flag == MANIFEST_DOUBTS)
            continue;
        assert_int_equal(with_number(AT_FLAGS, flag), CASK_ECORRUPT);
        assert_int_equal(with_number(AT_FLAGS, flag | MANIFEST_DOUBTS), CASK_ECORRUPT);
    }
}

/* The segments are sealed, sealed, sealed and clean, of 64, 96, 128 and 160 bytes. */
static void test_parse_rejects_more_indexed_than_a_segment_has(void **state)
{
    (void)state;
    assert_ok(with_segment_number(1, AT_INDEXED, 0));
    assert_ok(with_segment_number(1, AT_INDEXED, 96));
    assert_int_equal(with_segment_number(1, AT_INDEXED, 97), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(1, AT_INDEXED, UINT64_MAX), CASK_ECORRUPT);
    assert_ok(with_segment_number(3, AT_INDEXED, SEGMENT_BYTES_MAX));
    assert_int_equal(with_segment_number(3, AT_INDEXED, SEGMENT_BYTES_MAX + 1), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(3, AT_INDEXED, UINT64_MAX), CASK_ECORRUPT);
}

static void test_parse_believes_indexed_where_all_its_records_are_dead(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct manifest_segment segments[16];
    struct manifest manifest = manifest_of(2, segments);
    struct manifest back;

    (void)state;
    assert_ok(manifest_write(&manifest, place.dir, &config));
    assert_ok(manifest_read(place.dir, &config, &back));
    assert_int_equal(back.run_count, 0);
    assert_int_equal(back.segments[1].indexed, 80);
    manifest_release(&back);
    place_remove(&place);
}

/* T33: the sum of live and dead may wrap around. */
static void test_parse_rejects_more_live_and_dead_than_a_segment_holds(void **state)
{
    const uint64_t most = SEGMENT_BYTES_MAX;

    (void)state;
    assert_ok(with_segment_pair(AT_LIVE, most, AT_DEAD, 0));
    assert_ok(with_segment_pair(AT_LIVE, 0, AT_DEAD, most));
    assert_ok(with_segment_pair(AT_LIVE, most - 7, AT_DEAD, 7));
    assert_int_equal(with_segment_pair(AT_LIVE, most + 1, AT_DEAD, 0), CASK_ECORRUPT);
    assert_int_equal(with_segment_pair(AT_LIVE, 0, AT_DEAD, most + 1), CASK_ECORRUPT);
    assert_int_equal(with_segment_pair(AT_LIVE, most - 7, AT_DEAD, 8), CASK_ECORRUPT);
    assert_int_equal(with_segment_pair(AT_LIVE, UINT64_MAX, AT_DEAD, 1), CASK_ECORRUPT);
    assert_int_equal(with_segment_pair(AT_LIVE, 1, AT_DEAD, UINT64_MAX), CASK_ECORRUPT);
    assert_int_equal(with_segment_pair(AT_LIVE, (uint64_t)1 << 63, AT_DEAD, (uint64_t)1 << 63),
                     CASK_ECORRUPT);
}

/* Memory is taken by the number of records. */
static void test_parse_rejects_more_records_than_a_segment_holds(void **state)
{
    const uint64_t most = SEGMENT_BYTES_MAX / RECORD_MIN_BYTES;

    (void)state;
    assert_ok(with_segment_pair(AT_RECORDS, most, AT_DEAD, 0));
    assert_int_equal(with_segment_pair(AT_RECORDS, most + 1, AT_DEAD, 0), CASK_ECORRUPT);
    assert_int_equal(with_segment_pair(AT_RECORDS, UINT64_MAX, AT_DEAD, 0), CASK_ECORRUPT);
}

static void test_parse_rejects_sequence_numbers_of_segments_out_of_range(void **state)
{
    const size_t min = AT_MIN_SEQUENCE;
    const size_t max = AT_MAX_SEQUENCE;

    (void)state;
    assert_ok(with_segment_pair(min, 0, max, 0));
    assert_ok(with_segment_pair(min, 9, max, 9));
    assert_ok(with_segment_pair(min, RECORD_SEQUENCE_MAX, max, RECORD_SEQUENCE_MAX));
    assert_int_equal(with_segment_pair(min, 10, max, 9), CASK_ECORRUPT);
    assert_int_equal(with_segment_pair(min, 1, max, 0), CASK_ECORRUPT);
    assert_int_equal(with_segment_pair(min, 1, max, RECORD_SEQUENCE_MAX + 1), CASK_ECORRUPT);
    assert_int_equal(with_segment_pair(min, UINT64_MAX, max, UINT64_MAX), CASK_ECORRUPT);
    assert_int_equal(with_segment_pair(min, UINT64_MAX, max, 1), CASK_ECORRUPT);
}

/* Ids rise, so that none is listed twice; none is zero, over the next one, or over what a location
 * can name. */
static void test_parse_rejects_ids_out_of_order_or_range(void **state)
{
    (void)state;
    assert_ok(with_segment_number(1, 0, 4));
    assert_ok(with_segment_number(1, 0, 6));
    assert_int_equal(with_segment_number(1, 0, 3), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(1, 0, 7), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(1, 0, 2), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(0, 0, 0), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(3, 0, 18), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(3, 0, UINT64_MAX), CASK_ECORRUPT);
    assert_int_equal(with_number(AT_NEXT_SEGMENT, 9), CASK_ECORRUPT);
    assert_ok(with_number(AT_NEXT_SEGMENT, 10));
}

static void test_parse_rejects_ids_that_no_location_can_name(void **state)
{
    struct log_config config = config_of_test();
    uint64_t most = location_segment_max(config.offset_bits);
    size_t size;
    uint8_t *bytes = file_of_manifest(4, &size);

    (void)state;
    put_u64(bytes + AT_NEXT_SEGMENT, most + 1);
    put_u64(bytes + HEADER + 3 * SEGMENT, most);
    assert_ok(parse_fixed(bytes, size));
    put_u64(bytes + HEADER + 3 * SEGMENT, most + 1);
    assert_int_equal(parse_fixed(bytes, size), CASK_ECORRUPT);
    put_u64(bytes + AT_NEXT_SEGMENT, most + 2);
    assert_int_equal(parse_fixed(bytes, size), CASK_ECORRUPT);
    free(bytes);
}

static void test_parse_rejects_unknown_flags_and_lengths_without_a_header(void **state)
{
    (void)state;
    assert_int_equal(with_segment_number(1, AT_SEGMENT_FLAGS, 4), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(1, AT_SEGMENT_FLAGS, 0x80000000), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(1, AT_LENGTH, 63), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(3, AT_LENGTH, 0), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(1, AT_LENGTH, UINT64_MAX), CASK_ECORRUPT);
}

/* They are counted on from, and must not wrap around. */
static void test_parse_rejects_sequence_and_batch_numbers_out_of_range(void **state)
{
    (void)state;
    assert_ok(with_number(AT_NEXT_SEQUENCE, RECORD_SEQUENCE_MAX));
    assert_int_equal(with_number(AT_NEXT_SEQUENCE, RECORD_SEQUENCE_MAX + 1), CASK_ECORRUPT);
    assert_int_equal(with_number(AT_NEXT_SEQUENCE, UINT64_MAX), CASK_ECORRUPT);
    assert_int_equal(with_number(AT_NEXT_SEGMENT, UINT64_MAX), CASK_ECORRUPT);
    assert_int_equal(with_number(AT_SETTLED_BATCH, UINT64_MAX), CASK_ECORRUPT);
}

static void check_believed(const struct manifest *manifest, uint64_t most)
{
    assert_true(manifest->run_count <= MANIFEST_RUNS_MAX &&
                (manifest->flags & ~MANIFEST_DOUBTS) == 0);
    for (uint64_t i = 0; i < manifest->count; i++) {
        const struct manifest_segment *segment = &manifest->segments[i];

        assert_true(segment->id > 0 && segment->id <= most &&
                    segment->id < manifest->next_segment &&
                    (i == 0 || segment->id > manifest->segments[i - 1].id));
        assert_true(segment->indexed <= SEGMENT_BYTES_MAX);
        assert_true(segment->flags != MANIFEST_SEALED || segment->indexed <= segment->length);
        assert_true(segment->live_bytes <= SEGMENT_BYTES_MAX &&
                    segment->live_bytes + segment->dead_bytes >= segment->live_bytes &&
                    segment->live_bytes + segment->dead_bytes <= SEGMENT_BYTES_MAX);
        assert_true(segment->records <= SEGMENT_BYTES_MAX / RECORD_MIN_BYTES);
        assert_true(segment->min_sequence <= segment->max_sequence &&
                    segment->max_sequence <= RECORD_SEQUENCE_MAX);
    }
    for (uint64_t i = 0; i < manifest->run_count; i++) {
        assert_true(manifest->runs[i].id > 0 && manifest->runs[i].id < manifest->next_run);
        for (uint64_t j = 0; j < i; j++)
            assert_true(manifest->runs[i].id != manifest->runs[j].id);
    }
}

static void test_parse_survives_random_changes_behind_the_checksum(void **state)
{
    struct log_config config = config_of_test();
    uint64_t most = location_segment_max(config.offset_bits);
    struct rng rng = {6};
    size_t size;
    uint8_t *good = file_of_manifest(6, &size);
    uint8_t *bytes = malloc(size);

    (void)state;
    for (int i = 0; i < 100000; i++) {
        struct manifest manifest;

        memcpy(bytes, good, size);
        for (uint64_t n = 1 + rng_below(&rng, 3); n > 0; n--)
            bytes[48 + rng_below(&rng, size - 56)] = (uint8_t)(rng_percent(&rng, 30)
                                                                   ? 0xff
                                                                   : rng_next(&rng));
        put_u64(bytes + size - 8, checksum_bytes(bytes, size - 8));
        if (manifest_parse(bytes, size, &config, &manifest) != CASK_OK)
            continue;
        check_believed(&manifest, most);
        manifest_release(&manifest);
    }
    free(bytes);
    free(good);
}

static void test_a_huge_sparse_file_is_not_loaded(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct io_file *file;
    struct manifest manifest;

    (void)state;
    assert_ok(io_open(place.dir, MANIFEST_NAME, IO_CREATE_NEW, &file));
    assert_ok(io_truncate(file, (uint64_t)1 << 40));
    io_close(file);
    assert_int_equal(manifest_read(place.dir, &config, &manifest), CASK_ECORRUPT);
    place_remove(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_manifest_comes_back),
        cmocka_unit_test(test_runs_come_back_in_their_order),
        cmocka_unit_test(test_a_manifest_is_replaced_whole_and_private),
        cmocka_unit_test(test_a_manifest_that_cannot_be_written_leaves_the_old_one),
        cmocka_unit_test(test_a_missing_manifest_is_not_found),
        cmocka_unit_test(test_parse_rejects_every_flipped_bit),
        cmocka_unit_test(test_parse_rejects_every_other_length),
        cmocka_unit_test(test_parse_rejects_the_manifest_of_another_shard_or_store),
        cmocka_unit_test(test_parse_tells_a_newer_format_from_damage),
        cmocka_unit_test(test_parse_rejects_counts_that_the_file_cannot_hold),
        cmocka_unit_test(test_parse_rejects_numbers_of_runs_that_the_file_cannot_hold),
        cmocka_unit_test(test_parse_rejects_too_many_runs_that_are_there),
        cmocka_unit_test(test_parse_rejects_ids_of_runs_that_are_repeated_or_out_of_range),
        cmocka_unit_test(test_parse_rejects_unknown_flags_of_the_manifest),
        cmocka_unit_test(test_parse_rejects_more_indexed_than_a_segment_has),
        cmocka_unit_test(test_parse_believes_indexed_where_all_its_records_are_dead),
        cmocka_unit_test(test_parse_rejects_more_live_and_dead_than_a_segment_holds),
        cmocka_unit_test(test_parse_rejects_more_records_than_a_segment_holds),
        cmocka_unit_test(test_parse_rejects_sequence_numbers_of_segments_out_of_range),
        cmocka_unit_test(test_parse_rejects_ids_out_of_order_or_range),
        cmocka_unit_test(test_parse_rejects_ids_that_no_location_can_name),
        cmocka_unit_test(test_parse_rejects_unknown_flags_and_lengths_without_a_header),
        cmocka_unit_test(test_parse_rejects_sequence_and_batch_numbers_out_of_range),
        cmocka_unit_test(test_parse_survives_random_changes_behind_the_checksum),
        cmocka_unit_test(test_a_huge_sparse_file_is_not_loaded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
