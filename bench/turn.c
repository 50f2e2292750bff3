#include "turn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"
#include "merge.h"
#include "overflow.h"
#include "ticks.h"

/* Keys that are read, and compared, after a store was opened anew. */
#define SAMPLE_KEYS 10000

struct engine_config turn_config(const struct turn *turn)
{
    const struct options *options = turn->plan->options;
    return (struct engine_config){
        .dir = turn->plan->dir,
        .num = options->num,
        .key_bytes = options->key_bytes,
        .value_bytes = options->value_bytes,
        .shards = options->shards,
        .index_memory = options->index_memory,
        .segment_bytes = options->segment_bytes,
    };
}

int turn_open(struct turn *turn, const struct engine_config *config)
{
    return turn->plan->engine->open(config, &turn->store) == ENGINE_OK ? 0 : -1;
}

static int open_store(struct turn *turn, uint64_t num, bool sync_always)
{
    struct engine_config config = turn_config(turn);
    config.num = num;
    config.sync_always = sync_always;
    return turn_open(turn, &config);
}

int turn_close(struct turn *turn)
{
    struct engine_store *store = turn->store;
    turn->store = NULL;
    return store == NULL || turn->plan->engine->close(store) == ENGINE_OK ? 0 : -1;
}

int turn_warm(const struct turn *turn, uint64_t bytes)
{
    return turn->plan->options->warm ? machine_warm(turn->plan->dir, bytes) : 0;
}

int turn_clear(struct turn *turn, uint64_t bytes)
{
    turn->filled = false;
    turn->generation = 0;
    if (turn_close(turn) != 0 || machine_remove_dir(turn->plan->dir) != 0 ||
        machine_make_dir(turn->plan->dir) != 0) {
        return -1;
    }
    return turn_warm(turn, bytes);
}

static int clear_store(struct turn *turn)
{
    const struct options *options = turn->plan->options;
    /* As much as a log takes whose every key was overwritten once, the largest of the stores. */
    return turn_clear(turn, 2 * options->num * (options->key_bytes + options->value_bytes + 32));
}

struct load turn_load(const struct turn *turn, enum load_kind kind, uint64_t salt)
{
    const struct options *options = turn->plan->options;
    struct load load = {
        .engine = turn->plan->engine,
        .store = turn->store,
        .keyspace = &turn->keyspace,
        .kind = kind,
        .ops = options->num,
        .generation = turn->generation,
        .threads = turn->plan->threads,
        .group = 1,
        .latency = options->latency,
    };
    order_init(&load.order, options->num, salt + turn->keyspace.seed);
    return load;
}

static int fill(struct turn *turn, enum load_kind kind, struct load_outcome *ret_outcome,
                struct result *result)
{
    if (clear_store(turn) != 0 || open_store(turn, turn->plan->options->num, false) != 0) {
        return -1;
    }
    struct load load = turn_load(turn, kind, SALT_FILL);
    load.group = kind == LOAD_WRITE ? turn->plan->options->batch : 1;
    result->group = load.group;
    int rc = load_run(&load, ret_outcome);
    turn->filled = rc == 0;
    return rc;
}

static int overwrite(struct turn *turn, struct load_outcome *ret_outcome)
{
    turn->generation++;
    const struct load load = turn_load(turn, LOAD_PUT, SALT_OVERWRITE + turn->generation);
    turn->filled = false;
    int rc = load_run(&load, ret_outcome);
    turn->filled = rc == 0;
    return rc;
}

static int read_keys(struct turn *turn, enum load_kind kind, struct load_outcome *ret_outcome,
                     struct result *result)
{
    const struct options *options = turn->plan->options;
    struct load load = turn_load(turn, kind, SALT_READ);
    if (kind == LOAD_GET_MISSING) {
        load.first_id = options->num;
        result->bytes = 0;
    } else if (kind == LOAD_GET_MANY) {
        load.group = options->group;
        result->group = load.group;
    }
    return load_run(&load, ret_outcome);
}

