#include "store/store.h"

#include <stdlib.h>
#include <time.h>

#include "base/pages.h"
#include "base/thread.h"
#include "shard/recover.h"
#include "store/crew.h"

#define PROBE_BYTES 4096u
#define RESERVE_MIN ((uint64_t)1 << 20)
#define RESERVE_PART 8u /* of the index's memory, for the buffers of what moves it to disk */
#define READ_ONLY_TRIES 5
#define READ_ONLY_PAUSE_NS 4000000

/* ---- making and unmaking --------------------------------------------------------------------- */

static void release(struct cask_db *db)
{
    for (uint32_t i = 0; db->shards && i < db->env.shard_count; i++)
        shard_release(&db->shards[i]);
    free(db->shards);
    free(db->workers);
    reserve_close(&db->env.reserve);
    merge_control_release(&db->merging);
    directory_close(db);
    if (db->fork_mark)
        pages_fork_unmark(db->fork_mark);
    epoch_release(&db->env.epoch);
    pthread_rwlock_destroy(&db->env.building);
    pthread_mutex_destroy(&db->workers_lock);
    pthread_mutex_destroy(&db->sync_lock);
    pthread_cond_destroy(&db->sync_wanted);
    free(db->real_path);
    free(db->path);
    free(db);
}

/* The parts that cannot fail half-way to be released: those that release() may always undo. */
static struct cask_db *allocate(const char *path, const struct cask_options *options)
{
    struct cask_db *db = aligned_alloc(64, align_up(sizeof *db, 64));
    pthread_condattr_t monotonic;

    if (!db)
        return NULL;
    memset(db, 0, sizeof *db);
    db->path = strdup(path);
    if (!db->path || epoch_init(&db->env.epoch) != CASK_OK) {
        free(db->path);
        free(db);
        return NULL;
    }
    pthread_rwlock_init(&db->env.building, NULL);
    pthread_mutex_init(&db->workers_lock, NULL);
    pthread_mutex_init(&db->sync_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&db->sync_wanted, &monotonic);
    pthread_condattr_destroy(&monotonic);
    db->env.path = db->path;
    db->env.reporter = (struct reporter){options->log, options->log_context};
    return db;
}

/* The keydir of one shard may take the whole budget, and beside it, for a while, the entries of
 * what a merge has copied: with the index on disk that may be a segment full of records, which are
 * no smaller than entries are. Unless that is more address space than the system has to give. */
static size_t keydir_reserve_for(uint64_t index_memory, const struct superblock *superblock)
{
    uint64_t limit = ((uint64_t)32 << 40) / superblock->shard_count;
    uint64_t largest = (uint64_t)RECORD_ALIGNMENT << superblock->offset_bits;

    return (size_t)align_up(min_u64(index_memory + largest, limit), 4096);
}

static void configure(struct cask_db *db, const struct cask_options *options,
                      const struct superblock *superblock)
{
    struct shard_env *env = &db->env;

    env->root = db->dir;
    env->hash_seed = superblock->hash_seed;
    env->shard_count = superblock->shard_count;
    while ((uint32_t)1 << env->shard_bits < env->shard_count)
        env->shard_bits++;
    env->budget.limit_bytes = options->index_memory;
    env->spills = !options->read_only;
    env->real_path = db->real_path ? db->real_path : db->path;
    if (env->spills)
        env->budget.reserve_bytes = max_u64(options->index_memory / RESERVE_PART,
                                            min_u64(options->index_memory / 2, RESERVE_MIN));
    env->keydir_reserve_bytes = keydir_reserve_for(options->index_memory, superblock);
    env->read_only = options->read_only != 0;
    io_boot_id(env->boot_id);
    db->sync_mode = options->sync_mode;
    db->sync_interval_ms = options->sync_interval_ms;
    memcpy(db->config.uuid, superblock->uuid, sizeof db->config.uuid);
    db->config.shard_count = superblock->shard_count;
    db->config.offset_bits = superblock->offset_bits;
    db->config.write_mapped = options->write_mode == CASK_WRITE_MAPPED ||
                              (options->write_mode == CASK_WRITE_DEFAULT &&
                               options->sync_mode != CASK_SYNC_ALWAYS);
    db->config.write_fallback = options->write_mode == CASK_WRITE_DEFAULT;
    db->config.read_mapped = options->read_mode == CASK_READ_MAPPED;
    db->config.verify_reads = options->verify_reads == CASK_SWITCH_ON;
    db->config.segment_bytes = options->segment_bytes;
}

