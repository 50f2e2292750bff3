/* When merges are asked for: while one has to wait, for a place or for its hour, writers do not
 * wake the worker again and again; and none is forgotten when the last writer has gone. */
#include <time.h>
#include <unistd.h>

#include "store/store.h"
#include "unit_store.h"

#define KEYS 200u
#define ROUNDS 40u
#define MANY_KEYS 4000u
#define FEW_ROUNDS 12u

static uint64_t merge_above(struct store *store, uint32_t number)
{
    struct shard *shard = &store->db->shards[number];
    uint64_t above;

    pthread_mutex_lock(&shard->lock);
    above = shard->merge_above;
    pthread_mutex_unlock(&shard->lock);
    return above;
}

/* The same keys over and over, so that most of what there is is dead. */
static void overwrite_so(struct store *store, unsigned keys, unsigned rounds)
{
    static const uint8_t bytes[400] = {1};
    char key[32];

    for (unsigned i = 0; i < keys * rounds; i++) {
        snprintf(key, sizeof key, "key-%u", i % keys);
        CHECK_OK(cask_put(store->db, slice_of(key), slice_bytes(bytes, sizeof bytes)));
    }
}

static void overwrite(struct store *store)
{
    overwrite_so(store, KEYS, ROUNDS);
}

static bool becomes(struct store *store, bool silent)
{
    for (unsigned i = 0; i < 4000; i++) {
        if ((merge_above(store, 0) == UINT64_MAX) == silent)
            return true;
        pause_us(5000);
    }
    return false;
}

/* One shard, of which a merge takes many at a time. */
static struct store *small_segments(void)
{
    struct store *store = store_make(1);

    store->options.segment_bytes = 64 << 10;
    store_up(store);
    return store;
}

static void test_nobody_asks_for_what_waits_for_its_hour(void **state)
{
    struct store *store = store_make(1);
    time_t now = time(NULL);
    struct tm local;

    (void)state;
    assert_non_null(localtime_r(&now, &local));
    store->options.segment_bytes = 64 << 10;
    store->options.merge_from_hour = (uint8_t)((local.tm_hour + 12) % 24);
    store->options.merge_until_hour = (uint8_t)((local.tm_hour + 13) % 24);
    store_up(store);
    assert_false(merge_above(store, 0) == UINT64_MAX);
    overwrite(store);
    assert_true(becomes(store, true));
    assert_int_equal(stats_of(store).merges, 0);
    store_end(store);
}

/* The only place is taken by hand; given back, the shard is called. */
static void test_nobody_asks_for_what_waits_for_a_place(void **state)
{
    struct store *store = store_make(1);
    struct merge_control *control;

    (void)state;
    store->options.segment_bytes = 64 << 10;
    store->options.merge_at_once = 1;
    store_up(store);
    control = &store->db->merging;
    pthread_mutex_lock(&control->lock);
    control->running = 1;
    pthread_mutex_unlock(&control->lock);
    overwrite(store);
    assert_true(becomes(store, true));
    assert_int_equal(stats_of(store).merges, 0);

    pthread_mutex_lock(&control->lock);
    assert_true(control->waiting[0]);
    control->waiting[0] = false;
    control->running = 0;
    pthread_mutex_unlock(&control->lock);
    shard_ask_for_work(&store->db->shards[0], SHARD_WORK_MERGE);
    assert_true(becomes(store, false));
    for (unsigned i = 0; i < 4000 && stats_of(store).merges == 0; i++)
        pause_us(5000);
    assert_true(stats_of(store).merges > 0);
    store_end(store);
}

/* While all of a shard is verified or merged by hand, a merge of its own comes to nothing. */
static void test_nobody_asks_at_every_turn_while_another_has_the_shard(void **state)
{
    struct store *store = store_make(1);
    struct shard *shard;
    uint64_t above = 0;

    (void)state;
    store->options.segment_bytes = 64 << 10;
    store_up(store);
    shard = &store->db->shards[0];
    pthread_mutex_lock(&shard->merge_lock);
    overwrite(store);
    for (unsigned i = 0; i < 4000 && above <= shard->counts.dead_bytes; i++) {
        pause_us(5000);
        above = merge_above(store, 0);
    }
    assert_true(above > shard->counts.dead_bytes);
    assert_int_equal(stats_of(store).merges, 0);
    pthread_mutex_unlock(&shard->merge_lock);
    store_end(store);
}

