/* store/api: every argument out of its range, every handle that may not be used, and what each call
 * promises in caskade.h beyond that. */
#include <unistd.h>

#include "unit_store.h"

#include "base/bytes.h"
#include "log/record.h"

static const struct cask_slice good = {"key", 3};
static const struct cask_slice none = {NULL, 0};
static const struct cask_slice nothing = {"", 0};
static const struct cask_slice nowhere = {NULL, 3};

/* As long as a key may be, and one byte longer; never looked at in full. */
static uint8_t long_bytes[CASK_KEY_MAX + 1];
static const struct cask_slice longest = {long_bytes, CASK_KEY_MAX};
static const struct cask_slice too_long = {long_bytes, CASK_KEY_MAX + 1};
static const struct cask_slice huge = {long_bytes, SIZE_MAX};
static const struct cask_slice too_large = {long_bytes, (size_t)CASK_VALUE_MAX + 1};

#define REFUSES(call, expected) assert_int_equal((call), (expected))

/* ---- arguments ------------------------------------------------------------------------------- */

static void test_open_refuses_missing_arguments(void **state)
{
    struct store *store = store_make(1);
    struct cask_db *db = (struct cask_db *)store;

    (void)state;
    REFUSES(cask_open(NULL, NULL, &db), CASK_EINVAL);
    REFUSES(cask_open("", NULL, &db), CASK_EINVAL);
    REFUSES(cask_open(path_in(store->path, "new"), NULL, NULL), CASK_EINVAL);
    assert_ptr_equal(db, store);
    assert_false(path_exists(path_in(store->path, "new")));
    assert_ok(cask_open(path_in(store->path, "new"), NULL, &db));
    assert_ok(cask_put(db, good, good));
    assert_ok(cask_close(db));
    store_end(store);
}

static void test_close_of_nothing_is_fine(void **state)
{
    (void)state;
    assert_ok(cask_close(NULL));
    cask_batch_clear(NULL);
    cask_batch_destroy(NULL);
    cask_iter_destroy(NULL);
    cask_view_release(NULL);
}

static void test_a_missing_handle_is_refused_by_every_call(void **state)
{
    struct cask_batch *batch;
    struct cask_iter *iter;
    struct cask_entry entry;
    struct cask_view view;
    struct cask_stats stats = {.size = sizeof stats};
    struct cask_slice value;
    int status;

    (void)state;
    REFUSES(cask_put(NULL, good, good), CASK_EINVAL);
    REFUSES(cask_put_expiring(NULL, good, good, 1), CASK_EINVAL);
    REFUSES(cask_delete(NULL, good), CASK_EINVAL);
    REFUSES(cask_exists(NULL, good), CASK_EINVAL);
    REFUSES(cask_get(NULL, good, NULL, 0, NULL), CASK_EINVAL);
    REFUSES(cask_view(NULL, good, &view), CASK_EINVAL);
    REFUSES(cask_get_many(NULL, 1, &good, NULL, 0, &value, &status), CASK_EINVAL);
    REFUSES(cask_batch_create(NULL, &batch), CASK_EINVAL);
    REFUSES(cask_batch_put(NULL, good, good), CASK_EINVAL);
    REFUSES(cask_batch_put_expiring(NULL, good, good, 1), CASK_EINVAL);
    REFUSES(cask_batch_delete(NULL, good), CASK_EINVAL);
    REFUSES(cask_write(NULL, NULL), CASK_EINVAL);
    REFUSES(cask_iter_create(NULL, &iter), CASK_EINVAL);
    REFUSES(cask_iter_next(NULL, &entry), CASK_EINVAL);
    REFUSES(cask_sync(NULL), CASK_EINVAL);
    REFUSES(cask_stats(NULL, &stats), CASK_EINVAL);
    REFUSES(cask_verify(NULL, NULL, NULL), CASK_EINVAL);
}

