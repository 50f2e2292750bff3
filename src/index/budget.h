/* The index's memory budget: one figure for the store, shared live by all its shards. */
#ifndef CASKADE_BUDGET_H
#define CASKADE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct budget {
    uint64_t limit_bytes;
    uint64_t reserve_bytes; /* that keydirs leave to what empties them */
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t excess_bytes; /* beyond it, for what cannot be refused: the reserve stays */
};

static inline uint64_t budget_excess(struct budget *budget)
{
    return atomic_load_explicit(&budget->excess_bytes, memory_order_relaxed);
}

/* What is taken beyond the limit too. */
static inline uint64_t budget_used(struct budget *budget)
{
    return atomic_load_explicit(&budget->used_bytes, memory_order_relaxed) + budget_excess(budget);
}

/* Takes bytes if no more than limit_bytes are taken then, or nothing. */
static inline bool budget_take_below(struct budget *budget, uint64_t bytes, uint64_t limit_bytes)
{
    uint64_t used = atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);

    do {
        if (bytes > limit_bytes || used > limit_bytes - bytes)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&budget->used_bytes, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

/* Takes bytes out of the budget, or nothing if they are not there. */
static inline bool budget_take(struct budget *budget, uint64_t bytes)
{
    return budget_take_below(budget, bytes, budget->limit_bytes);
}

static inline void budget_overdraw(struct budget *budget, uint64_t bytes)
{
    atomic_fetch_add_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
}

static inline void budget_give(struct budget *budget, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
}

static inline void budget_exceed(struct budget *budget, uint64_t bytes)
{
    atomic_fetch_add_explicit(&budget->excess_bytes, bytes, memory_order_relaxed);
}

static inline void budget_settle(struct budget *budget, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&budget->excess_bytes, bytes, memory_order_relaxed);
}

#endif
