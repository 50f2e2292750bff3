/* Disk space that is kept so that a full disk can be freed: what merging needs to begin with.
 *
 * Invariants:
 *  1. It is a file of the store that holds nothing but blocks; while it is in use they are free.
 *  2. While it is in use, or not had in full, only sealing and the merge that uses it take blocks:
 *     whoever else wants some passes reserve_enter(), which gets back what is missing first.
 *  3. One merge at a time uses it.
 *  4. Where it cannot be had for another reason than a full disk, the store does without.
 */
#ifndef CASKADE_RESERVE_H
#define CASKADE_RESERVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "base/status.h"
#include "io/io.h"

#define RESERVE_NAME "RESERVE"

struct reserve {
    struct io_dir *dir;
    struct io_file *file;
    pthread_mutex_t use_lock; /* held while it is in use */
    pthread_mutex_t lock;     /* of the file and what is had; taken after use_lock */
    pthread_cond_t left;      /* it is not in use any more */
    pthread_rwlock_t taking;  /* for reading: blocks are being taken; the innermost lock */
    _Atomic uint64_t wanted;  /* bytes */
    _Atomic uint64_t had;
    _Atomic bool in_use;
    bool ready;
};

/* Removes what a kill has left; there is no reserve until one is wanted. */
void reserve_init(struct reserve *reserve, struct io_dir *dir);
void reserve_close(struct reserve *reserve);

static inline bool reserve_is_short(const struct reserve *reserve)
{
    return reserve->ready && (atomic_load_explicit(&reserve->in_use, memory_order_relaxed) ||
                              atomic_load_explicit(&reserve->had, memory_order_relaxed) <
                                  atomic_load_explicit(&reserve->wanted, memory_order_relaxed));
}

/* Before blocks are taken: sees to it that the reserve has `wanted` bytes, or what it had to have
 * before if that is more. CASK_OK: blocks may be taken until reserve_exit(), and no use begins
 * meanwhile. They may not be: CASK_ENOSPC, or CASK_EBUSY while it is in use. */
CHECKED int reserve_enter(struct reserve *reserve, uint64_t wanted);
void reserve_exit(struct reserve *reserve);

/* Waits, but not for long, until it is not in use. */
void reserve_wait(struct reserve *reserve);

/* Gives its blocks back until reserve_leave(), which gets them again before anyone else may. Waits
 * for another user; reserve_try_use() is false then. */
void reserve_use(struct reserve *reserve);
bool reserve_try_use(struct reserve *reserve);
void reserve_leave(struct reserve *reserve);

/* Whether its user has it back in full, and should leave. */
bool reserve_get_back(struct reserve *reserve);

#endif
