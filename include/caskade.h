/* Caskade: an embedded key-value store. Many casks, one overflow.
 *
 * Keys hash to independent bitcask shards; every shard has an append-only log, its own writer lock
 * and an index that holds locations, never keys. This is the only public header.
 *
 * Conventions
 *   - Every call returns a status: CASK_OK (0), a negative CASK_E*, or CASK_NOTFOUND (1), which is
 *     an answer and not an error. cask_strerror() names each.
 *   - Parameters named ret_* are outputs. They are written only on success, unless a call says
 *     otherwise.
 *   - Thread safety: any thread may use one handle at any time, without a lock of its own, until
 *     cask_close() is called. A batch or an iterator belongs to one thread at a time.
 *   - After fork() the child must not use a handle it inherited: every call there returns
 *     CASK_EINVAL and touches nothing. The child may open the store read-only itself.
 *   - Keys are 1 to CASK_KEY_MAX bytes, values 0 to CASK_VALUE_MAX bytes, of any content.
 *   - The library prints nothing and installs no signal handlers. What it has to tell goes to the
 *     log callback of struct cask_options.
 */
#ifndef CASKADE_H
#define CASKADE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CASK_API __attribute__((visibility("default")))
#define CASK_CHECKED __attribute__((warn_unused_result))
#else
#define CASK_API
#define CASK_CHECKED
#endif

#define CASK_VERSION_MAJOR 0
#define CASK_VERSION_MINOR 1
#define CASK_VERSION_PATCH 0
#define CASK_VERSION_STRING "0.1.0"

/* Bytes in the longest key and the largest value (2 GiB - 1). */
#define CASK_KEY_MAX 65535u
#define CASK_VALUE_MAX 2147483647u

/* What a call returns. */
enum cask_status {
    CASK_OK = 0,
    CASK_NOTFOUND = 1,    /* no such key, or the end of an iteration: an answer */
    CASK_EINVAL = -1,     /* an argument or option out of its range; a handle used after fork() */
    CASK_ENOMEM = -2,     /* out of memory, or the index has reached index_memory */
    CASK_EIO = -3,        /* the system failed to read, write or sync; after a failed sync the
                              shard refuses writes until the store is opened again */
    CASK_ENOSPC = -4,     /* the disk, the quota or the inodes are used up; nothing was changed */
    CASK_EROFS = -5,      /* the file system is read-only */
    CASK_EACCES = -6,     /* permission denied */
    CASK_ELOCKED = -7,    /* another process, or another handle here, has the store open */
    CASK_ENOTSTORE = -8,  /* the path is not a Caskade store, and may not be made one */
    CASK_EVERSION = -9,   /* written in a format newer than this library knows */
    CASK_ECORRUPT = -10,  /* bytes on disk fail their checksum or contradict each other */
    CASK_ERANGE = -11,    /* the caller's buffer is too small */
    CASK_ETOOBIG = -12,   /* a key over CASK_KEY_MAX or a value over CASK_VALUE_MAX bytes, or a
                              batch over what one segment can hold */
    CASK_EREADONLY = -13, /* a write to a handle opened read-only */
    CASK_EBUSY = -14,     /* a live writer changes the store too fast for a consistent view, or
                              a callback of the caller's stopped the work */
    CASK_EMFILE = -15,    /* the process or the system is out of file descriptors or mappings */
    CASK_ENOTSUP = -16,   /* the system or file system cannot do what an option asks for; or a shard
                              has used up its segment ids */
    CASK_EEXIST = -17,    /* create was CASK_CREATE_NEW and a store is there already; or the key
                              of a cask_put_if() is there, not as the caller knows it */
    CASK_EMISMATCH = -18  /* an option contradicts what the store was created with */
};

/* An open store. */
struct cask_db;

/* Bytes, by value. The data belongs to whoever made the slice; size in bytes. data may be NULL only
 * where size is 0. */
struct cask_slice {
    const void *data;
    size_t size;
};

enum cask_log_level { CASK_LOG_ERROR = 1, CASK_LOG_WARNING = 2, CASK_LOG_INFO = 3 };

/* Receives one line of text without a newline, valid during the call only. May be called from any
 * thread that uses the handle and from the store's own threads, several at once; it must not call
 * the store. */
