/* One bitcask: a log of segments, the index over it, and the lock of its writers.
 *
 * Invariants:
 *  1. Writers hold `lock`; readers hold an epoch guard and no lock.
 *  2. A record is whole in the log before its location is in the index.
 *  3. Sequence numbers rise by one from record to record of the log and are never used twice.
 *  4. `active` takes the appends. `next`, where it exists, is empty and listed in the manifest;
 *     moving on to it is the only way `active` changes, and leaves a seal behind.
 *  5. A failed sync, or a failed append that could not be taken back, sets `failed`: no write is
 *     accepted from then on. Reads go on.
 *  6. A write is durable when `synced` has reached its position and the same holds for the shards
 *     that it depends on (batches across shards).
 *
 * Lock order: merge_lock, seal_lock, manifest_lock, ahead_lock, lock; locks of several shards in
 * ascending order of shards; sync_lock and work_lock are leaves. No file is read, written or synced
 * under `lock`, but for the append itself, the blocks it needs, and old records that a drain, a
 * delete or a conditional put proves.
 */
#ifndef CASKADE_SHARD_H
#define CASKADE_SHARD_H

#include <pthread.h>

#include "base/epoch.h"
#include "base/hash.h"
#include "base/report.h"
#include "base/thread.h"
#include "index/index.h"
#include "log/hint.h"
#include "shard/manifest.h"
#include "shard/reserve.h"
#include "shard/segments.h"

#define SHARDS_MAX 256u
#define SHARD_AHEAD_FROM ((uint64_t)1 << 20) /* the next of smaller segments is not made ahead */

/* What no more than some shards' workers do at once: see turn.h. */
enum turn { TURN_SEAL, TURN_MERGE_RUNS, TURNS };

/* What the shards of a store have in common. */
struct shard_env {
    struct io_dir *root;
    const char *path; /* of the store, for messages */
    struct epoch epoch;
    struct reporter reporter;
    struct budget budget;
    pthread_rwlock_t
        building; /* held to read while a run is built of a keydir; to write by one that
                                  found no memory for it beside the others */
    uint64_t hash_seed;
    uint32_t shard_count;
    unsigned shard_bits;
    uint8_t boot_id[16];
    size_t keydir_reserve_bytes;
    const char *real_path; /* of the store, whatever the working directory */
    bool spills;           /* the index may go to disk */
    bool read_only;
    struct shard *shards;
    _Atomic uint64_t batch_number; /* the last one given out */
    _Atomic unsigned turns[TURNS]; /* workers that have one: see turn.h */
    struct reserve reserve;
};

enum shard_work {
    SHARD_WORK_PREPARE = 1,
    SHARD_WORK_SEAL = 2,
    SHARD_WORK_EXTEND = 4,
    SHARD_WORK_POPULATE = 8,
    SHARD_WORK_MERGE = 16, /* the merge layer's */
    SHARD_WORK_FLUSH = 32,
    SHARD_WORK_TIDY = 64, /* runs to be merged */
    /* What a writer will soon want, and what must not wait for the rest, which syncs files. */
    SHARD_WORK_AHEAD = SHARD_WORK_EXTEND | SHARD_WORK_POPULATE
};

struct shard_counts {
    uint64_t live_bytes;
    uint64_t dead_bytes;
    uint64_t writes;
    uint64_t written_bytes;
    uint64_t syncs;
    uint64_t recovered_records;
    uint64_t cut_bytes;
    uint64_t hints_rebuilt;
};

/* What has become of the index's overflow since open; changed under the lock. */
struct spill_counts {
    uint64_t flushes;
    uint64_t run_merges;
    uint64_t failed;
    uint64_t written_bytes; /* to runs */
    uint64_t stalls;        /* writers that had to see to a flush themselves */
    int last_error;
};

/* What merges have done since open; changed under the lock. */
struct merge_counts {
    uint64_t read_bytes;
    uint64_t written_bytes;
    uint64_t freed_bytes;
    uint64_t done;
    uint64_t failed;
    uint64_t stalls; /* writers that waited for a merge before they moved on */
    int last_error;
};

