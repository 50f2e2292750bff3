/* log/location.h: segment and offset in 48 bits. */
#include "unit.h"

#include "log/location.h"

static void test_segment_and_offset_come_back(void **state)
{
    struct rng rng = {1};

    (void)state;
    for (unsigned bits = LOCATION_OFFSET_BITS_MIN; bits <= LOCATION_OFFSET_BITS_MAX; bits++) {
        for (int i = 0; i < 10000; i++) {
            uint64_t segment = 1 + rng_below(&rng, location_segment_max(bits));
            uint64_t offset = rng_below(&rng, (uint64_t)1 << bits) * RECORD_ALIGNMENT;
            uint64_t location = location_make(segment, offset, bits);

            assert_true(location <= LOCATION_MAX);
            assert_true(location_segment(location, bits) == segment);
            assert_true(location_offset(location, bits) == offset);
        }
    }
}

static void test_the_extremes_fit(void **state)
{
    (void)state;
    for (unsigned bits = LOCATION_OFFSET_BITS_MIN; bits <= LOCATION_OFFSET_BITS_MAX; bits++) {
        uint64_t last = (((uint64_t)1 << bits) - 1) * RECORD_ALIGNMENT;
        uint64_t location = location_make(location_segment_max(bits), last, bits);

        assert_true(location == LOCATION_MAX);
        assert_true(location_make(1, 0, bits) != 0);
    }
}

static void test_locations_are_in_the_order_of_the_log(void **state)
{
    (void)state;
    assert_true(location_make(1, 800, 25) < location_make(1, 808, 25));
    assert_true(location_make(1, ((uint64_t)1 << 28) - 8, 25) < location_make(2, 0, 25));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment_and_offset_come_back),
        cmocka_unit_test(test_the_extremes_fit),
        cmocka_unit_test(test_locations_are_in_the_order_of_the_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
