#include "overflow.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cgroup.h"
#include "machine.h"
#include "ticks.h"

#define PAGE_BYTES 4096.0
/* Beside key and value: header, padding, and what an index takes on disk. */
#define RECORD_EXTRA_BYTES 48

struct reading_plan {
    enum overflow_read read;
    enum load_kind kind;
    unsigned group;
};

static const struct reading_plan warm_plans[] = {
    {OVERFLOW_WARM_GET, LOAD_GET, 1},
    {OVERFLOW_WARM_MISS, LOAD_GET_MISSING, 1},
    {OVERFLOW_WARM_MANY16, LOAD_GET_MANY, 16},
};
static const struct reading_plan cold_plans[] = {
    {OVERFLOW_COLD_GET, LOAD_GET, 1},
    {OVERFLOW_COLD_MISS, LOAD_GET_MISSING, 1},
    {OVERFLOW_COLD_MANY16, LOAD_GET_MANY, 16},
    {OVERFLOW_COLD_MANY64, LOAD_GET_MANY, 64},
};
#define PHASE_READINGS 4 /* at most, and some time for the end of it */
#define PHASE_LOOK_NS 10000000
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

struct overflow {
    struct turn *turn;
    struct overflow_facts *facts; /* in shared memory */
    struct engine_config config;
    struct order fill_order;
    const struct cgroup *cgroup;     /* that the phase runs in; NULL: none */
    const struct reading_plan *plan; /* of a cold phase */
};

static const struct options *options_of(const struct overflow *overflow)
{
    return overflow->turn->plan->options;
}

enum phase_end { PHASE_OK, PHASE_FAILED, PHASE_KILLED };

static int enter_phase(struct overflow *overflow, pid_t parent,
                       int (*phase)(struct overflow *overflow))
{
    turn_die_with_parent(parent);
    if (overflow->cgroup != NULL && cgroup_enter(overflow->cgroup) != 0) {
        return EXIT_FAILURE;
    }
    return phase(overflow) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static uint64_t ns_from_now(unsigned seconds)
{
    return clock_ns() + seconds * UINT64_C(1000000000);
}

/* A peer that is still at it then, be it with opening what it filled, is not waited for. */
static uint64_t phase_end_ns(const struct overflow *overflow)
{
    const struct options *options = options_of(overflow);
    unsigned seconds = options->peer_seconds + PHASE_READINGS * options->peer_read_seconds;
    return overflow->turn->plan->engine->spills ? UINT64_MAX : ns_from_now(seconds);
}

/* Returns its status; it is killed if it takes longer than until_ns. */
static int wait_for_phase(pid_t child, uint64_t until_ns)
{
    const struct timespec pause = {0, PHASE_LOOK_NS};
    int status = 0;
    pid_t ended = 0;
    while (ended == 0 || (ended < 0 && errno == EINTR)) {
        if (clock_ns() > until_ns) {
            (void)kill(child, SIGKILL);
        }
        ended = waitpid(child, &status, WNOHANG);
        if (ended == 0) {
            nanosleep(&pause, NULL);
        }
    }
    return status;
}

/* Runs a phase to its end in a process of its own. PHASE_KILLED: by SIGKILL, its own, the
 * system's for want of memory, or for want of time. */
static enum phase_end run_phase(struct overflow *overflow, const struct cgroup *cgroup,
                                int (*phase)(struct overflow *overflow))
{
    uint64_t until_ns = phase_end_ns(overflow);
    overflow->cgroup = cgroup;
    overflow->config.memory_bytes = cgroup != NULL ? options_of(overflow)->cgroup_bytes : 0;
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        _exit(enter_phase(overflow, parent, phase));
    }
    if (child < 0) {
        perror("caskade-bench: fork");
        return PHASE_FAILED;
    }
    int status = wait_for_phase(child, until_ns);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        return PHASE_KILLED;
    }
    return status == 0 ? PHASE_OK : PHASE_FAILED;
}

/* The same in a new group of that limit. *ret_made: whether there could be one. */
static enum phase_end run_limited(struct overflow *overflow,
                                  int (*phase)(struct overflow *overflow), bool *ret_made)
{
    struct cgroup cgroup;
    *ret_made = cgroup_make(&cgroup, overflow->turn->pid, options_of(overflow)->cgroup_bytes) == 0;
    if (!*ret_made) {
        return PHASE_FAILED;
    }
    enum phase_end end = run_phase(overflow, &cgroup, phase);
    cgroup_remove(&cgroup);
    return end;
}

static struct load new_load(const struct overflow *overflow, enum load_kind kind)
{
    struct load load = turn_load(overflow->turn, kind, SALT_FILL);
    load.order = overflow->fill_order;
    return load;
}

