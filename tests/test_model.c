/* H4: random operations on a store and on a plain table in memory, which must always agree.
 *
 * Proved, for each seed: every look-up (get, view, get_many, exists, iteration) gives what was last
 * written; views and iterators that are held over other operations keep their promises; a batch
 * takes effect as a whole; statistics count exactly; verify finds nothing wrong; and all of it
 * stays so over merges, called at random points, broken off, or running beside it all by
 * themselves; over the index being moved to disk, in some of the seeds: at random points, and
 * because there is hardly any memory for it; over closing, over ending without closing (a forked
 * child that _exits), over a crash image (a copy of the live store's directory) and for a reader
 * that opens the live store read-only. No operation leaves an error in the log, and no file is left
 * over in the end.
 *
 *   CASKADE_MODEL_SEEDS=n   how many seeds
 *   CASKADE_MODEL_SEED=n    this seed alone
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support_model.h"
#include "support_spill.h"
#include "support_strays.h"

#define SEEDS 40u
#define VIEWS 6u
#define ITERATORS 2u
#define MANY_MAX 48u
#define BATCH_MAX 30u
#define YEAR_MS ((uint64_t)365 * 24 * 3600 * 1000)

/* A view that is held while other things happen. */
struct held_view {
    bool held;
    struct cask_view view;
    uint32_t key;
    uint32_t version;
    uint32_t size;
};

/* What an iterator has shown of a key, and what happened to the key since it was created. */
struct sighting {
    uint8_t seen;
    bool was_there;
    bool gone_since; /* deleted or expired: it need not be seen */
    bool put_since;  /* it may be seen though it was not there */
};

struct held_iterator {
    struct cask_iter *iter;
    struct sighting *sightings; /* by key */
};

struct run {
    struct cask_db *db;
    struct model *model;
    char *path;
    char *other_path; /* for copies */
    struct log_lines log;
    struct cask_options options;
    uint64_t log_bytes;   /* live and dead, when the store was opened or merged */
    uint64_t log_written; /* how much had been written by then */
    bool merged;          /* ever, so that expired keys may count no more */
    bool spills;          /* counts of keys and bytes are then those of entries, in a way */
    struct held_view views[VIEWS];
    struct held_iterator iterators[ITERATORS];
};

static uint64_t below(struct run *run, uint64_t limit)
{
    return rng_below(&run->model->rng, limit);
}

static bool percent(struct run *run, unsigned chance)
{
    return rng_percent(&run->model->rng, chance);
}

/* Most of the time one of a few, so that keys are often met again. */
static uint32_t pick_key(struct run *run)
{
    uint32_t count = run->model->key_count;

    return (uint32_t)below(run, percent(run, 50) && count > 20 ? 20 : count);
}

static struct cask_slice key_bytes(const struct run *run, uint32_t key, uint8_t *buffer)
{
    return model_key_bytes(run->model, key, buffer);
}

/* ---- checking -------------------------------------------------------------------------------- */

/* That a look-up's status is one the model allows; true if the key was found. */
static bool check_status(const struct run *run, uint32_t key, int status, uint64_t before_ms)
{
    enum presence presence = model_presence(&run->model->keys[key], before_ms, wall_clock_ms());

    CHECK(status == CASK_OK || status == CASK_NOTFOUND, "key %u: %s", (unsigned)key,
          cask_strerror(status));
    CHECK(presence != PRESENT || status == CASK_OK, "key %u is lost", (unsigned)key);
    CHECK(presence != ABSENT || status != CASK_OK, "key %u is back", (unsigned)key);
    return status == CASK_OK;
}

static void check_get(struct run *run, uint32_t key)
{
    const struct model_key *expected = &run->model->keys[key];
    uint8_t bytes[MODEL_KEY_MAX];
    struct cask_slice slice = key_bytes(run, key, bytes);
    uint8_t *buffer = malloc((size_t)expected->size + 1);
    uint64_t before_ms = wall_clock_ms();
    size_t size = 0;
    int status = cask_get(run->db, slice, buffer, expected->size, &size);

    CHECK(status != CASK_ERANGE, "key %u has %zu bytes, not %u", (unsigned)key, size,
          (unsigned)expected->size);
    if (check_status(run, key, status, before_ms)) {
        CHECK(size == expected->size, "key %u has %zu bytes, not %u", (unsigned)key, size,
              (unsigned)expected->size);
        model_check_value(key, expected->version, slice_bytes(buffer, size));
    }
    free(buffer);
}

