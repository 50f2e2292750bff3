/* The benchmark's loads over an engine that lives in this file and can be told to go wrong: what a
 * store gets wrong must fail the load, for every kind of call, or its figures mean nothing. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "load.h"

#define NUM 1000
#define SLOTS 4096
#define KEY_BYTES 16
#define VALUE_BYTES 20

enum fault {
    FAULT_NONE,
    FAULT_WRONG_BYTE,
    FAULT_SHORT_VALUE,
    FAULT_LOSES_ONE,
    FAULT_FINDS_ALL,
    FAULT_READ_FAILS,
    FAULT_PUT_FAILS,
    FAULT_SESSION_OPEN,
    FAULT_SESSION_CLOSE
};

struct slot {
    bool used;
    uint8_t key[KEY_BYTES];
    uint8_t value[VALUE_BYTES];
};

struct engine_store {
    pthread_mutex_t mutex;
    enum fault fault;
    unsigned calls; /* the fault shows in the 500th */
    unsigned sessions;
    unsigned batches;
    struct slot slots[SLOTS];
};

struct engine_session {
    struct engine_store *store;
    uint8_t value[VALUE_BYTES];
};

static struct engine_store store;
static struct load_outcome outcome;
static uint16_t generations[NUM];

static struct slot *find_slot(const uint8_t *key)
{
    uint64_t hash = 0;
    memcpy(&hash, key, sizeof hash);
    uint64_t i = hash % SLOTS;
    while (store.slots[i].used && memcmp(store.slots[i].key, key, KEY_BYTES) != 0) {
        i = (i + 1) % SLOTS;
    }
    return &store.slots[i];
}

static int session_open(struct engine_store *of, bool writes, struct engine_session **ret_session)
{
    (void)writes;
    if (of->fault == FAULT_SESSION_OPEN) {
        return ENGINE_FAILED;
    }
    struct engine_session *session = calloc(1, sizeof *session);
    assert_non_null(session);
    session->store = of;
    pthread_mutex_lock(&of->mutex);
    of->sessions++;
    pthread_mutex_unlock(&of->mutex);
    *ret_session = session;
    return ENGINE_OK;
}

static int session_close(struct engine_session *session)
{
    int status = session->store->fault == FAULT_SESSION_CLOSE ? ENGINE_FAILED : ENGINE_OK;
    pthread_mutex_lock(&session->store->mutex);
    session->store->sessions--;
    pthread_mutex_unlock(&session->store->mutex);
    free(session);
    return status;
}

static int put(struct engine_session *session, struct cask_slice key, struct cask_slice value)
{
    (void)session;
    pthread_mutex_lock(&store.mutex);
    bool fails = ++store.calls == 500 && store.fault == FAULT_PUT_FAILS;
    if (!fails) {
        struct slot *slot = find_slot(key.data);
        slot->used = true;
        memcpy(slot->key, key.data, KEY_BYTES);
        memcpy(slot->value, value.data, VALUE_BYTES);
    }
    pthread_mutex_unlock(&store.mutex);
    return fails ? ENGINE_FAILED : ENGINE_OK;
}

static int get(struct engine_session *session, struct cask_slice key, struct cask_slice *ret_value)
{
    pthread_mutex_lock(&store.mutex);
    enum fault fault = ++store.calls == 500 ? store.fault : FAULT_NONE;
    const struct slot *slot = find_slot(key.data);
    bool used = (slot->used && fault != FAULT_LOSES_ONE) || fault == FAULT_FINDS_ALL;
    memcpy(session->value, slot->value, VALUE_BYTES);
    pthread_mutex_unlock(&store.mutex);
    session->value[VALUE_BYTES - 1] ^= fault == FAULT_WRONG_BYTE;
    *ret_value = (struct cask_slice){session->value, VALUE_BYTES - (fault == FAULT_SHORT_VALUE)};
    return fault == FAULT_READ_FAILS ? ENGINE_FAILED : used ? ENGINE_OK : ENGINE_NOTFOUND;
}

static int get_many(struct engine_session *session, size_t count, const struct cask_slice *keys,
                    struct cask_slice *ret_values, int *statuses)
{
    static _Thread_local uint8_t buffer[64 * VALUE_BYTES];
    for (size_t i = 0; i < count; i++) {
        statuses[i] = get(session, keys[i], &ret_values[i]);
        memcpy(buffer + i * VALUE_BYTES, ret_values[i].data, VALUE_BYTES);
        ret_values[i].data = buffer + i * VALUE_BYTES;
        if (statuses[i] == ENGINE_FAILED) {
            return ENGINE_FAILED;
        }
    }
    return ENGINE_OK;
}

