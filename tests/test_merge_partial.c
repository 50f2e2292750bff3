/* Merges that take some segments of a shard and leave others: what the others hold of older
 * versions must stay hidden. Segments are chosen by the store itself, by the shares that are dead,
 * and the first one, which is mostly live, stays.
 */
#include <fcntl.h>
#include <unistd.h>

#include "unit_merge.h"

#define VICTIMS 8u

/* Waits until the worker has merged and has nothing to do any more. */
static void wait_for_merges(struct store *store)
{
    uint64_t merges = 0;
    unsigned quiet = 0;

    for (unsigned i = 0; i < 3000 && (quiet < 20 || merges == 0); i++) {
        uint64_t now = stats_of(store).merges;

        quiet = now == merges ? quiet + 1 : 0;
        merges = now;
        pause_us(5000);
    }
    CHECK(merges > 0, "nothing was merged; %s", store->lines.text);
    CHECK(stats_of(store).merges_failed == 0, "%s", store->lines.text);
}

/* A store of one shard that merges by itself whatever is mostly dead. */
static struct race *race_begin_automatic(unsigned segment_percent)
{
    struct race *race = calloc(1, sizeof *race);

    assert_non_null(race);
    race->store = store_make(1);
    race->store->options.segment_bytes = 4096;
    race->store->options.merge_trigger_percent = 5;
    race->store->options.merge_segment_percent = segment_percent;
    store_up(race->store);
    return race;
}

/* Keys of no book, that take up room. */
static void put_filler(struct store *store, unsigned first, unsigned end)
{
    static const char bytes[200] = "filler";
    char key[32];

    for (unsigned i = first; i < end; i++) {
        snprintf(key, sizeof key, "filler-%u", i);
        CHECK_OK(cask_put(store->db, slice_of(key), slice_bytes(bytes, sizeof bytes)));
    }
}

/* Of the first segment, as soon as it is there. */
static void lose_hint(struct store *store)
{
    const char *path = shard_path(store->path, 0, "1.hint");

    for (unsigned i = 0; i < 2000 && !path_exists(path); i++)
        pause_us(5000);
    CHECK(unlink(path) == 0, "%s is not there", path);
}

/* And one of its records that no book knows. */
static void lose_hint_and_record(struct store *store)
{
    const char *path = shard_path(store->path, 0, "1.data");
    uint8_t *bytes;
    uint8_t *at;
    size_t size;
    int file;

    lose_hint(store);
    bytes = read_whole_file(path, &size);
    at = memmem(bytes, size, "filler-3", 8);
    CHECK(at, "it is not in the first segment");
    file = open(path, O_WRONLY);
    CHECK(file >= 0 && pwrite(file, "x", 1, at - bytes) == 1, "%s", path);
    close(file);
    free(bytes);
}

/* The first segment holds old versions of keys and stays, being mostly live; newer records of the
 * same keys lie in segments that are merged. */
static struct race *merge_beside_the_first_segment(void (*renew)(struct book *, struct cask_db *,
                                                                 uint32_t),
                                                   void (*spoil)(struct store *))
{
    struct race *race = race_begin_automatic(60);
    struct store *store = race->store;

    for (uint32_t key = 0; key < VICTIMS; key++) {
        book_put(&race->book, store->db, key);
        put_filler(store, key * 2, key * 2 + 2);
    }
    put_filler(store, 100, 130);
    if (spoil)
        spoil(store);
    for (uint32_t key = 0; key < VICTIMS; key++)
        renew(&race->book, store->db, key);
    for (unsigned round = 0; round < 12; round++)
        put_filler(store, 100, 130);
    wait_for_merges(store);
    CHECK(has_segment(store, 1), "the merge was not partial");
    book_check_range(&race->book, store->db, 0, VICTIMS);
    store->options.merge = CASK_SWITCH_OFF;
    store->options.merge_trigger_percent = 0;
    store->options.merge_segment_percent = 0;
    return race;
}

static void merge_around_the_first_segment(void (*renew)(struct book *, struct cask_db *, uint32_t),
                                           bool without_hint)
{
    struct race *race = merge_beside_the_first_segment(renew, without_hint ? lose_hint : NULL);
    struct store *store = race->store;

    if (!without_hint) /* it would say so */
        CHECK_OK(cask_verify(store->db, NULL, NULL));
    store_again(store);
    book_check_range(&race->book, store->db, 0, VICTIMS);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_OK(cask_merge(store->db, NULL, NULL));
        book_check_range(&race->book, store->db, 0, VICTIMS);
        store_again(store);
        book_check_range(&race->book, store->db, 0, VICTIMS);
    }
    CHECK_OK(cask_verify(store->db, NULL, NULL));
    check_no_errors(store);
    store_down(store);
    check_no_strays(store->path);
    store_end(store);
    free(race);
}

