#include "merge/worker.h"

#include <time.h>

#include "base/thread.h"

#define LOOK_AGAIN_S 20 /* for the hour at which merges may begin, or a shard that was taken */
#define HANDS 2u

void worker_init(struct worker *worker, struct shard *shard, struct merge_control *control)
{
    worker->shard = shard;
    worker->control = control;
    worker->hands[0] = (struct worker_hand){
        .worker = worker, .kinds = SHARD_WORK_AHEAD, .wanted = &shard->ahead_wanted};
    worker->hands[1] = (struct worker_hand){
        .worker = worker, .kinds = ~(unsigned)SHARD_WORK_AHEAD, .wanted = &shard->work_wanted};
    atomic_init(&worker->started, false);
}

/* Waits to be woken, or for a while where a merge is to be looked for again. Under work_lock. */
static void doze(const struct worker_hand *hand, bool *looks_again)
{
    struct shard *shard = hand->worker->shard;
    struct timespec until;

    if (!*looks_again) {
        pthread_cond_wait(hand->wanted, &shard->work_lock);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LOOK_AGAIN_S;
    if (pthread_cond_timedwait(hand->wanted, &shard->work_lock, &until) != 0) {
        *looks_again = false;
        atomic_fetch_or(&shard->work, (unsigned)SHARD_WORK_MERGE);
    }
}

/* The work due, taken off the list; 0 when the thread is to end. */
static unsigned wait_for_work(const struct worker_hand *hand, bool *looks_again)
{
    struct shard *shard = hand->worker->shard;
    unsigned work = 0;

    pthread_mutex_lock(&shard->work_lock);
    while (!shard->stopping && (shard_work_due(shard) & hand->kinds) == 0)
        doze(hand, looks_again);
    if (!shard->stopping)
        work = atomic_fetch_and(&shard->work, ~hand->kinds) & hand->kinds;
    pthread_mutex_unlock(&shard->work_lock);
    return work;
}

static void *run(void *argument)
{
    struct worker_hand *hand = argument;
    struct worker *worker = hand->worker;
    bool looks_again = false;
    unsigned work;

    thread_do_not_disturb();
    while ((work = wait_for_work(hand, &looks_again)) != 0) {
        shard_do_work(worker->shard, work);
        if (work & SHARD_WORK_MERGE)
            looks_again = merge_automatically(worker->control, worker->shard);
    }
    return NULL;
}

int worker_start(struct worker *worker)
{
    int status = CASK_OK;

    for (unsigned i = 0; status == CASK_OK && i < HANDS; i++) {
        struct worker_hand *hand = &worker->hands[i];

        if (hand->started)
            continue;
        status = thread_start(&hand->thread, run, hand);
        hand->started = status == CASK_OK;
    }
    if (status == CASK_OK)
        atomic_store(&worker->started, true);
    return status;
}

void worker_stop(struct worker *worker)
{
    if (!worker->hands[0].started && !worker->hands[1].started)
        return;
    pthread_mutex_lock(&worker->shard->work_lock);
    worker->shard->stopping = true;
    for (unsigned i = 0; i < HANDS; i++)
        pthread_cond_signal(worker->hands[i].wanted);
    pthread_mutex_unlock(&worker->shard->work_lock);
    for (unsigned i = 0; i < HANDS; i++) {
        if (worker->hands[i].started)
            pthread_join(worker->hands[i].thread, NULL);
        worker->hands[i].started = false;
    }
    atomic_store(&worker->started, false);
}
