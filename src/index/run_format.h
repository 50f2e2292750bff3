/* A run's bytes: pure, no I/O.
 *
 * One file, `<id>.mdb`:
 *
 *    container   LMDB's own pages of 4096 bytes, among them one for each block of entries. Record k
 *                has the key first tag << 32 | k (MDB_INTEGERKEY) and the block as its value.
 *    filter      blocks of 64 bytes, see index/filter.h; may be empty
 *    fence       8 bytes for each block: 4 its first tag, 4 the page it lies on
 *    footer      128 bytes
 *
 * What lies behind LMDB's last page is never looked at by LMDB. Everything starts where the part
 * before it ends, and the footer ends with the file.
 *
 * A block's page: 16 bytes that belong to the container, and 4080 bytes of ours. It is cut into 16
 * cells of 256 bytes, each under a checksum of its own, so that a look-up reads and checks four
 * cache lines and not the page. A cell:
 *    0     tags, 4 bytes each, ascending from cell to cell: room for 25
 *  100     locations, 6 bytes each
 *  250  1  entries                251  1  zero
 *  252  4  checksum of the 252 bytes before it, placed by store, shard, run, block and cell
 * The container's bytes lie where the first 4 tags of cell 0 would be: that has room for 21, and
 * its checksum begins behind them. Cells are full but for the last that has entries; what holds no
 * entry is zero.
 *
 * Footer:
 *    0  8  magic "CASKRUN2"           8  4  shard          12  4  probes of the filter
 *   16 16  store uuid                32  8  run id         40  8  entries
 *   48  8  blocks                    56  8  pages of the container
 *   64  8  bytes of the filter       72  8  checksum of the filter
 *   80  8  checksum of the fence     88  8  checksum of all before the footer
 *   96 32  zero
 *
 * Invariants:
 *  1. A run's checksum is that of its footer, which holds one of all before it. So whoever knows
 *     size and checksum can tell at once that this is the footer, and by reading the whole file
 *     that no bit of it has changed.
 *  2. Nothing of a cell or footer is believed before its checksum passed, and every number is
 *     bounds-checked after that.
 *  3. A cell whose first tag is below a tag and whose last is above it has all that the run has of
 *     that tag: no other cell need be looked at.
 */
#ifndef CASKADE_RUN_FORMAT_H
#define CASKADE_RUN_FORMAT_H

#include "base/bytes.h"
#include "base/status.h"
#include "index/keydir.h"

#define RUN_PAGE_BYTES 4096u
#define RUN_PAGE_HEADER_BYTES 16u
#define RUN_BLOCK_BYTES (RUN_PAGE_BYTES - RUN_PAGE_HEADER_BYTES)
#define RUN_BLOCK_CELLS 16u
#define RUN_CELL_BYTES 256u
#define RUN_CELL_ENTRIES 25u
#define RUN_CELL_AT_LOCATIONS 100u
#define RUN_CELL_AT_COUNT 250u
#define RUN_CELL_AT_CHECKSUM 252u
#define RUN_BLOCK_LOST (RUN_PAGE_HEADER_BYTES / 4) /* entries that cell 0 has no room for */
#define RUN_BLOCK_ENTRIES (RUN_BLOCK_CELLS * RUN_CELL_ENTRIES - RUN_BLOCK_LOST)
#define RUN_FENCE_BYTES 8u
#define RUN_FOOTER_BYTES 128u

_Static_assert(4 * RUN_CELL_ENTRIES == RUN_CELL_AT_LOCATIONS &&
                   RUN_CELL_AT_LOCATIONS + 6 * RUN_CELL_ENTRIES == RUN_CELL_AT_COUNT &&
                   RUN_CELL_AT_CHECKSUM + 4 == RUN_CELL_BYTES &&
                   RUN_BLOCK_CELLS * RUN_CELL_BYTES == RUN_PAGE_BYTES,
               "cells fill a page");

/* Which run this is; what makes a file a foreign one. */
struct run_config {
    uint8_t uuid[16];
    uint32_t shard;
};

/* What the checksums of a run's blocks start from; block k's place is this + k, and that of its
 * cell c is RUN_BLOCK_CELLS times as much + c. */
uint64_t run_place(const struct run_config *config, uint64_t id);

struct run_block {
    const uint8_t *bytes;
    unsigned count;
};

/* Where cell `cell` would begin, were it not for the container's bytes in front of cell 0, plus
 * `at`, which is behind those. */
static inline size_t run_cell_at(unsigned cell, size_t at)
{
    return (size_t)cell * RUN_CELL_BYTES + at - RUN_PAGE_HEADER_BYTES;
}

/* Entry i of a block lies in this cell; in a cell entries have places 0..24, but 4..24 in cell
 * 0. */
static inline unsigned run_cell_of(unsigned i)
{
    return (i + RUN_BLOCK_LOST) / RUN_CELL_ENTRIES;
}

