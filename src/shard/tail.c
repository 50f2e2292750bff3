#include "shard/tail.h"

#include <stdlib.h>
#include <time.h>

#include "shard/recover.h"

#define LOOKS_MAX 10u
#define LOOK_AGAIN_NS 2000000

/* A walk in progress. */
struct walk {
    struct shard *shard;
    struct tail *tail;
    struct hint *hint; /* where records go */
    uint64_t entries_max;
    uint64_t covered; /* below this the runs know the segment */
    struct scan scan;
    bool in_batch;
    uint64_t batch_offset;
    uint64_t batch_first_entry;
    uint64_t batch_passed_over; /* by the hint before */
};

void tail_release(struct tail *tail)
{
    hint_release(&tail->hint);
    free(tail->batches);
    tail->batches = NULL;
}

static void drop_open_batch(struct walk *walk)
{
    if (walk->in_batch) {
        walk->hint->count = walk->batch_first_entry;
        walk->hint->passed_over = walk->batch_passed_over;
    }
    walk->in_batch = false;
}

/* From here on entries are counted and no more. */
static void leave_for_later(struct walk *walk)
{
    struct hint *hint = walk->hint;

    if (walk->in_batch) {
        walk->batch_passed_over += walk->batch_first_entry;
        walk->batch_first_entry = 0;
    }
    hint->passed_over += hint->count;
    hint->count = 0;
    hint->first_tag = 1;
    hint->last_tag = 0;
    hint_release(hint);
    walk->tail->entries_later = true;
}

static int add_entry(struct walk *walk, const struct record *record, uint64_t offset)
{
    uint64_t hash = hash_key(record->key.data, record->key.size, walk->shard->env->hash_seed);
    int status = hint_add(walk->hint, record, hash, offset);

    if (status == CASK_OK && walk->hint->count > walk->entries_max)
        leave_for_later(walk);
    return status;
}

static int note_batch(struct walk *walk, const struct batch_end *end)
{
    struct tail *tail = walk->tail;

    walk->hint->max_batch = max_u64(walk->hint->max_batch, end->number);
    if (walk->hint != &tail->hint)
        return CASK_OK;
    if (tail->batch_count == tail->batch_room) {
        uint64_t room = tail->batch_room == 0 ? 16 : tail->batch_room * 2;
        struct tail_batch *grown = realloc(tail->batches, (size_t)room * sizeof *grown);

        if (!grown)
            return CASK_ENOMEM;
        tail->batches = grown;
        tail->batch_room = room;
    }
    tail->batches[tail->batch_count++] = (struct tail_batch){walk->batch_offset,
                                                             walk->batch_first_entry, *end};
    return CASK_OK;
}

/* Of the batch that the walk is in. */
static uint64_t pieces(const struct walk *walk)
{
    return walk->hint->count - walk->batch_first_entry + walk->hint->passed_over -
           walk->batch_passed_over;
}

static int end_batch(struct walk *walk, const struct record *record)
{
    struct batch_end end;
    int status = CASK_OK;

    if (!walk->in_batch ||
        !batch_end_decode(record->value, walk->shard->config.shard_count, &end) ||
        pieces(walk) != end.count) {
        walk->tail->half_batch |= walk->tail->records ==
                                  1 + walk->hint->count + walk->hint->passed_over;
        drop_open_batch(walk);
        return CASK_OK;
    }
    if (end.number != 0)
        status = note_batch(walk, &end);
    walk->in_batch = false;
    return status;
}

static int take(struct walk *walk, const struct record *record, uint64_t offset)
{
    struct tail *tail = walk->tail;

    tail->max_sequence = max_u64(tail->max_sequence, record->sequence);
    tail->records++;
    switch (record->type) {
    case RECORD_BATCH_END:
        return end_batch(walk, record);
    case RECORD_SEAL:
        drop_open_batch(walk);
        tail->sealed = true;
        return CASK_OK;
    case RECORD_PUT:
    case RECORD_DELETE:
        break;
    }
    if (tail->first_sequence == 0 && offset >= walk->covered)
        tail->first_sequence = record->sequence;
    if (!record->in_batch) {
        drop_open_batch(walk);
    } else if (!walk->in_batch) {
        walk->in_batch = true;
        walk->batch_offset = offset;
        walk->batch_first_entry = walk->hint->count;
        walk->batch_passed_over = walk->hint->passed_over;
    }
    return add_entry(walk, record, offset);
}

