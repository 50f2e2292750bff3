/* Which keys there are, what each holds and in which order they are visited: all computed, nothing
 * stored, a few nanoseconds a key.
 *
 *  1. Key id (any 64-bit number) is key_bytes bytes, its first eight a bijection of the id: two ids
 *     never share a key, and neighbours lie nowhere near each other.
 *  2. The value of (id, generation) is value_bytes bytes that differ from those of any other pair
 *     in their first eight bytes but for one chance in 2^64.
 *  3. An order visits each of [0, num) exactly once, two different salts in unrelated sequences.
 */
#ifndef BENCH_KEYSPACE_H
#define BENCH_KEYSPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "caskade.h"

#define KEYSPACE_KEY_MIN 8
#define KEYSPACE_WEYL UINT64_C(0x9e3779b97f4a7c15)

struct keyspace {
    uint64_t seed;
    size_t key_bytes; /* at least KEYSPACE_KEY_MIN */
    size_t value_bytes;
};

/* A bijection of the 64-bit numbers. */
static inline uint64_t keyspace_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Keys and values are written in whole words: up to this many bytes past their end. */
#define KEYSPACE_SLACK 7

/* Each word is its predecessor plus a constant, which compilers turn into vector instructions. */
static inline void keyspace_fill(uint64_t word, uint8_t *ret_bytes, size_t size)
{
    for (size_t i = 0; i < size; i += sizeof word) {
        memcpy(ret_bytes + i, &word, sizeof word);
        word += KEYSPACE_WEYL;
    }
}

/* Writes key_bytes bytes and KEYSPACE_SLACK. */
static inline void keyspace_key(const struct keyspace *keyspace, uint64_t id, uint8_t *ret_key)
{
    keyspace_fill(keyspace_mix(id + keyspace->seed), ret_key, keyspace->key_bytes);
}

static inline uint64_t keyspace_value_word(const struct keyspace *keyspace, uint64_t id,
                                           uint32_t generation)
{
    return keyspace_mix((id + keyspace->seed) ^ keyspace_mix(generation + UINT64_C(1)));
}

/* Writes value_bytes bytes and KEYSPACE_SLACK. */
static inline void keyspace_value(const struct keyspace *keyspace, uint64_t id, uint32_t generation,
                                  uint8_t *ret_value)
{
    uint64_t word = keyspace_value_word(keyspace, id, generation);
    keyspace_fill(word, ret_value, keyspace->value_bytes);
}

/* Whether value is that of (id, generation), all of it. The words are compared as they are made:
 * writing them first would cost more than making them. */
static inline bool keyspace_check(const struct keyspace *keyspace, uint64_t id, uint32_t generation,
                                  struct cask_slice value)
{
    if (value.size != keyspace->value_bytes) {
        return false;
    }
    if (value.size == 0) {
        return true;
    }
    const uint8_t *bytes = value.data;
    uint64_t word = keyspace_value_word(keyspace, id, generation);
    uint64_t found = 0;
    uint64_t wrong = 0;
    size_t whole = value.size / sizeof found;
    for (size_t i = 0; i < whole; i++) {
        memcpy(&found, bytes + i * sizeof found, sizeof found);
        wrong |= found ^ (word + i * KEYSPACE_WEYL);
    }
    uint64_t last = word + whole * KEYSPACE_WEYL;
    return wrong == 0 && memcmp(bytes + whole * sizeof last, &last, value.size % sizeof last) == 0;
}

/* Ids as pairs: a high part below high_count and a low part of low_bits bits, of about as many
 * values each. There are barely more pairs than num, so that hardly any has to be passed over. */
struct order {
    uint64_t num;
    uint64_t high_count;
    unsigned low_bits;
    uint64_t factors[4]; /* odd, of the salt */
    uint64_t terms[4];
};

/* num is 1 to 2^60. */
void order_init(struct order *order, uint64_t num, uint64_t salt);

/* 32 bits that depend on all of x. */
static inline uint64_t order_round(const struct order *order, unsigned round, uint64_t x)
{
    return (x * order->factors[round] + order->terms[round]) >> 32;
}

/* The id at a position of the order; both are below num. Each round changes one part by what the
 * other is, which can be undone: a permutation of the pairs. What is no id is permuted again. */
static inline uint64_t order_at(const struct order *order, uint64_t position)
{
    uint64_t low_mask = (UINT64_C(1) << order->low_bits) - 1;
    uint64_t id = position;
    do {
        uint64_t high = id >> order->low_bits;
        uint64_t low = id & low_mask;
        for (unsigned round = 0; round < 4; round += 2) {
            low ^= order_round(order, round, high) & low_mask;
            high += (order_round(order, round + 1, low) * order->high_count) >> 32;
            high -= high >= order->high_count ? order->high_count : 0;
        }
        id = high << order->low_bits | low;
    } while (id >= order->num);
    return id;
}

#endif