struct shard {
    struct shard_env *env;
    struct log_config config;
    uint32_t number;
    struct io_dir *dir;          /* NULL until the first write */
    struct io_dir *index_dir;    /* NULL until the first run; under manifest_lock */
    uint64_t next_run;           /* under manifest_lock */
    uint64_t first_loaded_run;   /* the least id of those that were made since the open began */
    bool has_unlisted_runs;      /* made, or given up, while the shard was being opened */
    _Atomic bool distrusts_runs; /* damage was met in one: the next open makes them anew */

    pthread_mutex_t lock;
    struct segment *active;
    struct segment *next;
    uint64_t next_sequence;
    uint64_t position; /* bytes appended since open */
    _Atomic int failed;
    bool dirty; /* appended to since open */
    struct index index;
    struct segments segments;
    struct shard_counts counts;
    struct merge_counts merge_counts;
    struct spill_counts spill_counts;
    uint64_t merge_above;    /* dead bytes above which to ask for a merge */
    uint64_t merge_sealed;   /* and above which to ask when a segment has been sealed */
    uint64_t merge_expiry;   /* from when on to ask then, too: a whole segment has expired */
    uint64_t rotate_above;   /* length at which the active segment is left before it is full */
    uint64_t stall_above;    /* dead bytes above which to wait for a merge before moving on */
    _Atomic bool merging;    /* one is under way in the background, or waits for its place */
    bool uses_reserve;       /* its runs do not ask: a merge in need makes them, or an open */
    struct segment *retired; /* unlinked, but pinned by views: newest first */
    struct segment *sealing_first; /* sealed by a rotation, not yet by seal.c */
    struct segment *sealing_last;
    unsigned sealing_count;
    _Atomic bool put_off[TURNS]; /* the worker is to be told when another shard's is done */
    pthread_mutex_t merge_lock;  /* one merge, flush or verification at a time; before seal_lock */
    pthread_mutex_t seal_lock;   /* one sealer at a time; before manifest_lock */
    pthread_mutex_t ahead_lock;  /* keeps files from being cut and keydirs from being emptied */
    uint64_t *depends_on; /* by shard: position that must be durable there too; NULL if none */

    pthread_mutex_t manifest_lock;
    uint64_t manifest_generation;
    bool relocates; /* entries are about to be moved by a merge */
    uint64_t next_segment;
    uint64_t settled_batch;
    uint64_t covering_batch; /* the largest of what the flush under way covers */

    pthread_mutex_t sync_lock;
    pthread_cond_t sync_done;
    bool syncing;
    _Atomic uint64_t synced; /* position up to which the log is durable */

    pthread_mutex_t work_lock;
    pthread_cond_t work_wanted;
    pthread_cond_t ahead_wanted; /* the same for SHARD_WORK_AHEAD */
    _Atomic unsigned work;       /* of enum shard_work */
    bool stopping;
};

/* A shard with nothing in it; config is copied. */
CHECKED int shard_init(struct shard *shard, struct shard_env *env, uint32_t number,
                       const struct log_config *config);
void shard_release(struct shard *shard);

void shard_dir_name(uint32_t number, char name[SEGMENT_NAME_BYTES]);

/* ---- writing (shard.c) ---- */

/* An operation on one key. expires_at_ms 0: never. */
struct shard_op {
    uint64_t hash;
    struct cask_slice key;
    struct cask_slice value;
    uint64_t expires_at_ms;
    enum record_type type;
};

/* Put; *ret_position is what shard_make_durable() wants. */
CHECKED int shard_put(struct shard *shard, const struct shard_op *op, uint64_t *ret_position);

/* A put on the condition that the key has the sequence number `wanted`, or is not there where that
 * is 0. CASK_EEXIST: it has another one; CASK_NOTFOUND: it is not there. *ret_sequence is that of
 * what was put. */
CHECKED int shard_put_if(struct shard *shard, const struct shard_op *op, uint64_t wanted,
                         uint64_t *ret_position, uint64_t *ret_sequence);

/* CASK_NOTFOUND where there is nothing to delete. */
CHECKED int shard_delete(struct shard *shard, const struct shard_op *op, uint64_t *ret_position);

