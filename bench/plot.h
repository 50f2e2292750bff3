/* Charts, drawn by gnuplot: the medians as bars, disk use over time as lines. */
#ifndef BENCH_PLOT_H
#define BENCH_PLOT_H

#include "options.h"
#include "result.h"

/* Writes caskade-bench.dat and caskade-bench.gp into options->plot, which it makes if need be, and
 * runs gnuplot on them, which draws caskade-bench.svg; without gnuplot it says so and that is all.
 * The same for each result that has samples, as WORKLOAD-ENGINE-xTHREADS-rROUND.dat, .gp and .png.
 * Returns 0, or -1 with a message on stderr. */
int plot_draw(const struct results *results, const struct options *options);

#endif
