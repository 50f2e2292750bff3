/* What io.h promises, checked over both of its implementations: posix.c in a temporary directory,
 * and, with TEST_IO_SIM, the simulated machine. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "caskade.h"
#include "io/io.h"
#ifdef TEST_IO_SIM
#include "simdisk.h"
#endif

static char root_path[256];
static struct io_dir *root;

#ifdef TEST_IO_SIM
static int start(void **state)
{
    (void)state;
    simdisk_reset(1);
    snprintf(root_path, sizeof root_path, "/t");
    return io_dir_make(root_path) == CASK_OK && io_dir_open(root_path, &root) == CASK_OK ? 0 : 1;
}

static int stop(void **state)
{
    (void)state;
    io_dir_close(root);
    simdisk_check();
    return simdisk_open_handles() == 0 && simdisk_open_maps() == 0 ? 0 : 1;
}
#else
static int start(void **state)
{
    const char *folder = getenv("TMPDIR");

    (void)state;
    snprintf(root_path, sizeof root_path, "%s/test_io.XXXXXX", folder ? folder : "/tmp");
    if (!mkdtemp(root_path))
        return 1;
    return io_dir_open(root_path, &root) == CASK_OK ? 0 : 1;
}

static void remove_tree(struct io_dir *dir)
{
    char *names;

    assert_int_equal(io_dir_list(dir, &names), CASK_OK);
    for (const char *name = names; *name; name += strlen(name) + 1) {
        struct io_dir *inner;

        if (io_unlink(dir, name) == CASK_OK)
            continue;
        assert_int_equal(io_dir_open_at(dir, name, &inner), CASK_OK);
        remove_tree(inner);
        io_dir_close(inner);
        assert_int_equal(io_dir_remove_at(dir, name), CASK_OK);
    }
    free(names);
}

static int stop(void **state)
{
    (void)state;
    remove_tree(root);
    io_dir_close(root);
    return rmdir(root_path);
}
#endif

static struct io_file *create(const char *name)
{
    struct io_file *file;

    assert_int_equal(io_open(root, name, IO_CREATE_NEW, &file), CASK_OK);
    return file;
}

static uint64_t size_of(struct io_file *file)
{
    uint64_t size;

    assert_int_equal(io_size(file, &size), CASK_OK);
    return size;
}

static void expect_bytes(struct io_file *file, uint64_t offset, const char *bytes, size_t size)
{
    char *buffer = malloc(size + 1);
    size_t got = 0;

    assert_non_null(buffer);
    assert_int_equal(io_read(file, offset, buffer, size, &got), CASK_OK);
    assert_int_equal(got, size);
    assert_memory_equal(buffer, bytes, size);
    free(buffer);
}

static void test_directories_are_made_once_and_opened(void **state)
{
    char path[300];
    struct io_dir *dir;
    struct io_dir *inner;

    (void)state;
    snprintf(path, sizeof path, "%s/a", root_path);
    assert_int_equal(io_dir_open(path, &dir), CASK_NOTFOUND);
    assert_int_equal(io_dir_make(path), CASK_OK);
    assert_int_equal(io_dir_make(path), CASK_EEXIST);
    assert_int_equal(io_dir_open(path, &dir), CASK_OK);
    assert_int_equal(io_dir_open_at(dir, "b", &inner), CASK_NOTFOUND);
    assert_int_equal(io_dir_make_at(dir, "b"), CASK_OK);
    assert_int_equal(io_dir_make_at(dir, "b"), CASK_EEXIST);
    assert_int_equal(io_dir_open_at(dir, "b", &inner), CASK_OK);
    assert_int_equal(io_dir_sync(inner), CASK_OK);
    assert_int_equal(io_dir_sync_parent(inner), CASK_OK);
    assert_int_equal(io_dir_writable(inner), CASK_OK);
    io_dir_close(inner);
    io_dir_close(dir);
    snprintf(path, sizeof path, "%s/nowhere/a", root_path);
    assert_int_equal(io_dir_make(path), CASK_NOTFOUND);
    assert_int_equal(io_dir_open(path, &dir), CASK_NOTFOUND);
}

static void test_a_file_is_not_a_directory(void **state)
{
    char path[300];
    struct io_dir *dir;
    struct io_file *file;

    (void)state;
    io_close(create("f"));
    snprintf(path, sizeof path, "%s/f", root_path);
    assert_int_equal(io_dir_open(path, &dir), CASK_ENOTSTORE);
    assert_int_equal(io_dir_make(path), CASK_EEXIST);
    assert_int_equal(io_dir_open_at(root, "f", &dir), CASK_ENOTSTORE);
    snprintf(path, sizeof path, "%s/f/g", root_path);
    assert_int_equal(io_dir_open(path, &dir), CASK_ENOTSTORE);
    assert_int_equal(io_dir_make_at(root, "d"), CASK_OK);
    assert_true(io_open(root, "d", IO_READ, &file) < 0);
    assert_true(io_open(root, "d", IO_WRITE, &file) < 0);
    assert_int_equal(io_open(root, "d", IO_CREATE_NEW, &file), CASK_EEXIST);
    assert_true(io_unlink(root, "d") < 0);
    assert_true(io_dir_remove_at(root, "f") < 0);
}

static void test_a_directory_is_removed_when_empty(void **state)
{
    struct io_dir *dir;
    char path[300];

    (void)state;
    snprintf(path, sizeof path, "%s/d", root_path);
    assert_int_equal(io_dir_remove(path), CASK_NOTFOUND);
    assert_int_equal(io_dir_make(path), CASK_OK);
    assert_int_equal(io_dir_remove(path), CASK_OK);
    assert_int_equal(io_dir_make_at(root, "d"), CASK_OK);
    assert_int_equal(io_dir_open_at(root, "d", &dir), CASK_OK);
    assert_int_equal(io_dir_make_at(dir, "e"), CASK_OK);
    assert_true(io_dir_remove(path) < 0);
    assert_true(io_dir_remove_at(root, "d") < 0);
    assert_int_equal(io_dir_remove_at(dir, "e"), CASK_OK);
    assert_int_equal(io_dir_remove_at(dir, "e"), CASK_NOTFOUND);
    io_dir_close(dir);
    assert_int_equal(io_dir_remove_at(root, "d"), CASK_OK);
}

static void test_a_list_names_everything_once(void **state)
{
    bool seen[60] = {false};
    size_t count = 0;
    char name[32];
    char *names;

    (void)state;
    assert_int_equal(io_dir_list(root, &names), CASK_OK);
    assert_int_equal(names[0], 0);
    free(names);
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "some-longer-name-%03d", i);
        io_close(create(name));
    }
    assert_int_equal(io_dir_list(root, &names), CASK_OK);
    for (const char *n = names; *n; n += strlen(n) + 1, count++) {
        int number = atoi(n + 17);

        assert_true(number >= 0 && number < 60 && !seen[number]);
        seen[number] = true;
    }
    assert_int_equal(count, 60);
    free(names);
}

static void test_files_are_created_once_and_opened(void **state)
{
    struct io_file *file;

    (void)state;
    assert_int_equal(io_open(root, "f", IO_READ, &file), CASK_NOTFOUND);
    assert_int_equal(io_open(root, "f", IO_WRITE, &file), CASK_NOTFOUND);
    io_close(create("f"));
    assert_int_equal(io_open(root, "f", IO_CREATE_NEW, &file), CASK_EEXIST);
    assert_int_equal(io_open(root, "f", IO_READ, &file), CASK_OK);
    assert_int_equal(size_of(file), 0);
    io_close(file);
    io_close(NULL);
    io_dir_close(NULL);
}

static void test_writes_extend_and_reads_end_with_the_file(void **state)
{
    static const char gap[100];
    struct io_file *file = create("f");
    char buffer[16];
    size_t got = 99;

    (void)state;
    assert_int_equal(io_write(file, 0, "hello", 5), CASK_OK);
    assert_int_equal(io_write(file, 105, "world", 5), CASK_OK);
    assert_int_equal(io_write(file, 0, "", 0), CASK_OK);
    assert_int_equal(size_of(file), 110);
    expect_bytes(file, 0, "hello", 5);
    expect_bytes(file, 5, gap, 100);
    expect_bytes(file, 105, "world", 5);
    assert_int_equal(io_read(file, 108, buffer, 16, &got), CASK_OK);
    assert_int_equal(got, 2);
    assert_int_equal(io_read(file, 110, buffer, 16, &got), CASK_OK);
    assert_int_equal(got, 0);
    assert_int_equal(io_read(file, 5000, buffer, 16, &got), CASK_OK);
    assert_int_equal(got, 0);
    assert_int_equal(io_read(file, 108, buffer, 2, NULL), CASK_OK);
    assert_int_equal(io_read(file, 108, buffer, 3, NULL), CASK_ECORRUPT);
    assert_int_equal(io_sync(file), CASK_OK);
    io_close(file);
}

static void test_large_writes_come_back(void **state)
{
    size_t size = (3u << 20) + 17;
    char *bytes = malloc(size);
    struct io_file *file = create("f");

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)(i * 2654435761u >> 24);
    assert_int_equal(io_write(file, 1, bytes, size), CASK_OK);
    expect_bytes(file, 1, bytes, size);
    assert_int_equal(io_truncate(file, 10), CASK_OK);
    assert_int_equal(io_write(file, 1, bytes, size), CASK_OK);
    expect_bytes(file, 1, bytes, size);
    io_close(file);
    free(bytes);
}

static void test_truncation_cuts_and_extends_with_zeros(void **state)
{
    static const char zeros[100];
    struct io_file *file = create("f");

    (void)state;
    assert_int_equal(io_write(file, 0, "0123456789", 10), CASK_OK);
    assert_int_equal(io_truncate(file, 4), CASK_OK);
    assert_int_equal(size_of(file), 4);
    assert_int_equal(io_truncate(file, 104), CASK_OK);
    assert_int_equal(size_of(file), 104);
    expect_bytes(file, 0, "0123", 4);
    expect_bytes(file, 4, zeros, 100);
    assert_int_equal(io_truncate(file, 0), CASK_OK);
    assert_int_equal(size_of(file), 0);
    io_close(file);
}

static void test_allocation_extends_and_keeps_what_is_there(void **state)
{
    static const char zeros[100];
    struct io_file *file = create("f");
    uint64_t bytes;
    int status;

    (void)state;
    assert_int_equal(io_write(file, 0, "0123", 4), CASK_OK);
    status = io_allocate(file, 10000);
    if (status == CASK_ENOTSUP) { /* the tests' directory may be anywhere */
        io_close(file);
        return;
    }
    assert_int_equal(status, CASK_OK);
    assert_int_equal(size_of(file), 10000);
    expect_bytes(file, 0, "0123", 4);
    expect_bytes(file, 9900, zeros, 100);
    assert_int_equal(io_disk_bytes(file, &bytes), CASK_OK);
    assert_true(bytes >= 10000);
    assert_int_equal(io_allocate(file, 10), CASK_OK);
    assert_int_equal(size_of(file), 10000);
    assert_int_equal(io_truncate(file, 4), CASK_OK);
    assert_int_equal(io_disk_bytes(file, &bytes), CASK_OK);
    assert_true(bytes < 10000);
    io_close(file);
}

