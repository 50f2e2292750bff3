/* index/run and its cursor: every answer right, or a clear error; whatever the file has become. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit_run.h"

#include "index/runverify.h"

#define SMALL 500u

static void test_all_that_is_there_is_found_and_nothing_else(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(100000, 1);
    uint64_t absent = 0;

    (void)state;
    for (unsigned bits = 0; bits <= 12; bits += 4) {
        struct run_summary summary = run_build_all(&runs, bits + 1, entries, 100000, bits);
        struct run *run;

        assert_ok(run_open_as(&runs, &summary, false, &run));
        for (size_t i = 0; i < 100000; i++) {
            uint32_t after = entries[i].tag + 1;

            check_find(run, entries, 100000, i);
            if (i + 1 < 100000 && entries[i + 1].tag > after && i % 3 == 0) {
                check_absent(run, after);
                absent++;
            }
        }
        check_absent(run, entries[99999].tag + 1);
        run_close(run);
    }
    assert_true(absent > 100000);
    free(entries);
    runs_stop(&runs);
}

static void test_a_tag_on_three_blocks_is_found_whole(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(2500, 1);
    uint64_t locations[1200];
    struct run_summary summary;
    struct run *run;
    unsigned found;

    (void)state;
    for (unsigned shift = 0; shift < RUN_BLOCK_ENTRIES; shift += 37) {
        for (size_t i = 0; i < 2500; i++)
            entries[i].tag = i < 300 + shift    ? 10 + (uint32_t)i / 2
                             : i < 1300 + shift ? 5000
                                                : 6000 + (uint32_t)i;
        summary = run_build_all(&runs, shift + 1, entries, 2500, 10);
        assert_ok(run_open_as(&runs, &summary, true, &run));
        assert_ok(run_find(run, 5000, locations, 1200, &found, NULL));
        assert_int_equal(found, 1000);
        for (unsigned i = 0; i < found; i++)
            assert_int_equal(locations[i], entries[300 + shift + i].location);
        assert_ok(run_find(run, 5000, locations, 3, &found, NULL));
        assert_int_equal(found, 1000);
        assert_ok(run_find(run, 5000, NULL, 0, &found, NULL));
        assert_int_equal(found, 1000);
        check_absent(run, 4999);
        check_absent(run, 5001);
        for (size_t i = 0; i < 2500; i += 3)
            if (entries[i].tag != 5000)
                check_find(run, entries, 2500, i);
        run_close(run);
    }
    free(entries);
    runs_stop(&runs);
}

static void test_a_run_of_one_tag_alone_is_found_whole(void **state)
{
    static const uint32_t tags[] = {0, 1, UINT32_MAX - 1, UINT32_MAX};
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(1500, 1);
    struct run_summary summary;
    struct run *run;
    unsigned found;

    (void)state;
    for (unsigned n = 0; n < COUNT_OF(tags); n++) {
        for (size_t i = 0; i < 1500; i++)
            entries[i].tag = tags[n];
        summary = run_build_all(&runs, n + 1, entries, 1500, 10);
        assert_ok(run_open_as(&runs, &summary, true, &run));
        assert_ok(run_find(run, tags[n], NULL, 0, &found, NULL));
        assert_int_equal(found, 1500);
        check_absent(run, tags[n] ^ 1);
        check_absent(run, 77);
        run_close(run);
    }
    free(entries);
    runs_stop(&runs);
}

/* Where a straight line leads to the wrong cell, be it far below or far above. */
static void test_crowded_tags_are_found_too(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(6000, 1);

    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        struct run_summary summary;
        struct run *run;

        for (uint32_t i = 0; i < 6000; i++) {
            uint32_t in_block = i % RUN_BLOCK_ENTRIES;
            uint32_t base = i / RUN_BLOCK_ENTRIES * 200000000;

            entries[i].tag = base + (kind == 0   ? in_block * 2
                                     : kind == 1 ? (in_block == 0 ? 0 : 199999000 + in_block * 2)
                                                 : in_block * in_block * 1000 + in_block / 2);
        }
        summary = run_build_all(&runs, kind + 1, entries, 6000, kind * 5);
        assert_ok(run_open_as(&runs, &summary, true, &run));
        for (size_t i = 0; i < 6000; i++) {
            check_find(run, entries, 6000, i);
            if (i + 1 < 6000 && entries[i + 1].tag > entries[i].tag + 1)
                check_absent(run, entries[i].tag + 1);
        }
        run_close(run);
    }
    free(entries);
    runs_stop(&runs);
}

