/* Merging, for the tests of it: a store whose contents are known at every moment, merges that are
 * raced and broken off, and whether they leave files behind.
 *
 * Invariants:
 *  1. A book says for each of its keys which version a store must have. It is kept by the thread
 *     that writes; all others wait meanwhile.
 *  2. While a race's act runs the merge stands still in its progress callback: what the act does
 *     falls into the midst of the merge, at the same place in every run.
 */
#ifndef CASKADE_TESTS_UNIT_MERGE_H
#define CASKADE_TESTS_UNIT_MERGE_H

#include "support_model.h"
#include "support_strays.h"
#include "unit_store.h"

#define BOOK_KEYS 64u
#define BOOK_VALUE_MAX 400u
#define LONG_AGO 1u /* an expiry that has passed */

struct book {
    uint32_t versions[BOOK_KEYS]; /* 0: absent */
    uint32_t last_version;
};

static inline struct cask_slice book_key(uint32_t key, char buffer[24])
{
    snprintf(buffer, 24, "key-%02u", (unsigned)key);
    return slice_of(buffer);
}

/* Now and then one without bytes, and one that needs a segment of its own. */
static inline size_t book_value_size(uint32_t key, uint32_t version)
{
    uint64_t random = mix64((uint64_t)key << 32 | version);

    if (random % 16 == 0)
        return 0;
    if (random % 41 == 1)
        return BOOK_VALUE_MAX;
    return 8 + random / 64 % 80;
}

static inline struct cask_slice book_value(uint32_t key, uint32_t version,
                                           uint8_t buffer[BOOK_VALUE_MAX])
{
    size_t size = book_value_size(key, version);

    model_value_bytes(key, version, buffer, size);
    return slice_bytes(buffer, size);
}

static inline void book_put(struct book *book, struct cask_db *db, uint32_t key)
{
    uint32_t version = ++book->last_version;
    uint8_t value[BOOK_VALUE_MAX];
    char text[24];

    CHECK_OK(cask_put(db, book_key(key, text), book_value(key, version, value)));
    book->versions[key] = version;
}

static inline void book_put_range(struct book *book, struct cask_db *db, uint32_t first,
                                  uint32_t end)
{
    for (uint32_t key = first; key < end; key++)
        book_put(book, db, key);
}

/* A put that has expired when it returns. */
static inline void book_expire(struct book *book, struct cask_db *db, uint32_t key)
{
    uint32_t version = ++book->last_version;
    uint8_t value[BOOK_VALUE_MAX];
    char text[24];

    CHECK_OK(cask_put_expiring(db, book_key(key, text), book_value(key, version, value), LONG_AGO));
    book->versions[key] = 0;
}

static inline void book_delete(struct book *book, struct cask_db *db, uint32_t key)
{
    int expected = book->versions[key] != 0 ? CASK_OK : CASK_NOTFOUND;
    char text[24];

    CHECK_STATUS(cask_delete(db, book_key(key, text)), expected);
    book->versions[key] = 0;
}

/* Puts of every third key of a range and deletes of the others, as one batch. */
static inline void book_batch(struct book *book, struct cask_db *db, uint32_t first, uint32_t end)
{
    struct cask_batch *batch;

    CHECK_OK(cask_batch_create(db, &batch));
    for (uint32_t key = first; key < end; key++) {
        uint32_t version = key % 3 == 0 ? ++book->last_version : 0;
        uint8_t value[BOOK_VALUE_MAX];
        char text[24];

        if (version != 0)
            CHECK_OK(cask_batch_put(batch, book_key(key, text), book_value(key, version, value)));
        else
            CHECK_OK(cask_batch_delete(batch, book_key(key, text)));
        book->versions[key] = version;
    }
    CHECK_OK(cask_write(db, batch));
    cask_batch_destroy(batch);
}

