/* Disks that are full, out of inodes or read-only: nothing is lost, nothing is half done, and the
 * store goes on without being reopened once there is room (RELIABILITY.md, rules 7, 11 and 15). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "caskade.h"
#include "simdisk.h"
#include "simimage.h"

#define KEYS 400u
#define VALUE_BYTES 300u
#define MIB ((uint64_t)1 << 20)

struct kind {
    const char *name;
    enum cask_write_mode write_mode;
    enum cask_sync_mode sync_mode;
    bool refuses_files; /* as XFS does when full */
};

static const struct kind kinds[] = {
    {"mapped", CASK_WRITE_MAPPED, CASK_SYNC_NONE, false},
    {"mapped, no new files when full", CASK_WRITE_MAPPED, CASK_SYNC_NONE, true},
    {"system calls", CASK_WRITE_SYSCALL, CASK_SYNC_NONE, false},
    {"system calls, no new files when full", CASK_WRITE_SYSCALL, CASK_SYNC_NONE, true},
    {"always", CASK_WRITE_DEFAULT, CASK_SYNC_ALWAYS, false},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static unsigned version_of[KEYS]; /* 0: absent */

static int start(void **state)
{
    (void)state;
    simdisk_reset(7);
    memset(version_of, 0, sizeof version_of);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    simdisk_check();
    return simdisk_open_handles() == 0 && simdisk_open_maps() == 0 ? 0 : 1;
}

static struct cask_options options_of(const struct kind *kind)
{
    return (struct cask_options){.size = sizeof(struct cask_options),
                                 .shard_count = 2,
                                 .sync_mode = kind->sync_mode,
                                 .write_mode = kind->write_mode,
                                 .segment_bytes = 6000,
                                 .index_memory = 4 * MIB};
}

static struct cask_db *open_kind(const struct kind *kind)
{
    struct cask_options options = options_of(kind);
    struct cask_db *db;
    int status = cask_open("/s", &options, &db);

    if (status != CASK_OK)
        fail_msg("%s: open says %s", kind->name, cask_strerror(status));
    return db;
}

static struct cask_slice key_text(unsigned key, char text[16])
{
    snprintf(text, 16, "key%05u", key);
    return (struct cask_slice){text, strlen(text)};
}

static struct cask_slice value_text(unsigned key, unsigned version, char text[VALUE_BYTES])
{
    memset(text, (int)('a' + (key + version) % 26), VALUE_BYTES);
    snprintf(text, VALUE_BYTES, "%u.%u", key, version);
    return (struct cask_slice){text, VALUE_BYTES};
}

static unsigned next_version;

static int put(struct cask_db *db, unsigned key)
{
    char key_bytes[16];
    char value_bytes[VALUE_BYTES];
    unsigned version = ++next_version;
    int status = cask_put(db, key_text(key, key_bytes), value_text(key, version, value_bytes));

    if (status == CASK_OK)
        version_of[key] = version;
    return status;
}

/* On a full disk: the value stays, and its number; what is refused for its condition is refused for
 * that, and needs no room. */
static void refuse_conditional_puts(struct cask_db *db)
{
    unsigned refused = 0;

    for (unsigned key = 0; key < KEYS; key++) {
        struct cask_view view = {.sequence = 0};
        char key_bytes[16];
        char value_bytes[VALUE_BYTES];
        struct cask_slice slice = key_text(key, key_bytes);
        unsigned version = ++next_version;
        struct cask_slice value = value_text(key, version, value_bytes);
        int status = cask_view(db, slice, &view);
        uint64_t sequence = view.sequence;
        uint64_t put_sequence = 0;

        cask_view_release(&view);
        assert_int_equal(status, sequence ? CASK_OK : CASK_NOTFOUND);
        assert_int_equal(cask_put_if(db, slice, value, sequence + 1, &put_sequence),
                         sequence ? CASK_EEXIST : CASK_NOTFOUND);
        assert_int_equal(put_sequence, 0);
        status = cask_put_if(db, slice, value, sequence, &put_sequence);
        if (status == CASK_OK) { /* there may be some room by now */
            version_of[key] = version;
            continue;
        }
        assert_int_equal(status, CASK_ENOSPC);
        refused++;
        assert_int_equal(put_sequence, 0);
        status = cask_view(db, slice, &view);
        assert_int_equal(view.sequence, sequence);
        cask_view_release(&view);
        assert_int_equal(status, sequence ? CASK_OK : CASK_NOTFOUND);
    }
    assert_true(refused > 0);
}

static int remove_key(struct cask_db *db, unsigned key)
{
    char bytes[16];
    int status = cask_delete(db, key_text(key, bytes));

    if (status == CASK_OK)
        version_of[key] = 0;
    return status;
}

static void expect_all(struct cask_db *db, const char *when)
{
    for (unsigned key = 0; key < KEYS; key++) {
        char expected[VALUE_BYTES];
        char got[VALUE_BYTES];
        char bytes[16];
        size_t size = 0;
        int status = cask_get(db, key_text(key, bytes), got, sizeof got, &size);

        if (status != (version_of[key] ? CASK_OK : CASK_NOTFOUND))
            fail_msg("%s: key %u: %s", when, key, cask_strerror(status));
        if (status != CASK_OK)
            continue;
        value_text(key, version_of[key], expected);
        assert_int_equal(size, VALUE_BYTES);
        assert_memory_equal(got, expected, VALUE_BYTES);
    }
}

/* Puts until the disk is full for both shards; returns how many fitted. */
static unsigned fill(struct cask_db *db, unsigned from)
{
    unsigned done = 0;
    unsigned refused = 0;

    for (unsigned i = 0; refused < 60; i++) {
        int status = put(db, (from + i) % KEYS);

        assert_true(i < 100000);
        if (status == CASK_OK) {
            done++;
            refused = 0;
        } else {
            assert_int_equal(status, CASK_ENOSPC);
            refused++;
        }
    }
    return done;
}

/* What is sealed or merged meanwhile may make some room. */
static void put_what_fits(struct cask_db *db)
{
    for (unsigned i = 0; i < 20; i++) {
        int status = put(db, i);

        assert_true(status == CASK_OK || status == CASK_ENOSPC);
    }
}

static void expect_clean(struct cask_db *db, const char *when)
{
    expect_all(db, when);
    assert_int_equal(cask_verify(db, NULL, NULL), CASK_OK);
}

/* Closes the store; what the next open finds is clean. */
static void expect_clean_again(struct cask_db *db, const struct kind *kind)
{
    assert_int_equal(cask_close(db), CASK_OK);
    db = open_kind(kind);
    expect_clean(db, kind->name);
    assert_int_equal(cask_close(db), CASK_OK);
}

static void with_each_kind(void **state, void (*run)(const struct kind *kind))
{
    for (size_t i = 0; i < KINDS; i++) {
        start(state);
        run(&kinds[i]);
    }
}

static void fill_and_free(const struct kind *kind)
{
    struct cask_db *db;
    unsigned fitted;

    simdisk_set_full_refuses_files(kind->refuses_files);
    simdisk_set_capacity(128 << 10);
    db = open_kind(kind);
    fitted = fill(db, 0);
    assert_true(fitted > 50);
    put_what_fits(db);
    refuse_conditional_puts(db);
    expect_all(db, kind->name);
    simdisk_set_capacity(256 << 10);
    for (unsigned i = 0; i < 20; i++)
        if (put(db, i) != CASK_OK)
            fail_msg("%s: no room at %llu bytes", kind->name,
                     (unsigned long long)simdisk_used_bytes()); /* no reopening needed */
    expect_clean(db, kind->name);
    (void)fill(db, 20);
    simdisk_set_capacity(0);
    expect_clean_again(db, kind);
}

static void test_a_full_disk_is_survived_without_reopening(void **state)
{
    with_each_kind(state, fill_and_free);
}

/* Closed and opened while full; what could not be written then is written later. */
static void close_while_full(const struct kind *kind)
{
    struct cask_db *db;
    int status;

    simdisk_set_full_refuses_files(kind->refuses_files);
    simdisk_set_capacity(128 << 10);
    db = open_kind(kind);
    (void)fill(db, 0);
    status = cask_close(db);
    assert_true(status == CASK_OK || status == CASK_ENOSPC);
    db = open_kind(kind);
    expect_all(db, kind->name);
    status = cask_close(db);
    assert_true(status == CASK_OK || status == CASK_ENOSPC);
    simdisk_set_capacity(0);
    db = open_kind(kind);
    expect_clean(db, kind->name);
    assert_int_equal(put(db, 3), CASK_OK);
    expect_clean_again(db, kind);
}

static void test_a_full_disk_can_be_closed_and_opened(void **state)
{
    with_each_kind(state, close_while_full);
}

/* Killed while the disk is full, and again when it was opened with nothing free at all: opening
 * needs no room. */
static void kill_while_full(const struct kind *kind)
{
    struct cask_db *db;

    simdisk_set_full_refuses_files(kind->refuses_files);
    simdisk_set_capacity(128 << 10);
    db = open_kind(kind);
    (void)fill(db, 0);
    for (unsigned kill = 0; kill < 4; kill++) {
        struct simimage *killed = simdisk_snapshot();
        int status = cask_close(db);

        assert_true(status == CASK_OK || status == CASK_ENOSPC);
        simdisk_set_capacity(0);
        simdisk_load(killed, SIMDISK_SAME_BOOT);
        simimage_release(killed);
        simdisk_set_capacity(kill < 3 ? simdisk_used_bytes() : 0);
        db = open_kind(kind);
        expect_all(db, kind->name);
        put_what_fits(db);
        expect_all(db, kind->name);
    }
    expect_clean(db, kind->name);
    expect_clean_again(db, kind);
}

static void test_a_full_disk_is_opened_after_a_kill(void **state)
{
    with_each_kind(state, kill_while_full);
}

static unsigned none_deleted;

static void delete_while_full(const struct kind *kind)
{
    unsigned deleted = 0;
    struct cask_db *db;

    simdisk_set_full_refuses_files(kind->refuses_files);
    simdisk_set_capacity(128 << 10);
    db = open_kind(kind);
    (void)fill(db, 0);
    for (unsigned key = 0; key < KEYS; key++) {
        int status = version_of[key] ? remove_key(db, key) : CASK_NOTFOUND;

        assert_true(status == CASK_OK || status == CASK_NOTFOUND || status == CASK_ENOSPC);
        deleted += status == CASK_OK;
    }
    print_message("%s: %u deletes on a full disk\n", kind->name, deleted);
    none_deleted += deleted == 0;
    expect_clean(db, kind->name);
    simdisk_set_capacity(0);
    expect_clean_again(db, kind);
}

static void test_deletes_go_on_for_a_while_on_a_full_disk(void **state)
{
    with_each_kind(state, delete_while_full);
    assert_int_equal(none_deleted, 0);
}

/* Inodes run out before blocks do. */
static void test_running_out_of_inodes_is_a_full_disk(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct cask_db *db;

        start(state);
        simdisk_set_inode_limit(20);
        db = open_kind(&kinds[i]);
        assert_true(fill(db, 0) > 20);
        expect_all(db, kinds[i].name);
        simdisk_set_inode_limit(0);
        for (unsigned key = 0; key < 40; key++)
            assert_int_equal(put(db, key), CASK_OK);
        expect_clean(db, kinds[i].name);
        assert_int_equal(cask_close(db), CASK_OK);
        db = open_kind(&kinds[i]);
        expect_clean(db, kinds[i].name);
        assert_int_equal(cask_close(db), CASK_OK);
    }
}

