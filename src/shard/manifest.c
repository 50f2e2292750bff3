#include "shard/manifest.h"

#include <assert.h>
#include <stdlib.h>

#include "base/checksum.h"

#define MANIFEST_TMP "MANIFEST.tmp"
#define MANIFEST_VERSION 1u
#define HEADER_BYTES 112u
#define SEGMENT_BYTES 104u
#define RUN_BYTES 32u
#define TRAILER_BYTES 8u

#define AT_VERSION 8
#define AT_SHARD 12
#define AT_UUID 16
#define AT_BOOT_ID 32
#define AT_GENERATION 48
#define AT_NEXT_SEGMENT 56
#define AT_NEXT_SEQUENCE 64
#define AT_SETTLED_BATCH 72
#define AT_SEGMENTS 80
#define AT_RUNS 88
#define AT_NEXT_RUN 96
#define AT_FLAGS 104
#define AT_TOMBSTONES 108

#define SEGMENT_PREDECESSOR 8
#define SEGMENT_LENGTH 16
#define SEGMENT_CHECKSUM 24
#define SEGMENT_FLAGS 32
#define SEGMENT_INDEXED 40
#define SEGMENT_LIVE 48
#define SEGMENT_DEAD 56
#define SEGMENT_TOMBSTONES 64
#define SEGMENT_RECORDS 72
#define SEGMENT_MIN_SEQUENCE 80
#define SEGMENT_MAX_SEQUENCE 88
#define SEGMENT_LAST_EXPIRY 96

#define RUN_COUNT 8
#define RUN_SIZE 16
#define RUN_CHECKSUM 24

static const char magic[8] = {'C', 'A', 'S', 'K', 'M', 'A', 'N', 'I'};

void manifest_release(struct manifest *manifest)
{
    free(manifest->segments);
    manifest->segments = NULL;
    free(manifest->runs);
    manifest->runs = NULL;
}

static void encode_segment(const struct manifest_segment *segment, uint8_t *at)
{
    put_u64(at, segment->id);
    put_u64(at + SEGMENT_PREDECESSOR, segment->predecessor);
    put_u64(at + SEGMENT_LENGTH, segment->length);
    put_u64(at + SEGMENT_CHECKSUM, segment->checksum);
    put_u32(at + SEGMENT_FLAGS, segment->flags);
    put_u64(at + SEGMENT_INDEXED, segment->indexed);
    put_u64(at + SEGMENT_LIVE, segment->live_bytes);
    put_u64(at + SEGMENT_DEAD, segment->dead_bytes);
    put_u64(at + SEGMENT_TOMBSTONES, segment->tombstone_bytes);
    put_u64(at + SEGMENT_RECORDS, segment->records);
    put_u64(at + SEGMENT_MIN_SEQUENCE, segment->min_sequence);
    put_u64(at + SEGMENT_MAX_SEQUENCE, segment->max_sequence);
    put_u64(at + SEGMENT_LAST_EXPIRY, segment->last_expiry);
}

static void encode_run(const struct manifest_run *run, uint8_t *at)
{
    put_u64(at, run->id);
    put_u64(at + RUN_COUNT, run->count);
    put_u64(at + RUN_SIZE, run->bytes);
    put_u64(at + RUN_CHECKSUM, run->checksum);
}

static void encode(const struct manifest *manifest, const struct log_config *config, uint8_t *to,
                   size_t size)
{
    uint8_t *at;

    memset(to, 0, size);
    memcpy(to, magic, sizeof magic);
    put_u32(to + AT_VERSION, MANIFEST_VERSION);
    put_u32(to + AT_SHARD, config->shard);
    memcpy(to + AT_UUID, config->uuid, 16);
    memcpy(to + AT_BOOT_ID, manifest->boot_id, 16);
    put_u64(to + AT_GENERATION, manifest->generation);
    put_u64(to + AT_NEXT_SEGMENT, manifest->next_segment);
    put_u64(to + AT_NEXT_SEQUENCE, manifest->next_sequence);
    put_u64(to + AT_SETTLED_BATCH, manifest->settled_batch);
    put_u64(to + AT_SEGMENTS, manifest->count);
    put_u64(to + AT_RUNS, manifest->run_count);
    put_u64(to + AT_NEXT_RUN, manifest->next_run);
    put_u32(to + AT_FLAGS, manifest->flags);
    put_u32(to + AT_TOMBSTONES, manifest->tombstones);
    at = to + HEADER_BYTES;
    for (uint64_t i = 0; i < manifest->count; i++, at += SEGMENT_BYTES)
        encode_segment(&manifest->segments[i], at);
    for (uint64_t i = 0; i < manifest->run_count; i++, at += RUN_BYTES)
        encode_run(&manifest->runs[i], at);
    put_u64(to + size - TRAILER_BYTES, checksum_bytes(to, size - TRAILER_BYTES));
}

