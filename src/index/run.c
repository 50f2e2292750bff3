#include "index/run.h"

#include <stdlib.h>

#include "base/checksum.h"

#define VALIDATE_BYTES ((uint64_t)256 << 10)

/* The checksum of [0, end) of a file, through one buffer. */
static int checksum_file(struct io_file *file, uint64_t end, struct budget *budget,
                         uint64_t *ret_checksum)
{
    XXH3_state_t state;
    struct run_buffer buffer;
    int status = run_buffer_take_some(&buffer, RUN_PAGE_BYTES, VALIDATE_BYTES, budget);

    if (status != CASK_OK)
        return status;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    for (uint64_t at = 0; status == CASK_OK && at < end;) {
        size_t size = (size_t)min_u64(end - at, buffer.size);

        status = io_read(file, at, buffer.bytes, size, NULL);
        if (status == CASK_OK)
            XXH3_64bits_update(&state, buffer.bytes, size);
        at += size;
    }
    run_buffer_release(&buffer);
    if (status == CASK_OK)
        *ret_checksum = XXH3_64bits_digest(&state);
    return status;
}

int run_validate(const struct run *run)
{
    uint8_t footer[RUN_FOOTER_BYTES];
    uint64_t end = run_footer_at(&run->footer);
    uint64_t checksum;
    int status = io_read(run->file, end, footer, sizeof footer, NULL);

    if (status == CASK_OK && checksum_bytes(footer, sizeof footer) != run->checksum)
        status = CASK_ECORRUPT;
    if (status == CASK_OK)
        status = checksum_file(run->file, end, run->budget, &checksum);
    if (status == CASK_OK && checksum != run->footer.body_checksum)
        status = CASK_ECORRUPT;
    return status;
}

static int read_footer(struct run *run, const struct run_config *config)
{
    uint8_t bytes[RUN_FOOTER_BYTES];
    uint64_t size;
    int status = io_size(run->file, &size);

    if (status != CASK_OK)
        return status;
    if (size != run->bytes || size < RUN_FOOTER_BYTES)
        return CASK_ECORRUPT;
    status = io_read(run->file, size - RUN_FOOTER_BYTES, bytes, sizeof bytes, NULL);
    if (status != CASK_OK)
        return status;
    return run_footer_decode(bytes, size, run->checksum, config, run->id, &run->footer);
}

static int read_fence(struct run *run)
{
    const struct run_footer *footer = &run->footer;
    size_t size = (size_t)(footer->blocks * RUN_FENCE_BYTES);
    int status;

    if (size == 0)
        return CASK_OK;
    status = run_buffer_take(&run->fence_buffer, size, run->budget);
    if (status == CASK_OK)
        status = io_read(run->file, run_fence_at(footer), run->fence_buffer.bytes, size, NULL);
    if (status != CASK_OK)
        return status;
    run->fence = run->fence_buffer.bytes;
    if (checksum_bytes(run->fence, size) != footer->fence_checksum ||
        !run_fence_is_good(run->fence, footer->blocks, footer->pages))
        return CASK_ECORRUPT;
    return CASK_OK;
}

static int read_filter(struct run *run)
{
    const struct run_footer *footer = &run->footer;
    int status;

    if (footer->filter_bytes == 0)
        return CASK_OK;
    status = filter_init_saved(&run->filter, footer->filter_bytes, footer->probes, run->budget);
    if (status == CASK_OK)
        status = io_read(run->file, run_filter_at(footer), run->filter.words,
                         (size_t)footer->filter_bytes, NULL);
    if (status == CASK_OK &&
        checksum_bytes(run->filter.words, (size_t)footer->filter_bytes) != footer->filter_checksum)
        status = CASK_ECORRUPT;
    return status;
}

static int load(struct run *run, const struct run_config *config, struct run_open_options options)
{
    int status = read_footer(run, config);

    if (status == CASK_OK && options.validate)
        status = run_validate(run);
    if (status == CASK_OK)
        status = read_fence(run);
    if (status == CASK_OK && !options.without_filter)
        status = read_filter(run);
    return status;
}

