/* What is borrowed from a store outlives the segment it lies in: views and iterators held over
 * merges show what they showed, though the files are unlinked; once they are released, the
 * mappings and descriptors go. */
#include <dirent.h>
#include <unistd.h>

#include "unit_merge.h"

#define HELD 24u

struct held {
    struct cask_view view;
    uint32_t version;
};

static struct store *begin(size_t mode, uint32_t shards)
{
    struct store *store = store_make(shards);

    store->options.write_mode = unit_modes[mode].write_mapped ? CASK_WRITE_MAPPED
                                                              : CASK_WRITE_SYSCALL;
    store->options.read_mode = unit_modes[mode].read_mapped ? CASK_READ_MAPPED : CASK_READ_PREAD;
    store->options.segment_bytes = 500;
    store->options.merge = CASK_SWITCH_OFF;
    store_up(store);
    return store;
}

static void hold(const struct book *book, struct cask_db *db, uint32_t key, struct held *held)
{
    char text[24];

    held->version = book->versions[key];
    CHECK_OK(cask_view(db, book_key(key, text), &held->view));
}

static void check_held(const struct held *held, uint32_t key)
{
    CHECK(held->view.value.size == book_value_size(key, held->version), "a view's size changed");
    model_check_value(key, held->version, held->view.value);
}

/* Lines of /proc/self/maps that name a file under path which has been unlinked. */
static unsigned unlinked_mappings(const char *path)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned count = 0;
    char line[1024];

    CHECK(maps, "no /proc/self/maps");
    while (fgets(line, sizeof line, maps))
        count += strstr(line, path) && strstr(line, "(deleted)");
    (void)fclose(maps);
    return count;
}

/* Descriptors of such files. */
static unsigned unlinked_descriptors(const char *path)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    unsigned count = 0;

    CHECK(dir, "no /proc/self/fd");
    while ((entry = readdir(dir))) {
        char target[1024];
        ssize_t size = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);

        if (size <= 0)
            continue;
        target[size] = '\0';
        count += strstr(target, path) && strstr(target, "(deleted)");
    }
    (void)closedir(dir);
    return count;
}

static bool nothing_unlinked_is_held(const char *path)
{
    return unlinked_mappings(path) == 0 && unlinked_descriptors(path) == 0;
}

/* Released segments go with the next merge at the latest. */
static void check_all_let_go(struct store *store)
{
    for (unsigned i = 0; i < 400 && !nothing_unlinked_is_held(store->path); i++) {
        CHECK_OK(cask_merge(store->db, NULL, NULL));
        pause_us(2000);
    }
    CHECK(unlinked_mappings(store->path) == 0, "%u unlinked segments stay mapped",
          unlinked_mappings(store->path));
    CHECK(unlinked_descriptors(store->path) == 0, "%u unlinked segments stay open",
          unlinked_descriptors(store->path));
}

static void test_a_view_outlives_the_merge_that_unlinks_its_segment(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = begin(mode, 2);
        struct book book = {.last_version = 0};
        struct held held[HELD];

        book_put_range(&book, store->db, 0, BOOK_KEYS);
        for (uint32_t key = 0; key < HELD; key++)
            hold(&book, store->db, key, &held[key]);
        book_put_range(&book, store->db, 0, BOOK_KEYS);
        CHECK_OK(cask_merge(store->db, NULL, NULL));
        CHECK(!path_exists(shard_path(store->path, 0, "1.data")), "the segment was not unlinked");
        if (unit_modes[mode].read_mapped)
            CHECK(unlinked_mappings(store->path) > 0, "nothing is kept mapped");
        for (uint32_t key = 0; key < HELD; key++)
            check_held(&held[key], key);
        for (unsigned round = 0; round < 3; round++) {
            for (uint32_t key = 0; key < BOOK_KEYS; key++)
                book_delete(&book, store->db, key);
            book_put_range(&book, store->db, 0, BOOK_KEYS);
            CHECK_OK(cask_merge(store->db, NULL, NULL));
            for (uint32_t key = 0; key < HELD; key++)
                check_held(&held[key], key);
            book_check(&book, store->db);
        }
        for (uint32_t key = 0; key < HELD; key++)
            cask_view_release(&held[key].view);
        check_all_let_go(store);
        check_no_errors(store);
        store_down(store);
        check_no_strays(store->path);
        store_end(store);
    }
}

/* Also of keys that are gone by then, and of the newest version: views of what was copied. */
static void test_views_of_every_age_are_held_over_many_merges(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = begin(mode, 1);
        struct book book = {.last_version = 0};
        struct held held[12][BOOK_KEYS / 8];

        for (uint32_t round = 0; round < 12; round++) {
            book_put_range(&book, store->db, 0, BOOK_KEYS);
            for (uint32_t i = 0; i < BOOK_KEYS / 8; i++)
                hold(&book, store->db, i * 8 + round % 8, &held[round][i]);
            for (uint32_t key = round % 3; key < BOOK_KEYS; key += 3)
                book_delete(&book, store->db, key);
            CHECK_OK(cask_merge(store->db, NULL, NULL));
            for (uint32_t i = 0; i < BOOK_KEYS / 8 && round >= 6; i++) /* some go half way */
                cask_view_release(&held[round - 6][i].view);
        }
        for (uint32_t round = 6; round < 12; round++)
            for (uint32_t i = 0; i < BOOK_KEYS / 8; i++) {
                check_held(&held[round][i], i * 8 + round % 8);
                cask_view_release(&held[round][i].view);
            }
        book_check(&book, store->db);
        check_all_let_go(store);
        store_end(store);
    }
}

