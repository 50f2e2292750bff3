/* What bad situations get, on an ordinary file system (test_errors_disk.c has full, read-only and
 * odd ones).
 *
 * Proved for each: its own status; exactly one error line in the log, which names the file; nothing
 * created, changed or lost on disk; no descriptor and no lock left behind, so that the store opens
 * as soon as the cause is gone. Also: what a crash during the very first open leaves, foreign files
 * and stale locks are no obstacle; foreign files are never deleted; the order of writes does not
 * depend on the clock.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "support.h"

#define SUPERBLOCK_BYTES 64u
#define VERSION_OFFSET 8u
#define CHECKSUM_OFFSET 56u

/* A wall clock that can be set: the library's calls come here. */
static int64_t clock_shift_s;

int clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, ret_now);

    if (clock == CLOCK_REALTIME)
        ret_now->tv_sec += clock_shift_s;
    return result;
}

/* Each test has a directory, in which the store is "store". */
struct scene {
    char *root;
    char path[4096];
    struct log_lines log;
    struct cask_options options;
};

static int set_up(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);

    CHECK(scene, "out of memory");
    log_lines_init(&scene->log);
    scene->root = scratch_make(SCRATCH_MEMORY);
    (void)snprintf(scene->path, sizeof scene->path, "%s/store", scene->root);
    scene->options = options_with_log(&scene->log);
    scene->options.shard_count = 2;
    scene->options.segment_bytes = 512;
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;

    scratch_remove(scene->root);
    free(scene);
    return 0;
}

/* A closed store with a few segments in each shard. */
static void make_store(struct scene *scene)
{
    struct cask_db *db;

    CHECK_OK(cask_open(scene->path, &scene->options, &db));
    for (unsigned i = 0; i < 60; i++) {
        char key[32];

        (void)snprintf(key, sizeof key, "key-%u", i);
        CHECK_OK(cask_put(db, slice_of(key), slice_of(key)));
    }
    CHECK_OK(cask_close(db));
}

static void check_store(struct cask_db *db)
{
    for (unsigned i = 0; i < 60; i++) {
        char key[32];

        (void)snprintf(key, sizeof key, "key-%u", i);
        check_value(db, key, key);
    }
}

static void check_opens(struct scene *scene)
{
    struct cask_db *db;

    log_lines_clear(&scene->log);
    CHECK_OK(cask_open(scene->path, &scene->options, &db));
    check_store(db);
    CHECK_OK(cask_verify(db, NULL, NULL));
    CHECK_OK(cask_close(db));
    CHECK(log_lines_count(&scene->log, CASK_LOG_ERROR) == 0, "%s", scene->log.text);
}

static void expect_refused(struct scene *scene, const char *path,
                           const struct cask_options *options, int expected, const char *named)
{
    struct cask_db *const none = (struct cask_db *)(uintptr_t)16;
    struct cask_db *db = none;
    uint64_t before = tree_checksum(scene->root);
    unsigned descriptors = count_descriptors();

    log_lines_clear(&scene->log);
    CHECK_STATUS(cask_open(path, options, &db), expected);
    CHECK(db == none, "an output was written by a failed call");
    CHECK(log_lines_count(&scene->log, CASK_LOG_ERROR) == 1, "%s for %s: the log says:\n%s",
          cask_strerror(expected), named, scene->log.text);
    CHECK(log_lines_mention(&scene->log, named), "'%s' is not named in: %s", named,
          scene->log.text);
    CHECK(tree_checksum(scene->root) == before, "something was created or changed");
    CHECK(count_descriptors() == descriptors, "a descriptor is left open");
}

/* The same for the scene's store, opened to write and to read. */
static void expect_both_refused(struct scene *scene, int expected, const char *named)
{
    struct cask_options reading = scene->options;

    expect_refused(scene, scene->path, &scene->options, expected, named);
    reading.read_only = 1;
    expect_refused(scene, scene->path, &reading, expected, named);
}