static inline unsigned run_cell_first(unsigned cell)
{
    return cell == 0 ? RUN_BLOCK_LOST : 0;
}

static inline uint32_t run_cell_tag(const uint8_t *bytes, unsigned cell, unsigned place)
{
    return get_u32(bytes + run_cell_at(cell, (size_t)4 * place));
}

static inline uint64_t run_cell_location(const uint8_t *bytes, unsigned cell, unsigned place)
{
    return get_u48(bytes + run_cell_at(cell, RUN_CELL_AT_LOCATIONS + (size_t)6 * place));
}

static inline uint32_t run_block_tag(const struct run_block *block, unsigned i)
{
    return run_cell_tag(block->bytes, run_cell_of(i), (i + RUN_BLOCK_LOST) % RUN_CELL_ENTRIES);
}

static inline uint64_t run_block_location(const struct run_block *block, unsigned i)
{
    return run_cell_location(block->bytes, run_cell_of(i), (i + RUN_BLOCK_LOST) % RUN_CELL_ENTRIES);
}

/* Adds entry i to a block that is zero from there on. */
static inline void run_block_put(uint8_t *bytes, unsigned i, uint32_t tag, uint64_t location)
{
    unsigned cell = run_cell_of(i);
    unsigned place = (i + RUN_BLOCK_LOST) % RUN_CELL_ENTRIES;

    put_u32(bytes + run_cell_at(cell, (size_t)4 * place), tag);
    put_u48(bytes + run_cell_at(cell, RUN_CELL_AT_LOCATIONS + (size_t)6 * place), location);
}

/* Ends a block of `count` entries. */
void run_block_seal(uint8_t bytes[RUN_BLOCK_BYTES], unsigned count, uint64_t place);

/* Takes bytes for a block, if they are one in every respect. They stay the caller's. */
CHECKED int run_block_decode(const uint8_t *bytes, size_t size, uint64_t place,
                             struct run_block *ret_block);

/* Whether a cell of a block is good in itself; *ret_end gets the place behind its last entry, which
 * is run_cell_first() where it has none. */
bool run_cell_check(const uint8_t *bytes, unsigned cell, uint64_t place, unsigned *ret_end);

/* The first entry with a tag not below this one; the block's count if there is none. */
unsigned run_block_lower_bound(const struct run_block *block, uint32_t tag);

static inline uint64_t run_blocks_of(uint64_t count)
{
    return count / RUN_BLOCK_ENTRIES + (count % RUN_BLOCK_ENTRIES != 0);
}

struct run_footer {
    struct run_config config;
    uint64_t id;
    uint64_t count;
    uint64_t blocks;
    uint64_t pages;
    uint64_t filter_bytes;
    uint64_t filter_checksum;
    uint64_t fence_checksum;
    uint64_t body_checksum;
    uint32_t probes;
};

static inline uint64_t run_filter_at(const struct run_footer *footer)
{
    return footer->pages * RUN_PAGE_BYTES;
}

static inline uint64_t run_fence_at(const struct run_footer *footer)
{
    return run_filter_at(footer) + footer->filter_bytes;
}

static inline uint64_t run_footer_at(const struct run_footer *footer)
{
    return run_fence_at(footer) + footer->blocks * RUN_FENCE_BYTES;
}

void run_footer_encode(const struct run_footer *footer, uint8_t ret_bytes[RUN_FOOTER_BYTES]);

/* file_bytes and checksum are what the file should have; config and id, whose it should be.
 * CASK_ECORRUPT if anything is wrong. */
CHECKED int run_footer_decode(const uint8_t bytes[RUN_FOOTER_BYTES], uint64_t file_bytes,
                              uint64_t checksum, const struct run_config *config, uint64_t id,
                              struct run_footer *ret_footer);

/* Whether a fence that passed its checksum is in order and names pages of the container only. */
bool run_fence_is_good(const uint8_t *fence, uint64_t blocks, uint64_t pages);

static inline uint32_t run_fence_tag(const uint8_t *fence, uint64_t block)
{
    return get_u32(fence + block * RUN_FENCE_BYTES);
}

static inline uint32_t run_fence_page(const uint8_t *fence, uint64_t block)
{
    return get_u32(fence + block * RUN_FENCE_BYTES + 4);
}

static inline uint64_t run_record_key(uint32_t first_tag, uint64_t block)
{
    return (uint64_t)first_tag << 32 | block;
}

/* The first block whose first tag is not below this one; `blocks` if there is none. */
uint64_t run_fence_lower_bound(const uint8_t *fence, uint64_t blocks, uint32_t tag);

/* "<id>.mdb", and its name while it is built, "<id>.mdb.tmp". */
#define RUN_NAME_BYTES 32
void run_name(uint64_t id, char ret_name[RUN_NAME_BYTES]);
void run_tmp_name(uint64_t id, char ret_name[RUN_NAME_BYTES]);

#endif
