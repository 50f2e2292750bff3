/* What a run did to a store, and the judge of what a store may hold after a crash of that run.
 *
 * A unit is one call that wrote: a put, a delete, or a batch. One thread runs the units one after
 * the other, so their order is the commit order of every shard. The judge asks:
 *  1. Each shard holds what a prefix of its units left, no more and no less.
 *  2. That prefix reaches as far as the last unit that was acknowledged (after a kill) or
 *     acknowledged as durable (after a power loss).
 *  3. A batch is in all its shards' prefixes or in none.
 *  4. Every value is one that was written, to its last byte, and an iteration finds what gets find.
 */
#ifndef CASKADE_HISTORY_H
#define CASKADE_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "caskade.h"
#include "simlog.h"

#define HISTORY_KEYS 24u
#define HISTORY_SHARDS 16u
#define HISTORY_NEVER SIZE_MAX

struct history_event {
    unsigned key;
    unsigned version; /* 0: a delete */
    uint64_t expires_at_ms;
};

/* Positions in the machine's log; HISTORY_NEVER where that did not happen. */
struct history_unit {
    size_t first_event;
    size_t event_count;
    size_t started;
    size_t returned;
    size_t durable;
};

struct history {
    size_t event_count;
    size_t event_capacity;
    struct history_event *events;
    size_t unit_count;
    size_t unit_capacity;
    struct history_unit *units;
    unsigned version_count; /* versions are 1..version_count */
    size_t version_capacity;
    size_t *value_sizes;
    unsigned shard_of[HISTORY_KEYS];
    unsigned shards;
    uint64_t end_ms; /* the wall clock when the run ended */
};

/* What a store holds: of each key the version, 0 if absent. */
struct history_view {
    bool present[HISTORY_KEYS];
    bool empty[HISTORY_KEYS]; /* a value without bytes does not tell its version */
    unsigned version[HISTORY_KEYS];
};

void history_init(struct history *history);
void history_release(struct history *history);

/* The text of a key, lasting. */
struct cask_slice history_key(unsigned key);

/* A new version of a value of that size; its bytes go to buffer. */
unsigned history_version(struct history *history, unsigned key, size_t size, uint8_t *buffer);

/* Opens a unit, adds to it, closes it. Dropped: it turned out to write nothing. */
void history_start(struct history *history, size_t position);
void history_add(struct history *history, unsigned key, unsigned version, uint64_t expires_at_ms);
void history_return(struct history *history, size_t position);
void history_drop(struct history *history);
/* All that has returned is durable from this position on. */
void history_all_durable(struct history *history, size_t position);

/* Learns from the log which shard a key lives in: its bytes lie in a file of DIR/shard-NNN. */
void history_learn_shards(struct history *history, const struct simlog *log);

/* Reads all keys, by get and by iteration. False, with a reason, if anything is wrong in itself. */
bool history_look(const struct history *history, struct cask_db *db, struct history_view *ret_view,
                  char *why, size_t size);

struct history_moment {
    size_t position;
    bool kill; /* else a power loss */
    uint64_t now_ms;
};

bool history_judge(const struct history *history, const struct history_moment *moment,
                   const struct history_view *view, char *why, size_t size);

/* What the whole of the run leaves at a time. */
void history_final(const struct history *history, uint64_t now_ms, struct history_view *ret_view);
bool history_same(const struct history_view *a, const struct history_view *b, char *why,
                  size_t size);

#endif
