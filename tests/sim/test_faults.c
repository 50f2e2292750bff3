/* H2: fails the 1st, 2nd, 3rd ... call of io.h, and the 1st, 2nd, 3rd ... allocation, once and for
 * good, until a run meets no fault any more. What must hold then: trial.h.
 *
 *   test_faults [PATTERN]       only the tests whose names match
 *   CASKADE_FAULT_FIRST=n       begin with the nth call
 *   CASKADE_FAULT_SEED=n        of the script
 */
#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "allocfail.h"
#include "crashstate.h"
#include "simdisk.h"
#include "trial.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_LSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_LSAN 1
#endif
#endif
#ifdef WITH_LSAN
#include <sanitizer/lsan_interface.h>
#else
#define __lsan_do_recoverable_leak_check() 0
#endif

#define LEAK_CHECK_EVERY 100u
#define SWEEP_MAX 20000u

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "malloc_context_size=8:quarantine_size_mb=16:max_malloc_fill_size=0";
}

static const struct workload stores[] = {
    {"mapped", 2, CASK_SYNC_NONE, CASK_WRITE_MAPPED, 500, 0, 512, 128, false, 0, 0},
    {"syscall", 2, CASK_SYNC_NONE, CASK_WRITE_SYSCALL, 500, 0, 512, 128, false, 0, 0},
    {"always", 1, CASK_SYNC_ALWAYS, CASK_WRITE_SYSCALL, 700, 0, 512, 128, false, 0, 0},
    {"always_mapped", 2, CASK_SYNC_ALWAYS, CASK_WRITE_MAPPED, 500, 0, 512, 128, false, 0, 0},
    {"merge", 1, CASK_SYNC_NONE, CASK_WRITE_MAPPED, 500, 0, 512, 128, false, 1, 0},
    {"merge_always", 1, CASK_SYNC_ALWAYS, CASK_WRITE_SYSCALL, 500, 0, 512, 128, false, 1, 0},
    {"spill", 2, CASK_SYNC_NONE, CASK_WRITE_MAPPED, 500, 0, 512, 128, false, 0, 1},
    {"spill_merge", 1, CASK_SYNC_NONE, CASK_WRITE_SYSCALL, 500, 0, 512, 128, false, 1, 1},
};

enum store { MAPPED, SYSCALL, ALWAYS, ALWAYS_MAPPED, MERGE, MERGE_ALWAYS, SPILL, SPILL_MERGE };

struct sweep {
    const char *name;
    enum store store;
    enum cask_read_mode read_mode;
    struct simdisk_fault fault; /* without nth; calls 0: allocations */
};

#define ONCE .persistent = false
#define FOR_GOOD .persistent = true
#define SYNC_CALLS                                                                                 \
    (SIMDISK_BIT(SIMDISK_SYNC) | SIMDISK_BIT(SIMDISK_DIR_SYNC) |                                   \
     SIMDISK_BIT(SIMDISK_DIR_SYNC_PARENT))
#define EVERY_CALL .calls = SIMDISK_ALL_CALLS, .status = CASK_EIO
#define SPACE .calls = SIMDISK_SPACE_CALLS, .status = CASK_ENOSPC
#define DESCRIPTORS .calls = SIMDISK_DESCRIPTOR_CALLS, .status = CASK_EMFILE

