/* shard/shard and shard/read: puts, deletes and look-ups in one shard. */
#include "unit_shard.h"

#include "base/thread.h"

static void test_what_is_put_is_found(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);

        assert_value(rig, "key", NULL);
        assert_ok(rig_put(rig, "key", "one"));
        assert_value(rig, "key", "one");
        assert_ok(rig_put(rig, "key", "two"));
        assert_value(rig, "key", "two");
        assert_ok(rig_put(rig, "key", ""));
        assert_value(rig, "key", "");
        assert_ok(rig_put(rig, "other", "three"));
        assert_value(rig, "key", "");
        assert_value(rig, "other", "three");
        assert_value(rig, "ke", NULL);
        assert_value(rig, "keyy", NULL);
        rig_stop(rig);
    }
}

static void test_what_is_deleted_is_gone_until_it_is_put_again(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);

        assert_ok(rig_put(rig, "key", "one"));
        assert_ok(rig_delete(rig, "key"));
        assert_value(rig, "key", NULL);
        assert_int_equal(rig_delete(rig, "key"), CASK_NOTFOUND);
        assert_ok(rig_put(rig, "key", "two"));
        assert_value(rig, "key", "two");
        rig_stop(rig);
    }
}

static void test_a_delete_of_nothing_writes_nothing(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    uint64_t before;

    (void)state;
    assert_ok(rig_put(rig, "other", "value"));
    before = only(rig)->position;
    assert_int_equal(rig_delete(rig, "key"), CASK_NOTFOUND);
    assert_int_equal(only(rig)->position, before);
    assert_int_equal(only(rig)->counts.writes, 1);
    rig_stop(rig);
}

static void test_sequence_numbers_rise_by_one(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);

    (void)state;
    assert_int_equal(only(rig)->next_sequence, 1);
    for (uint64_t i = 1; i <= 100; i++) {
        assert_ok(rig_put(rig, "key", "value"));
        assert_int_equal(only(rig)->next_sequence, i + 1);
    }
    assert_ok(rig_delete(rig, "key"));
    assert_int_equal(only(rig)->next_sequence, 102);
    rig_stop(rig);
}

static void test_the_last_sequence_number_is_never_passed(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);

    (void)state;
    assert_ok(rig_put(rig, "key", "one"));
    only(rig)->next_sequence = RECORD_SEQUENCE_MAX - 1;
    assert_ok(rig_put(rig, "key", "two"));
    assert_int_equal(rig_put(rig, "key", "three"), CASK_ENOTSUP);
    assert_int_equal(rig_delete(rig, "key"), CASK_ENOTSUP);
    assert_value(rig, "key", "two");
    rig_stop(rig);
}

/* ---- equal hashes ---------------------------------------------------------------------------- */

#define TWINS 8

static struct shard_op twin_op(const char *name, const char *value)
{
    return (struct shard_op){.hash = 0x1234567800000000u,
                             .key = slice_of(name),
                             .value = slice_of(value),
                             .type = RECORD_PUT};
}

/* Entries are hints, the key in the log is the proof: keys of one hash stay apart. */
static void test_keys_of_equal_hash_stay_apart(void **state)
{
    static const char *const names[TWINS] = {"a", "b", "c", "d", "e", "f", "gg", "hh"};

    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);
        struct shard *shard = only(rig);
        const char *values[TWINS];
        struct rng rng = {m + 1};
        uint64_t position;

        memset(values, 0, sizeof values);
        for (int i = 0; i < 3000; i++) {
            size_t k = rng_below(&rng, TWINS);
            struct shard_op op = twin_op(names[k], i % 2 ? "odd" : "even");

            if (rng_percent(&rng, 70)) {
                assert_ok(shard_put(shard, &op, &position));
                values[k] = i % 2 ? "odd" : "even";
            } else {
                op.type = RECORD_DELETE;
                op.value = slice_of("");
                assert_int_equal(shard_delete(shard, &op, &position),
                                 values[k] ? CASK_OK : CASK_NOTFOUND);
                values[k] = NULL;
            }
            k = rng_below(&rng, TWINS);
            assert_found(rig, shard, op.hash, names[k], values[k]);
        }
        rig_abandon(rig); /* the hashes are not those of the keys */
        rig_stop(rig);
    }
}

