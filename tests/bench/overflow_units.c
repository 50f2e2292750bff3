/* What the workload overflow is made of: steps, loads that stop early or read what such a load put,
 * the counting of disk reads, control groups, figures that are not known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "cgroup.h"
#include "disk.h"
#include "load.h"
#include "machine.h"
#include "overflow.h"
#include "steps.h"
#include "summary.h"
#include "ticks.h"

#define NUM 5000
#define VALUE_BYTES 24

static const struct step steps[] = {
    {.keys = 100, .seconds = 1.0, .longest_put_ns = 500.0, .rss_anon_max_bytes = 3 << 20},
    {.keys = 200, .seconds = 3.0, .longest_put_ns = 9e6, .rss_anon_max_bytes = 2 << 20},
    {.keys = 250, .seconds = 1.0, .longest_put_ns = 400.0, .rss_anon_max_bytes = 1 << 20},
};
#define STEPS (sizeof steps / sizeof steps[0])

static void assert_near(double value, double wanted)
{
    assert_true(value > wanted - 0.001 && value < wanted + 0.001);
}

static void test_seconds_at_lies_within_a_step_in_proportion(void **state)
{
    (void)state;
    assert_near(steps_seconds_at(steps, STEPS, 0.0), 0.0);
    assert_near(steps_seconds_at(steps, STEPS, 50.0), 0.5);
    assert_near(steps_seconds_at(steps, STEPS, 100.0), 1.0);
    assert_near(steps_seconds_at(steps, STEPS, 150.0), 2.5);
    assert_near(steps_seconds_at(steps, STEPS, 225.0), 4.5);
    assert_near(steps_seconds_at(steps, STEPS, 250.0), 5.0);
    assert_near(steps_seconds_at(steps, STEPS, 999.0), 5.0);
    assert_near(steps_seconds_at(steps, 0, 10.0), 0.0);
}

static void test_steps_are_written_whole(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    steps_print_json(steps + 1, 1, file);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text, "\"step_columns\": [\"keys\", \"seconds\", \"ns_per_put\", "
                              "\"longest_put_ns\", \"rss_anon_max_bytes\", \"index_ram_bytes\", "
                              "\"index_disk_bytes\", \"spilled_keys\", \"runs\", \"stalls\", "
                              "\"index_written_bytes\"], \"steps\": [[200, 3.000000, 15000000.0, "
                              "9000000, 2097152, 0, 0, 0, 0, 0, 0]]");
    free(text);
}

static struct overflow_facts *make_facts(void)
{
    struct overflow_facts *facts = calloc(1, sizeof *facts + sizeof steps);
    assert_non_null(facts);
    memcpy(facts->steps, steps, sizeof steps);
    facts->step_count = STEPS;
    facts->reached = 250;
    facts->filled = true;
    facts->disk_bytes = 25000;
    facts->ram_put_ns = 10e6;
    facts->open_seconds = -1.0;
    facts->recovered_records = ENGINE_UNKNOWN;
    facts->figures.index_disk_bytes = 2400;
    facts->figures.index_spilled_keys = 200;
    facts->figures.index_written_bytes = 10000;
    facts->readings[OVERFLOW_WARM_GET] = (struct overflow_reading){.known = true, .ns = 900.0};
    facts->readings[OVERFLOW_RAM_GET] = (struct overflow_reading){.known = true, .ns = 300.0};
    facts->readings[OVERFLOW_COLD_GET] = (struct overflow_reading){
        .known = true, .ns = 80000.0, .disk_pages = 1.5, .device_reads = -1.0};
    return facts;
}

static double figure_of(const struct result *result, const char *name)
{
    const struct result_figure *figure = result_figure(result, name);
    assert_non_null(figure);
    return figure->value;
}

static void test_figures_are_those_the_aims_ask_for(void **state)
{
    (void)state;
    struct overflow_facts *facts = make_facts();
    struct result result = {.engine = "caskade"};
    overflow_add_figures(&result, facts, 1 << 20, true);
    assert_near(figure_of(&result, "ingest_ns"), 20e6);
    assert_near(figure_of(&result, "ingest_rate_per_ram"), 0.5);
    assert_near(figure_of(&result, "last_rate_per_first"), 0.5); /* 0.25 s against 0.5 s */
    assert_near(figure_of(&result, "longest_put_ms"), 9.0);
    assert_near(figure_of(&result, "anon_max_mib"), 3.0);
    assert_near(figure_of(&result, "anon_over_budget_mib"), 2.0);
    assert_near(figure_of(&result, "disk_per_key"), 100.0);
    assert_near(figure_of(&result, "index_disk_per_key"), 12.0);
    assert_near(figure_of(&result, "index_written_per_key"), 40.0);
    assert_near(figure_of(&result, "warm_get_per_ram"), 3.0);
    assert_near(figure_of(&result, "cold_get_pages"), 1.5);
    free(facts);
}

