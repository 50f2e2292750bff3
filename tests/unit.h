/* What the unit tests share beyond support.h: cmocka with what it needs, a directory behind io.h,
 * and the four ways a log is written and read. */
#ifndef CASKADE_TESTS_UNIT_H
#define CASKADE_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support.h"

#include "base/hash.h"
#include "io/io.h"
#include "log/segment.h"

#define assert_ok(call) assert_int_equal((call), CASK_OK)
#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

/* A new directory, as the library sees it. */
struct place {
    char *path;
    struct io_dir *dir;
};

static inline struct place place_make(void)
{
    struct place place = {.path = scratch_make(SCRATCH_MEMORY)};

    assert_ok(io_dir_open(place.path, &place.dir));
    return place;
}

static inline void place_remove(struct place *place)
{
    io_dir_close(place->dir);
    scratch_remove(place->path);
}

struct unit_mode {
    bool write_mapped;
    bool read_mapped;
};

static const struct unit_mode unit_modes[] = {
    {true, true}, {true, false}, {false, true}, {false, false}};
#define UNIT_MODES COUNT_OF(unit_modes)

static inline struct log_config unit_config(struct unit_mode mode)
{
    struct log_config config = {.shard = 1,
                                .shard_count = 16,
                                .offset_bits = LOCATION_OFFSET_BITS_MIN,
                                .write_mapped = mode.write_mapped,
                                .read_mapped = mode.read_mapped,
                                .verify_reads = true,
                                .segment_bytes = (uint64_t)4 << 20};

    memcpy(config.uuid, "0123456789abcdef", sizeof config.uuid);
    return config;
}

static inline void assert_slice(struct cask_slice slice, const void *data, size_t size)
{
    assert_int_equal(slice.size, size);
    if (size > 0)
        assert_memory_equal(slice.data, data, size);
}

/* Bytes that repeat nowhere near and depend on the seed. */
static inline uint8_t *unit_bytes(size_t size, uint64_t seed)
{
    uint8_t *bytes = malloc(size + 8);
    struct rng rng = {seed};

    assert_non_null(bytes);
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = rng_next(&rng);

        memcpy(bytes + i, &word, 8);
    }
    return bytes;
}

/* Keys whose entries all belong to the end of a keydir's table. */
static inline void crowd_of(uint64_t hash_seed, unsigned shard_bits, unsigned count,
                            char keys[][16])
{
    for (unsigned i = 0, number = 0; i < count; number++) {
        uint64_t hash;

        snprintf(keys[i], sizeof keys[i], "k%u", number);
        hash = hash_key(keys[i], strlen(keys[i]), hash_seed);
        i += ~hash_tag(hash, shard_bits) < UINT32_MAX / 2048;
    }
}

#endif
