/* store/directory and the frame of opening: what is no store, who holds it, and that a refused open
 * creates and loses nothing. */
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit_store.h"

#include "base/bytes.h"
#include "base/checksum.h"

/* The open is refused, says why in one line that names the path, and leaves the tree alone. */
static void assert_refused(struct store *store, const char *path, int status)
{
    uint64_t before = tree_checksum(store->path);
    struct cask_db *db = NULL;
    int got;

    log_lines_clear(&store->lines);
    got = cask_open(path, &store->options, &db);
    if (got != status)
        fail_msg("%s: %s, not %s", path, cask_strerror(got), cask_strerror(status));
    assert_null(db);
    assert_int_equal(log_lines_count(&store->lines, CASK_LOG_ERROR), 1);
    assert_true(log_lines_mention(&store->lines, path));
    assert_true(tree_checksum(store->path) == before);
}

/* ---- what is there --------------------------------------------------------------------------- */

static void test_a_store_is_made_where_there_is_none(void **state)
{
    struct store *store = store_make(2);
    const char *path = path_in(store->path, "new");
    struct cask_db *db;
    struct stat info;

    (void)state;
    assert_ok(cask_open(path, &store->options, &db));
    assert_ok(cask_put(db, slice_of("key"), slice_of("value")));
    assert_ok(cask_close(db));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
    assert_int_equal(stat(path_in(path, "CASKADE"), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    store->options.create = CASK_CREATE_NEVER;
    assert_ok(cask_open(path, &store->options, &db));
    check_value(db, "key", "value");
    assert_ok(cask_close(db));
    store_end(store);
}

static void test_a_store_is_made_in_an_empty_directory(void **state)
{
    struct store *store = store_make(2);

    (void)state;
    assert_int_equal(mkdir(path_in(store->path, "lost+found"), 0700), 0);
    store->options.create = CASK_CREATE_NEW;
    store_up(store);
    put(store, "key", "value");
    store_end(store);
}

static void test_what_an_interrupted_creation_left_is_no_obstacle(void **state)
{
    struct store *store = store_make(2);

    (void)state;
    write_file(path_in(store->path, "LOCK"), "", 0);
    write_file(path_in(store->path, "CASKADE.tmp"), "half", 4);
    write_file(path_in(store->path, "probe.tmp"), "half", 4);
    store->options.write_mode = CASK_WRITE_MAPPED;
    store_up(store);
    put(store, "key", "value");
    store_again(store);
    check_value(store->db, "key", "value");
    assert_false(path_exists(path_in(store->path, "CASKADE.tmp")));
    assert_false(path_exists(path_in(store->path, "probe.tmp")));
    store_end(store);
}

static void test_a_store_that_must_exist_is_not_made(void **state)
{
    struct store *store = store_make(0);

    (void)state;
    store->options.create = CASK_CREATE_NEVER;
    assert_refused(store, store->path, CASK_ENOTSTORE);
    assert_refused(store, path_in(store->path, "nowhere"), CASK_ENOTSTORE);
    store->options.create = CASK_CREATE_DEFAULT;
    store->options.read_only = 1;
    assert_refused(store, store->path, CASK_ENOTSTORE);
    assert_refused(store, path_in(store->path, "nowhere"), CASK_ENOTSTORE);
    store_end(store);
}

static void test_a_store_that_must_not_exist_is_left_alone(void **state)
{
    struct store *store = store_begin(2);

    (void)state;
    put(store, "key", "value");
    store_down(store);
    store->options.create = CASK_CREATE_NEW;
    assert_refused(store, store->path, CASK_EEXIST);
    store->options.create = CASK_CREATE_DEFAULT;
    store_up(store);
    check_value(store->db, "key", "value");
    store_end(store);
}

static void test_other_directories_and_files_are_no_stores(void **state)
{
    struct store *store = store_make(0);

    (void)state;
    assert_int_equal(mkdir(path_in(store->path, "dir"), 0700), 0);
    write_file(path_in(store->path, "dir/precious"), "data", 4);
    write_file(path_in(store->path, "file"), "data", 4);
    assert_int_equal(mkfifo(path_in(store->path, "fifo"), 0600), 0);
    assert_refused(store, path_in(store->path, "dir"), CASK_ENOTSTORE);
    assert_refused(store, path_in(store->path, "file"), CASK_ENOTSTORE);
    assert_refused(store, path_in(store->path, "file/below"), CASK_ENOTSTORE);
    assert_refused(store, path_in(store->path, "fifo"), CASK_ENOTSTORE);
    assert_refused(store, path_in(store->path, "no/such/parent"), CASK_ENOTSTORE);
    store_end(store);
}

static void test_a_link_to_a_store_is_followed_and_links_inside_are_not(void **state)
{
    struct store *store = store_begin(2);
    struct store *beside = store_make(0);
    const char *link = path_in(beside->path, "link");

    (void)state;
    put(store, "key", "value");
    store_down(store);
    assert_int_equal(symlink(store->path, link), 0);
    assert_ok(cask_open(link, &store->options, &store->db));
    check_value(store->db, "key", "value");
    store_down(store);
    assert_int_equal(rename(path_in(store->path, "CASKADE"), path_in(store->path, "elsewhere")), 0);
    assert_int_equal(symlink("elsewhere", path_in(store->path, "CASKADE")), 0);
    assert_refused(store, store->path, CASK_ENOTSTORE);
    store_end(beside);
    store_end(store);
}

static void test_a_damaged_superblock_and_a_newer_one_are_refused(void **state)
{
    struct store *store = store_begin(2);
    const char *path = path_in(store->path, "CASKADE");
    size_t size;
    uint8_t *good;
    uint8_t bytes[64];

    (void)state;
    put(store, "key", "value");
    store_down(store);
    good = read_whole_file(path, &size);
    assert_int_equal(size, sizeof bytes);
    patch_file(path, 20, "?", 1);
    assert_refused(store, store->path, CASK_ECORRUPT);
    write_file(path, good, 10);
    assert_refused(store, store->path, CASK_ECORRUPT);
    memcpy(bytes, good, sizeof bytes);
    put_u32(bytes + 8, 2);
    put_u64(bytes + 56, checksum_bytes(bytes, 56));
    write_file(path, bytes, sizeof bytes);
    assert_refused(store, store->path, CASK_EVERSION);
    write_file(path, good, size);
    free(good);
    store_up(store);
    check_value(store->db, "key", "value");
    store_end(store);
}

static void test_a_damaged_manifest_is_refused(void **state)
{
    struct store *store = store_begin(1);

    (void)state;
    put(store, "key", "value");
    store_down(store);
    patch_file(shard_path(store->path, 0, "MANIFEST"), 50, "?", 1);
    assert_refused(store, store->path, CASK_ECORRUPT);
    assert_true(log_lines_mention(&store->lines, "shard-000/MANIFEST"));
    store_end(store);
}

/* ---- who holds it ---------------------------------------------------------------------------- */

/* What another process gets. */
static int status_elsewhere(struct store *store)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        struct cask_db *db;
        int outcome = cask_open(store->path, &store->options, &db);

        if (outcome == CASK_OK && cask_close(db) != CASK_OK)
            _exit(99);
        _exit(-outcome);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return -WEXITSTATUS(status);
}

static void test_a_store_is_held_by_one_handle(void **state)
{
    struct store *store = store_begin(2);
    struct cask_db *second = NULL;

    (void)state;
    assert_int_equal(cask_open(store->path, &store->options, &second), CASK_ELOCKED);
    assert_null(second);
    assert_true(log_lines_mention(&store->lines, "LOCK"));
    assert_int_equal(status_elsewhere(store), CASK_ELOCKED);
    put(store, "key", "value");
    store_down(store);
    assert_int_equal(status_elsewhere(store), CASK_OK);
    store_up(store);
    check_value(store->db, "key", "value");
    store_end(store);
}

static void test_readers_take_no_lock(void **state)
{
    struct store *store = store_begin(2);
    struct cask_options options = store->options;
    struct cask_db *reader;

    (void)state;
    put(store, "key", "value");
    options.read_only = 1;
    options.shard_count = 0;
    assert_ok(cask_open(store->path, &options, &reader));
    check_value(reader, "key", "value");
    store_down(store);
    store_up(store); /* beside the reader */
    put(store, "key", "other");
    check_value(reader, "key", "value");
    assert_ok(cask_close(reader));
    store_end(store);
}

/* T32: closing any other descriptor of the file would drop a lock by fcntl(). */
static void test_an_unrelated_close_does_not_lose_the_lock(void **state)
{
    struct store *store = store_begin(2);
    size_t size;

    (void)state;
    close(open(path_in(store->path, "LOCK"), O_RDWR));
    free(read_whole_file(path_in(store->path, "LOCK"), &size));
    assert_int_equal(status_elsewhere(store), CASK_ELOCKED);
    store_end(store);
}

/* T11: the holder dies without a word. */
static void test_a_killed_holder_leaves_no_lock(void **state)
{
    struct store *store = store_make(2);
    pid_t child = fork();

    (void)state;
    if (child == 0) {
        store_up(store);
        put(store, "key", "value");
        kill(getpid(), SIGKILL);
    }
    wait_for_kill(child);
    store_up(store);
    check_value(store->db, "key", "value");
    store_end(store);
}

/* A child keeps the descriptor, and with it the lock, unless the close gives that up itself. */
static void test_a_forked_child_does_not_keep_the_lock(void **state)
{
    struct store *store = store_begin(2);
    int pipes[2];
    char byte;
    pid_t child;

    (void)state;
    put(store, "key", "value");
    assert_int_equal(pipe(pipes), 0);
    child = fork();
    if (child == 0) {
        close(pipes[1]);
        _exit(read(pipes[0], &byte, 1) == 0 ? 0 : 1); /* until the parent ends or closes */
    }
    close(pipes[0]);
    store_down(store);
    store_up(store);
    check_value(store->db, "key", "value");
    close(pipes[1]);
    wait_for_success(child);
    store_end(store);
}

/* T10: an open that fails half-way lets go of everything. */
static void test_a_failed_open_keeps_no_lock_and_no_descriptor(void **state)
{
    struct store *store = store_begin(4);
    unsigned descriptors;
    struct cask_db *db;

    (void)state;
    put_numbers(store, 0, 50);
    store_down(store);
    descriptors = count_descriptors();
    patch_file(shard_path(store->path, 3, "MANIFEST"), 50, "?", 1);
    for (int i = 0; i < 20; i++)
        assert_int_equal(cask_open(store->path, &store->options, &db), CASK_ECORRUPT);
    assert_int_equal(count_descriptors(), descriptors);
    assert_int_equal(status_elsewhere(store), CASK_ECORRUPT);
    store_end(store);
}

/* ---- what the system refuses ----------------------------------------------------------------- */

static void become_nobody(void)
{
    if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
        _exit(0);
}

static void test_a_directory_without_permission_is_told_apart(void **state)
{
    struct store *store;
    const char *below;
    pid_t child;

    (void)state;
    if (geteuid() != 0)
        skip(); /* only then somebody else can be played */
    store = store_begin(2);
    below = path_in(store->path, "below");
    put(store, "key", "value");
    store_down(store);
    child = fork();
    if (child == 0) {
        struct cask_db *db;

        become_nobody();
        CHECK_STATUS(cask_open(store->path, &store->options, &db), CASK_EACCES);
        CHECK(log_lines_mention(&store->lines, store->path), "%s", "the path is not named");
        CHECK_STATUS(cask_open(below, &store->options, &db), CASK_EACCES);
        _exit(0);
    }
    wait_for_success(child);
    store_end(store);
}

static int let_all_read(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)walk;
    return chmod(path, type == FTW_D ? 0755 : 0644);
}

