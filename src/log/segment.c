#include "log/segment.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/checksum.h"

#define AT_VERSION 8
#define AT_SHARD 12
#define AT_UUID 16
#define AT_ID 32
#define AT_PREDECESSOR 40
#define AT_ZERO 48
#define AT_CHECKSUM 56

#define FIRST_STEP_BYTES ((uint64_t)64 << 10)
#define SCRATCH_BYTES ((size_t)64 << 10)
#define READ_AHEAD_BYTES ((size_t)128)       /* header, key and a short value */
#define LARGE_RECORD_BYTES ((size_t)1 << 20) /* written from where it lies, not by way of scratch */

static const char magic[8] = {'C', 'A', 'S', 'K', 'S', 'E', 'G', 'M'};

void segment_data_name(uint64_t id, char name[SEGMENT_NAME_BYTES])
{
    (void)snprintf(name, SEGMENT_NAME_BYTES, "%llu.data", (unsigned long long)id);
}

void segment_hint_name(uint64_t id, char name[SEGMENT_NAME_BYTES])
{
    (void)snprintf(name, SEGMENT_NAME_BYTES, "%llu.hint", (unsigned long long)id);
}

void record_buffer_release(struct record_buffer *buffer)
{
    free(buffer->heap);
    buffer->heap = NULL;
}

static void encode_header(const struct log_config *config, uint64_t id, uint64_t predecessor,
                          uint8_t header[SEGMENT_HEADER_BYTES])
{
    memset(header, 0, SEGMENT_HEADER_BYTES);
    memcpy(header, magic, sizeof magic);
    put_u32(header + AT_VERSION, SEGMENT_VERSION);
    put_u32(header + AT_SHARD, config->shard);
    memcpy(header + AT_UUID, config->uuid, 16);
    put_u64(header + AT_ID, id);
    put_u64(header + AT_PREDECESSOR, predecessor);
    put_u64(header + AT_CHECKSUM, checksum_bytes(header, AT_CHECKSUM));
}

static bool header_is_good(const struct log_config *config, uint64_t id,
                           const uint8_t header[SEGMENT_HEADER_BYTES])
{
    return memcmp(header, magic, sizeof magic) == 0 &&
           get_u64(header + AT_CHECKSUM) == checksum_bytes(header, AT_CHECKSUM) &&
           get_u32(header + AT_VERSION) == SEGMENT_VERSION &&
           get_u32(header + AT_SHARD) == config->shard &&
           memcmp(header + AT_UUID, config->uuid, 16) == 0 && get_u64(header + AT_ID) == id &&
           get_u64(header + AT_ZERO) == 0;
}

/* The seed of a segment's places: store, shard and id together; the offset is mixed in by
 * segment_place(). Bits 0..31 are left to the offset. */
static uint64_t place_seed(const struct log_config *config, uint64_t id)
{
    uint8_t place[28];

    memcpy(place, config->uuid, 16);
    put_u32(place + 16, config->shard);
    put_u64(place + 20, id);
    return checksum_bytes(place, sizeof place);
}

static struct segment *segment_new(const struct log_config *config, uint64_t id)
{
    struct segment *segment = calloc(1, sizeof *segment);

    if (segment) {
        segment->id = id;
        segment->seed = place_seed(config, id);
        segment->write_mapped = config->write_mapped;
        segment->reach = (uint64_t)RECORD_ALIGNMENT << config->offset_bits;
    }
    return segment;
}

void segment_close(struct segment *segment)
{
    if (!segment)
        return;
    if (segment->map)
        io_unmap(segment->map, segment->map_bytes);
    io_close(segment->file);
    free(segment->scratch);
    free(segment);
}

/* Small at first, so that a small store stays small, then ahead in steps that the kernel can back
 * with huge pages. */
uint64_t segment_allocation_for(const struct segment *segment, uint64_t end)
{
    uint64_t target = FIRST_STEP_BYTES;

    if (segment->grow_large || end > SEGMENT_STEP_BYTES / 2)
        target = align_up(end, SEGMENT_STEP_BYTES);
    else
        while (target < end)
            target *= 2;
    return min_u64(target, segment->capacity);
}

