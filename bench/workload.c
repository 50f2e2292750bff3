#include "workload.h"

#include <string.h>

static const struct workload workloads[] = {
    {"fillrandom", WORKLOAD_FILL, "puts each key once, in random order, into a new store"},
    {"batch", WORKLOAD_BATCH, "the same, --batch puts to an atomic batch"},
    {"overwrite", WORKLOAD_OVERWRITE, "puts each key once more, in another order, a new value"},
    {"readrandom", WORKLOAD_READ, "gets each key once, in random order"},
    {"readmissing", WORKLOAD_READ_MISSING, "gets as many keys that are not there"},
    {"getmany", WORKLOAD_GET_MANY, "gets each key once, --group keys at a time"},
    {"syncalways", WORKLOAD_SYNC, "--sync-ops puts a thread, each durable when it returns"},
    {"reopen", WORKLOAD_REOPEN, "closes the store and times the opening, in keys"},
    {"reopenkill", WORKLOAD_REOPEN_KILL,
     "kills (SIGKILL) a process that filled a new store, times the opening, in keys"},
    {"churn", WORKLOAD_CHURN, "puts each key, then --churn-rounds times anew; disk use over time"},
    {"dictionary", WORKLOAD_DICTIONARY,
     "--num puts over 100000 keys, 100 MB segments, merged at 10 of them; the same"},
    {"mergelatency", WORKLOAD_MERGE_LATENCY, "puts and gets while merging, and while not"},
    {"mergespeed", WORKLOAD_MERGE_SPEED, "merges a store that is 80 % dead, beside cp"},
    {"overflow", WORKLOAD_OVERFLOW,
     "a fill past --index-memory, step by step; then gets, warm and with --cgroup-bytes"},
};

const struct workload *workload_at(size_t i)
{
    return i < sizeof workloads / sizeof workloads[0] ? &workloads[i] : NULL;
}

const struct workload *workload_find(const char *name)
{
    const struct workload *workload = NULL;
    for (size_t i = 0; (workload = workload_at(i)) != NULL && strcmp(workload->name, name) != 0;
         i++)
        ;
    return workload;
}
