/* H7: damage of every kind to a small store, and what it makes of it.
 *
 * The store has two shards with sealed and active segments, hints, overwrites, deletes and a batch
 * across shards: once closed cleanly, once as a crash leaves it. To each of its files is done:
 * every bit flipped, every truncation, every block of 64 bytes zeroed and exchanged with others,
 * deleted, lengthened, replaced by the same file of another store and exchanged with its like in
 * this one.
 *
 * Proved for each: no crash and no hang; open refuses with an error in the log, or every key then
 * gives its value or an error status. A key that lost its value, an older value or a deleted key
 * that is back: only if the log was told at the open; a value the key never had: never. Where a get
 * fails, verify finds damage. A read-only open changes no byte. What is put after the damage was
 * met is there after reopening.
 *
 * Each flip and truncation is met by a read-only open, each eighth by one that writes too; all else
 * by both.
 * A third store has its index on disk, in two runs of each shard, and to the runs alone the same is
 * done, but for a sample of the flips, truncations and exchanges. There nothing at all may be wrong
 * or old, since the log has everything: a run that is bad is made anew.
 * Hash seeds differ from store to store, and with them what lies where: all but the flips is done
 * to a few stores.
 *   CASKADE_CORRUPTION_STORES=n how many stores; flips are for the first
 *   CASKADE_CORRUPTION_RUNS=n  each n-th of the sampled cases of runs; 1 for all
 *   CASKADE_CORRUPTION_STEP=n  only each n-th of these by one that writes; 1 for all
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "log/segment.h"
#include "support_model.h"
#include "support_spill.h"

#define KEYS 14u
#define NEW_KEY KEYS
#define SEGMENT_BYTES 400u
#define BLOCK_BYTES 64u
#define PROCESSES 2u
#define HANG_SECONDS 240u
#define PARTS_MAX 2u
#define FLIP_STEP 8u
#define STORES 2u
#define RUN_SAMPLE 1499u
#define SHARD_NAME_BYTES strlen("shard-000")

/* Read-only opens wait for a live writer to come to rest. There is none here. */
int nanosleep(const struct timespec *wanted, struct timespec *left)
{
    (void)wanted;
    (void)left;
    return 0;
}

/* What the intact store holds: the version of each key, 0 for deleted ones. */
struct image {
    const char *name;
    bool closed;
    bool spilled; /* the index is on disk */
    struct tree tree;
    struct tree other; /* of a store made in the same way */
    uint32_t versions[KEYS];
    uint32_t last_versions[KEYS];
};

/* One case: up to two files with other contents, or none. */
struct damage {
    unsigned count;
    const struct tree_file *files[PARTS_MAX];
    const uint8_t *bytes[PARTS_MAX]; /* NULL: deleted */
    size_t sizes[PARTS_MAX];
};

/* What the processes that sweep tell the one that waits. */
struct shared {
    char current[PROCESSES][256];
    uint64_t cases[PROCESSES];
    uint64_t refused[PROCESSES];
};

struct sweep {
    const struct image *image;
    struct shared *shared;
    unsigned process;
    uint64_t step;
    uint64_t sample;
    uint64_t number; /* of the case */
    bool flips;
    bool torn; /* the case is what a crash may leave as well */
    char *dir;
    bool dir_is_intact;
    struct log_lines log;
    bool told; /* the log, at an open of this case */
};

/* ---- the store ------------------------------------------------------------------------------- */

static struct cask_slice key_bytes(uint32_t key, char buffer[32])
{
    int size = snprintf(buffer, 32, "key-%u", (unsigned)key);

    return slice_bytes(buffer, (size_t)size);
}

static size_t value_size(uint32_t key, uint32_t version)
{
    return 8 + (key * 7 + version * 3) % 30;
}

static struct cask_slice value_bytes(uint32_t key, uint32_t version, uint8_t buffer[64])
{
    size_t size = value_size(key, version);

    model_value_bytes(key, version, buffer, size);
    return slice_bytes(buffer, size);
}

static void put(struct cask_db *db, struct image *image, uint32_t key)
{
    char bytes[32];
    uint8_t value[64];

    image->versions[key] = ++image->last_versions[key];
    CHECK_OK(cask_put(db, key_bytes(key, bytes), value_bytes(key, image->versions[key], value)));
}

