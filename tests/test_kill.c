/* H3: a writing process is killed with SIGKILL at random moments, again and again.
 *
 * A child writes from several threads: puts, overwrites, conditional puts and deletes of single
 * keys, batches across shards, with segments so small that rotation, hints and manifests are under
 * way all the time; it syncs, iterates, verifies and merges meanwhile, beside merges that the store
 * begins itself, and opens and closes the store over and over. What it began and what was
 * acknowledged is noted in memory that outlives it. Kills also come while the store is opened,
 * recovered and closed.
 *
 * Proved after each kill: everything acknowledged is there; what was under way is there whole or
 * not at all, and a batch so in all its shards; nothing else is; a read-only open shows the same as
 * the recovery and changes no byte; verify finds nothing; recovery gave up no hint and logged no
 * error; once it is closed no file is left over.
 *
 *   CASKADE_KILLS=n       how many kills
 *   CASKADE_KILL_SEED=n   the seed of sizes, operations and moments
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "support_model.h"
#include "support_spill.h"
#include "support_strays.h"

#define SPILLING ((uint64_t)1 << 20) /* index_memory of stores whose index goes to disk */
#define KILLS 100u
#define KILLS_PER_STORE 10u

#define SINGLE_WRITERS 2u
#define SINGLE_KEYS 40u /* each writer's own */
#define GROUPS 4u       /* each written by batches of one thread */
#define GROUP_KEYS 8u
#define RIVALS 2u /* threads whose batches write the same group */

#define FIRST_GROUP_KEY (SINGLE_WRITERS * SINGLE_KEYS)
#define FIRST_RIVAL_KEY (FIRST_GROUP_KEY + GROUPS * GROUP_KEYS)
#define KEYS (FIRST_RIVAL_KEY + GROUP_KEYS)

#define LARGE_EVERY 50u
#define VALUE_MAX 2000u

/* The last write to a key or group: what was begun and what was acknowledged, each a version and a
 * bit that says "deleted". */
struct cell {
    _Atomic uint32_t begun;
    _Atomic uint32_t done;
};

#define DELETED 0x80000000u

/* A rival's versions, and what of them belongs to the child that runs. */
struct rival {
    uint32_t last;
    struct cell cell;
};

/* What outlives the child. */
struct shared {
    struct cell singles[SINGLE_WRITERS * SINGLE_KEYS];
    struct cell groups[GROUPS];
    struct rival rivals[RIVALS];
    uint32_t rival_base; /* what their group had when the child was started */
    _Atomic uint32_t phase;
    _Atomic uint32_t merging; /* calls of cask_merge() under way */
    _Atomic uint64_t operations;
    _Atomic uint64_t opens;
};

enum phase { STARTING, OPENING, RUNNING, CLOSING };

struct store {
    char *path;
    struct cask_options options;
    struct log_lines log;
    struct shared *shared;
};

/* One life of a child. */
struct life {
    struct store *store;
    struct cask_db *db;
    uint64_t seed;
    uint64_t budget; /* operations of each thread between an open and a close */
    bool idle;       /* open and close only */
};

/* ---- keys and values ------------------------------------------------------------------------- */

static struct cask_slice key_bytes(uint32_t key, char buffer[32])
{
    int size = snprintf(buffer, 32, "key-%u", (unsigned)key);

    return slice_bytes(buffer, (size_t)size);
}

static size_t value_size(uint32_t key, uint32_t version)
{
    uint64_t random = mix64((uint64_t)key << 32 | version);

    return random % LARGE_EVERY == 0 ? VALUE_MAX : 8 + random / LARGE_EVERY % 150;
}

static struct cask_slice value_bytes(uint32_t key, uint32_t version, uint8_t buffer[VALUE_MAX])
{
    size_t size = value_size(key, version);

    model_value_bytes(key, version, buffer, size);
    return slice_bytes(buffer, size);
}

