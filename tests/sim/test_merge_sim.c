/* Merging on the simulated machine.
 *
 *   H2   each call of io.h and each allocation of a merge fails in turn, once and for good: the
 *        inputs and the index stay as they were, the statistics tell, later merges succeed, and no
 *        file stays after reopening
 *   T12  a clock that stands still or goes back
 *        a disk that fills up is recovered by deleting and merging, without reopening
 *
 *   test_merge_sim [PATTERN]   only the tests whose names match
 *   CASKADE_FAULT_FIRST=n      begin with the nth call
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support_spill.h"
#include "allocfail.h"
#include "known.h"
#include "merge/merge.h"
#include "simdisk.h"
#include "store/store.h"

#define VALUE_ROOM 512u
#define SWEEP_MAX 5000u

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "malloc_context_size=8:quarantine_size_mb=16:max_malloc_fill_size=0";
}

/* ---- H2 -------------------------------------------------------------------------------------- */

struct sweep {
    const char *name;
    struct cask_options options;
    struct simdisk_fault fault; /* without nth; calls 0: allocations */
};

#define ONCE .persistent = false
#define FOR_GOOD .persistent = true
#define EVERY_CALL .calls = SIMDISK_ALL_CALLS, .status = CASK_EIO
#define SPACE .calls = SIMDISK_SPACE_CALLS, .status = CASK_ENOSPC
#define DESCRIPTORS .calls = SIMDISK_DESCRIPTOR_CALLS, .status = CASK_EMFILE

static const struct sweep sweeps[] = {
    {"eio_once_whole", WHOLE(MAPPED, MAPPED), {EVERY_CALL, ONCE}},
    {"eio_once_pieces", PIECES(SYSCALL, PREAD), {EVERY_CALL, ONCE}},
    {"eio_once_shards", SHARDS(MAPPED, PREAD), {EVERY_CALL, ONCE}},
    {"eio_short_once_pieces", PIECES(SYSCALL, MAPPED), {EVERY_CALL, ONCE, .short_permille = 400}},
    {"eio_late_once_whole", WHOLE(SYSCALL, PREAD), {EVERY_CALL, ONCE, .short_permille = 1000}},
    {"eio_for_good_whole", WHOLE(MAPPED, PREAD), {EVERY_CALL, FOR_GOOD}},
    {"eio_for_good_pieces", PIECES(SYSCALL, MAPPED), {EVERY_CALL, FOR_GOOD}},
    {"enospc_once_whole", WHOLE(MAPPED, MAPPED), {SPACE, ONCE, .short_permille = 500}},
    {"enospc_for_good_pieces", PIECES(SYSCALL, PREAD), {SPACE, FOR_GOOD}},
    {"enospc_for_good_shards", SHARDS(MAPPED, MAPPED), {SPACE, FOR_GOOD, .short_permille = 300}},
    {"emfile_once_pieces", PIECES(MAPPED, PREAD), {DESCRIPTORS, ONCE}},
    {"emfile_for_good_whole", WHOLE(SYSCALL, MAPPED), {DESCRIPTORS, FOR_GOOD}},
    {"memory_once_whole", WHOLE(MAPPED, PREAD), {ONCE}},
    {"memory_once_pieces", PIECES(SYSCALL, MAPPED), {ONCE}},
    {"memory_for_good_shards", SHARDS(MAPPED, MAPPED), {FOR_GOOD}},
};
#define SWEEPS (sizeof sweeps / sizeof *sweeps)

static void fault_on(const struct sweep *sweep, uint64_t nth)
{
    struct simdisk_fault fault = sweep->fault;

    fault.nth = nth;
    if (sweep->fault.calls == 0)
        allocfail_set(nth, sweep->fault.persistent);
    else
        simdisk_set_fault(&fault);
}

