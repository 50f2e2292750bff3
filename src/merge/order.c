/* The order in which survivors are read: input by input, each from front to back. */
#include <stdlib.h>

#include "merge/merge_internal.h"

#define DIGIT_BITS 12u
#define DIGITS (1u << DIGIT_BITS)
#define PLACE_SHIFT 32u /* of a survivor's place in its key, above its number */

_Static_assert(SEGMENT_BYTES_MAX / RECORD_ALIGNMENT < (uint64_t)1 << (4 * DIGIT_BITS),
               "four digits order the places of a segment");

static uint64_t order_key(const struct survivor *survivor, size_t number)
{
    return (uint64_t)survivor->from << PLACE_SHIFT | number;
}

static bool is_in_order(const uint64_t *keys, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (keys[i - 1] > keys[i])
            return false;
    return true;
}

static void sort_by_digit(const uint64_t *from, uint64_t *to, size_t count, unsigned shift)
{
    uint32_t next[DIGITS] = {0};
    uint32_t sum = 0;

    for (size_t i = 0; i < count; i++)
        next[from[i] >> shift & (DIGITS - 1)]++;
    for (unsigned digit = 0; digit < DIGITS; digit++) {
        uint32_t here = next[digit];

        next[digit] = sum;
        sum += here;
    }
    for (size_t i = 0; i < count; i++)
        to[next[from[i] >> shift & (DIGITS - 1)]++] = from[i];
}

/* Of one input. */
static void sort_by_place(uint64_t *keys, uint64_t *spare, size_t count, uint64_t bytes)
{
    unsigned digits = bytes / RECORD_ALIGNMENT < (uint64_t)1 << (2 * DIGIT_BITS) ? 2 : 4;

    if (is_in_order(keys, count)) /* they were read from the segment itself */
        return;
    for (unsigned digit = 0; digit < digits; digit += 2) {
        sort_by_digit(keys, spare, count, PLACE_SHIFT + digit * DIGIT_BITS);
        sort_by_digit(spare, keys, count, PLACE_SHIFT + (digit + 1) * DIGIT_BITS);
    }
}

/* Keys in the order of inputs. ends[i] is where those of input i end. */
static void part_by_input(const struct merge *merge, uint64_t *keys, size_t *ends)
{
    size_t sum = 0;

    for (size_t i = 0; i < merge->survivor_count; i++)
        ends[merge->survivors[i].input]++;
    for (size_t i = 0; i < merge->input_count; i++) {
        size_t here = ends[i];

        ends[i] = sum;
        sum += here;
    }
    for (size_t i = 0; i < merge->survivor_count; i++) {
        const struct survivor *survivor = &merge->survivors[i];

        keys[ends[survivor->input]++] = order_key(survivor, i);
    }
}

static size_t order_bytes(const struct merge *merge)
{
    return (merge->survivor_count + 1) * sizeof(uint64_t);
}

void merge_free_order(const struct merge *merge, uint64_t *order)
{
    if (order)
        pages_return(order, order_bytes(merge));
}

int merge_make_order(const struct merge *merge, uint64_t **ret_order)
{
    size_t *ends = calloc(merge->input_count + 1, sizeof *ends);
    uint64_t *order = pages_borrow(order_bytes(merge));
    uint64_t *spare = pages_borrow(order_bytes(merge));
    int status = ends && order && spare && merge->survivor_count <= UINT32_MAX ? CASK_OK
                                                                               : CASK_ENOMEM;
    size_t from = 0;

    if (status == CASK_OK) {
        pages_populate(order, 0, order_bytes(merge));
        pages_populate(spare, 0, order_bytes(merge));
    }
    if (status == CASK_OK)
        part_by_input(merge, order, ends);
    for (size_t i = 0; status == CASK_OK && i < merge->input_count; i++) {
        sort_by_place(order + from, spare + from, ends[i] - from, segment_tail(merge->inputs[i]));
        from = ends[i];
    }
    free(ends);
    merge_free_order(merge, spare);
    if (status == CASK_OK)
        *ret_order = order;
    else
        merge_free_order(merge, order);
    return status;
}