/* ---- counts ---------------------------------------------------------------------------------- */

static void test_live_and_dead_bytes_are_exact(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    struct shard *shard = only(rig);

    (void)state;
    assert_ok(rig_put(rig, "a", "12345678")); /* 17 + 1 + 8: 32 bytes */
    assert_ok(rig_put(rig, "b", ""));         /* 24 */
    assert_int_equal(shard->counts.live_bytes, 56);
    assert_int_equal(shard->counts.dead_bytes, 0);
    assert_ok(rig_put(rig, "a", "")); /* kills the first, once the stage is emptied */
    pthread_mutex_lock(&shard->lock);
    assert_ok(shard_drain(shard));
    pthread_mutex_unlock(&shard->lock);
    assert_int_equal(shard->counts.live_bytes, 48);
    assert_int_equal(shard->counts.dead_bytes, 32);
    assert_ok(rig_delete(rig, "b")); /* kills the second, and is dead itself */
    assert_int_equal(shard->counts.live_bytes, 24);
    assert_int_equal(shard->counts.dead_bytes, 32 + 24 + 24);
    assert_int_equal(shard->counts.writes, 4);
    assert_int_equal(shard->counts.written_bytes, 104);
    assert_int_equal(shard->active->counts.live_bytes, 24);
    assert_int_equal(shard->active->counts.dead_bytes, 80);
    assert_int_equal(shard->active->counts.records, 4);
    rig_stop(rig);
}

static void test_counts_are_the_same_after_reopening(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++)
        for (size_t m = 0; m < UNIT_MODES; m++) {
            struct rig *rig = rig_make(1, unit_modes[m]);
            struct rng rng = {m + 1};
            struct shard_counts before;
            uint64_t keys;
            char key[16];

            rig->config.segment_bytes = 2000;
            rig_open(rig);
            for (int i = 0; i < 1000; i++) {
                snprintf(key, sizeof key, "key%u", (unsigned)rng_below(&rng, 100));
                if (rng_percent(&rng, 70))
                    assert_ok(rig_put(rig, key, "some value"));
                else
                    assert_in_range(rig_delete(rig, key), CASK_OK, CASK_NOTFOUND);
            }
            pthread_mutex_lock(&only(rig)->lock);
            assert_ok(shard_drain(only(rig)));
            pthread_mutex_unlock(&only(rig)->lock);
            before = only(rig)->counts;
            keys = keydir_count(index_keydir(&only(rig)->index));
            if (crash)
                rig_crash(rig);
            else
                rig_reopen(rig);
            assert_int_equal(only(rig)->counts.live_bytes, before.live_bytes);
            assert_int_equal(only(rig)->counts.dead_bytes, before.dead_bytes);
            assert_int_equal(keydir_count(index_keydir(&only(rig)->index)), keys);
            rig_stop(rig);
        }
}

/* ---- expiry ---------------------------------------------------------------------------------- */

static void test_an_expired_key_is_not_there(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    struct shard_op op = op_of(rig, "key", "value");
    uint64_t position;

    (void)state;
    op.expires_at_ms = 1;
    assert_ok(shard_put(only(rig), &op, &position));
    assert_value(rig, "key", NULL);
    assert_int_equal(rig_delete(rig, "key"), CASK_NOTFOUND);
    op.expires_at_ms = wall_clock_ms() + 3600000;
    assert_ok(shard_put(only(rig), &op, &position));
    assert_value(rig, "key", "value");
    op.expires_at_ms = 1;
    assert_ok(shard_put(only(rig), &op, &position));
    assert_value(rig, "key", NULL);
    assert_ok(rig_put(rig, "key", "for ever"));
    assert_value(rig, "key", "for ever");
    rig_stop(rig);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* The newest record of a key is damaged: that is an error, and not the older value. */
static void test_a_damaged_record_is_corruption_and_never_the_value_before(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++)
        for (int drained = 0; drained < 2; drained++) {
            struct rig *rig = rig_start(1, unit_modes[m]);
            uint64_t offset;

            assert_ok(rig_put(rig, "key", "one"));
            offset = segment_tail(only(rig)->active);
            assert_ok(rig_put(rig, "key", "two"));
            if (drained) {
                pthread_mutex_lock(&only(rig)->lock);
                assert_ok(shard_drain(only(rig)));
                pthread_mutex_unlock(&only(rig)->lock);
            }
            assert_ok(io_write(only(rig)->active->file, offset + RECORD_HEADER_BYTES + 4, "T", 1));
            assert_int_equal(find_status(rig, "key"), CASK_ECORRUPT);
            assert_true(log_lines_mention(&rig->lines, "1.data: offset 88"));
            assert_ok(rig_put(rig, "key", "three"));
            pthread_mutex_lock(&only(rig)->lock);
            assert_ok(shard_drain(only(rig)));
            pthread_mutex_unlock(&only(rig)->lock);
            assert_value(rig, "key", "three");
            assert_ok(rig_delete(rig, "key"));
            assert_value(rig, "key", NULL);
            rig_stop(rig);
        }
}

