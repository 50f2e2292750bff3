/* base/report: lines for the log callback. */
#include "unit.h"

#include "base/report.h"

static void test_a_line_arrives_with_its_level_and_context(void **state)
{
    struct log_lines lines;
    struct reporter reporter = {log_lines_collect, &lines};

    (void)state;
    log_lines_init(&lines);
    report(&reporter, CASK_LOG_WARNING, "%s: offset %d", "1.data", 64);
    assert_int_equal(log_lines_count(&lines, CASK_LOG_WARNING), 1);
    assert_int_equal(log_lines_count(&lines, CASK_LOG_ERROR), 0);
    assert_true(log_lines_mention(&lines, "1.data: offset 64"));
}

static void test_without_a_callback_nothing_is_told(void **state)
{
    struct reporter reporter = {NULL, NULL};

    (void)state;
    report(&reporter, CASK_LOG_ERROR, "%s", "nobody hears this");
}

static void keep_last(void *context, enum cask_log_level level, const char *message)
{
    (void)level;
    snprintf(context, 4096, "%s", message);
}

static void test_a_line_of_any_length_is_ended(void **state)
{
    char line[4096];
    char longest[3000];
    struct reporter reporter = {keep_last, line};

    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    report(&reporter, CASK_LOG_INFO, "%s", longest);
    assert_in_range(strlen(line), 500, sizeof longest - 1);
    assert_memory_equal(line, longest, strlen(line));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_arrives_with_its_level_and_context),
        cmocka_unit_test(test_without_a_callback_nothing_is_told),
        cmocka_unit_test(test_a_line_of_any_length_is_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
