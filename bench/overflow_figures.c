/* The figures of overflow.h: what of the facts the aims ask for. */
#include "overflow.h"

#include <math.h>

#define MIB 1048576.0

static double ratio_of(double a, double b)
{
    return b > 0.0 ? a / b : (double)NAN;
}

static void add_readings(struct result *result, const struct overflow_facts *facts)
{
    static const char *const names[OVERFLOW_READS] = {
        "ram_get",  "warm_get",  "warm_miss",   "warm_many16",
        "cold_get", "cold_miss", "cold_many16", "cold_many64",
    };
    char name[sizeof result->figures[0].name];
    for (unsigned i = 0; i < OVERFLOW_READS; i++) {
        const struct overflow_reading *reading = &facts->readings[i];
        snprintf(name, sizeof name, "%s_ns", names[i]);
        result_add_figure(result, name, reading->known ? reading->ns : (double)NAN);
        snprintf(name, sizeof name, "%s_p99", names[i]);
        result_add_figure(result, name, reading->known ? reading->p99_ns : (double)NAN);
        if (i < OVERFLOW_COLD_GET) {
            continue;
        }
        bool pages = reading->known && reading->disk_pages >= 0.0;
        snprintf(name, sizeof name, "%s_pages", names[i]);
        result_add_figure(result, name, pages ? reading->disk_pages : (double)NAN);
        bool reads = reading->known && reading->device_reads >= 0.0;
        snprintf(name, sizeof name, "%s_reads", names[i]);
        result_add_figure(result, name, reads ? reading->device_reads : (double)NAN);
    }
    const struct overflow_reading *readings = facts->readings;
    double resident = 0.0;
    for (unsigned i = OVERFLOW_COLD_GET; i < OVERFLOW_READS; i++) {
        resident = fmax(resident, readings[i].known ? readings[i].resident_part : (double)NAN);
    }
    result_add_figure(result, "cold_resident_part",
                      readings[OVERFLOW_COLD_GET].known ? resident : (double)NAN);
    double get = readings[OVERFLOW_COLD_GET].ns; /* 0 where it is not known */
    result_add_figure(result, "cold_get_per_many16",
                      ratio_of(get, readings[OVERFLOW_COLD_MANY16].ns));
    result_add_figure(result, "cold_get_per_many64",
                      ratio_of(get, readings[OVERFLOW_COLD_MANY64].ns));
    result_add_figure(result, "warm_get_per_ram",
                      ratio_of(readings[OVERFLOW_WARM_GET].ns, readings[OVERFLOW_RAM_GET].ns));
}

/* The rate of the fill: all of it, its tenths, and beside one whose index stays in RAM. */
static void add_rates(struct result *result, const struct overflow_facts *facts)
{
    double keys = (double)facts->reached;
    double all = steps_seconds_at(facts->steps, facts->step_count, keys);
    double first = steps_seconds_at(facts->steps, facts->step_count, keys / 10.0);
    double last = all - steps_seconds_at(facts->steps, facts->step_count, keys * 0.9);
    double longest = 0.0;
    for (size_t i = 0; i < facts->step_count; i++) {
        longest = fmax(longest, facts->steps[i].longest_put_ns);
    }
    double put_ns = ratio_of(all * 1e9, keys);
    result_add_figure(result, "keys", keys);
    result_add_figure(result, "ingest_ns", put_ns);
    result_add_figure(result, "first_tenth_ns", ratio_of(first * 1e10, keys));
    result_add_figure(result, "last_tenth_ns", ratio_of(last * 1e10, keys));
    result_add_figure(result, "last_rate_per_first", ratio_of(first, last));
    result_add_figure(result, "longest_put_ms", longest > 0.0 ? longest / 1e6 : (double)NAN);
    bool ram = facts->ram_put_ns > 0.0;
    result_add_figure(result, "ram_put_ns", ram ? facts->ram_put_ns : (double)NAN);
    result_add_figure(result, "ingest_rate_per_ram",
                      ram ? ratio_of(facts->ram_put_ns, put_ns) : (double)NAN);
}

static void add_memory(struct result *result, const struct overflow_facts *facts,
                       uint64_t index_memory)
{
    uint64_t anon = 0;
    uint64_t index = 0;
    for (size_t i = 0; i < facts->step_count; i++) {
        const struct step *step = &facts->steps[i];
        anon = step->rss_anon_max_bytes > anon ? step->rss_anon_max_bytes : anon;
        index = step->index_ram_bytes > index ? step->index_ram_bytes : index;
    }
    result_add_figure(result, "anon_max_mib", (double)anon / MIB);
    result_add_figure(result, "anon_over_budget_mib", ((double)anon - (double)index_memory) / MIB);
    result_add_figure(result, "index_ram_max_mib", (double)index / MIB);
    result_add_figure(result, "disk_per_key",
                      facts->filled ? ratio_of((double)facts->disk_bytes, (double)facts->reached)
                                    : (double)NAN);
}

static void add_spill(struct result *result, const struct overflow_facts *facts)
{
    const struct engine_figures *f = &facts->figures;
    result_add_figure(result, "index_disk_per_key",
                      ratio_of((double)f->index_disk_bytes, (double)f->index_spilled_keys));
    result_add_figure(result, "index_written_per_key",
                      ratio_of((double)f->index_written_bytes, (double)facts->reached));
    result_add_figure(result, "spilled_keys", (double)f->index_spilled_keys);
    result_add_figure(result, "runs", (double)f->index_runs);
    result_add_figure(result, "flushes", (double)f->index_flushes);
    result_add_figure(result, "run_merges", (double)f->index_run_merges);
    result_add_figure(result, "stalls", (double)f->index_stalls);
    result_add_figure(result, "index_failures", (double)f->index_failures);
}

void overflow_add_figures(struct result *result, const struct overflow_facts *facts,
                          uint64_t index_memory, bool spills)
{
    add_rates(result, facts);
    add_memory(result, facts, index_memory);
    if (spills) {
        add_spill(result, facts);
    }
    bool opened = facts->open_seconds >= 0.0;
    result_add_figure(result, "open_killed_seconds", opened ? facts->open_seconds : (double)NAN);
    result_add_figure(result, "open_recovered",
                      opened && facts->recovered_records != ENGINE_UNKNOWN
                          ? (double)facts->recovered_records
                          : (double)NAN);
    result_add_figure(result, "open_anon_max_mib",
                      opened ? (double)facts->open_rss_anon_max_bytes / MIB : (double)NAN);
    add_readings(result, facts);
}
