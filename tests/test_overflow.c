/* The index beyond its memory, by public calls: what merges of segments make of entries that are on
 * disk, and what a small budget still has to be enough for.
 *
 *   T36  a merge treats an index entry that was spilled out of RAM as dead (libbitcask)
 */
#include "unit_store.h"

#include "store/store.h"
#include "support_spill.h"

#define KEYS 400u
#define LEAST_MEMORY ((uint64_t)1 << 20)
#define LEFT ((uint64_t)256 << 10) /* of it, where little is left */
#define MANY_RUNS 41u
#define MANY_KEYS 200000u
#define SPILLED_KEYS 50000u

static struct store *begin_with(uint32_t shard_count, size_t mode, uint64_t segment_bytes)
{
    struct store *store = store_make(shard_count);

    store->options.write_mode = unit_modes[mode].write_mapped ? CASK_WRITE_MAPPED
                                                              : CASK_WRITE_SYSCALL;
    store->options.read_mode = unit_modes[mode].read_mapped ? CASK_READ_MAPPED : CASK_READ_PREAD;
    store->options.segment_bytes = segment_bytes;
    store->options.index_memory = LEAST_MEMORY;
    store->options.merge = CASK_SWITCH_OFF;
    store_up(store);
    return store;
}

static struct store *begin(uint32_t shard_count, size_t mode)
{
    return begin_with(shard_count, mode, 2000);
}

static const char *key_of(unsigned key, char text[24])
{
    (void)snprintf(text, 24, "key-%u", key);
    return text;
}

static void put_version(struct store *store, unsigned key, unsigned version)
{
    char text[24];
    char value[40];

    (void)snprintf(value, sizeof value, "value-%u-%u", key, version);
    assert_ok(cask_put(store->db, slice_of(key_of(key, text)), slice_of(value)));
}

/* version 0: it is not there. */
static void check_version(struct store *store, unsigned key, unsigned version)
{
    char text[24];
    char value[40];

    (void)snprintf(value, sizeof value, "value-%u-%u", key, version);
    check_value(store->db, key_of(key, text), version == 0 ? NULL : value);
}

static uint64_t iterated(struct store *store)
{
    struct cask_iter *iter;
    struct cask_entry entry;
    uint64_t count = 0;
    int status;

    assert_ok(cask_iter_create(store->db, &iter));
    while ((status = cask_iter_next(iter, &entry)) == CASK_OK)
        count++;
    assert_int_equal(status, CASK_NOTFOUND);
    cask_iter_destroy(iter);
    return count;
}

/* ---- T36 ------------------------------------------------------------------------------------- */

/* Of each ten keys three are deleted and three overwritten, so that every segment is worth merging;
 * what lives of it is on disk alone. */
static unsigned version_of(unsigned key)
{
    return key % 10 < 3 ? 0 : key % 10 < 6 ? 2 : 1;
}

static void write_all(struct store *store)
{
    char text[24];

    for (unsigned key = 0; key < KEYS; key++)
        put_version(store, key, 1);
    for (unsigned key = 0; key < KEYS; key++)
        if (version_of(key) == 2)
            put_version(store, key, 2);
        else if (version_of(key) == 0)
            assert_ok(cask_delete(store->db, slice_of(key_of(key, text))));
}

static void check_all(struct store *store)
{
    uint64_t there = 0;

    for (unsigned key = 0; key < KEYS; key++) {
        check_version(store, key, version_of(key));
        there += version_of(key) != 0;
    }
    assert_int_equal(iterated(store), there);
    assert_ok(cask_flush_index(store->db));
    assert_int_equal(stats_of(store).live_keys, there);
    assert_ok(cask_verify(store->db, NULL, NULL));
}

static void merge_what_is_spilled(size_t mode, bool in_several_runs)
{
    struct store *store = begin(2, mode);
    struct cask_stats before;
    struct cask_stats after;

    write_all(store);
    assert_ok(in_several_runs ? spill_all(store->db) : cask_flush_index(store->db));
    before = stats_of(store);
    assert_int_equal(before.index_ram_keys, 0);
    assert_true(before.index_spilled_keys > 0);
    assert_ok(cask_merge(store->db, NULL, NULL));
    after = stats_of(store);
    assert_true(after.merges > 0);
    assert_true(after.merge_freed_bytes > 0);
    check_all(store);
    store_again(store);
    check_all(store);
    assert_ok(cask_merge(store->db, NULL, NULL));
    check_all(store);
    store_again(store);
    check_all(store);
    assert_int_equal(log_lines_count(&store->lines, CASK_LOG_ERROR), 0);
    store_end(store);
}

