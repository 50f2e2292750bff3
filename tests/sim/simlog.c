/* The log of a simulated disk. Invariants: see simlog.h. */
#include "simlog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_internal.h"

#define CHUNK_BYTES ((size_t)64 << 10)

struct simlog_chunk {
    struct simlog_chunk *next;
    size_t used;
    size_t size;
    uint8_t bytes[];
};

struct simlog *simlog_create(struct simimage *base)
{
    struct simlog *log = sim_allocate(sizeof *log);

    memset(log, 0, sizeof *log);
    log->base = base;
    return log;
}

void simlog_release(struct simlog *log)
{
    if (!log)
        return;
    while (log->chunks) {
        struct simlog_chunk *next = log->chunks->next;

        free(log->chunks);
        log->chunks = next;
    }
    simimage_release(log->base);
    free(log->ops);
    free(log);
}

static const uint8_t *keep_bytes(struct simlog *log, const uint8_t *bytes, size_t size)
{
    struct simlog_chunk *chunk = log->chunks;
    uint8_t *to;

    if (!chunk || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;

        chunk = sim_allocate(sizeof *chunk + room);
        chunk->used = 0;
        chunk->size = room;
        chunk->next = log->chunks;
        log->chunks = chunk;
    }
    to = chunk->bytes + chunk->used;
    memcpy(to, bytes, size);
    chunk->used += size;
    return to;
}

void simlog_append(struct simlog *log, const struct simop *op)
{
    struct simop *copy;

    if (log->count == log->capacity) {
        log->capacity = log->capacity * 2 + 64;
        log->ops = sim_reallocate(log->ops, log->capacity * sizeof *log->ops);
    }
    copy = &log->ops[log->count++];
    *copy = *op;
    copy->name = op->name ? sim_intern(op->name) : NULL;
    copy->to = op->to ? sim_intern(op->to) : NULL;
    copy->bytes = op->size > 0 ? keep_bytes(log, op->bytes, op->size) : NULL;
}

struct simlog *simlog_prefix(const struct simlog *log, size_t count)
{
    struct simlog *copy = simlog_create(simimage_copy(log->base));

    for (size_t i = 0; i < count; i++)
        simlog_append(copy, &log->ops[i]);
    return copy;
}

const char *simop_name(enum simop_kind kind)
{
    switch (kind) {
    case SIMOP_WRITE:
        return "write";
    case SIMOP_STORE:
        return "store";
    case SIMOP_TRUNCATE:
        return "truncate";
    case SIMOP_ALLOCATE:
        return "allocate";
    case SIMOP_CREATE:
        return "create";
    case SIMOP_MKDIR:
        return "mkdir";
    case SIMOP_RENAME:
        return "rename";
    case SIMOP_UNLINK:
        return "unlink";
    case SIMOP_SYNC:
        return "sync";
    case SIMOP_SYNC_FAILED:
        return "failed sync";
    case SIMOP_EVICT:
        return "evict";
    case SIMOP_DIRSYNC:
        return "directory sync";
    }
    return "?";
}

/* The last entry before position that gave the inode its name, else its place in the base. */
void simlog_path(const struct simlog *log, size_t position, uint64_t inode, char *buffer,
                 size_t size)
{
    if (size > 0)
        buffer[0] = '\0';
    if (inode == SIM_ROOT || size == 0)
        return;
    for (size_t i = position; i-- > 0;) {
        const struct simop *op = &log->ops[i];
        bool names = op->kind == SIMOP_CREATE || op->kind == SIMOP_MKDIR ||
                     op->kind == SIMOP_RENAME;
        size_t used;

        if (!names || op->inode != inode)
            continue;
        simlog_path(log, i, op->parent, buffer, size);
        used = strlen(buffer);
        snprintf(buffer + used, size - used, "/%s", op->kind == SIMOP_RENAME ? op->to : op->name);
        return;
    }
    for (size_t i = 0; i < log->base->count; i++) {
        if (log->base->entries[i].inode == inode) {
            simimage_path(log->base, &log->base->entries[i], buffer, size);
            return;
        }
    }
    snprintf(buffer, size, "?");
}

void simlog_describe(const struct simlog *log, size_t index, char *buffer, size_t size)
{
    const struct simop *op = &log->ops[index];
    char path[256];
    unsigned long long offset = op->offset;

    simlog_path(log, index + 1, op->inode, path, sizeof path);
    switch (op->kind) {
    case SIMOP_WRITE:
    case SIMOP_STORE:
        snprintf(buffer, size, "%s %s [%llu, +%zu)", simop_name(op->kind), path, offset, op->size);
        break;
    case SIMOP_TRUNCATE:
    case SIMOP_ALLOCATE:
        snprintf(buffer, size, "%s %s to %llu", simop_name(op->kind), path, offset);
        break;
    case SIMOP_RENAME:
        snprintf(buffer, size, "rename %s to %s", op->name, path);
        break;
    default:
        snprintf(buffer, size, "%s %s", simop_name(op->kind), path);
        break;
    }
}
