/* store/options: defaults, ranges, and what cannot be honoured is refused. */
#include "unit_store.h"

#include "store/store.h"

static int fill(const struct cask_options *options, struct cask_options *ret_filled)
{
    struct reporter nobody = {NULL, NULL};

    return options_fill(options, &nobody, "x", ret_filled);
}

static struct cask_options zeroed(void)
{
    return (struct cask_options){.size = sizeof(struct cask_options)};
}

static int status_of(struct cask_options options)
{
    struct cask_options filled;

    return fill(&options, &filled);
}

#define WITH(field, content)                                                                       \
    ((struct cask_options){.size = sizeof(struct cask_options), .field = (content)})

static void test_no_options_and_zeroed_options_mean_the_defaults(void **state)
{
    struct cask_options options = zeroed();
    const struct cask_options *both[] = {NULL, &options};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(both); i++) {
        struct cask_options filled;

        assert_ok(fill(both[i], &filled));
        assert_int_equal(filled.size, sizeof filled);
        assert_int_equal(options_shards(&filled), 16);
        assert_int_equal(filled.sync_mode, CASK_SYNC_NONE);
        assert_int_equal(filled.read_mode, CASK_READ_MAPPED);
        assert_int_equal(filled.verify_reads, CASK_SWITCH_ON);
        assert_int_equal(filled.create, CASK_CREATE_IF_MISSING);
        assert_true(filled.index_memory == (uint64_t)1 << 30);
        assert_true(filled.segment_bytes == (uint64_t)64 << 20);
        assert_int_equal(filled.read_only, 0);
    }
}

static void test_what_is_set_is_kept(void **state)
{
    struct cask_options options = zeroed();
    struct cask_options filled;

    (void)state;
    options.shard_count = 4;
    options.sync_mode = CASK_SYNC_INTERVAL;
    options.sync_interval_ms = 250;
    options.write_mode = CASK_WRITE_SYSCALL;
    options.read_mode = CASK_READ_PREAD;
    options.verify_reads = CASK_SWITCH_OFF;
    options.create = CASK_CREATE_NEW;
    options.index_memory = 5 << 20;
    options.segment_bytes = 4096;
    options.merge = CASK_SWITCH_OFF;
    options.merge_trigger_percent = 20;
    options.merge_segment_percent = 30;
    options.merge_at_once = 4;
    options.merge_bytes_per_second = 1000000;
    options.merge_from_hour = 22;
    options.merge_until_hour = 6;
    options.log = log_lines_collect;
    options.log_context = &filled;
    assert_ok(fill(&options, &filled));
    assert_memory_equal(&filled, &options, sizeof filled);
}

/* A program that was compiled with an older header has a shorter structure. */
static void test_a_shorter_structure_is_filled_up(void **state)
{
    struct cask_options options = zeroed();
    struct cask_options filled;

    (void)state;
    options.size = offsetof(struct cask_options, sync_mode);
    options.shard_count = 8;
    options.segment_bytes = 1; /* not looked at */
    assert_ok(fill(&options, &filled));
    assert_int_equal(filled.shard_count, 8);
    assert_true(filled.segment_bytes == (uint64_t)64 << 20);
    assert_int_equal(filled.size, sizeof filled);
}

static void test_sizes_that_are_none_are_refused(void **state)
{
    (void)state;
    assert_int_equal(status_of((struct cask_options){.size = 0}), CASK_EINVAL);
    assert_int_equal(status_of((struct cask_options){.size = sizeof(struct cask_options) + 1}),
                     CASK_EINVAL);
    assert_int_equal(status_of((struct cask_options){.size = SIZE_MAX}), CASK_EINVAL);
}

