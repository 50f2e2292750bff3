/* The jsonl format, and what it is made of: JSON, UTF-8, base64. */
#include "format_test.h"

#include "format/base64.h"
#include "format/json.h"
#include "format/utf8.h"

static void begin(struct reading *reading, const char *text)
{
    reading_begin(reading, &format_jsonl, text, strlen(text));
}

static void expect_one(const char *text, const char *key, const char *value)
{
    struct reading reading;
    begin(&reading, text);
    expect_text(&reading, key, value);
    expect_end(&reading);
    reading_end(&reading);
}

static void expect_refused(const char *text, uint64_t column, const char *reason)
{
    struct reading reading;
    begin(&reading, text);
    expect_bad(&reading, PARSE_BAD, 1, column, reason);
    expect_end(&reading);
    reading_end(&reading);
}

static void test_members_come_in_any_order_and_with_blanks(void **state)
{
    (void)state;
    expect_one("{\"key\":\"a\",\"value\":\"b\"}\n", "a", "b");
    expect_one("{\"value\":\"b\",\"key\":\"a\"}", "a", "b");
    expect_one(" { \"key\" : \"a\" ,\t\"value\" : \"b\" } \r\n", "a", "b");
    expect_one("{\"k\\u0065y\":\"a\",\"value\":\"\"}", "a", "");
}

static void test_strings_are_decoded(void **state)
{
    (void)state;
    struct reading reading;
    expect_one("{\"key\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\",\"value\":\"\\u00e9\\u20AC\"}",
               "\"\\/\b\f\n\r\t", "\u00e9\u20ac");
    expect_one("{\"key\":\"\\ud83d\\uDE00\",\"value\":\"\U0001F600\u00e9\"}", "\U0001F600",
               "\U0001F600\u00e9");
    begin(&reading, "{\"key\":\"a\\u0000b\",\"value\":\"\\u0000\"}");
    expect_record(&reading, "a\0b", 3, "\0", 1);
    reading_end(&reading);
}

static void test_a_value_that_is_no_string_keeps_its_text(void **state)
{
    (void)state;
    static const char *const values[] = {
        "0",
        "-0",
        "1.0",
        "1.50e+10",
        "12345678901234567890123",
        "1e400",
        "1E-9",
        "true",
        "null",
        "false",
        "[]",
        "{}",
        "[1, 2,{\"a\":[ ]}]",
        "{ \"key\" : \"x\" , \"key\":[true,null] }",
        "[\"\\ud83d\\ude00\"]",
    };
    char text[128];
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        (void)snprintf(text, sizeof(text), "{\"key\":\"k\",\"value\": %s }", values[i]);
        expect_one(text, "k", values[i]);
        (void)snprintf(text, sizeof(text), "{\"value\":%s,\"key\":\"k\"}", values[i]);
        expect_one(text, "k", values[i]);
    }
}

static void test_values_that_are_not_json_are_refused(void **state)
{
    (void)state;
    static const char *const values[] = {
        "",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "0x10",
        "tru",
        "nul",
        "NaN",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "[",
        "{",
        "[1}",
        "{\"a\":1]",
        "'a'",
        "\"",
        "\"\\",
        "\"\\u12\"",
        "\"\\x\"",
        "[\"\x01\"]",
        "[\"\xff\"]",
        "]",
        "--1",
        "\"\\ud800\"",
        "\"\\ude00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800\\",
        "1.5.5",
        "\"\xed\xa0\x80\"",
    };
    char text[128];
    struct reading reading;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        (void)snprintf(text, sizeof(text), "{\"key\":\"k\",\"value\":%s}\n{\"key\":1}", values[i]);
        begin(&reading, text);
        assert_int_equal(parser_next(&reading.parser, &reading.record), PARSE_BAD);
        assert_int_equal(reading.parser.bad.line, 1);
        expect_bad(&reading, PARSE_BAD, 2, 8, "a string is expected");
        expect_end(&reading);
        reading_end(&reading);
    }
}

static void test_lines_that_are_no_record_are_refused_with_the_reason(void **state)
{
    (void)state;
    expect_refused("\n", 0, "empty");
    expect_refused("  \n", 3, "an object");
    expect_refused("{}", 3, "no key");
    expect_refused("{\"key\":\"a\"}", 12, "no value");
    expect_refused("{\"value\":1}", 12, "no key");
    expect_refused("{\"key\":\"a\",\"key64\":\"YQ==\",\"value\":1}", 19, "two keys");
    expect_refused("{\"key\":\"a\",\"value\":1,\"value64\":\"\"}", 31, "two values");
    expect_refused("{\"key\":\"a\",\"value\":1,\"more\":1}", 28, "unknown member");
    expect_refused("{\"key\":\"a\",\"value\":1}}", 22, "something follows");
    expect_refused("{\"key\":\"a\",\"value\":1,}", 22, "a string is expected");
    expect_refused("{\"key\" \"a\"}", 8, "colon");
    expect_refused("{\"key\":null,\"value\":1}", 8, "a string is expected");
    expect_refused("{\"key\":\"\",\"value\":1}", 0, "key is empty");
    expect_refused("{\"key64\":\"YQ=\",\"value\":1}", 15, "not base64");
    expect_refused("{\"key\":\"a\",\"value64\":5}", 22, "a string is expected");
    expect_refused("\xef\xbb\xbf{}", 1, "an object");
    expect_refused("{\"key\":\"a\",\"value\":1,\"expires_at\":0}", 36, "expires_at");
    expect_refused("{\"key\":\"a\",\"value\":1,\"expires_at\":1.5}", 38, "expires_at");
    expect_refused("{\"key\":\"a\",\"value\":1,\"expires_at\":\"1\"}", 38, "expires_at");
    expect_refused("{\"key\":\"a\",\"value\":1,\"expires_at\":72057594037927936}", 52,
                   "expires_at");
    expect_refused("{\"key\":\"a\",\"value\":1,\"expires_at\":99999999999999999999999}", 58,
                   "expires_at");
}

