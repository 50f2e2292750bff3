/* stat and verify: the store as a whole. */
#include "verbs.h"

#include "progress.h"
#include "report.h"
#include "session.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

struct figure {
    const char *name;
    size_t offset; /* of a uint64_t in struct cask_stats */
};

#define FIGURE(name)                                                                               \
    {                                                                                              \
#name, offsetof(struct cask_stats, name)                                                   \
    }

static const struct figure figures[] = {
    FIGURE(shards),
    FIGURE(live_keys),
    FIGURE(live_bytes),
    FIGURE(dead_bytes),
    FIGURE(segments),
    FIGURE(disk_bytes),
    FIGURE(index_ram_keys),
    FIGURE(index_ram_bytes),
    FIGURE(index_spilled_keys),
    FIGURE(index_disk_bytes),
    FIGURE(index_memory),
    FIGURE(reads),
    FIGURE(writes),
    FIGURE(written_bytes),
    FIGURE(syncs),
    FIGURE(recovered_records),
    FIGURE(cut_bytes),
    FIGURE(hints_rebuilt),
};

#define FIGURE_COUNT (sizeof(figures) / sizeof(figures[0]))

/* A figure that is added to the header and not to the table is found here. */
_Static_assert(sizeof(struct cask_stats) == sizeof(size_t) + FIGURE_COUNT * sizeof(uint64_t),
               "figures[] lists every field of struct cask_stats");

static uint64_t figure_of(const struct cask_stats *stats, size_t i)
{
    uint64_t value;
    memcpy(&value, (const char *)stats + figures[i].offset, sizeof(value));
    return value;
}

static void print_json(struct out *out, const struct cask_stats *stats)
{
    for (size_t i = 0; i < FIGURE_COUNT; i++) {
        out_text(out, i == 0 ? "{\"" : ",\"");
        out_text(out, figures[i].name);
        out_text(out, "\":");
        out_number(out, figure_of(stats, i));
    }
    out_text(out, "}\n");
}

static void print_table(struct out *out, const struct cask_stats *stats)
{
    for (size_t i = 0; i < FIGURE_COUNT; i++) {
        out_text(out, figures[i].name);
        for (size_t column = strlen(figures[i].name); column < 20; column++) {
            out_char(out, ' ');
        }
        out_number(out, figure_of(stats, i));
        out_char(out, '\n');
    }
}

int verb_stat(const struct args *args)
{
    struct cask_db *db;
    struct cask_stats stats = {.size = sizeof(stats)};
    struct out out;
    int code = session_open(args, &db);
    if (code != EXIT_DONE) {
        return code;
    }
    int status = cask_stats(db, &stats);
    if (status != CASK_OK) {
        return session_close(args, db, report_failure(status, args->operands[0]));
    }
    out_init(&out, STDOUT_FILENO);
    if (args->json) {
        print_json(&out, &stats);
    } else {
        print_table(&out, &stats);
    }
    return session_close(args, db, stdout_finish(&out));
}

/* Where the library's lines go: to stderr while the store is opened, and what verify finds, which
 * is what was asked for, to stdout. The callback may come from several threads. */
struct findings {
    pthread_mutex_t lock;
    bool verifying;
    uint64_t problems;
    struct out out;
};

static void take_finding(void *context, enum cask_log_level level, const char *message)
{
    struct findings *findings = context;
    pthread_mutex_lock(&findings->lock);
    bool is_problem = findings->verifying && level == CASK_LOG_ERROR;
    if (is_problem) {
        findings->problems++;
        out_text(&findings->out, message);
        out_char(&findings->out, '\n');
    }
    pthread_mutex_unlock(&findings->lock);
    if (!is_problem) {
        report_library(NULL, level, message);
    }
}

static int show_progress(void *context, uint64_t done, uint64_t total)
{
    bool *begun = context;
    if (!*begun) {
        progress_begin(PROGRESS_BYTES, total, false);
        *begun = true;
    }
    progress_update(done);
    return 0;
}

static int verify(const struct args *args, struct cask_db *db, struct findings *findings)
{
    bool begun = false;
    findings->verifying = true;
    int status = cask_verify(db, show_progress, &begun);
    findings->verifying = false;
    progress_end();
    int code = EXIT_DONE;
    if (status == CASK_OK) {
        out_text(&findings->out, "ok\n");
    } else if (status == CASK_ECORRUPT && findings->problems > 0) {
        unsigned long long problems = findings->problems;
        report_error("%s: the store is damaged: %llu problem%s", args->operands[0], problems,
                     problems == 1 ? "" : "s");
        code = EXIT_CORRUPT;
    } else {
        code = report_failure(status, args->operands[0]);
    }
    int finish = stdout_finish(&findings->out);
    return code == EXIT_DONE ? finish : code;
}

int verb_verify(const struct args *args)
{
    struct findings findings = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct args with_findings = *args;
    struct cask_db *db;
    out_init(&findings.out, STDOUT_FILENO);
    with_findings.open.log = take_finding;
    with_findings.open.log_context = &findings;
    int code = session_open(&with_findings, &db);
    if (code != EXIT_DONE) {
        return code;
    }
    return session_close(args, db, verify(args, db, &findings));
}
