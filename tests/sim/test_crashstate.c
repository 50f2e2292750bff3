/* What is taken for a legal state after a crash (crashstate.h), each rule with the smallest run
 * that shows it. Contents are told by one letter per page of four bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "caskade.h"
#include "crashstate.h"
#include "io/io.h"
#include "simdisk.h"

static struct io_dir *root;

static int start(void **state)
{
    (void)state;
    simdisk_reset(1);
    return io_dir_make("/t") == CASK_OK && io_dir_open("/t", &root) == CASK_OK ? 0 : 1;
}

static int stop(void **state)
{
    (void)state;
    simdisk_set_fault(NULL);
    simdisk_ignore_file_sync(NULL);
    simdisk_ignore_dir_sync(NULL);
    if (root)
        io_dir_close(root);
    root = NULL;
    simdisk_check();
    return simdisk_open_handles() == 0 && simdisk_open_maps() == 0 ? 0 : 1;
}

static struct io_file *create(const char *name)
{
    struct io_file *file;

    assert_int_equal(io_open(root, name, IO_CREATE_NEW, &file), CASK_OK);
    return file;
}

/* Everything so far is durable; the log starts here. */
static void settle(void)
{
    simdisk_record_begin();
}

static void write_at(struct io_file *file, size_t offset, const char *text)
{
    assert_int_equal(io_write(file, offset, text, strlen(text)), CASK_OK);
}

/* The set of contents of one file over all visited states: text, or "-" if the name is not
 * there. */
struct seen {
    const char *path;
    size_t count;
    char texts[256][40];
    bool kill[256];
};

static bool note_text(void *context, const struct crash_state *state)
{
    const struct simimage_entry *entry;
    struct seen *seen = context;
    char text[40] = "-";

    entry = simimage_find(state->image, seen->path);
    if (entry && entry->blob) {
        size_t used = 0;

        for (size_t i = 0; i < entry->blob->size && used < sizeof text - 1; i++) {
            char c = (char)entry->blob->bytes[i];

            if (i % 4 == 0) /* one of four: files are small pages of four bytes */
                text[used++] = c ? c : '0';
        }
        text[used] = '\0';
    }
    for (size_t i = 0; i < seen->count; i++)
        if (strcmp(seen->texts[i], text) == 0 && seen->kill[i] == state->kill)
            return true;
    assert_true(seen->count < 256);
    snprintf(seen->texts[seen->count], sizeof seen->texts[0], "%s", text);
    seen->kill[seen->count++] = state->kill;
    return true;
}

static bool has(const struct seen *seen, const char *text, bool kill)
{
    for (size_t i = 0; i < seen->count; i++)
        if (strcmp(seen->texts[i], text) == 0 && seen->kill[i] == kill)
            return true;
    return false;
}

/* All states of the log's end that the generator finds, with pages and sectors of page_bytes. */
static void collect(struct seen *seen, const char *path, size_t page_bytes)
{
    struct crash_limits limits = {.seed = 7, .pairs = 60, .random = 400, .total = SIZE_MAX};
    struct simlog *log = simdisk_record_end();
    struct crash_tracker *tracker = crash_tracker_create(log, page_bytes, page_bytes);

    memset(seen, 0, sizeof *seen);
    seen->path = path;
    crash_tracker_advance(tracker, log->count);
    crash_states(tracker, &limits, note_text, seen);
    crash_tracker_release(tracker);
    simlog_release(log);
}

static void expect_power_states(const struct seen *seen, size_t count, ...)
{
    size_t power = 0;
    va_list texts;

    va_start(texts, count);
    for (size_t i = 0; i < count; i++) {
        const char *text = va_arg(texts, const char *);

        if (!has(seen, text, false))
            fail_msg("state \"%s\" is missing", text);
    }
    va_end(texts);
    for (size_t i = 0; i < seen->count; i++)
        power += !seen->kill[i];
    if (power != count)
        for (size_t i = 0; i < seen->count; i++)
            print_message("state \"%s\" %d\n", seen->texts[i], seen->kill[i]);
    assert_int_equal(power, count);
}

static void test_pages_get_through_independently(void **state)
{
    struct io_file *file = create("f");
    struct seen seen;

    (void)state;
    write_at(file, 0, "aaaabbbbcccc");
    settle();
    write_at(file, 0, "AAAA");
    write_at(file, 4, "BBBB");
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 4, "abc", "Abc", "aBc", "ABc");
    assert_true(has(&seen, "ABc", true));
    io_close(file);
}