static void test_a_store_is_not_half_made_on_a_full_disk(void **state)
{
    struct cask_options options = options_of(&kinds[0]);
    struct cask_db *db;

    (void)state;
    for (uint64_t inodes = 1; inodes < 6; inodes++) {
        struct simimage *image;

        simdisk_set_inode_limit(inodes);
        if (cask_open("/s", &options, &db) == CASK_OK) {
            assert_int_equal(cask_close(db), CASK_OK);
            break;
        }
        image = simdisk_snapshot();
        assert_int_equal(image->count, 0); /* nothing was created */
        simimage_release(image);
    }
    simdisk_set_inode_limit(0);
    db = open_kind(&kinds[0]);
    assert_int_equal(put(db, 1), CASK_OK);
    assert_int_equal(cask_close(db), CASK_OK);
}

static void expect_same_files(const struct simimage *before, const char *when)
{
    struct simimage *after = simdisk_snapshot();
    char path[256];

    if (simimage_differs(before, after, path, sizeof path))
        fail_msg("%s: %s has changed", when, path);
    simimage_release(after);
}

static void test_a_read_only_disk_is_read_and_not_written(void **state)
{
    struct cask_options options = options_of(&kinds[0]);
    struct cask_db *db = open_kind(&kinds[0]);
    struct simimage *before;

    (void)state;
    for (unsigned key = 0; key < 60; key++)
        assert_int_equal(put(db, key), CASK_OK);
    assert_int_equal(cask_close(db), CASK_OK);
    before = simdisk_snapshot();
    simdisk_set_read_only(true);
    assert_int_equal(cask_open("/s", &options, &db), CASK_EROFS);
    assert_int_equal(cask_open("/t", &options, &db), CASK_EROFS);
    options.read_only = 1;
    assert_int_equal(cask_open("/s", &options, &db), CASK_OK);
    expect_clean(db, "read-only");
    assert_int_equal(put(db, 1), CASK_EREADONLY);
    assert_int_equal(cask_close(db), CASK_OK);
    expect_same_files(before, "a read-only disk");
    simimage_release(before);
    simdisk_set_read_only(false);
}

