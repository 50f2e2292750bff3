/* tsv: one record a line, KEY TAB VALUE, with the escapes of escape.h. Everything behind the first
 * TAB is the value. A carriage return before the line feed belongs to the line's end: in a value it
 * is written \r. */
#include "format/escape.h"
#include "format/format.h"

#include <string.h>

static enum parse_result tsv_next(struct parser *parser, struct record *ret_record)
{
    struct line line = parser_line(parser);
    uint8_t *tab = line.size == 0 ? NULL : memchr(line.data, '\t', line.size);
    if (tab == NULL) {
        const char *reason = line.size == 0 ? "the line is empty" : "no TAB behind the key";
        return parser_bad(parser, reason, NULL, NULL);
    }
    struct record record = {.expires_at_ms = 0};
    const uint8_t *bad = NULL;
    uint8_t *value = tab + 1;
    size_t value_size = line.size - (size_t)(value - line.data);
    const char *reason = escape_decode(line.data, (size_t)(tab - line.data), &record.key.size,
                                       &bad);
    if (reason == NULL) {
        reason = escape_decode(value, value_size, &record.value.size, &bad);
    }
    if (reason != NULL) {
        return parser_bad(parser, reason, line.data, bad);
    }
    record.key.data = line.data;
    record.value.data = value;
    enum parse_result result = parser_check(parser, &record);
    if (result == PARSE_RECORD) {
        *ret_record = record;
    }
    return result;
}

static enum write_result tsv_write(struct out *out, const struct record *record)
{
    escape_write(out, record->key.data, record->key.size);
    out_char(out, '\t');
    escape_write(out, record->value.data, record->value.size);
    out_char(out, '\n');
    return WRITE_OK;
}

const struct format format_tsv = {
    .name = "tsv",
    .endings = ".tsv",
    .summary = "KEY TAB VALUE, with escapes \\t \\n \\r \\\\ \\xHH",
    .keeps_values = true,
    .cut = format_cut_lines,
    .next = tsv_next,
    .end_problem = format_ends_anywhere,
    .write_head = format_writes_no_head,
    .write = tsv_write,
    .write_tail = format_writes_nothing,
};
