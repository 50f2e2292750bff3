/* load: a file into the store. */
#include "verbs.h"

#include "load/loader.h"
#include "progress.h"
#include "report.h"
#include "session.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_BYTES ((size_t)256 << 10)

/* With --report: so small that no more than 10,000 records, of two bytes at least, are in one
 * block, and blocks are reported one by one. */
#define REPORT_BLOCK_BYTES ((size_t)16 << 10)

static unsigned core_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return 1;
    }
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > 256 ? 256 : (unsigned)count;
}

static void report_summary(const struct source *source, const struct load_result *result,
                           double seconds)
{
    double rate = seconds > 0 ? (double)result->loaded / seconds : 0;
    if (result->rejected == 0) {
        report_note("%s: loaded %llu records in %.2f s, %.0f/s", source->name,
                    (unsigned long long)result->loaded, seconds, rate);
    } else {
        report_note("%s: loaded %llu records in %.2f s, %.0f/s; rejected %llu", source->name,
                    (unsigned long long)result->loaded, seconds, rate,
                    (unsigned long long)result->rejected);
    }
}

static int load(const struct args *args, struct cask_db *db, struct source *source,
                struct load_result *ret_result)
{
    struct out report;
    out_init(&report, STDOUT_FILENO);
    struct load_job job = {
        .db = db,
        .source = source,
        .threads = args->threads == 0 ? core_count() : args->threads,
        .keep_going = args->keep_going,
        .batches = args->open.sync_mode == CASK_SYNC_ALWAYS ||
                   args->open.write_mode == CASK_WRITE_SYSCALL,
        .report = args->report ? &report : NULL,
    };
    progress_begin(PROGRESS_BYTES, source->input_size, args->report);
    loader_run(&job, ret_result);
    progress_end();
    int code = ret_result->rejected > 0 ? EXIT_REJECTED : EXIT_DONE;
    if (ret_result->input_problem != NULL) {
        report_error("%s: %s", source->name, ret_result->input_problem);
        code = EXIT_SYSTEM;
    }
    if (ret_result->status != CASK_OK) {
        code = report_failure(ret_result->status, args->operands[0]);
    }
    int finish = stdout_finish(&report);
    return finish == EXIT_DONE ? code : finish;
}

static int load_source(const struct args *args, struct source *source)
{
    struct cask_db *db;
    struct load_result result;
    double start = progress_seconds();
    int code = session_open(args, &db);
    if (code != EXIT_DONE) {
        return code;
    }
    code = session_close(args, db, load(args, db, source, &result));
    report_summary(source, &result, progress_seconds() - start);
    return code;
}

int verb_load(const struct args *args)
{
    struct source source;
    const char *path = args->operands[1] == NULL ? "-" : args->operands[1];
    const struct format *format = args->format;
    if (format == NULL) {
        format = strcmp(path, "-") == 0 ? &format_tsv : format_by_path(path);
    }
    if (format == NULL) {
        return report_usage("load: %s: its ending names no format; give one with --format", path);
    }
    int code = EXIT_SYSTEM;
    /* First the input: a misspelt name leaves no empty store behind. */
    if (source_open(&source, path, format, args->report ? REPORT_BLOCK_BYTES : BLOCK_BYTES)) {
        code = load_source(args, &source);
    } else {
        report_error("%s: %s", source.name, source.problem);
    }
    source_close(&source);
    return code;
}
