/* Reads a run in the order of its tags, a stretch of the file at a time: for merges of runs and for
 * sweeps over the whole index. One thread at a time. */
#ifndef CASKADE_RUN_CURSOR_H
#define CASKADE_RUN_CURSOR_H

#include "index/run.h"

#define RUN_CURSOR_BYTES ((size_t)512 << 10) /* enough for the disk's full speed */

struct run_cursor {
    struct run *run;
    struct run_buffer buffer;
    uint64_t page;  /* the first page in the buffer */
    uint64_t pages; /* how many are */
    uint64_t next;  /* the block after the current one */
    struct run_block block;
    unsigned entry;
};

/* Begins at the first entry with a tag of at least from_tag. It reads read_bytes at a time, or less
 * where the budget has no more, but at least a page. The run stays open until run_cursor_close().
 * CASK_ENOMEM. */
CHECKED int run_cursor_open(struct run_cursor *cursor, struct run *run, uint32_t from_tag,
                            size_t read_bytes, struct budget *budget);
void run_cursor_close(struct run_cursor *cursor);

/* CASK_NOTFOUND at the end. CASK_ECORRUPT, CASK_EIO: the same again if called again. */
CHECKED int run_cursor_next(struct run_cursor *cursor, struct keydir_entry *ret_entry);

/* Whether an entry with a tag below this may come next; false tells it without reading. */
static inline bool run_cursor_may_have(const struct run_cursor *cursor, uint64_t below)
{
    return cursor->entry < cursor->block.count ||
           (cursor->next < cursor->run->blocks &&
            run_fence_tag(cursor->run->fence, cursor->next) < below);
}

/* Goes forward to the first entry with a tag of at least this; never back. What lies between is not
 * read. */
CHECKED int run_cursor_seek(struct run_cursor *cursor, uint32_t tag);

#endif
