/* H5 for merging and for the index's overflow: threads at work on one store while its workers merge
 * by themselves and two threads call cask_merge() over and over, with segments so small that there
 * is always one on its way out; and, in the last of the modes, while another thread moves the index
 * to disk and has its runs merged all the time. Run under ThreadSanitizer too.
 *
 * Proved:
 *  1. Each key by itself behaves like a register: the histories of puts, expiring puts, deletes,
 *     batches and look-ups of all threads have an order that agrees with the clock and with every
 *     answer, whatever merges move meanwhile.
 *  2. An iteration shows each key that lives throughout exactly once, and any other at most once;
 *     a value that is shown is one that was written.
 *  3. The bytes of views stay what they were while their segments are merged away.
 *  4. Verify, sync, statistics and read-only opens beside all that find nothing wrong; after it the
 *     store reopens with the same contents and no file too many.
 */
#include <stdatomic.h>

#include "support_linear.h"
#include "support_spill.h"
#include "unit_merge.h"

/* ThreadSanitizer would take an ordered access of the test for one of the library. */
#define TEST_ORDER (BUILT_WITH_TSAN ? memory_order_relaxed : memory_order_seq_cst)

static const struct mode {
    enum cask_write_mode write_mode;
    enum cask_read_mode read_mode;
    enum cask_sync_mode sync_mode;
    uint32_t shard_count;
    uint64_t segment_bytes;
    bool spills;
} modes[] = {
    {CASK_WRITE_MAPPED, CASK_READ_MAPPED, CASK_SYNC_NONE, 1, 1000, false},
    {CASK_WRITE_SYSCALL, CASK_READ_MAPPED, CASK_SYNC_ALWAYS, 2, 2000, false},
    {CASK_WRITE_MAPPED, CASK_READ_PREAD, CASK_SYNC_INTERVAL, 2, 4000, false},
    {CASK_WRITE_SYSCALL, CASK_READ_PREAD, CASK_SYNC_NONE, 4, 800, false},
    {CASK_WRITE_MAPPED, CASK_READ_MAPPED, CASK_SYNC_NONE, 2, 1000, true},
    {CASK_WRITE_SYSCALL, CASK_READ_PREAD, CASK_SYNC_NONE, 1, 2000, true},
};

#define MERGERS 2u

/* The store of one test, the threads that merge it, and when they are to end. */
struct scene {
    struct store *store;
    struct log_lines reader_lines; /* of what is opened beside it */
    _Atomic bool stop;
    _Atomic uint32_t merges;
    pthread_t mergers[MERGERS];
    pthread_t maintainer;
    pthread_t spiller;
    bool spills;
};

static bool stopped(struct scene *scene)
{
    return atomic_load_explicit(&scene->stop, TEST_ORDER);
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    CHECK(pthread_create(thread, NULL, run, argument) == 0, "no more threads");
}

/* Some are broken off. */
static int progress(void *context, uint64_t done, uint64_t total)
{
    unsigned *left = context;

    CHECK(done <= total, "%llu of %llu", (unsigned long long)done, (unsigned long long)total);
    return *left > 0 && --*left == 0;
}

static void *merge(void *argument)
{
    struct scene *scene = argument;
    struct rng rng = {9};

    while (!stopped(scene)) {
        unsigned left = rng_percent(&rng, 20) ? 1 + (unsigned)rng_below(&rng, 20) : 0;
        int status = cask_merge(scene->store->db, progress, &left);

        CHECK(status == CASK_OK || status == CASK_EBUSY, "%s", cask_strerror(status));
        atomic_fetch_add_explicit(&scene->merges, 1, memory_order_relaxed);
        pause_us(rng_below(&rng, 2000));
    }
    return NULL;
}

