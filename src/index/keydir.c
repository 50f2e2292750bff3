#include "index/keydir.h"

#include <string.h>

#include "base/bytes.h"
#include "base/pages.h"

#define BUCKET_BYTES 64u
#define BUCKET_WORDS 8u
#define SLOTS 6u
#define PAGE_BYTES 4096u
#define BUCKETS_PER_PAGE (PAGE_BYTES / BUCKET_BYTES)

/* A bucket as sixteen 32-bit fields: 0 the count of passers-by (8 bits) and the version (24 bits,
 * odd while it is written), 1..6 tags, 7..12 the low 32 bits of locations, 13..15 their high 16. */
#define FIELD_TAG 1u
#define FIELD_LOW 7u
#define FIELD_HIGH 13u
#define PASSED_MASK 0xffu
#define PASSED_MAX 0xffu /* stays there for good: the true count is lost */
#define VERSION_ONE 0x100u

/* Growth starts at 86 % and moves 4 old buckets per insert, so that it is over before 91 %. */
#define GROW_AT_PERCENT 86u
#define FULL_AT_PERCENT 95u
#define MOVES_PER_INSERT 4u
#define MOVE_MAX 256u /* entries of one home: more is beyond all odds */

struct keydir_bucket {
    _Alignas(BUCKET_BYTES) _Atomic uint64_t words[BUCKET_WORDS];
};

_Static_assert(sizeof(struct keydir_bucket) == BUCKET_BYTES, "a bucket is a cache line");

union bucket_image {
    uint64_t words[BUCKET_WORDS];
    uint32_t fields[2 * BUCKET_WORDS];
};

/* ---- one bucket ------------------------------------------------------------------------------ */

/* Acquire on every word: if a word of a later version was read, its odd version is seen at the end. */
static inline void bucket_read(const struct keydir_bucket *bucket, union bucket_image *image)
{
    for (;;) {
        image->words[0] = atomic_load_explicit(&bucket->words[0], memory_order_acquire);
        if ((image->fields[0] & VERSION_ONE) == 0) {
            for (unsigned i = 1; i < BUCKET_WORDS; i++)
                image->words[i] = atomic_load_explicit(&bucket->words[i], memory_order_acquire);
            if (atomic_load_explicit(&bucket->words[0], memory_order_relaxed) == image->words[0])
                return;
        }
    }
}

/* For the writer itself, whom nobody disturbs. */
static inline void bucket_read_own(const struct keydir_bucket *bucket, union bucket_image *image)
{
    for (unsigned i = 0; i < BUCKET_WORDS; i++)
        image->words[i] = atomic_load_explicit(&bucket->words[i], memory_order_relaxed);
}

static inline void bucket_write(struct keydir_bucket *bucket, union bucket_image *image)
{
    union bucket_image now;

    now.words[0] = atomic_load_explicit(&bucket->words[0], memory_order_relaxed);
    now.fields[0] += VERSION_ONE;
    atomic_store_explicit(&bucket->words[0], now.words[0], memory_order_relaxed);
    for (unsigned i = 1; i < BUCKET_WORDS; i++)
        atomic_store_explicit(&bucket->words[i], image->words[i], memory_order_release);
    image->fields[0] = (image->fields[0] & PASSED_MASK) |
                       ((now.fields[0] + VERSION_ONE) & ~PASSED_MASK);
    atomic_store_explicit(&bucket->words[0], image->words[0], memory_order_release);
}

static inline uint64_t image_location(const union bucket_image *image, unsigned slot)
{
    uint32_t high = image->fields[FIELD_HIGH + slot / 2] >> (16 * (slot & 1)) & 0xffff;

    return image->fields[FIELD_LOW + slot] | (uint64_t)high << 32;
}

static inline void image_set(union bucket_image *image, unsigned slot, uint32_t tag,
                             uint64_t location)
{
    unsigned shift = 16 * (slot & 1);
    uint32_t *high = &image->fields[FIELD_HIGH + slot / 2];

    image->fields[FIELD_TAG + slot] = tag;
    image->fields[FIELD_LOW + slot] = (uint32_t)location;
    *high = (*high & ~((uint32_t)0xffff << shift)) | (uint32_t)(location >> 32) << shift;
}

