/* verify: every byte of the store read and checked. */
#include "verbs.h"

#include "progress.h"
#include "report.h"
#include "session.h"

#include <pthread.h>
#include <unistd.h>

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

static int follow(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    progress_follow(done, total);
    return 0;
}

static int verify(const struct args *args, struct cask_db *db, struct findings *findings)
{
    findings->verifying = true;
    int status = cask_verify(db, follow, NULL);
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