int run_open(struct io_dir *index_dir, const struct run_config *config, uint64_t id, uint64_t bytes,
             uint64_t checksum, struct run_open_options options, struct budget *budget,
             struct run **ret_run)
{
    char name[RUN_NAME_BYTES];
    struct run *run = aligned_alloc(64, align_up(sizeof *run, 64));
    int status;

    if (!run)
        return CASK_ENOMEM;
    memset(run, 0, sizeof *run);
    run->id = id;
    run->bytes = bytes;
    run->checksum = checksum;
    run->budget = budget;
    run->place = run_place(config, id);
    run_name(id, name);
    status = io_open(index_dir, name, IO_READ, &run->file);
    if (status == CASK_ENOTSTORE) /* something else has the name */
        status = CASK_ECORRUPT;
    if (status == CASK_OK)
        status = load(run, config, options);
    if (status != CASK_OK) {
        run_close(run);
        return status;
    }
    run->count = run->footer.count;
    run->blocks = run->footer.blocks;
    *ret_run = run;
    return CASK_OK;
}

void run_close(struct run *run)
{
    if (!run)
        return;
    io_close(run->file);
    run_buffer_release(&run->fence_buffer);
    filter_release(&run->filter);
    free(run);
}

/* Adds what one block has of a tag to what was found so far. */
static int find_in_block(const struct run *run, uint64_t number, uint32_t tag, uint64_t *locations,
                         unsigned room, unsigned *found)
{
    _Alignas(64) uint8_t page[RUN_PAGE_BYTES];
    struct run_block block;
    int status = io_read(run->file, (uint64_t)run_fence_page(run->fence, number) * RUN_PAGE_BYTES,
                         page, sizeof page, NULL);

    if (status == CASK_OK)
        status = run_block_decode(page + RUN_PAGE_HEADER_BYTES, RUN_BLOCK_BYTES,
                                  run->place + number, &block);
    if (status != CASK_OK)
        return status;
    for (unsigned i = run_block_lower_bound(&block, tag);
         i < block.count && run_block_tag(&block, i) == tag; i++) {
        if (*found < room)
            locations[*found] = run_block_location(&block, i);
        ++*found;
    }
    return CASK_OK;
}

static bool may_hold(const struct run *run, uint32_t tag)
{
    return run->blocks > 0 && filter_may_contain(&run->filter, tag) &&
           tag >= run_fence_tag(run->fence, 0);
}

int run_find(const struct run *run, uint32_t tag, uint64_t *ret_locations, unsigned room,
             unsigned *ret_found, struct run_counts *counts)
{
    bool filtered = run->filter.blocks > 0;
    bool passes = may_hold(run, tag);
    unsigned found = 0;
    uint64_t first;
    uint64_t block;
    int status;

    if (counts) {
        counts->filter_asks += filtered;
        counts->filter_passes += filtered && passes;
    }
    if (!passes) {
        *ret_found = 0;
        return CASK_OK;
    }
    block = first = run_first_block(run, tag);
    do {
        status = find_in_block(run, block, tag, ret_locations, room, &found);
        block++;
    } while (status == CASK_OK && block < run->blocks && run_fence_tag(run->fence, block) == tag);
    if (counts) {
        counts->block_reads += block - first;
        counts->fruitless_finds += status == CASK_OK && found == 0;
    }
    if (status == CASK_OK)
        *ret_found = found;
    return status;
}

bool run_will_read(const struct run *run, uint32_t tag, uint64_t *ret_offset)
{
    if (!may_hold(run, tag))
        return false;
    *ret_offset = (uint64_t)run_fence_page(run->fence, run_first_block(run, tag)) * RUN_PAGE_BYTES;
    return true;
}

void run_read_ahead(const struct run *run, uint32_t tag)
{
    uint64_t offset;

    if (run_will_read(run, tag, &offset))
        io_read_ahead(run->file, offset, RUN_PAGE_BYTES);
}

uint64_t run_memory_for(uint64_t count, uint64_t filter_bytes)
{
    return align_up(run_blocks_of(count) * RUN_FENCE_BYTES, RUN_BUFFER_UNIT) +
           align_up(filter_bytes, RUN_BUFFER_UNIT);
}
