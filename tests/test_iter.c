/* store/iter: every key once, whatever goes on meanwhile. With threads:
 * test_concurrency_store.c. */
#include "unit_store.h"

static struct cask_iter *iter_of(struct store *store)
{
    struct cask_iter *iter;

    assert_ok(cask_iter_create(store->db, &iter));
    return iter;
}

/* The number in an entry's key, which is its value too. */
static unsigned number_of(const struct cask_entry *entry)
{
    char key[24] = "";

    assert_in_range(entry->key.size, 4, sizeof key - 1);
    memcpy(key, entry->key.data, entry->key.size);
    assert_memory_equal(key, "key", 3);
    return (unsigned)strtoul(key + 3, NULL, 10);
}

/* Walks to the end and counts how often each number comes. */
static unsigned count_numbers(struct store *store, uint8_t *counts, unsigned room)
{
    struct cask_iter *iter = iter_of(store);
    struct cask_entry entry;
    unsigned sum = 0;
    int status;

    memset(counts, 0, room);
    while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
        unsigned number = number_of(&entry);

        assert_true(number < room);
        counts[number]++;
        sum++;
        assert_slice(entry.value, entry.key.data, entry.key.size);
    }
    assert_int_equal(status, CASK_NOTFOUND);
    assert_int_equal(cask_iter_next(iter, &entry), CASK_NOTFOUND); /* and so it stays */
    cask_iter_destroy(iter);
    return sum;
}

static void assert_each_once(const uint8_t *counts, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++)
        if (counts[i] != 1)
            fail_msg("key%u comes %u times", i, counts[i]);
}

static void test_an_empty_store_has_no_entries(void **state)
{
    struct store *store = store_begin(16);
    struct cask_iter *iter = iter_of(store);
    struct cask_entry entry;

    (void)state;
    assert_int_equal(cask_iter_next(iter, &entry), CASK_NOTFOUND);
    cask_iter_destroy(iter);
    cask_iter_destroy(NULL);
    store_end(store);
}

/* More than are fetched at once, and none, and few. */
static void test_every_key_comes_once(void **state)
{
    static const unsigned shard_counts[] = {1, 4, 256};
    static const unsigned numbers[] = {1, 31, 33, 511, 512, 513, 5000};
    uint8_t counts[5000];

    (void)state;
    for (size_t s = 0; s < COUNT_OF(shard_counts); s++) {
        struct store *store = store_begin(shard_counts[s]);
        unsigned there = 0;

        for (size_t n = 0; n < COUNT_OF(numbers); n++) {
            put_numbers(store, there, numbers[n]);
            there = numbers[n];
            assert_int_equal(count_numbers(store, counts, sizeof counts), there);
            assert_each_once(counts, 0, there);
        }
        store_again(store);
        assert_int_equal(count_numbers(store, counts, sizeof counts), there);
        assert_each_once(counts, 0, there);
        store_end(store);
    }
}

static void test_all_modes_show_the_same(void **state)
{
    uint8_t counts[2000];

    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(4, m, 4096);
        char key[24];

        put_numbers(store, 0, 2000);
        put_numbers(store, 0, 1000); /* each in its newest record only */
        for (unsigned i = 0; i < 2000; i += 3)
            assert_ok(cask_delete(store->db, numbered(key, i)));
        assert_int_equal(count_numbers(store, counts, sizeof counts), 2000 - 667);
        for (unsigned i = 0; i < 2000; i++)
            assert_int_equal(counts[i], i % 3 != 0);
        store_end(store);
    }
}

static void test_entries_carry_value_and_expiry(void **state)
{
    struct store *store = store_begin(1);
    uint64_t later = wall_clock_ms() + 3600000;
    struct cask_iter *iter;
    struct cask_entry entry;

    (void)state;
    assert_ok(cask_put_expiring(store->db, slice_of("k"), slice_of(""), later));
    assert_ok(cask_put_expiring(store->db, slice_of("gone"), slice_of("v"), 1));
    iter = iter_of(store);
    assert_ok(cask_iter_next(iter, &entry));
    assert_slice(entry.key, "k", 1);
    assert_int_equal(entry.value.size, 0);
    assert_true(entry.expires_at_ms == later);
    assert_int_equal(cask_iter_next(iter, &entry), CASK_NOTFOUND);
    cask_iter_destroy(iter);
    put(store, "k", "value");
    iter = iter_of(store);
    assert_ok(cask_iter_next(iter, &entry));
    assert_slice(entry.value, "value", 5);
    assert_int_equal(entry.expires_at_ms, 0);
    cask_iter_destroy(iter);
    store_end(store);
}

/* T8: the table grows, keys come, go and are overwritten between two steps. */
static void test_keys_that_stay_come_once_while_others_come_and_go(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(4, m, 16384);
        uint8_t counts[20000] = {0};
        struct cask_iter *iter;
        struct cask_entry entry;
        unsigned fresh = 10000;
        unsigned gone = 1000;
        char key[24];
        int status;

        put_numbers(store, 0, 2000);
        iter = iter_of(store);
        while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
            counts[number_of(&entry)]++;
            for (int i = 0; i < 4; i++, fresh++)
                assert_ok(cask_put(store->db, numbered(key, fresh), numbered(key, fresh)));
            if (gone < 2000)
                assert_ok(cask_delete(store->db, numbered(key, gone++)));
            assert_ok(
                cask_put(store->db, numbered(key, fresh % 1000), numbered(key, fresh % 1000)));
            if (fresh > 19900)
                fresh = 19900;
        }
        assert_int_equal(status, CASK_NOTFOUND);
        assert_each_once(counts, 0, 1000);
        for (unsigned i = 0; i < 20000; i++)
            assert_true(counts[i] <= 1);
        cask_iter_destroy(iter);
        store_end(store);
    }
}

