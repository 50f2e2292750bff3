/* Known failures of other stores' merges (the T list of RELIABILITY.md), each made to happen here.
 *
 * Most are scenes: a store is built, a merge is raced by an act and broken off at its 1st, 2nd, 3rd
 * ... call of progress, in all modes of reading and writing. Then must agree with the book: the
 * store that goes on; a store opened on a copy of its files from the moment the merge was broken
 * off; the store reopened, merged to the end, verified, and reopened again; and no file is left
 * over.
 */
#include "unit_merge.h"

#define SCENE_SEGMENT_BYTES 400u
#define STOPS_MAX 40u

struct scene {
    void (*build)(struct race *race);
    void (*act)(struct race *race);
    uint32_t shard_count;
};

static struct race *race_begin(const struct scene *scene, size_t mode)
{
    struct race *race = calloc(1, sizeof *race);

    assert_non_null(race);
    race->store = store_make(scene->shard_count);
    race->store->options.write_mode = unit_modes[mode].write_mapped ? CASK_WRITE_MAPPED
                                                                    : CASK_WRITE_SYSCALL;
    race->store->options.read_mode = unit_modes[mode].read_mapped ? CASK_READ_MAPPED
                                                                  : CASK_READ_PREAD;
    race->store->options.segment_bytes = SCENE_SEGMENT_BYTES;
    race->store->options.merge = CASK_SWITCH_OFF;
    store_up(race->store);
    scene->build(race);
    race->act = scene->act;
    return race;
}

static void check_store(struct store *store, const struct book *book)
{
    book_check(book, store->db);
    CHECK_OK(cask_verify(store->db, NULL, NULL));
    check_no_errors(store);
}

/* What a kill at the moment of the breaking off would have left; opened twice, merged between. */
static void check_image(struct race *race)
{
    if (!race->image)
        return;
    store_up(race->image);
    check_store(race->image, &race->image_book);
    store_again(race->image);
    CHECK_OK(cask_merge(race->image->db, NULL, NULL));
    check_store(race->image, &race->image_book);
    store_again(race->image);
    check_store(race->image, &race->image_book);
    store_down(race->image);
    check_no_strays(race->image->path);
    store_end(race->image);
}

static void race_end(struct race *race)
{
    check_store(race->store, &race->book);
    check_image(race);
    store_again(race->store);
    check_store(race->store, &race->book);
    merge_all(race->store);
    check_store(race->store, &race->book);
    store_again(race->store);
    check_store(race->store, &race->book);
    store_down(race->store);
    check_no_strays(race->store->path);
    store_end(race->store);
    free(race);
}

/* Each way of breaking off in one mode, the next in the next. */
static void play(const struct scene *scene)
{
    int status = CASK_EBUSY;
    unsigned stop = 1;

    for (size_t mode = 0; status == CASK_EBUSY; mode = (mode + 1) % UNIT_MODES) {
        struct race *race = race_begin(scene, mode);

        check_context("mode %zu, broken off at call %u", mode, stop);
        race->stop_at = stop < STOPS_MAX ? stop : 0;
        status = race_merge(race);
        CHECK(status == (race->image ? CASK_EBUSY : CASK_OK), "%s", cask_strerror(status));
        race_end(race);
        stop += 1 + stop / 5;
    }
    CHECK(stop > 2, "no merge was broken off");
    check_context("%s", "");
}

/* ---- T1, T3, T15: tombstones ----------------------------------------------------------------- */

#define VICTIMS 8u

/* The victims' puts lie among keys that stay, their tombstones among keys that are overwritten. */
static void build_victims(struct race *race)
{
    struct book *book = &race->book;
    struct cask_db *db = race->store->db;

    for (uint32_t i = 0; i < VICTIMS; i++) {
        book_put(book, db, i);
        book_put_range(book, db, VICTIMS + i * 5, VICTIMS + i * 5 + 5);
    }
    for (unsigned round = 0; round < 3; round++)
        for (uint32_t i = 0; i < VICTIMS; i++) {
            if (round == 1)
                book_delete(book, db, i);
            book_put_range(book, db, 50, 54);
        }
}

/* T1: a partial merge drops a tombstone and the key returns after reopening. */
static void test_a_merge_that_is_broken_off_brings_no_deleted_key_back(void **state)
{
    const struct scene scene = {build_victims, NULL, 1};

    (void)state;
    play(&scene);
}

