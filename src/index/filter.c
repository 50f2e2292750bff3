#include "index/filter.h"

#include "base/bytes.h"
#include "base/pages.h"

#define PAGE_BYTES 4096u

uint64_t filter_bytes_for(uint64_t count, unsigned bits_per_tag)
{
    uint64_t block_bits = (uint64_t)FILTER_BLOCK_BYTES * 8;

    return (count * bits_per_tag + block_bits - 1) / block_bits * FILTER_BLOCK_BYTES;
}

/* The best number for a filter without blocks is 0.69 of the bits; the crowding of some blocks
 * moves it down a little. */
static uint32_t probes_for(unsigned bits_per_tag)
{
    uint32_t probes = (bits_per_tag * 5 + 4) / 8;

    return probes < 1 ? 1 : probes > FILTER_PROBES_MAX ? FILTER_PROBES_MAX : probes;
}

int filter_init_saved(struct filter *filter, uint64_t bytes, uint32_t probes, struct budget *budget)
{
    uint64_t taken = align_up(bytes, PAGE_BYTES);
    void *words = NULL;
    int status;

    if (bytes > (uint64_t)UINT32_MAX * FILTER_BLOCK_BYTES || !budget_take(budget, taken))
        return CASK_ENOMEM;
    status = pages_resize(&words, 0, (size_t)taken);
    if (status != CASK_OK) {
        budget_give(budget, taken);
        return status;
    }
    *filter = (struct filter){words, (uint32_t)(bytes / FILTER_BLOCK_BYTES), probes, budget};
    return CASK_OK;
}

int filter_init(struct filter *filter, uint64_t count, unsigned bits_per_tag, struct budget *budget)
{
    if (count > (uint64_t)UINT32_MAX * FILTER_BLOCK_BYTES)
        return CASK_ENOMEM;
    return filter_init_saved(filter, filter_bytes_for(count, bits_per_tag),
                             probes_for(bits_per_tag), budget);
}

void filter_release(struct filter *filter)
{
    uint64_t taken = align_up(filter_bytes(filter), PAGE_BYTES);

    if (filter->blocks == 0)
        return;
    pages_free(filter->words, (size_t)taken);
    budget_give(filter->budget, taken);
    *filter = (struct filter){0};
}