/* Which version a store has of a key; DELETED for none. */
static uint32_t version_in(struct cask_db *db, uint32_t key)
{
    uint8_t value[VALUE_MAX];
    char bytes[32];
    size_t size;
    uint32_t version;
    int status = cask_get(db, key_bytes(key, bytes), value, sizeof value, &size);

    CHECK(status == CASK_OK || status == CASK_NOTFOUND, "key %u: %s", (unsigned)key,
          cask_strerror(status));
    if (status == CASK_NOTFOUND)
        return DELETED;
    version = model_value_version(key, slice_bytes(value, size));
    CHECK(version != 0 && size == value_size(key, version), "key %u: a wrong size", (unsigned)key);
    return version;
}

/* Some members of a batch are deletes. */
static bool member_deleted(uint32_t version, uint32_t member)
{
    return mix64((uint64_t)version << 8 | member) % 4 == 0;
}

/* ---- the child ------------------------------------------------------------------------------- */

static void begin(struct cell *cell, uint32_t word)
{
    atomic_store(&cell->begun, word);
}

static void acknowledge(struct store *store, struct cell *cell)
{
    atomic_store(&cell->done, atomic_load(&cell->begun));
    atomic_fetch_add(&store->shared->operations, 1);
}

static uint32_t next_version(const struct cell *cell)
{
    return (atomic_load(&cell->begun) & ~DELETED) + 1;
}

/* Nobody else writes the key: the condition holds. */
static void put_conditionally(struct life *life, uint32_t key, uint32_t version, bool was_there)
{
    struct cask_view view = {.sequence = 0};
    uint8_t value[VALUE_MAX];
    char bytes[32];
    struct cask_slice slice = key_bytes(key, bytes);
    uint64_t before;
    uint64_t after;

    CHECK_STATUS(cask_view(life->db, slice, &view), was_there ? CASK_OK : CASK_NOTFOUND);
    before = view.sequence;
    cask_view_release(&view);
    CHECK_STATUS(cask_put_if(life->db, slice, slice_of("no"), before + 1, &after),
                 was_there ? CASK_EEXIST : CASK_NOTFOUND);
    CHECK_OK(cask_put_if(life->db, slice, value_bytes(key, version, value), before, &after));
    CHECK(after > before, "key %u", (unsigned)key);
}

static void write_single(struct life *life, struct rng *rng, uint32_t writer)
{
    uint32_t key = writer * SINGLE_KEYS + (uint32_t)rng_below(rng, SINGLE_KEYS);
    struct cell *cell = &life->store->shared->singles[key];
    uint32_t version = next_version(cell);
    bool was_there = (atomic_load(&cell->done) & DELETED) == 0 && atomic_load(&cell->done) != 0;
    uint64_t kind = rng_below(rng, 100);
    uint8_t value[VALUE_MAX];
    char bytes[32];

    if (kind < 30) {
        begin(cell, version | DELETED);
        CHECK_STATUS(cask_delete(life->db, key_bytes(key, bytes)),
                     was_there ? CASK_OK : CASK_NOTFOUND);
    } else if (kind < 50) {
        begin(cell, version);
        put_conditionally(life, key, version, was_there);
    } else {
        begin(cell, version);
        CHECK_OK(cask_put(life->db, key_bytes(key, bytes), value_bytes(key, version, value)));
        CHECK(version_in(life->db, key) == version, "key %u", (unsigned)key);
    }
    acknowledge(life->store, cell);
}

static void add_group(struct cask_batch *batch, uint32_t first_key, uint32_t version, bool deletes)
{
    for (uint32_t i = 0; i < GROUP_KEYS; i++) {
        uint8_t value[VALUE_MAX];
        char bytes[32];

        if (deletes && member_deleted(version, i))
            CHECK_OK(cask_batch_delete(batch, key_bytes(first_key + i, bytes)));
        else
            CHECK_OK(cask_batch_put(batch, key_bytes(first_key + i, bytes),
                                    value_bytes(first_key + i, version, value)));
    }
}