/* ---- no store there -------------------------------------------------------------------------- */

static void test_what_is_no_store_is_refused(void **state)
{
    struct scene *scene = *state;
    struct cask_options reading = scene->options;
    struct cask_options never = scene->options;
    char below[4200];

    reading.read_only = 1;
    never.create = CASK_CREATE_NEVER;
    expect_refused(scene, scene->path, &reading, CASK_ENOTSTORE, "/store");
    expect_refused(scene, scene->path, &never, CASK_ENOTSTORE, "/store");
    (void)snprintf(below, sizeof below, "%s/below", scene->path);
    expect_refused(scene, below, &scene->options, CASK_ENOTSTORE, "/store/below");
    CHECK(mkdir(scene->path, 0700) == 0, "%s", strerror(errno));
    expect_refused(scene, scene->path, &reading, CASK_ENOTSTORE, "/store");
    expect_refused(scene, scene->path, &never, CASK_ENOTSTORE, "/store");
    write_file(path_in(scene->path, "notes.txt"), "mine", 4);
    expect_both_refused(scene, CASK_ENOTSTORE, "/store");
    CHECK(unlink(path_in(scene->path, "notes.txt")) == 0, "%s", strerror(errno));
    CHECK(mkdir(path_in(scene->path, "shard-000"), 0700) == 0, "%s", strerror(errno));
    expect_both_refused(scene, CASK_ENOTSTORE, "/store");
    tree_remove(scene->path);
    write_file(scene->path, "mine", 4);
    expect_both_refused(scene, CASK_ENOTSTORE, "/store");
    CHECK(unlink(scene->path) == 0, "%s", strerror(errno));
    make_store(scene);
    check_opens(scene);
}

static void test_an_existing_store_is_not_created_anew(void **state)
{
    struct scene *scene = *state;
    struct cask_options new = scene->options;

    new.create = CASK_CREATE_NEW;
    make_store(scene);
    expect_refused(scene, scene->path, &new, CASK_EEXIST, "/store");
    check_opens(scene);
}

/* ---- superblock and manifest ----------------------------------------------------------------- */

static void change_file(const char *path, size_t offset, uint8_t change)
{
    size_t size;
    uint8_t *bytes = read_whole_file(path, &size);

    CHECK(offset < size, "%s", path);
    bytes[offset] ^= change;
    write_file(path, bytes, size);
    free(bytes);
}

/* Sets the version and makes the checksum fit, which is over all that is before it. */
static void set_version(const char *path, size_t checksum_offset, uint32_t version)
{
    size_t size;
    uint8_t *bytes = read_whole_file(path, &size);

    put_u32(bytes + VERSION_OFFSET, version);
    put_u64(bytes + checksum_offset, checksum_bytes(bytes, checksum_offset));
    write_file(path, bytes, size);
    free(bytes);
}

static void test_a_newer_format_is_refused(void **state)
{
    struct scene *scene = *state;
    const char *manifest = shard_path(scene->path, 1, "MANIFEST");
    size_t size;

    make_store(scene);
    set_version(path_in(scene->path, "CASKADE"), CHECKSUM_OFFSET, 2);
    expect_both_refused(scene, CASK_EVERSION, "/store/CASKADE");
    set_version(path_in(scene->path, "CASKADE"), CHECKSUM_OFFSET, UINT32_MAX);
    expect_both_refused(scene, CASK_EVERSION, "/store/CASKADE");
    set_version(path_in(scene->path, "CASKADE"), CHECKSUM_OFFSET, 1);
    check_opens(scene);
    free(read_whole_file(manifest, &size));
    set_version(manifest, size - 8, 2);
    expect_both_refused(scene, CASK_EVERSION, "/store/shard-001/MANIFEST");
    set_version(manifest, size - 8, 1);
    check_opens(scene);
}