static void test_missing_outputs_are_refused(void **state)
{
    struct store *store = store_begin(1);
    struct cask_iter *iter;
    struct cask_slice value;
    int status;

    (void)state;
    put(store, "key", "value");
    REFUSES(cask_view(store->db, good, NULL), CASK_EINVAL);
    REFUSES(cask_get(store->db, good, NULL, 1, NULL), CASK_EINVAL);
    REFUSES(cask_batch_create(store->db, NULL), CASK_EINVAL);
    REFUSES(cask_iter_create(store->db, NULL), CASK_EINVAL);
    REFUSES(cask_write(store->db, NULL), CASK_EINVAL);
    REFUSES(cask_stats(store->db, NULL), CASK_EINVAL);
    REFUSES(cask_get_many(store->db, 1, NULL, NULL, 0, &value, &status), CASK_EINVAL);
    REFUSES(cask_get_many(store->db, 1, &good, NULL, 0, NULL, &status), CASK_EINVAL);
    REFUSES(cask_get_many(store->db, 1, &good, NULL, 0, &value, NULL), CASK_EINVAL);
    REFUSES(cask_get_many(store->db, 1, &good, NULL, 9, &value, &status), CASK_EINVAL);
    assert_ok(cask_get_many(store->db, 0, NULL, NULL, 0, NULL, NULL));
    assert_ok(cask_iter_create(store->db, &iter));
    REFUSES(cask_iter_next(iter, NULL), CASK_EINVAL);
    cask_iter_destroy(iter);
    store_end(store);
}

static void test_stats_of_another_size_are_refused(void **state)
{
    struct store *store = store_begin(1);
    struct cask_stats stats = {.size = 0};

    (void)state;
    REFUSES(cask_stats(store->db, &stats), CASK_EINVAL);
    stats.size = sizeof stats.size - 1;
    REFUSES(cask_stats(store->db, &stats), CASK_EINVAL);
    stats.size = sizeof stats + 1;
    REFUSES(cask_stats(store->db, &stats), CASK_EINVAL);
    stats.size = SIZE_MAX;
    REFUSES(cask_stats(store->db, &stats), CASK_EINVAL);
    stats.size = sizeof stats.size;
    assert_ok(cask_stats(store->db, &stats));
    store_end(store);
}

/* T28: an empty key accepted and lost. */
static void test_keys_out_of_range_are_refused_by_every_call(void **state)
{
    static const struct {
        const struct cask_slice *key;
        int status;
    } cases[] = {{&none, CASK_EINVAL},
                 {&nothing, CASK_EINVAL},
                 {&nowhere, CASK_EINVAL},
                 {&too_long, CASK_ETOOBIG},
                 {&huge, CASK_ETOOBIG}};
    struct store *store = store_begin(4);
    struct cask_batch *batch;
    struct cask_view view;

    (void)state;
    assert_ok(cask_batch_create(store->db, &batch));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct cask_slice key = *cases[i].key;
        struct cask_slice value;
        int status;

        REFUSES(cask_put(store->db, key, good), cases[i].status);
        REFUSES(cask_put_expiring(store->db, key, good, 1), cases[i].status);
        REFUSES(cask_delete(store->db, key), cases[i].status);
        REFUSES(cask_exists(store->db, key), cases[i].status);
        REFUSES(cask_get(store->db, key, NULL, 0, NULL), cases[i].status);
        REFUSES(cask_view(store->db, key, &view), cases[i].status);
        REFUSES(cask_get_many(store->db, 1, &key, NULL, 0, &value, &status), cases[i].status);
        assert_int_equal(status, cases[i].status);
        REFUSES(cask_batch_put(batch, key, good), cases[i].status);
        REFUSES(cask_batch_put_expiring(batch, key, good, 1), cases[i].status);
        REFUSES(cask_batch_delete(batch, key), cases[i].status);
    }
    cask_batch_destroy(batch);
    assert_int_equal(stats_of(store).written_bytes, 0);
    assert_ok(cask_put(store->db, longest, none));
    assert_ok(cask_exists(store->db, longest));
    store_end(store);
}

