/* H1. What is checked: see explorer.h. */
#include "explorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support_spill.h"
#include "crashstate.h"
#include "sim_internal.h"
#include "simdisk.h"
#include "strays.h"

#define PROBE_KEY (HISTORY_KEYS - 1)
#define PROBE_BYTES 40u
#define SEEN_BITS 20u
#define NESTED_STATES 8u /* a position */
#define NESTED_POSITIONS 12u

struct explorer {
    const struct workload *workload;
    const struct explorer_limits *limits;
    struct explorer_result *result;
    uint64_t seed;
    struct history history;
    struct simlog *log;
    unsigned probe_version;
    uint8_t probe[PROBE_BYTES];
    uint64_t *seen;

    size_t used;        /* states of this run */
    size_t used_nested; /* of these, inside a recovery: a third at most */
    size_t allowance;   /* new states of this position */
    size_t position;
    size_t made; /* the store's first open had returned */

    /* of the recovery that is being crashed, while it is */
    const struct crash_state *outer;
    const struct simlog *inner_log;
    struct history_moment inner_moment;
};

/* One state on its way through the checks. */
struct check {
    struct explorer *explorer;
    struct history_moment moment;
    struct history_view view;
    struct simimage *opened; /* files right after the open, where wanted */
    bool torn;               /* the last write before the crash is there in part */
    char why[400];
};

static bool complain(struct check *check, const char *what, const char *detail)
{
    snprintf(check->why, sizeof check->why, "%s%s%.300s", what, detail[0] ? ": " : "", detail);
    return false;
}

static bool complain_status(struct check *check, const char *call, int status)
{
    char errors[300];

    workload_errors(errors, sizeof errors);
    snprintf(check->why, sizeof check->why, "%s says %s (%s)", call, cask_strerror(status), errors);
    return false;
}

/* Where reads come from changes from state to state. */
static bool open_store(struct check *check, uint64_t salt, struct cask_db **ret_db)
{
    struct cask_options options;
    char errors[300];
    int status;

    workload_clear_errors();
    workload_options(check->explorer->workload, &options);
    options.read_mode = salt & 0x100 ? CASK_READ_PREAD : CASK_READ_MAPPED;
    status = cask_open(WORKLOAD_PATH, &options, ret_db);
    if (status != CASK_OK)
        return complain_status(check, "cask_open", status);
    if (workload_errors(errors, sizeof errors) == 0)
        return true;
    (void)cask_close(*ret_db);
    return complain(check, "the open reports damage", errors);
}

static bool close_store(struct check *check, struct cask_db *db)
{
    int status = cask_close(db);

    if (status != CASK_OK)
        return complain_status(check, "cask_close", status);
    if (simdisk_open_handles() > 0 || simdisk_open_maps() > 0)
        return complain(check, "handles or mappings are left open", "");
    simdisk_check();
    return true;
}

static bool look(struct check *check, const char *when, struct cask_db *db,
                 struct history_view *ret_view)
{
    char why[300];

    return history_look(&check->explorer->history, db, ret_view, why, sizeof why)
               ? true
               : complain(check, when, why);
}

static bool same_view(struct check *check, const char *when, const struct history_view *view)
{
    char why[300];

    return history_same(&check->view, view, why, sizeof why) ? true : complain(check, when, why);
}

/* A put of a key that the run never used, and a delete of the first key that is there. */
static bool write_a_little(struct check *check, struct cask_db *db)
{
    struct explorer *explorer = check->explorer;
    struct cask_slice probe = {explorer->probe, PROBE_BYTES};
    unsigned key = 0;
    int status = cask_put(db, history_key(PROBE_KEY), probe);

    if (status != CASK_OK)
        return complain_status(check, "cask_put after recovery", status);
    while (key < HISTORY_KEYS && !check->view.present[key])
        key++;
    if (key < HISTORY_KEYS) {
        status = cask_delete(db, history_key(key));
        if (status != CASK_OK)
            return complain_status(check, "cask_delete after recovery", status);
        check->view.present[key] = false;
        check->view.version[key] = 0;
    }
    check->view.present[PROBE_KEY] = true;
    check->view.version[PROBE_KEY] = explorer->probe_version;
    return true;
}