static const struct sweep sweeps[] = {
    {"mapped_eio_once", MAPPED, CASK_READ_MAPPED, {EVERY_CALL, ONCE}},
    {"mapped_eio_for_good", MAPPED, CASK_READ_PREAD, {EVERY_CALL, FOR_GOOD}},
    {"mapped_enospc_once", MAPPED, CASK_READ_MAPPED, {SPACE, ONCE, .short_permille = 500}},
    {"mapped_enospc_for_good", MAPPED, CASK_READ_MAPPED, {SPACE, FOR_GOOD}},
    {"mapped_emfile_once", MAPPED, CASK_READ_PREAD, {DESCRIPTORS, ONCE}},
    {"mapped_emfile_for_good", MAPPED, CASK_READ_MAPPED, {DESCRIPTORS, FOR_GOOD}},
    {"syscall_eio_once", SYSCALL, CASK_READ_PREAD, {EVERY_CALL, ONCE}},
    {"syscall_eio_short_once",
     SYSCALL,
     CASK_READ_MAPPED,
     {EVERY_CALL, ONCE, .short_permille = 400}},
    {"syscall_eio_late_once",
     SYSCALL,
     CASK_READ_MAPPED,
     {EVERY_CALL, ONCE, .short_permille = 1000}},
    {"syscall_eio_for_good", SYSCALL, CASK_READ_MAPPED, {EVERY_CALL, FOR_GOOD}},
    {"syscall_enospc_once", SYSCALL, CASK_READ_PREAD, {SPACE, ONCE, .short_permille = 700}},
    {"syscall_enospc_for_good",
     SYSCALL,
     CASK_READ_MAPPED,
     {SPACE, FOR_GOOD, .short_permille = 300}},
    {"always_eio_once", ALWAYS, CASK_READ_MAPPED, {EVERY_CALL, ONCE}},
    {"always_eio_for_good", ALWAYS, CASK_READ_PREAD, {EVERY_CALL, FOR_GOOD}},
    {"always_enospc_once", ALWAYS, CASK_READ_MAPPED, {SPACE, ONCE, .short_permille = 500}},
    {"always_mapped_eio_once", ALWAYS_MAPPED, CASK_READ_MAPPED, {EVERY_CALL, ONCE}},
    {"always_mapped_sync_for_good",
     ALWAYS_MAPPED,
     CASK_READ_MAPPED,
     {.calls = SYNC_CALLS, .status = CASK_EIO, FOR_GOOD}},
    {"mapped_memory_once", MAPPED, CASK_READ_PREAD, {ONCE}},
    {"mapped_memory_for_good", MAPPED, CASK_READ_MAPPED, {FOR_GOOD}},
    {"syscall_memory_once", SYSCALL, CASK_READ_MAPPED, {ONCE}},
    {"syscall_memory_for_good", SYSCALL, CASK_READ_PREAD, {FOR_GOOD}},
    {"always_memory_once", ALWAYS, CASK_READ_MAPPED, {ONCE}},
    {"merge_eio_once", MERGE, CASK_READ_MAPPED, {EVERY_CALL, ONCE}},
    {"merge_eio_for_good", MERGE, CASK_READ_PREAD, {EVERY_CALL, FOR_GOOD}},
    {"merge_room_enospc_once", MERGE, CASK_READ_PREAD, {SPACE, ONCE, .short_permille = 500}},
    {"merge_room_enospc_for_good", MERGE, CASK_READ_MAPPED, {SPACE, FOR_GOOD}},
    {"merge_room_emfile_once", MERGE, CASK_READ_PREAD, {DESCRIPTORS, ONCE}},
    {"merge_memory_once", MERGE, CASK_READ_MAPPED, {ONCE}},
    {"merge_memory_for_good", MERGE, CASK_READ_PREAD, {FOR_GOOD}},
    {"merge_always_eio_once", MERGE_ALWAYS, CASK_READ_MAPPED, {EVERY_CALL, ONCE}},
    {"spill_eio_once", SPILL_MERGE, CASK_READ_PREAD, {EVERY_CALL, ONCE}},
    {"spill_eio_for_good", SPILL, CASK_READ_MAPPED, {EVERY_CALL, FOR_GOOD}},
    {"spill_room_enospc_once", SPILL, CASK_READ_MAPPED, {SPACE, ONCE, .short_permille = 500}},
    {"spill_room_enospc_for_good", SPILL_MERGE, CASK_READ_MAPPED, {SPACE, FOR_GOOD}},
    {"spill_room_emfile_once", SPILL_MERGE, CASK_READ_PREAD, {DESCRIPTORS, ONCE}},
    {"spill_memory_once", SPILL_MERGE, CASK_READ_MAPPED, {ONCE}},
    {"spill_memory_for_good", SPILL, CASK_READ_PREAD, {FOR_GOOD}},
};
#define SWEEPS (sizeof sweeps / sizeof *sweeps)

