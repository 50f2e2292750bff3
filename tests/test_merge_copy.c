/* merge/copy: what merges write, in pieces larger and smaller than records; and what becomes of
 * segments that were to be merged and were not. */
#include <unistd.h>

#include "unit_merge.h"

#include "log/segment.h"

#define PIECE ((size_t)2 << 20) /* what an output is written in */
#define KEYS 64u
#define STAYING 2000u /* keys that are put once, one behind the other */
#define CHANGING 500u /* and those that are put so often behind them: */
#define CHANGES 40u
#define NEVER UINT64_MAX

/* Of all sizes up to more than a piece, of which some end about where a piece does. */
static size_t size_of_value(uint32_t key)
{
    switch (key % 16) {
    case 3:
        return PIECE + PIECE / 2;
    case 7:
        return PIECE - 100 + key;
    case 11:
        return PIECE / 3;
    default:
        return 40000 + key * 317;
    }
}

static struct cask_slice value_of(uint32_t key, uint32_t version, uint8_t *buffer)
{
    size_t size = size_of_value(key + version);

    model_value_bytes(key, version, buffer, size);
    return slice_bytes(buffer, size);
}

/* Odd versions go to some of the keys alone. */
static bool has_version(uint32_t key, uint32_t version)
{
    return version % 2 == 0 || key % 3 == 1;
}

static void put_all(struct store *store, uint32_t version, uint8_t *buffer)
{
    for (uint32_t key = 0; key < KEYS; key++) {
        char text[24];

        if (!has_version(key, version))
            continue;
        CHECK_OK(cask_put(store->db, book_key(key, text), value_of(key, version, buffer)));
    }
}

static void check_all(struct store *store, uint32_t last_version, uint8_t *buffer)
{
    uint8_t *got = malloc(2 * PIECE);

    assert_non_null(got);
    for (uint32_t key = 0; key < KEYS; key++) {
        uint32_t version = has_version(key, last_version) ? last_version : last_version - 1;
        struct cask_slice expected = value_of(key, version, buffer);
        char text[24];
        size_t size;

        CHECK_OK(cask_get(store->db, book_key(key, text), got, 2 * PIECE, &size));
        CHECK(size == expected.size && memcmp(got, expected.data, size) == 0, "key %u",
              (unsigned)key);
    }
    free(got);
}

static void test_records_of_all_sizes_are_copied_whole(void **state)
{
    uint8_t *buffer = malloc(2 * PIECE);

    (void)state;
    assert_non_null(buffer);
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = store_begin_mode(1, mode, 5 * PIECE);

        for (uint32_t version = 0; version < 4; version++) {
            put_all(store, version, buffer);
            CHECK_OK(cask_merge(store->db, NULL, NULL));
            check_all(store, version, buffer);
        }
        CHECK(stats_of(store).merge_written_bytes > 4 * PIECE, "nothing was copied");
        CHECK_OK(cask_verify(store->db, NULL, NULL));
        store_again(store);
        check_all(store, 3, buffer);
        check_no_errors(store);
        store_end(store);
    }
    free(buffer);
}

static void put_small(struct store *store, uint32_t key, uint32_t version, uint64_t expires_at_ms)
{
    uint8_t value[100];
    char text[24];

    model_value_bytes(key, version, value, sizeof value);
    snprintf(text, sizeof text, "small-%06u", (unsigned)key);
    CHECK_OK(expires_at_ms == NEVER
                 ? cask_put(store->db, slice_of(text), slice_bytes(value, sizeof value))
                 : cask_put_expiring(store->db, slice_of(text), slice_bytes(value, sizeof value),
                                     expires_at_ms));
}

static void check_small(struct store *store, uint32_t first, uint32_t end, uint32_t version)
{
    for (uint32_t key = first; key < end; key++) {
        uint8_t expected[100];
        uint8_t got[100];
        char text[24];
        size_t size;

        model_value_bytes(key, version, expected, sizeof expected);
        snprintf(text, sizeof text, "small-%06u", (unsigned)key);
        CHECK_OK(cask_get(store->db, slice_of(text), got, sizeof got, &size));
        CHECK(size == sizeof got && memcmp(got, expected, size) == 0, "key %u", (unsigned)key);
    }
}

/* Records that stay, and many more behind them of which only the last round stays. */
static void put_dead_behind_living(struct store *store)
{
    for (uint32_t key = 0; key < STAYING; key++)
        put_small(store, key, 1, NEVER);
    for (uint32_t round = 1; round <= CHANGES; round++)
        for (uint32_t key = STAYING; key < STAYING + CHANGING; key++)
            put_small(store, key, round, NEVER);
}

static void check_living(struct store *store)
{
    check_small(store, 0, STAYING, 1);
    check_small(store, STAYING, STAYING + CHANGING, CHANGES);
}

