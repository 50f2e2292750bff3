/* The table of options, and how each understands its argument. */
#include "verbs.h"

#include "report.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS_MAX 256

/* A number with an optional unit out of units ("K" 1024 "M" ...), which is one letter or more. */
struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1},
    {"K", (uint64_t)1 << 10},
    {"M", (uint64_t)1 << 20},
    {"G", (uint64_t)1 << 30},
    {"T", (uint64_t)1 << 40},
    {NULL, 0},
};

static const struct unit time_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0},
};

static const struct unit percent_units[] = {{"", 1}, {"%", 1}, {NULL, 0}};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

static bool parse_number(const char *text, const struct unit *units, uint64_t *ret_number)
{
    char *end;
    if (!isdigit((unsigned char)text[0])) { /* strtoull would take signs and blanks */
        return false;
    }
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    for (; errno == 0 && units->name != NULL; units++) {
        if (strcmp(units->name, end) == 0) {
            *ret_number = number * units->factor;
            return number <= UINT64_MAX / units->factor;
        }
    }
    return false;
}

/* The place of text in words, which are parted by blanks; -1 if it is not there. */
static int parse_word(const char *text, const char *words)
{
    size_t size = strlen(text);
    for (int i = 0; *words != '\0'; i++) {
        size_t word_size = strcspn(words, " ");
        if (word_size == size && memcmp(text, words, size) == 0) {
            return i;
        }
        words += word_size + (words[word_size] == ' ');
    }
    return -1;
}

static const char *set_help(struct args *args, const char *value)
{
    (void)value;
    args->help = true;
    return NULL;
}

static const char *set_verbose(struct args *args, const char *value)
{
    (void)args;
    (void)value;
    report_set_verbose(true);
    return NULL;
}

static const char *set_shards(struct args *args, const char *value)
{
    uint64_t number;
    if (!parse_number(value, no_units, &number) || number < 1 || number > 256 ||
        (number & (number - 1)) != 0) {
        return "it is a power of two from 1 to 256";
    }
    args->open.shard_count = (uint32_t)number;
    return NULL;
}

static const char *set_index_memory(struct args *args, const char *value)
{
    uint64_t number;
    if (!parse_number(value, size_units, &number) || number < (uint64_t)1 << 20 ||
        number > (uint64_t)1 << 40) {
        return "it is a size from 1M to 1T, such as 256M";
    }
    args->open.index_memory = number;
    return NULL;
}

static const char *set_segment_bytes(struct args *args, const char *value)
{
    uint64_t number;
    if (!parse_number(value, size_units, &number) || number < 256 || number > (uint64_t)2 << 30) {
        return "it is a size from 256 to 2G, such as 64M";
    }
    args->open.segment_bytes = number;
    return NULL;
}

static const char *set_sync(struct args *args, const char *value)
{
    static const char interval[] = "interval=";
    static const enum cask_sync_mode modes[] = {CASK_SYNC_NONE, CASK_SYNC_INTERVAL,
                                                CASK_SYNC_ALWAYS};
    uint64_t number;
    if (strncmp(value, interval, strlen(interval)) == 0) {
        if (!parse_number(value + strlen(interval), time_units, &number) || number < 1 ||
            number > 3600000) {
            return "an interval is 1ms to 1h, such as interval=100ms";
        }
        args->open.sync_mode = CASK_SYNC_INTERVAL;
        args->open.sync_interval_ms = (uint32_t)number;
        return NULL;
    }
    int place = parse_word(value, "none interval always");
    if (place < 0) {
        return "it is none, interval, interval=TIME or always";
    }
    args->open.sync_mode = modes[place];
    args->open.sync_interval_ms = 0;
    return NULL;
}

static const char *set_write_mode(struct args *args, const char *value)
{
    static const enum cask_write_mode modes[] = {CASK_WRITE_MAPPED, CASK_WRITE_SYSCALL};
    int place = parse_word(value, "mapped syscall");
    if (place < 0) {
        return "it is mapped or syscall";
    }
    args->open.write_mode = modes[place];
    return NULL;
}

static const char *set_read_mode(struct args *args, const char *value)
{
    static const enum cask_read_mode modes[] = {CASK_READ_MAPPED, CASK_READ_PREAD};
    int place = parse_word(value, "mapped pread");
    if (place < 0) {
        return "it is mapped or pread";
    }
    args->open.read_mode = modes[place];
    return NULL;
}

