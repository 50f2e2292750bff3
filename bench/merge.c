#include "merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "summary.h"
#include "ticks.h"

/* Of a classic bitcask with a dictionary in it: files of 100 MB that are all merged once there are
 * ten old ones; 100,000 words, records of 110 bytes (ours have a header of 17). Where that store
 * counts files, ours takes shares of dead bytes: with 11 MB live, ten old files and a full active
 * one are 99 % dead, and every file with a per cent of dead bytes is merged then. A shard is what
 * that store is as a whole, so there is one. */
#define DICTIONARY_KEYS UINT64_C(100000)
#define DICTIONARY_KEY_BYTES 16
#define DICTIONARY_VALUE_BYTES 77
#define DICTIONARY_SEGMENT_BYTES UINT64_C(100000000)

#define PAIRS 5           /* of phases of mergelatency */
#define PREPARING_MIXES 4 /* before each phase; each overwrites half of the keys */
#define PHASE_SHARE 2 /* one key in so many is put or got in a phase: merging is to outlast it */
#define PHASE_SECONDS 2.0 /* that a phase waits for merging at most, on more such load */
#define WARM_SHARE 16     /* one key in so many is read before a phase, to map what was opened */

#define CHUNKS UINT64_C(100) /* that mergespeed's store is written in */
#define DEAD_TIMES 4         /* records that die, to one that stays */
#define COPIES 4             /* half of them before the merge, half after */
#define MERGE_MEMORY 3       /* times the live bytes: outputs, their hints, and what is found out */

bool merge_is_about(enum workload_kind kind)
{
    return kind == WORKLOAD_CHURN || kind == WORKLOAD_DICTIONARY ||
           kind == WORKLOAD_MERGE_LATENCY || kind == WORKLOAD_MERGE_SPEED;
}

static struct engine_figures figures_of(const struct turn *turn)
{
    struct engine_figures figures;
    memset(&figures, 0, sizeof figures);
    turn->plan->engine->figures(turn->store, &figures);
    return figures;
}

static double ratio_of(double a, double b)
{
    return b > 0.0 ? a / b : 0.0;
}

/* Puts, so many in all, over the keys: each once, then each once more in another order, and on. */
struct churn {
    struct engine_config config;
    struct keyspace keyspace;
    uint64_t puts;
};

static struct load churn_load(const struct turn *turn, const struct churn *churn,
                              enum load_kind kind, uint64_t pass)
{
    uint64_t done = pass * churn->config.num;
    struct load load = turn_load(turn, kind, SALT_FILL);
    load.keyspace = &churn->keyspace;
    load.ops = churn->puts - done < churn->config.num ? churn->puts - done : churn->config.num;
    load.generation = (uint32_t)pass;
    order_init(&load.order, churn->config.num, SALT_OVERWRITE + pass + churn->keyspace.seed);
    return load;
}

static int churn_passes(struct turn *turn, const struct churn *churn,
                        struct load_outcome *ret_outcome)
{
    static struct load_outcome outcome;
    uint64_t passes = (churn->puts + churn->config.num - 1) / churn->config.num;
    memset(ret_outcome, 0, sizeof *ret_outcome);
    for (uint64_t pass = 0; pass < passes; pass++) {
        const struct load load = churn_load(turn, churn, LOAD_PUT, pass);
        if (load_run(&load, &outcome) != 0) {
            return -1;
        }
        series_mark(&turn->series);
        ret_outcome->seconds += outcome.seconds;
        histogram_merge(&ret_outcome->latencies, &outcome.latencies);
    }
    return 0;
}

static void churn_figures(const struct turn *turn, const struct churn *churn, struct result *result)
{
    const struct engine_figures figures = figures_of(turn);
    const struct sample *samples = turn->series.samples;
    size_t count = turn->series.count;
    double written = (double)figures.written_bytes;
    double merged = (double)figures.merge_written_bytes;
    uint64_t keys = churn->config.num;
    if (churn->puts >= 2 * keys) {
        result_add_figure(result, "disk_per_live_max",
                          series_worst_ratio(samples, count, 2 * keys));
    }
    result_add_figure(result, "disk_per_live_max_all", series_worst_ratio(samples, count, keys));
    result_add_figure(result, "disk_per_live_end",
                      count != 0 ? series_worst_ratio(&samples[count - 1], 1, 0) : 0.0);
    result_add_figure(result, "disk_bytes_max", (double)series_largest_disk(samples, count));
    result_add_figure(result, "live_bytes", (double)figures.live_bytes);
    result_add_figure(result, "write_amplification", ratio_of(written + merged, written));
    result_add_figure(result, "merge_per_user", ratio_of(merged, written));
    result_add_figure(result, "merge_read_per_user",
                      ratio_of((double)figures.merge_read_bytes, written));
    result_add_figure(result, "merging_share", series_merging_share(samples, count));
    result_add_figure(result, "merges", (double)figures.merges);
    result_add_figure(result, "merges_failed", (double)figures.merges_failed);
}

