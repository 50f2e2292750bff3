#include "store/superblock.h"

#include "base/bytes.h"
#include "base/checksum.h"
#include "log/location.h"

#define AT_VERSION 8
#define AT_SHARDS 12
#define AT_UUID 16
#define AT_SEED 32
#define AT_OFFSET_BITS 40
#define AT_ZERO 44
#define AT_CHECKSUM 56
#define ZERO_BYTES 12

static const char magic[8] = {'C', 'A', 'S', 'K', 'A', 'D', 'E', '1'};

int superblock_make(uint32_t shard_count, uint64_t segment_bytes, struct superblock *ret_superblock)
{
    unsigned bits = LOCATION_OFFSET_BITS_MIN;
    int status;

    while ((uint64_t)RECORD_ALIGNMENT << bits < segment_bytes)
        bits++;
    ret_superblock->shard_count = shard_count;
    ret_superblock->offset_bits = bits;
    status = io_random(ret_superblock->uuid, sizeof ret_superblock->uuid);
    if (status == CASK_OK)
        status = io_random(&ret_superblock->hash_seed, sizeof ret_superblock->hash_seed);
    return status;
}

static void encode(const struct superblock *superblock, uint8_t bytes[SUPERBLOCK_BYTES])
{
    memset(bytes, 0, SUPERBLOCK_BYTES);
    memcpy(bytes, magic, sizeof magic);
    put_u32(bytes + AT_VERSION, SUPERBLOCK_VERSION);
    put_u32(bytes + AT_SHARDS, superblock->shard_count);
    memcpy(bytes + AT_UUID, superblock->uuid, sizeof superblock->uuid);
    put_u64(bytes + AT_SEED, superblock->hash_seed);
    put_u32(bytes + AT_OFFSET_BITS, superblock->offset_bits);
    put_u64(bytes + AT_CHECKSUM, checksum_bytes(bytes, AT_CHECKSUM));
}

int superblock_write(const struct superblock *superblock, struct io_dir *dir)
{
    uint8_t bytes[SUPERBLOCK_BYTES];
    struct io_file *file;
    int status = io_unlink(dir, SUPERBLOCK_TMP);

    if (status != CASK_OK && status != CASK_NOTFOUND)
        return status;
    status = io_open(dir, SUPERBLOCK_TMP, IO_CREATE_NEW, &file);
    if (status != CASK_OK)
        return status;
    encode(superblock, bytes);
    status = io_write(file, 0, bytes, sizeof bytes);
    if (status == CASK_OK)
        status = io_sync(file);
    io_close(file);
    if (status == CASK_OK)
        status = io_rename(dir, SUPERBLOCK_TMP, SUPERBLOCK_NAME);
    if (status == CASK_OK)
        status = io_dir_sync(dir);
    return status == CASK_OK ? io_dir_sync_parent(dir) : status;
}

static bool is_power_of_two(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

int superblock_parse(const uint8_t *bytes, size_t size, struct superblock *ret_superblock)
{
    static const uint8_t zeros[ZERO_BYTES];
    struct superblock superblock;

    if (size < SUPERBLOCK_BYTES)
        return CASK_ECORRUPT;
    if (memcmp(bytes, magic, 7) != 0)
        return CASK_ENOTSTORE;
    if (memcmp(bytes, magic, sizeof magic) != 0 ||
        get_u64(bytes + AT_CHECKSUM) != checksum_bytes(bytes, AT_CHECKSUM))
        return CASK_ECORRUPT;
    if (get_u32(bytes + AT_VERSION) > SUPERBLOCK_VERSION)
        return CASK_EVERSION;
    superblock.shard_count = get_u32(bytes + AT_SHARDS);
    superblock.offset_bits = get_u32(bytes + AT_OFFSET_BITS);
    superblock.hash_seed = get_u64(bytes + AT_SEED);
    memcpy(superblock.uuid, bytes + AT_UUID, sizeof superblock.uuid);
    if (get_u32(bytes + AT_VERSION) != SUPERBLOCK_VERSION ||
        !is_power_of_two(superblock.shard_count) || superblock.shard_count > 256 ||
        superblock.offset_bits < LOCATION_OFFSET_BITS_MIN ||
        superblock.offset_bits > LOCATION_OFFSET_BITS_MAX || size != SUPERBLOCK_BYTES ||
        memcmp(bytes + AT_ZERO, zeros, ZERO_BYTES) != 0)
        return CASK_ECORRUPT;
    *ret_superblock = superblock;
    return CASK_OK;
}

int superblock_read(struct io_dir *dir, struct superblock *ret_superblock)
{
    uint8_t bytes[SUPERBLOCK_BYTES + 1];
    struct io_file *file;
    size_t got;
    int status = io_open(dir, SUPERBLOCK_NAME, IO_READ, &file);

    if (status != CASK_OK)
        return status;
    status = io_read(file, 0, bytes, sizeof bytes, &got);
    io_close(file);
    return status == CASK_OK ? superblock_parse(bytes, got, ret_superblock) : status;
}
