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
#define HEADER 112
#define SEGMENT 40

static struct log_config config_of_test(void)
{
    return unit_config(unit_modes[0]);
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
        segments[i] = (struct manifest_segment){.id = 2 * i + 3,
                                                .predecessor = i == 0 ? 0 : 2 * i + 1,
                                                .length = 64 + i * 32,
                                                .checksum = mix64(i),
                                                .flags = i + 1 < count ? MANIFEST_SEALED
                                                                       : MANIFEST_CLEAN};
    return manifest;
}

static uint8_t *file_of_manifest(uint64_t count, size_t *ret_size)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct manifest_segment segments[16];
    struct manifest manifest = manifest_of(count, segments);
    uint8_t *bytes;

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

/* ---- writing and reading --------------------------------------------------------------------- */

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
        for (uint64_t i = 0; i < count; i++) {
            assert_int_equal(back.segments[i].id, segments[i].id);
            assert_int_equal(back.segments[i].predecessor, segments[i].predecessor);
            assert_int_equal(back.segments[i].length, segments[i].length);
            assert_true(back.segments[i].checksum == segments[i].checksum);
            assert_int_equal(back.segments[i].flags, segments[i].flags);
        }
        manifest_release(&back);
        place_remove(&place);
    }
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

static void test_parse_rejects_runs_until_there_are_any(void **state)
{
    (void)state;
    assert_int_equal(with_number(AT_RUNS, 1), CASK_ECORRUPT);
    assert_int_equal(with_number(AT_RUNS, UINT64_MAX), CASK_ECORRUPT);
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
    assert_int_equal(with_segment_number(1, 32, 4), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(1, 32, 0x80000000), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(1, 16, 63), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(3, 16, 0), CASK_ECORRUPT);
    assert_int_equal(with_segment_number(1, 16, UINT64_MAX), CASK_ECORRUPT);
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
        for (uint64_t j = 0; j < manifest.count; j++)
            assert_true(manifest.segments[j].id > 0 && manifest.segments[j].id <= most &&
                        manifest.segments[j].id < manifest.next_segment &&
                        (j == 0 || manifest.segments[j].id > manifest.segments[j - 1].id));
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
        cmocka_unit_test(test_a_manifest_is_replaced_whole_and_private),
        cmocka_unit_test(test_a_manifest_that_cannot_be_written_leaves_the_old_one),
        cmocka_unit_test(test_a_missing_manifest_is_not_found),
        cmocka_unit_test(test_parse_rejects_every_flipped_bit),
        cmocka_unit_test(test_parse_rejects_every_other_length),
        cmocka_unit_test(test_parse_rejects_the_manifest_of_another_shard_or_store),
        cmocka_unit_test(test_parse_tells_a_newer_format_from_damage),
        cmocka_unit_test(test_parse_rejects_counts_that_the_file_cannot_hold),
        cmocka_unit_test(test_parse_rejects_runs_until_there_are_any),
        cmocka_unit_test(test_parse_rejects_ids_out_of_order_or_range),
        cmocka_unit_test(test_parse_rejects_ids_that_no_location_can_name),
        cmocka_unit_test(test_parse_rejects_unknown_flags_and_lengths_without_a_header),
        cmocka_unit_test(test_parse_rejects_sequence_and_batch_numbers_out_of_range),
        cmocka_unit_test(test_parse_survives_random_changes_behind_the_checksum),
        cmocka_unit_test(test_a_huge_sparse_file_is_not_loaded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
