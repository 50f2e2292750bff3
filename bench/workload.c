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
