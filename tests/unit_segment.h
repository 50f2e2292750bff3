/* One segment in one of the four modes, for the tests of log/segment. */
#ifndef CASKADE_TESTS_UNIT_SEGMENT_H
#define CASKADE_TESTS_UNIT_SEGMENT_H

#include "unit.h"

#define CAPACITY ((uint64_t)4 << 20)

/* One segment, in one mode. */
struct bench {
    struct place place;
    struct log_config config;
    struct segment *segment;
};

static inline struct bench bench_start(struct unit_mode mode)
{
    struct bench bench = {.place = place_make(), .config = unit_config(mode)};

    assert_ok(segment_create(bench.place.dir, &bench.config, 7, 6, CAPACITY, &bench.segment));
    return bench;
}

static inline void bench_stop(struct bench *bench)
{
    segment_close(bench->segment);
    place_remove(&bench->place);
}

static inline struct record record_of(uint64_t sequence, struct cask_slice key,
                                      struct cask_slice value)
{
    return (struct record){.type = RECORD_PUT, .sequence = sequence, .key = key, .value = value};
}

static inline uint64_t add(struct segment *segment, const struct record *record)
{
    uint64_t offset;

    assert_true(segment_has_room(segment, record_size(record), false));
    assert_ok(segment_ensure(segment, record_size(record), false));
    assert_true(segment->allocated >= segment->pending + record_size(record) + SEGMENT_SEAL_BYTES);
    assert_ok(segment_append(segment, record, &offset));
    return offset;
}

static inline uint64_t add_text(struct segment *segment, uint64_t sequence, const char *key,
                                const char *value)
{
    struct record record = record_of(sequence, slice_of(key), slice_of(value));

    return add(segment, &record);
}

/* Reads in the mode of the configuration, and in the other one where there is a mapping. */
static inline int read_status(const struct bench *bench, uint64_t offset)
{
    struct record_buffer buffer;
    struct record record;
    int status;

    record_buffer_init(&buffer);
    status = segment_read(bench->segment, offset, bench->config.read_mapped, true, &buffer,
                          &record);
    record_buffer_release(&buffer);
    return status;
}

static inline void assert_reads(const struct segment *segment, bool read_mapped, uint64_t offset,
                                struct cask_slice key, struct cask_slice value)
{
    struct record_buffer buffer;
    struct record record;

    record_buffer_init(&buffer);
    assert_ok(segment_read(segment, offset, read_mapped, true, &buffer, &record));
    assert_slice(record.key, key.data, key.size);
    assert_slice(record.value, value.data, value.size);
    record_buffer_release(&buffer);
}

static inline void assert_text(const struct bench *bench, uint64_t offset, const char *key,
                               const char *value)
{
    assert_reads(bench->segment, bench->config.read_mapped, offset, slice_of(key), slice_of(value));
}

static inline uint8_t *file_bytes(const struct bench *bench, size_t *ret_size)
{
    char name[SEGMENT_NAME_BYTES];

    segment_data_name(bench->segment->id, name);
    return read_whole_file(path_in(bench->place.path, name), ret_size);
}

static inline void assert_zeros_behind(const struct bench *bench, uint64_t tail)
{
    size_t size;
    uint8_t *bytes = file_bytes(bench, &size);

    for (size_t i = (size_t)tail; i < size; i++)
        assert_int_equal(bytes[i], 0);
    free(bytes);
}

static inline void store_byte(struct bench *bench, uint64_t offset, uint8_t byte)
{
    struct io_file *file;

    assert_ok(io_open(bench->place.dir, "7.data", IO_WRITE, &file));
    assert_ok(io_write(file, offset, &byte, 1));
    io_close(file);
}

static inline void reopen(struct bench *bench)
{
    uint64_t tail = segment_tail(bench->segment);

    segment_close(bench->segment);
    assert_ok(segment_open(bench->place.dir, &bench->config, 7, &bench->segment));
    segment_set_tail(bench->segment, tail);
}

#endif
