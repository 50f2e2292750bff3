/* caskade-bench: compares Caskade with its peers in one run.
 *
 * This process only starts turns, one after the other, and reports what they send. Rounds are the
 * outer loop and engines the inner, so that engines are compared in the same minutes.
 * Exit codes: 0 all done; 1 a turn failed or a figure could not be written; 2 usage.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "machine.h"
#include "options.h"
#include "plot.h"
#include "result.h"
#include "summary.h"
#include "ticks.h"
#include "turn.h"

#define PATH_BYTES 4096

static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    interrupted = signal;
}

/* Other programs take their share of every time, and not the same one of each engine's. */
static void warn_if_busy(void)
{
    double load = 0.0;
    if (getloadavg(&load, 1) == 1 && load > 0.5) {
        fprintf(stderr, "caskade-bench: the load average is %.1f: this machine is not idle\n",
                load);
    }
}

/* Ends the running turn as well, so that what it left can be removed. */
static void catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* without SA_RESTART: the read of results is to return */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* 1 for that many bytes, 0 at the end, -1 when interrupted or torn. */
static int read_bytes(int fd, void *ret_bytes, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = interrupted ? -1 : read(fd, (char *)ret_bytes + done, size - done);
        if (n == 0) {
            return done == 0 ? 0 : -1;
        }
        if (n < 0 && (interrupted || errno != EINTR)) {
            return -1;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 1;
}

/* So many bytes into new memory; NULL where there are none or they don't come. */
static void *read_array(int fd, size_t size)
{
    void *bytes = size != 0 ? malloc(size) : NULL;
    if (bytes != NULL && read_bytes(fd, bytes, size) != 1) {
        free(bytes);
        bytes = NULL;
    }
    return bytes;
}

/* The same, for a result, its samples and its steps. */
static int read_result(int fd, struct result *ret_result)
{
    int rc = read_bytes(fd, ret_result, sizeof *ret_result);
    if (rc != 1) {
        return rc;
    }
    ret_result->samples = read_array(fd, ret_result->sample_count * sizeof *ret_result->samples);
    ret_result->steps = read_array(fd, ret_result->step_count * sizeof *ret_result->steps);
    if ((ret_result->samples == NULL && ret_result->sample_count != 0) ||
        (ret_result->steps == NULL && ret_result->step_count != 0)) {
        free(ret_result->samples);
        free(ret_result->steps);
        return -1;
    }
    return 1;
}

/* Runs one turn to its end and reports its results. */
static int run_turn(const struct turn_plan *plan, struct results *results, FILE *json)
{
    pid_t pid = 0;
    int fd = -1;
    if (turn_start(plan, &pid, &fd) != 0) {
        return -1;
    }
    struct result result;
    int rc = 0;
    while ((rc = read_result(fd, &result)) == 1) {
        result_print(&result, stdout);
        fflush(stdout);
        if (json != NULL) {
            result_print_json(&result, json);
            fflush(json);
        }
        if (!result.skipped && results_add(results, &result) != 0) {
            free(result.samples);
            free(result.steps);
            rc = -1;
            break;
        }
    }
    close(fd);
    if (rc != 0) {
        kill(pid, SIGKILL);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    cgroup_remove_left(pid);
    if (rc == 0 && WIFSIGNALED(status)) {
        fprintf(stderr, "caskade-bench: %s died of signal %d\n", plan->engine->name,
                WTERMSIG(status));
    }
    return rc == 0 && status == 0 ? 0 : -1;
}

static int run_all(const struct options *options, const char *dir, struct results *results,
                   FILE *json)
{
    char store[PATH_BYTES + 8];
    snprintf(store, sizeof store, "%s/store", dir);
    for (unsigned round = 1; round <= options->rounds; round++) {
        for (size_t t = 0; t < options->thread_count; t++) {
            for (size_t e = 0; e < options->engine_count; e++) {
                const struct turn_plan plan = {options, options->engines[e], options->threads[t],
                                               round, store};
                if (run_turn(&plan, results, json) != 0) {
                    return -1;
                }
            }
        }
    }
    return 0;
}

static int report(const struct options *options, const struct results *results, FILE *json)
{
    summary_print(results, options, stdout, json);
    int rc = options->plot != NULL ? plot_draw(results, options) : 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "caskade-bench: cannot write to standard output\n");
        rc = -1;
    }
    return rc;
}

static int run(const struct options *options, FILE *json)
{
    char dir[PATH_BYTES];
    int length = snprintf(dir, sizeof dir, "%s/bench-XXXXXX", options->dir);
    if (length < 0 || (size_t)length >= sizeof dir || machine_make_dir(options->dir) != 0) {
        return -1;
    }
    if (mkdtemp(dir) == NULL) {
        fprintf(stderr, "caskade-bench: cannot make %s: %s\n", dir, strerror(errno));
        return -1;
    }
    struct results results = {NULL, 0, 0};
    int rc = run_all(options, dir, &results, json);
    if (machine_remove_dir(dir) != 0) {
        rc = -1;
    }
    if (rc == 0) {
        rc = report(options, &results, json);
    }
    results_release(&results);
    return rc;
}

int main(int argc, char **argv)
{
    struct options options;
    switch (options_parse(&options, argc, argv)) {
    case OPTIONS_HELP:
        return EXIT_SUCCESS;
    case OPTIONS_USAGE:
        return 2;
    case OPTIONS_RUN:
        break;
    }
    FILE *json = NULL;
    if (options.json != NULL && (json = fopen(options.json, "ae")) == NULL) {
        fprintf(stderr, "caskade-bench: cannot open %s: %s\n", options.json, strerror(errno));
        return EXIT_FAILURE;
    }
    warn_if_busy();
    catch_signals();
    ticks_init();
    int rc = run(&options, json);
    if (json != NULL && (ferror(json) | fclose(json)) != 0) {
        fprintf(stderr, "caskade-bench: cannot write %s\n", options.json);
        rc = -1;
    }
    if (interrupted) {
        fprintf(stderr, "caskade-bench: interrupted\n");
    }
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
