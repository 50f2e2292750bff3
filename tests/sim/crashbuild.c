/* Builds the state that a choice of levels stands for. Rules: see crashstate.h. */
#include <stdlib.h>
#include <string.h>

#include "crash_internal.h"
#include "sim_internal.h"

/* ---- one file ---- */

/* Which part of a piece got through: all of it unless the write is torn. */
static void piece_part(const struct crash_tracker *tracker, const struct crash_choice *choice,
                       const struct crash_piece *piece, size_t *ret_from, size_t *ret_to)
{
    const struct simop *op = &tracker->log->ops[piece->op];

    *ret_from = piece->offset;
    *ret_to = piece->offset + piece->size;
    if (!choice->torn || piece->op + 1 != tracker->position)
        return;
    if (choice->torn_tail) {
        size_t start = (size_t)op->offset + op->size - choice->torn_size;

        *ret_from = *ret_from > start ? *ret_from : start;
    } else {
        size_t stop = (size_t)op->offset + choice->torn_size;

        *ret_to = *ret_to < stop ? *ret_to : stop;
    }
}

static unsigned sector_level(const struct crash_choice *choice, const struct crash_unit *unit,
                             unsigned level, size_t sector)
{
    uint64_t mixed = choice->mix_seed ^ unit->file->inode * 0x9e3779b97f4a7c15u ^ sector << 20;

    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((mixed >> 33) % (level + 1u));
}

static void apply_piece(const struct crash_tracker *tracker, const struct crash_choice *choice,
                        const struct crash_piece *piece, uint8_t *to)
{
    const struct crash_unit *unit = &tracker->units[piece->unit];
    unsigned level = choice->levels[piece->unit];
    size_t from;
    size_t end;

    piece_part(tracker, choice, piece, &from, &end);
    while (from < end) {
        size_t sector = from / tracker->sector_bytes;
        size_t stop = choice->mix_sectors ? (sector + 1) * tracker->sector_bytes : end;
        unsigned here = level;

        if (stop > end)
            stop = end;
        if (choice->mix_sectors)
            here = sector_level(choice, unit, level, sector);
        if (piece->rank <= here)
            memcpy(to + from, piece->bytes + (from - piece->offset), stop - from);
        from = stop;
    }
}

/* A truncation zeroes a page if it got through itself or if the page was written to later, which
 * writes back what the page cache held. */
static void apply_cut(const struct crash_tracker *tracker, const struct crash_choice *choice,
                      const struct crash_file *file, size_t change, uint8_t *to, size_t room)
{
    size_t cut = file->changes[change].size;
    bool through = choice->levels[file->first_unit + file->unit_count - 1] > change;

    for (size_t from = cut; from < room;) {
        size_t page = from / tracker->page_bytes;
        size_t stop = (page + 1) * tracker->page_bytes;
        bool zero = through;

        if (stop > room)
            stop = room;
        for (size_t i = 0; !zero && i < file->piece_count; i++) {
            const struct crash_piece *piece = &file->pieces[i];

            zero = piece->page == page && piece->op > file->changes[change].op &&
                   piece->rank <= choice->levels[piece->unit];
        }
        if (zero)
            memset(to + from, 0, stop - from);
        from = stop;
    }
}

static size_t chosen_size(const struct crash_tracker *tracker, const struct crash_choice *choice,
                          const struct crash_file *file)
{
    unsigned level = file->change_count ? choice->levels[file->first_unit + file->unit_count - 1]
                                        : 0;
    size_t before = file->durable ? file->durable->size : 0;
    const struct crash_change *change;
    const struct simop *op;

    if (level == 0)
        return before;
    change = &file->changes[level - 1];
    op = &tracker->log->ops[change->op];
    if (choice->torn && change->op + 1 == tracker->position && op->kind == SIMOP_WRITE &&
        !choice->torn_tail) {
        size_t torn = (size_t)op->offset + choice->torn_size;

        before = level > 1 ? file->changes[level - 2].size : before;
        return torn > before ? torn : before;
    }
    return change->size;
}

