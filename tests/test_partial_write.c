/* Sizes at their limits, and writes that were cut off in the middle.
 *
 * Proved: a value of 100 MB whose writer is killed half way leaves the store as it was before, the
 * disk space included, in both write modes; values of every size around a segment's, around the
 * pieces in which logs are read and written, and up to 2 GiB - 1 come back whole, also when the log
 * is read again without its hints; keys of 1 and 65,535 bytes do; what is over the limits is
 * refused and changes nothing; a batch of about the largest size is whole or refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "log/segment.h"
#include "support.h"

#define MB ((size_t)1000 * 1000)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define LARGE (100 * MB)
#define PAGE ((size_t)4096)
#define RANDOM_KILLS 5u /* in each write mode */

static const enum cask_write_mode write_modes[] = {CASK_WRITE_MAPPED, CASK_WRITE_SYSCALL};

/* Where a large write is to be cut off by a kill: the library's calls come here. */
static size_t killing_write_bytes = SIZE_MAX;

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    bool kills = killing_write_bytes != SIZE_MAX && size > MB;
    ssize_t written = syscall(SYS_pwrite64, fd, bytes, kills ? killing_write_bytes : size, offset);

    if (kills)
        (void)kill(getpid(), SIGKILL);
    return written;
}

/* ---- values that take no memory -------------------------------------------------------------- */

/* One piece of random bytes, none of them 0, mapped again and again. */
static int pattern_fd(void)
{
    static int fd = -1;
    struct rng rng = {42};
    uint8_t *bytes;

    if (fd >= 0)
        return fd;
    fd = memfd_create("pattern", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)MIB) == 0, "%s", strerror(errno));
    bytes = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(bytes != MAP_FAILED, "%s", strerror(errno));
    for (size_t i = 0; i < MIB; i++)
        bytes[i] = (uint8_t)(1 + rng_next(&rng) % 255);
    munmap(bytes, MIB);
    return fd;
}

static size_t mapped_size(size_t size)
{
    return (size + MIB - 1) / MIB * MIB;
}

static uint8_t *pattern_map(size_t size)
{
    size_t length = mapped_size(size);
    uint8_t *start = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(start != MAP_FAILED, "%s", strerror(errno));
    for (size_t at = 0; at < length; at += MIB)
        CHECK(mmap(start + at, MIB, PROT_READ, MAP_SHARED | MAP_FIXED, pattern_fd(), 0) !=
                  MAP_FAILED,
              "%s", strerror(errno));
    return start;
}

static bool has_pattern(const uint8_t *pattern, struct cask_slice value)
{
    const uint8_t *from = value.data;

    for (size_t at = 0; at < value.size; at += MIB)
        if (memcmp(from + at, pattern, value.size - at < MIB ? value.size - at : MIB) != 0)
            return false;
    return true;
}

static void check_pattern(struct cask_db *db, struct cask_slice key, size_t size)
{
    uint8_t *pattern = pattern_map(MIB);
    struct cask_view view;

    CHECK_OK(cask_view(db, key, &view));
    CHECK(view.value.size == size, "%zu bytes, not %zu", view.value.size, size);
    CHECK(has_pattern(pattern, view.value), "a value of %zu bytes is not what was put", size);
    cask_view_release(&view);
    munmap(pattern, mapped_size(MIB));
}

/* ---- killed in the middle -------------------------------------------------------------------- */

struct shared {
    _Atomic bool started;
    _Atomic bool done;
};

/* A store with a few keys, one of them about to be overwritten. */
static void make_store(const char *path, const struct cask_options *options)
{
    struct cask_db *db;

    CHECK_OK(cask_open(path, options, &db));
    CHECK_OK(cask_put(db, slice_of("first"), slice_of("1")));
    CHECK_OK(cask_put(db, slice_of("large"), slice_of("the value before")));
    CHECK_OK(cask_put(db, slice_of("gone"), slice_of("x")));
    CHECK_OK(cask_delete(db, slice_of("gone")));
    CHECK_OK(cask_close(db));
}

static uint64_t bytes_on_disk(struct cask_db *db)
{
    struct cask_stats stats = {.size = sizeof stats};

    CHECK_OK(cask_stats(db, &stats));
    return stats.disk_bytes;
}

