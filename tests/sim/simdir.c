/* io.h over the simulated machine: directories and names. Invariants: see simdisk.h. */
#include "simdisk.h"

#include <stdlib.h>
#include <string.h>

#include "caskade.h"
#include "io/io.h"
#include "sim_files.h"
#include "sim_internal.h"

/* ---- directories ---- */

/* The directory that holds the last part of path, and that part. */
static int walk(const char *path, struct sim_inode **ret_dir, char *ret_last, size_t size)
{
    struct sim_inode *dir = sim.root;

    ret_last[0] = '\0';
    for (;;) {
        size_t length;

        path += strspn(path, "/");
        length = strcspn(path, "/");
        if (length == 0) {
            *ret_dir = dir;
            return CASK_OK;
        }
        if (length >= size)
            return CASK_EIO; /* ENAMETOOLONG */
        if (ret_last[0] != '\0') {
            dir = simfs_child(dir, ret_last);
            if (!dir)
                return CASK_NOTFOUND;
            if (!dir->is_dir)
                return CASK_ENOTSTORE;
        }
        memcpy(ret_last, path, length);
        ret_last[length] = '\0';
        if (strcmp(ret_last, ".") == 0)
            ret_last[0] = '\0';
        path += length;
    }
}

int sim_check_new_name(const struct sim_inode *dir, const char *name)
{
    if (simfs_child(dir, name))
        return CASK_EEXIST;
    if (simfault_read_only())
        return CASK_EROFS;
    if (!dir->parent && dir != sim.root)
        return CASK_NOTFOUND; /* the directory itself has been removed */
    return simfault_refuses_name() ? CASK_ENOSPC : CASK_OK;
}

static int make_dir(struct sim_inode *parent, const char *name)
{
    struct sim_outcome fault = simfault_call(SIMDISK_DIR_MAKE, parent, name);
    int status = fault.status != CASK_OK ? fault.status : sim_check_new_name(parent, name);

    if (status == CASK_OK)
        simfs_log_name(SIMOP_MKDIR, simfs_create(parent, name, true), parent, name, NULL);
    return status;
}

int io_dir_make(const char *path)
{
    struct sim_inode *parent;
    char name[256];
    int status;

    sim_enter();
    status = walk(path, &parent, name, sizeof name);
    if (status == CASK_OK)
        status = name[0] == '\0' ? CASK_EEXIST : make_dir(parent, name);
    sim_leave();
    return status;
}

int io_dir_make_at(struct io_dir *parent, const char *name)
{
    int status;

    sim_enter();
    status = make_dir(parent->inode, name);
    sim_leave();
    return status;
}

static int open_dir(struct sim_inode *parent, const char *name, struct io_dir **ret_dir)
{
    struct sim_inode *inode = name[0] == '\0' ? parent : simfs_child(parent, name);
    struct sim_outcome fault = simfault_call(SIMDISK_DIR_OPEN, parent, name);
    struct io_dir *dir;

    if (fault.status != CASK_OK)
        return fault.status;
    if (!inode)
        return CASK_NOTFOUND;
    if (!inode->is_dir)
        return CASK_ENOTSTORE;
    dir = sim_allocate(sizeof *dir);
    dir->inode = inode;
    inode->handles++;
    sim.handles++;
    *ret_dir = dir;
    return CASK_OK;
}

int io_dir_open(const char *path, struct io_dir **ret_dir)
{
    struct sim_inode *parent;
    char name[256];
    int status;

    sim_enter();
    status = walk(path, &parent, name, sizeof name);
    if (status == CASK_OK)
        status = open_dir(parent, name, ret_dir);
    sim_leave();
    return status;
}

int io_dir_open_at(struct io_dir *parent, const char *name, struct io_dir **ret_dir)
{
    int status;

    sim_enter();
    status = open_dir(parent->inode, name, ret_dir);
    sim_leave();
    return status;
}

static int sync_dir(const struct sim_inode *inode, enum simdisk_call call)
{
    struct sim_outcome fault = simfault_call(call, inode, NULL);

    if (fault.status == CASK_OK && !simfault_ignores_sync(inode))
        simfs_log(SIMOP_DIRSYNC, inode);
    return fault.status;
}

int io_dir_sync(struct io_dir *dir)
{
    int status;

    sim_enter();
    status = sync_dir(dir->inode, SIMDISK_DIR_SYNC);
    sim_leave();
    return status;
}

uint64_t io_free_bytes(struct io_dir *dir)
{
    uint64_t limit;
    uint64_t used;

    (void)dir;
    sim_enter();
    limit = simfault_block_limit();
    used = sim.used_blocks;
    sim_leave();
    if (limit == 0)
        return UINT64_MAX;
    return used < limit ? (limit - used) * SIM_PAGE_BYTES : 0;
}