static bool fault_off(const struct sweep *sweep, char *ret_place, size_t size)
{
    uint64_t hits = sweep->fault.calls == 0 ? allocfail_hits() : simdisk_fault_hits();

    snprintf(ret_place, size, "%s",
             sweep->fault.calls == 0 ? allocfail_place() : simdisk_fault_place());
    allocfail_set(0, false);
    simdisk_set_fault(NULL);
    return hits > 0;
}

static bool is_segment(const struct simimage_entry *entry)
{
    const char *dot = strrchr(entry->name, '.');

    return entry->blob && dot && strcmp(dot, ".data") == 0;
}

/* Every segment that there was is there, with the same bytes as far as both reach: an active one
 * may have got its seal, and have been cut to its length. */
static void check_inputs(const struct known *store, const char *where)
{
    struct simimage *now = simdisk_snapshot();

    for (size_t i = 0; i < store->before_merge->count; i++) {
        const struct simimage_entry *entry = &store->before_merge->entries[i];
        const struct simimage_entry *same;
        size_t common;
        char path[200];

        if (!is_segment(entry))
            continue;
        simimage_path(store->before_merge, entry, path, sizeof path);
        same = simimage_find(now, path);
        if (!same || !same->blob)
            fail_msg("%s: %s is gone", where, path);
        common = entry->blob->size < same->blob->size ? entry->blob->size : same->blob->size;
        while (common > 0 && entry->blob->bytes[common - 1] == 0)
            common--; /* room that was not used yet */
        if (memcmp(entry->blob->bytes, same->blob->bytes, common) != 0)
            fail_msg("%s: %s has changed", where, path);
    }
    simimage_release(now);
}

static bool is_documented(int status)
{
    return status == CASK_OK || status == CASK_ENOSPC || status == CASK_EIO ||
           status == CASK_ENOMEM || status == CASK_EMFILE;
}

/* What must hold right after a merge that met a fault. */
static void check_failed_merge(struct known *store, int status, const char *where)
{
    struct cask_stats stats = known_stats(store);

    if (!is_documented(status))
        fail_msg("%s: cask_merge says %s", where, cask_strerror(status));
    if (status != CASK_OK && stats.merges == 0)
        check_inputs(store, where);
    if ((status != CASK_OK || stats.merges_failed > 0) && stats.merge_last_error == CASK_OK)
        fail_msg("%s: no last error in the statistics", where);
    known_check(store, where);
}

/* It succeeds, unless the shard has failed for good: then writes fail as well. */
static void check_next_merge(struct known *store, const char *where)
{
    int status = cask_merge(store->db, NULL, NULL);
    int write_status = CASK_OK;

    for (unsigned key = 0; status != CASK_OK && write_status == CASK_OK && key < KEYS; key++)
        write_status = known_try_put(store, key);
    if (status != CASK_OK && (status != CASK_EIO || write_status != CASK_EIO))
        fail_msg("%s: the next merge says %s, writes %s", where, cask_strerror(status),
                 cask_strerror(write_status));
}

/* The nth call of a merge fails. Returns whether there was an nth. */
static bool attempt(const struct sweep *sweep, uint64_t nth)
{
    struct known store;
    char place[320];
    char where[400];
    bool struck;
    int status;

    known_begin(&store, &sweep->options);
    known_build(&store);
    EXPECT(cask_sync(store.db), CASK_OK);
    store.before_merge = simdisk_snapshot();
    fault_on(sweep, nth);
    status = cask_merge(store.db, NULL, NULL);
    struck = fault_off(sweep, place, sizeof place);
    snprintf(where, sizeof where, "%s: call %llu (%s)", sweep->name, (unsigned long long)nth,
             place);
    check_failed_merge(&store, status, where);
    check_next_merge(&store, where);
    known_check(&store, where);
    status = cask_close(store.db);
    store.db = NULL;
    if (status != CASK_OK && status != CASK_EIO)
        fail_msg("%s: closing says %s", where, cask_strerror(status));
    known_open(&store);
    known_check(&store, where);
    EXPECT(cask_merge(store.db, NULL, NULL), CASK_OK);
    EXPECT(cask_verify(store.db, NULL, NULL), CASK_OK);
    known_check(&store, where);
    known_close(&store);
    check_no_strays(where);
    known_end(&store);
    return struck;
}

