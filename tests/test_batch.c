/* store/batch: several operations as one, in one shard and across them, and what recovery makes of
 * half of one. */
#include <sys/stat.h>
#include <unistd.h>

#include "unit_store.h"

#include "log/record.h"
#include "store/store.h"

static struct cask_batch *batch_of(struct store *store)
{
    struct cask_batch *batch;

    assert_ok(cask_batch_create(store->db, &batch));
    return batch;
}

static void add(struct cask_batch *batch, const char *key, const char *value)
{
    if (value)
        assert_ok(cask_batch_put(batch, slice_of(key), slice_of(value)));
    else
        assert_ok(cask_batch_delete(batch, slice_of(key)));
}

static void add_numbers(struct cask_batch *batch, unsigned first, unsigned end, const char *value)
{
    char key[24];

    for (unsigned i = first; i < end; i++) {
        numbered(key, i);
        add(batch, key, value ? value : key);
    }
}

static void assert_numbers_have(struct store *store, unsigned first, unsigned end,
                                const char *value)
{
    char key[24];

    for (unsigned i = first; i < end; i++) {
        numbered(key, i);
        check_value(store->db, key, value);
    }
}

/* ---- collecting ------------------------------------------------------------------------------ */

static void test_nothing_is_seen_before_the_write(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch = batch_of(store);

    (void)state;
    put(store, "gone", "value");
    add(batch, "new", "value");
    add(batch, "gone", NULL);
    check_value(store->db, "new", NULL);
    check_value(store->db, "gone", "value");
    assert_ok(cask_write(store->db, batch));
    check_value(store->db, "new", "value");
    check_value(store->db, "gone", NULL);
    cask_batch_destroy(batch);
    store_end(store);
}

static void test_keys_and_values_are_copied_at_once(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch = batch_of(store);
    char *key = malloc(4);
    char *value = malloc(6);

    (void)state;
    memcpy(key, "key", 4);
    memcpy(value, "value", 6);
    add(batch, key, value);
    memset(key, 'x', 3);
    memset(value, 'x', 5);
    free(key);
    free(value);
    assert_ok(cask_write(store->db, batch));
    check_value(store->db, "key", "value");
    check_value(store->db, "xxx", NULL);
    cask_batch_destroy(batch);
    store_end(store);
}

static void test_later_operations_on_a_key_win(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(4, m, 4096);
        struct cask_batch *batch = batch_of(store);

        put(store, "c", "old");
        add(batch, "a", "one");
        add(batch, "a", "two");
        add(batch, "b", "one");
        add(batch, "b", NULL);
        add(batch, "c", NULL);
        add(batch, "c", "new");
        add(batch, "d", NULL);
        assert_ok(cask_write(store->db, batch));
        for (int again = 0; again < 2; again++) {
            check_value(store->db, "a", "two");
            check_value(store->db, "b", NULL);
            check_value(store->db, "c", "new");
            check_value(store->db, "d", NULL);
            assert_int_equal(stats_of(store).live_keys, 2);
            if (again == 0) {
                cask_batch_destroy(batch);
                store_again(store);
            }
        }
        store_end(store);
    }
}

static void test_a_batch_keeps_its_contents_until_it_is_cleared(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch = batch_of(store);

    (void)state;
    add(batch, "key", "value");
    assert_ok(cask_write(store->db, batch));
    assert_ok(cask_delete(store->db, slice_of("key")));
    assert_ok(cask_write(store->db, batch));
    check_value(store->db, "key", "value");
    add(batch, "more", "value");
    assert_ok(cask_write(store->db, batch));
    check_value(store->db, "more", "value");
    cask_batch_clear(batch);
    assert_ok(cask_delete(store->db, slice_of("key")));
    assert_ok(cask_write(store->db, batch));
    check_value(store->db, "key", NULL);
    add(batch, "third", "value");
    assert_ok(cask_write(store->db, batch));
    check_value(store->db, "third", "value");
    cask_batch_destroy(batch);
    store_end(store);
}

static void test_an_empty_batch_writes_nothing(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch = batch_of(store);

    (void)state;
    assert_ok(cask_write(store->db, batch));
    cask_batch_clear(batch);
    assert_ok(cask_write(store->db, batch));
    assert_int_equal(stats_of(store).written_bytes, 0);
    cask_batch_destroy(batch);
    store_end(store);
}

