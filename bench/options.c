#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyspace.h"

#define ITEM_BYTES 64

enum option_code {
    OPT_HELP = 'h',
    OPT_ENGINES = 256,
    OPT_WORKLOADS,
    OPT_NUM,
    OPT_KEY_SIZE,
    OPT_VALUE_SIZE,
    OPT_THREADS,
    OPT_ROUNDS,
    OPT_DIR,
    OPT_SEED,
    OPT_JSON,
    OPT_PLOT,
    OPT_GROUP,
    OPT_BATCH,
    OPT_SYNC_OPS,
    OPT_SHARDS,
    OPT_INDEX_MEMORY,
    OPT_SEGMENT_BYTES,
    OPT_CHURN_ROUNDS,
    OPT_STEP,
    OPT_RAM_NUM,
    OPT_READS,
    OPT_COLD_READS,
    OPT_CGROUP_BYTES,
    OPT_CGROUP_INGEST,
    OPT_PEER_SECONDS,
    OPT_PEER_READ_SECONDS,
    OPT_SORTED_PUTS,
    OPT_NO_LATENCY,
    OPT_NO_WARM
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, OPT_HELP},
    {"engines", required_argument, NULL, OPT_ENGINES},
    {"workloads", required_argument, NULL, OPT_WORKLOADS},
    {"num", required_argument, NULL, OPT_NUM},
    {"key-size", required_argument, NULL, OPT_KEY_SIZE},
    {"value-size", required_argument, NULL, OPT_VALUE_SIZE},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"rounds", required_argument, NULL, OPT_ROUNDS},
    {"dir", required_argument, NULL, OPT_DIR},
    {"seed", required_argument, NULL, OPT_SEED},
    {"json", required_argument, NULL, OPT_JSON},
    {"plot", required_argument, NULL, OPT_PLOT},
    {"group", required_argument, NULL, OPT_GROUP},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"sync-ops", required_argument, NULL, OPT_SYNC_OPS},
    {"shards", required_argument, NULL, OPT_SHARDS},
    {"index-memory", required_argument, NULL, OPT_INDEX_MEMORY},
    {"segment-bytes", required_argument, NULL, OPT_SEGMENT_BYTES},
    {"churn-rounds", required_argument, NULL, OPT_CHURN_ROUNDS},
    {"step", required_argument, NULL, OPT_STEP},
    {"ram-num", required_argument, NULL, OPT_RAM_NUM},
    {"reads", required_argument, NULL, OPT_READS},
    {"cold-reads", required_argument, NULL, OPT_COLD_READS},
    {"cgroup-bytes", required_argument, NULL, OPT_CGROUP_BYTES},
    {"cgroup-ingest", no_argument, NULL, OPT_CGROUP_INGEST},
    {"peer-seconds", required_argument, NULL, OPT_PEER_SECONDS},
    {"peer-read-seconds", required_argument, NULL, OPT_PEER_READ_SECONDS},
    {"sorted-puts", required_argument, NULL, OPT_SORTED_PUTS},
    {"no-latency", no_argument, NULL, OPT_NO_LATENCY},
    {"no-warm", no_argument, NULL, OPT_NO_WARM},
    {NULL, 0, NULL, 0},
};

static const char help_text[] =
    "caskade-bench --dir DIR [option...]\n"
    "  --engines LIST        of those below; default all that were built in but none\n"
    "  --workloads LIST      of those below, run in that order; default\n"
    "                        fillrandom,readrandom,readmissing,overwrite,getmany,reopen\n"
    "  --num N               keys; default 1000000\n"
    "  --key-size BYTES      8 or more; default 16\n"
    "  --value-size BYTES    default 100\n"
    "  --threads LIST        default 1; each count is a turn of its own, the keys shared out\n"
    "  --rounds N            default 1; the outer loop, engines are the inner\n"
    "  --dir DIR             stores are made in a new folder there, and removed\n"
    "  --seed N              default 1\n"
    "  --json FILE           append one JSON object a line\n"
    "  --plot DIR            write a gnuplot script and its data there, and draw if gnuplot is "
    "found\n"
    "  --group N             keys of one getmany call; default 16\n"
    "  --batch N             puts of one batch; default 64\n"
    "  --sync-ops N          puts of each thread of syncalways; default 1000\n"
    "  --shards N            Caskade's shard_count; default its own\n"
    "  --index-memory BYTES  Caskade's index_memory, the block cache of others; default their "
    "own,\n"
    "                        of overflow 256 MiB\n"
    "  --segment-bytes BYTES Caskade's segment_bytes; default its own\n"
    "  --churn-rounds N      times that churn overwrites each key; default 5\n"
    "  --step N              keys of each step that overflow reports; default 5000000\n"
    "  --ram-num N           keys overflow puts with the index in RAM, to compare; default "
    "10000000\n"
    "  --reads N             gets of each kind, warm; default 1000000\n"
    "  --cold-reads N        gets of each kind under the memory limit; default 200000\n"
    "  --cgroup-bytes BYTES  the memory limit; default 1 GiB, 0 leaves those gets out\n"
    "  --cgroup-ingest       overflow's fill runs under the memory limit as well\n"
    "  --peer-seconds N      overflow's fill of another engine is stopped then; default 600\n"
    "  --peer-read-seconds N so are its gets of each kind; default 120\n"
    "  --sorted-puts N       overflow's puts to LMDB are sorted, so many at a time; default "
    "100000\n"
    "  --no-latency          don't time single calls\n"
    "  --no-warm             don't warm memory before each new store\n"
    "  --help\n";

