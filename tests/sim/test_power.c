/* T18: power lost after any change of a name during a merge, a flush of the index, or a merge of
 * its runs: what was durable before is there after, whatever of the pending changes got through.
 *
 *   lost     power is lost during the act
 *   killed   the process is killed during the act, and power is lost while the store is opened
 *            again on the same machine, with all that is not durable yet still pending
 *
 *   test_power [PATTERN]   only the tests whose names match
 *
 * What is legal in the midst of all else a store does: H1, test_crash.
 */
#include "known.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support_spill.h"
#include "crashstate.h"
#include "simdisk.h"

#define PAGE_BYTES 512u /* of the simulated disk: small files are to have several */
#define SECTOR_BYTES 128u

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "malloc_context_size=8:quarantine_size_mb=16:max_malloc_fill_size=0";
}

struct episode {
    const char *name;
    struct cask_options options;
    void (*prepare)(struct known *store); /* what is durable before; may be NULL */
    void (*act)(struct known *store);
    bool hints_find_no_room;
};

/* ---- episodes -------------------------------------------------------------------------------- */

static void merge(struct known *store)
{
    EXPECT(cask_merge(store->db, NULL, NULL), CASK_OK);
}

static void flush(struct known *store)
{
    EXPECT(spill_all(store->db), CASK_OK);
}

static void make_runs(struct known *store)
{
    for (unsigned key = 0; key < KEYS; key++) {
        if (key % 4 != 3)
            EXPECT(known_try_put(store, key), CASK_OK);
        else if (store->version[key] != 0)
            known_delete(store, key);
        if (key % 7 == 6)
            flush(store);
    }
}

static void merge_runs(struct known *store)
{
    EXPECT(cask_flush_index(store->db), CASK_OK);
}

/* Runs that are flushed, merged, and whose segments are merged then. */
static void merge_all(struct known *store)
{
    flush(store);
    merge(store);
}

static const struct episode episodes[] = {
    {"merge_whole", WHOLE(MAPPED, MAPPED), NULL, merge, false},
    {"merge_pieces", PIECES(SYSCALL, PREAD), NULL, merge, false},
    {"merge_shards", SHARDS(MAPPED, PREAD), NULL, merge, false},
    {"merge_without_hints", WHOLE(SYSCALL, MAPPED), NULL, merge, true},
    {"flush_shards", SHARDS(SYSCALL, MAPPED), NULL, flush, false},
    {"flush_again", WHOLE(MAPPED, PREAD), make_runs, flush, false},
    {"runs_whole", WHOLE(MAPPED, MAPPED), make_runs, merge_runs, false},
    {"runs_shards", SHARDS(SYSCALL, PREAD), make_runs, merge_runs, false},
    {"runs_and_segments", PIECES(MAPPED, MAPPED), make_runs, merge_all, false},
};
#define EPISODES (sizeof episodes / sizeof *episodes)

/* The log of an episode; *ret_from, *ret_to: the part that is the act. */
static struct simlog *play(const struct episode *episode, struct known *store, size_t *ret_from,
                           size_t *ret_to)
{
    const struct simdisk_fault no_room = {.nth = 1,
                                          .calls = SIMDISK_SPACE_CALLS,
                                          .status = CASK_ENOSPC,
                                          .persistent = true,
                                          .pattern = "*.hint*"};

    known_begin(store, &episode->options);
    known_build(store);
    if (episode->prepare)
        episode->prepare(store);
    EXPECT(cask_sync(store->db), CASK_OK);
    *ret_from = simdisk_log_position();
    if (episode->hints_find_no_room)
        simdisk_set_fault(&no_room);
    episode->act(store);
    assert_true(simdisk_fault_hits() > 0 || !episode->hints_find_no_room);
    simdisk_set_fault(NULL);
    *ret_to = simdisk_log_position();
    assert_true(*ret_to > *ret_from + 5);
    known_close(store);
    return simdisk_record_end();
}

/* ---- losses ---------------------------------------------------------------------------------- */

struct loss {
    struct known *store;
    char when[120];
    unsigned states;
};

static void check_opened(struct known *store, const char *when)
{
    simdisk_set_clock_ms(NOW_MS);
    known_open(store);
    known_check(store, when);
}

static bool check_after_loss(void *context, const struct crash_state *state)
{
    struct loss *loss = context;
    char when[400];

    if (state->kill)
        return true;
    snprintf(when, sizeof when, "%s, %s", loss->when, state->text);
    simdisk_load(state->image, SIMDISK_NEW_BOOT);
    check_opened(loss->store, when);
    EXPECT(cask_merge(loss->store->db, NULL, NULL), CASK_OK);
    known_check(loss->store, when);
    known_close(loss->store);
    check_no_strays(when);
    loss->states++;
    return true;
}

/* Positions between those that matter for the order of things add states of no other kind. */
static bool changes_names(const struct simlog *log, size_t position)
{
    enum simop_kind kind = position == 0 ? SIMOP_WRITE : log->ops[position - 1].kind;

    return kind == SIMOP_CREATE || kind == SIMOP_MKDIR || kind == SIMOP_RENAME ||
           kind == SIMOP_UNLINK;
}

