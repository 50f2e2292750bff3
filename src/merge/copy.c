/* Copying what survives into new segments.
 *
 * Records are read and written in large pieces, both by system calls: what is written once and not
 * read for a while would pay for its page faults, and a bad sector is a status. Pieces of an output
 * end at multiples of 2 MiB, so that the kernel can keep them in huge pages. */
#include <stdlib.h>

#include "merge/merge_internal.h"

#define CHUNK_BYTES ((uint64_t)256 << 10) /* stays in the cache until it is written */
#define PIECE_BYTES ((size_t)2 << 20)
#define WRITER_BYTES (2 * PIECE_BYTES)
#define PACE_BYTES ((uint64_t)1 << 20)
#define DIGIT_BITS 10u
#define DIGITS (1u << DIGIT_BITS)
#define AHEAD 8u /* survivors asked for before their turn */

/* ---- reading --------------------------------------------------------------------------------- */

/* An input's file, read in large pieces from front to back. */
struct reader {
    struct io_file *file;
    const struct segment *segment;
    uint8_t *bytes;
    size_t room;
    uint64_t start; /* of what is in bytes */
    uint64_t end;
};

static int reader_open(struct merge *merge, struct reader *reader, const struct segment *segment)
{
    char name[SEGMENT_NAME_BYTES];

    if (reader->file)
        io_close(reader->file);
    reader->file = NULL;
    reader->segment = segment;
    reader->start = 0;
    reader->end = 0;
    segment_data_name(segment->id, name);
    return io_open(merge->shard->dir, name, IO_READ, &reader->file);
}

static void reader_close(struct reader *reader)
{
    if (reader->file)
        io_close(reader->file);
    pages_return(reader->bytes, reader->room);
}

static int reader_fill(struct merge *merge, struct reader *reader, uint64_t offset, uint64_t size)
{
    size_t want = (size_t)max_u64(size,
                                  min_u64(CHUNK_BYTES, segment_tail(reader->segment) - offset));
    int status;

    if (want > reader->room) {
        pages_return(reader->bytes, reader->room);
        reader->bytes = pages_borrow(want);
        reader->room = reader->bytes ? want : 0;
        if (!reader->bytes)
            return CASK_ENOMEM;
    }
    reader->start = offset;
    reader->end = offset;
    status = io_read(reader->file, offset, reader->bytes, want, NULL);
    if (status != CASK_OK)
        return status;
    reader->end = offset + want;
    merge->read_bytes += want;
    return merge_pause(merge, want);
}

static int decode(const uint8_t *bytes, const struct segment *input,
                  const struct survivor *survivor, struct record *ret_record)
{
    if (record_decode(bytes, survivor->size, segment_place(input, survivor->offset), true,
                      ret_record) != RECORD_VALID ||
        ret_record->sequence != survivor->sequence)
        return CASK_ECORRUPT;
    return CASK_OK;
}

/* One that was scanned for want of a hint is in memory by way of its mapping. */
static int read_record(struct merge *merge, struct reader *reader, const struct survivor *survivor,
                       struct record *ret_record)
{
    const struct segment *input = merge->inputs[survivor->input];
    int status = CASK_OK;

    if (input->hintless && input->map)
        return decode(input->map + survivor->offset, input, survivor, ret_record);
    if (reader->segment != input)
        status = reader_open(merge, reader, input);
    if (status == CASK_OK &&
        (survivor->offset < reader->start || survivor->offset + survivor->size > reader->end))
        status = reader_fill(merge, reader, survivor->offset, survivor->size);
    if (status != CASK_OK)
        return status;
    return decode(reader->bytes + (survivor->offset - reader->start), input, survivor, ret_record);
}

/* ---- the order of places --------------------------------------------------------------------- */

/* A survivor's place in its input, and its number. */
static uint64_t order_key(const struct merge *merge, size_t number)
{
    return merge->survivors[number].offset / RECORD_ALIGNMENT << 32 | number;
}

static struct survivor *survivor_of(const struct merge *merge, uint64_t key)
{
    return &merge->survivors[(uint32_t)key];
}

static bool is_in_order(const uint64_t *keys, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (keys[i - 1] > keys[i])
            return false;
    return true;
}

static void sort_by_digit(const uint64_t *from, uint64_t *to, size_t count, unsigned shift)
{
    size_t next[DIGITS] = {0};
    size_t sum = 0;

    for (size_t i = 0; i < count; i++)
        next[from[i] >> shift & (DIGITS - 1)]++;
    for (unsigned digit = 0; digit < DIGITS; digit++) {
        size_t here = next[digit];

        next[digit] = sum;
        sum += here;
    }
    for (size_t i = 0; i < count; i++)
        to[next[from[i] >> shift & (DIGITS - 1)]++] = from[i];
}

