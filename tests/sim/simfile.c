/* io.h over the simulated machine: files. Invariants: see simdisk.h. */
#include <stdlib.h>
#include <string.h>

#include "caskade.h"
#include "io/io.h"
#include "sim_files.h"
#include "sim_internal.h"

static void wrap_file(struct sim_inode *inode, enum io_open_mode mode, struct io_file **ret_file)
{
    struct io_file *file = sim_allocate(sizeof *file);

    file->inode = inode;
    file->mode = mode;
    file->holds_lock = false;
    inode->handles++;
    sim.handles++;
    *ret_file = file;
}

static int open_file(struct sim_inode *dir, const char *name, enum io_open_mode mode,
                     struct io_file **ret_file)
{
    enum simdisk_call call = mode == IO_CREATE_NEW ? SIMDISK_CREATE : SIMDISK_OPEN;
    struct sim_outcome fault = simfault_call(call, dir, name);
    struct sim_inode *inode = simfs_child(dir, name);
    int status = fault.status;

    if (status == CASK_OK && mode == IO_CREATE_NEW)
        status = sim_check_new_name(dir, name);
    else if (status == CASK_OK && !inode)
        status = CASK_NOTFOUND;
    else if (status == CASK_OK && inode->is_dir)
        status = CASK_ENOTSTORE;
    else if (status == CASK_OK && mode == IO_WRITE && simfault_read_only())
        status = CASK_EROFS;
    if (status != CASK_OK)
        return status;
    if (mode == IO_CREATE_NEW) {
        inode = simfs_create(dir, name, false);
        simfs_log_name(SIMOP_CREATE, inode, dir, name, NULL);
    }
    wrap_file(inode, mode, ret_file);
    return CASK_OK;
}

int io_open(struct io_dir *dir, const char *name, enum io_open_mode mode, struct io_file **ret_file)
{
    int status;

    sim_enter();
    status = open_file(dir->inode, name, mode, ret_file);
    sim_leave();
    return status;
}

static int lock_file(struct sim_inode *dir, const char *name, struct io_file **ret_file)
{
    struct sim_outcome fault = simfault_call(SIMDISK_LOCK, dir, name);
    struct sim_inode *inode = simfs_child(dir, name);
    int status = fault.status;

    if (status == CASK_OK && !inode)
        status = sim_check_new_name(dir, name);
    else if (status == CASK_OK && inode->is_dir)
        status = CASK_ENOTSTORE;
    else if (status == CASK_OK && simfault_read_only())
        status = CASK_EROFS;
    else if (status == CASK_OK && inode->locked)
        status = CASK_ELOCKED;
    if (status != CASK_OK)
        return status;
    if (!inode) {
        inode = simfs_create(dir, name, false);
        simfs_log_name(SIMOP_CREATE, inode, dir, name, NULL);
    }
    wrap_file(inode, IO_WRITE, ret_file);
    inode->locked = true;
    (*ret_file)->holds_lock = true;
    return CASK_OK;
}

int io_lock(struct io_dir *dir, const char *name, struct io_file **ret_file)
{
    int status;

    sim_enter();
    status = lock_file(dir->inode, name, ret_file);
    sim_leave();
    return status;
}

void io_close(struct io_file *file)
{
    if (!file)
        return;
    sim_enter();
    if (file->holds_lock)
        file->inode->locked = false;
    file->inode->handles--;
    sim.handles--;
    simfs_drop_if_unused(file->inode);
    free(file);
    sim_leave();
}

int io_size(struct io_file *file, uint64_t *ret_size)
{
    struct sim_outcome fault;

    sim_enter();
    fault = simfault_call(SIMDISK_SIZE, file->inode, NULL);
    if (fault.status == CASK_OK)
        *ret_size = file->inode->size;
    sim_leave();
    return fault.status;
}

int io_disk_bytes(struct io_file *file, uint64_t *ret_bytes)
{
    struct sim_outcome fault;
    uint64_t blocks = 0;

    sim_enter();
    fault = simfault_call(SIMDISK_SIZE, file->inode, NULL);
    for (size_t i = 0; i < file->inode->block_count; i++)
        blocks += file->inode->blocks[i];
    if (fault.status == CASK_OK)
        *ret_bytes = blocks * SIM_PAGE_BYTES;
    sim_leave();
    return fault.status;
}

