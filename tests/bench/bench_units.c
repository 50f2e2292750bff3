/* The parts of the benchmark that compute: what they print can be no better than these. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "histogram.h"
#include "keyspace.h"
#include "merge.h"
#include "options.h"
#include "series.h"
#include "summary.h"
#include "ticks.h"

static void test_order_visits_each_id_once(void **state)
{
    (void)state;
    static const uint64_t nums[] = {1, 2, 3, 5, 64, 65, 1000, 4095, 4096, 4097, 100003};
    for (size_t n = 0; n < sizeof nums / sizeof nums[0]; n++) {
        for (uint64_t salt = 0; salt < 5; salt++) {
            struct order order;
            order_init(&order, nums[n], salt);
            uint8_t *seen = calloc(nums[n], 1);
            assert_non_null(seen);
            for (uint64_t i = 0; i < nums[n]; i++) {
                uint64_t id = order_at(&order, i);
                assert_in_range(id, 0, nums[n] - 1);
                assert_int_equal(seen[id], 0);
                seen[id] = 1;
            }
            free(seen);
        }
    }
}

/* Log engines read fast what lies in the order of writing: no stretch of one order may follow
 * another. Of 100,000 steps, chance leaves about one that goes to the next id. */
static void test_orders_are_unrelated(void **state)
{
    (void)state;
    struct order first;
    struct order second;
    const uint64_t num = 100000;
    order_init(&first, num, 1);
    order_init(&second, num, 2);
    uint64_t *position = calloc(num, sizeof *position);
    assert_non_null(position);
    for (uint64_t i = 0; i < num; i++) {
        position[order_at(&first, i)] = i;
    }
    unsigned close = 0;
    double distance = 0.0;
    for (uint64_t i = 1; i < num; i++) {
        int64_t step = (int64_t)(position[order_at(&second, i)] -
                                 position[order_at(&second, i - 1)]);
        close += step > -8 && step < 8;
        distance += (double)llabs(step);
    }
    free(position);
    assert_in_range(close, 0, 60); /* by chance: 14 */
    distance /= (double)num;
    assert_true(distance > 0.25 * (double)num && distance < 0.42 * (double)num); /* a third */
}

static int compare_keys(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

static void test_keys_are_distinct(void **state)
{
    (void)state;
    const struct keyspace keyspace = {1, 16, 100};
    enum { COUNT = 20000 };
    uint8_t(*keys)[16] = calloc(COUNT, sizeof *keys);
    assert_non_null(keys);
    for (uint64_t id = 0; id < COUNT; id++) {
        keyspace_key(&keyspace, id, keys[id]);
    }
    qsort(keys, COUNT, sizeof *keys, compare_keys);
    for (size_t i = 1; i < COUNT; i++) {
        assert_int_not_equal(memcmp(keys[i - 1], keys[i], 16), 0);
    }
    free(keys);
}

static void test_check_finds_every_wrong_byte(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 7, 8, 9, 100};
    uint8_t value[100 + KEYSPACE_SLACK];
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const struct keyspace keyspace = {1, 16, sizes[s]};
        keyspace_value(&keyspace, 5, 2, value);
        assert_true(keyspace_check(&keyspace, 5, 2, (struct cask_slice){value, sizes[s]}));
        for (size_t i = 0; i < sizes[s]; i++) {
            value[i] ^= 1;
            assert_false(keyspace_check(&keyspace, 5, 2, (struct cask_slice){value, sizes[s]}));
            value[i] ^= 1;
        }
        assert_false(keyspace_check(&keyspace, 5, 2, (struct cask_slice){value, sizes[s] + 1}));
        if (sizes[s] >= 7) {
            struct cask_slice slice = {value, sizes[s]};
            assert_false(keyspace_check(&keyspace, 5, 1, slice));
            assert_false(keyspace_check(&keyspace, 6, 2, slice));
        }
    }
}

static void test_keys_are_written_with_no_more_than_the_slack(void **state)
{
    (void)state;
    uint8_t key[48];
    for (size_t size = KEYSPACE_KEY_MIN; size < sizeof key - KEYSPACE_SLACK; size++) {
        const struct keyspace keyspace = {1, size, 0};
        memset(key, 0xee, sizeof key);
        keyspace_key(&keyspace, 3, key);
        for (size_t i = size + KEYSPACE_SLACK; i < sizeof key; i++) {
            assert_int_equal(key[i], 0xee);
        }
    }
}