static int allocate_to(struct segment *segment, uint64_t end, uint64_t target)
{
    int status = io_allocate(segment->file, target);

    /* A disk too full for the step ahead may have room for what is needed now. */
    if (status == CASK_ENOSPC && target > end) {
        target = end;
        status = io_allocate(segment->file, target);
    }
    if (status == CASK_ENOTSUP && !segment->write_mapped) {
        segment->allocated = UINT64_MAX; /* the file grows as it is written */
        return CASK_OK;
    }
    if (status != CASK_OK)
        return status;
    segment->allocated = target;
    return CASK_OK;
}

uint64_t segment_extend(struct segment *segment, uint64_t allocated)
{
    uint64_t target = min_u64(align_up(allocated + 1, SEGMENT_STEP_BYTES), segment->capacity);

    if (io_allocate(segment->file, target) != CASK_OK)
        return allocated; /* the writer meets it again, where it can be told */
    io_map_populate(segment->map, (size_t)allocated, (size_t)(target - allocated));
    return target;
}

void segment_settle(struct segment *segment, uint64_t tail)
{
    uint64_t end = tail & ~(uint64_t)(IO_HUGE_PAGE_BYTES - 1);

    if (!segment->map_writable || end <= segment->settled)
        return;
    io_map_settle(segment->file, segment->map, (size_t)segment->settled,
                  (size_t)(end - segment->settled));
    segment->settled = end;
}

int segment_sync(struct segment *segment, uint64_t end, bool written_further)
{
    uint64_t from = segment->synced_to & ~(uint64_t)(IO_PAGE_BYTES_MAX - 1);
    int status = segment->map_writable && written_further
                     ? io_sync_mapped(segment->file, segment->map, from, end - from)
                     : io_sync(segment->file);

    if (status == CASK_OK)
        segment->synced_to = end;
    return status;
}

int segment_ensure(struct segment *segment, uint64_t size, bool keep_headroom)
{
    uint64_t end = segment->pending + size + segment_reserve(segment, keep_headroom);

    if (segment_has_blocks(segment, size, keep_headroom))
        return CASK_OK;
    return allocate_to(segment, end, segment_allocation_for(segment, end));
}

int segment_ensure_exactly(struct segment *segment, uint64_t size, bool keep_headroom)
{
    uint64_t end = segment->pending + size + segment_reserve(segment, keep_headroom);

    return segment_has_blocks(segment, size, keep_headroom) ? CASK_OK
                                                            : allocate_to(segment, end, end);
}

/* Maps for writing where that is the mode, else for reading where that is; or not at all. */
static int map_capacity(struct segment *segment, const struct log_config *config)
{
    void *address;
    int status;

    if (!config->write_mapped && !config->read_mapped)
        return CASK_OK;
    status = io_map(segment->file, (size_t)segment->capacity, config->write_mapped, &address);
    if (status != CASK_OK)
        return status;
    segment->map = address;
    segment->map_bytes = (size_t)segment->capacity;
    segment->map_writable = config->write_mapped;
    return CASK_OK;
}

static int make_scratch(struct segment *segment)
{
    if (segment->write_mapped)
        return CASK_OK;
    segment->scratch = malloc(SCRATCH_BYTES);
    segment->scratch_bytes = SCRATCH_BYTES;
    return segment->scratch ? CASK_OK : CASK_ENOMEM;
}

static int write_header(struct segment *segment, const struct log_config *config)
{
    uint8_t header[SEGMENT_HEADER_BYTES];
    int status = segment_ensure(segment, SEGMENT_HEADER_BYTES, true);

    if (status != CASK_OK)
        return status;
    encode_header(config, segment->id, segment->predecessor, header);
    if (segment->write_mapped) {
        memcpy(segment->map, header, sizeof header);
        io_map_written(segment->file, 0, sizeof header);
    } else {
        status = io_write(segment->file, 0, header, sizeof header);
    }
    segment_set_tail(segment, SEGMENT_HEADER_BYTES);
    return status;
}

