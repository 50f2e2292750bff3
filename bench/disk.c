#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "machine.h"

#define OPEN_FOLDERS 16
#define READ_BYTES ((size_t)1 << 20)
#define PAGE_BYTES 4096u

/* nftw hands its callback no context. */
static _Thread_local uint64_t resident_bytes;
static _Thread_local char *read_buffer;

static int failed(const char *what, const char *path)
{
    fprintf(stderr, "caskade-bench: %s %s: %s\n", what, path, strerror(errno));
    return -1;
}

/* Bytes of the file that the page cache holds. */
static int count_resident(int fd, size_t size, uint64_t *ret_bytes)
{
    size_t pages = (size + PAGE_BYTES - 1) / PAGE_BYTES;
    unsigned char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    unsigned char *states = malloc(pages);
    int rc = map != MAP_FAILED && states != NULL && mincore(map, size, states) == 0 ? 0 : -1;
    *ret_bytes = 0;
    for (size_t i = 0; i < pages && rc == 0; i++) {
        *ret_bytes += (states[i] & 1) != 0 ? PAGE_BYTES : 0;
    }
    free(states);
    if (map != MAP_FAILED) {
        munmap(map, size);
    }
    return rc;
}

static int drop_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)ftw;
    if (type != FTW_F || stat->st_size == 0) {
        return 0;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failed("cannot open", path);
    }
    uint64_t bytes = 0;
    int error = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    int rc = error == 0 ? count_resident(fd, (size_t)stat->st_size, &bytes) : -1;
    errno = error != 0 ? error : errno;
    close(fd);
    resident_bytes += bytes;
    return rc == 0 ? 0 : failed("cannot drop from the page cache", path);
}

int disk_drop_cache(const char *dir, uint64_t *ret_resident_bytes)
{
    resident_bytes = 0;
    /* What is not on the disk yet cannot be dropped. */
    if (machine_settle(dir) != 0 || nftw(dir, drop_one, OPEN_FOLDERS, FTW_PHYS) != 0) {
        return -1;
    }
    *ret_resident_bytes = resident_bytes;
    return 0;
}

/* Reads the next part of the file that is there; holes are passed over, since a preset file may be
 * nearly nothing else. 1, 0 at the end, -1 where it fails. */
static int read_part(int fd)
{
    off_t from = lseek(fd, 0, SEEK_CUR);
    off_t data = lseek(fd, from, SEEK_DATA);
    if (data < 0) {
        return errno == ENXIO ? 0 : -1;
    }
    off_t end = lseek(fd, data, SEEK_HOLE);
    off_t at = end < 0 ? -1 : lseek(fd, data, SEEK_SET);
    while (at >= 0 && at < end) {
        ssize_t n = read(fd, read_buffer, READ_BYTES);
        if (n == 0) {
            return 0;
        }
        if (n < 0 && errno != EINTR) {
            return -1;
        }
        at += n > 0 ? n : 0;
    }
    return at < 0 ? -1 : 1;
}

static int read_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat;
    (void)ftw;
    if (type != FTW_F) {
        return 0;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failed("cannot open", path);
    }
    int rc = 0;
    do {
        rc = read_part(fd);
    } while (rc > 0);
    rc = rc == 0 ? 0 : failed("cannot read", path);
    close(fd);
    return rc;
}

int disk_fill_cache(const char *dir)
{
    read_buffer = malloc(READ_BYTES);
    if (read_buffer == NULL) {
        return failed("cannot read", dir);
    }
    int rc = nftw(dir, read_one, OPEN_FOLDERS, FTW_PHYS) == 0 ? 0 : -1;
    free(read_buffer);
    return rc;
}

uint64_t disk_read_bytes(void)
{
    FILE *file = fopen("/proc/self/io", "re");
    if (file == NULL) {
        return DISK_UNKNOWN;
    }
    char line[128];
    uint64_t bytes = DISK_UNKNOWN;
    while (fgets(line, sizeof line, file) != NULL &&
           sscanf(line, "read_bytes: %" SCNu64, &bytes) != 1)
        ;
    fclose(file);
    return bytes;
}

uint64_t disk_device_reads(const char *dir)
{
    struct stat stat_of;
    if (stat(dir, &stat_of) != 0) {
        return DISK_UNKNOWN;
    }
    char path[64];
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/stat", major(stat_of.st_dev),
             minor(stat_of.st_dev));
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return DISK_UNKNOWN; /* file systems without a device of their own */
    }
    uint64_t reads = 0;
    int fields = fscanf(file, "%" SCNu64, &reads);
    fclose(file);
    return fields == 1 ? reads : DISK_UNKNOWN;
}
