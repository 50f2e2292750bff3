/* base/epoch under threads: what was unpublished before epoch_synchronize() is held by no reader
 * after it. A reader that still holds it reads freed memory or a wiped number. */
#include "unit.h"

#include "base/epoch.h"
#include "base/thread.h"

#define READERS 3
#define ROUNDS 40
#define FRESH 0x5ca1ab1e5ca1ab1eu

struct thing {
    uint64_t words[32];
};

struct shared {
    struct epoch epoch;
    _Atomic(struct thing *) current;
    _Atomic bool stop;
    _Atomic uint64_t reads;
};

static struct thing *make_thing(void)
{
    struct thing *thing = malloc(sizeof *thing);

    CHECK(thing, "%s", "out of memory");
    for (size_t i = 0; i < COUNT_OF(thing->words); i++)
        thing->words[i] = FRESH;
    return thing;
}

static void *read_on(void *argument)
{
    struct shared *shared = argument;
    uint64_t reads = 0;

    while (!atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
        struct epoch_guard guard = epoch_enter(&shared->epoch);
        struct thing *thing = atomic_load_explicit(&shared->current, memory_order_acquire);

        for (size_t i = 0; i < COUNT_OF(thing->words); i++)
            CHECK(thing->words[i] == FRESH, "a reader holds what was freed, word %zu", i);
        epoch_leave(guard);
        reads++;
    }
    atomic_fetch_add(&shared->reads, reads);
    return NULL;
}

static void *replace_on(void *argument)
{
    struct shared *shared = argument;

    for (int i = 0; i < ROUNDS; i++) {
        struct thing *old = atomic_exchange(&shared->current, make_thing());

        epoch_synchronize(&shared->epoch);
        memset(old, 0xee, sizeof *old);
        free(old);
    }
    return NULL;
}

static void test_nothing_is_freed_under_a_reader(void **state)
{
    struct shared *shared = aligned_alloc(64, (sizeof *shared + 63) / 64 * 64);
    pthread_t readers[READERS];
    pthread_t writers[2];

    (void)state;
    assert_non_null(shared);
    assert_ok(epoch_init(&shared->epoch));
    atomic_init(&shared->current, make_thing());
    atomic_init(&shared->stop, false);
    atomic_init(&shared->reads, 0);
    for (size_t i = 0; i < READERS; i++)
        assert_ok(thread_start(&readers[i], read_on, shared));
    for (size_t i = 0; i < 2; i++)
        assert_ok(thread_start(&writers[i], replace_on, shared));
    for (size_t i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    atomic_store(&shared->stop, true);
    for (size_t i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_true(atomic_load(&shared->reads) > 0);
    assert_true(epoch_entries(&shared->epoch) == atomic_load(&shared->reads));
    free(atomic_load(&shared->current));
    epoch_release(&shared->epoch);
    free(shared);
}

/* More threads than stripes: threads that share a stripe do not lose each other's counts. */
#define CROWD (2 * EPOCH_STRIPES)

static void *enter_and_leave(void *argument)
{
    struct epoch *epoch = argument;

    for (int i = 0; i < 200; i++)
        epoch_leave(epoch_enter(epoch));
    return NULL;
}

static void test_more_threads_than_stripes_are_all_counted(void **state)
{
    struct epoch *epoch = aligned_alloc(64, (sizeof *epoch + 63) / 64 * 64);
    pthread_t threads[CROWD];

    (void)state;
    assert_non_null(epoch);
    assert_ok(epoch_init(epoch));
    for (size_t i = 0; i < CROWD; i++)
        assert_ok(thread_start(&threads[i], enter_and_leave, epoch));
    for (int i = 0; i < 20; i++)
        epoch_synchronize(epoch);
    for (size_t i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    epoch_synchronize(epoch);
    assert_int_equal(epoch_entries(epoch), CROWD * 200);
    epoch_release(epoch);
    free(epoch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_freed_under_a_reader),
        cmocka_unit_test(test_more_threads_than_stripes_are_all_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
