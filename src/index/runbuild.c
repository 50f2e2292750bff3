#include "index/runbuild.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "log/location.h"

#define BATCH_BLOCKS_MAX 256u /* a transaction of 1 MiB */
#define BATCH_BLOCKS_MIN 16u
#define READ_BACK_BYTES ((uint64_t)256 << 10)
#define FILTER_AHEAD 16u

struct run_build {
    struct io_dir *dir;
    struct io_file *file;
    struct container *container;
    struct budget *budget;
    uint64_t container_bytes; /* taken from the budget for it */
    struct run_footer footer;
    struct filter filter;
    struct run_buffer fence;
    uint64_t place;
    uint32_t last_tag;
    unsigned in_block;
    bool renamed;
    _Alignas(8) uint8_t block[RUN_BLOCK_BYTES];
};

/* A batch that the run and the budget are large enough for. */
static int take_container(struct run_build *build, uint64_t blocks, unsigned *ret_batch_blocks)
{
    unsigned batch = (unsigned)min_u64(max_u64(blocks, BATCH_BLOCKS_MIN), BATCH_BLOCKS_MAX);

    while (!budget_take(build->budget, container_memory_for(batch))) {
        if (batch == BATCH_BLOCKS_MIN)
            return CASK_ENOMEM;
        batch = (unsigned)max_u64(batch / 2, BATCH_BLOCKS_MIN);
    }
    build->container_bytes = container_memory_for(batch);
    *ret_batch_blocks = batch;
    return CASK_OK;
}

static int begin_container(struct run_build *build, const char *path, uint64_t blocks)
{
    char name[RUN_NAME_BYTES];
    size_t room = strlen(path) + 1 + RUN_NAME_BYTES;
    char *file_path;
    unsigned batch_blocks;
    int status = take_container(build, blocks, &batch_blocks);

    if (status != CASK_OK)
        return status;
    file_path = malloc(room);
    if (!file_path)
        return CASK_ENOMEM;
    run_tmp_name(build->footer.id, name);
    (void)snprintf(file_path, room, "%s/%s", path, name);
    status = container_begin(build->file, file_path, blocks, batch_blocks, &build->container);
    free(file_path);
    return status;
}

/* The file is made by io_open(), not by LMDB, so that it is a new and regular one, and a descriptor
 * of ours is open through all that is written: its sync reports any of it that failed. */
static int open_tmp(struct run_build *build)
{
    char name[RUN_NAME_BYTES];
    int status;

    run_tmp_name(build->footer.id, name);
    status = io_unlink(build->dir, name);
    if (status != CASK_OK && status != CASK_NOTFOUND)
        return status;
    return io_open(build->dir, name, IO_CREATE_NEW, &build->file);
}

int run_build_begin(struct io_dir *index_dir, const char *path, const struct run_config *config,
                    uint64_t id, struct run_build_options options, struct budget *budget,
                    struct run_build **ret_build)
{
    uint64_t blocks = max_u64(run_blocks_of(options.expected_count), 1);
    struct run_build *build = calloc(1, sizeof *build);
    int status;

    if (!build)
        return CASK_ENOMEM;
    build->dir = index_dir;
    build->budget = budget;
    build->footer.config = *config;
    build->footer.id = id;
    build->place = run_place(config, id);
    status = filter_init(&build->filter, options.expected_count, options.filter_bits, budget);
    if (status == CASK_OK)
        status = run_buffer_take(&build->fence, blocks * RUN_FENCE_BYTES, budget);
    if (status == CASK_OK)
        status = open_tmp(build);
    if (status == CASK_OK)
        status = begin_container(build, path, blocks);
    if (status != CASK_OK) {
        run_build_abort(build);
        return status;
    }
    *ret_build = build;
    return CASK_OK;
}

/* A block's tags at a time: a filter larger than the processor's cache has a miss for each, and
 * they overlap. */
