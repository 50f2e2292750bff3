/* Two stores are fed the same operations: one keeps its index in memory, the other one moves it to
 * disk every few operations, now as the worker would, now all of it by cask_flush_index(), now
 * because there is no memory left. Every answer of the two must be the same: statuses, values,
 * what iterations find, and after cask_flush_index() the counts of live keys and bytes.
 *
 *   CASKADE_TWINS_SEEDS=n   how many seeds
 *   CASKADE_TWINS_SEED=n    this seed alone
 */
#include "unit.h"

#include "log/record.h"
#include "support_spill.h"

#define SEEDS 100u
#define OPERATIONS 120u
#define KEYS 48u
#define KEY_BYTES 24u
#define VALUE_MAX 600u
#define MANY 20u
#define PAST_MS 1000u
#define FAR_MS 4000000000000u

enum twin { PLAIN, SPILLED, TWINS };

struct twins {
    struct cask_db *db[TWINS];
    char *path[TWINS];
    struct cask_options options[TWINS];
    struct log_lines log[TWINS];
    struct rng rng;
    bool expires;  /* some keys do */
    bool squeezed; /* memory is short as well */
    uint32_t version;
    uint64_t flushes; /* of the spilled one, up to the last close */
    uint64_t run_merges;
    uint64_t most_runs;
};

static struct cask_stats stats_of(const struct twins *twins, enum twin twin)
{
    struct cask_stats stats = {.size = sizeof stats};

    CHECK_OK(cask_stats(twins->db[twin], &stats));
    return stats;
}

/* Keys of several lengths; one is looked for that is never written. */
static struct cask_slice key_of(uint32_t key, char text[KEY_BYTES])
{
    (void)snprintf(text, KEY_BYTES, "%u%s", (unsigned)key, key % 3 == 0 ? "-a-longer-key" : "");
    return slice_bytes(text, strlen(text));
}

static uint32_t pick_key(struct twins *twins)
{
    return (uint32_t)rng_below(&twins->rng, rng_percent(&twins->rng, 40) ? 10 : KEYS);
}

static struct cask_slice new_value(struct twins *twins, uint8_t bytes[VALUE_MAX])
{
    uint64_t most = rng_percent(&twins->rng, 10) ? VALUE_MAX : 40;
    size_t size = rng_below(&twins->rng, most);
    uint64_t word = mix64(++twins->version);

    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(word >> (8 * (i % 8)));
    return slice_bytes(bytes, size);
}

static uint64_t pick_expiry(struct twins *twins)
{
    if (!twins->expires || !rng_percent(&twins->rng, 20))
        return 0;
    return rng_percent(&twins->rng, 50) ? PAST_MS : FAR_MS;
}

static void check_same(const char *call, int plain, int spilled)
{
    CHECK(plain == spilled, "%s: %s with the index in memory, %s with it on disk", call,
          cask_strerror(plain), cask_strerror(spilled));
}

/* ---- single operations ----------------------------------------------------------------------- */

static void do_put(struct twins *twins)
{
    char text[KEY_BYTES];
    uint8_t bytes[VALUE_MAX];
    struct cask_slice key = key_of(pick_key(twins), text);
    struct cask_slice value = new_value(twins, bytes);
    uint64_t expires_at_ms = pick_expiry(twins);

    for (unsigned i = 0; i < TWINS; i++)
        CHECK_OK(expires_at_ms ? cask_put_expiring(twins->db[i], key, value, expires_at_ms)
                               : cask_put(twins->db[i], key, value));
}

/* Each of the two numbers its records itself; conditions are of the same kind in both. */
static void do_put_if(struct twins *twins)
{
    char text[KEY_BYTES];
    uint8_t bytes[VALUE_MAX];
    struct cask_slice key = key_of(pick_key(twins), text);
    struct cask_slice value = new_value(twins, bytes);
    uint64_t kind = rng_below(&twins->rng, 4);
    int statuses[TWINS];

    for (unsigned i = 0; i < TWINS; i++) {
        struct cask_view view = {.sequence = 0};
        uint64_t current;
        int status = cask_view(twins->db[i], key, &view);

        CHECK(status == CASK_OK || status == CASK_NOTFOUND, "%s", cask_strerror(status));
        current = view.sequence;
        cask_view_release(&view);
        statuses[i] = cask_put_if(twins->db[i], key, value, kind == 0 ? 0 : current + (kind == 1),
                                  NULL);
        CHECK(statuses[i] == (kind == 1              ? (current ? CASK_EEXIST : CASK_NOTFOUND)
                              : kind == 0 && current ? CASK_EEXIST
                                                     : CASK_OK),
              "a conditional put: %s", cask_strerror(statuses[i]));
    }
    check_same("cask_put_if", statuses[PLAIN], statuses[SPILLED]);
}