static void test_a_damaged_superblock_is_refused(void **state)
{
    struct scene *scene = *state;
    char path[4200];
    uint8_t *bytes;
    size_t size;

    make_store(scene);
    (void)snprintf(path, sizeof path, "%s/CASKADE", scene->path);
    bytes = read_whole_file(path, &size);
    CHECK(size == SUPERBLOCK_BYTES, "%zu", size);
    for (size_t at = 8; at < size; at += 5) {
        change_file(path, at, 0x10);
        expect_refused(scene, scene->path, &scene->options, CASK_ECORRUPT, "/store/CASKADE");
        change_file(path, at, 0x10);
    }
    change_file(path, 9, 1);
    expect_both_refused(scene, CASK_ECORRUPT, "/store/CASKADE");
    for (size_t cut = 0; cut < size; cut += 9) {
        write_file(path, bytes, cut);
        expect_refused(scene, scene->path, &scene->options, CASK_ECORRUPT, "/store/CASKADE");
    }
    write_file(path, "#!/bin/sh\necho this is some other program's file, and quite long\n", 66);
    expect_both_refused(scene, CASK_ENOTSTORE, "/store/CASKADE");
    write_file(path, bytes, size);
    free(bytes);
    check_opens(scene);
}

/* Neither followed nor waited for. */
static void test_a_superblock_that_is_no_file_is_refused(void **state)
{
    struct scene *scene = *state;
    char path[4200];
    char aside[4200];

    make_store(scene);
    (void)snprintf(path, sizeof path, "%s/CASKADE", scene->path);
    (void)snprintf(aside, sizeof aside, "%s/aside", scene->root);
    CHECK(rename(path, aside) == 0, "%s", strerror(errno));
    CHECK(symlink(aside, path) == 0, "%s", strerror(errno));
    expect_both_refused(scene, CASK_ENOTSTORE, "/store/CASKADE");
    CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0, "%s", strerror(errno));
    expect_both_refused(scene, CASK_ENOTSTORE, "/store/CASKADE");
    CHECK(rmdir(path) == 0 && mkfifo(path, 0600) == 0, "%s", strerror(errno));
    expect_both_refused(scene, CASK_ENOTSTORE, "/store/CASKADE");
    CHECK(unlink(path) == 0 && rename(aside, path) == 0, "%s", strerror(errno));
    check_opens(scene);
}

/* Whatever fails in the middle of opening, the store is unlocked again, and nothing was changed. */
static void test_an_error_in_open_leaves_the_store_unlocked(void **state)
{
    struct scene *scene = *state;
    char manifest[4200];
    char aside[4200];

    make_store(scene);
    (void)snprintf(manifest, sizeof manifest, "%s", shard_path(scene->path, 0, "MANIFEST"));
    (void)snprintf(aside, sizeof aside, "%s/aside", scene->root);
    change_file(manifest, 50, 1);
    for (unsigned i = 0; i < 5; i++)
        expect_both_refused(scene, CASK_ECORRUPT, "/store/shard-000/MANIFEST");
    change_file(manifest, 50, 1);
    check_opens(scene);
    CHECK(rename(manifest, aside) == 0, "%s", strerror(errno));
    expect_both_refused(scene, CASK_ECORRUPT, "/store/shard-000/MANIFEST");
    CHECK(rename(aside, manifest) == 0, "%s", strerror(errno));
    check_opens(scene);
}

/* ---- options --------------------------------------------------------------------------------- */

