/* Copying what survives into new segments.
 *
 * Records are read and written in large pieces, both by system calls: what is written once and not
 * read for a while would pay for its page faults, and a bad sector is a status. Pieces of an output
 * end at multiples of 2 MiB, so that the kernel can keep them in huge pages. */
#include <stdlib.h>

#include "merge/merge_internal.h"

#define CHUNK_BYTES ((uint64_t)256 << 10) /* stays in the cache until it is written */
#define GAP_BYTES ((uint64_t)64 << 10)    /* dead bytes that are read along, at most */
#define LAST_BYTES ((uint64_t)1 << 10)    /* of a record whose size is not known */
#define PIECE_BYTES ((size_t)2 << 20)
#define WRITER_BYTES (2 * PIECE_BYTES)
#define PACE_BYTES ((uint64_t)1 << 20)
#define AHEAD 8u /* survivors asked for before their turn */

/* ---- reading --------------------------------------------------------------------------------- */

/* An input's file, read in large pieces from front to back. */
struct reader {
    const uint64_t *order; /* of all survivors */
    size_t at;             /* whose turn it is */
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

/* Where a reading is to end that begins with the survivor whose turn it is: what follows closely is
 * read along. */
static uint64_t end_of_reading(const struct merge *merge, const struct reader *reader)
{
    uint64_t first = merge_offset_of(reader->order[reader->at]);
    uint64_t last = first;

    for (size_t i = reader->at + 1; i < merge->survivor_count; i++) {
        uint64_t offset = merge_offset_of(reader->order[i]);

        if (offset < last || offset - last > GAP_BYTES || offset - first > CHUNK_BYTES - LAST_BYTES)
            break;
        last = offset;
    }
    return min_u64(last + LAST_BYTES, segment_tail(reader->segment));
}

/* Makes [offset, offset + size) part of what is in bytes. */
static int reader_want(struct merge *merge, struct reader *reader, uint64_t offset, uint64_t size)
{
    uint64_t end;
    size_t want;
    int status;

    if (offset >= reader->start && offset + size <= reader->end)
        return CASK_OK;
    end = max_u64(offset + size, end_of_reading(merge, reader));
    want = (size_t)(end - offset);
    if (want > reader->room) {
        size_t room = (size_t)max_u64(want, CHUNK_BYTES);

        pages_return(reader->bytes, reader->room);
        reader->bytes = pages_borrow(room);
        reader->room = reader->bytes ? room : 0;
        if (!reader->bytes)
            return CASK_ENOMEM;
    }
    reader->start = offset;
    reader->end = offset;
    status = io_read(reader->file, offset, reader->bytes, want, NULL);
    if (status != CASK_OK)
        return status;
    reader->end = end;
    merge->read_bytes += want;
    return merge_pause(merge, want);
}

/* The record's bytes, as far as its segment goes, by way of the reader. */
static int fetch(struct merge *merge, struct reader *reader, const struct survivor *survivor,
                 const uint8_t **ret_bytes, uint64_t *ret_available)
{
    const struct segment *input = merge->inputs[survivor->input];
    uint64_t offset = survivor_offset(survivor);
    uint64_t left = segment_tail(input) - min_u64(segment_tail(input), offset);
    uint64_t size = survivor->size;
    int status = reader->segment == input ? CASK_OK : reader_open(merge, reader, input);

    if (status == CASK_OK && size == 0) {
        if (left < RECORD_MIN_BYTES)
            return CASK_ECORRUPT;
        status = reader_want(merge, reader, offset, RECORD_MIN_BYTES);
        if (status == CASK_OK)
            size = min_u64(record_claimed_size(reader->bytes + (offset - reader->start)), left);
    }
    if (status == CASK_OK)
        status = reader_want(merge, reader, offset, size);
    if (status != CASK_OK)
        return status;
    *ret_bytes = reader->bytes + (offset - reader->start);
    *ret_available = size;
    return CASK_OK;
}

/* One that was sealed for this merge is in memory by way of its mapping. */
static bool is_in_memory(const struct segment *input)
{
    return input->hintless && input->map;
}

static int read_record(struct merge *merge, struct reader *reader, const struct survivor *survivor,
                       struct record *ret_record)
{
    const struct segment *input = merge->inputs[survivor->input];
    const uint8_t *bytes = NULL;
    uint64_t available = segment_tail(input) -
                         min_u64(segment_tail(input), survivor_offset(survivor));
    int status = CASK_OK;