typedef void (*cask_log_fn)(void *context, enum cask_log_level level, const char *message);

/* When a write is made durable. Every mode survives kill -9 of the process with every returned
 * write; they differ in what a power loss takes. */
enum cask_sync_mode {
    CASK_SYNC_DEFAULT = 0,  /* CASK_SYNC_NONE */
    CASK_SYNC_NONE = 1,     /* the kernel writes when it likes: a prefix of each shard survives */
    CASK_SYNC_INTERVAL = 2, /* synced every sync_interval_ms: at most that much is lost */
    CASK_SYNC_ALWAYS = 3    /* a write returns when it is durable; writers share syncs */
};

enum cask_write_mode {
    CASK_WRITE_DEFAULT = 0, /* mapped; with CASK_SYNC_ALWAYS, or where the file system cannot
                               preallocate, system calls */
    CASK_WRITE_MAPPED = 1,  /* stores into a preallocated mapping: a put makes no system call */
    CASK_WRITE_SYSCALL = 2  /* one pwrite per put or batch */
};

enum cask_read_mode {
    CASK_READ_DEFAULT = 0, /* mapped */
    CASK_READ_MAPPED = 1,  /* reads from mappings; a bad sector is SIGBUS */
    CASK_READ_PREAD = 2    /* reads by system call; a bad sector is CASK_EIO. Takes one file
                              descriptor for each segment (CASK_EMFILE where there are too few) */
};

enum cask_create_mode {
    CASK_CREATE_DEFAULT = 0,    /* CASK_CREATE_IF_MISSING, or _NEVER with read_only */
    CASK_CREATE_IF_MISSING = 1, /* make the directory and the store where there is none */
    CASK_CREATE_NEVER = 2,      /* only open what exists */
    CASK_CREATE_NEW = 3         /* only create: CASK_EEXIST where a store exists */
};

enum cask_switch { CASK_SWITCH_DEFAULT = 0, CASK_SWITCH_ON = 1, CASK_SWITCH_OFF = 2 };

/* How to open a store. Start from a zeroed structure and set size; every other field at zero means
 * its default. An option that cannot be honoured is an error of cask_open(), never ignored. */
struct cask_options {
    size_t size;                     /* sizeof(struct cask_options) of the caller */
    uint32_t shard_count;            /* power of two, 1..256; default 16, or what the store has.
                                         Fixed at creation: another value is CASK_EMISMATCH */
    enum cask_sync_mode sync_mode;   /* default CASK_SYNC_NONE */
    uint32_t sync_interval_ms;       /* 1..3,600,000; default 1000; only with CASK_SYNC_INTERVAL */
    enum cask_write_mode write_mode; /* default mapped */
    enum cask_read_mode read_mode;   /* default mapped */
    enum cask_switch verify_reads;   /* check the checksum on every read; default on */
    enum cask_create_mode create;    /* default: create if missing */
    int read_only;                   /* non-zero: a view of the store as it is now, all of it as
                                         of one moment, beside a live writer or after one; changes
                                         nothing on disk */
    uint64_t index_memory;           /* bytes of RAM for the index of the whole store, 1 MiB to
                                         1 TiB; default 1 GiB. Beyond it the index goes to disk */
    uint64_t segment_bytes;          /* size at which a segment is sealed, 256 B..2 GiB; default
                                         64 MiB. May change from open to open, up to 256 MiB or the
                                         value at creation, whichever is larger (CASK_EMISMATCH) */
    enum cask_switch merge;          /* reclaim the space of dead records in the background; default
                                         on. cask_merge() works either way */
    uint32_t merge_trigger_percent;  /* 1..99; default 20: merging of a shard begins when so much of
                                         it is dead */
    uint32_t merge_segment_percent;  /* 1..99; default 30: segments of which at least so much is
                                         dead are merged then */
    uint32_t merge_at_once;          /* shards that merge at the same time, 1..256; default half
                                         of the processors, 1 or 2 */
    uint64_t merge_bytes_per_second; /* read and written by background merges of the whole store;
                                         default 0: no limit */
    uint8_t merge_from_hour;         /* background merges begin only from this full hour, local */
    uint8_t merge_until_hour;        /* time, until this one, 0..24; default 0 and 0: at any time */
    cask_log_fn log;                 /* default: nothing is told */
    void *log_context;               /* handed to log */
};