static void test_rename_replaces(void **state)
{
    struct io_file *file = create("a");
    struct io_file *other;

    (void)state;
    assert_int_equal(io_write(file, 0, "new", 3), CASK_OK);
    other = create("b");
    assert_int_equal(io_write(other, 0, "old!", 4), CASK_OK);
    assert_int_equal(io_rename(root, "a", "b"), CASK_OK);
    assert_int_equal(io_rename(root, "a", "b"), CASK_NOTFOUND);
    expect_bytes(other, 0, "old!", 4); /* as long as it is open */
    io_close(other);
    assert_int_equal(io_open(root, "b", IO_READ, &other), CASK_OK);
    expect_bytes(other, 0, "new", 3);
    io_close(other);
    io_close(file);
}

static void test_an_unlinked_file_lives_while_open_or_mapped(void **state)
{
    struct io_file *file = create("a");
    struct io_file *other;
    void *map;

    (void)state;
    assert_int_equal(io_write(file, 0, "bytes", 5), CASK_OK);
    assert_int_equal(io_map(file, 5, false, &map), CASK_OK);
    assert_int_equal(io_unlink(root, "a"), CASK_OK);
    assert_int_equal(io_unlink(root, "a"), CASK_NOTFOUND);
    assert_int_equal(io_open(root, "a", IO_READ, &other), CASK_NOTFOUND);
    expect_bytes(file, 0, "bytes", 5);
    io_close(file);
    io_close(create("a"));
    assert_memory_equal(map, "bytes", 5);
    io_unmap(map, 5);
}

