/* A reader beside a live writer. The shards are not all read at the same moment, so a write might
 * be there while one that had returned before it began is missing in another shard. So the logs are
 * followed until none has moved while all were looked at once more.
 *
 *  1. Logs only grow. If a look at all of them finds nothing new, all are known as they were when
 *     it began.
 *  2. Files are read by call: a mapping behind the end of one that the writer has cut is a signal.
 *  3. A record that is still being written, or a batch without its end, has not returned to its
 *     writer: it does not count yet.
 *  4. Without a writer nothing moves, and one look is enough.
 */
#include <stdlib.h>

#include "shard/recover.h"

#define FOLLOW_MS 1000u
#define CHUNK_BYTES ((size_t)16 << 10)

/* Where a shard's log ends, as far as is known. */
struct place {
    struct recovery *recovery;
    uint64_t first; /* of the tails that have grown */
    uint64_t tail;  /* the one that it ends in; tail_count: none that can grow */
    uint64_t at;    /* behind the last record that counts */
};

struct follower {
    struct place *places;
    uint32_t count;
    uint64_t until; /* by io_monotonic_ms() */
    const struct segment *segment;
    uint64_t chunk_at; /* of the segment: what chunk holds */
    size_t chunk_bytes;
    uint8_t chunk[CHUNK_BYTES];
};

static bool can_grow(const struct tail *tail)
{
    return !tail->sealed && !tail->damaged && tail->segment->file;
}

/* At the first tail from `number` on that can grow. */
static void stand_at(struct place *place, uint64_t number)
{
    const struct recovery *recovery = place->recovery;

    while (number < recovery->tail_count && !can_grow(&recovery->tails[number]))
        number++;
    place->tail = number;
    if (number < recovery->tail_count)
        place->at = max_u64(recovery->tails[number].end, SEGMENT_HEADER_BYTES);
}

/* What stands at `at` of the chunk. */
static enum record_outcome decode(const struct follower *follower, const struct segment *segment,
                                  uint64_t at, struct record *ret_record)
{
    uint64_t end = follower->chunk_at + follower->chunk_bytes;

    if (follower->segment != segment || at < follower->chunk_at || at >= end)
        return RECORD_NONE;
    return record_decode(follower->chunk + (at - follower->chunk_at), end - at,
                         segment_place(segment, at), true, ret_record);
}

/* One that is larger than the chunk, or that is on its way. */
static int read_large(const struct recovery *recovery, struct segment *segment, uint64_t at,
                      struct record_buffer *buffer, struct record *ret_record)
{
    int status = segment_look_again(segment, &recovery->shard->config);

    if (status == CASK_OK)
        status = segment_read(segment, at, false, true, buffer, ret_record);
    return status == CASK_ECORRUPT ? CASK_NOTFOUND : status;
}

/* The record at `at`, but for its key and value. CASK_NOTFOUND where none is yet. */
static int look(struct follower *follower, const struct recovery *recovery, struct segment *segment,
                uint64_t at, struct record *ret_record)
{
    static const uint8_t zeros[RECORD_HEADER_BYTES];
    uint8_t head[RECORD_HEADER_BYTES];
    struct record_buffer buffer;
    size_t got;
    int status;

    if (decode(follower, segment, at, ret_record) == RECORD_VALID)
        return CASK_OK;
    status = io_read(segment->file, at, head, sizeof head, &got);
    if (status == CASK_OK && (got < sizeof head || memcmp(head, zeros, sizeof head) == 0))
        status = CASK_NOTFOUND;
    if (status != CASK_OK)
        return status;
    follower->segment = segment;
    follower->chunk_at = at;
    status = io_read(segment->file, at, follower->chunk, CHUNK_BYTES, &follower->chunk_bytes);
    if (status != CASK_OK || decode(follower, segment, at, ret_record) == RECORD_VALID)
        return status;
    record_buffer_init(&buffer);
    status = read_large(recovery, segment, at, &buffer, ret_record);
    record_buffer_release(&buffer);
    return status;
}

/* Goes on as far as there are whole records and batches. */
static int go_on(struct follower *follower, struct place *place, bool *ret_moved)
{
    const struct recovery *recovery = place->recovery;
    uint64_t at = place->at;

    while (place->tail < recovery->tail_count) {
        struct record record;
        int status = look(follower, recovery, recovery->tails[place->tail].segment, at, &record);

        if (status != CASK_OK)
            return status == CASK_NOTFOUND ? CASK_OK : status;
        at += record_size(&record);
        if (record.in_batch && record.type != RECORD_BATCH_END)
            continue;
        place->at = at;
        *ret_moved = true;
        if (record.type == RECORD_SEAL) {
            stand_at(place, place->tail + 1);
            at = place->at;
        }
        if (io_monotonic_ms() > follower->until)
            return CASK_EBUSY;
    }
    return CASK_OK;
}

