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

#include "base/checksum.h"
#include "log/segment.h"

#define HINT_ENTRY_BYTES 25u

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
    uint8_t *entries; /* while building: as they will stand in the file */
    uint64_t room;
    uint64_t passed_over; /* records of tags that are not kept */
    uint32_t first_tag;   /* those that are */
    uint32_t last_tag;
    unsigned shard_bits; /* says what a tag is; of no matter where all are kept */
    uint8_t *file;       /* while reading: the whole file */
    size_t file_bytes;
    bool file_owned;
};

void hint_init(struct hint *hint, uint64_t segment);
void hint_release(struct hint *hint);

/* Forgets the entries, but not their memory; from now on only records of these tags are kept, and
 * the others counted. */
void hint_keep(struct hint *hint, uint32_t first_tag, uint32_t last_tag, unsigned shard_bits);

/* Room for that many entries at once: else it grows by doubling. CASK_ENOMEM. */
CHECKED int hint_reserve(struct hint *hint, uint64_t count);

/* Adds a record that lies at offset; `hash` is its key's. */
CHECKED int hint_add(struct hint *hint, const struct record *record, uint64_t hash,
                     uint64_t offset);

/* The same of a record that is not at hand; max_expiry is the caller's to set. */
CHECKED int hint_add_entry(struct hint *hint, const struct hint_entry *entry);

/* A record's type and flags, as in its entry. */
uint8_t hint_type(const struct record *record);

/* Adds all entries of another, read or built, and widens the ranges of the header to its own. */
CHECKED int hint_take_over(struct hint *hint, const struct hint *from);

/* Orders the entries, while it is being built, by tag, in place. */
void hint_sort(struct hint *hint, unsigned shard_bits);

/* Orders the entries and writes the hint: tmp, sync, rename, sync of the directory. */
CHECKED int hint_write(struct hint *hint, struct io_dir *dir, const struct log_config *config,
                       unsigned shard_bits);

/* The same in parts, each of higher tags than the one before. Opened with the first part, whose
 * header fields, and whose count of what it keeps and passes over, are those of the whole. After
 * hint_writer_open() was CASK_OK, hint_writer_close() is called in any case: without `keep` the
 * file is given up, and so it is if the parts do not add up, which is CASK_ECORRUPT. */
struct hint_writer {
    struct io_dir *dir;
    struct io_file *file;
    XXH3_state_t checksum;
    uint64_t segment;
    uint64_t at;    /* bytes written */
    uint64_t total; /* entries that the header speaks of */
    uint64_t count;
};
CHECKED int hint_writer_open(struct hint_writer *writer, struct io_dir *dir,
                             const struct log_config *config, const struct hint *first);
CHECKED int hint_writer_add(struct hint_writer *writer, struct hint *part, unsigned shard_bits);
CHECKED int hint_writer_close(struct hint_writer *writer, bool keep);

/* Reads and checks the hint of a segment. CASK_NOTFOUND if there is none, CASK_ECORRUPT if anything
 * about it is wrong, CASK_EIO, CASK_ENOMEM. Entries are then had with hint_entry_at(). */
CHECKED int hint_read(struct io_dir *dir, const struct log_config *config, uint64_t segment,
                      struct hint *ret_hint);

/* The same from bytes in memory, which the hint does not take over. */
CHECKED int hint_parse(const uint8_t *bytes, uint64_t size, const struct log_config *config,
                       uint64_t segment, struct hint *ret_hint);

/* Of a hint that is read or built. */
struct hint_entry hint_entry_at(const struct hint *hint, uint64_t index);

#endif
