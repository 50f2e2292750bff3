#include "merge/survey.h"

#include <stdlib.h>

#define MERGES_UNTIL_AGAIN 8u /* after so many at least, what had to stay is looked at again */

void survey_release(struct survey *survey)
{
    free(survey->segments);
    free(survey->figures);
    free(survey->choices);
}

static struct plan_segment figures_of(const struct shard *shard, const struct segment *segment)
{
    const struct segment_counts *counts = &segment->counts;
    bool stay = segment->carried_at != 0 &&
                shard->merge_counts.done - segment->carried_at <
                    max_u64(MERGES_UNTIL_AGAIN, 2 * (uint64_t)shard->segments.count);
    uint64_t shadowed = min_u64(segment->shadowed_bytes, counts->live_bytes);
    uint64_t dead = counts->dead_bytes;

    if (segment->sealed) /* the seal itself is no gain */
        dead -= min_u64(dead, SEGMENT_SEAL_BYTES);
    return (struct plan_segment){.live_bytes = counts->live_bytes - shadowed,
                                 .dead_bytes = dead + shadowed,
                                 .tombstone_bytes = min_u64(counts->tombstone_bytes, dead),
                                 .min_sequence = counts->min_sequence,
                                 .max_sequence = counts->max_sequence,
                                 .last_expiry = counts->last_expiry,
                                 .mergeable = segment->in_manifest_sealed && !segment->unlisted &&
                                              !segment->queued && !segment->unmergeable &&
                                              !segment->header_damaged,
                                 .tombstones_stay = stay};
}

int survey_make(struct shard *shard, struct survey *survey)
{
    size_t room;

    memset(survey, 0, sizeof *survey);
    pthread_mutex_lock(&shard->lock);
    room = (size_t)shard->segments.count + 1;
    survey->segments = malloc(room * sizeof(struct segment *));
    survey->figures = malloc(room * sizeof *survey->figures);
    survey->choices = malloc(room * sizeof *survey->choices);
    if (survey->segments && survey->figures && survey->choices) {
        struct segment *segment = segments_at_or_after(&shard->segments, 0);

        for (; segment; segment = segments_at_or_after(&shard->segments, segment->id + 1)) {
            if (segment->unlisted)
                continue; /* an output, still being written */
            survey->segments[survey->count] = segment;
            survey->figures[survey->count++] = figures_of(shard, segment);
        }
    }
    survey->live_bytes = shard->counts.live_bytes;
    survey->dead_bytes = shard->counts.dead_bytes;
    pthread_mutex_unlock(&shard->lock);
    if (survey->segments && survey->figures && survey->choices)
        return CASK_OK;
    survey_release(survey);
    return CASK_ENOMEM;
}
