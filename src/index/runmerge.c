#include "index/runmerge.h"

#include <assert.h>
#include <stdlib.h>

#define WINDOW_BYTES ((size_t)1 << 20)
#define WINDOW_BYTES_MIN ((size_t)16 << 10)
#define TAG_ENTRIES 64u   /* room kept for the entries of the last tag of a window */
#define GROUPED_MAX 4096u /* entries that the resolver is asked about at a time */

static int advance(struct run_merge_input *input)
{
    int status = run_cursor_next(&input->cursor, &input->head);

    input->ended = status == CASK_NOTFOUND;
    return input->ended ? CASK_OK : status;
}

static int open_inputs(struct run_merge *merge, struct run *const *runs, unsigned count,
                       struct budget *budget)
{
    int status = CASK_OK;

    for (unsigned i = 0; status == CASK_OK && i < count; i++) {
        struct run_merge_input *input = &merge->inputs[i];

        status = run_cursor_open(&input->cursor, runs[i], 0, merge->options.read_bytes, budget);
        if (status != CASK_OK)
            break;
        merge->input_count++;
        status = advance(input);
    }
    return status;
}

int run_merge_open(struct run_merge *merge, struct run *const *runs, unsigned count,
                   struct run_merge_options options, struct budget *budget)
{
    int status;

    assert(count > 0 && count <= RUN_MERGE_INPUTS_MAX);
    if (options.read_bytes == 0)
        options.read_bytes = RUN_CURSOR_BYTES;
    if (options.window_bytes == 0)
        options.window_bytes = WINDOW_BYTES;
    *merge = (struct run_merge){.options = options};
    merge->inputs = calloc(count, sizeof *merge->inputs);
    if (!merge->inputs)
        return CASK_ENOMEM;
    status = run_buffer_take(&merge->groups, (GROUPED_MAX / 2 + 1) * sizeof(struct run_merge_group),
                             budget);
    if (status == CASK_OK)
        status = run_buffer_take_some(&merge->window, WINDOW_BYTES_MIN,
                                      max_u64(options.window_bytes, WINDOW_BYTES_MIN), budget);
    if (status == CASK_OK)
        status = open_inputs(merge, runs, count, budget);
    if (status != CASK_OK) {
        run_merge_close(merge);
        return status;
    }
    merge->room = merge->window.size / sizeof(struct run_merge_entry);
    merge->group_room = merge->groups.size / sizeof(struct run_merge_group);
    return CASK_OK;
}

void run_merge_close(struct run_merge *merge)
{
    for (unsigned i = 0; i < merge->input_count; i++)
        run_cursor_close(&merge->inputs[i].cursor);
    free(merge->inputs);
    run_buffer_release(&merge->window);
    run_buffer_release(&merge->groups);
    *merge = (struct run_merge){0};
}

static struct run_merge_entry *window(const struct run_merge *merge)
{
    return (struct run_merge_entry *)(void *)merge->window.bytes;
}

static struct run_merge_group *groups(const struct run_merge *merge)
{
    return (struct run_merge_group *)(void *)merge->groups.bytes;
}

/* The input whose head comes next; of equal tags the newest run's. NULL at the end. */
static struct run_merge_input *first_input(const struct run_merge *merge)
{
    struct run_merge_input *first = NULL;

    for (unsigned i = 0; i < merge->input_count; i++) {
        struct run_merge_input *input = &merge->inputs[i];

        if (!input->ended && (!first || input->head.tag < first->head.tag))
            first = input;
    }
    return first;
}

static int take_entry(struct run_merge *merge, struct run_merge_input *input)
{
    if (merge->used == merge->room) { /* one tag has more than TAG_ENTRIES */
        int status = run_buffer_grow(&merge->window, (uint64_t)merge->window.size * 2);

        if (status != CASK_OK)
            return status;
        merge->room = merge->window.size / sizeof(struct run_merge_entry);
    }
    window(merge)[merge->used++] = (struct run_merge_entry){
        input->head.location, input->head.tag, (uint16_t)(input - merge->inputs), true};
    merge->read++;
    return advance(input);
}

/* All entries of the next tag. */
static int take_tag(struct run_merge *merge, struct run_merge_input *first)
{
    uint32_t tag = first->head.tag;
    size_t start = merge->used;
    size_t count;
    int status = CASK_OK;

    for (struct run_merge_input *input = first;
         status == CASK_OK && input < merge->inputs + merge->input_count; input++)
        while (status == CASK_OK && !input->ended && input->head.tag == tag)
            status = take_entry(merge, input);
    count = merge->used - start;
    if (status != CASK_OK || (count < 2 && !merge->options.every_tag))
        return status;
    groups(merge)[merge->group_count++] = (struct run_merge_group){(uint32_t)start,
                                                                   (uint32_t)count};
    merge->grouped += count;
    return CASK_OK;
}

static int fill_window(struct run_merge *merge)
{
    int status = CASK_OK;

    merge->used = 0;
    merge->group_count = 0;
    merge->grouped = 0;
    while (status == CASK_OK && merge->used + TAG_ENTRIES <= merge->room &&
           merge->grouped < GROUPED_MAX && merge->group_count < merge->group_room) {
        struct run_merge_input *first = first_input(merge);

        if (!first)
            break;
        status = take_tag(merge, first);
    }
    return status;
}

int run_merge_step(struct run_merge *merge, struct run_build *build)
{
    int status = fill_window(merge);

    if (status == CASK_OK && merge->used == 0)
        return CASK_NOTFOUND;
    if (status == CASK_OK && merge->group_count > 0)
        status = merge->options.resolve(merge->options.context, window(merge), groups(merge),
                                        merge->group_count);
    for (size_t i = 0; status == CASK_OK && i < merge->used; i++) {
        const struct run_merge_entry *entry = &window(merge)[i];

        if (entry->keep)
            status = run_build_add(build, entry->tag, entry->location);
        else
            merge->dropped++;
    }
    return status;
}