/* How many pages of the value reached the file of the log. Its bytes have no zeros, and before them
 * there is less than a page; behind them the file is zeros. */
static size_t pages_written(const char *path)
{
    size_t pages = 0;

    for (unsigned id = 1; id < 10; id++) {
        char name[32];
        const char *file;
        uint8_t *bytes;
        size_t size;

        (void)snprintf(name, sizeof name, "%u.data", id);
        file = shard_path(path, 0, name);
        bytes = read_file_if_there(file, &size);
        for (size_t at = PAGE; bytes && at + PAGE < size; at += PAGE)
            pages += bytes[at] != 0;
        free(bytes);
    }
    return pages;
}

static _Noreturn void write_large(const char *path, const struct cask_options *options,
                                  const uint8_t *value, struct shared *shared)
{
    struct cask_db *db;

    CHECK_OK(cask_open(path, options, &db));
    atomic_store(&shared->started, true);
    CHECK_OK(cask_put(db, slice_of("large"), slice_bytes(value, LARGE)));
    atomic_store(&shared->done, true);
    for (;;)
        (void)pause();
}

/* What the kill must have left: all as before, or, if the put had come to its end, all of it. */
static void check_left(const char *path, const struct cask_options *options, bool done)
{
    struct log_lines log;
    struct cask_options logging = *options;
    struct cask_db *db;
    size_t size = 0;
    char buffer[64];
    int status;

    log_lines_init(&log);
    logging.log = log_lines_collect;
    logging.log_context = &log;
    CHECK_OK(cask_open(path, &logging, &db));
    check_value(db, "first", "1");
    check_value(db, "gone", NULL);
    status = cask_get(db, slice_of("large"), buffer, sizeof buffer, &size);
    if (status == CASK_ERANGE) {
        check_pattern(db, slice_of("large"), LARGE);
    } else {
        CHECK(!done, "a put that had returned is lost");
        check_value(db, "large", "the value before");
    }
    CHECK_OK(cask_verify(db, NULL, NULL));
    CHECK(log_lines_count(&log, CASK_LOG_ERROR) == 0, "%s", log.text);
    CHECK_OK(cask_close(db));
    CHECK_OK(cask_open(path, options, &db));
    CHECK(status == CASK_ERANGE || bytes_on_disk(db) < MB, "%llu bytes on disk are not freed",
          (unsigned long long)bytes_on_disk(db));
    CHECK_OK(cask_put(db, slice_of("later"), slice_of("yes")));
    check_value(db, "later", "yes");
    CHECK_OK(cask_close(db));
}

/* Until the value begins to arrive in its segment, the shard's second. */
static void wait_for_first_bytes(const char *path, struct shared *shared)
{
    const char *file = shard_path(path, 0, "2.data");
    uint8_t byte = 0;
    int fd = -1;

    while (!atomic_load(&shared->started))
        pause_us(50);
    while (byte == 0 && !atomic_load(&shared->done)) {
        if (fd < 0)
            fd = open(file, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && pread(fd, &byte, 1, (off_t)PAGE) < 0)
            byte = 0;
    }
    if (fd >= 0)
        close(fd);
}

/* The child is killed after a while, or kills itself when it reads a page that traps. Returns how
 * many pages of the value had been written. */
static size_t kill_a_writer(const struct cask_options *options, const uint8_t *value,
                            uint64_t delay_us, enum scratch_kind kind)
{
    struct shared *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                                 0);
    char *path = scratch_make(kind);
    size_t pages;
    pid_t child;
    bool done;

    CHECK(shared != MAP_FAILED, "%s", strerror(errno));
    make_store(path, options);
    (void)fflush(NULL);
    child = fork();
    if (child == 0)
        write_large(path, options, value, shared);
    if (delay_us != UINT64_MAX) {
        wait_for_first_bytes(path, shared);
        if (delay_us > 0)
            pause_us(delay_us);
        CHECK(kill(child, SIGKILL) == 0, "%s", strerror(errno));
    }
    wait_for_kill(child);
    done = atomic_load(&shared->done);
    pages = pages_written(path);
    check_left(path, options, done);
    scratch_remove(path);
    munmap(shared, PAGE);
    return pages;
}

