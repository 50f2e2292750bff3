/* The live tree of the simulated disk, its images and the log of its changes.
 *
 * Invariants:
 *  1. An inode lives while it has a name, a handle or a mapping.
 *  2. A change is applied to the tree and to the log under one lock, in that order.
 *  3. Blocks are counted per page of 4096 bytes; a page without a block reads as zeros.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "caskade.h"
#include "sim_internal.h"

struct sim sim;

struct sim_inode *simfs_child(const struct sim_inode *dir, const char *name)
{
    for (struct sim_inode *child = dir->children; child; child = child->sibling)
        if (strcmp(child->name, name) == 0)
            return child;
    return NULL;
}

void simfs_link(struct sim_inode *inode, struct sim_inode *dir, const char *name)
{
    struct sim_inode **end = &dir->children;

    while (*end)
        end = &(*end)->sibling;
    *end = inode;
    inode->sibling = NULL;
    inode->parent = dir;
    inode->name = sim_intern(name);
}

static struct sim_inode *new_inode(uint64_t id, bool is_dir)
{
    struct sim_inode *inode = sim_allocate(sizeof *inode);

    memset(inode, 0, sizeof *inode);
    inode->id = id;
    inode->is_dir = is_dir;
    sim.inodes++;
    return inode;
}

struct sim_inode *simfs_create(struct sim_inode *dir, const char *name, bool is_dir)
{
    struct sim_inode *inode = new_inode(sim.next_inode++, is_dir);

    simfs_link(inode, dir, name);
    return inode;
}

void simfs_unlink(struct sim_inode *inode)
{
    struct sim_inode **link = &inode->parent->children;

    while (*link != inode)
        link = &(*link)->sibling;
    *link = inode->sibling;
    inode->sibling = NULL;
    inode->parent = NULL;
}

static void free_inode(struct sim_inode *inode)
{
    simfs_give_blocks(inode, 0);
    simmem_free(inode);
    free(inode->blocks);
    free(inode->logged);
    free(inode);
    sim.inodes--;
}

void simfs_drop_if_unused(struct sim_inode *inode)
{
    if (!inode->parent && inode != sim.root && inode->handles == 0 && !inode->maps)
        free_inode(inode);
}

void simfs_path(const struct sim_inode *inode, char *buffer, size_t size)
{
    size_t used;

    buffer[0] = '\0';
    if (inode == sim.root)
        return;
    if (!inode->parent) {
        snprintf(buffer, size, "(unlinked)/%s", inode->name);
        return;
    }
    simfs_path(inode->parent, buffer, size);
    used = strlen(buffer);
    snprintf(buffer + used, size - used, "/%s", inode->name);
}

static void blocks_reserve(struct sim_inode *file, size_t count)
{
    if (count <= file->block_count)
        return;
    file->blocks = sim_reallocate(file->blocks, count);
    memset(file->blocks + file->block_count, 0, count - file->block_count);
    file->block_count = count;
}

size_t simfs_take_blocks(struct sim_inode *file, size_t from, size_t size)
{
    size_t first = from / SIM_PAGE_BYTES;
    size_t end = (size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES;
    uint64_t limit = simfault_block_limit();

    blocks_reserve(file, end);
    for (size_t page = first; page < end; page++) {
        if (file->blocks[page])
            continue;
        if (limit > 0 && sim.used_blocks >= limit)
            return page * SIM_PAGE_BYTES > from ? page * SIM_PAGE_BYTES : from;
        file->blocks[page] = 1;
        sim.used_blocks++;
    }
    return size;
}

void simfs_give_blocks(struct sim_inode *file, size_t size)
{
    for (size_t page = (size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES; page < file->block_count;
         page++) {
        sim.used_blocks -= file->blocks[page];
        file->blocks[page] = 0;
    }
}

/* Once a file has been mapped for stores, the log's own copy of it is kept beside. */
void simfs_note_logged(struct sim_inode *file, size_t offset, size_t size)
{
    if (file->logged_capacity < file->size) {
        size_t capacity = file->capacity;

        file->logged = sim_reallocate(file->logged, capacity);
        memset(file->logged + file->logged_capacity, 0, capacity - file->logged_capacity);
        file->logged_capacity = capacity;
    }
    if (size > 0)
        memcpy(file->logged + offset, file->data + offset, size);
}

