#include "index/runverify.h"

#include <stdio.h>
#include <stdlib.h>

#include "index/container.h"

struct totals {
    uint64_t blocks;
    uint64_t entries;
    uint32_t last_tag;
};

static int check_block(const struct run *run, uint64_t key, const uint8_t *bytes, uint32_t page,
                       struct totals *totals)
{
    uint64_t number = totals->blocks;
    struct run_block block;
    int status;

    if (number >= run->blocks || page != run_fence_page(run->fence, number) ||
        key != run_record_key(run_fence_tag(run->fence, number), number))
        return CASK_ECORRUPT;
    status = run_block_decode(bytes, RUN_BLOCK_BYTES, run->place + number, &block);
    if (status != CASK_OK)
        return status;
    if (run_block_tag(&block, 0) != run_fence_tag(run->fence, number) ||
        run_block_tag(&block, 0) < totals->last_tag)
        return CASK_ECORRUPT;
    for (unsigned i = 0; i < block.count; i++)
        if (!filter_may_contain(&run->filter, run_block_tag(&block, i)))
            return CASK_ECORRUPT;
    totals->blocks++;
    totals->entries += block.count;
    totals->last_tag = run_block_tag(&block, block.count - 1);
    return CASK_OK;
}

static int walk_all(const struct run *run, struct container_walk *walk)
{
    struct totals totals = {0};
    int status = CASK_OK;

    while (status == CASK_OK) {
        const uint8_t *bytes;
        uint64_t key;
        uint32_t page;

        status = container_walk_next(walk, &key, &bytes, &page);
        if (status == CASK_OK)
            status = check_block(run, key, bytes, page, &totals);
    }
    if (status != CASK_NOTFOUND)
        return status;
    return totals.blocks == run->blocks && totals.entries == run->count ? CASK_OK : CASK_ECORRUPT;
}

int run_verify(const struct run *run, const char *path)
{
    char name[RUN_NAME_BYTES];
    size_t room = strlen(path) + 1 + RUN_NAME_BYTES;
    struct container_walk *walk;
    char *file_path;
    int status = run_validate(run);

    if (status != CASK_OK)
        return status;
    file_path = malloc(room);
    if (!file_path)
        return CASK_ENOMEM;
    run_name(run->id, name);
    (void)snprintf(file_path, room, "%s/%s", path, name);
    status = container_walk_open(run->file, file_path, run->footer.pages, &walk);
    free(file_path);
    if (status != CASK_OK)
        return status;
    status = walk_all(run, walk);
    container_walk_close(walk);
    return status;
}
