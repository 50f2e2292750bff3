/* The tsv and lines formats, and the escapes. */
#include "format_test.h"

#include "format/escape.h"

#define TSV(text)                                                                                  \
    struct reading reading;                                                                        \
    (void)state;                                                                                   \
    reading_begin(&reading, &format_tsv, text, sizeof(text) - 1)

static void test_tsv_reads_records(void **state)
{
    TSV("a\t1\nb\t2\n");
    expect_text(&reading, "a", "1");
    expect_text(&reading, "b", "2");
    expect_end(&reading);
    assert_int_equal(reading.parser.lines, 2);
    reading_end(&reading);
}

static void test_tsv_value_is_all_behind_the_first_tab(void **state)
{
    TSV("a\t1\t2\t\nb\t\n");
    expect_text(&reading, "a", "1\t2\t");
    expect_text(&reading, "b", "");
    expect_end(&reading);
    reading_end(&reading);
}

static void test_tsv_decodes_every_escape(void **state)
{
    TSV("\\t\\n\\r\\\\\\x00\\xfF\t\\x41\\x5c\\\\\\x09z\n");
    expect_record(&reading, "\t\n\r\\\0\xff", 6, "A\\\\\tz", 5);
    reading_end(&reading);
}

static void test_tsv_takes_crlf_as_a_line_end_and_no_other_cr(void **state)
{
    TSV("a\t1\r\nb\t2\r\r\n\rc\t\r3\nd\t4\r");
    expect_text(&reading, "a", "1");
    expect_text(&reading, "b", "2\r");
    expect_text(&reading, "\rc", "\r3");
    expect_text(&reading, "d", "4\r"); /* no line feed: not a line end */
    expect_end(&reading);
    reading_end(&reading);
}

static void test_tsv_takes_nuls_and_bytes_that_are_not_utf8(void **state)
{
    TSV("\0\xff\t\xc0\0\n");
    expect_record(&reading, "\0\xff", 2, "\xc0\0", 2);
    reading_end(&reading);
}

static void test_tsv_names_bad_lines_and_goes_on(void **state)
{
    TSV("\nnone\n\tv\na\\\tv\na\t\\x4\nbc\t\\q\na\t\\\nlast\tone");
    expect_bad(&reading, PARSE_BAD, 1, 0, "empty");
    expect_bad(&reading, PARSE_BAD, 2, 0, "no TAB");
    expect_bad(&reading, PARSE_BAD, 3, 0, "key is empty");
    expect_bad(&reading, PARSE_BAD, 4, 2, "not an escape");
    expect_bad(&reading, PARSE_BAD, 5, 3, "not an escape");
    expect_bad(&reading, PARSE_BAD, 6, 4, "not an escape");
    expect_bad(&reading, PARSE_BAD, 7, 3, "not an escape");
    expect_text(&reading, "last", "one");
    expect_end(&reading);
    assert_int_equal(reading.parser.lines, 8);
    reading_end(&reading);
}

static void test_key_limits_are_those_of_the_store(void **state)
{
    (void)state;
    size_t size = CASK_KEY_MAX + 3;
    char *text = malloc(size);
    struct reading reading;
    assert_non_null(text);
    memset(text, 'k', size);
    memcpy(text + CASK_KEY_MAX, "\tv\n", 3);
    reading_begin(&reading, &format_tsv, text, size);
    assert_int_equal(parser_next(&reading.parser, &reading.record), PARSE_RECORD);
    assert_int_equal(reading.record.key.size, CASK_KEY_MAX);
    reading_end(&reading);
    memcpy(text + CASK_KEY_MAX, "k\t\n", 3);
    reading_begin(&reading, &format_tsv, text, size);
    expect_bad(&reading, PARSE_BAD, 1, 0, "longer than 65,535");
    reading_end(&reading);
    free(text);
}

static void test_tsv_writes_escapes_where_they_are_needed(void **state)
{
    (void)state;
    struct out out;
    struct record record = RECORD("a\tb\n", "\r\\x\x01\xff");
    writing_begin(&out);
    assert_int_equal(format_tsv.write(&out, &record), WRITE_OK);
    expect_written(&out, "a\\tb\\n\t\\r\\\\x\x01\xff\n");
}

