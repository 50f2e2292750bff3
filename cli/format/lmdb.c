/* lmdb and lmdb-print: what mdb_dump and mdb_load write and read (also Berkeley DB's tools).
 *
 *   VERSION=3            a header of NAME=VALUE lines
 *   format=bytevalue     or print
 *   HEADER=END
 *    6b6579              key: a blank, then two hexadecimal digits a byte
 *    76616c7565          value; in print style printable ASCII stands for itself, \HH for the rest
 *   DATA=END
 *
 * A record is two lines, so a block may only be cut between them: cut() walks the lines with the
 * same step() as the parser. A line out of place leaves no way to tell keys from values behind it:
 * that is fatal, a bad digit inside a line only spoils its record. */
#include "format/escape.h"
#include "format/format.h"

#include <string.h>

enum step { STEP_SKIP, STEP_KEY, STEP_FATAL };

static bool line_is(struct line line, const char *text)
{
    return line.size == strlen(text) && memcmp(line.data, text, line.size) == 0;
}

static bool line_starts(struct line line, const char *text)
{
    size_t size = strlen(text);
    return line.size >= size && memcmp(line.data, text, size) == 0;
}

static enum step broken(struct format_state *state, const char **ret_reason, const char *reason)
{
    state->phase = PHASE_BROKEN;
    *ret_reason = reason;
    return STEP_FATAL;
}

static enum step step_header(struct format_state *state, struct line line, const char **ret_reason)
{
    if (line_is(line, "HEADER=END")) {
        state->phase = PHASE_DATA;
    } else if (line_is(line, "format=print")) {
        state->print_style = true;
    } else if (line_is(line, "format=bytevalue")) {
        state->print_style = false;
    } else if (line_starts(line, "format=")) {
        return broken(state, ret_reason, "the format is neither print nor bytevalue");
    } else if (line_is(line, "dupsort=1") || line_is(line, "duplicates=1")) {
        return broken(state, ret_reason, "the database has several values a key (dupsort)");
    } else if (line.size == 0 || memchr(line.data, '=', line.size) == NULL) {
        return broken(state, ret_reason, "not a NAME=VALUE line of a dump's header");
    }
    return STEP_SKIP; /* names that say nothing to a store are passed over, as mdb_load does */
}

/* What the next line is, given all before it. */
static enum step step(struct format_state *state, struct line line, const char **ret_reason)
{
    switch (state->phase) {
    case PHASE_START:
        if (!line_is(line, "VERSION=3")) {
            return broken(state, ret_reason, "not an LMDB dump: the first line is not VERSION=3");
        }
        state->phase = PHASE_HEADER;
        return STEP_SKIP;
    case PHASE_HEADER:
        return step_header(state, line, ret_reason);
    case PHASE_DATA:
        if (line_is(line, "DATA=END")) {
            state->phase = PHASE_DONE;
            return STEP_SKIP;
        }
        if (line.size == 0 || line.data[0] != ' ') {
            return broken(state, ret_reason,
                          "neither a key, which starts with a blank, nor "
                          "DATA=END");
        }
        return STEP_KEY;
    case PHASE_DONE:
        if (line.size == 0) {
            return STEP_SKIP;
        }
        return broken(state, ret_reason,
                      "something follows DATA=END; a dump of several databases "
                      "must be loaded one at a time (mdb_dump -s)");
    case PHASE_BROKEN:
        break;
    }
    return STEP_SKIP;
}

static size_t lmdb_cut(struct format_state *state, const uint8_t *data, size_t size)
{
    const char *reason;
    size_t cut = 0;
    while (cut < size) {
        const uint8_t *start = data + cut;
        const uint8_t *feed = memchr(start, '\n', size - cut);
        if (feed == NULL) {
            break;
        }
        size_t line_size = (size_t)(feed - start);
        line_size -= line_size > 0 && feed[-1] == '\r';
        struct line line = {(uint8_t *)(uintptr_t)start, line_size}; /* only read */
        struct format_state before = *state;
        if (step(state, line, &reason) == STEP_KEY) {
            size_t left = size - (size_t)(feed + 1 - data);
            feed = left == 0 ? NULL : memchr(feed + 1, '\n', left);
            if (feed == NULL) { /* the value is not here yet */
                *state = before;
                break;
            }
        }
        cut = (size_t)(feed - data) + 1;
    }
    return cut;
}

static const char *decode_hex(uint8_t *data, size_t size, size_t *ret_size, const uint8_t **ret_bad)
{
    for (size_t i = 0; i < size; i += 2) {
        int high = hex_digit(data[i]);
        int low = i + 1 < size ? hex_digit(data[i + 1]) : -1;
        if (high < 0 || low < 0) {
            *ret_bad = data + i;
            return "not a pair of hexadecimal digits";
        }
        data[i / 2] = (uint8_t)(high * 16 + low);
    }
    *ret_size = size / 2;
    return NULL;
}

static const char *decode_print(uint8_t *data, size_t size, size_t *ret_size,
                                const uint8_t **ret_bad)
{
    uint8_t *to = data;
    for (size_t i = 0; i < size;) {
        if (data[i] != '\\') {
            *to++ = data[i++];
        } else if (i + 1 < size && data[i + 1] == '\\') {
            *to++ = '\\';
            i += 2;
        } else if (i + 2 < size && hex_digit(data[i + 1]) >= 0 && hex_digit(data[i + 2]) >= 0) {
            *to++ = (uint8_t)(hex_digit(data[i + 1]) * 16 + hex_digit(data[i + 2]));
            i += 3;
        } else {
            *ret_bad = data + i;
            return "a backslash that is neither \\\\ nor \\HH (mdb_dump -p leaves backslashes "
                   "bare; "
                   "use it without -p)";
        }
    }
    *ret_size = (size_t)(to - data);
    return NULL;
}

