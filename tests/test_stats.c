/* store/stats: figures that are exact for a store at rest. */
#include <sys/stat.h>

#include "unit_store.h"

static void test_an_empty_store_counts_nothing(void **state)
{
    struct store *store = store_begin(8);
    struct cask_stats stats = stats_of(store);

    (void)state;
    assert_int_equal(stats.size, sizeof stats);
    assert_int_equal(stats.shards, 8);
    assert_int_equal(stats.live_keys, 0);
    assert_int_equal(stats.live_bytes, 0);
    assert_int_equal(stats.dead_bytes, 0);
    assert_int_equal(stats.segments, 0);
    assert_int_equal(stats.writes, 0);
    assert_int_equal(stats.syncs, 0);
    assert_int_equal(stats.reads, 0);
    assert_int_equal(stats.index_ram_bytes, 0);
    assert_true(stats.index_memory == (uint64_t)1 << 30);
    store_end(store);
}

static void test_keys_and_bytes_are_exact(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(1, m, 1 << 20);
        struct cask_stats stats;

        put(store, "a", "12345678"); /* 17 + 1 + 8 bytes: 32 stored */
        put(store, "b", "");         /* 24 */
        put(store, "a", "");         /* 24, and 32 dead */
        stats = stats_of(store);
        assert_int_equal(stats.live_keys, 2);
        assert_int_equal(stats.live_bytes, 48);
        assert_int_equal(stats.dead_bytes, 32);
        assert_int_equal(stats.writes, 3);
        assert_int_equal(stats.written_bytes, 80);
        assert_int_equal(stats.segments, 1);
        assert_int_equal(stats.index_ram_keys, 2);
        assert_int_equal(stats.index_spilled_keys, 0);
        assert_ok(cask_delete(store->db, slice_of("b")));
        stats = stats_of(store);
        assert_int_equal(stats.live_keys, 1);
        assert_int_equal(stats.live_bytes, 24);
        assert_int_equal(stats.dead_bytes, 32 + 24 + 24);
        store_end(store);
    }
}

static void test_what_is_on_disk_counts_the_same_after_reopening(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(4, m, 2000);
        struct cask_batch *batch;
        struct cask_stats before;
        struct cask_stats after;
        char key[24];

        store->options.merge = CASK_SWITCH_OFF; /* which would change the figures */
        store_again(store);
        put_numbers(store, 0, 500);
        put_numbers(store, 100, 200);
        for (unsigned i = 150; i < 250; i++)
            assert_ok(cask_delete(store->db, numbered(key, i)));
        assert_ok(cask_batch_create(store->db, &batch));
        for (unsigned i = 400; i < 600; i++)
            assert_ok(cask_batch_put(batch, numbered(key, i), slice_of("batch")));
        assert_ok(cask_batch_delete(batch, slice_of("key0")));
        assert_ok(cask_batch_delete(batch, slice_of("absent")));
        assert_ok(cask_write(store->db, batch));
        cask_batch_destroy(batch);
        before = stats_of(store);
        store_again(store);
        after = stats_of(store);
        assert_int_equal(before.live_keys, 600 - 100 - 1);
        assert_int_equal(after.live_keys, before.live_keys);
        assert_int_equal(after.live_bytes, before.live_bytes);
        assert_int_equal(after.dead_bytes, before.dead_bytes);
        assert_int_equal(before.live_bytes + before.dead_bytes, before.written_bytes);
        assert_int_equal(after.writes, 0);
        assert_int_equal(after.written_bytes, 0);
        assert_int_equal(after.recovered_records, 0);
        store_end(store);
    }
}

static void test_expired_keys_count_until_their_space_is_reclaimed(void **state)
{
    struct store *store = store_begin(1);

    (void)state;
    assert_ok(cask_put_expiring(store->db, slice_of("key"), slice_of("value"), 1));
    assert_int_equal(stats_of(store).live_keys, 1);
    store_end(store);
}

static void test_syncs_are_counted(void **state)
{
    struct store *store = store_make(1);

    (void)state;
    store->options.sync_mode = CASK_SYNC_ALWAYS;
    store_up(store);
    put_numbers(store, 0, 10);
    assert_int_equal(stats_of(store).syncs, 10);
    assert_ok(cask_sync(store->db)); /* all is durable already */
    assert_int_equal(stats_of(store).syncs, 10);
    store_down(store);
    store->options.sync_mode = CASK_SYNC_NONE;
    store_up(store);
    put_numbers(store, 10, 20);
    assert_int_equal(stats_of(store).syncs, 0);
    assert_ok(cask_sync(store->db));
    assert_int_equal(stats_of(store).syncs, 1);
    store_end(store);
}

static void test_an_interval_syncs_without_being_asked(void **state)
{
    struct store *store = store_make(2);

    (void)state;
    store->options.sync_mode = CASK_SYNC_INTERVAL;
    store->options.sync_interval_ms = 5;
    store_up(store);
    put(store, "key", "value");
    for (int i = 0; i < 2000 && stats_of(store).syncs == 0; i++)
        pause_us(5000);
    assert_int_equal(stats_of(store).syncs, 1);
    store_end(store);
}

static void test_reads_are_counted(void **state)
{
    struct store *store = store_begin(1);
    struct cask_view view;

    (void)state;
    put(store, "key", "value");
    for (int i = 0; i < 10; i++) {
        check_value(store->db, "key", "value");
        assert_int_equal(cask_exists(store->db, slice_of("absent")), CASK_NOTFOUND);
        assert_ok(cask_view(store->db, slice_of("key"), &view));
        cask_view_release(&view);
    }
    assert_int_equal(stats_of(store).reads, 30);
    store_end(store);
}