static void test_iterators_do_not_disturb_each_other(void **state)
{
    struct store *store = store_begin(4);
    struct cask_iter *iters[3];
    uint8_t counts[3][1000] = {{0}};
    struct cask_entry entry;

    (void)state;
    put_numbers(store, 0, 1000);
    for (int i = 0; i < 3; i++)
        iters[i] = iter_of(store);
    for (int step = 0; step < 3000; step++) {
        int i = (step * 7 + step / 50) % 3;
        int status = cask_iter_next(iters[i], &entry);

        if (status == CASK_OK)
            counts[i][number_of(&entry)]++;
    }
    for (int i = 0; i < 3; i++) {
        while (cask_iter_next(iters[i], &entry) == CASK_OK)
            counts[i][number_of(&entry)]++;
        assert_each_once(counts[i], 0, 1000);
        cask_iter_destroy(iters[i]);
    }
    store_end(store);
}

/* An entry that cannot be read is an error, once, and no end: the walk goes on behind it. */
static void test_a_damaged_entry_is_an_error_and_not_the_end(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(1, m, 4096);
        struct cask_iter *iter;
        struct cask_entry entry;
        unsigned good = 0;
        unsigned bad = 0;
        int status;

        put_numbers(store, 0, 100);
        store_down(store);
        patch_file(shard_path(store->path, 0, "1.data"), 64 + 10 * 32 + 20, "?", 1);
        store_up(store);
        log_lines_clear(&store->lines);
        iter = iter_of(store);
        while ((status = cask_iter_next(iter, &entry)) != CASK_NOTFOUND) {
            good += status == CASK_OK;
            bad += status == CASK_ECORRUPT;
            assert_true(good + bad <= 100);
        }
        assert_int_equal(good, 99);
        assert_int_equal(bad, 1);
        assert_true(log_lines_mention(&store->lines, "shard-000/1.data: offset 384"));
        cask_iter_destroy(iter);
        store_end(store);
    }
}

/* Nor is a page of the index: what it has is passed over, once, and all else is there. */
static void test_a_damaged_page_of_the_index_is_no_end_either(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(1, m, 1 << 20);
        uint8_t *counts = calloc(1, 20000);
        struct cask_iter *iter;
        struct cask_entry entry;
        unsigned good = 0;
        unsigned bad = 0;
        int status;

        assert_non_null(counts);
        put_numbers(store, 0, 20000);
        assert_ok(cask_flush_index(store->db));
        patch_file(shard_path(store->path, 0, "index/1.mdb"), (uint64_t)20 * 4096 + 2000, "????",
                   4);
        iter = iter_of(store);
        while ((status = cask_iter_next(iter, &entry)) != CASK_NOTFOUND) {
            good += status == CASK_OK;
            bad += status == CASK_ECORRUPT;
            assert_true(good + bad <= 20000);
            if (status == CASK_OK)
                assert_int_equal(counts[number_of(&entry)]++, 0);
        }
        assert_in_range(bad, 1, 4);
        assert_in_range(good, 20000 - 4 * 512, 20000 - 396);
        cask_iter_destroy(iter);
        free(counts);
        store_again(store); /* the run is made anew */
        counts = calloc(1, 20000);
        assert_non_null(counts);
        assert_int_equal(count_numbers(store, counts, 20000), 20000);
        free(counts);
        store_end(store);
    }
}

static void test_slices_are_valid_until_the_next_step(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(1, m, 4096);
        struct cask_iter *iter;
        struct cask_entry entry;
        char kept[24];
        unsigned number;

        put_numbers(store, 0, 100);
        iter = iter_of(store);
        assert_ok(cask_iter_next(iter, &entry));
        number = number_of(&entry);
        for (int i = 0; i < 300; i++)
            put(store, numbered(kept, number).data, "another value");
        assert_slice(entry.value, numbered(kept, number).data, strlen(kept));
        cask_iter_destroy(iter);
        store_end(store);
    }
}

/* With the index full nothing can be put, but all that is there can be walked. */
static void test_an_index_that_is_partly_on_disk_can_be_walked(void **state)
{
    struct store *store = store_make(1);
    uint8_t *counts = malloc(1 << 18);
    unsigned there = 0;
    char key[24];

    (void)state;
    store->options.index_memory = 1 << 20;
    store_up(store);
    for (; there < 200000; there++) /* several times what that memory holds */
        assert_ok(cask_put(store->db, numbered(key, there), numbered(key, there)));
    assert_int_equal(count_numbers(store, counts, 1 << 18), there);
    assert_each_once(counts, 0, there);
    free(counts);
    store_end(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_store_has_no_entries),
        cmocka_unit_test(test_every_key_comes_once),
        cmocka_unit_test(test_all_modes_show_the_same),
        cmocka_unit_test(test_entries_carry_value_and_expiry),
        cmocka_unit_test(test_keys_that_stay_come_once_while_others_come_and_go),
        cmocka_unit_test(test_iterators_do_not_disturb_each_other),
        cmocka_unit_test(test_a_damaged_entry_is_an_error_and_not_the_end),
        cmocka_unit_test(test_a_damaged_page_of_the_index_is_no_end_either),
        cmocka_unit_test(test_slices_are_valid_until_the_next_step),
        cmocka_unit_test(test_an_index_that_is_partly_on_disk_can_be_walked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
