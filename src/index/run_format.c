#include "index/run_format.h"

#include <stdio.h>

#include "base/checksum.h"
#include "index/filter.h"

#define AT_SHARD 8
#define AT_PROBES 12
#define AT_UUID 16
#define AT_ID 32
#define AT_COUNT 40
#define AT_BLOCKS 48
#define AT_PAGES 56
#define AT_FILTER_BYTES 64
#define AT_FILTER_CHECKSUM 72
#define AT_FENCE_CHECKSUM 80
#define AT_BODY_CHECKSUM 88

static const char magic[8] = {'C', 'A', 'S', 'K', 'R', 'U', 'N', '2'};

uint64_t run_place(const struct run_config *config, uint64_t id)
{
    uint8_t bytes[28];

    memcpy(bytes, config->uuid, 16);
    put_u32(bytes + 16, config->shard);
    put_u64(bytes + 20, id);
    return checksum_bytes(bytes, sizeof bytes);
}

static uint32_t cell_checksum(const uint8_t *bytes, unsigned cell, uint64_t place)
{
    size_t from = cell == 0 ? 0 : run_cell_at(cell, 0);

    return checksum_small_placed(bytes + from, run_cell_at(cell, RUN_CELL_AT_CHECKSUM) - from,
                                 place * RUN_BLOCK_CELLS + cell);
}

void run_block_seal(uint8_t bytes[RUN_BLOCK_BYTES], unsigned count, uint64_t place)
{
    for (unsigned cell = 0; cell < RUN_BLOCK_CELLS; cell++) {
        unsigned room = RUN_CELL_ENTRIES - run_cell_first(cell);
        unsigned used = count < room ? count : room;

        bytes[run_cell_at(cell, RUN_CELL_AT_COUNT)] = (uint8_t)used;
        put_u32(bytes + run_cell_at(cell, RUN_CELL_AT_CHECKSUM), cell_checksum(bytes, cell, place));
        count -= used;
    }
}

bool run_cell_check(const uint8_t *bytes, unsigned cell, uint64_t place, unsigned *ret_end)
{
    unsigned end = bytes[run_cell_at(cell, RUN_CELL_AT_COUNT)] + run_cell_first(cell);

    *ret_end = end;
    return get_u32(bytes + run_cell_at(cell, RUN_CELL_AT_CHECKSUM)) ==
               cell_checksum(bytes, cell, place) &&
           end <= RUN_CELL_ENTRIES;
}

static bool tags_ascend(const struct run_block *block)
{
    unsigned descents = 0;

    for (unsigned i = 1; i < block->count; i++) /* without a way out: it is done in parallel */
        descents += run_block_tag(block, i - 1) > run_block_tag(block, i);
    return descents == 0;
}

int run_block_decode(const uint8_t *bytes, size_t size, uint64_t place, struct run_block *ret_block)
{
    struct run_block block = {bytes, 0};
    unsigned end;

    if (size != RUN_BLOCK_BYTES)
        return CASK_ECORRUPT;
    for (unsigned cell = 0; cell < RUN_BLOCK_CELLS; cell++) {
        if (!run_cell_check(bytes, cell, place, &end))
            return CASK_ECORRUPT;
        if (end > run_cell_first(cell) && run_cell_of(block.count) != cell)
            return CASK_ECORRUPT; /* the one before is not full */
        block.count += end - run_cell_first(cell);
    }
    if (block.count == 0 || !tags_ascend(&block))
        return CASK_ECORRUPT;
    *ret_block = block;
    return CASK_OK;
}

/* Tags are uniform, so the place is about where a straight line has it. */
unsigned run_block_lower_bound(const struct run_block *block, uint32_t tag)
{
    uint32_t first = run_block_tag(block, 0);
    uint32_t last = run_block_tag(block, block->count - 1);
    unsigned i;

    if (tag <= first)
        return 0;
    if (tag > last)
        return block->count;
    i = (unsigned)((uint64_t)(tag - first) * (block->count - 1) / (last - first));
    while (i > 0 && run_block_tag(block, i - 1) >= tag)
        i--;
    while (run_block_tag(block, i) < tag)
        i++;
    return i;
}

