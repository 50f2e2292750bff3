#include "result.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIGURES_A_LINE 3

int results_add(struct results *results, const struct result *result)
{
    if (results->count == results->capacity) {
        size_t capacity = results->capacity == 0 ? 64 : results->capacity * 2;
        struct result *items = realloc(results->items, capacity * sizeof *items);
        if (items == NULL) {
            return -1;
        }
        results->items = items;
        results->capacity = capacity;
    }
    results->items[results->count++] = *result;
    return 0;
}

void results_release(struct results *results)
{
    for (size_t i = 0; i < results->count; i++) {
        free(results->items[i].samples);
        free(results->items[i].steps);
    }
    free(results->items);
    *results = (struct results){NULL, 0, 0};
}

void result_add_figure(struct result *result, const char *name, double value)
{
    assert(result->figure_count < RESULT_FIGURES_MAX);
    struct result_figure *figure = &result->figures[result->figure_count++];
    snprintf(figure->name, sizeof figure->name, "%s", name);
    figure->value = value;
}

const struct result_figure *result_figure(const struct result *result, const char *name)
{
    for (unsigned i = 0; i < result->figure_count; i++) {
        if (strcmp(result->figures[i].name, name) == 0) {
            return &result->figures[i];
        }
    }
    return NULL;
}

double result_ns_per_op(const struct result *result)
{
    return result->ops == 0 ? 0.0 : result->seconds * 1e9 / (double)result->ops;
}

static double ops_per_second(const struct result *result)
{
    return result->seconds > 0.0 ? (double)result->ops / result->seconds : 0.0;
}

static void print_figures(const struct result *result, FILE *file)
{
    for (unsigned i = 0; i < result->figure_count; i++) {
        bool ends = i % FIGURES_A_LINE == FIGURES_A_LINE - 1 || i == result->figure_count - 1;
        double value = result->figures[i].value;
        fprintf(file, "    %22s ", result->figures[i].name);
        if (isnan(value)) {
            fprintf(file, "%-12s", "not known");
        } else {
            fprintf(file, "%-12.6g", value);
        }
        fputs(ends ? "\n" : "", file);
    }
}

void result_print(const struct result *result, FILE *file)
{
    if (result->skipped) {
        fprintf(file, "%-12s : skipped: %s has no merge\n", result->workload, result->engine);
        return;
    }
    fprintf(file, "%-12s : %11.3f micros/op %.0f ops/sec %.6f seconds %" PRIu64 " operations;",
            result->workload, result_ns_per_op(result) / 1e3, ops_per_second(result),
            result->seconds, result->ops);
    if (result->bytes != 0 && result->seconds > 0.0) {
        fprintf(file, " %7.1f MB/s;", (double)result->bytes / 1e6 / result->seconds);
    }
    if (result->timed) {
        fprintf(file, " p50 %.0f p99 %.0f p99.9 %.0f max %.0f ns;", result->p50_ns, result->p99_ns,
                result->p999_ns, result->max_ns);
    }
    if (result->index_ram_bytes != UINT64_MAX && result->num != 0) {
        fprintf(file, " index %.2f bytes/key;",
                (double)result->index_ram_bytes / (double)result->num);
    }
    if (result->recovered_records != UINT64_MAX && result->recovered_records != 0) {
        fprintf(file, " recovered %" PRIu64 " records;", result->recovered_records);
    }
    fprintf(file, " %s, %u thread%s, round %u\n", result->engine, result->threads,
            result->threads == 1 ? "" : "s", result->round);
    if (result->step_count != 0) {
        steps_print(result->steps, result->step_count, file);
    }
    print_figures(result, file);
}

static void print_known(FILE *file, const char *name, uint64_t value)
{
    if (value == UINT64_MAX) {
        fprintf(file, ", \"%s\": null", name);
    } else {
        fprintf(file, ", \"%s\": %" PRIu64, name, value);
    }
}

static void print_latency(FILE *file, const char *name, bool known, double value)
{
    if (known) {
        fprintf(file, ", \"%s\": %.0f", name, value);
    } else {
        fprintf(file, ", \"%s\": null", name);
    }
}

static void print_json_figures(const struct result *result, FILE *file)
{
    if (result->figure_count == 0) {
        return;
    }
    fprintf(file, ", \"figures\": {");
    for (unsigned i = 0; i < result->figure_count; i++) {
        double value = result->figures[i].value;
        fprintf(file, "%s\"%s\": ", i == 0 ? "" : ", ", result->figures[i].name);
        if (isnan(value)) {
            fprintf(file, "null");
        } else {
            fprintf(file, "%.9g", value);
        }
    }
    fprintf(file, "}");
}

void result_print_json(const struct result *result, FILE *file)
{
    if (result->skipped) {
        fprintf(file,
                "{\"engine\": \"%s\", \"workload\": \"%s\", \"threads\": %u, \"round\": %u, "
                "\"skipped\": true}\n",
                result->engine, result->workload, result->threads, result->round);
        return;
    }
    fprintf(file,
            "{\"engine\": \"%s\", \"workload\": \"%s\", \"threads\": %u, \"num\": %" PRIu64
            ", \"round\": %u, \"ops\": %" PRIu64 ", \"group\": %u, \"seconds\": %.9f"
            ", \"ns_per_op\": %.3f",
            result->engine, result->workload, result->threads, result->num, result->round,
            result->ops, result->group, result->seconds, result_ns_per_op(result));
    print_latency(file, "p50_ns", result->timed, result->p50_ns);
    print_latency(file, "p99_ns", result->timed, result->p99_ns);
    print_latency(file, "p999_ns", result->timed, result->p999_ns);
    print_latency(file, "max_ns", result->timed, result->max_ns);
    print_known(file, "rss_anon_bytes", result->rss_anon_bytes);
    print_known(file, "rss_anon_start_bytes", result->rss_anon_start_bytes);
    print_known(file, "disk_bytes", result->disk_bytes);
    print_known(file, "index_ram_bytes", result->index_ram_bytes);
    print_known(file, "recovered_records", result->recovered_records);
    print_json_figures(result, file);
    if (result->sample_count != 0) {
        fprintf(file, ", ");
        series_print_json(result->samples, result->sample_count, file);
    }
    if (result->step_count != 0) {
        fprintf(file, ", ");
        steps_print_json(result->steps, result->step_count, file);
    }
    fprintf(file, "}\n");
}
