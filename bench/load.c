#include "load.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ticks.h"

#define PUTS_PER_LOOK 256 /* at the clock, by a load that may end early */
#define GETS_PER_LOOK 4

enum gate_state { GATE_SHUT, GATE_OPEN, GATE_CANCELLED };

/* Holds the threads back until all of them stand ready. */
struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned ready;
    enum gate_state state;
};

struct worker {
    const struct load *load;
    struct gate *gate;
    pthread_t thread;
    uint64_t first; /* positions of the order: [first, end) */
    uint64_t end;   /* a load that ends early makes it less */
    struct engine_session *session;
    uint8_t *keys;   /* group keys */
    uint8_t *values; /* group values */
    struct cask_slice *key_slices;
    struct cask_slice *value_slices;
    int *statuses;
    uint64_t *ids;
    int status;
    uint64_t start_ns;
    uint64_t end_ns;
    uint64_t last_ticks; /* when the last call ended */
    struct histogram latencies;
    struct histogram get_latencies;
};

/* What the key has been put with, or is about to be. */
static uint32_t generation_of(const struct load *load, uint64_t id)
{
    return load->generations != NULL ? load->generations[id] : load->generation;
}

static inline uint64_t id_at(const struct load *load, uint64_t position)
{
    uint64_t at = order_at(&load->order, position);
    return load->first_id + (load->within != NULL ? order_at(load->within, at) : at);
}

static int unexpected(const struct worker *worker, uint64_t id, const char *what)
{
    fprintf(stderr, "caskade-bench: %s: key %" PRIu64 " of generation %" PRIu32 " %s\n",
            worker->load->engine->name, id, generation_of(worker->load, id), what);
    return -1;
}

/* One reading of the clock per call: a call's time runs from the end of the one before. */
static inline void call_ended_in(struct worker *worker, struct histogram *latencies)
{
    if (worker->load->latency) {
        uint64_t now = ticks_now();
        histogram_add(latencies, now - worker->last_ticks);
        worker->last_ticks = now;
    }
}

static inline void call_ended(struct worker *worker)
{
    call_ended_in(worker, &worker->latencies);
}

/* A get may wait for the disk, where a put does not. */
static bool is_over(const struct load *load, uint64_t call)
{
    uint64_t calls_per_look = load->kind == LOAD_PUT ? PUTS_PER_LOOK : GETS_PER_LOOK;
    return load->until_ns != 0 && call % calls_per_look == 0 && clock_ns() > load->until_ns;
}

static int run_puts(struct worker *worker)
{
    const struct load *load = worker->load;
    const struct keyspace *keyspace = load->keyspace;
    const struct cask_slice key = {worker->keys, keyspace->key_bytes};
    const struct cask_slice value = {worker->values, keyspace->value_bytes};
    for (uint64_t i = worker->first; i < worker->end; i++) {
        if (is_over(load, i)) {
            worker->end = i;
            break;
        }
        uint64_t id = id_at(load, i);
        keyspace_key(keyspace, id, worker->keys);
        keyspace_value(keyspace, id, load->generation, worker->values);
        int status = load->engine->put(worker->session, key, value);
        call_ended(worker);
        if (status != ENGINE_OK) {
            return unexpected(worker, id, "was not stored");
        }
    }
    return 0;
}

/* wanted: ENGINE_OK or ENGINE_NOTFOUND. */
static int check_get(struct worker *worker, uint64_t id, int status, int wanted,
                     struct cask_slice value)
{
    if (status != wanted) {
        return unexpected(worker, id,
                          status == ENGINE_OK         ? "is there and should not be"
                          : status == ENGINE_NOTFOUND ? "is not there"
                                                      : "could not be read");
    }
    const struct load *load = worker->load;
    if (status == ENGINE_OK &&
        !keyspace_check(load->keyspace, id, generation_of(load, id), value)) {
        return unexpected(worker, id, "holds a wrong value");
    }
    return 0;
}

static int run_gets(struct worker *worker, int wanted)
{
    const struct load *load = worker->load;
    const struct cask_slice key = {worker->keys, load->keyspace->key_bytes};
    for (uint64_t i = worker->first; i < worker->end; i++) {
        if (is_over(load, i)) {
            worker->end = i;
            break;
        }
        uint64_t id = id_at(load, i);
        keyspace_key(load->keyspace, id, worker->keys);
        struct cask_slice value = {NULL, 0};
        int status = load->engine->get(worker->session, key, &value);
        call_ended(worker);
        if (check_get(worker, id, status, wanted, value) != 0) {
            return -1;
        }
    }
    return 0;
}

