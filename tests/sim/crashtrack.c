/* What is durable and what is pending at each position of a log. Rules: see crashstate.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crash_internal.h"
#include "sim_internal.h"

static void *grow(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity * 2 + 8;
    return sim_reallocate(array, *capacity * size);
}

static struct crash_file *file_of(struct crash_tracker *tracker, uint64_t inode)
{
    size_t wanted = (size_t)inode + 1;

    if (wanted > tracker->file_count) {
        tracker->files = sim_reallocate(tracker->files, wanted * sizeof(struct crash_file *));
        for (size_t i = tracker->file_count; i < wanted; i++)
            tracker->files[i] = NULL;
        tracker->file_count = wanted;
    }
    if (!tracker->files[inode]) {
        struct crash_file *file = sim_allocate(sizeof *file);

        memset(file, 0, sizeof *file);
        file->inode = inode;
        tracker->files[inode] = file;
    }
    return tracker->files[inode];
}

static void drop_built(struct crash_file *file)
{
    simblob_release(file->all);
    simblob_release(file->none);
    file->all = file->none = NULL;
}

struct crash_tracker *crash_tracker_create(const struct simlog *log, size_t page_bytes,
                                           size_t sector_bytes)
{
    struct crash_tracker *tracker = sim_allocate(sizeof *tracker);

    memset(tracker, 0, sizeof *tracker);
    tracker->log = log;
    tracker->page_bytes = page_bytes;
    tracker->sector_bytes = sector_bytes;
    for (size_t i = 0; i < log->base->count; i++) {
        const struct simimage_entry *entry = &log->base->entries[i];
        struct crash_file *file = file_of(tracker, entry->inode);

        file->is_dir = entry->blob == NULL;
        file->durable = entry->blob ? simblob_share(entry->blob) : NULL;
        file->size = entry->blob ? entry->blob->size : 0;
        tracker->names = grow(tracker->names, tracker->name_count, &tracker->name_capacity,
                              sizeof *tracker->names);
        tracker->names[tracker->name_count++] = (struct crash_name){entry->parent, entry->inode,
                                                                    entry->name};
    }
    return tracker;
}

void crash_tracker_release(struct crash_tracker *tracker)
{
    for (size_t i = 0; i < tracker->file_count; i++) {
        struct crash_file *file = tracker->files[i];

        if (!file)
            continue;
        drop_built(file);
        simblob_release(file->durable);
        free(file->pieces);
        free(file->changes);
        free(file);
    }
    free(tracker->files);
    free(tracker->names);
    free(tracker->pending_names);
    free(tracker->units);
    free(tracker);
}

/* ---- names ---- */

static void sync_dir(struct crash_tracker *tracker, uint64_t dir)
{
    size_t kept = 0;

    for (size_t i = 0; i < tracker->pending_count; i++) {
        size_t index = tracker->pending_names[i];

        if (tracker->log->ops[index].parent != dir) {
            tracker->pending_names[kept++] = index;
            continue;
        }
        tracker->names = grow(tracker->names, tracker->name_count, &tracker->name_capacity,
                              sizeof *tracker->names);
        crash_name_apply(tracker->names, &tracker->name_count, &tracker->log->ops[index]);
    }
    tracker->pending_count = kept;
}

/* ---- contents ---- */

static void add_change(struct crash_file *file, size_t op, size_t size)
{
    file->changes = grow(file->changes, file->change_count, &file->change_capacity,
                         sizeof *file->changes);
    file->changes[file->change_count++] = (struct crash_change){op, size, size < file->size};
    file->size = size;
}

static void add_write(struct crash_tracker *tracker, struct crash_file *file, size_t index)
{
    const struct simop *op = &tracker->log->ops[index];
    size_t end = (size_t)op->offset + op->size;

    for (size_t at = (size_t)op->offset; at < end;) {
        size_t page = at / tracker->page_bytes;
        size_t stop = (page + 1) * tracker->page_bytes;
        struct crash_piece piece = {.op = index, .page = page, .offset = at};

        if (stop > end)
            stop = end;
        piece.size = stop - at;
        piece.bytes = op->bytes + (at - op->offset);
        file->pieces = grow(file->pieces, file->piece_count, &file->piece_capacity,
                            sizeof *file->pieces);
        file->pieces[file->piece_count++] = piece;
        at = stop;
    }
    if (end > file->size)
        add_change(file, index, end);
}

/* ---- the plan ---- */

static size_t add_unit(struct crash_tracker *tracker, struct crash_unit unit)
{
    tracker->units = grow(tracker->units, tracker->unit_count, &tracker->unit_capacity,
                          sizeof *tracker->units);
    tracker->units[tracker->unit_count] = unit;
    return tracker->unit_count++;
}

static void plan_file(struct crash_tracker *tracker, struct crash_file *file)
{
    drop_built(file);
    file->first_unit = tracker->unit_count;
    for (size_t i = 0; i < file->piece_count; i++) {
        struct crash_piece *piece = &file->pieces[i];
        size_t unit = file->first_unit;

        while (unit < tracker->unit_count && tracker->units[unit].page != piece->page)
            unit++;
        if (unit == tracker->unit_count)
            add_unit(tracker,
                     (struct crash_unit){.kind = CRASH_PAGE, .file = file, .page = piece->page});
        piece->unit = unit;
        piece->rank = ++tracker->units[unit].levels;
    }
    if (file->change_count > 0)
        add_unit(tracker, (struct crash_unit){.kind = CRASH_SIZE,
                                              .file = file,
                                              .levels = (unsigned)file->change_count});
    file->unit_count = tracker->unit_count - file->first_unit;
}

