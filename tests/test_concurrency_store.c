/* H5: threads at work on one store, all at once, with segments so small that rotation, sealing and
 * hint writing race with everything else. Run under ThreadSanitizer too.
 *
 * Proved:
 *  1. A reader never sees a key go back to an older version, nor a version older than what was
 *     acknowledged before it looked, nor one that nobody had begun to write; by get, get_many, view
 *     and iteration alike. The bytes of a view stay what they were while it is held.
 *  2. Each key by itself behaves like a register: the histories of puts, deletes, batches and
 *     look-ups of all threads have an order that agrees with the clock and with every answer.
 *  3. An iteration shows each key that lives throughout exactly once, and any other at most once,
 *     while the index grows under it.
 *  4. Batches of several threads on the same keys end up whole: the last one wins everywhere.
 *  5. Verify, sync and statistics beside all that find nothing wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support_linear.h"
#include "support_model.h"

/* ThreadSanitizer would take an ordered access of the test for one of the library. */
#define TEST_ORDER (BUILT_WITH_TSAN ? memory_order_relaxed : memory_order_seq_cst)

#define VALUE_MAX 300u

static const struct mode {
    enum cask_write_mode write_mode;
    enum cask_read_mode read_mode;
    enum cask_sync_mode sync_mode;
    uint32_t shard_count;
    uint64_t segment_bytes;
} modes[] = {
    {CASK_WRITE_MAPPED, CASK_READ_MAPPED, CASK_SYNC_NONE, 2, 2000},
    {CASK_WRITE_SYSCALL, CASK_READ_MAPPED, CASK_SYNC_ALWAYS, 4, 4000},
    {CASK_WRITE_MAPPED, CASK_READ_PREAD, CASK_SYNC_INTERVAL, 1, 8000},
    {CASK_WRITE_SYSCALL, CASK_READ_PREAD, CASK_SYNC_NONE, 8, 1500},
};
#define MODES (sizeof modes / sizeof *modes)

/* The store of one test, and when its threads are to end. */
struct scene {
    struct cask_db *db;
    char *path;
    struct log_lines log;
    _Atomic bool stop;
};

static void open_scene(struct scene *scene, const struct mode *mode)
{
    struct cask_options options;

    memset(scene, 0, sizeof *scene);
    log_lines_init(&scene->log);
    options = options_with_log(&scene->log);
    scene->path = scratch_make(SCRATCH_MEMORY);
    options.write_mode = mode->write_mode;
    options.read_mode = mode->read_mode;
    options.sync_mode = mode->sync_mode;
    options.sync_interval_ms = mode->sync_mode == CASK_SYNC_INTERVAL ? 3 : 0;
    options.shard_count = mode->shard_count;
    options.segment_bytes = mode->segment_bytes;
    options.index_memory = (uint64_t)64 << 20;
    CHECK_OK(cask_open(scene->path, &options, &scene->db));
}

static void verify_scene(struct scene *scene)
{
    int status = cask_verify(scene->db, NULL, NULL);

    CHECK(status == CASK_OK, "%s: %s", cask_strerror(status), scene->log.text);
}

static void close_scene(struct scene *scene)
{
    verify_scene(scene);
    CHECK_OK(cask_close(scene->db));
    CHECK(log_lines_count(&scene->log, CASK_LOG_ERROR) == 0, "%s", scene->log.text);
    scratch_remove(scene->path);
}

static bool stopped(struct scene *scene)
{
    return atomic_load_explicit(&scene->stop, TEST_ORDER);
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    CHECK(pthread_create(thread, NULL, run, argument) == 0, "no more threads");
}

static struct cask_slice key_bytes(uint32_t key, char buffer[32])
{
    int size = snprintf(buffer, 32, "key-%u", (unsigned)key);

    return slice_bytes(buffer, (size_t)size);
}

static uint32_t key_number(struct cask_slice key)
{
    char text[32] = {0};
    unsigned number;

    CHECK(key.size > 4 && key.size < sizeof text, "a key nobody wrote");
    memcpy(text, key.data, key.size);
    CHECK(sscanf(text, "key-%u", &number) == 1, "a key nobody wrote: %s", text);
    return number;
}

