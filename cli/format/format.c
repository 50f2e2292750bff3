#include "format/format.h"

#include <string.h>

const struct format *const formats[] = {&format_tsv,  &format_lines,      &format_jsonl,
                                        &format_lmdb, &format_lmdb_print, NULL};

const struct format *format_by_name(const char *name)
{
    for (size_t i = 0; formats[i] != NULL; i++) {
        if (strcmp(formats[i]->name, name) == 0) {
            return formats[i];
        }
    }
    return NULL;
}

static bool ends_in(const char *text, size_t size, const char *ending, size_t ending_size)
{
    return size > ending_size && memcmp(text + size - ending_size, ending, ending_size) == 0;
}

bool format_path_is_zstd(const char *path)
{
    return ends_in(path, strlen(path), ".zst", 4);
}

const struct format *format_by_path(const char *path)
{
    size_t size = strlen(path);
    if (format_path_is_zstd(path)) {
        size -= 4;
    }
    for (size_t i = 0; formats[i] != NULL; i++) {
        for (const char *ending = formats[i]->endings; *ending != '\0';) {
            size_t ending_size = strcspn(ending, " ");
            if (ends_in(path, size, ending, ending_size)) {
                return formats[i];
            }
            ending += ending_size + (ending[ending_size] == ' ');
        }
    }
    return NULL;
}

void parser_init(struct parser *parser, const struct format *format, struct format_state state,
                 uint8_t *data, size_t size)
{
    memset(parser, 0, sizeof(*parser));
    parser->format = format;
    parser->state = state;
    parser->at = data;
    parser->end = data + size;
}

enum parse_result parser_next(struct parser *parser, struct record *ret_record)
{
    if (parser->at == parser->end) {
        return PARSE_END;
    }
    return parser->format->next(parser, ret_record);
}

struct line parser_line(struct parser *parser)
{
    struct line line = {parser->at, 0};
    size_t left = (size_t)(parser->end - parser->at);
    uint8_t *feed = memchr(parser->at, '\n', left);
    uint8_t *stop = feed == NULL ? parser->end : feed;
    parser->at = feed == NULL ? parser->end : feed + 1;
    parser->lines++;
    line.size = (size_t)(stop - line.data);
    if (feed != NULL && line.size > 0 && stop[-1] == '\r') {
        line.size--;
    }
    return line;
}

enum parse_result parser_bad(struct parser *parser, const char *reason, const uint8_t *line_start,
                             const uint8_t *data)
{
    parser->bad.line = parser->lines;
    parser->bad.column = data == NULL ? 0 : (uint64_t)(data - line_start) + 1;
    parser->bad.reason = reason;
    return PARSE_BAD;
}

enum parse_result parser_check(struct parser *parser, const struct record *record)
{
    if (record->key.size == 0) {
        return parser_bad(parser, "the key is empty", NULL, NULL);
    }
    if (record->key.size > CASK_KEY_MAX) {
        return parser_bad(parser, "the key is longer than 65,535 bytes", NULL, NULL);
    }
    if (record->value.size > CASK_VALUE_MAX) {
        return parser_bad(parser, "the value is longer than 2,147,483,647 bytes", NULL, NULL);
    }
    return PARSE_RECORD;
}

size_t format_cut_lines(struct format_state *state, const uint8_t *data, size_t size)
{
    (void)state;
    const uint8_t *feed = size == 0 ? NULL : memrchr(data, '\n', size);
    return feed == NULL ? 0 : (size_t)(feed - data) + 1;
}

const char *format_ends_anywhere(const struct format_state *state)
{
    (void)state;
    return NULL;
}

void format_writes_nothing(struct out *out)
{
    (void)out;
}

void format_writes_no_head(struct out *out, const struct dump_info *info)
{
    (void)out;
    (void)info;
}