static void build_stale(struct race *race)
{
    struct book *book = &race->book;
    struct cask_db *db = race->store->db;

    book_put_range(book, db, 0, 24);
    for (uint32_t key = 0; key < 24; key++) {
        book_delete(book, db, key);
        if (key % 4 != 0)
            book_put(book, db, key);
        if (key % 4 == 2)
            book_delete(book, db, key);
        if (key % 4 == 3)
            book_expire(book, db, key);
    }
    book_put_range(book, db, 40, 44);
}

/* T3: a stale tombstone is skipped by merge. */
static void test_stale_tombstones_neither_hide_nor_uncover(void **state)
{
    const struct scene scene = {build_stale, NULL, 1};

    (void)state;
    play(&scene);
}

/* T15: put, merge, delete, merge, reopen: all keys back. */
static void test_keys_put_merged_deleted_and_merged_stay_away(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = store_begin_mode(2, mode, 400);
        struct book book = {.last_version = 0};

        for (unsigned round = 0; round < 3; round++) {
            book_put_range(&book, store->db, 0, BOOK_KEYS);
            CHECK_OK(cask_merge(store->db, NULL, NULL));
            book_check(&book, store->db);
            for (uint32_t key = 0; key < BOOK_KEYS; key++)
                book_delete(&book, store->db, key);
            CHECK_OK(cask_merge(store->db, NULL, NULL));
            store_again(store);
            check_store(store, &book);
        }
        merge_all(store);
        CHECK(stats_of(store).live_keys == 0 && stats_of(store).live_bytes == 0, "something lives");
        store_again(store);
        check_store(store, &book);
        store_end(store);
    }
}

/* Counted, so that they do go in the end: nothing dead is left where nothing lives. */
static void test_tombstones_are_reclaimed_in_the_end(void **state)
{
    (void)state;
    for (uint32_t shards = 1; shards <= 4; shards *= 4) {
        struct store *store = store_begin_mode(shards, 0, 400);
        struct cask_stats stats;
        struct book book = {.last_version = 0};

        for (unsigned round = 0; round < 4; round++) {
            book_put_range(&book, store->db, 0, BOOK_KEYS);
            for (uint32_t key = 0; key < BOOK_KEYS; key++)
                book_delete(&book, store->db, key);
        }
        merge_all(store);
        stats = stats_of(store);
        CHECK(stats.live_bytes == 0, "%llu bytes live", (unsigned long long)stats.live_bytes);
        CHECK(stats.dead_bytes < 200 * shards, "%llu dead bytes are never reclaimed",
              (unsigned long long)stats.dead_bytes);
        CHECK(stats.segments <= 2 * shards, "%llu segments", (unsigned long long)stats.segments);
        book_check(&book, store->db);
        store_end(store);
    }
}

/* ---- T2, T4: races --------------------------------------------------------------------------- */

static void build_overwritten(struct race *race)
{
    book_put_range(&race->book, race->store->db, 0, 48);
    book_put_range(&race->book, race->store->db, 0, 20);
}

static void act_delete(struct race *race)
{
    for (uint32_t key = race->calls % 7; key < 48; key += 7)
        if (race->book.versions[key] != 0)
            book_delete(&race->book, race->store->db, key);
}

/* T2: a delete races a merge. */
static void test_a_delete_in_the_midst_of_a_merge_stands(void **state)
{
    const struct scene scene = {build_overwritten, act_delete, 1};

    (void)state;
    play(&scene);
}

static void act_put(struct race *race)
{
    for (uint32_t key = race->calls % 5; key < 48; key += 5)
        book_put(&race->book, race->store->db, key);
}

/* T4: merge overwrites a newer put. */
static void test_a_put_in_the_midst_of_a_merge_stands(void **state)
{
    const struct scene scene = {build_overwritten, act_put, 1};

    (void)state;
    play(&scene);
}

static void act_all_kinds(struct race *race)
{
    struct book *book = &race->book;
    struct cask_db *db = race->store->db;
    uint32_t at = race->calls * 7 % 40;

    book_put(book, db, at);
    book_expire(book, db, at + 1);
    book_batch(book, db, at + 2, at + 8);
    if (book->versions[at + 8] != 0)
        book_delete(book, db, at + 8);
    book_put(book, db, at + 1);
    book_check(book, db);
}

