/* store/superblock: what is fixed for a store's life, and that a wrong one is not believed. */
#include <sys/stat.h>

#include "unit.h"

#include "base/checksum.h"
#include "log/location.h"
#include "store/superblock.h"

#define AT_VERSION 8
#define AT_SHARDS 12
#define AT_OFFSET_BITS 40
#define AT_ZERO 44
#define AT_CHECKSUM 56

static uint8_t *file_of_superblock(size_t *ret_size)
{
    struct place place = place_make();
    struct superblock superblock;
    uint8_t *bytes;

    assert_ok(superblock_make(16, 1 << 20, &superblock));
    assert_ok(superblock_write(&superblock, place.dir));
    bytes = read_whole_file(path_in(place.path, SUPERBLOCK_NAME), ret_size);
    place_remove(&place);
    return bytes;
}

static int parse(const uint8_t *bytes, size_t size)
{
    struct superblock superblock;
    uint8_t *exact = malloc(size + (size == 0));
    int status;

    bytes_copy(exact, bytes, size);
    status = superblock_parse(exact, size, &superblock);
    free(exact);
    return status;
}

static int with_number(size_t at, uint32_t value)
{
    size_t size;
    uint8_t *bytes = file_of_superblock(&size);
    int status;

    put_u32(bytes + at, value);
    put_u64(bytes + AT_CHECKSUM, checksum_bytes(bytes, AT_CHECKSUM));
    status = parse(bytes, size);
    free(bytes);
    return status;
}