static void write_group(struct life *life, struct rng *rng)
{
    uint32_t group = (uint32_t)rng_below(rng, GROUPS);
    struct cell *cell = &life->store->shared->groups[group];
    uint32_t version = next_version(cell);
    struct cask_batch *batch;

    CHECK_OK(cask_batch_create(life->db, &batch));
    add_group(batch, FIRST_GROUP_KEY + group * GROUP_KEYS, version, true);
    begin(cell, version);
    CHECK_OK(cask_write(life->db, batch));
    acknowledge(life->store, cell);
    cask_batch_destroy(batch);
}

/* The rival's number is part of the version. */
static void write_as_rival(struct life *life, uint32_t number)
{
    struct rival *rival = &life->store->shared->rivals[number];
    uint32_t version = number << 28 | ++rival->last;
    struct cask_batch *batch;

    CHECK_OK(cask_batch_create(life->db, &batch));
    add_group(batch, FIRST_RIVAL_KEY, version, false);
    begin(&rival->cell, version);
    CHECK_OK(cask_write(life->db, batch));
    acknowledge(life->store, &rival->cell);
    cask_batch_destroy(batch);
}

/* Of every other store: one more run somewhere, or one for each shard. */
static void spill(struct life *life, struct rng *rng)
{
    uint32_t shard = (uint32_t)rng_below(rng, life->store->options.shard_count);

    CHECK_OK(rng_percent(rng, 20) ? cask_flush_index(life->db) : spill_shard(life->db, shard));
}

/* Reads what others write, and has it merged and moved about. */
static void look_around(struct life *life, struct rng *rng)
{
    struct cask_iter *iter;
    struct cask_entry entry;
    int status;

    if (rng_percent(rng, 10)) {
        status = cask_verify(life->db, NULL, NULL);
        CHECK(status == CASK_OK, "%s: %s", cask_strerror(status), life->store->log.text);
    } else if (rng_percent(rng, 50) && life->store->options.index_memory == SPILLING) {
        spill(life, rng);
    } else if (rng_percent(rng, 25)) {
        atomic_fetch_add(&life->store->shared->merging, 1);
        CHECK_OK(cask_merge(life->db, NULL, NULL));
        atomic_fetch_sub(&life->store->shared->merging, 1);
    } else if (rng_percent(rng, 40)) {
        CHECK_OK(cask_sync(life->db));
    } else if (rng_percent(rng, 30)) {
        CHECK_OK(cask_iter_create(life->db, &iter));
        while ((status = cask_iter_next(iter, &entry)) == CASK_OK)
            continue;
        CHECK(status == CASK_NOTFOUND, "%s", cask_strerror(status));
        cask_iter_destroy(iter);
    } else {
        (void)version_in(life->db, (uint32_t)rng_below(rng, KEYS));
    }
}

#define THREADS (SINGLE_WRITERS + RIVALS + 2u)

struct worker {
    struct life *life;
    uint32_t number;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct life *life = worker->life;
    struct rng rng = {life->seed + worker->number};

    for (uint64_t i = 0; i < life->budget; i++) {
        if (worker->number < SINGLE_WRITERS)
            write_single(life, &rng, worker->number);
        else if (worker->number < SINGLE_WRITERS + RIVALS)
            write_as_rival(life, worker->number - SINGLE_WRITERS);
        else if (worker->number == SINGLE_WRITERS + RIVALS)
            write_group(life, &rng);
        else
            look_around(life, &rng);
    }
    return NULL;
}

static void run_threads(struct life *life)
{
    pthread_t threads[THREADS];
    struct worker workers[THREADS];

    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){life, i};
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0, "no more threads");
    }
    for (uint32_t i = 0; i < THREADS; i++)
        (void)pthread_join(threads[i], NULL);
}

