/* Manifests: in one that is accepted ids rise, those of runs differ, and everything is in its
 * range. The first byte says what is mended, so that what lies behind it is reached: 1 the
 * checksum, 2 magic, version and identity, 4 the numbers of segments and runs. */
#include <assert.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "shard/manifest.h"

#define AT_VERSION 8
#define AT_SHARD 12
#define AT_UUID 16
#define AT_COUNT 80
#define AT_RUNS 88
#define HEADER_BYTES 112
#define SEGMENT_BYTES 104
#define RUN_BYTES 32
#define TRAILER_BYTES 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct log_config config = {.shard_count = 16,
                                         .offset_bits = LOCATION_OFFSET_BITS_MIN};

/* As many runs as it says where the file has room for them, the rest segments. */
static void mend_counts(uint8_t *bytes, uint64_t left)
{
    uint64_t runs = get_u64(bytes + AT_RUNS) % (MANIFEST_RUNS_MAX + 1);

    runs = runs < left / RUN_BYTES ? runs : left / RUN_BYTES;
    put_u64(bytes + AT_RUNS, runs);
    put_u64(bytes + AT_COUNT, (left - runs * RUN_BYTES) / SEGMENT_BYTES);
}

static void mend(uint8_t *bytes, size_t size, unsigned flags)
{
    if (size < HEADER_BYTES + TRAILER_BYTES)
        return;
    if (flags & 2) {
        memcpy(bytes, "CASKMANI", 8);
        put_u32(bytes + AT_VERSION, 1);
        put_u32(bytes + AT_SHARD, config.shard);
        memcpy(bytes + AT_UUID, config.uuid, 16);
    }
    if (flags & 4)
        mend_counts(bytes, size - HEADER_BYTES - TRAILER_BYTES);
    if (flags & 1)
        put_u64(bytes + size - TRAILER_BYTES, checksum_bytes(bytes, size - TRAILER_BYTES));
}

static void check_figures(const struct manifest_segment *segment)
{
    assert(segment->indexed <= SEGMENT_BYTES_MAX);
    assert(!(segment->flags & MANIFEST_SEALED) || segment->indexed <= segment->length);
    assert(segment->live_bytes <= SEGMENT_BYTES_MAX && segment->dead_bytes <= SEGMENT_BYTES_MAX);
    assert(segment->live_bytes + segment->dead_bytes <= SEGMENT_BYTES_MAX);
    assert(segment->min_sequence <= segment->max_sequence);
    assert(segment->max_sequence <= RECORD_SEQUENCE_MAX);
}

static void check_runs(const struct manifest *manifest)
{
    assert(manifest->run_count <= MANIFEST_RUNS_MAX);
    assert(manifest->next_run <= MANIFEST_NEXT_RUN_MAX);
    for (uint64_t i = 0; i < manifest->run_count; i++) {
        assert(manifest->runs[i].id > 0 && manifest->runs[i].id < manifest->next_run);
        for (uint64_t j = 0; j < i; j++)
            assert(manifest->runs[j].id != manifest->runs[i].id);
    }
}

static void check(const struct manifest *manifest)
{
    uint64_t most = location_segment_max(config.offset_bits);
    uint64_t previous = 0;

    assert(manifest->next_sequence <= RECORD_SEQUENCE_MAX);
    assert(manifest->settled_batch <= RECORD_BATCH_MAX);
    assert(manifest->next_segment <= most + 1);
    assert((manifest->flags & ~MANIFEST_DOUBTS) == 0);
    for (uint64_t i = 0; i < manifest->count; i++) {
        const struct manifest_segment *segment = &manifest->segments[i];

        assert(segment->id > previous && segment->id < manifest->next_segment);
        assert(segment->length <= SEGMENT_BYTES_MAX);
        assert(segment->flags == 0 || segment->length >= SEGMENT_HEADER_BYTES);
        assert((segment->flags & ~(MANIFEST_SEALED | MANIFEST_CLEAN)) == 0);
        check_figures(segment);
        previous = segment->id;
    }
    check_runs(manifest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest manifest;
    uint8_t *bytes;

    if (size < 2)
        return 0;
    bytes = malloc(size - 1);
    if (!bytes)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    mend(bytes, size - 1, data[0]);
    if (manifest_parse(bytes, size - 1, &config, &manifest) == CASK_OK) {
        check(&manifest);
        manifest_release(&manifest);
    }
    free(bytes);
    return 0;
}
