/* The digest of a segment, so that opening need not read its values.
 *
 * Header, 128 bytes:
 *    0  8  magic "CASKHINT"
 *    8  4  format version            12  4  shard
 *   16 16  store uuid
 *   32  8  segment id                40  8  bytes of the segment that it covers, from 0
 *   48  8  checksum of those bytes   56  8  number of entries
 *   64  8  smallest sequence number  72  8  largest
 *   80  8  largest batch number      88  8  latest expiry; 0 if a record never expires
 *   96 32  zero
 * Entries, 25 bytes each, ordered by tag (see base/hash.h), those of equal tag as in the segment:
 *    0  8  key hash                   8  6  sequence number
 *   14  4  offset / 8                18  4  stored size / 8
 *   22  2  key size                  24  1  type and flags, as in the record
 * Then 8 bytes: checksum of all before.
 *
 * Invariants:
 *  1. Only records that count are listed: puts and deletes, of batches only whole ones.
 *  2. What a hint covers was durable before the hint was written.
 *  3. A hint is never trusted on doubt: anything wrong with it, and the segment is scanned instead.
 */
#ifndef CASKADE_HINT_H
#define CASKADE_HINT_H

#include "log/segment.h"

struct hint_entry {
    uint64_t hash;
    uint64_t sequence;
    uint64_t offset;
    uint64_t size;
    uint16_t key_size;
    uint8_t type;
};

struct hint {
    uint64_t segment;
    uint64_t length;
    uint64_t data_checksum;
    uint64_t min_sequence;
    uint64_t max_sequence;
    uint64_t max_batch;
    uint64_t max_expiry;
    uint64_t count;
    struct hint_entry *entries; /* while building */
    uint64_t room;
    uint8_t *file; /* while reading: the whole file */
    size_t file_bytes;
    bool file_owned;
};

void hint_init(struct hint *hint, uint64_t segment);
void hint_release(struct hint *hint);

/* Adds a record that lies at offset; `hash` is its key's. */
CHECKED int hint_add(struct hint *hint, const struct record *record, uint64_t hash,
                     uint64_t offset);

/* Adds all entries of another, read or built, and widens the ranges of the header to its own. */
CHECKED int hint_take_over(struct hint *hint, const struct hint *from);

/* Orders the entries, while it is being built, by tag. CASK_ENOMEM. */
CHECKED int hint_sort(struct hint *hint, unsigned shard_bits);

/* Orders the entries and writes the hint: tmp, sync, rename, sync of the directory. */
CHECKED int hint_write(struct hint *hint, struct io_dir *dir, const struct log_config *config,
                       unsigned shard_bits);

/* Reads and checks the hint of a segment. CASK_NOTFOUND if there is none, CASK_ECORRUPT if anything
 * about it is wrong, CASK_EIO, CASK_ENOMEM. Entries are then had with hint_entry_at(). */
CHECKED int hint_read(struct io_dir *dir, const struct log_config *config, uint64_t segment,
                      struct hint *ret_hint);

/* The same from bytes in memory, which the hint does not take over. */
CHECKED int hint_parse(const uint8_t *bytes, uint64_t size, const struct log_config *config,
                       uint64_t segment, struct hint *ret_hint);

struct hint_entry hint_entry_at(const struct hint *hint, uint64_t index);

#endif