static int put_synced(struct turn *turn, struct load_outcome *ret_outcome, struct result *result)
{
    uint64_t ops = (uint64_t)turn->plan->options->sync_ops * turn->plan->threads;
    if (clear_store(turn) != 0 || open_store(turn, ops, true) != 0) {
        return -1;
    }
    struct load load = turn_load(turn, LOAD_PUT, SALT_FILL);
    load.ops = ops;
    order_init(&load.order, ops, SALT_FILL);
    result->ops = ops;
    result->num = ops;
    result->bytes = ops * (turn->keyspace.key_bytes + turn->keyspace.value_bytes);
    return load_run(&load, ret_outcome);
}

/* Times the opening of the closed store, then reads some of its keys. */
static int time_open(struct turn *turn, struct load_outcome *ret_outcome, struct result *result)
{
    uint64_t start_ns = clock_ns();
    if (open_store(turn, turn->plan->options->num, false) != 0) {
        return -1;
    }
    double seconds = (double)(clock_ns() - start_ns) / 1e9;
    struct load sample = turn_load(turn, LOAD_GET, SALT_SAMPLE);
    sample.latency = false;
    sample.ops = sample.ops < SAMPLE_KEYS ? sample.ops : SAMPLE_KEYS;
    int rc = load_run(&sample, ret_outcome);
    ret_outcome->seconds = seconds;
    result->bytes = 0;
    return rc;
}

void turn_die_with_parent(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(EXIT_FAILURE);
    }
}

/* In a process of its own: fills the store, says so with one byte, and waits for its end. */
static void fill_and_wait(struct turn *turn, pid_t parent, int fd)
{
    turn_die_with_parent(parent);
    static struct load_outcome outcome;
    if (open_store(turn, turn->plan->options->num, false) != 0) {
        _exit(EXIT_FAILURE);
    }
    const struct load load = turn_load(turn, LOAD_PUT, SALT_FILL);
    if (load_run(&load, &outcome) != 0 || write(fd, "", 1) != 1) {
        _exit(EXIT_FAILURE);
    }
    for (;;) {
        pause();
    }
}

/* Leaves a store that a killed process filled, where there was none. In the twin. */
static int fill_and_kill(struct turn *turn)
{
    int fds[2];
    if (pipe(fds) != 0) {
        perror("caskade-bench: pipe");
        return -1;
    }
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        fill_and_wait(turn, parent, fds[1]);
    }
    close(fds[1]);
    char byte = 0;
    ssize_t n = -1;
    if (child > 0) {
        do {
            n = read(fds[0], &byte, 1);
        } while (n < 0 && errno == EINTR);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    close(fds[0]);
    if (n != 1) {
        fprintf(stderr, "caskade-bench: %s: the process to be killed did not fill its store\n",
                turn->plan->engine->name);
        return -1;
    }
    return 0;
}

/* Has the twin do what it does for a workload. */
static int ask_twin(struct turn *turn, unsigned index)
{
    int answer = -1;
    ssize_t n = write(turn->twin_fd, &index, sizeof index);
    if (n == (ssize_t)sizeof index) {
        do {
            n = read(turn->answer_fd, &answer, sizeof answer);
        } while (n < 0 && errno == EINTR);
    }
    return n == (ssize_t)sizeof answer ? answer : -1;
}

static int leave_killed(struct turn *turn, unsigned index)
{
    turn->filled = clear_store(turn) == 0 && ask_twin(turn, index) == 0;
    return turn->filled ? 0 : -1;
}

static int run_kind(struct turn *turn, unsigned index, struct load_outcome *ret_outcome,
                    struct result *result)
{
    enum workload_kind kind = turn->plan->options->workloads[index]->kind;
    switch (kind) {
    case WORKLOAD_FILL:
        return fill(turn, LOAD_PUT, ret_outcome, result);
    case WORKLOAD_BATCH:
        return fill(turn, LOAD_WRITE, ret_outcome, result);
    case WORKLOAD_OVERWRITE:
        return overwrite(turn, ret_outcome);
    case WORKLOAD_READ:
        return read_keys(turn, LOAD_GET, ret_outcome, result);
    case WORKLOAD_READ_MISSING:
        return read_keys(turn, LOAD_GET_MISSING, ret_outcome, result);
    case WORKLOAD_GET_MANY:
        return read_keys(turn, LOAD_GET_MANY, ret_outcome, result);
    case WORKLOAD_SYNC:
        return put_synced(turn, ret_outcome, result);
    case WORKLOAD_REOPEN:
        return turn_close(turn) == 0 ? time_open(turn, ret_outcome, result) : -1;
    case WORKLOAD_REOPEN_KILL:
        return leave_killed(turn, index) == 0 ? time_open(turn, ret_outcome, result) : -1;
    case WORKLOAD_CHURN:
    case WORKLOAD_DICTIONARY:
    case WORKLOAD_MERGE_LATENCY:
    case WORKLOAD_MERGE_SPEED:
        return merge_run(turn, kind, ret_outcome, result);
    case WORKLOAD_OVERFLOW:
        return overflow_run(turn, ret_outcome, result);
    }
    return -1;
}

