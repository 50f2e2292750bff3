#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REMOVE_TRIES 200
#define REMOVE_WAIT_NS 5000000L

/* Where the memory controller is: the hierarchy's folder, and this process's group in it. */
struct place {
    bool v2;
    char root[256];
    char path[512]; /* root and group; cut at its slashes to go up */
};

static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += length) {
        if ((at == list || at[-1] == ',') && strchr(",:\n ", at[length]) != NULL) {
            return true;
        }
    }
    return false;
}

/* The mount point of the hierarchy, from /proc/self/mountinfo. */
static int find_root(struct place *place, bool v2)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (file == NULL) {
        return -1;
    }
    char line[1024];
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        char *type = strstr(line, " - ");
        if (type == NULL || sscanf(line, "%*s %*s %*s %*s %255s", place->root) != 1) {
            continue;
        }
        const char *options = strrchr(type, ' ');
        found = v2 ? strncmp(type, " - cgroup2 ", 11) == 0
                   : strncmp(type, " - cgroup ", 10) == 0 && has_word(options + 1, "memory");
    }
    fclose(file);
    return found ? 0 : -1;
}

/* This process's group, from /proc/self/cgroup. A controller that a hierarchy of version 1 has is
 * not in version 2. */
static int find_place(struct place *place, bool v2)
{
    if (find_root(place, v2) != 0) {
        return -1;
    }
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL) {
        return -1;
    }
    char line[512];
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        const char *controllers = strchr(line, ':');
        const char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL) {
            continue;
        }
        found = v2 ? strncmp(line, "0::", 3) == 0 : has_word(controllers + 1, "memory");
        if (found) {
            snprintf(place->path, sizeof place->path, "%s%.*s", place->root,
                     (int)strcspn(group + 1, "\n"), group + 1);
        }
    }
    fclose(file);
    struct stat stat_of;
    if (found && stat(place->path, &stat_of) != 0) { /* as seen from outside of a container */
        snprintf(place->path, sizeof place->path, "%s/", place->root);
    }
    place->v2 = v2;
    return found ? 0 : -1;
}

/* The group above; false at the hierarchy's root. */
static bool go_up(struct place *place)
{
    char *slash = strrchr(place->path, '/');
    if (slash == NULL || (size_t)(slash - place->path) < strlen(place->root)) {
        return false;
    }
    *slash = '\0';
    return true;
}

static int name_group(struct cgroup *cgroup, const struct place *place, pid_t owner)
{
    int length = snprintf(cgroup->dir, sizeof cgroup->dir, "%s/caskade-bench-%d", place->path,
                          (int)owner);
    return length > 0 && (size_t)length < sizeof cgroup->dir ? 0 : -1;
}

/* Of one of the group's files. */
static int set(const struct cgroup *cgroup, const char *name, const char *value)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", cgroup->dir, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int rc = write(fd, value, strlen(value)) < 0 ? -1 : 0;
    int error = errno;
    close(fd);
    errno = error;
    return rc;
}

static int make_in(struct cgroup *cgroup, const struct place *place, pid_t owner, uint64_t bytes)
{
    char limit[32];
    snprintf(limit, sizeof limit, "%" PRIu64, bytes);
    if (name_group(cgroup, place, owner) != 0 ||
        (mkdir(cgroup->dir, 0700) != 0 && errno != EEXIST)) {
        return -1;
    }
    /* No swap, where there is any: it would let anonymous memory past the limit. */
    (void)set(cgroup, place->v2 ? "memory.swap.max" : "memory.swappiness", "0");
    if (set(cgroup, place->v2 ? "memory.max" : "memory.limit_in_bytes", limit) == 0) {
        return 0;
    }
    int error = errno;
    rmdir(cgroup->dir);
    errno = error;
    return -1;
}

int cgroup_make(struct cgroup *cgroup, pid_t owner, uint64_t bytes)
{
    struct place place;
    if (find_place(&place, false) != 0 && find_place(&place, true) != 0) {
        fprintf(stderr, "caskade-bench: this system has no control groups\n");
        return -1;
    }
    int rc = make_in(cgroup, &place, owner, bytes);
    while (rc != 0 && place.v2 && go_up(&place)) {
        rc = make_in(cgroup, &place, owner, bytes);
    }
    if (rc != 0) {
        fprintf(stderr, "caskade-bench: no control group with a memory limit can be made: %s: %s\n",
                cgroup->dir, strerror(errno));
    }
    return rc;
}

int cgroup_enter(const struct cgroup *cgroup)
{
    if (set(cgroup, "cgroup.procs", "0") != 0) {
        fprintf(stderr, "caskade-bench: cannot enter %s: %s\n", cgroup->dir, strerror(errno));
        return -1;
    }
    return 0;
}

/* A process that has ended may be counted for a moment longer. */
void cgroup_remove(const struct cgroup *cgroup)
{
    const struct timespec wait = {0, REMOVE_WAIT_NS};
    for (unsigned i = 0; i < REMOVE_TRIES && rmdir(cgroup->dir) != 0 && errno == EBUSY; i++) {
        nanosleep(&wait, NULL);
    }
}

void cgroup_remove_left(pid_t owner)
{
    struct place place;
    struct cgroup cgroup;
    if (find_place(&place, false) != 0 && find_place(&place, true) != 0) {
        return;
    }
    do {
        if (name_group(&cgroup, &place, owner) == 0) {
            cgroup_remove(&cgroup);
        }
    } while (place.v2 && go_up(&place));
}