/* Opens the store in directory path, creating it if options->create allows. options may be NULL for
 * all defaults; it is copied. The handle goes to *ret_db and is released with cask_close().
 *
 * Returns CASK_OK, or
 *   CASK_EINVAL (an argument or option out of range), CASK_EMISMATCH, CASK_EEXIST,
 *   CASK_ENOTSTORE (no store there and none may be created, the path is not a directory, or the
 *     directory holds other files), CASK_EVERSION, CASK_ECORRUPT (superblock or manifest damaged),
 *   CASK_ELOCKED, CASK_EBUSY (read_only only), CASK_ENOTSUP, CASK_ENOMEM, CASK_EIO, CASK_ENOSPC,
 *   CASK_EROFS, CASK_EACCES, CASK_EMFILE.
 * On an error nothing is created or lost, and the log callback has received one line naming the
 * file and the cause. */
CASK_API CASK_CHECKED int cask_open(const char *path, const struct cask_options *options,
                                    struct cask_db **ret_db);

/* Closes the store: finishes background work, makes everything durable, writes hints, releases the
 * lock and frees the handle, which is invalid afterwards whatever is returned. No other call may be
 * running, and every view, batch and iterator must have been released. db may be NULL.
 *
 * Returns CASK_OK, or CASK_EIO / CASK_ENOSPC / CASK_ENOMEM / CASK_EMFILE where the last sync or a
 * hint failed: what had been synced before is safe, and the next open recovers the rest that
 * reached the disk.
 * CASK_EINVAL in a forked child, where nothing is done. */
CASK_API int cask_close(struct cask_db *db);

/* Stores value under key, replacing what was there. Both are copied before the call returns. The
 * write is visible to every later get of any thread, and survives kill -9 of the process; see
 * sync_mode for power loss.
 *
 * Returns CASK_OK, CASK_EINVAL (empty key), CASK_ETOOBIG, CASK_EREADONLY, CASK_ENOMEM, CASK_ENOSPC,
 * CASK_EMFILE, or CASK_EIO. A put that fails changes nothing, with one exception: with
 * CASK_SYNC_ALWAYS, CASK_EIO from the sync itself leaves it unknown until the next open whether the
 * write survived. */
CASK_API CASK_CHECKED int cask_put(struct cask_db *db, struct cask_slice key,
                                   struct cask_slice value);

/* As cask_put(), and the key is gone once the wall clock passes expires_at_ms: milliseconds since
 * 1970-01-01 UTC, 1..2^56-1 (a time in the past is legal: the key is gone at once). CASK_EINVAL
 * outside that range. A later cask_put() removes the expiry. */
CASK_API CASK_CHECKED int cask_put_expiring(struct cask_db *db, struct cask_slice key,
                                            struct cask_slice value, uint64_t expires_at_ms);

/* As cask_put(), on the condition that the key is as the caller knows it: with this sequence number
 * (of a struct cask_view, or of an earlier cask_put_if()), or not there, where sequence is 0; one
 * that was deleted or has expired is not there. Looking and putting are one step: whatever other
 * threads do, of several callers with the same sequence one succeeds. The new number goes to
 * *ret_sequence, which may be NULL.
 *
 * Each put of a key gives it a higher sequence number than it ever had, 1..2^48-1; merging and
 * opening the store again leave it as it is. Numbers of different keys say nothing about each
 * other. A power loss that takes writes may let their numbers be given again.
 *
 * Returns CASK_OK; CASK_EEXIST if the key is there with another sequence number, CASK_NOTFOUND if
 * it is not there and sequence is not 0 (nothing is written in either case); or an error as
 * cask_put(); also CASK_ECORRUPT where the old record cannot be read. With CASK_SYNC_ALWAYS the
 * first two may rest on a write that is not durable yet. */
CASK_API CASK_CHECKED int cask_put_if(struct cask_db *db, struct cask_slice key,
                                      struct cask_slice value, uint64_t sequence,
                                      uint64_t *ret_sequence);

