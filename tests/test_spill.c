/* shard/spill and relief: what a flush puts into a run, and when there is one. */
#include <sys/stat.h>
#include <unistd.h>

#include "unit_shard.h"

#include "base/thread.h"
#include "shard/spill.h"

/* ---- the order of a run ---------------------------------------------------------------------- */

/* Entries whose places tell what order they came in. */
static void fill(struct keydir_entry *entries, size_t count, uint32_t (*tag_of)(size_t i))
{
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct keydir_entry){.location = i, .tag = tag_of(i)};
}

static uint32_t rising(size_t i)
{
    return (uint32_t)i;
}

static uint32_t falling(size_t i)
{
    return UINT32_MAX - (uint32_t)i;
}

static uint32_t nearly_rising(size_t i)
{
    return (uint32_t)(i * 4 + (mix64(i) & 31));
}

static uint32_t of_few(size_t i)
{
    return (uint32_t)(mix64(i) % 3);
}

static uint32_t of_any(size_t i)
{
    return (uint32_t)mix64(i);
}

static void test_entries_are_sorted_and_those_of_one_tag_stay_in_order(void **state)
{
    static const size_t counts[] = {0, 1, 2, 3, 7, 100, 2048};
    static uint32_t (*const tags[])(size_t) = {rising, falling, nearly_rising, of_few, of_any};
    struct keydir_entry entries[2048];

    (void)state;
    for (size_t t = 0; t < COUNT_OF(tags); t++)
        for (size_t c = 0; c < COUNT_OF(counts); c++) {
            uint64_t sum = 0;

            fill(entries, counts[c], tags[t]);
            spill_sort(entries, counts[c]);
            for (size_t i = 0; i < counts[c]; i++) {
                assert_int_equal(entries[i].tag, tags[t](entries[i].location));
                sum += entries[i].location + 1;
                if (i > 0)
                    assert_true(entries[i - 1].tag < entries[i].tag ||
                                (entries[i - 1].tag == entries[i].tag &&
                                 entries[i - 1].location < entries[i].location));
            }
            assert_int_equal(sum, counts[c] * (counts[c] + 1) / 2);
        }
}

/* ---- when ------------------------------------------------------------------------------------ */

/* Takes so much of the budget that this share of what keydirs may take is used. */
static void use(struct rig *rig, unsigned percent)
{
    uint64_t wanted = ((uint64_t)3 << 20) / 100 * percent + 100;
    uint64_t used = budget_used(&rig->env.budget);

    assert_true(used <= wanted);
    budget_overdraw(&rig->env.budget, wanted - used);
}

static unsigned asked(struct rig *rig, enum shard_work work)
{
    unsigned sum = 0;

    for (uint32_t i = 0; i < rig->env.shard_count; i++)
        sum += (shard_work_due(&rig->shards[i]) & (unsigned)work) != 0;
    return sum;
}

static void drain_all(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->env.shard_count; i++) {
        pthread_mutex_lock(&rig->shards[i].lock);
        assert_ok(shard_drain(&rig->shards[i]));
        pthread_mutex_unlock(&rig->shards[i].lock);
    }
}

static void test_flushes_are_asked_for_before_keydirs_are_refused(void **state)
{
    struct rig *rig = rig_that_spills(4);

    (void)state;
    put_keys(rig, 0, 40000);
    drain_all(rig);
    use(rig, 79);
    spill_look(&rig->env);
    assert_int_equal(asked(rig, SHARD_WORK_FLUSH), 0);
    use(rig, 81);
    spill_look(&rig->env);
    spill_look(&rig->env);
    assert_int_equal(asked(rig, SHARD_WORK_FLUSH), 1);
    use(rig, 91);
    for (unsigned i = 0; i < 3; i++)
        spill_look(&rig->env);
    assert_int_equal(asked(rig, SHARD_WORK_FLUSH), 2);
    rig_stop(rig);
}