static void print_help(void)
{
    fputs(help_text, stdout);
    printf("Engines:\n");
    const struct engine_entry *entry = NULL;
    for (size_t i = 0; (entry = engine_at(i)) != NULL; i++) {
        printf("  %-12s %s\n", entry->name,
               entry->engine != NULL ? entry->engine->settings : "not found when this was built");
    }
    printf("Workloads:\n");
    const struct workload *workload = NULL;
    for (size_t i = 0; (workload = workload_at(i)) != NULL; i++) {
        printf("  %-12s %s\n", workload->name, workload->help);
    }
}

static int refuse(const char *what, const char *text)
{
    fprintf(stderr, "caskade-bench: %s: %s\n", what, text);
    return -1;
}

static int parse_number(const char *name, const char *text, uint64_t min, uint64_t max,
                        uint64_t *ret_number)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < min ||
        number > max) {
        fprintf(stderr, "caskade-bench: --%s must be a number from %llu to %llu, not '%s'\n", name,
                (unsigned long long)min, (unsigned long long)max, text);
        return -1;
    }
    *ret_number = number;
    return 0;
}

static int parse_unsigned(const char *name, const char *text, unsigned min, unsigned max,
                          unsigned *ret_number)
{
    uint64_t number = 0;
    int rc = parse_number(name, text, min, max, &number);
    if (rc == 0) {
        *ret_number = (unsigned)number;
    }
    return rc;
}

/* Copies the item at *text and moves *text behind it and its comma. Returns whether there was one;
 * one that is too long is cut, and so known to nobody. */
static bool next_item(const char **text, char item[ITEM_BYTES])
{
    if (**text == '\0') {
        return false;
    }
    size_t length = strcspn(*text, ",");
    size_t kept = length < ITEM_BYTES ? length : ITEM_BYTES - 1;
    memcpy(item, *text, kept);
    item[kept] = '\0';
    *text += length;
    *text += **text == ',';
    return true;
}

static int parse_engines(struct options *options, const char *text)
{
    char item[ITEM_BYTES];
    options->engine_count = 0;
    while (next_item(&text, item)) {
        const struct engine_entry *entry = engine_find(item);
        if (entry == NULL) {
            return refuse("no such engine", item);
        }
        if (options->engine_count == OPTIONS_LIST_MAX) {
            return refuse("too many engines", item);
        }
        if (entry->engine == NULL) {
            fprintf(stderr, "caskade-bench: %s was not found when this was built: skipped\n", item);
            continue;
        }
        options->engines[options->engine_count++] = entry->engine;
    }
    return 0;
}

static int parse_workloads(struct options *options, const char *text)
{
    char item[ITEM_BYTES];
    options->workload_count = 0;
    while (next_item(&text, item)) {
        const struct workload *workload = workload_find(item);
        if (workload == NULL) {
            return refuse("no such workload", item);
        }
        if (options->workload_count == OPTIONS_LIST_MAX) {
            return refuse("too many workloads", item);
        }
        options->workloads[options->workload_count++] = workload;
    }
    return 0;
}

static int parse_threads(struct options *options, const char *text)
{
    char item[ITEM_BYTES];
    options->thread_count = 0;
    while (next_item(&text, item)) {
        if (options->thread_count == OPTIONS_LIST_MAX) {
            return refuse("too many thread counts", item);
        }
        unsigned *threads = &options->threads[options->thread_count++];
        if (parse_unsigned("threads", item, 1, 1024, threads) != 0) {
            return -1;
        }
    }
    return 0;
}

static int parse_size(const char *name, const char *text, size_t min, size_t max, size_t *ret_size)
{
    uint64_t size = 0;
    int rc = parse_number(name, text, min, max, &size);
    if (rc == 0) {
        *ret_size = (size_t)size;
    }
    return rc;
}

/* The options of the workload overflow. */
static int parse_overflow(struct options *options, int code, const char *text)
{
    switch (code) {
    case OPT_STEP:
        return parse_number("step", text, 1, UINT64_C(1) << 40, &options->step);
    case OPT_RAM_NUM:
        return parse_number("ram-num", text, 1, UINT64_C(1) << 40, &options->ram_num);
    case OPT_READS:
        return parse_number("reads", text, 1, UINT64_C(1) << 40, &options->reads);
    case OPT_COLD_READS:
        return parse_number("cold-reads", text, 1, UINT64_C(1) << 40, &options->cold_reads);
    case OPT_CGROUP_BYTES:
        return parse_number("cgroup-bytes", text, 0, UINT64_C(1) << 50, &options->cgroup_bytes);
    case OPT_PEER_SECONDS:
        return parse_unsigned("peer-seconds", text, 1, 1u << 20, &options->peer_seconds);
    case OPT_PEER_READ_SECONDS:
        return parse_unsigned("peer-read-seconds", text, 1, 1u << 20, &options->peer_read_seconds);
    case OPT_SORTED_PUTS:
        return parse_unsigned("sorted-puts", text, 0, 10000000, &options->sorted_puts);
    default:
        return -1; /* getopt_long has said what is wrong */
    }
}

