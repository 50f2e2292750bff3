#include "log/hint.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "base/pages.h"

#define HINT_VERSION 1u
#define HEADER_BYTES 128u
#define TRAILER_BYTES 8u

#define AT_VERSION 8
#define AT_SHARD 12
#define AT_UUID 16
#define AT_SEGMENT 32
#define AT_LENGTH 40
#define AT_DATA_CHECKSUM 48
#define AT_COUNT 56
#define AT_MIN_SEQUENCE 64
#define AT_MAX_SEQUENCE 72
#define AT_MAX_BATCH 80
#define AT_MAX_EXPIRY 88

#define ENTRY_SEQUENCE 8
#define ENTRY_OFFSET 14
#define ENTRY_SIZE 18
#define ENTRY_KEY_SIZE 22
#define ENTRY_TYPE 24

/* No segment has more records than fit into it. */
#define HINT_BYTES_MAX                                                                             \
    (HEADER_BYTES + SEGMENT_BYTES_MAX / RECORD_MIN_BYTES * HINT_ENTRY_BYTES + TRAILER_BYTES)

#define ROOM_MIN 10240u /* 250 KiB */
#define SORT_BITS 64u   /* of an entry's tag and place together */
#define DIGIT_BITS 8u
#define DIGITS (1u << DIGIT_BITS)
#define SMALL_COUNT 24u /* that many are sorted by insertion */
#define MOVES_PER_ENTRY 4u
#define WRITE_BYTES ((size_t)1 << 20)
#define TMP_NAME_BYTES (SEGMENT_NAME_BYTES + 4)

static const char magic[8] = {'C', 'A', 'S', 'K', 'H', 'I', 'N', 'T'};

void hint_init(struct hint *hint, uint64_t segment)
{
    memset(hint, 0, sizeof *hint);
    hint->segment = segment;
    hint->min_sequence = RECORD_SEQUENCE_MAX;
    hint->last_tag = UINT32_MAX;
}

void hint_keep(struct hint *hint, uint32_t first_tag, uint32_t last_tag, unsigned shard_bits)
{
    hint->count = 0;
    hint->passed_over = 0;
    hint->first_tag = first_tag;
    hint->last_tag = last_tag;
    hint->shard_bits = shard_bits;
}

void hint_release(struct hint *hint)
{
    pages_free(hint->entries, (size_t)hint->room * HINT_ENTRY_BYTES);
    if (hint->file_owned)
        pages_free(hint->file, hint->file_bytes);
    hint->entries = NULL;
    hint->room = 0;
    hint->file = NULL;
    hint->file_owned = false;
}

uint8_t hint_type(const struct record *record)
{
    uint8_t type = (uint8_t)record->type;

    if (record->in_batch)
        type |= RECORD_IN_BATCH;
    if (record->expires_at_ms != 0)
        type |= RECORD_EXPIRES;
    return type;
}

int hint_reserve(struct hint *hint, uint64_t count)
{
    void *entries = hint->entries;
    int status;

    if (count <= hint->room)
        return CASK_OK;
    status = pages_resize(&entries, (size_t)hint->room * HINT_ENTRY_BYTES,
                          (size_t)count * HINT_ENTRY_BYTES);
    if (status != CASK_OK)
        return status;
    hint->entries = entries;
    hint->room = count;
    return CASK_OK;
}

static void encode_entry(const struct hint_entry *entry, uint8_t to[HINT_ENTRY_BYTES])
{
    put_u64(to, entry->hash);
    put_u48(to + ENTRY_SEQUENCE, entry->sequence);
    put_u32(to + ENTRY_OFFSET, (uint32_t)(entry->offset / RECORD_ALIGNMENT));
    put_u32(to + ENTRY_SIZE, (uint32_t)(entry->size / RECORD_ALIGNMENT));
    put_u16(to + ENTRY_KEY_SIZE, entry->key_size);
    to[ENTRY_TYPE] = entry->type;
}

