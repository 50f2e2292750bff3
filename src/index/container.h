/* The file that a run's blocks lie in: LMDB's, behind a few calls. Two implementations are picked
 * at link time: container_lmdb.c, the only file that includes lmdb.h, and that of the tests'
 * simulated disk, which has no path that LMDB could open.
 *
 * Promises:
 *  1. Each value put is RUN_BLOCK_BYTES and lies alone on one page of RUN_PAGE_BYTES, behind
 *     RUN_PAGE_HEADER_BYTES that are the container's own.
 *  2. Once container_finish() has returned CASK_OK, [0, pages * RUN_PAGE_BYTES) of the file is the
 *     whole container, synced, and it takes no notice of what lies behind.
 *  3. LMDB opens a file only to build it, or to walk one whose every bit was checked.
 *  4. Memory is bounded by the batch, whatever the size of the container.
 *  5. Every failure is one CASK_E* status; a full disk is CASK_ENOSPC, never a signal.
 */
#ifndef CASKADE_CONTAINER_H
#define CASKADE_CONTAINER_H

#include "index/run_format.h"
#include "io/io.h"

struct container;

/* Bytes of memory that a container takes while it is built, with so many blocks to a batch. */
uint64_t container_memory_for(unsigned batch_blocks);

/* Starts a container in a new, empty file, for about `blocks` blocks; path is the same file's. It
 * writes after every batch_blocks blocks. Not to be called for one path twice at the same time. */
CHECKED int container_begin(struct io_file *file, const char *path, uint64_t blocks,
                            unsigned batch_blocks, struct container **ret_container);

/* Adds a block; keys ascend. *ret_page is where it will lie. After a failure only
 * container_abort() may follow. */
CHECKED int container_put(struct container *container, uint64_t key,
                          const uint8_t block[RUN_BLOCK_BYTES], uint32_t *ret_page);

/* Writes what is left, syncs and closes. The container is gone, whatever the outcome. */
CHECKED int container_finish(struct container *container, uint64_t *ret_pages);

/* Closes without more ado; the file is the caller's to remove. NULL is fine. */
void container_abort(struct container *container);

/* Walks a finished container whose checksum was compared just now. CASK_NOTFOUND: its name has
 * gone. */
struct container_walk;
CHECKED int container_walk_open(struct io_file *file, const char *path, uint64_t pages,
                                struct container_walk **ret_walk);
/* The next record; the block is valid until the next call. CASK_NOTFOUND at the end, CASK_ECORRUPT
 * if it is not of the shape that container_put() gives. */
CHECKED int container_walk_next(struct container_walk *walk, uint64_t *ret_key,
                                const uint8_t **ret_block, uint32_t *ret_page);
void container_walk_close(struct container_walk *walk); /* NULL is fine */

#endif