static int write_batch(struct engine_session *session, size_t count, const struct cask_slice *keys,
                       const struct cask_slice *values)
{
    for (size_t i = 0; i < count; i++) {
        if (put(session, keys[i], values[i]) != ENGINE_OK) {
            return ENGINE_FAILED;
        }
    }
    pthread_mutex_lock(&store.mutex);
    store.batches++;
    pthread_mutex_unlock(&store.mutex);
    return ENGINE_OK;
}

static struct engine engine = {
    .name = "fake",
    .session_open = session_open,
    .session_close = session_close,
    .put = put,
    .get = get,
    .get_many = get_many,
    .write = write_batch,
};

static const struct keyspace keyspace = {7, KEY_BYTES, VALUE_BYTES};

static int run(enum load_kind kind, unsigned threads, enum fault fault)
{
    struct load load = {
        .engine = &engine,
        .store = &store,
        .keyspace = &keyspace,
        .kind = kind,
        .first_id = kind == LOAD_GET_MISSING ? NUM : 0,
        .ops = NUM,
        .generation = 3,
        .threads = threads,
        .group = kind == LOAD_GET_MANY || kind == LOAD_WRITE ? 7 : 1,
        .latency = true,
    };
    order_init(&load.order, NUM, (uint64_t)kind);
    store.fault = fault;
    store.calls = 0;
    int rc = load_run(&load, &outcome);
    assert_int_equal(store.sessions, 0);
    return rc;
}

static int fill(void **state)
{
    (void)state;
    engine.get_many = get_many;
    memset(store.slots, 0, sizeof store.slots);
    return run(LOAD_PUT, 2, FAULT_NONE);
}

static uint64_t calls_in(const struct histogram *latencies)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        total += latencies->counts[i];
    }
    return total;
}

static uint64_t calls_timed(void)
{
    return calls_in(&outcome.latencies);
}

/* A mix of that generation; the order is another for each. */
static int run_mix(uint32_t generation, unsigned threads, enum fault fault)
{
    struct load load = {
        .engine = &engine,
        .store = &store,
        .keyspace = &keyspace,
        .kind = LOAD_MIX,
        .ops = NUM,
        .generation = generation,
        .generations = generations,
        .threads = threads,
        .group = 1,
        .latency = true,
    };
    order_init(&load.order, NUM, generation);
    store.fault = fault;
    store.calls = 0;
    return load_run(&load, &outcome);
}

static int fill_generations(void **state)
{
    for (size_t i = 0; i < NUM; i++) {
        generations[i] = 3; /* as fill() puts them */
    }
    return fill(state);
}

static void test_threads_share_all_keys(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 9; threads += 4) {
        memset(store.slots, 0, sizeof store.slots);
        assert_int_equal(run(LOAD_PUT, threads, FAULT_NONE), 0);
        assert_int_equal(store.calls, NUM);
        assert_int_equal(calls_timed(), NUM);
        assert_true(outcome.seconds > 0.0);
        assert_int_equal(run(LOAD_GET, threads, FAULT_NONE), 0);
        assert_int_equal(store.calls, NUM);
        assert_int_equal(run(LOAD_GET_MISSING, threads, FAULT_NONE), 0);
        assert_int_equal(run(LOAD_GET_MANY, threads, FAULT_NONE), 0);
        assert_int_equal(store.calls, NUM);
    }
}

static void test_batches_cover_all_keys(void **state)
{
    (void)state;
    memset(store.slots, 0, sizeof store.slots);
    store.batches = 0;
    assert_int_equal(run(LOAD_WRITE, 2, FAULT_NONE), 0);
    assert_int_equal(store.calls, NUM);
    assert_int_equal(store.batches, 2 * 72); /* 500 each: 71 of seven and one of three */
    assert_int_equal(calls_timed(), 2 * 72);
    assert_int_equal(run(LOAD_GET, 1, FAULT_NONE), 0);
}

