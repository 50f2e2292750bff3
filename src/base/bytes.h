/* Little-endian integers at named offsets, alignment, and byte slices. On-disk fields are read and
 * written with these and never through a cast struct. */
#ifndef CASKADE_BYTES_H
#define CASKADE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (uint16_t)(p[1] << 8));
}

static inline uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t get_u48(const uint8_t *p)
{
    return (uint64_t)get_u32(p) | (uint64_t)get_u16(p + 4) << 32;
}

static inline uint64_t get_u64(const uint8_t *p)
{
    return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

static inline uint64_t get_u56(const uint8_t *p)
{
    return get_u48(p) | (uint64_t)p[6] << 48;
}

static inline void put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void put_u32(uint8_t *p, uint32_t v)
{
    put_u16(p, (uint16_t)v);
    put_u16(p + 2, (uint16_t)(v >> 16));
}

static inline void put_u48(uint8_t *p, uint64_t v)
{
    put_u32(p, (uint32_t)v);
    put_u16(p + 4, (uint16_t)(v >> 32));
}

static inline void put_u56(uint8_t *p, uint64_t v)
{
    put_u48(p, v);
    p[6] = (uint8_t)(v >> 48);
}

static inline void put_u64(uint8_t *p, uint64_t v)
{
    put_u32(p, (uint32_t)v);
    put_u32(p + 4, (uint32_t)(v >> 32));
}

/* The next multiple of unit (a power of two) that is not below n. */
static inline uint64_t align_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) & ~(unit - 1);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* memcmp and memcpy that accept a NULL pointer where the size is 0. */
static inline bool bytes_equal(const void *a, const void *b, size_t size)
{
    return size == 0 || memcmp(a, b, size) == 0;
}

static inline void bytes_copy(void *to, const void *from, size_t size)
{
    if (size > 0)
        memcpy(to, from, size);
}

#endif
