/* A delete beside look-ups, where a run has an older value of the key: at no moment may that be
 * what is found. The tombstone takes the place of the entry above it in one step. */
#include "unit_store.h"

#include "base/thread.h"

#define ROUNDS 150000u
#define READERS 2u
#define OLD "of long ago"
#define NEW "of today"

struct race {
    struct cask_db *db;
    _Atomic bool over;
    _Atomic unsigned found; /* so that it is known that the readers were in time */
};

static void *look_up(void *argument)
{
    struct race *race = argument;
    char value[16];

    while (!atomic_load_explicit(&race->over, memory_order_relaxed)) {
        size_t size = 0;
        int status = cask_get(race->db, slice_of("key"), value, sizeof value, &size);

        if (status == CASK_NOTFOUND)
            continue;
        CHECK_OK(status);
        CHECK(size == strlen(NEW) && memcmp(value, NEW, size) == 0, "found: %.*s", (int)size,
              value);
        atomic_fetch_add_explicit(&race->found, 1, memory_order_relaxed);
    }
    return NULL;
}

static void test_no_look_up_falls_through_to_a_run(void **state)
{
    struct store *store = store_make(1);
    struct race race;
    pthread_t threads[READERS];

    (void)state;
    store->options.merge = CASK_SWITCH_OFF;
    store_up(store);
    put(store, "key", OLD);
    assert_ok(cask_flush_index(store->db));
    put(store, "key", NEW);
    race.db = store->db;
    atomic_init(&race.over, false);
    atomic_init(&race.found, 0);
    for (unsigned i = 0; i < READERS; i++)
        assert_ok(thread_start(&threads[i], look_up, &race));
    for (unsigned i = 0; i < ROUNDS; i++) {
        assert_ok(cask_delete(store->db, slice_of("key")));
        put(store, "key", NEW);
    }
    atomic_store_explicit(&race.over, true, memory_order_relaxed);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&race.found) > 0);
    check_value(store->db, "key", NEW);
    assert_int_equal(stats_of(store).index_runs, 1);
    store_end(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_look_up_falls_through_to_a_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
