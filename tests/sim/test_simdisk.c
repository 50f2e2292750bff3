/* The simulated machine: its misuse checks, faults and limits, its one order of what happens. What
 * io.h itself promises is in test_io.c, what a crash may leave in test_crashstate.c. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "caskade.h"
#include "crashstate.h"
#include "io/io.h"
#include "simdisk.h"

static struct io_dir *root;

static int start(void **state)
{
    (void)state;
    simdisk_reset(1);
    return io_dir_make("/t") == CASK_OK && io_dir_open("/t", &root) == CASK_OK ? 0 : 1;
}

static int stop(void **state)
{
    (void)state;
    simdisk_set_fault(NULL);
    simdisk_ignore_file_sync(NULL);
    simdisk_ignore_dir_sync(NULL);
    if (root)
        io_dir_close(root);
    root = NULL;
    simdisk_check();
    return simdisk_open_handles() == 0 && simdisk_open_maps() == 0 ? 0 : 1;
}

static struct io_file *create(const char *name)
{
    struct io_file *file;

    assert_int_equal(io_open(root, name, IO_CREATE_NEW, &file), CASK_OK);
    return file;
}

/* Everything so far is durable; the log starts here. */
static void settle(void)
{
    simdisk_record_begin();
}

static void write_at(struct io_file *file, size_t offset, const char *text)
{
    assert_int_equal(io_write(file, offset, text, strlen(text)), CASK_OK);
}

/* ---- misuse ---- */

static struct io_file *victim;
static uint8_t *victim_map;

static void expect_death(void (*act)(void))
{
    pid_t child = fork();
    int status = 0;

    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(0);
        act();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void store_silently(void)
{
    victim_map[5] = 'x';
    simdisk_check();
}

static void store_and_tell(void)
{
    victim_map[5] = 'x';
    io_map_written(victim, 5, 1);
    simdisk_check();
    _exit(1);
}

static void store_silently_and_unmap(void)
{
    victim_map[5] = 'x';
    io_unmap(victim_map, 8192);
}

static void store_behind_the_end(void)
{
    victim_map[4096 + 905] = 'x'; /* in the last page: only the check or ASan can see it */
    simdisk_check();
}

static void store_behind_the_last_page(void)
{
    victim_map[8192] = 'x';
}

static void tell_behind_the_end(void)
{
    io_map_written(victim, 4096 + 900, 1);
}

static void store_into_a_hole(void)
{
    if (io_truncate(victim, 100) == CASK_OK && io_truncate(victim, 8192) == CASK_OK) {
        victim_map[8000] = 'x';
        io_map_written(victim, 8000, 1);
    }
}

static void store_after_unmap(void)
{
    io_unmap(victim_map, 8192);
    victim_map[5] = 'x';
}

static void store_after_protect(void)
{
    io_map_settle(victim, victim_map, 0, 8192);
    victim_map[5] = 'x';
}

static void unmap_with_another_size(void)
{
    io_unmap(victim_map, 4096);
}

static void write_to_a_file_opened_for_reading(void)
{
    struct io_file *file;

    if (io_open(root, "f", IO_READ, &file) == CASK_OK && io_write(file, 0, "x", 1) == CASK_OK)
        _exit(0);
}

static void turn_off_with_open_handles(void)
{
    simdisk_reset(1);
}

static void test_misuse_aborts(void **state)
{
    static void (*const acts[])(void) = {
        store_and_tell, /* the control: leaves by _exit(1), not by a signal */
        store_silently,
        store_silently_and_unmap,
        store_behind_the_end,
        store_behind_the_last_page,
        tell_behind_the_end,
        store_into_a_hole,
        store_after_unmap,
        store_after_protect,
        unmap_with_another_size,
        write_to_a_file_opened_for_reading,
        turn_off_with_open_handles,
    };
    void *map;

    (void)state;
    /* A file's memory is shared with a child, so each has one of its own. */
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        victim = create("f");
        assert_int_equal(io_allocate(victim, 4096 + 900), CASK_OK);
        assert_int_equal(io_map(victim, 8192, true, &map), CASK_OK);
        victim_map = map;
        expect_death(acts[i]);
        assert_int_equal(io_truncate(victim, 8192), CASK_OK);
        assert_int_equal(io_truncate(victim, 0), CASK_OK); /* wipes what the child stored */
        io_unmap(map, 8192);
        io_close(victim);
        assert_int_equal(io_unlink(root, "f"), CASK_OK);
    }
}

