/* A store on the simulated machine whose contents are known at every moment, small and full of what
 * merges deal with: for the tests of merges.
 *
 * A call that ends otherwise than expected fails the test.
 */
#ifndef CASKADE_KNOWN_H
#define CASKADE_KNOWN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "caskade.h"
#include "history.h"
#include "simimage.h"

#define PATH "/store"
#define KEYS 20u
#define ROUNDS 4u
#define NOW_MS 1700000000000u

struct known {
    struct cask_db *db;
    struct cask_options options;
    struct history history;        /* for its versions */
    unsigned version[KEYS];        /* 0: absent */
    struct simimage *before_merge; /* the disk then */
};

/* Merged in one piece, in several, and in two shards. */
#define WHOLE(write, read)                                                                         \
    {                                                                                              \
        .shard_count = 1, .segment_bytes = 3000, .write_mode = CASK_WRITE_##write,                 \
        .read_mode = CASK_READ_##read, .merge = CASK_SWITCH_OFF                                    \
    }
#define PIECES(write, read)                                                                        \
    {                                                                                              \
        .shard_count = 1, .segment_bytes = 500, .write_mode = CASK_WRITE_##write,                  \
        .read_mode = CASK_READ_##read, .merge = CASK_SWITCH_OFF                                    \
    }
#define SHARDS(write, read)                                                                        \
    {                                                                                              \
        .shard_count = 2, .segment_bytes = 700, .write_mode = CASK_WRITE_##write,                  \
        .read_mode = CASK_READ_##read, .merge = CASK_SWITCH_OFF                                    \
    }

/* The last error that the store has told since it was opened. */
const char *known_error(void);

#define EXPECT(call, expected)                                                                     \
    do {                                                                                           \
        int expect_status = (call);                                                                \
        if (expect_status != (expected))                                                           \
            fail_msg("%s: %s, not %s (%s)", #call, cask_strerror(expect_status),                   \
                     cask_strerror(expected), known_error());                                      \
    } while (0)

/* On a new machine. */
void known_begin(struct known *store, const struct cask_options *options);
void known_end(struct known *store);

/* Again, on the machine as it is: nothing may be reported damaged. */
void known_open(struct known *store);
void known_close(struct known *store);

int known_try_put(struct known *store, unsigned key);
void known_put_until(struct known *store, unsigned key, uint64_t expires_at_ms);
void known_delete(struct known *store, unsigned key);

/* Overwritten, deleted and expired, in sealed segments and in the active one. */
void known_build(struct known *store);

/* That each key has its version, by all ways to read. */
void known_check(struct known *store, const char *when);
struct cask_stats known_stats(struct known *store);

/* That a closed store has left no file that it does not need. */
void check_no_strays(const char *when);

#endif
