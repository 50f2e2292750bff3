/* H5 for the index's overflow at its limit: more keys than index_memory has room for, so that the
 * workers move keydirs to disk, merge runs and merge segments all the time, and writers are held
 * back where the memory is used up. Run under ThreadSanitizer too.
 *
 * Each key has one writer, which counts its versions: `begun` before the call, `done` after it.
 * Whether a version is a put or a delete follows from its number. So every answer can be judged by
 * anybody: it is that of a version from what was done before the call to what had begun after it.
 */
#include <stdatomic.h>

#include "store/store.h"
#include "support_model.h"
#include "support_strays.h"
#include "unit_store.h"

/* ThreadSanitizer would take an ordered access of the test for one of the library. */
#define TEST_ORDER (BUILT_WITH_TSAN ? memory_order_relaxed : memory_order_seq_cst)

#define KEYS 24000u
#define WRITERS 3u
#define WRITES 14000u /* of each */
#define GETTERS 2u
#define MANY 24u
#define VIEWS 12u
#define VALUE_MAX 64u
#define TAKEN ((uint64_t)350 << 10) /* of index_memory, so that fewer keys are enough */

struct crowd {
    struct store *store;
    _Atomic unsigned writers; /* that are still at work */
    _Atomic uint32_t begun[KEYS];
    _Atomic uint32_t done[KEYS];
};

struct member {
    struct crowd *crowd;
    unsigned number;
    struct rng rng;
};

static bool goes_on(struct crowd *crowd)
{
    return atomic_load_explicit(&crowd->writers, TEST_ORDER) > 0;
}

static uint32_t of(const _Atomic uint32_t *versions, uint32_t key)
{
    return atomic_load_explicit(&versions[key], TEST_ORDER);
}

/* Every fourth key is never deleted; version 0 is that nothing was written. */
static bool is_delete(uint32_t key, uint32_t version)
{
    return version == 0 || (key % 4 != 0 && mix64((uint64_t)key << 32 | version) % 3 == 0);
}

static struct cask_slice key_of(uint32_t key, char buffer[24])
{
    (void)snprintf(buffer, 24, "key-%u", (unsigned)key);
    return slice_of(buffer);
}

static struct cask_slice value_of(uint32_t key, uint32_t version, uint8_t buffer[VALUE_MAX])
{
    size_t size = 8 + mix64((uint64_t)version << 32 | key) % (VALUE_MAX - 8);

    model_value_bytes(key, version, buffer, size);
    return slice_bytes(buffer, size);
}

/* ---- judging --------------------------------------------------------------------------------- */

static void judge_absent(const struct crowd *crowd, uint32_t key, uint32_t done)
{
    uint32_t begun = of(crowd->begun, key);
    bool may = false;

    for (uint32_t version = done; version <= begun; version++)
        may |= is_delete(key, version);
    CHECK(may, "key %u is not there: versions %u to %u", key, done, begun);
}

static void judge_value(const struct crowd *crowd, uint32_t key, uint32_t done,
                        struct cask_slice value)
{
    uint32_t begun = of(crowd->begun, key);
    uint32_t version = model_value_version(key, value);

    model_check_value(key, version, value);
    CHECK(version >= done && version <= begun && !is_delete(key, version),
          "key %u has version %u, not %u to %u", key, version, done, begun);
}

static void judge(const struct crowd *crowd, uint32_t key, uint32_t done, int status,
                  struct cask_slice value)
{
    if (status == CASK_NOTFOUND) {
        judge_absent(crowd, key, done);
        return;
    }
    CHECK(status == CASK_OK, "key %u: %s", key, cask_strerror(status));
    judge_value(crowd, key, done, value);
}

/* ---- writing --------------------------------------------------------------------------------- */

static uint32_t begin_version(struct crowd *crowd, uint32_t key)
{
    uint32_t version = of(crowd->begun, key) + 1;

    atomic_store_explicit(&crowd->begun[key], version, TEST_ORDER);
    return version;
}

static void write_one(struct crowd *crowd, uint32_t key)
{
    bool was_there = !is_delete(key, of(crowd->done, key));
    uint32_t version = begin_version(crowd, key);
    uint8_t value[VALUE_MAX];
    char text[24];

    if (is_delete(key, version)) {
        int status = cask_delete(crowd->store->db, key_of(key, text));

        CHECK(status == (was_there ? CASK_OK : CASK_NOTFOUND), "deleting key %u: %s", key,
              cask_strerror(status));
    } else {
        CHECK_OK(cask_put(crowd->store->db, key_of(key, text), value_of(key, version, value)));
    }
    atomic_store_explicit(&crowd->done[key], version, TEST_ORDER);
}

