/* A blocked Bloom filter over the tags of one run: a look-up of a tag that is not there costs one
 * cache line and no read from the disk.
 *
 * Invariants:
 *  1. Never a false "no": what was added may be contained.
 *  2. All bits of a tag lie in one block of 64 bytes.
 *  3. Memory is taken from the budget before it is had, and given back by filter_release().
 *  4. The words in memory are those of the file on a little-endian machine, which is all that
 *     Caskade runs on; no other conversion is done.
 *  5. Bits are added before the filter is shared; from then on any thread may ask.
 */
#ifndef CASKADE_FILTER_H
#define CASKADE_FILTER_H

#include "base/status.h"
#include "index/budget.h"

#define FILTER_BLOCK_BYTES 64u
#define FILTER_BLOCK_WORDS 8u
#define FILTER_BITS_MAX 12u
#define FILTER_PROBES_MAX 7u /* of 9 bits each, out of one 64-bit number */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "filters are saved as they are");

struct filter {
    uint64_t *words;
    uint32_t blocks; /* 0: no filter, anything may be contained */
    uint32_t probes;
    struct budget *budget;
};

/* Bytes of a filter for so many tags, a multiple of FILTER_BLOCK_BYTES; 0 with 0 bits per tag. */
uint64_t filter_bytes_for(uint64_t count, unsigned bits_per_tag);

static inline uint64_t filter_bytes(const struct filter *filter)
{
    return (uint64_t)filter->blocks * FILTER_BLOCK_BYTES;
}

/* An empty filter for about `count` tags; with 0 bits per tag (or no tags) it is none at all.
 * CASK_ENOMEM also where the budget refuses: fewer bits may do. */
CHECKED int filter_init(struct filter *filter, uint64_t count, unsigned bits_per_tag,
                        struct budget *budget);

/* One of a size that was saved, to be filled through filter->words. */
CHECKED int filter_init_saved(struct filter *filter, uint64_t bytes, uint32_t probes,
                              struct budget *budget);

/* Does no harm to one that is released already or all zeros. */
void filter_release(struct filter *filter);

/* Tags are uniform, but runs hold them in order and their low bits may be all that differs: mixed,
 * so that block and bits are drawn from all of them. */
static inline uint64_t filter_mix(uint32_t tag)
{
    uint64_t x = (tag + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;

    x ^= x >> 32;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 29;
}

static inline uint64_t *filter_block(const struct filter *filter, uint64_t mixed)
{
    return filter->words + ((mixed >> 32) * filter->blocks >> 32) * FILTER_BLOCK_WORDS;
}

/* Where in the block: nine bits for each probe. */
static inline uint64_t filter_places(uint64_t mixed)
{
    return mixed * 0x9e3779b97f4a7c15u >> 1;
}

static inline void filter_add(struct filter *filter, uint32_t tag)
{
    uint64_t mixed = filter_mix(tag);
    uint64_t places = filter_places(mixed);
    uint64_t *block;

    if (filter->blocks == 0)
        return;
    block = filter_block(filter, mixed);
    for (unsigned i = 0; i < filter->probes; i++, places >>= 9)
        block[places >> 6 & 7] |= (uint64_t)1 << (places & 63);
}

static inline bool filter_may_contain(const struct filter *filter, uint32_t tag)
{
    uint64_t mixed = filter_mix(tag);
    uint64_t places = filter_places(mixed);
    const uint64_t *block;
    uint64_t all = 1;

    if (filter->blocks == 0)
        return true;
    block = filter_block(filter, mixed);
    for (unsigned i = 0; i < filter->probes; i++, places >>= 9)
        all &= block[places >> 6 & 7] >> (places & 63);
    return all & 1;
}

static inline void filter_prefetch(const struct filter *filter, uint32_t tag)
{
    if (filter->blocks > 0)
        __builtin_prefetch(filter_block(filter, filter_mix(tag)));
}

#endif
