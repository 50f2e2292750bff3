/* container.h over LMDB 0.9. Its rules here:
 *
 *  1. Building: no MDB_WRITEMAP, which would be SIGBUS on a full disk; a transaction for each
 *     batch, since one that grows never gives its heap back; disk space is had before a batch is
 *     written, since LMDB reports a short write as EIO; one sync at the end.
 *  2. The map grows between transactions, ahead of need: MDB_MAP_FULL would cost the batch.
 *  3. A value of RUN_BLOCK_BYTES takes exactly one overflow page, and its data follow the page's
 *     header, which begins with the page's number both in memory and in the file. LMDB has no call
 *     that tells the number, nor where its map starts, so it is read from there; the builder of a
 *     run reads every block back from where it should be before it believes that.
 */
#include <errno.h>
#include <stdlib.h>

#include <lmdb.h>

#include "base/pages.h"
#include "index/container.h"

#define MODE 0600
#define BUILD_FLAGS                                                                                \
    (MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC | MDB_NOMEMINIT | MDB_NOTLS | MDB_NORDAHEAD)
#define WALK_FLAGS (MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS)
#define MAP_UNIT ((uint64_t)1 << 20)
#define HEAP_BYTES ((size_t)4 << 20) /* LMDB's lists of pages, and pages */

struct container {
    struct io_file *file;
    MDB_env *env;
    MDB_txn *txn; /* NULL between batches */
    MDB_dbi dbi;
    uint64_t map_bytes;
    uint64_t allocated_bytes;
    unsigned batch_blocks;
    unsigned in_batch;
};

struct container_walk {
    MDB_env *env;
    MDB_txn *txn;
    MDB_cursor *cursor;
    uint64_t pages;
    bool started;
};

static int status_of(int error)
{
    switch (error) {
    case MDB_SUCCESS:
        return CASK_OK;
    case MDB_NOTFOUND:
        return CASK_NOTFOUND;
    case ENOSPC:
    case EDQUOT:
    case MDB_MAP_FULL:
        return CASK_ENOSPC;
    case ENOMEM:
        return CASK_ENOMEM;
    case EMFILE:
    case ENFILE:
        return CASK_EMFILE;
    case EROFS:
        return CASK_EROFS;
    case EACCES:
    case EPERM:
        return CASK_EACCES;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return CASK_ECORRUPT;
    default:
        return CASK_EIO;
    }
}

/* Pages are dirtied one by one; LMDB keeps them for the next batch. Beside blocks, a batch has a
 * few tree pages, and LMDB two lists of its own. */
uint64_t container_memory_for(unsigned batch_blocks)
{
    return ((uint64_t)batch_blocks + batch_blocks / 32 + 32) * RUN_PAGE_BYTES;
}

/* Pages that so many more blocks may take: a tree page for each 150, and those of the batches'
 * book-keeping. */
static uint64_t pages_for(uint64_t blocks)
{
    return blocks + blocks / 64 + 32;
}

static int last_page(const struct container *container, uint64_t *ret_page)
{
    MDB_envinfo info;
    int status = status_of(mdb_env_info(container->env, &info));

    if (status == CASK_OK)
        *ret_page = info.me_last_pgno;
    return status;
}

/* Has disk space and map for `blocks` more. No transaction is open. */
static int make_room(struct container *container, uint64_t blocks)
{
    uint64_t last;
    uint64_t wanted;
    int status = last_page(container, &last);

    if (status != CASK_OK)
        return status;
    wanted = (last + 1 + pages_for(blocks)) * RUN_PAGE_BYTES;
    if (wanted > container->map_bytes) {
        uint64_t map_bytes = align_up(wanted + wanted / 4, MAP_UNIT);

        status = status_of(mdb_env_set_mapsize(container->env, (size_t)map_bytes));
        if (status != CASK_OK)
            return status;
        container->map_bytes = map_bytes;
    }
    if (wanted > container->allocated_bytes) {
        status = io_allocate(container->file, wanted);
        if (status != CASK_OK && status != CASK_ENOTSUP)
            return status;
        container->allocated_bytes = wanted;
    }
    return CASK_OK;
}

static int begin_batch(struct container *container)
{
    int status = make_room(container, container->batch_blocks);

    if (status == CASK_OK)
        status = status_of(mdb_txn_begin(container->env, NULL, 0, &container->txn));
    if (status != CASK_OK)
        container->txn = NULL;
    container->in_batch = 0;
    return status;
}

static int end_batch(struct container *container)
{
    int status = status_of(mdb_txn_commit(container->txn));

    container->txn = NULL; /* a commit that failed has freed it too */
    return status;
}

/* LMDB 0.9 sees to that for its second descriptor, not for the first. */
/* Returns LMDB's error. */
static int open_env(MDB_env *env, const char *path, unsigned flags)
{
    mdb_filehandle_t fd;
    int error = mdb_env_open(env, path, flags, MODE);

    if (error == MDB_SUCCESS && mdb_env_get_fd(env, &fd) == MDB_SUCCESS)
        io_close_on_exec(fd);
    return error;
}

