/* UTF-8 as in RFC 3629: what is well-formed, and how a code point is written. */
#ifndef CASKADE_CLI_UTF8_H
#define CASKADE_CLI_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the well-formed UTF-8 sequence at data: 1 to 4, or 0 where there is none (overlong
 * forms, surrogates and what is beyond U+10FFFF included). */
size_t utf8_length(const uint8_t *data, size_t size);

bool utf8_valid(const uint8_t *data, size_t size);

/* Writes the UTF-8 form of a code point up to U+10FFFF; returns its length. */
size_t utf8_encode(uint32_t code_point, uint8_t ret_bytes[4]);

#endif
