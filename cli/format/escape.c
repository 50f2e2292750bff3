#include "format/escape.h"

#include <string.h>

int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

/* Decodes the escape at from, which starts with a backslash. How many bytes it takes, 0 if it is
 * none. */
static size_t decode_one(const uint8_t *from, size_t left, uint8_t *ret_byte)
{
    if (left < 2) {
        return 0;
    }
    switch (from[1]) {
    case 't':
        *ret_byte = '\t';
        return 2;
    case 'n':
        *ret_byte = '\n';
        return 2;
    case 'r':
        *ret_byte = '\r';
        return 2;
    case '\\':
        *ret_byte = '\\';
        return 2;
    case 'x':
        if (left >= 4 && hex_digit(from[2]) >= 0 && hex_digit(from[3]) >= 0) {
            *ret_byte = (uint8_t)(hex_digit(from[2]) * 16 + hex_digit(from[3]));
            return 4;
        }
        return 0;
    default:
        return 0;
    }
}

const char *escape_decode(uint8_t *data, size_t size, size_t *ret_size, const uint8_t **ret_bad)
{
    const uint8_t *end = data + size;
    uint8_t *to = size == 0 ? NULL : memchr(data, '\\', size);
    if (to == NULL) { /* the usual case: nothing to do */
        *ret_size = size;
        return NULL;
    }
    for (const uint8_t *from = to; from < end;) {
        if (*from != '\\') {
            const uint8_t *next = memchr(from, '\\', (size_t)(end - from));
            size_t run = (size_t)((next == NULL ? end : next) - from);
            memmove(to, from, run);
            to += run;
            from += run;
            continue;
        }
        uint8_t byte;
        size_t taken = decode_one(from, (size_t)(end - from), &byte);
        if (taken == 0) {
            *ret_bad = from;
            return "not an escape; these are: \\t \\n \\r \\\\ \\xHH";
        }
        *to++ = byte;
        from += taken;
    }
    *ret_size = (size_t)(to - data);
    return NULL;
}

void escape_write(struct out *out, const void *data, size_t size)
{
    static const char letters[256] = {['\t'] = 't', ['\n'] = 'n', ['\r'] = 'r', ['\\'] = '\\'};
    const uint8_t *bytes = data;
    size_t start = 0;
    for (size_t i = 0; i < size; i++) {
        char letter = letters[bytes[i]];
        if (letter != 0) {
            char text[2] = {'\\', letter};
            out_write(out, bytes + start, i - start);
            out_write(out, text, 2);
            start = i + 1;
        }
    }
    if (start < size) {
        out_write(out, bytes + start, size - start);
    }
}
