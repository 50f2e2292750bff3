/* The files of a shard by their names: which are ours, which a crash has left behind. */
#include <stdlib.h>

#include "shard/recover.h"

/* "<id>.data", "<id>.hint" and "<id>.hint.tmp" are ours, with no sign and no leading zero. */
static bool parse_name(const char *name, uint64_t *ret_id, const char **ret_suffix)
{
    uint64_t id = 0;
    const char *p = name;

    if (*p < '1' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (id > LOCATION_MAX)
            return false;
        id = id * 10 + (uint64_t)(*p - '0');
    }
    *ret_id = id;
    *ret_suffix = p;
    return strcmp(p, ".data") == 0 || strcmp(p, ".hint") == 0 || strcmp(p, ".hint.tmp") == 0;
}

static bool is_listed(const struct manifest *manifest, uint64_t id)
{
    for (uint64_t i = 0; i < manifest->count; i++)
        if (manifest->segments[i].id == id)
            return true;
    return false;
}

/* Whether nothing has reached the file yet, its header included. */
static bool segment_is_blank(const struct segment *segment)
{
    static const uint8_t zeros[SEGMENT_HEADER_BYTES];
    uint8_t header[SEGMENT_HEADER_BYTES];
    size_t got;

    return io_read(segment->file, 0, header, sizeof header, &got) == CASK_OK &&
           memcmp(header, zeros, got) == 0;
}

static bool is_ours(struct shard *shard, uint64_t id)
{
    struct segment *segment;
    bool ours;

    if (segment_open(shard->dir, &shard->config, id, &segment) != CASK_OK)
        return false;
    ours = !segment->header_damaged || segment_is_blank(segment);
    segment_close(segment);
    return ours;
}

static void remove_orphan(struct shard *shard, const struct manifest *manifest, const char *name,
                          uint64_t id, const char *suffix)
{
    bool unlisted = !is_listed(manifest, id);
    bool orphan = strcmp(suffix, ".hint.tmp") == 0 || unlisted;
    int status;

    if (!orphan || (strcmp(suffix, ".data") == 0 && !is_ours(shard, id)))
        return;
    /* The manifest that orphaned it may have been renamed, but not durably so. */
    status = io_dir_sync(shard->dir);
    if (status == CASK_OK)
        status = io_unlink(shard->dir, name);
    (void)status; /* left to the next open */
}

/* Notes the largest id ever used, and removes what a crash has left behind. */
int recover_look_through_names(struct recovery *recovery)
{
    struct shard *shard = recovery->shard;
    char *names;
    int status = io_dir_list(shard->dir, &names);

    if (status != CASK_OK)
        return status;
    for (const char *name = names; *name; name += strlen(name) + 1) {
        const char *suffix;
        uint64_t id;

        if (!parse_name(name, &id, &suffix) || id > location_segment_max(shard->config.offset_bits))
            continue;
        recovery->max_id = max_u64(recovery->max_id, id);
        if (!shard->env->read_only)
            remove_orphan(shard, &recovery->manifest, name, id, suffix);
    }
    free(names);
    return CASK_OK;
}

/* A directory without a manifest is what a crash leaves that came between making the one and the
 * other: then no segment has a record yet. Anything more means that the manifest was lost. */
int recover_check_unlisted(struct shard *shard)
{
    char *names;
    int status = io_dir_list(shard->dir, &names);

    if (status != CASK_OK)
        return status;
    for (const char *name = names; *name && status == CASK_OK; name += strlen(name) + 1) {
        struct segment *segment;
        const char *suffix;
        uint64_t id;
        struct tail tail;

        if (!parse_name(name, &id, &suffix) || strcmp(suffix, ".data") != 0)
            continue;
        status = segment_open(shard->dir, &shard->config, id, &segment);
        if (status != CASK_OK)
            break;
        status = tail_read(shard, segment, SEGMENT_HEADER_BYTES, segment->capacity, 0, true, &tail);
        if (status == CASK_OK) {
            if (tail.records > 0)
                status = CASK_ECORRUPT;
            tail_release(&tail);
        }
        segment_close(segment);
    }
    free(names);
    return status;
}
