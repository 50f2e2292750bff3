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

static int run_gnuplot(const char *dir)
{
    pid_t child = fork();
    if (child == 0) {
        if (chdir(dir) == 0) {
            execlp("gnuplot", "gnuplot", NAME ".gp", (char *)NULL);
        }
        _exit(errno == ENOENT ? NOT_FOUND : EXIT_FAILURE);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("caskade-bench: gnuplot");
        return -1;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_FOUND) {
        fprintf(stderr, "caskade-bench: gnuplot is not installed: %s/" NAME ".gp is not drawn\n",
                dir);
        return 0;
    }
    if (status != 0) {
        fprintf(stderr, "caskade-bench: gnuplot failed on %s/" NAME ".gp\n", dir);
        return -1;
    }
    return 0;
}

int plot_draw(const struct results *results, const struct options *options)
{
    if (machine_make_dir(options->plot) != 0 || write_data(results, options) != 0 ||
        write_script(options) != 0) {
        return -1;
    }
    return run_gnuplot(options->plot);
}
