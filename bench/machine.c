#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ticks.h"

#define PATH_BYTES 4096
#define OPEN_FOLDERS 16
#define WARM_BLOCK_BYTES ((size_t)1 << 20)

static int failed(const char *what, const char *path)
{
    fprintf(stderr, "caskade-bench: %s %s: %s\n", what, path, strerror(errno));
    return -1;
}

uint64_t machine_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
}

uint64_t machine_rss_anon_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL) {
        return 0;
    }
    char line[256];
    unsigned long long kib = 0;
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "RssAnon: %llu", &kib) != 1)
        ;
    fclose(file);
    return (uint64_t)kib * 1024;
}

/* nftw hands its callback no context. */
static _Thread_local uint64_t disk_blocks;

static int add_blocks(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)path;
    (void)ftw;
    if (type == FTW_F) {
        disk_blocks += (uint64_t)stat->st_blocks;
    }
    return 0;
}

uint64_t machine_disk_bytes(const char *dir)
{
    disk_blocks = 0;
    return nftw(dir, add_blocks, OPEN_FOLDERS, FTW_PHYS) == 0 ? disk_blocks * 512 : 0;
}

int machine_make_dir(const char *dir)
{
    return mkdir(dir, 0700) == 0 || errno == EEXIST ? 0 : failed("cannot make", dir);
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat;
    (void)type;
    (void)ftw;
    return remove(path);
}

int machine_remove_dir(const char *dir)
{
    if (nftw(dir, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT) {
        return 0;
    }
    return failed("cannot remove", dir);
}

static int write_file(int fd, uint64_t bytes)
{
    char *block = malloc(WARM_BLOCK_BYTES);
    if (block == NULL) {
        return -1;
    }
    memset(block, 0x5a, WARM_BLOCK_BYTES);
    uint64_t done = 0;
    while (done < bytes) {
        ssize_t n = write(fd, block, WARM_BLOCK_BYTES);
        if (n < 0 && errno != EINTR) {
            break;
        }
        done += n > 0 ? (uint64_t)n : 0;
    }
    free(block);
    return done >= bytes ? 0 : -1;
}

int machine_warm(const char *dir, uint64_t bytes)
{
    char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/warm", dir);
    if (length < 0 || (size_t)length >= sizeof path) {
        errno = ENAMETOOLONG;
        return failed("cannot warm memory in", dir);
    }
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        return failed("cannot make", path);
    }
    int rc = write_file(fd, bytes);
    if (rc != 0) {
        failed("cannot write", path);
    }
    unlink(path);
    if (ftruncate(fd, 0) != 0 || syncfs(fd) != 0) {
        rc = failed("cannot sync", dir);
    }
    close(fd);
    return rc;
}

int machine_settle(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return failed("cannot open", dir);
    }
    int rc = syncfs(fd) == 0 ? 0 : failed("cannot sync", dir);
    close(fd);
    return rc;
}

static int make_file(const char *path, uint64_t bytes)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        return failed("cannot make", path);
    }
    int rc = write_file(fd, bytes) == 0 && ftruncate(fd, (off_t)bytes) == 0
                 ? 0
                 : failed("cannot write", path);
    close(fd);
    return rc;
}

static int run_cp(char *from, char *to)
{
    extern char **environ;
    char *const argv[] = {"cp", from, to, NULL};
    pid_t child = 0;
    int error = posix_spawnp(&child, "cp", NULL, NULL, argv, environ);
    if (error != 0) {
        errno = error;
        return failed("cannot run cp on", from);
    }
    int status = 0;
    pid_t ended = 0;
    while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR)
        ;
    if (ended != child || status != 0) {
        fprintf(stderr, "caskade-bench: cp failed on %s\n", from);
        return -1;
    }
    return 0;
}

static int sync_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failed("cannot open", path);
    }
    int rc = fsync(fd) == 0 ? 0 : failed("cannot sync", path);
    close(fd);
    return rc;
}

int machine_time_copy(const char *dir, uint64_t bytes, double *ret_seconds,
                      double *ret_synced_seconds)
{
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    int length = snprintf(from, sizeof from, "%s/copy-from", dir);
    if (length < 0 || (size_t)length >= sizeof from) {
        errno = ENAMETOOLONG;
        return failed("cannot copy in", dir);
    }
    snprintf(to, sizeof to, "%s/copy-to", dir); /* shorter */
    int rc = make_file(from, bytes) == 0 ? machine_settle(dir) : -1;
    uint64_t start_ns = clock_ns();
    rc = rc == 0 ? run_cp(from, to) : -1;
    *ret_seconds = (double)(clock_ns() - start_ns) / 1e9;
    rc = rc == 0 ? sync_file(to) : -1;
    *ret_synced_seconds = (double)(clock_ns() - start_ns) / 1e9;
    unlink(from);
    unlink(to);
    return rc;
}