static void test_options_out_of_range_are_refused(void **state)
{
    struct scene *scene = *state;
    const struct cask_options good = scene->options;
    struct cask_options bad[18];
    size_t count = 0;
    struct cask_db *db;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        bad[i] = good;
    bad[count++].size = sizeof(struct cask_options) + 8;
    bad[count++].shard_count = 3;
    bad[count++].shard_count = 512;
    bad[count++].sync_mode = (enum cask_sync_mode)4;
    bad[count++].write_mode = (enum cask_write_mode)3;
    bad[count++].read_mode = (enum cask_read_mode)(-1);
    bad[count++].verify_reads = (enum cask_switch)3;
    bad[count++].create = (enum cask_create_mode)9;
    bad[count++].index_memory = 1000;
    bad[count++].segment_bytes = 255;
    bad[count++].segment_bytes = ((uint64_t)2 << 30) + 1;
    bad[count++].sync_interval_ms = 5;
    bad[count].sync_mode = CASK_SYNC_INTERVAL;
    bad[count++].sync_interval_ms = 3600001;
    bad[count].read_only = 1;
    bad[count++].create = CASK_CREATE_NEW;
    bad[count].read_only = 1;
    bad[count++].create = CASK_CREATE_IF_MISSING;
    for (size_t i = 0; i < count; i++)
        expect_refused(scene, scene->path, &bad[i], CASK_EINVAL, "/store");
    bad[0].size = 0; /* then there is no telling where the log callback is */
    CHECK_STATUS(cask_open(scene->path, &bad[0], &db), CASK_EINVAL);
    CHECK(!path_exists(scene->path), "a refused open created the store");
    bad[0].size = sizeof bad[0] + 8;
    make_store(scene);
    for (size_t i = 0; i < count; i++)
        expect_refused(scene, scene->path, &bad[i], CASK_EINVAL, "/store");
    check_opens(scene);
}

static void test_options_that_contradict_the_store_are_refused(void **state)
{
    struct scene *scene = *state;
    struct cask_options other = scene->options;

    make_store(scene);
    other.shard_count = 4;
    expect_refused(scene, scene->path, &other, CASK_EMISMATCH, "/store/CASKADE");
    other.read_only = 1;
    expect_refused(scene, scene->path, &other, CASK_EMISMATCH, "/store/CASKADE");
    other = scene->options;
    other.segment_bytes = ((uint64_t)256 << 20) + 1;
    expect_refused(scene, scene->path, &other, CASK_EMISMATCH, "/store/CASKADE");
    check_opens(scene);
}