static void drain(struct rig *rig)
{
    pthread_mutex_lock(&only(rig)->lock);
    assert_ok(shard_drain(only(rig)));
    pthread_mutex_unlock(&only(rig)->lock);
}

/* A key with two entries in the keydir: the older one could not be read for a while when the newer
 * one came. `swapped`: in the other order. */
static void put_twice_over_a_failing_read(struct rig *rig, bool swapped)
{
    struct keydir *keydir = index_keydir(&only(rig)->index);
    uint32_t tag = hash_tag(hash_key("key", 3, rig->env.hash_seed), rig->env.shard_bits);
    uint64_t locations[2];
    static const uint8_t nothing[RECORD_HEADER_BYTES] = {0};
    struct io_file *file = only(rig)->active->file;
    uint64_t offset = segment_tail(only(rig)->active);
    uint8_t header[RECORD_HEADER_BYTES];

    assert_ok(rig_put(rig, "key", "one"));
    drain(rig);
    assert_ok(io_read(file, offset, header, sizeof header, NULL));
    assert_ok(io_write(file, offset, nothing, sizeof nothing));
    assert_ok(rig_put(rig, "key", "two"));
    drain(rig);
    assert_ok(io_write(file, offset, header, sizeof header));
    assert_int_equal(keydir_find(keydir, tag, locations, 2), 2);
    if (swapped) {
        assert_true(keydir_replace(keydir, tag, locations[0], 1));
        assert_true(keydir_replace(keydir, tag, locations[1], locations[0]));
        assert_true(keydir_replace(keydir, tag, 1, locations[1]));
    }
    assert_value(rig, "key", "two");
}

static int rig_put_if(struct rig *rig, const char *key, const char *value, uint64_t wanted,
                      uint64_t *ret_sequence)
{
    struct shard_op op = op_of(rig, key, value);

    return shard_put_if(shard_of(rig, key), &op, wanted, &rig->position, ret_sequence);
}

static void test_a_conditional_put_goes_by_the_newest_entry(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++)
        for (int i = 0; i < 4; i++) {
            struct rig *rig = rig_make(1, unit_modes[m]);
            uint64_t sequence = 0;

            rig->env.spills = true;
            rig->env.real_path = rig->place.path;
            rig_open(rig);
            assert_ok(rig_put(rig, "other", "value"));
            if (i / 2 == 1)
                assert_ok(spill_flush(only(rig), false));
            put_twice_over_a_failing_read(rig, i % 2 == 1);
            assert_int_equal(rig_put_if(rig, "key", "no", 2, &sequence), CASK_EEXIST);
            assert_int_equal(sequence, 0);
            assert_ok(rig_put_if(rig, "key", "three", 3, &sequence));
            assert_int_equal(sequence, 4);
            assert_value(rig, "key", "three");
            assert_ok(rig_delete(rig, "key"));
            assert_value(rig, "key", NULL);
            assert_int_equal(rig_delete(rig, "key"), CASK_NOTFOUND);
            rig_stop(rig);
        }
}