/* ---- faults and limits ---- */

static void test_a_fault_strikes_the_nth_call_once(void **state)
{
    struct simdisk_fault fault = {
        .nth = 2, .calls = SIMDISK_BIT(SIMDISK_WRITE), .status = CASK_EIO};
    struct io_file *file = create("f");
    uint64_t size;

    (void)state;
    simdisk_set_fault(&fault);
    assert_int_equal(io_size(file, &size), CASK_OK);
    assert_int_equal(io_write(file, 0, "a", 1), CASK_OK);
    assert_int_equal(io_write(file, 1, "b", 1), CASK_EIO);
    assert_int_equal(io_write(file, 1, "b", 1), CASK_OK);
    assert_int_equal(simdisk_fault_hits(), 1);
    assert_int_equal(simdisk_fault_seen(), 3);
    assert_string_equal(simdisk_fault_place(), "write /t/f");
    assert_int_equal(simdisk_calls(SIMDISK_WRITE), 3);
    fault.persistent = true;
    simdisk_set_fault(&fault);
    assert_int_equal(io_write(file, 0, "a", 1), CASK_OK);
    assert_int_equal(io_write(file, 0, "a", 1), CASK_EIO);
    assert_int_equal(io_write(file, 0, "a", 1), CASK_EIO);
    simdisk_set_fault(NULL);
    assert_int_equal(io_write(file, 0, "a", 1), CASK_OK);
    io_close(file);
}

static void test_a_fault_can_be_short_and_bound_to_a_path(void **state)
{
    struct simdisk_fault fault = {.nth = 1,
                                  .calls = SIMDISK_ALL_CALLS,
                                  .status = CASK_ENOSPC,
                                  .short_permille = 500,
                                  .pattern = "*/b"};
    struct io_file *a = create("a");
    struct io_file *b = create("b");
    uint64_t size;

    (void)state;
    simdisk_set_fault(&fault);
    write_at(a, 0, "12345678");
    assert_int_equal(io_write(b, 0, "12345678", 8), CASK_ENOSPC);
    assert_int_equal(io_size(b, &size), CASK_OK);
    assert_int_equal(size, 4);
    io_close(a);
    io_close(b);
}