static void test_histogram_buckets_are_tight_and_in_order(void **state)
{
    (void)state;
    unsigned last = 0;
    for (uint64_t value = 1; value < 1u << 20; value++) {
        unsigned bucket = histogram_bucket(value);
        assert_true(bucket == last || bucket == last + 1);
        last = bucket;
    }
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void test_percentiles_are_within_two_percent(void **state)
{
    (void)state;
    static struct histogram histogram;
    static struct histogram other;
    memset(&histogram, 0, sizeof histogram);
    memset(&other, 0, sizeof other);
    assert_int_equal(histogram_percentile(&histogram, 0.5), 0);
    for (uint64_t value = 1; value <= 100000; value++) {
        histogram_add(value % 2 == 0 ? &histogram : &other, value);
    }
    histogram_merge(&histogram, &other);
    assert_in_range(histogram_percentile(&histogram, 0.50), 50000, 51000);
    assert_in_range(histogram_percentile(&histogram, 0.99), 99000, 100000);
    assert_int_equal(histogram_percentile(&histogram, 1.0), 100000);
    assert_int_equal(histogram.max, 100000);
}

static void test_ticks_run_at_the_rate_of_the_clock(void **state)
{
    (void)state;
    ticks_init();
    uint64_t ns = clock_ns();
    uint64_t ticks = ticks_now();
    while (clock_ns() - ns < 20000000) {
    }
    double by_ticks = ticks_to_ns(ticks_now() - ticks);
    double by_clock = (double)(clock_ns() - ns);
    assert_true(by_ticks > 0.8 * by_clock && by_ticks < 1.2 * by_clock);
}

static void add(struct results *results, const char *engine, const char *workload, unsigned threads,
                unsigned round, double ns_per_op)
{
    struct result result = {.threads = threads, .round = round, .num = 1000, .ops = 1000};
    strcpy(result.engine, engine);
    strcpy(result.workload, workload);
    result.seconds = ns_per_op * 1000 / 1e9;
    assert_int_equal(results_add(results, &result), 0);
}

static void test_median_of_odd_and_even_counts(void **state)
{
    (void)state;
    double odd[] = {5.0, 1.0, 3.0};
    double even[] = {4.0, 1.0, 3.0, 2.0};
    assert_true(summary_median(odd, 3) > 2.99 && odd[1] < 3.01);
    double median = summary_median(even, 4);
    assert_true(median > 2.49 && median < 2.51);
}

static void test_ratio_compares_within_rounds(void **state)
{
    (void)state;
    struct results results = {NULL, 0, 0};
    /* The machine is ten times as slow in round 2; the ratio is not. */
    add(&results, "caskade", "readrandom", 1, 1, 100);
    add(&results, "tkrzw", "readrandom", 1, 1, 200);
    add(&results, "tkrzw", "readrandom", 1, 2, 2000);
    add(&results, "caskade", "readrandom", 1, 2, 1000);
    add(&results, "caskade", "readrandom", 1, 3, 100);
    add(&results, "tkrzw", "readrandom", 1, 3, 400);
    add(&results, "tkrzw", "readrandom", 2, 3, 1); /* not meant */
    const struct summary_key own = {"caskade", "readrandom", 1};
    const struct summary_key peer = {"tkrzw", "readrandom", 1};
    const struct summary_key nobody = {"lmdb", "readrandom", 1};
    struct summary_ratio ratio = summary_compare(&results, &own, &peer);
    assert_int_equal(ratio.rounds, 3);
    assert_true(ratio.median > 1.99 && ratio.median < 2.01);
    assert_true(ratio.min > 1.99 && ratio.max > 3.99 && ratio.max < 4.01);
    assert_int_equal(summary_compare(&results, &own, &nobody).rounds, 0);
    double ns = summary_ns_per_op(&results, &own);
    assert_true(ns > 99.9 && ns < 100.1);
    results_release(&results);
}

static void test_figures_are_summed_up_over_the_rounds_that_have_them(void **state)
{
    (void)state;
    struct results results = {NULL, 0, 0};
    for (unsigned round = 1; round <= 4; round++) {
        add(&results, "caskade", "churn", 1, round, 100);
        struct result *result = &results.items[results.count - 1];
        result_add_figure(result, "merges", 10.0 * round);
        if (round % 2 == 0) {
            result_add_figure(result, "a_name_of_23_characters", 0.5);
        }
    }
    const struct summary_key key = {"caskade", "churn", 1};
    struct summary_ratio figure = summary_figure(&results, &key, "merges");
    assert_int_equal(figure.rounds, 4);
    assert_true(figure.median > 24.9 && figure.median < 25.1);
    assert_true(figure.min > 9.9 && figure.min < 10.1 && figure.max > 39.9 && figure.max < 40.1);
    assert_int_equal(summary_figure(&results, &key, "a_name_of_23_characters").rounds, 2);
    assert_int_equal(summary_figure(&results, &key, "nothing").rounds, 0);
    results_release(&results);
}

/* Ten puts a sample of 100 bytes each over 10 keys; merging after the second and the fourth. */
static const struct sample samples[] = {
    {0.0, 0, 4096, 0, 0, 0, 0},
    {1.0, 10, 5000, 1000, 1000, 0, 0},
    {2.0, 20, 2500, 1000, 2000, 0, 0},
    {3.0, 30, 1500, 1000, 3000, 2000, 500},
    {4.0, 40, 2000, 1000, 4000, 2000, 500},
    {6.0, 50, 1000, 1000, 5000, 2000, 1500},
};
#define SAMPLES (sizeof samples / sizeof samples[0])

static void test_worst_ratio_is_of_samples_from_so_many_puts_on(void **state)
{
    (void)state;
    double all = series_worst_ratio(samples, SAMPLES, 0); /* without the empty store's */
    double first = series_worst_ratio(samples, SAMPLES, 20);
    double later = series_worst_ratio(samples, SAMPLES, 21);
    assert_true(all > 4.99 && all < 5.01);
    assert_true(first > 2.49 && first < 2.51);
    assert_true(later > 1.99 && later < 2.01);
    assert_false(series_worst_ratio(samples, SAMPLES, 51) > 0.0);
    assert_false(series_worst_ratio(samples, 0, 0) > 0.0);
    assert_int_equal(series_largest_disk(samples, SAMPLES), 5000);
    assert_int_equal(series_largest_disk(samples, 0), 0);
}

static void test_merging_share_is_of_the_time(void **state)
{
    (void)state;
    double share = series_merging_share(samples, SAMPLES); /* one second, and two, of six */
    assert_true(share > 0.49 && share < 0.51);
    assert_false(series_merging_share(samples, 3) > 0.0);
    assert_false(series_merging_share(samples, 1) > 0.0);
    assert_false(series_merging_share(samples, 0) > 0.0);
}

static void test_series_are_written_whole(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    series_print_json(samples, 2, file);
    fputc('\n', file);
    series_print_data(samples + 3, 1, file);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text,
                        "\"series_columns\": [\"seconds\", \"ops\", \"disk_bytes\", "
                        "\"live_bytes\", \"written_bytes\", \"merge_read_bytes\", "
                        "\"merge_written_bytes\"], \"series\": [[0.000, 0, 4096, 0, 0, 0, 0], "
                        "[1.000, 10, 5000, 1000, 1000, 0, 0]]\n"
                        "seconds\tops\tdisk\tlive\twritten\tmerge read\tmerge written\n"
                        "3.000\t30\t1500\t1000\t3000\t2000\t500\n");
    free(text);
}