static struct cask_slice value_bytes(uint32_t key, uint32_t version, uint8_t buffer[VALUE_MAX])
{
    size_t size = 8 + mix64((uint64_t)key << 32 | version) % (VALUE_MAX - 8);

    model_value_bytes(key, version, buffer, size);
    return slice_bytes(buffer, size);
}

/* Stats and sync now and then, verify less often, until told to stop. */
static void *maintain(void *argument)
{
    struct scene *scene = argument;
    struct cask_stats stats = {.size = sizeof stats};

    for (unsigned i = 0; !stopped(scene); i++) {
        CHECK_OK(cask_stats(scene->db, &stats));
        CHECK_OK(cask_sync(scene->db));
        if (i % 8 == 0)
            verify_scene(scene);
        pause_us(500);
    }
    return NULL;
}

/* ---- 1: versions ----------------------------------------------------------------------------- */

#define LASTING 64u /* keys that are there from before the threads start */
#define WRITERS 2u
#define READERS 3u
#define WRITES 2500u

struct versions {
    struct scene scene;
    _Atomic uint32_t begun[LASTING];
    _Atomic uint32_t done[LASTING];
};

struct writer {
    struct versions *versions;
    uint32_t number;
};

static void put_version(struct versions *versions, uint32_t key)
{
    uint32_t version = atomic_load_explicit(&versions->done[key], TEST_ORDER) + 1;
    uint8_t value[VALUE_MAX];
    char bytes[32];

    atomic_store_explicit(&versions->begun[key], version, TEST_ORDER);
    CHECK_OK(cask_put(versions->scene.db, key_bytes(key, bytes), value_bytes(key, version, value)));
    atomic_store_explicit(&versions->done[key], version, TEST_ORDER);
}

/* Some of its keys at once. */
static void put_versions(struct versions *versions, uint32_t first)
{
    struct cask_batch *batch;

    CHECK_OK(cask_batch_create(versions->scene.db, &batch));
    for (uint32_t key = first; key < LASTING; key += WRITERS * 5) {
        uint32_t version = atomic_load_explicit(&versions->done[key], TEST_ORDER) + 1;
        uint8_t value[VALUE_MAX];
        char bytes[32];

        CHECK_OK(cask_batch_put(batch, key_bytes(key, bytes), value_bytes(key, version, value)));
        atomic_store_explicit(&versions->begun[key], version, TEST_ORDER);
    }
    CHECK_OK(cask_write(versions->scene.db, batch));
    for (uint32_t key = first; key < LASTING; key += WRITERS * 5)
        atomic_store_explicit(&versions->done[key],
                              atomic_load_explicit(&versions->begun[key], TEST_ORDER), TEST_ORDER);
    cask_batch_destroy(batch);
}

/* Each writer has its own keys; beside them, some that come and go. */
static void *write_versions(void *argument)
{
    struct writer *writer = argument;
    struct versions *versions = writer->versions;
    struct rng rng = {writer->number + 1};

    for (uint32_t i = 0; i < WRITES; i++) {
        uint32_t key = (uint32_t)rng_below(&rng, LASTING / WRITERS) * WRITERS + writer->number;
        uint32_t passing = LASTING + writer->number * 100 + (uint32_t)rng_below(&rng, 100);
        char bytes[32];
        int status;

        if (rng_percent(&rng, 5)) {
            put_versions(versions, writer->number);
        } else if (rng_percent(&rng, 20)) {
            CHECK_OK(cask_put(versions->scene.db, key_bytes(passing, bytes), slice_of("12345678")));
        } else if (rng_percent(&rng, 20)) {
            status = cask_delete(versions->scene.db, key_bytes(passing, bytes));
            CHECK(status == CASK_OK || status == CASK_NOTFOUND, "%s", cask_strerror(status));
        } else {
            put_version(versions, key);
        }
    }
    return NULL;
}

/* What one reader knows. */
struct reader {
    struct versions *versions;
    struct rng rng;
    uint32_t seen[LASTING];
};