static bool merge(struct check *check, struct cask_db *db)
{
    struct history_view view;
    int status = cask_merge(db, NULL, NULL);

    if (status != CASK_OK)
        return complain_status(check, "cask_merge after recovery", status);
    return look(check, "after merging", db, &view) && same_view(check, "after merging", &view);
}

/* Moves the index to disk: some of it, so that runs lie beside each other, or all. */
static bool spill(struct check *check, struct cask_db *db, uint64_t salt)
{
    struct history_view view;
    int status = salt & 0x10 ? cask_flush_index(db) : spill_all(db);

    if (status != CASK_OK)
        return complain_status(check, "moving the index to disk after recovery", status);
    return look(check, "with the index on disk", db, &view) &&
           same_view(check, "with the index on disk", &view);
}

/* A segment with half a header is taken for a foreign file, and left alone. */
static bool check_no_strays(struct check *check)
{
    char path[200];

    if (check->torn)
        return true;
    return strays_find_now(path, sizeof path) ? complain(check, "a file is left behind", path)
                                              : true;
}

static bool check_opened(struct check *check, struct cask_db *db)
{
    char why[300];
    int status;

    if (!look(check, "contents", db, &check->view))
        return false;
    if (!history_judge(&check->explorer->history, &check->moment, &check->view, why, sizeof why))
        return complain(check, "contents", why);
    status = cask_verify(db, NULL, NULL);
    return status == CASK_OK ? true : complain_status(check, "cask_verify", status);
}

static bool check_reopened(struct check *check, uint64_t salt)
{
    struct history_view view;
    struct cask_db *db;
    bool good;

    if (!open_store(check, salt, &db))
        return false;
    good = look(check, "after writing and reopening", db, &view) &&
           same_view(check, "after writing and reopening", &view);
    return close_store(check, db) && good;
}

/* Leaves in check->view what was there right after the open. */
static bool run_checks(struct check *check, uint64_t salt, size_t *ret_open_end)
{
    struct history_view found;
    struct cask_db *db;
    bool good;

    if (!open_store(check, salt, &db))
        return false;
    *ret_open_end = simdisk_log_position();
    if (check->opened) {
        simimage_release(check->opened);
        check->opened = simdisk_snapshot();
    }
    good = check_opened(check, db);
    found = check->view;
    good = good && write_a_little(check, db);
    if (good && check->explorer->workload->spill_percent > 0 && salt & 8)
        good = spill(check, db, salt);
    if (good && salt & 4)
        good = merge(check, db);
    if (!good) {
        (void)cask_close(db);
        return false;
    }
    good = close_store(check, db);
    if (good && (salt & 3) != 3)
        good = check_no_strays(check);
    if (good && (salt & 3) == 0)
        good = check_reopened(check, salt >> 2);
    check->view = found;
    return good;
}

static void rules_off(const struct explorer *explorer)
{
    simdisk_ignore_file_sync(explorer->limits->ignore_file_sync);
    simdisk_ignore_dir_sync(explorer->limits->ignore_dir_sync);
}

static void rules_on(void)
{
    simdisk_ignore_file_sync(NULL);
    simdisk_ignore_dir_sync(NULL);
}

/* Expiry must not depend on when the store is opened: at the run's end, or an hour later. */
static uint64_t opening_time(const struct explorer *explorer, uint64_t salt)
{
    return explorer->history.end_ms + (salt & 0x80 ? 3600000 : 0);
}

/* ---- more about some states ------------------------------------------------------------------ */

/* Rule 6 of explorer.h. */
static bool check_shown_is_durable(struct check *check, const struct simlog *log, size_t open_end)
{
    struct simimage *image = crash_image_durable(log, open_end);
    struct history_view view;
    struct cask_db *db;
    bool good;

    simdisk_load(image, SIMDISK_NEW_BOOT);
    simimage_release(image);
    good = open_store(check, 0, &db);
    if (good) {
        good = look(check, "after a power loss right behind the open", db, &view) &&
               same_view(check, "after a power loss right behind the open", &view);
        good = close_store(check, db) && good;
    }
    return good;
}

