/* index/runbuild: what it builds is whole, small, readable by LMDB's own tools, and gone without a
 * trace where building fails. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit_run.h"

#include "index/runverify.h"

#define MILLION 1000000u

/* That the directory has these names and no others. */
static void check_names(const struct run_place_dir *runs, const char *expected)
{
    char *names;

    assert_ok(io_dir_list(runs->place.dir, &names));
    assert_string_equal(names, expected);
    if (*names)
        assert_int_equal(names[strlen(names) + 1], '\0');
    free(names);
}

static void test_runs_of_every_size_are_whole(void **state)
{
    static const size_t counts[] = {0, 1, 2, 20, 21, 22, 395, 396, 397, 791, 792, 793, 100000};
    struct run_place_dir runs = runs_start();

    (void)state;
    for (size_t n = 0; n < COUNT_OF(counts); n++) {
        struct keydir_entry *entries = run_entries(counts[n], n);
        struct run_summary summary = run_build_all(&runs, n + 1, entries, counts[n], 10);
        struct run *run;

        assert_ok(run_open_as(&runs, &summary, true, &run));
        assert_int_equal(run->count, counts[n]);
        assert_int_equal(run->blocks, (counts[n] + 395) / 396);
        for (size_t i = 0; i < counts[n]; i++)
            check_find(run, entries, counts[n], i);
        check_absent(run, counts[n] > 0 ? entries[counts[n] - 1].tag + 1 : 5);
        assert_ok(run_verify(run, runs.place.path));
        run_close(run);
        free(entries);
    }
    runs_stop(&runs);
}

static void test_more_entries_than_expected_are_fine(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(300000, 4);
    struct run_build_options options = {1, 10};
    struct run_summary summary;
    struct run_build *build;
    struct run *run;

    (void)state;
    assert_ok(run_build_begin(runs.place.dir, runs.place.path, &runs.config, 1, options,
                              &runs.budget, &build));
    for (size_t i = 0; i < 300000; i++)
        assert_ok(run_build_add(build, entries[i].tag, entries[i].location));
    assert_ok(run_build_finish(build, &summary));
    assert_ok(run_open_as(&runs, &summary, true, &run));
    for (size_t i = 0; i < 300000; i += 97)
        check_find(run, entries, 300000, i);
    assert_ok(run_verify(run, runs.place.path));
    run_close(run);
    free(entries);
    runs_stop(&runs);
}

static void test_far_fewer_entries_than_expected_leave_a_small_file(void **state)
{
    struct run_place_dir runs = runs_start();
    struct run_build_options options = {MILLION, 0};
    struct run_summary summary;
    struct run_build *build;
    struct run *run;

    (void)state;
    assert_ok(run_build_begin(runs.place.dir, runs.place.path, &runs.config, 1, options,
                              &runs.budget, &build));
    assert_ok(run_build_add(build, 7, 8));
    assert_ok(run_build_finish(build, &summary));
    assert_true(summary.bytes < 64 << 10);
    assert_ok(run_open_as(&runs, &summary, true, &run));
    assert_ok(run_verify(run, runs.place.path));
    run_close(run);
    runs_stop(&runs);
}

static void test_the_file_has_its_size_its_name_and_its_mode(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(5000, 2);
    struct run_summary summary;
    struct stat info;

    (void)state;
    write_file(path_in(runs.place.path, "5.mdb.tmp"), "left by a crash", 15);
    summary = run_build_all(&runs, 5, entries, 5000, 10);
    check_names(&runs, "5.mdb");
    assert_int_equal(stat(path_in(runs.place.path, "5.mdb"), &info), 0);
    assert_int_equal((uint64_t)info.st_size, summary.bytes);
    assert_int_equal(info.st_mode & 07777, 0600);
    free(entries);
    runs_stop(&runs);
}

