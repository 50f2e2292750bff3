/* Where a record lies, in 48 bits: the segment's id above, the offset in units of 8 bytes below.
 * How many bits the offset takes is fixed when the store is created (superblock). Segment ids start
 * at 1, so 0 is no location. With offsets of 25 bits that is 8 million segments in each shard over
 * a store's life: half a petabyte of log at 64 MiB each. */
#ifndef CASKADE_LOCATION_H
#define CASKADE_LOCATION_H

#include <stdint.h>

#define LOCATION_BITS 48
#define LOCATION_MAX (((uint64_t)1 << LOCATION_BITS) - 1)
#define LOCATION_OFFSET_BITS_MIN 25u /* segments of 256 MiB */
#define LOCATION_OFFSET_BITS_MAX 28u /* segments of 2 GiB */
#define RECORD_ALIGNMENT 8u

static inline uint64_t location_make(uint64_t segment, uint64_t offset, unsigned offset_bits)
{
    return segment << offset_bits | offset / RECORD_ALIGNMENT;
}

static inline uint64_t location_segment(uint64_t location, unsigned offset_bits)
{
    return location >> offset_bits;
}

static inline uint64_t location_offset(uint64_t location, unsigned offset_bits)
{
    return (location & (((uint64_t)1 << offset_bits) - 1)) * RECORD_ALIGNMENT;
}

static inline uint64_t location_segment_max(unsigned offset_bits)
{
    return LOCATION_MAX >> offset_bits;
}

#endif
