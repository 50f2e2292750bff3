#include "shard/manifest.h"

#include <stdlib.h>

#include "base/checksum.h"

#define MANIFEST_TMP "MANIFEST.tmp"
#define MANIFEST_VERSION 1u
#define HEADER_BYTES 112u
#define SEGMENT_BYTES 40u
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
#define AT_RUNS 88 /* 0 until there are any */

#define SEGMENT_PREDECESSOR 8
#define SEGMENT_LENGTH 16
#define SEGMENT_CHECKSUM 24
#define SEGMENT_FLAGS 32

static const char magic[8] = {'C', 'A', 'S', 'K', 'M', 'A', 'N', 'I'};

void manifest_release(struct manifest *manifest)
{
    free(manifest->segments);
    manifest->segments = NULL;
}

static void encode(const struct manifest *manifest, const struct log_config *config, uint8_t *to,
                   size_t size)
{
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
    for (uint64_t i = 0; i < manifest->count; i++) {
        const struct manifest_segment *segment = &manifest->segments[i];
        uint8_t *at = to + HEADER_BYTES + i * SEGMENT_BYTES;

        put_u64(at, segment->id);
        put_u64(at + SEGMENT_PREDECESSOR, segment->predecessor);
        put_u64(at + SEGMENT_LENGTH, segment->length);
        put_u64(at + SEGMENT_CHECKSUM, segment->checksum);
        put_u32(at + SEGMENT_FLAGS, segment->flags);
    }
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
    size_t size = HEADER_BYTES + (size_t)manifest->count * SEGMENT_BYTES + TRAILER_BYTES;
    uint8_t *bytes = malloc(size);
    int status;

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

static bool segment_makes_sense(const struct manifest_segment *segment, uint64_t previous_id,
                                uint64_t next_segment, uint64_t max_id)
{
    return segment->id > previous_id && segment->id < next_segment && segment->id <= max_id &&
           (segment->flags & ~(MANIFEST_SEALED | MANIFEST_CLEAN)) == 0 &&
           (segment->flags == 0 || segment->length >= SEGMENT_HEADER_BYTES) &&
           segment->length <= SEGMENT_BYTES_MAX;
}

static int parse_segments(const uint8_t *bytes, const struct log_config *config,
                          struct manifest *manifest)
{
    uint64_t previous = 0;

    manifest->segments = calloc((size_t)manifest->count + 1, sizeof *manifest->segments);
    if (!manifest->segments)
        return CASK_ENOMEM;
    for (uint64_t i = 0; i < manifest->count; i++) {
        const uint8_t *at = bytes + HEADER_BYTES + i * SEGMENT_BYTES;
        struct manifest_segment *segment = &manifest->segments[i];

        *segment = (struct manifest_segment){
            get_u64(at), get_u64(at + SEGMENT_PREDECESSOR), get_u64(at + SEGMENT_LENGTH),
            get_u64(at + SEGMENT_CHECKSUM), get_u32(at + SEGMENT_FLAGS)};
        if (!segment_makes_sense(segment, previous, manifest->next_segment,
                                 location_segment_max(config->offset_bits)))
            return CASK_ECORRUPT;
        previous = segment->id;
    }
    return CASK_OK;
}

int manifest_parse(const uint8_t *bytes, uint64_t size, const struct log_config *config,
                   struct manifest *ret_manifest)
{
    struct manifest manifest = {0};
    int status;

    if (size < HEADER_BYTES + TRAILER_BYTES || memcmp(bytes, magic, sizeof magic) != 0 ||
        get_u64(bytes + size - TRAILER_BYTES) !=
            checksum_bytes(bytes, (size_t)size - TRAILER_BYTES))
        return CASK_ECORRUPT;
    if (get_u32(bytes + AT_VERSION) > MANIFEST_VERSION)
        return CASK_EVERSION;
    manifest.count = get_u64(bytes + AT_SEGMENTS);
    if (get_u32(bytes + AT_VERSION) != MANIFEST_VERSION ||
        get_u32(bytes + AT_SHARD) != config->shard ||
        memcmp(bytes + AT_UUID, config->uuid, 16) != 0 || get_u64(bytes + AT_RUNS) != 0 ||
        (size - HEADER_BYTES - TRAILER_BYTES) % SEGMENT_BYTES != 0 ||
        manifest.count != (size - HEADER_BYTES - TRAILER_BYTES) / SEGMENT_BYTES)
        return CASK_ECORRUPT;
    memcpy(manifest.boot_id, bytes + AT_BOOT_ID, 16);
    manifest.generation = get_u64(bytes + AT_GENERATION);
    manifest.next_segment = get_u64(bytes + AT_NEXT_SEGMENT);
    manifest.next_sequence = get_u64(bytes + AT_NEXT_SEQUENCE);
    manifest.settled_batch = get_u64(bytes + AT_SETTLED_BATCH);
    if (manifest.next_sequence > RECORD_SEQUENCE_MAX || manifest.settled_batch > RECORD_BATCH_MAX ||
        manifest.next_segment > location_segment_max(config->offset_bits) + 1)
        return CASK_ECORRUPT;
    status = parse_segments(bytes, config, &manifest);
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
    if (status == CASK_OK && size > HEADER_BYTES + TRAILER_BYTES +
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