/* Something that is no record stands at the scan's place: is there a record behind it? */
static int skip_bad(struct walk *walk, bool *ret_more)
{
    struct tail *tail = walk->tail;
    uint64_t at = walk->scan.at;
    uint64_t last;
    int status = scan_resync(&walk->scan);

    *ret_more = status == CASK_OK;
    if (status == CASK_OK || (status == CASK_NOTFOUND && at < tail->settled)) {
        drop_open_batch(walk);
        tail->damaged = true;
        tail->bad_bytes += min_u64(walk->scan.at, walk->scan.end) - at;
        return CASK_OK;
    }
    if (status != CASK_NOTFOUND)
        return status;
    walk->scan.at = at;
    scan_forget(&walk->scan);
    status = scan_last_byte(&walk->scan, &last);
    tail->bad_bytes += last - at;
    return status;
}

/* A torn tail, of which nothing is kept. */
static int measure_bad(struct walk *walk)
{
    uint64_t last;
    int status = scan_last_byte(&walk->scan, &last);

    walk->tail->bad_bytes += last - walk->scan.at;
    return status;
}

/* Beside a live writer, what does not validate may just be on its way: look again for a while. */
static bool look_again(struct walk *walk, unsigned *looks)
{
    struct timespec pause = {0, LOOK_AGAIN_NS};

    if (!walk->shard->env->read_only || !walk->scan.buffer || *looks == LOOKS_MAX)
        return false;
    (*looks)++;
    nanosleep(&pause, NULL);
    scan_forget(&walk->scan);
    return true;
}

/* Bytes too few for a header may be the start of a torn one. */
static bool ends_in_header(const struct scan *scan)
{
    return scan->end > scan->at && scan->end - scan->at < RECORD_HEADER_BYTES;
}

/* Where no power was lost, nothing but zeros follows the first zeros: anything else is damage. */
static int zeros_hide_more(struct walk *walk, bool *ret_more)
{
    uint64_t last = walk->scan.at;
    int status = scan_last_byte(&walk->scan, &last);

    *ret_more = last > walk->scan.at;
    return status;
}

static int walk_all(struct walk *walk, bool skip_damage)
{
    unsigned looks = 0;

    for (;;) {
        enum record_outcome outcome;
        struct record record;
        uint64_t offset;
        bool more = false;
        int status = scan_next(&walk->scan, &outcome, &record, &offset);

        if (status == CASK_OK && outcome == RECORD_VALID) {
            status = take(walk, &record, offset);
            more = !walk->tail->sealed;
        } else if (status == CASK_OK) {
            bool bad = outcome != RECORD_NONE;

            if (!bad && skip_damage)
                status = zeros_hide_more(walk, &bad);
            if (status == CASK_OK && bad && look_again(walk, &looks))
                more = true;
            else if (status == CASK_OK &&
                     (walk->scan.at < walk->tail->settled || (bad && skip_damage)))
                status = skip_bad(walk, &more);
            else if (status == CASK_OK && (bad || ends_in_header(&walk->scan)))
                status = measure_bad(walk);
        }
        if (status != CASK_OK || !more)
            return status;
    }
}

/* The tail's segment, from, end and settled are set. A failure releases the tail. */
static int read_into(struct walk *walk, uint64_t end, bool skip_damage)
{
    struct tail *tail = walk->tail;
    struct segment *segment = tail->segment;
    int status = CASK_OK;

    hint_init(&tail->hint, segment->id);
    if (segment->sealed && segment->map)
        scan_init_mapped(&walk->scan, segment, tail->from, end);
    else
        status = scan_init(&walk->scan, segment, NULL, tail->from, end);
    if (status == CASK_OK)
        status = walk_all(walk, skip_damage);
    scan_release(&walk->scan);
    tail->end = walk->in_batch ? walk->batch_offset : walk->scan.at;
    if (walk->in_batch)
        tail->bad_bytes = max_u64(tail->bad_bytes, walk->scan.at - walk->batch_offset);
    drop_open_batch(walk);
    if (status != CASK_OK)
        tail_release(tail);
    return status;
}

int tail_read(struct shard *shard, struct segment *segment, uint64_t from, uint64_t end,
              uint64_t settled, bool skip_damage, struct tail *ret_tail)
{
    struct walk walk = {.shard = shard,
                        .tail = ret_tail,
                        .hint = &ret_tail->hint,
                        .entries_max = UINT64_MAX,
                        .covered = UINT64_MAX};

    *ret_tail = (struct tail){.segment = segment, .from = from, .settled = min_u64(settled, end)};
    return read_into(&walk, end, skip_damage);
}

