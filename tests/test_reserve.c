/* shard/reserve: who gets blocks when. What a full disk does to it is tried on the simulated disk
 * (sim/test_merge_sim.c, sim/test_space.c) and on a real one (test_merge_space.c). */
#include "unit.h"

#include "shard/reserve.h"

#define BYTES ((uint64_t)64 << 10)

static uint64_t bytes_on_disk(struct place *place)
{
    struct io_file *file;
    uint64_t bytes;

    assert_int_equal(io_open(place->dir, RESERVE_NAME, IO_READ, &file), CASK_OK);
    assert_int_equal(io_disk_bytes(file, &bytes), CASK_OK);
    io_close(file);
    return bytes;
}

static bool is_there(struct place *place)
{
    struct io_file *file;
    int status = io_open(place->dir, RESERVE_NAME, IO_READ, &file);

    if (status == CASK_OK)
        io_close(file);
    return status == CASK_OK;
}

static void test_it_is_had_when_wanted_and_grows(void **state)
{
    struct place place = place_make();
    struct reserve reserve = {0};

    (void)state;
    reserve_init(&reserve, place.dir);
    assert_int_equal(reserve_enter(&reserve, 0), CASK_OK);
    reserve_exit(&reserve);
    assert_false(is_there(&place));
    for (unsigned times = 1; times <= 3; times++) {
        assert_int_equal(reserve_enter(&reserve, times * BYTES), CASK_OK);
        reserve_exit(&reserve);
        assert_true(bytes_on_disk(&place) >= times * BYTES);
    }
    assert_int_equal(reserve_enter(&reserve, BYTES), CASK_OK);
    reserve_exit(&reserve);
    assert_true(bytes_on_disk(&place) >= 3 * BYTES);
    reserve_close(&reserve);
    assert_false(is_there(&place));
    place_remove(&place);
}

static void test_while_it_is_in_use_nobody_takes_blocks(void **state)
{
    struct place place = place_make();
    struct reserve reserve = {0};

    (void)state;
    reserve_init(&reserve, place.dir);
    assert_int_equal(reserve_enter(&reserve, BYTES), CASK_OK);
    reserve_exit(&reserve);
    reserve_use(&reserve);
    assert_true(reserve_is_short(&reserve));
    assert_int_equal(bytes_on_disk(&place), 0);
    assert_int_equal(reserve_enter(&reserve, 0), CASK_EBUSY);
    assert_int_equal(reserve_enter(&reserve, 2 * BYTES), CASK_EBUSY);
    assert_false(reserve_try_use(&reserve));
    assert_true(reserve_get_back(&reserve));
    assert_true(reserve_is_short(&reserve)); /* until its user has left */
    assert_int_equal(reserve_enter(&reserve, 0), CASK_EBUSY);
    reserve_leave(&reserve);
    assert_false(reserve_is_short(&reserve));
    assert_true(bytes_on_disk(&place) >= BYTES);
    assert_true(reserve_try_use(&reserve));
    reserve_leave(&reserve);
    reserve_close(&reserve);
    place_remove(&place);
}

static void *run_wait(void *argument)
{
    struct reserve *reserve = argument;

    reserve_wait(reserve);
    return NULL;
}

static void test_a_wait_ends_with_the_use_or_by_itself(void **state)
{
    struct place place = place_make();
    struct reserve reserve = {0};
    pthread_t thread;

    (void)state;
    reserve_init(&reserve, place.dir);
    reserve_wait(&reserve);
    reserve_use(&reserve);
    reserve_wait(&reserve); /* in vain, but not for ever */
    assert_int_equal(pthread_create(&thread, NULL, run_wait, &reserve), 0);
    reserve_leave(&reserve);
    assert_int_equal(pthread_join(thread, NULL), 0);
    reserve_close(&reserve);
    place_remove(&place);
}

/* What a kill has left is removed; and where nothing was begun, all is allowed. */
static void test_leftovers_go_and_none_is_no_hindrance(void **state)
{
    struct place place = place_make();
    struct reserve reserve = {0};
    struct io_file *file;

    (void)state;
    assert_int_equal(reserve_enter(&reserve, BYTES), CASK_OK);
    reserve_exit(&reserve);
    reserve_use(&reserve);
    assert_false(reserve_is_short(&reserve));
    reserve_leave(&reserve);
    assert_int_equal(io_open(place.dir, RESERVE_NAME, IO_CREATE_NEW, &file), CASK_OK);
    io_close(file);
    reserve_init(&reserve, place.dir);
    assert_false(is_there(&place));
    reserve_close(&reserve);
    place_remove(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_had_when_wanted_and_grows),
        cmocka_unit_test(test_while_it_is_in_use_nobody_takes_blocks),
        cmocka_unit_test(test_a_wait_ends_with_the_use_or_by_itself),
        cmocka_unit_test(test_leftovers_go_and_none_is_no_hindrance),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