static void test_a_lock_has_one_holder(void **state)
{
    struct io_file *lock;
    struct io_file *second;

    (void)state;
    assert_int_equal(io_lock(root, "LOCK", &lock), CASK_OK);
    assert_int_equal(io_lock(root, "LOCK", &second), CASK_ELOCKED);
    assert_int_equal(io_open(root, "LOCK", IO_READ, &second), CASK_OK);
    io_close(second); /* an unrelated close does not take the lock away */
    assert_int_equal(io_lock(root, "LOCK", &second), CASK_ELOCKED);
    io_close(lock);
    assert_int_equal(io_lock(root, "LOCK", &lock), CASK_OK);
    io_close(lock);
}

static void test_a_mapping_and_reads_see_each_other(void **state)
{
    struct io_file *file = create("f");
    struct io_file *reader;
    void *map;
    void *again;

    (void)state;
    assert_int_equal(io_allocate(file, 8192), CASK_OK);
    assert_int_equal(io_map(file, 3 * IO_HUGE_PAGE_BYTES, true, &map), CASK_OK);
    assert_int_equal((uintptr_t)map % IO_HUGE_PAGE_BYTES, 0);
    io_map_populate(map, 0, 8192);
    memcpy((char *)map + 4090, "across pages", 12);
    io_map_written(file, 4090, 12);
    expect_bytes(file, 4090, "across pages", 12);
    assert_int_equal(io_write(file, 10, "written", 7), CASK_OK);
    assert_memory_equal((char *)map + 10, "written", 7);
    assert_int_equal(io_open(root, "f", IO_READ, &reader), CASK_OK);
    expect_bytes(reader, 4090, "across pages", 12);
    assert_int_equal(io_map(reader, 8192, false, &again), CASK_OK);
    assert_int_equal((uintptr_t)again % IO_HUGE_PAGE_BYTES, 0);
    assert_memory_equal((char *)again + 4090, "across pages", 12);
    io_close(reader);
    io_unmap(again, 8192);
    io_unmap(map, 3 * IO_HUGE_PAGE_BYTES);
    io_close(file);
}