/* Decodes a line behind its blank. False after noting what is wrong with it. */
static bool decode(struct parser *parser, struct line line, struct cask_slice *ret_bytes)
{
    const uint8_t *bad = NULL;
    const char *reason = parser->state.print_style
                             ? decode_print(line.data + 1, line.size - 1, &ret_bytes->size, &bad)
                             : decode_hex(line.data + 1, line.size - 1, &ret_bytes->size, &bad);
    ret_bytes->data = line.data + 1;
    if (reason != NULL) {
        (void)parser_bad(parser, reason, line.data, bad);
    }
    return reason == NULL;
}

static enum parse_result fatal(struct parser *parser, const char *reason)
{
    parser->state.phase = PHASE_BROKEN;
    (void)parser_bad(parser, reason, NULL, NULL);
    return PARSE_FATAL;
}

static enum parse_result next_record(struct parser *parser, struct line key_line,
                                     struct record *ret_record)
{
    struct record record = {.expires_at_ms = 0};
    bool key_good = decode(parser, key_line, &record.key);
    if (parser->at == parser->end) {
        return fatal(parser, "the dump ends between a key and its value");
    }
    struct line line = parser_line(parser);
    if (line.size == 0 || line.data[0] != ' ') {
        return fatal(parser, "not a value, which starts with a blank");
    }
    if (!key_good || !decode(parser, line, &record.value)) {
        return PARSE_BAD;
    }
    enum parse_result result = parser_check(parser, &record);
    if (result == PARSE_RECORD) {
        *ret_record = record;
    } else {
        parser->bad.line -= record.key.size == 0 || record.key.size > CASK_KEY_MAX;
    }
    return result;
}

static enum parse_result lmdb_next(struct parser *parser, struct record *ret_record)
{
    while (parser->at < parser->end) {
        const char *reason = NULL;
        struct line line = parser_line(parser);
        switch (step(&parser->state, line, &reason)) {
        case STEP_SKIP:
            break;
        case STEP_KEY:
            return next_record(parser, line, ret_record);
        case STEP_FATAL:
            return fatal(parser, reason);
        }
    }
    return PARSE_END;
}

static const char *lmdb_end_problem(const struct format_state *state)
{
    switch (state->phase) {
    case PHASE_START:
        return "not an LMDB dump: there is no line VERSION=3";
    case PHASE_HEADER:
        return "the dump ends in its header";
    case PHASE_DATA:
        return "the dump ends without DATA=END";
    case PHASE_DONE:
    case PHASE_BROKEN:
        break;
    }
    return NULL;
}

/* mdb_load makes its map as large as the header says and fails on what does not fit. The file takes
 * only what is used of it, so this is generous: half-filled pages, and a page for each value. */
static void write_head(struct out *out, const struct dump_info *info, const char *style)
{
    uint64_t map_size = info->live_bytes * 4 + info->live_keys * 64 + ((uint64_t)64 << 20);
    map_size = (map_size | 0xFFFFF) + 1;
    out_text(out, "VERSION=3\nformat=");
    out_text(out, style);
    out_text(out, "\ntype=btree\nmapsize=");
    out_number(out, map_size);
    out_text(out, "\nmaxreaders=126\nHEADER=END\n");
}

static void write_bytevalue_head(struct out *out, const struct dump_info *info)
{
    write_head(out, info, "bytevalue");
}

static void write_print_head(struct out *out, const struct dump_info *info)
{
    write_head(out, info, "print");
}

static void write_tail(struct out *out)
{
    out_text(out, "DATA=END\n");
}

static void write_hex(struct out *out, struct cask_slice bytes)
{
    const uint8_t *data = bytes.data;
    out_char(out, ' ');
    for (size_t i = 0; i < bytes.size; i++) {
        out_hex(out, data[i]);
    }
    out_char(out, '\n');
}

static void write_print(struct out *out, struct cask_slice bytes)
{
    const uint8_t *data = bytes.data;
    out_char(out, ' ');
    for (size_t i = 0; i < bytes.size; i++) {
        if (data[i] >= 0x20 && data[i] < 0x7F && data[i] != '\\') {
            out_char(out, (char)data[i]);
        } else {
            out_char(out, '\\');
            out_hex(out, data[i]);
        }
    }
    out_char(out, '\n');
}

static enum write_result lmdb_write_bytevalue(struct out *out, const struct record *record)
{
    write_hex(out, record->key);
    write_hex(out, record->value);
    return WRITE_OK;
}

static enum write_result lmdb_write_print(struct out *out, const struct record *record)
{
    write_print(out, record->key);
    write_print(out, record->value);
    return WRITE_OK;
}

const struct format format_lmdb = {
    .name = "lmdb",
    .endings = ".lmdb .dump .mdbdump",
    .summary = "LMDB's dump, VERSION=3, written as format=bytevalue",
    .keeps_values = true,
    .key_max = 511,
    .cut = lmdb_cut,
    .next = lmdb_next,
    .end_problem = lmdb_end_problem,
    .write_head = write_bytevalue_head,
    .write = lmdb_write_bytevalue,
    .write_tail = write_tail,
};

const struct format format_lmdb_print = {
    .name = "lmdb-print",
    .endings = "",
    .summary = "the same with format=print; load takes either",
    .keeps_values = true,
    .key_max = 511,
    .cut = lmdb_cut,
    .next = lmdb_next,
    .end_problem = lmdb_end_problem,
    .write_head = write_print_head,
    .write = lmdb_write_print,
    .write_tail = write_tail,
};
