#include "summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SUBJECT "caskade"
#define ROUNDS_MAX 1000

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double summary_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2.0;
}

static bool matches(const struct result *result, const struct summary_key *key)
{
    return result->threads == key->threads && strcmp(result->engine, key->engine) == 0 &&
           strcmp(result->workload, key->workload) == 0;
}

/* The result of that round, NULL where there is none; the last of a workload listed twice. */
static const struct result *find(const struct results *results, const struct summary_key *key,
                                 unsigned round)
{
    for (size_t i = results->count; i > 0; i--) {
        const struct result *result = &results->items[i - 1];
        if (result->round == round && matches(result, key)) {
            return result;
        }
    }
    return NULL;
}

/* Collects one figure of each round into values; returns how many. */
static size_t collect(const struct results *results, const struct summary_key *key,
                      double (*figure)(const struct result *), double values[ROUNDS_MAX])
{
    size_t count = 0;
    for (unsigned round = 1; round <= ROUNDS_MAX; round++) {
        const struct result *result = find(results, key, round);
        if (result != NULL) {
            values[count++] = figure(result);
        }
    }
    return count;
}

static double p50_ns(const struct result *result)
{
    return result->p50_ns;
}

static double p99_ns(const struct result *result)
{
    return result->p99_ns;
}

static double p999_ns(const struct result *result)
{
    return result->p999_ns;
}

static double max_ns(const struct result *result)
{
    return result->max_ns;
}

double summary_ns_per_op(const struct results *results, const struct summary_key *key)
{
    double values[ROUNDS_MAX];
    size_t count = collect(results, key, result_ns_per_op, values);
    return count == 0 ? 0.0 : summary_median(values, count);
}

/* Sorts the values. */
static struct summary_ratio spread(double *values, size_t count)
{
    struct summary_ratio spread = {(unsigned)count, 0.0, 0.0, 0.0};
    if (count != 0) {
        spread.median = summary_median(values, count);
        spread.min = values[0];
        spread.max = values[count - 1];
    }
    return spread;
}

/* How many times as fast a is as b. */
static double compare(const struct result *a, const struct result *b)
{
    if (a->step_count == 0 || b->step_count == 0) {
        return result_ns_per_op(b) / result_ns_per_op(a);
    }
    double keys = (double)(a->ops < b->ops ? a->ops : b->ops);
    return steps_seconds_at(b->steps, b->step_count, keys) /
           steps_seconds_at(a->steps, a->step_count, keys);
}

struct summary_ratio summary_compare(const struct results *results, const struct summary_key *fast,
                                     const struct summary_key *slow)
{
    double values[ROUNDS_MAX];
    size_t count = 0;
    for (unsigned round = 1; round <= ROUNDS_MAX; round++) {
        const struct result *a = find(results, fast, round);
        const struct result *b = find(results, slow, round);
        if (a != NULL && b != NULL && a->seconds > 0.0) {
            values[count++] = compare(a, b);
        }
    }
    return spread(values, count);
}

struct summary_ratio summary_figure(const struct results *results, const struct summary_key *key,
                                    const char *name)
{
    double values[ROUNDS_MAX];
    size_t count = 0;
    for (unsigned round = 1; round <= ROUNDS_MAX; round++) {
        const struct result *result = find(results, key, round);
        const struct result_figure *figure = result != NULL ? result_figure(result, name) : NULL;
        if (figure != NULL && !isnan(figure->value)) {
            values[count++] = figure->value;
        }
    }
    return spread(values, count);
}

struct report {
    const struct results *results;
    const struct options *options;
    FILE *file;
    FILE *json;
};

static double median_of(const struct report *report, const struct summary_key *key,
                        double (*figure)(const struct result *))
{
    double values[ROUNDS_MAX];
    size_t count = collect(report->results, key, figure, values);
    return count == 0 ? 0.0 : summary_median(values, count);
}

static double largest_of(const struct report *report, const struct summary_key *key,
                         double (*figure)(const struct result *))
{
    double values[ROUNDS_MAX];
    size_t count = collect(report->results, key, figure, values);
    double largest = 0.0;
    for (size_t i = 0; i < count; i++) {
        largest = values[i] > largest ? values[i] : largest;
    }
    return largest;
}