_Static_assert(SEGMENT_BYTES_MAX / RECORD_ALIGNMENT < (uint64_t)1 << (4 * DIGIT_BITS),
               "four digits order the places of a segment");

/* Of one input, whose survivors lie one behind the other. */
static void sort_by_place(uint64_t *keys, uint64_t *spare, size_t count)
{
    if (is_in_order(keys, count)) /* they were read from the segment itself */
        return;
    for (unsigned digit = 0; digit < 4; digit += 2) {
        sort_by_digit(keys, spare, count, 32 + digit * DIGIT_BITS);
        sort_by_digit(spare, keys, count, 32 + (digit + 1) * DIGIT_BITS);
    }
}

/* Survivors come input by input: each input's are brought into the order of their places. */
static int make_order(const struct merge *merge, uint64_t **ret_order)
{
    size_t count = merge->survivor_count;
    size_t bytes = (count + 1) * sizeof(uint64_t);
    uint64_t *order = pages_borrow(bytes);
    uint64_t *spare = pages_borrow(bytes);

    if (!order || !spare || count > UINT32_MAX) {
        pages_return(order, bytes);
        pages_return(spare, bytes);
        return CASK_ENOMEM;
    }
    for (size_t i = 0; i < count; i++)
        order[i] = order_key(merge, i);
    for (size_t from = 0; from < count;) {
        size_t end = from + 1;

        while (end < count && merge->survivors[end].input == merge->survivors[from].input)
            end++;
        sort_by_place(order + from, spare, end - from);
        from = end;
    }
    pages_return(spare, bytes);
    *ret_order = order;
    return CASK_OK;
}

/* ---- outputs --------------------------------------------------------------------------------- */

/* What its copy will take; the key size of one that becomes a tombstone is not known yet. */
static uint64_t size_of_copy(const struct survivor *survivor)
{
    return survivor->fate == FATE_EXPIRED ? 0 : survivor->size;
}

static int add_output(struct merge *merge, uint64_t bytes, uint64_t records)
{
    int status;

    if (merge->output_count == merge->output_room) {
        size_t room = merge->output_room == 0 ? 4 : merge->output_room * 2;
        struct segment **outputs = realloc(merge->outputs, room * sizeof(struct segment *));
        struct hint *hints;

        if (!outputs)
            return CASK_ENOMEM;
        merge->outputs = outputs;
        hints = realloc(merge->output_hints, room * sizeof *hints);
        if (!hints)
            return CASK_ENOMEM;
        merge->output_hints = hints;
        merge->output_room = room;
    }
    status = shard_create_output(merge->shard, bytes, &merge->outputs[merge->output_count]);
    if (status != CASK_OK)
        return status;
    hint_init(&merge->output_hints[merge->output_count], merge->outputs[merge->output_count]->id);
    return hint_reserve(&merge->output_hints[merge->output_count++], records);
}

/* All outputs are there, with their blocks, before the first byte is copied: a disk without the
 * room is met at once. */
