/* The figures of an index that is on disk: tiers, what filters save, and what they had no room
 * for. */
#include "unit_store.h"

#include "base/thread.h"
#include "store/store.h"
#include "support_spill.h"

#define KEYS 2000u
#define THREADS 4u
#define LOOKS 3000u

static struct store *begin(void)
{
    struct store *store = store_make(1);

    store->options.index_memory = 1 << 20;
    store->options.merge = CASK_SWITCH_OFF;
    store_up(store);
    return store;
}

static void check_absent(struct store *store, unsigned first, unsigned end)
{
    char key[24];

    for (unsigned i = first; i < end; i++)
        assert_int_equal(cask_exists(store->db, numbered(key, i)), CASK_NOTFOUND);
}

static void test_the_tiers_are_told_apart(void **state)
{
    struct store *store = begin();
    struct cask_stats stats;

    (void)state;
    put_numbers(store, 0, KEYS);
    assert_ok(spill_all(store->db));
    put_numbers(store, KEYS, 2 * KEYS);
    assert_ok(spill_all(store->db));
    put_numbers(store, 2 * KEYS, 2 * KEYS + 100);
    stats = stats_of(store);
    assert_int_equal(stats.index_ram_keys, 100);
    assert_int_equal(stats.index_spilled_keys, 2 * KEYS);
    assert_int_equal(stats.index_runs, 2);
    assert_int_equal(stats.index_flushes, 2);
    assert_int_equal(stats.index_run_merges, 0);
    assert_true(stats.index_disk_bytes >= 2 * KEYS * 10);
    assert_int_equal(stats.index_written_bytes, stats.index_disk_bytes);
    assert_true(stats.index_ram_bytes > stats.index_filter_bytes);
    assert_in_range(stats.index_filter_bytes, 2 * KEYS * 10 / 8, 2 * KEYS * 10 / 8 + 128);
    assert_int_equal(stats.index_filters_reduced, 0);
    assert_int_equal(stats.index_filters_absent, 0);
    assert_int_equal(stats.index_stalls, 0);
    assert_int_equal(stats.index_failures, 0);
    assert_ok(cask_flush_index(store->db));
    stats = stats_of(store);
    assert_int_equal(stats.index_ram_keys, 0);
    assert_int_equal(stats.index_runs, 1);
    assert_int_equal(stats.index_flushes, 3);
    assert_int_equal(stats.index_run_merges, 1);
    assert_true(stats.index_written_bytes > stats.index_disk_bytes);
    store_end(store);
}

/* What a filter turned away, and what it let through for nothing, is all that was not there. */
static void test_what_filters_save_is_counted(void **state)
{
    struct store *store = begin();
    struct cask_stats before;
    struct cask_stats stats;

    (void)state;
    put_numbers(store, 0, KEYS);
    assert_ok(spill_all(store->db));
    check_numbers(store, 0, KEYS);
    stats = stats_of(store);
    assert_int_equal(stats.index_filter_asks, KEYS);
    assert_int_equal(stats.index_filter_refusals, 0);
    assert_in_range(stats.index_block_reads, KEYS, KEYS + 20);
    assert_int_equal(stats.index_fruitless_reads, 0);
    before = stats;
    check_absent(store, KEYS, 6 * KEYS);
    stats = stats_of(store);
    assert_int_equal(stats.index_filter_asks, 6 * KEYS);
    assert_int_equal(stats.index_filter_refusals + stats.index_fruitless_reads, 5 * KEYS);
    assert_in_range(stats.index_fruitless_reads, 1, 5 * KEYS / 50);
    assert_int_equal(stats.index_block_reads - before.index_block_reads,
                     stats.index_fruitless_reads);
    store_end(store);
}

/* They are the store's, not those of files that come and go. */
static void test_counts_outlive_the_runs(void **state)
{
    struct store *store = begin();
    struct cask_stats before;
    struct cask_stats stats;

    (void)state;
    put_numbers(store, 0, KEYS);
    assert_ok(spill_all(store->db));
    put_numbers(store, KEYS, KEYS + 10);
    assert_ok(spill_all(store->db));
    check_numbers(store, 0, KEYS);
    before = stats_of(store);
    assert_int_equal(before.index_filter_asks, 2 * KEYS); /* the newer run's first */
    assert_ok(cask_flush_index(store->db));
    stats = stats_of(store);
    assert_int_equal(stats.index_runs, 1);
    assert_int_equal(stats.index_filter_asks, before.index_filter_asks);
    assert_int_equal(stats.index_filter_refusals, before.index_filter_refusals);
    assert_int_equal(stats.index_block_reads, before.index_block_reads);
    store_again(store);
    assert_int_equal(stats_of(store).index_filter_asks, 0);
    store_end(store);
}

static void test_filters_without_enough_memory_are_counted(void **state)
{
    struct store *store = begin();
    struct budget *budget = &store->db->env.budget;
    struct cask_stats stats;

    (void)state;
    budget->reserve_bytes = budget->limit_bytes - (16 << 10); /* 8 KiB for filters */
    put_numbers(store, 0, 8000);
    assert_ok(cask_flush_index(store->db));
    stats = stats_of(store);
    assert_int_equal(stats.index_filters_reduced, 1);
    assert_int_equal(stats.index_filters_absent, 0);
    assert_in_range(stats.index_filter_bytes, 8000 * 6 / 8, 8 << 10);
    put_numbers(store, 8000, 40000);
    assert_ok(cask_flush_index(store->db));
    stats = stats_of(store);
    assert_int_equal(stats.index_runs, 1);
    assert_int_equal(stats.index_filters_reduced, 0);
    assert_int_equal(stats.index_filters_absent, 1);
    assert_int_equal(stats.index_filter_bytes, 0);
    check_absent(store, 50000, 50100);
    assert_int_equal(stats_of(store).index_filter_asks, stats.index_filter_asks);
    assert_in_range(stats_of(store).index_fruitless_reads - stats.index_fruitless_reads, 99, 100);
    store_end(store);
}

static void *look_up(void *argument)
{
    struct store *store = argument;
    char key[24];

    for (unsigned i = 0; i < LOOKS; i++)
        CHECK_OK(cask_exists(store->db, numbered(key, i % KEYS)));
    return NULL;
}

static void test_none_is_lost_among_threads(void **state)
{
    struct store *store = begin();
    pthread_t threads[THREADS];

    (void)state;
    put_numbers(store, 0, KEYS);
    assert_ok(spill_all(store->db));
    for (unsigned i = 0; i < THREADS; i++)
        assert_ok(thread_start(&threads[i], look_up, store));
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(stats_of(store).index_filter_asks, THREADS * LOOKS);
    store_end(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_tiers_are_told_apart),
        cmocka_unit_test(test_what_filters_save_is_counted),
        cmocka_unit_test(test_counts_outlive_the_runs),
        cmocka_unit_test(test_filters_without_enough_memory_are_counted),
        cmocka_unit_test(test_none_is_lost_among_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