/* The parts of a batch in one shard. First room in the log, without the lock. Then, with the locks
 * of all its shards held until the end: ready (CASK_EBUSY if the room has gone meanwhile: let go of
 * the locks and start again), append, and publish or undo. A publish fails only with its shard: the
 * part is in the log then, but not, or not all of it, in the index. */
CHECKED int shard_batch_room(struct shard *shard, uint64_t bytes);
CHECKED int shard_batch_ready(struct shard *shard, uint64_t bytes, uint64_t count);
CHECKED int shard_batch_append(struct shard *shard, const struct shard_op *ops,
                               const uint32_t *order, uint32_t count, struct batch_end *end,
                               uint64_t *ret_offsets);
void shard_batch_undo(struct shard *shard, uint64_t tail);
CHECKED int shard_batch_publish(struct shard *shard, const struct shard_op *ops,
                                const uint32_t *order, uint32_t count, const uint64_t *offsets,
                                const struct batch_end *end);

/* Empties the stage of the index (drain.c). Under the lock. */
CHECKED int shard_drain(struct shard *shard);

/* The same for entries whose records are in the log already, as those of a batch: for the room that
 * was made for them, yet not just where they belong, the budget is overdrawn. */
CHECKED int shard_drain_written(struct shard *shard);

/* Counts a record that gave way to a newer one of its key. A tombstone was dead from the
 * beginning. Under the lock. */
void shard_count_replaced(struct shard *shard, struct segment *segment, uint64_t size,
                          bool tombstone);

/* Counts the record at a location as dead. Under the lock. */
void shard_count_dead(struct shard *shard, struct segment *segment, uint64_t bytes);

/* Sets the sticky failure, once, and tells the log. */
void shard_fail(struct shard *shard, int status, const char *doing);

/* ---- rotation (rotate.c) ---- */

/* Makes sure that `size` more bytes fit into the active segment. Called with the lock held, which
 * it may let go of for a while; returns with it held. */
CHECKED int shard_make_room(struct shard *shard, uint64_t size, enum record_type type);

/* What is to be kept for merging on a full disk before blocks are had for `size` more bytes in the
 * active segment, or a next one. Under the lock. */
uint64_t shard_wanted_reserve(const struct shard *shard, uint64_t size);

/* reserve_enter() for a run of the index, unless the merge that uses the reserve makes it, or an
 * open. Under the merge_lock. CASK_ENOSPC. */
CHECKED int shard_enter_reserve(struct shard *shard);
void shard_exit_reserve(struct shard *shard);

/* Where the file system cannot preallocate: writes by system calls from now on, if they will do. */
bool shard_write_otherwise(struct shard *shard);

/* Puts a segment that takes no more records in line for sealing. Under the lock. */
void shard_queue_for_sealing(struct shard *shard, struct segment *segment);

/* Leaves the active segment, sealed, for the next, which is there. Under the lock. */
CHECKED int shard_move_on(struct shard *shard);

/* Whether the reserve of disk space has to be had in full first, or is in use by the caller. */
enum preparing { PREPARE_FOR_WRITES, PREPARE_IN_NEED };

/* Makes an empty segment for `size` bytes ready to be moved on to, unless there is one. Without the
 * lock. CASK_EBUSY while the reserve is in use by another. */
CHECKED int shard_prepare(struct shard *shard, uint64_t size, enum preparing why);

/* Writes the manifest as things are: all segments there are but those marked unlisted. Under
 * manifest_lock, not under lock. Where the new one is in place but not known to be durable, the
 * shard fails. */
CHECKED int shard_write_manifest(struct shard *shard);

/* ---- reading (read.c) ---- */

struct found {
    struct record record;
    struct segment *segment;
};

/* Finds the newest record of a key: CASK_OK, CASK_NOTFOUND (also if deleted or expired), or
 * CASK_ECORRUPT, CASK_EIO, CASK_ENOMEM. Inside an epoch guard; *ret_found is valid until it is left
 * and buffer is released. */
CHECKED int shard_find(struct shard *shard, uint64_t hash, struct cask_slice key,
                       struct record_buffer *buffer, struct found *ret_found);