static bool is_segment(const struct simimage_entry *entry)
{
    const char *dot = strrchr(entry->name, '.');

    return entry->blob && dot && strcmp(dot, ".data") == 0;
}

/* Segments that both have: the same bytes as far as both reach, zeros behind. */
static bool same_segments(struct check *check, const struct simimage *again)
{
    char path[200];

    for (size_t i = 0; i < check->opened->count; i++) {
        const struct simimage_entry *a = &check->opened->entries[i];
        const struct simimage_entry *b;
        const struct simblob *longer;
        size_t common;

        simimage_path(check->opened, a, path, sizeof path);
        b = is_segment(a) ? simimage_find(again, path) : NULL;
        if (!b)
            continue;
        longer = a->blob->size > b->blob->size ? a->blob : b->blob;
        common = a->blob->size < b->blob->size ? a->blob->size : b->blob->size;
        if (memcmp(a->blob->bytes, b->blob->bytes, common) != 0)
            return complain(check, "recovering twice gives other bytes", path);
        for (size_t at = common; at < longer->size; at++)
            if (longer->bytes[at] != 0)
                return complain(check, "recovering twice gives another length", path);
    }
    return true;
}

/* Rule 7. */
static bool check_twice(struct check *check, uint64_t salt)
{
    struct simimage *again = NULL;
    struct history_view view;
    struct cask_db *db;
    bool good;

    simdisk_load(check->opened, SIMDISK_SAME_BOOT);
    good = open_store(check, salt >> 3, &db);
    if (good) {
        again = simdisk_snapshot();
        good = look(check, "after recovering twice", db, &view) &&
               same_view(check, "after recovering twice", &view);
        good = close_store(check, db) && good && same_segments(check, again);
    }
    simimage_release(again);
    return good;
}

/* Rule 9. Where no store was finished, none need be found. */
static bool check_read_only(struct check *check, const struct crash_state *state)
{
    struct cask_options options;
    struct history_view view;
    struct simimage *after;
    struct cask_db *db = NULL;
    char text[300] = "";
    bool good = true;
    int status;

    workload_options(check->explorer->workload, &options);
    options.shard_count = 0;
    options.read_only = 1;
    simdisk_load(state->image, SIMDISK_NEW_BOOT);
    status = cask_open(WORKLOAD_PATH, &options, &db);
    if (status == CASK_OK) {
        good = look(check, "read-only contents", db, &view);
        if (good &&
            !history_judge(&check->explorer->history, &check->moment, &view, text, sizeof text))
            good = complain(check, "read-only contents", text);
        good = close_store(check, db) && good;
    } else if (status != CASK_ENOTSTORE || state->position > check->explorer->made) {
        return complain_status(check, "read-only cask_open", status);
    }
    after = simdisk_snapshot();
    if (good && simimage_differs(state->image, after, text, sizeof text))
        good = complain(check, "a read-only open changes", text);
    simimage_release(after);
    return good;
}

static void report(struct explorer *explorer, const struct crash_state *state,
                   const struct check *check)
{
    struct explorer_result *result = explorer->result;
    char entry[160] = "nothing";
    char text[sizeof result->first];

    if (explorer->position > 0)
        simlog_describe(explorer->log, explorer->position - 1, entry, sizeof entry);
    snprintf(text, sizeof text,
             "%s seed %llu position %zu of %zu, after \"%.100s\"%s%.90s: %.90s: %.200s",
             explorer->workload->name, (unsigned long long)explorer->seed, explorer->position,
             explorer->log->count, entry, explorer->outer ? ", in a recovery of " : "",
             explorer->outer ? explorer->outer->text : "", state->text, check->why);
    if (!explorer->limits->quiet)
        fprintf(stderr, "FAILED %s\n  again: CASKADE_CRASH_SEED=%llu CASKADE_CRASH_POSITION=%zu\n",
                text, (unsigned long long)explorer->seed, explorer->position);
    if (result->failures++ == 0) {
        memcpy(result->first, text, sizeof text);
        if (explorer->limits->dump_to && !simimage_dump(state->image, explorer->limits->dump_to))
            fprintf(stderr, "cannot dump to %s\n", explorer->limits->dump_to);
    }
}