static bool wants_filled(enum workload_kind kind)
{
    return kind != WORKLOAD_FILL && kind != WORKLOAD_BATCH && kind != WORKLOAD_SYNC &&
           kind != WORKLOAD_REOPEN_KILL && kind != WORKLOAD_OVERFLOW && !merge_is_about(kind);
}

static void set_latencies(struct result *result, const struct histogram *latencies)
{
    result->timed = latencies->max != 0;
    result->p50_ns = ticks_to_ns(histogram_percentile(latencies, 0.50));
    result->p99_ns = ticks_to_ns(histogram_percentile(latencies, 0.99));
    result->p999_ns = ticks_to_ns(histogram_percentile(latencies, 0.999));
    result->max_ns = ticks_to_ns(latencies->max);
}

static void set_figures(struct turn *turn, struct result *result)
{
    struct engine_figures figures = {.index_ram_bytes = ENGINE_UNKNOWN,
                                     .recovered_records = ENGINE_UNKNOWN};
    if (turn->store != NULL && turn->plan->engine->figures != NULL) {
        turn->plan->engine->figures(turn->store, &figures);
    }
    result->index_ram_bytes = figures.index_ram_bytes;
    result->recovered_records = figures.recovered_records;
    result->rss_anon_start_bytes = turn->rss_anon_start_bytes;
    result->rss_anon_bytes = machine_rss_anon_bytes();
    result->disk_bytes = machine_disk_bytes(turn->plan->dir);
}

