/* Hints: every entry of one that is accepted lies inside what it covers and contradicts nothing.
 * The first byte says what is mended, so that what lies behind it is reached: 1 the checksum, 2
 * magic, version and identity, 4 the number of entries. */
#include <assert.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "log/hint.h"

#define AT_VERSION 8
#define AT_SHARD 12
#define AT_UUID 16
#define AT_SEGMENT 32
#define AT_COUNT 56
#define HEADER_BYTES 128
#define ENTRY_BYTES 25
#define TRAILER_BYTES 8
#define SEGMENT_ID 1

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct log_config config = {.shard_count = 16,
                                         .offset_bits = LOCATION_OFFSET_BITS_MIN};

static void mend(uint8_t *bytes, size_t size, unsigned flags)
{
    if (size < HEADER_BYTES + TRAILER_BYTES)
        return;
    if (flags & 2) {
        memcpy(bytes, "CASKHINT", 8);
        put_u32(bytes + AT_VERSION, 1);
        put_u32(bytes + AT_SHARD, config.shard);
        memcpy(bytes + AT_UUID, config.uuid, 16);
        put_u64(bytes + AT_SEGMENT, SEGMENT_ID);
    }
    if (flags & 4)
        put_u64(bytes + AT_COUNT, (size - HEADER_BYTES - TRAILER_BYTES) / ENTRY_BYTES);
    if (flags & 1)
        put_u64(bytes + size - TRAILER_BYTES, checksum_bytes(bytes, size - TRAILER_BYTES));
}

static void check(const struct hint *hint)
{
    assert(hint->length >= SEGMENT_HEADER_BYTES && hint->length <= SEGMENT_BYTES_MAX);
    assert(hint->max_sequence <= RECORD_SEQUENCE_MAX && hint->max_batch <= RECORD_BATCH_MAX);
    for (uint64_t i = 0; i < hint->count; i++) {
        struct hint_entry entry = hint_entry_at(hint, i);
        unsigned type = entry.type & RECORD_TYPE_MASK;

        assert(entry.offset >= SEGMENT_HEADER_BYTES);
        assert(entry.offset + entry.size <= hint->length);
        assert(entry.key_size > 0 && entry.size >= RECORD_HEADER_BYTES + entry.key_size);
        assert(entry.sequence > 0 && entry.sequence <= hint->max_sequence);
        assert(type == RECORD_PUT || type == RECORD_DELETE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hint hint;
    uint8_t *bytes;

    if (size < 2)
        return 0;
    bytes = malloc(size - 1);
    if (!bytes)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    mend(bytes, size - 1, data[0]);
    if (hint_parse(bytes, size - 1, &config, SEGMENT_ID, &hint) == CASK_OK)
        check(&hint); /* the bytes stay ours */
    free(bytes);
    return 0;
}