int tail_read_settled(struct shard *shard, struct segment *segment, uint64_t from, uint64_t end,
                      struct hint *hint, struct tail *ret_tail)
{
    struct walk walk = {.shard = shard,
                        .tail = ret_tail,
                        .hint = hint,
                        .entries_max = UINT64_MAX,
                        .covered = UINT64_MAX};

    *ret_tail = (struct tail){.segment = segment, .from = from, .settled = end};
    return read_into(&walk, end, true);
}

/* Whether what the runs cover of a segment ends with its seal. */
static bool covers_seal(const struct segment *segment)
{
    struct record_buffer buffer;
    struct record record;
    bool sealed;

    if (segment->covered.end < SEGMENT_HEADER_BYTES + SEGMENT_SEAL_BYTES)
        return false;
    record_buffer_init(&buffer);
    sealed = segment_read(segment, segment->covered.end - SEGMENT_SEAL_BYTES, false, true, &buffer,
                          &record) == CASK_OK &&
             record.type == RECORD_SEAL;
    record_buffer_release(&buffer);
    return sealed;
}

/* No more than entries_max of them are kept, unless there is damage. An open alone asks for this,
 * while nobody moves what is covered. */
static int read_bounded(struct shard *shard, struct segment *segment, uint64_t from,
                        uint64_t settled, bool skip_damage, uint64_t entries_max,
                        struct tail *ret_tail)
{
    uint64_t size = segment_tail(segment);
    struct walk walk = {.shard = shard,
                        .tail = ret_tail,
                        .hint = &ret_tail->hint,
                        .entries_max = entries_max,
                        .covered = segment->covered.end};
    int status;

    *ret_tail = (struct tail){.segment = segment, .from = from, .settled = min_u64(settled, size)};
    status = read_into(&walk, size, skip_damage);
    if (status != CASK_OK || !ret_tail->entries_later || !ret_tail->damaged)
        return status;
    tail_release(ret_tail);
    return read_bounded(shard, segment, from, settled, skip_damage, UINT64_MAX, ret_tail);
}

int tail_read_entries(struct shard *shard, struct tail *tail)
{
    struct tail again;
    int status;

    if (!tail->entries_later)
        return CASK_OK;
    tail->entries_later = false;
    if (tail->end <= tail->from)
        return CASK_OK;
    status = tail_read(shard, tail->segment, tail->from, tail->end, tail->settled, false, &again);
    if (status != CASK_OK)
        return status;
    if (again.end != tail->end || again.damaged || again.bad_bytes > 0) {
        tail_release(&again);
        return CASK_ECORRUPT; /* a moment ago it could be read */
    }
    free(again.batches);
    hint_release(&tail->hint);
    tail->hint = again.hint;
    return CASK_OK;
}

/* Where the stage could not be emptied, what the runs cover may end within a batch, whose pieces
 * then are fewer than its end says: then all of it is read. */
int tail_read_uncovered(struct shard *shard, struct segment *segment, uint64_t from,
                        uint64_t settled, bool skip_damage, struct tail *ret_tail)
{
    uint64_t size = segment_tail(segment);
    uint64_t begin = min_u64(max_u64(from, segment->covered.end), size);
    uint64_t entries_max = recover_entries_that_wait(shard->env);
    int status;

    if (begin > SEGMENT_HEADER_BYTES && begin == segment->covered.end && covers_seal(segment)) {
        *ret_tail = (struct tail){
            .segment = segment, .from = begin, .settled = begin, .end = begin, .sealed = true};
        hint_init(&ret_tail->hint, segment->id);
        return CASK_OK;
    }
    status = read_bounded(shard, segment, begin, settled, skip_damage, entries_max, ret_tail);
    if (status != CASK_OK || !ret_tail->half_batch || begin == from)
        return status;
    tail_release(ret_tail);
    return read_bounded(shard, segment, min_u64(from, size), settled, skip_damage, entries_max,
                        ret_tail);
}

void tail_cut(struct tail *tail, uint64_t offset)
{
    while (tail->hint.count > 0 &&
           hint_entry_at(&tail->hint, tail->hint.count - 1).offset >= offset)
        tail->hint.count--;
    while (tail->batch_count > 0 && tail->batches[tail->batch_count - 1].offset >= offset)
        tail->batch_count--;
    tail->end = min_u64(tail->end, offset);
    tail->sealed = false;
}