int segment_create(struct io_dir *dir, const struct log_config *config, uint64_t id,
                   uint64_t predecessor, uint64_t capacity, struct segment **ret_segment)
{
    char name[SEGMENT_NAME_BYTES];
    struct segment *segment = segment_new(config, id);
    int status;

    if (!segment)
        return CASK_ENOMEM;
    segment->predecessor = predecessor;
    segment->capacity = capacity;
    segment_data_name(id, name);
    status = io_open(dir, name, IO_CREATE_NEW, &segment->file);
    if (status != CASK_OK) {
        segment_close(segment);
        return status;
    }
    status = map_capacity(segment, config);
    if (status == CASK_OK)
        status = make_scratch(segment);
    if (status == CASK_OK)
        status = write_header(segment, config);
    if (status != CASK_OK) {
        int left = io_unlink(dir, name);

        (void)left; /* an orphan, if it stays, is removed by the next open */
        segment_close(segment);
        return status;
    }
    segment->grow_large = predecessor != 0; /* from the first record on, not before */
    *ret_segment = segment;
    return CASK_OK;
}

static int read_header(struct segment *segment, const struct log_config *config)
{
    uint8_t header[SEGMENT_HEADER_BYTES];
    size_t got;
    int status = io_read(segment->file, 0, header, sizeof header, &got);

    if (status != CASK_OK)
        return status;
    segment->header_damaged = got < sizeof header || !header_is_good(config, segment->id, header);
    if (!segment->header_damaged)
        segment->predecessor = get_u64(header + AT_PREDECESSOR);
    return CASK_OK;
}

static int map_existing(struct segment *segment, const struct log_config *config, uint64_t size)
{
    void *address;
    int status;

    if (!config->read_mapped || size == 0)
        return CASK_OK;
    status = io_map(segment->file, (size_t)size, false, &address);
    if (status != CASK_OK)
        return status;
    segment->map = address;
    segment->map_bytes = (size_t)size;
    return CASK_OK;
}

int segment_open(struct io_dir *dir, const struct log_config *config, uint64_t id,
                 struct segment **ret_segment)
{
    char name[SEGMENT_NAME_BYTES];
    struct segment *segment = segment_new(config, id);
    uint64_t size = 0;
    int status;

    if (!segment)
        return CASK_ENOMEM;
    segment_data_name(id, name);
    status = io_open(dir, name, IO_READ, &segment->file);
    if (status == CASK_OK)
        status = io_size(segment->file, &size);
    if (status == CASK_OK)
        status = read_header(segment, config);
    if (status == CASK_OK)
        status = map_existing(segment, config, size);
    if (status != CASK_OK) {
        segment_close(segment);
        return status;
    }
    /* A file cut within its header: no record is left, and none may ever begin in there. */
    segment->capacity = max_u64(size, SEGMENT_HEADER_BYTES);
    segment->allocated = size;
    segment_set_tail(segment, segment->capacity);
    *ret_segment = segment;
    return CASK_OK;
}

int segment_look_again(struct segment *segment, const struct log_config *config)
{
    uint8_t *map = segment->map;
    size_t map_bytes = segment->map_bytes;
    uint64_t size;
    int status = io_size(segment->file, &size);

    if (status != CASK_OK || size <= segment->capacity)
        return status;
    status = map_existing(segment, config, size);
    if (status != CASK_OK) {
        segment->map = map;
        segment->map_bytes = map_bytes;
        return status;
    }
    if (map)
        io_unmap(map, map_bytes);
    segment->capacity = size;
    segment->allocated = size;
    segment_set_tail(segment, size);
    return CASK_OK;
}

int segment_open_missing(const struct log_config *config, uint64_t id, struct segment **ret_segment)
{
    struct segment *segment = segment_new(config, id);

    if (!segment)
        return CASK_ENOMEM;
    segment->sealed = true;
    segment->header_damaged = true;
    *ret_segment = segment;
    return CASK_OK;
}