static int run_churn(struct turn *turn, const struct churn *churn, struct load_outcome *ret_outcome,
                     struct result *result)
{
    static struct load_outcome outcome;
    size_t record = churn->keyspace.key_bytes + churn->keyspace.value_bytes + 32;
    if (turn_clear(turn, 2 * churn->config.num * record) != 0 ||
        turn_open(turn, &churn->config) != 0 ||
        series_start(&turn->series, turn->plan->engine, turn->store, turn->plan->dir) != 0) {
        return -1;
    }
    int rc = churn_passes(turn, churn, ret_outcome);
    if (series_stop(&turn->series) != 0 || rc != 0) {
        return -1;
    }
    churn_figures(turn, churn, result);
    result->num = churn->config.num;
    result->ops = churn->puts;
    result->bytes = churn->puts * (churn->keyspace.key_bytes + churn->keyspace.value_bytes);
    struct load check = churn_load(turn, churn, LOAD_GET, (churn->puts - 1) / churn->config.num);
    check.latency = false;
    return load_run(&check, &outcome);
}

static struct churn all_keys(const struct turn *turn)
{
    struct churn churn = {turn_config(turn), turn->keyspace, 0};
    churn.puts = churn.config.num * (1 + (uint64_t)turn->plan->options->churn_rounds);
    return churn;
}

static struct churn dictionary(const struct turn *turn)
{
    struct churn churn = {turn_config(turn), turn->keyspace, turn->plan->options->num};
    churn.config.num = churn.puts < DICTIONARY_KEYS ? churn.puts : DICTIONARY_KEYS;
    churn.config.key_bytes = DICTIONARY_KEY_BYTES;
    churn.config.value_bytes = DICTIONARY_VALUE_BYTES;
    churn.config.shards = 1;
    churn.config.segment_bytes = DICTIONARY_SEGMENT_BYTES;
    churn.config.merge_trigger_percent = 99;
    churn.config.merge_segment_percent = 1;
    churn.keyspace.key_bytes = DICTIONARY_KEY_BYTES;
    churn.keyspace.value_bytes = DICTIONARY_VALUE_BYTES;
    return churn;
}

/* Phases of mergelatency. */
enum { OFF, ON };
enum { PUT_P50, PUT_P99, PUT_P999, PUT_MAX, GET_P50, GET_P99, GET_P999, GET_MAX, RATE, METRICS };

static const char *const metric_names[METRICS] = {
    "put_p50_ns", "put_p99_ns",  "put_p999_ns", "put_max_ns",  "get_p50_ns",
    "get_p99_ns", "get_p999_ns", "get_max_ns",  "ops_per_sec",
};

struct latency {
    struct turn *turn;
    uint16_t mixes; /* so far, modulo 65536; the generation of the last */
    uint16_t *generations;
    uint64_t ops[2];
    unsigned pairs; /* that count */
    double values[2][METRICS][PAIRS];
    double merging_share[PAIRS];
    uint64_t merged_bytes; /* read and written during phases */
    uint64_t merges_failed;
};

static uint64_t phase_ops(const struct latency *latency)
{
    return (latency->turn->plan->options->num + PHASE_SHARE - 1) / PHASE_SHARE;
}

/* Puts and gets, so many in all, each of another key. */
static int mix(struct latency *latency, uint64_t ops, struct load_outcome *ret_outcome)
{
    latency->mixes++;
    struct load load = turn_load(latency->turn, LOAD_MIX, SALT_OVERWRITE + latency->mixes);
    load.ops = ops;
    load.generation = latency->mixes;
    load.generations = latency->generations;
    load.latency = true;
    return load_run(&load, ret_outcome);
}

static int reopen(struct latency *latency, bool merging)
{
    struct engine_config config = turn_config(latency->turn);
    config.merge_off = !merging;
    return turn_close(latency->turn) == 0 ? turn_open(latency->turn, &config) : -1;
}