/* The checksum is verified: what a damaged record says of its number, or its key, is no answer. */
static void test_a_conditional_put_over_damage_is_refused(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++)
        for (size_t at = 0; at < RECORD_HEADER_BYTES + 6; at++) {
            struct rig *rig = rig_start(1, unit_modes[m]);
            struct io_file *file;
            uint64_t sequence = 0;
            uint64_t offset;
            uint8_t byte;

            assert_ok(rig_put(rig, "other", "value"));
            file = only(rig)->active->file;
            offset = segment_tail(only(rig)->active);
            assert_ok(rig_put(rig, "key", "one"));
            drain(rig);
            assert_ok(io_read(file, offset + at, &byte, 1, NULL));
            byte ^= 1;
            assert_ok(io_write(file, offset + at, &byte, 1));
            for (uint64_t wanted = 0; wanted < 2; wanted++)
                assert_int_equal(rig_put_if(rig, "key", "no", 2 * wanted, &sequence),
                                 CASK_ECORRUPT);
            assert_int_equal(only(rig)->counts.writes, 2);
            assert_int_equal(sequence, 0);
            rig_stop(rig);
        }
}

struct attempt {
    struct rig *rig;
    uint64_t wanted;
    int status;
};

static void *attempt(void *argument)
{
    struct attempt *attempt = argument;
    uint64_t sequence;

    attempt->status = rig_put_if(attempt->rig, "key", "new", attempt->wanted, &sequence);
    return NULL;
}

/* The first look still finds it, wherever its entry is. */
static void test_what_expires_on_the_way_to_the_lock_is_not_there(void **state)
{
    (void)state;
    for (int spilled = 0; spilled < 2; spilled++) {
        struct rig *rig = rig_make(1, unit_modes[0]);
        struct attempt late = {.rig = rig};
        struct shard_op op;
        pthread_t thread;

        rig->env.spills = true;
        rig->env.real_path = rig->place.path;
        rig_open(rig);
        op = op_of(rig, "key", "old");
        op.expires_at_ms = wall_clock_ms() + 300;
        assert_ok(shard_put(only(rig), &op, &rig->position));
        late.wanted = only(rig)->next_sequence - 1;
        if (spilled)
            assert_ok(spill_flush(only(rig), false));
        pthread_mutex_lock(&only(rig)->lock);
        assert_ok(thread_start(&thread, attempt, &late));
        while (wall_clock_ms() < op.expires_at_ms)
            pause_us(10000);
        pthread_mutex_unlock(&only(rig)->lock);
        pthread_join(thread, NULL);
        assert_int_equal(late.status, CASK_NOTFOUND);
        rig_stop(rig);
    }
}

static void test_a_refused_conditional_put_writes_nothing(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    uint64_t sequence = 0;
    uint64_t before;

    (void)state;
    assert_ok(rig_put(rig, "key", "one"));
    before = only(rig)->position;
    assert_int_equal(rig_put_if(rig, "key", "no", 0, &sequence), CASK_EEXIST);
    assert_int_equal(rig_put_if(rig, "other", "no", 1, &sequence), CASK_NOTFOUND);
    assert_int_equal(only(rig)->position, before);
    assert_int_equal(only(rig)->counts.writes, 1);
    assert_int_equal(only(rig)->next_sequence, 2);
    rig_stop(rig);
}

/* ---- segments that go ------------------------------------------------------------------------ */

struct retiring {
    struct rig *rig;
    struct segment *segment;
    _Atomic bool done;
};

static void *retire(void *argument)
{
    struct retiring *retiring = argument;

    shard_retire(only(retiring->rig), &retiring->segment, 1);
    atomic_store(&retiring->done, true);
    return NULL;
}

/* One that a run's stale entry, or another key's of the same tag, has led there: it comes after
 * those have left who were waited for first, and before the segment is out of the table. */
static void test_a_segment_stays_under_a_reader_who_found_it_in_the_table(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_of_small_segments(unit_modes[m]);
        struct shard *shard = only(rig);
        struct retiring retiring = {.rig = rig};
        struct epoch_guard guard;
        pthread_t thread;

        while (shard->segments.count < 3)
            assert_ok(rig_put(rig, "key", "value"));
        shard_do_work(shard, SHARD_WORK_SEAL);
        pthread_mutex_lock(&shard->lock);
        retiring.segment = segments_get(&shard->segments, 1);
        assert_ok(thread_start(&thread, retire, &retiring));
        pause_us(50000); /* it stands at the lock */
        guard = epoch_enter(&rig->env.epoch);
        assert_ptr_equal(segments_get(&shard->segments, 1), retiring.segment);
        pthread_mutex_unlock(&shard->lock);
        pause_us(50000);
        assert_false(atomic_load(&retiring.done));
        assert_true(path_exists(rig_path(rig, 0, "1.data")));
        epoch_leave(guard);
        pthread_join(thread, NULL);
        assert_false(path_exists(rig_path(rig, 0, "1.data")));
        rig_abandon(rig);
        rig_stop(rig);
    }
}

