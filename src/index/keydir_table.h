/* What the files of the keydir share: keydir.c (finding and changing), keydir_grow.c (growing). */
#ifndef CASKADE_KEYDIR_TABLE_H
#define CASKADE_KEYDIR_TABLE_H

#include "base/bytes.h"
#include "index/bucket.h"
#include "index/keydir.h"

#define KEYDIR_PAGE_BYTES 4096u
#define BUCKETS_PER_PAGE (KEYDIR_PAGE_BYTES / BUCKET_BYTES)

/* Growth starts at 83 %, waits for its memory until 85 % at most, and moves 4 old buckets per
 * insert, so that it is over before 90 %. */
#define GROW_AT_PERCENT 83u
#define WAIT_BELOW_PERCENT 85u
#define FULL_AT_PERCENT 95u

/* Sizes of large tables: from STAGGER_FROM on, which the phase makes up to one growth more, each is
 * one growth larger than the one before. A table that is alone grows by so much that it never takes
 * 16 bytes an entry; of many in all phases, which are full to different degrees, each may grow by
 * more, which moves its entries less often. */
#define KEYDIR_PHASES 65536u
#define STAGGER_FROM ((uint64_t)1024)
#define GROWTH_ALONE_PERCENT 24u
#define GROWTH_AMONG_PERCENT 40u
#define KEYDIR_MANY 8u

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

static inline uint64_t capacity(uint64_t size, unsigned percent)
{
    return size * SLOTS * percent / 100;
}

void keydir_set_geometry(struct keydir *keydir, uint64_t size, uint64_t grown, uint64_t cursor);

/* Takes memory for so many buckets. */
CHECKED int keydir_commit(struct keydir *keydir, uint64_t buckets);

/* Buckets behind the last home, for what is passed on there. */
uint64_t keydir_tail_buckets(uint64_t size);

/* The largest size whose tail ends on the same page. */
uint64_t keydir_fill_page(uint64_t size);

/* Homes that hold count entries without growing soon. */
uint64_t keydir_homes_for(uint64_t count);

/* The size to which a table of this size grows. */
uint64_t keydir_next_size(const struct keydir *keydir, uint64_t size);

/* The first table of a keydir that has none. */
CHECKED int keydir_start_table(struct keydir *keydir, uint64_t size);

/* Buckets [from, to) are passed by one entry more, or one fewer. */
void keydir_count_passing(struct keydir *keydir, uint64_t from, uint64_t to, bool more);

/* Puts an entry at its home or as near behind as there is room, or takes it out from there. Neither
 * counts it. */
CHECKED int keydir_place(struct keydir *keydir, uint64_t home, uint32_t tag, uint64_t location);
bool keydir_remove_from(struct keydir *keydir, uint64_t home, uint32_t tag, uint64_t location);

#endif
