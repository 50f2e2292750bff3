/* The LMDB dump format, both styles. */
#include "format_test.h"

#define HEAD "VERSION=3\nformat=bytevalue\ntype=btree\nmapsize=1048576\nHEADER=END\n"
#define HEAD_PRINT "VERSION=3\nformat=print\ntype=btree\ndb_pagesize=4096\nHEADER=END\n"

static void begin(struct reading *reading, const char *text)
{
    reading_begin(reading, &format_lmdb, text, strlen(text));
}

static const char *end_problem(const struct reading *reading)
{
    return format_lmdb.end_problem(&reading->parser.state);
}

static void test_bytevalue_records_are_read(void **state)
{
    (void)state;
    struct reading reading;
    begin(&reading, HEAD " 6B6579\n 00fF\n 00\n \nDATA=END\n");
    expect_record(&reading, "key", 3, "\0\xff", 2);
    expect_record(&reading, "\0", 1, "", 0);
    expect_end(&reading);
    assert_null(end_problem(&reading));
    assert_int_equal(reading.parser.lines, 10);
    reading_end(&reading);
}

static void test_print_records_are_read(void **state)
{
    (void)state;
    struct reading reading;
    begin(&reading, HEAD_PRINT " a b\n \\00\\fF\\\\ \\5c\n  \n \nDATA=END");
    expect_record(&reading, "a b", 3, "\0\xff\\ \\", 5);
    expect_record(&reading, " ", 1, "", 0);
    expect_end(&reading);
    assert_null(end_problem(&reading));
    reading_end(&reading);
}

static void test_crlf_is_a_line_end(void **state)
{
    (void)state;
    struct reading reading;
    begin(&reading, "VERSION=3\r\nformat=print\r\nHEADER=END\r\n k\r\n v\r\nDATA=END\r\n");
    expect_text(&reading, "k", "v");
    expect_end(&reading);
    assert_null(end_problem(&reading));
    reading_end(&reading);
}

static void test_bad_digits_spoil_their_record_only(void **state)
{
    (void)state;
    struct reading reading;
    begin(&reading, HEAD " 6\n 31\n 61\n 3x\n \n 31\n 62\n 32\nDATA=END\n");
    expect_bad(&reading, PARSE_BAD, 6, 2, "hexadecimal");
    expect_bad(&reading, PARSE_BAD, 9, 2, "hexadecimal");
    expect_bad(&reading, PARSE_BAD, 10, 0, "key is empty");
    expect_text(&reading, "b", "2");
    expect_end(&reading);
    reading_end(&reading);
    begin(&reading, HEAD_PRINT " a\\b\n 1\n a\n \\\n b\\0\n 2\n c\n 3\nDATA=END\n");
    expect_bad(&reading, PARSE_BAD, 6, 3, "backslash");
    expect_bad(&reading, PARSE_BAD, 9, 2, "backslash");
    expect_bad(&reading, PARSE_BAD, 10, 3, "backslash");
    expect_text(&reading, "c", "3");
    reading_end(&reading);
}

static void expect_fatal(const char *text, uint64_t line, const char *reason)
{
    struct reading reading;
    begin(&reading, text);
    while (parser_next(&reading.parser, &reading.record) == PARSE_RECORD) {
        continue;
    }
    assert_int_equal(reading.parser.bad.line, line);
    if (strstr(reading.parser.bad.reason, reason) == NULL) {
        fail_msg("reason '%s' does not say '%s'", reading.parser.bad.reason, reason);
    }
    assert_int_equal(reading.parser.state.phase, PHASE_BROKEN);
    expect_end(&reading);
    assert_null(end_problem(&reading)); /* one complaint is enough */
    reading_end(&reading);
}

static void test_lines_out_of_place_are_fatal(void **state)
{
    (void)state;
    expect_fatal("key\tvalue\n", 1, "not an LMDB dump");
    expect_fatal("VERSION=2\n", 1, "not an LMDB dump");
    expect_fatal("\n", 1, "not an LMDB dump");
    expect_fatal("VERSION=3\nformat=xml\n", 2, "neither print nor bytevalue");
    expect_fatal("VERSION=3\nnonsense\n", 2, "NAME=VALUE");
    expect_fatal("VERSION=3\n\n", 2, "NAME=VALUE");
    expect_fatal("VERSION=3\ndupsort=1\n", 2, "several values");
    expect_fatal("VERSION=3\nduplicates=1\n", 2, "several values");
    expect_fatal(HEAD "61\n 62\n", 6, "neither a key");
    expect_fatal(HEAD "\n 62\n", 6, "neither a key");
    expect_fatal(HEAD " 61\nDATA=END\n", 7, "not a value");
    expect_fatal(HEAD " 61\n\n", 7, "not a value");
    expect_fatal(HEAD " 61\n 62\n 63\n", 8, "between a key and its value");
    expect_fatal(HEAD "DATA=END\n 61\n", 7, "something follows");
    expect_fatal(HEAD "DATA=END\n" HEAD, 7, "several databases");
}