static void test_sweep(void **state)
{
    const struct sweep *sweep = *state;
    const char *first = getenv("CASKADE_FAULT_FIRST");
    uint64_t nth = first ? strtoull(first, NULL, 0) : 1;
    bool struck = true;

    for (; struck && nth < SWEEP_MAX; nth++)
        struck = attempt(sweep, nth);
    assert_false(struck); /* the last one met no fault */
    assert_true(nth > 5);
    print_message("%s: %llu calls failed\n", sweep->name, (unsigned long long)nth - 2);
}

/* ---- T12: clocks ----------------------------------------------------------------------------- */

static void merge_and_check(struct known *store, const char *when)
{
    EXPECT(cask_merge(store->db, NULL, NULL), CASK_OK);
    known_check(store, when);
    known_close(store);
    known_open(store);
    known_check(store, when);
}

/* T12: the clock stands still: order is that of the sequence numbers alone. */
static void test_with_a_clock_that_stands_still_the_newest_wins(void **state)
{
    const struct cask_options options = PIECES(MAPPED, MAPPED);
    struct known store;

    (void)state;
    known_begin(&store, &options);
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned key = 0; key < KEYS; key++) {
            EXPECT(known_try_put(&store, key), CASK_OK);
            if ((key + round) % 3 == 0)
                known_delete(&store, key);
            if ((key + round) % 4 == 0)
                EXPECT(known_try_put(&store, key), CASK_OK);
        }
        merge_and_check(&store, "the clock stands still");
    }
    known_end(&store);
}

/* T12: the clock goes back: each step writes at an earlier time, and merges. */
static void test_with_a_clock_that_goes_back_the_newest_wins(void **state)
{
    const struct cask_options options = PIECES(SYSCALL, PREAD);
    struct known store;

    (void)state;
    known_begin(&store, &options);
    for (unsigned round = 0; round < 6; round++) {
        simdisk_set_clock_ms(NOW_MS - round * 86400000);
        for (unsigned key = 0; key < KEYS; key++) {
            EXPECT(known_try_put(&store, key), CASK_OK);
            if ((key + round) % 3 == 0)
                known_delete(&store, key);
        }
        merge_and_check(&store, "the clock went back");
    }
    known_end(&store);
}

/* What has expired may come back with the clock, until it is merged away; what it replaced must
 * never. */
static void test_with_a_clock_that_goes_back_nothing_older_comes_back(void **state)
{
    const struct cask_options options[] = {PIECES(MAPPED, PREAD), WHOLE(SYSCALL, MAPPED)};

    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        struct known store;

        known_begin(&store, &options[i]);
        for (unsigned key = 0; key < KEYS; key++)
            EXPECT(known_try_put(&store, key), CASK_OK);
        for (unsigned key = 0; key < KEYS; key += 2)
            known_put_until(&store, key, NOW_MS + 1000);
        known_check(&store, "not expired yet");
        simdisk_set_clock_ms(NOW_MS + 2000);
        EXPECT(known_try_put(&store, 1), CASK_OK);
        EXPECT(cask_merge(store.db, NULL, NULL), CASK_OK);
        simdisk_set_clock_ms(NOW_MS);
        for (unsigned key = 0; key < KEYS; key += 2) {
            uint8_t bytes[VALUE_ROOM];
            size_t size;
            int status = cask_get(store.db, history_key(key), bytes, sizeof bytes, &size);

            assert_true(status == CASK_NOTFOUND || status == CASK_OK);
            if (status == CASK_OK)
                assert_int_equal(bytes[1] | (unsigned)bytes[2] << 8, store.version[key]);
            else
                store.version[key] = 0; /* merged away: for good */
        }
        merge_and_check(&store, "the clock went back");
        simdisk_set_clock_ms(NOW_MS + 2000);
        for (unsigned key = 0; key < KEYS; key += 2)
            store.version[key] = 0;
        merge_and_check(&store, "the clock went forth again");
        known_end(&store);
    }
}

