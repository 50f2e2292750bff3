/* A block of memory that is counted in the index's budget. */
#ifndef CASKADE_RUN_BUFFER_H
#define CASKADE_RUN_BUFFER_H

#include "base/bytes.h"
#include "base/pages.h"
#include "index/budget.h"

#define RUN_BUFFER_UNIT 4096u

struct run_buffer {
    uint8_t *bytes;
    size_t size; /* a multiple of RUN_BUFFER_UNIT */
    struct budget *budget;
};

/* Gives it back; one that is released already or all zeros is left alone. */
static inline void run_buffer_release(struct run_buffer *buffer)
{
    if (buffer->size == 0)
        return;
    pages_free(buffer->bytes, buffer->size);
    budget_give(buffer->budget, buffer->size);
    *buffer = (struct run_buffer){0};
}

/* Exactly size bytes, rounded up to whole pages. */
CHECKED static inline int run_buffer_take(struct run_buffer *buffer, uint64_t size,
                                          struct budget *budget)
{
    uint64_t whole = align_up(size, RUN_BUFFER_UNIT);
    void *bytes = NULL;
    int status;

    if (whole < size || !budget_take(budget, whole))
        return CASK_ENOMEM;
    status = pages_resize(&bytes, 0, (size_t)whole);
    if (status != CASK_OK) {
        budget_give(budget, whole);
        return status;
    }
    *buffer = (struct run_buffer){bytes, (size_t)whole, budget};
    return CASK_OK;
}

/* As much as can be had between least and most: for what is only faster with more. */
CHECKED static inline int run_buffer_take_some(struct run_buffer *buffer, uint64_t least,
                                               uint64_t most, struct budget *budget)
{
    int status = run_buffer_take(buffer, most, budget);

    while (status == CASK_ENOMEM && most > least) {
        most = max_u64(most / 2, least);
        status = run_buffer_take(buffer, most, budget);
    }
    return status;
}

/* Makes it larger, with what it holds. Old and new are both there for a moment, and counted. */
CHECKED static inline int run_buffer_grow(struct run_buffer *buffer, uint64_t size)
{
    struct run_buffer grown;
    int status = run_buffer_take(&grown, size, buffer->budget);

    if (status != CASK_OK)
        return status;
    memcpy(grown.bytes, buffer->bytes, buffer->size);
    run_buffer_release(buffer);
    *buffer = grown;
    return CASK_OK;
}

#endif