static void test_a_dump_that_ends_early_has_a_problem(void **state)
{
    (void)state;
    struct reading reading;
    begin(&reading, "");
    expect_end(&reading);
    assert_non_null(strstr(end_problem(&reading), "VERSION=3"));
    reading_end(&reading);
    begin(&reading, "VERSION=3\n");
    expect_end(&reading);
    assert_non_null(strstr(end_problem(&reading), "header"));
    reading_end(&reading);
    begin(&reading, HEAD " 61\n 62\n");
    expect_text(&reading, "a", "b");
    expect_end(&reading);
    assert_non_null(strstr(end_problem(&reading), "DATA=END"));
    reading_end(&reading);
}

static void test_blank_lines_may_follow_the_end(void **state)
{
    (void)state;
    struct reading reading;
    begin(&reading, HEAD " 61\n 62\nDATA=END\n\n\r\n");
    expect_text(&reading, "a", "b");
    expect_end(&reading);
    assert_null(end_problem(&reading));
    reading_end(&reading);
}

/* Whatever was cut off, what is before the cut is whole, and cutting again goes on from there. */
static void test_cut_never_parts_a_key_from_its_value(void **state)
{
    (void)state;
    static const char text[] = HEAD_PRINT " a\n 1\n b\n 2\nDATA=END\n";
    size_t header = strlen(HEAD_PRINT);
    for (size_t size = 0; size < sizeof(text); size++) {
        struct format_state at = {.phase = PHASE_START};
        size_t cut = format_lmdb.cut(&at, (const uint8_t *)text, size);
        assert_true(cut <= size);
        assert_true(cut == 0 || text[cut - 1] == '\n');
        if (cut > header && cut < sizeof(text) - 10) {
            assert_int_equal((cut - header) % 6, 0);
        }
        assert_true(size - cut <= 18); /* the longest line or record */
        (void)format_lmdb.cut(&at, (const uint8_t *)text + cut, sizeof(text) - 1 - cut);
        assert_int_equal(at.phase, PHASE_DONE);
        assert_true(at.print_style);
    }
}

static void test_both_styles_are_written(void **state)
{
    (void)state;
    struct dump_info info = {2, 1000};
    struct record record = RECORD("a\\\0 ~", "\x7f\n");
    struct out out;
    writing_begin(&out);
    format_lmdb.write_head(&out, &info);
    assert_int_equal(format_lmdb.write(&out, &record), WRITE_OK);
    format_lmdb.write_tail(&out);
    expect_written(&out, "VERSION=3\nformat=bytevalue\ntype=btree\nmapsize=68157440\n"
                         "maxreaders=126\nHEADER=END\n 615c00207e\n 7f0a\nDATA=END\n");
    writing_begin(&out);
    format_lmdb_print.write_head(&out, &info);
    assert_int_equal(format_lmdb_print.write(&out, &record), WRITE_OK);
    format_lmdb_print.write_tail(&out);
    expect_written(&out, "VERSION=3\nformat=print\ntype=btree\nmapsize=68157440\n"
                         "maxreaders=126\nHEADER=END\n a\\5c\\00 ~\n \\7f\\0a\nDATA=END\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytevalue_records_are_read),
        cmocka_unit_test(test_print_records_are_read),
        cmocka_unit_test(test_crlf_is_a_line_end),
        cmocka_unit_test(test_bad_digits_spoil_their_record_only),
        cmocka_unit_test(test_lines_out_of_place_are_fatal),
        cmocka_unit_test(test_a_dump_that_ends_early_has_a_problem),
        cmocka_unit_test(test_blank_lines_may_follow_the_end),
        cmocka_unit_test(test_cut_never_parts_a_key_from_its_value),
        cmocka_unit_test(test_both_styles_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