static inline unsigned image_passed(const union bucket_image *image)
{
    return image->fields[0] & PASSED_MASK;
}

static int image_free_slot(const union bucket_image *image)
{
    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (image_location(image, slot) == 0)
            return (int)slot;
    return -1;
}

static int image_slot_of(const union bucket_image *image, uint32_t tag, uint64_t location)
{
    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (image->fields[FIELD_TAG + slot] == tag && image_location(image, slot) == location)
            return (int)slot;
    return -1;
}

/* ---- geometry -------------------------------------------------------------------------------- */

static inline uint64_t home_in(uint64_t size, uint32_t tag)
{
    return tag * size >> 32;
}

static inline uint64_t load(const _Atomic uint64_t *field)
{
    return atomic_load_explicit(field, memory_order_relaxed);
}

/* The writer's view. */
static inline uint64_t home_now(const struct keydir *keydir, uint32_t tag)
{
    uint64_t home = home_in(load(&keydir->size), tag);
    uint64_t grown = load(&keydir->grown);

    return grown != 0 && home >= load(&keydir->cursor) ? home_in(grown, tag) : home;
}

/* A reader's: a set of values that belong together. False while there is no table. */
static inline bool home_seen(const struct keydir *keydir, uint32_t tag, uint64_t *ret_home)
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
        *ret_home = grown != 0 && home >= cursor ? home_in(grown, tag) : home;
        return size != 0;
    }
}

static void set_geometry(struct keydir *keydir, uint64_t size, uint64_t grown, uint64_t cursor)
{
    uint32_t generation = atomic_load_explicit(&keydir->generation, memory_order_relaxed);

    atomic_store_explicit(&keydir->generation, generation + 1, memory_order_relaxed);
    atomic_store_explicit(&keydir->size, size, memory_order_release);
    atomic_store_explicit(&keydir->grown, grown, memory_order_release);
    atomic_store_explicit(&keydir->cursor, cursor, memory_order_release);
    atomic_store_explicit(&keydir->generation, generation + 2, memory_order_release);
}

/* ---- memory ---------------------------------------------------------------------------------- */

int keydir_init(struct keydir *keydir, size_t reserve_bytes, struct budget *budget)
{
    void *memory;
    int status;

    memset(keydir, 0, sizeof *keydir);
    status = pages_reserve((size_t)align_up(reserve_bytes, PAGE_BYTES), &memory);
    if (status != CASK_OK)
        return status;
    keydir->buckets = memory;
    keydir->reserved_bytes = (size_t)align_up(reserve_bytes, PAGE_BYTES);
    keydir->budget = budget;
    return CASK_OK;
}

void keydir_release(struct keydir *keydir)
{
    if (!keydir->buckets)
        return;
    pages_release(keydir->buckets, keydir->reserved_bytes);
    budget_give(keydir->budget, keydir->committed_bytes);
    keydir->buckets = NULL;
}

static int commit_buckets(struct keydir *keydir, uint64_t buckets)
{
    uint64_t bytes = align_up(buckets * BUCKET_BYTES, PAGE_BYTES);
    uint64_t more = bytes > keydir->committed_bytes ? bytes - keydir->committed_bytes : 0;
    int status;

    if (more == 0)
        return CASK_OK;
    if (bytes > keydir->reserved_bytes || !budget_take(keydir->budget, more))
        return CASK_ENOMEM;
    status = pages_commit(keydir->buckets, (size_t)keydir->committed_bytes, (size_t)more);
    if (status != CASK_OK) {
        budget_give(keydir->budget, more);
        return status;
    }
    keydir->committed_bytes = bytes;
    keydir->limit = bytes / BUCKET_BYTES;
    return CASK_OK;
}

/* Buckets behind the last home, for what is passed on there. */
static uint64_t tail_buckets(uint64_t size)
{
    return 16 + size / 1024;
}

/* The largest size whose tail ends on the same page. */
static uint64_t fill_page(uint64_t size)
{
    uint64_t buckets = align_up(size + tail_buckets(size), BUCKETS_PER_PAGE);

    while (size + 1 + tail_buckets(size + 1) <= buckets)
        size++;
    return size;
}

static uint64_t capacity(uint64_t size, unsigned percent)
{
    return size * SLOTS * percent / 100;
}

