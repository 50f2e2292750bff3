/* A merge asks without a lock which records live, while the writer's table grows: an entry on its
 * way to its new home is taken for a live one throughout, or the merge would drop the only copy of
 * a record. */
#include "unit.h"

#include <sched.h>

#include "base/thread.h"
#include "merge/sweep.h"

#define SWEEPERS 2
#define STANDING 2000u /* records that live throughout */
#define COMING 60000u  /* and those that make the table grow */
#define ROUNDS 4

struct scene {
    struct shard_env env;
    struct shard shard;
    uint32_t standing[STANDING]; /* tags, in ascending order */
    _Atomic bool stop;
    _Atomic uint32_t sweeping;
};

static int by_number(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;

    return (a > b) - (a < b);
}

/* No two numbers share a tag. */
static uint32_t tag_of(uint32_t i)
{
    return (i + 1) * 0x9e3779b1u;
}

static void sweep_once(struct scene *scene)
{
    struct sweep sweep;

    CHECK_OK(sweep_open(&sweep, &scene->shard));
    for (uint32_t i = 0; i < STANDING; i++) {
        bool live;
        bool alone;

        CHECK_OK(sweep_is_live(&sweep, scene->standing[i], scene->standing[i], &live, &alone));
        CHECK(live, "record %u is taken for dead", (unsigned)i);
    }
    sweep_close(&sweep);
}

static void *sweep_on(void *argument)
{
    struct scene *scene = argument;

    atomic_fetch_add(&scene->sweeping, 1);
    while (!atomic_load_explicit(&scene->stop, memory_order_relaxed))
        sweep_once(scene);
    return NULL;
}

static void insert(struct keydir *keydir, uint32_t tag)
{
    assert_ok(keydir_reserve(keydir, 1));
    assert_ok(keydir_insert(keydir, tag, tag));
}

static void run_round(void)
{
    struct scene *scene = aligned_alloc(64, align_up(sizeof *scene, 64));
    pthread_t sweepers[SWEEPERS];
    struct keydir *keydir;

    assert_non_null(scene);
    memset(scene, 0, sizeof *scene);
    scene->env.budget.limit_bytes = (uint64_t)1 << 30;
    scene->shard.env = &scene->env;
    assert_ok(index_init(&scene->shard.index, 64 << 20, &scene->env.budget, 0, 1));
    keydir = index_keydir(&scene->shard.index);
    for (uint32_t i = 0; i < STANDING; i++)
        insert(keydir, scene->standing[i] = tag_of(i));
    qsort(scene->standing, STANDING, sizeof scene->standing[0], by_number);
    for (size_t i = 0; i < SWEEPERS; i++)
        assert_ok(thread_start(&sweepers[i], sweep_on, scene));
    while (atomic_load(&scene->sweeping) < SWEEPERS) /* else the writer may be done first */
        sched_yield();
    for (uint32_t i = STANDING; i < STANDING + COMING; i++)
        insert(keydir, tag_of(i));
    atomic_store(&scene->stop, true);
    for (size_t i = 0; i < SWEEPERS; i++)
        pthread_join(sweepers[i], NULL);
    index_release(&scene->shard.index);
    free(scene);
}

static void test_what_lives_is_never_taken_for_dead_while_the_table_grows(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++)
        run_round();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_lives_is_never_taken_for_dead_while_the_table_grows)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