static int make_outputs(struct merge *merge, const uint64_t *order)
{
    uint64_t bytes = 0;
    uint64_t records = 0;
    int status = CASK_OK;

    for (size_t i = 0; status == CASK_OK && i < merge->survivor_count; i++) {
        struct survivor *survivor = survivor_of(merge, order[i]);
        uint64_t size = size_of_copy(survivor);

        if (i + AHEAD < merge->survivor_count)
            __builtin_prefetch(survivor_of(merge, order[i + AHEAD]), 1);
        if (bytes > 0 && bytes + size > merge->output_bytes) {
            status = add_output(merge, bytes, records);
            bytes = 0;
            records = 0;
        }
        bytes += size;
        records++;
        survivor->to = merge->output_count; /* for now: which of them */
    }
    if (status == CASK_OK && bytes > 0)
        status = add_output(merge, bytes, records);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* The output that is being written, and what of it has not gone to its file yet. */
struct writer {
    struct segment *output;
    uint8_t *bytes; /* WRITER_BYTES */
    uint64_t start; /* of what is in bytes: less than a piece, and a record */
    uint64_t end;
};

/* All, or whole pieces only. */
static int write_out(struct writer *writer, bool all)
{
    uint64_t end = all ? writer->end : writer->end & ~(uint64_t)(PIECE_BYTES - 1);
    int status;

    if (end <= writer->start)
        return CASK_OK;
    status = io_write(writer->output->file, writer->start, writer->bytes,
                      (size_t)(end - writer->start));
    if (status != CASK_OK)
        return status;
    memmove(writer->bytes, writer->bytes + (end - writer->start), (size_t)(writer->end - end));
    writer->start = end;
    return CASK_OK;
}

static int end_output(struct writer *writer)
{
    int status = CASK_OK;

    if (!writer->output)
        return CASK_OK;
    status = write_out(writer, true);
    if (status == CASK_OK)
        segment_set_tail(writer->output, writer->end);
    writer->output = NULL;
    return status;
}

static int begin_output(struct writer *writer, struct segment *output)
{
    int status = end_output(writer);

    writer->output = output;
    writer->start = segment_tail(output);
    writer->end = writer->start;
    return status;
}

/* One that is larger than a piece goes to the file from where it lies. */
static int write_large(struct writer *writer, const struct record *record, uint64_t *ret_offset)
{
    int status = write_out(writer, true);

    if (status != CASK_OK)
        return status;
    segment_set_tail(writer->output, writer->end);
    status = segment_append(writer->output, record, ret_offset);
    if (status == CASK_OK)
        status = segment_commit(writer->output);
    writer->start = segment_tail(writer->output);
    writer->end = writer->start;
    return status;
}

static int write_record(struct writer *writer, struct segment *output, const struct record *record,
                        uint64_t *ret_offset)
{
    size_t size = record_size(record);
    int status = CASK_OK;

    if (writer->output != output)
        status = begin_output(writer, output);
    if (status == CASK_OK && size > PIECE_BYTES)
        return write_large(writer, record, ret_offset);
    if (status != CASK_OK)
        return status;
    *ret_offset = writer->end;
    record_encode(record, segment_place(output, writer->end),
                  writer->bytes + (writer->end - writer->start));
    writer->end += size;
    return write_out(writer, false);
}

/* ---- copying --------------------------------------------------------------------------------- */

static void count_copy(struct segment *output, const struct record *record)
{
    segment_counts_note(&output->counts, record->sequence,
                        record_expiry_counted(record->type, record->expires_at_ms));
    if (record->type == RECORD_DELETE)
        output->counts.tombstone_bytes += record_size(record);
}

static int copy_record(struct merge *merge, struct reader *reader, struct writer *writer,
                       struct survivor *survivor)
{
    size_t number = (size_t)survivor->to;
    struct segment *output;
    struct record record;
    uint64_t offset;
    int status = read_record(merge, reader, survivor, &record);

    if (status != CASK_OK)
        return status;
    output = merge->outputs[number];
    record.in_batch = false; /* batches in what is sealed are settled */
    if (survivor->fate == FATE_TO_TOMBSTONE) {
        record.type = RECORD_DELETE;
        record.expires_at_ms = 0;
        record.value = (struct cask_slice){NULL, 0};
    }
    status = write_record(writer, output, &record, &offset);
    if (status == CASK_OK)
        status = hint_add(&merge->output_hints[number], &record, survivor->hash, offset);
    if (status != CASK_OK)
        return status;
    count_copy(output, &record);
    survivor->output = output;
    survivor->to = location_make(output->id, offset, merge->shard->config.offset_bits);
    merge->written_bytes += record_size(&record);
    return CASK_OK;
}

static void tell_damage(struct merge *merge, const struct survivor *survivor)
{
    struct segment *input = merge->inputs[survivor->input];

    merge_leave_alone(merge, input);
    shard_report_unreadable(
        merge->shard, location_make(input->id, survivor->offset, merge->shard->config.offset_bits),
        CASK_ECORRUPT);
}

static int copy_all(struct merge *merge, const uint64_t *order, struct writer *writer)
{
    struct reader reader = {0};
    uint64_t told = 0;
    int status = CASK_OK;

    for (size_t i = 0; status == CASK_OK && i < merge->survivor_count; i++) {
        struct survivor *survivor = survivor_of(merge, order[i]);

        if (i + AHEAD < merge->survivor_count)
            __builtin_prefetch(survivor_of(merge, order[i + AHEAD]), 1);
        if (survivor->fate == FATE_EXPIRED)
            continue;
        status = copy_record(merge, &reader, writer, survivor);
        if (status == CASK_ECORRUPT)
            tell_damage(merge, survivor);
        if (status == CASK_OK && merge->written_bytes - told >= PACE_BYTES) {
            status = merge_pause(merge, merge->written_bytes - told);
            told = merge->written_bytes;
        }
    }
    reader_close(&reader);
    return status == CASK_OK ? end_output(writer) : status;
}

int merge_copy(struct merge *merge)
{
    struct writer writer = {0};
    uint64_t *order = NULL;
    int status = make_order(merge, &order);

    if (status == CASK_OK)
        status = make_outputs(merge, order);
    if (status == CASK_OK && merge->output_count > 0) {
        writer.bytes = pages_borrow(WRITER_BYTES);
        status = writer.bytes ? copy_all(merge, order, &writer) : CASK_ENOMEM;
        pages_return(writer.bytes, WRITER_BYTES);
    }
    if (order)
        pages_return(order, (merge->survivor_count + 1) * sizeof(uint64_t));
    for (size_t i = 0; status == CASK_OK && i < merge->output_count; i++)
        status = shard_finish_output(merge->shard, merge->outputs[i], &merge->output_hints[i]);
    return status;
}