static void test_values_out_of_range_are_refused_by_every_call(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch;

    (void)state;
    assert_ok(cask_batch_create(store->db, &batch));
    REFUSES(cask_put(store->db, good, nowhere), CASK_EINVAL);
    REFUSES(cask_put(store->db, good, too_large), CASK_ETOOBIG);
    REFUSES(cask_put(store->db, good, huge), CASK_ETOOBIG);
    REFUSES(cask_put_expiring(store->db, good, nowhere, 1), CASK_EINVAL);
    REFUSES(cask_put_expiring(store->db, good, too_large, 1), CASK_ETOOBIG);
    REFUSES(cask_batch_put(batch, good, nowhere), CASK_EINVAL);
    REFUSES(cask_batch_put(batch, good, too_large), CASK_ETOOBIG);
    REFUSES(cask_batch_put_expiring(batch, good, huge, 1), CASK_ETOOBIG);
    assert_ok(cask_write(store->db, batch));
    cask_batch_destroy(batch);
    assert_int_equal(stats_of(store).written_bytes, 0);
    assert_ok(cask_put(store->db, good, none));
    assert_ok(cask_put(store->db, good, nothing));
    assert_ok(cask_exists(store->db, good));
    store_end(store);
}

static void test_expiries_out_of_range_are_refused(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch;

    (void)state;
    assert_ok(cask_batch_create(store->db, &batch));
    REFUSES(cask_put_expiring(store->db, good, good, 0), CASK_EINVAL);
    REFUSES(cask_put_expiring(store->db, good, good, RECORD_EXPIRY_MAX + 1), CASK_EINVAL);
    REFUSES(cask_put_expiring(store->db, good, good, UINT64_MAX), CASK_EINVAL);
    REFUSES(cask_batch_put_expiring(batch, good, good, 0), CASK_EINVAL);
    REFUSES(cask_batch_put_expiring(batch, good, good, RECORD_EXPIRY_MAX + 1), CASK_EINVAL);
    assert_ok(cask_put_expiring(store->db, good, good, RECORD_EXPIRY_MAX));
    assert_ok(cask_exists(store->db, good));
    assert_ok(cask_put_expiring(store->db, good, good, 1));
    REFUSES(cask_exists(store->db, good), CASK_NOTFOUND);
    cask_batch_destroy(batch);
    store_end(store);
}

static void test_a_batch_is_written_to_its_own_store_only(void **state)
{
    struct store *store = store_begin(1);
    struct store *other = store_begin(1);
    struct cask_batch *batch;

    (void)state;
    assert_ok(cask_batch_create(store->db, &batch));
    assert_ok(cask_batch_put(batch, good, good));
    REFUSES(cask_write(other->db, batch), CASK_EINVAL);
    REFUSES(cask_exists(other->db, good), CASK_NOTFOUND);
    cask_batch_destroy(batch);
    store_end(other);
    store_end(store);
}

static void test_a_key_expires_when_its_time_has_come(void **state)
{
    struct store *store = store_begin(1);

    (void)state;
    assert_ok(cask_put_expiring(store->db, good, good, wall_clock_ms() + 200));
    assert_ok(cask_exists(store->db, good));
    for (int i = 0; i < 1000 && cask_exists(store->db, good) == CASK_OK; i++)
        pause_us(10000);
    REFUSES(cask_exists(store->db, good), CASK_NOTFOUND);
    REFUSES(cask_delete(store->db, good), CASK_NOTFOUND);
    store_again(store);
    REFUSES(cask_exists(store->db, good), CASK_NOTFOUND);
    assert_ok(cask_put(store->db, good, good));
    assert_ok(cask_exists(store->db, good));
    store_end(store);
}

/* ---- handles --------------------------------------------------------------------------------- */

