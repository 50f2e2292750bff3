/* base/status: every status has a text of its own. */
#include <limits.h>

#include "unit.h"

#include "base/status.h"

static const int statuses[] = {CASK_OK,      CASK_NOTFOUND,  CASK_EINVAL,    CASK_ENOMEM,
                               CASK_EIO,     CASK_ENOSPC,    CASK_EROFS,     CASK_EACCES,
                               CASK_ELOCKED, CASK_ENOTSTORE, CASK_EVERSION,  CASK_ECORRUPT,
                               CASK_ERANGE,  CASK_ETOOBIG,   CASK_EREADONLY, CASK_EBUSY,
                               CASK_EMFILE,  CASK_ENOTSUP,   CASK_EEXIST,    CASK_EMISMATCH};

static void test_every_status_has_its_own_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        const char *text = cask_strerror(statuses[i]);

        assert_non_null(text);
        assert_true(strlen(text) > 5);
        assert_string_not_equal(text, "unknown status");
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(text, cask_strerror(statuses[j]));
    }
}

static void test_unknown_statuses_have_a_text_too(void **state)
{
    static const int unknown[] = {2, 99, -19, -1000, INT_MAX, INT_MIN};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(unknown); i++)
        assert_string_equal(cask_strerror(unknown[i]), "unknown status");
}

static void test_statuses_are_as_published(void **state)
{
    /* Programs are compiled with these numbers: they never change. */
    (void)state;
    assert_int_equal(CASK_OK, 0);
    assert_int_equal(CASK_NOTFOUND, 1);
    for (size_t i = 2; i < COUNT_OF(statuses); i++)
        assert_int_equal(statuses[i], -(int)(i - 1));
}

static void test_the_first_failure_wins(void **state)
{
    (void)state;
    assert_int_equal(status_first(CASK_OK, CASK_OK), CASK_OK);
    assert_int_equal(status_first(CASK_EIO, CASK_OK), CASK_EIO);
    assert_int_equal(status_first(CASK_OK, CASK_ENOSPC), CASK_ENOSPC);
    assert_int_equal(status_first(CASK_EIO, CASK_ENOSPC), CASK_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_its_own_text),
        cmocka_unit_test(test_unknown_statuses_have_a_text_too),
        cmocka_unit_test(test_statuses_are_as_published),
        cmocka_unit_test(test_the_first_failure_wins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
