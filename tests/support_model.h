/* What a store ought to hold: a plain table of keys by number, in memory that forked children
 * share, so that a child's writes are known after it ended without closing the store.
 *
 * Invariants:
 *  1. The bytes of a key follow from its number and the seed, those of a value from key number,
 *     version and size: nothing is kept but numbers.
 *  2. A version is never used twice.
 */
#ifndef CASKADE_TESTS_SUPPORT_MODEL_H
#define CASKADE_TESTS_SUPPORT_MODEL_H

#include "support.h"

#define MODEL_KEY_MAX 2048u

struct model_key {
    uint32_t version; /* of its last put */
    uint32_t size;    /* of its value */
    bool there;       /* put, and not deleted since; it may have expired */
    uint64_t expires_at_ms;
    uint64_t sequence;         /* the store's number of some version, as far as it was asked, */
    uint32_t sequence_version; /* and of which; 0: none */
};

struct model {
    uint64_t seed;
    struct rng rng;
    uint64_t operation; /* how many there have been */
    uint32_t key_count;
    uint32_t last_version;
    struct model_key keys[];
};

/* By the clock at the time of a look-up, a key must be there, must not, or is just expiring. */
enum presence { PRESENT, ABSENT, EITHER };

struct model *model_create(uint64_t seed, uint32_t key_count);
void model_destroy(struct model *model);

/* The key's bytes, into buffer, which has MODEL_KEY_MAX bytes. */
struct cask_slice model_key_bytes(const struct model *model, uint32_t key, uint8_t *buffer);

/* The number of a key, by its bytes; CHECKs that it is one of the model's. */
uint32_t model_key_number(const struct model *model, struct cask_slice bytes);

/* size bytes of the value of a version of a key. */
void model_value_bytes(uint32_t key, uint32_t version, uint8_t *to, size_t size);

/* CHECKs that a value is that of this version; or, where it is long enough to tell, which version
 * of the key it is (0 where it is too short). */
void model_check_value(uint32_t key, uint32_t version, struct cask_slice value);
uint32_t model_value_version(uint32_t key, struct cask_slice value);

/* What a look-up that ran from before_ms to after_ms must have met. */
enum presence model_presence(const struct model_key *key, uint64_t before_ms, uint64_t after_ms);

/* Notes a put, with the next version, which is returned; and a delete. */
uint32_t model_put(struct model *model, uint32_t key, uint32_t size, uint64_t expires_at_ms);
void model_delete(struct model *model, uint32_t key);

/* CHECKs that the number which the store tells of the key's last put is as before, or higher than
 * that of an earlier one, and notes it. */
void model_note_sequence(struct model_key *key, uint64_t sequence);

/* Keys there are, and bytes their records take in the log. */
void model_count(const struct model *model, uint64_t *ret_keys, uint64_t *ret_bytes);
/* The same without those that have expired by now: merges may have taken these away. */
void model_count_living(const struct model *model, uint64_t now_ms, uint64_t *ret_keys,
                        uint64_t *ret_bytes);

#endif
