/* One bucket of the keydir: a cache line of six entries, read whole without a lock.
 *
 * Invariants:
 *  1. One writer at a time. It makes the version odd, stores with release, and makes it even again;
 *     a change of the state alone is one store.
 *  2. A reader that sees the same even version before and after has a consistent image.
 *  3. A slot counts only if its bit in the state is set; what is left in the others means nothing.
 */
#ifndef CASKADE_BUCKET_H
#define CASKADE_BUCKET_H

#include <stdatomic.h>
#include <stdint.h>

#define BUCKET_BYTES 64u
#define BUCKET_WORDS 8u
#define SLOTS 6u

/* A bucket as sixteen 32-bit fields: 0 its state, 1..6 tags, 7..12 the low 32 bits of locations;
 * the last twelve bytes are their high 16 bits. The state: which slots are taken (6 bits), how many
 * entries have passed by (6 bits), and the version (20 bits, odd while the bucket is written). */
#define FIELD_TAG 1u
#define FIELD_LOW 7u
#define HALF_HIGH 26u
#define TAKEN_MASK 0x3fu
#define PASSED_SHIFT 6u
#define PASSED_MAX 0x3fu /* stays there for good: the true count is lost */
#define PASSED_ONE (1u << PASSED_SHIFT)
#define VERSION_ONE (1u << 12)

struct keydir_bucket {
    _Alignas(BUCKET_BYTES) _Atomic uint64_t words[BUCKET_WORDS];
};

_Static_assert(sizeof(struct keydir_bucket) == BUCKET_BYTES, "a bucket is a cache line");

union bucket_image {
    uint64_t words[BUCKET_WORDS];
    uint32_t fields[2 * BUCKET_WORDS];
    uint16_t halves[4 * BUCKET_WORDS];
};

/* All words but the first. Written out: compilers leave a loop over atomics a loop. Acquire on
 * every word: if a word of a later version was read, its odd version is seen at the end. */
static inline void bucket_read_rest(const struct keydir_bucket *bucket, union bucket_image *image)
{
    image->words[1] = atomic_load_explicit(&bucket->words[1], memory_order_acquire);
    image->words[2] = atomic_load_explicit(&bucket->words[2], memory_order_acquire);
    image->words[3] = atomic_load_explicit(&bucket->words[3], memory_order_acquire);
    image->words[4] = atomic_load_explicit(&bucket->words[4], memory_order_acquire);
    image->words[5] = atomic_load_explicit(&bucket->words[5], memory_order_acquire);
    image->words[6] = atomic_load_explicit(&bucket->words[6], memory_order_acquire);
    image->words[7] = atomic_load_explicit(&bucket->words[7], memory_order_acquire);
}

static inline void bucket_read(const struct keydir_bucket *bucket, union bucket_image *image)
{
    for (;;) {
        image->words[0] = atomic_load_explicit(&bucket->words[0], memory_order_acquire);
        if ((image->fields[0] & VERSION_ONE) == 0) {
            bucket_read_rest(bucket, image);
            if (atomic_load_explicit(&bucket->words[0], memory_order_relaxed) == image->words[0])
                return;
        }
    }
}

/* For the writer itself, whom nobody disturbs. */
static inline void bucket_read_own(const struct keydir_bucket *bucket, union bucket_image *image)
{
    image->words[0] = atomic_load_explicit(&bucket->words[0], memory_order_relaxed);
    bucket_read_rest(bucket, image);
}

/* The first word, with its state alone read: enough to leave or to be passed by. */
static inline uint32_t bucket_state(const struct keydir_bucket *bucket)
{
    union bucket_image image;

    image.words[0] = atomic_load_explicit(&bucket->words[0], memory_order_relaxed);
    return image.fields[0];
}

static inline void bucket_begin(struct keydir_bucket *bucket)
{
    union bucket_image now;

    now.words[0] = atomic_load_explicit(&bucket->words[0], memory_order_relaxed);
    now.fields[0] += VERSION_ONE;
    atomic_store_explicit(&bucket->words[0], now.words[0], memory_order_relaxed);
}