static void test_every_call_can_fail(void **state)
{
    struct simdisk_fault fault = {
        .nth = 1, .calls = SIMDISK_ALL_CALLS, .status = CASK_EIO, .persistent = true};
    struct io_file *file = create("f");
    struct io_file *other;
    struct io_dir *dir;
    uint64_t number;
    char *names;
    void *map;

    (void)state;
    simdisk_set_fault(&fault);
    assert_int_equal(io_dir_make("/u"), CASK_EIO);
    assert_int_equal(io_dir_make_at(root, "u"), CASK_EIO);
    assert_int_equal(io_dir_open("/t", &dir), CASK_EIO);
    assert_int_equal(io_dir_open_at(root, "u", &dir), CASK_EIO);
    assert_int_equal(io_dir_sync(root), CASK_EIO);
    assert_int_equal(io_dir_sync_parent(root), CASK_EIO);
    assert_int_equal(io_dir_list(root, &names), CASK_EIO);
    assert_int_equal(io_dir_writable(root), CASK_EIO);
    assert_int_equal(io_rename(root, "f", "g"), CASK_EIO);
    assert_int_equal(io_unlink(root, "f"), CASK_EIO);
    assert_int_equal(io_dir_remove_at(root, "f"), CASK_EIO);
    assert_int_equal(io_dir_remove("/t/f"), CASK_EIO);
    assert_int_equal(io_lock(root, "LOCK", &other), CASK_EIO);
    assert_int_equal(io_open(root, "f", IO_READ, &other), CASK_EIO);
    assert_int_equal(io_open(root, "g", IO_CREATE_NEW, &other), CASK_EIO);
    assert_int_equal(io_size(file, &number), CASK_EIO);
    assert_int_equal(io_disk_bytes(file, &number), CASK_EIO);
    assert_int_equal(io_read(file, 0, &number, 1, NULL), CASK_EIO);
    assert_int_equal(io_write(file, 0, "x", 1), CASK_EIO);
    assert_int_equal(io_allocate(file, 100), CASK_EIO);
    assert_int_equal(io_truncate(file, 100), CASK_EIO);
    assert_int_equal(io_sync(file), CASK_EIO);
    assert_int_equal(io_map(file, 100, true, &map), CASK_EIO);
    assert_int_equal(io_random(&number, sizeof number), CASK_EIO);
    assert_int_equal(simdisk_fault_hits(), 24);
    simdisk_set_fault(NULL);
    assert_int_equal(io_size(file, &number), CASK_OK);
    assert_int_equal(number, 0);
    io_close(file);
}

static void test_a_full_disk_writes_what_fits(void **state)
{
    struct io_file *file = create("f");
    static const char bytes[3 * 4096];
    uint64_t size;

    (void)state;
    simdisk_set_capacity(2 * 4096);
    assert_int_equal(io_write(file, 100, bytes, sizeof bytes), CASK_ENOSPC);
    assert_int_equal(io_size(file, &size), CASK_OK);
    assert_int_equal(size, 8192);
    assert_int_equal(io_write(file, 0, bytes, 8192), CASK_OK);
    assert_int_equal(io_allocate(file, 8193), CASK_ENOSPC);
    assert_int_equal(simdisk_used_bytes(), 8192);
    assert_int_equal(io_truncate(file, 4096), CASK_OK);
    assert_int_equal(simdisk_used_bytes(), 4096);
    assert_int_equal(io_unlink(root, "f"), CASK_OK);
    assert_int_equal(simdisk_used_bytes(), 4096); /* as long as it is open */
    io_close(file);
    assert_int_equal(simdisk_used_bytes(), 0);
}

static void test_a_full_disk_may_refuse_names(void **state)
{
    struct io_file *file = create("f");
    struct io_file *other;

    (void)state;
    simdisk_set_capacity(4096);
    write_at(file, 0, "x");
    io_close(create("still")); /* as ext4 does */
    simdisk_set_full_refuses_files(true);
    assert_int_equal(io_open(root, "g", IO_CREATE_NEW, &other), CASK_ENOSPC);
    assert_int_equal(io_dir_make_at(root, "g"), CASK_ENOSPC);
    simdisk_set_capacity(0);
    simdisk_set_inode_limit(4); /* the root, t, f, still */
    assert_int_equal(io_open(root, "g", IO_CREATE_NEW, &other), CASK_ENOSPC);
    assert_int_equal(io_lock(root, "g", &other), CASK_ENOSPC);
    io_close(file);
    assert_int_equal(io_unlink(root, "f"), CASK_OK);
    io_close(create("g"));
}

static void test_a_read_only_disk_refuses_changes(void **state)
{
    struct io_file *file = create("f");

    (void)state;
    io_close(file);
    simdisk_set_read_only(true);
    assert_int_equal(io_dir_writable(root), CASK_EROFS);
    assert_int_equal(io_open(root, "g", IO_CREATE_NEW, &file), CASK_EROFS);
    assert_int_equal(io_open(root, "f", IO_WRITE, &file), CASK_EROFS);
    assert_int_equal(io_lock(root, "LOCK", &file), CASK_EROFS);
    assert_int_equal(io_unlink(root, "f"), CASK_EROFS);
    assert_int_equal(io_rename(root, "f", "g"), CASK_EROFS);
    assert_int_equal(io_dir_make_at(root, "g"), CASK_EROFS);
    assert_int_equal(io_open(root, "f", IO_READ, &file), CASK_OK);
    io_close(file);
}