static void test_what_is_not_known_is_null(void **state)
{
    (void)state;
    struct overflow_facts *facts = make_facts();
    struct result result = {.engine = "lmdb", .workload = "overflow", .round = 1, .threads = 1};
    overflow_add_figures(&result, facts, 1 << 20, false);
    assert_null(result_figure(&result, "runs"));
    static const char *const unknown[] = {"cold_miss_ns", "cold_miss_pages", "cold_get_reads",
                                          "open_killed_seconds", "cold_get_per_many16"};
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    result_print_json(&result, file);
    assert_int_equal(fclose(file), 0);
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "\"%s\": null", unknown[i]);
        assert_true(isnan(figure_of(&result, unknown[i])));
        assert_non_null(strstr(text, wanted));
    }
    assert_null(strstr(text, "nan"));
    free(text);
    free(facts);
}

static void add_result(struct results *results, const char *name, size_t step_count, double ns)
{
    struct result result = {.workload = "overflow", .threads = 1, .round = 1};
    snprintf(result.engine, sizeof result.engine, "%s", name);
    result.ops = steps[step_count - 1].keys;
    result.seconds = 1000.0; /* the steps count, not this */
    result.steps = calloc(step_count, sizeof steps[0]);
    assert_non_null(result.steps);
    memcpy(result.steps, steps, step_count * sizeof steps[0]);
    result.step_count = step_count;
    result_add_figure(&result, "warm_get_ns", ns);
    result_add_figure(&result, "cold_get_ns", (double)NAN);
    assert_int_equal(results_add(results, &result), 0);
}

/* A peer that was stopped after 200 keys, in twice the time. */
static void test_fills_are_compared_over_the_keys_both_have_put(void **state)
{
    (void)state;
    struct results results = {NULL, 0, 0};
    add_result(&results, "caskade", STEPS, 100.0);
    add_result(&results, "lmdb", 2, 250.0);
    results.items[1].steps[0].seconds *= 2.0;
    results.items[1].steps[1].seconds *= 2.0;
    const struct summary_key own = {"caskade", "overflow", 1};
    const struct summary_key peer = {"lmdb", "overflow", 1};
    assert_near(summary_compare(&results, &own, &peer).median, 2.0);
    assert_near(summary_compare(&results, &peer, &own).median, 0.5);
    assert_int_equal(summary_figure(&results, &own, "warm_get_ns").rounds, 1);
    assert_int_equal(summary_figure(&results, &own, "cold_get_ns").rounds, 0);
    results_release(&results);
}

/* A store of one array, by id; keys are made small enough to be found by trying all. */
struct engine_store {
    bool put[NUM];
    uint64_t puts;
};

struct engine_session {
    struct engine_store *store;
};

static struct engine_store store;
static struct engine_session session = {&store};
static const struct keyspace keyspace = {3, KEYSPACE_KEY_MIN, VALUE_BYTES};

