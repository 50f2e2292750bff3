#include "base/epoch.h"

#include <string.h>
#include <time.h>

#define WAIT_NS 50000

_Thread_local unsigned epoch_stripe_plus_one;
static _Atomic unsigned next_stripe;

unsigned epoch_assign_stripe(void)
{
    epoch_stripe_plus_one = atomic_fetch_add_explicit(&next_stripe, 1, memory_order_relaxed) %
                                EPOCH_STRIPES +
                            1;
    return epoch_stripe_plus_one;
}

int epoch_init(struct epoch *epoch)
{
    memset(epoch, 0, sizeof *epoch);
    return pthread_mutex_init(&epoch->synchronizing, NULL) == 0 ? CASK_OK : CASK_ENOMEM;
}

void epoch_release(struct epoch *epoch)
{
    pthread_mutex_destroy(&epoch->synchronizing);
}

/* Those that left are summed first: a reader that is missed in that sum is found in the other. */
static bool phase_is_empty(struct epoch *epoch, unsigned phase)
{
    uint64_t left = 0;
    uint64_t entered = 0;

    for (unsigned i = 0; i < EPOCH_STRIPES; i++)
        left += atomic_load_explicit(&epoch->stripes[i].left[phase], memory_order_seq_cst);
    for (unsigned i = 0; i < EPOCH_STRIPES; i++)
        entered += atomic_load_explicit(&epoch->stripes[i].entered[phase], memory_order_seq_cst);
    return left == entered;
}

/* Twice: a reader may have read the phase before the first flip and count itself in after it. */
void epoch_synchronize(struct epoch *epoch)
{
    struct timespec wait = {0, WAIT_NS};

    pthread_mutex_lock(&epoch->synchronizing);
    for (int flip = 0; flip < 2; flip++) {
        unsigned old = atomic_fetch_add_explicit(&epoch->phase, 1, memory_order_seq_cst) & 1;

        while (!phase_is_empty(epoch, old))
            nanosleep(&wait, NULL);
    }
    pthread_mutex_unlock(&epoch->synchronizing);
}

uint64_t epoch_entries(struct epoch *epoch)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < EPOCH_STRIPES; i++)
        for (unsigned phase = 0; phase < 2; phase++)
            sum += atomic_load_explicit(&epoch->stripes[i].entered[phase], memory_order_relaxed);
    return sum;
}
