#include "base/thread.h"

#include <sched.h>
#include <signal.h>

int thread_start(pthread_t *ret_thread, void *(*run)(void *), void *argument)
{
    sigset_t all;
    sigset_t before;
    int failed;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(ret_thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed == 0 ? CASK_OK : CASK_ENOMEM;
}

unsigned thread_processors(void)
{
    cpu_set_t set;
    int count;

    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    count = CPU_COUNT(&set);
    return count < 1 ? 1 : (unsigned)count;
}

static void set_policy(int policy)
{
    struct sched_param none = {0};

    (void)pthread_setschedparam(pthread_self(), policy, &none);
}

void thread_yield_to_all(void)
{
    set_policy(SCHED_IDLE);
}

void thread_be_normal(void)
{
    set_policy(SCHED_OTHER);
}
