/* Directory trees and mounts of support.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

/* ---- walking --------------------------------------------------------------------------------- */

/* What is done with each entry: dirs before what is in them, or after. name is relative. */
struct visitor {
    void (*enter)(void *context, const char *path, const char *name, const struct stat *info);
    void (*leave)(void *context, const char *path, const char *name, const struct stat *info);
    void *context;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a directory, sorted; NULL where there is none. Freed one by one. */
static char **sorted_names(const char *path, size_t *ret_count)
{
    DIR *dir = opendir(path);
    size_t count = 0;
    size_t room = 16;
    char **names = malloc(room * sizeof *names);
    const struct dirent *entry;

    CHECK(dir && names, "%s: %s", path, strerror(errno));
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (count == room) {
            room *= 2;
            names = realloc(names, room * sizeof *names);
            CHECK(names, "out of memory");
        }
        names[count++] = strdup(entry->d_name);
    }
    closedir(dir);
    qsort(names, count, sizeof *names, by_name);
    *ret_count = count;
    return names;
}

static void walk(const char *root, const char *below, const struct visitor *visitor)
{
    char path[4096];
    size_t count;
    char **names;

    (void)snprintf(path, sizeof path, "%s%s%s", root, *below ? "/" : "", below);
    names = sorted_names(path, &count);
    for (size_t i = 0; i < count; i++) {
        char name[2048];
        char full[6200];
        struct stat info;

        (void)snprintf(name, sizeof name, "%s%s%s", below, *below ? "/" : "", names[i]);
        (void)snprintf(full, sizeof full, "%s/%s", root, name);
        free(names[i]);
        if (lstat(full, &info) != 0)
            continue; /* gone meanwhile */
        if (visitor->enter)
            visitor->enter(visitor->context, full, name, &info);
        if (S_ISDIR(info.st_mode))
            walk(root, name, visitor);
        if (visitor->leave)
            visitor->leave(visitor->context, full, name, &info);
    }
    free(names);
}

/* ---- removing -------------------------------------------------------------------------------- */

static void remove_one(void *context, const char *path, const char *name, const struct stat *info)
{
    (void)context;
    (void)name;
    if (S_ISDIR(info->st_mode))
        (void)rmdir(path);
    else
        (void)unlink(path);
}

/* A failed CHECK comes here too, so that nothing is checked. */
void tree_empty(const char *root)
{
    struct visitor visitor = {.leave = remove_one};
    struct stat info;

    if (lstat(root, &info) == 0 && S_ISDIR(info.st_mode))
        walk(root, "", &visitor);
}

void tree_remove(const char *root)
{
    tree_empty(root);
    if (rmdir(root) != 0)
        (void)unlink(root);
}

/* ---- in memory ------------------------------------------------------------------------------- */

static void load_one(void *context, const char *path, const char *name, const struct stat *info)
{
    struct tree *tree = context;

    if (S_ISDIR(info->st_mode)) {
        if (tree->dir_count == tree->dir_room) {
            tree->dir_room = tree->dir_room * 2 + 8;
            tree->dirs = realloc(tree->dirs, tree->dir_room * sizeof *tree->dirs);
            CHECK(tree->dirs, "out of memory");
        }
        tree->dirs[tree->dir_count++] = strdup(name);
    } else if (S_ISREG(info->st_mode)) {
        struct tree_file *file;

        if (tree->count == tree->room) {
            tree->room = tree->room * 2 + 16;
            tree->files = realloc(tree->files, tree->room * sizeof *tree->files);
            CHECK(tree->files, "out of memory");
        }
        file = &tree->files[tree->count++];
        file->name = strdup(name);
        file->bytes = read_whole_file(path, &file->size);
    }
}

void tree_load(struct tree *tree, const char *root)
{
    struct visitor visitor = {.enter = load_one, .context = tree};

    memset(tree, 0, sizeof *tree);
    walk(root, "", &visitor);
}

void tree_store(const struct tree *tree, const char *root)
{
    if (mkdir(root, 0700) != 0)
        CHECK(errno == EEXIST, "%s: %s", root, strerror(errno));
    for (size_t i = 0; i < tree->dir_count; i++) {
        const char *path = path_in(root, tree->dirs[i]);

        if (mkdir(path, 0700) != 0)
            CHECK(errno == EEXIST, "%s: %s", path, strerror(errno));
    }
    for (size_t i = 0; i < tree->count; i++)
        write_file(path_in(root, tree->files[i].name), tree->files[i].bytes, tree->files[i].size);
}

