/* Superblocks: one that is accepted has a shard count and offset bits that the store can live with.
 * An odd first byte has the checksum mended. */
#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "log/location.h"
#include "store/superblock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[SUPERBLOCK_BYTES + 1] = {0};
    struct superblock superblock;

    if (size < 1 || size > sizeof bytes + 1)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    if ((data[0] & 1) && size - 1 >= SUPERBLOCK_BYTES)
        put_u64(bytes + SUPERBLOCK_BYTES - 8, checksum_bytes(bytes, SUPERBLOCK_BYTES - 8));
    if (superblock_parse(bytes, size - 1, &superblock) == CASK_OK) {
        assert(superblock.shard_count >= 1 && superblock.shard_count <= 256);
        assert((superblock.shard_count & (superblock.shard_count - 1)) == 0);
        assert(superblock.offset_bits >= LOCATION_OFFSET_BITS_MIN);
        assert(superblock.offset_bits <= LOCATION_OFFSET_BITS_MAX);
    }
    return 0;
}
