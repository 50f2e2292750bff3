/* Readers of the index take no lock: what stays in is found at every moment of growing, shrinking,
 * replacing and draining; and tables that share a budget keep to it. */
#include "unit.h"

#include <sched.h>

#include "base/thread.h"
#include "index/index.h"

#define READERS 3
#define STABLE 2000u   /* entries that stay throughout */
#define PASSING 20000u /* and those that come and go */
#define ROUNDS 3
#define GATHERED 256u   /* entries of the table at a time */
#define GATHER_EVERY 64 /* look-ups */

/* Scrambled, but never the same for two numbers. */
static uint32_t tag_of(uint32_t i)
{
    uint32_t x = (i + 1) * 0x9e3779b1u;

    x ^= x >> 15;
    x *= 0x85ebca6bu;
    return x ^ x >> 13;
}

/* Location of entry i after it was replaced `version` times. */
static uint64_t location_of(uint32_t i, uint32_t version)
{
    return (uint64_t)(i + 1) << 24 | version;
}

struct shared {
    struct budget budget;
    struct index index;
    _Atomic bool stop;
    _Atomic uint32_t versions[STABLE]; /* at least so often replaced */
    _Atomic uint64_t look_ups;
    _Atomic uint32_t reading;
};

static unsigned find(const struct shared *shared, uint32_t tag, uint64_t *locations, unsigned room)
{
    unsigned staged;
    unsigned found = index_find(&shared->index, tag, locations, room, &staged);
    unsigned proved = 0;

    CHECK(found <= room, "%u candidates of one tag", found);
    for (unsigned n = 0; n < found; n++) /* the stage compares 16 bits only */
        if (tag_of((uint32_t)(locations[n] >> 24) - 1) == tag)
            locations[proved++] = locations[n];
    return proved;
}

static void check_stable(struct shared *shared, uint32_t i)
{
    uint64_t locations[64];
    uint32_t at_least = atomic_load(&shared->versions[i]);
    unsigned found = find(shared, tag_of(i), locations, 64);
    uint32_t newest = 0;

    CHECK(found > 0, "entry %u, in all the time, is not found", i);
    for (unsigned n = 0; n < found; n++) {
        CHECK(locations[n] >> 24 == i + 1, "entry %u is found for %u", i,
              (unsigned)(locations[n] >> 24) - 1);
        if ((uint32_t)(locations[n] & 0xffffff) > newest)
            newest = (uint32_t)(locations[n] & 0xffffff);
    }
    CHECK(newest >= at_least, "entry %u is back at version %u of %u", i, newest, at_least);
}

/* As a merge does it: all of the table, some tags at a time, those again that it moved on under. */
static void check_gathered(const struct shared *shared)
{
    struct keydir_entry entries[GATHERED];
    bool seen[STABLE] = {false};

    for (uint64_t from = 0; from <= UINT32_MAX;) {
        uint64_t next;
        size_t count = keydir_gather(index_keydir(&shared->index), from, entries, GATHERED, &next);

        if (count == SIZE_MAX) {
            sched_yield();
            continue;
        }
        for (size_t n = 0; n < count; n++)
            if ((entries[n].location >> 24) - 1 < STABLE)
                seen[(entries[n].location >> 24) - 1] = true;
        CHECK(next > from, "no tag was covered from %u on", (unsigned)from);
        from = next;
    }
    for (uint32_t i = 0; i < STABLE; i++)
        CHECK(seen[i], "entry %u, in all the time, is not gathered", (unsigned)i);
}

static void *read_on(void *argument)
{
    struct shared *shared = argument;
    struct rng rng = {clock_ns()};
    uint64_t look_ups = 0;

    while (!atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
        uint32_t passing = STABLE + (uint32_t)rng_below(&rng, PASSING);
        uint64_t locations[64];

        check_stable(shared, (uint32_t)rng_below(&rng, STABLE));
        find(shared, tag_of(passing), locations, 64);
        keydir_prefetch(index_keydir(&shared->index), tag_of(passing));
        if (look_ups % GATHER_EVERY == 0)
            check_gathered(shared);
        if (look_ups++ == 0)
            atomic_fetch_add(&shared->reading, 1);
    }
    atomic_fetch_add(&shared->look_ups, look_ups);
    return NULL;
}

