/* stat: the figures of the store, and with --json those of each shard. */
#include "verbs.h"

#include "report.h"
#include "session.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum figure_kind {
    OF_STORE, /* a number of the store as a whole */
    OF_SHARD, /* also told of each shard, with --json */
    STATUS    /* the same, and a CASK_*: signed */
};

struct figure {
    const char *name;
    size_t offset; /* of a field of 64 bits in struct cask_stats */
    enum figure_kind kind;
};

/* clang-format off */
#define FIGURE(name, kind) {#name, offsetof(struct cask_stats, name), kind}
/* clang-format on */

static const struct figure figures[] = {
    FIGURE(shards, OF_STORE),
    FIGURE(live_keys, OF_STORE),
    FIGURE(live_bytes, OF_SHARD),
    FIGURE(dead_bytes, OF_SHARD),
    FIGURE(segments, OF_STORE),
    FIGURE(disk_bytes, OF_STORE),
    FIGURE(index_ram_keys, OF_STORE),
    FIGURE(index_ram_bytes, OF_STORE),
    FIGURE(index_spilled_keys, OF_STORE),
    FIGURE(index_disk_bytes, OF_STORE),
    FIGURE(index_memory, OF_STORE),
    FIGURE(reads, OF_STORE),
    FIGURE(writes, OF_STORE),
    FIGURE(written_bytes, OF_STORE),
    FIGURE(syncs, OF_STORE),
    FIGURE(recovered_records, OF_STORE),
    FIGURE(cut_bytes, OF_STORE),
    FIGURE(hints_rebuilt, OF_STORE),
    FIGURE(index_runs, OF_STORE),
    FIGURE(index_filter_bytes, OF_STORE),
    FIGURE(index_filters_reduced, OF_STORE),
    FIGURE(index_filters_absent, OF_STORE),
    FIGURE(index_flushes, OF_STORE),
    FIGURE(index_run_merges, OF_STORE),
    FIGURE(index_written_bytes, OF_STORE),
    FIGURE(index_filter_asks, OF_STORE),
    FIGURE(index_filter_refusals, OF_STORE),
    FIGURE(index_block_reads, OF_STORE),
    FIGURE(index_fruitless_reads, OF_STORE),
    FIGURE(index_stalls, OF_STORE),
    FIGURE(index_failures, OF_STORE),
    FIGURE(merge_debt_bytes, OF_SHARD),
    FIGURE(merge_read_bytes, OF_SHARD),
    FIGURE(merge_written_bytes, OF_SHARD),
    FIGURE(merge_freed_bytes, OF_SHARD),
    FIGURE(merges, OF_SHARD),
    FIGURE(merges_failed, OF_SHARD),
    FIGURE(merge_last_error, STATUS),
    FIGURE(merge_stalls, OF_SHARD),
};

#define NAME_COLUMNS 24 /* of the table: the longest name and a space */
#define FIGURE_COUNT (sizeof(figures) / sizeof(figures[0]))

/* A figure that is added to the header and not to the table is found here. */
_Static_assert(sizeof(struct cask_stats) == sizeof(size_t) + FIGURE_COUNT * sizeof(uint64_t),
               "figures[] lists every field of struct cask_stats");

static uint64_t figure_of(const struct cask_stats *stats, const struct figure *figure)
{
    uint64_t value;
    memcpy(&value, (const char *)stats + figure->offset, sizeof(value));
    return value;
}

static int status_of(const struct cask_stats *stats, const struct figure *figure)
{
    int64_t value;
    memcpy(&value, (const char *)stats + figure->offset, sizeof(value));
    return (int)value;
}

/* Bytes that went to disk for each byte that was put; 0 where nothing was. */
static void print_amplification(struct out *out, const struct cask_stats *stats)
{
    char text[40];
    double put = (double)stats->written_bytes;
    double amplification = put > 0 ? (put + (double)stats->merge_written_bytes) / put : 0;
    (void)snprintf(text, sizeof(text), "%.3f", amplification);
    out_text(out, text);
}

