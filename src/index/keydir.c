#include "index/keydir.h"

#include <string.h>

#include "base/pages.h"
#include "index/keydir_table.h"

#define WRITABLE_STEPS 16u /* in which a reservation is made writable, of so many bytes each: */
#define WRITABLE_STEP_MIN ((uint64_t)1 << 20)
#define WRITABLE_STEP_MAX ((uint64_t)64 << 20)

/* ---- geometry -------------------------------------------------------------------------------- */

/* A reader's: a set of values that belong together, and the generation they are of. False while
 * there is no table. */
static inline bool home_seen(const struct keydir *keydir, uint32_t tag, uint64_t *ret_home,
                             uint32_t *ret_generation)
{
    for (;;) {
        uint32_t before = atomic_load_explicit(&keydir->generation, memory_order_acquire);
        uint64_t size = atomic_load_explicit(&keydir->size, memory_order_acquire);
        uint64_t grown = atomic_load_explicit(&keydir->grown, memory_order_acquire);
        uint64_t cursor = atomic_load_explicit(&keydir->cursor, memory_order_acquire);
        uint64_t home;

        if ((before & 1) != 0 ||
            atomic_load_explicit(&keydir->generation, memory_order_relaxed) != before)
            continue;
        home = home_in(size, tag);
        *ret_generation = before;
        *ret_home = grown != 0 && home >= cursor ? home_in(grown, tag) : home;
        return size != 0;
    }
}

void keydir_set_geometry(struct keydir *keydir, uint64_t size, uint64_t grown, uint64_t cursor)
{
    uint32_t generation = atomic_load_explicit(&keydir->generation, memory_order_relaxed);

    atomic_store_explicit(&keydir->generation, generation + 1, memory_order_relaxed);
    atomic_store_explicit(&keydir->size, size, memory_order_release);
    atomic_store_explicit(&keydir->grown, grown, memory_order_release);
    atomic_store_explicit(&keydir->cursor, cursor, memory_order_release);
    atomic_store_explicit(&keydir->generation, generation + 2, memory_order_release);
    keydir->full_at = capacity(size, FULL_AT_PERCENT);
}

/* ---- memory ---------------------------------------------------------------------------------- */

void keydir_set_phase(struct keydir *keydir, uint32_t number, uint32_t of)
{
    keydir->phase = (uint32_t)((uint64_t)number * KEYDIR_PHASES / of);
    keydir->growth_percent = of < KEYDIR_MANY ? GROWTH_ALONE_PERCENT : GROWTH_AMONG_PERCENT;
}

int keydir_init(struct keydir *keydir, size_t reserve_bytes, struct budget *budget)
{
    void *memory;
    int status;

    memset(keydir, 0, sizeof *keydir);
    status = pages_reserve((size_t)align_up(reserve_bytes, KEYDIR_PAGE_BYTES), &memory);
    if (status != CASK_OK)
        return status;
    keydir->buckets = memory;
    keydir->reserved_bytes = (size_t)align_up(reserve_bytes, KEYDIR_PAGE_BYTES);
    keydir->budget = budget;
    keydir_set_phase(keydir, 0, 1);
    return CASK_OK;
}

void keydir_set_bounds(struct keydir *keydir, uint64_t least_bytes, uint64_t most_bytes)
{
    keydir->least_bytes = least_bytes;
    keydir->most_bytes = most_bytes;
}

static void give_all(struct keydir *keydir)
{
    budget_give(keydir->budget, keydir->committed_bytes - keydir->excess_bytes);
    budget_settle(keydir->budget, keydir->excess_bytes);
    keydir->excess_bytes = 0;
}

void keydir_release(struct keydir *keydir)
{
    if (!keydir->buckets)
        return;
    pages_release(keydir->buckets, keydir->reserved_bytes);
    give_all(keydir);
    keydir->buckets = NULL;
}

void keydir_empty(struct keydir *keydir)
{
    if (keydir->committed_bytes > 0) {
        pages_make_small(keydir->buckets, (size_t)keydir->committed_bytes);
        pages_discard(keydir->buckets, (size_t)keydir->committed_bytes);
    }
    give_all(keydir);
    keydir->committed_bytes = 0;
    keydir->limit = 0;
    keydir->grows = false;
    keydir->homes_due = 0;
    atomic_store_explicit(&keydir->awaits_fresh, false, memory_order_relaxed);
    atomic_store_explicit(&keydir->fresh_end, 0, memory_order_relaxed);
    atomic_store_explicit(&keydir->count, 0, memory_order_relaxed);
    keydir_set_geometry(keydir, 0, 0, 0);
}