static void add_to_filter(struct run_build *build)
{
    const struct run_block block = {build->block, build->in_block};

    for (unsigned i = 0; i < block.count; i++) {
        if (i + FILTER_AHEAD < block.count)
            filter_prefetch(&build->filter, run_block_tag(&block, i + FILTER_AHEAD));
        filter_add(&build->filter, run_block_tag(&block, i));
    }
}

static int end_block(struct run_build *build)
{
    uint64_t number = build->footer.blocks;
    uint32_t first_tag = run_block_tag(&(struct run_block){build->block, build->in_block}, 0);
    uint8_t *fence;
    uint32_t page;
    int status = CASK_OK;

    if ((number + 1) * RUN_FENCE_BYTES > build->fence.size)
        status = run_buffer_grow(&build->fence, (uint64_t)build->fence.size * 2);
    if (status != CASK_OK)
        return status;
    add_to_filter(build);
    run_block_seal(build->block, build->in_block, build->place + number);
    status = container_put(build->container, run_record_key(first_tag, number), build->block,
                           &page);
    if (status != CASK_OK)
        return status;
    fence = build->fence.bytes + number * RUN_FENCE_BYTES;
    put_u32(fence, first_tag);
    put_u32(fence + 4, page);
    build->footer.blocks++;
    build->in_block = 0;
    memset(build->block, 0, sizeof build->block);
    return CASK_OK;
}

int run_build_add(struct run_build *build, uint32_t tag, uint64_t location)
{
    assert(tag >= build->last_tag && location <= LOCATION_MAX);
    run_block_put(build->block, build->in_block++, tag, location);
    build->footer.count++;
    build->last_tag = tag;
    return build->in_block == RUN_BLOCK_ENTRIES ? end_block(build) : CASK_OK;
}

/* Filter and fence, behind the container. */
static int write_tail(struct run_build *build)
{
    struct run_footer *footer = &build->footer;
    size_t fence_bytes = (size_t)(footer->blocks * RUN_FENCE_BYTES);
    int status;

    footer->filter_bytes = footer->count == 0 ? 0 : filter_bytes(&build->filter);
    footer->probes = footer->filter_bytes == 0 ? 0 : build->filter.probes;
    footer->filter_checksum = footer->filter_bytes == 0
                                  ? 0
                                  : checksum_bytes(build->filter.words,
                                                   (size_t)footer->filter_bytes);
    footer->fence_checksum = checksum_bytes(build->fence.bytes, fence_bytes);
    /* What was allocated and not needed goes back before more is asked for. */
    status = io_truncate(build->file, run_filter_at(footer));
    if (status == CASK_OK && footer->filter_bytes > 0)
        status = io_write(build->file, run_filter_at(footer), build->filter.words,
                          (size_t)footer->filter_bytes);
    if (status == CASK_OK && fence_bytes > 0)
        status = io_write(build->file, run_fence_at(footer), build->fence.bytes, fence_bytes);
    return status;
}

/* Checks the blocks from *number on that lie in [at, at + size) of the file. Nearly always blocks
 * follow one another; one that lies before its forerunner is read by itself. */
static int check_blocks(struct run_build *build, uint64_t *number, uint64_t at,
                        const uint8_t *bytes, size_t size)
{
    uint8_t page[RUN_PAGE_BYTES];
    struct run_block block;
    int status = CASK_OK;

    while (status == CASK_OK && *number < build->footer.blocks) {
        uint64_t offset = (uint64_t)run_fence_page(build->fence.bytes, *number) * RUN_PAGE_BYTES;
        const uint8_t *from = page;

        if (offset + RUN_PAGE_BYTES > at + size)
            return CASK_OK;
        if (offset >= at)
            from = bytes + (offset - at);
        else
            status = io_read(build->file, offset, page, sizeof page, NULL);
        if (status == CASK_OK)
            status = run_block_decode(from + RUN_PAGE_HEADER_BYTES, RUN_BLOCK_BYTES,
                                      build->place + *number, &block);
        ++*number;
    }
    return status;
}