/* A file that no name, synced or pending, leads to is of no interest. */
static bool may_be_named(const struct crash_tracker *tracker, const struct crash_file *file)
{
    for (size_t i = 0; i < tracker->name_count; i++)
        if (tracker->names[i].inode == file->inode)
            return true;
    for (size_t i = 0; i < tracker->pending_count; i++)
        if (tracker->log->ops[tracker->pending_names[i]].inode == file->inode)
            return true;
    return false;
}

void crash_tracker_plan(struct crash_tracker *tracker)
{
    tracker->unit_count = 0;
    for (size_t i = 0; i < tracker->file_count; i++) {
        struct crash_file *file = tracker->files[i];

        if (file && !file->is_dir && may_be_named(tracker, file))
            plan_file(tracker, file);
    }
    for (size_t i = 0; i < tracker->pending_count; i++)
        add_unit(tracker, (struct crash_unit){
                              .kind = CRASH_NAME, .levels = 1, .op = tracker->pending_names[i]});
}

size_t crash_unit_op(const struct crash_tracker *tracker, size_t unit, unsigned level)
{
    const struct crash_unit *planned = &tracker->units[unit];

    if (planned->kind == CRASH_NAME)
        return planned->op;
    if (planned->kind == CRASH_SIZE)
        return planned->file->changes[level - 1].op;
    for (size_t i = 0; i < planned->file->piece_count; i++) {
        const struct crash_piece *piece = &planned->file->pieces[i];

        if (piece->unit == unit && piece->rank == level)
            return piece->op;
    }
    sim_fatal("unit %zu has no level %u", unit, level);
}

/* ---- going forward ---- */

/* Whether a sync takes the piece's page along. */
static bool covers(const struct crash_tracker *tracker, const struct simop *sync,
                   const struct crash_piece *piece)
{
    return (piece->page + 1) * tracker->page_bytes > sync->offset &&
           piece->page * tracker->page_bytes < sync->end;
}

static void sync_file(struct crash_tracker *tracker, const struct simop *sync,
                      struct crash_file *file)
{
    struct crash_choice choice = {0};
    struct simblob *durable;
    size_t kept = 0;

    tracker->unit_count = 0;
    plan_file(tracker, file);
    if (file->unit_count == 0 && file->durable)
        return;
    choice.levels = sim_allocate(tracker->unit_count * sizeof *choice.levels);
    for (size_t i = 0; i < tracker->unit_count; i++)
        choice.levels[i] = tracker->units[i].kind == CRASH_SIZE ? tracker->units[i].levels : 0;
    for (size_t i = 0; i < file->piece_count; i++)
        if (!file->pieces[i].stuck && covers(tracker, sync, &file->pieces[i]))
            choice.levels[file->pieces[i].unit] = tracker->units[file->pieces[i].unit].levels;
    durable = crash_build_file(tracker, &choice, file);
    simblob_release(file->durable);
    file->durable = durable;
    for (size_t i = 0; i < file->piece_count; i++)
        if (choice.levels[file->pieces[i].unit] == 0 && file->pieces[i].offset < file->size)
            file->pieces[kept++] = file->pieces[i];
    file->piece_count = kept;
    file->change_count = 0;
    free(choice.levels);
}

static bool page_is_stuck(const struct crash_file *file, size_t page)
{
    for (size_t i = 0; i < file->piece_count; i++)
        if (file->pieces[i].page == page && !file->pieces[i].stuck)
            return false;
    return true;
}

/* What a failed sync left clean and no write dirtied since is read from the disk again. Marks
 * first: a page is judged by all its pieces. */
static void evict_file(struct crash_file *file)
{
    size_t kept = 0;

    for (size_t i = 0; i < file->piece_count; i++)
        if (page_is_stuck(file, file->pieces[i].page))
            file->pieces[i].size = 0;
    for (size_t i = 0; i < file->piece_count; i++)
        if (file->pieces[i].size > 0)
            file->pieces[kept++] = file->pieces[i];
    file->piece_count = kept;
}

static void add_name(struct crash_tracker *tracker, size_t index)
{
    tracker->pending_names = grow(tracker->pending_names, tracker->pending_count,
                                  &tracker->pending_capacity, sizeof *tracker->pending_names);
    tracker->pending_names[tracker->pending_count++] = index;
}

static void take_entry(struct crash_tracker *tracker, size_t index)
{
    const struct simop *op = &tracker->log->ops[index];
    struct crash_file *file = file_of(tracker, op->inode);

    switch (op->kind) {
    case SIMOP_WRITE:
    case SIMOP_STORE:
        add_write(tracker, file, index);
        break;
    case SIMOP_TRUNCATE:
    case SIMOP_ALLOCATE:
        add_change(file, index, (size_t)op->offset);
        break;
    case SIMOP_MKDIR:
        file->is_dir = true;
        add_name(tracker, index);
        break;
    case SIMOP_CREATE:
    case SIMOP_RENAME:
    case SIMOP_UNLINK:
        add_name(tracker, index);
        break;
    case SIMOP_SYNC:
        sync_file(tracker, op, file);
        break;
    case SIMOP_SYNC_FAILED:
        for (size_t i = 0; i < file->piece_count; i++)
            file->pieces[i].stuck |= covers(tracker, op, &file->pieces[i]);
        break;
    case SIMOP_EVICT:
        evict_file(file);
        break;
    case SIMOP_DIRSYNC:
        sync_dir(tracker, op->inode);
        break;
    }
}

void crash_tracker_advance(struct crash_tracker *tracker, size_t position)
{
    while (tracker->position < position)
        take_entry(tracker, tracker->position++);
    tracker->unit_count = 0;
}
