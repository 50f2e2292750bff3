/* Scripted runs. See workload.h. */
#include "workload.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../support_spill.h"
#include "simdisk.h"

#define VALUE_ROOM 4096u
#define LARGE_MAX 3000u

struct run {
    const struct workload *workload;
    struct history *history;
    struct cask_db *db;
    uint64_t random;
    uint64_t clock_ms;
    uint8_t value[VALUE_ROOM];
    char *why;
    size_t why_size;
};

static pthread_mutex_t error_lock = PTHREAD_MUTEX_INITIALIZER;
static char error_text[1024];
static size_t error_count;

static void note_error(void *context, enum cask_log_level level, const char *message)
{
    size_t used;

    (void)context;
    if (level != CASK_LOG_ERROR && !strstr(message, "a run is missing"))
        return; /* that is mended, but by the rules of syncing it does not happen */
    pthread_mutex_lock(&error_lock);
    used = strlen(error_text);
    snprintf(error_text + used, sizeof error_text - used, "%s%s", used ? "; " : "", message);
    error_count++;
    pthread_mutex_unlock(&error_lock);
}

size_t workload_errors(char *buffer, size_t size)
{
    size_t count;

    pthread_mutex_lock(&error_lock);
    snprintf(buffer, size, "%s", error_text);
    count = error_count;
    pthread_mutex_unlock(&error_lock);
    return count;
}

void workload_clear_errors(void)
{
    pthread_mutex_lock(&error_lock);
    error_text[0] = '\0';
    error_count = 0;
    pthread_mutex_unlock(&error_lock);
}

void workload_options(const struct workload *workload, struct cask_options *ret_options)
{
    *ret_options = (struct cask_options){
        .size = sizeof *ret_options,
        .shard_count = workload->shards,
        .sync_mode = workload->sync_mode,
        .sync_interval_ms = workload->sync_mode == CASK_SYNC_INTERVAL ? 1 : 0,
        .write_mode = workload->write_mode,
        .segment_bytes = workload->segment_bytes,
        .index_memory = 4 << 20,
        .log = note_error};
}