static int parse_one(struct options *options, int code, const char *text)
{
    switch (code) {
    case OPT_ENGINES:
        return parse_engines(options, text);
    case OPT_WORKLOADS:
        return parse_workloads(options, text);
    case OPT_THREADS:
        return parse_threads(options, text);
    case OPT_NUM:
        return parse_number("num", text, 1, UINT64_C(1) << 40, &options->num);
    case OPT_SEED:
        return parse_number("seed", text, 0, UINT64_MAX, &options->seed);
    case OPT_KEY_SIZE:
        return parse_size("key-size", text, KEYSPACE_KEY_MIN, CASK_KEY_MAX, &options->key_bytes);
    case OPT_VALUE_SIZE:
        return parse_size("value-size", text, 0, (size_t)1 << 30, &options->value_bytes);
    case OPT_ROUNDS:
        return parse_unsigned("rounds", text, 1, 1000, &options->rounds);
    case OPT_GROUP:
        return parse_unsigned("group", text, 1, 1u << 16, &options->group);
    case OPT_BATCH:
        return parse_unsigned("batch", text, 1, 1u << 16, &options->batch);
    case OPT_SYNC_OPS:
        return parse_unsigned("sync-ops", text, 1, 1u << 30, &options->sync_ops);
    case OPT_SHARDS:
        return parse_unsigned("shards", text, 1, 256, &options->shards);
    case OPT_INDEX_MEMORY:
        return parse_number("index-memory", text, 1, UINT64_MAX, &options->index_memory);
    case OPT_SEGMENT_BYTES:
        return parse_number("segment-bytes", text, 256, UINT64_C(2) << 30, &options->segment_bytes);
    case OPT_CHURN_ROUNDS:
        return parse_unsigned("churn-rounds", text, 1, 1000, &options->churn_rounds);
    case OPT_CGROUP_INGEST:
        options->cgroup_ingest = true;
        return 0;
    case OPT_DIR:
        options->dir = text;
        return 0;
    case OPT_JSON:
        options->json = text;
        return 0;
    case OPT_PLOT:
        options->plot = text;
        return 0;
    case OPT_NO_LATENCY:
        options->latency = false;
        return 0;
    case OPT_NO_WARM:
        options->warm = false;
        return 0;
    default:
        return parse_overflow(options, code, text);
    }
}

static void set_defaults(struct options *options)
{
    *options = (struct options){
        .threads = {1},
        .thread_count = 1,
        .num = 1000000,
        .seed = 1,
        .key_bytes = 16,
        .value_bytes = 100,
        .rounds = 1,
        .group = 16,
        .batch = 64,
        .sync_ops = 1000,
        .churn_rounds = 5,
        .step = 5000000,
        .ram_num = 10000000,
        .reads = 1000000,
        .cold_reads = 200000,
        .cgroup_bytes = UINT64_C(1) << 30,
        .peer_seconds = 600,
        .peer_read_seconds = 120,
        .sorted_puts = 100000,
        .latency = true,
        .warm = true,
    };
    const struct engine_entry *entry = NULL;
    for (size_t i = 0; (entry = engine_at(i)) != NULL; i++) {
        if (entry->engine != NULL && entry->engine != &engine_none) {
            options->engines[options->engine_count++] = entry->engine;
        }
    }
    parse_workloads(options, "fillrandom,readrandom,readmissing,overwrite,getmany,reopen");
}

/* What no single option can tell. */
static int check(const struct options *options)
{
    if (options->dir == NULL) {
        return refuse("--dir", "is missing");
    }
    if (options->engine_count == 0 || options->workload_count == 0 || options->thread_count == 0) {
        return refuse("nothing to do", "no engine, workload or thread count is left");
    }
    for (size_t i = 0; i < options->engine_count; i++) {
        if (options->key_bytes > options->engines[i]->max_key_bytes) {
            return refuse("--key-size is more than this engine can", options->engines[i]->name);
        }
    }
    return 0;
}

enum options_outcome options_parse(struct options *options, int argc, char **argv)
{
    set_defaults(options);
    int rc = 0;
    int code = 0;
    optind = 1;
    while (rc == 0 && (code = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (code == OPT_HELP) {
            print_help();
            return OPTIONS_HELP;
        }
        rc = parse_one(options, code, optarg);
    }
    if (rc == 0 && optind < argc) {
        rc = refuse("not an option", argv[optind]);
    }
    if (rc != 0 || check(options) != 0) {
        fprintf(stderr, "Try 'caskade-bench --help'.\n");
        return OPTIONS_USAGE;
    }
    return OPTIONS_RUN;
}
