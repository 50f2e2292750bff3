/* XXH3 (xxHash 0.8, https://xxhash.com), in header mode: key hashes and all checksums.
 *
 * A key's 64-bit hash is cut into two fields that never overlap:
 *   bits 63..(64 - shard bits)   which shard
 *   the 32 bits below those      the tag, which orders the shard's index
 */
#ifndef CASKADE_HASH_H
#define CASKADE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline uint64_t hash_key(const void *key, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(key, size, seed);
}

static inline uint32_t hash_shard(uint64_t hash, unsigned shard_bits)
{
    return shard_bits == 0 ? 0 : (uint32_t)(hash >> (64 - shard_bits));
}

static inline uint32_t hash_tag(uint64_t hash, unsigned shard_bits)
{
    return (uint32_t)(hash << shard_bits >> 32);
}

/* What is known of a hash of which the tag is known. */
static inline uint64_t hash_of_tag(uint32_t tag, unsigned shard_bits)
{
    return (uint64_t)tag << 32 >> shard_bits;
}

#endif