static int write_tmp(struct io_dir *dir, const uint8_t *bytes, size_t size)
{
    struct io_file *file;
    int status = io_unlink(dir, MANIFEST_TMP);

    if (status != CASK_OK && status != CASK_NOTFOUND)
        return status;
    status = io_open(dir, MANIFEST_TMP, IO_CREATE_NEW, &file);
    if (status != CASK_OK)
        return status;
    status = io_write(file, 0, bytes, size);
    if (status == CASK_OK)
        status = io_sync(file);
    io_close(file);
    return status;
}

int manifest_write(struct manifest *manifest, struct io_dir *dir, const struct log_config *config)
{
    size_t size = HEADER_BYTES + (size_t)manifest->count * SEGMENT_BYTES +
                  (size_t)manifest->run_count * RUN_BYTES + TRAILER_BYTES;
    uint8_t *bytes = malloc(size);
    int status;

    assert(manifest->run_count <= MANIFEST_RUNS_MAX);
    manifest->replaced = false;
    if (!bytes)
        return CASK_ENOMEM;
    encode(manifest, config, bytes, size);
    status = write_tmp(dir, bytes, size);
    free(bytes);
    if (status == CASK_OK)
        status = io_rename(dir, MANIFEST_TMP, MANIFEST_NAME);
    manifest->replaced = status == CASK_OK;
    return status == CASK_OK ? io_dir_sync(dir) : status;
}

static void decode_segment(const uint8_t *at, struct manifest_segment *segment)
{
    *segment = (struct manifest_segment){.id = get_u64(at),
                                         .predecessor = get_u64(at + SEGMENT_PREDECESSOR),
                                         .length = get_u64(at + SEGMENT_LENGTH),
                                         .checksum = get_u64(at + SEGMENT_CHECKSUM),
                                         .flags = get_u32(at + SEGMENT_FLAGS),
                                         .indexed = get_u64(at + SEGMENT_INDEXED),
                                         .live_bytes = get_u64(at + SEGMENT_LIVE),
                                         .dead_bytes = get_u64(at + SEGMENT_DEAD),
                                         .tombstone_bytes = get_u64(at + SEGMENT_TOMBSTONES),
                                         .records = get_u64(at + SEGMENT_RECORDS),
                                         .min_sequence = get_u64(at + SEGMENT_MIN_SEQUENCE),
                                         .max_sequence = get_u64(at + SEGMENT_MAX_SEQUENCE),
                                         .last_expiry = get_u64(at + SEGMENT_LAST_EXPIRY)};
}

/* Also where nothing is indexed: what is written then is zeros. */
static bool figures_make_sense(const struct manifest_segment *segment)
{
    return segment->indexed <= SEGMENT_BYTES_MAX &&
           ((segment->flags & MANIFEST_SEALED) == 0 || segment->indexed <= segment->length) &&
           segment->live_bytes <= SEGMENT_BYTES_MAX &&
           segment->dead_bytes <= SEGMENT_BYTES_MAX - segment->live_bytes &&
           segment->records <= SEGMENT_BYTES_MAX / RECORD_MIN_BYTES &&
           segment->min_sequence <= segment->max_sequence &&
           segment->max_sequence <= RECORD_SEQUENCE_MAX;
}

static bool segment_makes_sense(const struct manifest_segment *segment, uint64_t previous_id,
                                uint64_t next_segment, uint64_t max_id)
{
    return segment->id > previous_id && segment->id < next_segment && segment->id <= max_id &&
           (segment->flags & ~(MANIFEST_SEALED | MANIFEST_CLEAN)) == 0 &&
           (segment->flags == 0 || segment->length >= SEGMENT_HEADER_BYTES) &&
           segment->length <= SEGMENT_BYTES_MAX && figures_make_sense(segment);
}

static int parse_segments(const uint8_t *at, const struct log_config *config,
                          struct manifest *manifest)
{
    uint64_t previous = 0;

    manifest->segments = calloc((size_t)manifest->count + 1, sizeof *manifest->segments);
    if (!manifest->segments)
        return CASK_ENOMEM;
    for (uint64_t i = 0; i < manifest->count; i++, at += SEGMENT_BYTES) {
        struct manifest_segment *segment = &manifest->segments[i];

        decode_segment(at, segment);
        if (!segment_makes_sense(segment, previous, manifest->next_segment,
                                 location_segment_max(config->offset_bits)))
            return CASK_ECORRUPT;
        previous = segment->id;
    }
    return CASK_OK;
}

/* They are few: each is compared with all before it, as their ids need not be in order. */
static bool run_makes_sense(const struct manifest_run *runs, uint64_t index, uint64_t next_run)
{
    if (runs[index].id == 0 || runs[index].id >= next_run)
        return false;
    for (uint64_t i = 0; i < index; i++)
        if (runs[i].id == runs[index].id)
            return false;
    return true;
}