/* Power lost at this position of a log. */
static void lose_power(struct loss *loss, struct crash_tracker *tracker, size_t position,
                       size_t states)
{
    struct crash_limits limits = {
        .seed = position, .pairs = states / 4, .random = states / 4, .total = states};

    crash_tracker_advance(tracker, position);
    crash_states(tracker, &limits, check_after_loss, loss);
}

static void test_lost(void **state)
{
    const struct episode *episode = *state;
    struct crash_tracker *tracker;
    struct known store;
    struct loss loss = {.store = &store};
    struct simlog *log;
    size_t from;
    size_t to;

    log = play(episode, &store, &from, &to);
    tracker = crash_tracker_create(log, PAGE_BYTES, SECTOR_BYTES);
    for (size_t at = from; at <= to; at++) {
        if (!changes_names(log, at))
            continue;
        snprintf(loss.when, sizeof loss.when, "power lost at step %zu of %zu", at - from,
                 to - from);
        lose_power(&loss, tracker, at, 24);
    }
    print_message("%u states\n", loss.states);
    crash_tracker_release(tracker);
    simlog_release(log);
    known_end(&store);
}

/* The store is opened again after a kill at this position; and then the power goes. */
static void open_killed(struct loss *loss, const struct simlog *log, size_t at)
{
    struct simimage *image = crash_image_all(log, at);
    char *end = loss->when + strlen(loss->when);
    size_t room = sizeof loss->when - strlen(loss->when);
    struct crash_tracker *tracker;
    struct simlog *opening;
    size_t from;
    size_t to;

    simdisk_load(image, SIMDISK_SAME_BOOT);
    simdisk_record_resume(log, at); /* what was not synced still is not */
    simimage_release(image);
    from = simdisk_log_position();
    check_opened(loss->store, loss->when);
    to = simdisk_log_position();
    known_close(loss->store);
    opening = simdisk_record_end();
    tracker = crash_tracker_create(opening, PAGE_BYTES, SECTOR_BYTES);
    for (size_t step = from; step <= to; step++) {
        if (!changes_names(opening, step))
            continue;
        snprintf(end, room, ", power lost at step %zu of opening", step - from);
        lose_power(loss, tracker, step, 6);
    }
    *end = '\0';
    crash_tracker_release(tracker);
    simlog_release(opening);
}

static void test_killed(void **state)
{
    const struct episode *episode = *state;
    struct known store;
    struct loss loss = {.store = &store};
    struct simlog *log;
    size_t from;
    size_t to;

    log = play(episode, &store, &from, &to);
    for (size_t at = from; at <= to; at++) {
        if (!changes_names(log, at))
            continue;
        snprintf(loss.when, sizeof loss.when, "killed at step %zu of %zu", at - from, to - from);
        open_killed(&loss, log, at);
    }
    print_message("%u states\n", loss.states);
    simlog_release(log);
    known_end(&store);
}

/* A merge takes away what newer records replaced: these must be durable by then, though no sync was
 * ever asked for. */
static void test_what_replaced_merged_records_is_durable(void **state)
{
    const struct cask_options options = PIECES(MAPPED, MAPPED);
    struct simimage *image;
    struct simlog *log;
    struct known store;

    (void)state;
    known_begin(&store, &options);
    for (unsigned round = 0; round < 3; round++)
        for (unsigned key = 0; key < KEYS; key++)
            EXPECT(known_try_put(&store, key), CASK_OK);
    EXPECT(cask_merge(store.db, NULL, NULL), CASK_OK);
    log = simdisk_record_end();
    image = crash_image_durable(log, log->count);
    known_close(&store);
    simdisk_load(image, SIMDISK_NEW_BOOT);
    known_open(&store);
    known_check(&store, "power lost after a merge");
    known_close(&store);
    simimage_release(image);
    simlog_release(log);
    known_end(&store);
}

/* ---- main ------------------------------------------------------------------------------------ */

/* A pattern that matches nothing must not look like success. */
static bool any_matches(const struct CMUnitTest *tests, size_t count, const char *pattern)
{
    for (size_t i = 0; i < count; i++)
        if (fnmatch(pattern, tests[i].name, 0) == 0)
            return true;
    fprintf(stderr, "no test is called %s\n", pattern);
    return false;
}

int main(int argc, char **argv)
{
    static char names[2 * EPISODES][60];
    struct CMUnitTest tests[2 * EPISODES + 1];
    int failed;

    for (size_t i = 0; i < 2 * EPISODES; i++) {
        const struct episode *episode = &episodes[i % EPISODES];
        bool killed = i >= EPISODES;

        snprintf(names[i], sizeof names[i], "%s_%s", killed ? "killed" : "lost", episode->name);
        tests[i] = killed ? (struct CMUnitTest)cmocka_unit_test(test_killed)
                          : (struct CMUnitTest)cmocka_unit_test(test_lost);
        tests[i].name = names[i];
        tests[i].initial_state = (void *)(uintptr_t)episode;
    }
    tests[2 * EPISODES] = (struct CMUnitTest)cmocka_unit_test(
        test_what_replaced_merged_records_is_durable);
    if (argc > 1 && !any_matches(tests, sizeof tests / sizeof *tests, argv[1]))
        return 2;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    simdisk_finish();
    return failed;
}