/* Removes key. Returns CASK_OK if it was there, CASK_NOTFOUND if not (nothing is written then), or
 * an error as cask_put(); also CASK_ECORRUPT where the old record cannot be read. */
CASK_API CASK_CHECKED int cask_delete(struct cask_db *db, struct cask_slice key);

/* CASK_OK if key is there, CASK_NOTFOUND if not; CASK_EINVAL, CASK_ETOOBIG, CASK_EIO,
 * CASK_ECORRUPT. */
CASK_API CASK_CHECKED int cask_exists(struct cask_db *db, struct cask_slice key);

/* Copies the value of key into buffer, which has room for capacity bytes (NULL with capacity 0 asks
 * for the size alone), and its size in bytes to *ret_size (ret_size may be NULL).
 *
 * Returns CASK_OK, CASK_NOTFOUND, CASK_ERANGE (the value is larger than capacity: *ret_size is set,
 * buffer's contents are undefined), CASK_EINVAL, CASK_ETOOBIG, CASK_ENOMEM, CASK_EIO, or
 * CASK_ECORRUPT (the record fails its checksum; the log callback is told file and offset). */
CASK_API CASK_CHECKED int cask_get(struct cask_db *db, struct cask_slice key, void *buffer,
                                   size_t capacity, size_t *ret_size);

/* A borrowed value. Fill it with cask_view(), release it with cask_view_release(). */
struct cask_view {
    struct cask_slice value; /* valid and unchanging until the view is released */
    void *owner;             /* for the library */
    uint64_t sequence;       /* number of the put that the value is of, for cask_put_if() */
};

/* Borrows the value of key without copying it (in pread mode it is copied once). The bytes stay as
 * they are until cask_view_release(), whatever puts, deletes or merges do meanwhile. A view keeps
 * disk space from being freed, so release it soon. Statuses as cask_get() without CASK_ERANGE. */
CASK_API CASK_CHECKED int cask_view(struct cask_db *db, struct cask_slice key,
                                    struct cask_view *ret_view);

/* Gives a view back; its value is invalid from then on. Any thread may do so, before cask_close().
 * A zeroed or released view is left alone. */
CASK_API void cask_view_release(struct cask_view *view);

/* Looks up count keys at once, overlapping their cache misses: several times as fast per key as
 * single gets from 16 keys on. Values are packed one behind the other into buffer (capacity bytes).
 * For each i, statuses[i] is what cask_get() would have returned for keys[i] and, where that is
 * CASK_OK, ret_values[i] lies in buffer. A value that no longer fits gets CASK_ERANGE with
 * ret_values[i].data NULL and .size the bytes it needs; the others are unaffected. The keys are not
 * looked up at one common moment. keys, ret_values and statuses are the caller's, count long.
 *
 * Returns CASK_OK if every status is CASK_OK or CASK_NOTFOUND, else the first other one in keys'
 * order (all outputs are written even then); CASK_EINVAL for NULL arrays. */
CASK_API CASK_CHECKED int cask_get_many(struct cask_db *db, size_t count,
                                        const struct cask_slice *keys, void *buffer,
                                        size_t capacity, struct cask_slice *ret_values,
                                        int *statuses);

/* A list of puts and deletes that takes effect as a whole. */
struct cask_batch;

/* An empty batch for db, to be released with cask_batch_destroy() before db is closed. Returns
 * CASK_OK, CASK_EINVAL or CASK_ENOMEM. */
CASK_API CASK_CHECKED int cask_batch_create(struct cask_db *db, struct cask_batch **ret_batch);

/* Add an operation; key and value are copied. Later operations on the same key win. Return CASK_OK,
 * CASK_EINVAL, CASK_ETOOBIG or CASK_ENOMEM; the batch is unchanged on an error. */
CASK_API CASK_CHECKED int cask_batch_put(struct cask_batch *batch, struct cask_slice key,
                                         struct cask_slice value);
CASK_API CASK_CHECKED int cask_batch_put_expiring(struct cask_batch *batch, struct cask_slice key,
                                                  struct cask_slice value, uint64_t expires_at_ms);
CASK_API CASK_CHECKED int cask_batch_delete(struct cask_batch *batch, struct cask_slice key);

/* Empties the batch and keeps its memory. */
CASK_API void cask_batch_clear(struct cask_batch *batch);

