/* Blocks, footers and fences of runs: whatever is accepted keeps to its bounds and its order. The
 * first byte says what is mended: 1 the checksum, 2 a footer's identity; and 4: the bytes are a
 * footer, 8: a fence. */
#include <assert.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "index/filter.h"
#include "index/run_format.h"

#define PLACE 77u
#define RUN_ID 5u
#define FILE_BYTES (7 * 4096u + 1280 + 3 * 8 + RUN_FOOTER_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct run_config config = {.uuid = "0123456789abcde", .shard = 3};

static void try_block(uint8_t *bytes, size_t size, bool mend)
{
    struct run_block block;
    unsigned at;

    for (unsigned cell = 0; mend && size >= RUN_BLOCK_BYTES && cell < RUN_BLOCK_CELLS; cell++) {
        size_t from = cell == 0 ? 0 : run_cell_at(cell, 0);
        size_t end = run_cell_at(cell, RUN_CELL_AT_CHECKSUM);

        put_u32(bytes + end,
                checksum_small_placed(bytes + from, end - from, PLACE * RUN_BLOCK_CELLS + cell));
        if (run_cell_check(bytes, cell, PLACE, &at))
            assert(at >= run_cell_first(cell) && at <= RUN_CELL_ENTRIES);
    }
    if (run_block_decode(bytes, size, PLACE, &block) != CASK_OK)
        return;
    assert(block.count > 0 && block.count <= RUN_BLOCK_ENTRIES);
    for (unsigned i = 0; i < block.count; i++) {
        uint32_t tag = run_block_tag(&block, i);

        assert(i == 0 || run_block_tag(&block, i - 1) <= tag);
        assert(run_block_location(&block, i) >> 48 == 0);
        for (uint32_t near = tag - 1; near != tag + 2; near++) {
            at = run_block_lower_bound(&block, near);
            assert(at <= block.count);
            assert(at == block.count || run_block_tag(&block, at) >= near);
            assert(at == 0 || run_block_tag(&block, at - 1) < near);
        }
    }
}

static void try_footer(uint8_t *bytes, size_t size, unsigned flags)
{
    struct run_footer footer;
    uint64_t checksum = 0;

    if (size < RUN_FOOTER_BYTES)
        return;
    if (flags & 2) {
        memcpy(bytes, "CASKRUN2", 8);
        put_u32(bytes + 8, config.shard);
        memcpy(bytes + 16, config.uuid, 16);
        put_u64(bytes + 32, RUN_ID);
    }
    if (flags & 1)
        checksum = checksum_bytes(bytes, RUN_FOOTER_BYTES);
    if (run_footer_decode(bytes, FILE_BYTES, checksum, &config, RUN_ID, &footer) != CASK_OK)
        return;
    assert(run_footer_at(&footer) == FILE_BYTES - RUN_FOOTER_BYTES);
    assert(footer.blocks <= footer.pages && footer.pages <= FILE_BYTES / RUN_PAGE_BYTES);
    assert(footer.filter_bytes <= FILE_BYTES && footer.filter_bytes % FILTER_BLOCK_BYTES == 0);
    assert(footer.probes <= FILTER_PROBES_MAX && footer.blocks == run_blocks_of(footer.count));
}

static void try_fence(const uint8_t *bytes, size_t size)
{
    uint64_t blocks = size / RUN_FENCE_BYTES;

    if (!run_fence_is_good(bytes, blocks, 1000))
        return;
    for (uint64_t i = 0; i < blocks; i++) {
        uint32_t tag = run_fence_tag(bytes, i);

        for (uint32_t near = tag - 1; near != tag + 2; near++) {
            uint64_t at = run_fence_lower_bound(bytes, blocks, near);

            assert(at <= blocks && (at == blocks || run_fence_tag(bytes, at) >= near));
            assert(at == 0 || run_fence_tag(bytes, at - 1) < near);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes;

    if (size < 2)
        return 0;
    bytes = malloc(size - 1);
    if (!bytes)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    if (data[0] & 8)
        try_fence(bytes, size - 1);
    else if (data[0] & 4)
        try_footer(bytes, size - 1, data[0]);
    else
        try_block(bytes, size - 1, data[0] & 1);
    free(bytes);
    return 0;
}