static void print_median(const struct report *report, const struct summary_key *key)
{
    double values[ROUNDS_MAX];
    size_t count = collect(report->results, key, result_ns_per_op, values);
    if (count == 0) {
        return;
    }
    double ns = summary_median(values, count);
    double p50 = median_of(report, key, p50_ns);
    double p99 = median_of(report, key, p99_ns);
    double p999 = median_of(report, key, p999_ns);
    double longest = largest_of(report, key, max_ns);
    fprintf(report->file, "%-12s %7u  %-8s %10.1f %12.0f", key->workload, key->threads, key->engine,
            ns, ns > 0.0 ? 1e9 / ns : 0.0);
    if (longest > 0.0) { /* calls were timed */
        fprintf(report->file, " %8.0f %8.0f %8.0f %12.0f", p50, p99, p999, longest);
    }
    fprintf(report->file, "\n");
    if (report->json == NULL) {
        return;
    }
    fprintf(report->json,
            "{\"median_of\": \"%s\", \"engine\": \"%s\", \"threads\": %u, \"rounds\": %zu, "
            "\"ns_per_op\": %.3f",
            key->workload, key->engine, key->threads, count, ns);
    if (longest > 0.0) {
        fprintf(report->json,
                ", \"p50_ns\": %.0f, \"p99_ns\": %.0f, \"p999_ns\": %.0f, \"longest_ns\": %.0f",
                p50, p99, p999, longest);
    }
    fprintf(report->json, "}\n");
}

static void print_ratio(const struct report *report, const struct summary_key *fast,
                        const struct summary_key *slow)
{
    struct summary_ratio ratio = summary_compare(report->results, fast, slow);
    if (ratio.rounds == 0) {
        return;
    }
    fprintf(report->file, "%10.2f  (%.2f to %.2f)  %s %s x%u / %s %s x%u\n", ratio.median,
            ratio.min, ratio.max, fast->engine, fast->workload, fast->threads, slow->engine,
            slow->workload, slow->threads);
    if (report->json != NULL) {
        fprintf(report->json,
                "{\"ratio_of\": {\"engine\": \"%s\", \"workload\": \"%s\", \"threads\": %u}, "
                "\"to\": {\"engine\": \"%s\", \"workload\": \"%s\", \"threads\": %u}, "
                "\"rounds\": %u, \"median\": %.4f, \"min\": %.4f, \"max\": %.4f}\n",
                fast->engine, fast->workload, fast->threads, slow->engine, slow->workload,
                slow->threads, ratio.rounds, ratio.median, ratio.min, ratio.max);
    }
}

/* Caskade against a peer. */
static void print_against_peer(const struct report *report, const struct summary_key *key)
{
    const struct summary_key own = {SUBJECT, key->workload, key->threads};
    if (strcmp(key->engine, SUBJECT) != 0) {
        print_ratio(report, &own, key);
    }
}

static void print_against_one_thread(const struct report *report, const struct summary_key *key)
{
    const struct summary_key one = {key->engine, key->workload, 1};
    if (key->threads != 1) {
        print_ratio(report, key, &one);
    }
}

/* Groups against single calls. */
static void print_against_single(const struct report *report, const struct summary_key *key)
{
    const char *single_name = strcmp(key->workload, "getmany") == 0 ? "readrandom"
                              : strcmp(key->workload, "batch") == 0 ? "fillrandom"
                                                                    : NULL;
    if (single_name != NULL) {
        const struct summary_key single = {key->engine, single_name, key->threads};
        print_ratio(report, key, &single);
    }
}

/* The rounds' ratios of one figure, a time: how many times as fast the first is. */
static struct summary_ratio compare_figure(const struct results *results,
                                           const struct summary_key *fast,
                                           const struct summary_key *slow, const char *name)
{
    double values[ROUNDS_MAX];
    size_t count = 0;
    for (unsigned round = 1; round <= ROUNDS_MAX; round++) {
        const struct result *a = find(results, fast, round);
        const struct result *b = find(results, slow, round);
        const struct result_figure *x = a != NULL ? result_figure(a, name) : NULL;
        const struct result_figure *y = b != NULL ? result_figure(b, name) : NULL;
        if (x != NULL && y != NULL && x->value > 0.0 && y->value > 0.0) {
            values[count++] = y->value / x->value;
        }
    }
    return spread(values, count);
}

/* Times of the fill are compared by its steps, over the keys that both have put. */
static bool is_time_of_gets(const char *figure)
{
    size_t length = strlen(figure);
    return (strncmp(figure, "warm_", 5) == 0 || strncmp(figure, "cold_", 5) == 0) &&
           strcmp(figure + length - 3, "_ns") == 0;
}