static void test_a_page_holds_the_bytes_of_one_moment(void **state)
{
    struct io_file *file = create("f");
    struct seen seen;

    (void)state;
    write_at(file, 0, "aaaabbbb");
    settle();
    write_at(file, 0, "1111");
    write_at(file, 0, "2222");
    write_at(file, 0, "3333");
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 4, "ab", "1b", "2b", "3b");
    io_close(file);
}

static void test_a_synced_write_is_there(void **state)
{
    struct io_file *file = create("f");
    struct seen seen;

    (void)state;
    write_at(file, 0, "aaaabbbb");
    settle();
    write_at(file, 0, "AAAA");
    assert_int_equal(io_sync(file), CASK_OK);
    write_at(file, 4, "BBBB");
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 2, "Ab", "AB");
    io_close(file);
}

static void test_a_mapped_store_is_a_write(void **state)
{
    struct io_file *file = create("f");
    struct seen seen;
    void *map;

    (void)state;
    write_at(file, 0, "aaaabbbb");
    settle();
    assert_int_equal(io_map(file, 8, true, &map), CASK_OK);
    memcpy(map, "AAAABBBB", 8);
    io_map_written(file, 0, 8);
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 4, "ab", "Ab", "aB", "AB");
    io_unmap(map, 8);
    io_close(file);
}

static void test_a_sync_of_a_part_leaves_the_rest_open(void **state)
{
    struct io_file *file = create("f");
    struct seen seen;
    void *map;

    (void)state;
    write_at(file, 0, "aaaabbbbcccc");
    settle();
    assert_int_equal(io_map(file, 12, true, &map), CASK_OK);
    memcpy(map, "AAAABBBBCCCC", 12);
    io_map_written(file, 0, 12);
    assert_int_equal(io_sync_mapped(file, map, 0, 5), CASK_OK);
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 2, "ABc", "ABC");
    io_unmap(map, 12);
    io_close(file);
}

static void test_the_last_write_may_be_torn(void **state)
{
    struct io_file *file = create("f");
    struct seen seen;
    struct crash_limits limits = {.seed = 7, .total = SIZE_MAX};
    struct crash_tracker *tracker;
    struct simlog *log;

    (void)state;
    write_at(file, 0, "aaaabbbbccccdddd");
    settle();
    write_at(file, 0, "AAAABBBBCCCCDDDD");
    log = simdisk_record_end();
    tracker = crash_tracker_create(log, 16, 4); /* one page, four sectors */
    memset(&seen, 0, sizeof seen);
    seen.path = "/t/f";
    crash_tracker_advance(tracker, log->count);
    crash_states(tracker, &limits, note_text, &seen);
    expect_power_states(&seen, 8, "abcd", "Abcd", "ABcd", "ABCd", "ABCD", "abcD", "abCD", "aBCD");
    assert_true(has(&seen, "ABCD", true));
    assert_true(has(&seen, "Abcd", true)); /* killed in the middle */
    crash_tracker_release(tracker);
    simlog_release(log);
    io_close(file);
}

static void test_sizes_and_data_get_through_independently(void **state)
{
    struct io_file *file = create("f");
    struct seen seen;

    (void)state;
    write_at(file, 0, "aaaa");
    settle();
    write_at(file, 4, "BBBB");
    assert_int_equal(io_allocate(file, 16), CASK_OK);
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 5, "a", "a0", "aB", "a000", "aB00");
    io_close(file);
}

static void test_a_cut_takes_its_bytes_along(void **state)
{
    struct io_file *file = create("f");
    struct seen seen;

    (void)state;
    write_at(file, 0, "aaaabbbbcccc");
    settle();
    assert_int_equal(io_truncate(file, 4), CASK_OK);
    assert_int_equal(io_allocate(file, 12), CASK_OK);
    write_at(file, 4, "BBBB");
    collect(&seen, "/t/f", 4);
    /* Without the cut the old bytes are there, never once the cut is. "a0c": the last page holds
     * the zeros of the cut and a torn write, the cut itself did not get through. */
    expect_power_states(&seen, 6, "abc", "aBc", "a0c", "a", "a00", "aB0");
    io_close(file);
}

static void test_a_new_file_may_be_missing_empty_or_zero(void **state)
{
    struct io_file *file;
    struct seen seen;

    (void)state;
    settle();
    file = create("f");
    write_at(file, 0, "AAAA");
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 4, "-", "", "0", "A");
    settle();
    assert_int_equal(io_truncate(file, 0), CASK_OK);
    write_at(file, 0, "BBBB");
    assert_int_equal(io_sync(file), CASK_OK);
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 1, "B");
    io_close(file);
}