static void test_shard_counts_are_powers_of_two_up_to_256(void **state)
{
    (void)state;
    for (uint32_t count = 1; count < 1000; count++)
        assert_int_equal(status_of(WITH(shard_count, count)),
                         count <= 256 && (count & (count - 1)) == 0 ? CASK_OK : CASK_EINVAL);
    assert_int_equal(status_of(WITH(shard_count, UINT32_MAX)), CASK_EINVAL);
    assert_int_equal(status_of(WITH(shard_count, (uint32_t)1 << 31)), CASK_EINVAL);
}

static void test_numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    assert_int_equal(status_of(WITH(index_memory, 1)), CASK_EINVAL);
    assert_int_equal(status_of(WITH(index_memory, (1 << 20) - 1)), CASK_EINVAL);
    assert_int_equal(status_of(WITH(index_memory, 1 << 20)), CASK_OK);
    assert_int_equal(status_of(WITH(index_memory, UINT64_MAX)), CASK_EINVAL);
    assert_int_equal(status_of(WITH(segment_bytes, 255)), CASK_EINVAL);
    assert_int_equal(status_of(WITH(segment_bytes, 256)), CASK_OK);
    assert_int_equal(status_of(WITH(segment_bytes, (uint64_t)2 << 30)), CASK_OK);
    assert_int_equal(status_of(WITH(segment_bytes, ((uint64_t)2 << 30) + 1)), CASK_EINVAL);
    assert_int_equal(status_of(WITH(segment_bytes, UINT64_MAX)), CASK_EINVAL);
}

static void test_values_outside_their_enumeration_are_refused(void **state)
{
    static const int wrong[] = {4, 5, 99, -1};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_int_equal(status_of(WITH(sync_mode, (enum cask_sync_mode)wrong[i])), CASK_EINVAL);
        assert_int_equal(status_of(WITH(write_mode, (enum cask_write_mode)wrong[i])), CASK_EINVAL);
        assert_int_equal(status_of(WITH(read_mode, (enum cask_read_mode)wrong[i])), CASK_EINVAL);
        assert_int_equal(status_of(WITH(verify_reads, (enum cask_switch)wrong[i])), CASK_EINVAL);
        assert_int_equal(status_of(WITH(create, (enum cask_create_mode)wrong[i])), CASK_EINVAL);
    }
    assert_int_equal(status_of(WITH(write_mode, (enum cask_write_mode)3)), CASK_EINVAL);
    assert_int_equal(status_of(WITH(read_mode, (enum cask_read_mode)3)), CASK_EINVAL);
    assert_int_equal(status_of(WITH(verify_reads, (enum cask_switch)3)), CASK_EINVAL);
}

static void test_an_interval_goes_with_its_mode_only(void **state)
{
    struct cask_options options = zeroed();

    (void)state;
    options.sync_interval_ms = 100;
    assert_int_equal(status_of(options), CASK_EINVAL);
    options.sync_mode = CASK_SYNC_ALWAYS;
    assert_int_equal(status_of(options), CASK_EINVAL);
    options.sync_mode = CASK_SYNC_INTERVAL;
    assert_int_equal(status_of(options), CASK_OK);
    options.sync_interval_ms = 3600000;
    assert_int_equal(status_of(options), CASK_OK);
    options.sync_interval_ms = 3600001;
    assert_int_equal(status_of(options), CASK_EINVAL);
}

static void test_a_read_only_open_creates_nothing(void **state)
{
    struct cask_options options = zeroed();
    struct cask_options filled;

    (void)state;
    options.read_only = 1;
    assert_ok(fill(&options, &filled));
    assert_int_equal(filled.create, CASK_CREATE_NEVER);
    options.create = CASK_CREATE_IF_MISSING;
    assert_int_equal(status_of(options), CASK_EINVAL);
    options.create = CASK_CREATE_NEW;
    assert_int_equal(status_of(options), CASK_EINVAL);
    options.create = CASK_CREATE_NEVER;
    assert_int_equal(status_of(options), CASK_OK);
}

/* ---- by way of cask_open()
 * ------------------------------------------------------------------- */