/* Keys of one writer, so that no other has begun a newer version of one meanwhile. */
static void write_batch(struct crowd *crowd, const uint32_t *keys, unsigned count)
{
    uint32_t versions[8];
    struct cask_batch *batch;

    CHECK_OK(cask_batch_create(crowd->store->db, &batch));
    for (unsigned i = 0; i < count; i++) {
        uint8_t value[VALUE_MAX];
        char text[24];

        versions[i] = begin_version(crowd, keys[i]);
        if (is_delete(keys[i], versions[i]))
            CHECK_OK(cask_batch_delete(batch, key_of(keys[i], text)));
        else
            CHECK_OK(cask_batch_put(batch, key_of(keys[i], text),
                                    value_of(keys[i], versions[i], value)));
    }
    CHECK_OK(cask_write(crowd->store->db, batch));
    for (unsigned i = 0; i < count; i++)
        atomic_store_explicit(&crowd->done[keys[i]], versions[i], TEST_ORDER);
    cask_batch_destroy(batch);
}

/* What this thread wrote last is what it reads. */
static void check_own(struct crowd *crowd, uint32_t key)
{
    uint8_t buffer[VALUE_MAX];
    size_t size = 0;
    char text[24];
    int status = cask_get(crowd->store->db, key_of(key, text), buffer, sizeof buffer, &size);

    judge(crowd, key, of(crowd->done, key), status, slice_bytes(buffer, size));
}

static uint32_t own_key(struct member *member)
{
    return (uint32_t)rng_below(&member->rng, KEYS / WRITERS) * WRITERS + member->number;
}

/* First all of its keys in turn, which is more than fits, then some at random. */
static void *write_keys(void *argument)
{
    struct member *member = argument;
    struct crowd *crowd = member->crowd;

    for (unsigned i = 0; i < WRITES; i++) {
        uint32_t key = i < KEYS / WRITERS ? i * WRITERS + member->number : own_key(member);
        uint32_t keys[8] = {key};
        unsigned count = 1;

        if (!rng_percent(&member->rng, 3)) {
            write_one(crowd, key);
        } else {
            for (; count < COUNT_OF(keys); count++)
                keys[count] = (keys[count - 1] + WRITERS * 7) % KEYS;
            write_batch(crowd, keys, count);
        }
        if (rng_percent(&member->rng, 10))
            check_own(crowd, rng_percent(&member->rng, 50) ? key : own_key(member));
    }
    atomic_fetch_sub_explicit(&crowd->writers, 1, TEST_ORDER);
    return NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void get_many(struct member *member)
{
    struct crowd *crowd = member->crowd;
    struct cask_slice keys[MANY];
    struct cask_slice values[MANY];
    uint8_t buffer[MANY * VALUE_MAX];
    uint32_t numbers[MANY];
    uint32_t done[MANY];
    char texts[MANY][24];
    int statuses[MANY];

    for (unsigned i = 0; i < MANY; i++) {
        numbers[i] = (uint32_t)rng_below(&member->rng, KEYS);
        keys[i] = key_of(numbers[i], texts[i]);
        done[i] = of(crowd->done, numbers[i]);
    }
    CHECK_OK(cask_get_many(crowd->store->db, MANY, keys, buffer, sizeof buffer, values, statuses));
    for (unsigned i = 0; i < MANY; i++)
        judge(crowd, numbers[i], done[i], statuses[i], values[i]);
}

/* Views of all versions there are at their time are held for a while and must not change. */
static void hold_views(struct member *member)
{
    struct crowd *crowd = member->crowd;
    struct cask_view views[VIEWS] = {{{NULL, 0}, NULL, 0}};
    uint32_t keys[VIEWS];
    uint32_t versions[VIEWS];
    unsigned count = 0;

    for (unsigned i = 0; i < VIEWS; i++) {
        uint32_t key = (uint32_t)rng_below(&member->rng, KEYS);
        uint32_t done = of(crowd->done, key);
        char text[24];
        int status = cask_view(crowd->store->db, key_of(key, text), &views[count]);

        judge(crowd, key, done, status, views[count].value);
        if (status != CASK_OK)
            continue;
        versions[count] = model_value_version(key, views[count].value);
        keys[count++] = key;
    }
    for (unsigned i = 0; i < 20; i++) {
        get_many(member);
        pause_us(2000); /* writers are to get somewhere meanwhile */
    }
    for (unsigned i = 0; i < count; i++) {
        model_check_value(keys[i], versions[i], views[i].value);
        cask_view_release(&views[i]);
    }
}

static void *get(void *argument)
{
    struct member *member = argument;

    while (goes_on(member->crowd)) {
        hold_views(member);
        check_own(member->crowd, (uint32_t)rng_below(&member->rng, KEYS));
    }
    return NULL;
}

static uint32_t number_of(struct cask_slice key)
{
    char text[24] = {0};
    unsigned number = KEYS;

    CHECK(key.size > 4 && key.size < sizeof text, "a key nobody wrote");
    memcpy(text, key.data, key.size);
    CHECK(sscanf(text, "key-%u", &number) == 1 && number < KEYS, "a key nobody wrote: %s", text);
    return number;
}

/* Returns how many keys there were. */
static uint64_t iterate(struct crowd *crowd)
{
    uint32_t *done = malloc(KEYS * sizeof *done);
    uint8_t *seen = calloc(KEYS, 1);
    uint64_t count = 0;
    struct cask_iter *iter;
    struct cask_entry entry;
    int status;

    CHECK(done && seen, "out of memory");
    for (uint32_t key = 0; key < KEYS; key++)
        done[key] = of(crowd->done, key);
    CHECK_OK(cask_iter_create(crowd->store->db, &iter));
    while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
        uint32_t key = number_of(entry.key);

        CHECK(seen[key]++ == 0, "key %u comes twice", (unsigned)key);
        judge_value(crowd, key, done[key], entry.value);
        count++;
    }
    CHECK(status == CASK_NOTFOUND, "%s", cask_strerror(status));
    cask_iter_destroy(iter);
    for (uint32_t key = 0; key < KEYS; key++)
        if (!seen[key])
            judge_absent(crowd, key, done[key]);
    free(done);
    free(seen);
    return count;
}