static void test_a_file_sync_does_not_sync_its_name(void **state)
{
    struct io_file *file;
    struct seen seen;

    (void)state;
    settle();
    file = create("f");
    write_at(file, 0, "AAAA");
    assert_int_equal(io_sync(file), CASK_OK);
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 2, "-", "A");
    io_close(file);
    assert_int_equal(io_unlink(root, "f"), CASK_OK);
    settle();
    file = create("f");
    write_at(file, 0, "AAAA");
    assert_int_equal(io_sync(file), CASK_OK);
    assert_int_equal(io_dir_sync(root), CASK_OK);
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 1, "A");
    io_close(file);
}

static void test_renames_and_unlinks_may_be_undone(void **state)
{
    struct io_file *a = create("a");
    struct io_file *b = create("b");
    struct seen seen;

    (void)state;
    write_at(a, 0, "AAAA");
    write_at(b, 0, "BBBB");
    io_close(a);
    io_close(b);
    settle();
    assert_int_equal(io_rename(root, "a", "b"), CASK_OK);
    collect(&seen, "/t/b", 4);
    expect_power_states(&seen, 2, "A", "B");
    settle();
    assert_int_equal(io_unlink(root, "b"), CASK_OK);
    collect(&seen, "/t/b", 4);
    expect_power_states(&seen, 2, "A", "-");
    assert_true(has(&seen, "-", true));
}

static void test_a_directory_is_durable_with_its_parents_sync(void **state)
{
    struct io_dir *dir;
    struct io_file *file;
    struct seen seen;

    (void)state;
    settle();
    assert_int_equal(io_dir_make_at(root, "d"), CASK_OK);
    assert_int_equal(io_dir_open_at(root, "d", &dir), CASK_OK);
    assert_int_equal(io_open(dir, "f", IO_CREATE_NEW, &file), CASK_OK);
    write_at(file, 0, "AAAA");
    assert_int_equal(io_sync(file), CASK_OK);
    assert_int_equal(io_dir_sync(dir), CASK_OK);
    collect(&seen, "/t/d/f", 4);
    expect_power_states(&seen, 2, "-", "A");
    settle();
    write_at(file, 0, "BBBB");
    assert_int_equal(io_sync(file), CASK_OK);
    assert_int_equal(io_dir_sync_parent(dir), CASK_OK);
    collect(&seen, "/t/d/f", 4);
    expect_power_states(&seen, 1, "B");
    io_close(file);
    io_dir_close(dir);
}

static bool both_names_or_neither(void *context, const struct crash_state *state)
{
    bool *once = context;
    bool a = simimage_find(state->image, "/t/a") != NULL;
    bool b = simimage_find(state->image, "/t/b") != NULL;
    bool c = simimage_find(state->image, "/t/c") != NULL;

    assert_true(a + b + c <= 1);
    *once = *once || c;
    return true;
}

static void test_an_inode_has_one_name_in_every_state(void **state)
{
    struct crash_limits limits = {.seed = 3, .pairs = 20, .random = 200, .total = SIZE_MAX};
    struct crash_tracker *tracker;
    struct simlog *log;
    bool once = false;

    (void)state;
    io_close(create("a"));
    settle();
    assert_int_equal(io_rename(root, "a", "b"), CASK_OK);
    assert_int_equal(io_rename(root, "b", "c"), CASK_OK);
    log = simdisk_record_end();
    tracker = crash_tracker_create(log, 4, 4);
    crash_tracker_advance(tracker, log->count);
    crash_states(tracker, &limits, both_names_or_neither, &once);
    assert_true(once);
    crash_tracker_release(tracker);
    simlog_release(log);
}

/* RELIABILITY.md, kernel facts: after a failed block write the first fsync says EIO, the second 0;
 * the page cache still shows the new bytes, and after eviction the old ones return. */
static void test_a_failed_sync_loses_what_the_next_one_praises(void **state)
{
    struct simdisk_fault fault = {.nth = 1, .calls = SIMDISK_BIT(SIMDISK_SYNC), .status = CASK_EIO};
    struct io_file *file = create("f");
    struct seen seen;
    char bytes[12];

    (void)state;
    write_at(file, 0, "aaaabbbbcccc");
    settle();
    write_at(file, 0, "AAAABBBB");
    simdisk_set_fault(&fault);
    assert_int_equal(io_sync(file), CASK_EIO);
    assert_int_equal(io_sync(file), CASK_OK);
    write_at(file, 8, "CCCC");
    write_at(file, 4, "BB"); /* its page of 4 bytes is dirty once more */
    assert_int_equal(io_sync(file), CASK_OK);
    assert_int_equal(io_read(file, 0, bytes, 12, NULL), CASK_OK);
    assert_memory_equal(bytes, "AAAABBBBCCCC", 12);
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 2, "aBC", "ABC");
    io_close(file);
}

