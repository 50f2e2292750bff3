/* One block of a load: its text, the records in it dealt out by key, and its bad lines. */
#ifndef CASKADE_CLI_BLOCK_H
#define CASKADE_CLI_BLOCK_H

#include "load/source.h"

/* The records of a block that fall to one worker, in the order of the input. */
struct part {
    struct record *records;
    size_t count;
    size_t capacity;
};

enum block_phase { BLOCK_FREE, BLOCK_FILLING, BLOCK_PARSED };

struct load_block {
    enum block_phase phase;
    struct text_block text;
    struct part *parts; /* one for each worker */
    unsigned part_count;
    unsigned parts_applied;
    uint64_t records;
    uint64_t lines;
    struct bad_line *bad_lines;
    size_t bad_count;
    size_t bad_capacity;
    bool stops_load; /* nothing behind this block, or behind its first bad line, is loaded */
};

/* False if there is no memory. load_block_release() is due either way. */
bool load_block_init(struct load_block *block, unsigned part_count);
void load_block_release(struct load_block *block);

/* Parses the text and deals the records out: equal keys always fall to the same part. Stops at the
 * first bad line unless keep_going. False if there is no memory. */
bool load_block_parse(struct load_block *block, const struct format *format, bool keep_going);

/* Ready to be filled again. Memory beyond keep_bytes of text is given back. */
void load_block_reset(struct load_block *block, size_t keep_bytes);

#endif