static void explore_recovery(struct explorer *explorer, const struct crash_state *outer,
                             const struct simlog *log, size_t from, size_t to);

static bool may_nest(const struct explorer *explorer, bool in_depth)
{
    bool room = explorer->used_nested <= explorer->used / 3;

    return in_depth && !explorer->outer && (room || explorer->limits->position != HISTORY_NEVER);
}

/* All that is asked of one state. `log` is where it comes from. */
static void check_state(struct explorer *explorer, const struct crash_state *state,
                        const struct simlog *log, const struct history_moment *moment)
{
    struct check check = {.explorer = explorer,
                          .moment = *moment,
                          .torn = state->torn || (explorer->outer && explorer->outer->torn)};
    uint64_t salt = state->hash >> 8;
    bool in_depth = (salt & 0x7c) == 0 || explorer->limits->position != HISTORY_NEVER;
    bool twice = (salt & 0x1c) == 8;
    struct simlog *opening;
    size_t start;
    size_t open_end = 0;
    bool good;

    if (twice)
        check.opened = simimage_create();
    simdisk_load(state->image, state->kill ? SIMDISK_SAME_BOOT : SIMDISK_NEW_BOOT);
    simdisk_set_clock_ms(check.moment.now_ms = opening_time(explorer, salt));
    if (state->kill && !state->torn)
        simdisk_record_resume(log, state->position); /* what was not synced still is not */
    else
        simdisk_record_begin();
    start = simdisk_log_position();
    rules_off(explorer);
    good = run_checks(&check, salt, &open_end);
    opening = simdisk_record_end();
    if (good && in_depth)
        good = check_shown_is_durable(&check, opening, open_end);
    if (good && twice)
        good = check_twice(&check, salt);
    if (good && (salt & 0x1c) == 0x0c)
        good = check_read_only(&check, state);
    rules_on();
    explorer->result->states++;
    if (!good)
        report(explorer, state, &check);
    else if (may_nest(explorer, in_depth))
        explore_recovery(explorer, state, opening, start, open_end);
    simlog_release(opening);
    simimage_release(check.opened);
}

/* ---- which states ---------------------------------------------------------------------------- */

/* True if it was there already. */
static bool note_seen(struct explorer *explorer, uint64_t hash)
{
    size_t mask = ((size_t)1 << SEEN_BITS) - 1;

    hash |= 1;
    for (size_t i = (size_t)(hash >> 7) & mask;; i = (i + 1) & mask) {
        if (explorer->seen[i] == hash)
            return true;
        if (explorer->seen[i] == 0) {
            explorer->seen[i] = hash;
            return false;
        }
    }
}

/* Two equal states differ if more had been acknowledged by the second. */
static uint64_t expectation(const struct explorer *explorer, const struct history_moment *moment)
{
    uint64_t count = moment->kill;

    for (size_t i = 0; i < explorer->history.unit_count; i++) {
        const struct history_unit *unit = &explorer->history.units[i];

        if ((moment->kill ? unit->returned : unit->durable) <= moment->position)
            count += 2;
    }
    return count * 0x9e3779b97f4a7c15u;
}

static bool enough(const struct explorer *explorer)
{
    return explorer->used >= explorer->limits->states ||
           explorer->result->failures >= explorer->limits->failures ||
           explorer->used >= (size_t)1 << (SEEN_BITS - 1);
}

static bool visit_nested(void *context, const struct crash_state *state)
{
    struct explorer *explorer = context;
    struct history_moment moment = explorer->inner_moment;

    moment.kill = moment.kill && state->kill;
    if (note_seen(explorer, state->hash + expectation(explorer, &moment))) {
        explorer->result->repeated++;
        return true;
    }
    check_state(explorer, state, explorer->inner_log, &moment);
    explorer->result->nested++;
    explorer->used_nested++;
    explorer->used++;
    return !enough(explorer);
}

