#include "plot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"
#include "summary.h"

#define NAME "caskade-bench"
#define NOT_FOUND 127

static FILE *create(const char *dir, const char *name)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = length > 0 && (size_t)length < sizeof path ? fopen(path, "we") : NULL;
    if (file == NULL) {
        fprintf(stderr, "caskade-bench: cannot write %s in %s: %s\n", name, dir, strerror(errno));
    }
    return file;
}

static int finish(FILE *file, const char *name)
{
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        fprintf(stderr, "caskade-bench: cannot write %s: %s\n", name, strerror(errno));
        return -1;
    }
    return 0;
}

/* A line per workload and thread count, a column per engine; "?" where nothing was measured. */
static int write_data(const struct results *results, const struct options *options)
{
    FILE *file = create(options->plot, NAME ".dat");
    if (file == NULL) {
        return -1;
    }
    fprintf(file, "workload");
    for (size_t e = 0; e < options->engine_count; e++) {
        fprintf(file, "\t%s", options->engines[e]->name);
    }
    for (size_t w = 0; w < options->workload_count; w++) {
        for (size_t t = 0; t < options->thread_count; t++) {
            fprintf(file, "\n%s x%u", options->workloads[w]->name, options->threads[t]);
            for (size_t e = 0; e < options->engine_count; e++) {
                struct summary_key key = {options->engines[e]->name, options->workloads[w]->name,
                                          options->threads[t]};
                double ns = summary_ns_per_op(results, &key);
                if (ns > 0.0) {
                    fprintf(file, "\t%.3f", ns);
                } else {
                    fprintf(file, "\t?");
                }
            }
        }
    }
    fprintf(file, "\n");
    return finish(file, NAME ".dat");
}

static int write_script(const struct options *options)
{
    FILE *file = create(options->plot, NAME ".gp");
    if (file == NULL) {
        return -1;
    }
    fprintf(file,
            "set terminal svg size 1000,500 background rgb 'white'\n"
            "set output '" NAME ".svg'\n"
            "set datafile separator '\\t'\n"
            "set datafile missing '?'\n"
            "set title '%llu keys of %zu bytes, values of %zu bytes; medians, rounds: %u'\n"
            "set style data histogram\n"
            "set style histogram clustered gap 1\n"
            "set style fill solid 0.8 border -1\n"
            "set logscale y\n"
            "set ylabel 'ns per operation (logarithmic)'\n"
            "set grid ytics\n"
            "set xtics rotate by -30\n"
            "set key outside right top\n"
            "plot for [i=2:%zu] '" NAME ".dat' using i:xtic(1) title columnheader(i)\n",
            (unsigned long long)options->num, options->key_bytes, options->value_bytes,
            options->rounds, options->engine_count + 1);
    return finish(file, NAME ".gp");
}

static int run_gnuplot(const char *dir, const char *script)
{
    pid_t child = fork();
    if (child == 0) {
        if (chdir(dir) == 0) {
            execlp("gnuplot", "gnuplot", script, (char *)NULL);
        }
        _exit(errno == ENOENT ? NOT_FOUND : EXIT_FAILURE);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("caskade-bench: gnuplot");
        return -1;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND) {
        fprintf(stderr, "caskade-bench: gnuplot is not installed: %s/%s is not drawn\n", dir,
                script);
        return 0;
    }
    if (status != 0) {
        fprintf(stderr, "caskade-bench: gnuplot failed on %s/%s\n", dir, script);
        return -1;
    }
    return 0;
}

static int write_series_data(const struct result *result, const char *dir, const char *name)
{
    FILE *file = create(dir, name);
    if (file == NULL) {
        return -1;
    }
    series_print_data(result->samples, result->sample_count, file);
    return finish(file, name);
}

static int write_series_script(const struct result *result, const char *dir, const char *stem,
                               const char *name)
{
    FILE *file = create(dir, name);
    if (file == NULL) {
        return -1;
    }
    fprintf(file,
            "set terminal png size 1000,500 background rgb 'white'\n"
            "set output '%s.png'\n"
            "set datafile separator '\\t'\n"
            "set key autotitle columnhead outside right top\n"
            "set title '%s: %s, %llu keys, %llu puts'\n"
            "set xlabel 'seconds'\n"
            "set ylabel 'MB'\n"
            "set yrange [0:*]\n"
            "set grid\n"
            "plot '%s.dat' using 1:($3/1e6) title 'disk use' with lines lw 2, \\\n"
            "     '' using 1:($4/1e6) title 'live' with lines lw 2, \\\n"
            "     '' using 1:($4*2/1e6) title 'twice live' with lines dt 2\n",
            stem, result->workload, result->engine, (unsigned long long)result->num,
            (unsigned long long)result->ops, stem);
    return finish(file, name);
}

static int draw_series(const struct result *result, const char *dir)
{
    char stem[3 * RESULT_NAME_BYTES + 32];
    char data[sizeof stem + 4];
    char script[sizeof stem + 4];
    snprintf(stem, sizeof stem, "%s-%s-x%u-r%u", result->workload, result->engine, result->threads,
             result->round);
    snprintf(data, sizeof data, "%s.dat", stem);
    snprintf(script, sizeof script, "%s.gp", stem);
    if (write_series_data(result, dir, data) != 0 ||
        write_series_script(result, dir, stem, script) != 0) {
        return -1;
    }
    return run_gnuplot(dir, script);
}

int plot_draw(const struct results *results, const struct options *options)
{
    if (results->count == 0) {
        return 0; /* all workloads were skipped */
    }
    if (machine_make_dir(options->plot) != 0 || write_data(results, options) != 0 ||
        write_script(options) != 0) {
        return -1;
    }
    int rc = run_gnuplot(options->plot, NAME ".gp");
    for (size_t i = 0; i < results->count && rc == 0; i++) {
        if (results->items[i].sample_count != 0) {
            rc = draw_series(&results->items[i], options->plot);
        }
    }
    return rc;
}