/* Makes the keys of the next group; returns how many. */
static unsigned make_group(struct worker *worker, uint64_t position)
{
    const struct load *load = worker->load;
    uint64_t left = worker->end - position;
    unsigned count = left < load->group ? (unsigned)left : load->group;
    for (unsigned i = 0; i < count; i++) {
        worker->ids[i] = id_at(load, position + i);
        keyspace_key(load->keyspace, worker->ids[i], worker->keys + i * load->keyspace->key_bytes);
    }
    return count;
}

static int get_one_by_one(struct worker *worker, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct cask_slice value = {NULL, 0};
        int status = worker->load->engine->get(worker->session, worker->key_slices[i], &value);
        if (check_get(worker, worker->ids[i], status, ENGINE_OK, value) != 0) {
            return -1;
        }
    }
    return 0;
}

static int get_at_once(struct worker *worker, unsigned count)
{
    int status = worker->load->engine->get_many(worker->session, count, worker->key_slices,
                                                worker->value_slices, worker->statuses);
    for (unsigned i = 0; i < count && status == ENGINE_OK; i++) {
        status = check_get(worker, worker->ids[i], worker->statuses[i], ENGINE_OK,
                           worker->value_slices[i]);
    }
    return status == ENGINE_OK ? 0 : -1;
}

static int run_get_groups(struct worker *worker)
{
    const struct load *load = worker->load;
    uint64_t i = worker->first;
    while (i < worker->end) {
        if (is_over(load, i / load->group)) {
            worker->end = i;
            break;
        }
        unsigned count = make_group(worker, i);
        int rc = load->engine->get_many != NULL ? get_at_once(worker, count)
                                                : get_one_by_one(worker, count);
        call_ended(worker);
        if (rc != 0) {
            return -1;
        }
        i += count;
    }
    return 0;
}

static int run_batches(struct worker *worker)
{
    const struct load *load = worker->load;
    for (unsigned i = 0; i < load->group; i++) {
        worker->value_slices[i] = (struct cask_slice){
            worker->values + i * load->keyspace->value_bytes, load->keyspace->value_bytes};
    }
    uint64_t i = worker->first;
    while (i < worker->end) {
        unsigned count = make_group(worker, i);
        for (unsigned j = 0; j < count; j++) {
            keyspace_value(load->keyspace, worker->ids[j], load->generation,
                           worker->values + j * load->keyspace->value_bytes);
        }
        int status = load->engine->write(worker->session, count, worker->key_slices,
                                         worker->value_slices);
        call_ended(worker);
        if (status != ENGINE_OK) {
            return unexpected(worker, worker->ids[0], "and its batch were not stored");
        }
        i += count;
    }
    return 0;
}

static int mix_put(struct worker *worker, uint64_t id, struct cask_slice key)
{
    const struct load *load = worker->load;
    keyspace_value(load->keyspace, id, load->generation, worker->values);
    load->generations[id] = (uint16_t)load->generation;
    int status = load->engine->put(
        worker->session, key, (struct cask_slice){worker->values, load->keyspace->value_bytes});
    call_ended(worker);
    return status == ENGINE_OK ? 0 : unexpected(worker, id, "was not stored");
}

static int mix_get(struct worker *worker, uint64_t id, struct cask_slice key)
{
    struct cask_slice value = {NULL, 0};
    int status = worker->load->engine->get(worker->session, key, &value);
    call_ended_in(worker, &worker->get_latencies);
    return check_get(worker, id, status, ENGINE_OK, value);
}

static int run_mix(struct worker *worker)
{
    const struct load *load = worker->load;
    const struct cask_slice key = {worker->keys, load->keyspace->key_bytes};
    for (uint64_t i = worker->first; i < worker->end; i++) {
        uint64_t id = id_at(load, i);
        keyspace_key(load->keyspace, id, worker->keys);
        int rc = i % 2 == 0 ? mix_put(worker, id, key) : mix_get(worker, id, key);
        if (rc != 0) {
            return -1;
        }
    }
    return 0;
}

static int run_share(struct worker *worker)
{
    switch (worker->load->kind) {
    case LOAD_PUT:
        return run_puts(worker);
    case LOAD_GET:
        return run_gets(worker, ENGINE_OK);
    case LOAD_GET_MISSING:
        return run_gets(worker, ENGINE_NOTFOUND);
    case LOAD_GET_MANY:
        return run_get_groups(worker);
    case LOAD_WRITE:
        return run_batches(worker);
    case LOAD_MIX:
        return run_mix(worker);
    }
    return -1;
}

static bool wait_at_gate(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    gate->ready++;
    pthread_cond_broadcast(&gate->changed);
    while (gate->state == GATE_SHUT) {
        pthread_cond_wait(&gate->changed, &gate->mutex);
    }
    bool open = gate->state == GATE_OPEN;
    pthread_mutex_unlock(&gate->mutex);
    return open;
}

