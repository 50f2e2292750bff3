#include "load/block.h"

#include <stdlib.h>
#include <string.h>

bool load_block_init(struct load_block *block, unsigned part_count)
{
    memset(block, 0, sizeof(*block));
    block->part_count = part_count;
    block->parts = calloc(part_count, sizeof(*block->parts));
    return block->parts != NULL;
}

void load_block_release(struct load_block *block)
{
    for (unsigned i = 0; block->parts != NULL && i < block->part_count; i++) {
        free(block->parts[i].records);
    }
    free(block->parts);
    free(block->bad_lines);
    text_block_release(&block->text);
    memset(block, 0, sizeof(*block));
}

void load_block_reset(struct load_block *block, size_t keep_bytes)
{
    for (unsigned i = 0; i < block->part_count; i++) {
        block->parts[i].count = 0;
    }
    if (block->text.capacity > keep_bytes) {
        text_block_release(&block->text);
    }
    block->phase = BLOCK_FREE;
    block->parts_applied = 0;
    block->records = 0;
    block->lines = 0;
    block->bad_count = 0;
    block->stops_load = false;
}

/* Only balance between the parts depends on how good this is. */
static unsigned part_of(struct cask_slice key, unsigned part_count)
{
    const uint8_t *data = key.data;
    uint64_t hash = key.size;
    uint64_t word;
    size_t i = 0;
    for (; key.size - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, data + i, sizeof(word));
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, data + i, key.size - i);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return (unsigned)(((hash >> 32) * part_count) >> 32);
}

static bool add_record(struct part *part, const struct record *record)
{
    if (part->count == part->capacity) {
        size_t capacity = part->capacity == 0 ? 1024 : part->capacity * 2;
        struct record *larger = realloc(part->records, capacity * sizeof(*larger));
        if (larger == NULL) {
            return false;
        }
        part->records = larger;
        part->capacity = capacity;
    }
    part->records[part->count++] = *record;
    return true;
}

static bool add_bad_line(struct load_block *block, const struct bad_line *bad)
{
    if (block->bad_count == block->bad_capacity) {
        size_t capacity = block->bad_capacity == 0 ? 16 : block->bad_capacity * 2;
        struct bad_line *larger = realloc(block->bad_lines, capacity * sizeof(*larger));
        if (larger == NULL) {
            return false;
        }
        block->bad_lines = larger;
        block->bad_capacity = capacity;
    }
    block->bad_lines[block->bad_count++] = *bad;
    return true;
}

/* What only shows where the input ends. */
static bool check_end(struct load_block *block, const struct format *format,
                      const struct format_state *state)
{
    const char *reason = format->end_problem(state);
    if (block->text.too_long) {
        reason = "the line is longer than any record can be";
    }
    if (!block->text.last || block->stops_load || reason == NULL) {
        return true;
    }
    uint64_t line = block->lines + block->text.too_long;
    struct bad_line bad = {.line = line == 0 ? 1 : line, .reason = reason};
    block->stops_load = true;
    return add_bad_line(block, &bad);
}

bool load_block_parse(struct load_block *block, const struct format *format, bool keep_going)
{
    struct parser parser;
    struct record record;
    bool good = true;
    enum parse_result result;
    parser_init(&parser, format, block->text.start, block->text.data, block->text.size);
    do {
        result = parser_next(&parser, &record);
        if (result == PARSE_RECORD) {
            unsigned part = part_of(record.key, block->part_count);
            good = add_record(&block->parts[part], &record);
            block->records++;
        } else if (result != PARSE_END) {
            good = add_bad_line(block, &parser.bad);
            block->stops_load = !keep_going || result == PARSE_FATAL;
        }
    } while (good && result != PARSE_END && !block->stops_load);
    block->lines = parser.lines;
    return good && check_end(block, format, &parser.state);
}