static void test_eviction_brings_the_old_bytes_back(void **state)
{
    struct simdisk_fault fault = {.nth = 1, .calls = SIMDISK_BIT(SIMDISK_SYNC), .status = CASK_EIO};
    struct io_file *file = create("f");
    struct seen seen;
    char bytes[8];

    (void)state;
    write_at(file, 0, "aaaabbbb");
    settle();
    write_at(file, 0, "AAAA");
    simdisk_set_fault(&fault);
    assert_int_equal(io_sync(file), CASK_EIO);
    assert_int_equal(io_sync(file), CASK_OK);
    simdisk_evict();
    assert_int_equal(io_read(file, 0, bytes, 8, NULL), CASK_OK);
    assert_memory_equal(bytes, "aaaabbbb", 8);
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 1, "ab");
    io_close(file);
}

static void test_an_ignored_sync_says_ok_and_does_nothing(void **state)
{
    struct io_file *file;
    struct seen seen;

    (void)state;
    settle();
    simdisk_ignore_file_sync("*/f");
    file = create("f");
    write_at(file, 0, "AAAA");
    assert_int_equal(io_sync(file), CASK_OK);
    assert_int_equal(io_dir_sync(root), CASK_OK);
    assert_int_equal(simdisk_ignored_syncs(), 1);
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 3, "", "0", "A");
    simdisk_ignore_file_sync(NULL);
    simdisk_ignore_dir_sync("/t");
    assert_int_equal(io_unlink(root, "f"), CASK_OK);
    settle();
    io_close(file);
    file = create("f");
    assert_int_equal(io_dir_sync(root), CASK_OK);
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 2, "-", "");
    io_close(file);
}

static void test_a_resumed_log_still_loses_what_was_not_synced(void **state)
{
    struct io_file *file = create("f");
    struct simimage *image;
    struct simlog *log;
    struct seen seen;

    (void)state;
    write_at(file, 0, "aaaabbbb");
    settle();
    write_at(file, 0, "AAAA");
    io_close(file);
    io_dir_close(root);
    log = simdisk_record_end();
    image = crash_image_all(log, log->count); /* a kill */
    simdisk_load(image, SIMDISK_SAME_BOOT);
    simdisk_record_resume(log, log->count);
    assert_int_equal(io_dir_open("/t", &root), CASK_OK);
    assert_int_equal(io_open(root, "f", IO_WRITE, &file), CASK_OK);
    write_at(file, 4, "BBBB");
    collect(&seen, "/t/f", 4);
    expect_power_states(&seen, 4, "ab", "aB", "Ab", "AB");
    io_close(file);
    simimage_release(image);
    simlog_release(log);
}

static bool count_states(void *context, const struct crash_state *state)
{
    (void)state;
    ++*(size_t *)context;
    return true;
}

static void test_a_limit_is_kept_and_visits_may_stop(void **state)
{
    struct crash_limits limits = {.seed = 3, .pairs = 20, .random = 200, .total = 17};
    struct io_file *file = create("f");
    struct crash_tracker *tracker;
    struct simlog *log;
    size_t count = 0;

    (void)state;
    settle();
    write_at(file, 0, "AAAABBBBCCCC");
    log = simdisk_record_end();
    tracker = crash_tracker_create(log, 4, 4);
    crash_tracker_advance(tracker, log->count);
    crash_states(tracker, &limits, count_states, &count);
    assert_int_equal(count, 17);
    crash_tracker_release(tracker);
    simlog_release(log);
    io_close(file);
}

/* ---- many operations ---- */

static uint64_t random_state;

static unsigned below(unsigned limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((random_state >> 33) % limit);
}

static void random_file_step(struct io_file *file)
{
    uint8_t bytes[700];
    uint64_t size;

    memset(bytes, (int)below(255) + 1, sizeof bytes);
    switch (below(8)) {
    case 0:
        assert_int_equal(io_truncate(file, below(9000)), CASK_OK);
        break;
    case 1:
        assert_int_equal(io_allocate(file, below(9000)), CASK_OK);
        break;
    case 2:
        assert_int_equal(io_sync(file), CASK_OK);
        break;
    default:
        assert_int_equal(io_size(file, &size), CASK_OK);
        assert_int_equal(io_write(file, below((unsigned)size + 600), bytes, 1 + below(699)),
                         CASK_OK);
    }
}