static void test_a_mapped_run_can_be_read_by_call(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(5000, 1);
    struct run_summary summary = run_build_all(&runs, 1, entries, 5000, 10);
    struct run_open_options mapped = {.mapped = true};
    uint64_t location;
    struct run *run;
    unsigned found;

    (void)state;
    assert_ok(run_open(runs.place.dir, &runs.config, 1, summary.bytes, summary.checksum, mapped,
                       &runs.budget, &run));
    assert_non_null(run->map);
    for (size_t i = 0; i < 5000; i++) {
        assert_ok(run_find_by_call(run, entries[i].tag, &location, 1, &found));
        assert_int_equal(found, 1);
        assert_int_equal(location, entries[i].location);
    }
    assert_ok(run_find_by_call(run, entries[9].tag + 1, &location, 1, &found));
    assert_int_equal(found, 0);
    run_close(run);
    free(entries);
    runs_stop(&runs);
}

static void test_a_filter_saves_reads_and_they_are_counted(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(50000, 1);
    struct run_summary summary = run_build_all(&runs, 1, entries, 50000, 10);
    struct run_open_options bare = {.without_filter = true, .mapped = unit_mapped};
    uint64_t offset;
    struct run *run;

    (void)state;
    unit_counts = (struct run_counts){0};
    assert_ok(run_open_as(&runs, &summary, false, &run));
    assert_int_equal(budget_used(&runs.budget), run_memory_for(50000, filter_bytes(&run->filter)));
    for (size_t i = 0; i < 50000; i += 5) {
        run_prefetch(run, entries[i].tag);
        assert_true(run_will_read(run, entries[i].tag, &offset));
        assert_true(offset % RUN_PAGE_BYTES == 0 && offset < run->bytes);
        check_find(run, entries, 50000, i);
    }
    assert_in_range(unit_counts.block_reads, 10000, 10100);
    assert_int_equal(unit_counts.filter_asks, 10000);
    assert_int_equal(unit_counts.filter_passes, 10000);
    assert_int_equal(unit_counts.fruitless_finds, 0);
    for (uint32_t i = 0; i < 10000; i++)
        check_absent(run, entries[i].tag + 1);
    assert_in_range(unit_counts.fruitless_finds, 20, 200);
    assert_int_equal(unit_counts.filter_asks, 20000);
    assert_int_equal(unit_counts.filter_passes, 10000 + unit_counts.fruitless_finds);
    run_close(run);

    assert_ok(run_open(runs.place.dir, &runs.config, 1, summary.bytes, summary.checksum, bare,
                       &runs.budget, &run));
    assert_int_equal(budget_used(&runs.budget), run_memory_for(50000, 0));
    unit_counts = (struct run_counts){0};
    for (uint32_t i = 1; i < 10000; i++)
        check_absent(run, entries[i].tag + 1);
    assert_int_equal(unit_counts.fruitless_finds, 9999);
    assert_int_equal(unit_counts.filter_asks, 0);
    run_close(run);
    free(entries);
    runs_stop(&runs);
}

