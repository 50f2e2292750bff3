/* What the benchmark asks of the machine: memory, disk space, directories. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdint.h>

/* Bytes of RAM the machine has. */
uint64_t machine_memory_bytes(void);

/* Bytes of this process's anonymous memory in RAM (RssAnon of /proc/self/status); 0 where the
 * system does not say. */
uint64_t machine_rss_anon_bytes(void);

/* Bytes that the files under dir occupy on disk. 0 where dir cannot be read. */
uint64_t machine_disk_bytes(const char *dir);

/* Makes dir; removes dir and everything in it. A missing dir is fine for the latter. Return 0, or
 * -1 with a message on stderr. */
int machine_make_dir(const char *dir);
int machine_remove_dir(const char *dir);

/* Writes and deletes a file of that size in dir: memory that a virtual machine has freed goes back
 * to its host, and touching it anew would be charged to whoever runs next. Then waits until what
 * others left to be written is written. Returns 0, or -1 with a message on stderr. */
int machine_warm(const char *dir, uint64_t bytes);

/* Waits until all that was written to dir's file system is on the disk. Returns 0, or -1 with a
 * message on stderr. */
int machine_settle(const char *dir);

/* Writes a file of that size in dir, lets it settle and copies it with cp, which finds it in the
 * page cache: the time of cp, and the time until the copy was synced as well. Leaves no file.
 * Returns 0, or -1 with a message on stderr. */
int machine_time_copy(const char *dir, uint64_t bytes, double *ret_seconds,
                      double *ret_synced_seconds);

#endif
