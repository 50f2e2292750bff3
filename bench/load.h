/* One parallel run of puts or gets over an open store: so many threads, each with its share of the
 * operations, started together.
 *
 *  1. Every value read is compared with what its key must hold, all of it, the same way for every
 *     engine; a wrong or missing value, or a key that should not be there, fails the load.
 *  2. The time runs from the first thread's first operation to the last thread's end, its pending
 *     transaction committed.
 *  3. A latency runs from the end of one call to the end of the next, the making of the key and the
 *     check of the value before included, for one reading of the clock per call instead of two.
 *  4. In a LOAD_MIX every second position of the order is a put and every other a get. The order
 *     visits each key once, so no thread puts what another gets.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "engine.h"
#include "histogram.h"
#include "keyspace.h"

enum load_kind {
    LOAD_PUT,
    LOAD_GET,
    LOAD_GET_MISSING, /* the keys must be absent */
    LOAD_GET_MANY,    /* group keys at a time */
    LOAD_WRITE,       /* batches of group puts */
    LOAD_MIX          /* puts and gets in turn; engines whose sessions can do both */
};

struct load {
    const struct engine *engine;
    struct engine_store *store;
    const struct keyspace *keyspace;
    enum load_kind kind;
    struct order order;
    const struct order *within; /* NULL, or what order gives are positions of this one */
    uint64_t first_id;          /* added to each id of the order */
    uint64_t first;             /* position of the order that it begins at */
    uint64_t ops;               /* so many of the order; counted in keys, whatever the group */
    uint64_t until_ns;          /* puts and gets end early once clock_ns() is past it; 0: never */
    uint32_t generation;
    uint16_t *generations; /* of each id, what it holds; LOAD_MIX keeps it. NULL: generation */
    unsigned threads;
    unsigned group;
    bool latency; /* time each call */
};

struct load_outcome {
    double seconds;
    uint64_t ops;                   /* done; with one thread, the first so many of the order */
    struct histogram latencies;     /* in ticks, per call; empty without load.latency */
    struct histogram get_latencies; /* of LOAD_MIX, whose puts are in the one above */
};

/* Returns 0, or -1 with a message on stderr. */
int load_run(const struct load *load, struct load_outcome *ret_outcome);

#endif