static void random_step(void)
{
    char name[2] = {(char)('a' + below(5)), 0};
    char other[2] = {(char)('a' + below(5)), 0};
    struct io_file *file;

    switch (below(10)) {
    case 0:
        (void)!io_rename(root, name, other);
        break;
    case 1:
        (void)!io_unlink(root, name);
        break;
    case 2:
        assert_int_equal(io_dir_sync(root), CASK_OK);
        break;
    default:
        if (io_open(root, name, IO_WRITE, &file) != CASK_OK)
            file = create(name);
        random_file_step(file);
        io_close(file);
    }
}

struct settled {
    struct simimage *image; /* what no state may lack */
    size_t visited;
};

static bool check_settled(void *context, const struct crash_state *state)
{
    struct settled *settled = context;
    char path[256];

    settled->visited++;
    if (simimage_differs(settled->image, state->image, path, sizeof path))
        fail_msg("%s differs in \"%s\"", path, state->text);
    return true;
}

static void sync_all_files(void)
{
    char *names;

    assert_int_equal(io_dir_list(root, &names), CASK_OK);
    for (const char *name = names; *name; name += strlen(name) + 1) {
        struct io_file *file;

        assert_int_equal(io_open(root, name, IO_WRITE, &file), CASK_OK);
        assert_int_equal(io_sync(file), CASK_OK);
        io_close(file);
    }
    free(names);
}

static size_t visit_each_position(const struct simlog *log, const struct crash_limits *limits,
                                  size_t from, crash_state_fn visit, void *context)
{
    struct crash_tracker *tracker = crash_tracker_create(log, 512, 64);
    size_t positions = 0;

    for (size_t i = from; i <= log->count; i++, positions++) {
        crash_tracker_advance(tracker, i);
        crash_states(tracker, limits, visit, context);
    }
    crash_tracker_release(tracker);
    return positions;
}

/* What the log says and what the live files hold agree; once everything is synced, there is one
 * state only. */
static void test_random_steps_end_in_the_live_files(void **state)
{
    struct crash_limits limits = {.seed = 5, .pairs = 10, .random = 30, .total = SIZE_MAX};
    char path[256];

    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        struct settled settled = {0};
        struct simimage *all;
        struct simlog *log;
        size_t visited = 0;

        random_state = round;
        simdisk_record_begin();
        for (unsigned step = 0; step < 40; step++)
            random_step();
        sync_all_files();
        assert_int_equal(io_dir_sync(root), CASK_OK);
        settled.image = simdisk_snapshot();
        log = simdisk_record_end();
        all = crash_image_all(log, log->count);
        assert_false(simimage_differs(settled.image, all, path, sizeof path));
        simimage_release(all);
        assert_int_equal(visit_each_position(log, &limits, log->count, check_settled, &settled), 1);
        assert_true(settled.visited >= 5);
        assert_true(visit_each_position(log, &limits, 0, count_states, &visited) < visited);
        simimage_release(settled.image);
        simlog_release(log);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pages_get_through_independently),
        TEST(test_a_page_holds_the_bytes_of_one_moment),
        TEST(test_a_synced_write_is_there),
        TEST(test_a_mapped_store_is_a_write),
        TEST(test_a_sync_of_a_part_leaves_the_rest_open),
        TEST(test_the_last_write_may_be_torn),
        TEST(test_sizes_and_data_get_through_independently),
        TEST(test_a_cut_takes_its_bytes_along),
        TEST(test_a_new_file_may_be_missing_empty_or_zero),
        TEST(test_a_file_sync_does_not_sync_its_name),
        TEST(test_renames_and_unlinks_may_be_undone),
        TEST(test_a_directory_is_durable_with_its_parents_sync),
        TEST(test_an_inode_has_one_name_in_every_state),
        TEST(test_a_failed_sync_loses_what_the_next_one_praises),
        TEST(test_eviction_brings_the_old_bytes_back),
        TEST(test_an_ignored_sync_says_ok_and_does_nothing),
        TEST(test_a_resumed_log_still_loses_what_was_not_synced),
        TEST(test_a_limit_is_kept_and_visits_may_stop),
        TEST(test_random_steps_end_in_the_live_files),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    simdisk_finish();
    return failed;
}
