/* Loading with several threads, in the order of the input.
 *
 * Every worker does all three steps, whichever is possible: fill the next block from the source
 * (one at a time), parse a block it has filled (several at once), and write records to the store.
 * Blocks stand in a ring, numbered by their place in the input.
 *
 *  1. Of several records of one key the last one in the input wins, whatever the threads do: when a
 *     block is parsed its records are dealt out by a hash of the key, part w falls to worker w, and
 *     a worker writes its parts block after block. So one thread writes all records of a key, in
 *     the order of the input.
 *  2. A part of block n is written only after blocks 0 to n have been parsed (worker w wrote its
 *     part of n-1 before, so n-1 was). So where a bad line stops the load, every record before it
 *     is loaded and none behind it is.
 *  3. A block retires when all its parts are written, and blocks retire in order. What has been
 *     reported as loaded is the records of retired blocks: the first N of the input.
 *  4. Memory is bounded by the ring: it takes no more text while IN_FLIGHT_MAX bytes are in it,
 *     except for one block, however long its record may be.
 */
#include "load/loader.h"

#include "load/block.h"
#include "progress.h"
#include "report.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define IN_FLIGHT_MAX ((uint64_t)256 << 20)
#define BATCH_BYTES ((size_t)1 << 20)

struct worker {
    struct loader *loader;
    unsigned index;
    uint64_t applied; /* blocks whose part has been written; under loader.lock */
    uint64_t records; /* written */
    struct cask_batch *batch;
    size_t batch_bytes;
    uint64_t batch_records;
    pthread_t thread;
};

struct loader {
    const struct load_job *job;
    struct load_result *result; /* under lock while the workers run */
    struct worker *workers;
    struct load_block *ring;
    unsigned ring_size;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* anything below */
    bool filling;           /* a worker is at the source */
    bool input_done;        /* no further block will be filled */
    bool failed;            /* stop as soon as possible */
    uint64_t filled;        /* blocks taken from the source */
    uint64_t retired;
    uint64_t stop_at;   /* blocks from this number on are not written */
    uint64_t in_flight; /* bytes of text in blocks that have not retired */
    uint64_t reported;  /* records */
};

static struct load_block *block_at(struct loader *loader, uint64_t number)
{
    return &loader->ring[number % loader->ring_size];
}

/* Writing */

static int flush_batch(struct worker *worker)
{
    if (worker->batch_records == 0) {
        return CASK_OK;
    }
    int status = cask_write(worker->loader->job->db, worker->batch);
    if (status == CASK_OK) {
        worker->records += worker->batch_records;
    }
    cask_batch_clear(worker->batch);
    worker->batch_bytes = 0;
    worker->batch_records = 0;
    return status;
}

static int write_in_batch(struct worker *worker, const struct record *record)
{
    int status = record->expires_at_ms == 0
                     ? cask_batch_put(worker->batch, record->key, record->value)
                     : cask_batch_put_expiring(worker->batch, record->key, record->value,
                                               record->expires_at_ms);
    if (status != CASK_OK) {
        return status;
    }
    worker->batch_records++;
    worker->batch_bytes += record->key.size + record->value.size;
    return worker->batch_bytes < BATCH_BYTES ? CASK_OK : flush_batch(worker);
}

static int write_alone(struct worker *worker, const struct record *record)
{
    struct cask_db *db = worker->loader->job->db;
    int status = record->expires_at_ms == 0
                     ? cask_put(db, record->key, record->value)
                     : cask_put_expiring(db, record->key, record->value, record->expires_at_ms);
    worker->records += status == CASK_OK;
    return status;
}

static int write_part(struct worker *worker, const struct part *part)
{
    int status = CASK_OK;
    bool batches = worker->batch != NULL;
    for (size_t i = 0; i < part->count && status == CASK_OK; i++) {
        status = batches ? write_in_batch(worker, &part->records[i])
                         : write_alone(worker, &part->records[i]);
    }
    return status == CASK_OK && batches ? flush_batch(worker) : status;
}

/* Retiring, under the lock */

static void fail(struct loader *loader, int status)
{
    if (!loader->failed) {
        loader->failed = true;
        loader->result->status = status;
    }
}

static void report_bad_lines(const struct loader *loader, const struct load_block *block)
{
    for (size_t i = 0; i < block->bad_count; i++) {
        const struct bad_line *bad = &block->bad_lines[i];
        unsigned long long line = loader->result->lines + bad->line;
        if (bad->column == 0) {
            report_error("%s:%llu: %s", loader->job->source->name, line, bad->reason);
        } else {
            report_error("%s:%llu: byte %llu: %s", loader->job->source->name, line,
                         (unsigned long long)bad->column, bad->reason);
        }
    }
}

static void report_loaded(struct loader *loader, uint64_t records)
{
    struct out *report = loader->job->report;
    loader->reported += records;
    if (report == NULL || records == 0) {
        return;
    }
    out_text(report, "loaded ");
    out_number(report, loader->reported);
    out_char(report, '\n');
    if (!out_flush(report)) { /* nobody listens, so nobody can know what is loaded */
        fail(loader, CASK_OK);
    }
}

static void retire_blocks(struct loader *loader)
{
    while (loader->retired < loader->filled) {
        struct load_block *block = block_at(loader, loader->retired);
        if (block->phase != BLOCK_PARSED || block->parts_applied < block->part_count) {
            return;
        }
        report_bad_lines(loader, block);
        report_loaded(loader, block->records);
        progress_update(block->text.input_end);
        loader->result->lines += block->lines;
        loader->result->rejected += block->bad_count;
        loader->in_flight -= block->text.size;
        loader->retired++;
        load_block_reset(block, 4 * loader->job->source->block_bytes);
    }
}

