/* Finding, creating and locking the directory of a store. */
#include <stdlib.h>

#include "store/store.h"

#define LOCK_NAME "LOCK"

static int tell(struct cask_db *db, int status, const char *name, const char *what)
{
    report(&db->env.reporter, CASK_LOG_ERROR, "%s%s%s: %s", db->path, *name ? "/" : "", name,
           what ? what : cask_strerror(status));
    return status;
}

static int open_path(struct cask_db *db, bool may_create, struct directory_made *made)
{
    int status = io_dir_open(db->path, &db->dir);

    if (status == CASK_NOTFOUND && !may_create)
        return tell(db, CASK_ENOTSTORE, "", "no such directory");
    if (status == CASK_NOTFOUND) {
        status = io_dir_make(db->path);
        if (status == CASK_NOTFOUND)
            return tell(db, CASK_ENOTSTORE, "", "the directory above does not exist");
        if (status != CASK_OK && status != CASK_EEXIST)
            return tell(db, status, "", NULL);
        made->directory = status == CASK_OK;
        status = io_dir_open(db->path, &db->dir);
    }
    if (status == CASK_ENOTSTORE)
        return tell(db, status, "", "not a directory");
    return status == CASK_OK ? CASK_OK : tell(db, status, "", NULL);
}

/* Nothing but what an interrupted creation leaves. */
static int check_empty(struct cask_db *db)
{
    char *names;
    int status = io_dir_list(db->dir, &names);

    if (status != CASK_OK)
        return tell(db, status, "", NULL);
    for (const char *name = names; *name && status == CASK_OK; name += strlen(name) + 1)
        if (strcmp(name, LOCK_NAME) != 0 && strcmp(name, SUPERBLOCK_TMP) != 0 &&
            strcmp(name, DIRECTORY_PROBE_TMP) != 0 && strcmp(name, "lost+found") != 0)
            status = CASK_ENOTSTORE;
    free(names);
    if (status != CASK_OK)
        return tell(db, status, SUPERBLOCK_NAME,
                    "no such file, and the directory holds other files: not a Caskade store");
    return CASK_OK;
}

static int take_lock(struct cask_db *db, struct directory_made *made)
{
    struct io_file *existing;
    int status = io_dir_writable(db->dir);

    if (status != CASK_OK)
        return tell(db, status, "", NULL);
    status = io_open(db->dir, LOCK_NAME, IO_READ, &existing);
    if (status == CASK_OK)
        io_close(existing);
    made->lock = status == CASK_NOTFOUND;
    status = io_lock(db->dir, LOCK_NAME, &db->lock);
    if (status != CASK_OK) {
        made->lock = false;
        return tell(db, status, LOCK_NAME, NULL);
    }
    return CASK_OK;
}

static int read_superblock(struct cask_db *db, struct superblock *ret_superblock)
{
    int status = superblock_read(db->dir, ret_superblock);

    return status == CASK_OK || status == CASK_NOTFOUND ? status
                                                        : tell(db, status, SUPERBLOCK_NAME, NULL);
}

/* Under the lock: another process may have come first. */
static int create(struct cask_db *db, const struct cask_options *options,
                  struct directory_made *made, struct superblock *ret_superblock)
{
    int status = read_superblock(db, ret_superblock);

    if (status != CASK_NOTFOUND)
        return status;
    made->superblock = true;
    status = superblock_make(options_shards(options), options->segment_bytes, ret_superblock);
    if (status == CASK_OK)
        status = superblock_write(ret_superblock, db->dir);
    return status == CASK_OK ? CASK_OK : tell(db, status, SUPERBLOCK_NAME, NULL);
}

static int open_or_create(struct cask_db *db, const struct cask_options *options,
                          struct directory_made *made, struct superblock *ret_superblock)
{
    bool may_create = options->create != CASK_CREATE_NEVER;
    int status = open_path(db, may_create, made);
    bool exists;

    if (status != CASK_OK)
        return status;
    status = read_superblock(db, ret_superblock);
    exists = status == CASK_OK;
    if (status == CASK_NOTFOUND && !may_create)
        return tell(db, CASK_ENOTSTORE, SUPERBLOCK_NAME, "no such file: not a Caskade store");
    if (status == CASK_NOTFOUND)
        status = check_empty(db);
    if (status == CASK_OK && exists && options->create == CASK_CREATE_NEW)
        return tell(db, CASK_EEXIST, SUPERBLOCK_NAME, NULL);
    if (status == CASK_OK && !options->read_only)
        status = take_lock(db, made);
    if (status == CASK_OK && !exists)
        status = create(db, options, made, ret_superblock);
    return status;
}

/* Whatever cannot be removed now is what check_empty() allows for. */
void directory_undo(struct cask_db *db)
{
    const struct directory_made *made = &db->made;
    int status = CASK_OK;

    if (made->superblock) {
        status = status_first(io_unlink(db->dir, SUPERBLOCK_TMP), status);
        status = status_first(io_unlink(db->dir, SUPERBLOCK_NAME), status);
    }
    if (made->lock)
        status = status_first(io_unlink(db->dir, LOCK_NAME), status);
    directory_close(db);
    if (made->directory)
        status = status_first(io_dir_remove(db->path), status);
    (void)status;
}

int directory_open(struct cask_db *db, const struct cask_options *options,
                   struct superblock *ret_superblock)
{
    return open_or_create(db, options, &db->made, ret_superblock);
}

void directory_close(struct cask_db *db)
{
    io_close(db->lock);
    io_dir_close(db->dir);
    db->lock = NULL;
    db->dir = NULL;
}