/* Killed in the middle of a rotation, then looked at: an inspection repairs nothing. */
static void test_a_read_only_open_changes_nothing_after_a_kill(void **state)
{
    struct cask_options options = options_of(&kinds[0]);
    struct cask_db *db = open_kind(&kinds[0]);
    struct simimage *killed;

    (void)state;
    for (unsigned key = 0; key < 100; key++)
        assert_int_equal(put(db, key % 70), CASK_OK);
    killed = simdisk_snapshot();
    assert_int_equal(cask_close(db), CASK_OK);
    simdisk_load(killed, SIMDISK_SAME_BOOT);
    options.read_only = 1;
    assert_int_equal(cask_open("/s", &options, &db), CASK_OK);
    expect_clean(db, "read-only after a kill");
    assert_int_equal(cask_close(db), CASK_OK);
    expect_same_files(killed, "a read-only open");
    simimage_release(killed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_full_disk_is_survived_without_reopening),
        TEST(test_a_full_disk_can_be_closed_and_opened),
        TEST(test_a_full_disk_is_opened_after_a_kill),
        TEST(test_deletes_go_on_for_a_while_on_a_full_disk),
        TEST(test_running_out_of_inodes_is_a_full_disk),
        TEST(test_a_store_is_not_half_made_on_a_full_disk),
        TEST(test_a_read_only_disk_is_read_and_not_written),
        TEST(test_a_read_only_open_changes_nothing_after_a_kill),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    simdisk_finish();
    return failed;
}