/* The steps of a worker. Each is entered and left under the lock. */

static bool can_write(struct loader *loader, const struct worker *worker)
{
    return worker->applied < loader->filled && worker->applied < loader->stop_at &&
           block_at(loader, worker->applied)->phase == BLOCK_PARSED;
}

static void write_next(struct loader *loader, struct worker *worker)
{
    struct load_block *block = block_at(loader, worker->applied);
    pthread_mutex_unlock(&loader->lock);
    int status = write_part(worker, &block->parts[worker->index]);
    pthread_mutex_lock(&loader->lock);
    if (status != CASK_OK) {
        fail(loader, status);
        return;
    }
    worker->applied++;
    block->parts_applied++;
    retire_blocks(loader);
}

static bool can_fill(const struct loader *loader)
{
    uint64_t waiting = loader->filled - loader->retired;
    return !loader->filling && !loader->input_done && waiting < loader->ring_size &&
           (waiting == 0 || loader->in_flight < IN_FLIGHT_MAX);
}

static void fill_next(struct loader *loader)
{
    uint64_t number = loader->filled;
    struct load_block *block = block_at(loader, number);
    struct source *source = loader->job->source;
    loader->filling = true;
    pthread_mutex_unlock(&loader->lock);
    bool read = source_fill(source, &block->text);
    pthread_mutex_lock(&loader->lock);
    loader->filling = false;
    if (!read) { /* what came before is still loaded */
        loader->input_done = true;
        loader->result->input_problem = source->problem;
        return;
    }
    block->phase = BLOCK_FILLING;
    loader->filled++;
    loader->in_flight += block->text.size;
    loader->input_done |= block->text.last;
    pthread_cond_broadcast(&loader->changed); /* the next one may go to the source */
    pthread_mutex_unlock(&loader->lock);
    bool parsed = load_block_parse(block, source->format, loader->job->keep_going);
    pthread_mutex_lock(&loader->lock);
    if (!parsed) {
        fail(loader, CASK_ENOMEM);
    }
    block->phase = BLOCK_PARSED;
    if (block->stops_load) {
        loader->input_done = true;
        loader->stop_at = number + 1 < loader->stop_at ? number + 1 : loader->stop_at;
    }
}

static bool is_finished(const struct loader *loader, const struct worker *worker)
{
    if (loader->failed || worker->applied >= loader->stop_at) {
        return true;
    }
    return loader->input_done && !loader->filling && worker->applied == loader->filled;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct loader *loader = worker->loader;
    pthread_mutex_lock(&loader->lock);
    while (!is_finished(loader, worker)) {
        if (can_write(loader, worker)) {
            write_next(loader, worker);
        } else if (can_fill(loader)) {
            fill_next(loader);
        } else {
            pthread_cond_wait(&loader->changed, &loader->lock);
            continue;
        }
        pthread_cond_broadcast(&loader->changed);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* Setting up */

static bool make_ring(struct loader *loader)
{
    unsigned threads = loader->job->threads;
    loader->ring_size = 2 * threads + 2;
    loader->ring = calloc(loader->ring_size, sizeof(*loader->ring));
    loader->workers = calloc(threads, sizeof(*loader->workers));
    if (loader->ring == NULL || loader->workers == NULL) {
        return false;
    }
    for (unsigned i = 0; i < loader->ring_size; i++) {
        if (!load_block_init(&loader->ring[i], threads)) {
            return false;
        }
    }
    return true;
}

/* Starts the workers; this thread is the first one. */
static void run_workers(struct loader *loader)
{
    unsigned threads = loader->job->threads;
    unsigned started = 0;
    int status = CASK_OK;
    for (unsigned i = 0; i < threads && status == CASK_OK; i++) {
        struct worker *worker = &loader->workers[i];
        worker->loader = loader;
        worker->index = i;
        if (loader->job->batches) {
            status = cask_batch_create(loader->job->db, &worker->batch);
        }
    }
    while (status == CASK_OK && started + 1 < threads) {
        struct worker *worker = &loader->workers[started + 1];
        if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
            report_error("cannot start thread %u", started + 2);
            status = CASK_ENOMEM;
            break;
        }
        started++;
    }
    if (status == CASK_OK) {
        work(&loader->workers[0]);
    } else {
        pthread_mutex_lock(&loader->lock);
        fail(loader, status);
        pthread_cond_broadcast(&loader->changed);
        pthread_mutex_unlock(&loader->lock);
    }
    for (unsigned i = 1; i <= started; i++) {
        pthread_join(loader->workers[i].thread, NULL);
    }
}

static void release(struct loader *loader)
{
    for (unsigned i = 0; loader->ring != NULL && i < loader->ring_size; i++) {
        load_block_release(&loader->ring[i]);
    }
    for (unsigned i = 0; loader->workers != NULL && i < loader->job->threads; i++) {
        loader->result->loaded += loader->workers[i].records;
        cask_batch_destroy(loader->workers[i].batch);
    }
    free(loader->ring);
    free(loader->workers);
    pthread_cond_destroy(&loader->changed);
    pthread_mutex_destroy(&loader->lock);
}

void loader_run(const struct load_job *job, struct load_result *ret_result)
{
    struct loader loader = {.job = job, .result = ret_result, .stop_at = UINT64_MAX};
    memset(ret_result, 0, sizeof(*ret_result));
    pthread_mutex_init(&loader.lock, NULL);
    pthread_cond_init(&loader.changed, NULL);
    if (make_ring(&loader)) {
        run_workers(&loader);
    } else {
        ret_result->status = CASK_ENOMEM;
    }
    release(&loader);
}