static inline void bucket_end(struct keydir_bucket *bucket, union bucket_image *image)
{
    image->fields[0] += 2 * VERSION_ONE;
    atomic_store_explicit(&bucket->words[0], image->words[0], memory_order_release);
}

static inline void bucket_write(struct keydir_bucket *bucket, union bucket_image *image)
{
    bucket_begin(bucket);
    atomic_store_explicit(&bucket->words[1], image->words[1], memory_order_release);
    atomic_store_explicit(&bucket->words[2], image->words[2], memory_order_release);
    atomic_store_explicit(&bucket->words[3], image->words[3], memory_order_release);
    atomic_store_explicit(&bucket->words[4], image->words[4], memory_order_release);
    atomic_store_explicit(&bucket->words[5], image->words[5], memory_order_release);
    atomic_store_explicit(&bucket->words[6], image->words[6], memory_order_release);
    atomic_store_explicit(&bucket->words[7], image->words[7], memory_order_release);
    bucket_end(bucket, image);
}

/* Only one slot and the state have changed. */
static inline void bucket_write_slot(struct keydir_bucket *bucket, union bucket_image *image,
                                     unsigned slot)
{
    const unsigned words[3] = {(FIELD_TAG + slot) / 2, (FIELD_LOW + slot) / 2,
                               (HALF_HIGH + slot) / 4};

    bucket_begin(bucket);
    for (unsigned i = 0; i < 3; i++)
        if (words[i] != 0)
            atomic_store_explicit(&bucket->words[words[i]], image->words[words[i]],
                                  memory_order_release);
    bucket_end(bucket, image);
}

/* Only the state has changed: one store, so no odd version. */
static inline void bucket_write_state(struct keydir_bucket *bucket, uint32_t state)
{
    union bucket_image image;

    image.words[0] = atomic_load_explicit(&bucket->words[0], memory_order_relaxed);
    image.fields[0] = state;
    bucket_end(bucket, &image);
}

static inline uint64_t image_location(const union bucket_image *image, unsigned slot)
{
    return image->fields[FIELD_LOW + slot] | (uint64_t)image->halves[HALF_HIGH + slot] << 32;
}

static inline void image_set(union bucket_image *image, unsigned slot, uint32_t tag,
                             uint64_t location)
{
    image->fields[0] |= 1u << slot;
    image->fields[FIELD_TAG + slot] = tag;
    image->fields[FIELD_LOW + slot] = (uint32_t)location;
    image->halves[HALF_HIGH + slot] = (uint16_t)(location >> 32);
}

static inline unsigned state_passed(uint32_t state)
{
    return state >> PASSED_SHIFT & PASSED_MAX;
}

static inline unsigned image_passed(const union bucket_image *image)
{
    return state_passed(image->fields[0]);
}

static inline unsigned image_taken(const union bucket_image *image)
{
    return image->fields[0] & TAKEN_MASK;
}

/* A bit for each slot that holds this tag. */
static inline unsigned image_match(const union bucket_image *image, uint32_t tag)
{
    unsigned match = 0;

    for (unsigned slot = 0; slot < SLOTS; slot++)
        match |= (unsigned)(image->fields[FIELD_TAG + slot] == tag) << slot;
    return match & image_taken(image);
}

static inline unsigned lowest(unsigned bits)
{
    return (unsigned)__builtin_ctz(bits);
}

static inline int image_free_slot(const union bucket_image *image)
{
    unsigned vacant = ~image_taken(image) & TAKEN_MASK;

    return vacant == 0 ? -1 : (int)lowest(vacant);
}

static inline int image_slot_of(const union bucket_image *image, uint32_t tag, uint64_t location)
{
    for (unsigned match = image_match(image, tag); match != 0; match &= match - 1)
        if (image_location(image, lowest(match)) == location)
            return (int)lowest(match);
    return -1;
}

#endif
