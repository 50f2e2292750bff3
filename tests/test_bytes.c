/* base/bytes.h: integers at byte offsets, alignment, slices. */
#include "unit.h"

#include "base/bytes.h"

static void test_integers_are_stored_little_endian(void **state)
{
    uint8_t bytes[8] = {0};

    (void)state;
    put_u16(bytes, 0x0201);
    assert_memory_equal(bytes, "\x01\x02", 2);
    put_u32(bytes, 0x04030201);
    assert_memory_equal(bytes, "\x01\x02\x03\x04", 4);
    put_u48(bytes, 0x060504030201);
    assert_memory_equal(bytes, "\x01\x02\x03\x04\x05\x06", 6);
    put_u56(bytes, 0x07060504030201);
    assert_memory_equal(bytes, "\x01\x02\x03\x04\x05\x06\x07", 7);
    put_u64(bytes, 0x0807060504030201);
    assert_memory_equal(bytes, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
}

static void test_integers_come_back_at_their_extremes(void **state)
{
    uint8_t bytes[8];

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t low = ((uint64_t)1 << bit) - 1;
        uint64_t values[] = {low, low + 1, ~low};

        for (size_t i = 0; i < COUNT_OF(values); i++) {
            uint64_t v = values[i];

            put_u16(bytes, (uint16_t)v);
            assert_int_equal(get_u16(bytes), (uint16_t)v);
            put_u32(bytes, (uint32_t)v);
            assert_int_equal(get_u32(bytes), (uint32_t)v);
            put_u48(bytes, v & 0xffffffffffff);
            assert_int_equal(get_u48(bytes), v & 0xffffffffffff);
            put_u56(bytes, v & 0xffffffffffffff);
            assert_int_equal(get_u56(bytes), v & 0xffffffffffffff);
            put_u64(bytes, v);
            assert_true(get_u64(bytes) == v);
        }
    }
}

static void test_integers_touch_no_byte_but_their_own(void **state)
{
    (void)state;
    for (size_t at = 0; at < 8; at++) {
        uint8_t bytes[24];
        uint8_t expected[24];

        memset(bytes, 0xee, sizeof bytes);
        memset(expected, 0xee, sizeof expected);
        put_u56(bytes + 8 + at, 0);
        memset(expected + 8 + at, 0, 7);
        assert_memory_equal(bytes, expected, sizeof bytes);
        put_u48(bytes + 8 + at, 0xffffffffffff);
        memset(expected + 8 + at, 0xff, 6);
        assert_memory_equal(bytes, expected, sizeof bytes);
    }
}

static void test_align_up_gives_the_next_multiple(void **state)
{
    (void)state;
    assert_int_equal(align_up(0, 8), 0);
    assert_int_equal(align_up(1, 8), 8);
    assert_int_equal(align_up(8, 8), 8);
    assert_int_equal(align_up(4097, 4096), 8192);
    assert_true(align_up(UINT64_MAX - 7, 8) == UINT64_MAX - 7);
}

static void test_min_and_max_hold_for_the_largest_numbers(void **state)
{
    (void)state;
    assert_true(min_u64(UINT64_MAX, 1) == 1);
    assert_true(max_u64(UINT64_MAX, 1) == UINT64_MAX);
    assert_true(min_u64(2, 2) == 2 && max_u64(2, 2) == 2);
}

static void test_empty_slices_may_be_null(void **state)
{
    char one = 'x';

    (void)state;
    assert_true(bytes_equal(NULL, NULL, 0));
    assert_true(bytes_equal(NULL, &one, 0));
    assert_false(bytes_equal("a", "b", 1));
    bytes_copy(NULL, NULL, 0);
    bytes_copy(&one, NULL, 0);
    assert_int_equal(one, 'x');
    bytes_copy(&one, "y", 1);
    assert_int_equal(one, 'y');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers_are_stored_little_endian),
        cmocka_unit_test(test_integers_come_back_at_their_extremes),
        cmocka_unit_test(test_integers_touch_no_byte_but_their_own),
        cmocka_unit_test(test_align_up_gives_the_next_multiple),
        cmocka_unit_test(test_min_and_max_hold_for_the_largest_numbers),
        cmocka_unit_test(test_empty_slices_may_be_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
