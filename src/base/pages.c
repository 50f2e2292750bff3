#include "base/pages.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define PAGE_BYTES ((size_t)4096)
#define TRIM_BYTES (((size_t)1 << 20) - PAGE_BYTES)
#define TRIM_BLOCKS_MAX 8u
#define BORROWED_FROM_HEAP ((size_t)64 << 10) /* what is smaller */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

int pages_reserve(size_t size, void **ret_address)
{
    size_t padded = size + HUGE_PAGE_BYTES;
    uint8_t *raw = mmap(NULL, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                        0);
    uint8_t *start;

    if (raw == MAP_FAILED)
        return CASK_ENOMEM;
    start = (uint8_t *)(uintptr_t)align_up((uintptr_t)raw, HUGE_PAGE_BYTES);
    if (start > raw)
        munmap(raw, (size_t)(start - raw));
    munmap(start + size, (size_t)(raw + padded - (start + size)));
    *ret_address = start;
    return CASK_OK;
}

int pages_commit(void *address, size_t offset, size_t size)
{
    if (mprotect((uint8_t *)address + offset, size, PROT_READ | PROT_WRITE) != 0)
        return CASK_ENOMEM;
    return CASK_OK;
}

void pages_populate(void *address, size_t offset, size_t size)
{
    (void)madvise((uint8_t *)address + offset, size, MADV_POPULATE_WRITE);
}

/* Not the last, unfinished one: it would take memory that was not committed. */
void pages_make_huge(void *address, size_t offset, size_t size)
{
    size_t from = offset & ~(HUGE_PAGE_BYTES - 1);
    size_t to = (offset + size) & ~(HUGE_PAGE_BYTES - 1);

    if (from < to)
        (void)madvise((uint8_t *)address + from, to - from, MADV_HUGEPAGE);
}

void pages_make_small(void *address, size_t size)
{
    if (size >= HUGE_PAGE_BYTES)
        (void)madvise(address, size, MADV_NOHUGEPAGE);
}

void pages_discard(void *address, size_t size)
{
    (void)madvise(address, size, MADV_DONTNEED);
}

void pages_collapse(void *address, size_t size)
{
    size_t whole = size & ~(HUGE_PAGE_BYTES - 1);

    if (whole > 0)
        (void)madvise(address, whole, MADV_COLLAPSE);
}

void pages_release(void *address, size_t size)
{
    munmap(address, size);
}

/* A new block and a copy rather than mremap: checkers of threads do not know where mremap moves. */
int pages_resize(void **address, size_t old_size, size_t new_size)
{
    void *block;

    if (new_size == 0)
        return CASK_OK;
    block = mmap(NULL, new_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        return CASK_ENOMEM;
    if (*address) {
        memcpy(block, *address, min_u64(old_size, new_size));
        munmap(*address, old_size);
    }
    *address = block;
    return CASK_OK;
}

void pages_free(void *address, size_t size)
{
    if (address)
        munmap(address, size);
}

void *pages_borrow(size_t size)
{
    void *block;

    if (size < BORROWED_FROM_HEAP)
        return malloc(size > 0 ? size : 1);
    block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

void pages_return(void *block, size_t size)
{
    if (size < BORROWED_FROM_HEAP)
        free(block);
    else if (block)
        munmap(block, size);
}

/* By taking the memory once more, and telling the system that what is in it is of no use. Not
 * malloc_trim(), which goes through all of the program's heap with its locks held. */
void pages_trim_heap(size_t size)
{
    void *blocks[TRIM_BLOCKS_MAX];
    size_t count = 0;

    for (size_t trimmed = 0; trimmed < size && count < TRIM_BLOCKS_MAX; trimmed += TRIM_BYTES) {
        uintptr_t first;
        void *block = malloc(TRIM_BYTES);

        if (!block)
            break;
        blocks[count++] = block;
        first = (uintptr_t)align_up((uintptr_t)block, PAGE_BYTES);
        (void)madvise((uint8_t *)block + (first - (uintptr_t)block), TRIM_BYTES - PAGE_BYTES,
                      MADV_DONTNEED);
    }
    while (count > 0)
        free(blocks[--count]);
}

int pages_fork_mark(const volatile uint8_t **ret_mark)
{
    uint8_t *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                         0);

    if (page == MAP_FAILED)
        return CASK_ENOMEM;
    if (madvise(page, PAGE_BYTES, MADV_WIPEONFORK) != 0) {
        munmap(page, PAGE_BYTES);
        return CASK_ENOTSUP;
    }
    *page = 1;
    *ret_mark = page;
    return CASK_OK;
}

void pages_fork_unmark(const volatile uint8_t *mark)
{
    munmap((void *)(uintptr_t)mark, PAGE_BYTES);
}
