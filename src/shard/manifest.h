/* Which segments a shard has, in order, how far its log is known to be durable, and which runs of
 * its index there are.
 *
 * Bytes (see docs/format.md): header of 112 bytes, 104 bytes for each segment, 32 for each run, 8
 * bytes of checksum over all before.
 *
 * Invariants:
 *  1. It is replaced whole: tmp, sync, rename, sync of the directory.
 *  2. A segment is listed before a record goes into it, and unlisted before it is unlinked.
 *  3. A segment marked sealed is durable to its recorded length, with its batches resolved in every
 *     shard they touch.
 *  4. A run is listed after it is durable, and unlisted before it is unlinked. Ids of runs are
 *     below next_run, and none is used twice.
 */
#ifndef CASKADE_MANIFEST_H
#define CASKADE_MANIFEST_H

#include "io/io.h"
#include "log/segment.h"

#define MANIFEST_NAME "MANIFEST"

#define MANIFEST_SEALED 1u /* length and checksum hold, and it takes no more records */
#define MANIFEST_CLEAN 2u  /* as far as length it is durable and resolved; more may follow */

#define MANIFEST_DOUBTS 2u /* in the manifest's own flags: `tombstones` may be too few */

#define MANIFEST_RUNS_MAX 64u
#define MANIFEST_NEXT_RUN_MAX ((uint64_t)1 << 48) /* ids are counted on from it without wrapping */

struct manifest_segment {
    uint64_t id;
    uint64_t predecessor;
    uint64_t length;
    uint64_t checksum;
    uint32_t flags;
    uint64_t indexed; /* bytes from its start whose records' entries are in the runs; 0: none */
    /* As of when it was written; valid where indexed > 0. */
    uint64_t live_bytes;
    uint64_t dead_bytes;
    uint64_t tombstone_bytes;
    uint64_t records;
    uint64_t min_sequence;
    uint64_t max_sequence;
    uint64_t last_expiry;
};

struct manifest_run {
    uint64_t id;
    uint64_t count;    /* of its entries */
    uint64_t bytes;    /* of its file */
    uint64_t checksum; /* of its footer; see index/run_format.h */
};

struct manifest {
    uint8_t boot_id[16];
    uint64_t generation;
    uint64_t next_segment;
    uint64_t next_sequence; /* at least this, as of when it was written */
    uint64_t settled_batch; /* largest batch number in what is sealed or clean */
    uint64_t next_run;
    uint32_t flags;
    uint32_t tombstones; /* entries of the runs that lead to one or nowhere: not to keys */
    uint64_t count;
    struct manifest_segment *segments;
    uint64_t run_count;        /* at most MANIFEST_RUNS_MAX */
    struct manifest_run *runs; /* newest first */
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
