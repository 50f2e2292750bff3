/* lines: a wordlist. Every line is a key, as it stands and without escapes; the value is empty. */
#include "format/format.h"

#include <string.h>

static enum parse_result lines_next(struct parser *parser, struct record *ret_record)
{
    struct line line = parser_line(parser);
    struct record record = {.key = {line.data, line.size}, .value = {line.data, 0}};
    if (line.size == 0) {
        return parser_bad(parser, "the line is empty", NULL, NULL);
    }
    enum parse_result result = parser_check(parser, &record);
    if (result == PARSE_RECORD) {
        *ret_record = record;
    }
    return result;
}

/* A line feed in a key would make two of it, and a carriage return at its end would be taken for a
 * part of the line's end. */
static enum write_result lines_write(struct out *out, const struct record *record)
{
    const uint8_t *key = record->key.data;
    size_t size = record->key.size;
    if (size == 0 || memchr(key, '\n', size) != NULL || key[size - 1] == '\r') {
        return WRITE_IMPOSSIBLE;
    }
    out_write(out, key, size);
    out_char(out, '\n');
    return WRITE_OK;
}

const struct format format_lines = {
    .name = "lines",
    .endings = ".txt .words",
    .summary = "a wordlist: every line a key, values empty",
    .keeps_values = false,
    .cut = format_cut_lines,
    .next = lines_next,
    .end_problem = format_ends_anywhere,
    .write_head = format_writes_no_head,
    .write = lines_write,
    .write_tail = format_writes_nothing,
};