static int start(struct container *container, const char *path, uint64_t blocks)
{
    MDB_stat stat;
    int status;

    container->map_bytes = align_up(pages_for(blocks) * RUN_PAGE_BYTES, MAP_UNIT) + MAP_UNIT;
    status = status_of(mdb_env_set_mapsize(container->env, (size_t)container->map_bytes));
    if (status == CASK_OK)
        status = status_of(open_env(container->env, path, BUILD_FLAGS));
    if (status == CASK_OK)
        status = status_of(mdb_env_stat(container->env, &stat));
    if (status == CASK_OK && stat.ms_psize != RUN_PAGE_BYTES)
        status = CASK_ENOTSUP; /* LMDB's pages are as large as the system's */
    if (status == CASK_OK)
        status = make_room(container, max_u64(blocks, container->batch_blocks));
    if (status == CASK_OK)
        status = begin_batch(container);
    if (status == CASK_OK)
        status = status_of(
            mdb_dbi_open(container->txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &container->dbi));
    return status;
}

int container_begin(struct io_file *file, const char *path, uint64_t blocks, unsigned batch_blocks,
                    struct container **ret_container)
{
    struct container *container = calloc(1, sizeof *container);
    int status;

    if (!container)
        return CASK_ENOMEM;
    container->file = file;
    container->batch_blocks = batch_blocks;
    status = status_of(mdb_env_create(&container->env));
    if (status == CASK_OK)
        status = start(container, path, blocks);
    if (status != CASK_OK) {
        container_abort(container);
        return status;
    }
    *ret_container = container;
    return CASK_OK;
}

static uint64_t page_of(const void *value)
{
    uint64_t page;

    memcpy(&page, (const uint8_t *)value - RUN_PAGE_HEADER_BYTES, sizeof page);
    return page;
}

int container_put(struct container *container, uint64_t key, const uint8_t block[RUN_BLOCK_BYTES],
                  uint32_t *ret_page)
{
    MDB_val name = {sizeof key, &key};
    MDB_val value = {RUN_BLOCK_BYTES, NULL};
    uint64_t page;
    int status = CASK_OK;

    if (!container->txn)
        status = begin_batch(container);
    if (status == CASK_OK)
        status = status_of(
            mdb_put(container->txn, container->dbi, &name, &value, MDB_APPEND | MDB_RESERVE));
    if (status != CASK_OK)
        return status;
    memcpy(value.mv_data, block, RUN_BLOCK_BYTES);
    page = page_of(value.mv_data);
    if (page > UINT32_MAX)
        return CASK_ENOSPC; /* 16 TiB */
    if (++container->in_batch == container->batch_blocks)
        status = end_batch(container);
    if (status == CASK_OK)
        *ret_page = (uint32_t)page;
    return status;
}

int container_finish(struct container *container, uint64_t *ret_pages)
{
    uint64_t last = 0;
    int status = CASK_OK;

    if (container->txn)
        status = end_batch(container);
    if (status == CASK_OK)
        status = last_page(container, &last);
    if (status == CASK_OK)
        status = status_of(mdb_env_sync(container->env, 1));
    container_abort(container);
    if (status == CASK_OK)
        *ret_pages = last + 1;
    return status;
}

void container_abort(struct container *container)
{
    if (!container)
        return;
    if (container->txn)
        mdb_txn_abort(container->txn);
    if (container->env)
        mdb_env_close(container->env);
    free(container);
    pages_trim_heap(HEAP_BYTES);
}

int container_walk_open(struct io_file *file, const char *path, uint64_t pages,
                        struct container_walk **ret_walk)
{
    struct container_walk *walk = calloc(1, sizeof *walk);
    MDB_dbi dbi;
    int status;
    int error;

    (void)file;
    if (!walk)
        return CASK_ENOMEM;
    walk->pages = pages;
    status = status_of(mdb_env_create(&walk->env));
    if (status == CASK_OK) {
        error = open_env(walk->env, path, WALK_FLAGS);
        status = error == ENOENT ? CASK_NOTFOUND : status_of(error);
    }
    if (status == CASK_OK)
        status = status_of(mdb_txn_begin(walk->env, NULL, MDB_RDONLY, &walk->txn));
    if (status == CASK_OK)
        status = status_of(mdb_dbi_open(walk->txn, NULL, MDB_INTEGERKEY, &dbi));
    if (status == CASK_OK)
        status = status_of(mdb_cursor_open(walk->txn, dbi, &walk->cursor));
    if (status != CASK_OK) {
        container_walk_close(walk);
        return status;
    }
    *ret_walk = walk;
    return CASK_OK;
}

int container_walk_next(struct container_walk *walk, uint64_t *ret_key, const uint8_t **ret_block,
                        uint32_t *ret_page)
{
    MDB_val key;
    MDB_val value;
    uint64_t page;
    int status = status_of(
        mdb_cursor_get(walk->cursor, &key, &value, walk->started ? MDB_NEXT : MDB_FIRST));

    walk->started = true;
    if (status != CASK_OK)
        return status;
    if (key.mv_size != sizeof *ret_key || value.mv_size != RUN_BLOCK_BYTES)
        return CASK_ECORRUPT;
    page = page_of(value.mv_data);
    if (page >= walk->pages || page > UINT32_MAX)
        return CASK_ECORRUPT;
    memcpy(ret_key, key.mv_data, sizeof *ret_key);
    *ret_block = value.mv_data;
    *ret_page = (uint32_t)page;
    return CASK_OK;
}

void container_walk_close(struct container_walk *walk)
{
    if (!walk)
        return;
    if (walk->cursor)
        mdb_cursor_close(walk->cursor);
    if (walk->txn)
        mdb_txn_abort(walk->txn);
    if (walk->env)
        mdb_env_close(walk->env);
    free(walk);
}
