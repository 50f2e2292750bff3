/* Superblocks: one that is accepted has a shard count and offset bits that the store can live with.
 * The first byte says what is mended, so that what lies behind it is reached: 1 the checksum, 2
 * magic and version. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "log/location.h"
#include "store/superblock.h"

#define AT_VERSION 8
#define AT_CHECKSUM 56

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct superblock superblock;
    uint8_t *bytes;

    if (size < 2)
        return 0;
    bytes = malloc(size - 1);
    if (!bytes)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    if ((data[0] & 2) && size - 1 >= SUPERBLOCK_BYTES) {
        memcpy(bytes, "CASKADE1", 8);
        put_u32(bytes + AT_VERSION, SUPERBLOCK_VERSION);
    }
    if ((data[0] & 1) && size - 1 >= SUPERBLOCK_BYTES)
        put_u64(bytes + AT_CHECKSUM, checksum_bytes(bytes, AT_CHECKSUM));
    if (superblock_parse(bytes, size - 1, &superblock) == CASK_OK) {
        assert(size - 1 == SUPERBLOCK_BYTES);
        assert(superblock.shard_count >= 1 && superblock.shard_count <= 256);
        assert((superblock.shard_count & (superblock.shard_count - 1)) == 0);
        assert(superblock.offset_bits >= LOCATION_OFFSET_BITS_MIN);
        assert(superblock.offset_bits <= LOCATION_OFFSET_BITS_MAX);
    }
    free(bytes);
    return 0;
}