static void do_delete(struct twins *twins)
{
    char text[KEY_BYTES];
    struct cask_slice key = key_of(pick_key(twins), text);
    int statuses[TWINS];

    for (unsigned i = 0; i < TWINS; i++)
        statuses[i] = cask_delete(twins->db[i], key);
    check_same("cask_delete", statuses[PLAIN], statuses[SPILLED]);
    CHECK(statuses[PLAIN] == CASK_OK || statuses[PLAIN] == CASK_NOTFOUND, "%s",
          cask_strerror(statuses[PLAIN]));
}

static void check_key(struct twins *twins, uint32_t key)
{
    char text[KEY_BYTES];
    struct cask_slice slice = key_of(key, text);
    uint8_t values[TWINS][VALUE_MAX];
    size_t sizes[TWINS] = {0};
    int statuses[TWINS];
    int exists[TWINS];

    for (unsigned i = 0; i < TWINS; i++) {
        statuses[i] = cask_get(twins->db[i], slice, values[i], VALUE_MAX, &sizes[i]);
        exists[i] = cask_exists(twins->db[i], slice);
    }
    check_same("cask_get", statuses[PLAIN], statuses[SPILLED]);
    check_same("cask_exists", exists[PLAIN], exists[SPILLED]);
    check_same("cask_get and cask_exists", statuses[PLAIN], exists[PLAIN]);
    if (statuses[PLAIN] == CASK_OK)
        CHECK(sizes[PLAIN] == sizes[SPILLED] &&
                  memcmp(values[PLAIN], values[SPILLED], sizes[PLAIN]) == 0,
              "key %s has two values", text);
}

static void do_get(struct twins *twins)
{
    check_key(twins, pick_key(twins));
    check_key(twins, KEYS); /* never written */
}

static void do_get_many(struct twins *twins)
{
    static uint8_t buffers[TWINS][MANY * VALUE_MAX];
    char text[MANY][KEY_BYTES];
    struct cask_slice keys[MANY];
    struct cask_slice values[TWINS][MANY];
    int statuses[TWINS][MANY];
    int status[TWINS];

    for (unsigned i = 0; i < MANY; i++)
        keys[i] = key_of(pick_key(twins), text[i]);
    for (unsigned i = 0; i < TWINS; i++)
        status[i] = cask_get_many(twins->db[i], MANY, keys, buffers[i], sizeof buffers[i],
                                  values[i], statuses[i]);
    check_same("cask_get_many", status[PLAIN], status[SPILLED]);
    for (unsigned i = 0; i < MANY; i++) {
        check_same("cask_get_many, one of them", statuses[PLAIN][i], statuses[SPILLED][i]);
        CHECK(statuses[PLAIN][i] != CASK_OK ||
                  (values[PLAIN][i].size == values[SPILLED][i].size &&
                   memcmp(values[PLAIN][i].data, values[SPILLED][i].data, values[PLAIN][i].size) ==
                       0),
              "key %s has two values", text[i]);
    }
}

struct operation {
    uint32_t key;
    bool deletes;
    uint64_t expires_at_ms;
    struct cask_slice value;
    uint8_t bytes[VALUE_MAX];
};

static void add_to_batch(struct cask_batch *batch, const struct operation *operation)
{
    char text[KEY_BYTES];
    struct cask_slice key = key_of(operation->key, text);

    if (operation->deletes)
        CHECK_OK(cask_batch_delete(batch, key));
    else if (operation->expires_at_ms)
        CHECK_OK(cask_batch_put_expiring(batch, key, operation->value, operation->expires_at_ms));
    else
        CHECK_OK(cask_batch_put(batch, key, operation->value));
}