static void delete_key(struct cask_db *db, struct image *image, uint32_t key)
{
    char bytes[32];

    image->versions[key] = 0;
    CHECK_OK(cask_delete(db, key_bytes(key, bytes)));
}

static void write_batch(struct cask_db *db, struct image *image, uint32_t first, uint32_t end)
{
    struct cask_batch *batch;

    CHECK_OK(cask_batch_create(db, &batch));
    for (uint32_t key = first; key < end; key++) {
        char bytes[32];
        uint8_t value[64];

        if (key % 4 == 3) {
            image->versions[key] = 0;
            CHECK_OK(cask_batch_delete(batch, key_bytes(key, bytes)));
        } else {
            image->versions[key] = ++image->last_versions[key];
            CHECK_OK(cask_batch_put(batch, key_bytes(key, bytes),
                                    value_bytes(key, image->versions[key], value)));
        }
    }
    CHECK_OK(cask_write(db, batch));
    cask_batch_destroy(batch);
}

static struct cask_options store_options(void)
{
    return (struct cask_options){.size = sizeof(struct cask_options),
                                 .merge = CASK_SWITCH_OFF, /* it would change which file is last */
                                 .shard_count = 2,
                                 .segment_bytes = SEGMENT_BYTES,
                                 .index_memory = (uint64_t)1 << 20};
}

/* Two sessions, so that the second goes on behind what a hint covers. */
static void make_store(struct image *image, bool closed, struct tree *ret_tree)
{
    struct cask_options options = store_options();
    char *dir = scratch_make(SCRATCH_MEMORY);
    char *copy = scratch_make(SCRATCH_MEMORY);
    struct cask_db *db;

    memset(image->versions, 0, sizeof image->versions);
    memset(image->last_versions, 0, sizeof image->last_versions);
    CHECK_OK(cask_open(dir, &options, &db));
    for (uint32_t key = 0; key < KEYS - 2; key++)
        put(db, image, key);
    delete_key(db, image, 1);
    if (image->spilled)
        CHECK_OK(spill_all(db));
    CHECK_OK(cask_close(db));
    CHECK_OK(cask_open(dir, &options, &db));
    put(db, image, 2);
    write_batch(db, image, KEYS - 6, KEYS);
    delete_key(db, image, 3);
    put(db, image, 4);
    if (image->spilled)
        CHECK_OK(spill_all(db));
    put(db, image, 5);
    if (!closed) {
        tree_copy_still(dir, copy);
        tree_load(ret_tree, copy);
    }
    CHECK_OK(cask_close(db));
    if (closed)
        tree_load(ret_tree, dir);
    scratch_remove(dir);
    scratch_remove(copy);
}

static void make_image(struct image *image, const char *name, bool closed, bool spilled)
{
    memset(image, 0, sizeof *image);
    image->name = name;
    image->closed = closed;
    image->spilled = spilled;
    make_store(image, closed, &image->other);
    make_store(image, closed, &image->tree);
}

static void release_image(struct image *image)
{
    tree_release(&image->tree);
    tree_release(&image->other);
}

/* ---- judging --------------------------------------------------------------------------------- */

/* What is said at an open must be said loud enough: the end of a log that a crash tore is no error,
 * and to a reader beside a writer it is everyday. */
static void note_told(struct sweep *sweep)
{
    if (sweep->image->spilled)
        return; /* that excuses nothing: the log is whole */
    sweep->told |= log_lines_count(&sweep->log, CASK_LOG_ERROR) > 0;
    if (!sweep->image->closed)
        sweep->told |= sweep->log.used > 0;
}

/* One key's answer. True if it was an error status. */
static bool judge(const struct sweep *sweep, uint32_t key, int status, struct cask_slice value)
{
    uint32_t expected = sweep->image->versions[key];
    uint32_t version = 0;

    if (status == CASK_ECORRUPT)
        return true;
    CHECK(status == CASK_OK || status == CASK_NOTFOUND, "key %u: %s", (unsigned)key,
          cask_strerror(status));
    if (status == CASK_OK) {
        version = model_value_version(key, value);
        CHECK(version != 0 && version <= sweep->image->last_versions[key] &&
                  value.size == value_size(key, version),
              "key %u has a value it never had", (unsigned)key);
    }
    CHECK(version == expected || sweep->told, "key %u has version %u, not %u, and nothing was said",
          (unsigned)key, (unsigned)version, (unsigned)expected);
    return false;
}