int segment_resume(struct segment *segment, struct io_dir *dir, const struct log_config *config,
                   uint64_t tail)
{
    char name[SEGMENT_NAME_BYTES];
    struct io_file *file;
    int status;

    segment_data_name(segment->id, name);
    status = io_open(dir, name, IO_WRITE, &file);
    if (status == CASK_OK && config->write_mapped && io_allocate(file, tail) == CASK_ENOTSUP) {
        io_close(file);
        status = CASK_ENOTSUP;
    }
    if (status != CASK_OK)
        return status;
    segment->write_mapped = config->write_mapped;
    if (segment->map)
        io_unmap(segment->map, segment->map_bytes);
    io_close(segment->file);
    segment->file = file;
    segment->map = NULL;
    segment->capacity = max_u64(config->segment_bytes, tail + SEGMENT_SEAL_BYTES);
    segment->allocated = tail;
    segment_set_tail(segment, tail);
    segment->settled = 0;
    status = map_capacity(segment, config);
    if (status == CASK_OK)
        segment_settle(segment, tail);
    return status == CASK_OK ? make_scratch(segment) : status;
}

static int flush_scratch(struct segment *segment)
{
    size_t size = (size_t)(segment->pending - segment->flushed);
    int status = io_write(segment->file, segment->flushed, segment->scratch, size);

    if (status == CASK_OK)
        segment->flushed = segment->pending;
    return status;
}

static int append_large(struct segment *segment, const struct record *record)
{
    uint64_t at = segment->pending;
    uint64_t place = segment_place(segment, at);
    static const uint8_t padding[RECORD_ALIGNMENT];
    uint8_t *head = segment->scratch;
    size_t head_bytes;
    size_t used;
    int status;

    if (segment->scratch_bytes < RECORD_HEADER_MAX + record->key.size) {
        head = realloc(segment->scratch, RECORD_HEADER_MAX + CASK_KEY_MAX);
        if (!head)
            return CASK_ENOMEM;
        segment->scratch = head;
        segment->scratch_bytes = RECORD_HEADER_MAX + CASK_KEY_MAX;
    }
    head_bytes = record_encode_head(record, place, head);
    segment->pending = at + record_size(record);
    segment->flushed = segment->pending;
    status = io_write(segment->file, at, head, head_bytes);
    if (status == CASK_OK)
        status = io_write(segment->file, at + head_bytes, record->value.data, record->value.size);
    used = head_bytes + record->value.size;
    if (status == CASK_OK && used < record_size(record))
        status = io_write(segment->file, at + used, padding, record_size(record) - used);
    return status;
}

static int append_scratch(struct segment *segment, const struct record *record)
{
    size_t size = record_size(record);
    size_t used = (size_t)(segment->pending - segment->flushed);
    int status = CASK_OK;

    if (used > 0 && used + size > LARGE_RECORD_BYTES) {
        status = flush_scratch(segment);
        used = 0;
    }
    if (status != CASK_OK)
        return status;
    if (size > LARGE_RECORD_BYTES)
        return append_large(segment, record);
    if (used + size > segment->scratch_bytes) {
        size_t wanted = (size_t)align_up(used + size, SCRATCH_BYTES);
        uint8_t *grown = realloc(segment->scratch, wanted);

        if (!grown)
            return CASK_ENOMEM;
        segment->scratch = grown;
        segment->scratch_bytes = wanted;
    }
    record_encode(record, segment_place(segment, segment->pending), segment->scratch + used);
    segment->pending += size;
    return CASK_OK;
}

int segment_append(struct segment *segment, const struct record *record, uint64_t *ret_offset)
{
    uint64_t at = segment->pending;

    *ret_offset = at;
    if (!segment->write_mapped)
        return append_scratch(segment, record);
    record_encode(record, segment_place(segment, at), segment->map + at);
    segment->pending = at + record_size(record);
    return CASK_OK;
}

int segment_commit(struct segment *segment)
{
    uint64_t from = atomic_load_explicit(&segment->tail, memory_order_relaxed);

    if (segment->write_mapped) {
        io_map_written(segment->file, from, (size_t)(segment->pending - from));
    } else if (segment->pending > segment->flushed) {
        int status = flush_scratch(segment);

        if (status != CASK_OK)
            return status;
    }
    atomic_store_explicit(&segment->tail, segment->pending, memory_order_release);
    return CASK_OK;
}