static void do_batch(struct twins *twins)
{
    static struct operation operations[12];
    size_t count = 1 + rng_below(&twins->rng, COUNT_OF(operations));

    for (size_t i = 0; i < count; i++) {
        operations[i].key = pick_key(twins);
        operations[i].deletes = rng_percent(&twins->rng, 30);
        operations[i].expires_at_ms = pick_expiry(twins);
        operations[i].value = new_value(twins, operations[i].bytes);
    }
    for (unsigned twin = 0; twin < TWINS; twin++) {
        struct cask_batch *batch;

        CHECK_OK(cask_batch_create(twins->db[twin], &batch));
        for (size_t i = 0; i < count; i++)
            add_to_batch(batch, &operations[i]);
        CHECK_OK(cask_write(twins->db[twin], batch));
        cask_batch_destroy(batch);
    }
}

/* ---- all there is ---------------------------------------------------------------------------- */

struct content {
    bool there;
    size_t key_size;
    size_t size;
    uint64_t expires_at_ms;
    uint8_t bytes[VALUE_MAX];
};

static void collect(struct cask_db *db, struct content contents[KEYS])
{
    struct cask_iter *iter;
    struct cask_entry entry;
    int status;

    memset(contents, 0, KEYS * sizeof *contents);
    CHECK_OK(cask_iter_create(db, &iter));
    while ((status = cask_iter_next(iter, &entry)) == CASK_OK) {
        char text[KEY_BYTES] = "";
        char expected[KEY_BYTES];
        unsigned long key;

        CHECK(entry.key.size < KEY_BYTES, "a key that was never written");
        memcpy(text, entry.key.data, entry.key.size);
        key = strtoul(text, NULL, 10);
        CHECK(key < KEYS, "key %s was never written", text);
        (void)key_of((uint32_t)key, expected);
        CHECK(strcmp(text, expected) == 0, "key %s was never written", text);
        CHECK(!contents[key].there, "key %s comes twice", text);
        contents[key].there = true;
        contents[key].key_size = entry.key.size;
        contents[key].size = entry.value.size;
        contents[key].expires_at_ms = entry.expires_at_ms;
        CHECK(entry.value.size <= VALUE_MAX, "key %s is too long", text);
        memcpy(contents[key].bytes, entry.value.data, entry.value.size);
    }
    CHECK_STATUS(status, CASK_NOTFOUND);
    cask_iter_destroy(iter);
}

static void do_iterate(struct twins *twins)
{
    static struct content contents[TWINS][KEYS];

    for (unsigned i = 0; i < TWINS; i++)
        collect(twins->db[i], contents[i]);
    for (unsigned key = 0; key < KEYS; key++) {
        const struct content *plain = &contents[PLAIN][key];
        const struct content *spilled = &contents[SPILLED][key];

        CHECK(plain->there == spilled->there, "key %u is there in one of the two", key);
        CHECK(plain->size == spilled->size && plain->expires_at_ms == spilled->expires_at_ms &&
                  memcmp(plain->bytes, spilled->bytes, plain->size) == 0,
              "key %u has two values", key);
    }
}

static void check_all(struct twins *twins)
{
    for (uint32_t key = 0; key < KEYS; key++)
        check_key(twins, key);
    do_iterate(twins);
}

/* ---- moving, merging, reopening -------------------------------------------------------------- */

/* Bytes of the records that iterations find. */
static uint64_t bytes_found(struct cask_db *db)
{
    static struct content contents[KEYS];
    uint64_t sum = 0;

    collect(db, contents);
    for (unsigned key = 0; key < KEYS; key++)
        if (contents[key].there)
            sum += record_stored_size(contents[key].key_size, contents[key].size,
                                      contents[key].expires_at_ms != 0);
    return sum;
}

/* With the index on disk a count is exact once it is flushed, unless a merge in the background puts
 * what it has moved into the keydir right then; and merges may have taken what has expired from one
 * of the two only. */