/* The flush begins after the worker took it off the list, and a drain in between asks again. */
static void test_a_flush_that_was_asked_for_twice_is_one(void **state)
{
    struct rig *rig = rig_that_spills(1);

    (void)state;
    put_keys(rig, 0, 40000);
    use(rig, 81);
    spill_look(&rig->env);
    assert_int_not_equal(shard_take_work(only(rig), SHARD_WORK_FLUSH), 0);
    spill_look(&rig->env);
    shard_do_work(only(rig), SHARD_WORK_FLUSH);
    put_keys(rig, 40000, 40500);
    assert_int_not_equal(shard_take_work(only(rig), SHARD_WORK_FLUSH), 0);
    shard_do_work(only(rig), SHARD_WORK_FLUSH);
    assert_int_equal(only(rig)->spill_counts.flushes, 1);
    assert_keys(rig, 0, 40500);
    rig_stop(rig);
}

static void test_a_writer_that_waits_flushes_a_large_keydir_that_is_free(void **state)
{
    struct rig *rig = rig_that_spills(4);
    uint64_t flushes = 0;

    (void)state;
    put_keys(rig, 0, 4000);
    drain_all(rig);
    for (uint32_t i = 0; i < 3; i++)
        pthread_mutex_lock(&rig->shards[i].merge_lock);
    assert_ok(spill_relieve(&rig->env)); /* the only one left: it waits for none of the others */
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(rig->shards[i].spill_counts.flushes, 0);
        pthread_mutex_unlock(&rig->shards[i].merge_lock);
    }
    assert_int_equal(rig->shards[3].spill_counts.flushes, 1);
    assert_int_equal(rig->shards[3].spill_counts.stalls, 1);
    for (unsigned i = 0; i < 3; i++)
        assert_ok(spill_relieve(&rig->env));
    for (uint32_t i = 0; i < 4; i++)
        flushes += rig->shards[i].spill_counts.flushes;
    assert_int_equal(flushes, 4);
    assert_keys(rig, 0, 4000);
    rig_stop(rig);
}

/* What it has in memory stays there; the writers of the others must not be refused for it. */
static void test_a_shard_that_has_failed_is_not_flushed_for_others(void **state)
{
    struct rig *rig = rig_that_spills(2);

    (void)state;
    put_keys(rig, 0, 4000);
    drain_all(rig);
    atomic_store(&rig->shards[0].failed, CASK_EIO);
    assert_ok(spill_relieve(&rig->env));
    assert_int_equal(rig->shards[1].spill_counts.flushes, 1);
    atomic_store(&rig->shards[1].failed, CASK_EIO);
    assert_ok(spill_relieve(&rig->env)); /* there is nothing to move */
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(rig->shards[i].spill_counts.failed, 0);
        assert_int_equal(rig->shards[i].spill_counts.flushes, i);
        atomic_store(&rig->shards[i].failed, CASK_OK);
    }
    assert_keys(rig, 0, 4000);
    rig_stop(rig);
}

/* Those are what fills a small budget, and small they are merged soon. */
static void test_runs_of_small_flushes_are_merged_by_the_writer(void **state)
{
    struct rig *rig = rig_that_spills(1);

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        put_keys(rig, i * 100, i * 100 + 100);
        assert_ok(spill_relieve(&rig->env));
    }
    assert_int_equal(only(rig)->spill_counts.flushes, 8);
    assert_in_range(only(rig)->spill_counts.run_merges, 1, 8);
    assert_in_range(atomic_load(&only(rig)->index.runs)->count, 1, 4);
    assert_keys(rig, 0, 800);
    rig_stop(rig);
}

static void test_runs_of_large_flushes_are_left_to_the_worker(void **state)
{
    struct rig *rig = rig_that_spills(1);

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        put_keys(rig, i * 40000, i * 40000 + 40000); /* more than is tiny */
        assert_ok(spill_relieve(&rig->env));
    }
    assert_int_equal(only(rig)->spill_counts.run_merges, 0);
    assert_int_equal(atomic_load(&only(rig)->index.runs)->count, 5);
    assert_int_equal(asked(rig, SHARD_WORK_TIDY), 1);
    shard_do_work(only(rig), shard_take_work(only(rig), SHARD_WORK_TIDY));
    assert_int_equal(atomic_load(&only(rig)->index.runs)->count, 1);
    assert_keys(rig, 0, 200000);
    rig_stop(rig);
}