static void test_a_mapping_reaches_what_is_allocated_later(void **state)
{
    struct io_file *file = create("f");
    void *map;

    (void)state;
    assert_int_equal(io_map(file, 1 << 20, true, &map), CASK_OK);
    for (size_t size = 4096; size <= 1 << 20; size *= 4) {
        assert_int_equal(io_allocate(file, size), CASK_OK);
        io_map_populate(map, 0, size);
        memcpy((char *)map + size - 4, "here", 4);
        io_map_written(file, size - 4, 4);
        assert_int_equal(io_sync_mapped(file, map, 0, size - 1), CASK_OK);
        expect_bytes(file, size - 4, "here", 4);
    }
    assert_int_equal(io_truncate(file, 100), CASK_OK);
    io_map_settle(file, map, 0, 1 << 20);
    assert_int_equal(((char *)map)[99], 0);
    io_unmap(map, 1 << 20);
    io_close(file);
}

#ifndef TEST_IO_SIM
struct storing {
    uint64_t *words;
    size_t count;
    _Atomic size_t stored;
};

static void *store_words(void *argument)
{
    struct storing *storing = argument;

    for (size_t i = 0; i < storing->count; i++) {
        storing->words[i] = i + 1;
        if (i % 8 == 7)
            atomic_store_explicit(&storing->stored, i + 1, memory_order_release);
    }
    return NULL;
}