static void test_a_directory_that_may_not_be_written_can_be_read(void **state)
{
    struct store *store;
    pid_t child;

    (void)state;
    if (geteuid() != 0)
        skip();
    store = store_begin(2);
    put(store, "key", "value");
    store_down(store);
    assert_int_equal(nftw(store->path, let_all_read, 8, FTW_PHYS), 0);
    child = fork();
    if (child == 0) {
        struct cask_db *db;

        become_nobody();
        CHECK_STATUS(cask_open(store->path, &store->options, &db), CASK_EACCES);
        store->options.read_only = 1;
        CHECK_OK(cask_open(store->path, &store->options, &db));
        check_value(db, "key", "value");
        CHECK_OK(cask_close(db));
        _exit(0);
    }
    wait_for_success(child);
    store_end(store);
}

static void test_a_read_only_file_system_is_told_apart(void **state)
{
    char *path;
    struct store *store;

    (void)state;
    if (!private_mounts())
        skip();
    path = scratch_make(SCRATCH_DISK);
    if (!mount_memory(path, "size=8m"))
        skip();
    store = store_make(2);
    assert_ok(cask_open(path, &store->options, &store->db));
    put(store, "key", "value");
    store_down(store);
    remount_memory(path, "size=8m", true);
    assert_int_equal(cask_open(path, &store->options, &store->db), CASK_EROFS);
    assert_true(log_lines_mention(&store->lines, path));
    assert_int_equal(cask_open(path_in(path, "new"), &store->options, &store->db), CASK_EROFS);
    store->options.read_only = 1;
    assert_ok(cask_open(path, &store->options, &store->db));
    check_value(store->db, "key", "value");
    store_down(store);
    unmount(path);
    scratch_remove(path);
    store_end(store);
}

