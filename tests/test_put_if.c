/* Conditional puts: the key absent, or as it was. Several threads: test_concurrency_put_if.c. */
#include "unit_store.h"

#include "support_spill.h"

enum where { IN_STAGE, IN_KEYDIR, IN_RUN, IN_RUNS, MERGED, REOPENED, KILLED, PLACES };

static uint64_t sequence_of(struct store *store, const char *key)
{
    struct cask_view view;
    uint64_t sequence;

    assert_ok(cask_view(store->db, slice_of(key), &view));
    sequence = view.sequence;
    cask_view_release(&view);
    assert_int_equal(view.sequence, 0);
    return sequence;
}

static int put_if(struct store *store, const char *value, uint64_t sequence, uint64_t *ret_sequence)
{
    return cask_put_if(store->db, slice_of("key"), slice_of(value), sequence, ret_sequence);
}

/* As a kill would leave it: goes on with a copy. */
static void go_on_with_a_copy(struct store *store)
{
    struct store *copy = store_copy(store);
    char *path = store->path;

    store_down(store);
    store->path = copy->path;
    copy->path = path;
    store_end(copy);
    store_up(store);
}

/* Where the entry of the key is to be when it is looked for. */
static void settle(struct store *store, enum where place)
{
    switch (place) {
    case IN_STAGE:
        break;
    case IN_KEYDIR:
        put_numbers(store, 0, 200);
        break;
    case IN_RUN:
        assert_ok(cask_flush_index(store->db));
        break;
    case IN_RUNS: /* one more, which may lead to a tombstone */
        put_numbers(store, 0, 5);
        assert_ok(spill_all(store->db));
        break;
    case KILLED:
        go_on_with_a_copy(store);
        break;
    case MERGED:
        put_numbers(store, 0, 200);
        put_numbers(store, 0, 200);
        assert_ok(cask_merge(store->db, NULL, NULL));
        break;
    default:
        store_again(store);
        break;
    }
}

static void try_all(struct store *store, enum where place)
{
    uint64_t first = 0;
    uint64_t second = 0;

    assert_int_equal(put_if(store, "none", 7, &first), CASK_NOTFOUND);
    assert_int_equal(first, 0);
    check_value(store->db, "key", NULL);
    assert_ok(put_if(store, "one", 0, &first));
    settle(store, place);
    assert_int_equal(put_if(store, "no", 0, &second), CASK_EEXIST);
    assert_int_equal(put_if(store, "no", first + 1, &second), CASK_EEXIST);
    check_value(store->db, "key", "one");
    assert_int_equal(sequence_of(store, "key"), first);
    assert_ok(put_if(store, "two", first, &second));
    assert_true(second > first);
    settle(store, place);
    assert_int_equal(put_if(store, "no", first, NULL), CASK_EEXIST);
    check_value(store->db, "key", "two");
    assert_ok(cask_delete(store->db, slice_of("key")));
    settle(store, place);
    assert_int_equal(put_if(store, "no", second, NULL), CASK_NOTFOUND);
    assert_ok(put_if(store, "three", 0, &first));
    assert_true(first > second);
    settle(store, place);
    check_value(store->db, "key", "three");
    assert_ok(cask_flush_index(store->db));
    assert_ok(cask_verify(store->db, NULL, NULL));
}

static void test_in_all_places_and_modes(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < COUNT_OF(unit_modes); mode++)
        for (enum where place = 0; place < PLACES; place++) {
            struct store *store = store_begin_mode(2, mode, 4000);

            try_all(store, place);
            store_end(store);
        }
}

static void test_what_has_expired_is_absent(void **state)
{
    struct store *store = store_begin(1);

    (void)state;
    assert_ok(cask_put_expiring(store->db, slice_of("key"), slice_of("old"), 1));
    assert_int_equal(put_if(store, "no", 1, NULL), CASK_NOTFOUND);
    assert_ok(put_if(store, "new", 0, NULL));
    check_value(store->db, "key", "new");
    assert_int_equal(stats_of(store).live_keys, 1);
    assert_ok(cask_put_expiring(store->db, slice_of("key"), slice_of("old"), 1));
    assert_ok(cask_flush_index(store->db));
    assert_int_equal(put_if(store, "no", 3, NULL), CASK_NOTFOUND);
    assert_ok(put_if(store, "newer", 0, NULL));
    check_value(store->db, "key", "newer");
    store_end(store);
}

static void test_an_expiry_is_removed(void **state)
{
    const uint64_t far_ms = wall_clock_ms() + 3600000;
    struct store *store = store_begin(1);
    struct cask_iter *iter;
    struct cask_entry entry;

    (void)state;
    assert_ok(cask_put_expiring(store->db, slice_of("key"), slice_of("old"), far_ms));
    assert_int_equal(put_if(store, "no", 0, NULL), CASK_EEXIST);
    assert_ok(put_if(store, "new", sequence_of(store, "key"), NULL));
    assert_ok(cask_iter_create(store->db, &iter));
    assert_ok(cask_iter_next(iter, &entry));
    assert_int_equal(entry.expires_at_ms, 0);
    assert_slice(entry.value, "new", 3);
    cask_iter_destroy(iter);
    store_end(store);
}

/* Also when nothing is left of what had the number, in the log or in the index. */
static void test_no_number_of_a_key_comes_again(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct store *store = store_begin(1);
        uint64_t before = 0;
        uint64_t after = 0;

        assert_ok(put_if(store, "value", 0, &before));
        assert_ok(cask_delete(store->db, slice_of("key")));
        assert_ok(cask_merge(store->db, NULL, NULL));
        assert_ok(cask_flush_index(store->db));
        assert_int_equal(stats_of(store).live_keys, 0);
        settle(store, i == 0 ? REOPENED : KILLED);
        assert_ok(put_if(store, "value", 0, &after));
        assert_true(after > before);
        assert_int_equal(put_if(store, "no", before, NULL), CASK_EEXIST);
        store_end(store);
    }
}