/* Releases the batch; NULL is fine. */
CASK_API void cask_batch_destroy(struct cask_batch *batch);

/* Applies the batch, in all its shards or in none, also through kill -9 and power loss; the batch
 * keeps its contents. Other threads may see its keys appear one after another while the call runs.
 * An empty batch is CASK_OK. In one shard a batch may take at most 256 MiB, or the segment_bytes of
 * the store's creation if those are more (CASK_ETOOBIG); statuses otherwise as cask_put(), with one
 * more exception: CASK_ENOMEM, where the system refuses memory for the index after the batch was
 * written, leaves it to the next open, which finds all of it. Until then some of its keys have the
 * values that they had, and the shards concerned take no more writes. A delete of an absent key in
 * a batch is not an error. */
CASK_API CASK_CHECKED int cask_write(struct cask_db *db, struct cask_batch *batch);

/* Walks all keys, in no particular order. */
struct cask_iter;

struct cask_entry {
    struct cask_slice key;
    struct cask_slice value;
    uint64_t expires_at_ms; /* 0: never */
};

/* An iterator over db, to be released with cask_iter_destroy() before db is closed. Every key that
 * lives throughout the iteration is returned exactly once; a key put or deleted meanwhile is
 * returned at most once. Returns CASK_OK, CASK_EINVAL or CASK_ENOMEM. */
CASK_API CASK_CHECKED int cask_iter_create(struct cask_db *db, struct cask_iter **ret_iter);

/* The next entry; its slices are valid until the next call on this iterator. Returns CASK_OK,
 * CASK_NOTFOUND at the end, or CASK_EIO, CASK_ECORRUPT or CASK_ENOMEM for an entry that could not
 * be read, or for the few hundred that share a page of the index that could not: the iterator then
 * stands behind them and may go on. CASK_ENOMEM may come again for as long as memory is short. */
CASK_API CASK_CHECKED int cask_iter_next(struct cask_iter *iter, struct cask_entry *ret_entry);

/* Releases the iterator; NULL is fine. */
CASK_API void cask_iter_destroy(struct cask_iter *iter);

/* Makes every write that returned before this call durable. Returns CASK_OK or CASK_EIO; after
 * CASK_EIO the shard concerned refuses writes until the store is opened again. CASK_EREADONLY on a
 * read-only handle. */
CASK_API CASK_CHECKED int cask_sync(struct cask_db *db);

/* Figures of an open store. All bytes. Counts are exact for a store at rest and may lag by the
 * operations under way otherwise. */
struct cask_stats {
    size_t size; /* set by the caller to sizeof(struct cask_stats) */
    uint64_t shards;
    uint64_t
        live_keys; /* expired keys count until their space is reclaimed; with index_spilled_keys a
                            key written several times may count as often, until
                            cask_flush_index() */
    uint64_t live_bytes; /* of records, headers included, that a get can reach */
    uint64_t dead_bytes; /* of records that were overwritten or deleted, of tombstones, and
                            of what the log itself needs: 32 bytes a sealed segment */
    uint64_t segments;
    uint64_t disk_bytes;         /* that the store's files occupy on disk */
    uint64_t index_ram_keys;     /* entries of the index in RAM */
    uint64_t index_ram_bytes;    /* RAM the index takes, all told */
    uint64_t index_spilled_keys; /* entries of the index on disk */
    uint64_t index_disk_bytes;
    uint64_t index_memory;       /* the budget in force */
    uint64_t reads;              /* key look-ups since open; a get_many counts a few percent more */
    uint64_t writes;             /* records appended since open */
    uint64_t written_bytes;      /* appended to the log since open */
    uint64_t syncs;              /* fdatasync calls on segments since open */
    uint64_t recovered_records;  /* read from unsealed tails by this open */
    uint64_t cut_bytes;          /* of torn tail that this open left out */
    uint64_t hints_rebuilt;      /* hints found missing or damaged by this open */
    uint64_t index_runs;         /* files that the index has on disk */
    uint64_t index_filter_bytes; /* of index_ram_bytes, those of the runs' filters */
    uint64_t index_filters_reduced; /* of runs whose filter got less than 10 bits a key, and */
    uint64_t index_filters_absent;  /* of runs that have none: there was no memory for more */
    uint64_t index_flushes;         /* of a shard's index in RAM to disk, since open */
    uint64_t index_run_merges;      /* since open */
    uint64_t index_written_bytes;   /* to runs since open */
    uint64_t index_filter_asks;     /* of a run's filter by look-ups, since open */
    uint64_t index_filter_refusals; /* of these, those that saved a read: the key is not there */
    uint64_t index_block_reads;     /* of runs by look-ups, since open */
    uint64_t index_fruitless_reads; /* look-ups in one run that read for nothing, since open */
    uint64_t index_stalls;          /* writes that had to wait for a flush, since open */
    uint64_t index_failures;        /* flushes and merges of runs that failed, since open */
    uint64_t merge_debt_bytes;      /* in segments that are due for merging */
    uint64_t merge_read_bytes;      /* by merges since open */
    uint64_t merge_written_bytes;   /* by merges since open. Write amplification is (written_bytes +
                                      merge_written_bytes) / written_bytes */
    uint64_t merge_freed_bytes;     /* of segments that merges have unlinked since open */
    uint64_t merges;                /* done since open */
    uint64_t merges_failed;         /* since open; inputs and index are then as they were */
    int64_t merge_last_error; /* the status of the last one that failed; CASK_OK if none did */
    uint64_t merge_stalls;    /* writes that had to wait for a merge, since open */
};