static void test_t36_a_merge_takes_no_spilled_entry_for_dead(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        merge_what_is_spilled(mode, false);
        merge_what_is_spilled(mode, true);
    }
}

/* The old versions and the deletes are in different runs from what they replace. */
static void test_t36_nor_one_whose_newer_version_is_in_another_run(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = begin(1, mode);
        char text[24];

        for (unsigned key = 0; key < KEYS; key++) {
            put_version(store, key, 3); /* so that every segment is worth merging */
            put_version(store, key, 1);
        }
        assert_ok(spill_all(store->db));
        for (unsigned key = 0; key < KEYS; key++)
            if (version_of(key) == 2)
                put_version(store, key, 2);
        assert_ok(spill_all(store->db));
        for (unsigned key = 0; key < KEYS; key++)
            if (version_of(key) == 0)
                assert_ok(cask_delete(store->db, slice_of(key_of(key, text))));
        assert_ok(spill_all(store->db));
        assert_true(stats_of(store).index_runs > 1);
        assert_ok(cask_merge(store->db, NULL, NULL));
        assert_true(stats_of(store).merge_freed_bytes > 0);
        check_all(store);
        store_again(store);
        check_all(store);
        store_end(store);
    }
}

/* Address space that cannot be made writable: the originals of what finds no place in the index
 * stay where they are, and so do the answers. */
static void test_a_merge_keeps_the_originals_of_what_it_cannot_index(void **state)
{
    struct store *store = begin(1, 0);
    struct keydir *keydirs;
    size_t reserved[2];

    (void)state;
    write_all(store);
    assert_ok(cask_flush_index(store->db));
    keydirs = store->db->shards[0].index.keydirs;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(keydir_count(&keydirs[i]), 0);
        reserved[i] = keydirs[i].reserved_bytes;
        keydirs[i].reserved_bytes = 0;
    }
    assert_int_equal(cask_merge(store->db, NULL, NULL), CASK_ENOMEM);
    for (unsigned i = 0; i < 2; i++)
        keydirs[i].reserved_bytes = reserved[i];
    for (unsigned key = 0; key < KEYS; key++)
        check_version(store, key, version_of(key));
    log_lines_clear(&store->lines);
    (void)cask_close(store->db); /* CASK_ENOMEM: the shard has failed */
    store->db = NULL;
    store_up(store);
    check_all(store);
    store_end(store);
}

/* What is overwritten and deleted across tiers is dead to cask_merge(), though no merge of runs has
 * met both entries. */
static void test_a_merge_on_request_finds_what_other_tiers_replace(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = begin(2, mode);
        struct cask_stats before;
        struct cask_stats after;
        char text[24];

        for (unsigned key = 0; key < KEYS; key++)
            put_version(store, key, 1);
        assert_ok(cask_flush_index(store->db));
        for (unsigned key = 0; key < KEYS; key++)
            if (version_of(key) == 2)
                put_version(store, key, 2);
        assert_ok(spill_all(store->db));
        for (unsigned key = 0; key < KEYS; key++)
            if (version_of(key) == 0)
                assert_ok(cask_delete(store->db, slice_of(key_of(key, text))));
        before = stats_of(store);
        assert_ok(cask_merge(store->db, NULL, NULL));
        assert_ok(cask_merge(store->db, NULL, NULL)); /* tombstones may need a second time */
        after = stats_of(store);
        assert_true(after.live_bytes <= before.live_bytes / 10 * 6);
        assert_true(after.dead_bytes <= after.segments * 32 + 1024);
        assert_true(after.disk_bytes < before.disk_bytes);
        check_all(store);
        store_again(store);
        check_all(store);
        store_end(store);
    }
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void test_a_run_is_made_anew_and_the_log_says_how_far_it_is(void **state)
{
    struct store *store = begin(1, 0);

    (void)state;
    for (unsigned key = 0; key < KEYS; key++)
        put_version(store, key, 1);
    assert_ok(cask_flush_index(store->db));
    store_down(store);
    tree_remove(shard_path(store->path, 0, "index/1.mdb"));
    log_lines_clear(&store->lines);
    store_up(store);
    assert_int_equal(log_lines_count(&store->lines, CASK_LOG_WARNING), 1);
    assert_true(log_lines_mention(&store->lines, "/shard-000/index: a run is missing or damaged"));
    assert_true(log_lines_mention(&store->lines, "/shard-000/index: made anew: "));
    assert_true(log_lines_mention(&store->lines, " segments read"));
    assert_in_range(log_lines_count(&store->lines, CASK_LOG_INFO), 4, 12);
    for (unsigned key = 0; key < KEYS; key++)
        check_version(store, key, 1);
    log_lines_clear(&store->lines);
    store_again(store);
    assert_false(log_lines_mention(&store->lines, "made anew"));
    store_end(store);
}