static struct shared *shared_start(pthread_t *readers)
{
    struct shared *shared = aligned_alloc(64, align_up(sizeof *shared, 64));

    assert_non_null(shared);
    memset(shared, 0, sizeof *shared);
    shared->budget.limit_bytes = (uint64_t)1 << 30;
    assert_ok(index_init(&shared->index, 64 << 20, &shared->budget, 0, 1));
    for (uint32_t i = 0; i < STABLE; i++) {
        assert_ok(keydir_reserve(index_keydir(&shared->index), 1));
        assert_ok(keydir_insert(index_keydir(&shared->index), tag_of(i), location_of(i, 0)));
    }
    for (size_t i = 0; i < READERS; i++)
        assert_ok(thread_start(&readers[i], read_on, shared));
    while (atomic_load(&shared->reading) < READERS) /* else the writer may be done first */
        sched_yield();
    return shared;
}

static void shared_stop(struct shared *shared, pthread_t *readers)
{
    atomic_store(&shared->stop, true);
    for (size_t i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_true(atomic_load(&shared->look_ups) > 0);
    index_release(&shared->index);
    free(shared);
}

static void replace_one(struct shared *shared, uint32_t i)
{
    uint32_t version = atomic_load(&shared->versions[i]);

    assert_true(keydir_replace(index_keydir(&shared->index), tag_of(i), location_of(i, version),
                               location_of(i, version + 1)));
    atomic_store(&shared->versions[i], version + 1);
}

static void test_what_stays_is_found_while_the_table_grows(void **state)
{
    pthread_t readers[READERS];
    struct shared *shared = shared_start(readers);
    struct keydir *keydir = index_keydir(&shared->index);

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = STABLE; i < STABLE + PASSING; i++) {
            assert_ok(keydir_reserve(keydir, 1));
            assert_ok(keydir_insert(keydir, tag_of(i), location_of(i, 0)));
            replace_one(shared, i % STABLE);
        }
        for (uint32_t i = STABLE; i < STABLE + PASSING; i++) {
            assert_true(keydir_remove(keydir, tag_of(i), location_of(i, 0)));
            replace_one(shared, (i * 7) % STABLE);
        }
    }
    assert_int_equal(keydir_count(keydir), STABLE);
    shared_stop(shared, readers);
}

/* The same by way of the stage, as puts do it. */
static void drain(struct shared *shared)
{
    struct keydir *keydir = index_keydir(&shared->index);
    uint32_t count = index_staged(&shared->index);

    assert_ok(keydir_reserve(keydir, count));
    for (uint32_t n = 0; n < count; n++) {
        struct keydir_entry entry = index_staged_at(&shared->index, n);
        uint32_t version = (uint32_t)(entry.location & 0xffffff);

        if (version == 0)
            assert_ok(keydir_insert(keydir, entry.tag, entry.location));
        else
            assert_true(keydir_replace(keydir, entry.tag, entry.location - 1, entry.location));
    }
    index_clear_stage(&shared->index);
}

static void stage(struct shared *shared, uint32_t i, uint32_t version)
{
    if (index_staged(&shared->index) == INDEX_STAGE)
        drain(shared);
    index_stage(&shared->index, tag_of(i), location_of(i, version));
}

static void test_what_was_put_is_found_while_the_stage_is_drained(void **state)
{
    pthread_t readers[READERS];
    struct shared *shared = shared_start(readers);

    (void)state;
    for (uint32_t i = STABLE; i < STABLE + PASSING; i++) {
        uint32_t old = (i * 13) % STABLE;
        uint32_t version = atomic_load(&shared->versions[old]) + 1;

        stage(shared, i, 0);
        stage(shared, old, version);
        atomic_store(&shared->versions[old], version);
    }
    drain(shared);
    assert_int_equal(keydir_count(index_keydir(&shared->index)), STABLE + PASSING);
    shared_stop(shared, readers);
}

/* ---- a put that is not over ------------------------------------------------------------------ */

#define PUTS 100000u

struct stage {
    struct index index;
    struct budget budget;
    _Atomic bool reading;
    _Atomic bool stop;
};

