/* A shard is checked as it was when its turn came: its segments pinned, its tail noted. Records
 * that the index does not know must have been deleted, which a later tombstone proves; tombstones
 * written while the check runs count too. */
#include "store/verify.h"

#include "index/run_cursor.h"
#include "index/runverify.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "log/hint.h"
#include "log/scan.h"
#include "shard/spill.h"

#define CHUNK_BYTES ((size_t)1 << 20)
#define COLLECT_ROOM 4096u
#define PATH_ROOM 4096u
#define BUFFER_PART 64u /* of the budget, to read runs through */

struct event {
    uint64_t hash;
    uint64_t sequence;
    uint64_t segment;
    uint64_t offset;
};

struct events {
    struct event *items;
    size_t count;
    size_t room;
};

struct target {
    struct segment *segment;
    uint64_t id;
    uint64_t end;
    bool sealed; /* in the manifest, with its checksum */
};

struct check {
    struct cask_db *db;
    struct shard *shard;
    struct target *targets;
    size_t target_count;
    struct events missing; /* puts the index does not know */
    struct events tombstones;
    bool tombstones_indexed; /* some entries may lead to tombstones */
    uint64_t problems;
    cask_progress_fn progress;
    void *context;
    uint64_t done;
    uint64_t total;
};

static void problem(struct check *check, uint64_t segment, const char *suffix, uint64_t offset,
                    const char *what)
{
    check->problems++;
    report(&check->db->env.reporter, CASK_LOG_ERROR, "%s/shard-%03u/%llu.%s: offset %llu: %s",
           check->db->path, (unsigned)check->shard->number, (unsigned long long)segment, suffix,
           (unsigned long long)offset, what);
}

static int add_event(struct events *events, struct event event)
{
    if (events->count == events->room) {
        size_t room = events->room == 0 ? 256 : events->room * 2;
        struct event *grown = realloc(events->items, room * sizeof *grown);

        if (!grown)
            return CASK_ENOMEM;
        events->items = grown;
        events->room = room;
    }
    events->items[events->count++] = event;
    return CASK_OK;
}

static int advance(struct check *check, uint64_t bytes)
{
    check->done += bytes;
    return check->progress && check->progress(check->context, check->done, check->total) != 0
               ? CASK_EBUSY
               : CASK_OK;
}

/* ---- what there is to check ------------------------------------------------------------------ */

/* Not while a next segment is prepared, which is closed again where its manifest fails. */
static int note_targets(struct check *check)
{
    struct shard *shard = check->shard;
    struct segment *segment;
    int status;

    pthread_mutex_lock(&shard->manifest_lock);
    pthread_mutex_lock(&shard->lock);
    status = shard_drain(shard);
    if (status == CASK_ENOMEM) /* look-ups find what stays staged */
        status = CASK_OK;
    check->targets = calloc((size_t)shard->segments.count + 1, sizeof *check->targets);
    check->target_count = 0;
    segment = check->targets ? segments_at_or_after(&shard->segments, 0) : NULL;
    for (; segment; segment = segments_at_or_after(&shard->segments, segment->id + 1)) {
        segment_pin(segment);
        check->targets[check->target_count++] = (struct target){
            segment, segment->id, segment_tail(segment), segment->in_manifest_sealed};
    }
    pthread_mutex_unlock(&shard->lock);
    pthread_mutex_unlock(&shard->manifest_lock);
    return check->targets ? status : CASK_ENOMEM;
}

static void forget_targets(struct check *check)
{
    for (size_t i = 0; i < check->target_count; i++)
        segment_unpin(check->targets[i].segment);
    free(check->targets);
    check->targets = NULL;
    check->target_count = 0;
}

/* ---- one segment ----------------------------------------------------------------------------- */

/* Whether the index knows this record, or a newer one of its key. An answer either way is
 * CASK_OK. */
static int ask_index(struct check *check, const struct record *record, uint64_t hash,
                     bool *ret_known)
{
    struct epoch_guard guard = epoch_enter(&check->db->env.epoch);
    struct record_buffer buffer;
    struct found found = {0};
    int status;

    record_buffer_init(&buffer);
    status = shard_find(check->shard, hash, record->key, &buffer, &found);
    /* An expired record is found and then said to be none: found.record tells it. */
    *ret_known = found.segment && found.record.sequence >= record->sequence;
    record_buffer_release(&buffer);
    epoch_leave(guard);
    return status == CASK_NOTFOUND || status == CASK_ECORRUPT ? CASK_OK : status;
}

