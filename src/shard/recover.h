/* Opening a shard: manifest, then the hints of what is sealed, then the log behind them.
 *
 * Five steps, because a batch across shards counts only if it is whole in all of them:
 *   recover_read     each shard by itself, any number at once: no log is changed, but orphans of a
 *                    crash are removed and bad hints written anew
 *   recover_follow   all shards together, read-only opens alone: up to one moment of a live writer
 *   recover_resolve  all shards together: decides where each shard's log ends (resolve.c)
 *   recover_apply    each shard by itself: cuts, syncs what is trusted, fills in the index
 *   recover_settle   each shard by itself, once all are synced: lists the runs made on the way,
 *                    which calls their batches settled
 *
 * Invariants:
 *  1. A hint is used only if it is whole and fits its segment; else the segment is read.
 *  2. A torn tail of the newest segment is cut and reported. Something bad anywhere else is damage:
 *     reported with file and offset, the rest stays readable, nothing is removed.
 *  3. The cut is durable before anything is appended; what is trusted is synced.
 *  4. Reading nothing but: a read-only open changes no byte on disk.
 *  5. A read error fails the open; it is never the end of the log.
 *  6. Foreign files are left alone; files of ours that no manifest lists are removed.
 */
#ifndef CASKADE_RECOVER_H
#define CASKADE_RECOVER_H

#include "shard/tail.h"

/* Tombstones wait in the keydir until all is loaded, since segments need not be in the order of
 * their sequence numbers. */
struct loader {
    struct shard *shard;
    uint64_t newest; /* no run has a record with a higher sequence number */
    struct keydir_entry *tombstones;
    uint64_t tombstone_count;
    uint64_t tombstone_room;
};

struct recovery {
    struct shard *shard;
    struct loader loader;
    struct manifest manifest;
    struct tail *tails; /* of segments not sealed, in order; those that hints cover are loaded */
    uint64_t tail_count;
    bool same_boot; /* no power was lost since the manifest was written */
    bool exists;    /* there is a directory and a manifest */
    bool relist;    /* the manifest no longer says what is there */
    bool damaged;   /* something was kept behind what does not validate */
    bool has_runs;  /* of the index, all in order */
    bool overtaken; /* by a live writer: the open is to start again */
    bool missed;    /* a file that the manifest names was not there */
    bool told;      /* a failure has its line in the log */
    uint64_t max_sequence;
    uint64_t loaded_sequence; /* the highest of what is sealed or was clean */
    uint64_t max_id;
};

CHECKED int recover_read(struct shard *shard, struct recovery *ret_recovery);

/* Beside a live writer: goes on with the logs until all are known as they were at one moment
 * (follow.c). CASK_NOTFOUND: the open is to start again; CASK_EBUSY: the writer is too fast. */
CHECKED int recover_follow(struct recovery *recoveries, uint32_t count);
void recover_resolve(struct recovery *recoveries, uint32_t count);
CHECKED int recover_apply(struct recovery *recovery);
CHECKED int recover_settle(struct recovery *recovery);
void recover_release(struct recovery *recovery);

/* How many entries of a tail may wait for the tails of other shards. */
uint64_t recover_entries_that_wait(const struct shard_env *env);

/* names.c: notes the largest id ever used and removes what a crash has left behind; and whether a
 * shard without a manifest has no record either, else CASK_ECORRUPT. */
CHECKED int recover_look_through_names(struct recovery *recovery);
CHECKED int recover_check_unlisted(struct shard *shard);

/* Puts entries into the index, newest sequence number winning (load.c). */
CHECKED int load_hint(struct loader *loader, struct segment *segment, const struct hint *hint);
CHECKED int load_tail(struct loader *loader, const struct tail *tail);

/* Counts what of a segment, up to `end`, the runs do not cover and no record is. */
void load_rest(struct shard *shard, struct segment *segment, uint64_t end);

/* Takes what was cut off at `end` out of the segment's figures. */
void load_cut(struct shard *shard, struct segment *segment, uint64_t end);

/* Takes the tombstones out of the index again, unless older entries may lie below them. */
void load_finish(struct loader *loader);

/* To the log, of a place in a segment. A reader beside a live writer meets half-done work as a
 * matter of course: warnings are no more than information then. */
void recover_tell(struct shard *shard, enum cask_log_level level, uint64_t segment, uint64_t offset,
                  const char *what);

#endif