static bool check_gets(const struct sweep *sweep, struct cask_db *db)
{
    bool failed = false;

    for (uint32_t key = 0; key < KEYS; key++) {
        char bytes[32];
        uint8_t value[64];
        size_t size = 0;
        int status = cask_get(db, key_bytes(key, bytes), value, sizeof value, &size);

        failed |= judge(sweep, key, status, slice_bytes(value, size));
    }
    return failed;
}

static bool check_iteration(const struct sweep *sweep, struct cask_db *db)
{
    bool seen[KEYS + 1] = {false};
    bool failed = false;
    struct cask_iter *iter;
    struct cask_entry entry;
    int status;

    CHECK_OK(cask_iter_create(db, &iter));
    while ((status = cask_iter_next(iter, &entry)) != CASK_NOTFOUND) {
        char text[32] = {0};
        unsigned key = KEYS + 1;

        if (status == CASK_ECORRUPT) {
            failed = true;
            continue;
        }
        CHECK(status == CASK_OK, "%s", cask_strerror(status));
        CHECK(entry.key.size < sizeof text, "a key nobody wrote");
        memcpy(text, entry.key.data, entry.key.size);
        CHECK(sscanf(text, "key-%u", &key) == 1 && key <= KEYS, "a key nobody wrote: %s", text);
        CHECK(!seen[key], "key %u comes twice", key);
        seen[key] = true;
        if (key < KEYS)
            (void)judge(sweep, key, CASK_OK, entry.value);
    }
    cask_iter_destroy(iter);
    for (uint32_t key = 0; key < KEYS; key++)
        CHECK(seen[key] || failed || sweep->told || sweep->image->versions[key] == 0,
              "key %u is not iterated, and nothing was said", (unsigned)key);
    return failed;
}

static void check_contents(const struct sweep *sweep, struct cask_db *db)
{
    bool failed = check_gets(sweep, db);
    int status;

    failed |= check_iteration(sweep, db);
    status = cask_verify(db, NULL, NULL);
    CHECK(status == CASK_ECORRUPT || (status == CASK_OK && !failed), "verify: %s, after %s",
          cask_strerror(status), failed ? "an error" : "no error");
}

/* NULL if it was refused, with an error told. */
static struct cask_db *try_open(struct sweep *sweep, const struct cask_options *options)
{
    struct cask_db *db = NULL;
    int status;

    log_lines_clear(&sweep->log);
    status = cask_open(sweep->dir, options, &db);
    note_told(sweep);
    if (status == CASK_OK)
        return db;
    CHECK(status == CASK_ECORRUPT || status == CASK_ENOTSTORE || status == CASK_EVERSION ||
              status == CASK_EMISMATCH || status == CASK_EBUSY,
          "open: %s", cask_strerror(status));
    CHECK(log_lines_count(&sweep->log, CASK_LOG_ERROR) > 0, "open: %s, and nothing in the log",
          cask_strerror(status));
    sweep->shared->refused[sweep->process]++;
    return NULL;
}

/* ---- the cases ------------------------------------------------------------------------------- */

static void set_up(struct sweep *sweep, const struct damage *damage)
{
    if (!sweep->dir_is_intact) {
        tree_empty(sweep->dir);
        tree_store(&sweep->image->tree, sweep->dir);
    }
    for (unsigned i = 0; i < damage->count; i++) {
        const char *path = path_in(sweep->dir, damage->files[i]->name);

        if (damage->bytes[i])
            write_file(path, damage->bytes[i], damage->sizes[i]);
        else
            CHECK(unlink(path) == 0, "%s: %s", path, strerror(errno));
    }
    sweep->dir_is_intact = false;
    sweep->told = sweep->torn;
}

