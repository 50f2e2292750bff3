/* index/runmerge: what goes in comes out, in order, but for what the resolver drops. */
#include "unit_run.h"

#include "index/runmerge.h"
#include "index/runverify.h"

#define INPUTS_MAX 8u

/* Location = version << 24 | key: of each key the highest version is kept, as if by sequence
 * number. Two keys may have one tag. */
#define KEY_BITS 24

static uint64_t key_of(uint64_t location)
{
    return location & ((1u << KEY_BITS) - 1);
}

struct resolver {
    uint64_t groups;
    uint64_t entries;
    uint64_t calls;
    size_t largest;
    int fail_with;
};

static int keep_newest(void *context, struct run_merge_entry *entries,
                       const struct run_merge_group *groups, size_t group_count)
{
    struct resolver *resolver = context;
    size_t total = 0;

    resolver->calls++;
    for (size_t g = 0; g < group_count; g++) {
        struct run_merge_entry *group = entries + groups[g].start;

        CHECK(groups[g].count >= 2, "%s", "a group of one");
        CHECK(g == 0 || groups[g].start >= groups[g - 1].start + groups[g - 1].count, "%s",
              "order");
        total += groups[g].count;
        for (uint32_t i = 0; i < groups[g].count; i++) {
            CHECK(group[i].tag == group[0].tag && group[i].keep, "%s", "not of the group");
            CHECK(i == 0 || group[i - 1].age <= group[i].age, "%s", "newest run first");
            for (uint32_t j = 0; j < groups[g].count; j++)
                if (key_of(group[j].location) == key_of(group[i].location) &&
                    group[j].location > group[i].location)
                    group[i].keep = false;
        }
    }
    resolver->groups += group_count;
    resolver->entries += total;
    resolver->largest = total > resolver->largest ? total : resolver->largest;
    return resolver->fail_with;
}

static int compare_entries(const void *a, const void *b)
{
    const struct keydir_entry *x = a;
    const struct keydir_entry *y = b;

    if (x->tag != y->tag)
        return x->tag < y->tag ? -1 : 1;
    return x->location < y->location ? -1 : x->location > y->location;
}

struct case_inputs {
    struct keydir_entry *entries[INPUTS_MAX];
    size_t counts[INPUTS_MAX];
    struct run *runs[INPUTS_MAX];
    unsigned count;
    size_t total;
};

/* Keys drawn from few enough that many are in several runs; tags from so few that keys share them.
 * */
static struct case_inputs make_inputs(struct run_place_dir *runs, unsigned count, size_t each,
                                      uint64_t keys, uint32_t tag_mask, uint64_t seed)
{
    struct case_inputs inputs = {.count = count};
    struct rng rng = {seed};

    for (unsigned i = 0; i < count; i++) {
        size_t size = each == 0 ? 0 : rng_below(&rng, each) + 1;
        struct run_summary summary;

        inputs.entries[i] = malloc((size + 1) * sizeof(struct keydir_entry));
        assert_non_null(inputs.entries[i]);
        inputs.counts[i] = size;
        inputs.total += size;
        for (size_t n = 0; n < size; n++) {
            uint64_t key = rng_below(&rng, keys);
            uint64_t version = (uint64_t)(count - i) << 10 | rng_below(&rng, 1000);

            inputs.entries[i][n].tag = (uint32_t)mix64(key) & tag_mask;
            inputs.entries[i][n].location = version << KEY_BITS | key;
        }
        qsort(inputs.entries[i], size, sizeof(struct keydir_entry), compare_entries);
        summary = run_build_all(runs, 100 + i, inputs.entries[i], size, 10);
        assert_ok(run_open_as(runs, &summary, false, &inputs.runs[i]));
    }
    return inputs;
}

static void release_inputs(struct case_inputs *inputs)
{
    for (unsigned i = 0; i < inputs->count; i++) {
        run_close(inputs->runs[i]);
        free(inputs->entries[i]);
    }
}

/* All entries sorted, those kept of each key the newest. Returns how many. */
static size_t expected_of(const struct case_inputs *inputs, struct keydir_entry *all)
{
    size_t total = 0;
    size_t kept = 0;

    for (unsigned i = 0; i < inputs->count; i++) {
        bytes_copy(all + total, inputs->entries[i], inputs->counts[i] * sizeof *all);
        total += inputs->counts[i];
    }
    qsort(all, total, sizeof *all, compare_entries);
    for (size_t i = 0; i < total; i++) {
        bool newest = true;

        for (size_t j = i + 1; j < total && all[j].tag == all[i].tag; j++)
            if (key_of(all[j].location) == key_of(all[i].location) &&
                all[j].location > all[i].location)
                newest = false;
        if (newest)
            all[kept++] = all[i];
    }
    return kept;
}

static struct run_summary merge_all(struct run_place_dir *runs, struct case_inputs *inputs,
                                    struct run_merge_options options, uint64_t *ret_dropped)
{
    struct run_build_options build_options = {inputs->total, 10};
    struct run_summary summary;
    struct run_build *build;
    struct run_merge merge;
    int status;

    assert_ok(run_build_begin(runs->place.dir, runs->place.path, &runs->config, 1, build_options,
                              &runs->budget, &build));
    assert_ok(run_merge_open(&merge, inputs->runs, inputs->count, options, &runs->budget));
    do {
        status = run_merge_step(&merge, build);
    } while (status == CASK_OK);
    assert_int_equal(status, CASK_NOTFOUND);
    assert_int_equal(merge.read, inputs->total);
    *ret_dropped = merge.dropped;
    run_merge_close(&merge);
    assert_ok(run_build_finish(build, &summary));
    return summary;
}