static void *merge_runs(void *argument)
{
    struct shard *shard = argument;

    CHECK_OK(spill_flush(shard, true));
    return NULL;
}

/* Who builds alone, because there was no room for buffers beside others, has the room of those who
 * merge too. */
static void test_merges_of_runs_wait_for_who_builds_alone(void **state)
{
    struct rig *rig = rig_that_spills(1);
    pthread_t thread;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        put_keys(rig, i * 100, i * 100 + 100);
        assert_ok(spill_flush(only(rig), false));
    }
    pthread_rwlock_wrlock(&rig->env.building);
    assert_ok(thread_start(&thread, merge_runs, only(rig)));
    pause_us(100000);
    assert_int_equal(atomic_load(&only(rig)->index.runs)->count, 2);
    pthread_rwlock_unlock(&rig->env.building);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&only(rig)->index.runs)->count, 1);
    assert_keys(rig, 0, 200);
    rig_stop(rig);
}

struct other {
    struct shard_env *env;
    _Atomic bool has_buffers;
};

static void *build_for_a_while(void *argument)
{
    struct other *other = argument;
    struct budget *budget = &other->env->budget;
    uint64_t taken = budget->limit_bytes - budget_used(budget) - 65536;

    pthread_rwlock_rdlock(&other->env->building);
    CHECK(budget_take(budget, taken), "there is less room than there was");
    atomic_store(&other->has_buffers, true);
    pause_us(100000);
    budget_give(budget, taken);
    pthread_rwlock_unlock(&other->env->building);
    return NULL;
}

/* Buffers that another shard has for a while are no reason to fail. */
static void test_merges_of_runs_wait_for_buffers(void **state)
{
    struct rig *rig = rig_that_spills(1);
    struct other other = {.env = &rig->env};
    pthread_t thread;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        put_keys(rig, i * 100, i * 100 + 100);
        assert_ok(spill_flush(only(rig), false));
    }
    assert_ok(thread_start(&thread, build_for_a_while, &other));
    while (!atomic_load(&other.has_buffers))
        pause_us(1000);
    assert_ok(spill_flush(only(rig), true));
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&only(rig)->index.runs)->count, 1);
    assert_int_equal(only(rig)->spill_counts.failed, 0);
    assert_keys(rig, 0, 200);
    rig_stop(rig);
}

static void test_with_nothing_to_move_a_writer_may_try_again(void **state)
{
    struct rig *rig = rig_that_spills(2);

    (void)state;
    assert_ok(spill_relieve(&rig->env));
    assert_int_equal(rig->shards[0].spill_counts.stalls, 0);
    rig->env.spills = false;
    assert_int_equal(spill_relieve(&rig->env), CASK_ENOMEM);
    rig_stop(rig);
}

/* ---- what is covered ------------------------------------------------------------------------- */

/* Fills the keydir from the home of a tag on, so that no other entry of it finds a slot. What leads
 * to a record of another key is no entry of the tag's own key. */
static void crowd(struct shard *shard, uint32_t tag)
{
    struct keydir *keydir = index_keydir(&shard->index);
    uint64_t first = location_make(1, SEGMENT_HEADER_BYTES, shard->config.offset_bits);
    int status = CASK_OK;

    keydir_set_bounds(keydir, 0, 1); /* it grows no more */
    while (status == CASK_OK)
        status = keydir_insert(keydir, tag, first);
    assert_int_equal(status, CASK_ENOMEM);
}

/* Makes up a key whose tag is so far above another one that crowding it leaves room there. */
static uint32_t key_above(const struct rig *rig, uint32_t tag, char key[16])
{
    uint32_t above;
    unsigned number = 0;

    do {
        snprintf(key, 16, "last%u", number++);
        above = hash_tag(op_of(rig, key, "").hash, rig->env.shard_bits);
    } while (above < tag || above - tag < UINT32_MAX / 8);
    return above;
}