/* The least version that a look-up which starts now may meet. */
static uint32_t floor_of(const struct reader *reader, uint32_t key)
{
    uint32_t done = atomic_load_explicit(&reader->versions->done[key], TEST_ORDER);

    return done > reader->seen[key] ? done : reader->seen[key];
}

static uint32_t check_version(struct reader *reader, uint32_t key, uint32_t least,
                              struct cask_slice value)
{
    uint32_t version = model_value_version(key, value);
    uint32_t begun = atomic_load_explicit(&reader->versions->begun[key], TEST_ORDER);

    CHECK(version >= least, "key %u went back to version %u from %u", (unsigned)key,
          (unsigned)version, (unsigned)least);
    CHECK(version <= begun, "key %u has version %u before %u", (unsigned)key, (unsigned)version,
          (unsigned)begun);
    return version;
}

static void read_one(struct reader *reader)
{
    uint32_t key = (uint32_t)rng_below(&reader->rng, LASTING);
    uint32_t least = floor_of(reader, key);
    uint8_t value[VALUE_MAX];
    char bytes[32];
    size_t size;

    CHECK_OK(
        cask_get(reader->versions->scene.db, key_bytes(key, bytes), value, sizeof value, &size));
    reader->seen[key] = check_version(reader, key, least, slice_bytes(value, size));
    CHECK_OK(cask_exists(reader->versions->scene.db, key_bytes(key, bytes)));
}

static void read_many(struct reader *reader)
{
    enum { COUNT = 24 };
    uint8_t buffer[COUNT * VALUE_MAX];
    char bytes[COUNT][32];
    uint32_t keys[COUNT];
    uint32_t least[COUNT];
    struct cask_slice slices[COUNT];
    struct cask_slice values[COUNT];
    int statuses[COUNT];

    for (unsigned i = 0; i < COUNT; i++) {
        keys[i] = (uint32_t)rng_below(&reader->rng, LASTING);
        least[i] = floor_of(reader, keys[i]);
        slices[i] = key_bytes(keys[i], bytes[i]);
    }
    CHECK_OK(cask_get_many(reader->versions->scene.db, COUNT, slices, buffer, sizeof buffer, values,
                           statuses));
    for (unsigned i = 0; i < COUNT; i++) {
        uint32_t version;

        CHECK(statuses[i] == CASK_OK, "%s", cask_strerror(statuses[i]));
        version = check_version(reader, keys[i], least[i], values[i]);
        if (version > reader->seen[keys[i]])
            reader->seen[keys[i]] = version;
    }
}

/* Holds some views while others write, and looks at them again. */
static void read_views(struct reader *reader)
{
    enum { COUNT = 4 };
    struct cask_view views[COUNT];
    uint32_t keys[COUNT];
    uint32_t versions[COUNT];

    for (unsigned i = 0; i < COUNT; i++) {
        char bytes[32];
        uint32_t least;

        keys[i] = (uint32_t)rng_below(&reader->rng, LASTING);
        least = floor_of(reader, keys[i]);
        CHECK_OK(cask_view(reader->versions->scene.db, key_bytes(keys[i], bytes), &views[i]));
        versions[i] = check_version(reader, keys[i], least, views[i].value);
        reader->seen[keys[i]] = versions[i];
    }
    pause_us(rng_below(&reader->rng, 300));
    for (unsigned i = 0; i < COUNT; i++) {
        model_check_value(keys[i], versions[i], views[i].value);
        cask_view_release(&views[i]);
    }
}

static void read_by_iterating(struct reader *reader)
{
    uint32_t least[LASTING];
    bool seen[LASTING] = {false};
    struct cask_iter *iter;
    struct cask_entry entry;
    int status;

    for (uint32_t key = 0; key < LASTING; key++)
        least[key] = floor_of(reader, key);
    CHECK_OK(cask_iter_create(reader->versions->scene.db, &iter));
    while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
        uint32_t key = key_number(entry.key);

        if (key >= LASTING)
            continue;
        CHECK(!seen[key], "key %u comes twice", (unsigned)key);
        seen[key] = true;
        (void)check_version(reader, key, least[key], entry.value);
    }
    CHECK(status == CASK_NOTFOUND, "%s", cask_strerror(status));
    cask_iter_destroy(iter);
    for (uint32_t key = 0; key < LASTING; key++)
        CHECK(seen[key], "key %u is not iterated", (unsigned)key);
}