static void test_figures_and_skips_are_printed(void **state)
{
    (void)state;
    struct result result = {.engine = "lmdb", .workload = "churn", .threads = 2, .round = 1};
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    result.skipped = true;
    result_print(&result, file);
    result_print_json(&result, file);
    result.skipped = false;
    result.ops = 1;
    result_add_figure(&result, "merges", 7.0);
    result_print_json(&result, file);
    assert_int_equal(fclose(file), 0);
    assert_non_null(strstr(text, "churn        : skipped: lmdb has no merge\n"));
    assert_non_null(strstr(text, "\"round\": 1, \"skipped\": true}\n"));
    assert_non_null(strstr(text, ", \"figures\": {\"merges\": 7}}\n"));
    free(text);
}

static enum options_outcome parse(struct options *options, const char *arguments)
{
    static char text[512];
    char *argv[32] = {"caskade-bench"};
    int argc = 1;
    strcpy(text, arguments);
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    return options_parse(options, argc, argv);
}

static void test_options_are_read(void **state)
{
    (void)state;
    struct options options;
    assert_int_equal(parse(&options, "--engines caskade --workloads readrandom,batch --num 77 "
                                     "--key-size 20 --value-size 0 --threads 1,2,16 --rounds 3 "
                                     "--dir /tmp --seed 9 --json x --no-latency "
                                     "--churn-rounds 8 --segment-bytes 65536"),
                     OPTIONS_RUN);
    assert_int_equal(options.engine_count, 1);
    assert_int_equal(options.workload_count, 2);
    assert_string_equal(options.workloads[1]->name, "batch");
    assert_int_equal(options.num, 77);
    assert_int_equal(options.key_bytes, 20);
    assert_int_equal(options.value_bytes, 0);
    assert_int_equal(options.thread_count, 3);
    assert_int_equal(options.threads[2], 16);
    assert_int_equal(options.rounds, 3);
    assert_string_equal(options.json, "x");
    assert_int_equal(options.churn_rounds, 8);
    assert_int_equal(options.segment_bytes, 65536);
    assert_false(options.latency);
    assert_true(options.warm);
}