static void test_dead_records_are_not_read(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = store_begin_mode(1, mode, (uint64_t)1 << 20);
        struct cask_stats before;
        struct cask_stats after;

        put_dead_behind_living(store);
        before = stats_of(store);
        CHECK_OK(cask_merge(store->db, NULL, NULL));
        after = stats_of(store);
        CHECK(after.dead_bytes < before.dead_bytes / 50, "%llu bytes are dead still",
              (unsigned long long)after.dead_bytes);
        CHECK(after.merge_read_bytes < before.live_bytes + before.live_bytes / 2,
              "%llu bytes were read, where %llu live", (unsigned long long)after.merge_read_bytes,
              (unsigned long long)before.live_bytes);
        check_living(store);
        CHECK_OK(cask_verify(store->db, NULL, NULL));
        store_again(store);
        CHECK(stats_of(store).hints_rebuilt == 0, "an output is without its hint");
        check_living(store);
        check_no_errors(store);
        store_end(store);
    }
}

/* What has expired is in the index, so that alone does not tell what lives. */
static void test_expired_records_go_where_others_stay(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = store_begin_mode(1, mode, (uint64_t)1 << 20);

        for (uint32_t key = STAYING + CHANGING; key < 2 * (STAYING + CHANGING); key++)
            put_small(store, key, 1, LONG_AGO);
        put_dead_behind_living(store);
        CHECK_OK(cask_merge(store->db, NULL, NULL));
        check_living(store);
        CHECK(stats_of(store).live_bytes < 3 * UINT64_C(100) * (STAYING + CHANGING) / 2,
              "%llu bytes live", (unsigned long long)stats_of(store).live_bytes);
        store_again(store);
        check_living(store);
        check_no_errors(store);
        store_end(store);
    }
}

static void damage_first_record(struct store *store)
{
    const char *path = shard_path(store->path, 0, "1.data");
    size_t size;
    uint8_t *file = read_whole_file(path, &size);

    file[SEGMENT_HEADER_BYTES + 40] ^= 0x40;
    write_file(path, file, size);
    free(file);
    tree_remove(shard_path(store->path, 0, "1.hint"));
}

/* Which key the damaged record was of, and whether it is dead, nobody knows: it stays, though the
 * index has no need of it. */
static void test_damage_that_the_index_does_not_know_of_keeps_its_segment(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = store_begin_mode(1, mode, 16384);

        store_down(store);
        store->options.merge = CASK_SWITCH_OFF;
        store_up(store);
        for (uint32_t version = 1; version <= 2; version++)
            for (uint32_t key = 0; key < 400; key++)
                put_small(store, key, version, NEVER);
        store_down(store);
        damage_first_record(store);
        store_up(store);
        CHECK_STATUS(cask_merge(store->db, NULL, NULL), CASK_ECORRUPT);
        CHECK(has_segment(store, 1), "the damaged segment is gone");
        CHECK(stats_of(store).dead_bytes < 2 * 16384, "the others were not merged");
        check_small(store, 0, 400, 2);
        store_end(store);
    }
}

static int stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    ++*(unsigned *)context;
    return 1;
}

/* Segments are called sealed without a hint where a merge is about to read them. One that is
 * stopped must not leave them so: the next open would have to read them. */
static void test_a_merge_that_is_stopped_leaves_no_segment_without_its_hint(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = store_begin_mode(1, mode, 4096);
        struct book book = {0};
        unsigned calls = 0;

        for (unsigned round = 0; round < 4; round++)
            book_put_range(&book, store->db, 0, BOOK_KEYS);
        CHECK_STATUS(cask_merge(store->db, stop_at_once, &calls), CASK_EBUSY);
        CHECK(calls > 0, "the merge was not stopped");
        CHECK_OK(cask_verify(store->db, NULL, NULL));
        store_again(store);
        CHECK(stats_of(store).hints_rebuilt == 0, "segments are without their hints");
        book_check_range(&book, store->db, 0, BOOK_KEYS);
        check_no_errors(store);
        store_end(store);
    }
}

static void remove_hints(struct store *store)
{
    for (unsigned id = 1; id < 200; id++) {
        char name[24];

        snprintf(name, sizeof name, "%u.hint", id);
        (void)unlink(shard_path(store->path, 0, name));
    }
}

/* What reads a segment without its hint leaves out the pieces of a batch that has no end. */
static void test_a_copied_record_is_whole_without_its_batch(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = store_begin_mode(1, mode, 4096);
        struct book book = {.last_version = 0};

        for (unsigned round = 0; round < 4; round++) {
            book_batch(&book, store->db, 0, BOOK_KEYS / 2);
            book_put_range(&book, store->db, BOOK_KEYS / 2, BOOK_KEYS);
        }
        merge_all(store);
        CHECK(stats_of(store).merges > 0, "nothing was merged");
        store_down(store);
        remove_hints(store);
        store_up(store);
        CHECK(stats_of(store).hints_rebuilt > 0, "there were hints still");
        book_check(&book, store->db);
        check_no_errors(store);
        store_end(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_of_all_sizes_are_copied_whole),
        cmocka_unit_test(test_dead_records_are_not_read),
        cmocka_unit_test(test_expired_records_go_where_others_stay),
        cmocka_unit_test(test_damage_that_the_index_does_not_know_of_keeps_its_segment),
        cmocka_unit_test(test_a_merge_that_is_stopped_leaves_no_segment_without_its_hint),
        cmocka_unit_test(test_a_copied_record_is_whole_without_its_batch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