static void build_all_kinds(struct race *race)
{
    struct book *book = &race->book;
    struct cask_db *db = race->store->db;

    book_put_range(book, db, 0, 48);
    for (uint32_t key = 0; key < 48; key += 6) {
        book_batch(book, db, key, key + 4);
        book_expire(book, db, key + 4);
    }
}

/* T2, T4, and batches, in several shards at once. */
static void test_everything_in_the_midst_of_a_merge_stands(void **state)
{
    const struct scene scene = {build_all_kinds, act_all_kinds, 4};

    (void)state;
    play(&scene);
}

static void build_expired(struct race *race)
{
    struct book *book = &race->book;
    struct cask_db *db = race->store->db;

    book_put_range(book, db, 0, 30);
    for (uint32_t key = 0; key < 20; key++)
        book_expire(book, db, key);
    for (uint32_t key = 0; key < 6; key++)
        book_put(book, db, key);
}

static void act_renew_expired(struct race *race)
{
    book_put(&race->book, race->store->db, 6 + race->calls % 14);
}

/* T4: expiry overwrites a newer put. */
static void test_a_put_of_an_expired_key_in_the_midst_of_a_merge_stands(void **state)
{
    const struct scene scene = {build_expired, act_renew_expired, 1};

    (void)state;
    play(&scene);
}

/* T4: the record that expired hides an older one that lives, until both are gone. */
static void test_an_expired_record_uncovers_no_older_one(void **state)
{
    const struct scene scene = {build_expired, NULL, 1};

    (void)state;
    play(&scene);
}

/* ---- T5, T22: inputs that cannot be read ----------------------------------------------------- */

#define DAMAGED_SEGMENT 2u

/* Returns which key's record was damaged: one in the middle of the segment that is still live. */
static uint32_t damage_a_record(struct store *store, const struct book *book)
{
    const char *path = shard_path(store->path, 0, "2.data");
    size_t size;
    uint8_t *file = read_whole_file(path, &size);
    uint32_t last = BOOK_KEYS;
    size_t last_at = 0;

    for (uint32_t key = 0; key < BOOK_KEYS; key++) {
        char text[24];
        struct cask_slice name = book_key(key, text);
        const uint8_t *at = memmem(file, size, name.data, name.size);

        if (!at || book->versions[key] == 0 || book_value_size(key, book->versions[key]) < 8)
            continue;
        if (last == BOOK_KEYS || (size_t)(at - file) < last_at) {
            last = key;
            last_at = (size_t)(at - file);
        }
    }
    CHECK(last < BOOK_KEYS, "no record to damage");
    file[last_at + 7] ^= 0x40;
    write_file(path, file, size);
    free(file);
    return last;
}

static void check_all_but(const struct book *book, struct cask_db *db, uint32_t damaged)
{
    uint8_t value[BOOK_VALUE_MAX];
    char text[24];
    size_t size;

    book_check_range(book, db, 0, damaged);
    book_check_range(book, db, damaged + 1, BOOK_KEYS);
    CHECK_STATUS(cask_get(db, book_key(damaged, text), value, sizeof value, &size), CASK_ECORRUPT);
}

/* T5: merge unlinks inputs it did not finish; T22: an iterator's error status goes unread in
 * compaction. Both would lose the records behind the damaged one, unnoticed. */
static void test_a_damaged_input_is_reported_and_kept_whole(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = store_begin_mode(1, mode, 600);
        struct book book = {.last_version = 0};
        struct cask_stats stats;
        uint32_t damaged;

        store_down(store);
        store->options.merge = CASK_SWITCH_OFF;
        store_up(store);
        book_put_range(&book, store->db, 0, 40);
        for (uint32_t key = 0; key < 40; key += 3) /* each segment has something dead */
            book_put(&book, store->db, key);
        store_down(store);
        damaged = damage_a_record(store, &book);
        store_up(store);
        for (unsigned i = 0; i < 2; i++) {
            CHECK_STATUS(cask_merge(store->db, NULL, NULL), CASK_ECORRUPT);
            stats = stats_of(store);
            CHECK(stats.merges_failed > 0, "the failure is not counted");
            CHECK(stats.merge_last_error == CASK_ECORRUPT, "the last error is %lld",
                  (long long)stats.merge_last_error);
            CHECK(has_segment(store, DAMAGED_SEGMENT), "the damaged segment is gone");
            CHECK(!has_segment(store, 1), "the others were not merged");
            CHECK(log_lines_mention(&store->lines, "2.data"), "%s", store->lines.text);
            check_all_but(&book, store->db, damaged);
            store_again(store);
            check_all_but(&book, store->db, damaged);
        }
        book_put(&book, store->db, damaged);
        book_check_range(&book, store->db, 0, 40);
        store_end(store);
    }
}