/* A writer that is too fast is an answer; a store with holes is none. */
static void read_beside(struct scene *scene)
{
    struct cask_options options = scene->store->options;
    struct cask_iter *iter;
    struct cask_entry entry;
    struct cask_db *db;
    int status;

    options.read_only = 1;
    options.shard_count = 0;
    options.log = log_lines_collect;
    options.log_context = &scene->reader_lines;
    status = cask_open(scene->store->path, &options, &db);
    if (status == CASK_EBUSY) {
        CHECK(log_lines_count(&scene->reader_lines, CASK_LOG_ERROR) == 1, "%s",
              scene->reader_lines.text);
        log_lines_clear(&scene->reader_lines);
        return;
    }
    CHECK(status == CASK_OK, "%s: %s", cask_strerror(status), scene->reader_lines.text);
    CHECK_OK(cask_iter_create(db, &iter));
    while ((status = cask_iter_next(iter, &entry)) == CASK_OK)
        continue;
    CHECK(status == CASK_NOTFOUND, "%s: %s", cask_strerror(status), scene->reader_lines.text);
    cask_iter_destroy(iter);
    CHECK_OK(cask_close(db));
    CHECK(log_lines_count(&scene->reader_lines, CASK_LOG_ERROR) == 0, "%s",
          scene->reader_lines.text);
}

static void verify(struct scene *scene)
{
    int status = cask_verify(scene->store->db, NULL, NULL);

    CHECK(status == CASK_OK, "%s: %s", cask_strerror(status), scene->store->lines.text);
}

static void *maintain(void *argument)
{
    struct scene *scene = argument;

    for (unsigned i = 0; !stopped(scene); i++) {
        (void)stats_of(scene->store);
        CHECK_OK(cask_sync(scene->store->db));
        if (i % 16 == 3)
            verify(scene);
        if (i % 16 == 11)
            read_beside(scene);
        pause_us(1000);
    }
    return NULL;
}

/* Mostly one more run in a shard, as its worker would make it. */
static void *spill(void *argument)
{
    struct scene *scene = argument;
    struct cask_db *db = scene->store->db;
    struct rng rng = {11};

    while (!stopped(scene)) {
        uint32_t shard = (uint32_t)rng_below(&rng, scene->store->options.shard_count);

        CHECK_OK(rng_percent(&rng, 15) ? cask_flush_index(db) : spill_shard(db, shard));
        pause_us(rng_below(&rng, 1500));
    }
    return NULL;
}

static void scene_open(struct scene *scene, const struct mode *mode)
{
    struct store *store = store_make(mode->shard_count);

    store->options.write_mode = mode->write_mode;
    store->options.read_mode = mode->read_mode;
    store->options.sync_mode = mode->sync_mode;
    store->options.sync_interval_ms = mode->sync_mode == CASK_SYNC_INTERVAL ? 3 : 0;
    store->options.segment_bytes = mode->segment_bytes;
    store->options.index_memory = (uint64_t)(mode->spills ? 1 : 64) << 20;
    store->options.merge_trigger_percent = 20;
    store->options.merge_segment_percent = 30;
    store->options.merge_at_once = 2;
    store_up(store);
    scene->store = store;
    scene->spills = mode->spills;
    log_lines_init(&scene->reader_lines);
    atomic_store(&scene->stop, false);
    atomic_store(&scene->merges, 0);
}

static void scene_start(struct scene *scene)
{
    for (unsigned i = 0; i < MERGERS; i++)
        start(&scene->mergers[i], merge, scene);
    start(&scene->maintainer, maintain, scene);
    if (scene->spills)
        start(&scene->spiller, spill, scene);
}

static void scene_stop(struct scene *scene)
{
    struct cask_stats stats;

    atomic_store_explicit(&scene->stop, true, TEST_ORDER);
    for (unsigned i = 0; i < MERGERS; i++)
        (void)pthread_join(scene->mergers[i], NULL);
    (void)pthread_join(scene->maintainer, NULL);
    if (scene->spills)
        (void)pthread_join(scene->spiller, NULL);
    stats = stats_of(scene->store);
    CHECK(!scene->spills || stats.index_flushes > 0, "nothing was moved to disk");
    CHECK(stats.index_failures == 0, "%llu flushes failed: %s",
          (unsigned long long)stats.index_failures, scene->store->lines.text);
    CHECK(stats.merges > 0 && stats.merge_freed_bytes > 0, "nothing was merged");
    CHECK(stats.merges_failed == 0, "%llu merges failed: %s",
          (unsigned long long)stats.merges_failed, scene->store->lines.text);
    verify(scene);
}

