/* From a file to records: source, block and parser together, over every format, block size and
 * number of parts; and the output side, out and progress. */
#include "format_test.h"

#include "load/block.h"
#include "progress.h"

#include <errno.h>
#include <fcntl.h>

#define RECORDS 200

/* Numbers that are the same in every run. */
static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void fill_random(uint8_t *bytes, size_t size, bool text, uint32_t *seed)
{
    static const char letters[] = "abc \\\"{}:\tx";
    for (size_t i = 0; i < size; i++) {
        uint32_t number = next_random(seed);
        bytes[i] = text ? (uint8_t)letters[number % (sizeof(letters) - 1)] : (uint8_t)number;
    }
}

struct sample {
    struct record records[RECORDS];
    uint8_t bytes[RECORDS][300];
};

/* Distinct keys, empty values among them; half of the records are text. A wordlist has no line
 * feeds and no values. */
static void make_sample(struct sample *sample, const struct format *format, uint32_t seed)
{
    for (int i = 0; i < RECORDS; i++) {
        uint8_t *bytes = sample->bytes[i];
        size_t key_size = 4 + next_random(&seed) % 40;
        size_t value_size = i % 7 == 0 ? 0 : next_random(&seed) % 250;
        bool text = i % 2 == 0 || !format->keeps_values;
        fill_random(bytes, key_size + value_size, text, &seed);
        for (int digit = 2, rest = i; digit >= 0; digit--, rest /= 10)
            bytes[digit] = (uint8_t)('0' + rest % 10);
        bytes[3] = '-';
        sample->records[i].key = (struct cask_slice){bytes, key_size};
        sample->records[i].value = (struct cask_slice){bytes + key_size,
                                                       format->keeps_values ? value_size : 0};
        sample->records[i].expires_at_ms = format->keeps_expiry && i % 5 == 0 ? 1000u + (unsigned)i
                                                                              : 0;
    }
}

static void write_sample(const struct sample *sample, const struct format *format, const char *path)
{
    struct out out;
    struct dump_info info = {RECORDS, 10000};
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    out_init(&out, fd);
    format->write_head(&out, &info);
    for (int i = 0; i < RECORDS; i++) {
        assert_int_equal(format->write(&out, &sample->records[i]), WRITE_OK);
    }
    format->write_tail(&out);
    assert_true(out_flush(&out));
    close(fd);
}

/* Equal keys fall to one part, so every record is looked for in order within its part. */
static void check_block(const struct load_block *block, const struct sample *sample, bool *seen)
{
    for (unsigned part = 0; part < block->part_count; part++) {
        int last = -1;
        for (size_t i = 0; i < block->parts[part].count; i++) {
            const struct record *record = &block->parts[part].records[i];
            const uint8_t *key = record->key.data;
            int number = (key[0] - '0') * 100 + (key[1] - '0') * 10 + (key[2] - '0');
            assert_true(number > last && number < RECORDS);
            assert_false(seen[number]);
            const struct record *wanted = &sample->records[number];
            expect_slice(record->key, wanted->key.data, wanted->key.size);
            expect_slice(record->value, wanted->value.data, wanted->value.size);
            assert_true(record->expires_at_ms == wanted->expires_at_ms);
            seen[number] = true;
            last = number;
        }
    }
}

static void read_sample(const struct sample *sample, const struct format *format, const char *path,
                        size_t block_bytes, unsigned parts)
{
    struct source source;
    struct load_block block;
    bool seen[RECORDS] = {false};
    uint64_t records = 0;
    assert_true(source_open(&source, path, format, block_bytes));
    assert_true(load_block_init(&block, parts));
    do {
        load_block_reset(&block, 1000);
        assert_true(source_fill(&source, &block.text));
        assert_true(load_block_parse(&block, format, false));
        assert_int_equal(block.bad_count, 0);
        assert_false(block.stops_load);
        records += block.records;
        check_block(&block, sample, seen);
    } while (!block.text.last);
    assert_int_equal(records, RECORDS);
    assert_true(block.text.input_end == source.input_size);
    load_block_release(&block);
    source_close(&source);
}

static void test_what_is_written_is_read_in_blocks_of_any_size(void **state)
{
    (void)state;
    char path[] = "/tmp/caskade-format-XXXXXX";
    static const size_t sizes[] = {1, 2, 3, 7, 64, 100, 255, 1000, 4096, 1000000};
    struct sample *sample = malloc(sizeof(*sample));
    int fd = mkstemp(path);
    assert_non_null(sample);
    assert_true(fd >= 0);
    close(fd);
    for (size_t i = 0; formats[i] != NULL; i++) {
        for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
            make_sample(sample, formats[i], (uint32_t)(i * 100 + k + 1));
            write_sample(sample, formats[i], path);
            read_sample(sample, formats[i], path, sizes[k], 1 + (unsigned)k % 4);
        }
    }
    unlink(path);
    free(sample);
}