static int check_against(struct cask_db *db, const struct cask_options *options,
                         const struct superblock *superblock)
{
    if (options->shard_count != 0 && options->shard_count != superblock->shard_count) {
        report(&db->env.reporter, CASK_LOG_ERROR,
               "%s/" SUPERBLOCK_NAME ": the store has %u shards, %u were asked for", db->path,
               (unsigned)superblock->shard_count, (unsigned)options->shard_count);
        return CASK_EMISMATCH;
    }
    if (options->segment_bytes > (uint64_t)RECORD_ALIGNMENT << superblock->offset_bits) {
        report(&db->env.reporter, CASK_LOG_ERROR,
               "%s/" SUPERBLOCK_NAME ": the store was created for segments of at most %llu bytes",
               db->path, (unsigned long long)RECORD_ALIGNMENT << superblock->offset_bits);
        return CASK_EMISMATCH;
    }
    return CASK_OK;
}

/* Where mapped writes were asked for by name, the file system must be able to preallocate. */
static int probe_allocation(struct cask_db *db, const struct cask_options *options)
{
    struct io_file *file;
    int status;
    int left;

    if (options->read_only || options->write_mode != CASK_WRITE_MAPPED)
        return CASK_OK;
    left = io_unlink(db->dir, DIRECTORY_PROBE_TMP);
    (void)left; /* usually there is none */
    status = io_open(db->dir, DIRECTORY_PROBE_TMP, IO_CREATE_NEW, &file);
    if (status == CASK_OK) {
        status = io_allocate(file, PROBE_BYTES);
        io_close(file);
        left = io_unlink(db->dir, DIRECTORY_PROBE_TMP);
        (void)left; /* the next open removes it */
    }
    if (status == CASK_ENOTSUP)
        report(&db->env.reporter, CASK_LOG_ERROR,
               "%s: the file system cannot preallocate, which write_mode mapped needs", db->path);
    /* A full disk is met again by the first write; reading what there is must go on. */
    return status == CASK_ENOSPC ? CASK_OK : status;
}

static int start_control(struct cask_db *db, const struct cask_options *options)
{
    struct merge_settings settings = {.automatic = options->merge == CASK_SWITCH_ON &&
                                                   !options->read_only,
                                      .trigger_percent = options->merge_trigger_percent,
                                      .segment_percent = options->merge_segment_percent,
                                      .at_once = options->merge_at_once,
                                      .bytes_per_second = options->merge_bytes_per_second,
                                      .from_hour = options->merge_from_hour,
                                      .until_hour = options->merge_until_hour};

    return merge_control_init(&db->merging, &db->env, &settings);
}

static int make_shards(struct cask_db *db, const struct cask_options *options)
{
    uint32_t count = db->env.shard_count;
    int status = start_control(db, options);

    if (status != CASK_OK)
        return status;

    db->shards = aligned_alloc(64, align_up(count * sizeof *db->shards, 64));
    db->workers = calloc(count, sizeof *db->workers);
    if (db->shards)
        memset(db->shards, 0, count * sizeof *db->shards);
    if (!db->shards || !db->workers)
        return CASK_ENOMEM;
    db->env.shards = db->shards;
    for (uint32_t i = 0; status == CASK_OK && i < count; i++) {
        status = shard_init(&db->shards[i], &db->env, i, &db->config);
        worker_init(&db->workers[i], &db->shards[i], &db->merging);
    }
    return status;
}

/* ---- all shards at once ---------------------------------------------------------------------- */

struct opening {
    struct cask_db *db;
    struct recovery *recoveries;
};

static int step_read(void *context, uint32_t i)
{
    struct opening *opening = context;

    return recover_read(&opening->db->shards[i], &opening->recoveries[i]);
}

static int step_apply(void *context, uint32_t i)
{
    struct opening *opening = context;

    return recover_apply(&opening->recoveries[i]);
}

static int step_settle(void *context, uint32_t i)
{
    struct opening *opening = context;

    return recover_settle(&opening->recoveries[i]);
}