static void test_engines_without_get_many_get_one_by_one(void **state)
{
    (void)state;
    engine.get_many = NULL;
    assert_int_equal(run(LOAD_GET_MANY, 2, FAULT_NONE), 0);
    assert_int_equal(store.calls, NUM);
    assert_int_equal(run(LOAD_GET_MANY, 2, FAULT_WRONG_BYTE), -1);
}

static void test_one_wrong_read_fails_the_load(void **state)
{
    (void)state;
    static const enum fault faults[] = {FAULT_WRONG_BYTE, FAULT_SHORT_VALUE, FAULT_LOSES_ONE,
                                        FAULT_READ_FAILS};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        for (unsigned threads = 1; threads <= 2; threads++) {
            assert_int_equal(run(LOAD_GET, threads, faults[i]), -1);
            assert_int_equal(run(LOAD_GET_MANY, threads, faults[i]), -1);
        }
    }
    assert_int_equal(run(LOAD_GET_MISSING, 1, FAULT_FINDS_ALL), -1);
    assert_int_equal(run(LOAD_GET_MISSING, 1, FAULT_READ_FAILS), -1);
}

static void test_old_values_fail_the_load(void **state)
{
    (void)state;
    struct slot *slot = NULL;
    for (size_t i = 0; slot == NULL; i++) {
        slot = store.slots[i].used ? &store.slots[i] : NULL;
    }
    uint8_t key[KEY_BYTES];
    for (uint64_t id = 0; id < NUM; id++) {
        keyspace_key(&keyspace, id, key);
        if (memcmp(key, slot->key, KEY_BYTES) == 0) {
            keyspace_value(&keyspace, id, 2, slot->value);
        }
    }
    assert_int_equal(run(LOAD_GET, 1, FAULT_NONE), -1);
}

static void test_a_mix_puts_half_of_the_keys_and_gets_the_others(void **state)
{
    (void)state;
    for (uint32_t generation = 4; generation < 10; generation++) {
        assert_int_equal(run_mix(generation, generation % 3 + 1, FAULT_NONE), 0);
        assert_int_equal(store.calls, NUM);
        assert_int_equal(calls_timed(), NUM / 2);
        assert_int_equal(calls_in(&outcome.get_latencies), NUM / 2);
        unsigned put_now = 0;
        for (size_t i = 0; i < NUM; i++) {
            put_now += generations[i] == generation;
        }
        assert_int_equal(put_now, NUM / 2);
    }
}

static void test_a_wrong_read_fails_the_mix(void **state)
{
    (void)state;
    static const enum fault gets[] = {FAULT_WRONG_BYTE, FAULT_SHORT_VALUE, FAULT_LOSES_ONE,
                                      FAULT_READ_FAILS};
    uint32_t generation = 4;
    for (size_t i = 0; i < sizeof gets / sizeof gets[0]; i++) {
        assert_int_equal(run_mix(generation++, 1, gets[i]), -1); /* the 500th call is a get */
    }
    struct order order;
    order_init(&order, NUM, generation);
    generations[order_at(&order, 1)]++; /* which is got next, and is not what the store holds */
    assert_int_equal(run_mix(generation, 1, FAULT_NONE), -1);
}

static void test_failing_calls_fail_the_load(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads++) {
        assert_int_equal(run(LOAD_PUT, threads, FAULT_PUT_FAILS), -1);
        assert_int_equal(run(LOAD_WRITE, threads, FAULT_PUT_FAILS), -1);
        assert_int_equal(run(LOAD_PUT, threads, FAULT_SESSION_OPEN), -1);
        assert_int_equal(run(LOAD_PUT, threads, FAULT_SESSION_CLOSE), -1);
    }
}

int main(void)
{
    pthread_mutex_init(&store.mutex, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_threads_share_all_keys, fill),
        cmocka_unit_test_setup(test_batches_cover_all_keys, fill),
        cmocka_unit_test_setup(test_engines_without_get_many_get_one_by_one, fill),
        cmocka_unit_test_setup(test_one_wrong_read_fails_the_load, fill),
        cmocka_unit_test_setup(test_old_values_fail_the_load, fill),
        cmocka_unit_test_setup(test_failing_calls_fail_the_load, fill),
        cmocka_unit_test_setup(test_a_mix_puts_half_of_the_keys_and_gets_the_others,
                               fill_generations),
        cmocka_unit_test_setup(test_a_wrong_read_fails_the_mix, fill_generations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