static int start_table(struct keydir *keydir, uint64_t size)
{
    int status;

    size = fill_page(size);
    status = commit_buckets(keydir, size + tail_buckets(size));
    if (status == CASK_OK)
        set_geometry(keydir, size, 0, 0);
    return status;
}

int keydir_presize(struct keydir *keydir, uint64_t count)
{
    if (load(&keydir->size) != 0 || count == 0)
        return CASK_OK;
    return start_table(keydir, count * 100 / (SLOTS * (GROW_AT_PERCENT - 4)) + 1);
}

/* ---- finding --------------------------------------------------------------------------------- */

unsigned keydir_find(const struct keydir *keydir, uint32_t tag, uint64_t *ret_locations,
                     unsigned room)
{
    unsigned found = 0;
    uint64_t at;

    if (!home_seen(keydir, tag, &at))
        return 0;
    for (;; at++) {
        union bucket_image image;

        bucket_read(&keydir->buckets[at], &image);
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            if (image.fields[FIELD_TAG + slot] != tag)
                continue;
            uint64_t location = image_location(&image, slot);

            if (location == 0)
                continue;
            if (found < room)
                ret_locations[found] = location;
            found++;
        }
        if (image_passed(&image) == 0)
            return found;
    }
}

void keydir_prefetch(const struct keydir *keydir, uint32_t tag)
{
    uint64_t home;

    if (home_seen(keydir, tag, &home))
        __builtin_prefetch(&keydir->buckets[home]);
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

static void count_passing(struct keydir *keydir, uint64_t from, uint64_t to, int by)
{
    for (uint64_t at = from; at < to; at++) {
        union bucket_image image;
        unsigned passed;

        bucket_read_own(&keydir->buckets[at], &image);
        passed = image_passed(&image);
        if (passed == PASSED_MAX)
            continue;
        image.fields[0] += (uint32_t)by;
        bucket_write(&keydir->buckets[at], &image);
    }
}

static int place(struct keydir *keydir, uint64_t home, uint32_t tag, uint64_t location)
{
    for (uint64_t at = home;; at++) {
        union bucket_image image;
        int slot;

        if (at == keydir->limit) {
            int status = commit_buckets(keydir, keydir->limit + BUCKETS_PER_PAGE);

            if (status != CASK_OK)
                return status;
        }
        bucket_read_own(&keydir->buckets[at], &image);
        slot = image_free_slot(&image);
        if (slot < 0)
            continue;
        image_set(&image, (unsigned)slot, tag, location);
        bucket_write(&keydir->buckets[at], &image);
        count_passing(keydir, home, at, 1);
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
    bucket_write(&keydir->buckets[at], &image);
    return true;
}

static bool remove_from(struct keydir *keydir, uint64_t home, uint32_t tag, uint64_t location)
{
    union bucket_image image;
    unsigned slot;
    uint64_t at = position_of(keydir, home, tag, location, &image, &slot);

    if (at == UINT64_MAX)
        return false;
    image_set(&image, slot, 0, 0);
    bucket_write(&keydir->buckets[at], &image);
    count_passing(keydir, home, at, -1);
    return true;
}

bool keydir_remove(struct keydir *keydir, uint32_t tag, uint64_t location)
{
    if (load(&keydir->size) == 0 ||
        !remove_from(keydir, home_now(keydir, tag), tag, location))
        return false;
    atomic_store_explicit(&keydir->count, keydir_count(keydir) - 1, memory_order_relaxed);
    return true;
}

/* ---- growing --------------------------------------------------------------------------------- */

struct move {
    struct keydir_entry entry;
    uint64_t at;
};

/* The entries whose old home is `home`, with where they lie. Returns their number, or MOVE_MAX + 1
 * if there are too many. */
static unsigned entries_of_home(const struct keydir *keydir, uint64_t home, struct move *moves)
{
    uint64_t size = load(&keydir->size);
    unsigned count = 0;

    for (uint64_t at = home;; at++) {
        union bucket_image image;

        bucket_read_own(&keydir->buckets[at], &image);
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            uint32_t tag = image.fields[FIELD_TAG + slot];
            uint64_t location = image_location(&image, slot);

            if (location == 0 || home_in(size, tag) != home)
                continue;
            if (count == MOVE_MAX)
                return MOVE_MAX + 1;
            moves[count++] = (struct move){{location, tag}, at};
        }
        if (image_passed(&image) == 0)
            return count;
    }
}

/* Moves the entries of the last old home that has not moved. False if that cannot be done. */
static bool move_one_home(struct keydir *keydir)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = load(&keydir->grown);
    uint64_t home = load(&keydir->cursor) - 1;
    struct move moves[MOVE_MAX];
    unsigned count = entries_of_home(keydir, home, moves);

    if (count > MOVE_MAX)
        return false;
    for (unsigned i = 0; i < count; i++) {
        uint64_t to = home_in(grown, moves[i].entry.tag);

        if (moves[i].at < to &&
            place(keydir, to, moves[i].entry.tag, moves[i].entry.location) != CASK_OK) {
            while (i-- > 0)
                if (moves[i].at < home_in(grown, moves[i].entry.tag))
                    remove_from(keydir, home_in(grown, moves[i].entry.tag), moves[i].entry.tag,
                                moves[i].entry.location);
            return false;
        }
    }
    set_geometry(keydir, size, grown, home);
    for (unsigned i = 0; i < count; i++) {
        uint64_t to = home_in(grown, moves[i].entry.tag);

        if (moves[i].at < to)
            remove_from(keydir, home, moves[i].entry.tag, moves[i].entry.location);
        else
            count_passing(keydir, home, to, -1);
    }
    if (home == 0)
        set_geometry(keydir, grown, 0, 0);
    return true;
}

