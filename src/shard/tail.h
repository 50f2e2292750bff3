/* What a segment holds, read record by record: for hints, and for the part of the log that no hint
 * covers.
 *
 * Invariants:
 *  1. A batch counts only with its end; pieces without one are left out, and at the end of what is
 *     valid they are not part of it.
 *  2. Pure reading: nothing on disk is changed.
 */
#ifndef CASKADE_TAIL_H
#define CASKADE_TAIL_H

#include "log/hint.h"
#include "log/scan.h"
#include "shard/shard.h"

/* A batch that spans shards: where its pieces begin, and which shards must have theirs. */
struct tail_batch {
    uint64_t offset;
    uint64_t first_entry;
    struct batch_end end;
};

struct tail {
    struct segment *segment;
    struct hint hint;   /* its records that count, in the order of the log */
    bool entries_later; /* they were too many to be kept: see tail_read_entries() */
    struct tail_batch *batches;
    uint64_t batch_count;
    uint64_t batch_room;
    uint64_t from;
    uint64_t settled; /* below this it was durable: what is bad there is damage, no torn tail */
    uint64_t end;     /* of what is valid */
    uint64_t max_sequence;   /* of all records, seals and batch ends too */
    uint64_t first_sequence; /* of the first put or delete that the runs do not know; 0: none */
    uint64_t records;
    uint64_t bad_bytes; /* something that is no record stands behind `end`, or was skipped */
    bool sealed;        /* ends with a seal */
    bool damaged;       /* valid records follow something that is none, or bytes are missing */
    bool half_batch;    /* begins with an end of a batch, or one with more pieces than there are */
    bool shortened;     /* the file ends before what its hint covers */
};

/* Reads [from, end) of a segment, of which what lies below `settled` was durable. skip_damage: go
 * on behind what does not validate, noting it, wherever a record follows that does; below `settled`
 * that is done in any case. */
CHECKED int tail_read(struct shard *shard, struct segment *segment, uint64_t from, uint64_t end,
                      uint64_t settled, bool skip_damage, struct tail *ret_tail);

/* The same of what is durable to its end, for `hint`, to which its records are added, as far as
 * that keeps them. The tail itself is without records and batches then. */
CHECKED int tail_read_settled(struct shard *shard, struct segment *segment, uint64_t from,
                              uint64_t end, struct hint *hint, struct tail *ret_tail);

/* The same to the end of an open segment, from where neither the runs know it nor what lies below
 * `from` is known otherwise. Tails wait for those of all shards: of one with more records than
 * befits the memory that the store was given for its index, entries are left for later. */
CHECKED int tail_read_uncovered(struct shard *shard, struct segment *segment, uint64_t from,
                                uint64_t settled, bool skip_damage, struct tail *ret_tail);

/* The entries that were left for later, as far as the tail reaches by now. */
CHECKED int tail_read_entries(struct shard *shard, struct tail *tail);
void tail_release(struct tail *tail);

/* Cuts the tail at offset: what begins there or behind no longer counts. */
void tail_cut(struct tail *tail, uint64_t offset);

#endif
