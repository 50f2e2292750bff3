#include "format/json.h"

#include "format/escape.h"
#include "format/utf8.h"

#include <string.h>

static bool fail(struct json *json, const char *reason)
{
    json->reason = reason;
    return false;
}

static bool next_is(const struct json *json, char c)
{
    return json->at < json->end && *json->at == (uint8_t)c;
}

void json_skip_space(struct json *json)
{
    while (next_is(json, ' ') || next_is(json, '\t') || next_is(json, '\r') ||
           next_is(json, '\n')) {
        json->at++;
    }
}

bool json_accept(struct json *json, char c)
{
    json_skip_space(json);
    if (!next_is(json, c)) {
        return false;
    }
    json->at++;
    return true;
}

/* The four digits behind \u, or -1. */
static int32_t hex4(const uint8_t *data, const uint8_t *end)
{
    int32_t number = 0;
    if (end - data < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(data[i]);
        if (digit < 0) {
            return -1;
        }
        number = number * 16 + digit;
    }
    return number;
}

/* The code point of the \u escape at *data, which moves behind it. False for a lone surrogate or
 * missing digits. */
static bool unicode_escape(const uint8_t **data, const uint8_t *end, uint32_t *ret_code_point)
{
    int32_t unit = hex4(*data + 2, end);
    if (unit < 0 || (unit >= 0xDC00 && unit <= 0xDFFF)) {
        return false;
    }
    *data += 6;
    *ret_code_point = (uint32_t)unit;
    if (unit < 0xD800 || unit > 0xDBFF) {
        return true;
    }
    if (end - *data < 6 || (*data)[0] != '\\' || (*data)[1] != 'u') {
        return false;
    }
    int32_t low = hex4(*data + 2, end);
    if (low < 0xDC00 || low > 0xDFFF) {
        return false;
    }
    *data += 6;
    *ret_code_point = 0x10000 + ((uint32_t)(unit - 0xD800) << 10) + (uint32_t)(low - 0xDC00);
    return true;
}

/* The byte that a one-letter escape stands for, or 0. */
static uint8_t short_escape(uint8_t letter)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    const char *place = letter == 0 ? NULL : strchr(from, letter);
    return place == NULL ? 0 : (uint8_t)to[place - from];
}

static bool skip_escape(struct json *json)
{
    if (json->end - json->at < 2) {
        return fail(json, "the string does not end");
    }
    if (json->at[1] != 'u') {
        if (short_escape(json->at[1]) == 0) {
            return fail(json, "not a JSON escape");
        }
        json->at += 2;
        return true;
    }
    const uint8_t *behind = json->at;
    uint32_t code_point;
    if (!unicode_escape(&behind, json->end, &code_point)) {
        return fail(json, "not a Unicode character: \\u wants four digits and no lone surrogate");
    }
    json->at += behind - json->at;
    return true;
}

/* Steps over a string and checks it. */
static bool skip_string(struct json *json, bool *ret_escaped)
{
    *ret_escaped = false;
    json->at++;
    while (json->at < json->end) {
        uint8_t c = *json->at;
        if (c == '"') {
            json->at++;
            return true;
        }
        if (c == '\\') {
            *ret_escaped = true;
            if (!skip_escape(json)) {
                return false;
            }
        } else if (c < 0x20) {
            return fail(json, "a control character in a string must be escaped");
        } else if (c < 0x80) {
            json->at++;
        } else {
            size_t length = utf8_length(json->at, (size_t)(json->end - json->at));
            if (length == 0) {
                return fail(json, "not UTF-8; bytes go into key64 and value64");
            }
            json->at += length;
        }
    }
    return fail(json, "the string does not end");
}