static void *watch_versions(void *argument)
{
    struct stage *stage = argument;
    uint64_t seen = 0;

    while (!atomic_load_explicit(&stage->stop, memory_order_relaxed)) {
        uint64_t locations[INDEX_STAGE + 1];
        unsigned staged;
        unsigned found = index_find(&stage->index, tag_of(0), locations, INDEX_STAGE + 1, &staged);

        CHECK(found > 0, "version %llu is gone", (unsigned long long)seen);
        CHECK(locations[0] >= seen, "version %llu comes after %llu",
              (unsigned long long)locations[0], (unsigned long long)seen);
        seen = locations[0];
        atomic_store_explicit(&stage->reading, true, memory_order_relaxed);
    }
    return NULL;
}

/* The first half of a put, and some time until the other: a writer may be stopped in between. */
static void stage_slowly(struct stage *stage, uint64_t version)
{
    atomic_store_explicit(&stage->index.stage[0],
                          (uint64_t)(tag_of(0) & 0xffff) << INDEX_STAGE_TAG_SHIFT | version,
                          memory_order_release);
    for (unsigned i = 0; i < 1000; i++)
        atomic_signal_fence(memory_order_seq_cst);
    index_stage(&stage->index, tag_of(0), version);
}

/* One who began to read the stage before it was emptied comes to what is written there next: if it
 * took that for an answer, the next look-up, which does not see it yet, would go back to what was
 * before. */
static void test_no_look_up_finds_what_the_next_one_does_not(void **state)
{
    struct stage *stage = aligned_alloc(64, align_up(sizeof *stage, 64));
    struct keydir *keydir;
    pthread_t reader;

    (void)state;
    assert_non_null(stage);
    memset(stage, 0, sizeof *stage);
    stage->budget.limit_bytes = 1 << 20;
    assert_ok(index_init(&stage->index, 1 << 20, &stage->budget, 0, 1));
    keydir = index_keydir(&stage->index);
    assert_ok(keydir_reserve(keydir, 1));
    assert_ok(keydir_insert(keydir, tag_of(0), 1));
    assert_ok(thread_start(&reader, watch_versions, stage));
    while (!atomic_load(&stage->reading))
        sched_yield();
    for (uint64_t version = 2; version < PUTS; version++) {
        stage_slowly(stage, version);
        for (uint32_t i = 1; i < INDEX_STAGE; i++)
            index_stage(&stage->index, tag_of(i), i);
        assert_true(keydir_replace(keydir, tag_of(0), version - 1, version));
        for (unsigned i = 0; i < 1000; i++) /* readers begin */
            atomic_signal_fence(memory_order_seq_cst);
        index_clear_stage(&stage->index);
    }
    atomic_store(&stage->stop, true);
    pthread_join(reader, NULL);
    index_release(&stage->index);
    free(stage);
}

/* ---- tables that share a budget -------------------------------------------------------------- */

struct filler {
    struct budget *budget;
    uint64_t committed;
    uint64_t inserted;
};

static void *fill(void *argument)
{
    struct filler *filler = argument;
    struct keydir *keydir = aligned_alloc(64, align_up(sizeof *keydir, 64));

    CHECK_OK(keydir_init(keydir, 16 << 20, filler->budget));
    while (keydir_reserve(keydir, 1) == CASK_OK) {
        uint32_t i = (uint32_t)filler->inserted++;

        CHECK_OK(keydir_insert(keydir, tag_of(i), location_of(i, 0)));
        CHECK(budget_used(filler->budget) <= filler->budget->limit_bytes, "%s", "over the budget");
    }
    filler->committed = keydir->committed_bytes;
    keydir_release(keydir);
    free(keydir);
    return NULL;
}

static void test_tables_that_share_a_budget_keep_to_it(void **state)
{
    struct budget budget = {.limit_bytes = 1 << 20};
    struct filler fillers[READERS];
    pthread_t threads[READERS];

    (void)state;
    for (size_t i = 0; i < READERS; i++) {
        fillers[i] = (struct filler){.budget = &budget};
        assert_ok(thread_start(&threads[i], fill, &fillers[i]));
    }
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(fillers[i].inserted > 0);
    }
    assert_int_equal(budget_used(&budget), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_stays_is_found_while_the_table_grows),
        cmocka_unit_test(test_what_was_put_is_found_while_the_stage_is_drained),
        cmocka_unit_test(test_no_look_up_finds_what_the_next_one_does_not),
        cmocka_unit_test(test_tables_that_share_a_budget_keep_to_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
