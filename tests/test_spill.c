/* shard/spill: what a flush puts into a run, and when one is asked for. */
#include "unit_shard.h"

#include "shard/spill.h"

/* ---- the order of a run ---------------------------------------------------------------------- */

/* Entries whose places tell what order they came in. */
static void fill(struct keydir_entry *entries, size_t count, uint32_t (*tag_of)(size_t i))
{
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct keydir_entry){.location = i, .tag = tag_of(i)};
}

static uint32_t rising(size_t i)
{
    return (uint32_t)i;
}

static uint32_t falling(size_t i)
{
    return UINT32_MAX - (uint32_t)i;
}

static uint32_t nearly_rising(size_t i)
{
    return (uint32_t)(i * 4 + (mix64(i) & 31));
}

static uint32_t of_few(size_t i)
{
    return (uint32_t)(mix64(i) % 3);
}

static uint32_t of_any(size_t i)
{
    return (uint32_t)mix64(i);
}

static void test_entries_are_sorted_and_those_of_one_tag_stay_in_order(void **state)
{
    static const size_t counts[] = {0, 1, 2, 3, 7, 100, 2048};
    static uint32_t (*const tags[])(size_t) = {rising, falling, nearly_rising, of_few, of_any};
    struct keydir_entry entries[2048];

    (void)state;
    for (size_t t = 0; t < COUNT_OF(tags); t++)
        for (size_t c = 0; c < COUNT_OF(counts); c++) {
            uint64_t sum = 0;

            fill(entries, counts[c], tags[t]);
            spill_sort(entries, counts[c]);
            for (size_t i = 0; i < counts[c]; i++) {
                assert_int_equal(entries[i].tag, tags[t](entries[i].location));
                sum += entries[i].location + 1;
                if (i > 0)
                    assert_true(entries[i - 1].tag < entries[i].tag ||
                                (entries[i - 1].tag == entries[i].tag &&
                                 entries[i - 1].location < entries[i].location));
            }
            assert_int_equal(sum, counts[c] * (counts[c] + 1) / 2);
        }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_are_sorted_and_those_of_one_tag_stay_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