/* Decodes what skip_string() has checked. */
static size_t decode_string(uint8_t *data, const uint8_t *end)
{
    uint8_t *to = data;
    for (const uint8_t *from = data; from < end;) {
        if (*from != '\\') {
            *to++ = *from++;
        } else if (from[1] != 'u') {
            *to++ = short_escape(from[1]);
            from += 2;
        } else {
            uint32_t code_point = 0;
            uint8_t bytes[4];
            if (!unicode_escape(&from, end, &code_point)) {
                break;
            }
            size_t length = utf8_encode(code_point, bytes);
            memcpy(to, bytes, length);
            to += length;
        }
    }
    return (size_t)(to - data);
}

bool json_string(struct json *json, struct cask_slice *ret_string)
{
    json_skip_space(json);
    if (!next_is(json, '"')) {
        return fail(json, "a string is expected here");
    }
    uint8_t *start = json->at + 1;
    bool escaped;
    if (!skip_string(json, &escaped)) {
        return false;
    }
    ret_string->data = start;
    ret_string->size = (size_t)(json->at - 1 - start);
    if (escaped) {
        ret_string->size = decode_string(start, json->at - 1);
    }
    return true;
}

static bool skip_digits(struct json *json)
{
    const uint8_t *start = json->at;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') {
        json->at++;
    }
    return json->at > start;
}

static bool skip_number(struct json *json)
{
    json->at += next_is(json, '-');
    bool zero = next_is(json, '0');
    const uint8_t *start = json->at;
    bool good = skip_digits(json) && (!zero || json->at - start == 1);
    if (good && next_is(json, '.')) {
        json->at++;
        good = skip_digits(json);
    }
    if (good && (next_is(json, 'e') || next_is(json, 'E'))) {
        json->at++;
        json->at += next_is(json, '+') || next_is(json, '-');
        good = skip_digits(json);
    }
    return good || fail(json, "not a JSON number");
}

static bool skip_word(struct json *json, const char *word)
{
    size_t size = strlen(word);
    if ((size_t)(json->end - json->at) < size || memcmp(json->at, word, size) != 0) {
        return fail(json, "not a JSON value");
    }
    json->at += size;
    return true;
}

static bool skip_scalar(struct json *json)
{
    bool escaped;
    switch (json->at < json->end ? *json->at : 0) {
    case '"':
        return skip_string(json, &escaped);
    case 't':
        return skip_word(json, "true");
    case 'f':
        return skip_word(json, "false");
    case 'n':
        return skip_word(json, "null");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return skip_number(json);
    default:
        return fail(json, "not a JSON value");
    }
}

static bool skip_member_name(struct json *json)
{
    bool escaped;
    json_skip_space(json);
    if (!next_is(json, '"')) {
        return fail(json, "a member's name is expected here");
    }
    return skip_string(json, &escaped) &&
           (json_accept(json, ':') || fail(json, "a colon is expected here"));
}

/* Behind a value in containers: steps over what closes them, and over one comma. */
static bool skip_closing(struct json *json, const uint8_t *kinds, size_t *depth)
{
    while (*depth > 0) {
        uint8_t open = kinds[*depth - 1];
        if (json_accept(json, ',')) {
            return open == '[' || skip_member_name(json);
        }
        if (!json_accept(json, open == '[' ? ']' : '}')) {
            return fail(json, "a comma or a closing bracket is expected here");
        }
        (*depth)--;
    }
    return true;
}

/* Containers are kept in an array and not on the call stack: depth costs a byte. */
bool json_skip_value(struct json *json)
{
    uint8_t kinds[JSON_DEPTH_MAX];
    size_t depth = 0;
    do {
        json_skip_space(json);
        bool object = next_is(json, '{');
        if (!object && !next_is(json, '[')) {
            if (!skip_scalar(json) || !skip_closing(json, kinds, &depth)) {
                return false;
            }
            continue;
        }
        if (depth == JSON_DEPTH_MAX) {
            return fail(json, "nested deeper than 512 levels");
        }
        kinds[depth++] = *json->at++;
        if (json_accept(json, object ? '}' : ']')) {
            depth--;
            if (!skip_closing(json, kinds, &depth)) {
                return false;
            }
        } else if (object && !skip_member_name(json)) {
            return false;
        }
    } while (depth > 0);
    return true;
}
