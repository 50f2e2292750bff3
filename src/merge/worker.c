#include "merge/worker.h"

#include "base/thread.h"

void worker_init(struct worker *worker, struct shard *shard)
{
    worker->shard = shard;
    atomic_init(&worker->started, false);
}

/* The work due, taken off the list; 0 when the thread is to end. */
static unsigned wait_for_work(struct shard *shard)
{
    unsigned work = 0;

    pthread_mutex_lock(&shard->work_lock);
    while (!shard->stopping && shard_work_due(shard) == 0)
        pthread_cond_wait(&shard->work_wanted, &shard->work_lock);
    if (!shard->stopping)
        work = atomic_exchange(&shard->work, 0);
    pthread_mutex_unlock(&shard->work_lock);
    return work;
}

static void *run(void *argument)
{
    struct shard *shard = argument;
    unsigned work;

    while ((work = wait_for_work(shard)) != 0)
        shard_do_work(shard, work);
    return NULL;
}

int worker_start(struct worker *worker)
{
    int status;

    if (atomic_load(&worker->started))
        return CASK_OK;
    status = thread_start(&worker->thread, run, worker->shard);
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
