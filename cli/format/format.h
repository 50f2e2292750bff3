/* The text formats of load and dump: one file for each, all behind one table.
 *
 * What holds for every format:
 *  1. Nothing here knows the store, or allocates: parsers are functions over a block of bytes,
 *     writers over a struct out.
 *  2. A parser decodes in place. Every encoding here is at least as long as what it stands for, so
 *     a record's key and value lie in the block it was parsed from, which must be writable.
 *  3. A block holds whole records. cut() finds where the last whole one ends, and carries what the
 *     next block must know about the ones before it in a struct format_state.
 *  4. Whatever the bytes, a parser ends: every call consumes at least one line.
 *  5. A record that is returned can be stored: its key is 1 to CASK_KEY_MAX bytes, its value at
 *     most CASK_VALUE_MAX, its expiry in the range of the store.
 *  6. What a writer wrote, the parser of the same format returns byte for byte.
 */
#ifndef CASKADE_CLI_FORMAT_H
#define CASKADE_CLI_FORMAT_H

#include "format/out.h"

#include <caskade.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No legal record takes more bytes of text than this in any format: six a byte (\u00XX) and the
 * frame around it. */
#define FORMAT_RECORD_MAX ((uint64_t)6 * ((uint64_t)CASK_VALUE_MAX + CASK_KEY_MAX) + 4096)

#define FORMAT_EXPIRY_MAX (((uint64_t)1 << 56) - 1)

struct record {
    struct cask_slice key;
    struct cask_slice value;
    uint64_t expires_at_ms; /* 0: never */
};

/* Where a stream stands between two lines. Only the LMDB format has something to remember. */
enum format_phase {
    PHASE_START = 0, /* all zeros is the start of every stream */
    PHASE_HEADER,
    PHASE_DATA,
    PHASE_DONE,  /* behind the last record of the stream */
    PHASE_BROKEN /* the rest makes no sense and is not looked at */
};

struct format_state {
    enum format_phase phase;
    bool print_style; /* LMDB: format=print, else bytevalue */
};

/* What is wrong with a line. */
struct bad_line {
    uint64_t line;      /* counted from 1 at the start of the block */
    uint64_t column;    /* byte in the line, from 1; 0 where it says nothing */
    const char *reason; /* static text */
};

enum parse_result {
    PARSE_END,
    PARSE_RECORD,
    PARSE_BAD,  /* this record is no good; the next call goes on behind it */
    PARSE_FATAL /* nothing behind this line can be read either; the next call is PARSE_END */
};

struct format;

/* Reads the records of one block. */
struct parser {
    const struct format *format;
    struct format_state state;
    uint8_t *at;
    uint8_t *end;
    uint64_t lines;      /* consumed so far */
    struct bad_line bad; /* after PARSE_BAD and PARSE_FATAL */
};

/* What a dump says about itself up front. */
struct dump_info {
    uint64_t live_keys;
    uint64_t live_bytes;
};

enum write_result {
    WRITE_OK,
    WRITE_IMPOSSIBLE /* the format has no way to say this record; nothing was written */
};

struct format {
    const char *name;
    const char *endings; /* of file names, one after the other, each with its dot and a blank */
    const char *summary;
    bool keeps_values;
    bool keeps_expiry;
    size_t key_max; /* longest key that the usual reader of the format takes, 0 for any */

    /* How many bytes of data are whole records and lines. *state moves on with them. */
    size_t (*cut)(struct format_state *state, const uint8_t *data, size_t size);
    enum parse_result (*next)(struct parser *parser, struct record *ret_record);
    /* A stream that may not end where it does: the reason, else NULL. */
    const char *(*end_problem)(const struct format_state *state);

    void (*write_head)(struct out *out, const struct dump_info *info);
    enum write_result (*write)(struct out *out, const struct record *record);
    void (*write_tail)(struct out *out);
};

/* All formats, ended by one without a name. */
extern const struct format *const formats[];

const struct format *format_by_name(const char *name);

/* By a file name's ending; a further ".zst" is looked past. NULL if it says nothing. */
const struct format *format_by_path(const char *path);

/* Whether path ends in ".zst". */
bool format_path_is_zstd(const char *path);

extern const struct format format_tsv, format_lines, format_jsonl, format_lmdb, format_lmdb_print;

void parser_init(struct parser *parser, const struct format *format, struct format_state state,
                 uint8_t *data, size_t size);
enum parse_result parser_next(struct parser *parser, struct record *ret_record);

/* For the formats' own use. */

/* Takes the next line: its bytes without line feed and without a carriage return before that. */
struct line {
    uint8_t *data;
    size_t size;
};
struct line parser_line(struct parser *parser);

/* Notes what is wrong with the line just taken. data, if not NULL, points at the place, in a line
 * that begins at line_start. */
enum parse_result parser_bad(struct parser *parser, const char *reason, const uint8_t *line_start,
                             const uint8_t *data);

/* PARSE_RECORD if the record keeps to the store's limits, else PARSE_BAD. */
enum parse_result parser_check(struct parser *parser, const struct record *record);

/* Most formats: whole lines, nothing to remember. */
size_t format_cut_lines(struct format_state *state, const uint8_t *data, size_t size);
const char *format_ends_anywhere(const struct format_state *state);
void format_writes_nothing(struct out *out);
void format_writes_no_head(struct out *out, const struct dump_info *info);

#endif