static void scene_close(struct scene *scene)
{
    check_no_errors(scene->store);
    store_again(scene->store);
    CHECK_OK(cask_verify(scene->store->db, NULL, NULL));
    check_no_errors(scene->store);
    store_down(scene->store);
    check_no_strays(scene->store->path);
    store_end(scene->store);
    pthread_mutex_destroy(&scene->reader_lines.lock);
}

/* ---- 1: registers ---------------------------------------------------------------------------- */

#define REGISTERS 3u
#define ROUNDS 30u
#define STEPS 40u
#define VALUE_MAX 120u

struct registers {
    struct scene scene;
    pthread_barrier_t barrier;
    uint32_t round;
    struct history histories[REGISTERS];
};

struct player {
    struct registers *registers;
    uint32_t number;
    struct rng rng;
    uint32_t steps;
};

/* Each round has keys of its own, so that all start absent. */
static struct cask_slice register_key(const struct registers *registers, uint32_t which,
                                      char buffer[24])
{
    snprintf(buffer, 24, "%u of %u", (unsigned)which, (unsigned)registers->round);
    return slice_of(buffer);
}

static void note(struct player *player, uint32_t which, enum history_kind kind, uint32_t value,
                 uint64_t began)
{
    history_add(&player->registers->histories[which], player->number,
                (struct history_op){began, clock_ns(), kind, value, 0});
}