struct simblob *crash_build_file(const struct crash_tracker *tracker,
                                 const struct crash_choice *choice, const struct crash_file *file)
{
    size_t room = file->durable ? file->durable->size : 0;
    size_t size = chosen_size(tracker, choice, file);
    size_t change = 0;
    struct simblob *blob;
    uint8_t *bytes;

    for (size_t i = 0; i < file->change_count; i++)
        if (file->changes[i].size > room)
            room = file->changes[i].size;
    bytes = sim_allocate(room);
    memset(bytes, 0, room);
    if (file->durable)
        memcpy(bytes, file->durable->bytes, file->durable->size);
    for (size_t i = 0; i <= file->piece_count; i++) {
        size_t before = i < file->piece_count ? file->pieces[i].op : SIZE_MAX;

        for (; change < file->change_count && file->changes[change].op < before; change++)
            if (file->changes[change].cuts)
                apply_cut(tracker, choice, file, change, bytes, room);
        if (i < file->piece_count)
            apply_piece(tracker, choice, &file->pieces[i], bytes);
    }
    blob = simblob_create(bytes, size);
    free(bytes);
    return blob;
}

/* ---- all of it ---- */

/* An inode has one name at most, and a name one inode. */
void crash_name_apply(struct crash_name *names, size_t *count, const struct simop *op)
{
    const char *name = op->kind == SIMOP_RENAME ? op->to : op->name;
    bool removes = op->kind == SIMOP_UNLINK;
    size_t kept = 0;

    for (size_t i = 0; i < *count; i++) {
        bool same_name = names[i].parent == op->parent && names[i].name == name;
        bool same_inode = names[i].inode == op->inode;

        if (removes ? !(same_name && same_inode) : !(same_name || same_inode))
            names[kept++] = names[i];
    }
    *count = kept;
    if (!removes)
        names[(*count)++] = (struct crash_name){op->parent, op->inode, name};
}

/* The levels of a file's units: all 0, all at the top, or neither. */
static struct simblob *chosen_blob(struct crash_tracker *tracker, const struct crash_choice *choice,
                                   struct crash_file *file)
{
    bool all = true;
    bool none = true;
    bool special = choice->torn || choice->mix_sectors;
    struct simblob **built;

    if (file->unit_count == 0 && file->durable)
        return simblob_share(file->durable);
    for (size_t i = file->first_unit; i < file->first_unit + file->unit_count; i++) {
        all = all && choice->levels[i] == tracker->units[i].levels;
        none = none && choice->levels[i] == 0;
    }
    if ((!all && !none) || special)
        return crash_build_file(tracker, choice, file);
    built = all ? &file->all : &file->none;
    if (!*built)
        *built = crash_build_file(tracker, choice, file);
    return simblob_share(*built);
}

static void add_children(struct crash_tracker *tracker, const struct crash_choice *choice,
                         const struct crash_name *names, size_t count, uint64_t dir,
                         struct simimage *image)
{
    for (size_t i = 0; i < count; i++) {
        struct crash_file *file = tracker->files[names[i].inode];

        if (names[i].parent != dir)
            continue;
        simimage_add(image, names[i].inode, dir, names[i].name,
                     file->is_dir ? NULL : chosen_blob(tracker, choice, file));
        if (file->is_dir)
            add_children(tracker, choice, names, count, names[i].inode, image);
    }
}

void crash_tracker_build(struct crash_tracker *tracker, const struct crash_choice *choice,
                         struct simimage *image)
{
    size_t count = tracker->name_count;
    struct crash_name *names = sim_allocate((count + tracker->pending_count) * sizeof *names);

    simimage_clear(image);
    if (count > 0)
        memcpy(names, tracker->names, count * sizeof *names);
    for (size_t i = 0; i < tracker->pending_count; i++) {
        size_t unit = tracker->unit_count - tracker->pending_count + i;

        if (choice->levels[unit] > 0)
            crash_name_apply(names, &count, &tracker->log->ops[tracker->pending_names[i]]);
    }
    add_children(tracker, choice, names, count, SIM_ROOT, image);
    image->next_inode = tracker->file_count > SIM_ROOT ? tracker->file_count : SIM_ROOT + 1;
    free(names);
}

static struct simimage *image_at(const struct simlog *log, size_t position, bool all)
{
    struct crash_tracker *tracker = crash_tracker_create(log, SIM_PAGE_BYTES, 512);
    struct simimage *image = simimage_create();
    struct crash_choice choice = {0};

    crash_tracker_advance(tracker, position);
    crash_tracker_plan(tracker);
    choice.levels = sim_allocate(tracker->unit_count * sizeof *choice.levels);
    for (size_t i = 0; i < tracker->unit_count; i++)
        choice.levels[i] = all ? tracker->units[i].levels : 0;
    crash_tracker_build(tracker, &choice, image);
    free(choice.levels);
    crash_tracker_release(tracker);
    return image;
}

struct simimage *crash_image_all(const struct simlog *log, size_t position)
{
    return image_at(log, position, true);
}

struct simimage *crash_image_durable(const struct simlog *log, size_t position)
{
    return image_at(log, position, false);
}
