/* The index's memory budget: one figure for the store, shared live by all its shards. */
#ifndef CASKADE_BUDGET_H
#define CASKADE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct budget {
    uint64_t limit_bytes;
    _Atomic uint64_t used_bytes;
};

static inline uint64_t budget_used(struct budget *budget)
{
    return atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);
}

/* Takes bytes out of the budget, or nothing if they are not there. */
static inline bool budget_take(struct budget *budget, uint64_t bytes)
{
    uint64_t used = budget_used(budget);

    do {
        if (bytes > budget->limit_bytes || used > budget->limit_bytes - bytes)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&budget->used_bytes, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static inline void budget_give(struct budget *budget, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
}

#endif