#define CROWD 600u

/* Writes the keys as a batch, for which the index gets no more memory than it has when the batch is
 * ready: because of the budget, or because the system refuses it. */
static int write_crowd(struct rig *rig, char keys[][16], bool refused)
{
    struct shard *shard = only(rig);
    struct keydir *keydir = index_keydir(&shard->index);
    size_t reserved = keydir->reserved_bytes;
    uint64_t reserve = rig->env.budget.reserve_bytes;
    struct shard_op ops[CROWD];
    uint32_t order[CROWD];
    uint64_t offsets[CROWD];
    struct batch_end end = {0};
    int status;

    for (uint32_t i = 0; i < CROWD; i++) {
        ops[i] = op_of(rig, keys[i], "value");
        order[i] = i;
    }
    assert_ok(shard_batch_room(shard, CROWD * 64));
    pthread_mutex_lock(&shard->lock);
    assert_ok(shard_batch_ready(shard, CROWD * 64, CROWD));
    rig->env.budget.reserve_bytes = rig->env.budget.limit_bytes;
    if (refused)
        keydir->reserved_bytes = (size_t)keydir->committed_bytes;
    assert_ok(shard_batch_append(shard, ops, order, CROWD, &end, offsets));
    status = shard_batch_publish(shard, ops, order, CROWD, offsets, &end);
    keydir->reserved_bytes = reserved;
    rig->env.budget.reserve_bytes = reserve;
    pthread_mutex_unlock(&shard->lock);
    return status;
}

/* A table with room for so many entries may have none at the place where they belong. */
static void test_a_batch_that_is_written_gets_the_memory_its_entries_need(void **state)
{
    static char keys[CROWD][16];

    (void)state;
    for (unsigned refused = 0; refused < 2; refused++) {
        struct rig *rig = rig_start(1, unit_modes[0]);

        crowd_of(rig->env.hash_seed, rig->env.shard_bits, CROWD, keys);
        if (refused) {
            assert_int_equal(write_crowd(rig, keys, true), CASK_ENOMEM);
            assert_int_equal(rig_put(rig, "key", "value"), CASK_ENOMEM);
            rig_crash(rig);
        } else {
            assert_ok(write_crowd(rig, keys, false));
        }
        for (unsigned i = 0; i < CROWD; i++)
            assert_value(rig, keys[i], "value");
        rig_stop(rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_put_is_found),
        cmocka_unit_test(test_what_is_deleted_is_gone_until_it_is_put_again),
        cmocka_unit_test(test_a_delete_of_nothing_writes_nothing),
        cmocka_unit_test(test_sequence_numbers_rise_by_one),
        cmocka_unit_test(test_the_last_sequence_number_is_never_passed),
        cmocka_unit_test(test_keys_of_equal_hash_stay_apart),
        cmocka_unit_test(test_live_and_dead_bytes_are_exact),
        cmocka_unit_test(test_counts_are_the_same_after_reopening),
        cmocka_unit_test(test_an_expired_key_is_not_there),
        cmocka_unit_test(test_a_damaged_record_is_corruption_and_never_the_value_before),
        cmocka_unit_test(test_a_conditional_put_goes_by_the_newest_entry),
        cmocka_unit_test(test_a_conditional_put_over_damage_is_refused),
        cmocka_unit_test(test_what_expires_on_the_way_to_the_lock_is_not_there),
        cmocka_unit_test(test_a_refused_conditional_put_writes_nothing),
        cmocka_unit_test(test_a_segment_stays_under_a_reader_who_found_it_in_the_table),
        cmocka_unit_test(test_a_batch_that_is_written_gets_the_memory_its_entries_need),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