static void test_a_refused_operation_leaves_the_batch_as_it_was(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch = batch_of(store);
    struct cask_slice empty = {"", 0};
    struct cask_slice long_key = {store, CASK_KEY_MAX + 1};

    (void)state;
    add(batch, "key", "value");
    assert_int_equal(cask_batch_put(batch, empty, slice_of("v")), CASK_EINVAL);
    assert_int_equal(cask_batch_put(batch, long_key, slice_of("v")), CASK_ETOOBIG);
    assert_int_equal(cask_batch_delete(batch, long_key), CASK_ETOOBIG);
    assert_int_equal(cask_batch_put_expiring(batch, slice_of("k"), slice_of("v"), 0), CASK_EINVAL);
    assert_ok(cask_write(store->db, batch));
    assert_int_equal(stats_of(store).writes, 1);
    cask_batch_destroy(batch);
    store_end(store);
}

static void test_batches_of_any_size_are_applied(void **state)
{
    char *large = malloc(200001);

    (void)state;
    memset(large, 'x', 200000);
    large[200000] = '\0';
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(4, m, 4096);
        struct cask_batch *batch = batch_of(store);

        add_numbers(batch, 0, 5000, NULL);
        for (unsigned i = 0; i < 5; i++) {
            char key[24];

            numbered(key, 10000 + i);
            add(batch, key, large);
        }
        assert_ok(cask_write(store->db, batch));
        cask_batch_destroy(batch);
        for (int again = 0; again < 2; again++) {
            size_t size;

            check_numbers(store, 0, 5000);
            assert_ok(cask_get(store->db, slice_of("key10004"), large, 200000, &size));
            assert_int_equal(size, 200000);
            if (again == 0)
                store_again(store);
        }
        store_end(store);
    }
    free(large);
}

static void test_expiry_comes_along(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch = batch_of(store);

    (void)state;
    assert_ok(cask_batch_put_expiring(batch, slice_of("gone"), slice_of("v"), 1));
    assert_ok(cask_batch_put_expiring(batch, slice_of("here"), slice_of("v"), RECORD_EXPIRY_MAX));
    assert_ok(cask_write(store->db, batch));
    check_value(store->db, "gone", NULL);
    check_value(store->db, "here", "v");
    cask_batch_destroy(batch);
    store_end(store);
}

/* In one shard a batch takes at most what a location can name. Just below that limit, the last of
 * its records used to lie beyond it. */
static void test_a_batch_just_within_the_limit_is_whole_and_one_over_it_is_refused(void **state)
{
    size_t limit = (size_t)256 << 20;
    size_t sizes[] = {limit - 80, limit}; /* of a value, with a small record behind it */
    char *large = calloc(1, limit);

    (void)state;
    assert_non_null(large);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct store *store = store_begin(1);
        struct cask_batch *batch = batch_of(store);
        int status;

        assert_ok(cask_batch_put(batch, slice_of("large"), (struct cask_slice){large, sizes[i]}));
        add(batch, "last", "value");
        status = cask_write(store->db, batch);
        assert_true(status == CASK_ETOOBIG || (status == CASK_OK && sizes[i] < limit));
        check_value(store->db, "last", status == CASK_OK ? "value" : NULL);
        cask_batch_destroy(batch);
        store_end(store);
    }
    free(large);
}

/* ---- halves ---------------------------------------------------------------------------------- */

/* Behind the last byte of the shard's log that is not zero. */
static uint64_t end_of_log(struct store *store, unsigned shard)
{
    size_t size;
    uint8_t *bytes = read_whole_file(shard_path(store->path, shard, "1.data"), &size);

    while (size > 0 && bytes[size - 1] == 0)
        size--;
    free(bytes);
    return size;
}

/* Cuts one shard's log to `length`, as a crash would that lost its end. */
static void cut_log(struct store *copy, unsigned shard, uint64_t length)
{
    const char *path = shard_path(copy->path, shard, "1.data");
    size_t size;
    uint8_t *bytes = read_whole_file(path, &size);

    assert_true(length < size);
    memset(bytes + length, 0, size - (size_t)length);
    write_file(path, bytes, size);
    free(bytes);
}