/* T5, the other way: whatever call of progress breaks it off, what was not merged is still there;
 * and a merge that goes on where the last left off comes to an end. */
static void test_merges_that_are_broken_off_again_and_again_come_to_an_end(void **state)
{
    const struct scene scene = {build_overwritten, NULL, 1};

    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct race *race = race_begin(&scene, mode);
        unsigned attempts = 0;
        int status;

        do {
            race->calls = 0;
            race->stop_at = 3;
            status = race_merge(race);
            book_check(&race->book, race->store->db);
            if (race->image)
                store_end(race->image);
            race->image = NULL;
        } while (status == CASK_EBUSY && ++attempts < 200);
        CHECK(status == CASK_OK, "%s after %u attempts", cask_strerror(status), attempts);
        race_end(race);
    }
}

/* ---- T8: iteration --------------------------------------------------------------------------- */

struct walk {
    struct cask_iter *iter;
    uint32_t seen[BOOK_KEYS];
};

static bool walk_on(struct walk *walk, unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        struct cask_entry entry;
        int status = cask_iter_next(walk->iter, &entry);
        uint32_t key;

        if (status == CASK_NOTFOUND)
            return false;
        CHECK(status == CASK_OK, "%s", cask_strerror(status));
        key = book_key_number(entry.key);
        CHECK(walk->seen[key]++ == 0, "key %u comes twice", (unsigned)key);
    }
    return true;
}

#define WALKS 4u
static struct walk walks[WALKS];

/* One more step of each walk, and one key of those that come and go. */
static void act_walk(struct race *race)
{
    for (unsigned i = 0; i < WALKS; i++)
        (void)walk_on(&walks[i], i);
    book_put(&race->book, race->store->db, 50 + race->calls % 10);
    if (race->book.versions[50 + (race->calls + 5) % 10] != 0)
        book_delete(&race->book, race->store->db, 50 + (race->calls + 5) % 10);
    book_put(&race->book, race->store->db, race->calls % 48);
}

/* T8: iteration loses or repeats keys during merges. */
static void test_iterations_over_merges_show_each_lasting_key_once(void **state)
{
    const struct scene scene = {build_overwritten, act_walk, 2};

    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct race *race = race_begin(&scene, mode);

        memset(walks, 0, sizeof walks);
        for (unsigned i = 0; i < WALKS; i++) {
            CHECK_OK(cask_iter_create(race->store->db, &walks[i].iter));
            (void)walk_on(&walks[i], i * 7);
        }
        for (unsigned i = 0; i < 4; i++)
            CHECK_OK(race_merge(race));
        for (unsigned i = 0; i < WALKS; i++) {
            while (walk_on(&walks[i], 1))
                continue;
            for (uint32_t key = 0; key < 48; key++)
                CHECK(walks[i].seen[key] == 1, "walk %u does not show key %u", i, (unsigned)key);
            cask_iter_destroy(walks[i].iter);
        }
        race_end(race);
    }
}

/* ---- T9: the active segment ------------------------------------------------------------------ */

static void build_little(struct race *race)
{
    book_put_range(&race->book, race->store->db, 0, 3);
    book_put(&race->book, race->store->db, 1);
    book_delete(&race->book, race->store->db, 2);
}

static void act_fill(struct race *race)
{
    book_put_range(&race->book, race->store->db, 0, BOOK_KEYS);
}

/* T9: merge takes the active segment: what is appended meanwhile would go with it. */
static void test_what_is_appended_during_a_merge_of_the_last_segment_stays(void **state)
{
    const struct scene little = {build_little, act_fill, 1};
    const struct scene more = {build_overwritten, act_fill, 2};

    (void)state;
    play(&little);
    play(&more);
}

/* ---- T17, T28, T35 --------------------------------------------------------------------------- */

static void act_read(struct race *race)
{
    book_check(&race->book, race->store->db);
}

/* T17: merge removes a file the index still names. T35: a merge install that is not repeatable
 * deletes its own outputs on the next open: so each image is opened twice, and merged. */