/* Leaves a store with as much dead in it as before every other phase, open with merging or not. */
static int prepare(struct latency *latency, bool merging)
{
    static struct load_outcome outcome;
    struct turn *turn = latency->turn;
    if (reopen(latency, false) != 0 || turn->plan->engine->merge(turn->store) != ENGINE_OK) {
        return -1;
    }
    for (unsigned i = 0; i < PREPARING_MIXES; i++) {
        if (mix(latency, turn->plan->options->num, &outcome) != 0) {
            return -1;
        }
    }
    if (reopen(latency, merging) != 0) {
        return -1;
    }
    struct load warm = turn_load(turn, LOAD_GET, SALT_SAMPLE);
    warm.generations = latency->generations;
    warm.latency = false;
    warm.ops = (warm.ops + WARM_SHARE - 1) / WARM_SHARE;
    return load_run(&warm, &outcome);
}

static void set_metrics(struct latency *latency, int on, const struct load_outcome *outcome,
                        uint64_t ops)
{
    static const double shares[] = {0.50, 0.99, 0.999, 1.0};
    for (unsigned i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        latency->values[on][PUT_P50 + i][latency->pairs] = ticks_to_ns(
            histogram_percentile(&outcome->latencies, shares[i]));
        latency->values[on][GET_P50 + i][latency->pairs] = ticks_to_ns(
            histogram_percentile(&outcome->get_latencies, shares[i]));
    }
    latency->values[on][RATE][latency->pairs] = ratio_of((double)ops, outcome->seconds);
}

/* Bytes read and written by merges since the store was opened. */
static uint64_t merged_bytes(const struct engine_figures *figures)
{
    return figures->merge_read_bytes + figures->merge_written_bytes;
}

/* The load of a phase: one mix. A small store may have been merged by the time it begins, or the
 * merging thread may get no processor: then it goes on until something is merged. *ret_merged is
 * how many bytes merging moved. */
static int run_mixes(struct latency *latency, int on, struct load_outcome *ret_outcome,
                     uint64_t *ret_merged)
{
    static struct load_outcome outcome;
    const struct engine_figures before = figures_of(latency->turn);
    uint64_t mixes = 0;
    memset(ret_outcome, 0, sizeof *ret_outcome);
    do {
        if (mix(latency, phase_ops(latency), &outcome) != 0) {
            return -1;
        }
        ret_outcome->seconds += outcome.seconds;
        histogram_merge(&ret_outcome->latencies, &outcome.latencies);
        histogram_merge(&ret_outcome->get_latencies, &outcome.get_latencies);
        const struct engine_figures after = figures_of(latency->turn);
        *ret_merged = merged_bytes(&after) - merged_bytes(&before);
        mixes++;
    } while (on == ON && *ret_merged == 0 && ret_outcome->seconds < PHASE_SECONDS);
    set_metrics(latency, on, ret_outcome, mixes * phase_ops(latency));
    latency->ops[on] += mixes * phase_ops(latency);
    return 0;
}

static int run_phase(struct latency *latency, int on, struct load_outcome *ret_outcome,
                     uint64_t *ret_merged)
{
    struct turn *turn = latency->turn;
    struct series series;
    if (prepare(latency, on == ON) != 0 ||
        series_start(&series, turn->plan->engine, turn->store, NULL) != 0) {
        return -1;
    }
    int rc = run_mixes(latency, on, ret_outcome, ret_merged);
    rc = series_stop(&series) != 0 ? -1 : rc;
    const struct engine_figures figures = figures_of(turn);
    if (on == ON) {
        latency->merging_share[latency->pairs] = series_merging_share(series.samples, series.count);
        latency->merged_bytes += *ret_merged;
        latency->merges_failed += figures.merges_failed;
    } else if (rc == 0 && figures.merges != 0) {
        fprintf(stderr, "caskade-bench: mergelatency: a store merges that was told not to\n");
        rc = -1;
    }
    series_release(&series);
    return rc;
}

/* The two phases that follow one another, the first of them in turns. */
static int run_pair(struct latency *latency, unsigned pair, struct load_outcome *into)
{
    static struct load_outcome outcome;
    uint64_t merged[2] = {0, 0};
    for (unsigned i = 0; i < 2; i++) {
        int on = (pair + i) % 2 == 0 ? OFF : ON;
        if (run_phase(latency, on, &outcome, &merged[on]) != 0) {
            return -1;
        }
        if (on == ON) {
            into->seconds += outcome.seconds;
            histogram_merge(&into->latencies, &outcome.latencies);
            histogram_merge(&into->latencies, &outcome.get_latencies);
        }
    }
    if (merged[ON] == 0) {
        fprintf(stderr, "caskade-bench: mergelatency: no merge ran in pair %u: left out\n",
                pair + 1);
        return 0;
    }
    latency->pairs++;
    return 0;
}