static int step_close(void *context, uint32_t i)
{
    struct cask_db *db = context;

    return shard_close(&db->shards[i]);
}

static void note_batches(struct cask_db *db, const struct recovery *recovery)
{
    uint64_t last = max_u64(db->env.batch_number, recovery->manifest.settled_batch);

    for (uint64_t i = 0; i < recovery->tail_count; i++)
        last = max_u64(last, recovery->tails[i].hint.max_batch);
    db->env.batch_number = last;
}

static int recover(struct cask_db *db)
{
    uint32_t count = db->env.shard_count;
    struct opening opening = {db, calloc(count, sizeof *opening.recoveries)};
    int status;

    if (!opening.recoveries)
        return CASK_ENOMEM;
    status = crew_do(count, step_read, &opening);
    if (status == CASK_OK && db->env.read_only)
        status = recover_follow(opening.recoveries, count);
    if (status == CASK_OK) {
        for (uint32_t i = 0; i < count; i++)
            note_batches(db, &opening.recoveries[i]);
        recover_resolve(opening.recoveries, count);
        status = crew_do(count, step_apply, &opening);
        if (status == CASK_OK)
            status = crew_do(count, step_settle, &opening);
    }
    for (uint32_t i = 0; i < count; i++)
        recover_release(&opening.recoveries[i]);
    free(opening.recoveries);
    for (uint32_t i = 0; status == CASK_OK && i < count; i++)
        merge_arm(&db->merging, &db->shards[i]);
    return status;
}

/* ---- syncing at intervals -------------------------------------------------------------------- */

int store_sync(struct cask_db *db)
{
    int status = CASK_OK;

    for (uint32_t i = 0; i < db->env.shard_count; i++) {
        struct shard *shard = &db->shards[i];
        uint64_t position;

        pthread_mutex_lock(&shard->lock);
        position = shard->position;
        pthread_mutex_unlock(&shard->lock);
        status = status_first(status, shard_make_durable(shard, position));
    }
    return status;
}

static void *sync_run(void *argument)
{
    struct cask_db *db = argument;

    pthread_mutex_lock(&db->sync_lock);
    while (!db->sync_stopping) {
        struct timespec until;
        int status;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += db->sync_interval_ms / 1000;
        until.tv_nsec += (long)(db->sync_interval_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&db->sync_wanted, &db->sync_lock, &until);
        pthread_mutex_unlock(&db->sync_lock);
        status = store_sync(db);
        (void)status; /* a failed sync has told the log, and its shard refuses writes */
        pthread_mutex_lock(&db->sync_lock);
    }
    pthread_mutex_unlock(&db->sync_lock);
    return NULL;
}

static int start_sync_thread(struct cask_db *db)
{
    int status;

    if (db->sync_mode != CASK_SYNC_INTERVAL || db->env.read_only)
        return CASK_OK;
    status = thread_start(&db->sync_thread, sync_run, db);
    db->sync_thread_started = status == CASK_OK;
    return status;
}

static void stop_threads(struct cask_db *db)
{
    for (uint32_t i = 0; i < db->env.shard_count; i++)
        worker_stop(&db->workers[i]);
    if (!db->sync_thread_started)
        return;
    pthread_mutex_lock(&db->sync_lock);
    db->sync_stopping = true;
    pthread_cond_signal(&db->sync_wanted);
    pthread_mutex_unlock(&db->sync_lock);
    pthread_join(db->sync_thread, NULL);
}

void store_wake_worker(struct cask_db *db, struct shard *shard)
{
    struct worker *worker = &db->workers[shard->number];
    int status;

    if (atomic_load_explicit(&worker->started, memory_order_relaxed))
        return;
    pthread_mutex_lock(&db->workers_lock);
    status = worker_start(worker);
    pthread_mutex_unlock(&db->workers_lock);
    (void)status; /* without a thread, puts prepare their segments and the close seals them */
}

/* ---- opening and closing --------------------------------------------------------------------- */