/* In large steps: each waits for whatever else is done to the process's address space. */
static int make_writable(struct keydir *keydir, uint64_t bytes)
{
    uint64_t step = min_u64(max_u64(keydir->reserved_bytes / WRITABLE_STEPS, WRITABLE_STEP_MIN),
                            WRITABLE_STEP_MAX);
    uint64_t steps = (bytes + step - 1) / step;
    uint64_t wanted = min_u64(align_up(steps * step, KEYDIR_PAGE_BYTES), keydir->reserved_bytes);
    int status;

    if (bytes <= keydir->writable_bytes)
        return CASK_OK;
    status = pages_commit(keydir->buckets, (size_t)keydir->writable_bytes,
                          (size_t)(wanted - keydir->writable_bytes));
    if (status == CASK_OK)
        keydir->writable_bytes = wanted;
    return status;
}

static bool take_beside_reserve(const struct keydir *keydir, uint64_t bytes)
{
    struct budget *budget = keydir->budget;

    return budget_take_below(budget, bytes, budget->limit_bytes - budget->reserve_bytes);
}

bool keydir_set_aside(struct keydir *keydir, uint64_t bytes)
{
    if (!take_beside_reserve(keydir, bytes))
        return false;
    keydir->aside_bytes += bytes;
    return true;
}

void keydir_end_aside(struct keydir *keydir)
{
    budget_give(keydir->budget, keydir->aside_bytes);
    keydir->aside_bytes = 0;
}

/* Whether there is room in the budget; what cannot be refused goes beyond it otherwise. */
static bool take(struct keydir *keydir, uint64_t bytes, bool overdraws, uint64_t *ret_excess)
{
    struct budget *budget = keydir->budget;

    *ret_excess = 0;
    if (keydir->overdraws && keydir->aside_bytes >= bytes) {
        keydir->aside_bytes -= bytes;
        return true;
    }
    if (take_beside_reserve(keydir, bytes))
        return true;
    if (keydir->overdraws) {
        budget_exceed(budget, bytes);
        *ret_excess = bytes;
    } else if (overdraws) {
        budget_overdraw(budget, bytes);
    }
    return keydir->overdraws || overdraws;
}

int keydir_commit(struct keydir *keydir, uint64_t buckets)
{
    uint64_t bytes = align_up(buckets * BUCKET_BYTES, KEYDIR_PAGE_BYTES);
    uint64_t more = bytes > keydir->committed_bytes ? bytes - keydir->committed_bytes : 0;
    uint64_t excess;
    int status;

    if (more == 0)
        return CASK_OK;
    if (bytes > keydir->reserved_bytes ||
        (keydir->most_bytes != 0 && bytes > keydir->most_bytes && !keydir->overdraws))
        return CASK_ENOMEM;
    if (!take(keydir, more, bytes <= keydir->least_bytes, &excess))
        return CASK_ENOMEM;
    status = make_writable(keydir, bytes);
    if (status != CASK_OK) {
        budget_give(keydir->budget, more - excess);
        budget_settle(keydir->budget, excess);
        return status;
    }
    keydir->excess_bytes += excess;
    keydir->committed_bytes = bytes;
    keydir->limit = bytes / BUCKET_BYTES;
    return CASK_OK;
}

/* Buckets behind the last home, for what is passed on there. */
uint64_t keydir_tail_buckets(uint64_t size)
{
    return 16 + size / 1024;
}

/* The largest size whose tail ends on the same page. */
uint64_t keydir_fill_page(uint64_t size)
{
    uint64_t buckets = align_up(size + keydir_tail_buckets(size), BUCKETS_PER_PAGE);

    while (size + 1 + keydir_tail_buckets(size + 1) <= buckets)
        size++;
    return size;
}

int keydir_start_table(struct keydir *keydir, uint64_t size)
{
    int status;

    size = keydir_fill_page(size);
    status = keydir_commit(keydir, size + keydir_tail_buckets(size));
    if (status == CASK_OK)
        keydir_set_geometry(keydir, size, 0, 0);
    return status;
}

uint64_t keydir_homes_for(uint64_t count)
{
    return count * 100 / ((uint64_t)SLOTS * (GROW_AT_PERCENT - 4)) + 1;
}

uint64_t keydir_next_size(const struct keydir *keydir, uint64_t size)
{
    uint64_t percent = keydir->growth_percent;
    uint64_t next = STAGGER_FROM +
                    STAGGER_FROM * percent * keydir->phase / (UINT64_C(100) * KEYDIR_PHASES);

    if (percent == GROWTH_ALONE_PERCENT || size < STAGGER_FROM)
        return size + max_u64(size * percent / 100, 1);
    while (next < size + size * percent / 200) /* the size may be none of its own */
        next += next * percent / 100;
    return next;
}

/* ---- finding --------------------------------------------------------------------------------- */

