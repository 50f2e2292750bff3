#include "base/thread.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

/* So many looks at a lock, of about 200 ns each with the pauses between them. */
#define LOOKS 60u
#define PAUSES 8u

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

static inline void pause_a_little(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

void thread_lock_soon(pthread_mutex_t *lock)
{
    for (unsigned look = 0; look < LOOKS; look++) {
        if (pthread_mutex_trylock(lock) == 0)
            return;
        for (unsigned i = 0; i < PAUSES; i++)
            pause_a_little();
    }
    pthread_mutex_lock(lock);
}

void thread_do_not_disturb(void)
{
    const struct sched_param none = {0};

    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)sched_setscheduler(0, SCHED_BATCH, &none);
}

struct nice_call {
    int nice_value;
    void *(*run)(void *);
    void *argument;
};

static void *run_nice(void *argument)
{
    struct nice_call *call = argument;

    /* Of this thread alone, on Linux. One that is nicer already must not be made less so, as it
     * would with privileges. */
    if (getpriority(PRIO_PROCESS, 0) < call->nice_value)
        (void)setpriority(PRIO_PROCESS, 0, call->nice_value);
    return call->run(call->argument);
}

void thread_run_nice(int nice_value, void *(*run)(void *), void *argument)
{
    struct nice_call call = {nice_value, run, argument};
    pthread_t thread;

    if (thread_start(&thread, run_nice, &call) == CASK_OK)
        pthread_join(thread, NULL);
    else
        run(argument);
}
