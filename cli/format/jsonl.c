/* jsonl: one object a line.
 *
 *   {"key":"...","value":"..."}    strings, which are UTF-8
 *   key64, value64                 in their place: base64 of bytes that are not UTF-8
 *   "expires_at":1767225600000     optional: milliseconds since 1970 UTC
 *
 * A value that is not a string is kept as its JSON text, just as written. Members may come in any
 * order, once each; a line with others is refused, since what they say would be lost. */
#include "format/base64.h"
#include "format/format.h"
#include "format/json.h"
#include "format/utf8.h"

#include <stdlib.h>
#include <string.h>

enum member { MEMBER_KEY, MEMBER_VALUE, MEMBER_EXPIRES, MEMBER_COUNT };

struct object {
    struct json json;
    struct record record;
    bool seen[MEMBER_COUNT];
};

static bool fail(struct object *object, const char *reason)
{
    object->json.reason = reason;
    return false;
}

static bool name_is(struct cask_slice name, const char *text)
{
    return name.size == strlen(text) && memcmp(name.data, text, name.size) == 0;
}

static bool read_base64(struct object *object, struct cask_slice *ret_bytes)
{
    struct cask_slice text;
    if (!json_string(&object->json, &text)) {
        return false;
    }
    /* The text lies in the line, which is ours to write to. */
    uint8_t *data = object->json.end - (object->json.end - (const uint8_t *)text.data);
    ret_bytes->data = data;
    return base64_decode(data, text.size, &ret_bytes->size) || fail(object, "not base64");
}

static bool read_value(struct object *object)
{
    struct json *json = &object->json;
    json_skip_space(json);
    if (json->at < json->end && *json->at == '"') {
        return json_string(json, &object->record.value);
    }
    const uint8_t *start = json->at;
    if (!json_skip_value(json)) {
        return false;
    }
    object->record.value.data = start;
    object->record.value.size = (size_t)(json->at - start);
    return true;
}

static bool read_expiry(struct object *object)
{
    struct json *json = &object->json;
    uint64_t number = 0;
    json_skip_space(json);
    const uint8_t *start = json->at;
    if (!json_skip_value(json)) {
        return false;
    }
    for (const uint8_t *at = start; at < json->at; at++) {
        if (*at < '0' || *at > '9' || number > FORMAT_EXPIRY_MAX / 10) {
            number = 0;
            break;
        }
        number = number * 10 + (uint64_t)(*at - '0');
    }
    if (number == 0 || number > FORMAT_EXPIRY_MAX) {
        return fail(object, "expires_at is not a number of milliseconds since 1970");
    }
    object->record.expires_at_ms = number;
    return true;
}

static bool read_member(struct object *object)
{
    struct cask_slice name;
    bool is_key, is_64;
    if (!json_string(&object->json, &name)) {
        return false;
    }
    is_key = name_is(name, "key") || name_is(name, "key64");
    is_64 = name_is(name, "key64") || name_is(name, "value64");
    bool is_value = name_is(name, "value") || name_is(name, "value64");
    enum member member = is_key ? MEMBER_KEY : is_value ? MEMBER_VALUE : MEMBER_EXPIRES;
    if (!is_key && !is_value && !name_is(name, "expires_at")) {
        return fail(object, "unknown member; these are: key key64 value value64 expires_at");
    }
    if (object->seen[member]) {
        static const char *const twice[] = {"two keys", "two values", "expires_at twice"};
        return fail(object, twice[member]);
    }
    object->seen[member] = true;
    if (!json_accept(&object->json, ':')) {
        return fail(object, "a colon is expected here");
    }
    if (member == MEMBER_EXPIRES) {
        return read_expiry(object);
    }
    if (is_64) {
        return read_base64(object, is_key ? &object->record.key : &object->record.value);
    }
    return is_key ? json_string(&object->json, &object->record.key) : read_value(object);
}

static bool read_object(struct object *object)
{
    struct json *json = &object->json;
    if (!json_accept(json, '{')) {
        return fail(object, "an object {\"key\":...,\"value\":...} is expected here");
    }
    if (!json_accept(json, '}')) {
        do {
            if (!read_member(object)) {
                return false;
            }
        } while (json_accept(json, ','));
        if (!json_accept(json, '}')) {
            return fail(object, "a comma or a closing brace is expected here");
        }
    }
    json_skip_space(json);
    if (json->at < json->end) {
        return fail(object, "something follows the object");
    }
    if (!object->seen[MEMBER_KEY] || !object->seen[MEMBER_VALUE]) {
        return fail(object, object->seen[MEMBER_KEY] ? "no value" : "no key");
    }
    return true;
}

static enum parse_result jsonl_next(struct parser *parser, struct record *ret_record)
{
    struct line line = parser_line(parser);
    struct object object = {.json = {.at = line.data, .end = line.data + line.size}};
    if (line.size == 0) {
        return parser_bad(parser, "the line is empty", NULL, NULL);
    }
    if (!read_object(&object)) {
        return parser_bad(parser, object.json.reason, line.data, object.json.at);
    }
    enum parse_result result = parser_check(parser, &object.record);
    if (result == PARSE_RECORD) {
        *ret_record = object.record;
    }
    return result;
}

static void write_string(struct out *out, const uint8_t *data, size_t size)
{
    static const char letters[] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r',
                                   ['\t'] = 't', ['"'] = '"',  ['\\'] = '\\'};
    size_t start = 0;
    out_char(out, '"');
    for (size_t i = 0; i < size; i++) {
        char letter = data[i] < sizeof(letters) ? letters[data[i]] : 0;
        if (letter == 0 && data[i] >= 0x20) {
            continue;
        }
        out_write(out, data + start, i - start);
        start = i + 1;
        if (letter != 0) {
            out_char(out, '\\');
            out_char(out, letter);
        } else {
            out_text(out, "\\u00");
            out_hex(out, data[i]);
        }
    }
    out_write(out, data + start, size - start);
    out_char(out, '"');
}

static void write_bytes(struct out *out, const char *name, struct cask_slice bytes)
{
    bool text = utf8_valid(bytes.data, bytes.size);
    out_char(out, '"');
    out_text(out, name);
    out_text(out, text ? "\":" : "64\":\"");
    if (text) {
        write_string(out, bytes.data, bytes.size);
    } else {
        base64_write(out, bytes.data, bytes.size);
        out_char(out, '"');
    }
}

static enum write_result jsonl_write(struct out *out, const struct record *record)
{
    out_char(out, '{');
    write_bytes(out, "key", record->key);
    out_char(out, ',');
    write_bytes(out, "value", record->value);
    if (record->expires_at_ms != 0) {
        out_text(out, ",\"expires_at\":");
        out_number(out, record->expires_at_ms);
    }
    out_text(out, "}\n");
    return WRITE_OK;
}

const struct format format_jsonl = {
    .name = "jsonl",
    .endings = ".jsonl .ndjson",
    .summary = "{\"key\":..,\"value\":..}; key64, value64 if not UTF-8",
    .keeps_values = true,
    .keeps_expiry = true,
    .cut = format_cut_lines,
    .next = jsonl_next,
    .end_problem = format_ends_anywhere,
    .write_head = format_writes_no_head,
    .write = jsonl_write,
    .write_tail = format_writes_nothing,
};
