/* Every system call on store files is behind this header and nowhere else. Two implementations are
 * picked at link time: posix.c, and the simulated disk of the tests.
 *
 * Promises:
 *  1. Files are opened relative to one directory with O_NOFOLLOW|O_CLOEXEC|O_NONBLOCK and must be
 *     regular files. Names are made from integers by the callers, never from file contents.
 *  2. Short reads, short writes and EINTR are looped over here; nobody above sees them.
 *  3. Every failure is one CASK_E* status; errno does not cross this header.
 *  4. Nothing is synced unless io_sync, io_sync_mapped or io_dir_sync is called, and a failed sync
 *     is never retried.
 *  5. A store into a mapping is followed by io_map_written(), so that the simulated disk knows what
 *     is dirty. posix.c does nothing there.
 */
#ifndef CASKADE_IO_H
#define CASKADE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IO_CHECKED __attribute__((warn_unused_result))

/* Mappings of files start at multiples of this, so that the kernel can back them with huge
 * pages. */
#define IO_HUGE_PAGE_BYTES ((size_t)2 << 20)
#define IO_PAGE_BYTES_MAX ((size_t)64 << 10) /* of any machine */

struct io_dir;
struct io_file;

enum io_open_mode {
    IO_READ,      /* an existing file, for reading */
    IO_WRITE,     /* an existing file, for reading and writing */
    IO_CREATE_NEW /* a new file, for reading and writing, mode 0600; CASK_EEXIST if there is one */
};

/* Directories. A missing directory or file is CASK_NOTFOUND; a path that is not a directory is
 * CASK_ENOTSTORE. io_dir_make makes it with mode 0700, CASK_EEXIST if it is there already. */
IO_CHECKED int io_dir_make(const char *path);
IO_CHECKED int io_dir_open(const char *path, struct io_dir **ret_dir);
IO_CHECKED int io_dir_make_at(struct io_dir *parent, const char *name);
IO_CHECKED int io_dir_open_at(struct io_dir *parent, const char *name, struct io_dir **ret_dir);
IO_CHECKED int io_dir_sync(struct io_dir *dir);
/* Syncs the directory that holds dir itself, so that dir's own name is durable. */
IO_CHECKED int io_dir_sync_parent(struct io_dir *dir);
void io_dir_close(struct io_dir *dir);

/* The names in a directory except "." and "..", in one malloc'ed block of NUL-terminated strings
 * one behind the other, ended by an empty one; the caller frees it. */
IO_CHECKED int io_dir_list(struct io_dir *dir, char **ret_names);

/* Whether dir is on a local writable file system and the process may write there: CASK_OK,
 * CASK_EROFS or CASK_EACCES. */
IO_CHECKED int io_dir_writable(struct io_dir *dir);

IO_CHECKED int io_rename(struct io_dir *dir, const char *from, const char *to);
IO_CHECKED int io_unlink(struct io_dir *dir, const char *name);
IO_CHECKED int io_dir_remove(const char *path);
IO_CHECKED int io_dir_remove_at(struct io_dir *parent, const char *name);

/* Takes an flock on DIR/name, creating the file if missing, until io_close of *ret_file. The
 * outcome is CASK_ELOCKED at once if any other holder exists, in this process or another. A holder
 * may unlink the file. */
IO_CHECKED int io_lock(struct io_dir *dir, const char *name, struct io_file **ret_file);

IO_CHECKED int io_open(struct io_dir *dir, const char *name, enum io_open_mode mode,
                       struct io_file **ret_file);
void io_close(struct io_file *file);

/* For a descriptor that a library has opened on a file of the store: closed by exec from now on. */
void io_close_on_exec(int fd);

/* Bytes that are free for this user on the file system; UINT64_MAX where that is not known. */
uint64_t io_free_bytes(struct io_dir *dir);

/* Bytes in the file, and bytes it occupies on disk. */
IO_CHECKED int io_size(struct io_file *file, uint64_t *ret_size);
IO_CHECKED int io_disk_bytes(struct io_file *file, uint64_t *ret_bytes);

/* Reads exactly size bytes at offset. Where the file ends first, *ret_read (if not NULL) tells how
 * many bytes there were and the call is CASK_OK; with ret_read NULL that is CASK_ECORRUPT. */
IO_CHECKED int io_read(struct io_file *file, uint64_t offset, void *buffer, size_t size,
                       size_t *ret_read);

/* Writes all size bytes at offset, or fails; on a failure any part may have been written. */
IO_CHECKED int io_write(struct io_file *file, uint64_t offset, const void *data, size_t size);

/* Makes sure that [0, size) of the file has disk blocks and is part of the file, zeros where
 * nothing was written. CASK_ENOTSUP where the file system cannot. On an error the size may be
 * anything up to size. */
IO_CHECKED int io_allocate(struct io_file *file, uint64_t size);

IO_CHECKED int io_truncate(struct io_file *file, uint64_t size);
IO_CHECKED int io_sync(struct io_file *file); /* fdatasync: data and size */

/* The same for [offset, offset + size) alone of the file's mapping at address, and the file's size.
 * Pages beyond keep what io_map_populate() did for them, which io_sync() undoes: a page that was
 * made durable has to be made ready for stores anew. offset is a multiple of IO_PAGE_BYTES_MAX; the
 * range may end anywhere. */
IO_CHECKED int io_sync_mapped(struct io_file *file, void *address, uint64_t offset, uint64_t size);

/* Maps the first size bytes of the file shared, at a 2 MiB boundary; the part beyond the file's end
 * must not be touched until io_allocate has covered it. The mapping outlives io_close of the file.
 * Reads will be at random places. */
IO_CHECKED int io_map(struct io_file *file, size_t size, bool writable, void **ret_address);
void io_unmap(void *address, size_t size);

/* Takes write access away from [offset, offset + size) of the file's mapping at address, whose
 * bytes stay as they are from now on: a stray store faults. Others may read there meanwhile. offset
 * is a multiple of IO_HUGE_PAGE_BYTES. */
void io_map_settle(struct io_file *file, void *address, size_t offset, size_t size);

/* Brings [offset, offset + size) of a writable mapping into memory, ready for stores. Advice
 * only. */
void io_map_populate(void *address, size_t offset, size_t size);

/* Asks for a range of a file, or of a mapping, to be brought into memory, without waiting for it.
 * Advice only. */
void io_read_ahead(struct io_file *file, uint64_t offset, size_t size);
void io_map_read_ahead(const void *address, size_t offset, size_t size);

/* Grows whenever the calling thread has something read from a disk. */
uint64_t io_thread_reads(void);

/* Tells that bytes were stored at [offset, offset + size) of file's writable mapping. */
void io_map_written(struct io_file *file, uint64_t offset, size_t size);

/* Milliseconds since 1970 by the wall clock (may jump), and a clock that never goes back. */
uint64_t io_clock_ms(void);
uint64_t io_monotonic_ms(void);

/* 16 bytes that differ after every boot of the machine. */
void io_boot_id(uint8_t ret_id[16]);

/* Unpredictable bytes. */
IO_CHECKED int io_random(void *buffer, size_t size);

#endif