static void *read_versions(void *argument)
{
    struct reader *reader = argument;

    while (!stopped(&reader->versions->scene)) {
        uint64_t kind = rng_below(&reader->rng, 100);

        if (kind < 60)
            read_one(reader);
        else if (kind < 80)
            read_many(reader);
        else if (kind < 95)
            read_views(reader);
        else
            read_by_iterating(reader);
    }
    return NULL;
}

static void run_versions(const struct mode *mode)
{
    struct versions *versions = calloc(1, sizeof *versions);
    struct writer writers[WRITERS];
    static struct reader readers[READERS];
    pthread_t threads[WRITERS + READERS + 1];

    CHECK(versions, "out of memory");
    open_scene(&versions->scene, mode);
    for (uint32_t key = 0; key < LASTING; key++)
        put_version(versions, key);
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){versions, i};
        start(&threads[i], write_versions, &writers[i]);
    }
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.versions = versions, .rng = {i + 100}};
        start(&threads[WRITERS + i], read_versions, &readers[i]);
    }
    start(&threads[WRITERS + READERS], maintain, &versions->scene);
    for (uint32_t i = 0; i < WRITERS; i++)
        (void)pthread_join(threads[i], NULL);
    atomic_store_explicit(&versions->scene.stop, true, TEST_ORDER);
    for (uint32_t i = WRITERS; i < WRITERS + READERS + 1; i++)
        (void)pthread_join(threads[i], NULL);
    close_scene(&versions->scene);
    free(versions);
}

static void test_readers_never_see_a_key_go_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODES; i++)
        run_versions(&modes[i]);
}

/* ---- 2: registers ---------------------------------------------------------------------------- */

