/* Memory of the simulated disk: file contents and mappings of them.
 *
 * Invariants:
 *  1. All contents lie in one memory file, which the simulation maps once in full (the view). A
 *     file has one slot of it, of 2^n bytes; a free slot is all zeros.
 *  2. A mapping is the same part of the memory file, mapped again at a 2 MiB boundary of a reserved
 *     range: as far as the file's last page, the rest of it unreadable. It follows every change of
 *     size. Freed addresses are not handed out again until the range is used up.
 *  3. A slot never moves while it is mapped for stores and large enough: io_map() makes it as large
 *     as the mapping at once.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "caskade.h"
#include "io/io.h"
#include "sim_internal.h"

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif
#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

#define VIEW_BYTES ((size_t)32 << 30)
#define RANGE_BYTES ((size_t)32 << 30)
#define RANGE_UNITS (RANGE_BYTES / IO_HUGE_PAGE_BYTES)
#define CLASS_MIN 12u
#define CLASS_MAX 33u
#define PUNCH_BYTES ((size_t)1 << 20)

struct sim_map {
    struct sim_map *next;
    struct sim_inode *file;
    uint8_t *address;
    size_t size;  /* asked for */
    size_t pages; /* bytes that are mapped now, whole pages */
    size_t valid; /* bytes that may be touched now */
    size_t unit;
    size_t units;
    bool writable;
    bool protected;
};

struct free_slots {
    size_t count;
    size_t capacity;
    size_t *offsets;
};

static int memory_fd = -1;
static uint8_t *view;
static size_t view_used;
static struct free_slots free_slots[CLASS_MAX + 1];
static uint8_t *range;
static struct sim_map **unit_owner; /* NULL: free */
static size_t next_unit;

static size_t round_up(size_t size, size_t unit)
{
    return (size + unit - 1) / unit * unit;
}