static uint64_t next_random(struct run *run)
{
    uint64_t z = run->random += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static unsigned below(struct run *run, unsigned limit)
{
    return (unsigned)(next_random(run) >> 33) % limit;
}

static bool failed(struct run *run, const char *call, int status)
{
    snprintf(run->why, run->why_size, "%s says %s", call, cask_strerror(status));
    return false;
}

/* Mostly short; now and then one that needs a segment of its own. */
static size_t value_size(struct run *run)
{
    switch (below(run, 12)) {
    case 0:
        return 0;
    case 1:
        if (run->workload->segment_bytes < LARGE_MAX)
            return (size_t)run->workload->segment_bytes + below(run, 400);
        return LARGE_MAX;
    default:
        return 4 + below(run, 90);
    }
}

static unsigned new_value(struct run *run, unsigned key, struct cask_slice *ret_value)
{
    unsigned version = history_version(run->history, key, value_size(run), run->value);

    *ret_value = (struct cask_slice){run->value, run->history->value_sizes[version]};
    return version;
}

static void unit_start(struct run *run)
{
    history_start(run->history, simdisk_log_position());
}

static void unit_done(struct run *run)
{
    size_t position = simdisk_log_position();

    history_return(run->history, position);
    if (run->workload->sync_mode == CASK_SYNC_ALWAYS)
        history_all_durable(run->history, position);
}

/* Some expire soon, some late; the clock of the machine stands still but for the script. */
static uint64_t expiry(struct run *run)
{
    return run->clock_ms + 1 + below(run, 2) * 3600000 + below(run, 2000);
}

static bool step_put(struct run *run, bool expiring)
{
    unsigned key = below(run, HISTORY_KEYS - 4);
    uint64_t expires = expiring ? expiry(run) : 0;
    struct cask_slice value;
    unsigned version = new_value(run, key, &value);
    int status;

    unit_start(run);
    history_add(run->history, key, version, expires);
    if (expiring)
        status = cask_put_expiring(run->db, history_key(key), value, expires);
    else
        status = cask_put(run->db, history_key(key), value);
    if (status != CASK_OK)
        return failed(run, "cask_put", status);
    unit_done(run);
    return true;
}

/* The number of what the key has; 0: it is not there. */
static bool look_up_sequence(struct run *run, unsigned key, uint64_t *ret_sequence)
{
    struct cask_view view = {.sequence = 0};
    int status = cask_view(run->db, history_key(key), &view);

    *ret_sequence = view.sequence;
    cask_view_release(&view);
    return status == CASK_OK || status == CASK_NOTFOUND ? true : failed(run, "cask_view", status);
}

/* One in three on a condition that does not hold. */
static bool step_put_if(struct run *run)
{
    unsigned key = below(run, HISTORY_KEYS - 4);
    bool refused = below(run, 3) == 0;
    struct cask_slice value;
    unsigned version = new_value(run, key, &value);
    uint64_t sequence;
    int status;

    if (!look_up_sequence(run, key, &sequence))
        return false;
    unit_start(run);
    history_add(run->history, key, version, 0);
    status = cask_put_if(run->db, history_key(key), value, sequence + refused, NULL);
    if (refused && status == (sequence ? CASK_EEXIST : CASK_NOTFOUND)) {
        history_drop(run->history);
        return true;
    }
    if (refused || status != CASK_OK)
        return failed(run, "cask_put_if", status);
    unit_done(run);
    return true;
}

static bool step_delete(struct run *run)
{
    unsigned key = below(run, HISTORY_KEYS - 4);
    int status;

    unit_start(run);
    history_add(run->history, key, 0, 0);
    status = cask_delete(run->db, history_key(key));
    if (status == CASK_NOTFOUND) {
        history_drop(run->history);
        return true;
    }
    if (status != CASK_OK)
        return failed(run, "cask_delete", status);
    unit_done(run);
    return true;
}

static int fill_batch(struct run *run, struct cask_batch *batch)
{
    unsigned count = 1 + below(run, 6);
    int status = CASK_OK;

    for (unsigned i = 0; status == CASK_OK && i < count; i++) {
        unsigned key = below(run, HISTORY_KEYS - 4);
        unsigned choice = below(run, 6);
        uint64_t expires = choice == 1 ? expiry(run) : 0;
        struct cask_slice value;
        unsigned version = choice == 0 ? 0 : new_value(run, key, &value);

        history_add(run->history, key, version, expires);
        if (choice == 0)
            status = cask_batch_delete(batch, history_key(key));
        else if (choice == 1)
            status = cask_batch_put_expiring(batch, history_key(key), value, expires);
        else
            status = cask_batch_put(batch, history_key(key), value);
    }
    return status;
}

static bool step_batch(struct run *run)
{
    struct cask_batch *batch;
    int status = cask_batch_create(run->db, &batch);

    if (status != CASK_OK)
        return failed(run, "cask_batch_create", status);
    unit_start(run);
    status = fill_batch(run, batch);
    if (status == CASK_OK)
        status = cask_write(run->db, batch);
    cask_batch_destroy(batch);
    if (status != CASK_OK)
        return failed(run, "cask_write", status);
    unit_done(run);
    return true;
}

static bool step_sync(struct run *run)
{
    int status = cask_sync(run->db);

    if (status != CASK_OK)
        return failed(run, "cask_sync", status);
    history_all_durable(run->history, simdisk_log_position());
    return true;
}

static bool step_open(struct run *run)
{
    struct cask_options options;
    int status;

    workload_options(run->workload, &options);
    status = cask_open(WORKLOAD_PATH, &options, &run->db);
    return status == CASK_OK ? true : failed(run, "cask_open", status);
}

static bool step_close(struct run *run)
{
    int status = cask_close(run->db);

    run->db = NULL;
    if (status != CASK_OK)
        return failed(run, "cask_close", status);
    history_all_durable(run->history, simdisk_log_position());
    return true;
}

static void step_time(struct run *run)
{
    uint64_t ms = 500 + below(run, 2000);
    struct timespec pause = {0, 2000000};

    run->clock_ms += ms;
    simdisk_advance_ms(ms);
    nanosleep(&pause, NULL); /* the store's threads have a turn */
}

static bool step_merge(struct run *run)
{
    int status = cask_merge(run->db, NULL, NULL);

    return status == CASK_OK ? true : failed(run, "cask_merge", status);
}

/* All of it into one run per shard, or one more run in one of them, as the store itself does it. */
static bool step_spill(struct run *run)
{
    int status = below(run, 3) == 0 ? cask_flush_index(run->db)
                                    : spill_shard(run->db, below(run, run->workload->shards));

    return status == CASK_OK ? true : failed(run, "moving the index to disk", status);
}

static bool step(struct run *run)
{
    unsigned choice;

    if (run->workload->merge_percent > 0 && below(run, 100) < run->workload->merge_percent)
        return step_merge(run);
    if (run->workload->spill_percent > 0 && below(run, 100) < run->workload->spill_percent)
        return step_spill(run);
    choice = below(run, 100);
    if (choice < 42)
        return step_put(run, false);
    if (choice < 50)
        return step_put_if(run);
    if (choice < 58)
        return step_put(run, true);
    if (choice < 70)
        return step_delete(run);
    if (choice < 86)
        return step_batch(run);
    if (choice < 91)
        return step_sync(run);
    if (choice < 95)
        return step_close(run) && step_open(run);
    step_time(run);
    return true;
}

static bool check_end(struct run *run)
{
    struct history_view expected;
    struct history_view view;

    history_final(run->history, run->clock_ms, &expected);
    return history_look(run->history, run->db, &view, run->why, run->why_size) &&
           history_same(&expected, &view, run->why, run->why_size);
}

bool workload_run(const struct workload *workload, uint64_t seed, struct history *ret_history,
                  struct simlog **ret_log, char *why, size_t size)
{
    struct run run = {.workload = workload,
                      .history = ret_history,
                      .random = seed,
                      .clock_ms = 1700000000000,
                      .why = why,
                      .why_size = size};
    bool good;

    simdisk_reset(seed);
    simdisk_set_clock_ms(run.clock_ms);
    simdisk_set_allocate_supported(!workload->no_allocate);
    simdisk_record_begin();
    history_init(ret_history);
    good = step_open(&run);
    for (size_t i = 0; good && i < workload->steps; i++)
        good = step(&run);
    good = good && check_end(&run);
    if (run.db)
        good = step_close(&run) && good;
    if (good && (simdisk_open_handles() > 0 || simdisk_open_maps() > 0)) {
        snprintf(why, size, "%u handles and %u mappings are open after cask_close",
                 simdisk_open_handles(), simdisk_open_maps());
        good = false;
    }
    simdisk_check();
    ret_history->end_ms = run.clock_ms;
    *ret_log = simdisk_record_end();
    history_learn_shards(ret_history, *ret_log);
    return good;
}
