#include "merge/worker.h"

#include <time.h>

#include "base/thread.h"

#define LOOK_AGAIN_S 20 /* for the hour at which merges may begin */

void worker_init(struct worker *worker, struct shard *shard, struct merge_control *control)
{
    worker->shard = shard;
    worker->control = control;
    atomic_init(&worker->started, false);
}

/* Waits to be woken, or for a while where merges wait for their hour. Under work_lock. */
static void doze(struct shard *shard, bool *awaits_hour)
{
    struct timespec until;

    if (!*awaits_hour) {
        pthread_cond_wait(&shard->work_wanted, &shard->work_lock);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LOOK_AGAIN_S;
    if (pthread_cond_timedwait(&shard->work_wanted, &shard->work_lock, &until) != 0) {
        *awaits_hour = false;
        atomic_fetch_or(&shard->work, (unsigned)SHARD_WORK_MERGE);
    }
}

/* The work due, taken off the list; 0 when the thread is to end. */
static unsigned wait_for_work(struct shard *shard, bool *awaits_hour)
{
    unsigned work = 0;

    pthread_mutex_lock(&shard->work_lock);
    while (!shard->stopping && shard_work_due(shard) == 0)
        doze(shard, awaits_hour);
    if (!shard->stopping)
        work = atomic_exchange(&shard->work, 0);
    pthread_mutex_unlock(&shard->work_lock);
    return work;
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    bool awaits_hour = false;
    unsigned work;

    while ((work = wait_for_work(worker->shard, &awaits_hour)) != 0) {
        shard_do_work(worker->shard, work);
        if (work & SHARD_WORK_MERGE)
            awaits_hour = merge_automatically(worker->control, worker->shard);
    }
    return NULL;
}

int worker_start(struct worker *worker)
{
    int status;

    if (atomic_load(&worker->started))
        return CASK_OK;
    status = thread_start(&worker->thread, run, worker);
    if (status == CASK_OK)
        atomic_store(&worker->started, true);
    return status;
}

void worker_stop(struct worker *worker)
{
    if (!worker->shard || !atomic_load(&worker->started))
        return;
    pthread_mutex_lock(&worker->shard->work_lock);
    worker->shard->stopping = true;
    pthread_cond_signal(&worker->shard->work_wanted);
    pthread_mutex_unlock(&worker->shard->work_lock);
    pthread_join(worker->thread, NULL);
    atomic_store(&worker->started, false);
}
