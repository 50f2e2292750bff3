/* index/filter: never a false "no", few a false "maybe", and no byte outside the budget. */
#include "unit.h"

#include "index/filter.h"

#define COUNT 100000u

static uint32_t tag_of(uint32_t i)
{
    return (uint32_t)mix64(i);
}

static struct budget wide(void)
{
    return (struct budget){.limit_bytes = (uint64_t)16 << 20};
}

static void test_what_was_added_may_be_contained(void **state)
{
    struct budget budget = wide();

    (void)state;
    for (unsigned bits = 0; bits <= FILTER_BITS_MAX; bits++) {
        struct filter filter;

        assert_ok(filter_init(&filter, COUNT, bits, &budget));
        for (uint32_t i = 0; i < COUNT; i++)
            filter_add(&filter, tag_of(i));
        for (uint32_t i = 0; i < COUNT; i++)
            if (!filter_may_contain(&filter, tag_of(i)))
                fail_msg("%u bits: tag %u is lost", bits, i);
        filter_release(&filter);
    }
    assert_int_equal(budget_used(&budget), 0);
}

/* What a filter of that size without blocks lets through, (1 - e^(-probes/bits))^probes. Blocks are
 * filled unevenly, which lets a few more through: at most a tenth more as long as there are few
 * bits, at most half as many again where next to nothing gets through. */
struct theory {
    unsigned bits;
    uint32_t probes;
    double classic;
};

static const struct theory theories[] = {
    {1, 1, 0.63212}, {2, 1, 0.39347},  {4, 3, 0.14689},  {6, 4, 0.05606},
    {8, 5, 0.02168}, {10, 6, 0.00844}, {12, 7, 0.00329},
};

static double limit_of(const struct theory *theory)
{
    return theory->classic * (theory->bits < 8 ? 1.1 : 1.5) + 0.0005;
}

static double rate_of(const struct filter *filter, uint32_t (*absent)(uint32_t))
{
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < COUNT; i++)
        wrong += filter_may_contain(filter, absent(i));
    return (double)wrong / COUNT;
}

static uint32_t absent_scattered(uint32_t i)
{
    return tag_of(COUNT + i);
}

static uint32_t present_in_order(uint32_t i)
{
    return i * 42949u;
}

static uint32_t absent_in_order(uint32_t i)
{
    return i * 42949u + 1;
}

static void test_few_others_pass(void **state)
{
    struct budget budget = wide();

    (void)state;
    for (size_t n = 0; n < COUNT_OF(theories); n++) {
        struct filter scattered;
        struct filter ordered;
        double rates[2];
        double limit;

        assert_ok(filter_init(&scattered, COUNT, theories[n].bits, &budget));
        assert_ok(filter_init(&ordered, COUNT, theories[n].bits, &budget));
        for (uint32_t i = 0; i < COUNT; i++) {
            filter_add(&scattered, tag_of(i));
            filter_add(&ordered, present_in_order(i));
        }
        limit = limit_of(&theories[n]);
        assert_int_equal(scattered.probes, theories[n].probes);
        rates[0] = rate_of(&scattered, absent_scattered);
        rates[1] = rate_of(&ordered, absent_in_order);
        printf("%2u bits, %u probes: %.4f of absent tags pass, %.4f where tags are regular; limit "
               "%.4f\n",
               theories[n].bits, scattered.probes, rates[0], rates[1], limit);
        assert_true(rates[0] <= limit);
        assert_true(rates[1] <= limit);
        filter_release(&scattered);
        filter_release(&ordered);
    }
}

static void test_without_bits_or_tags_anything_may_be_contained(void **state)
{
    struct budget budget = {.limit_bytes = 0};
    struct filter none;
    struct filter empty;

    (void)state;
    assert_ok(filter_init(&none, COUNT, 0, &budget));
    assert_ok(filter_init(&empty, 0, 10, &budget));
    filter_add(&none, 1);
    assert_true(filter_may_contain(&none, 2));
    assert_true(filter_may_contain(&empty, 2));
    filter_prefetch(&none, 2);
    assert_int_equal(filter_bytes(&none), 0);
    filter_release(&none);
    filter_release(&empty);
}

static void test_the_budget_is_kept_to(void **state)
{
    struct budget budget = {.limit_bytes = 128 << 10};
    struct filter filter;
    struct filter other;

    (void)state;
    assert_int_equal(filter_init(&filter, COUNT, 12, &budget), CASK_ENOMEM);
    assert_int_equal(budget_used(&budget), 0);
    assert_ok(filter_init(&filter, COUNT, 10, &budget)); /* 125,000 bytes */
    assert_int_equal(budget_used(&budget), 126976);
    assert_int_equal(filter_init(&other, COUNT, 1, &budget), CASK_ENOMEM);
    assert_int_equal(budget_used(&budget), 126976);
    filter_release(&filter);
    filter_release(&filter);
    assert_int_equal(budget_used(&budget), 0);
    assert_int_equal(filter_init(&filter, UINT64_MAX, 12, &budget), CASK_ENOMEM);
}

static void test_a_saved_filter_answers_the_same(void **state)
{
    struct budget budget = wide();
    struct filter filter;
    struct filter saved;

    (void)state;
    assert_ok(filter_init(&filter, 1000, 10, &budget));
    for (uint32_t i = 0; i < 1000; i++)
        filter_add(&filter, tag_of(i));
    assert_ok(filter_init_saved(&saved, filter_bytes(&filter), filter.probes, &budget));
    memcpy(saved.words, filter.words, filter_bytes(&filter));
    for (uint32_t i = 0; i < 5000; i++)
        assert_int_equal(filter_may_contain(&filter, tag_of(i)),
                         filter_may_contain(&saved, tag_of(i)));
    filter_release(&filter);
    filter_release(&saved);
    assert_int_equal(budget_used(&budget), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_added_may_be_contained),
        cmocka_unit_test(test_few_others_pass),
        cmocka_unit_test(test_without_bits_or_tags_anything_may_be_contained),
        cmocka_unit_test(test_the_budget_is_kept_to),
        cmocka_unit_test(test_a_saved_filter_answers_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