static void test_an_iterator_goes_on_over_merges(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = begin(mode, 2);
        struct book book = {.last_version = 0};
        uint32_t seen[BOOK_KEYS] = {0};
        struct cask_iter *iter;
        struct cask_entry entry;
        int status;

        book_put_range(&book, store->db, 0, BOOK_KEYS);
        CHECK_OK(cask_iter_create(store->db, &iter));
        while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
            uint32_t key = book_key_number(entry.key);
            uint32_t version = model_value_version(key, entry.value);

            CHECK(version <= book.versions[key], "key %u is from the future", (unsigned)key);
            seen[key]++;
            book_put_range(&book, store->db, 0, BOOK_KEYS);
            CHECK_OK(cask_merge(store->db, NULL, NULL));
            /* the entry stays as it is until the next call */
            CHECK(book_key_number(entry.key) == key, "an entry's key changed");
            model_check_value(key, version, entry.value);
        }
        CHECK(status == CASK_NOTFOUND, "%s", cask_strerror(status));
        for (uint32_t key = 0; key < BOOK_KEYS; key++)
            CHECK(seen[key] == 1, "key %u comes %u times", (unsigned)key, (unsigned)seen[key]);
        cask_iter_destroy(iter);
        check_all_let_go(store);
        check_no_errors(store);
        store_end(store);
    }
}

static void test_an_iterator_left_half_way_lets_go_of_its_segments(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = begin(mode, 1);
        struct book book = {.last_version = 0};
        struct cask_iter *iter;
        struct cask_entry entry;

        book_put_range(&book, store->db, 0, BOOK_KEYS);
        CHECK_OK(cask_iter_create(store->db, &iter));
        for (unsigned i = 0; i < 10; i++)
            CHECK_OK(cask_iter_next(iter, &entry));
        book_put_range(&book, store->db, 0, BOOK_KEYS);
        CHECK_OK(cask_merge(store->db, NULL, NULL));
        cask_iter_destroy(iter);
        check_all_let_go(store);
        store_end(store);
    }
}

/* Views are taken and released at every step of a merge, by another thread. */
static struct held passing[BOOK_KEYS];

static void act_take_and_release(struct race *race)
{
    for (uint32_t key = race->calls % 3; key < BOOK_KEYS; key += 3) {
        if (passing[key].view.owner) {
            check_held(&passing[key], key);
            cask_view_release(&passing[key].view);
        } else {
            hold(&race->book, race->store->db, key, &passing[key]);
        }
    }
    book_put(&race->book, race->store->db, race->calls % BOOK_KEYS);
}

static void test_views_are_taken_and_released_in_the_midst_of_merges(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct race race = {.store = begin(mode, 2), .act = act_take_and_release};

        memset(passing, 0, sizeof passing);
        for (unsigned round = 0; round < 6; round++) {
            book_put_range(&race.book, race.store->db, 0, BOOK_KEYS);
            CHECK_OK(race_merge(&race));
        }
        for (uint32_t key = 0; key < BOOK_KEYS; key++)
            if (passing[key].view.owner) {
                check_held(&passing[key], key);
                cask_view_release(&passing[key].view);
            }
        book_check(&race.book, race.store->db);
        check_all_let_go(race.store);
        check_no_errors(race.store);
        store_end(race.store);
    }
}

/* A long life: neither descriptors nor mappings add up. */
static void test_merging_for_long_keeps_no_descriptors(void **state)
{
    (void)state;
    for (size_t mode = 0; mode < UNIT_MODES; mode++) {
        struct store *store = begin(mode, 1);
        struct book book = {.last_version = 0};
        unsigned after_some = 0;

        for (unsigned round = 0; round < 40; round++) {
            book_put_range(&book, store->db, 0, BOOK_KEYS);
            CHECK_OK(cask_merge(store->db, NULL, NULL));
            if (round == 5)
                after_some = count_descriptors();
        }
        CHECK(count_descriptors() <= after_some + 6, "%u descriptors, were %u", count_descriptors(),
              after_some);
        check_all_let_go(store);
        book_check(&book, store->db);
        store_end(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_view_outlives_the_merge_that_unlinks_its_segment),
        cmocka_unit_test(test_views_of_every_age_are_held_over_many_merges),
        cmocka_unit_test(test_an_iterator_goes_on_over_merges),
        cmocka_unit_test(test_an_iterator_left_half_way_lets_go_of_its_segments),
        cmocka_unit_test(test_views_are_taken_and_released_in_the_midst_of_merges),
        cmocka_unit_test(test_merging_for_long_keeps_no_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