static uint64_t id_of(struct cask_slice key)
{
    uint8_t made[KEYSPACE_KEY_MIN + KEYSPACE_SLACK];
    for (uint64_t id = 0; id < NUM; id++) {
        keyspace_key(&keyspace, id, made);
        if (memcmp(made, key.data, key.size) == 0) {
            return id;
        }
    }
    return NUM;
}

static int open_session(struct engine_store *of, bool writes, struct engine_session **ret_session)
{
    (void)of;
    (void)writes;
    *ret_session = &session;
    return ENGINE_OK;
}

static int close_session(struct engine_session *of)
{
    (void)of;
    return ENGINE_OK;
}

static int put(struct engine_session *of, struct cask_slice key, struct cask_slice value)
{
    (void)value;
    of->store->put[id_of(key)] = true;
    of->store->puts++;
    return ENGINE_OK;
}

static int get(struct engine_session *of, struct cask_slice key, struct cask_slice *ret_value)
{
    static uint8_t value[VALUE_BYTES + KEYSPACE_SLACK];
    uint64_t id = id_of(key);
    if (id == NUM || !of->store->put[id]) {
        return ENGINE_NOTFOUND;
    }
    keyspace_value(&keyspace, id, 0, value);
    *ret_value = (struct cask_slice){value, VALUE_BYTES};
    return ENGINE_OK;
}

static const struct engine engine = {.name = "array",
                                     .session_open = open_session,
                                     .session_close = close_session,
                                     .put = put,
                                     .get = get};

static struct load make_load(enum load_kind kind)
{
    struct load load = {.engine = &engine,
                        .store = &store,
                        .keyspace = &keyspace,
                        .kind = kind,
                        .ops = NUM,
                        .threads = 1,
                        .group = 1};
    order_init(&load.order, NUM, 1);
    return load;
}

static void test_steps_put_each_key_once(void **state)
{
    (void)state;
    static struct load_outcome outcome;
    memset(&store, 0, sizeof store);
    for (uint64_t first = 0; first < NUM; first += NUM / 4) {
        struct load load = make_load(LOAD_PUT);
        load.first = first;
        load.ops = NUM / 4;
        assert_int_equal(load_run(&load, &outcome), 0);
        assert_int_equal(outcome.ops, NUM / 4);
        assert_int_equal(store.puts, first + NUM / 4);
    }
    for (size_t i = 0; i < NUM; i++) {
        assert_true(store.put[i]);
    }
}

static void test_a_load_that_is_over_says_how_far_it_came(void **state)
{
    (void)state;
    static struct load_outcome outcome;
    memset(&store, 0, sizeof store);
    struct load load = make_load(LOAD_PUT);
    load.until_ns = 1; /* long past */
    assert_int_equal(load_run(&load, &outcome), 0);
    assert_int_equal(outcome.ops, 0);
    load.first = 1; /* it looks at the clock now and then, not at each put */
    load.ops = 10;
    assert_int_equal(load_run(&load, &outcome), 0);
    assert_int_equal(outcome.ops, 10);
    load.until_ns = UINT64_MAX;
    load.first = 0;
    load.ops = NUM;
    assert_int_equal(load_run(&load, &outcome), 0);
    assert_int_equal(outcome.ops, NUM);
}

static void test_so_do_gets_that_are_over(void **state)
{
    (void)state;
    static const enum load_kind kinds[] = {LOAD_GET, LOAD_GET_MANY};
    static struct load_outcome outcome;
    memset(&store, 0, sizeof store);
    struct load fill = make_load(LOAD_PUT);
    assert_int_equal(load_run(&fill, &outcome), 0);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct load load = make_load(kinds[i]);
        load.group = i == 0 ? 1 : 16;
        load.until_ns = 1;
        assert_int_equal(load_run(&load, &outcome), 0);
        assert_int_equal(outcome.ops, 0);
        load.until_ns = UINT64_MAX;
        assert_int_equal(load_run(&load, &outcome), 0);
        assert_int_equal(outcome.ops, NUM);
    }
}

