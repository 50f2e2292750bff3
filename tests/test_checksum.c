/* base/checksum.h: checksums of bytes, and of bytes at a place. */
#include "unit.h"

#include "base/checksum.h"

static void test_every_bit_counts(void **state)
{
    /* Sizes on both sides of each of XXH3's inner borders. */
    static const size_t sizes[] = {1, 3, 4, 8, 9, 16, 17, 56, 128, 129, 240, 241, 1024, 1500};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint8_t *bytes = unit_bytes(sizes[i], i);
        uint64_t whole = checksum_bytes(bytes, sizes[i]);
        uint32_t placed = checksum_placed(bytes, sizes[i], 77);

        for (size_t bit = 0; bit < sizes[i] * 8; bit++) {
            bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
            assert_true(checksum_bytes(bytes, sizes[i]) != whole);
            assert_true(checksum_placed(bytes, sizes[i], 77) != placed);
            bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
        }
        assert_true(checksum_bytes(bytes, sizes[i]) == whole);
        free(bytes);
    }
}

static void test_the_place_counts(void **state)
{
    static const size_t sizes[] = {13, 100, 200, 300, 5000};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint8_t *bytes = unit_bytes(sizes[i], i);
        uint32_t here = checksum_placed(bytes, sizes[i], 0x1234567890abcdefu);

        for (unsigned bit = 0; bit < 64; bit++)
            assert_true(here !=
                        checksum_placed(bytes, sizes[i], 0x1234567890abcdefu ^ (uint64_t)1 << bit));
        free(bytes);
    }
}

static void test_a_placed_checksum_can_be_made_in_pieces(void **state)
{
    static const size_t sizes[] = {20, 240, 241, 4096, 70000};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint8_t *bytes = unit_bytes(sizes[i], i);
        XXH3_state_t stream;

        XXH3_INITSTATE(&stream);
        XXH3_64bits_reset_withSeed(&stream, 5);
        for (size_t at = 0; at < sizes[i]; at += 7)
            XXH3_64bits_update(&stream, bytes + at, sizes[i] - at < 7 ? sizes[i] - at : 7);
        assert_true((uint32_t)XXH3_64bits_digest(&stream) == checksum_placed(bytes, sizes[i], 5));
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_the_place_counts),
        cmocka_unit_test(test_a_placed_checksum_can_be_made_in_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