static void test_expiry_is_read_and_written(void **state)
{
    (void)state;
    struct reading reading;
    struct out out;
    begin(&reading, "{\"key\":\"a\",\"expires_at\":72057594037927935,\"value\":\"b\"}");
    expect_text(&reading, "a", "b");
    assert_true(reading.record.expires_at_ms == FORMAT_EXPIRY_MAX);
    writing_begin(&out);
    assert_int_equal(format_jsonl.write(&out, &reading.record), WRITE_OK);
    expect_written(&out, "{\"key\":\"a\",\"value\":\"b\",\"expires_at\":72057594037927935}\n");
    reading_end(&reading);
}

static void test_depth_is_limited(void **state)
{
    (void)state;
    char text[2 * JSON_DEPTH_MAX + 64];
    for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        int used = snprintf(text, sizeof(text), "{\"key\":\"k\",\"value\":");
        for (int i = 0; i < 2 * depth; i++) {
            text[used++] = i < depth ? '[' : ']';
        }
        (void)snprintf(text + used, sizeof(text) - (size_t)used, "}");
        struct reading reading;
        begin(&reading, text);
        enum parse_result result = parser_next(&reading.parser, &reading.record);
        assert_int_equal(result, depth == JSON_DEPTH_MAX ? PARSE_RECORD : PARSE_BAD);
        reading_end(&reading);
    }
}

static void test_writing_escapes_and_picks_base64_for_bytes(void **state)
{
    (void)state;
    struct out out;
    struct record text = RECORD("a\"\\\b\f\n\r\t\x01\x7f/", "\u00e9");
    struct record bytes = RECORD("\xff", "a\0b");
    struct record empty = RECORD("k", "");
    writing_begin(&out);
    assert_int_equal(format_jsonl.write(&out, &text), WRITE_OK);
    assert_int_equal(format_jsonl.write(&out, &bytes), WRITE_OK);
    assert_int_equal(format_jsonl.write(&out, &empty), WRITE_OK);
    expect_written(&out, "{\"key\":\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\x7f/\",\"value\":\"\u00e9\"}\n"
                         "{\"key64\":\"/w==\",\"value\":\"a\\u0000b\"}\n"
                         "{\"key\":\"k\",\"value\":\"\"}\n");
}

static void test_utf8_accepts_exactly_what_is_well_formed(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "12345678\xc3\xa9",
                                       "1234567\xc3\xa9 and more text"};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2 ",
                                      "\xe0\x9f\xbf",
                                      "\xe0\xa0",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf0\x90\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "12345678\xc3",
                                      "1234567\xff",
                                      "\xf8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(utf8_valid((const uint8_t *)good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(utf8_valid((const uint8_t *)bad[i], strlen(bad[i])));
    }
}

static void test_utf8_encodes_every_code_point(void **state)
{
    (void)state;
    for (uint32_t code_point = 0; code_point <= 0x10FFFF; code_point++) {
        uint8_t bytes[4];
        size_t size = utf8_encode(code_point, bytes);
        bool surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
        assert_int_equal(utf8_length(bytes, size), surrogate ? 0 : size);
    }
}

static void test_base64_takes_the_canonical_form_only(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *bytes; /* NULL: refused */
    } cases[] = {
        {"", ""},
        {"Zg==", "f"},
        {"Zm8=", "fo"},
        {"Zm9v", "foo"},
        {"Zm9vYg==", "foob"},
        {"Zm9vYmE=", "fooba"},
        {"Zm9vYmFy", "foobar"},
        {"+/+/", "\xfb\xff\xbf"},
        {"Zg", NULL},
        {"Zg=", NULL},
        {"Zg===", NULL},
        {"Zh==", NULL},
        {"Zm9=", NULL},
        {"Z===", NULL},
        {"====", NULL},
        {"Zg=a", NULL},
        {"=m9v", NULL},
        {"Zm=v", NULL},
        {"Zm 9v", NULL},
        {"-_-_", NULL},
        {"Zg==Zg==", NULL},
        {"A", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t text[16];
        size_t size = strlen(cases[i].text), decoded = 0;
        memcpy(text, cases[i].text, size);
        bool good = base64_decode(text, size, &decoded);
        assert_int_equal(good, cases[i].bytes != NULL);
        if (good) {
            assert_int_equal(decoded, strlen(cases[i].bytes));
            assert_memory_equal(text, cases[i].bytes, decoded);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_come_in_any_order_and_with_blanks),
        cmocka_unit_test(test_strings_are_decoded),
        cmocka_unit_test(test_a_value_that_is_no_string_keeps_its_text),
        cmocka_unit_test(test_values_that_are_not_json_are_refused),
        cmocka_unit_test(test_lines_that_are_no_record_are_refused_with_the_reason),
        cmocka_unit_test(test_expiry_is_read_and_written),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_writing_escapes_and_picks_base64_for_bytes),
        cmocka_unit_test(test_utf8_accepts_exactly_what_is_well_formed),
        cmocka_unit_test(test_utf8_encodes_every_code_point),
        cmocka_unit_test(test_base64_takes_the_canonical_form_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
