#include "support_model.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "log/record.h"

static size_t model_bytes(uint32_t key_count)
{
    return sizeof(struct model) + (size_t)key_count * sizeof(struct model_key);
}

struct model *model_create(uint64_t seed, uint32_t key_count)
{
    struct model *model = mmap(NULL, model_bytes(key_count), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(model != MAP_FAILED, "out of memory");
    model->seed = seed;
    model->rng.state = mix64(seed);
    model->key_count = key_count;
    return model;
}

void model_destroy(struct model *model)
{
    munmap(model, model_bytes(model->key_count));
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* One of a single byte, one very long, some long, most short; the number comes first. */
static size_t key_size(const struct model *model, uint32_t key)
{
    uint64_t random = mix64(model->seed ^ ((uint64_t)key << 32));

    if (key == 0)
        return 1;
    if (key == 1)
        return MODEL_KEY_MAX;
    if (random % 40 == 0)
        return 4 + random / 40 % 600;
    return 4 + random / 40 % 28;
}

struct cask_slice model_key_bytes(const struct model *model, uint32_t key, uint8_t *buffer)
{
    size_t size = key_size(model, key);

    for (size_t i = 0; i < size; i++)
        buffer[i] = (uint8_t)(i < 4 ? key >> (8 * i) : mix64(key + i));
    return slice_bytes(buffer, size);
}

uint32_t model_key_number(const struct model *model, struct cask_slice bytes)
{
    const uint8_t *from = bytes.data;
    uint8_t expected[MODEL_KEY_MAX];
    uint32_t key = 0;
    struct cask_slice slice;

    for (size_t i = 0; i < 4 && i < bytes.size; i++)
        key |= (uint32_t)from[i] << (8 * i);
    CHECK(key < model->key_count, "a key that was never written");
    slice = model_key_bytes(model, key, expected);
    CHECK(slice.size == bytes.size && memcmp(expected, from, bytes.size) == 0,
          "a key that was never written, like key %u", (unsigned)key);
    return key;
}

/* Key and version come first, scrambled; the rest follows from them. */
void model_value_bytes(uint32_t key, uint32_t version, uint8_t *to, size_t size)
{
    uint64_t word = (uint64_t)key << 32 | version;
    uint64_t stream = mix64(word);

    for (size_t i = 0; i < size; i++) {
        if (i >= 8 && i % 8 == 0)
            word = mix64(stream + i);
        to[i] = (uint8_t)(word >> (8 * (i % 8)));
    }
}

void model_check_value(uint32_t key, uint32_t version, struct cask_slice value)
{
    uint8_t *expected = malloc(value.size + 1);

    CHECK(expected, "out of memory");
    model_value_bytes(key, version, expected, value.size);
    CHECK(value.size == 0 || memcmp(expected, value.data, value.size) == 0,
          "key %u has not the value of version %u", (unsigned)key, (unsigned)version);
    free(expected);
}

uint32_t model_value_version(uint32_t key, struct cask_slice value)
{
    const uint8_t *from = value.data;
    uint64_t word = 0;

    if (value.size < 8)
        return 0;
    for (size_t i = 0; i < 8; i++)
        word |= (uint64_t)from[i] << (8 * i);
    CHECK(word >> 32 == key, "key %u has the value of key %u", (unsigned)key,
          (unsigned)(word >> 32));
    model_check_value(key, (uint32_t)word, value);
    return (uint32_t)word;
}

/* ---- state ----------------------------------------------------------------------------------- */

enum presence model_presence(const struct model_key *key, uint64_t before_ms, uint64_t after_ms)
{
    if (!key->there)
        return ABSENT;
    if (key->expires_at_ms == 0 || after_ms < key->expires_at_ms)
        return PRESENT;
    return before_ms >= key->expires_at_ms ? ABSENT : EITHER;
}

uint32_t model_put(struct model *model, uint32_t key, uint32_t size, uint64_t expires_at_ms)
{
    struct model_key *state = &model->keys[key];

    state->version = ++model->last_version;
    state->size = size;
    state->there = true;
    state->expires_at_ms = expires_at_ms;
    return model->last_version;
}

void model_delete(struct model *model, uint32_t key)
{
    model->keys[key].there = false;
}

void model_note_sequence(struct model_key *key, uint64_t sequence)
{
    if (key->sequence_version == key->version)
        CHECK(sequence == key->sequence, "version %u has number %llu, had %llu",
              (unsigned)key->version, (unsigned long long)sequence,
              (unsigned long long)key->sequence);
    CHECK(sequence > key->sequence || key->sequence_version == key->version,
          "version %u has number %llu, version %u had %llu", (unsigned)key->version,
          (unsigned long long)sequence, (unsigned)key->sequence_version,
          (unsigned long long)key->sequence);
    key->sequence = sequence;
    key->sequence_version = key->version;
}

/* Of those that have not expired at a time; 0: of all. */
static void count(const struct model *model, uint64_t now_ms, uint64_t *ret_keys,
                  uint64_t *ret_bytes)
{
    *ret_keys = 0;
    *ret_bytes = 0;
    for (uint32_t i = 0; i < model->key_count; i++) {
        const struct model_key *key = &model->keys[i];

        if (!key->there || (key->expires_at_ms != 0 && key->expires_at_ms <= now_ms))
            continue;
        *ret_keys += 1;
        *ret_bytes += record_stored_size(key_size(model, i), key->size, key->expires_at_ms != 0);
    }
}

void model_count(const struct model *model, uint64_t *ret_keys, uint64_t *ret_bytes)
{
    count(model, 0, ret_keys, ret_bytes);
}

void model_count_living(const struct model *model, uint64_t now_ms, uint64_t *ret_keys,
                        uint64_t *ret_bytes)
{
    count(model, now_ms, ret_keys, ret_bytes);
}