#define REGISTERS 3u
#define ROUNDS 60u
#define STEPS 40u

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
                                      char buffer[32])
{
    return key_bytes(registers->round * REGISTERS + which, buffer);
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

/* In place of what was there a moment ago. */
static void play_swap(struct player *player, uint32_t which)
{
    uint8_t buffer[VALUE_MAX];
    char bytes[32];
    struct cask_slice key = register_key(player->registers, which, bytes);
    struct cask_db *db = player->registers->scene.db;
    struct history_op op = {.kind = HISTORY_SWAP, .before = 0};
    struct cask_slice value = new_value(player, buffer, &op.value);
    struct cask_view view = {.sequence = 0};
    uint64_t sequence;
    int status = cask_view(db, key, &view);

    CHECK(status == CASK_OK || status == CASK_NOTFOUND, "%s", cask_strerror(status));
    if (status == CASK_OK)
        op.before = read_value(view.value.data, view.value.size);
    sequence = view.sequence;
    cask_view_release(&view);
    op.begin = clock_ns();
    status = cask_put_if(db, key, value, sequence, NULL);
    op.end = clock_ns();
    if (status == CASK_EEXIST)
        op.kind = HISTORY_FIND_ANY;
    else if (status == CASK_NOTFOUND)
        op.kind = HISTORY_FIND_ABSENT;
    else
        CHECK_OK(status);
    history_add(&player->registers->histories[which], player->number, op);
}

static void play_write(struct player *player, uint32_t which)
{
    uint8_t buffer[VALUE_MAX];
    char bytes[32];
    struct cask_slice key = register_key(player->registers, which, bytes);
    struct cask_db *db = player->registers->scene.db;
    uint64_t began;
    uint32_t value;

    if (rng_percent(&player->rng, 60)) {
        struct cask_slice slice = new_value(player, buffer, &value);

        began = clock_ns();
        CHECK_OK(cask_put(db, key, slice));
        note(player, which, HISTORY_WRITE, value, began);
    } else {
        int status;

        began = clock_ns();
        status = cask_delete(db, key);
        CHECK(status == CASK_OK || status == CASK_NOTFOUND, "%s", cask_strerror(status));
        note(player, which, status == CASK_OK ? HISTORY_REMOVE : HISTORY_FIND_ABSENT, 0, began);
    }
}

/* The keys of a batch may appear one after another, each somewhere within the call. */
static void play_batch(struct player *player)
{
    uint32_t values[REGISTERS];
    struct cask_batch *batch;
    uint64_t began;

    CHECK_OK(cask_batch_create(player->registers->scene.db, &batch));
    for (uint32_t which = 0; which < REGISTERS; which++) {
        uint8_t buffer[VALUE_MAX];
        char bytes[32];
        struct cask_slice key = register_key(player->registers, which, bytes);

        values[which] = 0;
        if (rng_percent(&player->rng, 30))
            CHECK_OK(cask_batch_delete(batch, key));
        else
            CHECK_OK(cask_batch_put(batch, key, new_value(player, buffer, &values[which])));
    }
    began = clock_ns();
    CHECK_OK(cask_write(player->registers->scene.db, batch));
    for (uint32_t which = 0; which < REGISTERS; which++)
        note(player, which, HISTORY_WRITE, values[which], began);
    cask_batch_destroy(batch);
}

static void play_read(struct player *player, uint32_t which)
{
    struct cask_db *db = player->registers->scene.db;
    char bytes[32];
    struct cask_slice key = register_key(player->registers, which, bytes);
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

static void play_read_many(struct player *player)
{
    uint8_t buffer[REGISTERS * VALUE_MAX];
    char bytes[REGISTERS][32];
    struct cask_slice keys[REGISTERS];
    struct cask_slice values[REGISTERS];
    int statuses[REGISTERS];
    uint64_t began;

    for (uint32_t which = 0; which < REGISTERS; which++)
        keys[which] = register_key(player->registers, which, bytes[which]);
    began = clock_ns();
    CHECK_OK(cask_get_many(player->registers->scene.db, REGISTERS, keys, buffer, sizeof buffer,
                           values, statuses));
    for (uint32_t which = 0; which < REGISTERS; which++)
        if (statuses[which] == CASK_OK)
            note(player, which, HISTORY_FIND, read_value(values[which].data, values[which].size),
                 began);
        else
            note(player, which, HISTORY_FIND_ABSENT, 0, began);
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

            if (kind < 25)
                play_write(player, which);
            else if (kind < 40)
                play_swap(player, which);
            else if (kind < 50)
                play_batch(player);
            else if (kind < 60)
                play_read_many(player);
            else
                play_read(player, which);
        }
        player->steps = 0;
        (void)pthread_barrier_wait(&registers->barrier); /* the histories are complete */
    }
    return NULL;
}

static void run_registers(const struct mode *mode)
{
    struct registers *registers = calloc(1, sizeof *registers);
    struct player players[HISTORY_THREADS];
    pthread_t threads[HISTORY_THREADS + 1];

    CHECK(registers, "out of memory");
    open_scene(&registers->scene, mode);
    CHECK(pthread_barrier_init(&registers->barrier, NULL, HISTORY_THREADS + 1) == 0, "no barrier");
    for (uint32_t i = 0; i < HISTORY_THREADS; i++) {
        players[i] = (struct player){registers, i, {i + 7}, 0};
        start(&threads[i], play, &players[i]);
    }
    start(&threads[HISTORY_THREADS], maintain, &registers->scene);
    for (registers->round = 0; registers->round < ROUNDS; registers->round++) {
        for (uint32_t which = 0; which < REGISTERS; which++)
            history_clear(&registers->histories[which]);
        (void)pthread_barrier_wait(&registers->barrier);
        (void)pthread_barrier_wait(&registers->barrier);
        for (uint32_t which = 0; which < REGISTERS; which++) {
            bool linear = history_is_linearizable(&registers->histories[which]);

            if (!linear)
                history_print(&registers->histories[which]);
            CHECK(linear, "round %u, register %u", (unsigned)registers->round, (unsigned)which);
        }
    }
    atomic_store_explicit(&registers->scene.stop, true, TEST_ORDER);
    for (uint32_t i = 0; i < HISTORY_THREADS + 1; i++)
        (void)pthread_join(threads[i], NULL);
    (void)pthread_barrier_destroy(&registers->barrier);
    close_scene(&registers->scene);
    free(registers);
}

