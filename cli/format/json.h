/* A strict JSON (RFC 8259) scanner over a slice, for one line at a time.
 *
 * The JSON libraries at hand build trees, and none of them keeps the text of what it read: 1.0,
 * 1e400 or 12345678901234567890 come back as something else. What a store of bytes wants is where a
 * value starts and ends. So this one checks the grammar and moves along; it decodes strings, in
 * place, and nothing else.
 */
#ifndef CASKADE_CLI_JSON_H
#define CASKADE_CLI_JSON_H

#include <caskade.h>
#include <stdbool.h>
#include <stdint.h>

/* Values nested deeper than this are refused. */
#define JSON_DEPTH_MAX 512

struct json {
    uint8_t *at;
    uint8_t *end;
    const char *reason; /* why the last call failed; at points at the place */
};

void json_skip_space(struct json *json);

/* Steps over the character if it is next, blanks in front of it too. */
bool json_accept(struct json *json, char c);

/* Reads a string and decodes it in place. */
bool json_string(struct json *json, struct cask_slice *ret_string);

/* Steps over any value, checking it; its text lies between the positions before and after. */
bool json_skip_value(struct json *json);

#endif
