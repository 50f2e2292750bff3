/* A simulated machine with a disk: the second implementation of src/io/io.h, for tests.
 *
 * Promises:
 *  1. File contents live in one memory file. A mapping handed out by io_map() is that memory mapped
 *     once more, at an address of its own: stores are seen by reads at once, a touch behind the
 *     file's last page or after io_unmap() faults, and AddressSanitizer knows the very byte where
 *     the file ends.
 *  2. Every change is one entry of a log with a total order. A store into a mapping gets into the
 *     log by io_map_written(); simdisk_check() finds bytes that changed without it, but not in
 * files     that are unlinked.
 *  3. What a power loss may leave is built from the log by crashstate.h, never from the live files.
 *  4. After a sync that failed, the pages concerned are clean and not durable: the next sync says
 *     CASK_OK and they are lost all the same, as on Linux.
 *  5. The machine is deterministic: random bytes come from a seed, the wall clock stands still.
 *  6. One lock serialises all calls; any thread may call.
 *
 * A misuse that a real system would punish with a signal or with silent loss (a store into a hole,
 * a write to a file opened for reading, an unnotified store) aborts with a message.
 */
#ifndef CASKADE_SIMDISK_H
#define CASKADE_SIMDISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct simimage;
struct simlog;

/* An empty machine: only a root directory, all knobs at their defaults. Nothing may be open. */
void simdisk_reset(uint64_t seed);

/* Releases all memory. */
void simdisk_finish(void);

/* Handles and mappings that are still open, to find leaks. */
unsigned simdisk_open_handles(void);
unsigned simdisk_open_maps(void);

/* Aborts if a mapped file holds bytes that differ from the logged ones, or anything but zeros
 * behind its end. No store may be under way. Done at every io_unmap() of a writable mapping too. */
void simdisk_check(void);

/* Bytes in use on the disk, and a count of calls by kind since the last reset or load. */
enum simdisk_call {
    SIMDISK_DIR_MAKE,
    SIMDISK_DIR_OPEN,
    SIMDISK_DIR_SYNC,
    SIMDISK_DIR_SYNC_PARENT,
    SIMDISK_DIR_LIST,
    SIMDISK_DIR_WRITABLE,
    SIMDISK_RENAME,
    SIMDISK_UNLINK,
    SIMDISK_DIR_REMOVE,
    SIMDISK_LOCK,
    SIMDISK_OPEN,
    SIMDISK_CREATE, /* io_open with IO_CREATE_NEW */
    SIMDISK_SIZE,
    SIMDISK_READ,
    SIMDISK_WRITE,
    SIMDISK_ALLOCATE,
    SIMDISK_TRUNCATE,
    SIMDISK_SYNC,
    SIMDISK_MAP,
    SIMDISK_RANDOM,
    SIMDISK_CALLS
};
#define SIMDISK_BIT(call) (1u << (call))
#define SIMDISK_ALL_CALLS (SIMDISK_BIT(SIMDISK_CALLS) - 1)
/* Calls that can meet a full disk. */
#define SIMDISK_SPACE_CALLS                                                                        \
    (SIMDISK_BIT(SIMDISK_DIR_MAKE) | SIMDISK_BIT(SIMDISK_RENAME) | SIMDISK_BIT(SIMDISK_LOCK) |     \
     SIMDISK_BIT(SIMDISK_CREATE) | SIMDISK_BIT(SIMDISK_WRITE) | SIMDISK_BIT(SIMDISK_ALLOCATE))
/* Calls that need a descriptor or a mapping. */
#define SIMDISK_DESCRIPTOR_CALLS                                                                   \
    (SIMDISK_BIT(SIMDISK_DIR_OPEN) | SIMDISK_BIT(SIMDISK_DIR_SYNC_PARENT) |                        \
     SIMDISK_BIT(SIMDISK_DIR_LIST) | SIMDISK_BIT(SIMDISK_LOCK) | SIMDISK_BIT(SIMDISK_OPEN) |       \
     SIMDISK_BIT(SIMDISK_CREATE) | SIMDISK_BIT(SIMDISK_MAP))

uint64_t simdisk_used_bytes(void);
uint64_t simdisk_calls(enum simdisk_call call);
uint64_t simdisk_failed_syncs(void); /* of files, since the last reset or load */
const char *simdisk_call_name(enum simdisk_call call);

/* Makes the nth call from now (1 is the next) among those of the mask return status, once or from
 * then on. A write, allocate or truncate that is to fail takes effect for its first
 * short_permille/1000 of the bytes before it does. At most one fault is set; NULL takes it away. */
struct simdisk_fault {
    uint64_t nth;
    uint32_t calls;
    int status;
    bool persistent;
    unsigned short_permille;
    const char *pattern; /* only calls on paths that match, as fnmatch(3); NULL: all */
};
void simdisk_set_fault(const struct simdisk_fault *fault);
/* How often the fault struck, and the call and path it struck first; how many calls were
 * eligible. */
uint64_t simdisk_fault_hits(void);
uint64_t simdisk_fault_seen(void);
const char *simdisk_fault_place(void);

/* The machine's knobs. */
void simdisk_set_capacity(uint64_t bytes);         /* of disk; 0: no limit */
void simdisk_set_inode_limit(uint64_t inodes);     /* files and directories; 0: no limit */
void simdisk_set_full_refuses_files(bool refuses); /* a full disk takes no new names, as XFS */
void simdisk_set_allocate_supported(bool supported);
void simdisk_set_read_only(bool read_only);
void simdisk_set_clock_ms(uint64_t ms);
void simdisk_advance_ms(uint64_t ms); /* both clocks */

/* Takes a rule away (RELIABILITY.md H9): syncs of files, or of directories, whose path matches the
 * pattern return CASK_OK and do nothing. NULL: none. Survives resets and loads. */
void simdisk_ignore_file_sync(const char *pattern);
void simdisk_ignore_dir_sync(const char *pattern);
uint64_t simdisk_ignored_syncs(void); /* since the last change of either pattern */

/* Turns the machine off and on: what is there becomes the image, all of it durable. Nothing may be
 * open. The boot id stays with SAME_BOOT. */
enum simdisk_boot { SIMDISK_SAME_BOOT, SIMDISK_NEW_BOOT };
void simdisk_load(const struct simimage *image, enum simdisk_boot boot);

/* The files as a process sees them now. Released with simimage_release(). */
struct simimage *simdisk_snapshot(void);

/* Starts a log with all that is there as its durable base; with resume not NULL, as if the machine
 * had made the first `position` entries of that log (its image must be loaded). The log belongs to
 * the machine until simdisk_record_end() hands it over, for simlog_release(). */
void simdisk_record_begin(void);
void simdisk_record_resume(const struct simlog *resume, size_t position);
size_t simdisk_log_position(void);
struct simlog *simdisk_record_end(void);

/* Drops clean pages that a failed sync left behind: reads return the old bytes from now on. Needs a
 * log. Files with mappings must not be in use meanwhile. */
void simdisk_evict(void);

#endif
