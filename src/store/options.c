/* Options: defaults filled in and ranges checked, in this one place. */
#include "base/thread.h"
#include "store/store.h"

#define SHARDS_DEFAULT 16u
#define INDEX_MEMORY_DEFAULT ((uint64_t)1 << 30)
#define INDEX_MEMORY_MIN ((uint64_t)1 << 20)
#define INDEX_MEMORY_MAX ((uint64_t)1 << 40)
#define SEGMENT_DEFAULT ((uint64_t)64 << 20)
#define SEGMENT_MIN ((uint64_t)256)
#define SEGMENT_MAX ((uint64_t)2 << 30)
#define MERGE_TRIGGER_DEFAULT 20u
#define MERGE_SEGMENT_DEFAULT 30u
#define MERGE_AT_ONCE_MAX 2u /* by default */
#define INTERVAL_DEFAULT_MS 1000u
#define INTERVAL_MAX_MS 3600000u

static int refuse(const struct reporter *reporter, const char *path, const char *why)
{
    report(reporter, CASK_LOG_ERROR, "%s: %s", path, why);
    return CASK_EINVAL;
}

static const char *bad_enum(const struct cask_options *options)
{
    if ((unsigned)options->sync_mode > CASK_SYNC_ALWAYS)
        return "sync_mode is not one of its values";
    if ((unsigned)options->write_mode > CASK_WRITE_SYSCALL)
        return "write_mode is not one of its values";
    if ((unsigned)options->read_mode > CASK_READ_PREAD)
        return "read_mode is not one of its values";
    if ((unsigned)options->verify_reads > CASK_SWITCH_OFF)
        return "verify_reads is not one of its values";
    if ((unsigned)options->create > CASK_CREATE_NEW)
        return "create is not one of its values";
    if ((unsigned)options->merge > CASK_SWITCH_OFF)
        return "merge is not one of its values";
    return NULL;
}

static const char *bad_number(const struct cask_options *options)
{
    uint32_t shards = options->shard_count;

    if (shards > SHARDS_MAX || (shards & (shards - 1)) != 0)
        return "shard_count must be a power of two from 1 to 256";
    if (options->index_memory != 0 &&
        (options->index_memory < INDEX_MEMORY_MIN || options->index_memory > INDEX_MEMORY_MAX))
        return "index_memory must be from 1 MiB to 1 TiB";
    if (options->segment_bytes != 0 &&
        (options->segment_bytes < SEGMENT_MIN || options->segment_bytes > SEGMENT_MAX))
        return "segment_bytes must be from 256 bytes to 2 GiB";
    if (options->sync_interval_ms > INTERVAL_MAX_MS)
        return "sync_interval_ms must be at most 3,600,000";
    if (options->sync_interval_ms != 0 && options->sync_mode != CASK_SYNC_INTERVAL)
        return "sync_interval_ms goes with CASK_SYNC_INTERVAL only";
    if (options->merge_trigger_percent > 99 || options->merge_segment_percent > 99)
        return "merge_trigger_percent and merge_segment_percent must be at most 99";
    if (options->merge_at_once > SHARDS_MAX)
        return "merge_at_once must be at most 256";
    if (options->merge_from_hour > 24 || options->merge_until_hour > 24)
        return "merge_from_hour and merge_until_hour must be at most 24";
    if (options->read_only &&
        (options->create == CASK_CREATE_IF_MISSING || options->create == CASK_CREATE_NEW))
        return "a store cannot be created by a read-only open";
    return NULL;
}

/* So many that writers keep a processor to themselves. */
static uint32_t usual_merges_at_once(void)
{
    uint32_t half = thread_processors() / 2;

    return half < 1 ? 1 : half < MERGE_AT_ONCE_MAX ? half : MERGE_AT_ONCE_MAX;
}

static void fill_merge(struct cask_options *filled)
{
    if (filled->merge == CASK_SWITCH_DEFAULT)
        filled->merge = CASK_SWITCH_ON;
    if (filled->merge_trigger_percent == 0)
        filled->merge_trigger_percent = MERGE_TRIGGER_DEFAULT;
    if (filled->merge_segment_percent == 0)
        filled->merge_segment_percent = MERGE_SEGMENT_DEFAULT;
    if (filled->merge_at_once == 0)
        filled->merge_at_once = usual_merges_at_once();
}

int options_fill(const struct cask_options *options, const struct reporter *reporter,
                 const char *path, struct cask_options *ret_filled)
{
    struct cask_options filled = {0};
    const char *bad;

    if (options) {
        if (options->size == 0 || options->size > sizeof filled)
            return refuse(reporter, path, "options.size is not that of this library's options");
        memcpy(&filled, options, options->size);
    }
    filled.size = sizeof filled;
    bad = bad_enum(&filled);
    if (!bad)
        bad = bad_number(&filled);
    if (bad)
        return refuse(reporter, path, bad);
    if (filled.sync_mode == CASK_SYNC_DEFAULT)
        filled.sync_mode = CASK_SYNC_NONE;
    if (filled.sync_interval_ms == 0)
        filled.sync_interval_ms = INTERVAL_DEFAULT_MS;
    if (filled.verify_reads == CASK_SWITCH_DEFAULT)
        filled.verify_reads = CASK_SWITCH_ON;
    if (filled.read_mode == CASK_READ_DEFAULT)
        filled.read_mode = CASK_READ_MAPPED;
    if (filled.create == CASK_CREATE_DEFAULT)
        filled.create = filled.read_only ? CASK_CREATE_NEVER : CASK_CREATE_IF_MISSING;
    if (filled.index_memory == 0)
        filled.index_memory = INDEX_MEMORY_DEFAULT;
    if (filled.segment_bytes == 0)
        filled.segment_bytes = SEGMENT_DEFAULT;
    fill_merge(&filled);
    *ret_filled = filled;
    return CASK_OK;
}

/* What a new store gets where nothing is said. */
uint32_t options_shards(const struct cask_options *filled)
{
    return filled->shard_count != 0 ? filled->shard_count : SHARDS_DEFAULT;
}