static void test_every_key_is_read_at_every_step_of_a_merge(void **state)
{
    const struct scene scene = {build_overwritten, act_read, 1};
    const struct scene shards = {build_all_kinds, act_read, 4};

    (void)state;
    play(&scene);
    play(&shards);
}

/* T28: an empty key or name is accepted and lost. Empty values, keys of one byte, the longest key,
 * and keys with bytes of all kinds go through merges as they are. */
static void test_the_smallest_and_the_largest_go_through_merges(void **state)
{
    static uint8_t longest[CASK_KEY_MAX];

    (void)state;
    memset(longest, 'x', sizeof longest);
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = store_begin_mode(1, mode, 400);
        struct cask_slice keys[] = {slice_bytes("", 1), slice_bytes("\n", 1), slice_of("a"),
                                    slice_bytes("a\0b", 3), slice_bytes(longest, sizeof longest)};
        size_t size;

        for (unsigned round = 0; round < 3; round++) {
            CHECK_STATUS(cask_put(store->db, slice_of(""), slice_of("value")), CASK_EINVAL);
            for (size_t i = 0; i < COUNT_OF(keys); i++)
                CHECK_OK(cask_put(store->db, keys[i], slice_of(i % 2 == round % 2 ? "" : "value")));
            CHECK_OK(cask_merge(store->db, NULL, NULL));
            if (round == 1)
                store_again(store);
            for (size_t i = 0; i < COUNT_OF(keys); i++) {
                char value[16];

                CHECK_OK(cask_get(store->db, keys[i], value, sizeof value, &size));
                CHECK(size == (i % 2 == round % 2 ? 0u : 5u), "key %zu has %zu bytes", i, size);
            }
            CHECK(stats_of(store).live_keys == COUNT_OF(keys), "keys are lost");
        }
        CHECK_OK(cask_verify(store->db, NULL, NULL));
        check_no_errors(store);
        store_end(store);
    }
}

/* ---- T27: beside a reader -------------------------------------------------------------------- */

static struct cask_db *reader;
static struct book reader_book;

static struct cask_db *open_reader(struct store *store, enum cask_read_mode read_mode)
{
    struct cask_options options = store->options;
    struct cask_db *db;

    options.read_only = 1;
    options.shard_count = 0;
    options.read_mode = read_mode;
    CHECK_OK(cask_open(store->path, &options, &db));
    return db;
}

/* In the midst of a merge one is opened; it is read from whenever the merge has gone on. */
static void act_reader(struct race *race)
{
    if (race->calls == 3) {
        reader = open_reader(race->store, CASK_READ_MAPPED);
        reader_book = race->book;
    }
    if (reader)
        book_check(&reader_book, reader);
    book_put(&race->book, race->store->db, race->calls % 48);
}

/* T27: a read-only instance deletes live files; and it reads what it opened, though merges unlink
 * it. */
static void test_a_reader_beside_merges_changes_nothing_and_reads_all_it_saw(void **state)
{
    const struct scene scene = {build_overwritten, act_reader, 2};

    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct race *race = race_begin(&scene, mode);
        struct book book = race->book;
        struct cask_db *early = open_reader(race->store, race->store->options.read_mode);
        uint64_t before;

        reader = NULL;
        for (unsigned i = 0; i < 3; i++)
            CHECK_OK(race_merge(race));
        CHECK(reader, "the merge was too short");
        book_check(&book, early);
        CHECK_STATUS(cask_merge(early, NULL, NULL), CASK_EREADONLY);
        CHECK_OK(cask_close(early));
        book_check(&reader_book, reader);
        CHECK_OK(cask_close(reader));
        store_down(race->store); /* and with it the threads that might change something */
        before = tree_checksum(race->store->path);
        reader = open_reader(race->store, race->store->options.read_mode);
        CHECK_STATUS(cask_merge(reader, NULL, NULL), CASK_EREADONLY);
        book_check(&race->book, reader);
        CHECK_OK(cask_close(reader));
        CHECK(tree_checksum(race->store->path) == before, "a reader changed something");
        store_up(race->store);
        race->act = NULL;
        race_end(race);
    }
}

/* ---- the accounts ---------------------------------------------------------------------------- */

