/* What the tests of the formats share: a parser over a text that they may write to, and writers
 * into memory. */
#ifndef CASKADE_FORMAT_TEST_H
#define CASKADE_FORMAT_TEST_H

/* clang-format off: cmocka.h wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "format/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A parser over a copy of a text on the heap, exactly as long, so that the sanitizers see a read
 * behind its end. */
struct reading {
    struct parser parser;
    struct record record;
    uint8_t *text;
};

static inline void reading_begin(struct reading *reading, const struct format *format,
                                 const void *text, size_t size)
{
    struct format_state start = {.phase = PHASE_START};
    reading->text = malloc(size == 0 ? 1 : size);
    assert_non_null(reading->text);
    memcpy(reading->text, text, size);
    parser_init(&reading->parser, format, start, reading->text, size);
}

static inline void reading_end(struct reading *reading)
{
    free(reading->text);
}

static inline void expect_slice(struct cask_slice got, const void *wanted, size_t size)
{
    assert_int_equal(got.size, size);
    if (size > 0) {
        assert_memory_equal(got.data, wanted, size);
    }
}

/* The next record, its key and value given with their sizes. */
static inline void expect_record(struct reading *reading, const void *key, size_t key_size,
                                 const void *value, size_t value_size)
{
    assert_int_equal(parser_next(&reading->parser, &reading->record), PARSE_RECORD);
    expect_slice(reading->record.key, key, key_size);
    expect_slice(reading->record.value, value, value_size);
}

/* The same for text without NULs. */
static inline void expect_text(struct reading *reading, const char *key, const char *value)
{
    expect_record(reading, key, strlen(key), value, strlen(value));
}

static inline void expect_bad(struct reading *reading, enum parse_result result, uint64_t line,
                              uint64_t column, const char *reason_part)
{
    assert_int_equal(parser_next(&reading->parser, &reading->record), result);
    assert_int_equal(reading->parser.bad.line, line);
    assert_int_equal(reading->parser.bad.column, column);
    if (strstr(reading->parser.bad.reason, reason_part) == NULL) {
        fail_msg("reason '%s' does not say '%s'", reading->parser.bad.reason, reason_part);
    }
}

static inline void expect_end(struct reading *reading)
{
    assert_int_equal(parser_next(&reading->parser, &reading->record), PARSE_END);
    assert_int_equal(parser_next(&reading->parser, &reading->record), PARSE_END);
}

/* An out into memory. */
static inline void writing_begin(struct out *out)
{
    int fd = memfd_create("format_test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    out_init(out, fd);
}

/* What was written, in a block for the caller to free. */
static inline uint8_t *writing_end(struct out *out, size_t *ret_size)
{
    assert_true(out_flush(out));
    size_t size = (size_t)out->written;
    uint8_t *bytes = malloc(size + 1);
    assert_non_null(bytes);
    assert_int_equal(pread(out->fd, bytes, size + 1, 0), (ssize_t)size);
    bytes[size] = '\0';
    close(out->fd);
    *ret_size = size;
    return bytes;
}

static inline void expect_written(struct out *out, const char *wanted)
{
    size_t size;
    uint8_t *bytes = writing_end(out, &size);
    assert_string_equal((const char *)bytes, wanted);
    assert_int_equal(size, strlen(wanted));
    free(bytes);
}

/* A record out of two literals, NULs inside them included. */
#define RECORD(key_text, value_text)                                                               \
    ((struct record){{key_text, sizeof(key_text) - 1}, {value_text, sizeof(value_text) - 1}, 0})

#endif