static void test_refused_options_are_told_in_one_line_and_create_nothing(void **state)
{
    struct store *store = store_make(3);
    const char *path = path_in(store->path, "new");
    struct cask_db *db = (struct cask_db *)store;

    (void)state;
    assert_int_equal(cask_open(path, &store->options, &db), CASK_EINVAL);
    assert_ptr_equal(db, store);
    assert_int_equal(log_lines_count(&store->lines, CASK_LOG_ERROR), 1);
    assert_true(log_lines_mention(&store->lines, path));
    assert_true(log_lines_mention(&store->lines, "shard_count"));
    assert_false(path_exists(path));
    store_end(store);
}

static void test_what_contradicts_the_store_is_a_mismatch(void **state)
{
    struct store *store = store_begin(4);
    uint64_t before;

    (void)state;
    put_numbers(store, 0, 20);
    store_down(store);
    before = tree_checksum(store->path);
    for (uint32_t count = 1; count <= 256; count *= 2) {
        log_lines_clear(&store->lines);
        store->options.shard_count = count;
        if (count == 4)
            continue;
        assert_int_equal(cask_open(store->path, &store->options, &store->db), CASK_EMISMATCH);
        assert_int_equal(log_lines_count(&store->lines, CASK_LOG_ERROR), 1);
    }
    store->options.shard_count = 0;
    store->options.segment_bytes = ((uint64_t)256 << 20) + 1;
    assert_int_equal(cask_open(store->path, &store->options, &store->db), CASK_EMISMATCH);
    assert_true(tree_checksum(store->path) == before);
    store->options.segment_bytes = (uint64_t)256 << 20;
    store_up(store);
    assert_int_equal(stats_of(store).shards, 4);
    check_numbers(store, 0, 20);
    store_end(store);
}

static void test_segments_as_large_as_at_creation_may_be_asked_for_again(void **state)
{
    struct store *store = store_make(1);

    (void)state;
    store->options.segment_bytes = (uint64_t)1 << 30;
    store_up(store);
    put_numbers(store, 0, 3);
    store_down(store);
    store->options.segment_bytes = 4096;
    store_up(store);
    put_numbers(store, 3, 400);
    store_down(store);
    store->options.segment_bytes = (uint64_t)1 << 30;
    store_up(store);
    check_numbers(store, 0, 400);
    store_down(store);
    store->options.segment_bytes = (uint64_t)2 << 30;
    assert_int_equal(cask_open(store->path, &store->options, &store->db), CASK_EMISMATCH);
    store->db = NULL;
    store_end(store);
}

static void test_options_are_copied(void **state)
{
    struct store *store = store_make(2);
    struct cask_options *options = malloc(sizeof *options);

    (void)state;
    *options = store->options;
    assert_ok(cask_open(store->path, options, &store->db));
    memset(options, 0xee, sizeof *options);
    free(options);
    put_numbers(store, 0, 100);
    store_down(store);
    store_up(store);
    check_numbers(store, 0, 100);
    store_end(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_options_and_zeroed_options_mean_the_defaults),
        cmocka_unit_test(test_what_is_set_is_kept),
        cmocka_unit_test(test_a_shorter_structure_is_filled_up),
        cmocka_unit_test(test_sizes_that_are_none_are_refused),
        cmocka_unit_test(test_shard_counts_are_powers_of_two_up_to_256),
        cmocka_unit_test(test_numbers_out_of_range_are_refused),
        cmocka_unit_test(test_values_outside_their_enumeration_are_refused),
        cmocka_unit_test(test_an_interval_goes_with_its_mode_only),
        cmocka_unit_test(test_a_read_only_open_creates_nothing),
        cmocka_unit_test(test_refused_options_are_told_in_one_line_and_create_nothing),
        cmocka_unit_test(test_what_contradicts_the_store_is_a_mismatch),
        cmocka_unit_test(test_segments_as_large_as_at_creation_may_be_asked_for_again),
        cmocka_unit_test(test_options_are_copied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
