#include "index/keydir.h"

#include <string.h>

#include "base/bytes.h"
#include "base/pages.h"
#include "index/bucket.h"

#define PAGE_BYTES 4096u
#define BUCKETS_PER_PAGE (PAGE_BYTES / BUCKET_BYTES)

/* Growth starts at 86 % and moves 4 old buckets per insert, so that it is over before 91 %. */
#define GROW_AT_PERCENT 86u
#define FULL_AT_PERCENT 95u
#define MOVES_PER_INSERT 4u
#define HOMES_AT_ONCE 32u
#define MOVE_MAX 384u  /* entries of so many homes: six each on average at most */
#define REACH_MAX 256u /* buckets over which they are spread, but for a few */
#define WINDOW_MAX 64u
#define WRITABLE_STEP_BYTES ((uint64_t)64 << 20)
#define HUGE_MIN_BYTES ((uint64_t)2 << 20)

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

static uint64_t capacity(uint64_t size, unsigned percent)
{
    return size * SLOTS * percent / 100;
}

static void set_geometry(struct keydir *keydir, uint64_t size, uint64_t grown, uint64_t cursor)
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

/* In large steps: each waits for whatever else is done to the process's address space. */
static int make_writable(struct keydir *keydir, uint64_t bytes)
{
    uint64_t wanted = min_u64(align_up(bytes, WRITABLE_STEP_BYTES), keydir->reserved_bytes);
    int status;

    if (bytes <= keydir->writable_bytes)
        return CASK_OK;
    status = pages_commit(keydir->buckets, (size_t)keydir->writable_bytes,
                          (size_t)(wanted - keydir->writable_bytes));
    if (status == CASK_OK)
        keydir->writable_bytes = wanted;
    return status;
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
    status = make_writable(keydir, bytes);
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

static int start_table(struct keydir *keydir, uint64_t size)
{
    int status;

    size = fill_page(size);
    status = commit_buckets(keydir, size + tail_buckets(size));
    if (status == CASK_OK)
        set_geometry(keydir, size, 0, 0);
    return status;
}

/* Homes that hold count entries without growing soon. */
static uint64_t homes_for(uint64_t count)
{
    return count * 100 / ((uint64_t)SLOTS * (GROW_AT_PERCENT - 4)) + 1;
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
        for (unsigned match = image_match(&image, tag); match != 0; match &= match - 1) {
            if (found < room)
                ret_locations[found] = image_location(&image, lowest(match));
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

static void count_passing(struct keydir *keydir, uint64_t from, uint64_t to, bool more)
{
    for (uint64_t at = from; at < to; at++) {
        uint32_t state = bucket_state(&keydir->buckets[at]);

        if (state_passed(state) != PASSED_MAX)
            bucket_write_state(&keydir->buckets[at],
                               more ? state + PASSED_ONE : state - PASSED_ONE);
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
        bucket_write_slot(&keydir->buckets[at], &image, (unsigned)slot);
        count_passing(keydir, home, at, true);
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

static bool remove_from(struct keydir *keydir, uint64_t home, uint32_t tag, uint64_t location)
{
    union bucket_image image;
    unsigned slot;
    uint64_t at = position_of(keydir, home, tag, location, &image, &slot);

    if (at == UINT64_MAX)
        return false;
    bucket_write_state(&keydir->buckets[at], image.fields[0] & ~(1u << slot));
    count_passing(keydir, home, at, false);
    return true;
}

bool keydir_remove(struct keydir *keydir, uint32_t tag, uint64_t location)
{
    if (load(&keydir->size) == 0 || !remove_from(keydir, home_now(keydir, tag), tag, location))
        return false;
    atomic_store_explicit(&keydir->count, keydir_count(keydir) - 1, memory_order_relaxed);
    return true;
}

/* ---- growing --------------------------------------------------------------------------------- */

/* The homes [first, end) on their way, all at once so that each bucket is read and written once.
 * An entry moves if its new home is behind where it lies; else it stays, and only passes fewer
 * buckets. */
struct moving {
    uint64_t first;
    uint64_t end;
    uint64_t last;    /* bucket in which one of their entries may lie */
    unsigned count;   /* of those that move: the first of the arrays */
    unsigned staying; /* the last ones */
    uint32_t tags[MOVE_MAX];
    uint64_t locations[MOVE_MAX];
    uint64_t lowest_home; /* of the new ones */
    uint64_t highest_home;
    int16_t passing[REACH_MAX + 1]; /* by how many fewer entries pass, from bucket to bucket */
    uint8_t left[REACH_MAX];        /* slots */
};

static void note_move(struct moving *moving, const struct keydir_entry *entry, uint64_t to)
{
    moving->tags[moving->count] = entry->tag;
    moving->locations[moving->count++] = entry->location;
    moving->lowest_home = min_u64(moving->lowest_home, to);
    moving->highest_home = max_u64(moving->highest_home, to);
}

/* One entry of the homes, in a bucket and slot. */
static void note_entry(struct moving *moving, uint64_t home, uint64_t to, uint64_t at,
                       unsigned slot, const struct keydir_entry *entry)
{
    if (to > at)
        note_move(moving, entry, to);
    else
        moving->tags[MOVE_MAX - ++moving->staying] = entry->tag;
    moving->last = max_u64(moving->last, at);
    if (at - moving->first >= REACH_MAX)
        return;
    moving->passing[home - moving->first]++;
    moving->passing[min_u64(at, to) - moving->first]--;
    if (to > at)
        moving->left[at - moving->first] |= (uint8_t)(1u << slot);
}

/* Finds the entries of the homes. False if there are too many. */
static bool gather(const struct keydir *keydir, struct moving *moving)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = load(&keydir->grown);

    moving->count = 0;
    moving->staying = 0;
    moving->last = moving->end - 1;
    moving->lowest_home = UINT64_MAX;
    moving->highest_home = 0;
    memset(moving->passing, 0, sizeof moving->passing);
    memset(moving->left, 0, sizeof moving->left);
    for (uint64_t at = moving->first;; at++) {
        union bucket_image image;

        bucket_read_own(&keydir->buckets[at], &image);
        for (unsigned taken = image_taken(&image); taken != 0; taken &= taken - 1) {
            unsigned slot = lowest(taken);
            struct keydir_entry entry = {image_location(&image, slot),
                                         image.fields[FIELD_TAG + slot]};
            uint64_t home = home_in(size, entry.tag);

            if (home < moving->first || home >= moving->end)
                continue;
            if (moving->count + moving->staying == MOVE_MAX)
                return false;
            note_entry(moving, home, home_in(grown, entry.tag), at, slot, &entry);
        }
        if (at + 1 >= moving->end && image_passed(&image) == 0)
            return true;
    }
}

/* New homes next to each other, filled in memory of the writer's own and then written. */
struct window {
    uint64_t first;
    uint64_t count;
    union bucket_image images[WINDOW_MAX];
};

/* Puts an entry into the window, at its home or as near behind as there is room. */
static bool window_place(struct window *window, uint64_t home, uint32_t tag, uint64_t location)
{
    uint64_t at = home - window->first;
    uint64_t to = at;

    while (to < window->count && image_taken(&window->images[to]) == TAKEN_MASK)
        to++;
    if (to == window->count)
        return false;
    image_set(&window->images[to], (unsigned)image_free_slot(&window->images[to]), tag, location);
    for (; at < to; at++)
        if (image_passed(&window->images[at]) != PASSED_MAX)
            window->images[at].fields[0] += PASSED_ONE;
    return true;
}

/* Copies the entries to their new homes as far as these have room. Returns how many are left, which
 * are now the first. */
static unsigned copy_by_window(struct keydir *keydir, struct moving *moving)
{
    uint64_t grown = load(&keydir->grown);
    struct window window;
    unsigned left = 0;

    window.first = moving->lowest_home;
    window.count = moving->highest_home - moving->lowest_home + 1;
    if (moving->count == 0 || window.count > WINDOW_MAX)
        return moving->count;
    for (uint64_t i = 0; i < window.count; i++)
        bucket_read_own(&keydir->buckets[window.first + i], &window.images[i]);
    for (unsigned i = 0; i < moving->count; i++) {
        uint32_t tag = moving->tags[i];
        uint64_t location = moving->locations[i];

        if (window_place(&window, home_in(grown, tag), tag, location))
            continue;
        moving->tags[i] = moving->tags[left];
        moving->locations[i] = moving->locations[left];
        moving->tags[left] = tag;
        moving->locations[left++] = location;
    }
    for (uint64_t i = 0; i < window.count; i++)
        bucket_write(&keydir->buckets[window.first + i], &window.images[i]);
    return left;
}

/* False, with nothing copied, where memory is wanted that cannot be had. */
static bool copy_to_new_homes(struct keydir *keydir, struct moving *moving)
{
    uint64_t grown = load(&keydir->grown);
    unsigned left = copy_by_window(keydir, moving);
    unsigned i = 0;

    while (i < left && place(keydir, home_in(grown, moving->tags[i]), moving->tags[i],
                             moving->locations[i]) == CASK_OK)
        i++;
    if (i == left)
        return true;
    for (unsigned j = 0; j < moving->count; j++)
        if (j < i || j >= left)
            remove_from(keydir, home_in(grown, moving->tags[j]), moving->tags[j],
                        moving->locations[j]);
    return false;
}

/* For entries that lie very far from their homes. The originals are met before their copies. */
static void leave_one_by_one(struct keydir *keydir, const struct moving *moving)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = load(&keydir->grown);

    for (unsigned i = 0; i < moving->count; i++)
        remove_from(keydir, home_in(size, moving->tags[i]), moving->tags[i], moving->locations[i]);
    for (unsigned i = MOVE_MAX - moving->staying; i < MOVE_MAX; i++)
        count_passing(keydir, home_in(size, moving->tags[i]), home_in(grown, moving->tags[i]),
                      false);
}

/* Takes the moved entries out of their buckets, and all of them out of the counts of the buckets
 * that they no longer pass: one store a bucket. */
static void leave_old_homes(struct keydir *keydir, const struct moving *moving)
{
    int fewer = 0;

    if (moving->last - moving->first >= REACH_MAX) {
        leave_one_by_one(keydir, moving);
        return;
    }
    for (uint64_t at = moving->first; at <= moving->last; at++) {
        uint32_t state = bucket_state(&keydir->buckets[at]);

        fewer += moving->passing[at - moving->first];
        state &= ~(uint32_t)moving->left[at - moving->first];
        if (state_passed(state) != PASSED_MAX)
            state -= (uint32_t)fewer * PASSED_ONE;
        bucket_write_state(&keydir->buckets[at], state);
    }
}

/* The homes that move next, and where they will go. */
static void prefetch_homes(const struct keydir *keydir, uint64_t end, uint64_t size, uint64_t grown)
{
    uint64_t first = end > HOMES_AT_ONCE ? end - HOMES_AT_ONCE : 0;

    for (uint64_t at = first; at < end; at++)
        __builtin_prefetch(&keydir->buckets[at]);
    for (uint64_t at = first * grown / size; at < end * grown / size; at++)
        __builtin_prefetch(&keydir->buckets[at], 1);
}

static void end_growth(struct keydir *keydir, uint64_t grown)
{
    set_geometry(keydir, grown, 0, 0);
    keydir->has_grown = true;
    atomic_store_explicit(&keydir->settled_bytes, keydir->committed_bytes, memory_order_relaxed);
}

bool keydir_has_grown(struct keydir *keydir)
{
    bool grown = keydir->has_grown && keydir->committed_bytes >= HUGE_MIN_BYTES;

    keydir->has_grown = false;
    return grown;
}

bool keydir_has_begun_growing(struct keydir *keydir)
{
    bool grows = keydir->grows && keydir->committed_bytes >= HUGE_MIN_BYTES / 4;

    keydir->grows = false;
    return grows;
}

void keydir_populate(struct keydir *keydir)
{
    uint64_t end = atomic_load_explicit(&keydir->fresh_end, memory_order_acquire);
    uint64_t first = atomic_load_explicit(&keydir->fresh_bytes, memory_order_relaxed);

    /* Of two growths at once nothing comes but memory brought in that is wanted anyway. */
    if (first < end)
        pages_populate(keydir->buckets, (size_t)first, (size_t)(end - first));
}

void keydir_use_huge_pages(struct keydir *keydir)
{
    pages_collapse(keydir->buckets,
                   (size_t)atomic_load_explicit(&keydir->settled_bytes, memory_order_relaxed));
}

/* As many homes as have their new places behind all of their old ones: copies are made before the
 * originals go, and would crowd each other out where both lie in the same buckets. */
static uint64_t homes_at_once(uint64_t size, uint64_t grown, uint64_t end)
{
    uint64_t apart = end * (grown - size) / grown;

    return min_u64(HOMES_AT_ONCE, max_u64(apart, 1));
}

/* Moves the last old homes that have not moved. False if that cannot be done. */
static bool move_homes(struct keydir *keydir)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = load(&keydir->grown);
    uint64_t end = load(&keydir->cursor);
    struct moving moving;

    moving.end = end;
    for (uint64_t homes = homes_at_once(size, grown, end);; homes /= 2) {
        if (homes == 0)
            return false; /* more entries of one home than there ever are */
        moving.first = end - homes;
        if (gather(keydir, &moving))
            break;
    }
    if (!copy_to_new_homes(keydir, &moving))
        return false;
    set_geometry(keydir, size, grown, moving.first);
    leave_old_homes(keydir, &moving);
    prefetch_homes(keydir, moving.first, size, grown);
    if (moving.first == 0)
        end_growth(keydir, grown);
    return true;
}

/* Room for `wanted` entries, but a quarter more at least. */
static int start_growth(struct keydir *keydir, uint64_t wanted)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = fill_page(max_u64(size + size / 4, homes_for(wanted)));
    uint64_t before = keydir->committed_bytes;
    int status;

    if (grown > UINT32_MAX)
        return CASK_ENOMEM;
    status = commit_buckets(keydir, grown + tail_buckets(grown));
    if (status != CASK_OK)
        return status;
    atomic_store_explicit(&keydir->fresh_end, 0, memory_order_relaxed);
    atomic_store_explicit(&keydir->fresh_bytes, before, memory_order_relaxed);
    atomic_store_explicit(&keydir->fresh_end, keydir->committed_bytes, memory_order_release);
    keydir->grows = true;
    set_geometry(keydir, size, grown, size);
    return CASK_OK;
}

static bool finish_growth(struct keydir *keydir)
{
    while (load(&keydir->grown) != 0)
        if (!move_homes(keydir))
            return false;
    return true;
}

static void grow_a_little(struct keydir *keydir, uint64_t inserts)
{
    keydir->homes_due += MOVES_PER_INSERT * inserts;
    for (; keydir->homes_due >= HOMES_AT_ONCE && load(&keydir->grown) != 0;
         keydir->homes_due -= HOMES_AT_ONCE)
        if (!move_homes(keydir))
            return;
    if (load(&keydir->grown) == 0)
        keydir->homes_due = 0;
}

int keydir_reserve(struct keydir *keydir, uint64_t more)
{
    uint64_t wanted = keydir_count(keydir) + more;
    int status = CASK_OK;

    if (load(&keydir->size) == 0)
        status = start_table(keydir, 1);
    else if (load(&keydir->grown) == 0 && wanted > capacity(load(&keydir->size), GROW_AT_PERCENT))
        status = start_growth(keydir, 0);
    grow_a_little(keydir, more);
    while (wanted > capacity(load(&keydir->size), FULL_AT_PERCENT)) {
        if (status != CASK_OK)
            return status;
        if (!finish_growth(keydir))
            return CASK_ENOMEM;
        if (wanted > capacity(load(&keydir->size), FULL_AT_PERCENT))
            status = start_growth(keydir, wanted);
    }
    return load(&keydir->size) == 0 ? status : CASK_OK;
}

int keydir_presize(struct keydir *keydir, uint64_t more)
{
    uint64_t wanted = keydir_count(keydir) + more;
    int status;

    if (load(&keydir->size) == 0) {
        status = start_table(keydir, homes_for(wanted));
        if (status == CASK_OK)
            return CASK_OK;
        return start_table(keydir, wanted * 100 / ((uint64_t)SLOTS * FULL_AT_PERCENT) + 1);
    }
    if (!finish_growth(keydir))
        return CASK_ENOMEM;
    if (wanted <= capacity(load(&keydir->size), GROW_AT_PERCENT))
        return CASK_OK;
    status = start_growth(keydir, wanted);
    if (status != CASK_OK)
        return status;
    return finish_growth(keydir) ? CASK_OK : CASK_ENOMEM;
}

int keydir_insert(struct keydir *keydir, uint32_t tag, uint64_t location)
{
    int status = place(keydir, home_now(keydir, tag), tag, location);

    if (status != CASK_OK)
        return status;
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

        bucket_read_own(&keydir->buckets[at], &image);
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
    uint64_t size = load(&keydir->size);
    uint64_t grown = load(&keydir->grown);
    uint64_t moved = grown == 0 ? (uint64_t)1 << 32 : first_tag_of(size, load(&keydir->cursor));
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
