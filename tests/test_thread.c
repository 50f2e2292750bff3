/* base/thread: threads that leave signals to the program, and their place with the scheduler. */
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "unit.h"

#include "base/thread.h"

static void *read_mask(void *argument)
{
    pthread_sigmask(SIG_SETMASK, NULL, argument);
    return NULL;
}

static void test_a_thread_takes_no_signals_and_the_caller_keeps_its_own(void **state)
{
    sigset_t before;
    sigset_t inside;
    sigset_t after;
    pthread_t thread;

    (void)state;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_ok(thread_start(&thread, read_mask, &inside));
    pthread_join(thread, NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int number = 1; number < 32; number++) {
        assert_int_equal(sigismember(&before, number), sigismember(&after, number));
        if (number != SIGKILL && number != SIGSTOP)
            assert_int_equal(sigismember(&inside, number), 1);
    }
}

static void test_there_is_at_least_one_processor(void **state)
{
    (void)state;
    assert_in_range(thread_processors(), 1, 1024);
}

static void *read_policies(void *argument)
{
    int *policies = argument;

    policies[0] = sched_getscheduler(0);
    thread_do_not_disturb();
    policies[1] = sched_getscheduler(0);
    return NULL;
}

static void test_a_thread_that_does_not_disturb_is_alone_in_that(void **state)
{
    int before = sched_getscheduler(0);
    int policies[2];
    pthread_t thread;

    (void)state;
    assert_ok(thread_start(&thread, read_policies, policies));
    pthread_join(thread, NULL);
    assert_int_equal(policies[0], before);
    assert_int_equal(policies[1], before == SCHED_OTHER ? SCHED_BATCH : before);
    assert_int_equal(sched_getscheduler(0), before);
}

/* Of the calling thread alone, on Linux. */
static int niceness(void)
{
    return getpriority(PRIO_PROCESS, 0);
}

struct errand {
    int niceness;
    pthread_t thread;
    int runs;
};

static void *run_errand(void *argument)
{
    struct errand *errand = argument;

    errand->niceness = niceness();
    errand->thread = pthread_self();
    errand->runs++;
    return NULL;
}

static void check_nice_run(int nice_value)
{
    struct errand errand = {.runs = 0};
    int before = niceness();

    thread_run_nice(nice_value, run_errand, &errand);
    CHECK(errand.runs == 1, "it ran %d times", errand.runs);
    CHECK(errand.niceness == (before < nice_value ? nice_value : before), "it ran with niceness %d",
          errand.niceness);
    CHECK(niceness() == before, "the caller is left with niceness %d", niceness());
}

static void test_a_nice_run_is_over_when_the_call_returns(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        check_nice_run(i % 2 == 0 ? THREAD_NICE : THREAD_LESS_NICE);
}

/* Linux lets a user without privileges lower a thread's priority at any time, but raise it again
 * only where RLIMIT_NICE says so, and by default it does not. */
static void test_a_nice_run_leaves_the_caller_as_it_was_without_privileges(void **state)
{
    pid_t child;

    (void)state;
    if (geteuid() != 0)
        skip(); /* the test before has shown it */
    child = fork();
    if (child == 0) {
        if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
            _exit(0);
        check_nice_run(THREAD_NICE);
        _exit(0);
    }
    wait_for_success(child);
}

/* It did not: the merges of a program at nice 15 ran at nice 10, where that is allowed. */
static void test_a_nice_run_makes_no_one_less_nice(void **state)
{
    pid_t child = fork();

    (void)state;
    if (child == 0) {
        (void)setpriority(PRIO_PROCESS, 0, 15);
        check_nice_run(THREAD_NICE);
        _exit(0);
    }
    wait_for_success(child);
}

/* Where no thread can be had the work is done all the same. */
static void test_a_nice_run_happens_without_a_thread_too(void **state)
{
    pid_t child;

    (void)state;
    if (geteuid() != 0 || BUILT_WITH_TSAN)
        skip(); /* the limit below counts all of a user's threads */
    child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        struct errand errand = {.runs = 0};
        int before = niceness();
        pthread_t thread;

        if (setgroups(0, NULL) != 0 || setgid(65533) != 0 || setuid(65533) != 0 ||
            setrlimit(RLIMIT_NPROC, &none) != 0)
            _exit(0);
        CHECK_STATUS(thread_start(&thread, run_errand, &errand), CASK_ENOMEM);
        thread_run_nice(THREAD_NICE, run_errand, &errand);
        CHECK(errand.runs == 1, "it ran %d times", errand.runs);
        CHECK(niceness() == before, "the caller is left with niceness %d", niceness());
        _exit(0);
    }
    wait_for_success(child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_thread_takes_no_signals_and_the_caller_keeps_its_own),
        cmocka_unit_test(test_there_is_at_least_one_processor),
        cmocka_unit_test(test_a_thread_that_does_not_disturb_is_alone_in_that),
        cmocka_unit_test(test_a_nice_run_is_over_when_the_call_returns),
        cmocka_unit_test(test_a_nice_run_leaves_the_caller_as_it_was_without_privileges),
        cmocka_unit_test(test_a_nice_run_makes_no_one_less_nice),
        cmocka_unit_test(test_a_nice_run_happens_without_a_thread_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