/* A shard whose log ended in no segment that can grow: whether it has another one now. */
static int check_unlisted(const struct place *place)
{
    const struct recovery *recovery = place->recovery;
    const struct shard *shard = recovery->shard;
    struct io_dir *dir = shard->dir;
    char name[SEGMENT_NAME_BYTES];
    struct manifest now;
    int status = CASK_OK;

    if (place->tail < recovery->tail_count)
        return CASK_OK;
    if (!dir) {
        shard_dir_name(shard->number, name);
        status = io_dir_open_at(shard->env->root, name, &dir);
    }
    if (status == CASK_OK)
        status = manifest_read(dir, &shard->config, &now);
    if (dir && dir != shard->dir)
        io_dir_close(dir);
    if (status == CASK_NOTFOUND && !recovery->exists)
        return CASK_OK;
    if (status != CASK_OK)
        return status;
    if (!recovery->exists || now.generation != recovery->manifest.generation)
        status = CASK_NOTFOUND;
    manifest_release(&now);
    return status;
}

static int follow(struct follower *follower)
{
    bool moved = true;
    int status = CASK_OK;

    while (status == CASK_OK && moved) {
        moved = false;
        for (uint32_t i = 0; status == CASK_OK && i < follower->count; i++)
            status = go_on(follower, &follower->places[i], &moved);
    }
    for (uint32_t i = 0; status == CASK_OK && i < follower->count; i++)
        status = check_unlisted(&follower->places[i]);
    return status;
}

static int append_batches(struct tail *tail, const struct tail *more)
{
    uint64_t count = tail->batch_count + more->batch_count;
    struct tail_batch *grown;

    if (more->batch_count == 0)
        return CASK_OK;
    grown = realloc(tail->batches, (size_t)count * sizeof *grown);
    if (!grown)
        return CASK_ENOMEM;
    for (uint64_t i = 0; i < more->batch_count; i++) {
        grown[tail->batch_count + i] = more->batches[i];
        grown[tail->batch_count + i].first_entry += tail->hint.count;
    }
    tail->batches = grown;
    tail->batch_count = count;
    tail->batch_room = count;
    return CASK_OK;
}

static int append(struct tail *tail, const struct tail *more)
{
    int status = append_batches(tail, more);

    if (status == CASK_OK)
        status = hint_take_over(&tail->hint, &more->hint);
    if (status != CASK_OK)
        return status;
    tail->end = more->end;
    tail->max_sequence = max_u64(tail->max_sequence, more->max_sequence);
    tail->records += more->records;
    tail->bad_bytes = 0; /* it was on its way */
    tail->sealed = more->sealed;
    return CASK_OK;
}

/* Reads what the tails have grown by: to their seals, and in the last one to where it ends. */
static int catch_up(const struct place *place)
{
    const struct recovery *recovery = place->recovery;
    int status = CASK_OK;

    for (uint64_t i = place->first; status == CASK_OK && i < recovery->tail_count; i++) {
        struct tail *tail = &recovery->tails[i];
        uint64_t from = max_u64(tail->end, SEGMENT_HEADER_BYTES);
        uint64_t end;
        struct tail more;

        if (i > place->tail || !can_grow(tail) || (i == place->tail && place->at <= from))
            continue;
        status = segment_look_again(tail->segment, &recovery->shard->config);
        if (status != CASK_OK)
            return status;
        end = i == place->tail ? place->at : segment_tail(tail->segment);
        status = tail_read(recovery->shard, tail->segment, from, end, from, false, &more);
        if (status != CASK_OK)
            return status;
        if (i == place->tail ? more.end == end : more.sealed)
            status = append(tail, &more);
        else
            status = CASK_NOTFOUND; /* a write that failed was taken back */
        tail_release(&more);
    }
    return status;
}

int recover_follow(struct recovery *recoveries, uint32_t count)
{
    struct follower *follower = calloc(1, sizeof *follower);
    struct place *places = calloc(count, sizeof *places);
    int status = follower && places ? CASK_OK : CASK_ENOMEM;

    if (status == CASK_OK && count > 1) { /* one log by itself is as it was at some moment */
        follower->places = places;
        follower->count = count;
        follower->until = io_monotonic_ms() + FOLLOW_MS;
        for (uint32_t i = 0; i < count; i++) {
            places[i].recovery = &recoveries[i];
            stand_at(&places[i], 0);
            places[i].first = places[i].tail;
        }
        status = follow(follower);
        for (uint32_t i = 0; status == CASK_OK && i < count; i++)
            status = catch_up(&places[i]);
    }
    free(follower);
    free(places);
    return status;
}