static void print_name(struct out *out, const char *name)
{
    out_char(out, '"');
    out_text(out, name);
    out_text(out, "\":");
}

static void print_members(struct out *out, const struct cask_stats *stats, bool per_shard)
{
    for (const struct figure *figure = figures; figure < figures + FIGURE_COUNT; figure++) {
        if (per_shard && figure->kind == OF_STORE) {
            continue;
        }
        print_name(out, figure->name);
        if (figure->kind == STATUS) {
            char text[16];
            (void)snprintf(text, sizeof(text), "%d", status_of(stats, figure));
            out_text(out, text);
        } else {
            out_number(out, figure_of(stats, figure));
        }
        out_char(out, ',');
    }
    print_name(out, "write_amplification");
    print_amplification(out, stats);
}

static void print_json(struct out *out, const struct cask_stats *stats,
                       const struct cask_stats *shards)
{
    out_char(out, '{');
    print_members(out, stats, false);
    out_char(out, ',');
    print_name(out, "per_shard");
    out_char(out, '[');
    for (uint64_t i = 0; i < stats->shards; i++) {
        out_text(out, i == 0 ? "{" : ",{");
        print_members(out, &shards[i], true);
        out_char(out, '}');
    }
    out_text(out, "]}\n");
}

static void begin_row(struct out *out, const char *name)
{
    size_t column = strlen(name);
    out_text(out, name);
    do {
        out_char(out, ' ');
    } while (++column < NAME_COLUMNS);
}

static void print_table(struct out *out, const struct cask_stats *stats)
{
    for (const struct figure *figure = figures; figure < figures + FIGURE_COUNT; figure++) {
        begin_row(out, figure->name);
        if (figure->kind == STATUS) {
            out_text(out, cask_strerror(status_of(stats, figure)));
        } else {
            out_number(out, figure_of(stats, figure));
        }
        out_char(out, '\n');
    }
    begin_row(out, "write_amplification");
    print_amplification(out, stats);
    out_char(out, '\n');
}

/* The figures of the count shards, for the caller to free; NULL where *ret_status says why. */
static struct cask_stats *collect_shards(struct cask_db *db, uint64_t count, int *ret_status)
{
    struct cask_stats *shards = calloc((size_t)count, sizeof(*shards));
    int status = shards == NULL ? CASK_ENOMEM : CASK_OK;
    for (uint64_t i = 0; i < count && status == CASK_OK; i++) {
        shards[i].size = sizeof(*shards);
        status = cask_stats_shard(db, (uint32_t)i, &shards[i]);
    }
    if (status != CASK_OK) {
        free(shards);
        *ret_status = status;
        return NULL;
    }
    return shards;
}

static int stat_json(const struct args *args, struct cask_db *db, const struct cask_stats *stats)
{
    struct out out;
    int status = CASK_OK;
    struct cask_stats *shards = collect_shards(db, stats->shards, &status);
    if (shards == NULL) {
        return report_failure(status, args->operands[0]);
    }
    out_init(&out, STDOUT_FILENO);
    print_json(&out, stats, shards);
    free(shards);
    return stdout_finish(&out);
}

int verb_stat(const struct args *args)
{
    struct cask_db *db;
    struct cask_stats stats = {.size = sizeof(stats)};
    struct out out;
    int code = session_open(args, &db);
    if (code != EXIT_DONE) {
        return code;
    }
    int status = cask_stats(db, &stats);
    if (status != CASK_OK) {
        code = report_failure(status, args->operands[0]);
    } else if (args->json) {
        code = stat_json(args, db, &stats);
    } else {
        out_init(&out, STDOUT_FILENO);
        print_table(&out, &stats);
        code = stdout_finish(&out);
    }
    return session_close(args, db, code);
}