/* Nobody writes any more once the other has gone. */
static void test_a_shard_that_another_had_is_looked_at_again(void **state)
{
    struct store *store = small_segments();
    struct shard *shard = &store->db->shards[0];

    (void)state;
    pthread_mutex_lock(&shard->merge_lock);
    overwrite(store);
    worker_stop(&store->db->workers[0]); /* what it would do is done here */
    shard->stopping = false;
    assert_true(merge_automatically(&store->db->merging, shard));
    pthread_mutex_unlock(&shard->merge_lock);
    assert_int_equal(stats_of(store).merges, 0);
    assert_false(merge_automatically(&store->db->merging, shard));
    assert_true(stats_of(store).merges > 0);
    store_end(store);
}

/* Some of what lies between the dead records stays. */
static void overwrite_some(struct store *store)
{
    static const uint8_t bytes[400] = {1};
    char key[32];

    for (unsigned i = 0; i < KEYS * ROUNDS; i++) {
        snprintf(key, sizeof key, i % 8 == 0 ? "stays-%u" : "key-%u", i % 8 == 0 ? i : i % KEYS);
        CHECK_OK(cask_put(store->db, slice_of(key), slice_bytes(bytes, sizeof bytes)));
    }
}

/* A writer that waited for a flush leaves runs to be merged to the worker, who may be about to
 * merge segments: both are done under the merge_lock. */
static void test_runs_are_not_merged_amid_a_merge_of_segments(void **state)
{
    struct store *store = store_make(1);
    struct merge_control *control;
    struct shard *shard;

    (void)state;
    store->options.segment_bytes = 64 << 10;
    store->options.merge_at_once = 1;
    store_up(store);
    control = &store->db->merging;
    shard = &store->db->shards[0];
    pthread_mutex_lock(&control->lock);
    control->running = 1; /* no merge yet */
    pthread_mutex_unlock(&control->lock);
    overwrite_some(store);
    assert_true(becomes(store, true));
    worker_stop(&store->db->workers[0]); /* what it would do is done here */
    shard->stopping = false;
    control->waiting[0] = false;
    control->running = 0;
    shard_do_work(shard, shard_take_work(shard, SHARD_WORK_SEAL));
    atomic_fetch_or(&shard->work, (unsigned)SHARD_WORK_TIDY);
    (void)alarm(120); /* it would wait for itself */
    assert_false(merge_automatically(control, shard));
    (void)alarm(0);
    assert_true(stats_of(store).merges > 0);
    store_end(store);
}

/* As where there is no memory for it: the shard, which was called, asks again. */
static void test_a_look_that_fails_is_not_the_last(void **state)
{
    struct store *store = small_segments();
    struct shard *shard = &store->db->shards[0];

    (void)state;
    pthread_mutex_lock(&shard->lock);
    shard->merge_above = UINT64_MAX;
    pthread_mutex_unlock(&shard->lock);
    atomic_store(&shard->failed, CASK_ENOMEM);
    assert_false(merge_automatically(&store->db->merging, shard));
    atomic_store(&shard->failed, CASK_OK);
    assert_in_range(merge_above(store, 0), 1, 64 << 10);
    store_end(store);
}

/* Whoever lets nearly all be dead wants segments of the size asked for: smaller ones would cost
 * their syncs and free nothing that matters. */
static void test_segments_stay_large_where_much_may_be_dead(void **state)
{
    struct store *store = store_make(1);
    struct cask_stats stats;

    (void)state;
    store->options.segment_bytes = 64 << 20;
    store->options.merge_trigger_percent = 99;
    store_up(store);
    overwrite_so(store, MANY_KEYS, FEW_ROUNDS);
    stats = stats_of(store);
    assert_true(stats.dead_bytes > 4 * stats.live_bytes);
    assert_in_range(stats.segments, 1, 2);
    store_end(store);
}

