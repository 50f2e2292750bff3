/* A disk's contents as a value: a list of names, each a directory or a file with shared bytes.
 *
 * Invariants:
 *  1. Parents stand before their children; the root (inode SIM_ROOT) is not listed.
 *  2. A blob never changes once made; images share blobs by counting.
 *  3. Equal trees have equal hashes, whatever their inode numbers and their order.
 * Not thread-safe: one thread at a time builds and drops images.
 */
#ifndef CASKADE_SIMIMAGE_H
#define CASKADE_SIMIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_ROOT 1u

struct simblob {
    unsigned references;
    uint64_t hash;
    size_t size;
    uint8_t bytes[];
};

struct simblob *simblob_create(const void *bytes, size_t size);
struct simblob *simblob_share(struct simblob *blob);
void simblob_release(struct simblob *blob);

struct simimage_entry {
    uint64_t inode;
    uint64_t parent;
    uint64_t path_hash;
    const char *name;     /* interned */
    struct simblob *blob; /* NULL: a directory */
};

struct simimage {
    size_t count;
    size_t capacity;
    struct simimage_entry *entries;
    uint64_t next_inode;
};

struct simimage *simimage_create(void);
struct simimage *simimage_copy(const struct simimage *image);
void simimage_clear(struct simimage *image);
void simimage_release(struct simimage *image);

/* Takes over the caller's reference to blob. */
void simimage_add(struct simimage *image, uint64_t inode, uint64_t parent, const char *name,
                  struct simblob *blob);
uint64_t simimage_hash(const struct simimage *image);

/* The entry at a path such as "/store/shard-000/MANIFEST", or NULL. */
const struct simimage_entry *simimage_find(const struct simimage *image, const char *path);
/* Writes an entry's path to buffer, cut to size. */
void simimage_path(const struct simimage *image, const struct simimage_entry *entry, char *buffer,
                   size_t size);
/* The first path in which two images differ, or false if they are equal. */
bool simimage_differs(const struct simimage *a, const struct simimage *b, char *ret_path,
                      size_t size);
/* Writes the image to a real directory, to look at a failing state with other tools. */
bool simimage_dump(const struct simimage *image, const char *directory);

/* One lasting copy of a name; equal names are equal pointers. */
const char *sim_intern(const char *name);
void sim_intern_clear(void);

/* malloc or abort; counted by no fault injection. */
void *sim_allocate(size_t size);
void *sim_reallocate(void *memory, size_t size);

#endif