static _Noreturn void live(struct life *life)
{
    struct store *store = life->store;

    for (;; life->seed += THREADS) {
        atomic_store(&store->shared->phase, OPENING);
        CHECK_OK(cask_open(store->path, &store->options, &life->db));
        atomic_fetch_add(&store->shared->opens, 1);
        atomic_store(&store->shared->phase, RUNNING);
        if (!life->idle)
            run_threads(life);
        atomic_store(&store->shared->phase, CLOSING);
        CHECK_OK(cask_close(life->db));
        CHECK(log_lines_count(&store->log, CASK_LOG_ERROR) == 0, "%s", store->log.text);
    }
}

/* ---- the parent ------------------------------------------------------------------------------ */

/* Once the child is under way: as it opens or closes, or at any time. */
static void wait_for_the_moment(struct shared *shared, struct rng *rng)
{
    enum phase wanted = rng_percent(rng, 60) ? CLOSING : OPENING;
    uint64_t started = clock_ns();

    while (atomic_load(&shared->phase) == STARTING && clock_ns() - started < 10000000000u)
        pause_us(20);
    started = clock_ns();
    if (rng_percent(rng, 60)) {
        pause_us(rng_below(rng, rng_percent(rng, 40) ? 250000 : 30000));
        return;
    }
    while (atomic_load(&shared->phase) != wanted && clock_ns() - started < 150000000u)
        pause_us(20);
    pause_us(rng_below(rng, 1500));
}

static void kill_one(struct store *store, struct rng *rng, bool idle)
{
    static const uint64_t budgets[] = {3, 30, 200, 1000000};
    struct life life = {
        .store = store, .seed = rng_next(rng), .budget = budgets[rng_below(rng, 4)], .idle = idle};
    pid_t child;

    atomic_store(&store->shared->phase, STARTING);
    (void)fflush(NULL);
    child = fork();
    if (child == 0)
        live(&life);
    wait_for_the_moment(store->shared, rng);
    CHECK(kill(child, SIGKILL) == 0, "kill: %s", strerror(errno));
    wait_for_kill(child);
}

/* Whether a key has what one word says. */
static bool has(uint32_t found, uint32_t word)
{
    return word == 0 || (word & DELETED) ? found == DELETED : found == word;
}

static void check_single(struct cell *cell, uint32_t key, uint32_t found)
{
    uint32_t begun = atomic_load(&cell->begun);
    uint32_t done = atomic_load(&cell->done);

    CHECK(has(found, begun) || has(found, done),
          "key %u has version %x; %x was acknowledged and %x begun", (unsigned)key, (unsigned)found,
          (unsigned)done, (unsigned)begun);
    if (has(found, begun))
        atomic_store(&cell->done, begun);
    else
        atomic_store(&cell->done, done);
}

static bool group_has(const uint32_t *found, uint32_t word)
{
    for (uint32_t i = 0; i < GROUP_KEYS; i++)
        if (!has(found[i], word == 0 || member_deleted(word, i) ? DELETED : word))
            return false;
    return true;
}

static void check_group(struct cell *cell, uint32_t group, const uint32_t *found)
{
    uint32_t begun = atomic_load(&cell->begun);
    uint32_t done = atomic_load(&cell->done);

    if (group_has(found, begun)) {
        atomic_store(&cell->done, begun);
        return;
    }
    for (uint32_t i = 0; i < GROUP_KEYS && !group_has(found, done); i++)
        (void)fprintf(stderr, "key %u has version %x\n",
                      (unsigned)(FIRST_GROUP_KEY + group * GROUP_KEYS + i), (unsigned)found[i]);
    CHECK(group_has(found, done), "group %u is not whole; %x was acknowledged and %x begun",
          (unsigned)group, (unsigned)done, (unsigned)begun);
}

/* All of them have the same batch: one that the last child began or was acknowledged, or, where
 * none was acknowledged, still the one from before. */