static void check_counts(const struct twins *twins)
{
    struct cask_stats plain = stats_of(twins, PLAIN);
    struct cask_stats spilled = stats_of(twins, SPILLED);
    uint64_t found;

    if (twins->options[PLAIN].merge == CASK_SWITCH_ON)
        return;
    CHECK(spilled.index_ram_keys == 0, "%llu keys stay in memory",
          (unsigned long long)spilled.index_ram_keys);
    if (twins->expires)
        return;
    CHECK(plain.live_keys == spilled.live_keys, "%llu live keys with the index in memory, %llu",
          (unsigned long long)plain.live_keys, (unsigned long long)spilled.live_keys);
    found = bytes_found(twins->db[PLAIN]);
    CHECK(plain.live_bytes == found, "%llu live bytes, %llu with the index in memory",
          (unsigned long long)found, (unsigned long long)plain.live_bytes);
    CHECK(spilled.live_bytes == found, "%llu live bytes, %llu with the index on disk",
          (unsigned long long)found, (unsigned long long)spilled.live_bytes);
}

static void do_flush_all(struct twins *twins)
{
    CHECK_OK(cask_flush_index(twins->db[SPILLED]));
    check_counts(twins);
}

static void do_flush_some(struct twins *twins)
{
    struct cask_db *db = twins->db[SPILLED];
    uint64_t runs;

    CHECK_OK(
        spill_shard(db, (uint32_t)rng_below(&twins->rng, twins->options[SPILLED].shard_count)));
    runs = stats_of(twins, SPILLED).index_runs;
    twins->most_runs = runs > twins->most_runs ? runs : twins->most_runs;
}

static void do_merge(struct twins *twins)
{
    for (unsigned i = 0; i < TWINS; i++)
        CHECK_OK(cask_merge(twins->db[i], NULL, NULL));
    if (rng_percent(&twins->rng, 50))
        check_all(twins);
}

/* As in the background: what is in memory of the index stays there. */
static void do_merge_some(struct twins *twins)
{
    uint64_t shard = rng_below(&twins->rng, twins->options[SPILLED].shard_count);
    uint64_t picks = rng_next(&twins->rng);

    for (unsigned i = 0; i < TWINS; i++)
        CHECK_OK(spill_merge_segments(twins->db[i], (uint32_t)shard, picks));
}

static void open_twins(struct twins *twins)
{
    for (unsigned i = 0; i < TWINS; i++)
        CHECK_OK(cask_open(twins->path[i], &twins->options[i], &twins->db[i]));
    if (twins->squeezed)
        spill_squeeze(twins->db[SPILLED]);
}

static void add_up(struct twins *twins)
{
    struct cask_stats plain = stats_of(twins, PLAIN);
    struct cask_stats spilled = stats_of(twins, SPILLED);

    CHECK(plain.index_runs == 0 && plain.index_flushes == 0, "the plain store has spilled");
    CHECK(spilled.index_failures == 0, "%llu flushes failed",
          (unsigned long long)spilled.index_failures);
    twins->flushes += spilled.index_flushes;
    twins->run_merges += spilled.index_run_merges;
}

static void close_twins(struct twins *twins)
{
    add_up(twins);
    for (unsigned i = 0; i < TWINS; i++) {
        CHECK_OK(cask_close(twins->db[i]));
        CHECK(log_lines_count(&twins->log[i], CASK_LOG_ERROR) == 0, "%s", twins->log[i].text);
        CHECK(log_lines_count(&twins->log[i], CASK_LOG_WARNING) == 0, "%s", twins->log[i].text);
    }
}

static void do_reopen(struct twins *twins)
{
    close_twins(twins);
    open_twins(twins);
    check_all(twins);
}

/* What a kill would leave is opened in the place of what there is. */
static void do_kill(struct twins *twins)
{
    add_up(twins);
    for (unsigned i = 0; i < TWINS; i++) {
        char *image = scratch_make(SCRATCH_MEMORY);

        tree_copy_still(twins->path[i], image);
        CHECK_OK(cask_close(twins->db[i]));
        scratch_remove(twins->path[i]);
        twins->path[i] = image;
    }
    open_twins(twins);
    check_all(twins);
}

static void do_verify(struct twins *twins)
{
    CHECK_OK(cask_verify(twins->db[SPILLED], NULL, NULL));
}

