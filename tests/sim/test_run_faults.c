/* Runs on a machine whose calls fail and whose power is cut: the 1st, 2nd, 3rd ... call fails until
 * none is left to fail; and after a crash at any moment a file with a run's name is a whole run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crashstate.h"
#include "index/run.h"
#include "index/runbuild.h"
#include "index/runverify.h"
#include "simdisk.h"

#define COUNT 1500u
#define SWEEP_MAX 1000u

static const struct run_config config = {.uuid = "0123456789abcde", .shard = 3};

static uint32_t tag_of(uint32_t i)
{
    return i / 2 * 5000000u; /* two entries of each tag */
}

static int build_run(struct io_dir *dir, struct budget *budget, struct run_summary *ret_summary)
{
    struct run_build_options options = {COUNT, 10};
    struct run_build *build;
    int status = run_build_begin(dir, "/s", &config, 1, options, budget, &build);

    for (uint32_t i = 0; status == CASK_OK && i < COUNT; i++) {
        status = run_build_add(build, tag_of(i), i + 1);
        if (status != CASK_OK) {
            run_build_abort(build);
            return status;
        }
    }
    return status == CASK_OK ? run_build_finish(build, ret_summary) : status;
}

/* Right answers or an error. */
static int read_run_as(struct io_dir *dir, struct budget *budget, const struct run_summary *summary,
                       bool mapped)
{
    struct run_open_options options = {.validate = true, .mapped = mapped};
    struct run *run;
    int status = run_open(dir, &config, 1, summary->bytes, summary->checksum, options, budget,
                          &run);

    if (status != CASK_OK)
        return status;
    for (uint32_t i = 0; status == CASK_OK && i < COUNT; i += 100) {
        uint64_t locations[2];
        unsigned found;

        status = run_find(run, tag_of(i), locations, 2, &found, NULL);
        if (status == CASK_OK) {
            assert_int_equal(found, 2);
            assert_int_equal(locations[0], i + 1);
            assert_int_equal(locations[1], i + 2);
        }
    }
    if (status == CASK_OK)
        status = run_verify(run, "/s");
    run_close(run);
    return status;
}

static int read_run(struct io_dir *dir, struct budget *budget, const struct run_summary *summary)
{
    return read_run_as(dir, budget, summary, false);
}

static bool name_is_there(struct io_dir *dir, const char *name)
{
    struct io_file *file;
    int status = io_open(dir, name, IO_READ, &file);

    if (status == CASK_OK)
        io_close(file);
    return status != CASK_NOTFOUND;
}

static struct io_dir *fresh_dir(void)
{
    struct io_dir *dir;

    simdisk_reset(7);
    assert_int_equal(io_dir_make("/s"), CASK_OK);
    assert_int_equal(io_dir_open("/s", &dir), CASK_OK);
    return dir;
}

static void sweep(struct simdisk_fault fault)
{
    struct budget budget = {.limit_bytes = 1 << 20};
    struct run_summary summary;
    uint64_t faults = 0;

    for (fault.nth = 1; fault.nth < SWEEP_MAX; fault.nth++) {
        struct io_dir *dir = fresh_dir();
        uint64_t hits;
        bool built;
        int status;

        simdisk_set_fault(&fault);
        status = build_run(dir, &budget, &summary);
        built = status == CASK_OK;
        if (built)
            status = read_run(dir, &budget, &summary);
        hits = simdisk_fault_hits();
        simdisk_set_fault(NULL);
        assert_int_equal(status, hits > 0 ? fault.status : CASK_OK);
        if (!built && !fault.persistent) {
            assert_false(name_is_there(dir, "1.mdb"));
            assert_false(name_is_there(dir, "1.mdb.tmp"));
        }
        if (!built) /* what could not be removed then is in nobody's way now */
            assert_int_equal(build_run(dir, &budget, &summary), CASK_OK);
        assert_int_equal(read_run(dir, &budget, &summary), CASK_OK);
        assert_int_equal(budget_used(&budget), 0);
        io_dir_close(dir);
        assert_int_equal(simdisk_open_handles(), 0);
        if (hits == 0)
            break;
        faults++;
    }
    assert_in_range(faults, 4, SWEEP_MAX - 2);
}

static void test_every_call_that_fails_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    sweep((struct simdisk_fault){.calls = SIMDISK_ALL_CALLS, .status = CASK_EIO});
    sweep((struct simdisk_fault){
        .calls = SIMDISK_ALL_CALLS, .status = CASK_EIO, .short_permille = 400});
    sweep(
        (struct simdisk_fault){.calls = SIMDISK_ALL_CALLS, .status = CASK_EIO, .persistent = true});
}

static void test_a_full_disk_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    sweep((struct simdisk_fault){
        .calls = SIMDISK_SPACE_CALLS, .status = CASK_ENOSPC, .short_permille = 500});
    sweep((struct simdisk_fault){
        .calls = SIMDISK_SPACE_CALLS, .status = CASK_ENOSPC, .persistent = true});
}

