/* shard/segments: id -> segment, as a plain array would have it. */
#include "unit.h"

#include "shard/segments.h"

static struct segment *new_segment(uint64_t id)
{
    struct log_config config = unit_config(unit_modes[0]);
    struct segment *segment;

    assert_ok(segment_open_missing(&config, id, &segment));
    return segment;
}

static void add(struct segments *segments, uint64_t id)
{
    assert_ok(segments_add(segments, new_segment(id)));
}

static void drop(struct segments *segments, uint64_t id)
{
    struct segment *segment = segments_get(segments, id);

    assert_non_null(segment);
    segments_remove(segments, id);
    assert_null(segments_get(segments, id));
    segment_close(segment);
}

static void test_an_empty_table_has_nothing(void **state)
{
    struct segments segments;

    (void)state;
    segments_init(&segments);
    assert_null(segments_get(&segments, 0));
    assert_null(segments_get(&segments, 1));
    assert_null(segments_get(&segments, UINT64_MAX));
    assert_null(segments_at_or_after(&segments, 0));
    segments_release(&segments);
}

static void test_ids_outside_the_table_are_not_found(void **state)
{
    struct segments segments;

    (void)state;
    segments_init(&segments);
    add(&segments, 1000);
    assert_null(segments_get(&segments, 999));
    assert_null(segments_get(&segments, 0));
    assert_null(segments_get(&segments, 1001));
    assert_null(segments_get(&segments, 1000 + ((uint64_t)1 << 32)));
    assert_null(segments_get(&segments, UINT64_MAX));
    assert_int_equal(segments_get(&segments, 1000)->id, 1000);
    segments_release(&segments);
}

static void test_a_lower_id_may_come_later(void **state)
{
    struct segments segments;

    (void)state;
    segments_init(&segments);
    add(&segments, 500);
    add(&segments, 3);
    add(&segments, 200);
    assert_int_equal(segments.first_id, 3);
    assert_int_equal(segments.last_id, 500);
    assert_int_equal(segments_at_or_after(&segments, 0)->id, 3);
    assert_int_equal(segments_at_or_after(&segments, 4)->id, 200);
    assert_int_equal(segments_at_or_after(&segments, 201)->id, 500);
    assert_null(segments_at_or_after(&segments, 501));
    segments_release(&segments);
}

/* "Of those there are": the last id names the predecessor of the next segment. */
static void test_first_and_last_id_are_of_those_there_are(void **state)
{
    struct segments segments;

    (void)state;
    segments_init(&segments);
    for (uint64_t id = 5; id < 10; id++)
        add(&segments, id);
    drop(&segments, 9);
    assert_int_equal(segments.last_id, 8);
    drop(&segments, 5);
    assert_int_equal(segments.first_id, 6);
    drop(&segments, 7);
    drop(&segments, 8);
    assert_int_equal(segments.last_id, 6);
    assert_int_equal(segments.first_id, 6);
    drop(&segments, 6);
    assert_int_equal(segments.count, 0);
    add(&segments, 3);
    assert_int_equal(segments.first_id, 3);
    assert_int_equal(segments.last_id, 3);
    segments_release(&segments);
}

#define IDS 2000

/* Ids drift upwards, as they do in a store that merges. */
static void test_it_behaves_like_an_array(void **state)
{
    struct segments segments;
    struct segment *model[IDS] = {NULL};
    struct rng rng = {1};
    uint64_t low = 1;
    uint64_t high = 1;

    (void)state;
    segments_init(&segments);
    for (int step = 0; step < 5000; step++) {
        uint64_t id = low + rng_below(&rng, high - low + 1);
        uint64_t count = 0;

        if (rng_percent(&rng, 55) && high < IDS) {
            model[high] = new_segment(high);
            assert_ok(segments_add(&segments, model[high]));
            high++;
        } else if (id < high && model[id]) {
            drop(&segments, id);
            model[id] = NULL;
        }
        while (low < high && !model[low])
            low++;
        for (uint64_t i = 0; i < IDS; i++) {
            count += model[i] != NULL;
            if (step % 50 == 0)
                assert_ptr_equal(segments_get(&segments, i), model[i]);
        }
        assert_int_equal(segments.count, count);
    }
    segments_release(&segments);
}

static void test_a_table_that_was_outgrown_stays_readable(void **state)
{
    struct segments segments;
    struct segments_table *old;

    (void)state;
    segments_init(&segments);
    add(&segments, 1);
    old = atomic_load(&segments.table);
    for (uint64_t id = 2; id < 1000; id++)
        add(&segments, id);
    assert_ptr_not_equal(atomic_load(&segments.table), old);
    assert_ptr_equal(atomic_load(&old->slots[0]), segments_get(&segments, 1));
    segments_release(&segments);
}

static void test_pins_are_counted(void **state)
{
    struct segment *segment = new_segment(1);

    (void)state;
    segment_pin(segment);
    segment_pin(segment);
    segment_unpin(segment);
    assert_int_equal(atomic_load(&segment->pins), 1);
    segment_unpin(segment);
    assert_int_equal(atomic_load(&segment->pins), 0);
    segment_close(segment);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_table_has_nothing),
        cmocka_unit_test(test_ids_outside_the_table_are_not_found),
        cmocka_unit_test(test_a_lower_id_may_come_later),
        cmocka_unit_test(test_first_and_last_id_are_of_those_there_are),
        cmocka_unit_test(test_it_behaves_like_an_array),
        cmocka_unit_test(test_a_table_that_was_outgrown_stays_readable),
        cmocka_unit_test(test_pins_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
