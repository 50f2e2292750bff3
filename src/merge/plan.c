#include "merge/plan.h"

#define SMALL_SEGMENTS_MAX 8u
#define MOSTLY_DEAD_PERCENT 90u

static bool is_expired(const struct plan_segment *segment, const struct plan_limits *limits)
{
    return segment->last_expiry <= limits->now_ms && segment->live_bytes > 0 &&
           !segment->tombstones_stay;
}

/* Bytes that a merge of the segment would free. */
static uint64_t gain(const struct plan_segment *segment, const struct plan_limits *limits)
{
    uint64_t bytes = segment->dead_bytes;

    if (segment->tombstones_stay)
        bytes -= segment->tombstone_bytes;
    if (is_expired(segment, limits))
        bytes += segment->live_bytes;
    return bytes;
}

static uint64_t size(const struct plan_segment *segment)
{
    return segment->live_bytes + segment->dead_bytes;
}

static bool has_share(const struct plan_segment *segment, unsigned percent,
                      const struct plan_limits *limits)
{
    return size(segment) > 0 &&
           (double)gain(segment, limits) * 100 >= (double)size(segment) * percent;
}

/* Whether every record in it is older than any elsewhere: then none elsewhere is hidden by it. */
static bool is_oldest(const struct plan_segment *segments, size_t count, size_t at)
{
    for (size_t i = 0; i < count; i++)
        if (i != at && segments[i].min_sequence != 0 &&
            segments[i].min_sequence <= segments[at].max_sequence)
            return false;
    return true;
}

static bool may_be_dropped(const struct plan_segment *segments, size_t count, size_t at,
                           const struct plan_limits *limits)
{
    const struct plan_segment *segment = &segments[at];

    if (!segment->mergeable || size(segment) == 0)
        return false;
    if (segment->live_bytes == 0 && segment->tombstone_bytes == 0)
        return true;
    return (segment->live_bytes == 0 || is_expired(segment, limits)) &&
           is_oldest(segments, count, at);
}

/* The one with the largest share of gain that is not picked yet; count if there is none with at
 * least `percent`. */
static size_t best(const struct plan_segment *segments, size_t count, unsigned percent,
                   const struct plan_limits *limits, const enum plan_choice *choices)
{
    size_t found = count;
    double share = 0;

    for (size_t i = 0; i < count; i++) {
        double here;

        if (choices[i] != PLAN_KEEP || !segments[i].mergeable ||
            !has_share(&segments[i], percent, limits))
            continue;
        here = (double)gain(&segments[i], limits) / (double)size(&segments[i]);
        if (found == count || here > share) {
            found = i;
            share = here;
        }
    }
    return found;
}

static bool pick(const struct plan_segment *segment, const struct plan_limits *limits,
                 enum plan_choice *choice, struct plan *plan)
{
    uint64_t copied = is_expired(segment, limits) ? 0 : segment->live_bytes;

    if (plan->merged > 0 && plan->copied_bytes + copied > limits->copy_bytes)
        return false;
    *choice = PLAN_MERGE;
    plan->merged++;
    plan->copied_bytes += copied;
    return true;
}

static void join_small(const struct plan_segment *segments, size_t count,
                       const struct plan_limits *limits, enum plan_choice *choices,
                       struct plan *plan)
{
    size_t small = 0;

    for (size_t i = 0; i < count; i++)
        small += segments[i].mergeable && size(&segments[i]) < limits->small_bytes;
    if (small < SMALL_SEGMENTS_MAX)
        return;
    for (size_t i = 0; i < count; i++)
        if (choices[i] == PLAN_KEEP && segments[i].mergeable &&
            size(&segments[i]) < limits->small_bytes &&
            !pick(&segments[i], limits, &choices[i], plan))
            return;
}

void plan_make(const struct plan_segment *segments, size_t count, const struct plan_limits *limits,
               enum plan_choice *ret_choices, struct plan *ret_plan)
{
    struct plan plan = {0};
    uint64_t live = 0;
    uint64_t dead = 0;
    bool due;
    size_t i;

    for (i = 0; i < count; i++) {
        ret_choices[i] = may_be_dropped(segments, count, i, limits) ? PLAN_DROP : PLAN_KEEP;
        if (ret_choices[i] == PLAN_DROP) {
            plan.dropped++;
            plan.debt_bytes += size(&segments[i]);
            continue;
        }
        dead += gain(&segments[i], limits);
        live += size(&segments[i]) - gain(&segments[i], limits);
        if (segments[i].mergeable && has_share(&segments[i], limits->segment_percent, limits))
            plan.debt_bytes += size(&segments[i]);
    }
    due = plan_is_due(live, dead, limits);
    for (;;) {
        unsigned percent = due ? limits->segment_percent : MOSTLY_DEAD_PERCENT;

        i = best(segments, count, percent, limits, ret_choices);
        if (i == count || (!due && gain(&segments[i], limits) < limits->least_bytes) ||
            !pick(&segments[i], limits, &ret_choices[i], &plan))
            break;
    }
    if (plan.merged == 0)
        join_small(segments, count, limits, ret_choices, &plan);
    plan.wants_rotation = due && plan.merged + plan.dropped == 0;
    *ret_plan = plan;
}