static void test_a_run_that_cannot_be_mapped_is_read_by_call(void **state)
{
    struct simdisk_fault no_map = {
        .nth = 1, .calls = SIMDISK_BIT(SIMDISK_MAP), .status = CASK_EMFILE, .persistent = true};
    struct budget budget = {.limit_bytes = 1 << 20};
    struct io_dir *dir = fresh_dir();
    struct run_summary summary;

    (void)state;
    assert_int_equal(build_run(dir, &budget, &summary), CASK_OK);
    assert_int_equal(read_run_as(dir, &budget, &summary, true), CASK_OK);
    simdisk_set_fault(&no_map);
    assert_int_equal(read_run_as(dir, &budget, &summary, true), CASK_OK);
    assert_int_equal(simdisk_fault_hits(), 1);
    simdisk_set_fault(NULL);
    io_dir_close(dir);
    assert_int_equal(simdisk_open_handles(), 0);
}

static void test_disks_of_any_size_are_told_from_large_enough_ones(void **state)
{
    struct budget budget = {.limit_bytes = 1 << 20};
    uint64_t refused = 0;
    bool done = false;

    (void)state;
    for (uint64_t pages = 1; !done; pages++) {
        struct io_dir *dir = fresh_dir();
        struct run_summary summary;
        int status;

        simdisk_set_capacity(simdisk_used_bytes() + pages * 4096);
        status = build_run(dir, &budget, &summary);
        done = status == CASK_OK;
        if (!done) {
            assert_int_equal(status, CASK_ENOSPC);
            refused++;
        }
        assert_int_equal(name_is_there(dir, "1.mdb"), done);
        assert_false(name_is_there(dir, "1.mdb.tmp"));
        io_dir_close(dir);
        assert_int_equal(budget_used(&budget), 0);
    }
    assert_in_range(refused, 4, 10);
}

/* ---- crashes --------------------------------------------------------------------------------- */

struct crash_count {
    struct run_summary summary;
    uint64_t states;
    uint64_t with_run;
};

static bool check_state(void *context, const struct crash_state *crash)
{
    struct crash_count *count = context;
    struct budget budget = {.limit_bytes = 1 << 20};
    struct io_dir *dir;
    int status;

    simdisk_load(crash->image, SIMDISK_NEW_BOOT);
    status = io_dir_open("/s", &dir);
    assert_int_equal(status, CASK_OK);
    status = read_run(dir, &budget, &count->summary);
    if (status != CASK_OK && status != CASK_NOTFOUND)
        fail_msg("after entry %zu, %s: %s", crash->position, crash->text, cask_strerror(status));
    count->with_run += status == CASK_OK;
    count->states++;
    io_dir_close(dir);
    return true;
}

static void explore(const struct simlog *log, struct crash_count *count)
{
    struct crash_limits limits = {.seed = 1, .pairs = 20, .random = 10, .total = 60};
    struct crash_tracker *tracker = crash_tracker_create(log, 4096, 512);

    for (size_t position = 0; position <= log->count; position++) {
        crash_tracker_advance(tracker, position);
        crash_states(tracker, &limits, check_state, count);
    }
    crash_tracker_release(tracker);
}

static void test_after_a_crash_a_run_is_whole_or_not_there(void **state)
{
    struct budget budget = {.limit_bytes = 1 << 20};
    struct io_dir *dir = fresh_dir();
    struct crash_count count = {0};
    struct simimage *durable;
    struct simlog *log;

    (void)state;
    assert_int_equal(io_dir_sync(dir), CASK_OK);
    simdisk_record_begin();
    assert_int_equal(build_run(dir, &budget, &count.summary), CASK_OK);
    log = simdisk_record_end();
    io_dir_close(dir);
    explore(log, &count);
    printf("%zu entries, %llu states, the run is there in %llu\n", log->count,
           (unsigned long long)count.states, (unsigned long long)count.with_run);
    assert_in_range(count.states, 100, 100000);
    assert_in_range(count.with_run, 2, count.states - 2);

    durable = crash_image_durable(log, log->count); /* once built it stays */
    simdisk_load(durable, SIMDISK_NEW_BOOT);
    assert_int_equal(io_dir_open("/s", &dir), CASK_OK);
    assert_int_equal(read_run(dir, &budget, &count.summary), CASK_OK);
    io_dir_close(dir);
    simimage_release(durable);
    simlog_release(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_that_fails_is_told_and_leaves_nothing),
        cmocka_unit_test(test_a_full_disk_is_told_and_leaves_nothing),
        cmocka_unit_test(test_a_run_that_cannot_be_mapped_is_read_by_call),
        cmocka_unit_test(test_disks_of_any_size_are_told_from_large_enough_ones),
        cmocka_unit_test(test_after_a_crash_a_run_is_whole_or_not_there),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    simdisk_finish();
    return failed;
}