void simfs_store(struct sim_inode *file, size_t offset, const void *bytes, size_t size)
{
    if (offset + size > file->size)
        simfs_set_size(file, offset + size);
    if (size == 0)
        return;
    memcpy(file->data + offset, bytes, size);
    if (file->logged)
        simfs_note_logged(file, offset, size);
}

void simfs_set_size(struct sim_inode *file, size_t size)
{
    size_t before = file->size;

    simmem_resize(file, size);
    if (file->logged && size < before)
        memset(file->logged + size, 0, before - size);
}

void simfs_check_file(const struct sim_inode *file)
{
    size_t end = (file->size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES * SIM_PAGE_BYTES;
    char path[256];

    if (!file->logged || !file->parent)
        return;
    simfs_path(file, path, sizeof path);
    if (file->logged_capacity < file->size || memcmp(file->data, file->logged, file->size) != 0) {
        for (size_t i = 0; i < file->size; i++) {
            uint8_t known = i < file->logged_capacity ? file->logged[i] : 0;

            if (file->data[i] != known)
                sim_fatal("%s: byte %zu was stored without io_map_written()", path, i);
        }
    }
    for (size_t i = file->size; i < end && i < file->capacity; i++)
        if (file->data[i] != 0)
            sim_fatal("%s: byte %zu was stored behind the end, %zu", path, i, file->size);
}

void simfs_log(enum simop_kind kind, const struct sim_inode *inode)
{
    struct simop op = {.kind = kind, .inode = inode->id};

    if (sim.log)
        simlog_append(sim.log, &op);
}

void simfs_log_sync(enum simop_kind kind, const struct sim_inode *inode, uint64_t from,
                    uint64_t end)
{
    struct simop op = {.kind = kind, .inode = inode->id, .offset = from, .end = end};

    if (sim.log)
        simlog_append(sim.log, &op);
}

void simfs_log_name(enum simop_kind kind, const struct sim_inode *inode,
                    const struct sim_inode *parent, const char *name, const char *to)
{
    struct simop op = {
        .kind = kind, .inode = inode->id, .parent = parent->id, .name = name, .to = to};

    if (sim.log)
        simlog_append(sim.log, &op);
}

void simfs_log_data(enum simop_kind kind, const struct sim_inode *file, uint64_t offset,
                    size_t size)
{
    struct simop op = {.kind = kind, .inode = file->id, .offset = offset, .size = size};

    if (!sim.log)
        return;
    if (size > 0)
        op.bytes = file->data + offset;
    simlog_append(sim.log, &op);
}

static void free_tree(struct sim_inode *inode)
{
    while (inode->children) {
        struct sim_inode *child = inode->children;

        inode->children = child->sibling;
        free_tree(child);
    }
    free_inode(inode);
}

static void snapshot_children(const struct sim_inode *dir, struct simimage *image)
{
    for (const struct sim_inode *child = dir->children; child; child = child->sibling) {
        struct simblob *blob = NULL;

        if (!child->is_dir)
            blob = simblob_create(child->data, child->size);
        simimage_add(image, child->id, dir->id, child->name, blob);
        if (child->is_dir)
            snapshot_children(child, image);
    }
}

static struct simimage *snapshot(void)
{
    struct simimage *image = simimage_create();

    snapshot_children(sim.root, image);
    image->next_inode = sim.next_inode;
    return image;
}

struct simimage *simdisk_snapshot(void)
{
    struct simimage *image;

    sim_enter();
    image = snapshot();
    sim_leave();
    return image;
}

static void fresh_root(void)
{
    if (sim.handles > 0 || sim.maps > 0)
        sim_fatal("the machine is turned off with %u handles and %u mappings open", sim.handles,
                  sim.maps);
    if (sim.root)
        free_tree(sim.root);
    sim.root = new_inode(SIM_ROOT, true);
    sim.next_inode = SIM_ROOT + 1;
}

static void end_log(void)
{
    simlog_release(sim.log);
    sim.log = NULL;
}

void simdisk_reset(uint64_t seed)
{
    sim_enter();
    end_log();
    fresh_root();
    sim.random_state = seed;
    sim.boot = 1;
    sim.clock_ms = 1700000000000;
    sim.advanced_ms = 0;
    simfault_reset_knobs();
    sim_leave();
}

void simdisk_finish(void)
{
    sim_enter();
    end_log();
    fresh_root();
    free_tree(sim.root);
    sim.root = NULL;
    simmem_finish();
    sim_intern_clear();
    sim_leave();
}

static struct sim_inode *loaded_dir(struct sim_inode *const *dirs, size_t count, uint64_t id)
{
    while (count > 0)
        if (dirs[--count]->id == id)
            return dirs[count];
    sim_fatal("an image names a file before its directory");
}

static void load_entries(const struct simimage *image)
{
    struct sim_inode **dirs = sim_allocate((image->count + 1) * sizeof(struct sim_inode *));
    size_t dir_count = 0;

    dirs[dir_count++] = sim.root;
    for (size_t i = 0; i < image->count; i++) {
        const struct simimage_entry *entry = &image->entries[i];
        struct sim_inode *inode = new_inode(entry->inode, entry->blob == NULL);

        simfs_link(inode, loaded_dir(dirs, dir_count, entry->parent), entry->name);
        if (inode->is_dir) {
            dirs[dir_count++] = inode;
            continue;
        }
        if (simfs_take_blocks(inode, 0, entry->blob->size) < entry->blob->size)
            sim_fatal("the image is larger than the disk");
        simfs_store(inode, 0, entry->blob->bytes, entry->blob->size);
    }
    free(dirs);
}

void simdisk_load(const struct simimage *image, enum simdisk_boot boot)
{
    sim_enter();
    end_log();
    fresh_root();
    load_entries(image);
    sim.next_inode = image->next_inode;
    if (boot == SIMDISK_NEW_BOOT)
        sim.boot++;
    simfault_reset_counts();
    sim_leave();
}

void simdisk_check(void)
{
    struct sim_inode *stack[64];
    size_t depth = 0;

    sim_enter();
    stack[depth++] = sim.root;
    while (depth > 0) {
        struct sim_inode *dir = stack[--depth];

        for (struct sim_inode *child = dir->children; child; child = child->sibling) {
            if (!child->is_dir)
                simfs_check_file(child);
            else if (depth < 64)
                stack[depth++] = child;
        }
    }
    sim_leave();
}

void simdisk_record_begin(void)
{
    sim_enter();
    end_log();
    sim.log = simlog_create(snapshot());
    sim_leave();
}

void simdisk_record_resume(const struct simlog *resume, size_t position)
{
    sim_enter();
    end_log();
    sim.log = simlog_prefix(resume, position);
    sim_leave();
}

size_t simdisk_log_position(void)
{
    size_t position;

    sim_enter();
    position = sim.log ? sim.log->count : 0;
    sim_leave();
    return position;
}

struct simlog *simdisk_record_end(void)
{
    struct simlog *log;

    sim_enter();
    log = sim.log;
    sim.log = NULL;
    sim_leave();
    return log;
}

unsigned simdisk_open_handles(void)
{
    unsigned handles;

    sim_enter();
    handles = sim.handles;
    sim_leave();
    return handles;
}

unsigned simdisk_open_maps(void)
{
    unsigned count;

    sim_enter();
    count = sim.maps;
    sim_leave();
    return count;
}

uint64_t simdisk_used_bytes(void)
{
    uint64_t bytes;

    sim_enter();
    bytes = sim.used_blocks * SIM_PAGE_BYTES;
    sim_leave();
    return bytes;
}
