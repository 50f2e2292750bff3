/* Images of a disk. Invariants: see simimage.h. */
#include "simimage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "sim_internal.h"

#define NAME_BUCKETS 1024

struct name {
    struct name *next;
    char text[];
};

static struct name *names[NAME_BUCKETS];

void *sim_allocate(size_t size)
{
    void *memory;

    sim_inside++;
    memory = malloc(size ? size : 1);
    sim_inside--;
    if (!memory)
        sim_fatal("out of memory");
    return memory;
}

void *sim_reallocate(void *memory, size_t size)
{
    void *grown;

    sim_inside++;
    grown = realloc(memory, size);
    sim_inside--;
    if (!grown)
        sim_fatal("out of memory");
    return grown;
}

const char *sim_intern(const char *text)
{
    size_t size = strlen(text) + 1;
    struct name **bucket = &names[XXH3_64bits(text, size) % NAME_BUCKETS];
    struct name *name;

    for (name = *bucket; name; name = name->next)
        if (strcmp(name->text, text) == 0)
            return name->text;
    name = sim_allocate(sizeof *name + size);
    memcpy(name->text, text, size);
    name->next = *bucket;
    *bucket = name;
    return name->text;
}

void sim_intern_clear(void)
{
    for (size_t i = 0; i < NAME_BUCKETS; i++) {
        while (names[i]) {
            struct name *next = names[i]->next;

            free(names[i]);
            names[i] = next;
        }
    }
}

struct simblob *simblob_create(const void *bytes, size_t size)
{
    struct simblob *blob = sim_allocate(sizeof *blob + size);

    blob->references = 1;
    blob->size = size;
    if (size > 0)
        memcpy(blob->bytes, bytes, size);
    blob->hash = XXH3_64bits_withSeed(blob->bytes, size, size);
    return blob;
}

struct simblob *simblob_share(struct simblob *blob)
{
    blob->references++;
    return blob;
}

void simblob_release(struct simblob *blob)
{
    if (blob && --blob->references == 0)
        free(blob);
}

struct simimage *simimage_create(void)
{
    struct simimage *image = sim_allocate(sizeof *image);

    memset(image, 0, sizeof *image);
    image->next_inode = SIM_ROOT + 1;
    return image;
}

struct simimage *simimage_copy(const struct simimage *image)
{
    struct simimage *copy = simimage_create();

    copy->next_inode = image->next_inode;
    copy->count = copy->capacity = image->count;
    copy->entries = sim_allocate(image->count * sizeof *copy->entries);
    for (size_t i = 0; i < image->count; i++) {
        copy->entries[i] = image->entries[i];
        if (copy->entries[i].blob)
            simblob_share(copy->entries[i].blob);
    }
    return copy;
}

void simimage_clear(struct simimage *image)
{
    for (size_t i = 0; i < image->count; i++)
        simblob_release(image->entries[i].blob);
    image->count = 0;
    image->next_inode = SIM_ROOT + 1;
}

void simimage_release(struct simimage *image)
{
    if (!image)
        return;
    simimage_clear(image);
    free(image->entries);
    free(image);
}

static const struct simimage_entry *find_inode(const struct simimage *image, uint64_t inode)
{
    for (size_t i = 0; i < image->count; i++)
        if (image->entries[i].inode == inode)
            return &image->entries[i];
    return NULL;
}

void simimage_add(struct simimage *image, uint64_t inode, uint64_t parent, const char *name,
                  struct simblob *blob)
{
    const struct simimage_entry *above = find_inode(image, parent);
    uint64_t above_hash = above ? above->path_hash : 0;
    struct simimage_entry *entry;

    if (!above && parent != SIM_ROOT)
        sim_fatal("an image names %s before its directory", name);
    if (image->count == image->capacity) {
        image->capacity = image->capacity * 2 + 16;
        image->entries = sim_reallocate(image->entries, image->capacity * sizeof *image->entries);
    }
    entry = &image->entries[image->count++];
    entry->inode = inode;
    entry->parent = parent;
    entry->name = sim_intern(name);
    entry->path_hash = XXH3_64bits_withSeed(name, strlen(name), above_hash);
    entry->blob = blob;
    if (inode >= image->next_inode)
        image->next_inode = inode + 1;
}

/* A sum, so that order does not matter. */
uint64_t simimage_hash(const struct simimage *image)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < image->count; i++) {
        const struct simimage_entry *entry = &image->entries[i];
        uint64_t pair[2] = {entry->path_hash, entry->blob ? entry->blob->hash : 1};

        sum += XXH3_64bits(pair, sizeof pair);
    }
    return sum;
}

const struct simimage_entry *simimage_find(const struct simimage *image, const char *path)
{
    char text[512];

    for (size_t i = 0; i < image->count; i++) {
        simimage_path(image, &image->entries[i], text, sizeof text);
        if (strcmp(text, path) == 0)
            return &image->entries[i];
    }
    return NULL;
}

void simimage_path(const struct simimage *image, const struct simimage_entry *entry, char *buffer,
                   size_t size)
{
    const struct simimage_entry *above = find_inode(image, entry->parent);
    size_t used;

    buffer[0] = '\0';
    if (above)
        simimage_path(image, above, buffer, size);
    used = strlen(buffer);
    snprintf(buffer + used, size - used, "/%s", entry->name);
}

static const struct simimage_entry *find_twin(const struct simimage *image,
                                              const struct simimage_entry *entry)
{
    for (size_t i = 0; i < image->count; i++)
        if (image->entries[i].path_hash == entry->path_hash)
            return &image->entries[i];
    return NULL;
}

static bool same_content(const struct simblob *a, const struct simblob *b)
{
    if (!a || !b)
        return a == b;
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static bool lacks(const struct simimage *a, const struct simimage *b, char *ret_path, size_t size)
{
    for (size_t i = 0; i < a->count; i++) {
        const struct simimage_entry *twin = find_twin(b, &a->entries[i]);

        if (!twin || !same_content(a->entries[i].blob, twin->blob)) {
            simimage_path(a, &a->entries[i], ret_path, size);
            return true;
        }
    }
    return false;
}

bool simimage_differs(const struct simimage *a, const struct simimage *b, char *ret_path,
                      size_t size)
{
    return lacks(a, b, ret_path, size) || lacks(b, a, ret_path, size);
}

static bool dump_file(const char *path, const struct simblob *blob)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool done = fd >= 0 && write(fd, blob->bytes, blob->size) == (ssize_t)blob->size;

    if (fd >= 0)
        close(fd);
    return done;
}

bool simimage_dump(const struct simimage *image, const char *directory)
{
    char path[512];
    char full[1024];
    bool done = mkdir(directory, 0700) == 0;

    for (size_t i = 0; done && i < image->count; i++) {
        simimage_path(image, &image->entries[i], path, sizeof path);
        snprintf(full, sizeof full, "%s%s", directory, path);
        if (image->entries[i].blob)
            done = dump_file(full, image->entries[i].blob);
        else
            done = mkdir(full, 0700) == 0;
    }
    return done;
}