static void memory_start(void)
{
    uint8_t *raw;

    if (view)
        return;
    memory_fd = memfd_create("simdisk", MFD_CLOEXEC);
    if (memory_fd < 0 || ftruncate(memory_fd, (off_t)VIEW_BYTES) != 0)
        sim_fatal("no memory file");
    view = mmap(NULL, VIEW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory_fd, 0);
    raw = mmap(NULL, RANGE_BYTES + IO_HUGE_PAGE_BYTES, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (view == MAP_FAILED || raw == MAP_FAILED)
        sim_fatal("no address space");
    (void)madvise(view, VIEW_BYTES, MADV_DONTDUMP);
    range = (uint8_t *)round_up((size_t)raw, IO_HUGE_PAGE_BYTES);
    unit_owner = sim_allocate(RANGE_UNITS * sizeof *unit_owner);
    memset(unit_owner, 0, RANGE_UNITS * sizeof *unit_owner);
}

void simmem_finish(void)
{
    for (size_t i = 0; i <= CLASS_MAX; i++) {
        free(free_slots[i].offsets);
        memset(&free_slots[i], 0, sizeof free_slots[i]);
    }
    if (!view)
        return;
    munmap(view, VIEW_BYTES);
    munmap(range, RANGE_BYTES);
    close(memory_fd);
    free(unit_owner);
    view = NULL;
    unit_owner = NULL;
    view_used = 0;
    next_unit = 0;
}

static unsigned class_of(size_t size)
{
    unsigned class = CLASS_MIN;

    while (((size_t)1 << class) < size)
        class ++;
    return class;
}

static uint8_t *slot_take(unsigned class)
{
    struct free_slots *list = &free_slots[class];
    size_t size = (size_t)1 << class;
    size_t offset;

    if (list->count > 0)
        return view + list->offsets[--list->count];
    offset = round_up(view_used, size < IO_HUGE_PAGE_BYTES ? size : IO_HUGE_PAGE_BYTES);
    if (class > CLASS_MAX || offset + size > VIEW_BYTES)
        sim_fatal("the simulated disk holds too much");
    view_used = offset + size;
    return view + offset;
}

static void slot_give(uint8_t *slot, unsigned class, size_t dirty)
{
    struct free_slots *list = &free_slots[class];

    if (dirty > PUNCH_BYTES) {
        if (fallocate(memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, slot - view,
                      (off_t)round_up(dirty, SIM_PAGE_BYTES)) != 0)
            sim_fatal("cannot empty a slot");
    } else {
        memset(slot, 0, round_up(dirty, SIM_PAGE_BYTES));
    }
    if (list->count == list->capacity) {
        list->capacity = list->capacity * 2 + 16;
        list->offsets = sim_reallocate(list->offsets, list->capacity * sizeof *list->offsets);
    }
    list->offsets[list->count++] = (size_t)(slot - view);
}

/* Makes the mapping fit the file's size and slot. */
static void map_follow(struct sim_map *map, bool moved)
{
    struct sim_inode *file = map->file;
    size_t valid = file->size < map->size ? file->size : map->size;
    size_t pages = round_up(valid, SIM_PAGE_BYTES);
    size_t from = moved ? 0 : map->pages;
    int protection = map->writable && !map->protected ? PROT_READ | PROT_WRITE : PROT_READ;

    ASAN_UNPOISON_MEMORY_REGION(map->address, map->pages);
    if (pages > from) {
        int populate = pages - from <= PUNCH_BYTES ? MAP_POPULATE : 0;
        off_t offset = file->data - view + (off_t)from;

        if (mmap(map->address + from, pages - from, protection, MAP_SHARED | MAP_FIXED | populate,
                 memory_fd, offset) == MAP_FAILED)
            sim_fatal("cannot map");
    }
    if (pages < map->pages &&
        mmap(map->address + pages, map->pages - pages, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        sim_fatal("cannot unmap");
    map->pages = pages;
    map->valid = valid;
    if (pages > valid)
        ASAN_POISON_MEMORY_REGION(map->address + valid, pages - valid);
}

void simmem_grow(struct sim_inode *file, size_t capacity)
{
    unsigned class = class_of(capacity);
    uint8_t *slot;

    memory_start();
    if (capacity <= file->capacity)
        return;
    slot = slot_take(class);
    if (file->high_water > 0)
        memcpy(slot, file->data, file->high_water);
    if (file->data)
        slot_give(file->data, class_of(file->capacity), file->high_water);
    file->data = slot;
    file->capacity = (size_t)1 << class;
    for (struct sim_map *map = file->maps; map; map = map->next)
        map_follow(map, true);
}

void simmem_resize(struct sim_inode *file, size_t size)
{
    simmem_grow(file, size);
    if (size < file->size)
        memset(file->data + size, 0, file->size - size);
    file->size = size;
    if (size > file->high_water)
        file->high_water = size;
    for (struct sim_map *map = file->maps; map; map = map->next)
        map_follow(map, false);
}

void simmem_free(struct sim_inode *file)
{
    if (file->data)
        slot_give(file->data, class_of(file->capacity), file->high_water);
    file->data = NULL;
    file->capacity = file->size = file->high_water = 0;
}

/* Next fit: what was unmapped a moment ago stays unreadable as long as can be. */
static bool units_take(size_t units, size_t *ret_unit)
{
    size_t start = next_unit;

    for (size_t tried = 0; tried < RANGE_UNITS;) {
        size_t run = 0;

        if (start + units > RANGE_UNITS) {
            tried += RANGE_UNITS - start;
            start = 0;
            continue;
        }
        while (run < units && !unit_owner[start + run])
            run++;
        if (run == units) {
            next_unit = start + units;
            *ret_unit = start;
            return true;
        }
        start += run + 1;
        tried += run + 1;
    }
    return false;
}

int simmem_map(struct sim_inode *file, size_t size, bool writable, void **ret_address)
{
    size_t units = round_up(size, IO_HUGE_PAGE_BYTES) / IO_HUGE_PAGE_BYTES + 1; /* and a gap */
    struct sim_map *map;
    size_t unit;

    memory_start();
    if (size == 0)
        return CASK_EIO; /* mmap says EINVAL */
    if (!units_take(units, &unit))
        return CASK_EMFILE;
    map = sim_allocate(sizeof *map);
    memset(map, 0, sizeof *map);
    map->file = file;
    map->address = range + unit * IO_HUGE_PAGE_BYTES;
    map->size = size;
    map->unit = unit;
    map->units = units;
    map->writable = writable;
    if (writable)
        simmem_grow(file, size);
    for (size_t i = 0; i < units; i++)
        unit_owner[unit + i] = map;
    map->next = file->maps;
    file->maps = map;
    map_follow(map, true);
    sim.maps++;
    *ret_address = map->address;
    return CASK_OK;
}

static struct sim_map *map_at(const void *address, size_t size)
{
    size_t offset = (size_t)((const uint8_t *)address - range);
    struct sim_map *map = NULL;

    if (view && (const uint8_t *)address >= range && offset < RANGE_BYTES)
        map = unit_owner[offset / IO_HUGE_PAGE_BYTES];
    if (!map || size > map->size || (const uint8_t *)address < map->address ||
        (const uint8_t *)address + size > map->address + map->size)
        sim_fatal("no mapping of %zu bytes at %p", size, address);
    return map;
}

struct sim_inode *simmem_unmap(void *address, size_t size, bool *ret_writable)
{
    struct sim_map *map = map_at(address, size);
    struct sim_inode *file = map->file;
    struct sim_map **link = &file->maps;

    if (map->address != address || map->size != size)
        sim_fatal("io_unmap(%p, %zu) is not what was mapped: %p, %zu", address, size,
                  (void *)map->address, map->size);
    while (*link != map)
        link = &(*link)->next;
    *link = map->next;
    ASAN_UNPOISON_MEMORY_REGION(map->address, map->pages);
    if (map->pages > 0 &&
        mmap(map->address, map->pages, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        sim_fatal("cannot unmap");
    for (size_t i = 0; i < map->units; i++)
        unit_owner[map->unit + i] = NULL;
    *ret_writable = map->writable;
    free(map);
    sim.maps--;
    return file;
}

void simmem_require_mapped(const void *address, size_t size)
{
    const struct sim_map *map = map_at(address, size);

    if ((size_t)((const uint8_t *)address - map->address) + size > map->pages)
        sim_fatal("%zu bytes at %p lie behind the file's end", size, address);
}

void simmem_protect(void *address, size_t size)
{
    struct sim_map *map = map_at(address, size);

    map->protected = true;
    if (map->pages > 0 && mprotect(map->address, map->pages, PROT_READ) != 0)
        sim_fatal("cannot protect");
}

bool simmem_may_store(const struct sim_inode *file, size_t offset, size_t size)
{
    for (const struct sim_map *map = file->maps; map; map = map->next)
        if (map->writable && offset + size <= map->size)
            return true;
    return false;
}