static void check_merge(struct run_place_dir *runs, struct case_inputs *inputs, size_t window_bytes,
                        struct resolver *resolver)
{
    struct run_merge_options options = {keep_newest, resolver, 16384, window_bytes, false};
    struct keydir_entry *all = malloc((inputs->total + 1) * sizeof *all);
    size_t kept = expected_of(inputs, all);
    uint64_t dropped;
    struct run_summary summary = merge_all(runs, inputs, options, &dropped);
    struct keydir_entry *out = malloc((kept + 1) * sizeof *out);
    struct run_cursor cursor;
    struct run *run;

    assert_int_equal(summary.count, kept);
    assert_int_equal(dropped + kept, inputs->total);
    assert_ok(run_open_as(runs, &summary, true, &run));
    assert_ok(run_verify(run, runs->place.path));
    assert_ok(run_cursor_open(&cursor, run, 0, 65536, &runs->budget));
    for (size_t i = 0; i < kept; i++) {
        assert_ok(run_cursor_next(&cursor, &out[i]));
        assert_true(i == 0 || out[i - 1].tag <= out[i].tag);
    }
    assert_int_equal(run_cursor_next(&cursor, &out[kept]), CASK_NOTFOUND);
    qsort(out, kept, sizeof *out, compare_entries); /* equal tags: the same ones, in any order */
    for (size_t i = 0; i < kept; i++)
        assert_true(out[i].tag == all[i].tag && out[i].location == all[i].location);
    run_cursor_close(&cursor);
    run_close(run);
    free(out);
    free(all);
}

static void test_of_each_key_the_newest_comes_out(void **state)
{
    static const size_t sizes[] = {0, 1, 500, 20000};
    struct run_place_dir runs = runs_start();

    (void)state;
    for (unsigned count = 1; count <= INPUTS_MAX; count += 3) {
        for (size_t s = 0; s < COUNT_OF(sizes); s++) {
            struct case_inputs inputs = make_inputs(&runs, count, sizes[s], sizes[s] * 2 + 1,
                                                    UINT32_MAX, s * 10 + count);
            struct resolver resolver = {0};

            check_merge(&runs, &inputs, 0, &resolver);
            assert_true(resolver.groups > 0 || sizes[s] <= 1 || count == 1);
            check_merge(&runs, &inputs, 16384, &resolver);
            release_inputs(&inputs);
        }
    }
    runs_stop(&runs);
}

static void test_keys_that_share_a_tag_stay_apart(void **state)
{
    struct run_place_dir runs = runs_start();
    struct case_inputs inputs = make_inputs(&runs, 5, 5000, 4000, 0xff0000ff, 9);
    struct resolver resolver = {0};

    (void)state;
    check_merge(&runs, &inputs, 0, &resolver);
    check_merge(&runs, &inputs, 20000, &resolver);
    release_inputs(&inputs);
    runs_stop(&runs);
}

static void test_the_resolver_is_asked_about_many_at_a_time(void **state)
{
    struct run_place_dir runs = runs_start();
    struct case_inputs inputs = make_inputs(&runs, 4, 40000, 50000, UINT32_MAX, 2);
    struct resolver resolver = {0};

    (void)state;
    check_merge(&runs, &inputs, 0, &resolver);
    assert_true(resolver.calls <= resolver.entries / 4000 + 1);
    assert_true(resolver.largest < 4096 + 100);
    release_inputs(&inputs);
    runs_stop(&runs);
}

/* More entries of one tag than the window holds. */
static void test_a_tag_larger_than_the_window_is_resolved_whole(void **state)
{
    struct run_place_dir runs = runs_start();
    struct case_inputs inputs = make_inputs(&runs, 3, 3000, 500, 1, 4);
    struct resolver resolver = {0};

    (void)state;
    check_merge(&runs, &inputs, 16384, &resolver);
    assert_true(resolver.groups <= 2);
    release_inputs(&inputs);
    runs_stop(&runs);
}

static void test_errors_end_the_merge(void **state)
{
    struct run_place_dir runs = runs_start();
    struct case_inputs inputs = make_inputs(&runs, 3, 3000, 500, UINT32_MAX, 4);
    struct resolver resolver = {.fail_with = CASK_EIO};
    struct run_merge_options options = {keep_newest, &resolver, 0, 0, false};
    struct run_build_options build_options = {1000, 0};
    uint64_t limit = runs.budget.limit_bytes;
    struct run_build *build;
    struct run_merge merge;
    unsigned refused = 0;

    (void)state;
    assert_ok(run_build_begin(runs.place.dir, runs.place.path, &runs.config, 1, build_options,
                              &runs.budget, &build));
    assert_ok(run_merge_open(&merge, inputs.runs, inputs.count, options, &runs.budget));
    assert_int_equal(run_merge_step(&merge, build), CASK_EIO);
    run_merge_close(&merge);
    run_build_abort(build);

    for (runs.budget.limit_bytes = budget_used(&runs.budget);; runs.budget.limit_bytes += 4096) {
        uint64_t used = budget_used(&runs.budget);
        int status = run_merge_open(&merge, inputs.runs, inputs.count, options, &runs.budget);

        if (status == CASK_OK)
            break;
        assert_int_equal(status, CASK_ENOMEM);
        assert_int_equal(budget_used(&runs.budget), used);
        refused++;
    }
    run_merge_close(&merge);
    assert_in_range(refused, 8, 40);
    runs.budget.limit_bytes = limit;
    release_inputs(&inputs);
    runs_stop(&runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of_each_key_the_newest_comes_out),
        cmocka_unit_test(test_keys_that_share_a_tag_stay_apart),
        cmocka_unit_test(test_the_resolver_is_asked_about_many_at_a_time),
        cmocka_unit_test(test_a_tag_larger_than_the_window_is_resolved_whole),
        cmocka_unit_test(test_errors_end_the_merge),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