/* ---- records that cannot be read for a while ------------------------------------------------- */

static void delete_in_a_batch(struct known *store, unsigned first, unsigned step)
{
    struct cask_batch *batch;

    EXPECT(cask_batch_create(store->db, &batch), CASK_OK);
    for (unsigned key = first; key < KEYS; key += step) {
        EXPECT(cask_batch_delete(batch, history_key(key)), CASK_OK);
        store->version[key] = 0;
    }
    EXPECT(cask_write(store->db, batch), CASK_OK);
    cask_batch_destroy(batch);
}

/* A batch deletes what it cannot read. From then on the index has the tombstones' entries beside
 * those of the puts, and a merge that takes the ones away must not leave the others. */
static void delete_unread(const struct cask_options *options, bool spilled)
{
    const struct simdisk_fault unreadable = {
        .nth = 1, .calls = SIMDISK_BIT(SIMDISK_READ), .status = CASK_EIO, .persistent = true};
    struct known store;

    known_begin(&store, options);
    EXPECT(known_try_put(&store, 0), CASK_OK);
    if (spilled)
        EXPECT(cask_flush_index(store.db), CASK_OK);
    for (unsigned key = 0; key < KEYS; key++)
        EXPECT(known_try_put(&store, key), CASK_OK);
    (void)known_stats(&store); /* empties the stage */
    simdisk_set_fault(&unreadable);
    delete_in_a_batch(&store, 0, 2);
    (void)known_stats(&store);
    simdisk_set_fault(NULL);
    known_check(&store, "deleted unread");
    merge_and_check(&store, "deleted unread, and merged");
    known_end(&store);
}

static void test_what_was_deleted_unread_does_not_come_back(void **state)
{
    const struct cask_options options[] = {PIECES(SYSCALL, PREAD), WHOLE(MAPPED, PREAD)};

    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        delete_unread(&options[i], false);
        delete_unread(&options[i], true);
    }
}

/* An open that goes on where one record cannot be read, which it may compare with a tombstone of
 * the same key, or with a newer put. */
static void test_an_open_that_cannot_read_a_record_brings_nothing_back(void **state)
{
    const struct cask_options options = PIECES(SYSCALL, PREAD);
    struct simdisk_fault fault = {.calls = SIMDISK_BIT(SIMDISK_READ), .status = CASK_EIO};
    struct simimage *image;
    uint64_t opened = 0;
    bool struck = true;
    struct known store;

    (void)state;
    known_begin(&store, &options);
    for (unsigned key = 0; key < KEYS; key++)
        EXPECT(known_try_put(&store, key), CASK_OK);
    for (unsigned key = 0; key < KEYS; key += 2)
        known_delete(&store, key);
    for (unsigned key = 0; key < KEYS; key += 4)
        EXPECT(known_try_put(&store, key), CASK_OK);
    known_close(&store);
    image = simdisk_snapshot();
    for (fault.nth = 1; struck && fault.nth < SWEEP_MAX; fault.nth++) {
        int status;

        simdisk_load(image, SIMDISK_SAME_BOOT);
        simdisk_set_fault(&fault);
        status = cask_open(PATH, &store.options, &store.db);
        struck = simdisk_fault_hits() > 0;
        simdisk_set_fault(NULL);
        if (status != CASK_OK) {
            assert_int_equal(status, CASK_EIO);
            continue;
        }
        opened += struck;
        known_check(&store, "opened in spite of a read that failed");
        EXPECT(cask_merge(store.db, NULL, NULL), CASK_OK);
        known_check(&store, "opened in spite of a read that failed, and merged");
        known_close(&store);
    }
    assert_false(struck);
    assert_in_range(opened, 1, SWEEP_MAX);
    simimage_release(image);
    known_end(&store);
}

