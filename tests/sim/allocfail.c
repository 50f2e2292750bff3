/* See allocfail.h. A thread and a page are allocations like any other. */
#include "allocfail.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "sim_internal.h"

static _Atomic uint64_t wanted;
static atomic_bool wanted_for_good;
static _Atomic uint64_t seen;
static _Atomic uint64_t hits;
static const char *_Atomic place;
static _Atomic int64_t mapped_bytes;

void allocfail_set(uint64_t nth, bool persistent)
{
    atomic_store(&wanted, 0);
    atomic_store(&seen, 0);
    atomic_store(&hits, 0);
    atomic_store(&place, "none");
    atomic_store(&wanted_for_good, persistent);
    atomic_store(&wanted, nth);
}

uint64_t allocfail_seen(void)
{
    return atomic_load(&seen);
}

uint64_t allocfail_hits(void)
{
    return atomic_load(&hits);
}

const char *allocfail_place(void)
{
    return atomic_load(&place);
}

int64_t allocfail_mapped_bytes(void)
{
    return atomic_load(&mapped_bytes);
}

static bool fails(const char *kind)
{
    uint64_t nth = atomic_load(&wanted);
    uint64_t now;

    if (sim_inside > 0)
        return false;
    now = atomic_fetch_add(&seen, 1) + 1;
    if (nth == 0 || now < nth || (now > nth && !atomic_load(&wanted_for_good)))
        return false;
    if (atomic_fetch_add(&hits, 1) == 0)
        atomic_store(&place, kind);
    errno = ENOMEM;
    return true;
}

/* The names are given by the linker. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **ret_memory, size_t alignment, size_t size);
char *__real_strdup(const char *text);
void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__real_mremap(void *address, size_t old_size, size_t new_size, int flags, ...);
int __real_munmap(void *address, size_t size);
int __real_mprotect(void *address, size_t size, int protection);
int __real_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mremap(void *address, size_t old_size, size_t new_size, int flags);
int __wrap_munmap(void *address, size_t size);
int __wrap_mprotect(void *address, size_t size, int protection);
int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument);

void *__wrap_malloc(size_t size)
{
    return fails("malloc") ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails("calloc") ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails("realloc") ? NULL : __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails("aligned_alloc") ? NULL : __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    return fails("posix_memalign") ? ENOMEM : __real_posix_memalign(ret_memory, alignment, size);
}

char *__wrap_strdup(const char *text)
{
    return fails("strdup") ? NULL : __real_strdup(text);
}

static int64_t whole_pages(size_t size)
{
    return (int64_t)((size + 4095) / 4096 * 4096);
}

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *mapped;

    if (fails("mmap"))
        return MAP_FAILED;
    mapped = __real_mmap(address, size, protection, flags, fd, offset);
    if (sim_inside == 0 && mapped != MAP_FAILED && !(flags & MAP_FIXED))
        atomic_fetch_add(&mapped_bytes, whole_pages(size));
    return mapped;
}

void *__wrap_mremap(void *address, size_t old_size, size_t new_size, int flags)
{
    void *mapped;

    if (fails("mremap"))
        return MAP_FAILED;
    mapped = __real_mremap(address, old_size, new_size, flags);
    if (sim_inside == 0 && mapped != MAP_FAILED)
        atomic_fetch_add(&mapped_bytes, whole_pages(new_size) - whole_pages(old_size));
    return mapped;
}

int __wrap_munmap(void *address, size_t size)
{
    if (sim_inside == 0)
        atomic_fetch_sub(&mapped_bytes, whole_pages(size));
    return __real_munmap(address, size);
}

int __wrap_mprotect(void *address, size_t size, int protection)
{
    return fails("mprotect") ? -1 : __real_mprotect(address, size, protection);
}

int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument)
{
    return fails("pthread_create") ? EAGAIN
                                   : __real_pthread_create(ret_thread, attributes, run, argument);
}