/* ---- small budgets --------------------------------------------------------------------------- */

/* Sizes that are left as they are: three of each class. Returns how many keys there are. */
static unsigned make_runs(struct store *store)
{
    unsigned key = 0;

    for (unsigned size = 1024; size >= 16; size /= 4)
        for (unsigned i = 0; i < 3; i++) {
            for (unsigned end = key + size; key < end; key++)
                put_version(store, key, 1);
            assert_ok(spill_all(store->db));
        }
    assert_int_equal(stats_of(store).index_runs, 12);
    return key;
}

/* What reads the runs in order, all of them at once, must leave room for itself and for others. */
static void test_a_merge_beside_many_runs_needs_no_more_than_the_least_budget(void **state)
{
    struct store *store = begin(1, 0);
    unsigned end = make_runs(store);
    struct budget *budget;
    uint64_t taken;

    (void)state;
    for (unsigned version = 0; version < 3; version++) /* dead by the keydir alone */
        for (unsigned key = 0; key < end; key += 2)
            put_version(store, key, version);
    budget = &store->db->env.budget;
    taken = budget->limit_bytes - budget_used(budget) - LEFT;
    assert_true(budget_take(budget, taken)); /* as keydirs and filters might */
    assert_int_equal(stats_of(store).index_runs, 12);
    assert_ok(cask_merge(store->db, NULL, NULL));
    budget_give(budget, taken);
    for (unsigned key = 0; key < end; key++)
        check_version(store, key, key % 2 == 0 ? 2 : 1);
    assert_ok(cask_verify(store->db, NULL, NULL));
    assert_ok(cask_flush_index(store->db));
    assert_int_equal(stats_of(store).live_keys, end);
    store_end(store);
}

/* A segment may have several times as many records as the memory for the index has entries. Those
 * of the copies cannot be refused, and come in the order of their tags: they go to disk at once,
 * whatever more they took than there was. */
static void test_a_merge_of_more_entries_than_there_is_memory_for_succeeds(void **state)
{
    struct store *store = begin_with(1, 0, 0);
    char text[24];

    (void)state;
    for (unsigned key = 0; key < MANY_KEYS; key++)
        put_version(store, key, 1);
    for (unsigned key = 0; key < MANY_KEYS; key += 10)
        assert_ok(cask_delete(store->db, slice_of(key_of(key, text))));
    for (unsigned merges = 0; merges < 2; merges++) {
        assert_ok(cask_merge(store->db, NULL, NULL));
        assert_true(stats_of(store).index_ram_bytes <= LEAST_MEMORY);
        for (unsigned key = 0; key < MANY_KEYS; key += 5) /* dead by the keydir alone */
            put_version(store, key, 2);
    }
    for (unsigned key = 0; key < MANY_KEYS; key++)
        check_version(store, key, key % 5 == 0 ? 2 : 1);
    assert_ok(cask_flush_index(store->db));
    assert_int_equal(stats_of(store).live_keys, MANY_KEYS);
    assert_int_equal(stats_of(store).merges_failed, 0);
    assert_ok(cask_verify(store->db, NULL, NULL));
    store_end(store);
}

/* ---- a merge and the budget ---- */

struct watch {
    struct budget *budget;
    uint64_t most;
    _Atomic bool ends;
};

static void *watch_excess(void *argument)
{
    struct watch *watch = argument;

    while (!atomic_load(&watch->ends))
        watch->most = max_u64(watch->most, budget_excess(watch->budget));
    return NULL;
}

/* So that next to nothing is left, and nobody is asked to move a keydir to disk yet. */
static void fill_keydirs(struct store *store)
{
    struct budget *budget = &store->db->env.budget;
    uint64_t enough = (budget->limit_bytes - budget->reserve_bytes) / 100 * 70;

    for (unsigned key = 0; budget_used(budget) < enough; key += 3)
        put_version(store, key % SPILLED_KEYS, 2);
}

/* What the entries of its copies need is taken before they are there, while keydirs can still be
 * moved to disk. */