/* Every key by a get, and every key by one iteration. */
static void check_all(struct run *run, struct cask_db *db)
{
    struct model *model = run->model;
    uint8_t *seen = calloc(model->key_count, 1);
    struct cask_db *own = run->db;
    uint64_t before_ms;
    struct cask_iter *iter;
    struct cask_entry entry;
    int status;

    CHECK(seen, "out of memory");
    run->db = db;
    for (uint32_t key = 0; key < model->key_count; key++)
        check_get(run, key);
    before_ms = wall_clock_ms();
    CHECK_OK(cask_iter_create(db, &iter));
    while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
        uint32_t key = model_key_number(model, entry.key);
        const struct model_key *expected = &model->keys[key];

        CHECK(seen[key]++ == 0, "key %u comes twice", (unsigned)key);
        CHECK(entry.value.size == expected->size, "key %u", (unsigned)key);
        CHECK(entry.expires_at_ms == expected->expires_at_ms, "key %u", (unsigned)key);
        model_check_value(key, expected->version, entry.value);
    }
    CHECK(status == CASK_NOTFOUND, "%s", cask_strerror(status));
    cask_iter_destroy(iter);
    for (uint32_t key = 0; key < model->key_count; key++)
        (void)check_status(run, key, seen[key] ? CASK_OK : CASK_NOTFOUND, before_ms);
    run->db = own;
    free(seen);
}

static struct cask_stats stats_of(struct cask_db *db)
{
    struct cask_stats stats = {.size = sizeof stats};

    CHECK_OK(cask_stats(db, &stats));
    return stats;
}

static bool merges_by_itself(const struct run *run)
{
    return run->options.merge != CASK_SWITCH_OFF;
}

/* Merges take away what has expired, sooner or later. */
static void check_living(struct run *run, const struct cask_stats *stats)
{
    uint64_t most_keys;
    uint64_t most_bytes;
    uint64_t keys;
    uint64_t bytes;

    model_count(run->model, &most_keys, &most_bytes);
    model_count_living(run->model, wall_clock_ms(), &keys, &bytes);
    if (!run->merged && !merges_by_itself(run)) {
        keys = most_keys;
        bytes = most_bytes;
    }
    CHECK(stats->live_keys >= keys && stats->live_keys <= most_keys,
          "%llu live keys, not %llu to %llu", (unsigned long long)stats->live_keys,
          (unsigned long long)keys, (unsigned long long)most_keys);
    CHECK(stats->live_bytes >= bytes && stats->live_bytes <= most_bytes,
          "%llu live bytes, not %llu to %llu", (unsigned long long)stats->live_bytes,
          (unsigned long long)bytes, (unsigned long long)most_bytes);
}

static void check_stats(struct run *run)
{
    struct cask_stats stats = stats_of(run->db);
    uint64_t written = stats.written_bytes - run->log_written;

    if (!run->spills)
        check_living(run, &stats);
    CHECK(merges_by_itself(run) || run->spills ||
              stats.live_bytes + stats.dead_bytes == run->log_bytes + written,
          "%llu live and %llu dead bytes, but %llu were there and %llu were written",
          (unsigned long long)stats.live_bytes, (unsigned long long)stats.dead_bytes,
          (unsigned long long)run->log_bytes, (unsigned long long)written);
    CHECK(stats.merges_failed == 0, "%llu merges failed", (unsigned long long)stats.merges_failed);
    CHECK(stats.shards == run->options.shard_count, "%llu shards",
          (unsigned long long)stats.shards);
}

/* ---- what is held ---------------------------------------------------------------------------- */

static void note_put(struct run *run, uint32_t key, uint64_t expires_at_ms)
{
    for (unsigned i = 0; i < ITERATORS; i++) {
        if (!run->iterators[i].iter)
            continue;
        run->iterators[i].sightings[key].put_since = true;
        run->iterators[i].sightings[key].gone_since |= expires_at_ms != 0;
    }
}

