/* io.h over POSIX and Linux. Invariants: see io.h. */
#include "io/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/status.h"

struct io_dir {
    int fd;
};

struct io_file {
    int fd;
    bool locked;
};

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* the same */
#endif

#define PAGE_BYTES 4096u
#define MAPPED_ANEW_MAX ((size_t)4 << 20)
#define IO_CHUNK_BYTES ((size_t)1 << 30) /* under the kernel's limit of 2 GiB - 4 KiB a call */

static int status_of(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return CASK_ENOSPC;
    case EROFS:
        return CASK_EROFS;
    case EACCES:
    case EPERM:
        return CASK_EACCES;
    case ENOENT:
        return CASK_NOTFOUND;
    case ENOTDIR:
    case ELOOP:
        return CASK_ENOTSTORE;
    case EEXIST:
        return CASK_EEXIST;
    case ENOMEM:
        return CASK_ENOMEM;
    case EMFILE:
    case ENFILE:
        return CASK_EMFILE;
    case EOPNOTSUPP:
    case ENOSYS:
        return CASK_ENOTSUP;
    default:
        return CASK_EIO;
    }
}

static int wrap_dir(int fd, struct io_dir **ret_dir)
{
    struct io_dir *dir;

    if (fd < 0)
        return status_of(errno);
    dir = malloc(sizeof *dir);
    if (!dir) {
        close(fd);
        return CASK_ENOMEM;
    }
    dir->fd = fd;
    *ret_dir = dir;
    return CASK_OK;
}

static int wrap_file(int fd, struct io_file **ret_file)
{
    struct io_file *file = malloc(sizeof *file);

    if (!file) {
        close(fd);
        return CASK_ENOMEM;
    }
    file->fd = fd;
    file->locked = false;
    *ret_file = file;
    return CASK_OK;
}

int io_dir_make(const char *path)
{
    return mkdir(path, 0700) == 0 ? CASK_OK : status_of(errno);
}

int io_dir_make_at(struct io_dir *parent, const char *name)
{
    return mkdirat(parent->fd, name, 0700) == 0 ? CASK_OK : status_of(errno);
}

/* The user names this one, so a symbolic link in its place is followed. */
int io_dir_open(const char *path, struct io_dir **ret_dir)
{
    return wrap_dir(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), ret_dir);
}

int io_dir_open_at(struct io_dir *parent, const char *name, struct io_dir **ret_dir)
{
    return wrap_dir(openat(parent->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW),
                    ret_dir);
}

void io_dir_close(struct io_dir *dir)
{
    if (!dir)
        return;
    close(dir->fd);
    free(dir);
}

