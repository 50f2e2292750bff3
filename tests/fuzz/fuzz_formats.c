/* The parsers of load's formats, on any bytes.
 *
 * The first byte picks the format, the second the size of the blocks that the rest is cut into, as
 * load does. Whatever the bytes:
 *  - cutting and parsing end, and read and write inside their block only (the sanitizers watch);
 *  - a record that is returned keeps to the store's limits and lies in its block;
 *  - how the text is cut into blocks changes nothing about what it means;
 *  - a record that was read is written and read again unchanged. */
#include "format/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* What a text means: a digest of its records and bad lines. */
struct meaning {
    uint64_t digest;
    uint64_t lines;
    enum format_phase phase;
    bool fatal;
};

static void digest_bytes(struct meaning *meaning, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        meaning->digest = (meaning->digest ^ bytes[i]) * 0x100000001B3u;
    }
    meaning->digest = (meaning->digest ^ size) * 0x100000001B3u;
}

static void check_inside(struct cask_slice slice, const uint8_t *block, size_t size)
{
    const uint8_t *data = slice.data;
    CHECK(slice.size <= size);
    CHECK(data >= block && data + slice.size <= block + size);
}

static void check_round_trip(const struct format *format, const struct record *record)
{
    static int fd = -1;
    static struct out out;
    struct dump_info info = {1, 1};
    if (fd < 0) {
        fd = memfd_create("fuzz_formats", MFD_CLOEXEC);
        CHECK(fd >= 0);
    }
    CHECK(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    out_init(&out, fd);
    format->write_head(&out, &info);
    if (format->write(&out, record) == WRITE_IMPOSSIBLE) {
        return;
    }
    format->write_tail(&out);
    CHECK(out_flush(&out));
    size_t size = (size_t)out.written;
    uint8_t *text = malloc(size);
    CHECK(text != NULL && pread(fd, text, size, 0) == (ssize_t)size);
    struct parser parser;
    struct record again;
    parser_init(&parser, format, (struct format_state){.phase = PHASE_START}, text, size);
    CHECK(parser_next(&parser, &again) == PARSE_RECORD);
    CHECK(again.key.size == record->key.size);
    CHECK(memcmp(again.key.data, record->key.data, again.key.size) == 0);
    CHECK(again.value.size == (format->keeps_values ? record->value.size : 0));
    CHECK(again.value.size == 0 ||
          memcmp(again.value.data, record->value.data, again.value.size) == 0);
    CHECK(again.expires_at_ms == (format->keeps_expiry ? record->expires_at_ms : 0));
    CHECK(parser_next(&parser, &again) == PARSE_END);
    CHECK(format->end_problem(&parser.state) == NULL);
    free(text);
}

static void parse_block(const struct format *format, struct format_state start, const uint8_t *data,
                        size_t size, struct meaning *meaning)
{
    struct parser parser;
    struct record record;
    enum parse_result result;
    uint8_t *text = malloc(size == 0 ? 1 : size); /* exactly as long: the sanitizer sees its end */
    CHECK(text != NULL);
    memcpy(text, data, size);
    parser_init(&parser, format, start, text, size);
    while (!meaning->fatal && (result = parser_next(&parser, &record)) != PARSE_END) {
        CHECK(parser.lines > 0 && parser.at <= parser.end);
        if (result == PARSE_RECORD) {
            CHECK(record.key.size >= 1 && record.key.size <= CASK_KEY_MAX);
            CHECK(record.expires_at_ms <= FORMAT_EXPIRY_MAX);
            check_inside(record.key, text, size);
            check_inside(record.value, text, size);
            digest_bytes(meaning, record.key.data, record.key.size);
            digest_bytes(meaning, record.value.data, record.value.size);
            digest_bytes(meaning, &record.expires_at_ms, sizeof(record.expires_at_ms));
            check_round_trip(format, &record);
        } else {
            uint64_t line = meaning->lines + parser.bad.line;
            CHECK(parser.bad.line >= 1 && parser.bad.line <= parser.lines);
            digest_bytes(meaning, parser.bad.reason, strlen(parser.bad.reason));
            digest_bytes(meaning, &line, sizeof(line));
            digest_bytes(meaning, &parser.bad.column, sizeof(parser.bad.column));
            meaning->fatal = result == PARSE_FATAL;
        }
    }
    meaning->lines += parser.lines;
    meaning->phase = parser.state.phase;
    free(text);
}

/* Cuts as load/source.c does: blocks grow until they hold a whole record. */
static struct meaning parse_text(const struct format *format, const uint8_t *data, size_t size,
                                 size_t block_bytes)
{
    struct meaning meaning = {.digest = 1};
    struct format_state state = {.phase = PHASE_START};
    size_t begin = 0, wanted = block_bytes;
    while (size - begin > wanted) {
        struct format_state start = state;
        size_t cut = format->cut(&state, data + begin, wanted);
        CHECK(cut <= wanted);
        if (cut == 0) {
            CHECK(state.phase == start.phase);
            wanted *= 2;
            continue;
        }
        parse_block(format, start, data + begin, cut, &meaning);
        CHECK(meaning.fatal || meaning.phase == state.phase);
        begin += cut;
        wanted = block_bytes;
    }
    parse_block(format, state, data + begin, size - begin, &meaning);
    return meaning;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t count = 0;
    if (size < 2) {
        return 0;
    }
    while (formats[count] != NULL) {
        count++;
    }
    const struct format *format = formats[data[0] % count];
    struct meaning whole = parse_text(format, data + 2, size - 2, size);
    struct meaning blocks = parse_text(format, data + 2, size - 2, (size_t)data[1] + 1);
    CHECK(whole.digest == blocks.digest);
    CHECK(whole.fatal == blocks.fatal);
    CHECK(whole.fatal || (whole.lines == blocks.lines && whole.phase == blocks.phase));
    return 0;
}