/* Entries with the tag from bucket `at` on. */
static unsigned find_from(const struct keydir *keydir, uint64_t at, uint32_t tag,
                          uint64_t *ret_locations, unsigned room)
{
    unsigned found = 0;

    for (;; at++) {
        union bucket_image image;

        bucket_read(&keydir->buckets[at], &image);
        for (unsigned match = image_match(&image, tag); match != 0; match &= match - 1) {
            if (found < room)
                ret_locations[found] = image_location(&image, lowest(match));
            found++;
        }
        if (image_passed(&image) == 0)
            return found;
    }
}

unsigned keydir_find(const struct keydir *keydir, uint32_t tag, uint64_t *ret_locations,
                     unsigned room)
{
    uint32_t generation;
    unsigned found;
    uint64_t at;

    do { /* again if entries may have moved past this look-up */
        found = home_seen(keydir, tag, &at, &generation)
                    ? find_from(keydir, at, tag, ret_locations, room)
                    : 0;
    } while (atomic_load_explicit(&keydir->generation, memory_order_relaxed) != generation);
    return found;
}

void keydir_prefetch(const struct keydir *keydir, uint32_t tag)
{
    uint32_t generation;
    uint64_t home;

    if (home_seen(keydir, tag, &home, &generation))
        __builtin_prefetch(&keydir->buckets[home]);
}

void keydir_prefetch_passed(const struct keydir *keydir, uint32_t tag)
{
    uint64_t home;

    if (load(&keydir->size) == 0)
        return;
    home = home_now(keydir, tag);
    if (state_passed(bucket_state(&keydir->buckets[home])) != 0)
        __builtin_prefetch(&keydir->buckets[home + 1]);
}

/* Where the entry lies, from its home on; UINT64_MAX if nowhere. */
static uint64_t position_of(const struct keydir *keydir, uint64_t home, uint32_t tag,
                            uint64_t location, union bucket_image *image, unsigned *ret_slot)
{
    for (uint64_t at = home;; at++) {
        int slot;

        bucket_read_own(&keydir->buckets[at], image);
        slot = image_slot_of(image, tag, location);
        if (slot >= 0) {
            *ret_slot = (unsigned)slot;
            return at;
        }
        if (image_passed(image) == 0)
            return UINT64_MAX;
    }
}

/* ---- changing -------------------------------------------------------------------------------- */

void keydir_count_passing(struct keydir *keydir, uint64_t from, uint64_t to, bool more)
{
    for (uint64_t at = from; at < to; at++) {
        uint32_t state = bucket_state(&keydir->buckets[at]);

        if (state_passed(state) != PASSED_MAX)
            bucket_write_state(&keydir->buckets[at],
                               more ? state + PASSED_ONE : state - PASSED_ONE);
    }
}

/* Into a bucket with room, of which this is the image. */
static void put_into(struct keydir *keydir, uint64_t home, uint64_t at, union bucket_image *image,
                     uint32_t tag, uint64_t location)
{
    unsigned slot = (unsigned)image_free_slot(image);

    image_set(image, slot, tag, location);
    bucket_write_slot(&keydir->buckets[at], image, slot);
    keydir_count_passing(keydir, home, at, true);
}

int keydir_place(struct keydir *keydir, uint64_t home, uint32_t tag, uint64_t location)
{
    for (uint64_t at = home;; at++) {
        union bucket_image image;

        if (at == keydir->limit) {
            int status = keydir_commit(keydir, keydir->limit + BUCKETS_PER_PAGE);

            if (status != CASK_OK)
                return status;
        }
        bucket_read_own(&keydir->buckets[at], &image);
        if (image_taken(&image) == TAKEN_MASK)
            continue;
        put_into(keydir, home, at, &image, tag, location);
        return CASK_OK;
    }
}

bool keydir_replace(struct keydir *keydir, uint32_t tag, uint64_t from, uint64_t to)
{
    union bucket_image image;
    unsigned slot;
    uint64_t at;

    if (load(&keydir->size) == 0)
        return false;
    at = position_of(keydir, home_now(keydir, tag), tag, from, &image, &slot);
    if (at == UINT64_MAX)
        return false;
    image_set(&image, slot, tag, to);
    bucket_write_slot(&keydir->buckets[at], &image, slot);
    return true;
}

bool keydir_remove_from(struct keydir *keydir, uint64_t home, uint32_t tag, uint64_t location)
{
    union bucket_image image;
    unsigned slot;
    uint64_t at = position_of(keydir, home, tag, location, &image, &slot);

    if (at == UINT64_MAX)
        return false;
    bucket_write_state(&keydir->buckets[at], image.fields[0] & ~(1u << slot));
    keydir_count_passing(keydir, home, at, false);
    return true;
}

bool keydir_remove(struct keydir *keydir, uint32_t tag, uint64_t location)
{
    if (load(&keydir->size) == 0 ||
        !keydir_remove_from(keydir, home_now(keydir, tag), tag, location))
        return false;
    atomic_store_explicit(&keydir->count, keydir_count(keydir) - 1, memory_order_relaxed);
    return true;
}