static void test_opening_keeps_to_the_budget(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(50000, 1);
    struct run_summary summary = run_build_all(&runs, 1, entries, 50000, 10);
    struct run *run;
    unsigned refused = 0;

    (void)state;
    for (runs.budget.limit_bytes = 0;; runs.budget.limit_bytes += 4096) {
        int status = run_open_as(&runs, &summary, true, &run);

        if (status == CASK_OK)
            break;
        assert_int_equal(status, CASK_ENOMEM);
        assert_int_equal(budget_used(&runs.budget), 0);
        refused++;
    }
    assert_int_equal(refused, 17); /* 4 KiB of fence, 61 KiB of filter; the buffer comes before */
    run_close(run);
    free(entries);
    runs_stop(&runs);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void overwrite(const char *path, uint64_t offset, uint8_t byte)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* Every answer of a damaged run is right or CASK_ECORRUPT. */
static void check_right_or_corrupt(struct run *run, const struct keydir_entry *entries,
                                   size_t count, size_t step)
{
    for (size_t i = 0; i < count; i += step) {
        uint64_t locations[4];
        unsigned found;
        int status = run_find(run, entries[i].tag, locations, 4, &found, NULL);

        CHECK(status == CASK_OK || status == CASK_ECORRUPT, "%s", cask_strerror(status));
        CHECK(status != CASK_OK || (found == 1 && locations[0] == entries[i].location), "entry %zu",
              i);
    }
    uint64_t location;
    unsigned found;
    int status = run_find(run, entries[0].tag + 1, &location, 1, &found, NULL);

    CHECK(status == CASK_ECORRUPT || (status == CASK_OK && found == 0), "%s", "an absent tag");
}

static void test_no_flipped_bit_gives_a_wrong_answer(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(SMALL, 1);
    struct run_summary summary = run_build_all(&runs, 1, entries, SMALL, 10);
    const char *path = path_in(runs.place.path, "1.mdb");
    size_t size;
    uint8_t *bytes = read_whole_file(path, &size);
    unsigned bits = BUILT_WITH_ASAN || BUILT_WITH_TSAN ? 1 : 8; /* of each byte */
    uint64_t refused = 0;

    (void)state;
    for (size_t i = 0; i < size * bits; i++) {
        size_t at = i / bits;
        unsigned bit = (unsigned)(i % bits + (bits == 1 ? at % 8 : 0));
        struct run *run;
        int status;

        overwrite(path, at, (uint8_t)(bytes[at] ^ 1u << bit));
        CHECK_STATUS(run_open_as(&runs, &summary, true, &run), CASK_ECORRUPT);
        unit_mapped = i % 2 == 0;
        status = run_open_as(&runs, &summary, false, &run);
        CHECK(status == CASK_OK || status == CASK_ECORRUPT, "%s", cask_strerror(status));
        if (status == CASK_OK) {
            CHECK_STATUS(run_verify(run, runs.place.path), CASK_ECORRUPT);
            check_right_or_corrupt(run, entries, SMALL, 71);
            run_close(run);
            unit_mapped = !unit_mapped;
            assert_ok(run_open_as(&runs, &summary, false, &run));
            check_right_or_corrupt(run, entries, SMALL, 71);
            run_close(run);
        }
        refused += status != CASK_OK;
        overwrite(path, at, bytes[at]);
    }
    unit_mapped = false;
    assert_true(refused >= (filter_bytes_for(SMALL, 10) + 2 * RUN_FENCE_BYTES) * bits);
    free(bytes);
    free(entries);
    runs_stop(&runs);
}

static void test_no_length_but_the_right_one_opens(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(SMALL, 1);
    struct run_summary summary = run_build_all(&runs, 1, entries, SMALL, 10);
    const char *path = path_in(runs.place.path, "1.mdb");
    struct run_summary cut = summary;
    struct run *run;

    (void)state;
    assert_int_equal(truncate(path, (off_t)summary.bytes + 1), 0);
    assert_int_equal(run_open_as(&runs, &summary, false, &run), CASK_ECORRUPT);
    for (uint64_t size = summary.bytes; size-- > 0;) {
        CHECK(truncate(path, (off_t)size) == 0, "%s", "truncate");
        CHECK_STATUS(run_open_as(&runs, &summary, false, &run), CASK_ECORRUPT);
        CHECK_STATUS(run_open_as(&runs, &summary, true, &run), CASK_ECORRUPT);
        cut.bytes = size; /* as if the manifest had the same wrong length */
        CHECK_STATUS(run_open_as(&runs, &cut, false, &run), CASK_ECORRUPT);
    }
    free(entries);
    runs_stop(&runs);
}

/* The file is cut behind the back of a run that is open: no look-up may take that for "not
 * there".*/
static void test_a_file_cut_while_open_is_an_error(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(SMALL, 1);
    struct run_summary summary = run_build_all(&runs, 1, entries, SMALL, 10);
    struct run_cursor cursor;
    struct keydir_entry entry;
    uint64_t location;
    struct run *run;
    unsigned found;

    (void)state;
    assert_ok(run_open_as(&runs, &summary, false, &run));
    assert_int_equal(truncate(path_in(runs.place.path, "1.mdb"), 8192), 0);
    assert_int_equal(run_find(run, entries[0].tag, &location, 1, &found, NULL), CASK_ECORRUPT);
    assert_ok(run_cursor_open(&cursor, run, 0, 4096, &runs.budget));
    assert_int_equal(run_cursor_next(&cursor, &entry), CASK_ECORRUPT);
    assert_int_equal(run_cursor_next(&cursor, &entry), CASK_ECORRUPT);
    run_cursor_close(&cursor);
    assert_int_equal(run_verify(run, runs.place.path), CASK_ECORRUPT);
    run_close(run);
    free(entries);
    runs_stop(&runs);
}

static void test_swapped_and_foreign_files_are_refused(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(SMALL, 1);
    struct run_summary first = run_build_all(&runs, 1, entries, SMALL, 10);
    struct run_summary second;
    struct run_config config = runs.config;
    struct run *run;

    (void)state;
    entries[9].location = 77;
    second = run_build_all(&runs, 2, entries, SMALL, 10);
    assert_int_equal(first.bytes, second.bytes);
    assert_int_equal(rename(path_in(runs.place.path, "2.mdb"), path_in(runs.place.path, "1.mdb")),
                     0);
    assert_int_equal(run_open_as(&runs, &first, false, &run), CASK_ECORRUPT);
    assert_int_equal(run_open_as(&runs, &second, false, &run), CASK_NOTFOUND);
    first.checksum = second.checksum; /* even where the manifest agrees with the file */
    assert_int_equal(run_open_as(&runs, &first, false, &run), CASK_ECORRUPT);

    assert_int_equal(rename(path_in(runs.place.path, "1.mdb"), path_in(runs.place.path, "2.mdb")),
                     0);
    assert_ok(run_open_as(&runs, &second, true, &run));
    run_close(run);
    runs.config.shard++;
    assert_int_equal(run_open_as(&runs, &second, false, &run), CASK_ECORRUPT);
    runs.config = config;
    runs.config.uuid[0]++;
    assert_int_equal(run_open_as(&runs, &second, false, &run), CASK_ECORRUPT);
    assert_int_equal(mkdir(path_in(runs.place.path, "1.mdb"), 0700), 0);
    assert_int_equal(run_open_as(&runs, &first, false, &run), CASK_ECORRUPT);
    free(entries);
    runs_stop(&runs);
}

/* ---- cursor ---------------------------------------------------------------------------------- */

static void check_cursor_from(struct run_cursor *cursor, const struct keydir_entry *entries,
                              size_t count, size_t from, size_t limit)
{
    struct keydir_entry entry;

    for (size_t i = from; i < count && i < from + limit; i++) {
        CHECK_OK(run_cursor_next(cursor, &entry));
        CHECK(entry.tag == entries[i].tag && entry.location == entries[i].location, "entry %zu", i);
    }
    if (from + limit >= count) {
        CHECK_STATUS(run_cursor_next(cursor, &entry), CASK_NOTFOUND);
        CHECK_STATUS(run_cursor_next(cursor, &entry), CASK_NOTFOUND);
    }
}

static size_t first_at(const struct keydir_entry *entries, size_t count, uint32_t tag)
{
    size_t i = 0;

    while (i < count && entries[i].tag < tag)
        i++;
    return i;
}

static void test_a_cursor_gives_all_entries_in_order(void **state)
{
    static const size_t counts[] = {0, 1, RUN_BLOCK_ENTRIES, RUN_BLOCK_ENTRIES + 1, 20000};
    static const size_t reads[] = {1, 4096, 12288, 1 << 20};
    struct run_place_dir runs = runs_start();

    (void)state;
    for (size_t n = 0; n < COUNT_OF(counts); n++) {
        struct keydir_entry *entries = run_entries(counts[n], n);
        struct run_summary summary = run_build_all(&runs, n + 1, entries, counts[n], 0);
        struct run *run;

        assert_ok(run_open_as(&runs, &summary, false, &run));
        for (size_t r = 0; r < COUNT_OF(reads); r++) {
            struct run_cursor cursor;

            assert_ok(run_cursor_open(&cursor, run, 0, reads[r], &runs.budget));
            check_cursor_from(&cursor, entries, counts[n], 0, SIZE_MAX / 2);
            run_cursor_close(&cursor);
        }
        run_close(run);
        free(entries);
    }
    runs_stop(&runs);
}

static void test_a_cursor_begins_and_goes_on_where_it_is_told(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(20000, 5);
    struct rng rng = {3};
    struct run_summary summary;
    struct run *run;

    (void)state;
    for (size_t i = 7000; i < 8500; i++) /* one tag on several blocks */
        entries[i].tag = entries[7000].tag;
    summary = run_build_all(&runs, 1, entries, 20000, 0);
    assert_ok(run_open_as(&runs, &summary, false, &run));
    for (unsigned round = 0; round < 300; round++) {
        uint32_t tag = round % 4 == 0 ? entries[rng_below(&rng, 20000)].tag
                       : round == 1   ? UINT32_MAX
                       : round == 2   ? entries[7000].tag
                                      : (uint32_t)rng_next(&rng);
        size_t at = first_at(entries, 20000, tag);
        struct run_cursor cursor;

        assert_ok(run_cursor_open(&cursor, run, tag, 16384, &runs.budget));
        for (unsigned hop = 0; hop < 6; hop++) {
            uint32_t further = (uint32_t)rng_next(&rng);
            size_t to = first_at(entries, 20000, further);

            if (hop % 2 == 1 && at < 20000) /* near by: mostly within the block */
                to = first_at(entries, 20000, further = entries[at].tag + 5000000);
            check_cursor_from(&cursor, entries, 20000, at, 10);
            at = at + 10 > 20000 ? 20000 : at + 10;
            assert_ok(run_cursor_seek(&cursor, further));
            at = to > at ? to : at; /* never back */
        }
        check_cursor_from(&cursor, entries, 20000, at, 500);
        run_cursor_close(&cursor);
    }
    run_close(run);
    free(entries);
    runs_stop(&runs);
}

static void test_a_cursor_takes_less_where_the_budget_has_less(void **state)
{
    struct run_place_dir runs = runs_start();
    struct keydir_entry *entries = run_entries(20000, 5);
    struct run_summary summary = run_build_all(&runs, 1, entries, 20000, 0);
    struct run_cursor cursor;
    struct run *run;

    (void)state;
    assert_ok(run_open_as(&runs, &summary, false, &run));
    runs.budget.limit_bytes = budget_used(&runs.budget) + 10000;
    assert_ok(run_cursor_open(&cursor, run, 0, RUN_CURSOR_BYTES, &runs.budget));
    assert_int_equal(cursor.buffer.size, 8192);
    check_cursor_from(&cursor, entries, 20000, 0, SIZE_MAX / 2);
    run_cursor_close(&cursor);
    runs.budget.limit_bytes = budget_used(&runs.budget) + 4095;
    assert_int_equal(run_cursor_open(&cursor, run, 0, RUN_CURSOR_BYTES, &runs.budget), CASK_ENOMEM);
    run_close(run);
    free(entries);
    runs_stop(&runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opening_keeps_to_the_budget),
        cmocka_unit_test(test_no_flipped_bit_gives_a_wrong_answer),
        cmocka_unit_test(test_a_mapped_run_can_be_read_by_call),
        cmocka_unit_test(test_no_length_but_the_right_one_opens),
        cmocka_unit_test(test_a_file_cut_while_open_is_an_error),
        cmocka_unit_test(test_swapped_and_foreign_files_are_refused),
        cmocka_unit_test(test_a_cursor_gives_all_entries_in_order),
        cmocka_unit_test(test_a_cursor_begins_and_goes_on_where_it_is_told),
        cmocka_unit_test(test_a_cursor_takes_less_where_the_budget_has_less),
    };
    const struct CMUnitTest lookups[] = {
        cmocka_unit_test(test_all_that_is_there_is_found_and_nothing_else),
        cmocka_unit_test(test_a_tag_on_three_blocks_is_found_whole),
        cmocka_unit_test(test_a_run_of_one_tag_alone_is_found_whole),
        cmocka_unit_test(test_crowded_tags_are_found_too),
        cmocka_unit_test(test_a_filter_saves_reads_and_they_are_counted),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    failed += cmocka_run_group_tests_name("read by call", lookups, NULL, NULL);
    unit_mapped = true;
    failed += cmocka_run_group_tests_name("mapped", lookups, NULL, NULL);
    return failed;
}