static void test_each_key_is_a_register(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODES; i++)
        run_registers(&modes[i]);
}

/* The judge itself: histories that no register can have are refused. */
static void test_impossible_histories_are_refused(void **state)
{
    static const struct {
        struct history_op ops[4];
        bool possible;
    } cases[] = {
        {{{1, 2, HISTORY_WRITE, 5, 0}, {3, 4, HISTORY_FIND, 5, 0}}, true},
        {{{1, 2, HISTORY_WRITE, 5, 0}, {3, 4, HISTORY_FIND_ABSENT, 0, 0}}, false},
        {{{1, 4, HISTORY_WRITE, 5, 0}, {2, 3, HISTORY_FIND_ABSENT, 0, 0}}, true},
        {{{1, 2, HISTORY_WRITE, 5, 0}, {3, 4, HISTORY_WRITE, 6, 0}, {5, 6, HISTORY_FIND, 5, 0}},
         false},
        {{{1, 9, HISTORY_WRITE, 5, 0},
          {2, 3, HISTORY_FIND, 5, 0},
          {4, 5, HISTORY_FIND_ABSENT, 0, 0},
          {6, 7, HISTORY_FIND_ABSENT, 0, 0}},
         false},
        {{{1, 2, HISTORY_WRITE, 5, 0},
          {3, 4, HISTORY_REMOVE, 0, 0},
          {5, 6, HISTORY_FIND_ANY, 0, 0}},
         false},
        {{{1, 2, HISTORY_REMOVE, 0, 0}}, false},
        {{{1, 2, HISTORY_FIND, 7, 0}}, false},
        {{{1, 2, HISTORY_SWAP, 5, 0}, {3, 4, HISTORY_SWAP, 6, 5}, {5, 6, HISTORY_FIND, 6, 0}},
         true},
        {{{1, 2, HISTORY_WRITE, 5, 0}, {3, 6, HISTORY_SWAP, 6, 5}, {4, 7, HISTORY_SWAP, 7, 5}},
         false},
        {{{1, 2, HISTORY_WRITE, 5, 0}, {3, 4, HISTORY_SWAP, 6, 0}}, false},
    };
    static struct history history;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        history_clear(&history);
        for (unsigned j = 0; j < 4 && cases[i].ops[j].end != 0; j++)
            history_add(&history, j, cases[i].ops[j]);
        CHECK(history_is_linearizable(&history) == cases[i].possible, "case %zu", i);
    }
}

/* ---- 3: iteration ---------------------------------------------------------------------------- */

#define STANDING 1500u /* keys that are there throughout, overwritten all the time */
#define COMING 20000u

static void *overwrite(void *argument)
{
    struct scene *scene = argument;
    struct rng rng = {3};

    while (!stopped(scene)) {
        char bytes[32];

        CHECK_OK(cask_put(scene->db, key_bytes((uint32_t)rng_below(&rng, STANDING), bytes),
                          slice_of("again")));
    }
    return NULL;
}

/* New keys, so that the index grows, some of which go again. */
static void *grow(void *argument)
{
    struct scene *scene = argument;

    for (uint32_t i = 0; i < COMING; i++) {
        char bytes[32];

        CHECK_OK(cask_put(scene->db, key_bytes(STANDING + i, bytes), slice_of("new")));
        if (i % 3 == 0)
            CHECK_OK(cask_delete(scene->db, key_bytes(STANDING + i / 2, bytes)));
    }
    atomic_store_explicit(&scene->stop, true, TEST_ORDER);
    return NULL;
}