static void test_a_merge_has_what_its_entries_need_beforehand(void **state)
{
    struct store *store = begin_with(2, 0, 256 << 10);
    struct watch watch = {.budget = &store->db->env.budget};
    pthread_t watcher;

    (void)state;
    for (unsigned key = 0; key < SPILLED_KEYS; key++)
        put_version(store, key, 1);
    for (unsigned key = 0; key < SPILLED_KEYS; key += 4)
        put_version(store, key, 1);
    assert_ok(spill_all(store->db));
    fill_keydirs(store);
    assert_int_equal(pthread_create(&watcher, NULL, watch_excess, &watch), 0);
    assert_ok(cask_merge(store->db, NULL, NULL));
    atomic_store(&watch.ends, true);
    assert_int_equal(pthread_join(watcher, NULL), 0);
    assert_int_equal(watch.most, 0);
    assert_true(stats_of(store).index_ram_bytes <= LEAST_MEMORY);
    assert_ok(cask_verify(store->db, NULL, NULL));
    store_end(store);
}

/* One more run, with so little memory that it is made, but not merged with others. Merging takes a
 * page more for each of them than a flush does. */
static void flush_without_merging(struct store *store)
{
    struct budget *budget = &store->db->env.budget;
    uint64_t runs = stats_of(store).index_runs;

    for (uint64_t left = LEFT / 4; stats_of(store).index_runs == runs; left += 4096) {
        uint64_t taken = budget->limit_bytes - budget_used(budget) - left;
        int status;

        budget_overdraw(budget, taken);
        status = spill_shard(store->db, 0);
        budget_give(budget, taken);
        assert_true(status == CASK_OK || status == CASK_ENOMEM);
        assert_true(left <= LEFT);
    }
    assert_int_equal(stats_of(store).index_runs, runs + 1);
}

/* Merges of runs that fail leave as many as there may be. When there is memory again, keydirs may
 * have taken all that they may: what is kept for buffers must do. */
static void test_very_many_runs_become_one_with_what_is_kept_for_it(void **state)
{
    struct store *store = begin(1, 0);
    struct budget *budget = &store->db->env.budget;
    unsigned end = 0;
    uint64_t taken;

    (void)state;
    while (stats_of(store).index_runs < MANY_RUNS) {
        for (unsigned i = 0; i < 50; i++)
            put_version(store, end++, 1);
        flush_without_merging(store);
    }
    for (unsigned i = 0; i < 50; i++)
        put_version(store, end++, 1);
    taken = budget->limit_bytes - budget->reserve_bytes - budget_used(budget);
    assert_true(budget_take(budget, taken));
    assert_ok(spill_flush(&store->db->shards[0], true));
    assert_int_equal(stats_of(store).index_runs, 1);
    assert_int_equal(stats_of(store).live_keys, end);
    budget_give(budget, taken);
    for (unsigned key = 0; key < end; key++)
        check_version(store, key, 1);
    assert_ok(cask_verify(store->db, NULL, NULL));
    store_end(store);
}

/* With far more keys than fit, by single puts and by batches, and the same again as overwrites. */
static void test_the_least_budget_holds_for_many_keys(void **state)
{
    const unsigned many = 120000;
    struct store *store = store_make(4);
    struct cask_batch *batch;

    (void)state;
    store->options.index_memory = LEAST_MEMORY;
    store_up(store);
    assert_ok(cask_batch_create(store->db, &batch));
    for (unsigned round = 1; round <= 2; round++)
        for (unsigned key = 0; key < many; key++) {
            char text[24];

            if (key % 1000 == 0)
                assert_true(stats_of(store).index_ram_bytes <= LEAST_MEMORY);
            if (key % 3 != 0) {
                put_version(store, key, round);
                continue;
            }
            assert_ok(cask_batch_put(batch, slice_of(key_of(key, text)), slice_of("batch")));
            if (key % 30 == 0) {
                assert_ok(cask_write(store->db, batch));
                cask_batch_clear(batch);
            }
        }
    assert_ok(cask_write(store->db, batch));
    cask_batch_destroy(batch);
    for (unsigned key = 1; key < many; key += 97)
        if (key % 3 != 0)
            check_version(store, key, 2);
    assert_int_equal(iterated(store), many);
    assert_ok(cask_flush_index(store->db));
    assert_int_equal(stats_of(store).live_keys, many);
    store_again(store);
    assert_int_equal(stats_of(store).recovered_records, 0);
    assert_int_equal(iterated(store), many);
    store_end(store);
}

