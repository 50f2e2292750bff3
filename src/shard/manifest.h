/* Which segments a shard has, in order, and how far its log is known to be durable.
 *
 * Bytes (see docs/format.md): header of 112 bytes, 40 bytes for each segment, 8 bytes of checksum
 * over all before.
 *
 * Invariants:
 *  1. It is replaced whole: tmp, sync, rename, sync of the directory.
 *  2. A segment is listed before a record goes into it, and unlisted before it is unlinked.
 *  3. A segment marked sealed is durable to its recorded length, with its batches resolved in every
 *     shard they touch.
 */
#ifndef CASKADE_MANIFEST_H
#define CASKADE_MANIFEST_H

#include "io/io.h"
#include "log/segment.h"

#define MANIFEST_NAME "MANIFEST"

#define MANIFEST_SEALED 1u /* length and checksum hold, and it takes no more records */
#define MANIFEST_CLEAN 2u  /* as far as length it is durable and resolved; more may follow */

struct manifest_segment {
    uint64_t id;
    uint64_t predecessor;
    uint64_t length;
    uint64_t checksum;
    uint32_t flags;
};

struct manifest {
    uint8_t boot_id[16];
    uint64_t generation;
    uint64_t next_segment;
    uint64_t next_sequence; /* at least this, as of when it was written */
    uint64_t settled_batch; /* largest batch number in what is sealed or clean */
    uint64_t count;
    struct manifest_segment *segments;
    bool replaced; /* set by manifest_write(): the new one is in place, durable or not */
};

void manifest_release(struct manifest *manifest);

CHECKED int manifest_write(struct manifest *manifest, struct io_dir *dir,
                           const struct log_config *config);

/* CASK_NOTFOUND, CASK_ECORRUPT, CASK_EVERSION, CASK_EIO, CASK_ENOMEM. */
CHECKED int manifest_read(struct io_dir *dir, const struct log_config *config,
                          struct manifest *ret_manifest);

/* The same from bytes in memory. */
CHECKED int manifest_parse(const uint8_t *bytes, uint64_t size, const struct log_config *config,
                           struct manifest *ret_manifest);

#endif
