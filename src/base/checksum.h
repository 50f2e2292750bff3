/* Checksums: XXH3, whole or folded to 32 bits. A record's is seeded with its place (see
 * log/record.h), so that a record found anywhere else does not validate. */
#ifndef CASKADE_CHECKSUM_H
#define CASKADE_CHECKSUM_H

#include "base/hash.h"

static inline uint64_t checksum_bytes(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

static inline uint32_t checksum_placed(const void *data, size_t size, uint64_t place)
{
    return (uint32_t)XXH3_64bits_withSeed(data, size, place);
}

/* The same for small pieces that are checked at every look-up: to set XXH3 up for a seed takes as
 * long as the hash of 250 bytes. Places that differ by less than 2^31 give different checksums of
 * the same bytes: their product with this factor then differs in its upper half. */
static inline uint32_t checksum_small_placed(const void *data, size_t size, uint64_t place)
{
    return (uint32_t)(XXH3_64bits(data, size) ^ place * 0x9e3779b97f4a7c15u >> 32);
}

#endif
