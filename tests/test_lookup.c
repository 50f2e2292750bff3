/* store/lookup: copies, borrowed views, many keys at once. */
#include "unit_store.h"

#include "base/thread.h"

/* ---- get and exists -------------------------------------------------------------------------- */

static void test_a_value_is_copied_if_it_fits(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(2, m, 4096);
        char buffer[8];
        size_t size;

        put(store, "key", "value");
        for (size_t capacity = 0; capacity <= sizeof buffer; capacity++) {
            memset(buffer, '#', sizeof buffer);
            size = 99;
            assert_int_equal(cask_get(store->db, slice_of("key"), buffer, capacity, &size),
                             capacity < 5 ? CASK_ERANGE : CASK_OK);
            assert_int_equal(size, 5);
            for (size_t i = capacity; i < sizeof buffer; i++)
                assert_int_equal(buffer[i], '#');
            if (capacity >= 5)
                assert_memory_equal(buffer, "value", 5);
        }
        assert_int_equal(cask_get(store->db, slice_of("key"), NULL, 0, &size), CASK_ERANGE);
        assert_int_equal(size, 5);
        assert_ok(cask_get(store->db, slice_of("key"), buffer, sizeof buffer, NULL));
        assert_int_equal(cask_get(store->db, slice_of("key"), buffer, 2, NULL), CASK_ERANGE);
        store_end(store);
    }
}

static void test_an_empty_value_is_a_value(void **state)
{
    struct store *store = store_begin(2);
    size_t size = 99;

    (void)state;
    put(store, "key", "");
    assert_ok(cask_get(store->db, slice_of("key"), NULL, 0, &size));
    assert_int_equal(size, 0);
    assert_ok(cask_exists(store->db, slice_of("key")));
    store_end(store);
}

static void test_what_is_not_there_leaves_the_outputs_alone(void **state)
{
    struct store *store = store_begin(2);
    char buffer[4] = "###";
    size_t size = 99;
    struct cask_view view = {{buffer, 3}, NULL, 7};

    (void)state;
    assert_int_equal(cask_exists(store->db, slice_of("key")), CASK_NOTFOUND);
    assert_int_equal(cask_get(store->db, slice_of("key"), buffer, 4, &size), CASK_NOTFOUND);
    assert_int_equal(cask_view(store->db, slice_of("key"), &view), CASK_NOTFOUND);
    assert_int_equal(size, 99);
    assert_string_equal(buffer, "###");
    assert_ptr_equal(view.value.data, buffer);
    store_end(store);
}

static void test_keys_and_values_of_any_bytes_are_told_apart(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(4, m, 4096);
        uint8_t key[3];
        uint8_t value;
        size_t size;

        for (int again = 0; again < 2; again++) {
            for (unsigned i = 0; i < 256; i++)
                for (size_t length = 1; length <= 3; length++) {
                    struct cask_slice slice = {key, length};

                    memset(key, (int)i, sizeof key);
                    if (again == 0) {
                        value = (uint8_t)(i + length);
                        assert_ok(cask_put(store->db, slice, (struct cask_slice){&value, 1}));
                    }
                    assert_ok(cask_get(store->db, slice, &value, 1, &size));
                    assert_int_equal(value, (uint8_t)(i + length));
                }
            if (again == 0)
                store_again(store);
        }
        store_end(store);
    }
}

static void test_the_longest_keys_are_told_apart(void **state)
{
    uint8_t *key = unit_bytes(CASK_KEY_MAX, 1);
    struct cask_slice slice = {key, CASK_KEY_MAX};

    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(2, m, 4096);

        for (unsigned i = 0; i < 4; i++) {
            key[CASK_KEY_MAX - 1] = (uint8_t)i;
            assert_ok(cask_put(store->db, slice, (struct cask_slice){key + i, 1}));
        }
        store_again(store);
        for (unsigned i = 0; i < 6; i++) {
            uint8_t value;

            key[CASK_KEY_MAX - 1] = (uint8_t)i;
            assert_int_equal(cask_get(store->db, slice, &value, 1, NULL),
                             i < 4 ? CASK_OK : CASK_NOTFOUND);
            if (i < 4)
                assert_int_equal(value, key[i]);
        }
        store_end(store);
    }
    free(key);
}

static void test_checksums_are_verified_unless_nobody_asks(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(1, m, 4096);

        put(store, "key", "value");
        put(store, "other", "value");
        store_down(store);
        patch_file(shard_path(store->path, 0, "1.data"), 64 + 17 + 3, "V", 1);
        store_up(store);
        assert_int_equal(cask_exists(store->db, slice_of("key")), CASK_ECORRUPT);
        assert_true(log_lines_mention(&store->lines, "shard-000/1.data: offset 64"));
        check_value(store->db, "other", "value");
        store_down(store);
        store->options.verify_reads = CASK_SWITCH_OFF;
        store_up(store);
        check_value(store->db, "key", "Value");
        store_end(store);
    }
}