/* Reads some keys, no more than there are; of a peer, as many as there is time for. */
static int read_some(const struct overflow *overflow, const struct reading_plan *plan,
                     uint64_t keys, uint64_t wanted, struct overflow_reading *ret_reading)
{
    static struct load_outcome outcome;
    struct load load = new_load(overflow, plan->kind);
    load.ops = wanted < keys ? wanted : keys;
    load.group = plan->group;
    if (!overflow->turn->plan->engine->spills) {
        load.until_ns = ns_from_now(options_of(overflow)->peer_read_seconds);
    }
    order_init(&load.order, keys, SALT_READ + overflow->turn->keyspace.seed + plan->read);
    if (plan->kind == LOAD_GET_MISSING) {
        load.first_id = overflow->fill_order.num;
    } else if (keys < overflow->fill_order.num) {
        load.within = &overflow->fill_order; /* of a fill that was stopped, what it put */
    }
    int rc = load_run(&load, &outcome);
    if (rc != 0 || outcome.ops == 0) {
        return rc;
    }
    ret_reading->keys = outcome.ops;
    ret_reading->ns = outcome.seconds * 1e9 / (double)outcome.ops;
    ret_reading->p99_ns = ticks_to_ns(histogram_percentile(&outcome.latencies, 0.99));
    ret_reading->known = true;
    return 0;
}

/* Phase: the same engine with all of its index in RAM. */
static int fill_in_ram(struct overflow *overflow)
{
    static struct load_outcome outcome;
    static const struct reading_plan plan = {OVERFLOW_RAM_GET, LOAD_GET, 1};
    struct overflow_facts *facts = overflow->facts;
    uint64_t num = options_of(overflow)->ram_num;
    overflow->config.index_memory = 0;
    overflow->config.num = num;
    order_init(&overflow->fill_order, num, SALT_FILL + overflow->turn->keyspace.seed);
    if (turn_open(overflow->turn, &overflow->config) != 0) {
        return -1;
    }
    struct load load = new_load(overflow, LOAD_PUT);
    load.ops = num;
    if (load_run(&load, &outcome) != 0 ||
        read_some(overflow, &plan, num, num, &facts->readings[OVERFLOW_RAM_GET]) != 0) {
        return -1;
    }
    facts->ram_put_ns = outcome.seconds * 1e9 / (double)num;
    return turn_close(overflow->turn);
}

static void tell_figures(const struct overflow *overflow, struct engine_figures *ret_figures)
{
    const struct turn *turn = overflow->turn;
    memset(ret_figures, 0, sizeof *ret_figures);
    ret_figures->index_ram_bytes = ENGINE_UNKNOWN;
    ret_figures->recovered_records = ENGINE_UNKNOWN;
    if (turn->plan->engine->figures != NULL) {
        turn->plan->engine->figures(turn->store, ret_figures);
    }
}

static void add_step(struct overflow *overflow, const struct load_outcome *outcome,
                     struct steps_watch *watch)
{
    struct overflow_facts *facts = overflow->facts;
    struct step *step = &facts->steps[facts->step_count];
    struct engine_figures figures;
    tell_figures(overflow, &figures);
    facts->reached += outcome->ops;
    histogram_merge(&facts->fill.latencies, &outcome->latencies);
    facts->fill.seconds += outcome->seconds;
    step->keys = facts->reached;
    step->seconds = outcome->seconds;
    step->longest_put_ns = ticks_to_ns(outcome->latencies.max);
    step->rss_anon_max_bytes = steps_watch_take(watch);
    step->index_ram_bytes = figures.index_ram_bytes == ENGINE_UNKNOWN ? 0 : figures.index_ram_bytes;
    step->index_disk_bytes = figures.index_disk_bytes;
    step->spilled_keys = figures.index_spilled_keys;
    step->runs = figures.index_runs;
    step->stalls = figures.index_stalls;
    step->index_written_bytes = figures.index_written_bytes;
    facts->step_count++;
}

/* Puts the keys, one step after another; a peer only until its time is over. With several threads
 * there is no first part of the order that all have put, so a step is then always finished. */
static int fill_steps(struct overflow *overflow, struct steps_watch *watch)
{
    static struct load_outcome outcome;
    const struct options *options = options_of(overflow);
    bool spills = overflow->turn->plan->engine->spills;
    uint64_t end_ns = spills ? UINT64_MAX : ns_from_now(options->peer_seconds);
    uint64_t num = overflow->config.num;
    uint64_t *reached = &overflow->facts->reached;
    while (*reached < num && clock_ns() < end_ns) {
        struct load load = new_load(overflow, LOAD_PUT);
        load.first = *reached;
        load.ops = num - *reached < options->step ? num - *reached : options->step;
        load.until_ns = !spills && load.threads == 1 ? end_ns : 0;
        if (load_run(&load, &outcome) != 0) {
            return -1;
        }
        add_step(overflow, &outcome, watch);
    }
    return 0;
}

