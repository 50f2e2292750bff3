/* merge/check: a merge whose sifting missed a record that lives is given up. */
#include "unit_store.h"

#include "merge/merge_internal.h"
#include "store/store.h"

#define INPUTS_MAX 64u

struct sifted {
    struct store *store;
    struct shard *shard;
    struct segment *inputs[INPUTS_MAX];
    struct merge merge;
};

/* All sealed segments, some of whose records have been overwritten or deleted. */
static void sift(struct sifted *sifted)
{
    struct store *store = store_make(1);
    struct segment *segment;
    char key[24];

    memset(sifted, 0, sizeof *sifted);
    store->options.segment_bytes = 2048;
    store->options.merge = CASK_SWITCH_OFF;
    store_up(store);
    put_numbers(store, 0, 200);
    put_numbers(store, 50, 150);
    for (unsigned i = 100; i < 200; i += 2)
        assert_ok(cask_delete(store->db, numbered(key, i)));
    (void)stats_of(store); /* empties the stage */
    sifted->store = store;
    sifted->shard = &store->db->shards[0];
    assert_ok(shard_seal_waiting(sifted->shard, false));
    segment = segments_at_or_after(&sifted->shard->segments, 0);
    for (; segment; segment = segments_at_or_after(&sifted->shard->segments, segment->id + 1))
        if (segment->in_manifest_sealed && sifted->merge.input_count < INPUTS_MAX)
            sifted->inputs[sifted->merge.input_count++] = segment;
    assert_in_range(sifted->merge.input_count, 4, INPUTS_MAX - 1);
    sifted->merge.shard = sifted->shard;
    sifted->merge.inputs = sifted->inputs;
    assert_ok(merge_expect_survivors(&sifted->merge));
    assert_ok(merge_sift(&sifted->merge));
    assert_in_range(sifted->merge.survivor_count, 100, 250);
}

static void end(struct sifted *sifted)
{
    struct merge *merge = &sifted->merge;

    pages_free(merge->survivors, merge->survivor_room * sizeof *merge->survivors);
    store_end(sifted->store);
}

static size_t first_that_lives(const struct merge *merge)
{
    size_t at = 0;

    while (merge->survivors[at].fate != FATE_KEEP)
        at++;
    return at;
}

static void test_a_record_that_was_missed_is_noticed(void **state)
{
    struct sifted sifted;
    struct merge *merge = &sifted.merge;

    (void)state;
    sift(&sifted);
    assert_ok(merge_check(merge));
    merge->survivors[first_that_lives(merge)] = merge->survivors[--merge->survivor_count];
    assert_int_equal(merge_check(merge), CASK_ECORRUPT);
    assert_true(log_lines_mention(&sifted.store->lines, "would have lost records"));
    end(&sifted);
}

/* What is overwritten or deleted while the merge goes on need not survive. */
static void test_a_record_that_has_died_meanwhile_is_none(void **state)
{
    struct sifted sifted;

    (void)state;
    sift(&sifted);
    put_numbers(sifted.store, 0, 200);
    (void)stats_of(sifted.store);
    assert_ok(merge_check(&sifted.merge));
    sifted.merge.survivor_count = 0;
    assert_ok(merge_check(&sifted.merge));
    end(&sifted);
}

/* The index decides: figures that are too high keep nothing from being merged. */
static void test_figures_that_are_wrong_are_no_reason(void **state)
{
    struct sifted sifted;

    (void)state;
    sift(&sifted);
    sifted.inputs[0]->counts.live_bytes += 1000;
    sifted.shard->counts.live_bytes += 1000;
    assert_ok(merge_check(&sifted.merge));
    assert_int_equal(log_lines_count(&sifted.store->lines, CASK_LOG_ERROR), 0);
    end(&sifted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_record_that_was_missed_is_noticed),
        cmocka_unit_test(test_a_record_that_has_died_meanwhile_is_none),
        cmocka_unit_test(test_figures_that_are_wrong_are_no_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
