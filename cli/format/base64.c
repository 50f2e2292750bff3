#include "format/base64.h"

#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int digit(uint8_t c)
{
    const char *place = c == 0 ? NULL : strchr(alphabet, c);
    return place == NULL ? -1 : (int)(place - alphabet);
}

bool base64_decode(uint8_t *data, size_t size, size_t *ret_size)
{
    if (size % 4 != 0) {
        return false;
    }
    size_t pad = 0;
    while (pad < 2 && size > 0 && data[size - 1 - pad] == '=') {
        pad++;
    }
    uint8_t *to = data;
    for (size_t i = 0; i < size; i += 4) {
        size_t digits = i + 4 == size ? 4 - pad : 4;
        uint32_t group = 0;
        for (size_t k = 0; k < 4; k++) {
            int d = k < digits ? digit(data[i + k]) : 0;
            if (d < 0) {
                return false;
            }
            group = group << 6 | (uint32_t)d;
        }
        uint8_t bytes[3] = {(uint8_t)(group >> 16), (uint8_t)(group >> 8), (uint8_t)group};
        for (size_t k = 0; k < 3; k++) {
            if (k < digits - 1) {
                *to++ = bytes[k];
            } else if (bytes[k] != 0) { /* bits that no encoder sets */
                return false;
            }
        }
    }
    *ret_size = (size_t)(to - data);
    return true;
}

void base64_write(struct out *out, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i += 3) {
        size_t taken = size - i < 3 ? size - i : 3;
        uint32_t group = (uint32_t)bytes[i] << 16;
        group |= taken > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        group |= taken > 2 ? bytes[i + 2] : 0;
        char text[4] = {alphabet[group >> 18], alphabet[group >> 12 & 63],
                        taken > 1 ? alphabet[group >> 6 & 63] : '=',
                        taken > 2 ? alphabet[group & 63] : '='};
        out_write(out, text, sizeof(text));
    }
}
