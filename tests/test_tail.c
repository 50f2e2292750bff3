/* shard/tail: what a segment holds, record by record, with batches whole or not at all. */
#include "unit_shard.h"

/* A segment written record by record, beside a shard that lends its configuration. */
struct bench {
    struct rig *rig;
    struct segment *segment;
    uint64_t sequence;
};

static struct bench bench_start(void)
{
    struct bench bench = {.rig = rig_start(1, unit_modes[0])};

    bench.rig->shards[0].config.shard_count = 4;
    assert_ok(segment_create(bench.rig->place.dir, &bench.rig->shards[0].config, 9, 0,
                             (uint64_t)4 << 20, &bench.segment));
    return bench;
}

static void bench_stop(struct bench *bench)
{
    segment_close(bench->segment);
    rig_stop(bench->rig);
}

static uint64_t add(struct bench *bench, struct record record)
{
    uint64_t offset;

    record.sequence = ++bench->sequence;
    assert_ok(segment_ensure(bench->segment, record_size(&record), false));
    assert_ok(segment_append(bench->segment, &record, &offset));
    assert_ok(segment_commit(bench->segment));
    return offset;
}

static uint64_t put(struct bench *bench, bool in_batch)
{
    return add(bench, (struct record){.type = RECORD_PUT,
                                      .in_batch = in_batch,
                                      .key = slice_of("key"),
                                      .value = slice_of("value")});
}

static uint64_t end_batch(struct bench *bench, uint32_t count, uint64_t number)
{
    struct batch_end end = {.count = count, .number = number};
    uint8_t value[BATCH_END_MAX];

    batch_end_add(&end, 0);
    batch_end_add(&end, 2);
    return add(bench, (struct record){.type = RECORD_BATCH_END,
                                      .value = {value, batch_end_encode(&end, 4, value)}});
}

static uint64_t seal(struct bench *bench)
{
    return add(bench, (struct record){.type = RECORD_SEAL, .value = {"\1\0\0\0\0\0\0\0", 8}});
}

static void patch(struct bench *bench, uint64_t offset, const void *bytes, size_t size)
{
    memcpy(bench->segment->map + offset, bytes, size);
}

/* Reads to the end of the file; skip: the machine has not been down since. */
static struct tail read_settled(struct bench *bench, uint64_t settled, bool skip)
{
    struct tail tail;

    assert_ok(tail_read(&bench->rig->shards[0], bench->segment, SEGMENT_HEADER_BYTES,
                        bench->segment->allocated, settled, skip, &tail));
    return tail;
}

static struct tail read_all(struct bench *bench, bool skip)
{
    return read_settled(bench, 0, skip);
}

/* ---- sound segments -------------------------------------------------------------------------- */

static void test_an_empty_segment_ends_behind_its_header(void **state)
{
    struct bench bench = bench_start();
    struct tail tail = read_all(&bench, true);

    (void)state;
    assert_int_equal(tail.end, SEGMENT_HEADER_BYTES);
    assert_int_equal(tail.records, 0);
    assert_int_equal(tail.hint.count, 0);
    assert_int_equal(tail.bad_bytes, 0);
    assert_false(tail.sealed || tail.damaged);
    tail_release(&tail);
    bench_stop(&bench);
}

static void test_records_are_listed_in_the_order_of_the_log(void **state)
{
    struct bench bench = bench_start();
    struct tail tail;

    (void)state;
    for (int i = 0; i < 600; i++)
        put(&bench, false);
    add(&bench, (struct record){.type = RECORD_DELETE, .key = slice_of("key")});
    tail = read_all(&bench, false);
    assert_int_equal(tail.end, segment_tail(bench.segment));
    assert_int_equal(tail.records, 601);
    assert_int_equal(tail.hint.count, 601);
    assert_int_equal(tail.max_sequence, 601);
    for (uint64_t i = 0; i < 600; i++) {
        struct hint_entry entry = hint_entry_at(&tail.hint, i);

        assert_int_equal(entry.sequence, i + 1);
        assert_int_equal(entry.offset, SEGMENT_HEADER_BYTES + i * 32);
        assert_int_equal(entry.type, RECORD_PUT);
    }
    assert_int_equal(hint_entry_at(&tail.hint, 600).type, RECORD_DELETE);
    assert_true(hint_entry_at(&tail.hint, 600).hash ==
                hash_key("key", 3, bench.rig->env.hash_seed));
    tail_release(&tail);
    bench_stop(&bench);
}

