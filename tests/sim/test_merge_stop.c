/* What cask_merge() says when one shard fails and those beside it are stopped for that: the reason,
 * not that they were stopped, which is what a caller's progress callback does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "caskade.h"
#include "simdisk.h"

#define PATH "/store"
#define SHARDS 8u
#define KEYS 800u
#define ROUNDS 3u
#define WAITS_MAX 2000u /* of a millisecond */

struct caller {
    struct cask_db *db;
    struct simdisk_fault fault; /* that another shard is to meet */
    unsigned calls;
};

static void pause_1_ms(void)
{
    const struct timespec pause = {0, 1000000};

    (void)nanosleep(&pause, NULL);
}

static struct cask_stats stats_of(struct cask_db *db)
{
    struct cask_stats stats = {.size = sizeof stats};

    assert_int_equal(cask_stats(db, &stats), CASK_OK);
    return stats;
}

static struct cask_db *open_store(void)
{
    const struct cask_options options = {.size = sizeof options,
                                         .shard_count = SHARDS,
                                         .segment_bytes = 2000,
                                         .read_mode = CASK_READ_PREAD,
                                         .write_mode = CASK_WRITE_SYSCALL,
                                         .merge = CASK_SWITCH_OFF};
    struct cask_db *db;

    assert_int_equal(cask_open(PATH, &options, &db), CASK_OK);
    return db;
}

static struct cask_slice key_of(unsigned key, char text[16])
{
    (void)snprintf(text, 16, "key-%u", key);
    return (struct cask_slice){text, strlen(text)};
}

static void put_all(struct cask_db *db)
{
    for (unsigned round = 1; round <= ROUNDS; round++)
        for (unsigned key = 0; key < KEYS; key++) {
            struct cask_slice value = {&round, sizeof round};
            char text[16];

            assert_int_equal(cask_put(db, key_of(key, text), value), CASK_OK);
        }
}

static void check_all(struct cask_db *db)
{
    for (unsigned key = 0; key < KEYS; key++) {
        unsigned round = 0;
        char text[16];

        assert_int_equal(cask_get(db, key_of(key, text), &round, sizeof round, NULL), CASK_OK);
        assert_int_equal(round, ROUNDS);
    }
}

/* Holds the shard that the caller merges until another one has failed, if one is under way. */
static int wait_for_failure(void *context, uint64_t done, uint64_t total)
{
    struct caller *caller = context;

    (void)done;
    (void)total;
    if (caller->calls++ > 0)
        return 0;
    simdisk_set_fault(&caller->fault);
    for (unsigned i = 0; i < WAITS_MAX && stats_of(caller->db).merges_failed == 0; i++)
        pause_1_ms();
    for (unsigned i = 0; i < 20; i++) /* it stops the others as soon as that is counted */
        pause_1_ms();
    return 0;
}

/* False: no merge met the fault. Only its sealing or hints did, or all had been merged when the
 * first call of progress came. */
static bool merge_beside_failure(enum simdisk_call call, int reason)
{
    struct caller caller = {
        .fault = {
            .nth = 1, .calls = SIMDISK_BIT((uint32_t)call), .status = reason, .pattern = "*.data"}};
    struct cask_stats stats;
    int status;

    simdisk_reset(5);
    caller.db = open_store();
    put_all(caller.db);
    status = cask_merge(caller.db, wait_for_failure, &caller);
    simdisk_set_fault(NULL);
    stats = stats_of(caller.db);
    assert_in_range(stats.merges_failed, 0, 1); /* to be stopped is no failure */
    assert_int_equal(stats.merge_last_error, stats.merges_failed == 1 ? reason : CASK_OK);
    assert_true(status == reason || (status == CASK_OK && stats.merges_failed == 0));
    check_all(caller.db);
    assert_int_equal(cask_merge(caller.db, NULL, NULL), CASK_OK);
    check_all(caller.db);
    assert_int_equal(cask_verify(caller.db, NULL, NULL), CASK_OK);
    assert_int_equal(cask_close(caller.db), CASK_OK);
    return stats.merges_failed == 1;
}

static void merge_until_struck(enum simdisk_call call, int reason)
{
    unsigned tries = 0;

    while (!merge_beside_failure(call, reason))
        assert_true(++tries < 50);
}

static void test_a_shard_that_cannot_be_read_is_the_reason(void **state)
{
    (void)state;
    merge_until_struck(SIMDISK_READ, CASK_EIO);
}

static void test_so_is_one_without_descriptors(void **state)
{
    (void)state;
    merge_until_struck(SIMDISK_CREATE, CASK_EMFILE);
}

static int stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
    return 1;
}

static void test_a_callback_that_stops_it_is_the_reason_itself(void **state)
{
    struct cask_db *db;

    (void)state;
    simdisk_reset(5);
    db = open_store();
    put_all(db);
    assert_int_equal(cask_merge(db, stop_at_once, NULL), CASK_EBUSY);
    assert_int_equal(stats_of(db).merges_failed, 0);
    check_all(db);
    assert_int_equal(cask_close(db), CASK_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_shard_that_cannot_be_read_is_the_reason),
        cmocka_unit_test(test_so_is_one_without_descriptors),
        cmocka_unit_test(test_a_callback_that_stops_it_is_the_reason_itself),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    simdisk_finish();
    return failed;
}