static struct cask_options options_for(enum cask_write_mode mode)
{
    return (struct cask_options){
        .size = sizeof(struct cask_options), .shard_count = 1, .write_mode = mode};
}

static void test_a_writer_killed_at_any_time_leaves_the_store_as_it_was(void **state)
{
    uint8_t *value = pattern_map(LARGE);
    struct rng rng = {environment_number("CASKADE_KILL_SEED", 1)};
    unsigned hits = 0;

    (void)state;
    for (unsigned i = 0; i < 2 * RANDOM_KILLS; i++) {
        struct cask_options options = options_for(write_modes[i % 2]);
        size_t pages = kill_a_writer(&options, value, rng_below(&rng, 30000),
                                     i < 2 ? SCRATCH_DISK : SCRATCH_MEMORY);

        hits += pages > 0 && pages < LARGE / PAGE - 1;
    }
    print_message("%u of %u kills in the middle of the value\n", hits, 2 * RANDOM_KILLS);
    munmap(value, mapped_size(LARGE));
}

static void kill_self(int signal_number)
{
    (void)signal_number;
    (void)kill(getpid(), SIGKILL);
}

/* Where the kill comes: at the first byte, in the middle, short of the last. */
static const size_t points[] = {0, PAGE, MIB + 7, LARGE / 2 + 100, LARGE - MIB, LARGE - 1};
#define POINTS (sizeof points / sizeof *points)

/* A page of the value cannot be read: the copy into the log gets as far as that. */
static void test_a_mapped_write_killed_at_a_given_byte_leaves_the_store_as_it_was(void **state)
{
    struct cask_options options = options_for(CASK_WRITE_MAPPED);

    (void)state;
    (void)signal(SIGSEGV, kill_self);
    for (size_t i = 0; i < POINTS; i++) {
        uint8_t *value = pattern_map(LARGE);

        CHECK(mprotect(value + points[i] / PAGE * PAGE, PAGE, PROT_NONE) == 0, "%s",
              strerror(errno));
        (void)kill_a_writer(&options, value, UINT64_MAX, SCRATCH_MEMORY);
        munmap(value, mapped_size(LARGE));
    }
    (void)signal(SIGSEGV, SIG_DFL);
}

