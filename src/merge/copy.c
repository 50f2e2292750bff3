/* Copying what survives into new segments. */
#include <stdlib.h>

#include "merge/merge_internal.h"

#define CHUNK_BYTES ((uint64_t)1 << 20)

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

static int read_record(struct merge *merge, struct reader *reader, const struct survivor *survivor,
                       struct record *ret_record)
{
    const struct segment *input = merge->inputs[survivor->input];
    int status = CASK_OK;

    if (reader->segment != input)
        status = reader_open(merge, reader, input);
    if (status == CASK_OK &&
        (survivor->offset < reader->start || survivor->offset + survivor->size > reader->end))
        status = reader_fill(merge, reader, survivor->offset, survivor->size);
    if (status != CASK_OK)
        return status;
    if (record_decode(reader->bytes + (survivor->offset - reader->start), survivor->size,
                      segment_place(input, survivor->offset), true, ret_record) != RECORD_VALID ||
        ret_record->sequence != survivor->sequence)
        return CASK_ECORRUPT;
    return CASK_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* What its copy will take; the key size of one that becomes a tombstone is not known yet. */
static uint64_t size_of_copy(const struct survivor *survivor)
{
    return survivor->fate == FATE_EXPIRED ? 0 : survivor->size;
}

static int add_output(struct merge *merge, uint64_t bytes)
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
    merge->output_count++;
    return CASK_OK;
}

/* All outputs are there, with their blocks, before the first byte is copied: a disk without the
 * room is met at once. */
static int make_outputs(struct merge *merge, struct survivor **order)
{
    uint64_t bytes = 0;
    int status = CASK_OK;

    for (size_t i = 0; status == CASK_OK && i < merge->survivor_count; i++) {
        uint64_t size = size_of_copy(order[i]);

        if (bytes > 0 && bytes + size > merge->output_bytes) {
            status = add_output(merge, bytes);
            bytes = 0;
        }
        bytes += size;
        order[i]->to = merge->output_count; /* for now: which of them */
    }
    if (status == CASK_OK && bytes > 0)
        status = add_output(merge, bytes);
    return status;
}

static void count_copy(struct segment *output, const struct record *record)
{
    segment_counts_note(&output->counts, record->sequence,
                        record_expiry_counted(record->type, record->expires_at_ms));
    if (record->type == RECORD_DELETE)
        output->counts.tombstone_bytes += record_size(record);
}

static int copy_record(struct merge *merge, struct reader *reader, struct survivor *survivor)
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
    status = segment_append(output, &record, &offset);
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

static int copy_all(struct merge *merge, struct survivor **order)
{
    struct reader reader = {0};
    uint64_t told = 0;
    int status = CASK_OK;

    for (size_t i = 0; status == CASK_OK && i < merge->survivor_count; i++) {
        if (order[i]->fate == FATE_EXPIRED)
            continue;
        status = copy_record(merge, &reader, order[i]);
        if (status == CASK_ECORRUPT) {
            merge_leave_alone(merge, merge->inputs[order[i]->input]);
            shard_report_unreadable(merge->shard,
                                    location_make(merge->inputs[order[i]->input]->id,
                                                  order[i]->offset,
                                                  merge->shard->config.offset_bits),
                                    status);
        }
        if (status == CASK_OK && merge->written_bytes - told >= CHUNK_BYTES) {
            status = merge_pause(merge, merge->written_bytes - told);
            told = merge->written_bytes;
        }
    }
    reader_close(&reader);
    return status;
}

static int by_place(const void *a, const void *b)
{
    const struct survivor *left = *(struct survivor *const *)a;
    const struct survivor *right = *(struct survivor *const *)b;

    if (left->input != right->input)
        return left->input < right->input ? -1 : 1;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

int merge_copy(struct merge *merge)
{
    size_t order_bytes = (merge->survivor_count + 1) * sizeof(struct survivor *);
    struct survivor **order = pages_borrow(order_bytes);
    int status;

    if (!order)
        return CASK_ENOMEM;
    for (size_t i = 0; i < merge->survivor_count; i++)
        order[i] = &merge->survivors[i];
    qsort(order, merge->survivor_count, sizeof(struct survivor *), by_place);
    status = make_outputs(merge, order);
    if (status == CASK_OK)
        status = copy_all(merge, order);
    pages_return(order, order_bytes);
    for (size_t i = 0; status == CASK_OK && i < merge->output_count; i++)
        status = shard_finish_output(merge->shard, merge->outputs[i], &merge->output_hints[i]);
    return status;
}