static void set_gate(struct gate *gate, unsigned wait_for, enum gate_state state)
{
    pthread_mutex_lock(&gate->mutex);
    while (gate->ready < wait_for) {
        pthread_cond_wait(&gate->changed, &gate->mutex);
    }
    gate->state = state;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    const struct load *load = worker->load;
    bool writes = load->kind == LOAD_PUT || load->kind == LOAD_WRITE || load->kind == LOAD_MIX;
    int opened = load->engine->session_open(load->store, writes, &worker->session);
    bool go = wait_at_gate(worker->gate);
    worker->status = -1;
    if (opened != ENGINE_OK) {
        return NULL;
    }
    worker->start_ns = clock_ns();
    worker->last_ticks = ticks_now();
    if (go) {
        worker->status = run_share(worker);
    }
    if (load->engine->session_close(worker->session) != ENGINE_OK) {
        worker->status = -1;
    }
    worker->end_ns = clock_ns();
    return NULL;
}

static int worker_init(struct worker *worker, const struct load *load, struct gate *gate,
                       unsigned index)
{
    memset(worker, 0, sizeof *worker);
    worker->load = load;
    worker->gate = gate;
    worker->first = load->first + load->ops * index / load->threads;
    worker->end = load->first + load->ops * (index + 1) / load->threads;
    size_t group = load->group;
    worker->keys = calloc(1, group * load->keyspace->key_bytes + KEYSPACE_SLACK);
    worker->values = calloc(1, group * load->keyspace->value_bytes + KEYSPACE_SLACK);
    worker->key_slices = calloc(group, sizeof *worker->key_slices);
    worker->value_slices = calloc(group, sizeof *worker->value_slices);
    worker->statuses = calloc(group, sizeof *worker->statuses);
    worker->ids = calloc(group, sizeof *worker->ids);
    if (worker->keys == NULL || worker->values == NULL || worker->key_slices == NULL ||
        worker->value_slices == NULL || worker->statuses == NULL || worker->ids == NULL) {
        return -1;
    }
    for (size_t i = 0; i < group; i++) {
        worker->key_slices[i] = (struct cask_slice){worker->keys + i * load->keyspace->key_bytes,
                                                    load->keyspace->key_bytes};
    }
    return 0;
}

static void worker_release(struct worker *worker)
{
    free(worker->keys);
    free(worker->values);
    free(worker->key_slices);
    free(worker->value_slices);
    free(worker->statuses);
    free(worker->ids);
}

/* Starts the workers, lets them go together and waits for them. */
static int run_workers(struct worker *workers, unsigned count, struct gate *gate)
{
    unsigned started = 0;
    while (started < count &&
           pthread_create(&workers[started].thread, NULL, worker_main, &workers[started]) == 0) {
        started++;
    }
    set_gate(gate, started, started == count ? GATE_OPEN : GATE_CANCELLED);
    int rc = started == count ? 0 : -1;
    for (unsigned i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        rc = workers[i].status == 0 ? rc : -1;
    }
    if (started < count) {
        fprintf(stderr, "caskade-bench: cannot start %u threads\n", count);
    }
    return rc;
}

static void collect(const struct worker *workers, unsigned count, struct load_outcome *outcome)
{
    uint64_t start_ns = UINT64_MAX;
    uint64_t end_ns = 0;
    memset(outcome, 0, sizeof *outcome);
    for (unsigned i = 0; i < count; i++) {
        start_ns = workers[i].start_ns < start_ns ? workers[i].start_ns : start_ns;
        end_ns = workers[i].end_ns > end_ns ? workers[i].end_ns : end_ns;
        outcome->ops += workers[i].end - workers[i].first;
        histogram_merge(&outcome->latencies, &workers[i].latencies);
        histogram_merge(&outcome->get_latencies, &workers[i].get_latencies);
    }
    outcome->seconds = (double)(end_ns - start_ns) / 1e9;
}

int load_run(const struct load *load, struct load_outcome *ret_outcome)
{
    struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, GATE_SHUT};
    struct worker *workers = calloc(load->threads, sizeof *workers);
    unsigned count = 0;
    int rc = workers == NULL ? -1 : 0;
    while (rc == 0 && count < load->threads) {
        rc = worker_init(&workers[count], load, &gate, count);
        count++;
    }
    if (rc != 0) {
        fprintf(stderr, "caskade-bench: out of memory for %u threads\n", load->threads);
    } else {
        rc = run_workers(workers, count, &gate);
    }
    if (rc == 0) {
        collect(workers, count, ret_outcome);
    }
    for (unsigned i = 0; i < count; i++) {
        worker_release(&workers[i]);
    }
    free(workers);
    pthread_cond_destroy(&gate.changed);
    pthread_mutex_destroy(&gate.mutex);
    return rc;
}
