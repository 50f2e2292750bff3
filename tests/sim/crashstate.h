/* Legal states of a disk after a crash, built from the log of a simulated machine.
 *
 * What is legal after a power loss:
 *  1. What a successful sync of a file covered is there. Of the writes since then, each page holds
 *     the old bytes or those of any moment since (a page is written back as it was at some moment);
 *     in some states each sector chooses for itself.
 *  2. The size is the synced one or any it had since; what was never written back reads as zeros. A
 *     truncation that got through takes the cut bytes with it.
 *  3. Of the changes to a directory since its last sync, any subset got through, applied in order.
 *  4. After a sync that failed, the pages it covered are in doubt until they are written to again;
 *     a later sync does not help them.
 * After a kill everything is there, and the last write may be there in part.
 *
 * Units: a page of a file with its pending writes, a file's size with its pending changes, a
 * pending change of a name. A unit's level says how many of its pending changes got through.
 */
#ifndef CASKADE_CRASHSTATE_H
#define CASKADE_CRASHSTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "simimage.h"
#include "simlog.h"

struct crash_piece; /* a write's part in one page */

struct crash_change { /* of a size */
    size_t op;
    size_t size;
    bool cuts;
};

struct crash_file {
    uint64_t inode;
    bool is_dir;
    struct simblob *durable;
    size_t size; /* now */
    size_t piece_count;
    size_t piece_capacity;
    struct crash_piece *pieces;
    size_t change_count;
    size_t change_capacity;
    struct crash_change *changes;
    size_t first_unit; /* of its pages, in the plan; then its size */
    size_t unit_count;
    struct simblob *all; /* built states of the present plan */
    struct simblob *none;
};

struct crash_name {
    uint64_t parent;
    uint64_t inode;
    const char *name;
};

enum crash_unit_kind { CRASH_PAGE, CRASH_SIZE, CRASH_NAME };

struct crash_unit {
    enum crash_unit_kind kind;
    struct crash_file *file;
    size_t page;
    size_t op; /* of CRASH_NAME */
    unsigned levels;
};

/* Follows a log and knows at each position what is durable and what is pending. */
struct crash_tracker {
    const struct simlog *log;
    size_t position;
    size_t page_bytes;
    size_t sector_bytes;
    size_t file_count;
    struct crash_file **files; /* by inode number; NULL where unknown */
    size_t name_count;
    size_t name_capacity;
    struct crash_name *names; /* durable */
    size_t pending_count;
    size_t pending_capacity;
    size_t *pending_names; /* entries of the log */
    size_t unit_count;
    size_t unit_capacity;
    struct crash_unit *units; /* the plan */
};

/* What one state is made of: a level for each unit, and what is special about it. */
struct crash_choice {
    unsigned *levels;
    bool mix_sectors;
    uint64_t mix_seed;
    bool torn;        /* the last entry of the log got through in part */
    bool torn_tail;   /* its end, not its beginning */
    size_t torn_size; /* bytes of it */
};

/* page_bytes and sector_bytes may be smaller than real ones, to suit small files. */
struct crash_tracker *crash_tracker_create(const struct simlog *log, size_t page_bytes,
                                           size_t sector_bytes);
void crash_tracker_release(struct crash_tracker *tracker);
/* Goes forward to a position. */
void crash_tracker_advance(struct crash_tracker *tracker, size_t position);
/* Lists the units of the present position. */
void crash_tracker_plan(struct crash_tracker *tracker);
/* The entry of the log that takes a unit from level - 1 to level. */
size_t crash_unit_op(const struct crash_tracker *tracker, size_t unit, unsigned level);
/* Builds the state of a choice into image, which is cleared first. Needs a plan. */
void crash_tracker_build(struct crash_tracker *tracker, const struct crash_choice *choice,
                         struct simimage *image);
/* Everything (kill), or only what is durable. The caller releases the image. */
struct simimage *crash_image_all(const struct simlog *log, size_t position);
struct simimage *crash_image_durable(const struct simlog *log, size_t position);

struct crash_state {
    struct simimage *image; /* valid during the call */
    uint64_t hash;
    bool kill;       /* else a power loss */
    bool torn;       /* the last entry of the log is there in part */
    size_t position; /* what had been acknowledged by then still counts */
    char text[200];  /* what is special about it */
};

/* Return false to stop. */
typedef bool (*crash_state_fn)(void *context, const struct crash_state *state);

struct crash_limits {
    uint64_t seed;
    size_t pairs;  /* at most */
    size_t random; /* exactly */
    size_t total;  /* at most; the plainest states come first, the others in an order by the seed */
};

/* Visits states of the tracker's position. Repetitions are possible. */
void crash_states(struct crash_tracker *tracker, const struct crash_limits *limits,
                  crash_state_fn visit, void *context);

#endif
