/* index/budget.h: one figure, shared. */
#include "unit.h"

#include "index/budget.h"

static void test_what_is_taken_counts_until_it_is_given_back(void **state)
{
    struct budget budget = {.limit_bytes = 100};

    (void)state;
    assert_true(budget_take(&budget, 60));
    assert_int_equal(budget_used(&budget), 60);
    assert_true(budget_take(&budget, 40));
    assert_int_equal(budget_used(&budget), 100);
    budget_give(&budget, 100);
    assert_int_equal(budget_used(&budget), 0);
}

static void test_more_than_is_left_is_refused_whole(void **state)
{
    struct budget budget = {.limit_bytes = 100};

    (void)state;
    assert_true(budget_take(&budget, 60));
    assert_false(budget_take(&budget, 41));
    assert_int_equal(budget_used(&budget), 60);
    assert_true(budget_take(&budget, 40));
    assert_false(budget_take(&budget, 1));
    assert_true(budget_take(&budget, 0));
}

static void test_enormous_requests_do_not_wrap_around(void **state)
{
    struct budget budget = {.limit_bytes = 100};

    (void)state;
    assert_true(budget_take(&budget, 50));
    assert_false(budget_take(&budget, UINT64_MAX));
    assert_false(budget_take(&budget, UINT64_MAX - 49));
    assert_int_equal(budget_used(&budget), 50);
    budget.limit_bytes = UINT64_MAX;
    assert_true(budget_take(&budget, UINT64_MAX - 50));
    assert_false(budget_take(&budget, 1));
}

static void test_a_limit_that_was_lowered_holds(void **state)
{
    struct budget budget = {.limit_bytes = 100};

    (void)state;
    assert_true(budget_take(&budget, 80));
    budget.limit_bytes = 70;
    assert_false(budget_take(&budget, 1));
    budget_give(&budget, 20);
    assert_true(budget_take(&budget, 10));
    assert_false(budget_take(&budget, 1));
}

/* What cannot be refused is told of, and keeps nobody from taking what there was for him. */
static void test_what_is_taken_beyond_the_limit_counts_apart(void **state)
{
    struct budget budget = {.limit_bytes = 100};

    (void)state;
    assert_true(budget_take(&budget, 70));
    budget_exceed(&budget, 1000);
    assert_int_equal(budget_used(&budget), 1070);
    assert_int_equal(budget_excess(&budget), 1000);
    assert_false(budget_take(&budget, 31));
    assert_true(budget_take(&budget, 30));
    budget_settle(&budget, 1000);
    assert_int_equal(budget_used(&budget), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_taken_counts_until_it_is_given_back),
        cmocka_unit_test(test_more_than_is_left_is_refused_whole),
        cmocka_unit_test(test_enormous_requests_do_not_wrap_around),
        cmocka_unit_test(test_a_limit_that_was_lowered_holds),
        cmocka_unit_test(test_what_is_taken_beyond_the_limit_counts_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