/* A drain that fails leaves staged what it could not settle, and no more. */
static void test_what_is_drained_in_part_is_counted_once(void **state)
{
    struct rig *rig = rig_that_spills(1);
    struct shard *shard = only(rig);
    uint32_t twice = hash_tag(op_of(rig, "twice", "").hash, rig->env.shard_bits);
    uint64_t live_bytes;
    char last[16];
    uint32_t tag = key_above(rig, twice, last);

    (void)state;
    assert_ok(keydir_presize(index_keydir(&shard->index), 1000));
    put_keys(rig, 0, 1);
    drain_all(rig);
    assert_ok(rig_put(rig, "twice", "first"));
    assert_ok(rig_put(rig, "twice", "second"));
    assert_ok(rig_put(rig, last, "no room"));
    crowd(shard, tag);
    pthread_mutex_lock(&shard->lock);
    assert_int_equal(shard_drain(shard), CASK_ENOMEM);
    assert_int_equal(index_staged(&shard->index), 1);
    live_bytes = shard->counts.live_bytes;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(shard_drain(shard), CASK_ENOMEM);
        assert_int_equal(shard->counts.live_bytes, live_bytes);
    }
    pthread_mutex_unlock(&shard->lock);
    assert_value(rig, "twice", "second");
    rig_crash(rig);
    assert_value(rig, "twice", "second");
    assert_value(rig, last, "no room");
    rig_stop(rig);
}

/* Flushes while one key finds no room in the keydir, in the midst of others that do. */
static void flush_with_one_staged(struct rig *rig, char key[16])
{
    struct shard *shard = only(rig);
    uint32_t before = hash_tag(op_of(rig, "before", "").hash, rig->env.shard_bits);
    uint32_t behind = hash_tag(op_of(rig, "behind", "").hash, rig->env.shard_bits);
    uint32_t tag = key_above(rig, before > behind ? before : behind, key);

    assert_ok(keydir_presize(index_keydir(&shard->index), 1000)); /* no growth is under way */
    put_keys(rig, 0, 100);
    drain_all(rig);
    assert_ok(rig_put(rig, "before", "value"));
    assert_ok(rig_put(rig, key, "value"));
    assert_ok(rig_put(rig, "behind", "value"));
    assert_ok(rig_put(rig, "key7", "behind"));
    crowd(shard, tag);
    assert_ok(spill_flush(shard, false));
}

static unsigned entries_in_runs(struct rig *rig, const char *key)
{
    struct index_lower lower = index_lower(&only(rig)->index);
    uint64_t location;
    unsigned found;

    assert_ok(index_find_lower(&lower, 1, hash_tag(op_of(rig, key, "").hash, rig->env.shard_bits),
                               &location, 1, &found, NULL));
    return found;
}

/* What finds no room in the keydir that is flushed stays staged, with all that is behind it in the
 * log: an open must read it, and finds it in one tier. */
static void test_what_stays_staged_is_not_called_covered(void **state)
{
    struct rig *rig = rig_that_spills(1);
    struct shard *shard = only(rig);
    uint64_t live_bytes;
    uint64_t dead_bytes;
    char staged[16];

    (void)state;
    flush_with_one_staged(rig, staged);
    assert_int_equal(keydir_count(index_keydir(&shard->index)) + index_staged(&shard->index), 3);
    assert_int_equal(entries_in_runs(rig, "before"), 1);
    assert_int_equal(entries_in_runs(rig, "behind"), 0);
    assert_value(rig, "behind", "value");
    drain_all(rig);
    live_bytes = shard->counts.live_bytes;
    dead_bytes = shard->counts.dead_bytes;
    rig_crash(rig);
    assert_non_null(index_lower(&only(rig)->index).runs);
    assert_int_equal(keydir_count(index_keydir(&only(rig)->index)), 3);
    assert_int_equal(only(rig)->counts.live_bytes, live_bytes);
    assert_int_equal(only(rig)->counts.dead_bytes, dead_bytes);
    assert_value(rig, "before", "value");
    assert_value(rig, staged, "value");
    assert_value(rig, "behind", "value");
    assert_value(rig, "key7", "behind");
    assert_keys(rig, 0, 7);
    assert_keys(rig, 8, 100);
    rig_stop(rig);
}