static void test_what_a_stopped_load_put_can_be_read(void **state)
{
    (void)state;
    static struct load_outcome outcome;
    memset(&store, 0, sizeof store);
    struct load load = make_load(LOAD_PUT);
    load.ops = NUM / 3;
    assert_int_equal(load_run(&load, &outcome), 0);
    const struct order put_order = load.order;
    load = make_load(LOAD_GET);
    load.ops = NUM / 3;
    order_init(&load.order, NUM / 3, 2);
    load.within = &put_order;
    assert_int_equal(load_run(&load, &outcome), 0);
    assert_int_equal(outcome.ops, NUM / 3);
    load.within = NULL; /* ids below a third of all: not what was put */
    assert_int_equal(load_run(&load, &outcome), -1);
}

/* Ten pages far from one another, with nothing read ahead. */
static void test_reads_from_the_disk_are_counted(void **state)
{
    (void)state;
    static char bytes[1 << 22];
    char dir[] = "disk-XXXXXX";
    char path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file", dir);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    memset(bytes, 1, sizeof bytes);
    assert_int_equal(write(fd, bytes, sizeof bytes), sizeof bytes);
    uint64_t resident = 1;
    assert_int_equal(disk_drop_cache(dir, &resident), 0);
    uint64_t before = disk_read_bytes();
    if (resident != 0 || before == DISK_UNKNOWN) {
        print_message("this file system keeps its files in memory: disk reads not tested\n");
    } else {
        assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
        for (off_t i = 0; i < 10; i++) {
            assert_int_equal(pread(fd, bytes, 100, i * (300 << 10)), 100);
        }
        assert_in_range(disk_read_bytes() - before, 10 * 4096, 40 * 4096);
        before = disk_read_bytes();
        assert_int_equal(disk_fill_cache(dir), 0);
        assert_true(disk_read_bytes() - before > sizeof bytes / 2);
        before = disk_read_bytes();
        assert_int_equal(disk_fill_cache(dir), 0);
        assert_int_equal(disk_read_bytes() - before, 0);
    }
    close(fd);
    assert_int_equal(machine_remove_dir(dir), 0);
}

/* In a group of 32 MiB a process that wants more dies of it. */
static void test_a_group_limits_memory(void **state)
{
    (void)state;
    struct cgroup cgroup;
    if (cgroup_make(&cgroup, getpid(), 32 << 20) != 0) {
        print_message("no control group can be made here: not tested\n");
        return;
    }
    for (size_t mib = 1; mib <= 128; mib *= 128) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            size_t size = mib << 20;
            void *memory = cgroup_enter(&cgroup) == 0
                               ? mmap(NULL, size, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)
                               : MAP_FAILED;
            _exit(memory == MAP_FAILED);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(mib > 32, WIFSIGNALED(status));
        assert_true(mib > 32 || status == 0);
    }
    cgroup_remove(&cgroup);
    assert_int_equal(access(cgroup.dir, F_OK), -1);
    assert_int_equal(cgroup_make(&cgroup, getpid(), 32 << 20), 0);
    cgroup_remove_left(getpid());
    assert_int_equal(access(cgroup.dir, F_OK), -1);
}

int main(void)
{
    ticks_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seconds_at_lies_within_a_step_in_proportion),
        cmocka_unit_test(test_steps_are_written_whole),
        cmocka_unit_test(test_figures_are_those_the_aims_ask_for),
        cmocka_unit_test(test_what_is_not_known_is_null),
        cmocka_unit_test(test_fills_are_compared_over_the_keys_both_have_put),
        cmocka_unit_test(test_steps_put_each_key_once),
        cmocka_unit_test(test_a_load_that_is_over_says_how_far_it_came),
        cmocka_unit_test(test_so_do_gets_that_are_over),
        cmocka_unit_test(test_what_a_stopped_load_put_can_be_read),
        cmocka_unit_test(test_reads_from_the_disk_are_counted),
        cmocka_unit_test(test_a_group_limits_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
