/* An open run: a part of a shard's index that was moved to disk, sorted by tag, never changed.
 *
 * The filter and the fence are in memory; a look-up that the filter lets through reads the one page
 * its tag can be on, and of that the cells it needs: in a mapping, or with io_read(). A damaged
 * cell is a checksum that fails, and LMDB, which would crash on it, never sees it. Bytes: see
 * index/run_format.h.
 *
 * Invariants:
 *  1. Whatever is wrong with the file is CASK_ECORRUPT, never a wrong entry: a bad run is rebuilt
 *     from the segments.
 *  2. A run that is open does not change; any thread may use it, and a forked child could.
 *  3. Entries of equal tag may lie on several blocks, and all of them are found.
 *  4. Filter, fence and buffers are taken from the budget.
 */
#ifndef CASKADE_RUN_H
#define CASKADE_RUN_H

#include "index/filter.h"
#include "index/run_buffer.h"
#include "index/run_format.h"
#include "io/io.h"

struct run {
    uint64_t id;
    uint64_t count;    /* entries */
    uint64_t bytes;    /* of the file */
    uint64_t checksum; /* see run_format.h */
    uint64_t blocks;
    uint64_t place; /* of block 0 */
    const uint8_t *fence;
    const uint8_t *map; /* the container's pages; NULL: they are read by call */
    struct filter filter;
    struct io_file *file;
    struct run_footer footer;
    struct run_buffer fence_buffer;
    struct budget *budget;
};

/* What look-ups have cost. Kept by the caller: a run is shared by all readers, and a count in it
 * would be a line that they take from each other. */
struct run_counts {
    uint64_t filter_asks;   /* of runs that have a filter */
    uint64_t filter_passes; /* of these, those that it let through */
    uint64_t block_reads;
    uint64_t fruitless_finds; /* blocks were read, and nothing was there */
};

struct run_open_options {
    bool validate;       /* reads the whole file first and compares its checksum */
    bool without_filter; /* where the budget has no room for it: one more read for each miss */
    bool mapped;         /* look-ups read a mapping where one can be had; a bad sector is SIGBUS */
};

/* Opens run `id` of index_dir, which has so many bytes and that checksum or is not the run meant.
 * CASK_NOTFOUND, CASK_ECORRUPT, CASK_EIO, CASK_EMFILE, CASK_ENOMEM (the budget too). */
CHECKED int run_open(struct io_dir *index_dir, const struct run_config *config, uint64_t id,
                     uint64_t bytes, uint64_t checksum, struct run_open_options options,
                     struct budget *budget, struct run **ret_run);
void run_close(struct run *run); /* NULL is fine */

/* Reads the whole file and compares its checksum: CASK_OK, CASK_ECORRUPT, CASK_EIO, CASK_ENOMEM. */
CHECKED int run_validate(const struct run *run);

/* Copies up to room locations with this tag, in the order they were built in; *ret_found tells how
 * many there are (more than room: look again with more). Adds to *counts, which may be NULL.
 * CASK_ECORRUPT, CASK_EIO. */
CHECKED int run_find(const struct run *run, uint32_t tag, uint64_t *ret_locations, unsigned room,
                     unsigned *ret_found, struct run_counts *counts);

/* The same of a run that is mapped, but read by call: for who expects to wait for the disk. The
 * kernel notes the page as used at once, not only when it looks for pages to give up. */
CHECKED int run_find_by_call(const struct run *run, uint32_t tag, uint64_t *ret_locations,
                             unsigned room, unsigned *ret_found);

/* Brings into the cache what run_find() looks at first. */
static inline void run_prefetch(const struct run *run, uint32_t tag)
{
    filter_prefetch(&run->filter, tag);
}

/* Whether run_find() would read the file, and where: *ret_offset gets the page that is read
 * first. */
bool run_will_read(const struct run *run, uint32_t tag, uint64_t *ret_offset);

/* Asks for that page, without waiting for it. */
void run_read_ahead(const struct run *run, uint32_t tag);

/* The block that look-ups of a tag begin with. Only the last entries of the block before the first
 * one that starts at or above the tag can be its own. The run must not be empty. */
static inline uint64_t run_first_block(const struct run *run, uint32_t tag)
{
    uint64_t block = run_fence_lower_bound(run->fence, run->blocks, tag);

    return block > 0 ? block - 1 : 0;
}

/* Bytes of memory that a run of so many entries takes while it is open, its filter included. */
uint64_t run_memory_for(uint64_t count, uint64_t filter_bytes);

#endif
