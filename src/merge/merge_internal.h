/* What the parts of a merge share: merge.c (the order of things), gather.c and sift.c (what is
 * kept, by the index or by the hints), order.c (the order in which it is read), copy.c (the bytes),
 * check.c (is that all). */
#ifndef CASKADE_MERGE_INTERNAL_H
#define CASKADE_MERGE_INTERNAL_H

#include "base/pages.h"
#include "merge/merge.h"

enum fate { FATE_KEEP, FATE_TOMBSTONE, FATE_EXPIRED, FATE_TO_TOMBSTONE };

/* A record that is not simply dead. FATE_EXPIRED: out of the index, and gone; FATE_TO_TOMBSTONE:
 * out of the index, but an older record of its key exists elsewhere, so a tombstone stays.
 *
 * Where it was found by the index, nothing is known of it but its tag and its place before it has
 * been read: its size is 0 until then, and the other bits of its hash as well. */
struct survivor {
    uint64_t hash;
    uint64_t sequence;
    uint32_t from; /* offset in its input, in units of RECORD_ALIGNMENT */
    uint32_t to;   /* the same of the copy */
    uint32_t size; /* in bytes */
    uint32_t input;
    uint32_t output;        /* if there is a copy */
    unsigned key_size : 16; /* of the copy, once it is made */
    unsigned type : 8;      /* and type and flags, as in a hint */
    unsigned fate : 7;      /* enum fate */
    unsigned indexed : 1;   /* an entry leads to it */
};

_Static_assert(SEGMENT_BYTES_MAX / RECORD_ALIGNMENT <= UINT32_MAX, "places have 32 bits");

static inline uint64_t survivor_offset(const struct survivor *survivor)
{
    return (uint64_t)survivor->from * RECORD_ALIGNMENT;
}

/* Bytes of its copy. */
static inline uint32_t survivor_copy_size(const struct survivor *survivor)
{
    return survivor->fate == FATE_TO_TOMBSTONE
               ? (uint32_t)record_stored_size(survivor->key_size, 0, false)
               : survivor->size;
}

struct merge {
    struct shard *shard;
    struct segment **inputs;
    size_t input_count;
    const struct merge_pace *pace;
    bool by_index;              /* survivors were gathered, not sifted */
    struct survivor *survivors; /* in the order of tags, or so input by input */
    size_t survivor_count;
    size_t survivor_room;
    uint64_t survivors_expected;
    uint64_t records_in;
    uint64_t records_dead;
    uint64_t now_ms;
    uint64_t output_bytes;
    uint64_t live_bytes; /* of the inputs, before they were gathered */
    uint64_t kept_bytes;
    struct segment **outputs;
    struct hint *output_hints;
    size_t output_count;
    size_t output_room;
    uint64_t read_bytes;
    uint64_t written_bytes;
    bool carries_tombstones;
};

/* Marks an input in which damage was met. */
void merge_leave_alone(struct merge *merge, struct segment *input);

/* The hint of a sealed segment, made anew from its bytes where the file is missing or damaged.
 * CASK_ECORRUPT: they are damaged as well. */
CHECKED int merge_read_hint(struct merge *merge, struct segment *input, struct hint *ret_hint);

/* About how many records an input has; never more than its bytes can hold. */
static inline uint64_t merge_records_of(const struct segment *input)
{
    return min_u64(input->counts.records, segment_tail(input) / RECORD_MIN_BYTES);
}

CHECKED int merge_pause(struct merge *merge, uint64_t bytes);

/* gather.c: fills in the survivors by one walk over the index, if the merge is one for which that
 * can be done, and pays. CASK_NOTFOUND: not after all. */
CHECKED bool merge_can_gather(struct merge *merge);
CHECKED int merge_gather(struct merge *merge);

/* Whether what has been copied is what the inputs counted as live. */
CHECKED bool merge_gathered_all(struct merge *merge);

/* sift.c: fills in the survivors, by sweeps of hints and index, one input after the other. */
CHECKED int merge_sift(struct merge *merge);

/* The same without a look at which tombstones may go: all are kept. */
CHECKED int merge_sift_inputs(struct merge *merge);

CHECKED int merge_add_survivor(struct merge *merge, const struct survivor *survivor);

/* Room for about as many survivors as the figures of the inputs say: before any is added. */
CHECKED int merge_expect_survivors(struct merge *merge);

/* order.c: the survivors input by input, each in the order of places. *ret_order: keys, from which
 * merge_survivor_of() and merge_offset_of() tell; to be given back by merge_free_order(). */
CHECKED int merge_make_order(const struct merge *merge, uint64_t **ret_order);
void merge_free_order(const struct merge *merge, uint64_t *order);

static inline struct survivor *merge_survivor_of(const struct merge *merge, uint64_t key)
{
    return &merge->survivors[(uint32_t)key];
}

static inline uint64_t merge_offset_of(uint64_t key)
{
    return (key >> 32) * RECORD_ALIGNMENT;
}

/* copy.c: makes the outputs and copies what survives into them. CASK_NOTFOUND: something that was
 * gathered has to be sifted after all. */
CHECKED int merge_copy(struct merge *merge);

/* check.c, after the copy: CASK_ECORRUPT where the index leads to a record of the inputs that does
 * not survive. */
CHECKED int merge_check(const struct merge *merge);

#endif