static void test_preallocation_may_be_missing(void **state)
{
    struct io_file *file = create("f");
    uint64_t size;

    (void)state;
    simdisk_set_allocate_supported(false);
    assert_int_equal(io_allocate(file, 100), CASK_ENOTSUP);
    assert_int_equal(io_size(file, &size), CASK_OK);
    assert_int_equal(size, 0);
    io_close(file);
}

static void test_chance_repeats_with_its_seed(void **state)
{
    uint64_t first;
    uint64_t again;
    uint8_t boot[3][16];
    struct simimage *image;

    (void)state;
    assert_int_equal(io_random(&first, sizeof first), CASK_OK);
    io_boot_id(boot[0]);
    io_dir_close(root);
    root = NULL;
    image = simdisk_snapshot();
    simdisk_load(image, SIMDISK_SAME_BOOT);
    io_boot_id(boot[1]);
    simdisk_load(image, SIMDISK_NEW_BOOT);
    io_boot_id(boot[2]);
    assert_memory_equal(boot[0], boot[1], 16);
    assert_memory_not_equal(boot[0], boot[2], 16);
    simimage_release(image);
    simdisk_reset(1);
    assert_int_equal(io_random(&again, sizeof again), CASK_OK);
    assert_int_equal(first, again);
}

/* ---- threads ---- */

struct writer {
    pthread_t thread;
    struct io_file *file;
    uint8_t *map;
    uint8_t mark;
};

static void *store_often(void *argument)
{
    struct writer *writer = argument;

    for (size_t i = 0; i < 500; i++) {
        writer->map[i * 8] = writer->mark;
        io_map_written(writer->file, i * 8, 1);
        if (i % 50 == 0)
            (void)!io_sync(writer->file);
    }
    return NULL;
}

static void test_threads_share_one_order(void **state)
{
    struct writer writers[4];
    struct simimage *live;
    struct simimage *all;
    struct simlog *log;
    char path[256];

    (void)state;
    settle();
    for (unsigned i = 0; i < 4; i++) {
        char name[2] = {(char)('a' + i), 0};
        void *map;

        writers[i].mark = (uint8_t)(i + 1);
        writers[i].file = create(name);
        assert_int_equal(io_allocate(writers[i].file, 4096), CASK_OK);
        assert_int_equal(io_map(writers[i].file, 4096, true, &map), CASK_OK);
        writers[i].map = map;
    }
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&writers[i].thread, NULL, store_often, &writers[i]), 0);
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(writers[i].thread, NULL);
        io_unmap(writers[i].map, 4096);
        io_close(writers[i].file);
    }
    assert_int_equal(simdisk_log_position(), 4 * (2 + 500 + 10));
    live = simdisk_snapshot();
    log = simdisk_record_end();
    all = crash_image_all(log, log->count);
    assert_false(simimage_differs(live, all, path, sizeof path));
    simimage_release(all);
    simimage_release(live);
    simlog_release(log);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_misuse_aborts),
        TEST(test_a_fault_strikes_the_nth_call_once),
        TEST(test_a_fault_can_be_short_and_bound_to_a_path),
        TEST(test_every_call_can_fail),
        TEST(test_a_full_disk_writes_what_fits),
        TEST(test_a_full_disk_may_refuse_names),
        TEST(test_a_read_only_disk_refuses_changes),
        TEST(test_preallocation_may_be_missing),
        TEST(test_chance_repeats_with_its_seed),
        TEST(test_threads_share_one_order),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    simdisk_finish();
    return failed;
}