static void test_a_batch_is_whole_or_absent_wherever_a_log_ends(void **state)
{
    (void)state;
    for (unsigned shard = 0; shard < 4; shard++)
        for (uint64_t part = 0; part <= 8; part++) {
            struct store *store = store_begin(4);
            struct cask_batch *batch = batch_of(store);
            struct store *copy;
            uint64_t before;
            uint64_t after;

            put_numbers(store, 0, 40);
            before = end_of_log(store, shard);
            add_numbers(batch, 0, 40, "new");
            add(batch, "key0", NULL);
            assert_ok(cask_write(store->db, batch));
            cask_batch_destroy(batch);
            after = end_of_log(store, shard);
            copy = store_copy(store);
            cut_log(copy, shard, before + (after - before) * part / 8);
            store_up(copy);
            check_value(copy->db, "key0", part == 8 ? NULL : "key0");
            if (part == 8)
                assert_numbers_have(copy, 1, 40, "new");
            else
                check_numbers(copy, 1, 40);
            put(copy, "after", "value");
            store_again(copy);
            check_value(copy->db, "after", "value");
            check_value(copy->db, "key1", part == 8 ? "new" : "key1");
            store_end(copy);
            store_end(store);
        }
}

/* The end of one log takes a batch out of another shard's, and with it what stands behind. */
static void test_a_cut_takes_later_batches_along(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch = batch_of(store);
    struct store *copy;
    uint64_t before;

    (void)state;
    put_numbers(store, 0, 40);
    before = end_of_log(store, 2);
    for (unsigned round = 0; round < 5; round++) {
        cask_batch_clear(batch);
        add_numbers(batch, 0, 40, "new");
        assert_ok(cask_write(store->db, batch));
    }
    cask_batch_destroy(batch);
    copy = store_copy(store);
    cut_log(copy, 2, before);
    store_up(copy);
    check_numbers(copy, 0, 40);
    assert_true(log_lines_count(&copy->lines, CASK_LOG_WARNING) > 0);
    assert_true(stats_of(copy).cut_bytes > 0);
    store_end(copy);
    store_end(store);
}

/* A batch in one shard alone has nobody to wait for. */
static void test_a_batch_in_one_shard_does_not_mind_the_others(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch = batch_of(store);
    struct store *copy;

    (void)state;
    put_numbers(store, 0, 40);
    add(batch, "key7", "one");
    add(batch, "key7", "two");
    assert_ok(cask_write(store->db, batch));
    cask_batch_destroy(batch);
    copy = store_copy(store);
    for (unsigned shard = 0; shard < 4; shard++)
        cut_log(copy, shard, end_of_log(copy, shard)); /* which changes nothing */
    store_up(copy);
    check_value(copy->db, "key7", "two");
    store_end(copy);
    store_end(store);
}

/* What a close has settled is not undone by what happens to one shard later on. */
static void test_settled_batches_stay_when_another_shard_is_damaged(void **state)
{
    struct store *store = store_begin(2);
    struct cask_batch *batch = batch_of(store);
    uint64_t end;
    unsigned found = 0;

    (void)state;
    add_numbers(batch, 0, 40, "new");
    assert_ok(cask_write(store->db, batch));
    cask_batch_destroy(batch);
    store_down(store);
    end = end_of_log(store, 0);
    tree_remove(shard_path(store->path, 0, "1.hint"));
    patch_file(shard_path(store->path, 0, "1.data"), end - 3, "???", 3); /* the batch's end */
    store_up(store);
    for (unsigned i = 0; i < 40; i++) {
        char key[24];

        found += cask_exists(store->db, numbered(key, i)) == CASK_OK;
    }
    assert_in_range(found, 5, 35); /* those of the other shard */
    assert_true(log_lines_count(&store->lines, CASK_LOG_ERROR) > 0);
    store_end(store);
}

static void test_batch_numbers_go_on_after_every_kind_of_end(void **state)
{
    struct store *store = store_begin(4);

    (void)state;
    for (unsigned round = 0; round < 8; round++) {
        struct cask_batch *batch = batch_of(store);
        struct store *copy;
        char value[24];

        numbered(value, round);
        add_numbers(batch, 0, 40, value);
        assert_ok(cask_write(store->db, batch));
        cask_batch_destroy(batch);
        if (round % 2) {
            store_again(store);
        } else { /* go on with what a kill would leave */
            copy = store_copy(store);
            store_end(store);
            store = copy;
            store_up(store);
        }
        assert_numbers_have(store, 0, 40, value);
    }
    store_end(store);
}