/* Phase: the fill. Ends with the process killed where it stands. */
static int fill_and_die(struct overflow *overflow)
{
    struct overflow_facts *facts = overflow->facts;
    struct steps_watch watch;
    if (steps_watch_start(&watch) != 0) {
        return -1;
    }
    int rc = turn_open(overflow->turn, &overflow->config);
    rc = rc == 0 ? fill_steps(overflow, &watch) : rc;
    steps_watch_stop(&watch);
    if (rc != 0) {
        return -1;
    }
    tell_figures(overflow, &facts->figures);
    facts->rss_anon_bytes = machine_rss_anon_bytes();
    facts->disk_bytes = machine_disk_bytes(overflow->turn->plan->dir);
    facts->filled = true;
    return kill(getpid(), SIGKILL);
}

/* Phase: opens what was left, and reads it with all of it in the page cache. */
static int open_and_read(struct overflow *overflow)
{
    struct overflow_facts *facts = overflow->facts;
    struct engine_figures figures;
    struct steps_watch watch;
    if (steps_watch_start(&watch) != 0) {
        return -1;
    }
    uint64_t start_ns = clock_ns();
    int rc = turn_open(overflow->turn, &overflow->config);
    double seconds = (double)(clock_ns() - start_ns) / 1e9;
    if (rc == 0) {
        tell_figures(overflow, &figures);
        facts->recovered_records = figures.recovered_records;
        facts->open_seconds = seconds;
        rc = disk_fill_cache(overflow->turn->plan->dir);
    }
    for (size_t i = 0; i < COUNT(warm_plans) && rc == 0; i++) {
        rc = read_some(overflow, &warm_plans[i], facts->reached, options_of(overflow)->reads,
                       &facts->readings[warm_plans[i].read]);
    }
    facts->open_rss_anon_max_bytes = steps_watch_take(&watch);
    steps_watch_stop(&watch);
    return rc == 0 ? turn_close(overflow->turn) : -1;
}

static double per_key(uint64_t before, uint64_t after, double unit, uint64_t keys)
{
    return before == DISK_UNKNOWN || after == DISK_UNKNOWN
               ? -1.0
               : (double)(after - before) / unit / (double)keys;
}

/* Phase: opens the store and reads it with nothing of it in the page cache to begin with. */
static int open_and_read_cold(struct overflow *overflow)
{
    struct overflow_facts *facts = overflow->facts;
    struct overflow_reading *reading = &facts->readings[overflow->plan->read];
    const char *dir = overflow->turn->plan->dir;
    if (turn_open(overflow->turn, &overflow->config) != 0) {
        return -1;
    }
    uint64_t bytes = disk_read_bytes();
    uint64_t reads = disk_device_reads(dir);
    int rc = read_some(overflow, overflow->plan, facts->reached, options_of(overflow)->cold_reads,
                       reading);
    reading->disk_pages = per_key(bytes, disk_read_bytes(), PAGE_BYTES, reading->keys);
    reading->device_reads = per_key(reads, disk_device_reads(dir), 1.0, reading->keys);
    return rc == 0 ? turn_close(overflow->turn) : -1;
}

static int tell_end(const struct overflow *overflow, enum phase_end end, const char *what)
{
    const struct engine *engine = overflow->turn->plan->engine;
    if (end == PHASE_OK) {
        return 0;
    }
    if (end == PHASE_KILLED) {
        fprintf(stderr, "caskade-bench: %s: %s was killed: its time or its memory was up%s\n",
                engine->name, what, overflow->cgroup != NULL ? ", which its group limits" : "");
    }
    return -1;
}

/* Each kind of gets in a group of its own. */
static int run_cold(struct overflow *overflow)
{
    const struct turn_plan *plan = overflow->turn->plan;
    for (size_t i = 0; i < COUNT(cold_plans); i++) {
        struct overflow_reading *reading = &overflow->facts->readings[cold_plans[i].read];
        uint64_t resident = 0;
        bool made = false;
        overflow->plan = &cold_plans[i];
        if (disk_drop_cache(plan->dir, &resident) != 0) {
            return -1;
        }
        enum phase_end end = run_limited(overflow, open_and_read_cold, &made);
        if (!made) {
            fprintf(stderr, "caskade-bench: overflow: gets under a memory limit are left out\n");
            return 0;
        }
        if (tell_end(overflow, end, "the process with a memory limit") != 0) {
            reading->known = false;
            return end == PHASE_KILLED && !plan->engine->spills ? 0 : -1; /* so would the others */
        }
        reading->resident_part = (double)resident / (double)machine_disk_bytes(plan->dir);
    }
    return 0;
}