static int check_record(struct check *check, const struct segment *segment,
                        const struct record *record, uint64_t offset)
{
    uint64_t hash;
    struct event event;
    bool known = true;
    int status;

    if (record->type != RECORD_PUT && record->type != RECORD_DELETE)
        return CASK_OK;
    hash = store_hash(check->db, record->key);
    event = (struct event){hash, record->sequence, segment->id, offset};
    if (store_shard_of(check->db, hash) != check->shard) {
        problem(check, segment->id, "data", offset, "the key belongs to another shard");
        return CASK_OK;
    }
    if (record->type == RECORD_DELETE)
        return add_event(&check->tombstones, event);
    status = ask_index(check, record, hash, &known);
    return status == CASK_OK && !known ? add_event(&check->missing, event) : status;
}

static int open_file(struct check *check, const struct segment *segment, struct io_file **ret_file)
{
    char name[SEGMENT_NAME_BYTES];

    segment_data_name(segment->id, name);
    return io_open(check->shard->dir, name, IO_READ, ret_file);
}

static int walk(struct check *check, struct io_file *file, const struct target *target,
                uint64_t from, bool tombstones_only)
{
    struct scan scan;
    int status = scan_init(&scan, target->segment, file, from, target->end);

    while (status == CASK_OK && scan.at < target->end) {
        enum record_outcome outcome;
        struct record record;
        uint64_t before = scan.at;
        uint64_t offset;

        status = scan_next(&scan, &outcome, &record, &offset);
        if (status != CASK_OK)
            break;
        if (outcome != RECORD_VALID) {
            if (!tombstones_only)
                problem(check, target->segment->id, "data", scan.at, "no valid record");
            status = scan_resync(&scan);
            if (status == CASK_NOTFOUND) {
                status = CASK_OK;
                break;
            }
        } else if (!tombstones_only || record.type == RECORD_DELETE) {
            status = check_record(check, target->segment, &record, offset);
        }
        if (status == CASK_OK && !tombstones_only)
            status = advance(check, scan.at - before);
    }
    scan_release(&scan);
    return status;
}

static int checksum_of(struct io_file *file, uint64_t length, uint64_t *ret_checksum)
{
    uint8_t *chunk = malloc((size_t)min_u64(CHUNK_BYTES, length) + 1);
    int status = chunk ? CASK_OK : CASK_ENOMEM;
    XXH3_state_t state;

    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    for (uint64_t at = 0; status == CASK_OK && at < length; at += CHUNK_BYTES) {
        size_t want = (size_t)min_u64(CHUNK_BYTES, length - at);

        status = io_read(file, at, chunk, want, NULL);
        if (status == CASK_OK)
            XXH3_64bits_update(&state, chunk, want);
    }
    free(chunk);
    *ret_checksum = XXH3_64bits_digest(&state);
    return status;
}

static int check_sealed(struct check *check, struct io_file *file, const struct target *target)
{
    const struct segment *segment = target->segment;
    uint64_t checksum;
    struct hint hint;
    int status = checksum_of(file, target->end, &checksum);

    if (status == CASK_ECORRUPT || (status == CASK_OK && checksum != segment->sealed_checksum)) {
        problem(check, segment->id, "data", 0, "the segment's bytes do not match its checksum");
        status = CASK_OK;
    }
    if (status != CASK_OK)
        return status;
    if (segment->hintless) /* what is there, if anything, is of an earlier close */
        return CASK_OK;
    status = hint_read(check->shard->dir, &check->shard->config, segment->id, &hint);
    if (status == CASK_OK) {
        if (hint.data_checksum != segment->sealed_checksum)
            problem(check, segment->id, "hint", 0, "the hint belongs to other bytes");
        hint_release(&hint);
    } else if (status == CASK_ECORRUPT || status == CASK_NOTFOUND) {
        problem(check, segment->id, "hint", 0,
                status == CASK_NOTFOUND ? "the hint is missing" : "the hint is damaged");
        status = CASK_OK;
    }
    return status;
}

static int check_segment(struct check *check, const struct target *target)
{
    struct io_file *file;
    int status = open_file(check, target->segment, &file);

    if (status == CASK_NOTFOUND) {
        problem(check, target->segment->id, "data", 0, "the segment is missing");
        return CASK_OK;
    }
    if (status != CASK_OK)
        return status;
    if (target->segment->header_damaged)
        problem(check, target->segment->id, "data", 0, "the segment's header is damaged");
    if (target->sealed)
        status = check_sealed(check, file, target);
    if (status == CASK_OK)
        status = walk(check, file, target, SEGMENT_HEADER_BYTES, false);
    io_close(file);
    return status;
}

/* ---- the index ------------------------------------------------------------------------------- */

