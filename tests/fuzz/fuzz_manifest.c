/* Manifests: in one that is accepted ids rise and everything is in its range. The first byte says
 * what is mended, so that what lies behind it is reached: 1 the checksum, 2 magic, version and
 * identity, 4 the number of segments. */
#include <assert.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "shard/manifest.h"

#define AT_VERSION 8
#define AT_SHARD 12
#define AT_UUID 16
#define AT_COUNT 80
#define AT_RUNS 88
#define HEADER_BYTES 112
#define SEGMENT_BYTES 40
#define TRAILER_BYTES 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct log_config config = {.shard_count = 16,
                                         .offset_bits = LOCATION_OFFSET_BITS_MIN};

static void mend(uint8_t *bytes, size_t size, unsigned flags)
{
    if (size < HEADER_BYTES + TRAILER_BYTES)
        return;
    if (flags & 2) {
        memcpy(bytes, "CASKMANI", 8);
        put_u32(bytes + AT_VERSION, 1);
        put_u32(bytes + AT_SHARD, config.shard);
        memcpy(bytes + AT_UUID, config.uuid, 16);
        put_u64(bytes + AT_RUNS, 0);
    }
    if (flags & 4)
        put_u64(bytes + AT_COUNT, (size - HEADER_BYTES - TRAILER_BYTES) / SEGMENT_BYTES);
    if (flags & 1)
        put_u64(bytes + size - TRAILER_BYTES, checksum_bytes(bytes, size - TRAILER_BYTES));
}

static void check(const struct manifest *manifest)
{
    uint64_t most = location_segment_max(config.offset_bits);
    uint64_t previous = 0;

    assert(manifest->next_sequence <= RECORD_SEQUENCE_MAX);
    assert(manifest->settled_batch <= RECORD_BATCH_MAX);
    assert(manifest->next_segment <= most + 1);
    for (uint64_t i = 0; i < manifest->count; i++) {
        const struct manifest_segment *segment = &manifest->segments[i];

        assert(segment->id > previous && segment->id < manifest->next_segment);
        assert(segment->length <= SEGMENT_BYTES_MAX);
        assert(segment->flags == 0 || segment->length >= SEGMENT_HEADER_BYTES);
        assert((segment->flags & ~(MANIFEST_SEALED | MANIFEST_CLEAN)) == 0);
        previous = segment->id;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest manifest;
    uint8_t *bytes;

    if (size < 2)
        return 0;
    bytes = malloc(size - 1);
    if (!bytes)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    mend(bytes, size - 1, data[0]);
    if (manifest_parse(bytes, size - 1, &config, &manifest) == CASK_OK) {
        check(&manifest);
        manifest_release(&manifest);
    }
    free(bytes);
    return 0;
}