int io_dir_sync_parent(struct io_dir *dir)
{
    const struct sim_inode *inode = dir->inode;
    int status;

    sim_enter();
    status = sync_dir(inode->parent ? inode->parent : inode, SIMDISK_DIR_SYNC_PARENT);
    sim_leave();
    return status;
}

void io_dir_close(struct io_dir *dir)
{
    if (!dir)
        return;
    sim_enter();
    dir->inode->handles--;
    sim.handles--;
    simfs_drop_if_unused(dir->inode);
    free(dir);
    sim_leave();
}

int io_dir_list(struct io_dir *dir, char **ret_names)
{
    struct sim_outcome fault;
    size_t size = 1;
    char *names;
    char *to;

    sim_enter();
    fault = simfault_call(SIMDISK_DIR_LIST, dir->inode, NULL);
    if (fault.status == CASK_OK) {
        for (const struct sim_inode *i = dir->inode->children; i; i = i->sibling)
            size += strlen(i->name) + 1;
        names = to = sim_allocate(size);
        for (const struct sim_inode *i = dir->inode->children; i; i = i->sibling) {
            memcpy(to, i->name, strlen(i->name) + 1);
            to += strlen(i->name) + 1;
        }
        *to = '\0';
        *ret_names = names;
    }
    sim_leave();
    return fault.status;
}

int io_dir_writable(struct io_dir *dir)
{
    struct sim_outcome fault;

    sim_enter();
    fault = simfault_call(SIMDISK_DIR_WRITABLE, dir->inode, NULL);
    if (fault.status == CASK_OK && simfault_read_only())
        fault.status = CASK_EROFS;
    sim_leave();
    return fault.status;
}

/* ---- names ---- */

static int rename_at(struct sim_inode *dir, const char *from, const char *to)
{
    struct sim_outcome fault = simfault_call(SIMDISK_RENAME, dir, from);
    struct sim_inode *inode = simfs_child(dir, from);
    struct sim_inode *replaced = simfs_child(dir, to);

    if (fault.status != CASK_OK)
        return fault.status;
    if (!inode)
        return CASK_NOTFOUND;
    if (simfault_read_only())
        return CASK_EROFS;
    if (replaced == inode)
        return CASK_OK;
    if (replaced && replaced->is_dir != inode->is_dir)
        return CASK_EIO; /* EISDIR, ENOTDIR */
    if (replaced && replaced->children)
        return CASK_EEXIST;
    simfs_log_name(SIMOP_RENAME, inode, dir, from, to);
    if (replaced) {
        simfs_unlink(replaced);
        simfs_drop_if_unused(replaced);
    }
    simfs_unlink(inode);
    simfs_link(inode, dir, to);
    return CASK_OK;
}

int io_rename(struct io_dir *dir, const char *from, const char *to)
{
    int status;

    sim_enter();
    status = rename_at(dir->inode, from, to);
    sim_leave();
    return status;
}

static int unlink_at(struct sim_inode *dir, const char *name, enum simdisk_call call)
{
    struct sim_outcome fault = simfault_call(call, dir, name);
    struct sim_inode *inode = simfs_child(dir, name);

    if (fault.status != CASK_OK)
        return fault.status;
    if (!inode)
        return CASK_NOTFOUND;
    if (simfault_read_only())
        return CASK_EROFS;
    if (inode->is_dir != (call == SIMDISK_DIR_REMOVE))
        return CASK_EIO; /* EISDIR, ENOTDIR */
    if (inode->children)
        return CASK_EEXIST; /* ENOTEMPTY */
    simfs_log_name(SIMOP_UNLINK, inode, dir, name, NULL);
    simfs_unlink(inode);
    simfs_drop_if_unused(inode);
    return CASK_OK;
}

int io_unlink(struct io_dir *dir, const char *name)
{
    int status;

    sim_enter();
    status = unlink_at(dir->inode, name, SIMDISK_UNLINK);
    sim_leave();
    return status;
}

int io_dir_remove(const char *path)
{
    struct sim_inode *parent;
    char name[256];
    int status;

    sim_enter();
    status = walk(path, &parent, name, sizeof name);
    if (status == CASK_OK)
        status = name[0] == '\0' ? CASK_EIO : unlink_at(parent, name, SIMDISK_DIR_REMOVE);
    sim_leave();
    return status;
}

int io_dir_remove_at(struct io_dir *parent, const char *name)
{
    int status;

    sim_enter();
    status = unlink_at(parent->inode, name, SIMDISK_DIR_REMOVE);
    sim_leave();
    return status;
}
