#include "format/utf8.h"

#include <string.h>

static bool continues(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

size_t utf8_length(const uint8_t *data, size_t size)
{
    uint8_t first = size > 0 ? data[0] : 0xFF;
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xC2 || first > 0xF4) {
        return 0;
    }
    size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (size < length) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if (!continues(data[i])) {
            return 0;
        }
    }
    /* The second byte rules out overlong forms, surrogates and what is too large. */
    if ((first == 0xE0 && data[1] < 0xA0) || (first == 0xED && data[1] > 0x9F) ||
        (first == 0xF0 && data[1] < 0x90) || (first == 0xF4 && data[1] > 0x8F)) {
        return 0;
    }
    return length;
}

bool utf8_valid(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size;) {
        uint64_t eight;
        if (size - i >= sizeof(eight)) {
            memcpy(&eight, data + i, sizeof(eight));
            if ((eight & 0x8080808080808080u) == 0) {
                i += sizeof(eight);
                continue;
            }
        }
        size_t length = utf8_length(data + i, size - i);
        if (length == 0) {
            return false;
        }
        i += length;
    }
    return true;
}

size_t utf8_encode(uint32_t code_point, uint8_t ret_bytes[4])
{
    if (code_point < 0x80) {
        ret_bytes[0] = (uint8_t)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        ret_bytes[0] = (uint8_t)(0xC0 | code_point >> 6);
        ret_bytes[1] = (uint8_t)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point < 0x10000) {
        ret_bytes[0] = (uint8_t)(0xE0 | code_point >> 12);
        ret_bytes[1] = (uint8_t)(0x80 | (code_point >> 6 & 0x3F));
        ret_bytes[2] = (uint8_t)(0x80 | (code_point & 0x3F));
        return 3;
    }
    ret_bytes[0] = (uint8_t)(0xF0 | code_point >> 18);
    ret_bytes[1] = (uint8_t)(0x80 | (code_point >> 12 & 0x3F));
    ret_bytes[2] = (uint8_t)(0x80 | (code_point >> 6 & 0x3F));
    ret_bytes[3] = (uint8_t)(0x80 | (code_point & 0x3F));
    return 4;
}
