/* Buffered output to a descriptor.
 *
 *  1. The first failed write is kept in .error and nothing is written after it, so callers may
 *     write freely and look once, at the end: an out is never silently short.
 *  2. Memory is bounded by the buffer, whatever the size of one piece.
 *  3. An interrupted or short write is gone on with here.
 */
#ifndef CASKADE_CLI_OUT_H
#define CASKADE_CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct out {
    int fd;
    int error; /* errno of the first failure, 0 if none */
    size_t used;
    uint64_t written; /* bytes accepted so far, buffered ones included */
    char buffer[65536];
};

void out_init(struct out *out, int fd);
void out_write(struct out *out, const void *data, size_t size);
void out_text(struct out *out, const char *text);
void out_char(struct out *out, char c);
void out_number(struct out *out, uint64_t number);

/* Two lowercase hexadecimal digits. */
void out_hex(struct out *out, uint8_t byte);

/* Hands what is buffered to the system. Whether everything so far went well. */
bool out_flush(struct out *out);

#endif