static void test_null_arguments_are_refused(void **state)
{
    struct scene *scene = *state;
    struct cask_slice key = slice_of("key");
    struct cask_stats stats = {.size = 0};
    struct cask_batch *batch;
    struct cask_iter *iter;
    struct cask_entry entry;
    struct cask_db *other;
    struct cask_db *db;
    char path[4200];

    CHECK_STATUS(cask_open(NULL, NULL, &db), CASK_EINVAL);
    CHECK_STATUS(cask_open("", NULL, &db), CASK_EINVAL);
    CHECK_STATUS(cask_open(scene->path, NULL, NULL), CASK_EINVAL);
    CHECK(!path_exists(scene->path), "a refused open created the store");
    CHECK_OK(cask_close(NULL));
    CHECK_OK(cask_open(scene->path, &scene->options, &db));
    CHECK_STATUS(cask_put(NULL, key, key), CASK_EINVAL);
    CHECK_STATUS(cask_put(db, (struct cask_slice){NULL, 3}, key), CASK_EINVAL);
    CHECK_STATUS(cask_put(db, key, (struct cask_slice){NULL, 3}), CASK_EINVAL);
    CHECK_STATUS(cask_put_if(NULL, key, key, 0, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_put_if(db, (struct cask_slice){NULL, 3}, key, 0, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_put_if(db, key, (struct cask_slice){NULL, 3}, 0, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_delete(NULL, key), CASK_EINVAL);
    CHECK_STATUS(cask_exists(NULL, key), CASK_EINVAL);
    CHECK_STATUS(cask_get(NULL, key, NULL, 0, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_view(db, key, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_get_many(db, 1, NULL, NULL, 0, NULL, NULL), CASK_EINVAL);
    CHECK_OK(cask_get_many(db, 0, NULL, NULL, 0, NULL, NULL));
    CHECK_STATUS(cask_batch_create(db, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_batch_put(NULL, key, key), CASK_EINVAL);
    CHECK_STATUS(cask_write(db, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_iter_create(db, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_iter_next(NULL, &entry), CASK_EINVAL);
    CHECK_STATUS(cask_sync(NULL), CASK_EINVAL);
    CHECK_STATUS(cask_stats(db, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_stats(db, &stats), CASK_EINVAL);
    CHECK_STATUS(cask_verify(NULL, NULL, NULL), CASK_EINVAL);
    cask_batch_clear(NULL);
    cask_batch_destroy(NULL);
    cask_iter_destroy(NULL);
    cask_view_release(NULL);
    CHECK_OK(cask_iter_create(db, &iter));
    CHECK_STATUS(cask_iter_next(iter, NULL), CASK_EINVAL);
    cask_iter_destroy(iter);
    (void)snprintf(path, sizeof path, "%s/other", scene->root);
    CHECK_OK(cask_open(path, &scene->options, &other));
    CHECK_OK(cask_batch_create(other, &batch));
    CHECK_STATUS(cask_write(db, batch), CASK_EINVAL);
    cask_batch_destroy(batch);
    CHECK_OK(cask_close(other));
    CHECK_STATUS(cask_exists(db, key), CASK_NOTFOUND);
    CHECK_OK(cask_close(db));
    CHECK(strlen(cask_strerror(CASK_OK)) > 0 && strlen(cask_strerror(-1000)) > 0, "no text");
    CHECK(strcmp(cask_version(), CASK_VERSION_STRING) == 0, "%s", cask_version());
}

/* ---- locks ----------------------------------------------------------------------------------- */

/* A child that holds the store open until it is killed. */
static pid_t hold_open(struct scene *scene)
{
    int ready[2];
    char byte;
    pid_t child;

    CHECK(pipe(ready) == 0, "%s", strerror(errno));
    (void)fflush(NULL);
    child = fork();
    if (child == 0) {
        struct cask_db *db;

        CHECK_OK(cask_open(scene->path, &scene->options, &db));
        CHECK(write(ready[1], "x", 1) == 1, "%s", strerror(errno));
        for (;;)
            (void)pause();
    }
    CHECK(read(ready[0], &byte, 1) == 1, "the child did not open the store");
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void test_a_store_in_use_is_refused(void **state)
{
    struct scene *scene = *state;
    struct cask_options new = scene->options;
    struct cask_db *db;
    pid_t child;

    make_store(scene);
    new.create = CASK_CREATE_IF_MISSING;
    CHECK_OK(cask_open(scene->path, &scene->options, &db));
    expect_refused(scene, scene->path, &scene->options, CASK_ELOCKED, "/store/LOCK");
    expect_refused(scene, scene->path, &new, CASK_ELOCKED, "/store/LOCK");
    check_store(db);
    CHECK_OK(cask_close(db));
    child = hold_open(scene);
    expect_refused(scene, scene->path, &scene->options, CASK_ELOCKED, "/store/LOCK");
    CHECK(kill(child, SIGKILL) == 0, "%s", strerror(errno));
    wait_for_kill(child);
    check_opens(scene); /* the lock of a process that was killed holds nobody up */
}

static void test_a_leftover_lock_file_is_no_lock(void **state)
{
    struct scene *scene = *state;

    make_store(scene);
    write_file(path_in(scene->path, "LOCK"), "12345\n", 6);
    check_opens(scene);
    CHECK(unlink(path_in(scene->path, "LOCK")) == 0, "%s", strerror(errno));
    check_opens(scene);
}

/* ---- the first open, interrupted ------------------------------------------------------------- */

/* Each state that a crash in the very first open can leave: the next open creates the store. */
static void test_an_interrupted_first_open_is_no_obstacle(void **state)
{
    struct scene *scene = *state;
    struct cask_options never = scene->options;
    uint8_t *superblock;
    size_t size;

    make_store(scene);
    superblock = read_whole_file(path_in(scene->path, "CASKADE"), &size);
    never.create = CASK_CREATE_NEVER;
    for (unsigned step = 0; step < 8; step++) {
        size_t written = step < 3 ? 0 : step == 3 ? size / 2 : size;

        tree_remove(scene->path);
        CHECK(mkdir(scene->path, 0700) == 0, "%s", strerror(errno));
        if (step >= 1)
            write_file(path_in(scene->path, "LOCK"), "", 0);
        if (step >= 2)
            write_file(path_in(scene->path, "CASKADE.tmp"), superblock, written);
        if (step < 5)
            expect_refused(scene, scene->path, &never, CASK_ENOTSTORE, "/store");
        if (step >= 5) /* renamed */
            CHECK(rename(path_in(scene->path, "CASKADE.tmp"), path_in(scene->path, "CASKADE")) == 0,
                  "%s", strerror(errno));
        if (step >= 6)
            CHECK(mkdir(path_in(scene->path, "shard-000"), 0700) == 0, "%s", strerror(errno));
        if (step >= 7) {
            write_file(shard_path(scene->path, 0, "1.data"), "", 0);
            write_file(shard_path(scene->path, 0, "MANIFEST.tmp"), "CASK", 4);
        }
        make_store(scene);
        check_opens(scene);
        CHECK(!path_exists(path_in(scene->path, "CASKADE.tmp")), "a leftover stays");
    }
    free(superblock);
}

/* ---- foreign files --------------------------------------------------------------------------- */

static const char *const foreign[] = {"1.data.bak",
                                      "007.data",
                                      "x.data",
                                      "1.data~",
                                      "-1.data",
                                      "+1.data",
                                      "0.data",
                                      "1.DATA",
                                      "1.hint.bak",
                                      " 1.data",
                                      "1.data ",
                                      "MANIFEST.bak",
                                      "notes.txt",
                                      ".1.data",
                                      "1.data.tmp",
                                      "0x1.data",
                                      "99999999999999999999999999.data"};
#define FOREIGN (sizeof foreign / sizeof *foreign)

static void test_foreign_files_are_ignored_and_kept(void **state)
{
    struct scene *scene = *state;
    char root_file[4200];

    make_store(scene);
    (void)snprintf(root_file, sizeof root_file, "%s/mine.txt", scene->path);
    write_file(root_file, "mine", 4);
    for (size_t i = 0; i < FOREIGN; i++)
        write_file(shard_path(scene->path, 0, foreign[i]), "mine", 4);
    CHECK(mkdir(shard_path(scene->path, 0, "900.data"), 0700) == 0, "%s", strerror(errno));
    CHECK(mkdir(path_in(scene->path, "shard-999"), 0700) == 0, "%s", strerror(errno));
    CHECK(symlink(root_file, shard_path(scene->path, 0, "901.data")) == 0, "%s", strerror(errno));
    write_file(shard_path(scene->path, 0, "902.data"), "someone else's, though named like ours",
               38);
    for (unsigned i = 0; i < 3; i++)
        check_opens(scene);
    for (size_t i = 0; i < FOREIGN; i++) {
        size_t size;
        uint8_t *bytes = read_whole_file(shard_path(scene->path, 0, foreign[i]), &size);

        CHECK(size == 4 && memcmp(bytes, "mine", 4) == 0, "%s was changed", foreign[i]);
        free(bytes);
    }
    CHECK(path_exists(root_file), "a foreign file was deleted");
    CHECK(path_exists(shard_path(scene->path, 0, "900.data")), "a directory was deleted");
    CHECK(path_exists(shard_path(scene->path, 0, "901.data")), "a link was deleted");
    CHECK(path_exists(shard_path(scene->path, 0, "902.data")), "a foreign file was deleted");
    CHECK(path_exists(path_in(scene->path, "shard-999")), "a directory was deleted");
}

/* ---- descriptors ----------------------------------------------------------------------------- */

static unsigned count_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned count = 0;
    int c;

    CHECK(maps, "%s", strerror(errno));
    while ((c = fgetc(maps)) != EOF)
        count += c == '\n';
    (void)fclose(maps);
    return count;
}

static void damage_hints(const char *path)
{
    struct tree tree;

    tree_load(&tree, path);
    for (size_t i = 0; i < tree.count; i++)
        if (strstr(tree.files[i].name, ".hint"))
            change_file(path_in(path, tree.files[i].name), i % tree.files[i].size, 0x40);
    tree_release(&tree);
}

static void test_opening_leaks_no_descriptor(void **state)
{
    struct scene *scene = *state;
    unsigned descriptors = count_descriptors();
    unsigned mappings = 0;

    make_store(scene);
    for (unsigned i = 0; i < 60; i++) {
        struct cask_options options = scene->options;
        struct cask_db *db;

        options.read_only = i % 3 == 1;
        options.read_mode = i % 2 == 0 ? CASK_READ_MAPPED : CASK_READ_PREAD;
        damage_hints(scene->path);
        CHECK_OK(cask_open(scene->path, &options, &db));
        check_store(db);
        CHECK_OK(cask_close(db));
        CHECK(count_descriptors() == descriptors, "a descriptor is left open");
        if (i == 20)
            mappings = count_mappings();
    }
    CHECK(BUILT_WITH_ASAN || BUILT_WITH_TSAN || count_mappings() <= mappings + 8,
          "%u mappings, were %u", count_mappings(), mappings);
    check_opens(scene);
}

/* With few descriptors, then one more, and so on until it opens. */
static void test_without_descriptors_open_says_so(void **state)
{
    struct scene *scene = *state;
    pid_t child;

    make_store(scene);
    (void)fflush(NULL);
    child = fork();
    if (child == 0) {
        uint64_t before = tree_checksum(scene->root);
        struct cask_db *db;
        rlim_t limit = 3;
        unsigned lines;
        int status;

        do {
            struct rlimit few = {limit++, 4096};

            log_lines_clear(&scene->log);
            CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0, "%s", strerror(errno));
            status = cask_open(scene->path, &scene->options, &db);
            few.rlim_cur = 1000;
            CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0, "%s", strerror(errno));
            CHECK(status == CASK_OK || status == CASK_EMFILE, "%s", cask_strerror(status));
            lines = log_lines_count(&scene->log, CASK_LOG_ERROR);
            /* Shards are opened side by side: each may come to its own end. */
            CHECK(status == CASK_OK || (lines >= 1 && lines <= scene->options.shard_count),
                  "with %u descriptors the log says:\n%s", (unsigned)limit - 1, scene->log.text);
            CHECK(status == CASK_OK || tree_checksum(scene->root) == before, "a change");
        } while (status != CASK_OK);
        CHECK(limit > 6, "no open failed");
        check_store(db);
        CHECK_OK(cask_close(db));
        _exit(0);
    }
    wait_for_success(child);
    check_opens(scene);
}

/* ---- the clock ------------------------------------------------------------------------------- */

static void test_the_order_of_writes_is_not_the_clock(void **state)
{
    static const int64_t shifts[] = {0, 3600, -3600, -3600, 100000000, -100000000, 0};
    struct scene *scene = *state;
    struct cask_db *db;
    char value[32] = {0};

    for (size_t i = 0; i < sizeof shifts / sizeof *shifts; i++) {
        clock_shift_s = shifts[i];
        CHECK_OK(cask_open(scene->path, &scene->options, &db));
        if (i > 0)
            check_value(db, "key", value);
        (void)snprintf(value, sizeof value, "at %lld", (long long)shifts[i]);
        CHECK_OK(cask_put(db, slice_of("key"), slice_of("before")));
        clock_shift_s = shifts[i] - 1000;
        CHECK_OK(cask_put(db, slice_of("key"), slice_of(value)));
        CHECK_OK(cask_put(db, slice_of("gone"), slice_of("x")));
        clock_shift_s -= 1000;
        CHECK_OK(cask_delete(db, slice_of("gone")));
        check_value(db, "key", value);
        check_value(db, "gone", NULL);
        CHECK_OK(cask_close(db));
    }
    clock_shift_s = 0;
    CHECK_OK(cask_open(scene->path, &scene->options, &db));
    check_value(db, "key", value);
    check_value(db, "gone", NULL);
    CHECK_OK(cask_close(db));
}

/* Expiry alone goes by the wall clock, and follows it. */
static void test_expiry_follows_the_clock(void **state)
{
    struct scene *scene = *state;
    uint64_t soon = wall_clock_ms() + 1000 * 1000;
    struct cask_db *db;

    CHECK_OK(cask_open(scene->path, &scene->options, &db));
    CHECK_OK(cask_put_expiring(db, slice_of("key"), slice_of("value"), soon));
    check_value(db, "key", "value");
    clock_shift_s = 2000;
    check_value(db, "key", NULL);
    CHECK_STATUS(cask_delete(db, slice_of("key")), CASK_NOTFOUND);
    clock_shift_s = -2000;
    check_value(db, "key", "value");
    clock_shift_s = 2000;
    CHECK_OK(cask_put(db, slice_of("key"), slice_of("for good")));
    check_value(db, "key", "for good");
    clock_shift_s = 0;
    CHECK_OK(cask_close(db));
}

/* Durability at intervals must not wait for a clock that was set back. */
static void test_syncing_at_intervals_does_not_wait_for_the_clock(void **state)
{
    struct scene *scene = *state;
    struct cask_stats stats = {.size = sizeof stats};
    struct cask_db *db;
    uint64_t syncs;
    uint64_t started;

    scene->options.sync_mode = CASK_SYNC_INTERVAL;
    scene->options.sync_interval_ms = 10;
    clock_shift_s = 3600; /* as if it were set back by an hour in a moment */
    CHECK_OK(cask_open(scene->path, &scene->options, &db));
    CHECK_OK(cask_put(db, slice_of("key"), slice_of("value")));
    CHECK_OK(cask_stats(db, &stats));
    syncs = stats.syncs;
    for (started = clock_ns(); stats.syncs == syncs && clock_ns() - started < 5000000000u;) {
        pause_us(1000);
        CHECK_OK(cask_stats(db, &stats));
    }
    clock_shift_s = 0;
    CHECK(stats.syncs > syncs, "nothing was synced for 5 seconds");
    CHECK_OK(cask_close(db));
}

int main(void)
{
#define SCENE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        SCENE(test_what_is_no_store_is_refused),
        SCENE(test_an_existing_store_is_not_created_anew),
        SCENE(test_a_newer_format_is_refused),
        SCENE(test_a_damaged_superblock_is_refused),
        SCENE(test_a_superblock_that_is_no_file_is_refused),
        SCENE(test_an_error_in_open_leaves_the_store_unlocked),
        SCENE(test_options_out_of_range_are_refused),
        SCENE(test_options_that_contradict_the_store_are_refused),
        SCENE(test_null_arguments_are_refused),
        SCENE(test_a_store_in_use_is_refused),
        SCENE(test_a_leftover_lock_file_is_no_lock),
        SCENE(test_an_interrupted_first_open_is_no_obstacle),
        SCENE(test_foreign_files_are_ignored_and_kept),
        SCENE(test_opening_leaks_no_descriptor),
        SCENE(test_without_descriptors_open_says_so),
        SCENE(test_the_order_of_writes_is_not_the_clock),
        SCENE(test_expiry_follows_the_clock),
        SCENE(test_syncing_at_intervals_does_not_wait_for_the_clock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