static int check_entry(struct check *check, struct keydir_entry entry)
{
    unsigned offset_bits = check->shard->config.offset_bits;
    struct record_buffer buffer;
    struct found found;
    int status;

    record_buffer_init(&buffer);
    status = shard_read_at(check->shard, entry.location, &buffer, &found);
    if (status == CASK_NOTFOUND) { /* stale: its segment was merged away */
        record_buffer_release(&buffer);
        return CASK_OK;
    }
    if (status == CASK_ECORRUPT ||
        (status == CASK_OK && ((found.record.type != RECORD_PUT && !check->tombstones_indexed) ||
                               hash_tag(store_hash(check->db, found.record.key),
                                        check->db->env.shard_bits) != entry.tag)))
        problem(check, location_segment(entry.location, offset_bits), "data",
                location_offset(entry.location, offset_bits),
                "the index names a record that does not validate");
    record_buffer_release(&buffer);
    return status == CASK_ECORRUPT ? CASK_OK : status;
}

/* Every entry of the index leads to a record; a part of it at a time under the lock. */
static int check_index(struct check *check)
{
    struct shard *shard = check->shard;
    size_t room = COLLECT_ROOM;
    struct keydir_entry *entries = malloc(room * sizeof *entries);
    uint64_t from = 0;
    int status = CASK_OK;

    while (entries && status == CASK_OK && from <= UINT32_MAX) {
        struct epoch_guard guard = epoch_enter(&check->db->env.epoch);
        uint64_t next;
        size_t count;

        pthread_mutex_lock(&shard->lock);
        check->tombstones_indexed = index_has_lower(&shard->index) || shard->index.doubles;
        count = keydir_collect(index_keydir(&shard->index), from, entries, room, &next);
        pthread_mutex_unlock(&shard->lock);
        for (size_t i = 0; status == CASK_OK && i < count; i++)
            status = check_entry(check, entries[i]);
        epoch_leave(guard);
        if (next == from) {
            free(entries);
            room *= 2;
            entries = malloc(room * sizeof *entries);
        }
        from = next;
    }
    if (!entries)
        return CASK_ENOMEM;
    free(entries);
    return status;
}

/* The run by itself, also as LMDB finds its records. LMDB maps the file, so not for those who read
 * by system call for the sake of bad sectors; nor where another process, which writes, has merged
 * the run away meanwhile. */
static int check_container(const struct check *check, const struct run *run)
{
    const struct shard_env *env = &check->db->env;
    char name[SEGMENT_NAME_BYTES];
    char path[PATH_ROOM];
    int status;

    shard_dir_name(check->shard->number, name);
    if (!check->shard->config.read_mapped ||
        snprintf(path, sizeof path, "%s/%s/" SPILL_DIR, env->real_path, name) >= (int)sizeof path)
        return run_validate(run);
    status = run_verify(run, path);
    return status == CASK_NOTFOUND ? CASK_OK : status;
}

/* Each run's bytes against their checksum, and each entry against the log. */
static int check_run(struct check *check, struct run *run)
{
    uint64_t share = check->db->env.budget.limit_bytes / BUFFER_PART;
    struct run_cursor cursor;
    struct keydir_entry entry;
    int status = check_container(check, run);

    if (status == CASK_OK)
        status = run_cursor_open(&cursor, run, 0, (size_t)min_u64(RUN_CURSOR_BYTES, share),
                                 &check->db->env.budget);
    if (status == CASK_OK) {
        while ((status = run_cursor_next(&cursor, &entry)) == CASK_OK) {
            struct epoch_guard guard = epoch_enter(&check->db->env.epoch);

            status = check_entry(check, entry);
            epoch_leave(guard);
            if (status != CASK_OK)
                break;
        }
        run_cursor_close(&cursor);
        status = status == CASK_NOTFOUND ? CASK_OK : status;
    }
    if (status == CASK_ECORRUPT) {
        check->problems++;
        report(&check->db->env.reporter, CASK_LOG_ERROR,
               "%s/shard-%03u/index/%llu.mdb: the run is damaged", check->db->path,
               (unsigned)check->shard->number, (unsigned long long)run->id);
        shard_distrust_runs(check->shard);
        status = CASK_OK;
    }
    return status;
}

/* Under the merge_lock, which keeps the list as it is. A store that is only read has damaged runs
 * on disk still, whatever was made in their place in memory. */
static int check_runs(struct check *check)
{
    const struct run_list *runs = index_lower(&check->shard->index).runs;
    int status = CASK_OK;

    if (check->db->env.read_only && atomic_load(&check->shard->distrusts_runs)) {
        check->problems++;
        report(&check->db->env.reporter, CASK_LOG_ERROR,
               "%s/shard-%03u/" SPILL_DIR ": a run is missing or damaged", check->db->path,
               (unsigned)check->shard->number);
    }

    for (uint32_t i = 0; status == CASK_OK && runs && i < runs->count; i++)
        status = check_run(check, runs->runs[i]);
    return status;
}

