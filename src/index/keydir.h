/* The index of a shard in RAM: tag -> location, without keys.
 *
 * Cache lines of six entries (32-bit tag, 48-bit location), ordered by tag: an entry's home is the
 * bucket tag * size / 2^32, and a full bucket passes entries on to the next. A bucket counts the
 * entries that passed over it, so a look-up ends at the first bucket that none did.
 *
 * Invariants:
 *  1. An entry is a hint: every location found is proved by the key in the log.
 *  2. One writer at a time (the shard's lock); readers take no lock. A bucket is read whole under
 *     its version number.
 *  3. The table never moves. It grows in place by a quarter or two fifths, from its end to its
 *     start, a few buckets per insert: buckets whose old home is at or above `cursor` have moved.
 *     An entry is at its new place before the cursor says so, and leaves its old place after.
 *  4. A reader looks again if the table has moved on under it.
 *  5. The tag is all that is needed to place an entry: growing never reads the log.
 *  6. Memory is taken from the budget before it is committed.
 */
#ifndef CASKADE_KEYDIR_H
#define CASKADE_KEYDIR_H

#include "base/status.h"
#include "index/budget.h"

struct keydir_bucket;

struct keydir_entry {
    uint64_t location;
    uint32_t tag;
};

struct keydir {
    struct keydir_bucket *buckets;
    size_t reserved_bytes;
    /* The geometry that readers see: odd while it changes. */
    _Alignas(64) _Atomic uint32_t generation;
    _Atomic uint64_t size;   /* buckets that are homes */
    _Atomic uint64_t grown;  /* the same after the growth under way, 0 if none */
    _Atomic uint64_t cursor; /* old homes from here on have moved */
    /* The writer's own. */
    _Alignas(64) uint64_t limit; /* buckets committed */
    uint64_t committed_bytes;
    uint64_t writable_bytes; /* of the reservation, at least as many */
    uint64_t full_at;        /* entries that the table takes without growing */
    uint64_t least_bytes;    /* see keydir_set_bounds() */
    uint64_t most_bytes;
    uint64_t excess_bytes; /* of those committed, beyond the budget's limit */
    uint64_t aside_bytes;  /* see keydir_set_aside() */
    bool overdraws; /* takes memory whether the budget has it or not: for what cannot be refused */
    bool grows;     /* since keydir_has_begun_growing() */
    _Atomic uint64_t fresh_bytes; /* where the memory of the growth under way begins */
    _Atomic uint64_t fresh_end;
    _Atomic bool awaits_fresh; /* until keydir_populate() is done with it */
    uint64_t homes_due;        /* to be moved, of a growth under way */
    uint32_t phase;            /* see keydir_set_phase() */
    uint32_t growth_percent;
    struct budget *budget;
    _Atomic uint64_t count;
};

CHECKED int keydir_init(struct keydir *keydir, size_t reserve_bytes, struct budget *budget);
void keydir_release(struct keydir *keydir);

/* Number `number` of so many alike, which are to grow one after the other instead of all at once:
 * their sizes lie between those that another one has before and after its growth. */
void keydir_set_phase(struct keydir *keydir, uint32_t number, uint32_t of);

/* Up to least_bytes it takes whether the budget has it or not, and above most_bytes nothing (0: no
 * such bound). */
void keydir_set_bounds(struct keydir *keydir, uint64_t least_bytes, uint64_t most_bytes);

/* Takes so much out of the budget, for what will overdraw it. False if it is not there. */
CHECKED bool keydir_set_aside(struct keydir *keydir, uint64_t bytes);

/* Gives back what is left of that. */
void keydir_end_aside(struct keydir *keydir);

/* Makes it as it was when it was new, memory and budget given back. No reader may be in it. */
void keydir_empty(struct keydir *keydir);

/* Makes the table large enough for `more` entries, all at once: to be called before many inserts in
 * the order of their tags, which would else crowd one end of a table sized for an even spread.
 * CASK_ENOMEM. */
CHECKED int keydir_presize(struct keydir *keydir, uint64_t more);

/* Makes sure that `more` inserts will succeed, and does their share of a growth under way.
 * CASK_ENOMEM. */
CHECKED int keydir_reserve(struct keydir *keydir, uint64_t more);

/* True once after the beginning of each growth of a large table: time for keydir_populate(), which
 * any thread may call while others use the table. It brings in the memory that the growth is about
 * to fill, and moves the table to huge pages, but for what it takes of its last one. */
bool keydir_has_begun_growing(struct keydir *keydir);
void keydir_populate(struct keydir *keydir);

/* Whether `more` inserts will succeed as things are. */
static inline bool keydir_has_room(const struct keydir *keydir, uint64_t more)
{
    return atomic_load_explicit(&keydir->count, memory_order_relaxed) + more <= keydir->full_at;
}

/* Inserts, after keydir_reserve(). CASK_ENOMEM only where collisions are beyond all odds. */
CHECKED int keydir_insert(struct keydir *keydir, uint32_t tag, uint64_t location);

/* The same where no entry has this tag yet; else CASK_EEXIST, and *ret_location is one that has. */
CHECKED int keydir_insert_new(struct keydir *keydir, uint32_t tag, uint64_t location,
                              uint64_t *ret_location);

/* Changes or removes the entry (tag, location); false if there is none. */
bool keydir_replace(struct keydir *keydir, uint32_t tag, uint64_t from, uint64_t to);
bool keydir_remove(struct keydir *keydir, uint32_t tag, uint64_t location);

/* Copies up to room locations with this tag; returns how many there are (more than room: look again
 * with more). Any thread; misses none that is in the table throughout, however it grows meanwhile,
 * but may meet one twice. */
unsigned keydir_find(const struct keydir *keydir, uint32_t tag, uint64_t *ret_locations,
                     unsigned room);

/* Brings the bucket of tag into the cache. Any thread. */
void keydir_prefetch(const struct keydir *keydir, uint32_t tag);

/* The same for the bucket behind it, where entries of the first have been passed on there. The
 * writer's. */
void keydir_prefetch_passed(const struct keydir *keydir, uint32_t tag);

/* All entries with tags from `from` on up to some tag, in no order: *ret_next is the first tag not
 * covered, 2^32 at the end. Returns how many, at most room; *ret_next == from says that room is too
 * small for one bucket's. The writer's lock must be held. */
size_t keydir_collect(const struct keydir *keydir, uint64_t from, struct keydir_entry *ret_entries,
                      size_t room, uint64_t *ret_next);

/* The same without the lock; SIZE_MAX if the table has moved on meanwhile: to be tried again. An
 * entry that was there all the time is in it. One that changes meanwhile may be in it, or not, or
 * twice, as it was and as it is. */
size_t keydir_gather(const struct keydir *keydir, uint64_t from, struct keydir_entry *ret_entries,
                     size_t room, uint64_t *ret_next);

static inline uint64_t keydir_count(const struct keydir *keydir)
{
    return atomic_load_explicit(&keydir->count, memory_order_relaxed);
}

#endif
