/* What the parts of a merge share: merge.c (the order of things), sift.c (what is kept), copy.c
 * (the bytes). */
#ifndef CASKADE_MERGE_INTERNAL_H
#define CASKADE_MERGE_INTERNAL_H

#include "base/pages.h"
#include "merge/merge.h"

enum fate { FATE_KEEP, FATE_TOMBSTONE, FATE_EXPIRED, FATE_TO_TOMBSTONE };

/* A record that is not simply dead. FATE_EXPIRED: out of the index, and gone; FATE_TO_TOMBSTONE:
 * out of the index, but an older record of its key exists elsewhere, so a tombstone stays. */
struct survivor {
    uint64_t hash;
    uint64_t sequence;
    uint64_t offset; /* in its input */
    uint64_t size;
    uint64_t to; /* location of the copy */
    struct segment *output;
    uint32_t input; /* number of the input */
    uint32_t tag;
    enum fate fate;
    bool indexed; /* an entry leads to it */
};

struct merge {
    struct shard *shard;
    struct segment **inputs;
    size_t input_count;
    const struct merge_pace *pace;
    struct survivor *survivors; /* input by input, each in the order of its hint */
    size_t survivor_count;
    size_t survivor_room;
    uint64_t records_in;
    uint64_t records_dead;
    uint64_t now_ms;
    uint64_t output_bytes;
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

/* sift.c: fills in the survivors, by sweeps of hints and index, one input after the other. */
CHECKED int merge_sift(struct merge *merge);

/* The same without a look at which tombstones may go: all are kept. */
CHECKED int merge_sift_inputs(struct merge *merge);

/* copy.c: makes the outputs and copies what survives into them. */
CHECKED int merge_copy(struct merge *merge);

#endif
