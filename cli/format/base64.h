/* Base64 as in RFC 4648 section 4: the usual alphabet, padded, nothing else between. */
#ifndef CASKADE_CLI_BASE64_H
#define CASKADE_CLI_BASE64_H

#include "format/out.h"

/* Decodes in place. Only the one canonical form is accepted. */
bool base64_decode(uint8_t *data, size_t size, size_t *ret_size);

void base64_write(struct out *out, const void *data, size_t size);

#endif
