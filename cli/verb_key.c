/* put, get, del, exists: one key. */
#include "verbs.h"

#include "report.h"
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reads standard input to its end, at most one byte more than a value may have. */
static int read_stdin(struct operand *ret_value)
{
    size_t capacity = 65536, size = 0;
    uint8_t *data = malloc(capacity);
    while (data != NULL && size <= CASK_VALUE_MAX) {
        ssize_t n = read(STDIN_FILENO, data + size, capacity - size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            report_error("<stdin>: %s", strerror(errno));
            free(data);
            return EXIT_SYSTEM;
        }
        if (n == 0) {
            ret_value->decoded = data;
            ret_value->bytes = (struct cask_slice){data, size};
            return EXIT_DONE;
        }
        size += (size_t)n;
        if (size == capacity) {
            capacity *= 2;
            uint8_t *larger = realloc(data, capacity);
            if (larger == NULL) {
                free(data);
            }
            data = larger;
        }
    }
    if (data == NULL) {
        return report_failure(CASK_ENOMEM, "<stdin>");
    }
    free(data);
    return report_usage("put: <stdin>: the value is longer than 2,147,483,647 bytes");
}

static int put(const struct args *args, struct cask_slice key, struct cask_slice value)
{
    struct cask_db *db;
    int code = session_open(args, &db);
    if (code != EXIT_DONE) {
        return code;
    }
    int status = args->expires_at_ms == 0 ? cask_put(db, key, value)
                                          : cask_put_expiring(db, key, value, args->expires_at_ms);
    if (status != CASK_OK) {
        code = report_failure(status, args->operands[0]);
    }
    return session_close(args, db, code);
}

int verb_put(const struct args *args)
{
    struct operand key, value;
    int code = operand_read_key(args, args->operands[1], &key);
    if (code != EXIT_DONE) {
        return code;
    }
    code = strcmp(args->operands[2], "-") == 0
               ? read_stdin(&value)
               : operand_read(args, args->operands[2], "VALUE", &value);
    if (code == EXIT_DONE) {
        code = put(args, key.bytes, value.bytes);
        operand_release(&value);
    }
    operand_release(&key);
    return code;
}

static int print_value(const struct args *args, struct cask_db *db, struct cask_slice key)
{
    struct cask_view view;
    struct out out;
    int status = cask_view(db, key, &view);
    if (status == CASK_NOTFOUND) {
        return session_no_such_key(args, key);
    }
    if (status != CASK_OK) {
        return report_failure(status, args->operands[0]);
    }
    out_init(&out, STDOUT_FILENO);
    out_write(&out, view.value.data, view.value.size);
    if (!args->raw) {
        out_char(&out, '\n');
    }
    cask_view_release(&view);
    return stdout_finish(&out);
}

static int delete_key(const struct args *args, struct cask_db *db, struct cask_slice key)
{
    int status = cask_delete(db, key);
    if (status == CASK_NOTFOUND) {
        return session_no_such_key(args, key);
    }
    return status == CASK_OK ? EXIT_DONE : report_failure(status, args->operands[0]);
}

static int find_key(const struct args *args, struct cask_db *db, struct cask_slice key)
{
    int status = cask_exists(db, key);
    if (status == CASK_NOTFOUND) {
        return session_no_such_key(args, key);
    }
    return status == CASK_OK ? EXIT_DONE : report_failure(status, args->operands[0]);
}

/* Opens the store, does one thing with the key of the second operand, closes it. */
static int with_key(const struct args *args,
                    int (*act)(const struct args *, struct cask_db *, struct cask_slice))
{
    struct operand key;
    struct cask_db *db;
    int code = operand_read_key(args, args->operands[1], &key);
    if (code != EXIT_DONE) {
        return code;
    }
    code = session_open(args, &db);
    if (code == EXIT_DONE) {
        code = session_close(args, db, act(args, db, key.bytes));
    }
    operand_release(&key);
    return code;
}

int verb_get(const struct args *args)
{
    return with_key(args, print_value);
}

int verb_del(const struct args *args)
{
    return with_key(args, delete_key);
}

int verb_exists(const struct args *args)
{
    return with_key(args, find_key);
}