/* Starts bringing the key's index entry, or its record, into the cache. */
void shard_prefetch_index(const struct shard *shard, uint64_t hash);
void shard_prefetch_record(const struct shard *shard, uint64_t hash);

/* Asks for what the look-up of a key will read from the disk: the pages of the runs if the keydir
 * does not have it, then its record. */
void shard_read_ahead_index(const struct shard *shard, uint64_t hash);
void shard_read_ahead_record(const struct shard *shard, uint64_t hash);

/* Reads the record at a location, inside an epoch guard or under the lock. */
CHECKED int shard_read_at(const struct shard *shard, uint64_t location,
                          struct record_buffer *buffer, struct found *ret_found);

/* The same without its checksum: what is found is a guess. */
CHECKED int shard_read_unverified(const struct shard *shard, uint64_t location,
                                  struct record_buffer *buffer, struct found *ret_found);

/* Tells the log of a record that could not be read. */
void shard_report_unreadable(const struct shard *shard, uint64_t location, int status);

bool record_is_expired(const struct record *record);

/* ---- the index's overflow (spill.c, relief.c) ---- */

/* Asks for flushes where the index's budget is nearly used up. Cheap. */
void spill_look(struct shard_env *env);

/* Makes room in the budget now, in the caller, who holds no lock, or waits for memory that somebody
 * holds for a while. CASK_OK does not say that there is enough. Otherwise, what kept the index from
 * being moved. */
CHECKED int spill_relieve(struct shard_env *env);
#define SHARD_RELIEF_TRIES 64u /* before a caller gives up */

/* Moves the keydir of a shard to disk, and merges its runs where there are many; `into_one`: all of
 * them. Takes the merge_lock. */
CHECKED int spill_flush(struct shard *shard, bool into_one);

/* What a worker does who was asked for a flush. A drain that comes after it was told, and before it
 * has begun, asks once more: then there is next to nothing to move, and no run is made of that. */
CHECKED int spill_flush_asked(struct shard *shard);

/* As spill_flush() under the merge_lock, without the manifest: while the shard is being opened. */
CHECKED int spill_while_loading(struct shard *shard);

/* While the shard is being opened a keydir takes no more than its share of the budget, so that each
 * shard has something to begin with. */
void spill_bound_loading(struct shard *shard, bool loading);

/* Before a merge, with the index on disk: takes out of the budget what so many new entries need,
 * since those of the copies cannot be refused. Keydirs are moved to disk for that, if need be, but
 * nobody is waited for: there may be less. Under the merge_lock, as is the other. */
void spill_set_aside(struct shard *shard, uint64_t entries);
void spill_end_aside(struct shard *shard);

/* Moves the keydir of a shard to disk where entries that could not be refused have made it much
 * larger than the budget allows. Under the merge_lock. */
CHECKED int spill_flush_excess(struct shard *shard);

/* For a merge that uses the reserve: moves the keydir of a shard to disk, if the index is there
 * already, and merges all its runs, so that it is known what lives. Under the merge_lock. */
CHECKED int spill_flush_in_need(struct shard *shard);

/* Merges runs where there are many. Takes the merge_lock. */
CHECKED int spill_tidy(struct shard *shard);

/* Puts what has become of the runs while the shard was being opened into the manifest. */
CHECKED int spill_settle(struct shard *shard);

/* Removes runs that the manifest does not name, and notes the largest id there was. */
CHECKED int spill_remove_orphans(struct shard *shard, const struct manifest *manifest);

/* Opens the runs that the manifest names. CASK_ECORRUPT: one is missing or damaged; none is open
 * then. */
CHECKED int spill_open_runs(struct shard *shard, const struct manifest *manifest);

/* Tells the log, and has the runs made anew by the next open. */
void shard_distrust_runs(struct shard *shard);

/* ---- what merging needs (install.c) ---- */

/* Makes a segment that no manifest lists yet, for exactly `bytes` of records. CASK_ENOSPC and the
 * like leave nothing behind. */
CHECKED int shard_create_output(struct shard *shard, uint64_t bytes, struct segment **ret_segment);
void shard_discard_output(struct shard *shard, struct segment *output);

/* Ends an output, makes it durable with its hint, whose entries are complete. */
CHECKED int shard_finish_output(struct shard *shard, struct segment *output, struct hint *hint);