/* ---- views ----------------------------------------------------------------------------------- */

/* Whatever happens to the key and the store, the bytes of a view stay. */
static void test_a_view_stays_until_it_is_released(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(2, m, 4096);
        struct cask_view views[100];
        char key[24];

        put_numbers(store, 0, 100);
        for (unsigned i = 0; i < 100; i++)
            assert_ok(cask_view(store->db, numbered(key, i), &views[i]));
        for (unsigned i = 0; i < 100; i++)
            if (i % 2)
                assert_ok(cask_put(store->db, numbered(key, i), slice_of("another")));
            else
                assert_ok(cask_delete(store->db, numbered(key, i)));
        put_numbers(store, 1000, 4000); /* many rotations */
        assert_ok(cask_sync(store->db));
        for (unsigned i = 0; i < 100; i++) {
            numbered(key, i);
            assert_slice(views[i].value, key, strlen(key));
            cask_view_release(&views[i]);
            assert_null(views[i].value.data);
            assert_int_equal(views[i].value.size, 0);
            cask_view_release(&views[i]); /* once more does nothing */
        }
        store_end(store);
    }
}

static void test_a_view_of_an_empty_value_has_no_bytes(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(2, m, 4096);
        struct cask_view view;

        put(store, "key", "");
        assert_ok(cask_view(store->db, slice_of("key"), &view));
        assert_int_equal(view.value.size, 0);
        cask_view_release(&view);
        store_end(store);
    }
}

static void test_releasing_nothing_is_fine(void **state)
{
    struct cask_view zeroed = {{NULL, 0}, NULL, 0};

    (void)state;
    cask_view_release(&zeroed);
    cask_view_release(NULL);
}

static void *release(void *view)
{
    cask_view_release(view);
    return NULL;
}

static void test_another_thread_may_release_a_view(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(2, m, 4096);
        struct cask_view view;
        pthread_t thread;

        put(store, "key", "value");
        assert_ok(cask_view(store->db, slice_of("key"), &view));
        assert_ok(thread_start(&thread, release, &view));
        pthread_join(thread, NULL);
        store_end(store);
    }
}

/* ---- many at once ---------------------------------------------------------------------------- */

#define MANY 200

static void test_many_keys_are_what_single_gets_say(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(4, m, 4096);
        struct cask_slice keys[MANY];
        struct cask_slice values[MANY];
        int statuses[MANY];
        char names[MANY][24];
        char buffer[MANY * 8];
        size_t used = 0;

        put_numbers(store, 0, MANY);
        for (unsigned i = 0; i < MANY; i += 3)
            assert_ok(cask_delete(store->db, numbered(names[i], i)));
        for (size_t count = 0; count <= MANY; count = count * 2 + 1) {
            used = 0;
            for (unsigned i = 0; i < count; i++)
                keys[i] = numbered(names[i], i);
            assert_ok(
                cask_get_many(store->db, count, keys, buffer, sizeof buffer, values, statuses));
            for (unsigned i = 0; i < count; i++) {
                assert_int_equal(statuses[i], i % 3 == 0 ? CASK_NOTFOUND : CASK_OK);
                if (statuses[i] == CASK_OK) {
                    assert_slice(values[i], names[i], strlen(names[i]));
                    assert_ptr_equal(values[i].data, buffer + used); /* one behind the other */
                    used += values[i].size;
                } else {
                    assert_null(values[i].data);
                    assert_int_equal(values[i].size, 0);
                }
            }
        }
        store_end(store);
    }
}

/* A value that does not fit is told with its size; smaller ones behind it still find room. */
static void test_values_that_do_not_fit_do_not_affect_the_others(void **state)
{
    struct cask_slice keys[] = {slice_of("a"),    slice_of("large"), slice_of("b"),
                                slice_of("none"), slice_of("c"),     slice_of("a")};
    struct cask_slice values[COUNT_OF(keys)];
    int statuses[COUNT_OF(keys)];
    char buffer[10];

    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(2, m, 4096);

        put(store, "a", "1234");
        put(store, "b", "5678");
        put(store, "c", "");
        put(store, "large", "more than ten bytes");
        memset(buffer, '#', sizeof buffer);
        assert_int_equal(
            cask_get_many(store->db, COUNT_OF(keys), keys, buffer, sizeof buffer, values, statuses),
            CASK_ERANGE);
        assert_ok(statuses[0]);
        assert_slice(values[0], "1234", 4);
        assert_int_equal(statuses[1], CASK_ERANGE);
        assert_null(values[1].data);
        assert_int_equal(values[1].size, 19);
        assert_ok(statuses[2]);
        assert_slice(values[2], "5678", 4);
        assert_int_equal(statuses[3], CASK_NOTFOUND);
        assert_ok(statuses[4]);
        assert_int_equal(values[4].size, 0);
        assert_int_equal(statuses[5], CASK_ERANGE); /* eight of ten bytes are taken */
        assert_int_equal(values[5].size, 4);
        store_end(store);
    }
}

