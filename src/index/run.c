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

/* Where there is no mapping to be had the run is read by call. */
static void map_pages(struct run *run)
{
    void *map;

    if (run->footer.blocks > 0 &&
        io_map(run->file, (size_t)(run->footer.pages * RUN_PAGE_BYTES), false, &map) == CASK_OK)
        run->map = map;
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
    if (status == CASK_OK && options.mapped)
        map_pages(run);
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
    if (run->map)
        io_unmap((void *)(uintptr_t)run->map, (size_t)(run->footer.pages * RUN_PAGE_BYTES));
    io_close(run->file);
    run_buffer_release(&run->fence_buffer);
    filter_release(&run->filter);
    free(run);
}

/* What a look-up has found so far. */
struct finds {
    uint64_t *locations;
    unsigned room;
    unsigned count;
};

/* One block of a run, of which cells are checked as they are come to. */
struct cells {
    const uint8_t *bytes;
    uint64_t place;
    unsigned last; /* the last cell that has entries */
    unsigned cell;
    unsigned first; /* places in it */
    unsigned end;
};

/* Every cell up to the last has entries. */
static int enter_cell(struct cells *cells, unsigned cell)
{
    cells->cell = cell;
    cells->first = run_cell_first(cell);
    if (!run_cell_check(cells->bytes, cell, cells->place, &cells->end) ||
        cells->end == cells->first)
        return CASK_ECORRUPT;
    return CASK_OK;
}

static uint32_t tag_at(const struct cells *cells, unsigned place)
{
    return run_cell_tag(cells->bytes, cells->cell, place);
}

/* Asks for the lines of a cell. */
static void prefetch_cell(const uint8_t *bytes, unsigned cell)
{
    for (unsigned at = RUN_PAGE_HEADER_BYTES; at < RUN_CELL_BYTES; at += 64)
        __builtin_prefetch(bytes + run_cell_at(cell, at));
}

/* The cell that a straight line between the first tags of this block and the next leads to. It is
 * the right one for three tags of four, and its nearer neighbour for the others: both are asked
 * for. */
static unsigned guess_cell(const struct run *run, const struct cells *cells, uint64_t number,
                           uint32_t tag, unsigned count)
{
    uint32_t first = run_fence_tag(run->fence, number);
    uint32_t end = number + 1 < run->blocks ? run_fence_tag(run->fence, number + 1) : UINT32_MAX;
    unsigned entry = tag <= first ? 0 : count - 1;
    unsigned cell;
    bool early;

    if (tag > first && tag < end)
        entry = (unsigned)((uint64_t)(tag - first) * count / (end - first));
    cell = run_cell_of(entry);
    early = (entry + RUN_BLOCK_LOST) % RUN_CELL_ENTRIES < RUN_CELL_ENTRIES / 2;
    prefetch_cell(cells->bytes, cell);
    if (early && cell > 0)
        prefetch_cell(cells->bytes, cell - 1);
    else if (!early && cell < cells->last)
        prefetch_cell(cells->bytes, cell + 1);
    return cell;
}

static void take_equal(const struct cells *cells, uint32_t tag, struct finds *finds)
{
    for (unsigned i = cells->first; i < cells->end; i++) {
        if (tag_at(cells, i) != tag)
            continue;
        if (finds->count < finds->room)
            finds->locations[finds->count] = run_cell_location(cells->bytes, cells->cell, i);
        finds->count++;
    }
}

/* From the cell that is guessed down to one that begins below the tag, and from there up to one
 * that ends above it. */
static int find_in_cells(struct cells *cells, unsigned guess, uint32_t tag, struct finds *finds)
{
    int status = enter_cell(cells, guess);

    while (status == CASK_OK && cells->cell > 0 && tag_at(cells, cells->first) >= tag)
        status = enter_cell(cells, cells->cell - 1);
    while (status == CASK_OK) {
        take_equal(cells, tag, finds);
        if (cells->cell == cells->last || tag_at(cells, cells->end - 1) > tag)
            return CASK_OK;
        status = enter_cell(cells, cells->cell + 1);
    }
    return status;
}

/* Adds what one block has of a tag to what was found so far. */
static int find_in_block(const struct run *run, const uint8_t *map, uint64_t number, uint32_t tag,
                         struct finds *finds)
{
    _Alignas(64) uint8_t page[RUN_PAGE_BYTES];
    uint64_t offset = (uint64_t)run_fence_page(run->fence, number) * RUN_PAGE_BYTES;
    unsigned count = (unsigned)min_u64(run->count - number * RUN_BLOCK_ENTRIES, RUN_BLOCK_ENTRIES);
    struct cells cells = {.place = run->place + number, .last = run_cell_of(count - 1)};
    int status = CASK_OK;

    if (map) {
        cells.bytes = map + offset + RUN_PAGE_HEADER_BYTES;
    } else {
        status = io_read(run->file, offset, page, sizeof page, NULL);
        cells.bytes = page + RUN_PAGE_HEADER_BYTES;
    }
    if (status != CASK_OK)
        return status;
    return find_in_cells(&cells, guess_cell(run, &cells, number, tag, count), tag, finds);
}

static bool may_hold(const struct run *run, uint32_t tag)
{
    return run->blocks > 0 && filter_may_contain(&run->filter, tag) &&
           tag >= run_fence_tag(run->fence, 0);
}

/* map: the run's, or NULL to read by call. */
static int find(const struct run *run, const uint8_t *map, uint32_t tag, struct finds *finds,
                struct run_counts *counts)
{
    uint64_t first = run_first_block(run, tag);
    uint64_t block = first;
    int status;

    do {
        status = find_in_block(run, map, block, tag, finds);
        block++;
    } while (status == CASK_OK && block < run->blocks && run_fence_tag(run->fence, block) == tag);
    if (counts) {
        counts->block_reads += block - first;
        counts->fruitless_finds += status == CASK_OK && finds->count == 0;
    }
    return status;
}

int run_find(const struct run *run, uint32_t tag, uint64_t *ret_locations, unsigned room,
             unsigned *ret_found, struct run_counts *counts)
{
    bool filtered = run->filter.blocks > 0;
    bool passes = may_hold(run, tag);
    struct finds finds = {.room = room};
    int status = CASK_OK;

    finds.locations = ret_locations;
    if (counts) {
        counts->filter_asks += filtered;
        counts->filter_passes += filtered && passes;
    }
    if (passes)
        status = find(run, run->map, tag, &finds, counts);
    if (status == CASK_OK)
        *ret_found = finds.count;
    return status;
}

int run_find_by_call(const struct run *run, uint32_t tag, uint64_t *ret_locations, unsigned room,
                     unsigned *ret_found)
{
    struct finds finds = {.room = room};
    int status = CASK_OK;

    finds.locations = ret_locations;
    if (may_hold(run, tag))
        status = find(run, NULL, tag, &finds, NULL);
    if (status == CASK_OK)
        *ret_found = finds.count;
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