/* Every number of descriptors from none on: refused with one status, nothing created, until it is
 * enough. */
static void test_running_out_of_descriptors_creates_nothing(void **state)
{
    struct store *store = store_make(2);
    pid_t child = fork();

    (void)state;
    if (child == 0) {
        unsigned used = count_descriptors() - 3; /* ".", ".." and the directory itself */
        unsigned refused = 0;
        struct rlimit limit;

        getrlimit(RLIMIT_NOFILE, &limit);
        for (rlim_t more = 0;; more++) {
            struct cask_db *db;
            uint64_t before = tree_checksum(store->path);
            rlim_t all = limit.rlim_cur;
            int status;

            limit.rlim_cur = used + more;
            CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", "setrlimit");
            status = cask_open(store->path, &store->options, &db);
            limit.rlim_cur = all;
            CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", "setrlimit");
            if (status == CASK_OK) {
                CHECK_OK(cask_close(db));
                break;
            }
            CHECK(status == CASK_EMFILE, "with %u more: %s", (unsigned)more, cask_strerror(status));
            CHECK(tree_checksum(store->path) == before, "with %u more something was left",
                  (unsigned)more);
            refused++;
        }
        CHECK(refused > 0, "%s", "it was never refused");
        _exit(0);
    }
    wait_for_success(child);
    store_end(store);
}