/* A bad sector: what lies before it has been read, and is of no use. */
int io_read(struct io_file *file, uint64_t offset, void *buffer, size_t size, size_t *ret_read)
{
    struct sim_outcome fault;
    size_t available = 0;

    sim_enter();
    fault = simfault_call(SIMDISK_READ, file->inode, NULL);
    if (offset < file->inode->size)
        available = file->inode->size - (size_t)offset;
    if (available > size)
        available = size;
    if (fault.status != CASK_OK)
        available = available * fault.short_permille / 1000;
    if (available > 0)
        memcpy(buffer, file->inode->data + offset, available);
    if (fault.status == CASK_OK && ret_read)
        *ret_read = available;
    else if (fault.status == CASK_OK && available < size)
        fault.status = CASK_ECORRUPT;
    sim_leave();
    return fault.status;
}

void sim_require_writable(const struct io_file *file, const char *what)
{
    char path[256];

    simfs_path(file->inode, path, sizeof path);
    if (file->mode == IO_READ)
        sim_fatal("%s of %s, which was opened for reading", what, path);
}

int io_write(struct io_file *file, uint64_t offset, const void *data, size_t size)
{
    struct sim_outcome fault;
    size_t covered;

    sim_enter();
    sim_require_writable(file, "write");
    fault = simfault_call(SIMDISK_WRITE, file->inode, NULL);
    if (fault.status != CASK_OK)
        size = size * fault.short_permille / 1000;
    covered = simfs_take_blocks(file->inode, (size_t)offset, (size_t)offset + size) -
              (size_t)offset;
    if (fault.status == CASK_OK && covered < size)
        fault.status = CASK_ENOSPC;
    if (covered > 0) {
        simfs_store(file->inode, (size_t)offset, data, covered);
        simfs_log_data(SIMOP_WRITE, file->inode, offset, covered);
    }
    sim_leave();
    return fault.status;
}

int io_allocate(struct io_file *file, uint64_t size)
{
    struct sim_outcome fault;
    size_t wanted = (size_t)size;
    size_t covered;

    sim_enter();
    sim_require_writable(file, "allocate");
    fault = simfault_call(SIMDISK_ALLOCATE, file->inode, NULL);
    if (fault.status == CASK_OK && !simfault_allocate_supported())
        fault.status = CASK_ENOTSUP;
    if (fault.status == CASK_ENOTSUP)
        wanted = 0;
    else if (fault.status != CASK_OK)
        wanted = wanted * fault.short_permille / 1000;
    covered = simfs_take_blocks(file->inode, 0, wanted);
    if (fault.status == CASK_OK && covered < wanted)
        fault.status = CASK_ENOSPC;
    if (covered > file->inode->size) {
        simfs_set_size(file->inode, covered);
        simfs_log_data(SIMOP_ALLOCATE, file->inode, covered, 0);
    }
    sim_leave();
    return fault.status;
}

int io_truncate(struct io_file *file, uint64_t size)
{
    struct sim_outcome fault;

    sim_enter();
    sim_require_writable(file, "truncate");
    fault = simfault_call(SIMDISK_TRUNCATE, file->inode, NULL);
    if (fault.status == CASK_OK && size != file->inode->size) {
        simfs_set_size(file->inode, (size_t)size);
        simfs_give_blocks(file->inode, (size_t)size);
        simfs_log_data(SIMOP_TRUNCATE, file->inode, size, 0);
    }
    sim_leave();
    return fault.status;
}

static int sync_range(struct sim_inode *inode, uint64_t from, uint64_t end)
{
    struct sim_outcome fault;

    sim_enter();
    fault = simfault_call(SIMDISK_SYNC, inode, NULL);
    if (fault.status != CASK_OK) {
        sim.failed_syncs++;
        simfs_log_sync(SIMOP_SYNC_FAILED, inode, from, end);
    } else if (!simfault_ignores_sync(inode)) {
        simfs_log_sync(SIMOP_SYNC, inode, from, end);
    }
    sim_leave();
    return fault.status;
}

int io_sync(struct io_file *file)
{
    return sync_range(file->inode, 0, UINT64_MAX);
}

int io_sync_mapped(struct io_file *file, void *address, uint64_t offset, uint64_t size)
{
    if (!address || offset % IO_PAGE_BYTES_MAX != 0)
        sim_fatal("io_sync_mapped(%llu, %llu)", (unsigned long long)offset,
                  (unsigned long long)size);
    return sync_range(file->inode, offset, offset + size);
}