/* Caskade's times of gets against a peer's, where the workload tells them. */
static void print_figures_against_peer(const struct report *report, const struct summary_key *key)
{
    const struct summary_key own = {SUBJECT, key->workload, key->threads};
    const struct result *first = find(report->results, key, 1);
    if (first == NULL || first->step_count == 0 || strcmp(key->engine, SUBJECT) == 0) {
        return;
    }
    for (unsigned i = 0; i < first->figure_count; i++) {
        const char *name = first->figures[i].name;
        struct summary_ratio ratio = compare_figure(report->results, &own, key, name);
        if (!is_time_of_gets(name) || ratio.rounds == 0) {
            continue;
        }
        fprintf(report->file, "%10.2f  (%.2f to %.2f)  %s %s x%u / %s %s x%u, %s\n", ratio.median,
                ratio.min, ratio.max, own.engine, own.workload, own.threads, key->engine,
                key->workload, key->threads, name);
        if (report->json != NULL) {
            fprintf(report->json,
                    "{\"ratio_of\": {\"engine\": \"%s\", \"workload\": \"%s\", \"threads\": %u, "
                    "\"figure\": \"%s\"}, \"to\": {\"engine\": \"%s\"}, \"rounds\": %u, "
                    "\"median\": %.4f, \"min\": %.4f, \"max\": %.4f}\n",
                    own.engine, own.workload, own.threads, name, key->engine, ratio.rounds,
                    ratio.median, ratio.min, ratio.max);
        }
    }
}

/* What only this workload tells. */
static void print_figures(const struct report *report, const struct summary_key *key)
{
    const struct result *first = find(report->results, key, 1);
    for (unsigned i = 0; first != NULL && i < first->figure_count; i++) {
        const char *name = first->figures[i].name;
        struct summary_ratio figure = summary_figure(report->results, key, name);
        if (figure.rounds == 0) {
            continue; /* no round could tell */
        }
        fprintf(report->file, "%12.6g  (%.6g to %.6g)  %s %s x%u %s\n", figure.median, figure.min,
                figure.max, key->engine, key->workload, key->threads, name);
        if (report->json != NULL) {
            fprintf(report->json,
                    "{\"median_of\": \"%s\", \"engine\": \"%s\", \"threads\": %u, \"rounds\": %u, "
                    "\"figure\": \"%s\", \"median\": %.9g, \"min\": %.9g, \"max\": %.9g}\n",
                    key->workload, key->engine, key->threads, figure.rounds, name, figure.median,
                    figure.min, figure.max);
        }
    }
}

static bool has_figures(const struct results *results)
{
    for (size_t i = 0; i < results->count; i++) {
        if (results->items[i].figure_count != 0) {
            return true;
        }
    }
    return false;
}

/* A workload that is listed twice is reported once, where it stands last. */
static bool is_listed_again(const struct options *options, size_t index)
{
    for (size_t w = index + 1; w < options->workload_count; w++) {
        if (options->workloads[w] == options->workloads[index]) {
            return true;
        }
    }
    return false;
}

static void for_each_key(const struct report *report,
                         void (*print)(const struct report *, const struct summary_key *))
{
    const struct options *options = report->options;
    for (size_t w = 0; w < options->workload_count; w++) {
        if (is_listed_again(options, w)) {
            continue;
        }
        for (size_t t = 0; t < options->thread_count; t++) {
            for (size_t e = 0; e < options->engine_count; e++) {
                const struct summary_key key = {options->engines[e]->name,
                                                options->workloads[w]->name, options->threads[t]};
                print(report, &key);
            }
        }
    }
}

void summary_print(const struct results *results, const struct options *options, FILE *file,
                   FILE *json)
{
    const struct report report = {results, options, file, json};
    fprintf(file,
            "\nMedians of %u round%s. Percentiles are of calls, in ns; longest: of all rounds\n",
            options->rounds, options->rounds == 1 ? "" : "s");
    fprintf(file, "%-12s %7s  %-8s %10s %12s %8s %8s %8s %12s\n", "workload", "threads", "engine",
            "ns/op", "ops/sec", "p50", "p99", "p99.9", "longest");
    for_each_key(&report, print_median);
    fprintf(file, "\nHow many times as fast: median (smallest to largest round); xN: N threads\n");
    for_each_key(&report, print_against_peer);
    for_each_key(&report, print_figures_against_peer);
    for_each_key(&report, print_against_one_thread);
    for_each_key(&report, print_against_single);
    if (has_figures(results)) {
        fprintf(file, "\nFigures of single workloads: median (smallest to largest round)\n");
        for_each_key(&report, print_figures);
    }
}