    if (is_in_memory(input))
        bytes = input->map + survivor_offset(survivor);
    else
        status = fetch(merge, reader, survivor, &bytes, &available);
    if (status != CASK_OK)
        return status;
    if (record_decode(bytes, available, segment_place(input, survivor_offset(survivor)), true,
                      ret_record) != RECORD_VALID ||
        (!merge->by_index && ret_record->sequence != survivor->sequence))
        return CASK_ECORRUPT;
    if (is_in_memory(input))
        merge->read_bytes += record_size(ret_record);
    return CASK_OK;
}

/* What is known of a survivor that the index led to once its record has been read. CASK_NOTFOUND:
 * its fate is not for the index to decide. */
static int get_to_know(struct merge *merge, struct survivor *survivor, const struct record *record)
{
    const struct shard_env *env = merge->shard->env;
    uint64_t hash = hash_key(record->key.data, record->key.size, env->hash_seed);

    if (hash_tag(hash, env->shard_bits) != hash_tag(survivor->hash, env->shard_bits))
        return CASK_ECORRUPT;
    survivor->hash = hash;
    survivor->sequence = record->sequence;
    survivor->size = (uint32_t)record_size(record);
    merge->kept_bytes += survivor->size;
    if (record->type != RECORD_PUT || merge->kept_bytes > merge->live_bytes ||
        (record->expires_at_ms != 0 && record->expires_at_ms <= merge->now_ms))
        return CASK_NOTFOUND;
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

    if (merge->by_index) /* sizes are not known yet: one is enough for them all */
        return merge->survivor_count == 0
                   ? CASK_OK
                   : add_output(merge, merge->live_bytes, merge->survivor_count);
    for (size_t i = 0; status == CASK_OK && i < merge->survivor_count; i++) {
        struct survivor *survivor = merge_survivor_of(merge, order[i]);
        uint64_t size = size_of_copy(survivor);

        if (i + AHEAD < merge->survivor_count)
            __builtin_prefetch(merge_survivor_of(merge, order[i + AHEAD]), 1);
        if (bytes > 0 && bytes + size > merge->output_bytes) {
            status = add_output(merge, bytes, records);
            bytes = 0;
            records = 0;
        }
        bytes += size;
        records++;
        survivor->output = (uint32_t)merge->output_count;
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
    struct segment *output = merge->outputs[survivor->output];
    struct record record;
    uint64_t offset;
    int status = read_record(merge, reader, survivor, &record);

    if (status == CASK_OK && merge->by_index)
        status = get_to_know(merge, survivor, &record);
    if (status != CASK_OK)
        return status;
    record.in_batch = false; /* batches in what is sealed are settled */
    if (survivor->fate == FATE_TO_TOMBSTONE) {
        record.type = RECORD_DELETE;
        record.expires_at_ms = 0;
        record.value = (struct cask_slice){NULL, 0};
    }
    status = write_record(writer, output, &record, &offset);
    if (status != CASK_OK)
        return status;
    count_copy(output, &record);
    survivor->to = (uint32_t)(offset / RECORD_ALIGNMENT);
    survivor->key_size = record.key.size & UINT16_MAX;
    survivor->type = hint_type(&record);
    merge->written_bytes += record_size(&record);
    return CASK_OK;
}

static void tell_damage(struct merge *merge, const struct survivor *survivor)
{
    struct segment *input = merge->inputs[survivor->input];

    merge_leave_alone(merge, input);
    shard_report_unreadable(
        merge->shard,
        location_make(input->id, survivor_offset(survivor), merge->shard->config.offset_bits),
        CASK_ECORRUPT);
}

/* The bytes of a survivor that are in memory, to be asked for; NULL where it comes from a file. */
static const uint8_t *bytes_ahead(const struct merge *merge, const struct survivor *survivor)
{
    const struct segment *input = merge->inputs[survivor->input];

    return is_in_memory(input) ? input->map + survivor_offset(survivor) : NULL;
}

static int copy_all(struct merge *merge, const uint64_t *order, struct writer *writer)
{
    struct reader reader = {.order = order};
    uint64_t told = 0;
    int status = CASK_OK;

    for (size_t i = 0; status == CASK_OK && i < merge->survivor_count; i++) {
        struct survivor *survivor = merge_survivor_of(merge, order[i]);

        /* Not in a function of its own: compilers leave out calls that do nothing but this. */
        if (i + (size_t)2 * AHEAD < merge->survivor_count)
            __builtin_prefetch(merge_survivor_of(merge, order[i + (size_t)2 * AHEAD]), 1);
        if (i + AHEAD < merge->survivor_count)
            __builtin_prefetch(bytes_ahead(merge, merge_survivor_of(merge, order[i + AHEAD])));
        if (survivor->fate == FATE_EXPIRED)
            continue;
        reader.at = i;
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

/* In the order in which survivors were found, which is that of hints, or nearly so. */
static int fill_hints(struct merge *merge)
{
    int status = CASK_OK;

    for (size_t i = 0; i < merge->output_count; i++)
        pages_populate(merge->output_hints[i].entries, 0,
                       (size_t)merge->output_hints[i].room * HINT_ENTRY_BYTES);

    for (size_t i = 0; status == CASK_OK && i < merge->survivor_count; i++) {
        const struct survivor *survivor = &merge->survivors[i];

        if (survivor->fate == FATE_EXPIRED)
            continue;
        status = hint_add_entry(
            &merge->output_hints[survivor->output],
            &(struct hint_entry){.hash = survivor->hash,
                                 .sequence = survivor->sequence,
                                 .offset = (uint64_t)survivor->to * RECORD_ALIGNMENT,
                                 .size = survivor_copy_size(survivor),
                                 .key_size = survivor->key_size,
                                 .type = survivor->type});
    }
    for (size_t i = 0; i < merge->output_count; i++)
        merge->output_hints[i].max_expiry = merge->outputs[i]->counts.last_expiry;
    return status;
}

int merge_copy(struct merge *merge)
{
    struct writer writer = {0};
    uint64_t *order = NULL;
    int status = merge_make_order(merge, &order);

    if (status == CASK_OK)
        status = make_outputs(merge, order);
    if (status == CASK_OK && merge->output_count > 0) {
        writer.bytes = pages_borrow(WRITER_BYTES);
        if (writer.bytes)
            pages_populate(writer.bytes, 0,
                           (size_t)min_u64(merge->outputs[0]->capacity, PIECE_BYTES));
        status = writer.bytes ? copy_all(merge, order, &writer) : CASK_ENOMEM;
        pages_return(writer.bytes, WRITER_BYTES);
    }
    merge_free_order(merge, order);
    if (status == CASK_OK && merge->by_index && !merge_gathered_all(merge))
        status = CASK_NOTFOUND;
    if (status == CASK_OK)
        status = fill_hints(merge);
    for (size_t i = 0; status == CASK_OK && i < merge->output_count; i++)
        status = shard_finish_output(merge->shard, merge->outputs[i], &merge->output_hints[i]);
    return status;
}