/* The index of a store that had all of it in memory spills while it is being loaded. */
static void test_an_open_with_less_memory_spills_while_loading(void **state)
{
    const unsigned many = 100000;
    struct store *store;

    (void)state;
    store = store_make(4);
    store_up(store);
    for (unsigned key = 0; key < many; key++)
        put_version(store, key, 1);
    assert_int_equal(stats_of(store).index_runs, 0);
    store_down(store);
    store->options.index_memory = LEAST_MEMORY;
    for (unsigned i = 0; i < 2; i++) {
        store_up(store);
        assert_true(stats_of(store).index_ram_bytes <= LEAST_MEMORY);
        assert_true(stats_of(store).index_spilled_keys > 0);
        assert_int_equal(stats_of(store).live_keys, many);
        for (unsigned key = 0; key < many; key += 31)
            check_version(store, key, 1);
        store_down(store);
    }
    store_up(store);
    assert_int_equal(log_lines_count(&store->lines, CASK_LOG_ERROR), 0);
    store_end(store);
}

/* A tombstone that is alone with its tag is no key, before and after. */
static void test_a_count_is_exact_after_reopening(void **state)
{
    struct store *store;

    (void)state;
    store = begin(1, 0);
    put_version(store, 1, 1);
    assert_ok(cask_flush_index(store->db));
    put_version(store, 2, 1);
    assert_ok(cask_delete(store->db, slice_of("key-2")));
    assert_ok(spill_all(store->db));
    store_again(store);
    assert_ok(cask_flush_index(store->db));
    assert_int_equal(stats_of(store).live_keys, 1);
    store_end(store);
}

/* What the runs do not cover is in the figures once, however often the store is opened. */
static void test_bytes_are_exact_after_reopening(void **state)
{
    struct store *store;
    struct cask_stats before;

    (void)state;
    store = begin(1, 0);
    store->options.segment_bytes = 1 << 20;
    for (unsigned key = 0; key < 20; key++)
        put_version(store, key, 1);
    assert_ok(cask_flush_index(store->db));
    for (unsigned key = 20; key < 40; key++)
        put_version(store, key, 1);
    before = stats_of(store);
    store_again(store);
    assert_int_equal(stats_of(store).live_bytes, before.live_bytes);
    assert_int_equal(stats_of(store).dead_bytes, before.dead_bytes);
    store_end(store);
}

/* Filters made with much memory take more than all there is the next time. */
static void test_filters_give_way_to_a_smaller_budget(void **state)
{
    const unsigned many = 1200000;
    struct store *store = store_make(2);

    (void)state;
    store->options.index_memory = 4 * LEAST_MEMORY;
    store_up(store);
    for (unsigned key = 0; key < many; key++)
        put_version(store, key, 1);
    assert_ok(cask_flush_index(store->db));
    assert_true(stats_of(store).index_filter_bytes > LEAST_MEMORY);
    store_down(store);
    store->options.index_memory = LEAST_MEMORY;
    store_up(store);
    assert_true(stats_of(store).index_ram_bytes <= LEAST_MEMORY);
    assert_true(stats_of(store).index_filters_absent > 0);
    for (unsigned key = 0; key < many; key += 61)
        check_version(store, key, 1);
    for (unsigned key = many; key < many + 50000; key++) {
        check_version(store, key, 0);
        put_version(store, key, 1);
    }
    assert_true(stats_of(store).index_ram_bytes <= LEAST_MEMORY);
    assert_ok(cask_flush_index(store->db));
    assert_int_equal(stats_of(store).live_keys, many + 50000);
    store_end(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_t36_a_merge_takes_no_spilled_entry_for_dead),
        cmocka_unit_test(test_t36_nor_one_whose_newer_version_is_in_another_run),
        cmocka_unit_test(test_a_merge_on_request_finds_what_other_tiers_replace),
        cmocka_unit_test(test_a_merge_keeps_the_originals_of_what_it_cannot_index),
        cmocka_unit_test(test_a_run_is_made_anew_and_the_log_says_how_far_it_is),
        cmocka_unit_test(test_a_merge_beside_many_runs_needs_no_more_than_the_least_budget),
        cmocka_unit_test(test_a_merge_of_more_entries_than_there_is_memory_for_succeeds),
        cmocka_unit_test(test_a_merge_has_what_its_entries_need_beforehand),
        cmocka_unit_test(test_very_many_runs_become_one_with_what_is_kept_for_it),
        cmocka_unit_test(test_the_least_budget_holds_for_many_keys),
        cmocka_unit_test(test_an_open_with_less_memory_spills_while_loading),
        cmocka_unit_test(test_filters_give_way_to_a_smaller_budget),
        cmocka_unit_test(test_a_count_is_exact_after_reopening),
        cmocka_unit_test(test_bytes_are_exact_after_reopening),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