static void test_a_system_call_killed_at_a_given_byte_leaves_the_store_as_it_was(void **state)
{
    struct cask_options options = options_for(CASK_WRITE_SYSCALL);
    uint8_t *value = pattern_map(LARGE);

    (void)state;
    for (size_t i = 0; i < POINTS; i++) {
        size_t pages;

        killing_write_bytes = points[i];
        pages = kill_a_writer(&options, value, UINT64_MAX, SCRATCH_MEMORY);
        CHECK(pages + 2 > points[i] / PAGE && pages <= points[i] / PAGE + 1,
              "%zu pages were written before the kill at byte %zu", pages, points[i]);
    }
    killing_write_bytes = SIZE_MAX;
    munmap(value, mapped_size(LARGE));
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static void remove_hints(const char *path)
{
    struct tree tree;

    tree_load(&tree, path);
    for (size_t i = 0; i < tree.count; i++)
        if (strstr(tree.files[i].name, ".hint"))
            CHECK(unlink(path_in(path, tree.files[i].name)) == 0, "%s", strerror(errno));
    tree_release(&tree);
}

/* Puts values of these sizes one after another, each between two small ones; all must be there at
 * once, after reopening, and after reading the log again. */
static void check_sizes(const struct cask_options *options, const size_t *sizes, size_t count)
{
    char *path = scratch_make(SCRATCH_MEMORY);
    uint8_t *value = pattern_map(4 * MIB);
    struct cask_db *db;

    CHECK_OK(cask_open(path, options, &db));
    for (size_t i = 0; i < count; i++) {
        char key[32];

        (void)snprintf(key, sizeof key, "key-%zu", i);
        CHECK_OK(cask_put(db, slice_of(key), slice_bytes(value, sizes[i])));
        check_pattern(db, slice_of(key), sizes[i]);
        (void)snprintf(key, sizeof key, "small-%zu", i);
        CHECK_OK(cask_put(db, slice_of(key), slice_of("small")));
    }
    for (unsigned round = 0; round < 3; round++) {
        CHECK_OK(cask_close(db));
        if (round == 1)
            remove_hints(path);
        CHECK_OK(cask_open(path, options, &db));
        for (size_t i = 0; i < count; i++) {
            char key[32];

            (void)snprintf(key, sizeof key, "key-%zu", i);
            check_pattern(db, slice_of(key), sizes[i]);
            (void)snprintf(key, sizeof key, "small-%zu", i);
            check_value(db, key, "small");
        }
    }
    CHECK_OK(cask_verify(db, NULL, NULL));
    CHECK_OK(cask_close(db));
    munmap(value, mapped_size(4 * MIB));
    scratch_remove(path);
}

static struct cask_options mode_options(size_t mode, uint64_t segment_bytes)
{
    struct cask_options options = options_for(write_modes[mode % 2]);

    options.segment_bytes = segment_bytes;
    options.read_mode = mode / 2 == 0 ? CASK_READ_MAPPED : CASK_READ_PREAD;
    return options;
}

static void test_values_around_the_size_of_a_segment(void **state)
{
    const size_t exact = PAGE - SEGMENT_HEADER_BYTES - SEGMENT_SEAL_BYTES - RECORD_HEADER_BYTES - 5;
    size_t sizes[128];
    size_t count = 0;

    (void)state;
    sizes[count++] = 0;
    sizes[count++] = 1;
    for (size_t size = exact - 40; size <= exact + 40; size++)
        sizes[count++] = size;
    sizes[count++] = PAGE;
    sizes[count++] = 3 * PAGE;
    sizes[count++] = 0;
    for (size_t mode = 0; mode < 4; mode++) {
        struct cask_options options = mode_options(mode, PAGE);

        check_sizes(&options, sizes, count);
    }
}

/* Logs are read, and large values written, in pieces of 1 MiB. */
static void test_values_around_the_pieces_of_reading(void **state)
{
    size_t sizes[64];
    size_t count = 0;

    (void)state;
    for (size_t size = MIB - 120; size <= MIB + 40; size += 16)
        sizes[count++] = size + (size % 32 == 0 ? 3 : 0);
    sizes[count++] = 2 * MIB - 120;
    sizes[count++] = 2 * MIB;
    sizes[count++] = 3 * MIB + 1;
    for (size_t mode = 0; mode < 4; mode++) {
        struct cask_options small = mode_options(mode, MIB);
        struct cask_options large = mode_options(mode, 64 * MIB);

        check_sizes(&small, sizes, count);
        check_sizes(&large, sizes, count);
    }
}

static bool enough_disk(const char *path, size_t bytes)
{
    struct statvfs info;

    return statvfs(path, &info) == 0 && (size_t)info.f_bavail * info.f_frsize >= bytes;
}

static void put_largest(const struct cask_options *options)
{
    char *path = scratch_make(SCRATCH_DISK);
    uint8_t *value = pattern_map(CASK_VALUE_MAX);
    struct cask_slice key = slice_of("largest");
    struct cask_db *db;
    size_t size = 0;

    CHECK_OK(cask_open(path, options, &db));
    CHECK_OK(cask_put(db, slice_of("before"), slice_of("1")));
    CHECK_OK(cask_put(db, key, slice_bytes(value, CASK_VALUE_MAX)));
    CHECK_OK(cask_put(db, slice_of("after"), slice_of("2")));
    CHECK_STATUS(cask_get(db, key, NULL, 0, &size), CASK_ERANGE);
    CHECK(size == CASK_VALUE_MAX, "%zu", size);
    CHECK_OK(cask_close(db));
    remove_hints(path);
    CHECK_OK(cask_open(path, options, &db));
    check_pattern(db, key, CASK_VALUE_MAX);
    check_value(db, "before", "1");
    check_value(db, "after", "2");
    CHECK_OK(cask_delete(db, key));
    CHECK_STATUS(cask_exists(db, key), CASK_NOTFOUND);
    CHECK_OK(cask_close(db));
    munmap(value, mapped_size(CASK_VALUE_MAX));
    scratch_remove(path);
}

static void test_the_largest_value(void **state)
{
    char *path = scratch_make(SCRATCH_DISK);
    bool enough = enough_disk(path, 5 * GIB);

    (void)state;
    scratch_remove(path);
    if (BUILT_WITH_ASAN || BUILT_WITH_TSAN || !enough) {
        print_message("skipped: a value of 2 GiB needs 5 GiB of disk and no sanitizer\n");
        skip();
    }
    for (size_t mode = 0; mode < 2; mode++) {
        struct cask_options options = options_for(write_modes[mode]);

        put_largest(&options);
    }
}

static void test_keys_of_the_smallest_and_largest_size(void **state)
{
    uint8_t *bytes = pattern_map(CASK_KEY_MAX);

    (void)state;
    for (size_t mode = 0; mode < 4; mode++) {
        struct cask_options options = mode_options(mode, 1000);
        char *path = scratch_make(SCRATCH_MEMORY);
        struct cask_db *db;

        CHECK_OK(cask_open(path, &options, &db));
        CHECK_OK(cask_put(db, slice_bytes(bytes, 1), slice_bytes(bytes, 8)));
        CHECK_OK(cask_put(db, slice_bytes(bytes, CASK_KEY_MAX), slice_bytes(bytes, 3)));
        CHECK_OK(cask_put(db, slice_bytes(bytes, CASK_KEY_MAX - 1), slice_bytes(bytes, 5000)));
        for (unsigned round = 0; round < 3; round++) {
            check_pattern(db, slice_bytes(bytes, 1), 8);
            check_pattern(db, slice_bytes(bytes, CASK_KEY_MAX), 3);
            check_pattern(db, slice_bytes(bytes, CASK_KEY_MAX - 1), 5000);
            CHECK_OK(cask_close(db));
            if (round == 1)
                remove_hints(path);
            CHECK_OK(cask_open(path, &options, &db));
        }
        CHECK_OK(cask_delete(db, slice_bytes(bytes, CASK_KEY_MAX)));
        CHECK_STATUS(cask_exists(db, slice_bytes(bytes, CASK_KEY_MAX)), CASK_NOTFOUND);
        CHECK_OK(cask_close(db));
        scratch_remove(path);
    }
    munmap(bytes, mapped_size(CASK_KEY_MAX));
}

static void test_what_is_over_the_limits_is_refused(void **state)
{
    struct cask_options options = options_for(CASK_WRITE_DEFAULT);
    uint8_t *bytes = pattern_map(CASK_KEY_MAX + 1);
    struct cask_slice long_key = slice_bytes(bytes, CASK_KEY_MAX + 1);
    struct cask_slice key = slice_of("key");
    struct cask_slice large = slice_bytes(bytes, (size_t)CASK_VALUE_MAX + 1); /* never read */
    struct cask_slice none = {NULL, 1};
    char *path = scratch_make(SCRATCH_MEMORY);
    struct cask_stats stats = {.size = sizeof stats};
    struct cask_batch *batch;
    struct cask_db *db;
    struct cask_view view;

    (void)state;
    CHECK_OK(cask_open(path, &options, &db));
    CHECK_STATUS(cask_put(db, long_key, key), CASK_ETOOBIG);
    CHECK_STATUS(cask_put(db, slice_bytes(bytes, 0), key), CASK_EINVAL);
    CHECK_STATUS(cask_put(db, none, key), CASK_EINVAL);
    CHECK_STATUS(cask_put(db, key, none), CASK_EINVAL);
    CHECK_STATUS(cask_put(db, key, large), CASK_ETOOBIG);
    CHECK_STATUS(cask_put_expiring(db, long_key, key, 1), CASK_ETOOBIG);
    CHECK_STATUS(cask_put_expiring(db, key, key, 0), CASK_EINVAL);
    CHECK_STATUS(cask_put_expiring(db, key, key, (uint64_t)1 << 56), CASK_EINVAL);
    CHECK_STATUS(cask_delete(db, long_key), CASK_ETOOBIG);
    CHECK_STATUS(cask_exists(db, long_key), CASK_ETOOBIG);
    CHECK_STATUS(cask_get(db, long_key, NULL, 0, NULL), CASK_ETOOBIG);
    CHECK_STATUS(cask_get(db, key, NULL, 1, NULL), CASK_EINVAL);
    CHECK_STATUS(cask_view(db, long_key, &view), CASK_ETOOBIG);
    CHECK_OK(cask_batch_create(db, &batch));
    CHECK_STATUS(cask_batch_put(batch, long_key, key), CASK_ETOOBIG);
    CHECK_STATUS(cask_batch_put(batch, key, large), CASK_ETOOBIG);
    CHECK_STATUS(cask_batch_delete(batch, long_key), CASK_ETOOBIG);
    CHECK_STATUS(cask_batch_put_expiring(batch, key, key, 0), CASK_EINVAL);
    CHECK_OK(cask_write(db, batch));
    cask_batch_destroy(batch);
    CHECK_OK(cask_stats(db, &stats));
    CHECK(stats.writes == 0 && stats.written_bytes == 0 && stats.live_keys == 0,
          "something was written");
    CHECK_OK(cask_close(db));
    munmap(bytes, mapped_size(CASK_KEY_MAX + 1));
    scratch_remove(path);
}

/* ---- large batches --------------------------------------------------------------------------- */

/* A batch that takes `bytes` in its shard without its end, in records of which the last is as small
 * as can be. It is written whole or refused. True if it was written. */
static bool write_large_batch(const struct cask_options *options, size_t bytes)
{
    const size_t small = record_stored_size(1, 0, false);
    size_t large = bytes - small - record_stored_size(5, 0, false);
    uint8_t *value = pattern_map(large);
    char *path = scratch_make(SCRATCH_MEMORY);
    struct cask_batch *batch;
    struct cask_db *db;
    int status;

    CHECK_OK(cask_open(path, options, &db));
    CHECK_OK(cask_put(db, slice_of("z"), slice_of("before")));
    CHECK_OK(cask_batch_create(db, &batch));
    CHECK_OK(cask_batch_put(batch, slice_of("large"), slice_bytes(value, large)));
    CHECK_OK(cask_batch_put(batch, slice_of("z"), slice_of("")));
    status = cask_write(db, batch);
    CHECK(status == CASK_OK || status == CASK_ETOOBIG, "%s", cask_strerror(status));
    cask_batch_destroy(batch);
    for (unsigned round = 0; round < 3; round++) {
        if (status == CASK_OK)
            check_pattern(db, slice_of("large"), large);
        else
            check_value(db, "large", NULL);
        check_value(db, "z", status == CASK_OK ? "" : "before");
        CHECK_OK(cask_close(db));
        if (round == 1)
            remove_hints(path);
        CHECK_OK(cask_open(path, options, &db));
    }
    CHECK_OK(cask_verify(db, NULL, NULL));
    CHECK_OK(cask_close(db));
    munmap(value, mapped_size(large));
    scratch_remove(path);
    return status == CASK_OK;
}

static void test_batches_of_about_the_largest_size(void **state)
{
    static const size_t sizes[] = {256 * MIB - 256, 256 * MIB - 96, 256 * MIB - 64, 256 * MIB - 48,
                                   256 * MIB - 24,  256 * MIB,      256 * MIB + 8};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct cask_options options = options_for(write_modes[i % 2]);
        bool written = write_large_batch(&options, sizes[i]);

        CHECK(i > 0 || written, "a batch under 256 MiB was refused");
        CHECK(i < sizeof sizes / sizeof *sizes - 1 || !written, "a batch over 256 MiB was taken");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_writer_killed_at_any_time_leaves_the_store_as_it_was),
        cmocka_unit_test(test_a_mapped_write_killed_at_a_given_byte_leaves_the_store_as_it_was),
        cmocka_unit_test(test_a_system_call_killed_at_a_given_byte_leaves_the_store_as_it_was),
        cmocka_unit_test(test_values_around_the_size_of_a_segment),
        cmocka_unit_test(test_values_around_the_pieces_of_reading),
        cmocka_unit_test(test_the_largest_value),
        cmocka_unit_test(test_keys_of_the_smallest_and_largest_size),
        cmocka_unit_test(test_what_is_over_the_limits_is_refused),
        cmocka_unit_test(test_batches_of_about_the_largest_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
