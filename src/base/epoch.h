/* Who is reading: lets a writer wait until every reader that may hold a pointer it has unpublished
 * is gone, while a reader takes no lock, registers nothing and touches no line that all share.
 *
 * Invariants (the scheme is that of sleepable RCU in Linux, with stripes for processors):
 *  1. A reader counts itself in and out in one stripe, in the phase that it found on entering.
 *  2. A pointer unpublished before epoch_synchronize() is held by no reader once it returns.
 *  3. Readers never wait; epoch_synchronize() waits for readers, never the other way round.
 */
#ifndef CASKADE_EPOCH_H
#define CASKADE_EPOCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/status.h"

#define EPOCH_STRIPES 64

struct epoch_stripe {
    _Alignas(64) _Atomic uint64_t entered[2];
    _Atomic uint64_t left[2];
};

struct epoch {
    struct epoch_stripe stripes[EPOCH_STRIPES];
    _Alignas(64) _Atomic unsigned phase;
    pthread_mutex_t synchronizing;
};

/* Where a reader stands. */
struct epoch_guard {
    struct epoch_stripe *stripe;
    unsigned phase;
};

CHECKED int epoch_init(struct epoch *epoch);
void epoch_release(struct epoch *epoch);

/* Waits until every reader that had entered before the call has left. */
void epoch_synchronize(struct epoch *epoch);

/* How many times readers have entered. */
uint64_t epoch_entries(struct epoch *epoch);

/* This thread's stripe number: given out round robin, once per thread. */
extern _Thread_local unsigned epoch_stripe_plus_one;
unsigned epoch_assign_stripe(void);

static inline struct epoch_guard epoch_enter(struct epoch *epoch)
{
    unsigned number = epoch_stripe_plus_one;
    struct epoch_guard guard;

    if (number == 0)
        number = epoch_assign_stripe();
    guard.stripe = &epoch->stripes[number - 1];
    guard.phase = atomic_load_explicit(&epoch->phase, memory_order_relaxed) & 1;
    atomic_fetch_add_explicit(&guard.stripe->entered[guard.phase], 1, memory_order_seq_cst);
    return guard;
}

static inline void epoch_leave(struct epoch_guard guard)
{
    atomic_fetch_add_explicit(&guard.stripe->left[guard.phase], 1, memory_order_release);
}

#endif
