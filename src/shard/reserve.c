#include "shard/reserve.h"

#include "base/status.h"

void reserve_init(struct reserve *reserve, struct io_dir *dir, uint64_t bytes)
{
    int status = io_unlink(dir, RESERVE_NAME); /* a kill has left it */

    (void)status;
    reserve->dir = dir;
    reserve->bytes = bytes;
    reserve->ready = pthread_mutex_init(&reserve->lock, NULL) == 0;
}

void reserve_have(struct reserve *reserve)
{
    int status;

    if (!reserve->ready || atomic_load_explicit(&reserve->tried, memory_order_relaxed))
        return;
    pthread_mutex_lock(&reserve->lock);
    if (!atomic_exchange(&reserve->tried, true)) {
        status = io_open(reserve->dir, RESERVE_NAME, IO_CREATE_NEW, &reserve->file);
        if (status != CASK_OK)
            reserve->file = NULL;
        else if (io_allocate(reserve->file, reserve->bytes) != CASK_OK)
            status = io_truncate(reserve->file, 0);
        (void)status; /* it is tried again after each use */
    }
    pthread_mutex_unlock(&reserve->lock);
}

void reserve_close(struct reserve *reserve)
{
    int status;

    if (reserve->file) {
        io_close(reserve->file);
        status = io_unlink(reserve->dir, RESERVE_NAME);
        (void)status; /* the next open removes it */
    }
    if (reserve->ready)
        pthread_mutex_destroy(&reserve->lock);
    reserve->file = NULL;
    reserve->ready = false;
}

void reserve_use(struct reserve *reserve)
{
    if (!reserve->ready)
        return;
    pthread_mutex_lock(&reserve->lock);
    if (atomic_fetch_add(&reserve->users, 1) == 0 && reserve->file) {
        int status = io_truncate(reserve->file, 0);

        (void)status; /* then there is no more room than there was */
    }
    pthread_mutex_unlock(&reserve->lock);
}

void reserve_leave(struct reserve *reserve)
{
    if (!reserve->ready)
        return;
    pthread_mutex_lock(&reserve->lock);
    if (atomic_load(&reserve->users) == 1 && reserve->file) {
        int status = io_allocate(reserve->file, reserve->bytes);

        if (status != CASK_OK)
            status = io_truncate(reserve->file, 0);
        (void)status; /* it is tried again after the next use */
    }
    atomic_fetch_sub(&reserve->users, 1);
    pthread_mutex_unlock(&reserve->lock);
}
