#include "log/hint.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "base/pages.h"

#define HINT_VERSION 1u
#define HEADER_BYTES 128u
#define ENTRY_BYTES 25u
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
    (HEADER_BYTES + SEGMENT_BYTES_MAX / RECORD_MIN_BYTES * ENTRY_BYTES + TRAILER_BYTES)

#define RADIX_BITS 11
#define RADIX_PASSES 3
#define ROOM_MIN 256u
#define WRITE_BYTES ((size_t)1 << 20)

static const char magic[8] = {'C', 'A', 'S', 'K', 'H', 'I', 'N', 'T'};

void hint_init(struct hint *hint, uint64_t segment)
{
    memset(hint, 0, sizeof *hint);
    hint->segment = segment;
    hint->min_sequence = RECORD_SEQUENCE_MAX;
}

void hint_release(struct hint *hint)
{
    pages_free(hint->entries, (size_t)hint->room * sizeof *hint->entries);
    if (hint->file_owned)
        pages_free(hint->file, hint->file_bytes);
    hint->entries = NULL;
    hint->room = 0;
    hint->file = NULL;
    hint->file_owned = false;
}

static uint8_t type_of(const struct record *record)
{
    uint8_t type = (uint8_t)record->type;

    if (record->in_batch)
        type |= RECORD_IN_BATCH;
    if (record->expires_at_ms != 0)
        type |= RECORD_EXPIRES;
    return type;
}

static int add_entry(struct hint *hint, const struct hint_entry *entry)
{
    if (hint->count == hint->room) {
        uint64_t room = hint->room == 0 ? ROOM_MIN : hint->room * 2;
        void *entries = hint->entries;
        int status = pages_resize(&entries, (size_t)hint->room * sizeof *entry,
                                  (size_t)room * sizeof *entry);

        if (status != CASK_OK)
            return status;
        hint->entries = entries;
        hint->room = room;
    }
    hint->entries[hint->count++] = *entry;
    hint->min_sequence = min_u64(hint->min_sequence, entry->sequence);
    hint->max_sequence = max_u64(hint->max_sequence, entry->sequence);
    return CASK_OK;
}

int hint_add(struct hint *hint, const struct record *record, uint64_t hash, uint64_t offset)
{
    struct hint_entry entry = {
        hash,           record->sequence, offset, record_size(record), (uint16_t)record->key.size,
        type_of(record)};

    if (record->expires_at_ms == 0 && record->type != RECORD_DELETE)
        hint->max_expiry = UINT64_MAX;
    hint->max_expiry = max_u64(hint->max_expiry, record->expires_at_ms);
    return add_entry(hint, &entry);
}

int hint_take_over(struct hint *hint, const struct hint *from)
{
    int status = CASK_OK;

    for (uint64_t i = 0; status == CASK_OK && i < from->count; i++) {
        struct hint_entry entry = from->file ? hint_entry_at(from, i) : from->entries[i];

        status = add_entry(hint, &entry);
    }
    if (from->count > 0)
        hint->max_expiry = max_u64(
            hint->max_expiry, from->file && from->max_expiry == 0 ? UINT64_MAX : from->max_expiry);
    hint->max_sequence = max_u64(hint->max_sequence, from->max_sequence);
    hint->max_batch = max_u64(hint->max_batch, from->max_batch);
    return status;
}

/* Least significant digit first, so that entries of equal tag keep their order. */
int hint_sort(struct hint *hint, unsigned shard_bits)
{
    struct hint_entry *from = hint->entries;
    struct hint_entry *to;
    void *other = NULL;
    int status = pages_resize(&other, 0, (size_t)hint->room * sizeof *to);

    if (status != CASK_OK)
        return status;
    to = other;
    for (unsigned pass = 0; pass < RADIX_PASSES; pass++) {
        size_t starts[1u << RADIX_BITS] = {0};
        unsigned shift = pass * RADIX_BITS;
        size_t sum = 0;
        struct hint_entry *swap = from;

        for (uint64_t i = 0; i < hint->count; i++)
            starts[hash_tag(from[i].hash, shard_bits) >> shift & ((1u << RADIX_BITS) - 1)]++;
        for (unsigned digit = 0; digit < 1u << RADIX_BITS; digit++) {
            size_t here = starts[digit];

            starts[digit] = sum;
            sum += here;
        }
        for (uint64_t i = 0; i < hint->count; i++)
            to[starts[hash_tag(from[i].hash, shard_bits) >> shift & ((1u << RADIX_BITS) - 1)]++] =
                from[i];
        from = to;
        to = swap;
    }
    hint->entries = from;
    pages_free(to, (size_t)hint->room * sizeof *to);
    return CASK_OK;
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
    put_u64(header + AT_COUNT, hint->count);
    put_u64(header + AT_MIN_SEQUENCE, hint->min_sequence);
    put_u64(header + AT_MAX_SEQUENCE, hint->max_sequence);
    put_u64(header + AT_MAX_BATCH, hint->max_batch);
    put_u64(header + AT_MAX_EXPIRY, hint->max_expiry == UINT64_MAX ? 0 : hint->max_expiry);
}