static void test_a_superblock_comes_back(void **state)
{
    struct place place = place_make();
    struct superblock superblock;
    struct superblock back;
    struct stat info;

    (void)state;
    assert_ok(superblock_make(64, 1 << 20, &superblock));
    assert_ok(superblock_write(&superblock, place.dir));
    assert_ok(superblock_read(place.dir, &back));
    assert_int_equal(back.shard_count, 64);
    assert_int_equal(back.offset_bits, superblock.offset_bits);
    assert_true(back.hash_seed == superblock.hash_seed);
    assert_memory_equal(back.uuid, superblock.uuid, 16);
    assert_false(path_exists(path_in(place.path, SUPERBLOCK_TMP)));
    assert_int_equal(stat(path_in(place.path, SUPERBLOCK_NAME), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(info.st_size, SUPERBLOCK_BYTES);
    place_remove(&place);
}

static void test_every_store_is_another(void **state)
{
    struct superblock first;
    struct superblock second;

    (void)state;
    assert_ok(superblock_make(1, 1 << 20, &first));
    assert_ok(superblock_make(1, 1 << 20, &second));
    assert_memory_not_equal(first.uuid, second.uuid, 16);
    assert_true(first.hash_seed != second.hash_seed);
}

static void test_offsets_get_the_bits_that_segments_need(void **state)
{
    static const struct {
        uint64_t segment_bytes;
        unsigned bits;
    } cases[] = {{256, 25},
                 {(uint64_t)64 << 20, 25},
                 {(uint64_t)256 << 20, 25},
                 {((uint64_t)256 << 20) + 1, 26},
                 {(uint64_t)512 << 20, 26},
                 {(uint64_t)1 << 30, 27},
                 {((uint64_t)1 << 30) + 1, 28},
                 {(uint64_t)2 << 30, 28}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct superblock superblock;

        assert_ok(superblock_make(1, cases[i].segment_bytes, &superblock));
        assert_int_equal(superblock.offset_bits, cases[i].bits);
    }
}

static void test_what_an_interrupted_creation_left_is_replaced(void **state)
{
    struct place place = place_make();
    struct superblock superblock;

    (void)state;
    write_file(path_in(place.path, SUPERBLOCK_TMP), "half", 4);
    assert_ok(superblock_make(1, 1 << 20, &superblock));
    assert_ok(superblock_write(&superblock, place.dir));
    assert_ok(superblock_read(place.dir, &superblock));
    assert_false(path_exists(path_in(place.path, SUPERBLOCK_TMP)));
    place_remove(&place);
}

static void test_a_missing_superblock_is_not_found(void **state)
{
    struct place place = place_make();
    struct superblock superblock;

    (void)state;
    assert_int_equal(superblock_read(place.dir, &superblock), CASK_NOTFOUND);
    assert_int_equal(mkdir(path_in(place.path, SUPERBLOCK_NAME), 0700), 0);
    assert_int_equal(superblock_read(place.dir, &superblock), CASK_ENOTSTORE);
    place_remove(&place);
}

static void test_parse_rejects_every_flipped_bit(void **state)
{
    size_t size;
    uint8_t *bytes = file_of_superblock(&size);

    (void)state;
    assert_ok(parse(bytes, size));
    for (size_t bit = 0; bit < size * 8; bit++) {
        int status;

        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
        status = parse(bytes, size);
        /* A file that does not even begin like one is another kind of file. */
        assert_true(status == CASK_ECORRUPT || (bit < 56 && status == CASK_ENOTSTORE));
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
    }
    free(bytes);
}

static void test_read_rejects_every_other_length(void **state)
{
    struct place place = place_make();
    struct superblock superblock;
    size_t size;
    uint8_t *bytes = file_of_superblock(&size);
    uint8_t *longer = calloc(1, size + 10);

    (void)state;
    memcpy(longer, bytes, size);
    for (size_t length = 0; length < size + 10; length++) {
        write_file(path_in(place.path, SUPERBLOCK_NAME), longer, length);
        assert_int_equal(superblock_read(place.dir, &superblock),
                         length == size ? CASK_OK : CASK_ECORRUPT);
    }
    free(longer);
    free(bytes);
    place_remove(&place);
}

static void test_parse_tells_a_newer_format_from_damage(void **state)
{
    (void)state;
    assert_int_equal(with_number(AT_VERSION, 1), CASK_OK);
    assert_int_equal(with_number(AT_VERSION, 2), CASK_EVERSION);
    assert_int_equal(with_number(AT_VERSION, UINT32_MAX), CASK_EVERSION);
    assert_int_equal(with_number(AT_VERSION, 0), CASK_ECORRUPT);
}

static void test_parse_tells_other_files_from_damage(void **state)
{
    uint8_t other[SUPERBLOCK_BYTES] = "#!/bin/sh\n";

    (void)state;
    assert_int_equal(parse(other, sizeof other), CASK_ENOTSTORE);
}

static void test_parse_rejects_numbers_out_of_range(void **state)
{
    static const uint32_t shards[] = {0, 3, 5, 255, 257, 512, 0x80000000, UINT32_MAX};
    static const uint32_t bits[] = {0, 24, 29, 48, 64, UINT32_MAX};

    (void)state;
    for (uint32_t good = 1; good <= 256; good *= 2)
        assert_int_equal(with_number(AT_SHARDS, good), CASK_OK);
    for (size_t i = 0; i < COUNT_OF(shards); i++)
        assert_int_equal(with_number(AT_SHARDS, shards[i]), CASK_ECORRUPT);
    for (uint32_t good = LOCATION_OFFSET_BITS_MIN; good <= LOCATION_OFFSET_BITS_MAX; good++)
        assert_int_equal(with_number(AT_OFFSET_BITS, good), CASK_OK);
    for (size_t i = 0; i < COUNT_OF(bits); i++)
        assert_int_equal(with_number(AT_OFFSET_BITS, bits[i]), CASK_ECORRUPT);
    for (size_t at = AT_ZERO; at < AT_CHECKSUM; at += 4)
        assert_int_equal(with_number(at, 1), CASK_ECORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_superblock_comes_back),
        cmocka_unit_test(test_every_store_is_another),
        cmocka_unit_test(test_offsets_get_the_bits_that_segments_need),
        cmocka_unit_test(test_what_an_interrupted_creation_left_is_replaced),
        cmocka_unit_test(test_a_missing_superblock_is_not_found),
        cmocka_unit_test(test_parse_rejects_every_flipped_bit),
        cmocka_unit_test(test_read_rejects_every_other_length),
        cmocka_unit_test(test_parse_tells_a_newer_format_from_damage),
        cmocka_unit_test(test_parse_tells_other_files_from_damage),
        cmocka_unit_test(test_parse_rejects_numbers_out_of_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
