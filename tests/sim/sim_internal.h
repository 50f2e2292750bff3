/* What the parts of the simulated machine share. Nothing here is for tests.
 *
 *   simmem.c    memory: slots for file contents, and mappings
 *   simfs.c     the live tree of inodes, images of it, the log of its changes
 *   simfault.c  knobs, counts and faults
 *   simdir.c    the functions of io.h on directories and names
 *   simfile.c   those on files
 *   simmap.c    those on mappings, clocks and chance
 * All of it is guarded by one mutex, taken in the functions of io.h and in the entry points of
 * simdisk.h.
 */
#ifndef CASKADE_SIM_INTERNAL_H
#define CASKADE_SIM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "simdisk.h"
#include "simimage.h"
#include "simlog.h"

#define SIM_PAGE_BYTES ((size_t)4096)

struct sim_map;

struct sim_inode {
    uint64_t id;
    bool is_dir;
    struct sim_inode *parent; /* NULL: the root, or unlinked */
    const char *name;
    struct sim_inode *children;
    struct sim_inode *sibling;
    unsigned handles; /* of directories and files */
    bool locked;

    uint8_t *data; /* in the view of all contents */
    size_t capacity;
    size_t size;
    size_t high_water; /* no byte from here on was ever touched */
    uint8_t *blocks;   /* one byte per page: has it space on the disk? */
    size_t block_count;
    uint8_t *logged; /* once mapped for writing: the contents as the log knows them */
    size_t logged_capacity;
    struct sim_map *maps;
};

/* The whole machine. */
struct sim {
    struct sim_inode *root;
    uint64_t next_inode;
    uint64_t inodes;
    unsigned handles;
    unsigned maps;
    uint64_t used_blocks;
    uint64_t random_state;
    uint64_t boot;
    uint64_t failed_syncs;
    uint64_t clock_ms;
    uint64_t advanced_ms;
    struct simlog *log; /* NULL: not recording */
};

extern struct sim sim;

/* Above 0 while this thread is inside the simulation: its allocations are not the library's. */
extern _Thread_local unsigned sim_inside;

void sim_enter(void);
void sim_leave(void);
_Noreturn void sim_fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* simmem.c */
void simmem_grow(struct sim_inode *file, size_t capacity);
/* Sets the size; new bytes are zero, and mappings follow. */
void simmem_resize(struct sim_inode *file, size_t size);
void simmem_free(struct sim_inode *file);
void simmem_finish(void);
int simmem_map(struct sim_inode *file, size_t size, bool writable, void **ret_address);
/* Returns the file whose mapping it was; *ret_writable whether stores were possible. */
struct sim_inode *simmem_unmap(void *address, size_t size, bool *ret_writable);
void simmem_protect(void *address, size_t size);
void simmem_require_mapped(const void *address, size_t size);
bool simmem_may_store(const struct sim_inode *file, size_t offset, size_t size);

/* simfs.c */
struct sim_inode *simfs_child(const struct sim_inode *dir, const char *name);
struct sim_inode *simfs_create(struct sim_inode *dir, const char *name, bool is_dir);
void simfs_link(struct sim_inode *inode, struct sim_inode *dir, const char *name);
void simfs_unlink(struct sim_inode *inode);
/* Frees an inode that has neither name nor handle nor mapping. */
void simfs_drop_if_unused(struct sim_inode *inode);
void simfs_path(const struct sim_inode *inode, char *buffer, size_t size);
/* Gives every page of [0, size) a block, as far as the disk has room; returns the bytes covered. */
size_t simfs_take_blocks(struct sim_inode *file, size_t from, size_t size);
void simfs_give_blocks(struct sim_inode *file, size_t size);
void simfs_store(struct sim_inode *file, size_t offset, const void *bytes, size_t size);
void simfs_set_size(struct sim_inode *file, size_t size);
/* The log's copy of [offset, offset + size) is what the file holds now. */
void simfs_note_logged(struct sim_inode *file, size_t offset, size_t size);
void simfs_check_file(const struct sim_inode *file);
void simfs_log(enum simop_kind kind, const struct sim_inode *inode);
void simfs_log_sync(enum simop_kind kind, const struct sim_inode *inode, uint64_t from,
                    uint64_t end);
void simfs_log_name(enum simop_kind kind, const struct sim_inode *inode,
                    const struct sim_inode *parent, const char *name, const char *to);
void simfs_log_data(enum simop_kind kind, const struct sim_inode *file, uint64_t offset,
                    size_t size);

/* simfault.c */
struct sim_outcome {
    int status; /* CASK_OK: go on */
    unsigned short_permille;
};
struct sim_outcome simfault_call(enum simdisk_call call, const struct sim_inode *inode,
                                 const char *name);
bool simfault_ignores_sync(const struct sim_inode *inode);
uint64_t simfault_block_limit(void); /* 0: none */
bool simfault_refuses_name(void);
bool simfault_allocate_supported(void);
bool simfault_read_only(void);
void simfault_reset_counts(void);
void simfault_reset_knobs(void);

#endif
