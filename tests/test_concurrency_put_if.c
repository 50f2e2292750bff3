/* Counters that several threads raise by conditional puts, beside flushes and merges: no step may
 * be lost, and none made twice. */
#include "unit_store.h"

#include "base/thread.h"

#define THREADS 4u
#define COUNTERS 3u
#define STEPS 1500u

struct race {
    struct cask_db *db;
    _Atomic bool over;
};

/* One step of a counter; false where another thread came first. */
static bool step(struct cask_db *db, struct cask_slice key)
{
    struct cask_view view = {.sequence = 0};
    uint64_t count = 0;
    int status = cask_view(db, key, &view);
    uint64_t sequence = view.sequence;

    CHECK(status == CASK_OK || status == CASK_NOTFOUND, "view: %s", cask_strerror(status));
    if (status == CASK_OK)
        memcpy(&count, view.value.data, sizeof count);
    cask_view_release(&view);
    count++;
    status = cask_put_if(db, key, slice_bytes((const uint8_t *)&count, sizeof count), sequence,
                         NULL);
    CHECK(status == CASK_OK || status == CASK_EEXIST, "put: %s", cask_strerror(status));
    return status == CASK_OK;
}

static void *raise_counters(void *argument)
{
    struct race *race = argument;
    char text[24];

    for (unsigned i = 0; i < STEPS; i++)
        while (!step(race->db, numbered(text, i % COUNTERS)))
            ;
    return NULL;
}

static void *disturb(void *argument)
{
    struct race *race = argument;

    while (!atomic_load(&race->over)) {
        CHECK_OK(cask_flush_index(race->db));
        CHECK_OK(cask_merge(race->db, NULL, NULL));
    }
    return NULL;
}

static void run_race(struct store *store, bool disturbed)
{
    struct race race = {.db = store->db};
    pthread_t threads[THREADS];
    pthread_t other;

    if (disturbed)
        assert_ok(thread_start(&other, disturb, &race));
    for (unsigned i = 0; i < THREADS; i++)
        assert_ok(thread_start(&threads[i], raise_counters, &race));
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&race.over, true);
    if (disturbed) {
        pthread_join(other, NULL);
        assert_true(stats_of(store).index_flushes > 0);
        assert_true(stats_of(store).merges > 0);
    }
}

static void check_counters(struct store *store)
{
    for (unsigned i = 0; i < COUNTERS; i++) {
        uint64_t count = 0;
        size_t size = 0;
        char text[24];

        assert_ok(cask_get(store->db, numbered(text, i), &count, sizeof count, &size));
        assert_int_equal(size, sizeof count);
        assert_int_equal(count, THREADS * STEPS / COUNTERS);
    }
    assert_int_equal(stats_of(store).writes, THREADS * STEPS);
}

static void test_no_step_is_lost(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * UNIT_MODES; i++) {
        struct store *store = store_begin_mode(2, i / 2, 4000);

        run_race(store, i % 2 == 1);
        check_counters(store);
        store_end(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_step_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