/* ---- a manifest that cannot be written ------------------------------------------------------- */

struct reading {
    struct shard_env *env;
    _Atomic bool entered;
    _Atomic bool left;
};

/* One that may have found the run while its manifest was being written. */
static void *read_for_a_while(void *argument)
{
    struct reading *reading = argument;
    struct epoch_guard guard = epoch_enter(&reading->env->epoch);

    atomic_store(&reading->entered, true);
    pause_us(100000);
    atomic_store(&reading->left, true);
    epoch_leave(guard);
    return NULL;
}

/* What does `act` while somebody reads and no manifest can be written, and fails; whether it waited
 * for the reader. */
static bool waits_for_readers(struct rig *rig, int (*act)(struct shard *shard))
{
    const char *obstacle = rig_path(rig, 0, "MANIFEST.tmp");
    struct reading reading = {.env = &rig->env};
    pthread_t thread;
    bool left;

    assert_int_equal(mkdir(obstacle, 0700), 0);
    assert_ok(thread_start(&thread, read_for_a_while, &reading));
    while (!atomic_load(&reading.entered))
        pause_us(1000);
    assert_int_not_equal(act(only(rig)), CASK_OK);
    left = atomic_load(&reading.left);
    pthread_join(thread, NULL);
    assert_int_equal(rmdir(rig_path(rig, 0, "MANIFEST.tmp")), 0);
    return left;
}

static int flush_one(struct shard *shard)
{
    return spill_flush(shard, false);
}

static int merge_into_one(struct shard *shard)
{
    int status;

    pthread_mutex_lock(&shard->merge_lock);
    status = spill_merge_runs(shard, true);
    pthread_mutex_unlock(&shard->merge_lock);
    return status;
}

static void test_a_run_that_no_manifest_names_stays_while_it_is_read(void **state)
{
    struct rig *rig = rig_that_spills(1);

    (void)state;
    put_keys(rig, 0, 100);
    assert_true(waits_for_readers(rig, flush_one));
    assert_keys(rig, 0, 100);
    for (unsigned i = 0; i < 3; i++) {
        assert_ok(spill_flush(only(rig), false));
        put_keys(rig, 100 + i * 10, 110 + i * 10);
    }
    assert_true(waits_for_readers(rig, merge_into_one));
    assert_keys(rig, 0, 130);
    assert_ok(spill_flush(only(rig), true));
    rig_crash(rig);
    assert_keys(rig, 0, 130);
    rig_stop(rig);
}

/* ---- which runs are merged ------------------------------------------------------------------- */

static uint32_t runs_of(struct shard *shard)
{
    return index_lower(&shard->index).runs->count;
}

static void assert_plan(const uint64_t *counts, uint32_t fan_in, uint32_t first, uint32_t count)
{
    uint32_t planned_first;
    uint32_t planned;
    uint32_t given = 0;

    while (counts[given] != 0)
        given++;
    spill_plan_runs(counts, given, fan_in, &planned_first, &planned);
    assert_int_equal(planned, count);
    assert_int_equal(planned_first, first);
}

/* Sizes, the newest first, up to a zero. */
static void test_neighbours_of_about_one_size_are_merged(void **state)
{
    (void)state;
    assert_plan((uint64_t[]){0}, 4, 0, 0);
    assert_plan((uint64_t[]){7, 7, 7, 0}, 4, 0, 0);
    assert_plan((uint64_t[]){7, 7, 7, 0}, 3, 0, 3);
    assert_plan((uint64_t[]){900, 1100, 500, 1600, 0}, 4, 0, 4);
    assert_plan((uint64_t[]){1100, 1000, 1200, 900, 4000, 0}, 4, 0, 4);
    assert_plan((uint64_t[]){10, 100, 101, 99, 100, 400, 0}, 4, 1, 4);
    assert_plan((uint64_t[]){10, 10, 100, 90, 80, 3, 1000, 0}, 4, 2, 4);
    assert_plan((uint64_t[]){1, 3, 9, 27, 81, 243, 729, 0}, 3, 0, 0);
    assert_plan(
        (uint64_t[]){1, 3, 9, 27, 81, 243, 729, 2187, 6561, 19683, 59049, 177147, 531441, 0}, 3, 0,
        12);
}