static void test_a_seal_ends_the_walk(void **state)
{
    struct bench bench = bench_start();
    struct tail tail;
    uint64_t end;

    (void)state;
    put(&bench, false);
    seal(&bench);
    end = segment_tail(bench.segment);
    put(&bench, false); /* nobody writes that, but if it were there */
    tail = read_all(&bench, true);
    assert_true(tail.sealed);
    assert_int_equal(tail.end, end);
    assert_int_equal(tail.hint.count, 1);
    assert_int_equal(tail.max_sequence, 2);
    tail_release(&tail);
    bench_stop(&bench);
}

/* ---- batches --------------------------------------------------------------------------------- */

static void test_whole_batches_count_and_those_across_shards_are_noted(void **state)
{
    struct bench bench = bench_start();
    uint64_t first;
    uint64_t second;
    struct tail tail;

    (void)state;
    put(&bench, false);
    put(&bench, true);
    put(&bench, true);
    end_batch(&bench, 2, 0); /* this shard alone */
    first = put(&bench, true);
    end_batch(&bench, 1, 77);
    second = put(&bench, true);
    put(&bench, true);
    put(&bench, true);
    end_batch(&bench, 3, 78);
    tail = read_all(&bench, false);
    assert_int_equal(tail.end, segment_tail(bench.segment));
    assert_int_equal(tail.hint.count, 7);
    assert_int_equal(tail.records, 10);
    assert_int_equal(tail.batch_count, 2);
    assert_int_equal(tail.batches[0].offset, first);
    assert_int_equal(tail.batches[0].end.number, 77);
    assert_true(batch_end_has(&tail.batches[0].end, 2));
    assert_false(batch_end_has(&tail.batches[0].end, 1));
    assert_int_equal(tail.batches[1].offset, second);
    assert_int_equal(tail.batches[1].end.count, 3);
    assert_int_equal(tail.hint.max_batch, 78);
    tail_release(&tail);
    bench_stop(&bench);
}

static void test_a_batch_without_its_end_is_no_part_of_the_log(void **state)
{
    struct bench bench = bench_start();
    struct tail tail;
    uint64_t end;

    (void)state;
    put(&bench, false);
    end = put(&bench, true);
    put(&bench, true);
    tail = read_all(&bench, true);
    assert_int_equal(tail.end, end);
    assert_int_equal(tail.hint.count, 1);
    assert_int_equal(tail.bad_bytes, 64);
    assert_int_equal(tail.max_sequence, 3); /* so that no number is used twice */
    assert_false(tail.damaged);
    tail_release(&tail);
    bench_stop(&bench);
}

static void test_a_batch_of_another_count_does_not_count(void **state)
{
    (void)state;
    for (uint32_t count = 0; count < 5; count++) {
        struct bench bench = bench_start();
        struct tail tail;

        put(&bench, true);
        put(&bench, true);
        end_batch(&bench, count, 5);
        put(&bench, false);
        tail = read_all(&bench, true);
        assert_int_equal(tail.hint.count, count == 2 ? 3 : 1);
        assert_int_equal(tail.batch_count, count == 2 ? 1 : 0);
        assert_int_equal(tail.end, segment_tail(bench.segment));
        tail_release(&tail);
        bench_stop(&bench);
    }
}

