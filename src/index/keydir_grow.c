/* Growing in place, from the end of the table to its start, so that no call waits for all of it. */
#include <string.h>

#include "base/pages.h"
#include "index/keydir_table.h"

#define MOVES_PER_INSERT 4u
#define HOMES_AT_ONCE 32u
#define MOVE_MAX 384u  /* entries of so many homes: six each on average at most */
#define REACH_MAX 256u /* buckets over which they are spread, but for a few */
#define WINDOW_MAX 64u
#define LARGE_BYTES ((uint64_t)512 << 10)

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

    while (i < left && keydir_place(keydir, home_in(grown, moving->tags[i]), moving->tags[i],
                                    moving->locations[i]) == CASK_OK)
        i++;
    if (i == left)
        return true;
    for (unsigned j = 0; j < moving->count; j++)
        if (j < i || j >= left)
            keydir_remove_from(keydir, home_in(grown, moving->tags[j]), moving->tags[j],
                               moving->locations[j]);
    return false;
}

/* For entries that lie very far from their homes. The originals are met before their copies. */
static void leave_one_by_one(struct keydir *keydir, const struct moving *moving)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = load(&keydir->grown);

    for (unsigned i = 0; i < moving->count; i++)
        keydir_remove_from(keydir, home_in(size, moving->tags[i]), moving->tags[i],
                           moving->locations[i]);
    for (unsigned i = MOVE_MAX - moving->staying; i < MOVE_MAX; i++)
        keydir_count_passing(keydir, home_in(size, moving->tags[i]),
                             home_in(grown, moving->tags[i]), false);
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

static bool is_large(const struct keydir *keydir)
{
    return keydir->committed_bytes >= LARGE_BYTES;
}

bool keydir_has_begun_growing(struct keydir *keydir)
{
    bool grows = keydir->grows && is_large(keydir);

    keydir->grows = false;
    return grows;
}

void keydir_populate(struct keydir *keydir)
{
    uint64_t end = atomic_load_explicit(&keydir->fresh_end, memory_order_acquire);
    uint64_t first = atomic_load_explicit(&keydir->fresh_bytes, memory_order_relaxed);

    /* Of two growths at once nothing comes but memory brought in that is wanted anyway. */
    if (first >= end)
        return;
    pages_make_huge(keydir->buckets, (size_t)first, (size_t)(end - first));
    pages_populate(keydir->buckets, (size_t)first, (size_t)(end - first));
    pages_collapse(keydir->buckets, (size_t)end);
    atomic_store_explicit(&keydir->awaits_fresh, false, memory_order_release);
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
    keydir_set_geometry(keydir, size, grown, moving.first);
    leave_old_homes(keydir, &moving);
    prefetch_homes(keydir, moving.first, size, grown);
    if (moving.first == 0)
        keydir_set_geometry(keydir, grown, 0, 0);
    return true;
}

/* Room for `wanted` entries, but the next size at least. */
static int start_growth(struct keydir *keydir, uint64_t wanted)
{
    uint64_t size = load(&keydir->size);
    uint64_t grown = keydir_fill_page(
        max_u64(keydir_next_size(keydir, size), keydir_homes_for(wanted)));
    uint64_t before = keydir->committed_bytes;
    int status;

    if (grown > UINT32_MAX)
        return CASK_ENOMEM;
    status = keydir_commit(keydir, grown + keydir_tail_buckets(grown));
    if (status != CASK_OK)
        return status;
    atomic_store_explicit(&keydir->fresh_end, 0, memory_order_relaxed);
    atomic_store_explicit(&keydir->fresh_bytes, before, memory_order_relaxed);
    atomic_store_explicit(&keydir->fresh_end, keydir->committed_bytes, memory_order_release);
    keydir->grows = true;
    atomic_store_explicit(&keydir->awaits_fresh, is_large(keydir), memory_order_relaxed);
    keydir_set_geometry(keydir, size, grown, size);
    return CASK_OK;
}

static bool finish_growth(struct keydir *keydir)
{
    while (load(&keydir->grown) != 0)
        if (!move_homes(keydir))
            return false;
    return true;
}

/* The last homes move first, into memory that another thread is bringing in: page by page, it would
 * cost the writer more than to begin a little later. */
static bool awaits_memory(const struct keydir *keydir)
{
    return atomic_load_explicit(&keydir->awaits_fresh, memory_order_acquire) &&
           keydir_count(keydir) < capacity(load(&keydir->size), WAIT_BELOW_PERCENT);
}

static void grow_a_little(struct keydir *keydir, uint64_t inserts)
{
    if (awaits_memory(keydir))
        return;
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
        status = keydir_start_table(keydir, 1);
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

/* Page by page, each read before it is written, it would cost more than the inserts. */
static void bring_in_from(struct keydir *keydir, uint64_t first)
{
    atomic_store_explicit(&keydir->fresh_bytes, first, memory_order_relaxed);
    atomic_store_explicit(&keydir->fresh_end, keydir->committed_bytes, memory_order_release);
    if (is_large(keydir))
        keydir_populate(keydir);
    keydir->grows = false;
}

int keydir_presize(struct keydir *keydir, uint64_t more)
{
    uint64_t wanted = keydir_count(keydir) + more;
    uint64_t before = keydir->committed_bytes;
    int status;

    if (load(&keydir->size) == 0) {
        status = keydir_start_table(keydir, keydir_homes_for(wanted));
        if (status != CASK_OK)
            status = keydir_start_table(keydir,
                                        wanted * 100 / ((uint64_t)SLOTS * FULL_AT_PERCENT) + 1);
        if (status == CASK_OK)
            bring_in_from(keydir, before);
        return status;
    }
    if (!finish_growth(keydir))
        return CASK_ENOMEM;
    if (wanted <= capacity(load(&keydir->size), GROW_AT_PERCENT))
        return CASK_OK;
    status = start_growth(keydir, wanted);
    if (status != CASK_OK)
        return status;
    bring_in_from(keydir, before);
    return finish_growth(keydir) ? CASK_OK : CASK_ENOMEM;
}
