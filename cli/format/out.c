#include "format/out.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void out_init(struct out *out, int fd)
{
    out->fd = fd;
    out->error = 0;
    out->used = 0;
    out->written = 0;
}

static void write_all(struct out *out, const char *data, size_t size)
{
    while (size > 0 && out->error == 0) {
        ssize_t n = write(out->fd, data, size);
        if (n >= 0) {
            data += n;
            size -= (size_t)n;
        } else if (errno != EINTR) {
            out->error = errno;
        }
    }
}

bool out_flush(struct out *out)
{
    write_all(out, out->buffer, out->used);
    out->used = 0;
    return out->error == 0;
}

void out_write(struct out *out, const void *data, size_t size)
{
    out->written += size;
    if (size > sizeof(out->buffer) - out->used) {
        (void)out_flush(out);
        if (size >= sizeof(out->buffer)) {
            write_all(out, data, size);
            return;
        }
    }
    if (size > 0) {
        memcpy(out->buffer + out->used, data, size);
        out->used += size;
    }
}

void out_text(struct out *out, const char *text)
{
    out_write(out, text, strlen(text));
}

void out_char(struct out *out, char c)
{
    out_write(out, &c, 1);
}

void out_number(struct out *out, uint64_t number)
{
    char text[24];
    int size = snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    out_write(out, text, (size_t)size);
}

void out_hex(struct out *out, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";
    char text[2] = {digits[byte >> 4], digits[byte & 15]};
    out_write(out, text, 2);
}
