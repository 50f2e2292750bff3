#include "merge/weigh.h"

#include "merge/merge_internal.h"
#include "merge/survey.h"

static uint64_t live_bytes(const struct merge *merge)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < merge->survivor_count; i++)
        if (merge->survivors[i].fate == FATE_KEEP)
            bytes += merge->survivors[i].size;
    return bytes;
}

static int weigh(struct shard *shard, struct segment *segment, const struct merge_pace *pace)
{
    struct merge merge = {.shard = shard,
                          .inputs = &segment,
                          .input_count = 1,
                          .pace = pace,
                          .now_ms = io_clock_ms()};
    int status = merge_expect_survivors(&merge);
    uint64_t live;

    if (status == CASK_OK)
        status = merge_sift_inputs(&merge);
    live = live_bytes(&merge);
    pthread_mutex_lock(&shard->lock);
    if (status == CASK_OK && segment->counts.live_bytes > live)
        segment->shadowed_bytes = segment->counts.live_bytes - live;
    shard->merge_counts.read_bytes += merge.read_bytes;
    pthread_mutex_unlock(&shard->lock);
    pages_free(merge.survivors, merge.survivor_room * sizeof *merge.survivors);
    return status;
}

void merge_weigh(struct shard *shard, const struct merge_pace *pace)
{
    struct survey survey;
    int status;

    merge_forget_weights(shard);
    pthread_mutex_lock(&shard->lock);
    status = shard_drain(shard);
    pthread_mutex_unlock(&shard->lock);
    if (status != CASK_OK || survey_make(shard, &survey) != CASK_OK)
        return;
    for (size_t i = 0; status != CASK_EBUSY && i < survey.count; i++)
        if (survey.figures[i].mergeable && survey.figures[i].live_bytes > 0)
            status = weigh(shard, survey.segments[i], pace);
    survey_release(&survey);
}

void merge_forget_weights(struct shard *shard)
{
    struct segment *segment;

    pthread_mutex_lock(&shard->lock);
    segment = segments_at_or_after(&shard->segments, 0);
    for (; segment; segment = segments_at_or_after(&shard->segments, segment->id + 1))
        segment->shadowed_bytes = 0;
    pthread_mutex_unlock(&shard->lock);
}
