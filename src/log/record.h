/* One record of the log: how it lies on disk. Pure: no I/O.
 *
 *   offset  size
 *        0     4  checksum: XXH3 of everything behind it, seeded with the record's place
 *        4     4  value size, 0..2^31-1
 *        8     6  sequence number, at least 1
 *       14     2  key size (0 only in a batch end or a seal)
 *       16     1  type in bits 0..2, flags above
 *      [17     7  expiry, milliseconds since 1970, where RECORD_EXPIRES is set]
 *      then the key, the value, and zeros up to a multiple of 8 bytes
 *
 * Invariants:
 *  1. A record is believed only after its checksum passed, and its sizes are bounds-checked even
 *     so.
 *  2. The seed is made of store, shard, segment and offset: a record anywhere else fails.
 *  3. All zeros never validate: no type is 0.
 *  4. Every header, with expiry, is at most 24 bytes.
 */
#ifndef CASKADE_RECORD_H
#define CASKADE_RECORD_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/status.h"
#include "log/location.h"

enum record_type {
    RECORD_PUT = 1,
    RECORD_DELETE = 2,
    RECORD_BATCH_END = 3, /* value: see struct batch_end */
    RECORD_SEAL = 4       /* last of a segment; value: id of the segment that follows, 8 bytes */
};

#define RECORD_TYPE_MASK 0x07u
#define RECORD_IN_BATCH 0x08u /* counts only if its batch end is there, in every shard */
#define RECORD_EXPIRES 0x10u
#define RECORD_COMPRESSED 0x20u /* reserved */
#define RECORD_FLAGS_KNOWN (RECORD_IN_BATCH | RECORD_EXPIRES)

#define RECORD_HEADER_BYTES 17u
#define RECORD_EXPIRY_BYTES 7u
#define RECORD_MIN_BYTES 24u /* as stored: a key of one byte */
#define RECORD_HEADER_MAX (RECORD_HEADER_BYTES + RECORD_EXPIRY_BYTES)
#define RECORD_EXPIRY_MAX (((uint64_t)1 << 56) - 1)
#define RECORD_SEQUENCE_MAX (((uint64_t)1 << 48) - 1)
#define RECORD_BATCH_MAX (((uint64_t)1 << 56) - 1)

_Static_assert(RECORD_HEADER_MAX <= 24, "a header is at most 24 bytes");

struct record {
    uint64_t sequence;
    uint64_t expires_at_ms; /* 0: never */
    enum record_type type;
    bool in_batch;
    struct cask_slice key;
    struct cask_slice value;
};

/* What stands at a place of the log. */
enum record_outcome {
    RECORD_VALID,
    RECORD_NONE,      /* zeros, or no room for a header: the log ends here */
    RECORD_TRUNCATED, /* the header claims more bytes than there are */
    RECORD_BAD        /* something, but not a record */
};

/* Bytes that a record takes in the log, padding included. */
static inline size_t record_stored_size(size_t key_size, size_t value_size, bool expires)
{
    size_t size = RECORD_HEADER_BYTES + (expires ? RECORD_EXPIRY_BYTES : 0) + key_size + value_size;

    return (size_t)align_up(size, RECORD_ALIGNMENT);
}

static inline size_t record_size(const struct record *record)
{
    return record_stored_size(record->key.size, record->value.size, record->expires_at_ms != 0);
}

static inline bool record_same_key(const struct record *a, const struct record *b)
{
    return a->key.size == b->key.size && bytes_equal(a->key.data, b->key.data, a->key.size);
}

/* What the counts of a segment note of its records: UINT64_MAX never expires, and a tombstone keeps
 * no segment. */
static inline uint64_t record_expiry_counted(enum record_type type, uint64_t expires_at_ms)
{
    if (type == RECORD_DELETE)
        return 0;
    return expires_at_ms == 0 ? UINT64_MAX : expires_at_ms;
}

/* Writes record to `to`, which has record_size() bytes. */
void record_encode(const struct record *record, uint64_t place, uint8_t *to);

/* The header and key alone, into `to` (RECORD_HEADER_MAX + key size bytes); the checksum covers the
 * value too. Returns the bytes written. For a value that is written from where it lies. */
size_t record_encode_head(const struct record *record, uint64_t place, uint8_t *to);

/* Reads the record at `from`, of which `available` bytes may be touched; the slices of *ret_record
 * point into it. verify false leaves out the checksum: for bytes whose checksum has been
 * checked. */
CHECKED enum record_outcome record_decode(const uint8_t *from, uint64_t available, uint64_t place,
                                          bool verify, struct record *ret_record);

/* Whether the fields of the header contradict each other or their ranges: a cheap look before the
 * checksum. At least record_unpadded_size() bytes are readable. */
bool record_is_plausible(const uint8_t *from);

/* How many bytes the record at `from` claims (header_bytes >= RECORD_HEADER_BYTES are readable),
 * unverified: to know how much to read. */
uint64_t record_claimed_size(const uint8_t *from);
uint64_t record_unpadded_size(const uint8_t *from); /* the same without padding */

/* The value of a batch end: how many records the batch has in this shard and, where it spans
 * shards, its number and a bit for each shard that takes part. A batch counts if it is whole in
 * each. */
struct batch_end {
    uint32_t count;
    uint64_t number; /* 0: this shard alone */
    uint8_t shards[32];
};

#define BATCH_END_MAX 44u

/* Returns the bytes written to `to` (BATCH_END_MAX long). */
size_t batch_end_encode(const struct batch_end *end, unsigned shard_count, uint8_t *to);
CHECKED bool batch_end_decode(struct cask_slice value, unsigned shard_count,
                              struct batch_end *ret_end);

static inline bool batch_end_has(const struct batch_end *end, unsigned shard)
{
    return (end->shards[shard / 8] >> (shard % 8) & 1) != 0;
}

static inline void batch_end_add(struct batch_end *end, unsigned shard)
{
    end->shards[shard / 8] = (uint8_t)(end->shards[shard / 8] | 1u << (shard % 8));
}

#endif