/* More address space than there may be: what the open had made by then is undone. */
static void test_an_open_that_runs_out_of_memory_leaves_nothing(void **state)
{
    struct store *store;
    const char *path;
    pid_t child;

    (void)state;
    if (BUILT_WITH_ASAN || BUILT_WITH_TSAN)
        skip(); /* the sanitizer needs more addresses than the limit leaves */
    store = store_make(2);
    path = path_in(store->path, "new");
    child = fork();
    if (child == 0) {
        struct rlimit limit = {(rlim_t)4 << 30, (rlim_t)4 << 30};
        struct cask_db *db;

        store->options.index_memory = (uint64_t)64 << 30;
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0, "%s", "setrlimit");
        CHECK_STATUS(cask_open(path, &store->options, &db), CASK_ENOMEM);
        CHECK(!path_exists(path), "%s", "the directory was left behind");
        _exit(0);
    }
    wait_for_success(child);
    store_end(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_store_is_made_where_there_is_none),
        cmocka_unit_test(test_a_store_is_made_in_an_empty_directory),
        cmocka_unit_test(test_what_an_interrupted_creation_left_is_no_obstacle),
        cmocka_unit_test(test_a_store_that_must_exist_is_not_made),
        cmocka_unit_test(test_a_store_that_must_not_exist_is_left_alone),
        cmocka_unit_test(test_other_directories_and_files_are_no_stores),
        cmocka_unit_test(test_a_link_to_a_store_is_followed_and_links_inside_are_not),
        cmocka_unit_test(test_a_damaged_superblock_and_a_newer_one_are_refused),
        cmocka_unit_test(test_a_damaged_manifest_is_refused),
        cmocka_unit_test(test_a_store_is_held_by_one_handle),
        cmocka_unit_test(test_readers_take_no_lock),
        cmocka_unit_test(test_an_unrelated_close_does_not_lose_the_lock),
        cmocka_unit_test(test_a_killed_holder_leaves_no_lock),
        cmocka_unit_test(test_a_forked_child_does_not_keep_the_lock),
        cmocka_unit_test(test_a_failed_open_keeps_no_lock_and_no_descriptor),
        cmocka_unit_test(test_a_directory_without_permission_is_told_apart),
        cmocka_unit_test(test_a_directory_that_may_not_be_written_can_be_read),
        cmocka_unit_test(test_a_read_only_file_system_is_told_apart),
        cmocka_unit_test(test_running_out_of_descriptors_creates_nothing),
        cmocka_unit_test(test_an_open_that_runs_out_of_memory_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