static void latency_figures(struct latency *latency, struct result *result)
{
    unsigned pairs = latency->pairs;
    for (unsigned m = 0; m < METRICS; m++) {
        double ratios[PAIRS];
        for (unsigned p = 0; p < pairs; p++) {
            ratios[p] = ratio_of(latency->values[ON][m][p], latency->values[OFF][m][p]);
        }
        char name[sizeof result->figures[0].name];
        snprintf(name, sizeof name, "%s_off", metric_names[m]);
        result_add_figure(result, name, summary_median(latency->values[OFF][m], pairs));
        snprintf(name, sizeof name, "%s_on", metric_names[m]);
        result_add_figure(result, name, summary_median(latency->values[ON][m], pairs));
        snprintf(name, sizeof name, "%s_ratio", metric_names[m]);
        result_add_figure(result, name, summary_median(ratios, pairs));
    }
    result_add_figure(result, "pairs", (double)pairs);
    result_add_figure(result, "merging_share", summary_median(latency->merging_share, pairs));
    result_add_figure(result, "merged_bytes", (double)latency->merged_bytes);
    result_add_figure(result, "merges_failed", (double)latency->merges_failed);
}

static int run_pairs(struct latency *latency, struct load_outcome *ret_outcome,
                     struct result *result)
{
    static struct load_outcome outcome;
    const struct load load = turn_load(latency->turn, LOAD_PUT, SALT_FILL);
    if (load_run(&load, &outcome) != 0) {
        return -1;
    }
    memset(ret_outcome, 0, sizeof *ret_outcome);
    for (unsigned pair = 0; pair < PAIRS; pair++) {
        if (run_pair(latency, pair, ret_outcome) != 0) {
            return -1;
        }
    }
    if (latency->pairs == 0) {
        fprintf(stderr, "caskade-bench: mergelatency: no merge ran: try a larger --num or smaller "
                        "--segment-bytes\n");
        return -1;
    }
    latency_figures(latency, result);
    result->ops = latency->ops[ON];
    result->bytes = result->ops * (load.keyspace->key_bytes + load.keyspace->value_bytes);
    return 0;
}

static int run_latency(struct turn *turn, struct load_outcome *ret_outcome, struct result *result)
{
    struct engine_config config = turn_config(turn);
    config.merge_off = true;
    size_t record = config.key_bytes + config.value_bytes + 32;
    if (turn_clear(turn, 4 * config.num * record) != 0 || turn_open(turn, &config) != 0) {
        return -1;
    }
    struct latency *latency = calloc(1, sizeof *latency);
    uint16_t *generations = calloc(config.num, sizeof *generations);
    int rc = -1;
    if (latency == NULL || generations == NULL) {
        fprintf(stderr, "caskade-bench: mergelatency: out of memory\n");
    } else {
        latency->turn = turn;
        latency->generations = generations;
        rc = run_pairs(latency, ret_outcome, result);
    }
    free(latency);
    free(generations);
    return rc;
}

static int put_range(struct turn *turn, uint64_t first_id, uint64_t count, uint64_t generation)
{
    static struct load_outcome outcome;
    struct load load = turn_load(turn, LOAD_PUT, SALT_FILL);
    load.first_id = first_id;
    load.ops = count;
    load.generation = (uint32_t)generation;
    load.latency = false;
    order_init(&load.order, count, SALT_OVERWRITE + generation + turn->keyspace.seed);
    return load_run(&load, &outcome);
}

/* Keys that stay, and between them a few that are put over and over: so four records in five are
 * dead in every segment, not only in the old ones. *ret_puts: how many there were. */
static int fill_with_dead(struct turn *turn, uint64_t *ret_puts)
{
    uint64_t num = turn->plan->options->num;
    uint64_t chunks = num < CHUNKS ? num : CHUNKS;
    uint64_t chunk = num / chunks;
    int rc = 0;
    for (uint64_t c = 0; c < chunks && rc == 0; c++) {
        rc = put_range(turn, c * chunk, chunk, 0);
        for (uint64_t i = 0; i < DEAD_TIMES && rc == 0; i++) {
            rc = put_range(turn, num, chunk, c * DEAD_TIMES + i);
        }
    }
    *ret_puts = chunks * chunk * (1 + DEAD_TIMES);
    return rc;
}

/* Where the copies lie: beside the store, on the same file system. */
static int copy_all(const struct turn *turn, uint64_t bytes, unsigned count, double *ret_seconds,
                    double *ret_synced)
{
    char dir[4096];
    int length = snprintf(dir, sizeof dir, "%s-copy", turn->plan->dir);
    if (length < 0 || (size_t)length >= sizeof dir || machine_make_dir(dir) != 0) {
        return -1;
    }
    int rc = 0;
    for (unsigned i = 0; i < count && rc == 0; i++) {
        rc = machine_time_copy(dir, bytes, &ret_seconds[i], &ret_synced[i]);
    }
    return machine_remove_dir(dir) == 0 ? rc : -1;
}