static void note_delete(struct run *run, uint32_t key)
{
    for (unsigned i = 0; i < ITERATORS; i++)
        if (run->iterators[i].iter)
            run->iterators[i].sightings[key].gone_since = true;
}

static void check_view(const struct held_view *held)
{
    CHECK(held->view.value.size == held->size, "a view's size changed");
    model_check_value(held->key, held->version, held->view.value);
}

static void release_view(struct held_view *held)
{
    if (!held->held)
        return;
    check_view(held);
    cask_view_release(&held->view);
    CHECK(!held->view.owner && !held->view.value.data, "a released view is not empty");
    cask_view_release(&held->view);
    held->held = false;
}

static void take_sighting(struct run *run, struct held_iterator *held,
                          const struct cask_entry *entry)
{
    uint32_t key = model_key_number(run->model, entry->key);
    struct sighting *sighting = &held->sightings[key];
    uint32_t version = model_value_version(key, entry->value);

    CHECK(sighting->seen++ == 0, "an iterator shows key %u twice", (unsigned)key);
    CHECK(sighting->was_there || sighting->put_since, "key %u is back", (unsigned)key);
    if (sighting->put_since)
        CHECK(version <= run->model->last_version, "key %u is from the future", (unsigned)key);
    else if (!sighting->gone_since)
        model_check_value(key, run->model->keys[key].version, entry->value);
}

static void finish_iterator(struct run *run, struct held_iterator *held)
{
    for (uint32_t key = 0; key < run->model->key_count; key++) {
        const struct sighting *sighting = &held->sightings[key];

        CHECK(sighting->seen || !sighting->was_there || sighting->gone_since,
              "an iterator does not show key %u", (unsigned)key);
    }
}

static void release_iterator(struct held_iterator *held)
{
    cask_iter_destroy(held->iter);
    free(held->sightings);
    *held = (struct held_iterator){NULL, NULL};
}

static void release_all(struct run *run)
{
    for (unsigned i = 0; i < VIEWS; i++)
        release_view(&run->views[i]);
    for (unsigned i = 0; i < ITERATORS; i++)
        release_iterator(&run->iterators[i]);
}

/* Starts one, or goes on with it for some steps. */
static void do_iterate(struct run *run)
{
    struct held_iterator *held = &run->iterators[below(run, ITERATORS)];
    uint64_t steps = 1 + below(run, percent(run, 30) ? run->model->key_count : 20);

    if (!held->iter) {
        uint64_t now_ms = wall_clock_ms();

        held->sightings = calloc(run->model->key_count, sizeof *held->sightings);
        CHECK(held->sightings, "out of memory");
        CHECK_OK(cask_iter_create(run->db, &held->iter));
        for (uint32_t key = 0; key < run->model->key_count; key++) {
            const struct model_key *state = &run->model->keys[key];

            held->sightings[key].was_there = model_presence(state, now_ms, now_ms) == PRESENT;
            held->sightings[key].gone_since = state->expires_at_ms != 0;
        }
    }
    for (uint64_t i = 0; i < steps; i++) {
        struct cask_entry entry;
        int status = cask_iter_next(held->iter, &entry);

        CHECK(status == CASK_OK || status == CASK_NOTFOUND, "%s", cask_strerror(status));
        if (status == CASK_OK) {
            take_sighting(run, held, &entry);
            continue;
        }
        CHECK_STATUS(cask_iter_next(held->iter, &entry), CASK_NOTFOUND);
        finish_iterator(run, held);
        release_iterator(held);
        return;
    }
}

