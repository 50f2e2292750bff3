/* Knobs, counts and faults of the simulated machine, and its lock.
 *
 * Invariants:
 *  1. Every call of io.h that returns a status passes simfault_call() once, and is counted there.
 *  2. At most one fault is set; what it did stays readable until the next one is set.
 */
#include <fnmatch.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "caskade.h"
#include "sim_internal.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
_Thread_local unsigned sim_inside;

static struct {
    uint64_t calls[SIMDISK_CALLS];
    bool fault_set;
    struct simdisk_fault fault;
    uint64_t seen;
    uint64_t hits;
    char place[320];
    uint64_t capacity;
    uint64_t inode_limit;
    bool full_refuses_files;
    bool no_allocate;
    bool read_only;
} knobs;

/* Not reset with the machine: a rule taken away stays away until it is given back. */
static char ignored_files[128];
static char ignored_dirs[128];
static uint64_t ignored_syncs;

void sim_enter(void)
{
    sim_inside++;
    pthread_mutex_lock(&lock);
}

void sim_leave(void)
{
    pthread_mutex_unlock(&lock);
    sim_inside--;
}

void sim_fatal(const char *format, ...)
{
    va_list arguments;

    fputs("simdisk: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

const char *simdisk_call_name(enum simdisk_call call)
{
    static const char *const names[SIMDISK_CALLS] = {
        "dir_make",   "dir_open", "dir_sync", "dir_sync_parent",
        "dir_list",   "writable", "rename",   "unlink",
        "dir_remove", "lock",     "open",     "create",
        "size",       "read",     "write",    "allocate",
        "truncate",   "sync",     "map",      "random"};

    return call < SIMDISK_CALLS ? names[call] : "?";
}

static void call_path(const struct sim_inode *inode, const char *name, char *buffer, size_t size)
{
    size_t used;

    buffer[0] = '\0';
    if (inode)
        simfs_path(inode, buffer, size);
    used = strlen(buffer);
    if (name)
        snprintf(buffer + used, size - used, "/%s", name);
}

struct sim_outcome simfault_call(enum simdisk_call call, const struct sim_inode *inode,
                                 const char *name)
{
    struct sim_outcome outcome = {CASK_OK, 0};
    char path[256];

    knobs.calls[call]++;
    if (!knobs.fault_set || !(knobs.fault.calls & SIMDISK_BIT(call)))
        return outcome;
    if (knobs.fault.pattern || knobs.hits == 0)
        call_path(inode, name, path, sizeof path);
    if (knobs.fault.pattern && fnmatch(knobs.fault.pattern, path, 0) != 0)
        return outcome;
    knobs.seen++;
    if (knobs.seen < knobs.fault.nth || (knobs.seen > knobs.fault.nth && !knobs.fault.persistent))
        return outcome;
    if (knobs.hits++ == 0)
        snprintf(knobs.place, sizeof knobs.place, "%s %s", simdisk_call_name(call), path);
    outcome.status = knobs.fault.status;
    outcome.short_permille = knobs.fault.short_permille;
    return outcome;
}

void simdisk_set_fault(const struct simdisk_fault *fault)
{
    sim_enter();
    knobs.fault_set = fault != NULL;
    if (fault) {
        knobs.fault = *fault;
        knobs.seen = 0;
        knobs.hits = 0;
        knobs.place[0] = '\0';
    }
    sim_leave();
}

uint64_t simdisk_fault_hits(void)
{
    uint64_t hits;

    sim_enter();
    hits = knobs.hits;
    sim_leave();
    return hits;
}

uint64_t simdisk_fault_seen(void)
{
    uint64_t seen;

    sim_enter();
    seen = knobs.seen;
    sim_leave();
    return seen;
}

const char *simdisk_fault_place(void)
{
    return knobs.place;
}

uint64_t simdisk_calls(enum simdisk_call call)
{
    uint64_t count;

    sim_enter();
    count = knobs.calls[call];
    sim_leave();
    return count;
}

uint64_t simdisk_failed_syncs(void)
{
    uint64_t count;

    sim_enter();
    count = sim.failed_syncs;
    sim_leave();
    return count;
}

void simfault_reset_counts(void)
{
    sim.failed_syncs = 0;
    memset(knobs.calls, 0, sizeof knobs.calls);
}

void simfault_reset_knobs(void)
{
    simfault_reset_counts();
    memset(&knobs, 0, sizeof knobs);
}

uint64_t simfault_block_limit(void)
{
    return knobs.capacity / SIM_PAGE_BYTES;
}

/* A new name needs an inode; on some systems a full disk refuses it as well. */
bool simfault_refuses_name(void)
{
    uint64_t limit = simfault_block_limit();

    if (knobs.inode_limit > 0 && sim.inodes >= knobs.inode_limit)
        return true;
    return knobs.full_refuses_files && limit > 0 && sim.used_blocks >= limit;
}

bool simfault_allocate_supported(void)
{
    return !knobs.no_allocate;
}

bool simfault_read_only(void)
{
    return knobs.read_only;
}

void simdisk_set_capacity(uint64_t bytes)
{
    sim_enter();
    knobs.capacity = bytes;
    sim_leave();
}

void simdisk_set_inode_limit(uint64_t inodes)
{
    sim_enter();
    knobs.inode_limit = inodes;
    sim_leave();
}

void simdisk_set_full_refuses_files(bool refuses)
{
    sim_enter();
    knobs.full_refuses_files = refuses;
    sim_leave();
}

void simdisk_set_allocate_supported(bool supported)
{
    sim_enter();
    knobs.no_allocate = !supported;
    sim_leave();
}

void simdisk_set_read_only(bool read_only)
{
    sim_enter();
    knobs.read_only = read_only;
    sim_leave();
}

void simdisk_set_clock_ms(uint64_t ms)
{
    sim_enter();
    sim.clock_ms = ms;
    sim_leave();
}

void simdisk_advance_ms(uint64_t ms)
{
    sim_enter();
    sim.clock_ms += ms;
    sim.advanced_ms += ms;
    sim_leave();
}

bool simfault_ignores_sync(const struct sim_inode *inode)
{
    const char *pattern = inode->is_dir ? ignored_dirs : ignored_files;
    char path[256];

    if (pattern[0] == '\0')
        return false;
    simfs_path(inode, path, sizeof path);
    if (path[0] == '\0')
        snprintf(path, sizeof path, "/");
    if (fnmatch(pattern, path, 0) != 0)
        return false;
    ignored_syncs++;
    return true;
}

void simdisk_ignore_file_sync(const char *pattern)
{
    sim_enter();
    snprintf(ignored_files, sizeof ignored_files, "%s", pattern ? pattern : "");
    ignored_syncs = 0;
    sim_leave();
}

void simdisk_ignore_dir_sync(const char *pattern)
{
    sim_enter();
    snprintf(ignored_dirs, sizeof ignored_dirs, "%s", pattern ? pattern : "");
    ignored_syncs = 0;
    sim_leave();
}

uint64_t simdisk_ignored_syncs(void)
{
    uint64_t count;

    sim_enter();
    count = ignored_syncs;
    sim_leave();
    return count;
}