static void speed_figures(struct result *result, double merge_seconds, double copy_seconds,
                          double synced_seconds, const struct engine_figures *before)
{
    double live_mb = (double)before->live_bytes / 1e6;
    result_add_figure(result, "merge_seconds", merge_seconds);
    result_add_figure(result, "cp_seconds", copy_seconds);
    result_add_figure(result, "cp_synced_seconds", synced_seconds);
    result_add_figure(result, "merge_mb_per_sec", ratio_of(live_mb, merge_seconds));
    result_add_figure(result, "cp_mb_per_sec", ratio_of(live_mb, copy_seconds));
    result_add_figure(result, "merge_per_cp", ratio_of(copy_seconds, merge_seconds));
    result_add_figure(result, "merge_per_cp_synced", ratio_of(synced_seconds, merge_seconds));
    result_add_figure(result, "live_bytes", (double)before->live_bytes);
    result_add_figure(result, "dead_share",
                      ratio_of((double)before->dead_bytes,
                               (double)before->dead_bytes + (double)before->live_bytes));
}

/* Times the merge, and copies before and after it. Each copy has the memory of the one before; the
 * merge has some that is warm as well. */
static int time_merge(struct turn *turn, struct load_outcome *ret_outcome, struct result *result)
{
    double copies[COPIES];
    double synced[COPIES];
    const struct engine_figures before = figures_of(turn);
    if (copy_all(turn, before.live_bytes, COPIES / 2, copies, synced) != 0 ||
        turn_warm(turn, MERGE_MEMORY * before.live_bytes) != 0 ||
        machine_settle(turn->plan->dir) != 0) {
        return -1;
    }
    uint64_t start_ns = clock_ns();
    if (turn->plan->engine->merge(turn->store) != ENGINE_OK) {
        return -1;
    }
    memset(ret_outcome, 0, sizeof *ret_outcome);
    ret_outcome->seconds = (double)(clock_ns() - start_ns) / 1e9;
    const struct engine_figures after = figures_of(turn);
    if (copy_all(turn, before.live_bytes, COPIES - COPIES / 2, copies + COPIES / 2,
                 synced + COPIES / 2) != 0) {
        return -1;
    }
    if (after.dead_bytes > before.dead_bytes / 2) {
        fprintf(stderr, "caskade-bench: mergespeed: %llu of %llu dead bytes are still there\n",
                (unsigned long long)after.dead_bytes, (unsigned long long)before.dead_bytes);
        return -1;
    }
    speed_figures(result, ret_outcome->seconds, summary_median(copies, COPIES),
                  summary_median(synced, COPIES), &before);
    result_add_figure(
        result, "disk_per_live_end",
        ratio_of((double)machine_disk_bytes(turn->plan->dir), (double)after.live_bytes));
    result->bytes = before.live_bytes;
    return 0;
}

static int run_speed(struct turn *turn, struct load_outcome *ret_outcome, struct result *result)
{
    static struct load_outcome outcome;
    struct engine_config config = turn_config(turn);
    config.merge_off = true;
    size_t record = config.key_bytes + config.value_bytes + 32;
    if (turn_clear(turn, (1 + DEAD_TIMES) * config.num * record) != 0 ||
        turn_open(turn, &config) != 0 || fill_with_dead(turn, &result->ops) != 0 ||
        time_merge(turn, ret_outcome, result) != 0) {
        return -1;
    }
    struct load check = turn_load(turn, LOAD_GET, SALT_READ);
    check.ops = result->ops / (1 + DEAD_TIMES);
    check.latency = false;
    order_init(&check.order, check.ops, SALT_READ + turn->keyspace.seed);
    return load_run(&check, &outcome);
}

int merge_run(struct turn *turn, enum workload_kind kind, struct load_outcome *ret_outcome,
              struct result *result)
{
    struct churn churn;
    switch (kind) {
    case WORKLOAD_CHURN:
        churn = all_keys(turn);
        return run_churn(turn, &churn, ret_outcome, result);
    case WORKLOAD_DICTIONARY:
        churn = dictionary(turn);
        return run_churn(turn, &churn, ret_outcome, result);
    case WORKLOAD_MERGE_LATENCY:
        return run_latency(turn, ret_outcome, result);
    case WORKLOAD_MERGE_SPEED:
        return run_speed(turn, ret_outcome, result);
    default:
        return -1;
    }
}