static void do_view(struct run *run)
{
    struct held_view *held = &run->views[below(run, VIEWS)];
    uint32_t key = pick_key(run);
    const struct model_key *state = &run->model->keys[key];
    uint8_t bytes[MODEL_KEY_MAX];
    uint64_t before_ms = wall_clock_ms();

    release_view(held);
    if (check_status(run, key, cask_view(run->db, key_bytes(run, key, bytes), &held->view),
                     before_ms)) {
        held->held = true;
        held->key = key;
        held->version = state->version;
        held->size = state->size;
        check_view(held);
        model_note_sequence(&run->model->keys[key], held->view.sequence);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static uint32_t pick_size(struct run *run)
{
    uint64_t kind = below(run, 100);

    if (kind < 20)
        return (uint32_t)below(run, 9);
    if (kind < 80)
        return (uint32_t)below(run, 100);
    if (kind < 97)
        return (uint32_t)below(run, 600);
    return (uint32_t)below(run, run->options.segment_bytes * 3);
}

/* 0: none. Past, far ahead, or so near that it passes while the run goes on. */
static uint64_t pick_expiry(struct run *run)
{
    uint64_t kind = below(run, 100);

    if (kind < 80)
        return 0;
    if (kind < 87)
        return 1 + below(run, 1000000);
    return wall_clock_ms() + (kind < 94 ? YEAR_MS : 1 + below(run, 30));
}

static void do_put(struct run *run)
{
    uint32_t key = pick_key(run);
    uint32_t size = pick_size(run);
    uint64_t expires_at_ms = pick_expiry(run);
    uint32_t version = model_put(run->model, key, size, expires_at_ms);
    uint8_t bytes[MODEL_KEY_MAX];
    struct cask_slice slice = key_bytes(run, key, bytes);
    uint8_t *value = malloc((size_t)size + 1);

    CHECK(value, "out of memory");
    model_value_bytes(key, version, value, size);
    if (expires_at_ms != 0)
        CHECK_OK(cask_put_expiring(run->db, slice, slice_bytes(value, size), expires_at_ms));
    else
        CHECK_OK(cask_put(run->db, slice, slice_bytes(value, size)));
    free(value);
    note_put(run, key, expires_at_ms);
    if (percent(run, 50))
        check_get(run, key);
}

/* Of a key that has expired nothing is deleted, and it goes on being counted. */
static void do_delete(struct run *run)
{
    uint32_t key = pick_key(run);
    uint8_t bytes[MODEL_KEY_MAX];
    uint64_t before_ms = wall_clock_ms();

    if (check_status(run, key, cask_delete(run->db, key_bytes(run, key, bytes)), before_ms)) {
        model_delete(run->model, key);
        note_delete(run, key);
    }
    if (percent(run, 50))
        check_get(run, key);
}

/* The number of what the key has now; 0: it is not there, or has just expired. */
static uint64_t look_up_sequence(struct run *run, uint32_t key, struct cask_slice slice)
{
    uint64_t before_ms = wall_clock_ms();
    struct cask_view view;
    uint64_t sequence;

    if (!check_status(run, key, cask_view(run->db, slice, &view), before_ms))
        return 0;
    sequence = view.sequence;
    cask_view_release(&view);
    CHECK(sequence > 0, "key %u has no number", (unsigned)key);
    model_note_sequence(&run->model->keys[key], sequence);
    return sequence;
}

/* On the condition that the key is not there, is as it is now, as it was once, or as it never
 * was. */
static uint64_t pick_condition(struct run *run, uint32_t key, uint64_t current)
{
    switch (below(run, 5)) {
    case 0:
        return 0;
    case 1:
        return run->model->keys[key].sequence;
    case 2:
        return 1 + below(run, current + 3);
    default:
        return current;
    }
}

/* Whether that is a right answer, the key having been looked up before. */
static bool check_conditional(struct run *run, uint32_t key, int status, bool meets,
                              uint64_t wanted, uint64_t before_ms)
{
    enum presence presence = model_presence(&run->model->keys[key], before_ms, wall_clock_ms());
    int if_there = meets ? CASK_OK : CASK_EEXIST;
    int if_absent = wanted == 0 ? CASK_OK : CASK_NOTFOUND;

    CHECK((presence != ABSENT && status == if_there) ||
              (presence != PRESENT && status == if_absent),
          "a conditional put of key %u: %s", (unsigned)key, cask_strerror(status));
    return status == CASK_OK;
}

static void do_put_if(struct run *run)
{
    uint32_t key = pick_key(run);
    uint32_t size = pick_size(run);
    uint32_t version = run->model->last_version + 1;
    uint8_t bytes[MODEL_KEY_MAX];
    struct cask_slice slice = key_bytes(run, key, bytes);
    uint64_t current = look_up_sequence(run, key, slice);
    uint64_t wanted = pick_condition(run, key, current);
    uint64_t before_ms = wall_clock_ms();
    uint8_t *value = malloc((size_t)size + 1);
    uint64_t sequence = 0;
    int status;

    CHECK(value, "out of memory");
    model_value_bytes(key, version, value, size);
    status = cask_put_if(run->db, slice, slice_bytes(value, size), wanted, &sequence);
    free(value);
    if (check_conditional(run, key, status, current != 0 && wanted == current, wanted, before_ms)) {
        (void)model_put(run->model, key, size, 0);
        model_note_sequence(&run->model->keys[key], sequence);
        note_put(run, key, 0);
    }
    CHECK((sequence == 0) == (status != CASK_OK), "key %u", (unsigned)key);
    if (percent(run, 50))
        check_get(run, key);
}

static void add_to_batch(struct run *run, struct cask_batch *batch)
{
    uint32_t key = pick_key(run);
    uint8_t bytes[MODEL_KEY_MAX];
    struct cask_slice slice = key_bytes(run, key, bytes);
    uint32_t size = pick_size(run);
    uint64_t expires_at_ms = pick_expiry(run);
    uint8_t *value;
    uint32_t version;

    if (percent(run, 30)) {
        CHECK_OK(cask_batch_delete(batch, slice));
        model_delete(run->model, key);
        note_delete(run, key);
        return;
    }
    value = malloc((size_t)size + 1);
    CHECK(value, "out of memory");
    version = model_put(run->model, key, size, expires_at_ms);
    model_value_bytes(key, version, value, size);
    if (expires_at_ms != 0)
        CHECK_OK(cask_batch_put_expiring(batch, slice, slice_bytes(value, size), expires_at_ms));
    else
        CHECK_OK(cask_batch_put(batch, slice, slice_bytes(value, size)));
    free(value);
    note_put(run, key, expires_at_ms);
}

static void do_batch(struct run *run)
{
    uint64_t count = 1 + below(run, percent(run, 20) ? BATCH_MAX : 6);
    struct cask_batch *batch;

    CHECK_OK(cask_batch_create(run->db, &batch));
    if (percent(run, 20)) {
        CHECK_OK(cask_write(run->db, batch));
        CHECK_OK(cask_batch_put(batch, slice_of("never written"), slice_of("")));
        cask_batch_clear(batch);
    }
    for (uint64_t i = 0; i < count; i++)
        add_to_batch(run, batch);
    CHECK_OK(cask_write(run->db, batch));
    if (percent(run, 10)) /* it keeps its contents, and the same again changes nothing */
        CHECK_OK(cask_write(run->db, batch));
    cask_batch_destroy(batch);
    if (percent(run, 10))
        check_all(run, run->db);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void do_get(struct run *run)
{
    uint32_t key = pick_key(run);
    const struct model_key *state = &run->model->keys[key];
    uint8_t bytes[MODEL_KEY_MAX];
    struct cask_slice slice = key_bytes(run, key, bytes);
    uint64_t before_ms = wall_clock_ms();
    size_t size = 0;
    uint8_t byte;
    int status;

    check_get(run, key);
    (void)check_status(run, key, cask_exists(run->db, slice), before_ms);
    status = cask_get(run->db, slice, &byte, 0, &size);
    if (status == CASK_ERANGE)
        CHECK(size == state->size && size > 0, "key %u has %zu bytes", (unsigned)key, size);
    else
        CHECK(!check_status(run, key, status, before_ms) || state->size == 0, "key %u",
              (unsigned)key);
    CHECK_STATUS(cask_exists(run->db, slice_of("never written")), CASK_NOTFOUND);
}

static void do_get_many(struct run *run)
{
    static uint8_t bytes[MANY_MAX][MODEL_KEY_MAX];
    uint32_t keys[MANY_MAX];
    struct cask_slice slices[MANY_MAX];
    struct cask_slice values[MANY_MAX];
    int statuses[MANY_MAX];
    size_t count = 1 + below(run, MANY_MAX);
    size_t capacity = percent(run, 30) ? below(run, 300) : (size_t)1 << 20;
    uint8_t *buffer = malloc(capacity + 1);
    uint64_t before_ms = wall_clock_ms();
    int expected = CASK_OK;
    size_t used = 0;
    int status;

    CHECK(buffer, "out of memory");
    for (size_t i = 0; i < count; i++) {
        keys[i] = pick_key(run);
        slices[i] = key_bytes(run, keys[i], bytes[i]);
    }
    status = cask_get_many(run->db, count, slices, buffer, capacity, values, statuses);
    for (size_t i = 0; i < count; i++) {
        const struct model_key *state = &run->model->keys[keys[i]];

        if (statuses[i] == CASK_ERANGE) {
            CHECK(values[i].size == state->size && !values[i].data, "key %u", (unsigned)keys[i]);
            CHECK(values[i].size > capacity - used, "key %u would fit", (unsigned)keys[i]);
            expected = expected == CASK_OK ? CASK_ERANGE : expected;
        } else if (check_status(run, keys[i], statuses[i], before_ms)) {
            CHECK(values[i].data == buffer + used, "values are not packed");
            CHECK(values[i].size == state->size, "key %u", (unsigned)keys[i]);
            model_check_value(keys[i], state->version, values[i]);
            used += values[i].size;
        }
    }
    CHECK(status == expected, "%s, not %s", cask_strerror(status), cask_strerror(expected));
    free(buffer);
}

/* Beside the live store: the same contents, no way to write. */
static void do_read_only(struct run *run)
{
    struct cask_options options = run->options;
    struct cask_db *reader;
    unsigned attempts = 0;
    int status;

    options.read_only = 1;
    options.shard_count = 0;
    options.read_mode = percent(run, 50) ? CASK_READ_PREAD : CASK_READ_MAPPED;
    do /* merges may change the store too fast */
        status = cask_open(run->path, &options, &reader);
    while (status == CASK_EBUSY && merges_by_itself(run) && ++attempts < 100);
    CHECK(status == CASK_OK, "%s", cask_strerror(status));
    check_all(run, reader);
    CHECK_STATUS(cask_put(reader, slice_of("x"), slice_of("")), CASK_EREADONLY);
    CHECK_STATUS(cask_put_if(reader, slice_of("x"), slice_of(""), 0, NULL), CASK_EREADONLY);
    CHECK_STATUS(cask_delete(reader, slice_of("x")), CASK_EREADONLY);
    CHECK_STATUS(cask_sync(reader), CASK_EREADONLY);
    CHECK_STATUS(cask_merge(reader, NULL, NULL), CASK_EREADONLY);
    CHECK_OK(cask_close(reader));
}

/* ---- merging --------------------------------------------------------------------------------- */

static int break_off(void *context, uint64_t done, uint64_t total)
{
    unsigned *left = context;

    CHECK(done <= total, "%llu of %llu bytes", (unsigned long long)done, (unsigned long long)total);
    return *left > 0 && --*left == 0;
}

/* From here on count what is there anew. */
static void note_log_bytes(struct run *run)
{
    struct cask_stats stats = stats_of(run->db);

    run->log_bytes = stats.live_bytes + stats.dead_bytes;
    run->log_written = stats.written_bytes;
}

/* Everything, or a part of it; nothing is seen of it but the space. */
static void do_merge(struct run *run)
{
    unsigned left = percent(run, 40) ? 1 + (unsigned)below(run, 12) : 0;
    struct cask_stats before = stats_of(run->db);
    struct cask_stats after;
    int status;

    run->merged = true;
    status = cask_merge(run->db, break_off, &left);
    CHECK(status == CASK_OK || status == CASK_EBUSY, "%s", cask_strerror(status));
    after = stats_of(run->db);
    CHECK(after.merge_freed_bytes >= before.merge_freed_bytes, "freed bytes go back");
    CHECK(merges_by_itself(run) || run->spills ||
              after.dead_bytes <= before.dead_bytes + 64 * after.segments,
          "%llu dead bytes, were %llu", (unsigned long long)after.dead_bytes,
          (unsigned long long)before.dead_bytes);
    note_log_bytes(run);
    check_stats(run);
    if (percent(run, 10))
        check_all(run, run->db);
}

/* Some of the index or all of it to disk; nothing is seen of it. */
static void do_spill(struct run *run)
{
    if (!run->spills)
        return;
    if (percent(run, 25))
        CHECK_OK(cask_flush_index(run->db));
    else
        CHECK_OK(spill_shard(run->db, (uint32_t)below(run, run->options.shard_count)));
    if (percent(run, 5))
        check_all(run, run->db);
}

/* ---- opening again --------------------------------------------------------------------------- */

static void open_store(struct run *run)
{
    CHECK_OK(cask_open(run->path, &run->options, &run->db));
    if (run->spills && run->options.index_memory == SPILL_SQUEEZABLE)
        spill_squeeze(run->db);
    note_log_bytes(run);
}

static void close_store(struct run *run)
{
    release_all(run);
    CHECK_OK(cask_close(run->db));
    run->db = NULL;
}

/* Modes and the size of segments may change from open to open. */
static void change_options(struct run *run)
{
    if (percent(run, 30))
        run->options.segment_bytes = 400 + below(run, percent(run, 50) ? 2000 : 65136);
    if (percent(run, 30))
        run->options.write_mode = percent(run, 50) ? CASK_WRITE_MAPPED : CASK_WRITE_SYSCALL;
    if (percent(run, 30))
        run->options.read_mode = percent(run, 50) ? CASK_READ_MAPPED : CASK_READ_PREAD;
    if (merges_by_itself(run)) {
        run->options.merge_trigger_percent = (uint32_t)below(run, 60); /* 0: as it is */
        run->options.merge_segment_percent = (uint32_t)below(run, 60);
        run->options.merge_at_once = (uint32_t)below(run, 4);
    }
}

/* After a clean close nothing is left to recover, and nothing is gone. */
static void do_reopen(struct run *run)
{
    uint64_t bytes = stats_of(run->db).live_bytes + stats_of(run->db).dead_bytes;
    struct cask_stats stats;

    close_store(run);
    change_options(run);
    open_store(run);
    stats = stats_of(run->db);
    CHECK(merges_by_itself(run) || run->spills || run->log_bytes == bytes,
          "%llu bytes of log, were %llu", (unsigned long long)run->log_bytes,
          (unsigned long long)bytes);
    CHECK(stats.recovered_records == 0 && stats.cut_bytes == 0 && stats.hints_rebuilt == 0,
          "a clean close left something to recover");
    check_all(run, run->db);
    check_stats(run);
}

/* Whatever ended it, every write that had returned was whole. */
static void check_after_crash(struct run *run)
{
    struct cask_stats stats = stats_of(run->db);

    CHECK(stats.cut_bytes == 0 && stats.hints_rebuilt == 0, "recovery gave up something");
    check_all(run, run->db);
    check_stats(run);
    CHECK_OK(cask_verify(run->db, NULL, NULL));
}

static bool in_child; /* which is to end without closing */

static void operate(struct run *run);

/* A child goes on and ends without closing; the model is in memory both have. */
static void do_crash_by_exit(struct run *run)
{
    uint64_t count = 1 + below(run, 150);
    pid_t child;

    close_store(run);
    (void)fflush(NULL);
    child = fork();
    if (child == 0) {
        in_child = true;
        open_store(run);
        for (uint64_t i = 0; i < count; i++)
            operate(run);
        _exit(0);
    }
    wait_for_success(child);
    run->merged = true; /* perhaps, by the child */
    open_store(run);
    check_after_crash(run);
}

/* A copy of the directory as it is now; then, perhaps, the copy is gone on with. */
static void do_crash_by_copy(struct run *run)
{
    struct cask_db *live = run->db;
    uint64_t log_bytes = run->log_bytes;
    uint64_t log_written = run->log_written;
    char *path = run->path;

    release_all(run);
    tree_copy_still(run->path, run->other_path);
    run->path = run->other_path;
    open_store(run);
    check_after_crash(run);
    if (percent(run, 50)) {
        CHECK_OK(cask_close(live));
        run->other_path = path;
    } else {
        CHECK_OK(cask_close(run->db));
        run->path = path;
        run->db = live;
        run->log_bytes = log_bytes;
        run->log_written = log_written;
    }
}

/* ---- runs ------------------------------------------------------------------------------------ */

static const struct {
    void (*act)(struct run *run);
    unsigned weight;
    bool ends; /* closes the store */
} actions[] = {
    {do_put, 3600, false},    {do_delete, 1600, false},     {do_batch, 700, false},
    {do_get, 1600, false},    {do_get_many, 400, false},    {do_view, 700, false},
    {do_iterate, 500, false}, {check_stats, 200, false},    {do_read_only, 12, false},
    {do_reopen, 60, true},    {do_crash_by_exit, 25, true}, {do_crash_by_copy, 25, true},
    {do_merge, 250, false},   {do_spill, 250, false},       {do_put_if, 1000, false},
};
#define ACTIONS (sizeof actions / sizeof *actions)

static void operate(struct run *run)
{
    uint64_t total = 0;
    uint64_t pick;
    size_t i = 0;

    run->model->operation++;
    if (percent(run, 1)) {
        CHECK_OK(cask_sync(run->db));
        if (percent(run, 30))
            CHECK_OK(cask_verify(run->db, NULL, NULL));
    }
    for (size_t j = 0; j < ACTIONS; j++)
        total += actions[j].weight;
    for (pick = below(run, total); pick >= actions[i].weight; i++)
        pick -= actions[i].weight;
    if (!actions[i].ends || !in_child)
        actions[i].act(run);
    for (unsigned j = 0; j < VIEWS && percent(run, 5); j++)
        if (run->views[j].held)
            check_view(&run->views[j]);
    CHECK(log_lines_count(&run->log, CASK_LOG_ERROR) == 0, "%s", run->log.text);
}

/* The seed's low bits pick the modes, so that a few seeds in a row have them all. */
static struct cask_options pick_options(struct run *run, uint64_t seed)
{
    static const enum cask_sync_mode syncs[] = {CASK_SYNC_NONE, CASK_SYNC_INTERVAL,
                                                CASK_SYNC_ALWAYS};
    static const uint64_t sizes[] = {400, 400, 700, 1500, 4096, 65536};
    struct cask_options options = options_with_log(&run->log);

    options.write_mode = seed & 1 ? CASK_WRITE_SYSCALL : CASK_WRITE_MAPPED;
    options.read_mode = seed & 2 ? CASK_READ_PREAD : CASK_READ_MAPPED;
    options.sync_mode = syncs[seed % 3];
    options.sync_interval_ms = options.sync_mode == CASK_SYNC_INTERVAL ? 5 : 0;
    options.shard_count = 1u << below(run, 5);
    options.segment_bytes = sizes[below(run, 6)];
    options.verify_reads = percent(run, 20) ? CASK_SWITCH_OFF : CASK_SWITCH_ON;
    options.index_memory = (uint64_t)64 << 20;
    run->spills = seed % 7 < 2;
    if (run->spills)
        options.index_memory = percent(run, 50) ? SPILL_SQUEEZABLE : (uint64_t)1 << 20;
    options.merge = seed / 2 % 2 ? CASK_SWITCH_ON : CASK_SWITCH_OFF;
    return options;
}

static void run_seed(uint64_t seed)
{
    bool many = seed % 8 == 5;
    enum scratch_kind kind = seed % 6 == 4 ? SCRATCH_DISK : SCRATCH_MEMORY;
    struct run run = {.model = model_create(seed, many ? 3000 : 50)};
    uint64_t count = many ? 1500 : 700;

    log_lines_init(&run.log);
    run.path = scratch_make(kind);
    run.other_path = scratch_make(kind);
    run.options = pick_options(&run, seed);
    open_store(&run);
    for (uint64_t i = 0; i < count; i++) {
        check_context("CASKADE_MODEL_SEED=%llu (operation %llu)", (unsigned long long)seed,
                      (unsigned long long)run.model->operation);
        operate(&run);
    }
    do_reopen(&run);
    CHECK_OK(cask_verify(run.db, NULL, NULL));
    do_merge(&run);
    check_all(&run, run.db);
    do_reopen(&run);
    close_store(&run);
    check_no_strays(run.path);
    scratch_remove(run.path);
    scratch_remove(run.other_path);
    model_destroy(run.model);
    check_context("%s", "");
}

static void test_store_agrees_with_the_model(void **state)
{
    uint64_t seeds = environment_number("CASKADE_MODEL_SEEDS", SEEDS);
    uint64_t only = environment_number("CASKADE_MODEL_SEED", 0);
    uint64_t started = clock_ns();

    (void)state;
    if (only != 0) {
        run_seed(only);
        return;
    }
    for (uint64_t seed = 1; seed <= seeds; seed++)
        run_seed(seed);
    print_message("seeds 1 to %llu, %.1f s\n", (unsigned long long)seeds,
                  (double)(clock_ns() - started) / 1e9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_agrees_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