static uint32_t read_value(const void *bytes, size_t size)
{
    uint32_t value;

    CHECK(size >= sizeof value, "a value nobody wrote");
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* A value no one else writes: its first bytes say which. */
static struct cask_slice new_value(struct player *player, uint8_t buffer[VALUE_MAX],
                                   uint32_t *ret_value)
{
    *ret_value = player->number << 16 | ++player->steps;
    memset(buffer, (int)player->steps, VALUE_MAX);
    memcpy(buffer, ret_value, sizeof *ret_value);
    return slice_bytes(buffer, 4 + rng_below(&player->rng, VALUE_MAX - 4));
}

/* One that has expired when it is put is a delete that does not say what was there. */
static void play_write(struct player *player, uint32_t which)
{
    struct cask_db *db = player->registers->scene.store->db;
    uint64_t kind = rng_below(&player->rng, 100);
    uint8_t buffer[VALUE_MAX];
    char text[24];
    struct cask_slice key = register_key(player->registers, which, text);
    uint32_t value;
    struct cask_slice slice = new_value(player, buffer, &value);
    uint64_t began = clock_ns();
    int status;

    if (kind < 40) {
        CHECK_OK(cask_put(db, key, slice));
        note(player, which, HISTORY_WRITE, value, began);
    } else if (kind < 60) {
        CHECK_OK(cask_put_expiring(db, key, slice, wall_clock_ms() + 3600000));
        note(player, which, HISTORY_WRITE, value, began);
    } else if (kind < 75) {
        CHECK_OK(cask_put_expiring(db, key, slice, LONG_AGO));
        note(player, which, HISTORY_WRITE, 0, began);
    } else {
        status = cask_delete(db, key);
        CHECK(status == CASK_OK || status == CASK_NOTFOUND, "%s", cask_strerror(status));
        note(player, which, status == CASK_OK ? HISTORY_REMOVE : HISTORY_FIND_ABSENT, 0, began);
    }
}

/* The keys of a batch may appear one after another, each somewhere within the call. */
static void play_batch(struct player *player)
{
    struct cask_db *db = player->registers->scene.store->db;
    uint32_t values[REGISTERS];
    struct cask_batch *batch;
    uint64_t began;

    CHECK_OK(cask_batch_create(db, &batch));
    for (uint32_t which = 0; which < REGISTERS; which++) {
        uint8_t buffer[VALUE_MAX];
        char text[24];
        struct cask_slice key = register_key(player->registers, which, text);

        values[which] = 0;
        if (rng_percent(&player->rng, 30))
            CHECK_OK(cask_batch_delete(batch, key));
        else
            CHECK_OK(cask_batch_put(batch, key, new_value(player, buffer, &values[which])));
    }
    began = clock_ns();
    CHECK_OK(cask_write(db, batch));
    for (uint32_t which = 0; which < REGISTERS; which++)
        note(player, which, HISTORY_WRITE, values[which], began);
    cask_batch_destroy(batch);
}

static void play_read(struct player *player, uint32_t which)
{
    struct cask_db *db = player->registers->scene.store->db;
    char text[24];
    struct cask_slice key = register_key(player->registers, which, text);
    uint8_t buffer[VALUE_MAX];
    struct cask_view view;
    size_t size = 0;
    uint64_t began = clock_ns();
    uint64_t kind = rng_below(&player->rng, 3);
    int status;

    if (kind == 0) {
        status = cask_exists(db, key);
        CHECK(status == CASK_OK || status == CASK_NOTFOUND, "%s", cask_strerror(status));
        note(player, which, status == CASK_OK ? HISTORY_FIND_ANY : HISTORY_FIND_ABSENT, 0, began);
        return;
    }
    status = kind == 1 ? cask_get(db, key, buffer, sizeof buffer, &size)
                       : cask_view(db, key, &view);
    CHECK(status == CASK_OK || status == CASK_NOTFOUND, "%s", cask_strerror(status));
    if (status == CASK_NOTFOUND)
        note(player, which, HISTORY_FIND_ABSENT, 0, began);
    else if (kind == 1)
        note(player, which, HISTORY_FIND, read_value(buffer, size), began);
    else
        note(player, which, HISTORY_FIND, read_value(view.value.data, view.value.size), began);
    if (kind == 2 && status == CASK_OK)
        cask_view_release(&view);
}

static void *play(void *argument)
{
    struct player *player = argument;
    struct registers *registers = player->registers;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        (void)pthread_barrier_wait(&registers->barrier); /* the histories are empty */
        for (uint32_t i = 0; i < STEPS; i++) {
            uint32_t which = (uint32_t)rng_below(&player->rng, REGISTERS);
            uint64_t kind = rng_below(&player->rng, 100);

            if (kind < 45)
                play_write(player, which);
            else if (kind < 55)
                play_batch(player);
            else
                play_read(player, which);
            pause_us(rng_below(&player->rng, 100)); /* merges get somewhere meanwhile */
        }
        player->steps = 0;
        (void)pthread_barrier_wait(&registers->barrier); /* the histories are complete */
    }
    return NULL;
}

static void judge(struct registers *registers)
{
    for (uint32_t which = 0; which < REGISTERS; which++) {
        bool linear = history_is_linearizable(&registers->histories[which]);

        if (!linear)
            history_print(&registers->histories[which]);
        CHECK(linear, "round %u, register %u", (unsigned)registers->round, (unsigned)which);
    }
}