/* Fills *stats up to stats->size, which the caller sets. CASK_OK or CASK_EINVAL. */
CASK_API CASK_CHECKED int cask_stats(struct cask_db *db, struct cask_stats *stats);

/* The same figures for one shard, 0..shards-1; disk_bytes without what all share. CASK_OK or
 * CASK_EINVAL. */
CASK_API CASK_CHECKED int cask_stats_shard(struct cask_db *db, uint32_t shard,
                                           struct cask_stats *stats);

/* Told as long work goes on: done of total bytes. Return non-zero to stop it. */
typedef int (*cask_progress_fn)(void *context, uint64_t done, uint64_t total);

/* Moves the whole index to disk now, in the caller, one run per shard: afterwards live_keys is
 * exact and the memory of the index is free but for its filters. Puts and gets go on meanwhile.
 * Returns CASK_OK, CASK_EREADONLY, CASK_ENOSPC, CASK_EIO, CASK_ENOMEM, CASK_EMFILE or
 * CASK_ECORRUPT; the index is right whatever is returned. */
CASK_API CASK_CHECKED int cask_flush_index(struct cask_db *db);

/* Merges now, in the caller and, for the call's time, one thread for each further processor:
 * rewrites every segment that holds dead records, whatever the merge options say, and unlinks it.
 * Puts, gets, views and iterators go on meanwhile; a view stays valid though its segment is
 * unlinked. progress may be NULL; it is called in the caller's thread alone. Needs room for the
 * live records of one group of segments (about segment_bytes) at a time for each thread. Returns
 * CASK_OK, CASK_EREADONLY, CASK_ENOSPC, CASK_EIO, CASK_ENOMEM, CASK_EMFILE, CASK_ECORRUPT (a
 * segment with damage was left as it is), or CASK_EBUSY if progress stopped it: what was done by
 * then stays done, the rest is as it was. */
CASK_API CASK_CHECKED int cask_merge(struct cask_db *db, cask_progress_fn progress, void *context);

/* Reads every byte of the store as it was when the call began: segments and hints against their
 * checksums, records against the index both ways. progress may be NULL. Each problem goes to the
 * log callback as one CASK_LOG_ERROR line naming file and offset. Returns CASK_OK, CASK_ECORRUPT
 * (at least one problem), CASK_EIO, CASK_ENOMEM, or CASK_EBUSY if progress stopped it. */
CASK_API CASK_CHECKED int cask_verify(struct cask_db *db, cask_progress_fn progress, void *context);

/* A sentence in English for any status, never NULL, statically allocated. */
CASK_API const char *cask_strerror(int status);

/* "MAJOR.MINOR.PATCH" of the library in use, statically allocated. */
CASK_API const char *cask_version(void);

#ifdef __cplusplus
}
#endif

#endif