void run_footer_encode(const struct run_footer *footer, uint8_t ret_bytes[RUN_FOOTER_BYTES])
{
    memset(ret_bytes, 0, RUN_FOOTER_BYTES);
    memcpy(ret_bytes, magic, sizeof magic);
    put_u32(ret_bytes + AT_SHARD, footer->config.shard);
    put_u32(ret_bytes + AT_PROBES, footer->probes);
    memcpy(ret_bytes + AT_UUID, footer->config.uuid, 16);
    put_u64(ret_bytes + AT_ID, footer->id);
    put_u64(ret_bytes + AT_COUNT, footer->count);
    put_u64(ret_bytes + AT_BLOCKS, footer->blocks);
    put_u64(ret_bytes + AT_PAGES, footer->pages);
    put_u64(ret_bytes + AT_FILTER_BYTES, footer->filter_bytes);
    put_u64(ret_bytes + AT_FILTER_CHECKSUM, footer->filter_checksum);
    put_u64(ret_bytes + AT_FENCE_CHECKSUM, footer->fence_checksum);
    put_u64(ret_bytes + AT_BODY_CHECKSUM, footer->body_checksum);
}

/* Each part is compared with the file's size before they are added up. */
static bool sizes_are_good(const struct run_footer *footer, uint64_t file_bytes)
{
    return footer->pages <= file_bytes / RUN_PAGE_BYTES && footer->pages <= UINT32_MAX &&
           footer->filter_bytes <= file_bytes && footer->filter_bytes % FILTER_BLOCK_BYTES == 0 &&
           footer->blocks <= footer->pages && footer->blocks == run_blocks_of(footer->count) &&
           run_footer_at(footer) == file_bytes - RUN_FOOTER_BYTES;
}

int run_footer_decode(const uint8_t bytes[RUN_FOOTER_BYTES], uint64_t file_bytes, uint64_t checksum,
                      const struct run_config *config, uint64_t id, struct run_footer *ret_footer)
{
    struct run_footer footer = {.config = *config,
                                .id = id,
                                .count = get_u64(bytes + AT_COUNT),
                                .blocks = get_u64(bytes + AT_BLOCKS),
                                .pages = get_u64(bytes + AT_PAGES),
                                .filter_bytes = get_u64(bytes + AT_FILTER_BYTES),
                                .filter_checksum = get_u64(bytes + AT_FILTER_CHECKSUM),
                                .fence_checksum = get_u64(bytes + AT_FENCE_CHECKSUM),
                                .body_checksum = get_u64(bytes + AT_BODY_CHECKSUM),
                                .probes = get_u32(bytes + AT_PROBES)};

    if (checksum_bytes(bytes, RUN_FOOTER_BYTES) != checksum ||
        memcmp(bytes, magic, sizeof magic) != 0 || get_u32(bytes + AT_SHARD) != config->shard ||
        memcmp(bytes + AT_UUID, config->uuid, 16) != 0 || get_u64(bytes + AT_ID) != id)
        return CASK_ECORRUPT;
    if (file_bytes < RUN_FOOTER_BYTES || !sizes_are_good(&footer, file_bytes) ||
        footer.probes > FILTER_PROBES_MAX || (footer.probes == 0 && footer.filter_bytes > 0))
        return CASK_ECORRUPT;
    *ret_footer = footer;
    return CASK_OK;
}

bool run_fence_is_good(const uint8_t *fence, uint64_t blocks, uint64_t pages)
{
    for (uint64_t i = 0; i < blocks; i++)
        if (run_fence_page(fence, i) >= pages ||
            (i > 0 && run_fence_tag(fence, i - 1) > run_fence_tag(fence, i)))
            return false;
    return true;
}

/* Where a straight line through all tags has it, then outwards in doubling steps, then halving
 * between. */
uint64_t run_fence_lower_bound(const uint8_t *fence, uint64_t blocks, uint32_t tag)
{
    uint64_t guess = tag * blocks >> 32;
    uint64_t low = 0;
    uint64_t high = blocks;
    uint64_t step = 1;

    if (blocks == 0)
        return 0;
    if (run_fence_tag(fence, guess) < tag) {
        for (low = guess + 1; low + step < blocks && run_fence_tag(fence, low + step) < tag;
             step *= 2)
            low += step + 1;
        high = min_u64(low + step, blocks);
    } else {
        for (high = guess; high > step && run_fence_tag(fence, high - step) >= tag; step *= 2)
            high -= step;
        low = high > step ? high - step : 0;
    }
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (run_fence_tag(fence, middle) < tag)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void run_name(uint64_t id, char ret_name[RUN_NAME_BYTES])
{
    (void)snprintf(ret_name, RUN_NAME_BYTES, "%llu.mdb", (unsigned long long)id);
}

void run_tmp_name(uint64_t id, char ret_name[RUN_NAME_BYTES])
{
    (void)snprintf(ret_name, RUN_NAME_BYTES, "%llu.mdb.tmp", (unsigned long long)id);
}
