/* One run of a store during which calls may fail, and what must hold all the same: the part of H2
 * that test_faults.c repeats with a fault at the 1st, 2nd, 3rd ... call.
 *
 *  1. No call crashes, leaks or returns a status that caskade.h does not document for it; none
 *     calls an I/O error or a lack of memory corruption.
 *  2. A write that fails, or that is refused for its condition, changes nothing: at once, and
 *     after reopening. The one exception is CASK_EIO with CASK_SYNC_ALWAYS after a sync was tried:
 *     then it may be there or not.
 *  3. A write that was acknowledged is there.
 *  4. Once nothing fails any more the store opens without complaint, verifies, merges, moves its
 *     index to disk where the run did, and takes writes; and of all that was begun and failed no
 *     file stays.
 *  5. A merge that fails shows in the statistics.
 */
#ifndef CASKADE_TRIAL_H
#define CASKADE_TRIAL_H

#include "history.h"
#include "workload.h"

#define TRIAL_MAYBE 64u

struct trial_key {
    unsigned sure; /* version; 0: absent */
    size_t maybe_count;
    unsigned maybe[TRIAL_MAYBE]; /* versions that may stand there instead */
};

struct trial {
    const struct workload *workload;
    enum cask_read_mode read_mode;
    struct history history; /* for its versions only */
    struct cask_db *db;
    uint64_t random;
    struct trial_key keys[HISTORY_KEYS];
    bool may_complain; /* of damage, as long as rules 2 and 3 hold */
    size_t failures;   /* of calls, as was intended */
    char why[500];     /* what went wrong */
};

/* A new machine and an empty trial. The script follows from the seed. */
void trial_init(struct trial *trial, const struct workload *workload, enum cask_read_mode read_mode,
                uint64_t seed);
void trial_release(struct trial *trial);

/* Opens, runs the script and closes, whatever fails. False if a rule is broken. */
bool trial_run(struct trial *trial);

/* To be called when nothing fails any more: rules 3 and 4. leave_open: for what comes after. */
bool trial_settle(struct trial *trial, bool leave_open);

/* Whether an opened store holds what it must and may. */
bool trial_look(struct trial *trial, struct cask_db *db);
bool trial_open(struct trial *trial);
bool trial_close(struct trial *trial);
bool trial_put(struct trial *trial, unsigned key);

#endif