/* How many descriptors the process has on the file of a run that is being built. */
static unsigned descriptors_on(const char *name, bool *ret_all_close)
{
    unsigned found = 0;

    *ret_all_close = true;
    for (int fd = 0; fd < 64; fd++) {
        char link[64];
        char path[4096];
        ssize_t size;

        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        size = readlink(link, path, sizeof path - 1);
        path[size < 0 ? 0 : size] = '\0';
        if (!strstr(path, name))
            continue;
        found++;
        *ret_all_close &= (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
    }
    return found;
}

static void test_no_descriptor_outlives_an_exec(void **state)
{
    struct run_place_dir runs = runs_start();
    struct run_build_options options = {1, 10};
    struct run_build *build;
    bool all_close;

    (void)state;
    assert_ok(run_build_begin(runs.place.dir, runs.place.path, &runs.config, 1, options,
                              &runs.budget, &build));
    assert_true(descriptors_on("/1.mdb.tmp", &all_close) >= 2); /* ours and LMDB's */
    assert_true(all_close);
    run_build_abort(build);
    runs_stop(&runs);
}

static void test_giving_up_leaves_no_file(void **state)
{
    struct run_place_dir runs = runs_start();
    struct run_build_options options = {1000, 10};
    struct run_build *build;

    (void)state;
    for (unsigned count = 0; count < 200000; count = count * 10 + 1) {
        assert_ok(run_build_begin(runs.place.dir, runs.place.path, &runs.config, 1, options,
                                  &runs.budget, &build));
        for (unsigned i = 0; i < count; i++)
            assert_ok(run_build_add(build, i, i + 1));
        run_build_abort(build);
        check_names(&runs, "");
    }
    run_build_abort(NULL);
    runs_stop(&runs);
}

static void test_what_the_budget_refuses_is_not_had(void **state)
{
    struct run_place_dir runs = runs_start();
    struct run_build_options options = {MILLION, 10};
    struct run_build *build;

    (void)state;
    runs.budget.limit_bytes = 1 << 20; /* the filter alone takes 1.25 MB */
    assert_int_equal(run_build_begin(runs.place.dir, runs.place.path, &runs.config, 1, options,
                                     &runs.budget, &build),
                     CASK_ENOMEM);
    assert_int_equal(budget_used(&runs.budget), 0);
    check_names(&runs, "");
    options.filter_bits = 4;
    assert_ok(run_build_begin(runs.place.dir, runs.place.path, &runs.config, 1, options,
                              &runs.budget, &build));
    assert_true(budget_used(&runs.budget) <= 1 << 20);
    run_build_abort(build);
    runs.budget.limit_bytes = 8192;
    options.filter_bits = 0;
    assert_int_equal(run_build_begin(runs.place.dir, runs.place.path, &runs.config, 1, options,
                                     &runs.budget, &build),
                     CASK_ENOMEM);
    check_names(&runs, "");
    runs_stop(&runs);
}

/* The fence outgrows what was expected, and the budget has no more. */
static void test_a_budget_that_runs_out_ends_the_run(void **state)
{
    struct run_place_dir runs = runs_start();
    struct run_build_options options = {1, 0};
    struct run_build *build;
    int status = CASK_OK;

    (void)state;
    assert_ok(run_build_begin(runs.place.dir, runs.place.path, &runs.config, 1, options,
                              &runs.budget, &build));
    runs.budget.limit_bytes = budget_used(&runs.budget);
    for (unsigned i = 0; status == CASK_OK; i++)
        status = run_build_add(build, i, i + 1);
    assert_int_equal(status, CASK_ENOMEM);
    run_build_abort(build);
    check_names(&runs, "");
    runs_stop(&runs);
}

/* A builder takes what there is, and reads the run back in the end: with what it has let go. */
static void test_a_run_is_finished_with_no_more_than_what_its_builder_took(void **state)
{
    struct run_place_dir runs = runs_start();
    struct run_build_options options = {20000, 0};
    struct run_summary summary;
    struct run_build *build;

    (void)state;
    assert_ok(run_build_begin(runs.place.dir, runs.place.path, &runs.config, 1, options,
                              &runs.budget, &build));
    runs.budget.limit_bytes = budget_used(&runs.budget);
    for (uint32_t i = 0; i < 20000; i++)
        assert_ok(run_build_add(build, i, i + 1));
    assert_ok(run_build_finish(build, &summary));
    assert_int_equal(summary.count, 20000);
    assert_int_equal(budget_used(&runs.budget), 0);
    runs_stop(&runs);
}

static void test_a_path_that_is_another_directory_is_found_out(void **state)
{
    struct run_place_dir runs = runs_start();
    char *other = scratch_make(SCRATCH_MEMORY);
    struct run_build_options options = {1000, 10};
    struct run_summary summary;
    struct run_build *build;
    int status;

    (void)state;
    status = run_build_begin(runs.place.dir, other, &runs.config, 1, options, &runs.budget, &build);
    if (status == CASK_OK) {
        for (unsigned i = 0; i < 1000; i++)
            assert_ok(run_build_add(build, i, i + 1));
        status = run_build_finish(build, &summary);
    }
    assert_int_equal(status, CASK_EIO);
    check_names(&runs, "");
    assert_int_equal(run_build_begin(runs.place.dir, "/nonexistent/directory", &runs.config, 1,
                                     options, &runs.budget, &build),
                     CASK_EIO);
    check_names(&runs, "");
    scratch_remove(other);
    runs_stop(&runs);
}

static void test_a_million_entries_take_eleven_bytes_and_three_quarters_each(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(MILLION, 3);
    struct run_summary summary = run_build_all(&runs, 1, entries, MILLION, 10);
    struct stat info;

    (void)state;
    assert_int_equal(stat(path_in(runs.place.path, "1.mdb"), &info), 0);
    printf("1,000,000 entries: %.3f bytes each, %.3f allocated\n", (double)summary.bytes / MILLION,
           (double)info.st_blocks * 512 / MILLION);
    assert_true((double)summary.bytes <= 11.75 * MILLION);
    assert_true((double)info.st_blocks * 512 <= 11.75 * MILLION);
    free(entries);
    runs_stop(&runs);
}

/* What lies behind its last page does not trouble LMDB. */
static void test_the_tools_of_lmdb_read_it(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(100000, 3);
    char command[512];
    char line[256];
    unsigned records = 0;
    bool entries_seen = false;
    FILE *pipe;

    (void)state;
    if (system("command -v mdb_dump >/dev/null && command -v mdb_stat >/dev/null") != 0) {
        print_message("skipped: mdb_dump and mdb_stat are not installed\n");
        runs_stop(&runs);
        skip();
    }
    run_build_all(&runs, 1, entries, 100000, 10);
    (void)snprintf(command, sizeof command, "mdb_stat -n %s/1.mdb && mdb_dump -n -p %s/1.mdb",
                   runs.place.path, runs.place.path);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof line, pipe)) {
        records += line[0] == ' ' && strchr(line, '\n') && strlen(line) < 40;
        entries_seen = entries_seen || strstr(line, "Entries: 253");
        while (!strchr(line, '\n') && fgets(line, sizeof line, pipe))
            ;
    }
    assert_int_equal(pclose(pipe), 0);
    assert_true(entries_seen);
    assert_true(records >= 253);
    free(entries);
    runs_stop(&runs);
}