/* Puts the outputs into the manifest in place of the inputs, in one step. From then on the inputs
 * are no part of the store; they go with shard_retire(). A failure leaves all as it was, unless the
 * shard has failed. */
CHECKED int shard_install(struct shard *shard, struct segment **inputs, size_t input_count,
                          struct segment **outputs, size_t output_count);

/* Where a record was copied to. */
struct relocation {
    struct segment *input;
    struct segment *output; /* NULL: the entry is dropped, its record being expired */
    bool tombstone;         /* the copy, if there is one, is a tombstone */
    bool was_live;          /* the original was not */
    uint64_t from;
    uint64_t to;
    uint64_t size;
    uint32_t tag;
};

/* Moves index entries, a few at a time under the lock. One that has changed meanwhile stays: a
 * newer write stands. */
void shard_relocate(struct shard *shard, const struct relocation *relocations, size_t count);

/* Takes inputs out of the table and unlinks them; mappings go when the last pin does. */
void shard_retire(struct shard *shard, struct segment **inputs, size_t count);

/* Lets go of retired segments that nobody pins any more. Under merge_lock. */
void shard_reap(struct shard *shard);

/* Gives back blocks that were had ahead of time, where a merge finds no room. */
CHECKED int shard_give_back(struct shard *shard);

/* Waits for a moment, if writers have left merging behind and it is at work, before they move on to
 * another segment. *waits counts for how long already; false: no more. Under the lock, which it
 * lets go of meanwhile. */
CHECKED bool shard_wait_for_merge(struct shard *shard, unsigned *waits);

/* Leaves the active segment, if it holds any record, so that it can be sealed and merged. */
CHECKED int shard_leave_active(struct shard *shard, enum preparing why);

/* Sees to it, while the reserve is in use, that deletes have their headroom. */
CHECKED int shard_make_headroom(struct shard *shard);

/* ---- durability (sync.c) ---- */

/* Makes the shard durable up to position, and whatever it depends on in other shards. */
CHECKED int shard_make_durable(struct shard *shard, uint64_t position);

/* Notes that what is at the shard's position now counts only together with `other`'s. Both locks
 * are held. */
CHECKED int shard_depend(struct shard *shard, const struct shard *other);

/* Keeps syncs away, so that descriptors may be closed. */
void shard_hold_syncs(struct shard *shard);
void shard_allow_syncs(struct shard *shard);

/* ---- background work and closing (seal.c) ---- */

/* Does what is due: prepares a next segment, seals those rotated out (hint, manifest). */
void shard_do_work(struct shard *shard, unsigned work);

/* Seals what has been rotated out, oldest first; a writer that finds too much of it waiting does so
 * too. In the background it is put off, and CASK_OK, while another shard's worker does that. */
CHECKED int shard_seal_waiting(struct shard *shard, bool in_background);

/* The same for who merges next whatever has dead records in it: that gets no hint, unless it is
 * there still when the merges are over. Both under the merge_lock. */
CHECKED int shard_seal_to_merge(struct shard *shard);
void shard_write_missing_hints(struct shard *shard);

/* Writes a hint unless that would take what is kept for merging: CASK_ENOSPC then, too. */
CHECKED int shard_write_hint(struct shard *shard, struct hint *hint);

/* The checksum of the first bytes of a segment. */
CHECKED int shard_checksum_segment(const struct segment *segment, uint64_t length,
                                   uint64_t *ret_checksum);

/* Seals what waits for it, makes all durable, writes the hint of the active segment. */
CHECKED int shard_close(struct shard *shard);

static inline unsigned shard_work_due(const struct shard *shard)
{
    return atomic_load_explicit(&shard->work, memory_order_relaxed);
}
/* Takes those of the bits off the list that are on it. */
static inline unsigned shard_take_work(struct shard *shard, unsigned bits)
{
    return (shard_work_due(shard) & bits) == 0
               ? 0
               : atomic_fetch_and_explicit(&shard->work, ~bits, memory_order_relaxed) & bits;
}
void shard_ask_for_work(struct shard *shard, enum shard_work work);

#endif