/* T1 */
static void test_a_partial_merge_brings_no_deleted_key_back(void **state)
{
    (void)state;
    merge_around_the_first_segment(book_delete, false);
}

static void expire_after_delete(struct book *book, struct cask_db *db, uint32_t key)
{
    book_delete(book, db, key);
    book_expire(book, db, key);
}

static void delete_twice(struct book *book, struct cask_db *db, uint32_t key)
{
    book_delete(book, db, key);
    book_put(book, db, key);
    book_delete(book, db, key);
}

static void put_after_delete(struct book *book, struct cask_db *db, uint32_t key)
{
    book_delete(book, db, key);
    book_put(book, db, key);
}

/* T1, T3: of tombstones that newer records have made stale. */
static void test_a_partial_merge_of_stale_tombstones_brings_nothing_back(void **state)
{
    (void)state;
    merge_around_the_first_segment(delete_twice, false);
    merge_around_the_first_segment(put_after_delete, false);
    merge_around_the_first_segment(expire_after_delete, false);
}

static void delete_even(struct book *book, struct cask_db *db, uint32_t key)
{
    if (key % 2 == 0)
        book_delete(book, db, key);
}

static void expire_even(struct book *book, struct cask_db *db, uint32_t key)
{
    if (key % 2 == 0)
        book_expire(book, db, key);
}

/* Without its hint a segment is read. */
static void test_a_partial_merge_beside_a_lost_hint_brings_no_deleted_key_back(void **state)
{
    (void)state;
    merge_around_the_first_segment(book_delete, true);
    merge_around_the_first_segment(book_expire, true);
}

/* If that shows damage nobody knows what the segment holds: tombstones stay, in the merge that
 * meets it and in those after. */
static void test_a_partial_merge_beside_a_damaged_segment_brings_no_deleted_key_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct race *race = merge_beside_the_first_segment(i == 0 ? delete_even : expire_even,
                                                           lose_hint_and_record);
        struct store *store = race->store;

        for (uint32_t key = 1; key < VICTIMS; key += 2) { /* it is known by now */
            if (i == 0)
                book_delete(&race->book, store->db, key);
            else
                book_expire(&race->book, store->db, key);
        }
        for (unsigned round = 0; round < 3; round++) {
            put_filler(store, 100, 130);
            CHECK_STATUS(cask_merge(store->db, NULL, NULL), CASK_ECORRUPT);
        }
        book_check_range(&race->book, store->db, 0, VICTIMS);
        store_again(store);
        CHECK(log_lines_mention(&store->lines, "damaged records were left out"), "%s",
              store->lines.text);
        book_check_range(&race->book, store->db, 0, VICTIMS);
        store_end(store);
        free(race);
    }
}

/* T4: what has expired hides the older versions for as long as there are any. */
static void test_a_partial_merge_of_expired_records_uncovers_nothing(void **state)
{
    (void)state;
    merge_around_the_first_segment(book_expire, false);
}

/* A segment whose every record has expired goes unread; what its records hide stays hidden. */
static void test_a_wholly_expired_segment_uncovers_nothing_when_it_goes(void **state)
{
    struct race *race = race_begin_automatic(60);
    struct store *store = race->store;
    static const char bytes[200] = "short-lived";
    char key[32];

    (void)state;
    for (uint32_t i = 0; i < VICTIMS; i++) {
        book_put(&race->book, store->db, i);
        put_filler(store, i * 2, i * 2 + 2);
    }
    put_filler(store, 20, 60);
    for (unsigned i = 0; i < 120; i++) {
        if (i % 15 == 0)
            book_expire(&race->book, store->db, i / 15);
        snprintf(key, sizeof key, "short-%u", i);
        CHECK_OK(cask_put_expiring(store->db, slice_of(key), slice_bytes(bytes, sizeof bytes),
                                   LONG_AGO));
    }
    put_filler(store, 60, 80);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_OK(cask_merge(store->db, NULL, NULL));
        book_check_range(&race->book, store->db, 0, VICTIMS);
        store_again(store);
        book_check_range(&race->book, store->db, 0, VICTIMS);
    }
    merge_all(store);
    /* Those that lie in a segment with others that live may be counted still. */
    CHECK(stats_of(store).live_keys < 76 + 40, "%llu keys live",
          (unsigned long long)stats_of(store).live_keys);
    check_no_errors(store);
    store_end(store);
    free(race);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_partial_merge_brings_no_deleted_key_back),
        cmocka_unit_test(test_a_partial_merge_of_stale_tombstones_brings_nothing_back),
        cmocka_unit_test(test_a_partial_merge_beside_a_lost_hint_brings_no_deleted_key_back),
        cmocka_unit_test(test_a_partial_merge_beside_a_damaged_segment_brings_no_deleted_key_back),
        cmocka_unit_test(test_a_partial_merge_of_expired_records_uncovers_nothing),
        cmocka_unit_test(test_a_wholly_expired_segment_uncovers_nothing_when_it_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