static unsigned long long from_environment(const char *name, unsigned long long otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void fault_on(const struct sweep *sweep, uint64_t nth)
{
    struct simdisk_fault fault = sweep->fault;

    fault.nth = nth;
    if (sweep->fault.calls == 0)
        allocfail_set(nth, sweep->fault.persistent);
    else
        simdisk_set_fault(&fault);
}

/* Whether any fault struck, and where. */
static bool fault_off(const struct sweep *sweep, char *ret_place, size_t size)
{
    uint64_t hits = sweep->fault.calls == 0 ? allocfail_hits() : simdisk_fault_hits();

    snprintf(ret_place, size, "%s",
             sweep->fault.calls == 0 ? allocfail_place() : simdisk_fault_place());
    allocfail_set(0, false);
    simdisk_set_fault(NULL);
    return hits > 0;
}

/* Runs the script with the nth call failing. *ret_struck: there was an nth call. */
static bool attempt(const struct sweep *sweep, uint64_t nth, bool *ret_struck, char *ret_why,
                    size_t size)
{
    int64_t mapped = allocfail_mapped_bytes();
    struct trial trial;
    char place[320];
    bool good;

    trial_init(&trial, &stores[sweep->store], sweep->read_mode,
               from_environment("CASKADE_FAULT_SEED", 1));
    fault_on(sweep, nth);
    good = trial_run(&trial);
    *ret_struck = fault_off(sweep, place, sizeof place);
    good = good && trial_settle(&trial, false);
    if (good && allocfail_mapped_bytes() != mapped) {
        snprintf(trial.why, sizeof trial.why, "%lld bytes stay mapped",
                 (long long)(allocfail_mapped_bytes() - mapped));
        good = false;
    }
    snprintf(ret_why, size, "%s: call %llu (%s): %s", sweep->name, (unsigned long long)nth, place,
             trial.why);
    trial_release(&trial);
    return good;
}

static void test_sweep(void **state)
{
    const struct sweep *sweep = *state;
    uint64_t nth = from_environment("CASKADE_FAULT_FIRST", 1);
    bool struck = true;
    char why[900];

    for (; struck && nth < SWEEP_MAX; nth++) {
        if (!attempt(sweep, nth, &struck, why, sizeof why))
            fail_msg("%s", why);
        if (nth % LEAK_CHECK_EVERY == 0 && __lsan_do_recoverable_leak_check() != 0)
            fail_msg("a leak in the %u runs up to: %s", LEAK_CHECK_EVERY, why);
    }
    if (__lsan_do_recoverable_leak_check() != 0)
        fail_msg("a leak in the last runs up to: %s", why);
    assert_false(struck); /* the last run met no fault */
    assert_true(nth > 10);
    print_message("%s: %llu calls failed\n", sweep->name, (unsigned long long)nth - 2);
}

/* ---- syncs that fail, and then the power ---- */

struct aftermath {
    struct trial *trial;
    bool good;
    size_t states;
};

static bool check_after_power_loss(void *context, const struct crash_state *state)
{
    struct aftermath *aftermath = context;
    struct trial *trial = aftermath->trial;

    if (state->kill)
        return true;
    simdisk_load(state->image, SIMDISK_NEW_BOOT);
    aftermath->states++;
    aftermath->good = trial_open(trial) && trial->db && trial_look(trial, trial->db);
    if (trial->db)
        aftermath->good = trial_close(trial) && aftermath->good;
    return aftermath->good;
}

/* The nth sync fails; the store is closed, opened again, written to, and then the power goes. Pages
 * that the failed sync left clean are lost, unless somebody wrote them once more. */
static bool lose_power_after_failed_sync(uint64_t nth, bool evict, bool *ret_struck, char *ret_why,
                                         size_t size)
{
    struct sweep sweep = {.store = ALWAYS,
                          .fault = {.calls = SIMDISK_BIT(SIMDISK_SYNC), .status = CASK_EIO}};
    struct crash_limits limits = {.seed = nth, .pairs = 4, .random = 8, .total = 14};
    struct crash_tracker *tracker;
    struct aftermath aftermath = {0};
    struct simlog *log;
    struct trial trial;
    size_t position;
    char place[320];

    trial_init(&trial, &stores[sweep.store], CASK_READ_MAPPED, nth);
    aftermath.trial = &trial;
    fault_on(&sweep, nth);
    aftermath.good = trial_run(&trial);
    *ret_struck = fault_off(&sweep, place, sizeof place);
    /* A medium that lost what it was told to write may be called damaged. */
    trial.may_complain = evict;
    if (evict)
        simdisk_evict();
    aftermath.good = aftermath.good && trial_settle(&trial, true);
    position = simdisk_log_position();
    if (trial.db)
        aftermath.good = trial_close(&trial) && aftermath.good;
    log = simdisk_record_end();
    if (aftermath.good) {
        tracker = crash_tracker_create(log, 512, 128);
        crash_tracker_advance(tracker, position);
        crash_states(tracker, &limits, check_after_power_loss, &aftermath);
        crash_tracker_release(tracker);
    }
    snprintf(ret_why, size, "sync %llu (%s)%s: %s", (unsigned long long)nth, place,
             evict ? ", evicted" : "", trial.why);
    simlog_release(log);
    trial_release(&trial);
    return aftermath.good;
}

static void sweep_failed_syncs(bool evict)
{
    uint64_t nth = from_environment("CASKADE_FAULT_FIRST", 1);
    bool struck = true;
    char why[900];

    for (; struck; nth++)
        if (!lose_power_after_failed_sync(nth, evict, &struck, why, sizeof why))
            fail_msg("%s", why);
    print_message("%llu syncs failed\n", (unsigned long long)nth - 2);
}

static void test_acknowledged_after_a_failed_sync_survives_power_loss(void **state)
{
    (void)state;
    sweep_failed_syncs(false);
}

static void test_acknowledged_before_a_failed_sync_survives_eviction(void **state)
{
    (void)state;
    sweep_failed_syncs(true);
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
    struct CMUnitTest tests[SWEEPS + 2];
    int failed;

    for (size_t i = 0; i < SWEEPS; i++) {
        tests[i] = (struct CMUnitTest)cmocka_unit_test(test_sweep);
        tests[i].name = sweeps[i].name;
        tests[i].initial_state = (void *)(uintptr_t)&sweeps[i];
    }
    tests[SWEEPS] = (struct CMUnitTest)cmocka_unit_test(
        test_acknowledged_after_a_failed_sync_survives_power_loss);
    tests[SWEEPS + 1] = (struct CMUnitTest)cmocka_unit_test(
        test_acknowledged_before_a_failed_sync_survives_eviction);
    if (argc > 1 && !any_matches(tests, sizeof tests / sizeof *tests, argv[1]))
        return 2;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    simdisk_finish();
    return failed;
}