int keydir_insert(struct keydir *keydir, uint32_t tag, uint64_t location)
{
    int status = keydir_place(keydir, home_now(keydir, tag), tag, location);

    if (status != CASK_OK)
        return status;
    atomic_store_explicit(&keydir->count, keydir_count(keydir) + 1, memory_order_relaxed);
    return CASK_OK;
}

int keydir_insert_new(struct keydir *keydir, uint32_t tag, uint64_t location,
                      uint64_t *ret_location)
{
    uint64_t home = home_now(keydir, tag);
    uint64_t vacant = UINT64_MAX;
    union bucket_image images[2]; /* of the first bucket with room, and the one looked at */
    bool may_be_here = true;

    for (uint64_t at = home; may_be_here || vacant == UINT64_MAX; at++) {
        union bucket_image *image = &images[vacant != UINT64_MAX];
        unsigned match;

        if (at == keydir->limit) /* memory first */
            return keydir_insert(keydir, tag, location);
        bucket_read_own(&keydir->buckets[at], image);
        match = may_be_here ? image_match(image, tag) : 0;
        if (match != 0) {
            *ret_location = image_location(image, lowest(match));
            return CASK_EEXIST;
        }
        may_be_here &= image_passed(image) != 0;
        if (vacant == UINT64_MAX && image_taken(image) != TAKEN_MASK)
            vacant = at;
    }
    put_into(keydir, home, vacant, &images[0], tag, location);
    atomic_store_explicit(&keydir->count, keydir_count(keydir) + 1, memory_order_relaxed);
    return CASK_OK;
}

/* ---- walking --------------------------------------------------------------------------------- */

/* The first tag whose home in a table of `size` is `home` or above. */
static uint64_t first_tag_of(uint64_t size, uint64_t home)
{
    return home >= size ? (uint64_t)1 << 32 : ((home << 32) + size - 1) / size;
}

/* Entries with tags in [from, to) from bucket `at` on to the last that may hold one; SIZE_MAX if
 * there are more than room. */
static size_t collect_range(const struct keydir *keydir, uint64_t at, uint64_t last, uint64_t from,
                            uint64_t to, struct keydir_entry *ret_entries, size_t room)
{
    size_t count = 0;

    for (;; at++) {
        union bucket_image image;

        bucket_read(&keydir->buckets[at], &image);
        for (unsigned taken = image_taken(&image); taken != 0; taken &= taken - 1) {
            unsigned slot = lowest(taken);
            uint32_t tag = image.fields[FIELD_TAG + slot];

            if (tag < from || tag >= to)
                continue;
            if (count == room)
                return SIZE_MAX;
            ret_entries[count++] = (struct keydir_entry){image_location(&image, slot), tag};
        }
        if (at >= last && image_passed(&image) == 0)
            return count;
    }
}

size_t keydir_collect(const struct keydir *keydir, uint64_t from, struct keydir_entry *ret_entries,
                      size_t room, uint64_t *ret_next)
{
    uint64_t size = atomic_load_explicit(&keydir->size, memory_order_acquire);
    uint64_t grown = atomic_load_explicit(&keydir->grown, memory_order_acquire);
    uint64_t cursor = atomic_load_explicit(&keydir->cursor, memory_order_acquire);
    uint64_t moved = grown == 0 ? (uint64_t)1 << 32 : first_tag_of(size, cursor);
    uint64_t width = room / ((size_t)2 * SLOTS) + 1;

    *ret_next = (uint64_t)1 << 32;
    if (size == 0 || from > UINT32_MAX)
        return 0;
    for (;; width /= 2) {
        bool in_old = from < moved;
        uint64_t homes = in_old ? size : grown;
        uint64_t first = home_in(homes, (uint32_t)from);
        uint64_t to = first_tag_of(homes, first + width);
        size_t count;

        if (in_old)
            to = min_u64(to, moved);
        count = collect_range(keydir, first, home_in(homes, (uint32_t)(to - 1)), from, to,
                              ret_entries, room);
        if (count != SIZE_MAX) {
            *ret_next = to;
            return count;
        }
        if (width == 1) {
            *ret_next = from;
            return 0;
        }
    }
}

/* Whatever mix of old and new the geometry is read as, it leads to buckets that there are. */
size_t keydir_gather(const struct keydir *keydir, uint64_t from, struct keydir_entry *ret_entries,
                     size_t room, uint64_t *ret_next)
{
    uint32_t before = atomic_load_explicit(&keydir->generation, memory_order_acquire);
    size_t count;

    if ((before & 1) != 0)
        return SIZE_MAX;
    count = keydir_collect(keydir, from, ret_entries, room, ret_next);
    return atomic_load_explicit(&keydir->generation, memory_order_relaxed) == before ? count
                                                                                     : SIZE_MAX;
}