static void write_text(char *path, const char *text)
{
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void test_a_record_beyond_the_limit_ends_the_load(void **state)
{
    (void)state;
    char path[] = "/tmp/caskade-format-XXXXXX";
    struct source source;
    struct load_block block;
    write_text(path, "a\t1\nb\t2222222222222222222222222222222222222222\nc\t3\n");
    assert_true(source_open(&source, path, &format_tsv, 4));
    source.record_max = 20;
    assert_true(load_block_init(&block, 1));
    assert_true(source_fill(&source, &block.text));
    assert_true(load_block_parse(&block, &format_tsv, true));
    assert_int_equal(block.records, 1);
    assert_false(block.stops_load);
    load_block_reset(&block, 1000);
    assert_true(source_fill(&source, &block.text));
    assert_true(block.text.last);
    assert_true(load_block_parse(&block, &format_tsv, true));
    assert_true(block.stops_load);
    assert_int_equal(block.bad_count, 1);
    assert_int_equal(block.bad_lines[0].line, 1);
    assert_non_null(strstr(block.bad_lines[0].reason, "longer than any record"));
    load_block_release(&block);
    source_close(&source);
    unlink(path);
}

static void test_a_bad_line_stops_a_block_or_is_counted(void **state)
{
    (void)state;
    char path[] = "/tmp/caskade-format-XXXXXX";
    struct source source;
    struct load_block block;
    write_text(path, "a\t1\nbad\nb\t2\nworse\nc\t3");
    for (int keep_going = 0; keep_going <= 1; keep_going++) {
        assert_true(source_open(&source, path, &format_tsv, 1000));
        assert_true(load_block_init(&block, 3));
        assert_true(source_fill(&source, &block.text));
        assert_true(load_block_parse(&block, &format_tsv, keep_going == 1));
        assert_int_equal(block.records, keep_going ? 3 : 1);
        assert_int_equal(block.bad_count, keep_going ? 2 : 1);
        assert_int_equal(block.stops_load, !keep_going);
        assert_int_equal(block.bad_lines[0].line, 2);
        load_block_release(&block);
        source_close(&source);
    }
    unlink(path);
}

static void test_inputs_that_cannot_be_read_are_refused(void **state)
{
    (void)state;
    struct source source;
    assert_false(source_open(&source, "/nowhere/at/all.tsv", &format_tsv, 1000));
    assert_string_equal(source.problem, strerror(ENOENT));
    source_close(&source);
    assert_false(source_open(&source, "/tmp", &format_tsv, 1000));
    assert_string_equal(source.problem, strerror(EISDIR));
    source_close(&source);
}

static void test_out_keeps_the_first_error(void **state)
{
    (void)state;
    struct out out;
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        skip();
    }
    out_init(&out, fd);
    out_text(&out, "text");
    assert_int_equal(out.error, 0);
    assert_false(out_flush(&out));
    assert_int_equal(out.error, ENOSPC);
    out_text(&out, "more");
    assert_false(out_flush(&out));
    assert_int_equal(out.error, ENOSPC);
    close(fd);
}

static void test_out_takes_pieces_larger_than_its_buffer(void **state)
{
    (void)state;
    struct out out;
    size_t size = 3 * sizeof(out.buffer), got;
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    memset(bytes, 'x', size);
    writing_begin(&out);
    out_char(&out, '<');
    out_write(&out, bytes, size);
    out_char(&out, '>');
    uint8_t *written = writing_end(&out, &got);
    assert_int_equal(got, size + 2);
    assert_int_equal(written[0], '<');
    assert_memory_equal(written + 1, bytes, size);
    assert_int_equal(written[size + 1], '>');
    free(written);
    free(bytes);
}

static void test_progress_says_how_far_how_fast_how_long(void **state)
{
    (void)state;
    char line[100];
    progress_line(line, 80, PROGRESS_BYTES, 50u << 20, 100u << 20, 2.0);
    assert_string_equal(line, "[####################....................]  50% 50.0MB, 25.0MB/s, "
                              "0:02 left");
    progress_line(line, 80, PROGRESS_RECORDS, 1500, 0, 3.0);
    assert_string_equal(line, "1.5K records, 500 records/s, 3 s");
    progress_line(line, 80, PROGRESS_BYTES, 0, 100, 0.0);
    assert_non_null(strstr(line, "  0% 0B, 0B/s, 0:00 left"));
    progress_line(line, 80, PROGRESS_BYTES, 200, 100, 1.0); /* the file grew meanwhile */
    assert_non_null(strstr(line, "100% "));
    progress_line(line, 30, PROGRESS_BYTES, 50u << 20, 100u << 20, 2.0); /* narrow: no bar */
    assert_int_equal(strlen(line), 29);
    progress_line(line, 5, PROGRESS_BYTES, 50u << 20, 100u << 20, 2.0);
    assert_int_equal(strlen(line), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read_in_blocks_of_any_size),
        cmocka_unit_test(test_a_record_beyond_the_limit_ends_the_load),
        cmocka_unit_test(test_a_bad_line_stops_a_block_or_is_counted),
        cmocka_unit_test(test_inputs_that_cannot_be_read_are_refused),
        cmocka_unit_test(test_out_keeps_the_first_error),
        cmocka_unit_test(test_out_takes_pieces_larger_than_its_buffer),
        cmocka_unit_test(test_progress_says_how_far_how_fast_how_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
