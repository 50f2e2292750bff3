#include "shard/reserve.h"

#include <time.h>

#include "base/bytes.h"

#define WAIT_SECONDS 1

static bool make_locks(struct reserve *reserve)
{
    if (pthread_mutex_init(&reserve->use_lock, NULL) != 0)
        return false;
    if (pthread_mutex_init(&reserve->lock, NULL) != 0)
        goto no_lock;
    if (pthread_cond_init(&reserve->left, NULL) != 0)
        goto no_condition;
    if (pthread_rwlock_init(&reserve->taking, NULL) == 0)
        return true;
    pthread_cond_destroy(&reserve->left);
no_condition:
    pthread_mutex_destroy(&reserve->lock);
no_lock:
    pthread_mutex_destroy(&reserve->use_lock);
    return false;
}

void reserve_init(struct reserve *reserve, struct io_dir *dir)
{
    int status = io_unlink(dir, RESERVE_NAME); /* a kill has left it */

    (void)status;
    reserve->dir = dir;
    reserve->ready = make_locks(reserve);
}

void reserve_close(struct reserve *reserve)
{
    int status;

    if (reserve->file) {
        io_close(reserve->file);
        status = io_unlink(reserve->dir, RESERVE_NAME);
        (void)status; /* the next open removes it */
    }
    if (reserve->ready) {
        pthread_rwlock_destroy(&reserve->taking);
        pthread_cond_destroy(&reserve->left);
        pthread_mutex_destroy(&reserve->lock);
        pthread_mutex_destroy(&reserve->use_lock);
    }
    reserve->file = NULL;
    reserve->ready = false;
}

/* Gets what is missing, or all of it or nothing more. Under the lock. */
static int get(struct reserve *reserve)
{
    uint64_t wanted = atomic_load(&reserve->wanted);
    uint64_t had = atomic_load(&reserve->had);
    int status = CASK_OK;

    if (had >= wanted)
        return CASK_OK;
    if (!reserve->file)
        status = io_open(reserve->dir, RESERVE_NAME, IO_CREATE_NEW, &reserve->file);
    if (status != CASK_OK) {
        reserve->file = NULL;
    } else {
        status = io_allocate(reserve->file, wanted);
        if (status != CASK_OK) {
            int undone = io_truncate(reserve->file, had);

            (void)undone; /* then it has more than is known */
        }
    }
    if (status == CASK_OK)
        atomic_store(&reserve->had, wanted);
    else if (status != CASK_ENOSPC)
        atomic_store(&reserve->wanted, had); /* no preallocation here, or no descriptors */
    return status == CASK_ENOSPC ? CASK_ENOSPC : CASK_OK;
}

static int want(struct reserve *reserve, uint64_t wanted)
{
    int status = CASK_EBUSY;

    if (wanted <= atomic_load_explicit(&reserve->wanted, memory_order_relaxed) &&
        !reserve_is_short(reserve))
        return CASK_OK;
    pthread_mutex_lock(&reserve->lock);
    if (!atomic_load(&reserve->in_use)) {
        atomic_store(&reserve->wanted, max_u64(atomic_load(&reserve->wanted), wanted));
        status = get(reserve);
    }
    pthread_mutex_unlock(&reserve->lock);
    return status;
}

int reserve_enter(struct reserve *reserve, uint64_t wanted)
{
    int status;

    if (!reserve->ready)
        return CASK_OK;
    status = want(reserve, wanted);
    if (status != CASK_OK)
        return status;
    pthread_rwlock_rdlock(&reserve->taking);
    if (!reserve_is_short(reserve))
        return CASK_OK;
    pthread_rwlock_unlock(&reserve->taking);
    return CASK_EBUSY; /* the use of it has just begun */
}

void reserve_exit(struct reserve *reserve)
{
    if (reserve->ready)
        pthread_rwlock_unlock(&reserve->taking);
}

void reserve_wait(struct reserve *reserve)
{
    struct timespec until;
    int timeout = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&reserve->lock);
    while (timeout == 0 && atomic_load(&reserve->in_use))
        timeout = pthread_cond_timedwait(&reserve->left, &reserve->lock, &until);
    pthread_mutex_unlock(&reserve->lock);
}

static void begin_use(struct reserve *reserve)
{
    pthread_mutex_lock(&reserve->lock);
    pthread_rwlock_wrlock(&reserve->taking);
    atomic_store(&reserve->in_use, true);
    if (atomic_load(&reserve->had) > 0) {
        int status = io_truncate(reserve->file, 0);

        (void)status; /* then there is no more room than there was */
        atomic_store(&reserve->had, 0);
    }
    pthread_rwlock_unlock(&reserve->taking);
    pthread_mutex_unlock(&reserve->lock);
}

void reserve_use(struct reserve *reserve)
{
    if (!reserve->ready)
        return;
    pthread_mutex_lock(&reserve->use_lock);
    begin_use(reserve);
}

bool reserve_try_use(struct reserve *reserve)
{
    if (!reserve->ready || pthread_mutex_trylock(&reserve->use_lock) != 0)
        return false;
    begin_use(reserve);
    return true;
}

bool reserve_get_back(struct reserve *reserve)
{
    bool whole = false;

    if (!reserve->ready)
        return false;
    pthread_mutex_lock(&reserve->lock);
    if (get(reserve) == CASK_OK)
        whole = atomic_load(&reserve->had) > 0;
    pthread_mutex_unlock(&reserve->lock);
    return whole;
}

void reserve_leave(struct reserve *reserve)
{
    int status;

    if (!reserve->ready)
        return;
    pthread_mutex_lock(&reserve->lock);
    status = get(reserve);
    (void)status; /* it is tried again before anyone takes blocks */
    atomic_store(&reserve->in_use, false);
    pthread_cond_broadcast(&reserve->left);
    pthread_mutex_unlock(&reserve->lock);
    pthread_mutex_unlock(&reserve->use_lock);
}