static int sync_fd(int fd, bool whole)
{
    int result;

    do {
        result = whole ? fsync(fd) : fdatasync(fd);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? CASK_OK : status_of(errno);
}

int io_dir_sync(struct io_dir *dir)
{
    return sync_fd(dir->fd, true);
}

uint64_t io_free_bytes(struct io_dir *dir)
{
    struct statvfs about;

    return fstatvfs(dir->fd, &about) == 0 ? (uint64_t)about.f_bavail * about.f_frsize : UINT64_MAX;
}

int io_dir_sync_parent(struct io_dir *dir)
{
    int fd = openat(dir->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status;

    if (fd < 0)
        return status_of(errno);
    status = sync_fd(fd, true);
    close(fd);
    return status;
}

static int append_name(char **names, size_t *used, size_t *room, const char *name)
{
    size_t size = strlen(name) + 1;

    if (*used + size + 1 > *room) {
        size_t wanted = *room * 2 + size + 1;
        char *grown = realloc(*names, wanted);

        if (!grown)
            return CASK_ENOMEM;
        *names = grown;
        *room = wanted;
    }
    memcpy(*names + *used, name, size);
    *used += size;
    return CASK_OK;
}

static int read_names(DIR *stream, char **names, size_t *used, size_t *room)
{
    struct dirent *entry;
    int status = CASK_OK;

    for (errno = 0; status == CASK_OK && (entry = readdir(stream)); errno = 0) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = append_name(names, used, room, entry->d_name);
    }
    if (status == CASK_OK && errno != 0)
        status = status_of(errno);
    return status;
}

int io_dir_list(struct io_dir *dir, char **ret_names)
{
    size_t room = 256;
    size_t used = 0;
    char *names = malloc(room);
    int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    int status;

    if (!stream)
        status = status_of(errno);
    else
        status = names ? read_names(stream, &names, &used, &room) : CASK_ENOMEM;
    if (stream)
        closedir(stream);
    else if (fd >= 0)
        close(fd);
    if (status != CASK_OK) {
        free(names);
        return status;
    }
    names[used] = '\0';
    *ret_names = names;
    return CASK_OK;
}

int io_dir_writable(struct io_dir *dir)
{
    struct statvfs system;

    if (fstatvfs(dir->fd, &system) == 0 && (system.f_flag & ST_RDONLY))
        return CASK_EROFS;
    return faccessat(dir->fd, ".", W_OK | X_OK, 0) == 0 ? CASK_OK : status_of(errno);
}

int io_rename(struct io_dir *dir, const char *from, const char *to)
{
    return renameat(dir->fd, from, dir->fd, to) == 0 ? CASK_OK : status_of(errno);
}

int io_unlink(struct io_dir *dir, const char *name)
{
    return unlinkat(dir->fd, name, 0) == 0 ? CASK_OK : status_of(errno);
}

int io_dir_remove(const char *path)
{
    return rmdir(path) == 0 ? CASK_OK : status_of(errno);
}

int io_dir_remove_at(struct io_dir *parent, const char *name)
{
    return unlinkat(parent->fd, name, AT_REMOVEDIR) == 0 ? CASK_OK : status_of(errno);
}

static int open_regular(struct io_dir *dir, const char *name, int flags, struct io_file **ret_file)
{
    struct stat info;
    int fd;

    do {
        fd = openat(dir->fd, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return status_of(errno);
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return CASK_ENOTSTORE;
    }
    return wrap_file(fd, ret_file);
}

int io_open(struct io_dir *dir, const char *name, enum io_open_mode mode, struct io_file **ret_file)
{
    switch (mode) {
    case IO_READ:
        return open_regular(dir, name, O_RDONLY, ret_file);
    case IO_WRITE:
        return open_regular(dir, name, O_RDWR, ret_file);
    case IO_CREATE_NEW:
        return open_regular(dir, name, O_RDWR | O_CREAT | O_EXCL, ret_file);
    }
    return CASK_EINVAL;
}

/* flock belongs to the open file: closing an unrelated descriptor of the same file keeps it, unlike
 * a lock by fcntl. */
static int lock_once(struct io_dir *dir, const char *name, struct io_file **ret_file,
                     bool *ret_gone)
{
    struct stat info;
    struct io_file *file;
    int status = open_regular(dir, name, O_RDWR | O_CREAT, &file);
    int result;

    *ret_gone = false;
    if (status != CASK_OK)
        return status;
    do {
        result = flock(file->fd, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    if (result != 0)
        status = errno == EWOULDBLOCK ? CASK_ELOCKED : status_of(errno);
    else if (fstat(file->fd, &info) != 0)
        status = status_of(errno);
    else
        *ret_gone = info.st_nlink == 0; /* the holder before unlinked what we had opened */
    file->locked = status == CASK_OK && !*ret_gone;
    if (file->locked)
        *ret_file = file;
    else
        io_close(file);
    return status;
}

int io_lock(struct io_dir *dir, const char *name, struct io_file **ret_file)
{
    bool gone;
    int status;

    do {
        status = lock_once(dir, name, ret_file, &gone);
    } while (status == CASK_OK && gone);
    return status;
}

void io_close(struct io_file *file)
{
    if (!file)
        return;
    if (file->locked)
        flock(file->fd, LOCK_UN); /* a forked child may hold the same open file */
    close(file->fd);
    free(file);
}

int io_size(struct io_file *file, uint64_t *ret_size)
{
    struct stat info;

    if (fstat(file->fd, &info) != 0)
        return status_of(errno);
    *ret_size = (uint64_t)info.st_size;
    return CASK_OK;
}

int io_disk_bytes(struct io_file *file, uint64_t *ret_bytes)
{
    struct stat info;

    if (fstat(file->fd, &info) != 0)
        return status_of(errno);
    *ret_bytes = (uint64_t)info.st_blocks * 512;
    return CASK_OK;
}

int io_read(struct io_file *file, uint64_t offset, void *buffer, size_t size, size_t *ret_read)
{
    uint8_t *to = buffer;
    size_t done = 0;

    while (done < size) {
        size_t want = size - done < IO_CHUNK_BYTES ? size - done : IO_CHUNK_BYTES;
        ssize_t got = pread(file->fd, to + done, want, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return status_of(errno);
        if (got == 0)
            break;
        done += (size_t)got;
    }
    if (ret_read)
        *ret_read = done;
    else if (done < size)
        return CASK_ECORRUPT;
    return CASK_OK;
}

int io_write(struct io_file *file, uint64_t offset, const void *data, size_t size)
{
    const uint8_t *from = data;
    size_t done = 0;

    while (done < size) {
        size_t want = size - done < IO_CHUNK_BYTES ? size - done : IO_CHUNK_BYTES;
        ssize_t put = pwrite(file->fd, from + done, want, (off_t)(offset + done));

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return status_of(errno);
        if (put == 0)
            return CASK_EIO;
        done += (size_t)put;
    }
    return CASK_OK;
}

/* fallocate itself: the C library's posix_fallocate falls back to writing zeros. */
int io_allocate(struct io_file *file, uint64_t size)
{
    int result;

    do {
        result = fallocate(file->fd, 0, 0, (off_t)size);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? CASK_OK : status_of(errno);
}

int io_truncate(struct io_file *file, uint64_t size)
{
    int result;

    do {
        result = ftruncate(file->fd, (off_t)size);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? CASK_OK : status_of(errno);
}

int io_sync(struct io_file *file)
{
    return sync_fd(file->fd, false);
}

/* Maps what was stored to anew, for reading. While dirty pages are written the kernel takes write
 * access away from one after the other, and each time interrupts all processors that the process
 * runs on; here it does so once for many. The page that the range ends in is stored to further. Of
 * much, some may have gone from memory already, which is not to be read again for this. */
static void map_as_read(uint8_t *start, size_t size)
{
    size_t whole = size & ~(size_t)(PAGE_BYTES - 1);

    if (whole > 0 && madvise(start, whole, MADV_DONTNEED) == 0 && whole <= MAPPED_ANEW_MAX)
        (void)madvise(start, whole, MADV_POPULATE_READ);
}

/* A msync that is told to wait is an fdatasync of the range; of a range that is writable in a part
 * only, two. */
int io_sync_mapped(struct io_file *file, void *address, uint64_t offset, uint64_t size)
{
    int result;

    (void)file;
    map_as_read((uint8_t *)address + offset, (size_t)size);
    do {
        result = msync((uint8_t *)address + offset, (size_t)size, MS_SYNC);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? CASK_OK : status_of(errno);
}

/* Reserves more than is needed, to place the mapping at a huge page boundary. What is not had by
 * io_map_populate() is read at random places, so that a fault reads one page: without that advice
 * it reads as much as the device reads ahead, and with the advice for huge pages 2 MiB. */
int io_map(struct io_file *file, size_t size, bool writable, void **ret_address)
{
    size_t length = (size_t)align_up(size, 4096);
    size_t padded = length + IO_HUGE_PAGE_BYTES;
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    uint8_t *raw = mmap(NULL, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                        0);
    uint8_t *start;

    if (raw == MAP_FAILED)
        return errno == ENOMEM ? CASK_EMFILE : status_of(errno);
    start = (uint8_t *)(uintptr_t)align_up((uintptr_t)raw, IO_HUGE_PAGE_BYTES);
    if (start > raw)
        munmap(raw, (size_t)(start - raw));
    munmap(start + length, (size_t)(raw + padded - (start + length)));
    if (mmap(start, length, protection, MAP_SHARED | MAP_FIXED, file->fd, 0) == MAP_FAILED) {
        int status = errno == ENOMEM ? CASK_EMFILE : status_of(errno);

        munmap(start, length);
        return status;
    }
    (void)madvise(start, length, MADV_RANDOM);
    *ret_address = start;
    return CASK_OK;
}

void io_unmap(void *address, size_t size)
{
    munmap(address, (size_t)align_up(size, 4096));
}

/* Threads read there meanwhile: the kernel exchanges the mappings while whoever faults waits, and
 * the bytes are the same. The checker of threads takes the library's mmap for a store to all of
 * them. */
static bool map_in_place(struct io_file *file, uint8_t *start, size_t length, size_t offset)
{
#ifdef __SANITIZE_THREAD__
    return syscall(SYS_mmap, start, length, PROT_READ, MAP_SHARED | MAP_FIXED, file->fd, offset) !=
           -1;
#else
    return mmap(start, length, PROT_READ, MAP_SHARED | MAP_FIXED, file->fd, (off_t)offset) !=
           MAP_FAILED;
#endif
}

/* A new mapping in the place of the old one: the advice for huge pages is gone with it, and so are
 * the marks of the pages that were stored to, which a sync would else take away one by one. */
void io_map_settle(struct io_file *file, void *address, size_t offset, size_t size)
{
    uint8_t *start = (uint8_t *)address + offset;
    size_t length = (size_t)align_up(size, PAGE_BYTES);

    if (map_in_place(file, start, length, offset))
        (void)madvise(start, length, MADV_RANDOM);
    else
        (void)mprotect(start, length, PROT_READ);
}

void io_map_populate(void *address, size_t offset, size_t size)
{
    size_t start = offset & ~(size_t)(PAGE_BYTES - 1);

    (void)madvise((uint8_t *)address + start, offset + size - start, MADV_HUGEPAGE);
    (void)madvise((uint8_t *)address + start, offset + size - start, MADV_POPULATE_WRITE);
}

void io_read_ahead(struct io_file *file, uint64_t offset, size_t size)
{
    (void)posix_fadvise(file->fd, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

void io_map_read_ahead(const void *address, size_t offset, size_t size)
{
    size_t start = offset & ~(size_t)(PAGE_BYTES - 1);

    (void)madvise((uint8_t *)(uintptr_t)address + start, offset + size - start, MADV_WILLNEED);
}

void io_close_on_exec(int fd)
{
    int flags = fcntl(fd, F_GETFD);

    if (flags >= 0)
        (void)fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
}

uint64_t io_thread_reads(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_THREAD, &usage) == 0 ? (uint64_t)usage.ru_inblock : 0;
}

void io_map_written(struct io_file *file, uint64_t offset, size_t size)
{
    (void)file;
    (void)offset;
    (void)size;
}

static uint64_t clock_in_ms(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t io_clock_ms(void)
{
    return clock_in_ms(CLOCK_REALTIME);
}

uint64_t io_monotonic_ms(void)
{
    return clock_in_ms(CLOCK_MONOTONIC);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* All zeros where the system does not tell: then any crash is taken for a power loss. */
void io_boot_id(uint8_t ret_id[16])
{
    char text[64] = {0};
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    size_t digits = 0;

    memset(ret_id, 0, 16);
    if (fd < 0)
        return;
    if (read(fd, text, sizeof text - 1) > 0) {
        for (const char *p = text; *p && digits < 32; p++) {
            int digit = hex_digit(*p);

            if (digit >= 0) {
                ret_id[digits / 2] = (uint8_t)(ret_id[digits / 2] << 4 | digit);
                digits++;
            }
        }
    }
    close(fd);
}

int io_random(void *buffer, size_t size)
{
    uint8_t *to = buffer;
    size_t done = 0;

    while (done < size) {
        ssize_t got = getrandom(to + done, size - done, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return status_of(errno);
        done += (size_t)got;
    }
    return CASK_OK;
}
