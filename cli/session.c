#include "session.h"

#include "format/escape.h"
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEY_SHOWN_BYTES 64

static bool reader_gone;

int session_open(const struct args *args, struct cask_db **ret_db)
{
    report_begin();
    int status = cask_open(args->operands[0], &args->open, ret_db);
    if (status != CASK_OK) {
        return report_failure(status, args->operands[0]);
    }
    report_begin();
    return EXIT_DONE;
}

int session_close(const struct args *args, struct cask_db *db, int code)
{
    report_begin();
    int status = cask_close(db);
    if (status != CASK_OK) {
        int close_code = report_failure(status, args->operands[0]);
        return code == EXIT_DONE ? close_code : code;
    }
    return code;
}

int operand_read(const struct args *args, const char *text, const char *what,
                 struct operand *ret_operand)
{
    struct operand operand = {.bytes = {text, strlen(text)}};
    const uint8_t *bad = NULL;
    if (args->escaped) {
        operand.decoded = malloc(operand.bytes.size + 1);
        if (operand.decoded == NULL) {
            return report_failure(CASK_ENOMEM, args->operands[0]);
        }
        memcpy(operand.decoded, text, operand.bytes.size + 1);
        const char *problem = escape_decode(operand.decoded, operand.bytes.size,
                                            &operand.bytes.size, &bad);
        if (problem != NULL) {
            int place = (int)(bad - operand.decoded) + 1;
            free(operand.decoded);
            return report_usage("%s: %s: byte %d: %s", args->verb->name, what, place, problem);
        }
        operand.bytes.data = operand.decoded;
    }
    *ret_operand = operand;
    return EXIT_DONE;
}

void operand_release(struct operand *operand)
{
    free(operand->decoded);
    operand->decoded = NULL;
}

int operand_read_key(const struct args *args, const char *text, struct operand *ret_operand)
{
    struct operand operand;
    int code = operand_read(args, text, "KEY", &operand);
    if (code != EXIT_DONE) {
        return code;
    }
    if (operand.bytes.size == 0) {
        code = report_usage("%s: %s: the key is empty", args->verb->name, args->operands[0]);
    } else if (operand.bytes.size > CASK_KEY_MAX) {
        code = report_usage("%s: %s: the key is longer than 65,535 bytes", args->verb->name,
                            args->operands[0]);
    }
    if (code != EXIT_DONE) {
        operand_release(&operand);
        return code;
    }
    *ret_operand = operand;
    return EXIT_DONE;
}

int session_no_such_key(const struct args *args, struct cask_slice key)
{
    char shown[4 * KEY_SHOWN_BYTES + 8];
    size_t used = 0;
    const uint8_t *bytes = key.data;
    size_t size = key.size < KEY_SHOWN_BYTES ? key.size : KEY_SHOWN_BYTES;
    for (size_t i = 0; i < size; i++) {
        bool plain = bytes[i] >= 0x20 && bytes[i] != 0x7F;
        used += (size_t)snprintf(shown + used, sizeof(shown) - used, plain ? "%c" : "\\x%02x",
                                 bytes[i]);
    }
    (void)snprintf(shown + used, sizeof(shown) - used, "%s", size < key.size ? "..." : "");
    report_error("%s: no such key: %s", args->operands[0], shown);
    return EXIT_NOT_FOUND;
}

int out_finish(struct out *out, const char *name)
{
    if (out_flush(out)) {
        return EXIT_DONE;
    }
    report_error("%s: %s", name, strerror(out->error));
    return EXIT_SYSTEM;
}

int stdout_finish(struct out *out)
{
    if (out_flush(out)) {
        return EXIT_DONE;
    }
    if (out->error == EPIPE) {
        reader_gone = true;
        return EXIT_SYSTEM;
    }
    return out_finish(out, "<stdout>");
}

bool stdout_reader_gone(void)
{
    return reader_gone;
}