/* Two versions of each key, the index of each in a run of its own. Returns the first segment
 * without older ones. */
static uint64_t put_in_two_runs(struct known *store)
{
    uint64_t id;

    for (unsigned key = 0; key < KEYS; key++)
        EXPECT(known_try_put(store, key), CASK_OK);
    EXPECT(spill_all(store->db), CASK_OK);
    id = store->db->shards[0].active->id + 1;
    for (unsigned round = 0; round < 2; round++)
        for (unsigned key = 0; key < KEYS; key++)
            EXPECT(known_try_put(store, key), CASK_OK);
    EXPECT(spill_all(store->db), CASK_OK);
    return id;
}

/* Merges the sealed segments below that one, as a merge in the background may. */
static int merge_below(struct known *store, uint64_t id)
{
    struct shard *shard = &store->db->shards[0];
    struct segment *inputs[64];
    struct segment *segment;
    size_t count = 0;
    int status;

    pthread_mutex_lock(&shard->merge_lock);
    pthread_mutex_lock(&shard->lock);
    segment = segments_at_or_after(&shard->segments, 0);
    for (; segment && segment->id < id;
         segment = segments_at_or_after(&shard->segments, segment->id + 1))
        if (segment->sealed)
            inputs[count++] = segment;
    pthread_mutex_unlock(&shard->lock);
    assert_in_range(count, 2, 60);
    status = merge_segments(shard, inputs, count, 500, NULL);
    pthread_mutex_unlock(&shard->merge_lock);
    return status;
}

/* A merge of older records that cannot read, for once, the newer one which another run leads to:
 * it moves no older one to the top of the index. */
static void test_a_merge_that_cannot_read_newer_records_brings_nothing_back(void **state)
{
    const struct cask_options options = PIECES(SYSCALL, PREAD);
    struct simdisk_fault fault = {.calls = SIMDISK_BIT(SIMDISK_READ), .status = CASK_EIO};
    struct simimage *image;
    uint64_t failed = 0;
    bool struck = true;
    struct known store;
    uint64_t id;

    (void)state;
    known_begin(&store, &options);
    id = put_in_two_runs(&store);
    known_close(&store);
    image = simdisk_snapshot();
    for (fault.nth = 1; struck && fault.nth < SWEEP_MAX; fault.nth++) {
        int status;

        simdisk_load(image, SIMDISK_SAME_BOOT);
        known_open(&store);
        assert_int_equal(known_stats(&store).index_runs, 2);
        simdisk_set_fault(&fault);
        status = merge_below(&store, id);
        struck = simdisk_fault_hits() > 0;
        simdisk_set_fault(NULL);
        failed += status != CASK_OK;
        known_check(&store, "merged in spite of a read that failed");
        known_close(&store);
    }
    assert_false(struck);
    assert_in_range(failed, 1, SWEEP_MAX);
    simimage_release(image);
    known_end(&store);
}

/* ---- full disks ------------------------------------------------------------------------------ */

#define MANY 4000u

static struct cask_slice many_key(unsigned key, char text[16])
{
    snprintf(text, 16, "many%05u", key);
    return (struct cask_slice){text, strlen(text)};
}

static unsigned fill_disk(struct cask_db *db)
{
    static const char value[300] = "filler";
    unsigned refused = 0;
    unsigned key = 0;

    for (; key < MANY && refused < 40; key++) {
        char text[16];
        int status = cask_put(db, many_key(key, text), (struct cask_slice){value, sizeof value});

        assert_true(status == CASK_OK || status == CASK_ENOSPC);
        refused = status == CASK_OK ? 0 : refused + 1;
    }
    assert_int_equal(refused, 40);
    return key;
}

/* Deletes keys but for every `spare`th (0: all), as far as there is room for tombstones, and
 * merges, by turns. Returns how many there are that cannot be deleted. */