/* Disks of every size up to one that is large enough. */
static void test_a_full_disk_is_an_error_and_leaves_nothing(void **state)
{
    char *at = scratch_make(SCRATCH_DISK);
    struct run_place_dir runs = {.budget = {.limit_bytes = 64 << 20}};
    struct keydir_entry *entries = run_entries(20000, 3);
    bool done = false;
    unsigned refused = 0;

    (void)state;
    if (!private_mounts() || !mount_memory(at, "size=4k")) {
        free(entries);
        skip();
    }
    unmount(at);
    for (unsigned kib = 4; !done; kib += kib < 64 ? 4 : 20) {
        struct run_build_options options = {kib % 8 ? 20000 : 10,
                                            10}; /* had at once, or bit by bit */
        struct run_summary summary;
        struct run_build *build;
        char size[32];
        int status;

        (void)snprintf(size, sizeof size, "size=%uk", kib);
        assert_true(mount_memory(at, size));
        assert_ok(io_dir_open(at, &runs.place.dir));
        runs.place.path = at;
        status = run_build_begin(runs.place.dir, at, &runs.config, 1, options, &runs.budget,
                                 &build);
        if (status == CASK_OK) {
            for (size_t i = 0; status == CASK_OK && i < 20000; i++)
                status = run_build_add(build, entries[i].tag, entries[i].location);
            if (status == CASK_OK)
                status = run_build_finish(build, &summary);
            else
                run_build_abort(build);
        }
        done = status == CASK_OK;
        refused += !done;
        if (!done && status != CASK_ENOSPC)
            fail_msg("%u KiB: %s", kib, cask_strerror(status));
        check_names(&runs, done ? "1.mdb" : "");
        io_dir_close(runs.place.dir);
        unmount(at);
        assert_true(kib < 1000);
    }
    assert_true(refused > 10);
    assert_int_equal(budget_used(&runs.budget), 0);
    free(entries);
    scratch_remove(at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_of_every_size_are_whole),
        cmocka_unit_test(test_more_entries_than_expected_are_fine),
        cmocka_unit_test(test_far_fewer_entries_than_expected_leave_a_small_file),
        cmocka_unit_test(test_the_file_has_its_size_its_name_and_its_mode),
        cmocka_unit_test(test_no_descriptor_outlives_an_exec),
        cmocka_unit_test(test_giving_up_leaves_no_file),
        cmocka_unit_test(test_what_the_budget_refuses_is_not_had),
        cmocka_unit_test(test_a_budget_that_runs_out_ends_the_run),
        cmocka_unit_test(test_a_run_is_finished_with_no_more_than_what_its_builder_took),
        cmocka_unit_test(test_a_path_that_is_another_directory_is_found_out),
        cmocka_unit_test(test_a_million_entries_take_eleven_bytes_and_three_quarters_each),
        cmocka_unit_test(test_the_tools_of_lmdb_read_it),
        cmocka_unit_test(test_a_full_disk_is_an_error_and_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