static void test_merge_workloads_are_known(void **state)
{
    (void)state;
    struct options options;
    assert_int_equal(parse(&options, "--dir /tmp --workloads "
                                     "churn,dictionary,mergelatency,mergespeed,fillrandom"),
                     OPTIONS_RUN);
    assert_int_equal(options.workload_count, 5);
    assert_int_equal(options.churn_rounds, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(merge_is_about(options.workloads[i]->kind), i < 4);
    }
}

static void test_wrong_options_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "--dir /tmp --engines nosuch",
        "--dir /tmp --engines caskade --workloads nosuch",
        "--dir /tmp --num 0",
        "--dir /tmp --num 1x",
        "--dir /tmp --num -1",
        "--dir /tmp --num 99999999999999999999999",
        "--dir /tmp --key-size 7",
        "--dir /tmp --threads 0",
        "--dir /tmp --threads 1,,2",
        "--dir /tmp --engines ,",
        "--dir /tmp --threads 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
        "--dir /tmp --workloads ,",
        "--dir /tmp --rounds",
        "--dir /tmp --churn-rounds 0",
        "--dir /tmp --segment-bytes 255",
        "--dir /tmp --segment-bytes 2147483649",
        "--dir /tmp --nosuch",
        "--dir /tmp stray",
    };
    struct options options;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(parse(&options, wrong[i]), OPTIONS_USAGE);
    }
    if (engine_find("lmdb")->engine != NULL) {
        assert_int_equal(parse(&options, "--dir /tmp --engines lmdb --key-size 512"),
                         OPTIONS_USAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_visits_each_id_once),
        cmocka_unit_test(test_orders_are_unrelated),
        cmocka_unit_test(test_keys_are_distinct),
        cmocka_unit_test(test_check_finds_every_wrong_byte),
        cmocka_unit_test(test_keys_are_written_with_no_more_than_the_slack),
        cmocka_unit_test(test_histogram_buckets_are_tight_and_in_order),
        cmocka_unit_test(test_percentiles_are_within_two_percent),
        cmocka_unit_test(test_ticks_run_at_the_rate_of_the_clock),
        cmocka_unit_test(test_median_of_odd_and_even_counts),
        cmocka_unit_test(test_ratio_compares_within_rounds),
        cmocka_unit_test(test_options_are_read),
        cmocka_unit_test(test_merge_workloads_are_known),
        cmocka_unit_test(test_wrong_options_are_refused),
        cmocka_unit_test(test_figures_are_summed_up_over_the_rounds_that_have_them),
        cmocka_unit_test(test_worst_ratio_is_of_samples_from_so_many_puts_on),
        cmocka_unit_test(test_merging_share_is_of_the_time),
        cmocka_unit_test(test_series_are_written_whole),
        cmocka_unit_test(test_figures_and_skips_are_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
