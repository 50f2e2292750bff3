/* Any number of threads look up in one run, without a lock, while others walk it and build more. */
#include "unit_run.h"

#include "base/thread.h"

#define COUNT 20000u

struct shared {
    struct run *run;
    const struct keydir_entry *entries;
    struct run_place_dir *runs;
    _Atomic unsigned next;
};

static void *look_up(void *argument)
{
    struct shared *shared = argument;
    struct rng rng = {atomic_fetch_add(&shared->next, 1) + 1};

    for (unsigned round = 0; round < 5000; round++) {
        size_t i = rng_below(&rng, COUNT);
        uint32_t absent = shared->entries[i].tag + 1;

        run_prefetch(shared->run, absent);
        check_find(shared->run, shared->entries, COUNT, i);
        if (i + 1 < COUNT && shared->entries[i + 1].tag != absent)
            check_absent(shared->run, absent);
    }
    CHECK(unit_counts.block_reads >= 5000, "blocks were not read");
    return NULL;
}

static void *walk(void *argument)
{
    struct shared *shared = argument;

    for (unsigned round = 0; round < 10; round++) {
        struct run_cursor cursor;
        struct keydir_entry entry;

        CHECK_OK(run_cursor_open(&cursor, shared->run, 0, 65536, &shared->runs->budget));
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_OK(run_cursor_next(&cursor, &entry));
            CHECK(entry.location == shared->entries[i].location, "entry %zu", i);
        }
        run_cursor_close(&cursor);
    }
    return NULL;
}

static void *build(void *argument)
{
    struct shared *shared = argument;
    uint64_t id = atomic_fetch_add(&shared->next, 1) + 100;
    struct run_build_options options = {COUNT, 10};

    for (unsigned round = 0; round < 3; round++, id += 100) {
        struct run_place_dir *runs = shared->runs;
        struct run_summary summary;
        struct run_build *builder;
        struct run *run;

        CHECK_OK(run_build_begin(runs->place.dir, runs->place.path, &runs->config, id, options,
                                 &runs->budget, &builder));
        for (size_t i = 0; i < COUNT; i++)
            CHECK_OK(run_build_add(builder, shared->entries[i].tag, shared->entries[i].location));
        CHECK_OK(run_build_finish(builder, &summary));
        CHECK_OK(run_open_as(runs, &summary, true, &run));
        check_find(run, shared->entries, COUNT, 77);
        run_close(run);
    }
    return NULL;
}

static void test_look_ups_walks_and_builds_go_on_beside_each_other(void **state)
{
    static void *(*const works[])(void *) = {look_up, look_up, look_up, look_up,
                                             walk,    build,   build};
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(COUNT, 1);
    struct run_summary summary = run_build_all(&runs, 1, entries, COUNT, 10);
    struct shared shared = {.entries = entries, .runs = &runs};
    pthread_t threads[COUNT_OF(works)];

    (void)state;
    assert_ok(run_open_as(&runs, &summary, true, &shared.run));
    for (size_t i = 0; i < COUNT_OF(works); i++)
        assert_ok(thread_start(&threads[i], works[i], &shared));
    for (size_t i = 0; i < COUNT_OF(works); i++)
        pthread_join(threads[i], NULL);
    run_close(shared.run);
    free(entries);
    runs_stop(&runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_look_ups_walks_and_builds_go_on_beside_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
