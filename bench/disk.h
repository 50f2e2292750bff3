/* What of a store lies in the page cache, and what is read from the disk for want of it. */
#ifndef BENCH_DISK_H
#define BENCH_DISK_H

#include <stdint.h>

/* What the system does not tell. */
#define DISK_UNKNOWN UINT64_MAX

/* Takes the files under dir out of the page cache, which leaves in it only what somebody has
 * mapped or is writing. *ret_resident_bytes: what is still there. Returns 0, or -1 with a message
 * on stderr. */
int disk_drop_cache(const char *dir, uint64_t *ret_resident_bytes);

/* Reads the files under dir once, from the first to the last byte. Returns 0, or -1 with a message
 * on stderr. */
int disk_fill_cache(const char *dir);

/* Bytes that this process, all its threads, has had fetched from a disk since it began: read_bytes
 * of /proc/self/io, which the kernel counts as it hands a read to the block layer. What the page
 * cache holds does not count, what is read ahead does, page faults do. */
uint64_t disk_read_bytes(void);

/* Reads that the device dir lies on has completed since the machine started, whoever asked. */
uint64_t disk_device_reads(const char *dir);

#endif
