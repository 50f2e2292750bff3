/* H1: crashes at every moment of scripted runs, and whether the store survives them (explorer.h);
 * and H9: that it does not once a rule of durability is taken away.
 *
 *   test_crash [PATTERN]          only the tests whose names match, "*" and "?" allowed
 *   CASKADE_CRASH_STATES=10000000 states in all tests of runs together; the default suits a CI run
 *   CASKADE_CRASH_SEED=n          one run, with this seed
 *   CASKADE_CRASH_POSITION=n      with the seed: all states of this position of its log
 *   CASKADE_CRASH_DUMP=DIR        writes the first failing state there
 */
#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "explorer.h"
#include "simdisk.h"

#define STATES 10000u /* in each test of runs, unless the environment says otherwise */
#define STATES_OF_A_RUN 1500u
#define MUTANT_STATES 6000u
#define FIRST_SEED 1u

/* Sizes are small, so that each run rotates, seals and writes hints many times. */
static const struct workload workloads[] = {
    {"always_one_shard_mapped", 1, CASK_SYNC_ALWAYS, CASK_WRITE_MAPPED, 700, 45, 256, 128, false, 0,
     0},
    {"always_one_shard_syscall", 1, CASK_SYNC_ALWAYS, CASK_WRITE_SYSCALL, 600, 45, 4096, 512, false,
     0, 0},
    {"always_four_shards_mapped", 4, CASK_SYNC_ALWAYS, CASK_WRITE_MAPPED, 900, 50, 512, 128, false,
     0, 0},
    {"always_four_shards_syscall", 4, CASK_SYNC_ALWAYS, CASK_WRITE_DEFAULT, 400, 50, 256, 128,
     false, 0, 0},
    {"none_one_shard_mapped", 1, CASK_SYNC_NONE, CASK_WRITE_MAPPED, 1000, 50, 256, 128, false, 0,
     0},
    {"none_one_shard_syscall", 1, CASK_SYNC_NONE, CASK_WRITE_SYSCALL, 500, 50, 4096, 512, false, 0,
     0},
    {"none_two_shards_mapped", 2, CASK_SYNC_NONE, CASK_WRITE_MAPPED, 600, 50, 256, 128, false, 0,
     0},
    {"none_four_shards_mapped", 4, CASK_SYNC_NONE, CASK_WRITE_DEFAULT, 600, 60, 512, 128, false, 0,
     0},
    {"none_four_shards_no_allocate", 4, CASK_SYNC_NONE, CASK_WRITE_DEFAULT, 500, 60, 256, 128, true,
     0, 0},
    {"none_large_segments", 2, CASK_SYNC_NONE, CASK_WRITE_MAPPED, 20000, 90, 4096, 512, false, 0,
     0},
    {"interval_one_shard", 1, CASK_SYNC_INTERVAL, CASK_WRITE_MAPPED, 700, 50, 256, 128, false, 0,
     0},
    {"interval_four_shards", 4, CASK_SYNC_INTERVAL, CASK_WRITE_SYSCALL, 800, 60, 512, 128, false, 0,
     0},
    {"merge_one_shard_mapped", 1, CASK_SYNC_NONE, CASK_WRITE_MAPPED, 700, 50, 256, 128, false, 14,
     0},
    {"merge_one_shard_always", 1, CASK_SYNC_ALWAYS, CASK_WRITE_SYSCALL, 500, 50, 512, 128, false,
     14, 0},
    {"merge_two_shards_mapped", 2, CASK_SYNC_NONE, CASK_WRITE_MAPPED, 400, 60, 256, 128, false, 10,
     0},
    {"merge_four_shards_syscall", 4, CASK_SYNC_NONE, CASK_WRITE_SYSCALL, 600, 70, 512, 128, false,
     10, 0},
    {"spill_one_shard_mapped", 1, CASK_SYNC_NONE, CASK_WRITE_MAPPED, 700, 50, 1024, 512, false, 0,
     18},
    {"spill_one_shard_always", 1, CASK_SYNC_ALWAYS, CASK_WRITE_SYSCALL, 600, 45, 4096, 512, false,
     0, 18},
    {"spill_two_shards_merge", 2, CASK_SYNC_NONE, CASK_WRITE_MAPPED, 400, 60, 1024, 512, false, 7,
     14},
    {"spill_four_shards_merge", 4, CASK_SYNC_NONE, CASK_WRITE_SYSCALL, 600, 70, 4096, 512, false, 6,
     16},
};
#define WORKLOADS (sizeof workloads / sizeof *workloads)

/* Where the program is built with AddressSanitizer: most of its time would go into stack traces of
 * allocations and into keeping freed memory apart. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "malloc_context_size=3:quarantine_size_mb=16:max_malloc_fill_size=0";
}

static unsigned long long from_environment(const char *name, unsigned long long otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void print_result(const char *name, uint64_t first_seed, uint64_t end_seed,
                         const struct explorer_result *result)
{
    print_message(
        "%s: seeds %llu to %llu, %zu positions, %zu states, %zu of them inside a recovery, "
        "%zu repetitions, %zu failures\n",
        name, (unsigned long long)first_seed, (unsigned long long)end_seed - 1, result->positions,
        result->states, result->nested, result->repeated, result->failures);
}

/* A store of one shard opens in half the time of the others, so it gets twice the states. */
static size_t weight(const struct workload *workload)
{
    return workload->shards == 1 ? 2 : 1;
}

static size_t share_of(size_t states, const struct workload *workload)
{
    size_t weights = 0;

    for (size_t i = 0; i < WORKLOADS; i++)
        weights += weight(&workloads[i]);
    return states / weights * weight(workload) + 1;
}

