/* merge: all that is dead is reclaimed now.
 *
 *  1. SIGINT stops at the next call of progress: the store is closed as ever, and what was merged
 *     by then stays merged. A second SIGINT ends the process at once, which harms no store either.
 *  2. Nothing else merges meanwhile unless --merge on asks for it, so the figures are those of this
 *     run.
 */
#include "verbs.h"

#include "progress.h"
#include "report.h"
#include "session.h"

#include <signal.h>
#include <stdatomic.h>

static atomic_bool interrupted;

static void interrupt(int number)
{
    (void)number;
    atomic_store(&interrupted, true);
}

static void catch_interrupt(void)
{
    struct sigaction before;
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    /* Whoever starts a command with SIGINT ignored, as a shell does behind &, means that. */
    if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
        (void)sigemptyset(&action.sa_mask);
        (void)sigaction(SIGINT, &action, NULL);
    }
}

static int follow(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    progress_follow(done, total);
    return atomic_load(&interrupted) ? 1 : 0;
}

static int merge(const struct args *args, struct cask_db *db, struct cask_stats *stats)
{
    const char *dir = args->operands[0];
    int status = cask_merge(db, follow, NULL);
    progress_end();
    int stats_status = cask_stats(db, stats);
    if (status == CASK_EBUSY && atomic_load(&interrupted)) {
        report_error("%s: interrupted; what was merged so far stays merged, %llu bytes were freed",
                     dir, (unsigned long long)stats->merge_freed_bytes);
        return EXIT_SYSTEM;
    }
    if (status == CASK_OK) {
        status = stats_status;
    }
    return status == CASK_OK ? EXIT_DONE : report_failure(status, dir);
}

int verb_merge(const struct args *args)
{
    struct args quiet = *args;
    struct cask_stats stats = {.size = sizeof(stats)};
    struct cask_db *db;
    double start = progress_seconds();
    if (quiet.open.merge == CASK_SWITCH_DEFAULT) {
        quiet.open.merge = CASK_SWITCH_OFF;
    }
    catch_interrupt();
    int code = session_open(&quiet, &db);
    if (code != EXIT_DONE) {
        return code;
    }
    code = session_close(args, db, merge(args, db, &stats));
    if (code == EXIT_DONE) {
        report_note("%s: merged in %.2f s: read %llu bytes, wrote %llu, freed %llu",
                    args->operands[0], progress_seconds() - start,
                    (unsigned long long)stats.merge_read_bytes,
                    (unsigned long long)stats.merge_written_bytes,
                    (unsigned long long)stats.merge_freed_bytes);
    }
    return code;
}
