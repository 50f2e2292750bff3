/* base/epoch: who waits for whom. With many threads: test_concurrency_epoch.c. */
#include "unit.h"

#include "base/epoch.h"
#include "base/thread.h"

/* A call of epoch_synchronize() in a thread of its own. */
struct waiter {
    struct epoch *epoch;
    pthread_t thread;
    _Atomic bool done;
};

static void *synchronize(void *argument)
{
    struct waiter *waiter = argument;

    epoch_synchronize(waiter->epoch);
    atomic_store(&waiter->done, true);
    return NULL;
}

static void start(struct waiter *waiter, struct epoch *epoch)
{
    waiter->epoch = epoch;
    atomic_init(&waiter->done, false);
    assert_ok(thread_start(&waiter->thread, synchronize, waiter));
}

static void test_without_readers_nobody_waits(void **state)
{
    struct epoch epoch;

    (void)state;
    assert_ok(epoch_init(&epoch));
    for (int i = 0; i < 1000; i++)
        epoch_synchronize(&epoch);
    epoch_leave(epoch_enter(&epoch));
    epoch_synchronize(&epoch);
    epoch_release(&epoch);
}

static void test_a_reader_inside_is_waited_for(void **state)
{
    struct epoch epoch;
    struct epoch_guard guard;
    struct waiter waiter;

    (void)state;
    assert_ok(epoch_init(&epoch));
    guard = epoch_enter(&epoch);
    start(&waiter, &epoch);
    pause_us(20000);
    assert_false(atomic_load(&waiter.done));
    epoch_leave(guard);
    pthread_join(waiter.thread, NULL);
    assert_true(atomic_load(&waiter.done));
    epoch_release(&epoch);
}

static void test_guards_nest(void **state)
{
    struct epoch epoch;
    struct epoch_guard outer;
    struct epoch_guard inner;
    struct waiter waiter;

    (void)state;
    assert_ok(epoch_init(&epoch));
    outer = epoch_enter(&epoch);
    inner = epoch_enter(&epoch);
    start(&waiter, &epoch);
    epoch_leave(inner);
    pause_us(20000);
    assert_false(atomic_load(&waiter.done));
    epoch_leave(outer);
    pthread_join(waiter.thread, NULL);
    epoch_release(&epoch);
}

/* Each guard is taken before the one before it is given back, so that there always is a reader. */
static void test_readers_that_come_later_do_not_hold_it_up(void **state)
{
    struct epoch epoch;
    struct epoch_guard guard;
    struct waiter waiter;
    uint64_t rounds = 0;

    (void)state;
    assert_ok(epoch_init(&epoch));
    guard = epoch_enter(&epoch);
    start(&waiter, &epoch);
    for (; !atomic_load(&waiter.done) && rounds < 10000; rounds++) {
        struct epoch_guard next = epoch_enter(&epoch);

        pause_us(10);
        epoch_leave(guard);
        guard = next;
    }
    assert_true(atomic_load(&waiter.done));
    epoch_leave(guard);
    pthread_join(waiter.thread, NULL);
    epoch_release(&epoch);
}

static void *leave(void *argument)
{
    epoch_leave(*(struct epoch_guard *)argument);
    return NULL;
}

static void test_another_thread_may_leave(void **state)
{
    struct epoch epoch;
    struct epoch_guard guard;
    pthread_t thread;

    (void)state;
    assert_ok(epoch_init(&epoch));
    guard = epoch_enter(&epoch);
    assert_ok(thread_start(&thread, leave, &guard));
    pthread_join(thread, NULL);
    epoch_synchronize(&epoch);
    epoch_release(&epoch);
}

static void test_entries_are_counted_in_both_phases(void **state)
{
    struct epoch epoch;

    (void)state;
    assert_ok(epoch_init(&epoch));
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(epoch_entries(&epoch), i);
        epoch_leave(epoch_enter(&epoch));
        if (i % 7 == 0)
            epoch_synchronize(&epoch);
    }
    epoch_release(&epoch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_readers_nobody_waits),
        cmocka_unit_test(test_a_reader_inside_is_waited_for),
        cmocka_unit_test(test_guards_nest),
        cmocka_unit_test(test_readers_that_come_later_do_not_hold_it_up),
        cmocka_unit_test(test_another_thread_may_leave),
        cmocka_unit_test(test_entries_are_counted_in_both_phases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