static int start_growth(struct keydir *keydir)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = fill_page(size + size / 4);
    int status;

    if (grown > UINT32_MAX)
        return CASK_ENOMEM;
    status = commit_buckets(keydir, grown + tail_buckets(grown));
    if (status == CASK_OK)
        set_geometry(keydir, size, grown, size);
    return status;
}

static void grow_a_little(struct keydir *keydir)
{
    for (unsigned i = 0; i < MOVES_PER_INSERT && load(&keydir->grown) != 0; i++)
        if (!move_one_home(keydir))
            return;
}

int keydir_reserve(struct keydir *keydir, uint64_t more)
{
    uint64_t wanted = keydir_count(keydir) + more;

    if (load(&keydir->size) == 0) {
        int status = start_table(keydir, 1);

        if (status != CASK_OK)
            return status;
    }
    if (load(&keydir->grown) == 0 && wanted > capacity(load(&keydir->size), GROW_AT_PERCENT)) {
        int status = start_growth(keydir);

        if (status != CASK_OK && wanted > capacity(load(&keydir->size), FULL_AT_PERCENT))
            return status;
    }
    while (wanted > capacity(load(&keydir->size), FULL_AT_PERCENT)) {
        if (load(&keydir->grown) == 0) {
            int status = start_growth(keydir);

            if (status != CASK_OK)
                return status;
        }
        while (load(&keydir->grown) != 0)
            if (!move_one_home(keydir))
                return CASK_ENOMEM;
    }
    return CASK_OK;
}

int keydir_insert(struct keydir *keydir, uint32_t tag, uint64_t location)
{
    int status = place(keydir, home_now(keydir, tag), tag, location);

    if (status != CASK_OK)
        return status;
    atomic_store_explicit(&keydir->count, keydir_count(keydir) + 1, memory_order_relaxed);
    if (load(&keydir->grown) != 0)
        grow_a_little(keydir);
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

        bucket_read_own(&keydir->buckets[at], &image);
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            uint32_t tag = image.fields[FIELD_TAG + slot];
            uint64_t location = image_location(&image, slot);

            if (location == 0 || tag < from || tag >= to)
                continue;
            if (count == room)
                return SIZE_MAX;
            ret_entries[count++] = (struct keydir_entry){location, tag};
        }
        if (at >= last && image_passed(&image) == 0)
            return count;
    }
}

size_t keydir_collect(const struct keydir *keydir, uint64_t from, struct keydir_entry *ret_entries,
                      size_t room, uint64_t *ret_next)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = load(&keydir->grown);
    uint64_t moved = grown == 0 ? (uint64_t)1 << 32 : first_tag_of(size, load(&keydir->cursor));
    uint64_t width = room / (2 * SLOTS) + 1;

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
