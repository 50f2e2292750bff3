/* The total order of all that a machine did to its disk.
 *
 * Invariants:
 *  1. The base is the durable content when the log began; entry i is applied to what entries 0..i-1
 *     left. Entries are never changed or removed.
 *  2. Only what succeeded is logged, in the extent in which it did.
 */
#ifndef CASKADE_SIMLOG_H
#define CASKADE_SIMLOG_H

#include <stddef.h>
#include <stdint.h>

#include "simimage.h"

enum simop_kind {
    SIMOP_WRITE,
    SIMOP_STORE, /* into a mapping */
    SIMOP_TRUNCATE,
    SIMOP_ALLOCATE,
    SIMOP_CREATE,
    SIMOP_MKDIR,
    SIMOP_RENAME,
    SIMOP_UNLINK, /* a file or a directory */
    SIMOP_SYNC,
    SIMOP_SYNC_FAILED,
    SIMOP_EVICT, /* the pages that failed syncs left clean are forgotten */
    SIMOP_DIRSYNC
};

struct simop {
    enum simop_kind kind;
    uint64_t inode;   /* the file, or the directory of DIRSYNC; what gets or loses the name */
    uint64_t parent;  /* the directory of CREATE, MKDIR, RENAME, UNLINK */
    const char *name; /* interned; of the new file, the old name of RENAME */
    const char *to;   /* the new name of RENAME */
    uint64_t offset;  /* of WRITE, STORE and SYNC; the new size of TRUNCATE and ALLOCATE */
    uint64_t end;     /* of SYNC and SYNC_FAILED */
    size_t size;      /* of WRITE and STORE */
    const uint8_t *bytes;
};

struct simlog_chunk;

struct simlog {
    struct simimage *base;
    size_t count;
    size_t capacity;
    struct simop *ops;
    struct simlog_chunk *chunks;
};

/* Takes over base. */
struct simlog *simlog_create(struct simimage *base);
void simlog_release(struct simlog *log);

/* Adds a copy of op, with a copy of its bytes. */
void simlog_append(struct simlog *log, const struct simop *op);

/* A new log with the same base and the first count entries. */
struct simlog *simlog_prefix(const struct simlog *log, size_t count);

const char *simop_name(enum simop_kind kind);
/* One line that tells what the entry did. */
void simlog_describe(const struct simlog *log, size_t index, char *buffer, size_t size);
/* The path an inode had last before entry `position`; "?" if none is known. */
void simlog_path(const struct simlog *log, size_t position, uint64_t inode, char *buffer,
                 size_t size);

#endif