/* The fill, in a group where that is asked for. 1: a peer died of its limit, and nothing can be
 * read of its store. */
static int run_fill(struct overflow *overflow)
{
    bool made = true;
    enum phase_end end = options_of(overflow)->cgroup_ingest
                             ? run_limited(overflow, fill_and_die, &made)
                             : run_phase(overflow, NULL, fill_and_die);
    if (!made) {
        fprintf(stderr, "caskade-bench: overflow: the fill runs without a memory limit\n");
        end = run_phase(overflow, NULL, fill_and_die);
    }
    if (overflow->facts->filled && end == PHASE_KILLED) {
        return 0;
    }
    tell_end(overflow, end, "the process that fills");
    return end == PHASE_KILLED && !overflow->turn->plan->engine->spills ? 1 : -1;
}

static int run_phases(struct overflow *overflow)
{
    struct turn *turn = overflow->turn;
    const struct options *options = options_of(overflow);
    uint64_t record = options->key_bytes + options->value_bytes + RECORD_EXTRA_BYTES;
    if (turn->plan->engine->spills) {
        if (turn_clear(turn, options->ram_num * record) != 0 ||
            tell_end(overflow, run_phase(overflow, NULL, fill_in_ram), "the fill in RAM") != 0) {
            return -1;
        }
    }
    if (turn_clear(turn, options->num * record) != 0) {
        return -1;
    }
    int rc = run_fill(overflow);
    if (rc != 0) {
        return rc > 0 ? 0 : -1;
    }
    enum phase_end end = run_phase(overflow, NULL, open_and_read);
    if (tell_end(overflow, end, "the process that reads") != 0) {
        return end == PHASE_KILLED && !turn->plan->engine->spills ? 0 : -1;
    }
    return options->cgroup_bytes != 0 ? run_cold(overflow) : 0;
}

/* The steps outlive the shared memory. */
static int keep_steps(struct turn *turn, const struct overflow_facts *facts)
{
    size_t bytes = facts->step_count * sizeof facts->steps[0];
    turn->steps = malloc(bytes != 0 ? bytes : 1);
    if (turn->steps == NULL) {
        fprintf(stderr, "caskade-bench: out of memory for steps\n");
        return -1;
    }
    memcpy(turn->steps, facts->steps, bytes);
    turn->step_count = facts->step_count;
    return 0;
}

static void set_result(const struct overflow *overflow, struct load_outcome *ret_outcome,
                       struct result *result)
{
    const struct overflow_facts *facts = overflow->facts;
    const struct options *options = options_of(overflow);
    *ret_outcome = facts->fill;
    result->num = facts->reached;
    result->ops = facts->reached;
    result->bytes = facts->reached * (options->key_bytes + options->value_bytes);
    result->rss_anon_start_bytes = overflow->turn->rss_anon_start_bytes;
    result->rss_anon_bytes = facts->rss_anon_bytes;
    result->disk_bytes = facts->disk_bytes;
    result->index_ram_bytes = facts->filled ? facts->figures.index_ram_bytes : ENGINE_UNKNOWN;
    result->recovered_records = facts->recovered_records;
    overflow_add_figures(result, facts, overflow->config.index_memory,
                         overflow->turn->plan->engine->spills);
}

int overflow_run(struct turn *turn, struct load_outcome *ret_outcome, struct result *result)
{
    const struct options *options = turn->plan->options;
    uint64_t steps = (options->num - 1) / options->step + 1;
    struct overflow overflow = {.turn = turn, .config = turn_config(turn)};
    if (overflow.config.index_memory == 0) {
        overflow.config.index_memory = OVERFLOW_INDEX_MEMORY;
    }
    overflow.config.sorted_puts = options->sorted_puts;
    order_init(&overflow.fill_order, options->num, SALT_FILL + turn->keyspace.seed);
    size_t bytes = sizeof *overflow.facts + steps * sizeof overflow.facts->steps[0];
    overflow.facts = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (overflow.facts == MAP_FAILED) {
        perror("caskade-bench: mmap");
        return -1;
    }
    overflow.facts->open_seconds = -1.0;
    overflow.facts->recovered_records = ENGINE_UNKNOWN;
    int rc = run_phases(&overflow);
    rc = rc == 0 ? keep_steps(turn, overflow.facts) : rc;
    if (rc == 0) {
        set_result(&overflow, ret_outcome, result);
    }
    munmap(overflow.facts, bytes);
    return rc;
}
