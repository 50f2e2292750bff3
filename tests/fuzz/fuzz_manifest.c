/* Manifests: in one that is accepted ids rise and everything is in its range. An odd first byte has
 * the checksum mended. */
#include <assert.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "shard/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct log_config config = {.shard_count = 16, .offset_bits = LOCATION_OFFSET_BITS_MIN};
    struct manifest manifest;
    uint8_t *bytes;

    if (size < 10)
        return 0;
    bytes = malloc(size - 1);
    if (!bytes)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    if (data[0] & 1)
        put_u64(bytes + size - 9, checksum_bytes(bytes, size - 9));
    if (manifest_parse(bytes, size - 1, &config, &manifest) == CASK_OK) {
        uint64_t previous = 0;

        for (uint64_t i = 0; i < manifest.count; i++) {
            assert(manifest.segments[i].id > previous);
            assert(manifest.segments[i].id < manifest.next_segment);
            assert(manifest.segments[i].length <= SEGMENT_BYTES_MAX);
            previous = manifest.segments[i].id;
        }
        assert(manifest.next_sequence <= RECORD_SEQUENCE_MAX);
        manifest_release(&manifest);
    }
    free(bytes);
    return 0;
}