/* Rule 8: the entries [from, to) of the log are those of a recovery. */
static void explore_recovery(struct explorer *explorer, const struct crash_state *outer,
                             const struct simlog *log, size_t from, size_t to)
{
    struct crash_tracker *tracker = crash_tracker_create(log, explorer->workload->page_bytes,
                                                         explorer->workload->sector_bytes);
    struct crash_limits limits = {
        .seed = outer->hash, .pairs = 4, .random = 8, .total = NESTED_STATES};
    size_t stride = (to - from) / NESTED_POSITIONS + 1;

    if (explorer->limits->position != HISTORY_NEVER) {
        limits.total = SIZE_MAX;
        stride = 1;
    }
    explorer->outer = outer;
    explorer->inner_log = log;
    explorer->inner_moment = (struct history_moment){.position = outer->position,
                                                     .kill = outer->kill};
    for (size_t at = from + 1 + outer->hash % stride; at <= to && !enough(explorer); at += stride) {
        crash_tracker_advance(tracker, at);
        crash_states(tracker, &limits, visit_nested, explorer);
    }
    explorer->outer = NULL;
    crash_tracker_release(tracker);
}

static bool visit(void *context, const struct crash_state *state)
{
    struct explorer *explorer = context;
    struct history_moment moment = {.position = state->position, .kill = state->kill};

    if (note_seen(explorer, state->hash + expectation(explorer, &moment))) {
        explorer->result->repeated++;
        return true;
    }
    check_state(explorer, state, explorer->log, &moment);
    explorer->used++;
    if (--explorer->allowance == 0)
        return false;
    return !enough(explorer);
}

static void explore_positions(struct explorer *explorer)
{
    const struct explorer_limits *limits = explorer->limits;
    struct crash_tracker *tracker = crash_tracker_create(
        explorer->log, explorer->workload->page_bytes, explorer->workload->sector_bytes);
    struct crash_limits each = {
        .seed = explorer->seed, .pairs = 30, .random = 60, .total = SIZE_MAX};
    size_t count = explorer->log->count + 1;
    size_t most = limits->states / count * 3 + 3;

    for (size_t at = 0; at < count && !enough(explorer); at++) {
        size_t due = limits->states / count * (at + 1) + limits->states % count * (at + 1) / count;

        if (limits->position != HISTORY_NEVER)
            due = at == limits->position ? SIZE_MAX : 0;
        if (due <= explorer->used)
            continue; /* those before have taken its share */
        explorer->position = at;
        explorer->allowance = due - explorer->used;
        if (explorer->allowance > most && limits->position == HISTORY_NEVER)
            explorer->allowance = most; /* what is left over goes to the next run */
        crash_tracker_advance(tracker, at);
        crash_states(tracker, &each, visit, explorer);
        explorer->result->positions++;
    }
    crash_tracker_release(tracker);
}

void explore(const struct workload *workload, uint64_t seed, const struct explorer_limits *limits,
             struct explorer_result *result)
{
    struct explorer explorer = {
        .workload = workload, .limits = limits, .result = result, .seed = seed};
    struct crash_state start = {.text = "the run itself"};
    struct check check = {.explorer = &explorer};

    if (!limits->ignore_in_recovery_only)
        rules_off(&explorer);
    explorer.seen = sim_allocate(sizeof(uint64_t) << SEEN_BITS);
    memset(explorer.seen, 0, sizeof(uint64_t) << SEEN_BITS);
    if (!workload_run(workload, seed, &explorer.history, &explorer.log, check.why,
                      sizeof check.why)) {
        start.image = simdisk_snapshot();
        report(&explorer, &start, &check);
        simimage_release(start.image);
    } else {
        explorer.made = explorer.history.unit_count ? explorer.history.units[0].started : 0;
        explorer.probe_version = history_version(&explorer.history, PROBE_KEY, PROBE_BYTES,
                                                 explorer.probe);
        explore_positions(&explorer);
    }
    rules_on();
    simlog_release(explorer.log);
    history_release(&explorer.history);
    free(explorer.seen);
}
