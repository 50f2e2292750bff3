/* When merges are done, and how many at a time: what the shards of a store share.
 *
 * Invariants:
 *  1. At most `at_once` background merges run; a shard that finds no place is woken when one is
 *     free.
 *  2. Background merges together read and write no faster than `bytes_per_second`.
 *  3. No background merge begins outside the hours. One that is under way is finished.
 */
#ifndef CASKADE_CONTROL_H
#define CASKADE_CONTROL_H

#include "merge/merge.h"

struct merge_settings {
    bool automatic;
    unsigned trigger_percent;
    unsigned segment_percent;
    unsigned at_once;
    uint64_t bytes_per_second; /* 0: no limit */
    unsigned from_hour;        /* local time; both the same: at any time */
    unsigned until_hour;
};

struct merge_control {
    struct shard_env *env;
    struct merge_settings settings;
    pthread_mutex_t lock;
    unsigned running;
    bool waiting[SHARDS_MAX]; /* for a place */
    uint64_t tokens;          /* bytes that may be read or written now */
    uint64_t filled_ms;       /* when the bucket was last filled */
};

CHECKED int merge_control_init(struct merge_control *control, struct shard_env *env,
                               const struct merge_settings *settings);
void merge_control_release(struct merge_control *control);

/* Sets when a shard asks for its first merge. Before it is used. */
void merge_arm(const struct merge_control *control, struct shard *shard);

/* Merges what is due in a shard, on its worker. True: nothing may begin at this hour, or another
 * has the shard: look again in a while. */
bool merge_automatically(struct merge_control *control, struct shard *shard);

/* Whether an hour lies within the hours. */
bool merge_is_within(unsigned from_hour, unsigned until_hour, unsigned hour);

/* Merges everything that has dead records in it, in the caller. */
CHECKED int merge_all(struct shard *shard, const struct merge_pace *pace);

/* The same when the disk is full, a segment at a time, with the room of the reserve, until all is
 * done, or something is and there is room: then *ret_has_room is set, and more may be left to do.
 * Under the shard's merge_lock. */
CHECKED int merge_in_need(struct shard *shard, const struct merge_pace *pace, bool *ret_has_room);

/* Bytes of all records of the shard, dead and alive. */
uint64_t merge_bytes_in_segments(struct shard *shard);

/* Bytes of segments that merge_all() would read, and those that are due by the settings. */
uint64_t merge_all_bytes(struct shard *shard);
uint64_t merge_debt(struct merge_control *control, struct shard *shard);

#endif