static void run_read_only(struct sweep *sweep, const struct damage *damage)
{
    bool check_bytes = sweep->number % 37 == 0;
    struct cask_options options = store_options();
    uint64_t before = 0;
    struct cask_db *db;

    set_up(sweep, damage);
    if (check_bytes)
        before = tree_checksum(sweep->dir);
    options.shard_count = 0;
    options.read_only = 1;
    options.read_mode = sweep->number & 1 ? CASK_READ_MAPPED : CASK_READ_PREAD;
    options.log = log_lines_collect;
    options.log_context = &sweep->log;
    db = try_open(sweep, &options);
    if (db) {
        check_contents(sweep, db);
        CHECK_OK(cask_close(db));
    }
    CHECK(!check_bytes || tree_checksum(sweep->dir) == before,
          "a read-only open changed something");
    for (unsigned i = 0; i < damage->count; i++)
        write_file(path_in(sweep->dir, damage->files[i]->name), damage->files[i]->bytes,
                   damage->files[i]->size);
    sweep->dir_is_intact = true;
}

static void check_new(struct sweep *sweep, struct cask_db *db)
{
    char bytes[32];
    int status = cask_exists(db, key_bytes(NEW_KEY, bytes));

    CHECK(status == CASK_OK, "the new key: %s; log:\n%s", cask_strerror(status), sweep->log.text);
    check_value(db, bytes, "new");
}

/* Writes go on, or are refused; what was accepted stays. */
static void run_read_write(struct sweep *sweep, const struct damage *damage)
{
    struct cask_options options = store_options();
    char bytes[32];
    struct cask_slice key = key_bytes(NEW_KEY, bytes);
    struct cask_db *db;
    int status;

    set_up(sweep, damage);
    options.read_mode = sweep->number & 2 ? CASK_READ_MAPPED : CASK_READ_PREAD;
    options.write_mode = sweep->number & 4 ? CASK_WRITE_MAPPED : CASK_WRITE_SYSCALL;
    options.log = log_lines_collect;
    options.log_context = &sweep->log;
    db = try_open(sweep, &options);
    if (!db)
        return;
    check_contents(sweep, db);
    status = cask_put(db, key, slice_of("new"));
    CHECK(status == CASK_OK || status == CASK_ECORRUPT, "put: %s", cask_strerror(status));
    if (status == CASK_OK)
        check_new(sweep, db);
    (void)cask_close(db);
    db = try_open(sweep, &options);
    if (!db)
        return;
    if (status == CASK_OK)
        check_new(sweep, db);
    check_contents(sweep, db);
    (void)cask_close(db);
}

static const char flipped[] = "bit flipped in";
static const char truncated[] = "truncated";
static const char swapped[] = "swapped blocks of";

static void run_case(struct sweep *sweep, const struct damage *damage, const char *what,
                     size_t where)
{
    bool many = what == flipped || what == truncated || what == swapped;

    sweep->number++;
    if (sweep->number % PROCESSES != sweep->process)
        return;
    if (sweep->image->spilled && many && mix64(~sweep->number) % sweep->sample != 0)
        return;
    (void)snprintf(sweep->shared->current[sweep->process],
                   sizeof sweep->shared->current[sweep->process], "case %llu: %s: %s %s at %zu",
                   (unsigned long long)sweep->number, sweep->image->name, what,
                   damage->files[0]->name, where);
    check_context("%s", sweep->shared->current[sweep->process]);
    sweep->shared->cases[sweep->process]++;
    alarm(HANG_SECONDS);
    run_read_only(sweep, damage);
    if ((what != flipped && what != truncated) || mix64(sweep->number) % sweep->step == 0)
        run_read_write(sweep, damage);
    alarm(0);
}

static bool same_kind(const struct tree_file *a, const struct tree_file *b)
{
    const char *end_a = strrchr(a->name, '.');
    const char *end_b = strrchr(b->name, '.');

    return end_a && end_b ? strcmp(end_a, end_b) == 0 : !end_a && !end_b;
}

static struct damage damage_of(const struct tree_file *file, const uint8_t *bytes, size_t size)
{
    return (struct damage){.count = 1, .files = {file}, .bytes = {bytes}, .sizes = {size}};
}