static void check_rivals(struct shared *shared, const uint32_t *found)
{
    bool possible = true;
    bool expected = false;

    for (uint32_t i = 1; i < GROUP_KEYS; i++)
        CHECK(found[i] == found[0], "rivals' batches are mixed: %x and %x", (unsigned)found[0],
              (unsigned)found[i]);
    for (uint32_t i = 0; i < RIVALS; i++) {
        uint32_t begun = atomic_load(&shared->rivals[i].cell.begun);
        uint32_t done = atomic_load(&shared->rivals[i].cell.done);

        possible &= done == 0;
        expected |= (begun != 0 && found[0] == begun) || (done != 0 && found[0] == done);
    }
    CHECK(expected || (possible && has(found[0], shared->rival_base)),
          "the rivals' group has version %x", (unsigned)found[0]);
}

/* The shared notes then say what is there, whatever was under way. */
static void settle(struct shared *shared, const uint32_t *found)
{
    for (uint32_t i = 0; i < SINGLE_WRITERS * SINGLE_KEYS; i++)
        check_single(&shared->singles[i], i, found[i]);
    for (uint32_t i = 0; i < GROUPS; i++)
        check_group(&shared->groups[i], i, found + FIRST_GROUP_KEY + i * GROUP_KEYS);
    check_rivals(shared, found + FIRST_RIVAL_KEY);
    shared->rival_base = found[FIRST_RIVAL_KEY];
    for (uint32_t i = 0; i < RIVALS; i++) {
        atomic_store(&shared->rivals[i].cell.begun, 0);
        atomic_store(&shared->rivals[i].cell.done, 0);
    }
}

static uint32_t number_of(struct cask_slice key)
{
    char text[32];
    unsigned number = KEYS;

    CHECK(key.size > 4 && key.size < sizeof text, "a key nobody wrote");
    memcpy(text, key.data, key.size);
    text[key.size] = '\0';
    CHECK(sscanf(text, "key-%u", &number) == 1 && number < KEYS, "a key nobody wrote: %s", text);
    return number;
}

/* The version of every key, by get and by iteration. */
static void read_all(struct cask_db *db, uint32_t *ret_found)
{
    bool seen[KEYS] = {false};
    struct cask_iter *iter;
    struct cask_entry entry;
    int status;

    for (uint32_t key = 0; key < KEYS; key++)
        ret_found[key] = version_in(db, key);
    CHECK_OK(cask_iter_create(db, &iter));
    while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
        uint32_t key = number_of(entry.key);

        CHECK(!seen[key], "key %u comes twice", (unsigned)key);
        seen[key] = true;
        CHECK(model_value_version(key, entry.value) == ret_found[key], "key %u", (unsigned)key);
    }
    CHECK(status == CASK_NOTFOUND, "%s", cask_strerror(status));
    cask_iter_destroy(iter);
    for (uint32_t key = 0; key < KEYS; key++)
        CHECK(seen[key] == (ret_found[key] != DELETED), "key %u is not iterated", (unsigned)key);
}

static void check_read_only(struct store *store, uint32_t *ret_found)
{
    struct cask_options options = store->options;
    uint64_t before = tree_checksum(store->path);
    struct cask_db *db;

    options.read_only = 1;
    options.shard_count = 0;
    options.read_mode = CASK_READ_PREAD;
    CHECK_OK(cask_open(store->path, &options, &db));
    read_all(db, ret_found);
    CHECK_OK(cask_close(db));
    CHECK(tree_checksum(store->path) == before, "a read-only open changed something");
}

/* What cask_merge() seals to merge it gets no hint, and was the tail a moment ago. */
static void check_recovery(struct store *store, bool merging, uint32_t *ret_found)
{
    struct cask_stats stats = {.size = sizeof stats};
    struct cask_db *db;

    CHECK_OK(cask_open(store->path, &store->options, &db));
    read_all(db, ret_found);
    CHECK_OK(cask_verify(db, NULL, NULL));
    CHECK_OK(cask_stats(db, &stats));
    CHECK(stats.hints_rebuilt == 0 || merging, "a hint was lost");
    CHECK_OK(cask_close(db));
    CHECK(log_lines_count(&store->log, CASK_LOG_ERROR) == 0, "%s", store->log.text);
}