int hint_add_entry(struct hint *hint, const struct hint_entry *entry)
{
    uint32_t tag = hash_tag(entry->hash, hint->shard_bits);
    int status = CASK_OK;

    hint->min_sequence = min_u64(hint->min_sequence, entry->sequence);
    hint->max_sequence = max_u64(hint->max_sequence, entry->sequence);
    if (tag < hint->first_tag || tag > hint->last_tag) {
        hint->passed_over++;
        return CASK_OK;
    }
    if (hint->count == hint->room)
        status = hint_reserve(hint, hint->room == 0 ? ROOM_MIN : hint->room * 2);
    if (status == CASK_OK)
        encode_entry(entry, hint->entries + hint->count++ * HINT_ENTRY_BYTES);
    return status;
}

int hint_add(struct hint *hint, const struct record *record, uint64_t hash, uint64_t offset)
{
    struct hint_entry entry = {hash,
                               record->sequence,
                               offset,
                               record_size(record),
                               (uint16_t)record->key.size,
                               hint_type(record)};

    if (record->expires_at_ms == 0 && record->type != RECORD_DELETE)
        hint->max_expiry = UINT64_MAX;
    hint->max_expiry = max_u64(hint->max_expiry, record->expires_at_ms);
    return hint_add_entry(hint, &entry);
}

int hint_take_over(struct hint *hint, const struct hint *from)
{
    int status = CASK_OK;

    for (uint64_t i = 0; status == CASK_OK && i < from->count; i++) {
        struct hint_entry entry = hint_entry_at(from, i);

        status = hint_add_entry(hint, &entry);
    }
    if (from->count > 0)
        hint->max_expiry = max_u64(
            hint->max_expiry, from->file && from->max_expiry == 0 ? UINT64_MAX : from->max_expiry);
    hint->max_sequence = max_u64(hint->max_sequence, from->max_sequence);
    hint->max_batch = max_u64(hint->max_batch, from->max_batch);
    return status;
}

/* What entries are ordered by: a number that no two of a segment share, so that those of equal tag
 * stand as in the segment. */
static inline uint64_t sort_key(const uint8_t *entry, unsigned shard_bits)
{
    return (uint64_t)hash_tag(get_u64(entry), shard_bits) << 32 | get_u32(entry + ENTRY_OFFSET);
}

static inline void swap_entries(uint8_t *a, uint8_t *b)
{
    uint8_t held[HINT_ENTRY_BYTES];

    memcpy(held, a, HINT_ENTRY_BYTES);
    memcpy(a, b, HINT_ENTRY_BYTES);
    memcpy(b, held, HINT_ENTRY_BYTES);
}

/* False, with some of them sorted, where that would take too long: entries are far from their
 * places. */
static bool sort_by_insertion(uint8_t *entries, size_t count, unsigned shard_bits)
{
    size_t moved = 0;

    for (size_t i = 1; i < count; i++) {
        uint64_t key = sort_key(entries + i * HINT_ENTRY_BYTES, shard_bits);
        uint8_t held[HINT_ENTRY_BYTES];
        size_t to = i;

        while (to > 0 && sort_key(entries + (to - 1) * HINT_ENTRY_BYTES, shard_bits) > key)
            to--;
        if (to == i)
            continue;
        moved += i - to;
        if (moved > i * MOVES_PER_ENTRY + (size_t)SMALL_COUNT * SMALL_COUNT)
            return false;
        memcpy(held, entries + i * HINT_ENTRY_BYTES, HINT_ENTRY_BYTES);
        memmove(entries + (to + 1) * HINT_ENTRY_BYTES, entries + to * HINT_ENTRY_BYTES,
                (i - to) * HINT_ENTRY_BYTES);
        memcpy(entries + to * HINT_ENTRY_BYTES, held, HINT_ENTRY_BYTES);
    }
    return true;
}