static void *walk(void *argument)
{
    struct member *member = argument;

    while (goes_on(member->crowd)) {
        (void)iterate(member->crowd);
        pause_us(100000);
    }
    return NULL;
}

/* The budget holds at every look. */
static void *watch(void *argument)
{
    struct member *member = argument;
    struct store *store = member->crowd->store;

    while (goes_on(member->crowd)) {
        struct cask_stats stats = stats_of(store);

        CHECK(stats.index_ram_bytes <= stats.index_memory + (64 << 10),
              "the index takes %llu bytes", (unsigned long long)stats.index_ram_bytes);
        CHECK(stats.index_failures == 0, "%s", store->lines.text);
        CHECK_OK(cask_sync(store->db));
        pause_us(5000);
    }
    return NULL;
}

/* ---- all together ---------------------------------------------------------------------------- */

static void run(struct crowd *crowd)
{
    struct {
        void *(*work)(void *);
        unsigned count;
    } const roles[] = {{write_keys, WRITERS}, {get, GETTERS}, {walk, 1}, {watch, 1}};
    struct member members[WRITERS + GETTERS + 2];
    pthread_t threads[COUNT_OF(members)];
    unsigned count = 0;

    atomic_store(&crowd->writers, WRITERS);
    for (unsigned role = 0; role < COUNT_OF(roles); role++)
        for (unsigned i = 0; i < roles[role].count; i++, count++) {
            members[count] = (struct member){crowd, i, {count + 1}};
            CHECK(pthread_create(&threads[count], NULL, roles[role].work, &members[count]) == 0,
                  "no more threads");
        }
    while (count > 0)
        (void)pthread_join(threads[--count], NULL);
}

static void check_no_errors(struct store *store)
{
    CHECK(log_lines_count(&store->lines, CASK_LOG_ERROR) == 0, "%s", store->lines.text);
}

static void check_all(struct crowd *crowd)
{
    uint64_t count = iterate(crowd);

    for (uint32_t key = 0; key < KEYS; key += 3)
        check_own(crowd, key);
    CHECK_OK(cask_flush_index(crowd->store->db));
    CHECK(stats_of(crowd->store).live_keys == count, "%llu keys are counted, not %llu",
          (unsigned long long)stats_of(crowd->store).live_keys, (unsigned long long)count);
    CHECK_OK(cask_verify(crowd->store->db, NULL, NULL));
}

static void overflow(size_t mode)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    struct store *store = store_make(2);
    struct cask_stats stats;

    CHECK(crowd, "out of memory");
    store->options.write_mode = unit_modes[mode].write_mapped ? CASK_WRITE_MAPPED
                                                              : CASK_WRITE_SYSCALL;
    store->options.read_mode = unit_modes[mode].read_mapped ? CASK_READ_MAPPED : CASK_READ_PREAD;
    store->options.segment_bytes = 256 << 10;
    store->options.index_memory = 1 << 20;
    store->options.merge_trigger_percent = 15;
    store->options.merge_segment_percent = 20;
    store->options.merge_at_once = 2;
    store_up(store);
    budget_overdraw(&store->db->env.budget, TAKEN);
    crowd->store = store;
    run(crowd);
    stats = stats_of(store);
    for (unsigned i = 0; i < 6000 && stats.merges == 0; i++) { /* the machine may be busy */
        pause_us(10000);
        stats = stats_of(store);
    }
    CHECK(stats.index_flushes >= 4 && stats.index_run_merges > 0 && stats.merges > 0,
          "%llu flushes, %llu merges of runs, %llu merges", (unsigned long long)stats.index_flushes,
          (unsigned long long)stats.index_run_merges, (unsigned long long)stats.merges);
    CHECK(stats.merges_failed == 0, "%s", store->lines.text);
    check_all(crowd);
    check_no_errors(store);
    store_again(store);
    check_all(crowd);
    check_no_errors(store);
    store_down(store);
    check_no_strays(store->path);
    store_end(store);
    free(crowd);
}

static void test_answers_are_right_while_the_index_flows_over(void **state)
{
    (void)state;
    overflow(0);
    overflow(UNIT_MODES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_are_right_while_the_index_flows_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
