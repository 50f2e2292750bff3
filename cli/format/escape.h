/* The escapes of the tsv format: \t \n \r \\ and \xHH for any byte. Also those of keys and values
 * on the command line under --escaped, and of keys in messages. */
#ifndef CASKADE_CLI_ESCAPE_H
#define CASKADE_CLI_ESCAPE_H

#include "format/out.h"

#include <stddef.h>
#include <stdint.h>

/* Decodes in place. NULL and *ret_size, or what is wrong and *ret_bad pointing at it. */
const char *escape_decode(uint8_t *data, size_t size, size_t *ret_size, const uint8_t **ret_bad);

/* TAB, line feed, carriage return and backslash as escapes, everything else as it is. */
void escape_write(struct out *out, const void *data, size_t size);

/* The value of a hexadecimal digit, or -1. */
int hex_digit(uint8_t c);

#endif
