/* The workloads about merging, for engines that have it. Each makes a store of its own and leaves
 * it open, for no other workload. What they find out goes into the figures of the result:
 *
 *  churn, dictionary: disk use and live bytes over time (the result's samples), and how much is
 *     written for it.
 *     Every key is put over and over, in another order each time; what the last time put is read
 *     and compared at the end.
 *  mergelatency: the same load in phases with automatic merging and without, in turns; each ratio
 *     compares two phases that follow one another, and is the median of all such pairs. Before each
 *     phase the store is brought into the same state: half of the keys overwritten, several times
 *     over, with merging off, then opened again. A pair in which no merge ran is left out; if
 *     none is left the workload fails.
 *  mergespeed: a store whose segments are all 80 % dead, merged by one call; as many bytes as live
 *     in it are copied with cp, before and after. It fails if merging leaves the dead bytes there.
 */
#ifndef BENCH_MERGE_H
#define BENCH_MERGE_H

#include "load.h"
#include "result.h"
#include "turn.h"
#include "workload.h"

/* Whether a workload is one of these. */
bool merge_is_about(enum workload_kind kind);

/* Runs one of them. Samples go to turn->series. Returns 0, or -1 with a message on stderr. */
int merge_run(struct turn *turn, enum workload_kind kind, struct load_outcome *ret_outcome,
              struct result *result);

#endif