static const char *set_switch(enum cask_switch *ret_switch, const char *value)
{
    static const enum cask_switch switches[] = {CASK_SWITCH_ON, CASK_SWITCH_OFF};
    int place = parse_word(value, "on off");
    if (place < 0) {
        return "it is on or off";
    }
    *ret_switch = switches[place];
    return NULL;
}

static const char *set_verify_reads(struct args *args, const char *value)
{
    return set_switch(&args->open.verify_reads, value);
}

static const char *set_merge(struct args *args, const char *value)
{
    return set_switch(&args->open.merge, value);
}

static const char *set_percent(uint32_t *ret_percent, const char *value)
{
    uint64_t number;
    if (!parse_number(value, percent_units, &number) || number < 1 || number > 99) {
        return "it is a percentage from 1 to 99";
    }
    *ret_percent = (uint32_t)number;
    return NULL;
}

static const char *set_merge_trigger(struct args *args, const char *value)
{
    return set_percent(&args->open.merge_trigger_percent, value);
}

static const char *set_merge_segment(struct args *args, const char *value)
{
    return set_percent(&args->open.merge_segment_percent, value);
}

static const char *set_merge_at_once(struct args *args, const char *value)
{
    uint64_t number;
    if (!parse_number(value, no_units, &number) || number < 1 || number > 256) {
        return "it is a number from 1 to 256";
    }
    args->open.merge_at_once = (uint32_t)number;
    return NULL;
}

static const char *set_merge_rate(struct args *args, const char *value)
{
    uint64_t number;
    if (!parse_number(value, size_units, &number) || number < 1) {
        return "it is a size such as 50M, at least 1 (leave it out for no limit)";
    }
    args->open.merge_bytes_per_second = number;
    return NULL;
}

/* One or two digits, a full hour. Returns what follows them, or NULL. */
static const char *parse_hour(const char *text, uint8_t *ret_hour)
{
    unsigned hour = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits < 1 || digits > 2) {
        return NULL;
    }
    for (size_t i = 0; i < digits; i++) {
        hour = 10 * hour + (unsigned)(text[i] - '0');
    }
    *ret_hour = (uint8_t)hour;
    return text + digits;
}

static const char *set_merge_hours(struct args *args, const char *value)
{
    uint8_t from = 0, until = 0;
    const char *dash = parse_hour(value, &from);
    const char *end = dash != NULL && *dash == '-' ? parse_hour(dash + 1, &until) : NULL;
    /* 5-5 might mean always or never; the library takes 0 and 0 for always. */
    if (end == NULL || *end != '\0' || from > 23 || until > 24 || from == until) {
        return "it is FROM-UNTIL, two different full hours, such as 22-6 or 0-24";
    }
    args->open.merge_from_hour = from;
    args->open.merge_until_hour = until;
    return NULL;
}

static const char *set_read_only(struct args *args, const char *value)
{
    (void)value;
    args->open.read_only = 1;
    return NULL;
}

static const char *set_escaped(struct args *args, const char *value)
{
    (void)value;
    args->escaped = true;
    return NULL;
}

static const char *set_expires_in(struct args *args, const char *value)
{
    struct timespec now;
    uint64_t number;
    if (!parse_number(value, time_units, &number) || number > FORMAT_EXPIRY_MAX / 2) {
        return "it is a time such as 500ms, 10s, 5m, 2h or 30d";
    }
    if (clock_gettime(CLOCK_REALTIME, &now) != 0 || now.tv_sec < 0) {
        return "the system's clock is not set";
    }
    args->expires_at_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + number;
    return NULL;
}

static const char *set_expires_at(struct args *args, const char *value)
{
    uint64_t number;
    if (!parse_number(value, no_units, &number) || number < 1 || number > FORMAT_EXPIRY_MAX) {
        return "it is a number of milliseconds since 1970";
    }
    args->expires_at_ms = number;
    return NULL;
}

static const char *set_raw(struct args *args, const char *value)
{
    (void)value;
    args->raw = true;
    return NULL;
}

static const char *set_values(struct args *args, const char *value)
{
    (void)value;
    args->values = true;
    return NULL;
}

static const char *set_prefix(struct args *args, const char *value)
{
    args->prefix = value;
    return NULL;
}

static const char *set_limit(struct args *args, const char *value)
{
    return parse_number(value, no_units, &args->limit) ? NULL : "it is a number";
}

static const char *set_format(struct args *args, const char *value)
{
    args->format = format_by_name(value);
    return args->format == NULL ? "it is tsv, lines, jsonl, lmdb or lmdb-print" : NULL;
}

static const char *set_threads(struct args *args, const char *value)
{
    uint64_t number;
    if (!parse_number(value, no_units, &number) || number < 1 || number > THREADS_MAX) {
        return "it is a number from 1 to 256";
    }
    args->threads = (unsigned)number;
    return NULL;
}