static void encode_entry(const struct hint_entry *entry, uint8_t to[ENTRY_BYTES])
{
    put_u64(to, entry->hash);
    put_u48(to + ENTRY_SEQUENCE, entry->sequence);
    put_u32(to + ENTRY_OFFSET, (uint32_t)(entry->offset / RECORD_ALIGNMENT));
    put_u32(to + ENTRY_SIZE, (uint32_t)(entry->size / RECORD_ALIGNMENT));
    put_u16(to + ENTRY_KEY_SIZE, entry->key_size);
    to[ENTRY_TYPE] = entry->type;
}

/* Streams the file through one buffer. */
struct hint_writer {
    struct io_file *file;
    XXH3_state_t checksum;
    uint8_t *buffer;
    size_t used;
    uint64_t at;
};

static int writer_flush(struct hint_writer *writer)
{
    int status = io_write(writer->file, writer->at, writer->buffer, writer->used);

    writer->at += writer->used;
    writer->used = 0;
    return status;
}

static int write_entries(struct hint_writer *writer, const struct hint *hint)
{
    int status = CASK_OK;

    for (uint64_t i = 0; status == CASK_OK && i < hint->count; i++) {
        encode_entry(&hint->entries[i], writer->buffer + writer->used);
        writer->used += ENTRY_BYTES;
        if (writer->used > WRITE_BYTES - ENTRY_BYTES - TRAILER_BYTES || i + 1 == hint->count) {
            XXH3_64bits_update(&writer->checksum, writer->buffer, writer->used);
            status = writer_flush(writer);
        }
    }
    return status;
}

static int write_file(struct io_file *file, const struct hint *hint,
                      const struct log_config *config)
{
    uint64_t size = HEADER_BYTES + hint->count * ENTRY_BYTES + TRAILER_BYTES;
    struct hint_writer writer = {.file = file,
                                 .buffer = malloc((size_t)min_u64(WRITE_BYTES, size))};
    int status;

    if (!writer.buffer)
        return CASK_ENOMEM;
    XXH3_INITSTATE(&writer.checksum);
    XXH3_64bits_reset(&writer.checksum);
    encode_header(hint, config, writer.buffer);
    XXH3_64bits_update(&writer.checksum, writer.buffer, HEADER_BYTES);
    writer.used = HEADER_BYTES;
    status = writer_flush(&writer);
    if (status == CASK_OK)
        status = write_entries(&writer, hint);
    if (status == CASK_OK) {
        put_u64(writer.buffer, XXH3_64bits_digest(&writer.checksum));
        writer.used = TRAILER_BYTES;
        status = writer_flush(&writer);
    }
    free(writer.buffer);
    return status == CASK_OK ? io_sync(file) : status;
}

/* A hint that a crash left half written under its temporary name is in the way of none: it is
 * removed first. */
int hint_write(struct hint *hint, struct io_dir *dir, const struct log_config *config,
               unsigned shard_bits)
{
    char name[SEGMENT_NAME_BYTES];
    char tmp[SEGMENT_NAME_BYTES + 4];
    struct io_file *file;
    int status = hint_sort(hint, shard_bits);

    if (status != CASK_OK)
        return status;
    segment_hint_name(hint->segment, name);
    (void)snprintf(tmp, sizeof tmp, "%s.tmp", name);
    status = io_unlink(dir, tmp);
    if (status != CASK_OK && status != CASK_NOTFOUND)
        return status;
    status = io_open(dir, tmp, IO_CREATE_NEW, &file);
    if (status != CASK_OK)
        return status;
    status = write_file(file, hint, config);
    io_close(file);
    if (status == CASK_OK)
        status = io_rename(dir, tmp, name);
    if (status == CASK_OK)
        return io_dir_sync(dir);
    int left = io_unlink(dir, tmp);

    (void)left; /* the failure to report is the one before */
    return status;
}

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
           count == (size - HEADER_BYTES - TRAILER_BYTES) / ENTRY_BYTES &&
           (size - HEADER_BYTES - TRAILER_BYTES) % ENTRY_BYTES == 0 &&
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
    const uint8_t *from = hint->file + HEADER_BYTES + index * ENTRY_BYTES;

    return (struct hint_entry){get_u64(from),
                               get_u48(from + ENTRY_SEQUENCE),
                               (uint64_t)get_u32(from + ENTRY_OFFSET) * RECORD_ALIGNMENT,
                               (uint64_t)get_u32(from + ENTRY_SIZE) * RECORD_ALIGNMENT,
                               get_u16(from + ENTRY_KEY_SIZE),
                               from[ENTRY_TYPE]};
}