/* Reads the file once: for the checksum of all before the footer, and to see each block where the
 * fence has it. */
static int read_back(struct run_build *build)
{
    uint64_t end = run_footer_at(&build->footer);
    uint64_t number = 0;
    struct run_buffer buffer;
    XXH3_state_t checksum;
    int status = run_buffer_take_some(&buffer, RUN_PAGE_BYTES, READ_BACK_BYTES, build->budget);

    if (status != CASK_OK)
        return status;
    XXH3_INITSTATE(&checksum);
    XXH3_64bits_reset(&checksum);
    for (uint64_t at = 0; status == CASK_OK && at < end;) {
        size_t size = (size_t)min_u64(end - at, buffer.size);

        status = io_read(build->file, at, buffer.bytes, size, NULL);
        if (status == CASK_OK) {
            XXH3_64bits_update(&checksum, buffer.bytes, size);
            status = check_blocks(build, &number, at, buffer.bytes, size);
        }
        at += size;
    }
    run_buffer_release(&buffer);
    if (status == CASK_OK && number != build->footer.blocks)
        status = CASK_EIO;
    build->footer.body_checksum = XXH3_64bits_digest(&checksum);
    return status == CASK_ECORRUPT ? CASK_EIO : status; /* it is not what was written */
}

static int publish(struct run_build *build)
{
    char tmp[RUN_NAME_BYTES];
    char name[RUN_NAME_BYTES];
    int status;

    run_tmp_name(build->footer.id, tmp);
    run_name(build->footer.id, name);
    status = io_rename(build->dir, tmp, name);
    if (status != CASK_OK)
        return status;
    build->renamed = true;
    return io_dir_sync(build->dir);
}

static void give_container_back(struct run_build *build)
{
    budget_give(build->budget, build->container_bytes);
    build->container_bytes = 0;
}

static int finish(struct run_build *build, struct run_summary *ret_summary)
{
    uint8_t footer[RUN_FOOTER_BYTES];
    int status = CASK_OK;

    if (build->in_block > 0)
        status = end_block(build);
    if (status != CASK_OK)
        return status;
    status = container_finish(build->container, &build->footer.pages);
    build->container = NULL;
    give_container_back(build); /* reading back takes memory too */
    if (status == CASK_OK)
        status = write_tail(build);
    if (status == CASK_OK)
        status = read_back(build);
    if (status != CASK_OK)
        return status;
    run_footer_encode(&build->footer, footer);
    status = io_write(build->file, run_footer_at(&build->footer), footer, sizeof footer);
    if (status == CASK_OK)
        status = io_sync(build->file);
    if (status == CASK_OK)
        status = publish(build);
    if (status != CASK_OK)
        return status;
    *ret_summary = (struct run_summary){build->footer.id, build->footer.count,
                                        run_footer_at(&build->footer) + RUN_FOOTER_BYTES,
                                        checksum_bytes(footer, sizeof footer)};
    return CASK_OK;
}

static void release(struct run_build *build)
{
    container_abort(build->container);
    io_close(build->file);
    give_container_back(build);
    run_buffer_release(&build->fence);
    filter_release(&build->filter);
    free(build);
}

int run_build_finish(struct run_build *build, struct run_summary *ret_summary)
{
    int status = finish(build, ret_summary);

    if (status == CASK_OK)
        release(build);
    else
        run_build_abort(build);
    return status;
}

void run_build_abort(struct run_build *build)
{
    char name[RUN_NAME_BYTES];
    struct io_dir *dir;
    bool made;

    if (!build)
        return;
    dir = build->dir;
    made = build->file != NULL;
    if (build->renamed)
        run_name(build->footer.id, name);
    else
        run_tmp_name(build->footer.id, name);
    release(build);
    if (made) {
        int left = io_unlink(dir, name);

        (void)left; /* the failure to report is the one before */
    }
}
