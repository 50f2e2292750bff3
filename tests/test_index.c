/* index/index.h: the stage in front of the keydir. */
#include "unit.h"

#include "index/index.h"

struct bench {
    struct budget budget;
    struct index *index;
};

static struct bench *bench_start(void)
{
    struct bench *bench = calloc(1, sizeof *bench);

    assert_non_null(bench);
    bench->budget.limit_bytes = (uint64_t)16 << 20;
    bench->index = aligned_alloc(64, align_up(sizeof *bench->index, 64));
    assert_non_null(bench->index);
    assert_ok(index_init(bench->index, 16 << 20, &bench->budget, 0, 1));
    return bench;
}

static void bench_stop(struct bench *bench)
{
    index_release(bench->index);
    assert_int_equal(budget_used(&bench->budget), 0);
    free(bench->index);
    free(bench);
}

/* As the shard does it, for keys that are all different. */
static void drain(struct index *index)
{
    uint32_t count = index_staged(index);

    assert_ok(keydir_reserve(index_keydir(index), count));
    for (uint32_t i = 0; i < count; i++) {
        struct keydir_entry entry = index_staged_at(index, i);

        assert_ok(keydir_insert(index_keydir(index), entry.tag, entry.location));
    }
    index_clear_stage(index);
}

static void test_a_staged_entry_is_found_at_once(void **state)
{
    struct bench *bench = bench_start();
    uint64_t locations[4];
    unsigned staged = 9;

    (void)state;
    assert_int_equal(index_find(bench->index, 0x12345678, locations, 4, &staged), 0);
    assert_int_equal(staged, 0);
    index_stage(bench->index, 0x12345678, 77);
    assert_int_equal(index_staged(bench->index), 1);
    assert_int_equal(index_find(bench->index, 0x12345678, locations, 4, &staged), 1);
    assert_int_equal(staged, 1);
    assert_int_equal(locations[0], 77);
    bench_stop(bench);
}

static void test_the_stage_keeps_whole_tags_and_locations(void **state)
{
    static const uint32_t tags[] = {0, 0xffff, 0x10000, 0xffff0000, UINT32_MAX};
    struct bench *bench = bench_start();

    (void)state;
    for (uint32_t i = 0; i < COUNT_OF(tags); i++)
        index_stage(bench->index, tags[i], INDEX_LOCATION_MASK - i);
    for (uint32_t i = 0; i < COUNT_OF(tags); i++) {
        struct keydir_entry entry = index_staged_at(bench->index, i);

        assert_int_equal(entry.tag, tags[i]);
        assert_true(entry.location == INDEX_LOCATION_MASK - i);
    }
    bench_stop(bench);
}

/* Sixteen bits of the tag are compared in the stage: what else matches is for the log to prove. */
static void test_candidates_come_newest_first_and_the_stage_before_the_keydir(void **state)
{
    struct bench *bench = bench_start();
    uint64_t locations[8];
    unsigned staged;

    (void)state;
    index_stage(bench->index, 5, 10);
    drain(bench->index);
    index_stage(bench->index, 5, 20);
    index_stage(bench->index, 6, 25);
    index_stage(bench->index, 5, 30);
    index_stage(bench->index, 0x10005, 40);
    assert_int_equal(index_find(bench->index, 5, locations, 8, &staged), 4);
    assert_int_equal(staged, 3);
    assert_int_equal(locations[0], 40);
    assert_int_equal(locations[1], 30);
    assert_int_equal(locations[2], 20);
    assert_int_equal(locations[3], 10);
    assert_int_equal(index_find(bench->index, 6, locations, 8, &staged), 1);
    bench_stop(bench);
}

static void test_no_more_are_written_than_there_is_room_for(void **state)
{
    struct bench *bench = bench_start();

    (void)state;
    for (uint64_t i = 1; i <= 10; i++) {
        index_stage(bench->index, 5, i);
        drain(bench->index);
    }
    for (uint64_t i = 11; i <= 20; i++)
        index_stage(bench->index, 5, i);
    for (unsigned room = 0; room <= 20; room++) {
        uint64_t locations[21];
        unsigned staged;

        memset(locations, 0xee, sizeof locations);
        assert_int_equal(index_find(bench->index, 5, locations, room, &staged), 20);
        assert_int_equal(staged, 10);
        for (unsigned i = 0; i < 21; i++)
            assert_int_equal(locations[i] != 0xeeeeeeeeeeeeeeeeu, i < room);
    }
    bench_stop(bench);
}

static void test_a_full_stage_is_found_and_drained(void **state)
{
    struct bench *bench = bench_start();
    uint64_t location;
    unsigned staged;

    (void)state;
    for (uint32_t round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < INDEX_STAGE; i++)
            index_stage(bench->index, (uint32_t)mix64(round * 100 + i), round * 100 + i + 1);
        assert_int_equal(index_staged(bench->index), INDEX_STAGE);
        for (int drained = 0; drained < 2; drained++) {
            for (uint32_t i = 0; i < INDEX_STAGE; i++) {
                assert_int_equal(index_find(bench->index, (uint32_t)mix64(round * 100 + i),
                                            &location, 1, &staged),
                                 1);
                assert_int_equal(staged, drained ? 0 : 1);
                assert_int_equal(location, round * 100 + i + 1);
            }
            if (!drained)
                drain(bench->index);
        }
        assert_int_equal(index_staged(bench->index), 0);
    }
    assert_int_equal(keydir_count(index_keydir(bench->index)), 100 * INDEX_STAGE);
    bench_stop(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_staged_entry_is_found_at_once),
        cmocka_unit_test(test_the_stage_keeps_whole_tags_and_locations),
        cmocka_unit_test(test_candidates_come_newest_first_and_the_stage_before_the_keydir),
        cmocka_unit_test(test_no_more_are_written_than_there_is_room_for),
        cmocka_unit_test(test_a_full_stage_is_found_and_drained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
