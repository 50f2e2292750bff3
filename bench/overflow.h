/* The workload about an index that outgrows its memory: a long fill, step by step, then gets with a
 * warm page cache, and gets in a control group whose memory holds neither log nor index.
 *
 *  1. Each phase is a process of its own, so that its memory and its disk reads are its own, and so
 *     that a group's limit holds for all it does. What it finds out goes through shared memory.
 *  2. In order: fill and read of --ram-num keys with the engine's default index memory (engines
 *     that spill only), for the ratios to an index in RAM; the fill of --num keys, after which the
 *     process kills itself (SIGKILL); opening what it left, then warm gets; for each kind of cold
 *     gets the store's files dropped from the page cache and the store opened in a new group.
 *  3. An engine that does not spill is stopped --peer-seconds after its fill began, and read over
 *     the keys it reached: each kind of gets for --peer-read-seconds at most. Where opening takes
 *     it longer than --peer-seconds and a bit, it is killed, and the figure is not known.
 *  4. A figure that could not be had is NaN, which is printed as null. Without control groups that
 *     is all of the cold ones; what died of its group's limit ends a peer's turn the same way, but
 *     fails Caskade's.
 */
#ifndef BENCH_OVERFLOW_H
#define BENCH_OVERFLOW_H

#include "disk.h"
#include "load.h"
#include "result.h"
#include "steps.h"
#include "turn.h"

/* The index memory where the command line names none. */
#define OVERFLOW_INDEX_MEMORY (UINT64_C(256) << 20)

enum overflow_read {
    OVERFLOW_RAM_GET,
    OVERFLOW_WARM_GET,
    OVERFLOW_WARM_MISS,
    OVERFLOW_WARM_MANY16,
    OVERFLOW_COLD_GET,
    OVERFLOW_COLD_MISS,
    OVERFLOW_COLD_MANY16,
    OVERFLOW_COLD_MANY64,
    OVERFLOW_READS
};

struct overflow_reading {
    bool known;
    uint64_t keys;       /* read */
    double ns;           /* a key */
    double p99_ns;       /* a call */
    double disk_pages;   /* of 4 KiB, a key; negative: not known. Cold ones only, as the next two */
    double device_reads; /* a key, by whoever used the device; negative: not known */
    double resident_part; /* of the store's files, what the page cache kept */
};

/* What the phases share. */
struct overflow_facts {
    double ram_put_ns; /* 0: not known */
    bool filled;       /* the fill ended as it should, and the rest of this is known */
    uint64_t reached;  /* keys */
    struct load_outcome fill;
    struct engine_figures figures; /* at the fill's end */
    uint64_t disk_bytes;
    uint64_t rss_anon_bytes;
    double open_seconds; /* after the kill; negative: not known */
    uint64_t recovered_records;
    uint64_t open_rss_anon_max_bytes;
    struct overflow_reading readings[OVERFLOW_READS];
    size_t step_count;
    struct step steps[];
};

/* Runs it. The steps go to the turn. Returns 0, or -1 with a message on stderr. */
int overflow_run(struct turn *turn, struct load_outcome *ret_outcome, struct result *result);

/* What the facts come to, as figures of the result. */
void overflow_add_figures(struct result *result, const struct overflow_facts *facts,
                          uint64_t index_memory, bool spills);

#endif