void tree_release(struct tree *tree)
{
    for (size_t i = 0; i < tree->count; i++) {
        free(tree->files[i].name);
        free(tree->files[i].bytes);
    }
    for (size_t i = 0; i < tree->dir_count; i++)
        free(tree->dirs[i]);
    free(tree->files);
    free(tree->dirs);
    memset(tree, 0, sizeof *tree);
}

const struct tree_file *tree_find(const struct tree *tree, const char *name)
{
    for (size_t i = 0; i < tree->count; i++)
        if (strcmp(tree->files[i].name, name) == 0)
            return &tree->files[i];
    return NULL;
}

/* ---- sums ------------------------------------------------------------------------------------ */

static uint64_t fold(uint64_t sum, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;

    for (size_t i = 0; i < size; i++)
        sum = (sum ^ from[i]) * 0x100000001b3u;
    return mix64(sum ^ size);
}

static void sum_one(void *context, const char *path, const char *name, const struct stat *info)
{
    uint64_t *sum = context;
    uint64_t kind = (uint64_t)info->st_mode;

    *sum = fold(*sum, name, strlen(name));
    *sum = fold(*sum, &kind, sizeof kind);
    if (S_ISREG(info->st_mode)) {
        size_t size;
        uint8_t *bytes = read_whole_file(path, &size);

        *sum = fold(*sum, bytes, size);
        free(bytes);
    }
}

uint64_t tree_checksum(const char *root)
{
    uint64_t sum = 0xcbf29ce484222325u;
    struct visitor visitor = {.enter = sum_one, .context = &sum};

    walk(root, "", &visitor);
    return sum;
}

static void stamp_one(void *context, const char *path, const char *name, const struct stat *info)
{
    uint64_t facts[] = {(uint64_t)info->st_ino, (uint64_t)info->st_size,
                        (uint64_t)info->st_mtim.tv_sec, (uint64_t)info->st_mtim.tv_nsec};
    uint64_t *sum = context;

    (void)path;
    *sum = fold(*sum, name, strlen(name));
    *sum = fold(*sum, facts, sizeof facts);
}

/* Stores into mappings go unnoticed, so the caller must not be writing; the store's own threads
 * only make, cut, rename and remove files. */
static uint64_t tree_stamp(const char *root)
{
    uint64_t sum = 1;
    struct visitor visitor = {.enter = stamp_one, .context = &sum};

    walk(root, "", &visitor);
    return sum;
}

static void copy_one(void *context, const char *path, const char *name, const struct stat *info)
{
    const char *to = path_in(context, name);

    if (S_ISDIR(info->st_mode)) {
        CHECK(mkdir(to, 0700) == 0, "%s: %s", to, strerror(errno));
    } else if (S_ISREG(info->st_mode)) {
        uint8_t *bytes;
        size_t size;

        bytes = read_file_if_there(path, &size);
        if (bytes) /* else it is gone meanwhile: the stamp tells */
            write_file(to, bytes, size);
        free(bytes);
    }
}

void tree_copy_still(const char *from, const char *to)
{
    struct visitor visitor = {.enter = copy_one, .context = (void *)(uintptr_t)to};

    for (unsigned tries = 0;; tries++) {
        uint64_t before = tree_stamp(from);

        CHECK(tries < 1000, "%s does not come to rest", from);
        tree_empty(to);
        walk(from, "", &visitor);
        if (tree_stamp(from) == before)
            return;
        pause_us(1000);
    }
}

/* ---- mounts ---------------------------------------------------------------------------------- */

/* Mounts made in a namespace of the process's own are nobody else's, and go with it. */
bool private_mounts(void)
{
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
        return true;
    (void)printf("skipped: mounting needs to be root (%s)\n", strerror(errno));
    return false;
}

bool mount_memory(const char *at, const char *options)
{
    if (mkdir(at, 0700) != 0)
        CHECK(errno == EEXIST, "%s: %s", at, strerror(errno));
    if (mount("none", at, "tmpfs", 0, options) == 0)
        return true;
    (void)printf("skipped: cannot mount a tmpfs (%s)\n", strerror(errno));
    return false;
}

void remount_memory(const char *at, const char *options, bool read_only)
{
    CHECK(mount("none", at, "tmpfs", MS_REMOUNT | (read_only ? MS_RDONLY : 0), options) == 0,
          "%s: %s", at, strerror(errno));
}

void unmount(const char *at)
{
    CHECK(umount2(at, MNT_DETACH) == 0, "%s: %s", at, strerror(errno));
}