/* Other writes of a key count as well, and those of a batch. */
static void test_every_write_changes_the_sequence(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch;
    uint64_t before;

    (void)state;
    put(store, "key", "one");
    before = sequence_of(store, "key");
    put(store, "key", "one");
    assert_true(sequence_of(store, "key") > before);
    before = sequence_of(store, "key");
    assert_ok(cask_batch_create(store->db, &batch));
    assert_ok(cask_batch_put(batch, slice_of("key"), slice_of("two")));
    assert_ok(cask_batch_put(batch, slice_of("other"), slice_of("two")));
    assert_ok(cask_write(store->db, batch));
    cask_batch_destroy(batch);
    assert_int_equal(put_if(store, "no", before, NULL), CASK_EEXIST);
    assert_ok(put_if(store, "three", sequence_of(store, "key"), NULL));
    store_end(store);
}

/* Values of no bytes and such as need a segment of their own; two keys that are all but equal. */
static void test_keys_and_values_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 3000, 70000};

    (void)state;
    for (size_t mode = 0; mode < COUNT_OF(unit_modes); mode++)
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            struct store *store = store_begin_mode(1, mode, 2000);
            uint8_t *bytes = unit_bytes(CASK_KEY_MAX, 7);
            uint8_t *value_bytes = unit_bytes(sizes[i], i);
            struct cask_slice value = slice_bytes(sizes[i] ? value_bytes : NULL, sizes[i]);
            struct cask_slice key = slice_bytes(bytes, CASK_KEY_MAX);
            struct cask_slice other = slice_bytes(bytes, CASK_KEY_MAX - 1);
            struct cask_view view;
            uint64_t sequence;

            assert_ok(cask_put_if(store->db, key, value, 0, &sequence));
            assert_int_equal(cask_put_if(store->db, other, value, sequence, NULL), CASK_NOTFOUND);
            assert_ok(cask_put_if(store->db, key, value, sequence, NULL));
            assert_ok(cask_put_if(store->db, other, value, 0, NULL));
            assert_ok(cask_view(store->db, key, &view));
            assert_slice(view.value, value_bytes, sizes[i]);
            cask_view_release(&view);
            free(bytes);
            free(value_bytes);
            store_end(store);
        }
}

/* Each of many keys raised in turn, while there is hardly any memory for the index. */
static void test_with_hardly_any_memory(void **state)
{
    static uint64_t sequences[60000];
    struct store *store = store_make(2);
    char text[24];

    (void)state;
    store->options.index_memory = (uint64_t)1 << 20;
    store_up(store);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < COUNT_OF(sequences); i++) {
            struct cask_slice key = numbered(text, i);

            if (round > 0)
                assert_int_equal(cask_put_if(store->db, key, key, 0, NULL), CASK_EEXIST);
            assert_ok(cask_put_if(store->db, key, key, sequences[i], &sequences[i]));
        }
    check_numbers(store, 0, COUNT_OF(sequences));
    assert_true(stats_of(store).index_flushes > 0);
    assert_ok(cask_flush_index(store->db));
    assert_int_equal(stats_of(store).live_keys, COUNT_OF(sequences));
    store_end(store);
}

static void test_durable_at_once(void **state)
{
    struct store *store = store_make(1);
    uint64_t syncs;

    (void)state;
    store->options.sync_mode = CASK_SYNC_ALWAYS;
    store_up(store);
    assert_ok(put_if(store, "one", 0, NULL));
    syncs = stats_of(store).syncs;
    assert_true(syncs > 0);
    assert_int_equal(put_if(store, "two", 0, NULL), CASK_EEXIST);
    assert_int_equal(stats_of(store).syncs, syncs);
    assert_ok(put_if(store, "two", sequence_of(store, "key"), NULL));
    assert_true(stats_of(store).syncs > syncs);
    store_end(store);
}

static void test_wrong_arguments(void **state)
{
    static const uint8_t large[CASK_KEY_MAX + 1];
    struct store *store = store_begin(1);
    struct cask_slice value = slice_of("value");
    uint64_t sequence = 7;

    (void)state;
    assert_int_equal(cask_put_if(NULL, slice_of("key"), value, 0, &sequence), CASK_EINVAL);
    assert_int_equal(cask_put_if(store->db, slice_of(""), value, 0, &sequence), CASK_EINVAL);
    assert_int_equal(cask_put_if(store->db, slice_bytes(large, sizeof large), value, 0, &sequence),
                     CASK_ETOOBIG);
    assert_int_equal(
        cask_put_if(store->db, slice_of("key"), (struct cask_slice){NULL, 1}, 0, &sequence),
        CASK_EINVAL);
    store_down(store);
    store->options.read_only = 1;
    store_up(store);
    assert_int_equal(cask_put_if(store->db, slice_of("key"), value, 0, &sequence), CASK_EREADONLY);
    assert_int_equal(sequence, 7);
    store_end(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_all_places_and_modes),
        cmocka_unit_test(test_what_has_expired_is_absent),
        cmocka_unit_test(test_an_expiry_is_removed),
        cmocka_unit_test(test_no_number_of_a_key_comes_again),
        cmocka_unit_test(test_every_write_changes_the_sequence),
        cmocka_unit_test(test_keys_and_values_of_all_sizes),
        cmocka_unit_test(test_with_hardly_any_memory),
        cmocka_unit_test(test_durable_at_once),
        cmocka_unit_test(test_wrong_arguments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