static void test_pieces_that_no_end_follows_are_left_out(void **state)
{
    struct bench bench = bench_start();
    struct tail tail;

    (void)state;
    put(&bench, true);
    put(&bench, true);
    put(&bench, false);
    end_batch(&bench, 2, 9); /* the end of nothing */
    put(&bench, true);
    seal(&bench);
    tail = read_all(&bench, true);
    assert_int_equal(tail.hint.count, 1);
    assert_int_equal(hint_entry_at(&tail.hint, 0).sequence, 3);
    assert_int_equal(tail.batch_count, 0);
    tail_release(&tail);
    bench_stop(&bench);
}

static void test_a_batch_end_that_makes_no_sense_ends_no_batch(void **state)
{
    struct bench bench = bench_start();
    struct tail tail;

    (void)state;
    put(&bench, true);
    add(&bench, (struct record){.type = RECORD_BATCH_END, .value = {"\1\0\0\0\0", 5}});
    put(&bench, false);
    tail = read_all(&bench, true);
    assert_int_equal(tail.hint.count, 1);
    assert_int_equal(hint_entry_at(&tail.hint, 0).sequence, 3);
    tail_release(&tail);
    bench_stop(&bench);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Whatever tags are kept, the same records count, and a batch that is none is left out whole. */
static void test_parts_of_the_tags_add_up_to_what_counts(void **state)
{
    struct bench bench = bench_start();
    const uint32_t limit = UINT32_MAX / 5 * 2;
    struct hint hint;
    struct tail tail;
    uint64_t kept[2];

    (void)state;
    for (uint32_t i = 0; i < 3000; i++) {
        bool in_batch = i / 10 % 2 == 0;

        add(&bench, (struct record){.type = RECORD_PUT,
                                    .in_batch = in_batch,
                                    .key = {&i, sizeof i},
                                    .value = slice_of("value")});
        if (i % 10 == 9 && in_batch)
            end_batch(&bench, i / 20 % 3 == 0 ? 11 : 10, i + 1); /* every third one is not whole */
    }
    hint_init(&hint, 9);
    for (unsigned part = 0; part < 2; part++) {
        hint_keep(&hint, part == 0 ? 0 : limit + 1, part == 0 ? limit : UINT32_MAX, 0);
        assert_ok(tail_read_settled(&bench.rig->shards[0], bench.segment, SEGMENT_HEADER_BYTES,
                                    segment_tail(bench.segment), &hint, &tail));
        assert_int_equal(hint.count + hint.passed_over, 2500);
        assert_int_equal(hint.max_batch, 2990);
        assert_int_equal(tail.hint.count + tail.batch_count, 0);
        assert_false(tail.damaged);
        kept[part] = hint.count;
        for (uint64_t i = 0; i < hint.count; i++) {
            struct hint_entry entry = hint_entry_at(&hint, i);

            assert_true((hash_tag(entry.hash, 0) > limit) == (part == 1));
            assert_true(i == 0 || hint_entry_at(&hint, i - 1).offset < entry.offset);
        }
        tail_release(&tail);
    }
    assert_int_equal(kept[0] + kept[1], 2500);
    assert_in_range(kept[0], 800, 1200);
    hint_release(&hint);
    bench_stop(&bench);
}

static void test_a_torn_tail_is_measured_without_the_zeros_behind_it(void **state)
{
    (void)state;
    for (int skip = 0; skip < 2; skip++) {
        struct bench bench = bench_start();
        uint64_t torn;
        struct tail tail;

        put(&bench, false);
        torn = put(&bench, false);
        patch(&bench, torn + 20, "\0\0\0\0\0", 5); /* the last bytes never arrived */
        tail = read_all(&bench, skip);
        assert_int_equal(tail.end, torn);
        assert_int_equal(tail.hint.count, 1);
        assert_false(tail.damaged);
        assert_in_range(tail.bad_bytes, 15, 32);
        tail_release(&tail);
        bench_stop(&bench);
    }
}

/* A power loss leaves a prefix: what comes behind the first bad place is not believed. Without one,
 * records behind a bad place show that it is damage. */
static void test_records_behind_a_bad_one_count_only_where_no_power_was_lost(void **state)
{
    (void)state;
    for (int skip = 0; skip < 2; skip++) {
        struct bench bench = bench_start();
        uint64_t bad;
        struct tail tail;

        put(&bench, false);
        bad = put(&bench, false);
        put(&bench, false);
        put(&bench, false);
        patch(&bench, bad + 18, "?", 1);
        tail = read_all(&bench, skip);
        assert_int_equal(tail.damaged, skip);
        assert_int_equal(tail.hint.count, skip ? 3 : 1);
        assert_int_equal(tail.end, skip ? segment_tail(bench.segment) : bad);
        assert_int_equal(tail.bad_bytes, skip ? 32 : 96 - 7); /* the last 7 are padding */
        tail_release(&tail);
        bench_stop(&bench);
    }
}

/* Zeros are the end of a log, unless something stands behind them: then a block was wiped out. */
static void test_zeros_in_front_of_records_are_damage_where_no_power_was_lost(void **state)
{
    static const char zeros[64];

    (void)state;
    for (unsigned at = 0; at < 3; at++) {
        struct bench bench = bench_start();
        struct tail tail;

        for (int i = 0; i < 5; i++)
            put(&bench, false);
        patch(&bench, SEGMENT_HEADER_BYTES + at * 32, zeros, 64);
        tail = read_all(&bench, true);
        assert_true(tail.damaged);
        assert_int_equal(tail.hint.count, 3);
        assert_int_equal(tail.bad_bytes, 64);
        assert_int_equal(tail.end, segment_tail(bench.segment));
        tail_release(&tail);
        bench_stop(&bench);
    }
}

/* What was durable cannot be a torn tail, whatever happened to the machine. */
static void test_what_is_bad_below_the_settled_length_is_damage(void **state)
{
    static const char zeros[96];

    (void)state;
    for (int skip = 0; skip < 2; skip++)
        for (int zeroed = 0; zeroed < 2; zeroed++) {
            struct bench bench = bench_start();
            uint64_t bad;
            uint64_t settled;
            struct tail tail;

            put(&bench, false);
            bad = put(&bench, false);
            put(&bench, false);
            put(&bench, false);
            settled = segment_tail(bench.segment);
            put(&bench, false);
            patch(&bench, bad, zeroed ? zeros : "?????", zeroed ? 64 : 5);
            tail = read_settled(&bench, settled, skip);
            assert_true(tail.damaged);
            assert_int_equal(tail.hint.count, zeroed ? 3 : 4);
            assert_int_equal(tail.bad_bytes, zeroed ? 64 : 32);
            assert_int_equal(tail.end, segment_tail(bench.segment));
            tail_release(&tail);
            /* The last of it: nothing follows that would prove it. */
            patch(&bench, settled - 32, zeros, 64);
            tail = read_settled(&bench, settled, skip);
            assert_true(tail.damaged);
            assert_int_equal(tail.hint.count, zeroed ? 1 : 2);
            tail_release(&tail);
            bench_stop(&bench);
        }
}

static void test_damage_inside_a_batch_takes_the_whole_batch(void **state)
{
    (void)state;
    for (uint64_t piece = 0; piece < 5; piece++) {
        struct bench bench = bench_start();
        struct tail tail;

        put(&bench, false);
        put(&bench, true);
        put(&bench, true);
        put(&bench, true);
        end_batch(&bench, 3, 5); /* 17 + 13 bytes: 32 as well */
        put(&bench, true);
        end_batch(&bench, 1, 6);
        patch(&bench, SEGMENT_HEADER_BYTES + piece * 32 + 19, "?", 1);
        tail = read_all(&bench, true);
        assert_true(tail.damaged);
        assert_int_equal(tail.hint.count, piece == 0 ? 4 : 2);
        assert_int_equal(tail.batch_count, piece == 0 ? 2 : 1);
        assert_int_equal(tail.batches[tail.batch_count - 1].end.number, 6);
        tail_release(&tail);
        bench_stop(&bench);
    }
}

/* ---- cutting --------------------------------------------------------------------------------- */

static void test_a_cut_takes_everything_from_there_on(void **state)
{
    struct bench bench = bench_start();
    uint64_t offsets[8];
    struct tail tail;

    (void)state;
    offsets[0] = put(&bench, false);
    offsets[1] = put(&bench, true);
    end_batch(&bench, 1, 5);
    offsets[2] = put(&bench, true);
    end_batch(&bench, 1, 6);
    offsets[3] = put(&bench, false);
    seal(&bench);
    tail = read_all(&bench, false);
    assert_true(tail.sealed);
    tail_cut(&tail, segment_tail(bench.segment));
    assert_int_equal(tail.hint.count, 4);
    tail_cut(&tail, offsets[2]);
    assert_false(tail.sealed);
    assert_int_equal(tail.end, offsets[2]);
    assert_int_equal(tail.hint.count, 2);
    assert_int_equal(tail.batch_count, 1);
    assert_int_equal(tail.batches[0].offset, offsets[1]);
    tail_cut(&tail, offsets[3]); /* never longer again */
    assert_int_equal(tail.end, offsets[2]);
    tail_cut(&tail, SEGMENT_HEADER_BYTES);
    assert_int_equal(tail.hint.count, 0);
    assert_int_equal(tail.batch_count, 0);
    tail_release(&tail);
    bench_stop(&bench);
}

/* ---- beside a live writer -------------------------------------------------------------------- */

struct finisher {
    struct segment *segment;
    uint8_t bytes[5];
    uint64_t offset;
};

static void *finish_later(void *argument)
{
    struct finisher *finisher = argument;

    pause_us(5000);
    CHECK_OK(io_write(finisher->segment->file, finisher->offset, finisher->bytes, 5));
    return NULL;
}

static void test_a_reader_waits_for_a_record_on_its_way(void **state)
{
    struct bench bench = bench_start();
    struct finisher finisher = {.segment = bench.segment};
    struct tail tail;
    pthread_t thread;

    (void)state;
    put(&bench, false);
    finisher.offset = put(&bench, false) + 20;
    memcpy(finisher.bytes, bench.segment->map + finisher.offset, 5);
    patch(&bench, finisher.offset, "\0\0\0\0\0", 5);
    bench.rig->env.read_only = true;
    assert_int_equal(pthread_create(&thread, NULL, finish_later, &finisher), 0);
    tail = read_all(&bench, true);
    pthread_join(thread, NULL);
    assert_int_equal(tail.hint.count, 2);
    assert_int_equal(tail.bad_bytes, 0);
    tail_release(&tail);
    bench.rig->env.read_only = false;
    bench_stop(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_segment_ends_behind_its_header),
        cmocka_unit_test(test_records_are_listed_in_the_order_of_the_log),
        cmocka_unit_test(test_a_seal_ends_the_walk),
        cmocka_unit_test(test_whole_batches_count_and_those_across_shards_are_noted),
        cmocka_unit_test(test_a_batch_without_its_end_is_no_part_of_the_log),
        cmocka_unit_test(test_a_batch_of_another_count_does_not_count),
        cmocka_unit_test(test_pieces_that_no_end_follows_are_left_out),
        cmocka_unit_test(test_a_batch_end_that_makes_no_sense_ends_no_batch),
        cmocka_unit_test(test_parts_of_the_tags_add_up_to_what_counts),
        cmocka_unit_test(test_a_torn_tail_is_measured_without_the_zeros_behind_it),
        cmocka_unit_test(test_records_behind_a_bad_one_count_only_where_no_power_was_lost),
        cmocka_unit_test(test_zeros_in_front_of_records_are_damage_where_no_power_was_lost),
        cmocka_unit_test(test_what_is_bad_below_the_settled_length_is_damage),
        cmocka_unit_test(test_damage_inside_a_batch_takes_the_whole_batch),
        cmocka_unit_test(test_a_cut_takes_everything_from_there_on),
        cmocka_unit_test(test_a_reader_waits_for_a_record_on_its_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
