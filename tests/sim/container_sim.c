/* index/container.h for the simulated disk, which has no path that LMDB could open: the same layout
 * of pages, written through io.h. A page's header holds the record's key and its number, so that a
 * walk needs nothing else. */
#include <stdlib.h>
#include <string.h>

#include "index/container.h"

struct container {
    struct io_file *file;
    uint64_t pages;
};

struct container_walk {
    struct io_file *file;
    uint64_t pages;
    uint64_t next;
    uint8_t page[RUN_PAGE_BYTES];
};

#define AT_KEY 0
#define AT_PAGE 8

uint64_t container_memory_for(unsigned batch_blocks)
{
    return (uint64_t)batch_blocks * RUN_PAGE_BYTES;
}

int container_begin(struct io_file *file, const char *path, uint64_t blocks, unsigned batch_blocks,
                    struct container **ret_container)
{
    struct container *container = malloc(sizeof *container);
    int status;

    (void)path;
    (void)batch_blocks;
    if (!container)
        return CASK_ENOMEM;
    *container = (struct container){.file = file};
    status = io_allocate(file, blocks * RUN_PAGE_BYTES);
    if (status != CASK_OK && status != CASK_ENOTSUP) {
        free(container);
        return status;
    }
    *ret_container = container;
    return CASK_OK;
}

int container_put(struct container *container, uint64_t key, const uint8_t block[RUN_BLOCK_BYTES],
                  uint32_t *ret_page)
{
    uint8_t page[RUN_PAGE_BYTES];
    int status;

    put_u64(page + AT_KEY, key);
    put_u64(page + AT_PAGE, container->pages);
    memcpy(page + RUN_PAGE_HEADER_BYTES, block, RUN_BLOCK_BYTES);
    status = io_write(container->file, container->pages * RUN_PAGE_BYTES, page, sizeof page);
    if (status == CASK_OK)
        *ret_page = (uint32_t)container->pages++;
    return status;
}

int container_finish(struct container *container, uint64_t *ret_pages)
{
    int status = io_sync(container->file);

    if (status == CASK_OK)
        *ret_pages = container->pages;
    container_abort(container);
    return status;
}

void container_abort(struct container *container)
{
    free(container);
}

int container_walk_open(struct io_file *file, const char *path, uint64_t pages,
                        struct container_walk **ret_walk)
{
    struct container_walk *walk = calloc(1, sizeof *walk);

    (void)path;
    if (!walk)
        return CASK_ENOMEM;
    walk->file = file;
    walk->pages = pages;
    *ret_walk = walk;
    return CASK_OK;
}

int container_walk_next(struct container_walk *walk, uint64_t *ret_key, const uint8_t **ret_block,
                        uint32_t *ret_page)
{
    int status;

    if (walk->next >= walk->pages)
        return CASK_NOTFOUND;
    status = io_read(walk->file, walk->next * RUN_PAGE_BYTES, walk->page, sizeof walk->page, NULL);
    if (status == CASK_OK && get_u64(walk->page + AT_PAGE) != walk->next)
        status = CASK_ECORRUPT;
    if (status != CASK_OK)
        return status;
    *ret_key = get_u64(walk->page + AT_KEY);
    *ret_block = walk->page + RUN_PAGE_HEADER_BYTES;
    *ret_page = (uint32_t)walk->next++;
    return CASK_OK;
}

void container_walk_close(struct container_walk *walk)
{
    free(walk);
}