static void test_lines_are_keys_as_they_stand(void **state)
{
    (void)state;
    static const char text[] = "a\\n\tb\r\n \n\xff\0\nlast";
    struct reading reading;
    reading_begin(&reading, &format_lines, text, sizeof(text) - 1);
    expect_text(&reading, "a\\n\tb", "");
    expect_text(&reading, " ", "");
    expect_record(&reading, "\xff\0", 2, "", 0);
    expect_text(&reading, "last", "");
    expect_end(&reading);
    reading_end(&reading);
}

static void test_lines_refuses_an_empty_line(void **state)
{
    (void)state;
    struct reading reading;
    reading_begin(&reading, &format_lines, "a\n\r\nb\n", 6);
    expect_text(&reading, "a", "");
    expect_bad(&reading, PARSE_BAD, 2, 0, "empty");
    expect_text(&reading, "b", "");
    reading_end(&reading);
}

static void test_lines_does_not_write_what_it_could_not_read(void **state)
{
    (void)state;
    struct out out;
    struct record records[] = {RECORD("a\nb", ""), RECORD("a\r", ""), RECORD("\n", ""),
                               RECORD("a\rb", "lost")};
    writing_begin(&out);
    assert_int_equal(format_lines.write(&out, &records[0]), WRITE_IMPOSSIBLE);
    assert_int_equal(format_lines.write(&out, &records[1]), WRITE_IMPOSSIBLE);
    assert_int_equal(format_lines.write(&out, &records[2]), WRITE_IMPOSSIBLE);
    assert_int_equal(format_lines.write(&out, &records[3]), WRITE_OK);
    expect_written(&out, "a\rb\n");
}

static void test_cut_is_behind_the_last_line_feed(void **state)
{
    (void)state;
    struct format_state at = {.phase = PHASE_START};
    assert_int_equal(format_tsv.cut(&at, (const uint8_t *)"a\tb", 3), 0);
    assert_int_equal(format_tsv.cut(&at, (const uint8_t *)"a\tb\n", 4), 4);
    assert_int_equal(format_tsv.cut(&at, (const uint8_t *)"a\tb\nc", 5), 4);
    assert_int_equal(format_tsv.cut(&at, (const uint8_t *)"", 0), 0);
}

static void test_a_file_name_picks_a_format_by_its_ending(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const struct format *format;
    } cases[] = {
        {"a.tsv", &format_tsv},
        {"dir.tsv/a.txt", &format_lines},
        {"a.words", &format_lines},
        {"a.jsonl", &format_jsonl},
        {"a.ndjson", &format_jsonl},
        {"a.lmdb", &format_lmdb},
        {"a.dump", &format_lmdb},
        {"a.mdbdump", &format_lmdb},
        {"a.tsv.zst", &format_tsv},
        {"a.jsonl.zst", &format_jsonl},
        {"a", NULL},
        {"a.csv", NULL},
        {"tsv", NULL},
        {".tsv", NULL},
        {"a.tsv.gz", NULL},
        {"a.zst", NULL},
        {"", NULL},
        {"a.TSV", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_ptr_equal(format_by_path(cases[i].path), cases[i].format);
    }
    assert_ptr_equal(format_by_name("lmdb-print"), &format_lmdb_print);
    assert_null(format_by_name("csv"));
    assert_null(format_by_name(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tsv_reads_records),
        cmocka_unit_test(test_tsv_value_is_all_behind_the_first_tab),
        cmocka_unit_test(test_tsv_decodes_every_escape),
        cmocka_unit_test(test_tsv_takes_crlf_as_a_line_end_and_no_other_cr),
        cmocka_unit_test(test_tsv_takes_nuls_and_bytes_that_are_not_utf8),
        cmocka_unit_test(test_tsv_names_bad_lines_and_goes_on),
        cmocka_unit_test(test_key_limits_are_those_of_the_store),
        cmocka_unit_test(test_tsv_writes_escapes_where_they_are_needed),
        cmocka_unit_test(test_lines_are_keys_as_they_stand),
        cmocka_unit_test(test_lines_refuses_an_empty_line),
        cmocka_unit_test(test_lines_does_not_write_what_it_could_not_read),
        cmocka_unit_test(test_cut_is_behind_the_last_line_feed),
        cmocka_unit_test(test_a_file_name_picks_a_format_by_its_ending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
