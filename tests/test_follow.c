/* shard/follow: a reader beside a writer sees all shards as they were at one moment. */
#include "unit_shard.h"

#define SHARDS 4
#define KEYS 200u
#define LATER 400u
#define MANY 40000u

/* A reader of the writer's store, that does something as the writer once it has read each shard. */
static struct rig *rig_beside(struct rig *writer, void (*meanwhile)(struct rig *writer))
{
    struct rig *rig = rig_make(writer->env.shard_count, unit_modes[0]);

    place_remove(&rig->place);
    rig->place = writer->place;
    rig->config = writer->config;
    rig->env.path = writer->place.path;
    rig->env.read_only = true;
    rig->meanwhile = meanwhile;
    rig->writer = writer;
    return rig;
}

/* Leaves the store to its writer. */
static void rig_leave(struct rig *rig)
{
    if (rig->shards)
        rig_close(rig);
    pthread_mutex_destroy(&rig->lines.lock);
    free(rig);
}

static void put_more(struct rig *writer)
{
    put_keys(writer, KEYS, LATER);
}

static void test_what_was_put_since_is_seen(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < COUNT_OF(unit_modes); mode++) {
        struct rig *writer = rig_start(SHARDS, unit_modes[mode]);
        struct rig *reader = rig_beside(writer, put_more);

        put_keys(writer, 0, KEYS);
        rig_open(reader);
        assert_keys(reader, 0, LATER);
        assert_quiet(reader);
        rig_leave(reader);
        assert_keys(writer, 0, LATER);
        rig_stop(writer);
    }
}

/* Behind a clean close the tails begin where the hints end. */
static void test_what_was_put_behind_a_hint_is_seen(void **state)
{
    struct rig *writer = rig_start(SHARDS, unit_modes[0]);
    struct rig *reader = rig_beside(writer, put_more);

    (void)state;
    put_keys(writer, 0, KEYS);
    rig_reopen(writer);
    rig_open(reader);
    assert_keys(reader, 0, LATER);
    rig_leave(reader);
    rig_stop(writer);
}

static void delete_some(struct rig *writer)
{
    char key[16];

    for (unsigned i = 0; i < KEYS; i += 2) {
        (void)snprintf(key, sizeof key, "key%u", i);
        assert_ok(rig_delete(writer, key));
    }
}

static void test_what_was_deleted_since_is_gone(void **state)
{
    struct rig *writer = rig_start(SHARDS, unit_modes[0]);
    struct rig *reader = rig_beside(writer, delete_some);
    char key[16];

    (void)state;
    put_keys(writer, 0, KEYS);
    rig_open(reader);
    for (unsigned i = 0; i < KEYS; i++) {
        (void)snprintf(key, sizeof key, "key%u", i);
        assert_int_equal(find_status(reader, key), i % 2 == 0 ? CASK_NOTFOUND : CASK_OK);
    }
    rig_leave(reader);
    rig_stop(writer);
}

static void put_large(struct rig *writer)
{
    char *value = malloc(300001);

    assert_non_null(value);
    memset(value, 'v', 300000);
    value[300000] = '\0';
    assert_ok(rig_put(writer, "large", value));
    assert_ok(rig_put(writer, "after", "it"));
    free(value);
}

static void put_many(struct rig *writer)
{
    put_keys(writer, KEYS, MANY);
}

/* More than was allocated when the reader opened the file. */
static void test_a_file_that_has_grown_is_read_on(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < COUNT_OF(unit_modes); mode++) {
        struct rig *writer = rig_start(SHARDS, unit_modes[mode]);
        struct rig *reader = rig_beside(writer, put_large);

        put_keys(writer, 0, KEYS);
        rig_open(reader);
        assert_keys(reader, 0, KEYS);
        assert_int_equal(find_status(reader, "large"), CASK_OK);
        assert_value(reader, "after", "it");
        rig_leave(reader);
        reader = rig_beside(writer, put_many);
        rig_open(reader);
        assert_keys(reader, 0, MANY);
        rig_leave(reader);
        rig_stop(writer);
    }
}

/* A shard has its first segment, or another one, that the reader knows nothing of. */
static void test_a_new_segment_has_the_open_start_again(void **state)
{
    struct rig *writer = rig_start(SHARDS, unit_modes[0]);
    struct rig *reader = rig_beside(writer, put_more);

    (void)state;
    assert_int_equal(rig_try_open(reader), CASK_NOTFOUND);
    reader->meanwhile = NULL;
    rig_open(reader);
    assert_keys(reader, KEYS, LATER);
    rig_leave(reader);
    rig_stop(writer);

    writer = rig_make(SHARDS, unit_modes[0]);
    writer->config.segment_bytes = 4096;
    rig_open(writer);
    put_keys(writer, 0, KEYS);
    reader = rig_beside(writer, put_more);
    assert_int_equal(rig_try_open(reader), CASK_NOTFOUND);
    reader->meanwhile = NULL;
    rig_open(reader);
    assert_keys(reader, 0, LATER);
    rig_leave(reader);
    rig_stop(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_put_since_is_seen),
        cmocka_unit_test(test_what_was_put_behind_a_hint_is_seen),
        cmocka_unit_test(test_what_was_deleted_since_is_gone),
        cmocka_unit_test(test_a_file_that_has_grown_is_read_on),
        cmocka_unit_test(test_a_new_segment_has_the_open_start_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