static void flip_bits(struct sweep *sweep, const struct tree_file *file, uint8_t *bytes)
{
    struct damage damage = damage_of(file, bytes, file->size);

    for (size_t bit = 0; bit < file->size * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        run_case(sweep, &damage, flipped, bit);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* Whether the file is the last of a log that a crash left, which may then end anywhere: only what
 * was in it before can be told. */
static bool is_open_end(const struct sweep *sweep, const struct tree_file *file)
{
    const struct tree *tree = &sweep->image->tree;

    if (sweep->image->closed || !strstr(file->name, ".data"))
        return false;
    for (const struct tree_file *other = file + 1; other < tree->files + tree->count; other++)
        if (same_kind(file, other) && strncmp(file->name, other->name, SHARD_NAME_BYTES) == 0 &&
            other->size > SEGMENT_HEADER_BYTES && other->bytes[SEGMENT_HEADER_BYTES] != 0)
            return false;
    return true;
}

static void truncate_file(struct sweep *sweep, const struct tree_file *file, uint8_t *bytes)
{
    sweep->torn = is_open_end(sweep, file);
    for (size_t size = 0; size < file->size; size++) {
        struct damage damage = damage_of(file, bytes, size);

        run_case(sweep, &damage, truncated, size);
    }
    sweep->torn = false;
}

static bool all_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* Zeros up to the end of an open log are what a log that ended earlier looks like: nothing on disk
 * tells the two apart, so that is a torn tail like one cut off. */
static void zero_blocks(struct sweep *sweep, const struct tree_file *file, uint8_t *bytes)
{
    struct damage damage = damage_of(file, bytes, file->size);

    for (size_t at = 0; at < file->size; at += BLOCK_BYTES) {
        size_t size = file->size - at < BLOCK_BYTES ? file->size - at : BLOCK_BYTES;

        memset(bytes + at, 0, size);
        sweep->torn = is_open_end(sweep, file) && all_zero(bytes + at, file->size - at);
        run_case(sweep, &damage, "zeroed block of", at);
        sweep->torn = false;
        memcpy(bytes + at, file->bytes + at, size);
    }
}

static void swap_blocks(struct sweep *sweep, const struct tree_file *file, uint8_t *bytes)
{
    struct damage damage = damage_of(file, bytes, file->size);

    for (size_t a = 0; a + BLOCK_BYTES <= file->size; a += BLOCK_BYTES)
        for (size_t b = a + BLOCK_BYTES; b + BLOCK_BYTES <= file->size; b += BLOCK_BYTES) {
            memcpy(bytes + a, file->bytes + b, BLOCK_BYTES);
            memcpy(bytes + b, file->bytes + a, BLOCK_BYTES);
            run_case(sweep, &damage, swapped, a);
            memcpy(bytes + a, file->bytes + a, BLOCK_BYTES);
            memcpy(bytes + b, file->bytes + b, BLOCK_BYTES);
        }
}

static void lengthen(struct sweep *sweep, const struct tree_file *file)
{
    static const size_t more[] = {1, 7, 8, 24, 64, 5000};

    for (size_t i = 0; i < 2 * (sizeof more / sizeof *more); i++) {
        size_t size = file->size + more[i / 2];
        uint8_t *bytes = malloc(size);
        struct damage damage = damage_of(file, bytes, size);

        CHECK(bytes, "out of memory");
        memcpy(bytes, file->bytes, file->size);
        memset(bytes + file->size, i % 2 == 0 ? 0 : 0xa5, size - file->size);
        run_case(sweep, &damage, "lengthened", size);
        free(bytes);
    }
}

static void replace_file(struct sweep *sweep, const struct tree_file *file)
{
    const struct tree *tree = &sweep->image->tree;
    const struct tree_file *other = tree_find(&sweep->image->other, file->name);
    struct damage damage = damage_of(file, NULL, 0);

    run_case(sweep, &damage, "deleted", 0);
    if (other) {
        damage = damage_of(file, other->bytes, other->size);
        run_case(sweep, &damage, "another store's", 0);
    }
    for (size_t i = 0; i < tree->count; i++) {
        other = &tree->files[i];
        if (other <= file || !same_kind(file, other))
            continue;
        damage = (struct damage){.count = 2,
                                 .files = {file, other},
                                 .bytes = {other->bytes, file->bytes},
                                 .sizes = {other->size, file->size}};
        run_case(sweep, &damage, "exchanged", i);
    }
}

static void sweep_all(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->image->tree.count; i++) {
        const struct tree_file *file = &sweep->image->tree.files[i];
        uint8_t *bytes;

        if (strcmp(file->name, "LOCK") == 0 || strcmp(file->name, "RESERVE") == 0)
            continue; /* nobody reads what is in them */
        if (sweep->image->spilled && !strstr(file->name, ".mdb"))
            continue;
        bytes = malloc(file->size + 1);
        CHECK(bytes, "out of memory");
        memcpy(bytes, file->bytes, file->size);
        replace_file(sweep, file);
        lengthen(sweep, file);
        zero_blocks(sweep, file, bytes);
        swap_blocks(sweep, file, bytes);
        truncate_file(sweep, file, bytes);
        if (sweep->flips)
            flip_bits(sweep, file, bytes);
        free(bytes);
    }
}

/* ---- the test -------------------------------------------------------------------------------- */

static void on_hang(int signal_number)
{
    (void)signal_number;
    abort();
}

/* A store then opens without threads, which would take most of the time. */
static void stay_on_one_processor(unsigned process)
{
    cpu_set_t allowed;
    cpu_set_t one;
    unsigned nth = 0;

    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &allowed) &&
            nth++ % (unsigned)CPU_COUNT(&allowed) == process % (unsigned)CPU_COUNT(&allowed))
            CPU_SET(i, &one);
    (void)sched_setaffinity(0, sizeof one, &one);
}

