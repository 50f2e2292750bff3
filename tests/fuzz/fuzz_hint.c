/* Hints: every entry of one that is accepted lies inside what it covers. An odd first byte has the
 * checksum mended. */
#include <assert.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "log/hint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct log_config config = {.shard_count = 16, .offset_bits = LOCATION_OFFSET_BITS_MIN};
    struct hint hint;
    uint8_t *bytes;

    if (size < 10)
        return 0;
    bytes = malloc(size - 1);
    if (!bytes)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    if (data[0] & 1)
        put_u64(bytes + size - 9, checksum_bytes(bytes, size - 9));
    if (hint_parse(bytes, size - 1, &config, 1, &hint) == CASK_OK) {
        for (uint64_t i = 0; i < hint.count; i++) {
            struct hint_entry entry = hint_entry_at(&hint, i);

            assert(entry.offset >= SEGMENT_HEADER_BYTES);
            assert(entry.offset + entry.size <= hint.length);
            assert(entry.key_size > 0 && entry.sequence > 0);
        }
        hint_release(&hint);
    }
    free(bytes);
    return 0;
}
