/* Merges runs into one, in one pass over each.
 *
 * It knows nothing of records: where several entries have one tag, a resolver says which of them to
 * keep. It is asked about many such groups at once, so that it can read the keys that prove them in
 * the order of their locations.
 *
 * Invariants:
 *  1. Entries come out in the order of their tags; those of equal tag by the age of their run,
 *     newest first, and within a run as they were.
 *  2. What is in equals what is kept plus what the resolver dropped.
 *  3. Memory is bounded and taken from the budget, but for a single tag with more entries than the
 *     window has: then the window grows.
 */
#ifndef CASKADE_RUNMERGE_H
#define CASKADE_RUNMERGE_H

#include "index/run_cursor.h"
#include "index/runbuild.h"

#define RUN_MERGE_INPUTS_MAX 64u

struct run_merge_entry {
    uint64_t location;
    uint32_t tag;
    uint16_t age; /* of its run: 0 is the newest */
    bool keep;    /* true when the resolver gets it */
};

/* Entries [start, start + count) have one tag; count is at least 2, or 1 with every_tag. */
struct run_merge_group {
    uint32_t start;
    uint32_t count;
};

/* Sets keep to false for those entries of the groups that are to be dropped. entries has others
 * too, between the groups, which are not the resolver's business. Its failure ends the merge. */
typedef int (*run_merge_resolve_fn)(void *context, struct run_merge_entry *entries,
                                    const struct run_merge_group *groups, size_t group_count);

struct run_merge_options {
    run_merge_resolve_fn resolve;
    void *context;
    size_t read_bytes;   /* for each input; 0: RUN_CURSOR_BYTES */
    size_t window_bytes; /* entries resolved at a time; 0: 1 MiB. Less where the budget has less */
    bool every_tag;      /* asks the resolver about single entries too */
};

struct run_merge_input {
    struct run_cursor cursor;
    struct keydir_entry head;
    bool ended;
};

struct run_merge {
    struct run_merge_input *inputs;
    unsigned input_count;
    struct run_merge_options options;
    struct run_buffer window;
    struct run_buffer groups;
    size_t room; /* of the window, in entries */
    size_t group_room;
    size_t used;
    size_t group_count;
    size_t grouped;   /* entries that are in groups */
    uint64_t read;    /* entries taken from the inputs */
    uint64_t dropped; /* by the resolver */
};

/* Begins a merge of runs, newest first, which stay open until run_merge_close(). CASK_ENOMEM (the
 * budget too), CASK_ECORRUPT, CASK_EIO. */
CHECKED int run_merge_open(struct run_merge *merge, struct run *const *runs, unsigned count,
                           struct run_merge_options options, struct budget *budget);
void run_merge_close(struct run_merge *merge);

/* Adds the next window of entries to the new run: a step after which the caller may rest, or give
 * up. CASK_NOTFOUND when nothing is left. What failed cannot be gone on with. */
CHECKED int run_merge_step(struct run_merge *merge, struct run_build *build);

#endif