static int parse_runs(const uint8_t *at, struct manifest *manifest)
{
    manifest->runs = calloc((size_t)manifest->run_count + 1, sizeof *manifest->runs);
    if (!manifest->runs)
        return CASK_ENOMEM;
    for (uint64_t i = 0; i < manifest->run_count; i++, at += RUN_BYTES) {
        manifest->runs[i] = (struct manifest_run){.id = get_u64(at),
                                                  .count = get_u64(at + RUN_COUNT),
                                                  .bytes = get_u64(at + RUN_SIZE),
                                                  .checksum = get_u64(at + RUN_CHECKSUM)};
        if (!run_makes_sense(manifest->runs, i, manifest->next_run))
            return CASK_ECORRUPT;
    }
    return CASK_OK;
}

/* No product or sum here may wrap around: the runs are few, and the segments are counted by what is
 * left. */
static bool counts_fit(const struct manifest *manifest, uint64_t size)
{
    uint64_t left = size - HEADER_BYTES - TRAILER_BYTES;

    if (manifest->run_count > MANIFEST_RUNS_MAX || manifest->run_count * RUN_BYTES > left)
        return false;
    left -= manifest->run_count * RUN_BYTES;
    return left % SEGMENT_BYTES == 0 && manifest->count == left / SEGMENT_BYTES;
}

static int parse_header(const uint8_t *bytes, uint64_t size, const struct log_config *config,
                        struct manifest *manifest)
{
    if (size < HEADER_BYTES + TRAILER_BYTES || memcmp(bytes, magic, sizeof magic) != 0 ||
        get_u64(bytes + size - TRAILER_BYTES) !=
            checksum_bytes(bytes, (size_t)size - TRAILER_BYTES))
        return CASK_ECORRUPT;
    if (get_u32(bytes + AT_VERSION) > MANIFEST_VERSION)
        return CASK_EVERSION;
    memcpy(manifest->boot_id, bytes + AT_BOOT_ID, 16);
    manifest->generation = get_u64(bytes + AT_GENERATION);
    manifest->next_segment = get_u64(bytes + AT_NEXT_SEGMENT);
    manifest->next_sequence = get_u64(bytes + AT_NEXT_SEQUENCE);
    manifest->settled_batch = get_u64(bytes + AT_SETTLED_BATCH);
    manifest->count = get_u64(bytes + AT_SEGMENTS);
    manifest->run_count = get_u64(bytes + AT_RUNS);
    manifest->next_run = get_u64(bytes + AT_NEXT_RUN);
    manifest->flags = get_u32(bytes + AT_FLAGS);
    manifest->tombstones = get_u32(bytes + AT_TOMBSTONES);
    if (get_u32(bytes + AT_VERSION) != MANIFEST_VERSION ||
        get_u32(bytes + AT_SHARD) != config->shard ||
        memcmp(bytes + AT_UUID, config->uuid, 16) != 0 || !counts_fit(manifest, size) ||
        manifest->next_sequence > RECORD_SEQUENCE_MAX ||
        manifest->settled_batch > RECORD_BATCH_MAX ||
        manifest->next_segment > location_segment_max(config->offset_bits) + 1 ||
        manifest->next_run > MANIFEST_NEXT_RUN_MAX || (manifest->flags & ~MANIFEST_DOUBTS) != 0)
        return CASK_ECORRUPT;
    return CASK_OK;
}

int manifest_parse(const uint8_t *bytes, uint64_t size, const struct log_config *config,
                   struct manifest *ret_manifest)
{
    struct manifest manifest = {0};
    int status = parse_header(bytes, size, config, &manifest);

    if (status == CASK_OK)
        status = parse_segments(bytes + HEADER_BYTES, config, &manifest);
    if (status == CASK_OK)
        status = parse_runs(bytes + HEADER_BYTES + manifest.count * SEGMENT_BYTES, &manifest);
    if (status != CASK_OK) {
        manifest_release(&manifest);
        return status;
    }
    *ret_manifest = manifest;
    return CASK_OK;
}

int manifest_read(struct io_dir *dir, const struct log_config *config,
                  struct manifest *ret_manifest)
{
    struct io_file *file;
    uint8_t *bytes = NULL;
    uint64_t size;
    int status = io_open(dir, MANIFEST_NAME, IO_READ, &file);

    if (status != CASK_OK)
        return status;
    status = io_size(file, &size);
    if (status == CASK_OK && size > HEADER_BYTES + TRAILER_BYTES + MANIFEST_RUNS_MAX * RUN_BYTES +
                                        location_segment_max(config->offset_bits) * SEGMENT_BYTES)
        status = CASK_ECORRUPT;
    if (status == CASK_OK) {
        bytes = malloc((size_t)size + 1);
        status = bytes ? io_read(file, 0, bytes, (size_t)size, NULL) : CASK_ENOMEM;
    }
    if (status == CASK_OK)
        status = manifest_parse(bytes, size, config, ret_manifest);
    free(bytes);
    io_close(file);
    return status;
}
