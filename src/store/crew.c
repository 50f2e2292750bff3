#include "store/crew.h"

#include <pthread.h>

#include "base/thread.h"

#define CREW_MAX 16u

static void *run(void *argument)
{
    struct crew *crew = argument;

    for (;;) {
        uint32_t i = atomic_fetch_add(&crew->next, 1);
        int none = CASK_OK;
        int status;

        if (i >= crew->shard_count)
            return NULL;
        status = crew->step(crew->context, i);
        if (status != CASK_OK)
            atomic_compare_exchange_strong(&crew->status, &none, status);
    }
}

static int do_with(unsigned wanted, uint32_t shard_count,
                   int (*step)(void *context, uint32_t shard), void *context)
{
    struct crew crew = {.context = context, .step = step, .shard_count = shard_count};
    pthread_t threads[CREW_MAX];
    unsigned started = 0;

    if (wanted > shard_count)
        wanted = shard_count;
    while (started + 1 < wanted && started < CREW_MAX &&
           thread_start(&threads[started], run, &crew) == CASK_OK)
        started++;
    run(&crew);
    while (started > 0)
        pthread_join(threads[--started], NULL);
    return atomic_load(&crew.status);
}

int crew_do(uint32_t shard_count, int (*step)(void *context, uint32_t shard), void *context)
{
    return do_with(thread_processors(), shard_count, step, context);
}

int crew_do_waiting(uint32_t shard_count, int (*step)(void *context, uint32_t shard), void *context)
{
    return do_with(4 * thread_processors(), shard_count, step, context);
}