/* Brings each entry into the part of its digit; ends[d] is where that of d ends. */
static void part_by_digit(uint8_t *entries, size_t count, unsigned shift, unsigned shard_bits,
                          size_t ends[DIGITS])
{
    size_t next[DIGITS] = {0};
    size_t sum = 0;

    for (size_t i = 0; i < count; i++)
        next[sort_key(entries + i * HINT_ENTRY_BYTES, shard_bits) >> shift & (DIGITS - 1)]++;
    for (unsigned digit = 0; digit < DIGITS; digit++) {
        size_t here = next[digit];

        next[digit] = sum;
        sum += here;
        ends[digit] = sum;
    }
    for (unsigned digit = 0; digit < DIGITS; digit++)
        while (next[digit] < ends[digit]) {
            uint8_t *entry = entries + next[digit] * HINT_ENTRY_BYTES;
            unsigned its = sort_key(entry, shard_bits) >> shift & (DIGITS - 1);

            if (its != digit)
                swap_entries(entry, entries + next[its] * HINT_ENTRY_BYTES);
            next[its]++;
        }
}

/* By the highest digit first, in place: a hint may be as large as there is memory for. No deeper
 * than there are digits in a key. */
static void sort(uint8_t *entries, size_t count, unsigned bits, unsigned shard_bits)
{
    size_t ends[DIGITS];
    size_t from = 0;

    if ((count <= SMALL_COUNT || bits == SORT_BITS) &&
        sort_by_insertion(entries, count, shard_bits))
        return;
    if (bits == 0) /* no two are alike */
        return;
    part_by_digit(entries, count, bits - DIGIT_BITS, shard_bits, ends);
    for (unsigned digit = 0; digit < DIGITS; digit++) {
        if (ends[digit] - from > 1)
            sort(entries + from * HINT_ENTRY_BYTES, ends[digit] - from, bits - DIGIT_BITS,
                 shard_bits);
        from = ends[digit];
    }
}

void hint_sort(struct hint *hint, unsigned shard_bits)
{
    sort(hint->entries, (size_t)hint->count, SORT_BITS, shard_bits);
}