static void run_registers(const struct mode *mode)
{
    struct registers *registers = calloc(1, sizeof *registers);
    struct player players[HISTORY_THREADS];
    pthread_t threads[HISTORY_THREADS];

    CHECK(registers, "out of memory");
    scene_open(&registers->scene, mode);
    CHECK(pthread_barrier_init(&registers->barrier, NULL, HISTORY_THREADS + 1) == 0, "no barrier");
    scene_start(&registers->scene);
    for (uint32_t i = 0; i < HISTORY_THREADS; i++) {
        players[i] = (struct player){registers, i, {i + 7}, 0};
        start(&threads[i], play, &players[i]);
    }
    for (registers->round = 0; registers->round < ROUNDS; registers->round++) {
        for (uint32_t which = 0; which < REGISTERS; which++)
            history_clear(&registers->histories[which]);
        (void)pthread_barrier_wait(&registers->barrier);
        (void)pthread_barrier_wait(&registers->barrier);
        judge(registers);
    }
    for (uint32_t i = 0; i < HISTORY_THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    scene_stop(&registers->scene);
    (void)pthread_barrier_destroy(&registers->barrier);
    scene_close(&registers->scene);
    free(registers);
}

static void test_each_key_is_a_register_while_merges_move_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(modes); i++)
        run_registers(&modes[i]);
}

/* ---- 2, 3: iterations and views -------------------------------------------------------------- */

#define LASTING 200u /* keys that live throughout, overwritten now and then */
#define PASSING 200u /* keys that come and go */
#define ITERATIONS 40u
#define READERS 2u

struct crowd {
    struct scene scene;
    _Atomic uint32_t readers; /* that are still at work */
};

static struct cask_slice crowd_key(uint32_t key, char buffer[24])
{
    snprintf(buffer, 24, "key-%u", (unsigned)key);
    return slice_of(buffer);
}

static uint32_t crowd_number(struct cask_slice key)
{
    char text[24] = {0};
    unsigned number;

    CHECK(key.size > 4 && key.size < sizeof text, "a key nobody wrote");
    memcpy(text, key.data, key.size);
    CHECK(sscanf(text, "key-%u", &number) == 1 && number < LASTING + PASSING,
          "a key nobody wrote: %s", text);
    return number;
}

static void crowd_put(struct cask_db *db, uint32_t key, uint32_t version)
{
    size_t size = 8 + mix64((uint64_t)key << 32 | version) % (VALUE_MAX - 8);
    uint8_t value[VALUE_MAX];
    char text[24];

    model_value_bytes(key, version, value, size);
    CHECK_OK(cask_put(db, crowd_key(key, text), slice_bytes(value, size)));
}

static void crowd_pass(struct cask_db *db, struct rng *rng, uint32_t version)
{
    uint32_t key = LASTING + (uint32_t)rng_below(rng, PASSING);
    char text[24];
    int status;

    if (rng_percent(rng, 40)) {
        crowd_put(db, key, version);
        return;
    }
    if (rng_percent(rng, 30)) {
        CHECK_OK(cask_put_expiring(db, crowd_key(key, text), slice_of("12345678"), LONG_AGO));
        return;
    }
    status = cask_delete(db, crowd_key(key, text));
    CHECK(status == CASK_OK || status == CASK_NOTFOUND, "%s", cask_strerror(status));
}

static void *crowd_write(void *argument)
{
    struct crowd *crowd = argument;
    struct rng rng = {5};

    for (uint32_t version = 2; atomic_load_explicit(&crowd->readers, TEST_ORDER) > 0; version++) {
        struct cask_db *db = crowd->scene.store->db;

        if (rng_percent(&rng, 50))
            crowd_put(db, (uint32_t)rng_below(&rng, LASTING), version);
        else
            crowd_pass(db, &rng, version);
        if (version % 64 == 0)
            pause_us(500);
    }
    return NULL;
}

static void iterate(struct cask_db *db)
{
    uint8_t seen[LASTING + PASSING] = {0};
    struct cask_iter *iter;
    struct cask_entry entry;
    int status;

    CHECK_OK(cask_iter_create(db, &iter));
    while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
        uint32_t key = crowd_number(entry.key);

        CHECK(seen[key]++ == 0, "key %u comes twice", (unsigned)key);
        CHECK(model_value_version(key, entry.value) > 0, "key %u: a short value", (unsigned)key);
    }
    CHECK(status == CASK_NOTFOUND, "%s", cask_strerror(status));
    cask_iter_destroy(iter);
    for (uint32_t key = 0; key < LASTING; key++)
        CHECK(seen[key] == 1, "key %u is not iterated", (unsigned)key);
}