static int send_bytes(int fd, const void *bytes, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = write(fd, (const char *)bytes + done, size - done);
        if (n < 0 && errno != EINTR) {
            return -1;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static void release_steps(struct turn *turn)
{
    free(turn->steps);
    turn->steps = NULL;
    turn->step_count = 0;
}

static int send_result(struct turn *turn, struct result *result)
{
    const struct series *series = &turn->series;
    result->sample_count = series->count;
    result->step_count = turn->step_count;
    int rc = send_bytes(turn->fd, result, sizeof *result);
    if (rc == 0) {
        rc = send_bytes(turn->fd, series->samples, series->count * sizeof *series->samples);
    }
    if (rc == 0) {
        rc = send_bytes(turn->fd, turn->steps, turn->step_count * sizeof *turn->steps);
    }
    series_release(&turn->series);
    release_steps(turn);
    return rc;
}

static int run_workload(struct turn *turn, unsigned index)
{
    const struct workload *workload = turn->plan->options->workloads[index];
    static struct load_outcome outcome;
    struct result result;
    memset(&result, 0, sizeof result); /* it travels as bytes: no padding left undefined */
    snprintf(result.engine, sizeof result.engine, "%s", turn->plan->engine->name);
    snprintf(result.workload, sizeof result.workload, "%s", workload->name);
    result.threads = turn->plan->threads;
    result.round = turn->plan->round;
    result.num = turn->plan->options->num;
    result.ops = result.num;
    result.group = 1;
    result.bytes = result.num * (turn->keyspace.key_bytes + turn->keyspace.value_bytes);
    if (merge_is_about(workload->kind) && turn->plan->engine->merge == NULL) {
        result.skipped = true;
        return send_result(turn, &result);
    }
    if (wants_filled(workload->kind) && !turn->filled &&
        fill(turn, LOAD_PUT, &outcome, &result) != 0) {
        return -1;
    }
    if (run_kind(turn, index, &outcome, &result) != 0) {
        fprintf(stderr, "caskade-bench: %s: %s failed\n", result.engine, result.workload);
        return -1;
    }
    result.seconds = outcome.seconds;
    set_latencies(&result, &outcome.latencies);
    if (workload->kind != WORKLOAD_OVERFLOW) { /* whose figures are those of other processes */
        set_figures(turn, &result);
    }
    return send_result(turn, &result);
}

/* The twin: does what it is asked for until nobody is left to ask. */
static void run_twin(struct turn *turn, int ask_fd, int tell_fd)
{
    unsigned index = 0;
    int rc = 0;
    turn_die_with_parent(turn->pid);
    while (rc == 0 && read(ask_fd, &index, sizeof index) == (ssize_t)sizeof index) {
        bool whole = turn->plan->options->workloads[index]->kind == WORKLOAD_OVERFLOW;
        rc = whole ? run_workload(turn, index) : fill_and_kill(turn);
        if (write(tell_fd, &rc, sizeof rc) != (ssize_t)sizeof rc) {
            rc = -1;
        }
    }
    _exit(rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

static bool wants_twin(const struct options *options)
{
    bool wants = false;
    for (size_t i = 0; i < options->workload_count; i++) {
        enum workload_kind kind = options->workloads[i]->kind;
        wants |= kind == WORKLOAD_REOPEN_KILL || kind == WORKLOAD_OVERFLOW;
    }
    return wants;
}

static int start_twin(struct turn *turn)
{
    int ask[2];
    int tell[2];
    if (pipe(ask) != 0 || pipe(tell) != 0) {
        perror("caskade-bench: pipe"); /* what is open ends with the turn */
        return -1;
    }
    pid_t child = fork();
    if (child == 0) {
        close(ask[1]);
        close(tell[0]);
        run_twin(turn, ask[0], tell[1]);
    }
    close(ask[0]);
    close(tell[1]);
    turn->twin_fd = ask[1];
    turn->answer_fd = tell[0];
    if (child < 0) {
        perror("caskade-bench: fork");
        return -1;
    }
    return 0;
}

/* Its exit code was told with its last answer. */
static void end_twin(struct turn *turn)
{
    if (turn->twin_fd >= 0) {
        close(turn->twin_fd);
        close(turn->answer_fd);
        wait(NULL);
    }
}

/* A workload that the twin runs leaves no store to others. */
static int run_or_ask(struct turn *turn, unsigned index)
{
    if (turn->plan->options->workloads[index]->kind != WORKLOAD_OVERFLOW) {
        return run_workload(turn, index);
    }
    turn->filled = false;
    return turn_close(turn) == 0 ? ask_twin(turn, index) : -1;
}

static int run_turn(const struct turn_plan *plan, int fd)
{
    const struct options *options = plan->options;
    struct turn turn = {
        .plan = plan,
        .keyspace = {options->seed, options->key_bytes, options->value_bytes},
        .rss_anon_start_bytes = machine_rss_anon_bytes(),
        .fd = fd,
        .pid = getpid(),
        .twin_fd = -1,
        .answer_fd = -1,
    };
    int rc = wants_twin(options) ? start_twin(&turn) : 0;
    for (unsigned i = 0; i < options->workload_count && rc == 0; i++) {
        rc = run_or_ask(&turn, i);
    }
    end_twin(&turn);
    series_release(&turn.series);
    release_steps(&turn);
    if (turn_close(&turn) != 0 || machine_remove_dir(plan->dir) != 0) {
        rc = -1;
    }
    return rc;
}

int turn_start(const struct turn_plan *plan, pid_t *ret_pid, int *ret_fd)
{
    int fds[2];
    if (pipe(fds) != 0) {
        perror("caskade-bench: pipe");
        return -1;
    }
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        turn_die_with_parent(parent);
        close(fds[0]);
        _exit(run_turn(plan, fds[1]) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    close(fds[1]);
    if (child < 0) {
        perror("caskade-bench: fork");
        close(fds[0]);
        return -1;
    }
    *ret_pid = child;
    *ret_fd = fds[0];
    return 0;
}