/* Zeros again behind the tail: nothing that failed may stand in front of later records. */
int segment_rollback(struct segment *segment)
{
    uint64_t tail = atomic_load_explicit(&segment->tail, memory_order_relaxed);
    int status;

    if (segment->write_mapped) {
        memset(segment->map + tail, 0, (size_t)(segment->pending - tail));
        io_map_written(segment->file, tail, (size_t)(segment->pending - tail));
        segment->pending = tail;
        return CASK_OK;
    }
    segment->pending = tail;
    segment->flushed = tail;
    status = io_truncate(segment->file, tail);
    if (status == CASK_OK && segment->allocated != UINT64_MAX)
        segment->allocated = tail;
    return status;
}

static int read_by_call(const struct segment *segment, uint64_t offset, uint64_t available,
                        struct record_buffer *buffer, const uint8_t **ret_bytes, uint64_t *ret_size)
{
    size_t first;
    uint64_t claimed;
    int status = io_read(segment->file, offset, buffer->bytes,
                         (size_t)min_u64(available, sizeof buffer->bytes), &first);

    if (status != CASK_OK)
        return status;
    *ret_bytes = buffer->bytes;
    *ret_size = first;
    if (first < RECORD_HEADER_BYTES)
        return CASK_OK;
    claimed = record_claimed_size(buffer->bytes);
    if (claimed <= first || claimed > available)
        return CASK_OK;
    free(buffer->heap);
    buffer->heap = malloc((size_t)claimed);
    if (!buffer->heap)
        return CASK_ENOMEM;
    memcpy(buffer->heap, buffer->bytes, first);
    *ret_bytes = buffer->heap;
    *ret_size = claimed;
    return io_read(segment->file, offset + first, buffer->heap + first, (size_t)claimed - first,
                   NULL);
}

int segment_read(const struct segment *segment, uint64_t offset, bool read_mapped, bool verify,
                 struct record_buffer *buffer, struct record *ret_record)
{
    uint64_t tail = segment_tail(segment);
    uint64_t available;
    const uint8_t *bytes;
    enum record_outcome outcome;

    if (offset < SEGMENT_HEADER_BYTES || offset >= tail)
        return CASK_ECORRUPT;
    available = tail - offset;
    if (read_mapped && segment->map) {
        bytes = segment->map + offset;
    } else {
        int status = read_by_call(segment, offset, available, buffer, &bytes, &available);

        if (status != CASK_OK)
            return status;
    }
    outcome = record_decode(bytes, available, segment_place(segment, offset), verify, ret_record);
    return outcome == RECORD_VALID ? CASK_OK : CASK_ECORRUPT;
}

int segment_give_back(struct segment *segment)
{
    uint64_t keep = align_up(segment->pending + segment_reserve(segment, true), 4096);
    int status;

    if (segment->allocated == UINT64_MAX || segment->allocated <= keep)
        return CASK_OK;
    status = io_truncate(segment->file, keep);
    if (status == CASK_OK)
        segment->allocated = keep;
    return status;
}

void segment_read_ahead(const struct segment *segment, uint64_t offset, bool read_mapped)
{
    if (read_mapped && segment->map && offset + READ_AHEAD_BYTES <= segment->map_bytes)
        io_map_read_ahead(segment->map, (size_t)offset, READ_AHEAD_BYTES);
    else if (!read_mapped && segment->file)
        io_read_ahead(segment->file, offset, READ_AHEAD_BYTES);
}

int segment_trim(struct segment *segment)
{
    uint64_t tail = segment_tail(segment);
    int status = segment->allocated <= tail ? CASK_OK : io_truncate(segment->file, tail);

    if (status != CASK_OK)
        return status;
    segment->allocated = min_u64(segment->allocated, tail);
    if (segment->map_writable)
        io_map_settle(segment->file, segment->map, 0, segment->map_bytes);
    segment->map_writable = false;
    free(segment->scratch);
    segment->scratch = NULL;
    return CASK_OK;
}

void segment_let_file_go(struct segment *segment, bool read_mapped)
{
    if (!read_mapped || !segment->map)
        return;
    io_close(segment->file);
    segment->file = NULL;
}
