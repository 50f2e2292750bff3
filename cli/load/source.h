/* The input of load: a file or a pipe, cut into blocks of whole records.
 *
 *  1. Blocks, one behind the other, are the input, byte for byte; each starts and ends between
 *     records. The last one, which may be empty, has .last set.
 *  2. Memory stays within a block, and what is left over of one; a record longer than a block makes
 *     its block longer, up to record_max.
 *  3. One thread at a time.
 */
#ifndef CASKADE_CLI_SOURCE_H
#define CASKADE_CLI_SOURCE_H

#include "format/format.h"
#include "load/unzstd.h"

struct text_block {
    uint8_t *data; /* NULL at first, kept from one filling to the next */
    size_t size;
    size_t capacity;
    struct format_state start; /* for parser_init() */
    uint64_t input_end;        /* bytes of the input file read so far, for progress */
    bool last;
    bool too_long; /* the input goes on with a record longer than record_max */
};

struct source {
    const struct format *format;
    const char *name; /* for messages */
    size_t block_bytes;
    uint64_t record_max;
    uint64_t input_size; /* of a regular file, else 0 */
    /* own */
    int fd;
    struct unzstd *unzstd;
    struct format_state state;
    uint64_t taken;
    uint8_t *rest; /* behind the last cut */
    size_t rest_size;
    size_t rest_capacity;
    bool ended;
    const char *problem; /* what went wrong in the last call that failed */
};

/* path "-" is standard input. False after setting .problem. source_close() is due either way. */
bool source_open(struct source *source, const char *path, const struct format *format,
                 size_t block_bytes);
void source_close(struct source *source);

/* The next block. False after setting .problem: an error of the system. */
bool source_fill(struct source *source, struct text_block *block);

/* Gives a block's memory back; a zeroed one is fine. */
void text_block_release(struct text_block *block);

#endif
