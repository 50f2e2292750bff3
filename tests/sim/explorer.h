/* H1: crashes a scripted run at its every moment, in the legal ways, and opens what is left.
 *
 * Each state is checked so:
 *  1. The store opens, says nothing of damage, and holds what history.h allows.
 *  2. cask_verify finds nothing wrong.
 *  3. It takes a put and a delete, of every other state a merge, where the run moved its index to
 *     disk a flush, and closes; then every file in its shards is one that a manifest lists.
 *  4. No handle and no mapping is left open, and no byte was stored without notice.
 * Of some states more is asked, chosen by their hash:
 *  5. Opened once more, it holds just what was there and those two writes.
 *  6. What an open shows is durable when it returns: a power loss right then takes nothing of it.
 *  7. Recovering, being killed and recovering again gives the same contents, and the same bytes in
 *     the segments.
 *  8. A crash at any moment of the recovery itself is survived just so.
 *  9. Opened read-only it shows no more and no less, and not a byte on the disk changes.
 */
#ifndef CASKADE_EXPLORER_H
#define CASKADE_EXPLORER_H

#include "workload.h"

struct explorer_limits {
    size_t states;                /* at most, of one run */
    size_t failures;              /* stop there */
    size_t position;              /* only this one, in full depth; HISTORY_NEVER: all */
    bool quiet;                   /* of failures */
    const char *dump_to;          /* a directory for the first failing state, or NULL */
    const char *ignore_file_sync; /* rules taken away (simdisk.h), or NULL */
    const char *ignore_dir_sync;
    bool ignore_in_recovery_only;
};

struct explorer_result {
    size_t positions;
    size_t states;   /* opened and checked */
    size_t nested;   /* of these, of crashes inside a recovery */
    size_t repeated; /* had been checked before */
    size_t failures;
    char first[600]; /* the first failure, with how to repeat it */
};

/* Adds to *result. */
void explore(const struct workload *workload, uint64_t seed, const struct explorer_limits *limits,
             struct explorer_result *result);

#endif