static unsigned iterate_while_growing(struct scene *scene)
{
    uint8_t *seen = malloc(STANDING + COMING);
    unsigned rounds = 0;

    CHECK(seen, "out of memory");
    while (!stopped(scene) || rounds == 0) {
        struct cask_iter *iter;
        struct cask_entry entry;
        int status;

        memset(seen, 0, STANDING + COMING);
        CHECK_OK(cask_iter_create(scene->db, &iter));
        while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
            uint32_t key = key_number(entry.key);

            CHECK(key < STANDING + COMING, "key %u", (unsigned)key);
            CHECK(seen[key]++ == 0, "key %u comes twice", (unsigned)key);
        }
        CHECK(status == CASK_NOTFOUND, "%s", cask_strerror(status));
        cask_iter_destroy(iter);
        for (uint32_t key = 0; key < STANDING; key++)
            CHECK(seen[key] == 1, "key %u is not iterated", (unsigned)key);
        rounds++;
    }
    free(seen);
    return rounds;
}

static void test_an_iteration_shows_each_lasting_key_once(void **state)
{
    static struct scene scene;
    const struct mode mode = {CASK_WRITE_MAPPED, CASK_READ_MAPPED, CASK_SYNC_NONE, 2, 16384};
    pthread_t threads[2];
    unsigned rounds;

    (void)state;
    open_scene(&scene, &mode);
    for (uint32_t key = 0; key < STANDING; key++) {
        char bytes[32];

        CHECK_OK(cask_put(scene.db, key_bytes(key, bytes), slice_of("first")));
    }
    start(&threads[0], overwrite, &scene);
    start(&threads[1], grow, &scene);
    rounds = iterate_while_growing(&scene);
    (void)pthread_join(threads[1], NULL);
    (void)pthread_join(threads[0], NULL);
    print_message("%u iterations\n", rounds);
    close_scene(&scene);
}

/* ---- 4: batches ------------------------------------------------------------------------------ */

#define RIVALS 4u
#define RIVAL_KEYS 12u
#define RIVAL_BATCHES 200u

struct rival {
    struct scene *scene;
    uint32_t number;
};

static void *write_batches(void *argument)
{
    struct rival *rival = argument;
    struct cask_batch *batch;

    CHECK_OK(cask_batch_create(rival->scene->db, &batch));
    for (uint32_t i = 0; i < RIVAL_BATCHES; i++) {
        char value[32];

        (void)snprintf(value, sizeof value, "%u of %u", (unsigned)i, (unsigned)rival->number);
        for (uint32_t key = 0; key < RIVAL_KEYS; key++) {
            char bytes[32];

            CHECK_OK(cask_batch_put(batch, key_bytes(key, bytes), slice_of(value)));
        }
        CHECK_OK(cask_write(rival->scene->db, batch));
        cask_batch_clear(batch);
    }
    cask_batch_destroy(batch);
    return NULL;
}

static void run_rivals(const struct mode *mode)
{
    static struct scene scene;
    struct rival rivals[RIVALS];
    pthread_t threads[RIVALS + 1];
    char first[64] = {0};
    char bytes[32];
    size_t size;

    open_scene(&scene, mode);
    for (uint32_t i = 0; i < RIVALS; i++) {
        rivals[i] = (struct rival){&scene, i};
        start(&threads[i], write_batches, &rivals[i]);
    }
    start(&threads[RIVALS], maintain, &scene);
    for (uint32_t i = 0; i < RIVALS; i++)
        (void)pthread_join(threads[i], NULL);
    atomic_store_explicit(&scene.stop, true, TEST_ORDER);
    (void)pthread_join(threads[RIVALS], NULL);
    CHECK_OK(cask_get(scene.db, key_bytes(0, bytes), first, sizeof first - 1, &size));
    for (uint32_t key = 1; key < RIVAL_KEYS; key++) {
        (void)key_bytes(key, bytes);
        check_value(scene.db, bytes, first);
    }
    close_scene(&scene);
}

static void test_the_last_batch_wins_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODES; i++)
        run_rivals(&modes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_impossible_histories_are_refused),
        cmocka_unit_test(test_readers_never_see_a_key_go_back),
        cmocka_unit_test(test_each_key_is_a_register),
        cmocka_unit_test(test_an_iteration_shows_each_lasting_key_once),
        cmocka_unit_test(test_the_last_batch_wins_everywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
