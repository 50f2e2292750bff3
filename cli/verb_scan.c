/* scan and dump: all keys. */
#include "verbs.h"

#include "format/escape.h"
#include "progress.h"
#include "report.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* An iteration that goes on past entries that cannot be read, and remembers that it did. */
struct walk {
    const struct args *args;
    struct cask_iter *iter;
    int code;
};

static bool walk_open(struct walk *walk, const struct args *args, struct cask_db *db)
{
    walk->args = args;
    walk->iter = NULL;
    walk->code = EXIT_DONE;
    int status = cask_iter_create(db, &walk->iter);
    if (status != CASK_OK) {
        walk->code = report_failure(status, args->operands[0]);
    }
    return status == CASK_OK;
}

static bool walk_next(struct walk *walk, struct cask_entry *ret_entry)
{
    for (;;) {
        report_begin();
        int status = cask_iter_next(walk->iter, ret_entry);
        if (status == CASK_OK || status == CASK_NOTFOUND) {
            return status == CASK_OK;
        }
        int code = report_failure(status, walk->args->operands[0]);
        walk->code = walk->code == EXIT_DONE ? code : walk->code;
        if (status != CASK_ECORRUPT && status != CASK_EIO) {
            return false;
        }
    }
}

static bool starts_with(struct cask_slice key, struct cask_slice prefix)
{
    return key.size >= prefix.size && memcmp(key.data, prefix.data, prefix.size) == 0;
}

static int scan(const struct args *args, struct cask_db *db, struct cask_slice prefix)
{
    struct walk walk;
    struct cask_entry entry;
    struct out out;
    out_init(&out, STDOUT_FILENO);
    if (!walk_open(&walk, args, db)) {
        return walk.code;
    }
    for (uint64_t left = args->limit; left > 0 && out.error == 0 && walk_next(&walk, &entry);) {
        if (!starts_with(entry.key, prefix)) {
            continue;
        }
        left--;
        escape_write(&out, entry.key.data, entry.key.size);
        if (args->values) {
            out_char(&out, '\t');
            escape_write(&out, entry.value.data, entry.value.size);
        }
        out_char(&out, '\n');
    }
    cask_iter_destroy(walk.iter);
    int code = stdout_finish(&out);
    return walk.code == EXIT_DONE ? code : walk.code;
}

int verb_scan(const struct args *args)
{
    struct operand prefix;
    struct cask_db *db;
    const char *text = args->prefix == NULL ? "" : args->prefix;
    int code = operand_read(args, text, "--prefix", &prefix);
    if (code != EXIT_DONE) {
        return code;
    }
    code = session_open(args, &db);
    if (code == EXIT_DONE) {
        code = session_close(args, db, scan(args, db, prefix.bytes));
    }
    operand_release(&prefix);
    return code;
}

/* What a dump cannot carry. */
struct losses {
    uint64_t values;
    uint64_t expiries;
    uint64_t long_keys;
};

static void count_losses(struct losses *losses, const struct format *format,
                         const struct cask_entry *entry)
{
    losses->values += !format->keeps_values && entry->value.size > 0;
    losses->expiries += !format->keeps_expiry && entry->expires_at_ms != 0;
    losses->long_keys += format->key_max > 0 && entry->key.size > format->key_max;
}

static void report_losses(const struct losses *losses, const char *name,
                          const struct format *format)
{
    if (losses->values > 0) {
        report_warning("%s: the values of %llu keys are left out: format %s has keys only", name,
                       (unsigned long long)losses->values, format->name);
    }
    if (losses->expiries > 0) {
        report_warning("%s: %llu keys lose their expiry: only format jsonl keeps it", name,
                       (unsigned long long)losses->expiries);
    }
    if (losses->long_keys > 0) {
        report_warning("%s: %llu keys are longer than the %zu bytes that mdb_load takes", name,
                       (unsigned long long)losses->long_keys, format->key_max);
    }
}

static int refuse_record(const char *name, const struct format *format)
{
    return report_usage("dump: %s: a key has a line's end in it, which format %s cannot hold; "
                        "the dump is incomplete",
                        name, format->name);
}

static int dump_records(const struct args *args, struct cask_db *db, struct out *out,
                        const char *name, const struct format *format)
{
    struct walk walk;
    struct cask_entry entry;
    struct losses losses = {0};
    struct cask_stats stats = {.size = sizeof(stats)};
    int status = cask_stats(db, &stats);
    if (status != CASK_OK) {
        return report_failure(status, args->operands[0]);
    }
    if (!walk_open(&walk, args, db)) {
        return walk.code;
    }
    struct dump_info info = {stats.live_keys, stats.live_bytes};
    uint64_t records = 0;
    int code = EXIT_DONE;
    format->write_head(out, &info);
    progress_begin(PROGRESS_RECORDS, stats.live_keys, out->fd == STDOUT_FILENO);
    while (code == EXIT_DONE && out->error == 0 && walk_next(&walk, &entry)) {
        struct record record = {entry.key, entry.value, entry.expires_at_ms};
        if (format->write(out, &record) == WRITE_IMPOSSIBLE) {
            code = refuse_record(name, format);
        }
        count_losses(&losses, format, &entry);
        progress_update(++records);
    }
    progress_end();
    cask_iter_destroy(walk.iter);
    if (code == EXIT_DONE) {
        format->write_tail(out);
        report_losses(&losses, name, format);
    }
    return code == EXIT_DONE ? walk.code : code;
}

static int dump_to_stdout(const struct args *args, struct cask_db *db, const struct format *format)
{
    struct out out;
    out_init(&out, STDOUT_FILENO);
    int code = dump_records(args, db, &out, "<stdout>", format);
    int finish = stdout_finish(&out);
    return code == EXIT_DONE ? finish : code;
}

/* A regular file is synced: a dump may be the backup of a store that is about to go. */
static int close_file(struct out *out, const char *name)
{
    struct stat status;
    int code = out_finish(out, name);
    if (code == EXIT_DONE && fstat(out->fd, &status) == 0 && S_ISREG(status.st_mode) &&
        fsync(out->fd) != 0) {
        out->error = errno;
        code = out_finish(out, name);
    }
    if (close(out->fd) != 0 && code == EXIT_DONE) {
        out->error = errno;
        code = out_finish(out, name);
    }
    return code;
}

static int dump_to_file(const struct args *args, struct cask_db *db, const char *path,
                        const struct format *format)
{
    struct out out;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        report_error("%s: %s", path, strerror(errno));
        return EXIT_SYSTEM;
    }
    out_init(&out, fd);
    int code = dump_records(args, db, &out, path, format);
    int close_code = close_file(&out, path);
    return code == EXIT_DONE ? close_code : code;
}

int verb_dump(const struct args *args)
{
    struct cask_db *db;
    const char *path = args->operands[1] == NULL ? "-" : args->operands[1];
    bool standard = strcmp(path, "-") == 0;
    const struct format *format = args->format;
    if (!standard && format_path_is_zstd(path)) {
        return report_usage("dump: %s: is not compressed here; try: caskade dump DIR | zstd", path);
    }
    if (format == NULL) {
        format = standard ? &format_tsv : format_by_path(path);
    }
    if (format == NULL) {
        return report_usage("dump: %s: its ending names no format; give one with --format", path);
    }
    int code = session_open(args, &db);
    if (code != EXIT_DONE) {
        return code;
    }
    code = standard ? dump_to_stdout(args, db, format) : dump_to_file(args, db, path, format);
    return session_close(args, db, code);
}