/* No merge is asked for, under way, or waiting for its place. */
static bool comes_to_rest(struct shard *shard)
{
    unsigned idle = 0;

    for (unsigned i = 0; idle < 40 && i < 4000; i++) {
        bool busy = (atomic_load(&shard->work) & SHARD_WORK_MERGE) || atomic_load(&shard->merging);

        idle = busy ? 0 : idle + 1;
        pause_us(5000);
    }
    return idle == 40;
}

/* All shards but one put sealing off, and what is not sealed cannot be merged. By the time it is
 * there may be nobody who writes. */
static void test_what_waited_to_be_sealed_is_merged_without_another_put(void **state)
{
    struct store *store = store_make(1);
    struct shard *shard;

    (void)state;
    store->options.segment_bytes = 512 << 10;
    store_up(store);
    shard = &store->db->shards[0];
    atomic_store(&store->db->env.turns[TURN_SEAL], 1);
    overwrite(store);
    assert_true(comes_to_rest(shard));
    assert_int_equal(stats_of(store).merges, 0);
    atomic_store(&store->db->env.turns[TURN_SEAL], 0);
    shard_ask_for_work(shard, SHARD_WORK_SEAL);
    for (unsigned i = 0; i < 4000 && stats_of(store).merges == 0; i++)
        pause_us(5000);
    assert_true(stats_of(store).merges > 0);
    assert_true(comes_to_rest(shard));
    assert_true(stats_of(store).merge_debt_bytes == 0);
    store_end(store);
}

#define EXPIRED_KEYS 8000u

/* Keys that are written once, and have expired by then: nothing but these, so nothing is dead. */
static void put_expired(struct store *store, unsigned first, unsigned end)
{
    static const uint8_t bytes[400] = {1};
    char key[32];

    for (unsigned i = first; i < end; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        CHECK_OK(cask_put_expiring(store->db, slice_of(key), slice_bytes(bytes, sizeof bytes), 1));
    }
}

static uint64_t bytes_of(struct store *store)
{
    struct cask_stats stats = stats_of(store);

    return stats.live_bytes + stats.dead_bytes;
}

static bool shrinks_below(struct store *store, uint64_t bytes)
{
    for (unsigned i = 0; i < 4000 && bytes_of(store) >= bytes; i++)
        pause_us(5000);
    return bytes_of(store) < bytes;
}

/* Nobody overwrites or deletes what has a time to live. */
static void test_segments_that_expire_are_reclaimed_as_others_are_written(void **state)
{
    struct store *store = store_make(1);

    (void)state;
    store->options.segment_bytes = 64 << 10;
    store_up(store);
    put_expired(store, 0, EXPIRED_KEYS);
    assert_true(shrinks_below(store, 1 << 20));
    store_end(store);
}

static void test_segments_that_expired_before_an_open_are_reclaimed_after_it(void **state)
{
    struct store *store = store_make(1);

    (void)state;
    store->options.segment_bytes = 64 << 10;
    store->options.merge = CASK_SWITCH_OFF;
    store_up(store);
    put_expired(store, 0, EXPIRED_KEYS);
    store_down(store);
    store->options.merge = CASK_SWITCH_ON;
    store_up(store);
    assert_true(bytes_of(store) > 3 << 20);
    put_expired(store, EXPIRED_KEYS, EXPIRED_KEYS + 64); /* a drain or two */
    assert_true(shrinks_below(store, 1 << 20));
    store_end(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_asks_for_what_waits_for_its_hour),
        cmocka_unit_test(test_nobody_asks_for_what_waits_for_a_place),
        cmocka_unit_test(test_nobody_asks_at_every_turn_while_another_has_the_shard),
        cmocka_unit_test(test_a_shard_that_another_had_is_looked_at_again),
        cmocka_unit_test(test_runs_are_not_merged_amid_a_merge_of_segments),
        cmocka_unit_test(test_a_look_that_fails_is_not_the_last),
        cmocka_unit_test(test_segments_stay_large_where_much_may_be_dead),
        cmocka_unit_test(test_what_waited_to_be_sealed_is_merged_without_another_put),
        cmocka_unit_test(test_segments_that_expire_are_reclaimed_as_others_are_written),
        cmocka_unit_test(test_segments_that_expired_before_an_open_are_reclaimed_after_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
