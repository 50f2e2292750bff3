/* What the tests over the public API share: checks that work in any thread and process, random
 * numbers, directories to work in, the lines a store logs, and whole directory trees in memory.
 *
 * Invariants:
 *  1. A failed CHECK ends the process with a line that says where, what, and the context that was
 *     set: the seed to repeat it with.
 *  2. Directories made by scratch_make() are gone when the process that made them ends, failed or
 *     not, unless CASKADE_KEEP is in the environment. Forked children leave them alone.
 *  3. The same seed gives the same numbers everywhere.
 */
#ifndef CASKADE_TESTS_SUPPORT_H
#define CASKADE_TESTS_SUPPORT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "caskade.h"

/* ---- checks ---------------------------------------------------------------------------------- */

/* Unlike cmocka's assertions this works in threads and in forked children. The text is that of
 * printf(); use "%s", "" where there is nothing to add. */
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                             \
    } while (0)

/* That a call returned CASK_OK. */
#define CHECK_OK(call)                                                                             \
    do {                                                                                           \
        int check_status = (call);                                                                 \
        if (check_status != CASK_OK)                                                               \
            check_failed(__FILE__, __LINE__, #call, "%s", cask_strerror(check_status));            \
    } while (0)

/* That a call returned a certain status. */
#define CHECK_STATUS(call, expected)                                                               \
    do {                                                                                           \
        int check_status = (call);                                                                 \
        if (check_status != (expected))                                                            \
            check_failed(__FILE__, __LINE__, #call, "%s, not %s", cask_strerror(check_status),     \
                         cask_strerror(expected));                                                 \
    } while (0)

_Noreturn void check_failed(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Text that a failure repeats: how to run just this case again. */
void check_context(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether the program was built with this kind of sanitizer. */
#if defined(__SANITIZE_ADDRESS__)
#define BUILT_WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BUILT_WITH_ASAN 1
#endif
#endif
#ifndef BUILT_WITH_ASAN
#define BUILT_WITH_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__)
#define BUILT_WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BUILT_WITH_TSAN 1
#endif
#endif
#ifndef BUILT_WITH_TSAN
#define BUILT_WITH_TSAN 0
#endif

/* ---- random numbers and the environment ------------------------------------------------------ */

struct rng {
    uint64_t state;
};

uint64_t mix64(uint64_t x); /* scrambles: neighbouring numbers give unrelated ones */
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t limit); /* 0..limit-1; limit at least 1 */
bool rng_percent(struct rng *rng, unsigned percent);

uint64_t environment_number(const char *name, uint64_t otherwise);

uint64_t clock_ns(void);      /* never goes back */
uint64_t wall_clock_ms(void); /* what expiry goes by */
void pause_us(uint64_t microseconds);

/* ---- places to work in ----------------------------------------------------------------------- */

enum scratch_kind {
    SCRATCH_DISK,  /* under TMPDIR, else /tmp */
    SCRATCH_MEMORY /* under /dev/shm where there is one: syncs cost nothing there */
};

/* A new empty directory; the path is freed by the caller or left to the end of the process. */
char *scratch_make(enum scratch_kind kind);

/* Removes it before the end of the process, and frees the path. */
void scratch_remove(char *path);

/* "DIR/NAME", in one of a few buffers that are used in turn, by thread. */
const char *path_in(const char *dir, const char *name);
const char *shard_path(const char *dir, unsigned shard, const char *name);

bool path_exists(const char *path);
void write_file(const char *path, const void *bytes, size_t size); /* replaces it */
uint8_t *read_whole_file(const char *path, size_t *ret_size);
uint8_t *read_file_if_there(const char *path, size_t *ret_size); /* NULL if there is none */

/* ---- directory trees ------------------------------------------------------------------------- */

struct tree_file {
    char *name; /* relative to the tree's root */
    uint8_t *bytes;
    size_t size;
};

/* Directories and regular files; others are not followed and not kept. */
struct tree {
    struct tree_file *files;
    size_t count;
    size_t room;
    char **dirs; /* parents first */
    size_t dir_count;
    size_t dir_room;
};

void tree_load(struct tree *tree, const char *root);
void tree_store(const struct tree *tree, const char *root); /* into a new or emptied directory */
void tree_release(struct tree *tree);
const struct tree_file *tree_find(const struct tree *tree, const char *name);

void tree_remove(const char *root); /* whatever is there; a missing one is fine */
void tree_empty(const char *root);  /* the directory itself stays */

/* Copies a store that others may be working on at this moment: again and again until nothing
 * changed meanwhile, so that the copy is what a crash would leave. */
void tree_copy_still(const char *from, const char *to);

/* Names, kinds, modes, sizes and contents of everything below root, as one number. */
uint64_t tree_checksum(const char *root);

/* ---- what a store says ----------------------------------------------------------------------- */

struct log_lines {
    pthread_mutex_t lock;
    unsigned counts[4]; /* by enum cask_log_level */
    size_t used;
    char text[8192]; /* the first lines, each ended by a newline and begun by its level */
};

void log_lines_init(struct log_lines *lines);
void log_lines_clear(struct log_lines *lines);
void log_lines_collect(void *context, enum cask_log_level level, const char *message);
unsigned log_lines_count(struct log_lines *lines, enum cask_log_level level);
bool log_lines_mention(struct log_lines *lines, const char *text);

/* Options with the log collected. */
struct cask_options options_with_log(struct log_lines *lines);

/* ---- keys, values, processes ----------------------------------------------------------------- */

struct cask_slice slice_of(const char *text);
struct cask_slice slice_bytes(const void *data, size_t size);

/* That the store has this value under this key; value NULL: that it has none. */
void check_value(struct cask_db *db, const char *key, const char *value);

/* Ends: with 0, and not from a failed CHECK or a sanitizer. */
void wait_for_success(pid_t child);
/* Ends by SIGKILL, and not before. */
void wait_for_kill(pid_t child);

unsigned count_descriptors(void);

/* A file system of the test's own, unmounted when the process ends. False, with a message, where
 * that needs rights the process has not. Call private_mounts() first, once. */
bool private_mounts(void);
bool mount_memory(const char *at, const char *options);
void remount_memory(const char *at, const char *options, bool read_only);
void unmount(const char *at);

#endif