static void check_store(struct store *store, struct rng *rng)
{
    uint32_t before[KEYS];
    uint32_t found[KEYS];
    uint32_t again[KEYS];
    bool first_read_only = rng_percent(rng, 30) && path_exists(path_in(store->path, "CASKADE"));

    log_lines_clear(&store->log);
    if (first_read_only)
        check_read_only(store, before);
    check_recovery(store, atomic_exchange(&store->shared->merging, 0) > 0, found);
    for (uint32_t key = 0; key < KEYS && first_read_only; key++)
        CHECK(before[key] == found[key], "key %u: version %x read-only, %x recovered",
              (unsigned)key, (unsigned)before[key], (unsigned)found[key]);
    settle(store->shared, found);
    if (rng_percent(rng, 30)) {
        check_recovery(store, false, again);
        for (uint32_t key = 0; key < KEYS; key++)
            CHECK(again[key] == found[key], "key %u changed when reopened", (unsigned)key);
    }
    check_no_strays(store->path);
}

static void start_store(struct store *store, struct rng *rng, unsigned number)
{
    static const uint64_t sizes[] = {400, 1000, 8000};
    static const enum cask_sync_mode syncs[] = {CASK_SYNC_NONE, CASK_SYNC_ALWAYS,
                                                CASK_SYNC_INTERVAL};

    log_lines_init(&store->log);
    store->path = scratch_make(number % 5 == 4 ? SCRATCH_DISK : SCRATCH_MEMORY);
    store->options = options_with_log(&store->log);
    store->options.shard_count = 1u << rng_below(rng, 4);
    store->options.segment_bytes = sizes[rng_below(rng, 3)];
    store->options.write_mode = number % 2 == 0 ? CASK_WRITE_MAPPED : CASK_WRITE_SYSCALL;
    store->options.sync_mode = syncs[number % 3];
    store->options.sync_interval_ms = store->options.sync_mode == CASK_SYNC_INTERVAL ? 3 : 0;
    store->options.index_memory = rng_percent(rng, 50) ? SPILLING : (uint64_t)16 << 20;
    store->options.merge = number % 4 == 3 ? CASK_SWITCH_OFF : CASK_SWITCH_ON;
    store->options.merge_trigger_percent = 1 + (uint32_t)rng_below(rng, 50);
    store->options.merge_segment_percent = 1 + (uint32_t)rng_below(rng, 60);
    memset(store->shared, 0, sizeof *store->shared);
}

static void test_nothing_acknowledged_is_lost_by_a_kill(void **state)
{
    uint64_t kills = environment_number("CASKADE_KILLS", KILLS);
    uint64_t seed = environment_number("CASKADE_KILL_SEED", 1);
    struct rng rng = {mix64(seed)};
    struct store store = {0};
    uint64_t operations = 0;
    uint64_t opens = 0;
    uint64_t done = 0;

    (void)state;
    store.shared = mmap(NULL, sizeof *store.shared, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(store.shared != MAP_FAILED, "out of memory");
    check_context("CASKADE_KILL_SEED=%llu", (unsigned long long)seed);
    for (unsigned number = 0; done < kills; number++) {
        start_store(&store, &rng, number);
        for (unsigned i = 0; i < KILLS_PER_STORE && done < kills; i++) {
            kill_one(&store, &rng, false);
            done++;
            while (rng_percent(&rng, 40) && done < kills) { /* in the midst of recovering */
                kill_one(&store, &rng, true);
                done++;
            }
            check_store(&store, &rng);
        }
        operations += atomic_load(&store.shared->operations);
        opens += atomic_load(&store.shared->opens);
        scratch_remove(store.path);
    }
    print_message("%llu kills, %llu acknowledged writes, %llu opens\n", (unsigned long long)done,
                  (unsigned long long)operations, (unsigned long long)opens);
    assert_true(operations > done);
    munmap(store.shared, sizeof *store.shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_acknowledged_is_lost_by_a_kill),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
