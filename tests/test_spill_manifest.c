/* shard/spill and the manifest: what it says of runs, and what becomes of files that it names when
 * nobody knows whether it holds. */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unit_shard.h"

#include "shard/spill.h"

/* ---- a manifest in doubt --------------------------------------------------------------------- */

/* A directory whose syncs fail; none. */
static char unsyncable[300];

/* In place of the C library's. */
int fsync(int file)
{
    char target[512];
    char link[40];
    ssize_t size;

    if (unsyncable[0] == '\0')
        return (int)syscall(SYS_fsync, file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    size = readlink(link, target, sizeof target - 1);
    assert_true(size > 0);
    target[size] = '\0';
    if (strcmp(target, unsyncable) != 0)
        return (int)syscall(SYS_fsync, file);
    errno = EIO;
    return -1;
}

/* Opens the shard again: whichever manifest holds, its runs are there. */
static void assert_no_run_is_missing(struct rig *rig, uint32_t runs, unsigned keys)
{
    assert_int_equal(atomic_load(&only(rig)->failed), CASK_EIO);
    rig_crash(rig);
    assert_false(log_lines_mention(&rig->lines, "a run is missing"));
    assert_int_equal(index_lower(&only(rig)->index).runs->count, runs);
    assert_keys(rig, 0, keys);
    rig_stop(rig);
}

/* The manifest that names the run has taken the place of the old one, but its name could not be
 * synced: it may hold, or not. */
static void test_a_run_stays_when_its_manifest_is_in_doubt(void **state)
{
    struct rig *rig = rig_that_spills(1);

    (void)state;
    put_keys(rig, 0, 100);
    assert_ok(spill_flush(only(rig), false)); /* makes the directory of the runs */
    put_keys(rig, 100, 200);
    snprintf(unsyncable, sizeof unsyncable, "%s/shard-000", rig->place.path);
    assert_int_equal(spill_flush(only(rig), false), CASK_EIO);
    unsyncable[0] = '\0';
    assert_no_run_is_missing(rig, 2, 200);
}

static void test_a_merged_run_stays_when_its_manifest_is_in_doubt(void **state)
{
    struct rig *rig = rig_that_spills(1);

    (void)state;
    for (unsigned i = 0; i < 300; i += 100) {
        put_keys(rig, i, i + 100);
        assert_ok(spill_flush(only(rig), false));
    }
    snprintf(unsyncable, sizeof unsyncable, "%s/shard-000", rig->place.path);
    pthread_mutex_lock(&only(rig)->merge_lock);
    assert_int_equal(spill_merge_runs(only(rig), true), CASK_EIO);
    pthread_mutex_unlock(&only(rig)->merge_lock);
    unsyncable[0] = '\0';
    assert_no_run_is_missing(rig, 1, 300);
}

/* The same of a next segment, which is not made for spilling alone. */
static void test_a_segment_stays_when_its_manifest_is_in_doubt(void **state)
{
    struct rig *rig = rig_that_spills(1);

    (void)state;
    put_keys(rig, 0, 100);
    snprintf(unsyncable, sizeof unsyncable, "%s/shard-000", rig->place.path);
    assert_int_equal(shard_prepare(only(rig), 0, PREPARE_FOR_WRITES), CASK_EIO);
    unsyncable[0] = '\0';
    assert_int_equal(atomic_load(&only(rig)->failed), CASK_EIO);
    rig_crash(rig);
    assert_false(log_lines_mention(&rig->lines, "the segment is missing"));
    assert_keys(rig, 0, 100);
    rig_stop(rig);
}

/* Nor does a close take away the one made ahead before a manifest without it is there for sure. */
static void test_a_segment_made_ahead_stays_while_a_manifest_may_name_it(void **state)
{
    struct rig *rig = rig_that_spills(1);
    char path[512];
    char name[SEGMENT_NAME_BYTES];

    (void)state;
    put_keys(rig, 0, 100);
    assert_ok(shard_prepare(only(rig), 0, PREPARE_FOR_WRITES));
    assert_non_null(only(rig)->next);
    segment_data_name(only(rig)->next->id, name);
    snprintf(path, sizeof path, "%s/shard-000/%s", rig->place.path, name);
    snprintf(unsyncable, sizeof unsyncable, "%s/shard-000", rig->place.path);
    assert_int_equal(shard_close(only(rig)), CASK_EIO);
    unsyncable[0] = '\0';
    assert_true(path_exists(path));
    rig_crash(rig);
    assert_false(log_lines_mention(&rig->lines, "the segment is missing"));
    assert_keys(rig, 0, 100);
    rig_stop(rig);
}

/* ---- what a manifest says of runs ------------------------------------------------------------ */

static void write_manifest(struct rig *rig)
{
    pthread_mutex_lock(&only(rig)->manifest_lock);
    assert_ok(shard_write_manifest(only(rig)));
    pthread_mutex_unlock(&only(rig)->manifest_lock);
}

static uint64_t runs_in_manifest(struct rig *rig)
{
    struct manifest manifest;
    uint64_t count;

    assert_ok(manifest_read(only(rig)->dir, &only(rig)->config, &manifest));
    count = manifest.run_count;
    manifest_release(&manifest);
    return count;
}

/* Small runs are validated by each open, and damage in them would be found again; of large ones
 * nobody would know. */
static void test_a_manifest_names_no_run_that_was_found_damaged(void **state)
{
    struct rig *rig = rig_that_spills(1);

    (void)state;
    put_keys(rig, 0, 100);
    assert_ok(spill_flush(only(rig), false));
    write_manifest(rig);
    assert_int_equal(runs_in_manifest(rig), 1);
    shard_distrust_runs(only(rig));
    write_manifest(rig);
    assert_int_equal(runs_in_manifest(rig), 0);
    rig_crash(rig);
    assert_keys(rig, 0, 100);
    rig_stop(rig);
}

/* Also where the files of those that came after the last one there is are gone, as of builds that
 * failed. */
static void test_the_id_of_a_run_is_never_used_twice(void **state)
{
    struct rig *rig = rig_that_spills(1);

    (void)state;
    put_keys(rig, 0, 100);
    assert_ok(spill_flush(only(rig), false));
    only(rig)->next_run += 10;
    write_manifest(rig);
    rig_crash(rig);
    put_keys(rig, 100, 200);
    assert_ok(spill_flush(only(rig), false));
    assert_in_range(index_lower(&only(rig)->index).runs->runs[0]->id, 11, 100);
    assert_keys(rig, 0, 200);
    rig_stop(rig);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_run_stays_when_its_manifest_is_in_doubt),
        cmocka_unit_test(test_a_merged_run_stays_when_its_manifest_is_in_doubt),
        cmocka_unit_test(test_a_segment_stays_when_its_manifest_is_in_doubt),
        cmocka_unit_test(test_a_segment_made_ahead_stays_while_a_manifest_may_name_it),
        cmocka_unit_test(test_a_manifest_names_no_run_that_was_found_damaged),
        cmocka_unit_test(test_the_id_of_a_run_is_never_used_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