static int open_once(const char *path, const struct cask_options *options, struct cask_db **ret_db,
                     bool *ret_recovering)
{
    struct cask_db *db = allocate(path, options);
    struct superblock superblock;
    int status;

    *ret_recovering = false;
    if (!db)
        return CASK_ENOMEM;
    status = pages_fork_mark(&db->fork_mark);
    if (status == CASK_OK)
        status = directory_open(db, options, &superblock);
    if (status == CASK_OK)
        status = check_against(db, options, &superblock);
    if (status == CASK_OK) {
        db->real_path = realpath(path, NULL); /* there is none on the tests' disk */
        configure(db, options, &superblock);
        status = probe_allocation(db, options);
    }
    if (status == CASK_OK)
        status = make_shards(db, options);
    *ret_recovering = status == CASK_OK;
    if (status == CASK_OK && !options->read_only)
        reserve_init(&db->env.reserve, db->dir);
    if (status == CASK_OK)
        status = recover(db);
    if (status == CASK_OK)
        status = start_sync_thread(db);
    if (status != CASK_OK) {
        directory_undo(db);
        release(db);
        return status;
    }
    *ret_db = db;
    return CASK_OK;
}

/* Lines for the log that wait until it is known whether they are the truth. */
struct held_line {
    struct held_line *next;
    enum cask_log_level level;
    char text[];
};

struct held_lines {
    pthread_mutex_t lock;
    struct held_line *first;
    struct held_line **last;
};

static void hold_line(void *context, enum cask_log_level level, const char *message)
{
    struct held_lines *held = context;
    size_t size = strlen(message) + 1;
    struct held_line *line = malloc(sizeof *line + size);

    if (!line)
        return;
    line->next = NULL;
    line->level = level;
    memcpy(line->text, message, size);
    pthread_mutex_lock(&held->lock);
    *held->last = line;
    held->last = &line->next;
    pthread_mutex_unlock(&held->lock);
}

/* Hands them out, or forgets them. */
static void let_lines_go(struct held_lines *held, const struct reporter *reporter)
{
    while (held->first) {
        struct held_line *line = held->first;

        held->first = line->next;
        if (reporter)
            report(reporter, line->level, "%s", line->text);
        free(line);
    }
    held->last = &held->first;
}

/* A read-only open takes no lock, so a live writer may change things under it while it recovers:
 * then it starts again, without telling of what it met, and gives up in the end. */
static int open_read_only(const char *path, const struct cask_options *options,
                          struct cask_db **ret_db)
{
    struct timespec pause = {0, READ_ONLY_PAUSE_NS};
    struct reporter reporter = {options->log, options->log_context};
    struct cask_options holding = *options;
    struct held_lines held = {.lock = PTHREAD_MUTEX_INITIALIZER};
    bool recovering;
    int status;

    held.last = &held.first;
    holding.log = hold_line;
    holding.log_context = &held;
    status = open_once(path, &holding, ret_db, &recovering);
    for (int i = 1;
         recovering && i < READ_ONLY_TRIES && (status == CASK_NOTFOUND || status == CASK_ECORRUPT);
         i++) {
        let_lines_go(&held, NULL);
        nanosleep(&pause, NULL);
        status = open_once(path, &holding, ret_db, &recovering);
    }
    /* What was missed since it was merged away meanwhile is not missing from the store. */
    if (status == CASK_NOTFOUND)
        status = CASK_EBUSY;
    let_lines_go(&held, status == CASK_EBUSY ? NULL : &reporter);
    pthread_mutex_destroy(&held.lock);
    if (status == CASK_EBUSY)
        report(&reporter, CASK_LOG_ERROR, "%s: %s", path, cask_strerror(status));
    if (status == CASK_OK)
        (*ret_db)->env.reporter = reporter;
    return status;
}

int store_open(const char *path, const struct cask_options *options, struct cask_db **ret_db)
{
    bool recovering;
    int status;

    if (options->read_only)
        return open_read_only(path, options, ret_db);
    status = open_once(path, options, ret_db, &recovering);
    return status == CASK_NOTFOUND ? CASK_EBUSY : status;
}

int store_close(struct cask_db *db)
{
    int status;

    stop_threads(db);
    reserve_close(&db->env.reserve); /* hints and manifests need room */
    status = crew_do(db->env.shard_count, step_close, db);
    for (uint32_t i = 0; i < db->env.shard_count; i++)
        status = status_first(status, atomic_load(&db->shards[i].failed));
    release(db);
    return status;
}