/* One shard cannot take its part: nothing of the batch is anywhere, and the next try works. */
static void test_a_batch_that_fails_in_one_shard_is_undone_in_all(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(4, m, 1024);
        const char *obstacle;
        int status = CASK_OK;
        unsigned round = 0;

        put_numbers(store, 0, 40);
        obstacle = shard_path(store->path, 3, "MANIFEST.tmp");
        tree_remove(obstacle);
        assert_int_equal(mkdir(obstacle, 0700), 0);
        while (status == CASK_OK) {
            struct cask_batch *batch = batch_of(store);
            char value[24];

            numbered(value, ++round);
            add_numbers(batch, 0, 40, value);
            status = cask_write(store->db, batch);
            cask_batch_destroy(batch);
            if (status != CASK_OK)
                numbered(value, --round);
            if (round > 0)
                assert_numbers_have(store, 0, 40, value);
            else
                check_numbers(store, 0, 40);
        }
        assert_int_equal(rmdir(shard_path(store->path, 3, "MANIFEST.tmp")), 0);
        put_numbers(store, 0, 40);
        store_again(store);
        check_numbers(store, 0, 40);
        store_end(store);
    }
}

/* The system refuses memory where the entries of a batch that is written belong. */
static void test_a_batch_that_cannot_be_indexed_says_so_and_is_there_after_reopening(void **state)
{
    static char keys[600][16];
    struct store *store = store_begin(1);
    struct cask_batch *batch = batch_of(store);
    struct shard *shard = &store->db->shards[0];
    struct keydir *keydir = index_keydir(&shard->index);
    size_t reserved = keydir->reserved_bytes;

    (void)state;
    crowd_of(store->db->env.hash_seed, store->db->env.shard_bits, COUNT_OF(keys), keys);
    for (unsigned i = 0; i < COUNT_OF(keys); i++)
        add(batch, keys[i], "value");
    pthread_mutex_lock(&shard->lock);
    assert_ok(keydir_reserve(keydir, COUNT_OF(keys) + INDEX_STAGE));
    keydir->reserved_bytes = (size_t)keydir->committed_bytes;
    pthread_mutex_unlock(&shard->lock);
    assert_int_equal(cask_write(store->db, batch), CASK_ENOMEM);
    assert_int_equal(cask_write(store->db, batch), CASK_ENOMEM);
    assert_int_equal(cask_put(store->db, slice_of("key"), slice_of("value")), CASK_ENOMEM);
    cask_batch_destroy(batch);
    keydir->reserved_bytes = reserved;
    assert_int_equal(cask_close(store->db), CASK_EIO); /* no sync that the shard would vouch for */
    store_up(store);
    for (unsigned i = 0; i < COUNT_OF(keys); i++)
        check_value(store->db, keys[i], "value");
    store_end(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_seen_before_the_write),
        cmocka_unit_test(test_keys_and_values_are_copied_at_once),
        cmocka_unit_test(test_later_operations_on_a_key_win),
        cmocka_unit_test(test_a_batch_keeps_its_contents_until_it_is_cleared),
        cmocka_unit_test(test_an_empty_batch_writes_nothing),
        cmocka_unit_test(test_a_refused_operation_leaves_the_batch_as_it_was),
        cmocka_unit_test(test_batches_of_any_size_are_applied),
        cmocka_unit_test(test_expiry_comes_along),
        cmocka_unit_test(test_a_batch_just_within_the_limit_is_whole_and_one_over_it_is_refused),
        cmocka_unit_test(test_a_batch_is_whole_or_absent_wherever_a_log_ends),
        cmocka_unit_test(test_a_cut_takes_later_batches_along),
        cmocka_unit_test(test_a_batch_in_one_shard_does_not_mind_the_others),
        cmocka_unit_test(test_settled_batches_stay_when_another_shard_is_damaged),
        cmocka_unit_test(test_batch_numbers_go_on_after_every_kind_of_end),
        cmocka_unit_test(test_a_batch_that_fails_in_one_shard_is_undone_in_all),
        cmocka_unit_test(test_a_batch_that_cannot_be_indexed_says_so_and_is_there_after_reopening),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
