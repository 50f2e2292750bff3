#include "index/run_cursor.h"

/* Makes sure that a page is in the buffer. A short count is a file that was cut. */
static int load_page(struct run_cursor *cursor, uint64_t page)
{
    uint64_t wanted = min_u64(cursor->buffer.size / RUN_PAGE_BYTES,
                              cursor->run->footer.pages - page);
    size_t got;
    int status;

    if (page >= cursor->page && page - cursor->page < cursor->pages)
        return CASK_OK;
    cursor->pages = 0;
    status = io_read(cursor->run->file, page * RUN_PAGE_BYTES, cursor->buffer.bytes,
                     (size_t)(wanted * RUN_PAGE_BYTES), &got);
    if (status == CASK_EIO && wanted > 1) /* for one behind the page wanted, maybe */
        status = io_read(cursor->run->file, page * RUN_PAGE_BYTES, cursor->buffer.bytes,
                         RUN_PAGE_BYTES, &got);
    if (status != CASK_OK)
        return status;
    if (got < RUN_PAGE_BYTES)
        return CASK_ECORRUPT;
    cursor->page = page;
    cursor->pages = got / RUN_PAGE_BYTES;
    return CASK_OK;
}

/* Enters block cursor->next. */
static int load_block(struct run_cursor *cursor)
{
    const struct run *run = cursor->run;
    uint64_t page;
    int status;

    cursor->block.count = 0;
    cursor->entry = 0;
    if (cursor->next >= run->blocks)
        return CASK_NOTFOUND;
    page = run_fence_page(run->fence, cursor->next);
    status = load_page(cursor, page);
    if (status == CASK_OK)
        status = run_block_decode(cursor->buffer.bytes + (page - cursor->page) * RUN_PAGE_BYTES +
                                      RUN_PAGE_HEADER_BYTES,
                                  RUN_BLOCK_BYTES, run->place + cursor->next, &cursor->block);
    if (status == CASK_OK)
        cursor->next++;
    return status;
}

int run_cursor_next(struct run_cursor *cursor, struct keydir_entry *ret_entry)
{
    if (cursor->entry >= cursor->block.count) {
        int status = load_block(cursor);

        if (status != CASK_OK)
            return status;
    }
    ret_entry->tag = run_block_tag(&cursor->block, cursor->entry);
    ret_entry->location = run_block_location(&cursor->block, cursor->entry);
    cursor->entry++;
    return CASK_OK;
}

int run_cursor_seek(struct run_cursor *cursor, uint32_t tag)
{
    unsigned entry;

    if (cursor->run->blocks == 0)
        return CASK_OK;
    for (;;) {
        if (cursor->entry < cursor->block.count) {
            entry = run_block_lower_bound(&cursor->block, tag);
            if (entry > cursor->entry)
                cursor->entry = entry;
            if (cursor->entry < cursor->block.count)
                return CASK_OK;
        }
        uint64_t block = run_first_block(cursor->run, tag);

        cursor->next = max_u64(cursor->next, block);
        int status = load_block(cursor);

        if (status != CASK_OK)
            return status == CASK_NOTFOUND ? CASK_OK : status; /* the next call tells the end */
    }
}

int run_cursor_open(struct run_cursor *cursor, struct run *run, uint32_t from_tag,
                    size_t read_bytes, struct budget *budget)
{
    int status;

    *cursor = (struct run_cursor){.run = run};
    status = run_buffer_take_some(&cursor->buffer, RUN_PAGE_BYTES,
                                  max_u64(read_bytes, RUN_PAGE_BYTES), budget);
    if (status == CASK_OK && from_tag > 0) {
        status = run_cursor_seek(cursor, from_tag);
        if (status != CASK_OK)
            run_cursor_close(cursor);
    }
    return status;
}

void run_cursor_close(struct run_cursor *cursor)
{
    run_buffer_release(&cursor->buffer);
    *cursor = (struct run_cursor){0};
}