static void test_a_call_without_a_buffer_tells_all_sizes(void **state)
{
    struct store *store = store_begin(2);
    struct cask_slice keys[] = {slice_of("a"), slice_of("none"), slice_of("empty")};
    struct cask_slice values[COUNT_OF(keys)];
    int statuses[COUNT_OF(keys)];

    (void)state;
    put(store, "a", "1234");
    put(store, "empty", "");
    assert_int_equal(cask_get_many(store->db, COUNT_OF(keys), keys, NULL, 0, values, statuses),
                     CASK_ERANGE);
    assert_int_equal(statuses[0], CASK_ERANGE);
    assert_int_equal(values[0].size, 4);
    assert_int_equal(statuses[1], CASK_NOTFOUND);
    assert_ok(statuses[2]);
    assert_int_equal(values[2].size, 0);
    store_end(store);
}

/* The first status that is neither found nor not found, in the order of the keys. */
static void test_the_result_is_the_first_trouble(void **state)
{
    struct store *store = store_begin(2);
    struct cask_slice good = slice_of("key");
    struct cask_slice empty = {"", 0};
    struct cask_slice null = {NULL, 3};
    struct cask_slice longest = {store, CASK_KEY_MAX + 1};
    struct cask_slice keys[] = {good, slice_of("none"), longest, empty, good, null};
    struct cask_slice values[COUNT_OF(keys)];
    int statuses[COUNT_OF(keys)];
    char buffer[100];

    (void)state;
    put(store, "key", "value");
    assert_int_equal(
        cask_get_many(store->db, COUNT_OF(keys), keys, buffer, sizeof buffer, values, statuses),
        CASK_ETOOBIG);
    assert_ok(statuses[0]);
    assert_int_equal(statuses[1], CASK_NOTFOUND);
    assert_int_equal(statuses[2], CASK_ETOOBIG);
    assert_int_equal(statuses[3], CASK_EINVAL);
    assert_ok(statuses[4]);
    assert_slice(values[4], "value", 5);
    assert_int_equal(statuses[5], CASK_EINVAL);
    store_end(store);
}

static void test_one_damaged_record_is_one_status(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(1, m, 4096);
        struct cask_slice keys[3];
        struct cask_slice values[3];
        char names[3][24];
        char buffer[100];
        int statuses[3];

        put_numbers(store, 0, 3);
        store_down(store);
        patch_file(shard_path(store->path, 0, "1.data"), 64 + 32 + 20, "?", 1);
        store_up(store);
        for (unsigned i = 0; i < 3; i++)
            keys[i] = numbered(names[i], i);
        assert_int_equal(cask_get_many(store->db, 3, keys, buffer, 100, values, statuses),
                         CASK_ECORRUPT);
        assert_ok(statuses[0]);
        assert_int_equal(statuses[1], CASK_ECORRUPT);
        assert_ok(statuses[2]);
        assert_slice(values[2], "key2", 4);
        store_end(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_value_is_copied_if_it_fits),
        cmocka_unit_test(test_an_empty_value_is_a_value),
        cmocka_unit_test(test_what_is_not_there_leaves_the_outputs_alone),
        cmocka_unit_test(test_keys_and_values_of_any_bytes_are_told_apart),
        cmocka_unit_test(test_the_longest_keys_are_told_apart),
        cmocka_unit_test(test_checksums_are_verified_unless_nobody_asks),
        cmocka_unit_test(test_a_view_stays_until_it_is_released),
        cmocka_unit_test(test_a_view_of_an_empty_value_has_no_bytes),
        cmocka_unit_test(test_releasing_nothing_is_fine),
        cmocka_unit_test(test_another_thread_may_release_a_view),
        cmocka_unit_test(test_many_keys_are_what_single_gets_say),
        cmocka_unit_test(test_values_that_do_not_fit_do_not_affect_the_others),
        cmocka_unit_test(test_a_call_without_a_buffer_tells_all_sizes),
        cmocka_unit_test(test_the_result_is_the_first_trouble),
        cmocka_unit_test(test_one_damaged_record_is_one_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