/* ---- runs ------------------------------------------------------------------------------------ */

static const struct {
    void (*act)(struct twins *twins);
    unsigned weight;
} actions[] = {
    {do_put, 250},       {do_delete, 150},     {do_batch, 70}, {do_get, 120},
    {do_get_many, 40},   {do_iterate, 30},     {do_merge, 25}, {do_reopen, 12},
    {do_flush_all, 30},  {do_flush_some, 180}, {do_verify, 8}, {do_put_if, 120},
    {do_merge_some, 40}, {do_kill, 12},
};

static void operate(struct twins *twins)
{
    uint64_t total = 0;
    uint64_t pick;
    size_t i = 0;

    for (size_t j = 0; j < COUNT_OF(actions); j++)
        total += actions[j].weight;
    for (pick = rng_below(&twins->rng, total); pick >= actions[i].weight; i++)
        pick -= actions[i].weight;
    actions[i].act(twins);
}

/* The seed's low bits pick the modes, so that a few seeds in a row have them all. */
static void begin(struct twins *twins, uint64_t seed)
{
    static const uint64_t sizes[] = {400, 700, 1500, 4096, 65536};

    memset(twins, 0, sizeof *twins);
    twins->rng.state = mix64(seed);
    twins->expires = seed / 4 % 2;
    twins->squeezed = seed / 8 % 2;
    for (unsigned i = 0; i < TWINS; i++) {
        twins->path[i] = scratch_make(SCRATCH_MEMORY);
        log_lines_init(&twins->log[i]);
        twins->options[i] = options_with_log(&twins->log[i]);
        twins->options[i].write_mode = seed & 1 ? CASK_WRITE_SYSCALL : CASK_WRITE_MAPPED;
        twins->options[i].read_mode = seed & 2 ? CASK_READ_PREAD : CASK_READ_MAPPED;
        twins->options[i].shard_count = 1u << seed / 3 % 3;
        twins->options[i].segment_bytes = sizes[seed % COUNT_OF(sizes)];
        twins->options[i].merge = seed % 3 == 0 ? CASK_SWITCH_ON : CASK_SWITCH_OFF;
    }
    twins->options[PLAIN].index_memory = (uint64_t)64 << 20;
    twins->options[SPILLED].index_memory = twins->squeezed ? SPILL_SQUEEZABLE : (uint64_t)1 << 20;
    open_twins(twins);
}

static void run_seed(uint64_t seed, struct twins *ret_sum)
{
    struct twins twins;

    begin(&twins, seed);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        check_context("CASKADE_TWINS_SEED=%llu (operation %u)", (unsigned long long)seed, i);
        operate(&twins);
    }
    do_merge(&twins);
    check_all(&twins);
    do_flush_all(&twins);
    do_verify(&twins);
    do_reopen(&twins);
    do_flush_all(&twins);
    close_twins(&twins);
    CHECK(twins.flushes > OPERATIONS / 40, "only %llu flushes", (unsigned long long)twins.flushes);
    ret_sum->flushes += twins.flushes;
    ret_sum->run_merges += twins.run_merges;
    if (twins.most_runs > ret_sum->most_runs)
        ret_sum->most_runs = twins.most_runs;
    for (unsigned i = 0; i < TWINS; i++)
        scratch_remove(twins.path[i]);
    check_context("%s", "");
}

static void test_a_spilled_store_answers_as_one_in_memory(void **state)
{
    uint64_t seeds = environment_number("CASKADE_TWINS_SEEDS", SEEDS);
    uint64_t only = environment_number("CASKADE_TWINS_SEED", 0);
    uint64_t started = clock_ns();
    struct twins sum = {0};

    (void)state;
    for (uint64_t seed = only ? only : 1; seed <= (only ? only : seeds); seed++)
        run_seed(seed, &sum);
    print_message("%llu flushes, %llu merges of runs, up to %llu runs, %.1f s\n",
                  (unsigned long long)sum.flushes, (unsigned long long)sum.run_merges,
                  (unsigned long long)sum.most_runs, (double)(clock_ns() - started) / 1e9);
    CHECK(only || sum.run_merges > seeds, "runs were hardly merged");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_spilled_store_answers_as_one_in_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