static void test_many_reads_at_once_count_hardly_more_than_the_keys(void **state)
{
    struct store *store = store_begin(1);
    struct cask_slice keys[64];
    struct cask_slice values[64];
    int statuses[64];
    char buffer[1024];

    (void)state;
    put(store, "key", "value");
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        keys[i] = slice_of("key");
    assert_ok(cask_get_many(store->db, 64, keys, buffer, sizeof buffer, values, statuses));
    assert_in_range(stats_of(store).reads, 64, 68);
    store_end(store);
}

/* A 16-shard store with one key: at most 2 MiB while open, and a few KiB once it is closed. */
static void test_a_small_store_is_small_on_disk(void **state)
{
    struct store *store = store_begin(16);
    uint64_t disk_bytes;

    (void)state;
    put(store, "key", "value");
    disk_bytes = stats_of(store).disk_bytes;
    assert_in_range(disk_bytes, 1, 2 << 20);
    store_again(store);
    assert_in_range(stats_of(store).disk_bytes, 1, 64 << 10);
    store_end(store);
}

static void test_disk_bytes_are_those_of_all_files(void **state)
{
    struct store *store = store_begin_mode(2, 0, 4096);
    struct tree tree;
    uint64_t sum = 0;

    (void)state;
    put_numbers(store, 0, 1000);
    store_down(store);
    store->options.read_only = 1;
    store_up(store);
    tree_load(&tree, store->path);
    for (size_t i = 0; i < tree.count; i++) {
        struct stat info;

        assert_int_equal(stat(path_in(store->path, tree.files[i].name), &info), 0);
        sum += (uint64_t)info.st_blocks * 512;
    }
    assert_int_equal(stats_of(store).disk_bytes, sum);
    tree_release(&tree);
    store_end(store);
}

/* More keys than fit go to disk: no put is refused. */
static void test_the_index_keeps_to_its_memory(void **state)
{
    struct store *store = store_make(4);
    struct cask_stats stats;
    char key[24];
    unsigned there = 0;

    (void)state;
    store->options.index_memory = 1 << 20;
    store_up(store);
    while (there < 150000) {
        assert_ok(cask_put(store->db, numbered(key, there), slice_of("v")));
        if (++there % 1000 == 0)
            assert_in_range(stats_of(store).index_ram_bytes, 1, 1 << 20);
    }
    stats = stats_of(store);
    assert_int_equal(stats.index_memory, 1 << 20);
    assert_true(stats.index_spilled_keys > 0);
    assert_int_equal(stats.live_keys, there);
    assert_ok(cask_flush_index(store->db));
    assert_int_equal(stats_of(store).live_keys, there);
    store_end(store);
}

static void test_what_a_kill_left_is_counted(void **state)
{
    struct store *store = store_begin(1);
    struct store *copy;

    (void)state;
    put_numbers(store, 0, 10);
    copy = store_copy(store);
    patch_file(shard_path(copy->path, 0, "1.data"), 64 + 9 * 32 + 20, "?", 1);
    store_up(copy);
    assert_int_equal(stats_of(copy).recovered_records, 9);
    assert_in_range(stats_of(copy).cut_bytes, 20, 32);
    assert_int_equal(stats_of(copy).live_keys, 9);
    store_end(copy);
    store_end(store);
}

static void test_rebuilt_hints_are_counted(void **state)
{
    struct store *store = store_begin_mode(1, 0, 4096);

    (void)state;
    put_numbers(store, 0, 1000);
    store_down(store);
    tree_remove(shard_path(store->path, 0, "1.hint"));
    patch_file(shard_path(store->path, 0, "2.hint"), 50, "?", 1);
    store_up(store);
    assert_int_equal(stats_of(store).hints_rebuilt, 2);
    store_again(store);
    assert_int_equal(stats_of(store).hints_rebuilt, 0);
    store_end(store);
}

/* A program with an older header asks for fewer figures: the rest of its memory is its own. */
static void test_only_as_much_is_filled_as_was_asked_for(void **state)
{
    struct store *store = store_begin(2);
    struct cask_stats stats;

    (void)state;
    memset(&stats, 0xee, sizeof stats);
    stats.size = offsetof(struct cask_stats, live_bytes);
    put(store, "key", "value");
    assert_ok(cask_stats(store->db, &stats));
    assert_int_equal(stats.shards, 2);
    assert_int_equal(stats.live_keys, 1);
    assert_true(stats.live_bytes == 0xeeeeeeeeeeeeeeeeu);
    assert_int_equal(stats.size, offsetof(struct cask_stats, live_bytes));
    store_end(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_store_counts_nothing),
        cmocka_unit_test(test_keys_and_bytes_are_exact),
        cmocka_unit_test(test_what_is_on_disk_counts_the_same_after_reopening),
        cmocka_unit_test(test_expired_keys_count_until_their_space_is_reclaimed),
        cmocka_unit_test(test_syncs_are_counted),
        cmocka_unit_test(test_an_interval_syncs_without_being_asked),
        cmocka_unit_test(test_reads_are_counted),
        cmocka_unit_test(test_many_reads_at_once_count_hardly_more_than_the_keys),
        cmocka_unit_test(test_a_small_store_is_small_on_disk),
        cmocka_unit_test(test_disk_bytes_are_those_of_all_files),
        cmocka_unit_test(test_the_index_keeps_to_its_memory),
        cmocka_unit_test(test_what_a_kill_left_is_counted),
        cmocka_unit_test(test_rebuilt_hints_are_counted),
        cmocka_unit_test(test_only_as_much_is_filled_as_was_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