static const char *set_keep_going(struct args *args, const char *value)
{
    (void)value;
    args->keep_going = true;
    return NULL;
}

static const char *set_report(struct args *args, const char *value)
{
    (void)value;
    args->report = true;
    return NULL;
}

static const char *set_json(struct args *args, const char *value)
{
    (void)value;
    args->json = true;
    return NULL;
}

static const char *set_completion(struct args *args, const char *value)
{
    (void)value;
    args->completion = true;
    return NULL;
}

/* Name, argument, words for completion, summary, groups, setter. */
const struct option_row options[] = {
    {"raw", NULL, NULL, "print the value alone, without a newline", OPTIONS_GET, set_raw},
    {"expires-in", "TIME", NULL, "the key is gone after TIME, such as 10s", OPTIONS_PUT,
     set_expires_in},
    {"expires-at", "MS", NULL, "the key is gone at MS milliseconds since 1970 UTC", OPTIONS_PUT,
     set_expires_at},
    {"escaped", NULL, NULL, "KEY and VALUE use the escapes \\t \\n \\r \\\\ \\xHH", OPTIONS_KEY,
     set_escaped},
    {"values", NULL, NULL, "print KEY TAB VALUE", OPTIONS_SCAN, set_values},
    {"prefix", "P", NULL, "only keys that start with P", OPTIONS_SCAN, set_prefix},
    {"limit", "N", NULL, "at most N keys", OPTIONS_SCAN, set_limit},
    {"format", "NAME", "tsv lines jsonl lmdb lmdb-print", "the format of the file", OPTIONS_FORMAT,
     set_format},
    {"threads", "N", NULL, "threads to load with; default: one for each core", OPTIONS_LOAD,
     set_threads},
    {"keep-going", NULL, NULL, "count bad lines and skip them", OPTIONS_LOAD, set_keep_going},
    {"report", NULL, NULL, "print \"loaded N\": the first N are in the store", OPTIONS_LOAD,
     set_report},
    {"json", NULL, NULL, "print one JSON object", OPTIONS_STAT, set_json},
    {"completion", NULL, NULL, "print the completion script for bash", OPTIONS_COMPLETION,
     set_completion},
    {"shards", "N", "1 2 4 8 16 32 64 128 256", "shards of a new store; default 16", OPTIONS_OPEN,
     set_shards},
    {"index-memory", "SIZE", "256M 1G 4G", "RAM for the index; default 1G", OPTIONS_OPEN,
     set_index_memory},
    {"segment-bytes", "SIZE", "16M 64M 256M", "size of a segment; default 64M", OPTIONS_OPEN,
     set_segment_bytes},
    {"sync", "MODE", "none interval interval=100ms always",
     "none, interval=TIME or always; default none", OPTIONS_OPEN, set_sync},
    {"write-mode", "MODE", "mapped syscall", "mapped or syscall", OPTIONS_OPEN, set_write_mode},
    {"read-mode", "MODE", "mapped pread", "mapped or pread", OPTIONS_OPEN, set_read_mode},
    {"verify-reads", "SWITCH", "on off", "checksums on every read: on or off; default on",
     OPTIONS_OPEN, set_verify_reads},
    {"merge", "SWITCH", "on off", "background merging: on or off; default on", OPTIONS_OPEN,
     set_merge},
    {"merge-trigger", "PERCENT", "10 20 35 50", "dead share that starts it in a shard; default 20",
     OPTIONS_OPEN, set_merge_trigger},
    {"merge-segment", "PERCENT", "20 30 45 60", "dead share of segments it takes; default 30",
     OPTIONS_OPEN, set_merge_segment},
    {"merge-at-once", "N", "1 2 4", "shards that merge at once; default 1 or 2", OPTIONS_OPEN,
     set_merge_at_once},
    {"merge-rate", "SIZE", "10M 50M 200M", "bytes a second it reads and writes; default no limit",
     OPTIONS_OPEN, set_merge_rate},
    {"merge-hours", "FROM-UNTIL", "0-24 22-6", "hours it starts in, local time; default any",
     OPTIONS_OPEN, set_merge_hours},
    {"read-only", NULL, NULL, "change nothing on disk", OPTIONS_OPEN, set_read_only},
    {"verbose", NULL, NULL, "say more on standard error", OPTIONS_ALL, set_verbose},
    {"help", NULL, NULL, "explain the verb", OPTIONS_ALL, set_help},
    {.name = NULL},
};