static int by_hash_and_sequence(const void *a, const void *b)
{
    const struct event *left = a;
    const struct event *right = b;

    if (left->hash != right->hash)
        return left->hash < right->hash ? -1 : 1;
    return left->sequence < right->sequence ? -1 : left->sequence > right->sequence;
}

static bool was_deleted(const struct events *tombstones, const struct event *put)
{
    size_t low = 0;
    size_t high = tombstones->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (by_hash_and_sequence(&tombstones->items[middle], put) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low < tombstones->count && tombstones->items[low].hash == put->hash;
}

/* Tombstones that were written while the check ran: behind what there was before. */
static int walk_news(struct check *check, const struct target *before, size_t before_count)
{
    int status = note_targets(check);
    size_t at = 0;

    for (size_t i = 0; status == CASK_OK && i < check->target_count; i++) {
        const struct target *target = &check->targets[i];
        uint64_t from = SEGMENT_HEADER_BYTES;
        struct io_file *file;

        while (at < before_count && before[at].id < target->segment->id)
            at++;
        if (at < before_count && before[at].id == target->segment->id)
            from = before[at].end;
        if (from >= target->end)
            continue;
        status = open_file(check, target->segment, &file);
        if (status == CASK_NOTFOUND) {
            status = CASK_OK; /* told already */
            continue;
        }
        if (status != CASK_OK)
            break;
        status = walk(check, file, target, from, true);
        io_close(file);
    }
    forget_targets(check);
    return status;
}

static void judge_missing(struct check *check)
{
    if (check->tombstones.count > 1)
        qsort(check->tombstones.items, check->tombstones.count, sizeof check->tombstones.items[0],
              by_hash_and_sequence);
    for (size_t i = 0; i < check->missing.count; i++) {
        const struct event *put = &check->missing.items[i];

        if (!was_deleted(&check->tombstones, put))
            problem(check, put->segment, "data", put->offset, "the index does not know the record");
    }
}

static int check_targets(struct check *check)
{
    int status = CASK_OK;

    for (size_t i = 0; status == CASK_OK && i < check->target_count; i++)
        status = check_segment(check, &check->targets[i]);
    return status;
}

static int check_shard(struct check *check)
{
    struct target *before = NULL;
    size_t before_count = 0;
    int status;

    check->missing.count = 0;
    check->tombstones.count = 0;
    pthread_mutex_lock(&check->shard->manifest_lock);
    status = check->shard->dir ? CASK_OK : CASK_NOTFOUND;
    pthread_mutex_unlock(&check->shard->manifest_lock);
    if (status == CASK_NOTFOUND)
        return CASK_OK; /* nothing was ever written here */
    status = note_targets(check);
    if (status == CASK_OK) {
        before = malloc((check->target_count + 1) * sizeof *before);
        status = before ? check_targets(check) : CASK_ENOMEM;
    }
    if (before) {
        memcpy(before, check->targets, check->target_count * sizeof *before);
        before_count = check->target_count;
    }
    forget_targets(check);
    if (status == CASK_OK)
        status = check_index(check);
    if (status == CASK_OK)
        status = check_runs(check);
    if (status == CASK_OK && check->missing.count > 0)
        status = walk_news(check, before, before_count);
    if (status == CASK_OK)
        judge_missing(check);
    free(before);
    return status;
}

static uint64_t bytes_to_check(struct cask_db *db)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < db->env.shard_count; i++) {
        pthread_mutex_lock(&db->shards[i].lock);
        sum += db->shards[i].counts.live_bytes + db->shards[i].counts.dead_bytes;
        pthread_mutex_unlock(&db->shards[i].lock);
    }
    return sum;
}

int verify_store(struct cask_db *db, cask_progress_fn progress, void *context)
{
    struct check check = {.db = db, .progress = progress, .context = context};
    int status = CASK_OK;

    check.total = bytes_to_check(db);
    for (uint32_t i = 0; status == CASK_OK && i < db->env.shard_count; i++) {
        check.shard = &db->shards[i];
        pthread_mutex_lock(&check.shard->merge_lock);
        status = check_shard(&check);
        pthread_mutex_unlock(&check.shard->merge_lock);
    }
    free(check.missing.items);
    free(check.tombstones.items);
    if (status == CASK_OK && check.problems > 0)
        return CASK_ECORRUPT;
    return status;
}