/* Shards that are filled alike do not merge their runs at the same time. */
static void test_shards_merge_different_numbers_of_runs(void **state)
{
    static const uint32_t left[5][3] = {{1, 1, 1}, {2, 2, 2}, {3, 1, 3}, {1, 2, 4}, {2, 3, 1}};
    struct rig *rig = rig_that_spills(4);

    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        put_keys(rig, round * 800, round * 800 + 800);
        for (unsigned number = 0; number < 4; number++) {
            assert_ok(spill_flush(&rig->shards[number], false));
            assert_int_equal(runs_of(&rig->shards[number]), left[round][number % 3]);
        }
    }
    assert_keys(rig, 0, 4000);
    rig_stop(rig);
}

/* ---- in turn --------------------------------------------------------------------------------- */

/* Four runs that ought to be one, while another shard has the turn; so many that they are merged
 * all the same; and what was put off, by the next. */
static void test_runs_of_some_shards_at_a_time_are_merged(void **state)
{
    struct rig *rig = rig_that_spills(2);
    struct shard *shards = rig->shards;

    (void)state;
    atomic_store(&rig->env.turns[TURN_MERGE_RUNS], 1000);
    for (unsigned i = 0; i < 400; i += 100) {
        put_keys(rig, i, i + 100);
        for (unsigned number = 0; number < 2; number++)
            assert_ok(spill_flush(&shards[number], false));
    }
    assert_int_equal(runs_of(&shards[0]), 4);
    assert_int_equal(runs_of(&shards[1]), 4);
    for (unsigned i = 400; runs_of(&shards[1]) != 1; i += 20) {
        assert_in_range(runs_of(&shards[1]), 4, SPILL_RUNS_LEFT_MAX);
        put_keys(rig, i, i + 20);
        assert_ok(spill_flush(&shards[1], false));
    }
    atomic_store(&rig->env.turns[TURN_MERGE_RUNS], 0);
    for (unsigned number = 0; number < 2; number++)
        (void)shard_take_work(&shards[number], SHARD_WORK_TIDY);
    assert_ok(spill_tidy(&shards[1]));
    assert_int_not_equal(shard_take_work(&shards[0], SHARD_WORK_TIDY), 0);
    shard_do_work(&shards[0], SHARD_WORK_TIDY);
    assert_int_equal(runs_of(&shards[0]), 1);
    assert_int_equal(atomic_load(&rig->env.turns[TURN_MERGE_RUNS]), 0);
    assert_keys(rig, 0, 400);
    rig_stop(rig);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_are_sorted_and_those_of_one_tag_stay_in_order),
        cmocka_unit_test(test_flushes_are_asked_for_before_keydirs_are_refused),
        cmocka_unit_test(test_a_flush_that_was_asked_for_twice_is_one),
        cmocka_unit_test(test_a_writer_that_waits_flushes_a_large_keydir_that_is_free),
        cmocka_unit_test(test_a_shard_that_has_failed_is_not_flushed_for_others),
        cmocka_unit_test(test_runs_of_small_flushes_are_merged_by_the_writer),
        cmocka_unit_test(test_runs_of_large_flushes_are_left_to_the_worker),
        cmocka_unit_test(test_merges_of_runs_wait_for_who_builds_alone),
        cmocka_unit_test(test_merges_of_runs_wait_for_buffers),
        cmocka_unit_test(test_with_nothing_to_move_a_writer_may_try_again),
        cmocka_unit_test(test_what_is_drained_in_part_is_counted_once),
        cmocka_unit_test(test_what_stays_staged_is_not_called_covered),
        cmocka_unit_test(test_a_run_that_no_manifest_names_stays_while_it_is_read),
        cmocka_unit_test(test_runs_of_some_shards_at_a_time_are_merged),
        cmocka_unit_test(test_neighbours_of_about_one_size_are_merged),
        cmocka_unit_test(test_shards_merge_different_numbers_of_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