static unsigned empty_disk(struct cask_db *db, unsigned end, unsigned spare)
{
    unsigned left = 1;

    for (unsigned round = 0; round < 60 && left > 0; round++) {
        int status = CASK_OK;

        left = 0;
        for (unsigned key = 0; key < end; key++) {
            char text[16];

            if (spare != 0 && key % spare == 0)
                continue;
            if (status != CASK_ENOSPC)
                status = cask_delete(db, many_key(key, text));
            assert_true(status == CASK_OK || status == CASK_NOTFOUND || status == CASK_ENOSPC);
            left += status == CASK_ENOSPC;
        }
        status = cask_merge(db, NULL, NULL);
        assert_true(status == CASK_OK || status == CASK_ENOSPC);
    }
    return left;
}

static void recover_full_disk(const struct cask_options *options, bool refuses_files,
                              unsigned spare)
{
    struct known store;
    unsigned first;
    unsigned again;

    known_begin(&store, options);
    simdisk_set_full_refuses_files(refuses_files);
    simdisk_set_capacity(256 << 10);
    first = fill_disk(store.db);
    assert_true(first > 200);
    if (empty_disk(store.db, first, spare) > 0)
        fail_msg("keys cannot be deleted: write mode %d, new files refused: %d, spared: %u",
                 (int)options->write_mode, refuses_files, spare);
    again = fill_disk(store.db);
    again += spare == 0 ? 0 : first / spare; /* these are there still */
    if (again < first / 2)
        fail_msg("only %u of %u keys fit again", again, first);
    simdisk_set_capacity(0);
    known_close(&store);
    known_open(&store);
    EXPECT(cask_verify(store.db, NULL, NULL), CASK_OK);
    known_end(&store);
}

static void test_a_full_disk_is_recovered_by_deleting_everything_and_merging(void **state)
{
    const struct cask_options options[] = {
        {.shard_count = 2, .segment_bytes = 6000, .write_mode = CASK_WRITE_MAPPED},
        {.shard_count = 1, .segment_bytes = 20000, .write_mode = CASK_WRITE_SYSCALL}};

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        recover_full_disk(&options[i / 2], i % 2 == 1, 0);
}

static void test_a_full_disk_is_recovered_by_deleting_much_and_merging(void **state)
{
    const struct cask_options options[] = {
        {.shard_count = 2,
         .segment_bytes = 6000,
         .write_mode = CASK_WRITE_MAPPED,
         .merge = CASK_SWITCH_OFF},
        {.shard_count = 1, .segment_bytes = 20000, .write_mode = CASK_WRITE_SYSCALL}};

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        recover_full_disk(&options[i / 2], i % 2 == 1, 4);
}

/* ---- main ------------------------------------------------------------------------------------ */

int main(int argc, char **argv)
{
    const struct CMUnitTest others[] = {
        cmocka_unit_test(test_with_a_clock_that_stands_still_the_newest_wins),
        cmocka_unit_test(test_with_a_clock_that_goes_back_the_newest_wins),
        cmocka_unit_test(test_with_a_clock_that_goes_back_nothing_older_comes_back),
        cmocka_unit_test(test_what_was_deleted_unread_does_not_come_back),
        cmocka_unit_test(test_an_open_that_cannot_read_a_record_brings_nothing_back),
        cmocka_unit_test(test_a_merge_that_cannot_read_newer_records_brings_nothing_back),
        cmocka_unit_test(test_a_full_disk_is_recovered_by_deleting_everything_and_merging),
        cmocka_unit_test(test_a_full_disk_is_recovered_by_deleting_much_and_merging),
    };
    struct CMUnitTest tests[SWEEPS + sizeof others / sizeof *others];
    int failed;

    for (size_t i = 0; i < SWEEPS; i++) {
        tests[i] = (struct CMUnitTest)cmocka_unit_test(test_sweep);
        tests[i].name = sweeps[i].name;
        tests[i].initial_state = (void *)(uintptr_t)&sweeps[i];
    }
    memcpy(tests + SWEEPS, others, sizeof others);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    simdisk_finish();
    return failed;
}