static void test_a_read_only_handle_writes_nothing(void **state)
{
    struct store *store = store_begin(4);
    struct cask_batch *batch;
    uint64_t before;

    (void)state;
    put_numbers(store, 0, 50);
    store_down(store);
    before = tree_checksum(store->path);
    store->options.read_only = 1;
    store_up(store);
    REFUSES(cask_put(store->db, good, good), CASK_EREADONLY);
    REFUSES(cask_put_expiring(store->db, good, good, 1), CASK_EREADONLY);
    REFUSES(cask_put_if(store->db, good, good, 0, NULL), CASK_EREADONLY);
    REFUSES(cask_delete(store->db, slice_of("key1")), CASK_EREADONLY);
    REFUSES(cask_sync(store->db), CASK_EREADONLY);
    assert_ok(cask_batch_create(store->db, &batch));
    REFUSES(cask_batch_put(batch, good, good), CASK_EREADONLY);
    REFUSES(cask_batch_delete(batch, good), CASK_EREADONLY);
    REFUSES(cask_write(store->db, batch), CASK_EREADONLY);
    cask_batch_destroy(batch);
    check_numbers(store, 0, 50);
    store_down(store);
    assert_true(tree_checksum(store->path) == before);
    store_end(store);
}

/* Every call in a child, with what was made before the fork. */
static void check_all_refuse(struct store *store, struct cask_batch *batch, struct cask_iter *iter,
                             struct cask_view *view)
{
    struct cask_db *db = store->db;
    struct cask_stats stats = {.size = sizeof stats};
    struct cask_slice value;
    struct cask_entry entry;
    struct cask_view other;
    int status;

