/* Builds a run from entries in the order of their tags: written as `<id>.mdb.tmp`, read back,
 * synced and renamed.
 *
 * Invariants:
 *  1. A file with the name of a run is a whole run, synced, every block of which was read back from
 *     where the fence has it. What a crash leaves has the temporary name.
 *  2. Memory is bounded and taken from the budget: filter, fence, and one batch of blocks.
 *  3. A failure leaves no file behind, as far as the system lets us remove it.
 */
#ifndef CASKADE_RUNBUILD_H
#define CASKADE_RUNBUILD_H

#include "index/container.h"
#include "index/filter.h"
#include "index/run_buffer.h"

struct run_build;

/* What the manifest keeps of a run. */
struct run_summary {
    uint64_t id;
    uint64_t count;
    uint64_t bytes;
    uint64_t checksum;
};

struct run_build_options {
    uint64_t expected_count; /* about; a filter for far fewer gets worse, nothing else */
    unsigned filter_bits;    /* for each entry, 0..FILTER_BITS_MAX */
};

/* Starts run `id` in index_dir, of which path is the name: LMDB needs one. An id is never used
 * twice, and a file with the run's name is replaced. CASK_ENOMEM (the budget too: fewer filter bits
 * may do), CASK_ENOSPC, CASK_EIO, CASK_EMFILE, CASK_ENOTSUP where pages are not 4096 bytes. */
CHECKED int run_build_begin(struct io_dir *index_dir, const char *path,
                            const struct run_config *config, uint64_t id,
                            struct run_build_options options, struct budget *budget,
                            struct run_build **ret_build);

/* Adds an entry; tags never descend. After a failure only run_build_abort() may follow. */
CHECKED int run_build_add(struct run_build *build, uint32_t tag, uint64_t location);

/* Makes the run durable, under its name. The builder is gone, whatever the outcome. */
CHECKED int run_build_finish(struct run_build *build, struct run_summary *ret_summary);

/* Removes what there is. NULL is fine. */
void run_build_abort(struct run_build *build);

#endif