struct borrowed {
    struct cask_view view;
    uint32_t key;
    uint32_t version;
};

static void borrow(struct cask_db *db, struct rng *rng, struct borrowed *borrowed)
{
    char text[24];

    borrowed->key = (uint32_t)rng_below(rng, LASTING);
    CHECK_OK(cask_view(db, crowd_key(borrowed->key, text), &borrowed->view));
    borrowed->version = model_value_version(borrowed->key, borrowed->view.value);
}

static void give_back(struct borrowed *borrowed)
{
    model_check_value(borrowed->key, borrowed->version, borrowed->view.value);
    cask_view_release(&borrowed->view);
}

/* Views are held over whole iterations, so over many merges. */
static void *crowd_read(void *argument)
{
    enum { VIEWS = 16 };
    struct crowd *crowd = argument;
    struct cask_db *db = crowd->scene.store->db;
    struct borrowed borrowed[VIEWS];
    struct rng rng = {6};

    for (unsigned i = 0; i < VIEWS; i++)
        borrow(db, &rng, &borrowed[i]);
    for (unsigned round = 0; round < ITERATIONS * (crowd->scene.spills ? 6 : 1); round++) {
        iterate(db);
        for (unsigned i = round % 4; i < VIEWS; i += 4) {
            give_back(&borrowed[i]);
            borrow(db, &rng, &borrowed[i]);
        }
    }
    for (unsigned i = 0; i < VIEWS; i++)
        give_back(&borrowed[i]);
    atomic_fetch_sub_explicit(&crowd->readers, 1, TEST_ORDER);
    return NULL;
}

static void run_crowd(const struct mode *mode)
{
    static struct crowd crowd;
    pthread_t threads[READERS + 1];

    scene_open(&crowd.scene, mode);
    for (uint32_t key = 0; key < LASTING; key++)
        crowd_put(crowd.scene.store->db, key, 1);
    if (mode->spills)
        CHECK_OK(spill_all(crowd.scene.store->db));
    atomic_store(&crowd.readers, READERS);
    scene_start(&crowd.scene);
    for (uint32_t i = 0; i < READERS; i++)
        start(&threads[i], crowd_read, &crowd);
    start(&threads[READERS], crowd_write, &crowd);
    for (uint32_t i = 0; i < READERS + 1; i++)
        (void)pthread_join(threads[i], NULL);
    scene_stop(&crowd.scene);
    iterate(crowd.scene.store->db);
    scene_close(&crowd.scene);
}

static void test_iterations_and_views_hold_while_merges_go_on(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(modes); i++)
        run_crowd(&modes[i]);
}

/* ---- closing --------------------------------------------------------------------------------- */

/* A store is closed while its workers merge: what they had begun is finished or left alone. */
static void test_closing_in_the_midst_of_merges_leaves_nothing_behind(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 24; round++) {
        struct store *store = store_make(2);
        struct book book = {.last_version = 0};

        store->options.segment_bytes = 600;
        store->options.merge_trigger_percent = 5;
        store->options.merge_segment_percent = 10;
        store->options.merge_at_once = 2;
        store->options.write_mode = round % 2 ? CASK_WRITE_MAPPED : CASK_WRITE_SYSCALL;
        store_up(store);
        for (unsigned i = 0; i < 6; i++)
            book_put_range(&book, store->db, 0, BOOK_KEYS);
        pause_us(round * 200);
        store_down(store);
        check_no_errors(store);
        check_no_strays(store->path);
        store_up(store);
        book_check(&book, store->db);
        CHECK(stats_of(store).recovered_records == 0, "a clean close left something to recover");
        CHECK_OK(cask_verify(store->db, NULL, NULL));
        store_end(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_key_is_a_register_while_merges_move_it),
        cmocka_unit_test(test_iterations_and_views_hold_while_merges_go_on),
        cmocka_unit_test(test_closing_in_the_midst_of_merges_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