    CHECK_STATUS(cask_put(db, good, good), CASK_EINVAL);
    CHECK_STATUS(cask_put_expiring(db, good, good, 1), CASK_EINVAL);
    CHECK_STATUS(cask_put_if(db, good, good, 0, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_delete(db, good), CASK_EINVAL);
    CHECK_STATUS(cask_exists(db, good), CASK_EINVAL);
    CHECK_STATUS(cask_get(db, good, NULL, 0, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_view(db, good, &other), CASK_EINVAL);
    CHECK_STATUS(cask_get_many(db, 1, &good, NULL, 0, &value, &status), CASK_EINVAL);
    CHECK_STATUS(cask_get_many(db, 0, NULL, NULL, 0, NULL, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_batch_put(batch, good, good), CASK_EINVAL);
    CHECK_STATUS(cask_batch_put_expiring(batch, good, good, 1), CASK_EINVAL);
    CHECK_STATUS(cask_batch_delete(batch, good), CASK_EINVAL);
    CHECK_STATUS(cask_write(db, batch), CASK_EINVAL);
    CHECK_STATUS(cask_iter_next(iter, &entry), CASK_EINVAL);
    CHECK_STATUS(cask_iter_create(db, &iter), CASK_EINVAL);
    CHECK_STATUS(cask_batch_create(db, &batch), CASK_EINVAL);
    CHECK_STATUS(cask_sync(db), CASK_EINVAL);
    CHECK_STATUS(cask_stats(db, &stats), CASK_EINVAL);
    CHECK_STATUS(cask_verify(db, NULL, NULL), CASK_EINVAL);
    cask_view_release(view);
    CHECK_STATUS(cask_close(db), CASK_EINVAL);
}

static void test_a_forked_child_may_not_use_the_handle(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct store *store = store_begin_mode(2, m, 4096);
        struct cask_batch *batch;
        struct cask_iter *iter;
        struct cask_view view;
        pid_t child;

        put_numbers(store, 0, 200); /* workers have started */
        put(store, "key", "value");
        assert_ok(cask_batch_create(store->db, &batch));
        assert_ok(cask_batch_put(batch, slice_of("batch"), good));
        assert_ok(cask_iter_create(store->db, &iter));
        assert_ok(cask_view(store->db, good, &view));
        child = fork();
        if (child == 0) {
            check_all_refuse(store, batch, iter, &view);
            _exit(0);
        }
        wait_for_success(child);
        /* The parent goes on as if nothing had been. */
        assert_slice(view.value, "value", 5);
        cask_view_release(&view);
        cask_iter_destroy(iter);
        assert_ok(cask_write(store->db, batch));
        cask_batch_destroy(batch);
        put(store, "after", "value");
        store_again(store);
        check_value(store->db, "after", "value");
        check_numbers(store, 0, 200);
        store_end(store);
    }
}

static void test_a_forked_child_may_open_the_store_read_only_itself(void **state)
{
    struct store *store = store_begin(2);
    pid_t child;

    (void)state;
    put(store, "key", "value");
    child = fork();
    if (child == 0) {
        struct cask_db *db;

        store->options.read_only = 1;
        CHECK_OK(cask_open(store->path, &store->options, &db));
        check_value(db, "key", "value");
        CHECK_OK(cask_close(db));
        _exit(0);
    }
    wait_for_success(child);
    store_end(store);
}

/* ---- the index is full ----------------------------------------------------------------------- */

/* Several times the keys that the memory holds: the rest of the index is on disk, and nothing is
 * different but the count, which is exact once the whole index is there. */
static void test_an_index_larger_than_its_memory_answers_as_any(void **state)
{
    struct store *store = store_make(1);
    unsigned there = 200000;
    char key[24];

    (void)state;
    store->options.index_memory = 1 << 20;
    store_up(store);
    for (unsigned i = 0; i < there; i++)
        assert_ok(cask_put(store->db, numbered(key, i), numbered(key, i)));
    REFUSES(cask_exists(store->db, good), CASK_NOTFOUND);
    REFUSES(cask_delete(store->db, good), CASK_NOTFOUND);
    for (unsigned i = 0; i < 100; i++) {
        assert_ok(cask_delete(store->db, numbered(key, i)));
        REFUSES(cask_delete(store->db, numbered(key, i)), CASK_NOTFOUND);
    }
    for (unsigned i = 0; i < 50; i++)
        assert_ok(cask_put(store->db, numbered(key, 1000000 + i), good));
    assert_true(stats_of(store).index_spilled_keys > 0);
    assert_true(stats_of(store).index_ram_bytes <= 1 << 20);
    assert_ok(cask_sync(store->db));
    assert_ok(cask_verify(store->db, NULL, NULL));
    store_again(store);
    for (unsigned i = 100; i < there; i += 97)
        assert_ok(cask_exists(store->db, numbered(key, i)));
    for (unsigned i = 0; i < 50; i++)
        assert_ok(cask_exists(store->db, numbered(key, 1000000 + i)));
    REFUSES(cask_exists(store->db, numbered(key, 50)), CASK_NOTFOUND);
    assert_ok(cask_flush_index(store->db));
    assert_int_equal(stats_of(store).live_keys, there - 50);
    store_end(store);
}

static void test_the_version_is_that_of_the_header(void **state)
{
    char expected[32];

    (void)state;
    assert_string_equal(cask_version(), CASK_VERSION_STRING);
    snprintf(expected, sizeof expected, "%d.%d.%d", CASK_VERSION_MAJOR, CASK_VERSION_MINOR,
             CASK_VERSION_PATCH);
    assert_string_equal(cask_version(), expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_refuses_missing_arguments),
        cmocka_unit_test(test_close_of_nothing_is_fine),
        cmocka_unit_test(test_a_missing_handle_is_refused_by_every_call),
        cmocka_unit_test(test_missing_outputs_are_refused),
        cmocka_unit_test(test_stats_of_another_size_are_refused),
        cmocka_unit_test(test_keys_out_of_range_are_refused_by_every_call),
        cmocka_unit_test(test_values_out_of_range_are_refused_by_every_call),
        cmocka_unit_test(test_expiries_out_of_range_are_refused),
        cmocka_unit_test(test_a_batch_is_written_to_its_own_store_only),
        cmocka_unit_test(test_a_key_expires_when_its_time_has_come),
        cmocka_unit_test(test_a_read_only_handle_writes_nothing),
        cmocka_unit_test(test_a_forked_child_may_not_use_the_handle),
        cmocka_unit_test(test_a_forked_child_may_open_the_store_read_only_itself),
        cmocka_unit_test(test_an_index_larger_than_its_memory_answers_as_any),
        cmocka_unit_test(test_the_version_is_that_of_the_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