/* A sync maps what it covers anew, while the writer goes on in the page it ends in. */
static void test_stores_beside_a_sync_of_the_mapping_are_not_lost(void **state)
{
    size_t size = 4 * IO_HUGE_PAGE_BYTES;
    struct io_file *file = create("f");
    struct storing storing = {.count = size / sizeof(uint64_t)};
    size_t synced = 0;
    pthread_t thread;
    void *map;

    (void)state;
    assert_int_equal(io_map(file, size, true, &map), CASK_OK);
    assert_int_equal(io_allocate(file, size), CASK_OK);
    io_map_populate(map, 0, size / 2);
    storing.words = map;
    assert_int_equal(pthread_create(&thread, NULL, store_words, &storing), 0);
    while (synced < storing.count) {
        size_t from = synced * sizeof(uint64_t) / IO_PAGE_BYTES_MAX * IO_PAGE_BYTES_MAX;
        size_t stored = atomic_load_explicit(&storing.stored, memory_order_acquire);

        if (stored == synced)
            continue;
        assert_int_equal(io_sync_mapped(file, map, from, stored * sizeof(uint64_t) - from),
                         CASK_OK);
        synced = stored;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (size_t i = 0; i < storing.count; i++)
        assert_int_equal(storing.words[i], i + 1);
    storing.words[1] = 77; /* what has been synced can be stored to */
    expect_bytes(file, 8, "M\0\0\0", 4);
    io_unmap(map, size);
    io_close(file);
}
#endif

static void test_a_mapping_outlives_its_file(void **state)
{
    struct io_file *file = create("f");
    void *map;

    (void)state;
    assert_int_equal(io_write(file, 0, "still here", 10), CASK_OK);
    assert_int_equal(io_map(file, 10, false, &map), CASK_OK);
    io_close(file);
    assert_memory_equal(map, "still here", 10);
    io_unmap(map, 10);
}

static void test_clocks_chance_and_boot(void **state)
{
    uint64_t before = io_monotonic_ms();
    uint8_t boot[2][16];
    uint8_t bytes[2][33] = {{0}};

    (void)state;
    assert_true(io_clock_ms() > 1600000000000);
    assert_true(io_monotonic_ms() >= before);
    io_boot_id(boot[0]);
    io_boot_id(boot[1]);
    assert_memory_equal(boot[0], boot[1], 16);
    assert_int_equal(io_random(bytes[0], 33), CASK_OK);
    assert_int_equal(io_random(bytes[1], 33), CASK_OK);
    assert_memory_not_equal(bytes[0], bytes[1], 33);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_directories_are_made_once_and_opened),
        TEST(test_a_file_is_not_a_directory),
        TEST(test_a_directory_is_removed_when_empty),
        TEST(test_a_list_names_everything_once),
        TEST(test_files_are_created_once_and_opened),
        TEST(test_writes_extend_and_reads_end_with_the_file),
        TEST(test_large_writes_come_back),
        TEST(test_truncation_cuts_and_extends_with_zeros),
        TEST(test_allocation_extends_and_keeps_what_is_there),
        TEST(test_rename_replaces),
        TEST(test_an_unlinked_file_lives_while_open_or_mapped),
        TEST(test_a_lock_has_one_holder),
        TEST(test_a_mapping_and_reads_see_each_other),
        TEST(test_a_mapping_reaches_what_is_allocated_later),
#ifndef TEST_IO_SIM
        TEST(test_stores_beside_a_sync_of_the_mapping_are_not_lost),
#endif
        TEST(test_a_mapping_outlives_its_file),
        TEST(test_clocks_chance_and_boot),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

#ifdef TEST_IO_SIM
    simdisk_finish();
#endif
    return failed;
}
