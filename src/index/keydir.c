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
#define MOVE_MAX 512u  /* entries of so many homes: six each on average at most */
#define REACH_MAX 256u /* buckets over which they are spread, but for a few */
#define WINDOW 4u
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

/* An entry that changes its home: where it lies, and its new home. It moves if that is behind where
 * it lies; else it stays, and only passes fewer buckets. */
struct move {
    struct keydir_entry entry;
    uint32_t slot;
    uint64_t at;
    uint64_t to;
};

/* The homes [first, end) on their way, all at once so that each bucket is read once. */
struct moving {
    uint64_t first;
    uint64_t end;
    uint64_t last; /* bucket in which one of their entries may lie */
    unsigned count;
    struct move moves[MOVE_MAX];
};

/* Neighbouring buckets being filled, written when all is placed. */
struct window {
    uint64_t first;  /* UINT64_MAX: empty */
    unsigned loaded; /* a bit for each image read */
    union bucket_image images[WINDOW];
};

/* Finds the entries of the homes. False if there are too many. */
static bool gather(const struct keydir *keydir, struct moving *moving)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = load(&keydir->grown);

    moving->count = 0;
    moving->last = moving->end - 1;
    for (uint64_t at = moving->first;; at++) {
        union bucket_image image;

        bucket_read_own(&keydir->buckets[at], &image);
        for (unsigned taken = image_taken(&image); taken != 0; taken &= taken - 1) {
            unsigned slot = lowest(taken);
            uint32_t tag = image.fields[FIELD_TAG + slot];
            uint64_t home = home_in(size, tag);

            if (home < moving->first || home >= moving->end)
                continue;
            if (moving->count == MOVE_MAX)
                return false;
            moving->moves[moving->count++] = (struct move){
                {image_location(&image, slot), tag}, slot, at, home_in(grown, tag)};
            moving->last = max_u64(moving->last, at);
        }
        if (at + 1 >= moving->end && image_passed(&image) == 0)
            return true;
    }
}

static void window_flush(struct keydir *keydir, struct window *window)
{
    for (unsigned i = 0; i < WINDOW; i++)
        if (window->loaded & 1u << i)
            bucket_write(&keydir->buckets[window->first + i], &window->images[i]);
    window->loaded = 0;
    window->first = UINT64_MAX;
}

/* Puts a copy of the entry at its new home, or as near behind as there is room. */
static int move_in(struct keydir *keydir, struct window *window, const struct move *move)
{
    uint64_t i;
    int slot;

    if (window->first == UINT64_MAX || move->to < window->first ||
        move->to - window->first >= WINDOW) {
        window_flush(keydir, window);
        window->first = move->to == 0 ? 0 : move->to - 1;
    }
    i = move->to - window->first;
    if (!(window->loaded & 1u << i))
        bucket_read_own(&keydir->buckets[move->to], &window->images[i]);
    window->loaded |= 1u << i;
    slot = image_free_slot(&window->images[i]);
    if (slot >= 0) {
        image_set(&window->images[i], (unsigned)slot, move->entry.tag, move->entry.location);
        return CASK_OK;
    }
    window_flush(keydir, window);
    return place(keydir, move->to, move->entry.tag, move->entry.location);
}

static void take_copies_back(struct keydir *keydir, const struct moving *moving, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct move *move = &moving->moves[i];

        if (move->at < move->to)
            remove_from(keydir, move->to, move->entry.tag, move->entry.location);
    }
}

static bool copy_to_new_homes(struct keydir *keydir, const struct moving *moving)
{
    struct window window;

    window.first = UINT64_MAX; /* the images are filled as they are used */
    window.loaded = 0;
    for (unsigned i = 0; i < moving->count; i++) {
        const struct move *move = &moving->moves[i];

        if (move->at < move->to && move_in(keydir, &window, move) != CASK_OK) {
            window_flush(keydir, &window);
            take_copies_back(keydir, moving, i);
            return false;
        }
    }
    window_flush(keydir, &window);
    return true;
}

/* One by one: for entries that lie very far from their homes. */
static void leave_one_by_one(struct keydir *keydir, const struct moving *moving)
{
    uint64_t size = load(&keydir->size);

    for (unsigned i = 0; i < moving->count; i++) {
        const struct move *move = &moving->moves[i];
        struct keydir_bucket *bucket = &keydir->buckets[move->at];

        if (move->at < move->to)
            bucket_write_state(bucket, bucket_state(bucket) & ~(1u << move->slot));
        count_passing(keydir, home_in(size, move->entry.tag), min_u64(move->at, move->to), false);
    }
}

/* Takes the moved entries out of their buckets, and all of them out of the counts of the buckets
 * that they no longer pass: one store a bucket. */
static void leave_old_homes(struct keydir *keydir, const struct moving *moving)
{
    uint64_t size = load(&keydir->size);
    int32_t change[REACH_MAX + 1] = {0}; /* of the number passing, from bucket to bucket */
    uint32_t left[REACH_MAX] = {0};      /* slots */
    int32_t fewer = 0;

    for (unsigned i = 0; i < moving->count; i++) {
        const struct move *move = &moving->moves[i];
        uint64_t home = home_in(size, move->entry.tag);
        uint64_t until = min_u64(move->at, move->to);

        if (move->at < move->to)
            left[move->at - moving->first] |= 1u << move->slot;
        if (until > home) {
            change[home - moving->first]++;
            change[until - moving->first]--;
        }
    }
    for (uint64_t at = moving->first; at <= moving->last; at++) {
        uint32_t state = bucket_state(&keydir->buckets[at]);

        fewer += change[at - moving->first];
        state &= ~left[at - moving->first];
        if (state_passed(state) != PASSED_MAX)
            state -= (uint32_t)fewer * PASSED_ONE;
        bucket_write_state(&keydir->buckets[at], state);
    }
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
    if (moving.last - moving.first < REACH_MAX)
        leave_old_homes(keydir, &moving);
    else
        leave_one_by_one(keydir, &moving);
    if (moving.first == 0)
        end_growth(keydir, grown);
    return true;
}

/* Room for `wanted` entries, but a quarter more at least. */
static int start_growth(struct keydir *keydir, uint64_t wanted)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = fill_page(max_u64(size + size / 4, homes_for(wanted)));
    int status;

    if (grown > UINT32_MAX)
        return CASK_ENOMEM;
    status = commit_buckets(keydir, grown + tail_buckets(grown));
    if (status == CASK_OK)
        set_geometry(keydir, size, grown, size);
    return status;
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
