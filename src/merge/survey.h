/* The figures of a shard's segments, as a plan wants them. */
#ifndef CASKADE_SURVEY_H
#define CASKADE_SURVEY_H

#include "merge/plan.h"
#include "shard/shard.h"

/* The segments of a shard with their figures. */
struct survey {
    struct segment **segments;
    struct plan_segment *figures;
    enum plan_choice *choices;
    size_t count;
    uint64_t live_bytes;
    uint64_t dead_bytes;
};

/* CASK_ENOMEM. The segments stay as long as the shard's merge_lock is held. */
CHECKED int survey_make(struct shard *shard, struct survey *survey);
void survey_release(struct survey *survey);

#endif