static pid_t start_sweep(const struct image *image, bool flips, struct shared *shared,
                         unsigned process, char *dir)
{
    struct sweep sweep = {.image = image,
                          .shared = shared,
                          .process = process,
                          .step = environment_number("CASKADE_CORRUPTION_STEP", FLIP_STEP),
                          .sample = environment_number("CASKADE_CORRUPTION_RUNS", RUN_SAMPLE),
                          .flips = flips,
                          .dir = dir};
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    if (child != 0)
        return child;
    log_lines_init(&sweep.log);
    stay_on_one_processor(process);
    (void)signal(SIGALRM, on_hang);
    sweep_all(&sweep);
    _exit(0);
}

static void sweep_image(const char *name, bool closed, bool spilled, bool flips)
{
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct image image;
    char *dirs[PROCESSES];
    pid_t children[PROCESSES];
    size_t bytes = 0;
    bool failed = false;

    CHECK(shared != MAP_FAILED, "out of memory");
    make_image(&image, name, closed, spilled);
    for (size_t i = 0; i < image.tree.count; i++)
        bytes += image.tree.files[i].size;
    for (unsigned i = 0; i < PROCESSES; i++) {
        dirs[i] = scratch_make(SCRATCH_MEMORY);
        children[i] = start_sweep(&image, flips, shared, i, dirs[i]);
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        int status;

        CHECK(waitpid(children[i], &status, 0) == children[i], "%s", strerror(errno));
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            print_error("0x%x after %s\n", (unsigned)status, shared->current[i]);
            failed = true;
        }
        scratch_remove(dirs[i]);
    }
    CHECK(!failed, "%s", name);
    print_message("%s: %zu bytes in %zu files, %llu cases, %llu opens refused\n", name, bytes,
                  image.tree.count, (unsigned long long)(shared->cases[0] + shared->cases[1]),
                  (unsigned long long)(shared->refused[0] + shared->refused[1]));
    release_image(&image);
    munmap(shared, sizeof *shared);
}

static void sweep_images(const char *name, bool closed, bool spilled)
{
    uint64_t count = environment_number("CASKADE_CORRUPTION_STORES", spilled ? 1 : STORES);

    for (uint64_t i = 0; i < count; i++)
        sweep_image(name, closed, spilled, i == 0);
}

static void test_damage_to_a_closed_store_is_told_or_harmless(void **state)
{
    (void)state;
    sweep_images("closed store", true, false);
}

static void test_damage_to_a_crashed_store_is_told_or_harmless(void **state)
{
    (void)state;
    sweep_images("crashed store", false, false);
}

static void test_damage_to_runs_is_mended(void **state)
{
    (void)state;
    sweep_images("spilled store", true, true);
    sweep_images("crashed spilled store", false, true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damage_to_a_closed_store_is_told_or_harmless),
        cmocka_unit_test(test_damage_to_a_crashed_store_is_told_or_harmless),
        cmocka_unit_test(test_damage_to_runs_is_mended),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