static void test_a_merge_that_needs_not_be_does_nothing(void **state)
{
    struct store *store = store_begin_mode(2, 0, 400);
    struct book book = {.last_version = 0};
    struct cask_stats before;
    struct cask_stats after;

    (void)state;
    CHECK_OK(cask_merge(store->db, NULL, NULL));
    book_put_range(&book, store->db, 0, BOOK_KEYS);
    CHECK_OK(cask_merge(store->db, NULL, NULL));
    before = stats_of(store);
    CHECK_OK(cask_merge(store->db, NULL, NULL));
    after = stats_of(store);
    CHECK(after.merge_written_bytes == before.merge_written_bytes, "merges go on for ever");
    check_store(store, &book);
    store_end(store);
}

static void test_figures_of_merges_add_up(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = store_begin_mode(1, mode, 2000);
        struct book book = {.last_version = 0};
        struct cask_stats before;
        struct cask_stats after;
        struct cask_stats shard = {.size = sizeof shard};

        store_down(store);
        store->options.merge = CASK_SWITCH_OFF;
        store_up(store);
        for (unsigned round = 0; round < 6; round++)
            book_put_range(&book, store->db, 0, BOOK_KEYS);
        before = stats_of(store);
        CHECK(before.merges == 0 && before.merge_written_bytes == 0, "merges though off");
        CHECK(before.dead_bytes > 4 * before.live_bytes, "nothing is dead");
        CHECK_OK(cask_merge(store->db, NULL, NULL));
        after = stats_of(store);
        CHECK(after.merges > 0 && after.merges_failed == 0, "not counted");
        CHECK(after.merge_last_error == CASK_OK, "an error");
        CHECK(after.live_keys == before.live_keys, "keys");
        CHECK(after.live_bytes == before.live_bytes, "%llu live bytes, were %llu",
              (unsigned long long)after.live_bytes, (unsigned long long)before.live_bytes);
        CHECK(after.dead_bytes < 200, "%llu dead bytes stay", (unsigned long long)after.dead_bytes);
        CHECK(after.merge_freed_bytes >= before.dead_bytes, "%llu bytes freed of %llu",
              (unsigned long long)after.merge_freed_bytes, (unsigned long long)before.dead_bytes);
        CHECK(after.merge_written_bytes <= after.live_bytes, "%llu bytes were copied",
              (unsigned long long)after.merge_written_bytes);
        CHECK(after.disk_bytes < before.disk_bytes, "no disk space came back");
        CHECK(after.written_bytes - before.written_bytes < 200, "merging counts as writing");
        CHECK_OK(cask_stats_shard(store->db, 0, &shard));
        CHECK(shard.merges == after.merges, "the only shard has other merges");
        CHECK(shard.merge_freed_bytes == after.merge_freed_bytes, "the only shard freed more");
        store_again(store);
        CHECK(stats_of(store).live_bytes == after.live_bytes, "live bytes after reopening");
        CHECK(stats_of(store).dead_bytes == after.dead_bytes, "dead bytes after reopening");
        store_end(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_merge_that_is_broken_off_brings_no_deleted_key_back),
        cmocka_unit_test(test_stale_tombstones_neither_hide_nor_uncover),
        cmocka_unit_test(test_keys_put_merged_deleted_and_merged_stay_away),
        cmocka_unit_test(test_tombstones_are_reclaimed_in_the_end),
        cmocka_unit_test(test_a_delete_in_the_midst_of_a_merge_stands),
        cmocka_unit_test(test_a_put_in_the_midst_of_a_merge_stands),
        cmocka_unit_test(test_everything_in_the_midst_of_a_merge_stands),
        cmocka_unit_test(test_a_put_of_an_expired_key_in_the_midst_of_a_merge_stands),
        cmocka_unit_test(test_an_expired_record_uncovers_no_older_one),
        cmocka_unit_test(test_a_damaged_input_is_reported_and_kept_whole),
        cmocka_unit_test(test_merges_that_are_broken_off_again_and_again_come_to_an_end),
        cmocka_unit_test(test_iterations_over_merges_show_each_lasting_key_once),
        cmocka_unit_test(test_what_is_appended_during_a_merge_of_the_last_segment_stays),
        cmocka_unit_test(test_every_key_is_read_at_every_step_of_a_merge),
        cmocka_unit_test(test_the_smallest_and_the_largest_go_through_merges),
        cmocka_unit_test(test_a_reader_beside_merges_changes_nothing_and_reads_all_it_saw),
        cmocka_unit_test(test_a_merge_that_needs_not_be_does_nothing),
        cmocka_unit_test(test_figures_of_merges_add_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
