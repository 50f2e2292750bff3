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

#endif
