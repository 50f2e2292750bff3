/* Which segments to merge: a pure function of their figures.
 *
 * Merging pays where much is dead: a segment of which a share d is dead costs (1 - d) / d bytes of
 * copying for each byte it frees. So nothing is done before a share of the whole shard is dead, and
 * then the segments with the largest shares go first.
 *
 * Invariants:
 *  1. Only sealed segments without damage are picked, each once.
 *  2. What is dropped unread holds nothing that any other segment's records depend on: neither a
 *     tombstone, nor an expired record that hides an older one.
 *  3. The same figures give the same plan.
 */
#ifndef CASKADE_PLAN_H
#define CASKADE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct plan_segment {
    uint64_t live_bytes;
    uint64_t dead_bytes;
    uint64_t tombstone_bytes; /* of the dead ones */
    uint64_t min_sequence;    /* 0: it has no record */
    uint64_t max_sequence;
    uint64_t last_expiry; /* UINT64_MAX: not all of its puts expire */
    bool mergeable;
    bool tombstones_stay; /* a merge has found lately that they, or what is expired, are needed */
};

struct plan_limits {
    unsigned trigger_percent; /* of the shard */
    unsigned segment_percent; /* of a segment */
    uint64_t copy_bytes;      /* at most, but for a single segment that has more */
    uint64_t small_bytes;     /* segments of fewer bytes are joined where there are many */
    uint64_t least_bytes;     /* dead bytes that are worth a merge at all */
    uint64_t now_ms;
};

enum plan_choice { PLAN_KEEP, PLAN_MERGE, PLAN_DROP };

struct plan {
    size_t merged;
    size_t dropped;
    uint64_t copied_bytes; /* that the merge will copy */
    uint64_t debt_bytes;   /* of all segments that are due, picked or not */
    bool wants_rotation;   /* too much is dead, but not in what is sealed */
};

/* ret_choices has room for count. */
void plan_make(const struct plan_segment *segments, size_t count, const struct plan_limits *limits,
               enum plan_choice *ret_choices, struct plan *ret_plan);

/* Whether dead of all bytes is more than the trigger share. */
static inline bool plan_is_due(uint64_t live_bytes, uint64_t dead_bytes,
                               const struct plan_limits *limits)
{
    return dead_bytes >= limits->least_bytes &&
           dead_bytes / 100 * (100 - limits->trigger_percent) >=
               live_bytes / 100 * limits->trigger_percent;
}

#endif