static inline void book_check_key(const struct book *book, struct cask_db *db, uint32_t key)
{
    uint32_t version = book->versions[key];
    uint8_t value[BOOK_VALUE_MAX];
    char text[24];
    size_t size = 0;
    int status = cask_get(db, book_key(key, text), value, sizeof value, &size);

    CHECK(status == (version != 0 ? CASK_OK : CASK_NOTFOUND), "key %u: %s", (unsigned)key,
          cask_strerror(status));
    if (version == 0)
        return;
    CHECK(size == book_value_size(key, version), "key %u has %zu bytes", (unsigned)key, size);
    model_check_value(key, version, slice_bytes(value, size));
}

static inline uint32_t book_key_number(struct cask_slice key)
{
    unsigned number = 0;
    char text[24] = {0};

    CHECK(key.size == 6, "a key nobody wrote");
    memcpy(text, key.data, key.size);
    CHECK(sscanf(text, "key-%u", &number) == 1 && number < BOOK_KEYS, "a key nobody wrote: %s",
          text);
    return number;
}

/* By gets, and by an iteration, which shows each key that is there once and no other. */
static inline void book_check(const struct book *book, struct cask_db *db)
{
    bool seen[BOOK_KEYS] = {false};
    struct cask_iter *iter;
    struct cask_entry entry;
    int status;

    for (uint32_t key = 0; key < BOOK_KEYS; key++)
        book_check_key(book, db, key);
    CHECK_OK(cask_iter_create(db, &iter));
    while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
        uint32_t key = book_key_number(entry.key);

        CHECK(!seen[key], "key %u comes twice", (unsigned)key);
        CHECK(book->versions[key] != 0, "key %u is back", (unsigned)key);
        model_check_value(key, book->versions[key], entry.value);
        seen[key] = true;
    }
    CHECK(status == CASK_NOTFOUND, "%s", cask_strerror(status));
    cask_iter_destroy(iter);
    for (uint32_t key = 0; key < BOOK_KEYS; key++)
        CHECK(seen[key] == (book->versions[key] != 0), "key %u is not iterated", (unsigned)key);
}

static inline void book_check_range(const struct book *book, struct cask_db *db, uint32_t first,
                                    uint32_t end)
{
    for (uint32_t key = first; key < end; key++)
        book_check_key(book, db, key);
}

/* ---- races ----------------------------------------------------------------------------------- */

struct race {
    struct store *store;
    struct book book;
    void (*act)(struct race *race); /* by another thread; NULL: none */
    unsigned calls;                 /* of the progress callback */
    unsigned stop_at;               /* the call that breaks the merge off; 0: none */
    uint64_t done;
    uint64_t total;
    struct store *image; /* of the files, when it was broken off, and what they hold */
    struct book image_book;
};

static inline void *race_run(void *argument)
{
    struct race *race = argument;

    race->act(race);
    return NULL;
}

static inline int race_progress(void *context, uint64_t done, uint64_t total)
{
    struct race *race = context;
    pthread_t thread;

    race->calls++;
    CHECK(done <= total, "%llu of %llu bytes", (unsigned long long)done, (unsigned long long)total);
    CHECK(done >= race->done || total != race->total, "progress goes back");
    race->done = done;
    race->total = total;
    if (race->act) {
        CHECK(pthread_create(&thread, NULL, race_run, race) == 0, "no more threads");
        (void)pthread_join(thread, NULL);
    }
    if (race->calls != race->stop_at)
        return 0;
    race->image = store_copy(race->store);
    race->image_book = race->book;
    return 1;
}

static inline int race_merge(struct race *race)
{
    race->done = 0;
    race->total = 0;
    return cask_merge(race->store->db, race_progress, race);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Whether a file of this segment is there. */
static inline bool has_segment(struct store *store, unsigned id)
{
    char name[24];

    snprintf(name, sizeof name, "%u.data", id);
    return path_exists(shard_path(store->path, 0, name));
}

static inline void check_no_errors(struct store *store)
{
    CHECK(log_lines_count(&store->lines, CASK_LOG_ERROR) == 0, "%s", store->lines.text);
}

/* Merges until there is nothing more to gain: tombstones may need a second time. */
static inline void merge_all(struct store *store)
{
    uint64_t before;

    do {
        before = stats_of(store).dead_bytes;
        CHECK_OK(cask_merge(store->db, NULL, NULL));
    } while (stats_of(store).dead_bytes < before);
}

#endif
