/* A memory limit for one process and its page cache: a control group of its own, of version 1 or 2,
 * whichever has the memory controller on this machine.
 *
 *  1. The group is made below the one this process is in, so that what limits this one goes on to
 *     hold. Version 2 may not allow that (no group with processes hands controllers down): then
 *     beside it, or further up. No group but the new one is changed.
 *  2. One group at a time for each owner, named after its process id, so that another process can
 *     remove what a killed owner left; the maker may be a child of the owner.
 */
#ifndef BENCH_CGROUP_H
#define BENCH_CGROUP_H

#include <stdint.h>
#include <sys/types.h>

struct cgroup {
    char dir[512];
};

/* Makes the owner's group, with that limit. Returns 0, or -1 with a message on stderr
 * that says why there can be none. */
int cgroup_make(struct cgroup *cgroup, pid_t owner, uint64_t bytes);

/* Moves the calling process into it. Returns 0, or -1 with a message on stderr. */
int cgroup_enter(const struct cgroup *cgroup);

/* Removes it; its processes must have ended, or be about to. */
void cgroup_remove(const struct cgroup *cgroup);

/* Removes what the owner of that id has left. */
void cgroup_remove_left(pid_t owner);

#endif
