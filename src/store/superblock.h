/* DIR/CASKADE: what is fixed for a store's life.
 *
 *    0  8  magic "CASKADE1"
 *    8  4  format version            12  4  shards
 *   16 16  uuid
 *   32  8  seed of the key hash      40  4  bits of an offset in a location
 *   44 12  zero                      56  8  checksum of the 56 bytes before
 */
#ifndef CASKADE_SUPERBLOCK_H
#define CASKADE_SUPERBLOCK_H

#include <stdbool.h>

#include "base/status.h"
#include "io/io.h"

#define SUPERBLOCK_NAME "CASKADE"
#define SUPERBLOCK_TMP "CASKADE.tmp"
#define SUPERBLOCK_BYTES 64u
#define SUPERBLOCK_VERSION 1u

struct superblock {
    uint8_t uuid[16];
    uint64_t hash_seed;
    uint32_t shard_count;
    unsigned offset_bits;
};

/* Picks uuid and seed at random. */
CHECKED int superblock_make(uint32_t shard_count, uint64_t segment_bytes,
                            struct superblock *ret_superblock);

/* Writes it: tmp, sync, rename, sync of the directory and of the one above. */
CHECKED int superblock_write(const struct superblock *superblock, struct io_dir *dir);

/* CASK_NOTFOUND, CASK_ECORRUPT, CASK_EVERSION, CASK_ENOTSTORE (another kind of file), CASK_EIO. */
CHECKED int superblock_read(struct io_dir *dir, struct superblock *ret_superblock);

/* The same from bytes in memory. */
CHECKED int superblock_parse(const uint8_t *bytes, size_t size, struct superblock *ret_superblock);

#endif