static void test_runs(void **state)
{
    const struct workload *workload = *state;
    size_t states = share_of((size_t)from_environment("CASKADE_CRASH_STATES", STATES), workload);
    uint64_t seed = from_environment("CASKADE_CRASH_SEED", FIRST_SEED);
    struct explorer_limits limits = {.failures = 3, .dump_to = getenv("CASKADE_CRASH_DUMP")};
    struct explorer_result result = {0};
    uint64_t first = seed;

    limits.position = (size_t)from_environment("CASKADE_CRASH_POSITION", HISTORY_NEVER);
    while (result.states < states && result.failures == 0) {
        size_t left = states - result.states;

        limits.states = left < STATES_OF_A_RUN ? left : STATES_OF_A_RUN;
        if (limits.position != HISTORY_NEVER)
            limits.states = SIZE_MAX;
        explore(workload, seed++, &limits, &result);
        if (getenv("CASKADE_CRASH_SEED"))
            break;
    }
    print_result(workload->name, first, seed, &result);
    assert_int_equal(result.failures, 0);
}

/* A rule taken away, and a run that must notice. */
struct mutant {
    const char *name;
    const char *file_pattern;
    const char *dir_pattern;
    bool in_recovery_only;
    const char *workloads[2];
};

static const struct mutant mutants[] = {
    {"segments are not synced",
     "*.data",
     NULL,
     false,
     {"always_one_shard_syscall", "always_four_shards_mapped"}},
    {"manifests are not synced",
     "*/MANIFEST*",
     NULL,
     false,
     {"always_one_shard_syscall", "always_four_shards_syscall"}},
    {"the superblock is not synced",
     "/store/CASKADE*",
     NULL,
     false,
     {"always_one_shard_syscall", "always_four_shards_syscall"}},
    {"shard directories are not synced",
     NULL,
     "*/shard-*",
     false,
     {"always_one_shard_syscall", "always_four_shards_syscall"}},
    {"the store's directory is not synced",
     NULL,
     "/store",
     false,
     {"always_one_shard_syscall", "always_four_shards_syscall"}},
    {"the store's parent is not synced",
     NULL,
     "/",
     false,
     {"always_one_shard_syscall", "always_four_shards_syscall"}},
    {"recovery does not sync segments",
     "*.data",
     NULL,
     true,
     {"none_one_shard_mapped", "none_four_shards_mapped"}},
};
#define MUTANTS (sizeof mutants / sizeof *mutants)

static const struct workload *find_workload(const char *name)
{
    for (size_t i = 0; i < WORKLOADS; i++)
        if (strcmp(workloads[i].name, name) == 0)
            return &workloads[i];
    fail_msg("no run is called %s", name);
    return NULL;
}

/* Returns the states that were opened until one was found wrong; 0 if none was. */
static size_t hunt(const struct mutant *mutant, char *ret_first, size_t size)
{
    struct explorer_limits limits = {.states = MUTANT_STATES / 3,
                                     .failures = 1,
                                     .position = HISTORY_NEVER,
                                     .quiet = true,
                                     .ignore_file_sync = mutant->file_pattern,
                                     .ignore_dir_sync = mutant->dir_pattern,
                                     .ignore_in_recovery_only = mutant->in_recovery_only};
    struct explorer_result result = {0};

    for (uint64_t seed = FIRST_SEED; result.states < MUTANT_STATES; seed++) {
        explore(find_workload(mutant->workloads[seed % 2]), seed, &limits, &result);
        snprintf(ret_first, size, "%s", result.first);
        if (result.failures > 0)
            return result.states > 0 ? result.states : 1;
    }
    return 0;
}

static void test_each_missing_sync_is_noticed(void **state)
{
    size_t killed = 0;

    (void)state;
    for (size_t i = 0; i < MUTANTS; i++) {
        char first[600];
        size_t states = hunt(&mutants[i], first, sizeof first);

        killed += states > 0;
        if (states > 0)
            print_message("killed after %zu states: %s\n    %s\n", states, mutants[i].name, first);
        else
            print_message("SURVIVED %u states: %s\n", MUTANT_STATES, mutants[i].name);
    }
    print_message("mutants killed: %zu of %zu\n", killed, MUTANTS);
    assert_int_equal(killed, MUTANTS);
}

/* The control: a hint is never trusted, so leaving out its sync is no fault. */
static void test_an_unsynced_hint_does_no_harm(void **state)
{
    const struct mutant mutant = {"hints are not synced",
                                  "*.hint",
                                  NULL,
                                  false,
                                  {"always_one_shard_syscall", "none_four_shards_mapped"}};
    char first[600];

    (void)state;
    if (hunt(&mutant, first, sizeof first) > 0)
        fail_msg("%s", first);
}

/* A pattern that matches nothing must not look like success. */
static bool any_matches(const struct CMUnitTest *tests, size_t count, const char *pattern)
{
    for (size_t i = 0; i < count; i++)
        if (fnmatch(pattern, tests[i].name, 0) == 0)
            return true;
    fprintf(stderr, "no test is called %s\n", pattern);
    return false;
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[WORKLOADS + 2];
    int failed;

    for (size_t i = 0; i < WORKLOADS; i++) {
        tests[i] = (struct CMUnitTest)cmocka_unit_test(test_runs);
        tests[i].name = workloads[i].name;
        tests[i].initial_state = (void *)(uintptr_t)&workloads[i];
    }
    tests[WORKLOADS] = (struct CMUnitTest)cmocka_unit_test(test_each_missing_sync_is_noticed);
    tests[WORKLOADS + 1] = (struct CMUnitTest)cmocka_unit_test(test_an_unsynced_hint_does_no_harm);
    if (argc > 1 && !any_matches(tests, sizeof tests / sizeof *tests, argv[1]))
        return 2;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    simdisk_finish();
    return failed;
}
