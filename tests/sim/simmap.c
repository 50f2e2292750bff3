/* io.h over the simulated machine: mappings, clocks and chance. Invariants: see simdisk.h. */
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "caskade.h"
#include "io/io.h"

#include "sim_files.h"
#include "sim_internal.h"

int io_map(struct io_file *file, size_t size, bool writable, void **ret_address)
{
    struct sim_outcome fault;

    sim_enter();
    if (writable)
        sim_require_writable(file, "writable mapping");
    fault = simfault_call(SIMDISK_MAP, file->inode, NULL);
    if (fault.status == CASK_OK)
        fault.status = simmem_map(file->inode, size, writable, ret_address);
    if (fault.status == CASK_OK && writable && !file->inode->logged)
        simfs_note_logged(file->inode, 0, file->inode->size);
    sim_leave();
    return fault.status;
}

void io_unmap(void *address, size_t size)
{
    struct sim_inode *file;
    bool writable;

    sim_enter();
    file = simmem_unmap(address, size, &writable);
    if (writable)
        simfs_check_file(file);
    simfs_drop_if_unused(file);
    sim_leave();
}

void io_map_settle(struct io_file *file, void *address, size_t offset, size_t size)
{
    (void)file;
    sim_enter();
    if (offset == 0)
        simmem_protect(address, size);
    else
        simmem_require_mapped((uint8_t *)address + offset, size);
    sim_leave();
}

void io_map_populate(void *address, size_t offset, size_t size)
{
    sim_enter();
    simmem_require_mapped((uint8_t *)address + offset, size);
    sim_leave();
}

void io_read_ahead(struct io_file *file, uint64_t offset, size_t size)
{
    (void)file;
    (void)offset;
    (void)size;
}

void io_map_read_ahead(const void *address, size_t offset, size_t size)
{
    (void)address;
    (void)offset;
    (void)size;
}

/* As if nothing were in the page cache. */
void io_close_on_exec(int fd)
{
    (void)fd; /* files here have none */
}

uint64_t io_thread_reads(void)
{
    static _Atomic uint64_t reads;

    return atomic_fetch_add(&reads, 1);
}

/* The kernel would deliver SIGBUS for a store into a page without a block on a full disk. */
static void require_blocks(const struct sim_inode *file, size_t offset, size_t size,
                           const char *path)
{
    size_t end = (offset + size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES;

    for (size_t page = offset / SIM_PAGE_BYTES; page < end; page++)
        if (page >= file->block_count || !file->blocks[page])
            sim_fatal("%s: a store at %zu into a hole", path, offset);
}

void io_map_written(struct io_file *file, uint64_t offset, size_t size)
{
    struct sim_inode *inode = file->inode;
    char path[256];

    sim_enter();
    simfs_path(inode, path, sizeof path);
    if (offset + size > inode->size || !simmem_may_store(inode, (size_t)offset, size))
        sim_fatal("%s: io_map_written(%llu, %zu) behind the end or without a mapping", path,
                  (unsigned long long)offset, size);
    require_blocks(inode, (size_t)offset, size, path);
    simfs_note_logged(inode, (size_t)offset, size);
    if (size > 0)
        simfs_log_data(SIMOP_STORE, inode, offset, size);
    sim_leave();
}

uint64_t io_clock_ms(void)
{
    uint64_t now;

    sim_enter();
    now = sim.clock_ms;
    sim_leave();
    return now;
}

/* The library's threads wait in real time, so this clock runs. */
uint64_t io_monotonic_ms(void)
{
    struct timespec now;
    uint64_t advanced;

    sim_enter();
    advanced = sim.advanced_ms;
    sim_leave();
    clock_gettime(CLOCK_MONOTONIC, &now);
    return advanced + (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void io_boot_id(uint8_t ret_id[16])
{
    sim_enter();
    memset(ret_id, 0xb0, 16);
    put_u64(ret_id, sim.boot);
    sim_leave();
}

/* splitmix64 (Vigna, https://prng.di.unimi.it/splitmix64.c) */
static uint64_t next_random(void)
{
    uint64_t z = sim.random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int io_random(void *buffer, size_t size)
{
    struct sim_outcome fault;
    uint8_t *to = buffer;

    sim_enter();
    fault = simfault_call(SIMDISK_RANDOM, NULL, NULL);
    for (size_t done = 0; fault.status == CASK_OK && done < size; done += 8) {
        uint64_t value = next_random();

        memcpy(to + done, &value, size - done < 8 ? size - done : 8);
    }
    sim_leave();
    return fault.status;
}