static void encode_header(const struct hint *hint, const struct log_config *config,
                          uint8_t header[HEADER_BYTES])
{
    memset(header, 0, HEADER_BYTES);
    memcpy(header, magic, sizeof magic);
    put_u32(header + AT_VERSION, HINT_VERSION);
    put_u32(header + AT_SHARD, config->shard);
    memcpy(header + AT_UUID, config->uuid, 16);
    put_u64(header + AT_SEGMENT, hint->segment);
    put_u64(header + AT_LENGTH, hint->length);
    put_u64(header + AT_DATA_CHECKSUM, hint->data_checksum);
    put_u64(header + AT_COUNT, hint->count + hint->passed_over);
    put_u64(header + AT_MIN_SEQUENCE, hint->min_sequence);
    put_u64(header + AT_MAX_SEQUENCE, hint->max_sequence);
    put_u64(header + AT_MAX_BATCH, hint->max_batch);
    put_u64(header + AT_MAX_EXPIRY, hint->max_expiry == UINT64_MAX ? 0 : hint->max_expiry);
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_bytes(struct hint_writer *writer, const uint8_t *bytes, uint64_t size)
{
    int status = CASK_OK;

    while (status == CASK_OK && size > 0) {
        size_t step = (size_t)min_u64(WRITE_BYTES, size);

        XXH3_64bits_update(&writer->checksum, bytes, step);
        status = io_write(writer->file, writer->at, bytes, step);
        writer->at += step;
        bytes += step;
        size -= step;
    }
    return status;
}

static void tmp_name(uint64_t segment, char name[TMP_NAME_BYTES])
{
    char hint[SEGMENT_NAME_BYTES];

    segment_hint_name(segment, hint);
    (void)snprintf(name, TMP_NAME_BYTES, "%s.tmp", hint);
}

/* What a crash left half written under the temporary name is in the way of none: it is removed
 * first. */
int hint_writer_open(struct hint_writer *writer, struct io_dir *dir,
                     const struct log_config *config, const struct hint *first)
{
    uint8_t header[HEADER_BYTES];
    char tmp[TMP_NAME_BYTES];
    int status;

    *writer = (struct hint_writer){
        .dir = dir, .segment = first->segment, .total = first->count + first->passed_over};
    tmp_name(writer->segment, tmp);
    status = io_unlink(dir, tmp);
    if (status == CASK_OK || status == CASK_NOTFOUND)
        status = io_open(dir, tmp, IO_CREATE_NEW, &writer->file);
    if (status != CASK_OK)
        return status;
    XXH3_INITSTATE(&writer->checksum);
    XXH3_64bits_reset(&writer->checksum);
    encode_header(first, config, header);
    status = write_bytes(writer, header, HEADER_BYTES);
    if (status != CASK_OK) {
        int closed = hint_writer_close(writer, false);

        (void)closed; /* the failure to report is the one before */
    }
    return status;
}

int hint_writer_add(struct hint_writer *writer, struct hint *part, unsigned shard_bits)
{
    hint_sort(part, shard_bits);
    writer->count += part->count;
    return write_bytes(writer, part->entries, part->count * HINT_ENTRY_BYTES);
}

int hint_writer_close(struct hint_writer *writer, bool keep)
{
    uint8_t trailer[TRAILER_BYTES];
    char name[SEGMENT_NAME_BYTES];
    char tmp[TMP_NAME_BYTES];
    int status = writer->count == writer->total ? CASK_OK : CASK_ECORRUPT;
    int left;

    segment_hint_name(writer->segment, name);
    tmp_name(writer->segment, tmp);
    put_u64(trailer, XXH3_64bits_digest(&writer->checksum));
    if (keep && status == CASK_OK)
        status = io_write(writer->file, writer->at, trailer, TRAILER_BYTES);
    if (keep && status == CASK_OK)
        status = io_sync(writer->file);
    io_close(writer->file);
    if (keep && status == CASK_OK)
        status = io_rename(writer->dir, tmp, name);
    if (keep && status == CASK_OK)
        return io_dir_sync(writer->dir);
    left = io_unlink(writer->dir, tmp);
    (void)left; /* it is in nobody's way */
    return keep ? status : CASK_OK;
}

int hint_write(struct hint *hint, struct io_dir *dir, const struct log_config *config,
               unsigned shard_bits)
{
    struct hint_writer writer;
    int status = hint_writer_open(&writer, dir, config, hint);

    if (status != CASK_OK)
        return status;
    status = hint_writer_add(&writer, hint, shard_bits);
    return status_first(status, hint_writer_close(&writer, status == CASK_OK));
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool header_is_good(const uint8_t *bytes, uint64_t size, const struct log_config *config,
                           uint64_t segment)
{
    uint64_t count;

    if (size < HEADER_BYTES + TRAILER_BYTES ||
        get_u64(bytes + size - TRAILER_BYTES) !=
            checksum_bytes(bytes, (size_t)size - TRAILER_BYTES))
        return false;
    count = get_u64(bytes + AT_COUNT);
    return memcmp(bytes, magic, sizeof magic) == 0 && get_u32(bytes + AT_VERSION) == HINT_VERSION &&
           get_u32(bytes + AT_SHARD) == config->shard &&
           memcmp(bytes + AT_UUID, config->uuid, 16) == 0 &&
           get_u64(bytes + AT_SEGMENT) == segment &&
           count == (size - HEADER_BYTES - TRAILER_BYTES) / HINT_ENTRY_BYTES &&
           (size - HEADER_BYTES - TRAILER_BYTES) % HINT_ENTRY_BYTES == 0 &&
           get_u64(bytes + AT_LENGTH) >= SEGMENT_HEADER_BYTES &&
           get_u64(bytes + AT_LENGTH) <= SEGMENT_BYTES_MAX &&
           get_u64(bytes + AT_MAX_SEQUENCE) <= RECORD_SEQUENCE_MAX &&
           get_u64(bytes + AT_MAX_BATCH) <= RECORD_BATCH_MAX;
}

/* Every record lies inside what the hint covers. */
static bool entries_are_good(const struct hint *hint)
{
    for (uint64_t i = 0; i < hint->count; i++) {
        struct hint_entry entry = hint_entry_at(hint, i);
        unsigned type = entry.type & RECORD_TYPE_MASK;
        unsigned flags = entry.type & ~RECORD_TYPE_MASK;

        if (entry.offset < SEGMENT_HEADER_BYTES ||
            entry.size < RECORD_HEADER_BYTES + entry.key_size ||
            entry.offset + entry.size > hint->length || entry.key_size == 0 ||
            (type != RECORD_PUT && type != RECORD_DELETE) || entry.sequence == 0 ||
            (flags & ~RECORD_FLAGS_KNOWN) != 0 || entry.sequence > hint->max_sequence)
            return false;
    }
    return true;
}

int hint_parse(const uint8_t *bytes, uint64_t size, const struct log_config *config,
               uint64_t segment, struct hint *ret_hint)
{
    struct hint hint;

    if (!header_is_good(bytes, size, config, segment))
        return CASK_ECORRUPT;
    hint_init(&hint, segment);
    hint.length = get_u64(bytes + AT_LENGTH);
    hint.data_checksum = get_u64(bytes + AT_DATA_CHECKSUM);
    hint.count = get_u64(bytes + AT_COUNT);
    hint.min_sequence = get_u64(bytes + AT_MIN_SEQUENCE);
    hint.max_sequence = get_u64(bytes + AT_MAX_SEQUENCE);
    hint.max_batch = get_u64(bytes + AT_MAX_BATCH);
    hint.max_expiry = get_u64(bytes + AT_MAX_EXPIRY);
    hint.file = (uint8_t *)(uintptr_t)bytes;
    if (!entries_are_good(&hint))
        return CASK_ECORRUPT;
    *ret_hint = hint;
    return CASK_OK;
}

static int read_file(struct io_file *file, void **ret_bytes, uint64_t *ret_size)
{
    void *bytes = NULL;
    int status = io_size(file, ret_size);

    if (status == CASK_OK && *ret_size > HINT_BYTES_MAX)
        status = CASK_ECORRUPT;
    if (status == CASK_OK)
        status = pages_resize(&bytes, 0, (size_t)*ret_size);
    if (status == CASK_OK)
        status = io_read(file, 0, bytes, (size_t)*ret_size, NULL);
    if (status != CASK_OK)
        pages_free(bytes, (size_t)*ret_size);
    *ret_bytes = bytes;
    return status;
}

int hint_read(struct io_dir *dir, const struct log_config *config, uint64_t segment,
              struct hint *ret_hint)
{
    char name[SEGMENT_NAME_BYTES];
    struct io_file *file;
    void *bytes;
    uint64_t size;
    int status;

    segment_hint_name(segment, name);
    status = io_open(dir, name, IO_READ, &file);
    if (status != CASK_OK)
        return status;
    status = read_file(file, &bytes, &size);
    io_close(file);
    if (status != CASK_OK)
        return status;
    status = hint_parse(bytes, size, config, segment, ret_hint);
    if (status != CASK_OK) {
        pages_free(bytes, (size_t)size);
        return status;
    }
    ret_hint->file_bytes = (size_t)size;
    ret_hint->file_owned = true;
    return CASK_OK;
}

struct hint_entry hint_entry_at(const struct hint *hint, uint64_t index)
{
    const uint8_t *from = (hint->file ? hint->file + HEADER_BYTES : hint->entries) +
                          index * HINT_ENTRY_BYTES;

    return (struct hint_entry){get_u64(from),
                               get_u48(from + ENTRY_SEQUENCE),
                               (uint64_t)get_u32(from + ENTRY_OFFSET) * RECORD_ALIGNMENT,
                               (uint64_t)get_u32(from + ENTRY_SIZE) * RECORD_ALIGNMENT,
                               get_u16(from + ENTRY_KEY_SIZE),
                               from[ENTRY_TYPE]};
}
