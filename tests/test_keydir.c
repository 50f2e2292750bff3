/* index/keydir against a plain array: millions of random changes through many growths, tags that
 * are equal, budgets that run out, and walks at every state of a growth. Readers beside a writer:
 * test_concurrency_keydir.c. */
#include "unit.h"

#include "index/keydir.h"

#define PLENTY ((uint64_t)1 << 30)

/* The model: entry i is there or not, and has a version that replacing changes. Entries i with the
 * same i / group have the same tag. */
struct model {
    struct keydir *keydir;
    struct budget budget;
    struct rng rng;
    unsigned group;
    uint64_t room;
    uint64_t count;
    uint8_t *version; /* 0: not there */
};

static struct model model_start(uint64_t room, unsigned group, uint64_t seed, uint64_t limit_bytes)
{
    struct model model = {.budget = {.limit_bytes = limit_bytes},
                          .rng = {seed},
                          .group = group,
                          .room = room,
                          .version = calloc(1, (size_t)room)};

    check_context("seed %llu, group %u", (unsigned long long)seed, group);
    model.keydir = aligned_alloc(64, align_up(sizeof *model.keydir, 64));
    assert_non_null(model.keydir);
    return model;
}

/* The budget stays where it is, so the model must not move after this. */
static void model_open(struct model *model, size_t reserve_bytes)
{
    assert_ok(keydir_init(model->keydir, reserve_bytes, &model->budget));
}

static void model_stop(struct model *model)
{
    keydir_release(model->keydir);
    assert_int_equal(budget_used(&model->budget), 0);
    free(model->keydir);
    free(model->version);
}

/* Scrambled, but never the same for two groups. */
static uint32_t tag_of(const struct model *model, uint64_t i)
{
    uint32_t x = (uint32_t)(i / model->group + 1) * 0x9e3779b1u;

    x ^= x >> 15;
    x *= 0x85ebca6bu;
    return x ^ x >> 13;
}

static uint64_t location_of(uint64_t i, unsigned version)
{
    return i << 8 | version;
}

static int try_insert(struct model *model, uint64_t i)
{
    int status = keydir_reserve(model->keydir, 1);

    if (status != CASK_OK)
        return status;
    status = keydir_insert(model->keydir, tag_of(model, i), location_of(i, 1));
    if (status == CASK_OK) {
        model->version[i] = 1;
        model->count++;
    }
    return status;
}

static void insert(struct model *model, uint64_t i)
{
    assert_ok(try_insert(model, i));
}

static void remove_one(struct model *model, uint64_t i)
{
    assert_true(keydir_remove(model->keydir, tag_of(model, i), location_of(i, model->version[i])));
    model->version[i] = 0;
    model->count--;
}

static void replace(struct model *model, uint64_t i)
{
    uint8_t next = (uint8_t)(model->version[i] % 200 + 1);

    assert_true(keydir_replace(model->keydir, tag_of(model, i), location_of(i, model->version[i]),
                               location_of(i, next)));
    model->version[i] = next;
}

/* All entries that share the tag of i, and no others, are found. */
static void check_find(const struct model *model, uint64_t i)
{
    uint64_t locations[512];
    uint64_t first = i / model->group * model->group;
    unsigned expected = 0;
    unsigned found = keydir_find(model->keydir, tag_of(model, i), locations, 512);

    for (uint64_t j = first; j < first + model->group && j < model->room; j++) {
        unsigned times = 0;

        for (unsigned n = 0; n < found; n++)
            times += locations[n] == location_of(j, model->version[j]);
        if (times != (model->version[j] != 0))
            fail_msg("entry %llu is found %u times", (unsigned long long)j, times);
        expected += model->version[j] != 0;
    }
    assert_int_equal(found, expected);
}

/* Every entry once, in ranges of tags that follow each other. */
static void check_collect(const struct model *model, size_t room)
{
    struct keydir_entry *entries = malloc((room + 1) * sizeof *entries);
    uint8_t *seen = calloc(1, (size_t)model->room);
    uint64_t from = 0;
    uint64_t sum = 0;

    while (from <= UINT32_MAX) {
        uint64_t next;
        size_t count = keydir_collect(model->keydir, from, entries, room, &next);

        if (next == from) {
            assert_int_equal(count, 0);
            room *= 2;
            entries = realloc(entries, (room + 1) * sizeof *entries);
            continue;
        }
        assert_true(next > from && next <= (uint64_t)1 << 32 && count <= room);
        for (size_t n = 0; n < count; n++) {
            uint64_t i = entries[n].location >> 8;

            assert_true(i < model->room && entries[n].tag == tag_of(model, i));
            assert_true(entries[n].tag >= from && entries[n].tag < next);
            assert_int_equal(entries[n].location & 0xff, model->version[i]);
            assert_int_equal(seen[i]++, 0);
        }
        sum += count;
        from = next;
    }
    assert_int_equal(sum, model->count);
    free(seen);
    free(entries);
}

static void check_all(const struct model *model)
{
    assert_int_equal(keydir_count(model->keydir), model->count);
    for (uint64_t i = 0; i < model->room; i += model->group)
        check_find(model, i);
    check_collect(model, 500);
}

/* One random step; inserts of each hundred. */
static void step(struct model *model, unsigned inserts)
{
    uint64_t i = rng_below(&model->rng, model->room);

    if (model->version[i] == 0 && rng_percent(&model->rng, inserts))
        insert(model, i);
    else if (model->version[i] != 0 && rng_percent(&model->rng, 100 - inserts))
        remove_one(model, i);
    else if (model->version[i] != 0)
        replace(model, i);
    if (rng_percent(&model->rng, 20))
        check_find(model, rng_below(&model->rng, model->room));
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_an_empty_table_finds_nothing(void **state)
{
    struct model model = model_start(1, 1, 1, PLENTY);
    struct keydir_entry entry;
    uint64_t location;
    uint64_t next;

    (void)state;
    model_open(&model, 1 << 20);
    assert_int_equal(keydir_find(model.keydir, 5, &location, 1), 0);
    assert_false(keydir_remove(model.keydir, 5, 1));
    assert_false(keydir_replace(model.keydir, 5, 1, 2));
    keydir_prefetch(model.keydir, 5);
    assert_int_equal(keydir_collect(model.keydir, 0, &entry, 1, &next), 0);
    assert_true(next == (uint64_t)1 << 32);
    assert_int_equal(budget_used(&model.budget), 0);
    model_stop(&model);
}

static void test_only_the_very_entry_is_removed_or_replaced(void **state)
{
    struct model model = model_start(10, 5, 1, PLENTY);

    (void)state;
    model_open(&model, 1 << 20);
    for (uint64_t i = 0; i < 4; i++)
        insert(&model, i);
    assert_false(keydir_remove(model.keydir, tag_of(&model, 0), location_of(4, 1)));
    assert_false(keydir_remove(model.keydir, tag_of(&model, 0), location_of(0, 2)));
    assert_false(keydir_remove(model.keydir, tag_of(&model, 0) + 1, location_of(0, 1)));
    assert_false(
        keydir_replace(model.keydir, tag_of(&model, 0), location_of(0, 2), location_of(0, 3)));
    check_all(&model);
    remove_one(&model, 2);
    replace(&model, 3);
    check_all(&model);
    model_stop(&model);
}

static void test_locations_and_tags_keep_all_their_bits(void **state)
{
    static const uint32_t tags[] = {0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    struct model model = model_start(1, 1, 1, PLENTY);

    (void)state;
    model_open(&model, 1 << 20);
    for (unsigned round = 0; round < 48; round++)
        for (size_t t = 0; t < COUNT_OF(tags); t++) {
            uint64_t location = (((uint64_t)1 << round) | 1) ^ (t % 2 ? 0xfffffffffffe : 0);
            uint64_t back = 0;

            assert_ok(keydir_reserve(model.keydir, 1));
            assert_ok(keydir_insert(model.keydir, tags[t], location));
            assert_int_equal(keydir_find(model.keydir, tags[t], &back, 1), 1);
            assert_true(back == location);
            assert_true(keydir_remove(model.keydir, tags[t], location));
            assert_int_equal(keydir_find(model.keydir, tags[t], &back, 1), 0);
        }
    model_stop(&model);
}

static void test_find_tells_how_many_there_are_beyond_the_room(void **state)
{
    struct model model = model_start(30, 30, 1, PLENTY);
    uint64_t locations[4] = {0, 0, 0, 99};

    (void)state;
    model_open(&model, 1 << 20);
    for (uint64_t i = 0; i < 30; i++)
        insert(&model, i);
    assert_int_equal(keydir_find(model.keydir, tag_of(&model, 0), locations, 3), 30);
    assert_int_equal(locations[3], 99);
    assert_true(locations[0] != locations[1] && locations[1] != locations[2]);
    assert_int_equal(keydir_find(model.keydir, tag_of(&model, 0), NULL, 0), 30);
    model_stop(&model);
}

/* Small, so that every state of every growth is met and looked at from all sides. */
static void test_it_behaves_like_an_array_at_every_state_of_growing(void **state)
{
    static const unsigned groups[] = {1, 3, 20};

    (void)state;
    for (size_t g = 0; g < COUNT_OF(groups); g++) {
        struct model model = model_start(3000, groups[g], g + 1, PLENTY);

        model_open(&model, 1 << 20);
        for (uint64_t i = 0; i < 3000; i++) {
            insert(&model, i);
            check_find(&model, i);
            if (i % 7 == 0)
                check_collect(&model, 1 + rng_below(&model.rng, 200));
            if (i % 100 == 0)
                check_all(&model);
        }
        check_all(&model);
        for (uint64_t i = 0; i < 3000; i++)
            remove_one(&model, i);
        check_all(&model);
        model_stop(&model);
    }
}

static void test_it_behaves_like_an_array_over_millions_of_changes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        unsigned group = seed == 3 ? 7 : 1;
        struct model model = model_start(200000, group, seed, PLENTY);

        model_open(&model, 64 << 20);
        for (unsigned phase = 0; phase < 5; phase++) {
            for (int i = 0; i < 120000; i++)
                step(&model, phase % 2 == 0 ? 95 : 30);
            check_all(&model);
        }
        assert_int_equal(budget_used(&model.budget), model.keydir->committed_bytes);
        model_stop(&model);
    }
}

/* As puts do it: room for several, then all of them. */
static void test_what_was_reserved_can_be_inserted(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct model model = model_start(20000, 1, seed, PLENTY);
        uint64_t i = 0;

        model_open(&model, 8 << 20);
        while (i < 20000) {
            uint64_t many = 1 + rng_below(&model.rng, rng_percent(&model.rng, 5) ? 3000 : 32);

            assert_ok(keydir_reserve(model.keydir, many));
            for (; many > 0 && i < 20000; many--, i++) {
                assert_ok(keydir_insert(model.keydir, tag_of(&model, i), location_of(i, 1)));
                model.version[i] = 1;
                model.count++;
            }
        }
        check_all(&model);
        model_stop(&model);
    }
}

/* Regression: runs of full buckets behind the homes on their way stopped a growth for good, and the
 * table then refused entries with the budget hardly used. Larger steps fill it further
 * meanwhile. */
static void test_batches_of_any_size_can_be_reserved(void **state)
{
    static const uint64_t steps[] = {33, 3000, 700, 3000, 100, 3000};

    (void)state;
    for (uint64_t seed = 1; seed <= 120; seed++) {
        uint64_t many = steps[seed % COUNT_OF(steps)];
        struct model model = model_start(1, 1, seed, PLENTY);
        uint64_t inserted = 0;

        model_open(&model, 64 << 20);
        while (inserted < 10000) {
            assert_ok(keydir_reserve(model.keydir, many));
            for (uint64_t i = 0; i < many; i++)
                assert_ok(keydir_insert(model.keydir, (uint32_t)rng_next(&model.rng), ++inserted));
        }
        model_stop(&model);
    }
}

static void test_a_table_is_sized_for_what_is_coming(void **state)
{
    struct model model = model_start(50000, 1, 1, PLENTY);
    uint64_t bytes;

    (void)state;
    model_open(&model, 64 << 20);
    assert_ok(keydir_presize(model.keydir, 30000));
    bytes = model.keydir->committed_bytes;
    assert_in_range(bytes, 30000 * 10, 30000 * 16);
    for (uint64_t i = 0; i < 30000; i++)
        insert(&model, i);
    assert_int_equal(model.keydir->committed_bytes, bytes);
    check_all(&model);
    assert_ok(keydir_presize(model.keydir, 20000)); /* on top of what is there */
    check_all(&model);
    bytes = model.keydir->committed_bytes;
    for (uint64_t i = 30000; i < 50000; i++)
        insert(&model, i);
    assert_int_equal(model.keydir->committed_bytes, bytes);
    check_all(&model);
    model_stop(&model);
}

static void test_it_takes_few_bytes_per_entry(void **state)
{
    struct model model = model_start(300000, 1, 1, PLENTY);

    (void)state;
    model_open(&model, 64 << 20);
    for (uint64_t i = 0; i < 300000; i++) {
        insert(&model, i);
        if (i > 20000 && i % 1000 == 0)
            assert_true(budget_used(&model.budget) <= keydir_count(model.keydir) * 16);
    }
    model_stop(&model);
}

/* Tables that grow in turn take few bytes together at any time, though each grows by more. */
static void test_tables_in_all_phases_take_few_bytes_together(void **state)
{
    struct budget budget = {.limit_bytes = 64 << 20};
    struct keydir *keydirs[16];
    uint64_t total = 0;

    (void)state;
    for (uint32_t k = 0; k < COUNT_OF(keydirs); k++) {
        keydirs[k] = aligned_alloc(64, align_up(sizeof *keydirs[k], 64));
        assert_ok(keydir_init(keydirs[k], 4 << 20, &budget));
        keydir_set_phase(keydirs[k], k, COUNT_OF(keydirs));
    }
    for (uint64_t i = 0; i < 1500000; i++) {
        uint64_t hash = mix64(i);

        assert_ok(keydir_reserve(keydirs[hash >> 60], 1));
        assert_ok(keydir_insert(keydirs[hash >> 60], (uint32_t)hash, i + 1));
        total++;
        if (i > 200000 && i % 1000 == 0)
            assert_true(budget_used(&budget) <= total * 16);
    }
    for (uint32_t k = 0; k < COUNT_OF(keydirs); k++) {
        keydir_release(keydirs[k]);
        free(keydirs[k]);
    }
    assert_int_equal(budget_used(&budget), 0);
}

/* Many inserts in the order of their tags crowd one end of a table that was not sized for them:
 * that may fail, but only by saying so. */
static void test_inserts_in_order_of_tags_work_or_are_refused(void **state)
{
    uint64_t locations[8];

    (void)state;
    for (uint64_t seed = 0; seed < 2; seed++) {
        struct model model = model_start(1, 1, seed, PLENTY);
        uint64_t inserted = 0;

        model_open(&model, 64 << 20);
        if (seed == 0)
            assert_ok(keydir_presize(model.keydir, 12000));
        while (inserted < 12000 && keydir_reserve(model.keydir, 1) == CASK_OK &&
               keydir_insert(model.keydir, (uint32_t)(inserted * 350000), inserted + 1) == CASK_OK)
            inserted++;
        if (seed == 0)
            assert_int_equal(inserted, 12000);
        assert_int_equal(keydir_count(model.keydir), inserted);
        for (uint64_t i = 0; i < inserted; i++) {
            assert_int_equal(keydir_find(model.keydir, (uint32_t)(i * 350000), locations, 8), 1);
            assert_int_equal(locations[0], i + 1);
        }
        model_stop(&model);
    }
}

/* More entries of one tag than there ever are: found and removed as any, or refused. */
static void test_hundreds_of_equal_tags_work_or_are_refused(void **state)
{
    static const unsigned groups[] = {100, 250, 257, 400};

    (void)state;
    for (size_t g = 0; g < COUNT_OF(groups); g++) {
        struct model model = model_start(8000, groups[g], 9, PLENTY);
        uint64_t i = 0;

        model_open(&model, 64 << 20);
        while (i < 8000 && try_insert(&model, i) == CASK_OK)
            i++;
        if (groups[g] <= 100)
            assert_int_equal(i, 8000);
        check_all(&model);
        while (i-- > 0)
            remove_one(&model, i);
        check_all(&model);
        model_stop(&model);
    }
}

static void test_the_budget_is_never_passed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        uint64_t limit = 16384 + seed * 36864;
        struct model model = model_start(100000, 1, seed, limit);
        uint64_t i = 0;
        uint64_t full;

        model_open(&model, 64 << 20);
        while (try_insert(&model, i) == CASK_OK) {
            i++;
            assert_true(budget_used(&model.budget) <= limit);
        }
        full = i;
        assert_true(full * 16 > limit * 8 / 10); /* it is not given up early */
        check_all(&model);
        /* Room that is freed can be used again, over and over. */
        for (int n = 0; n < 200; n++) {
            uint64_t victim = rng_below(&model.rng, full);

            if (model.version[victim] != 0)
                remove_one(&model, victim);
            if (try_insert(&model, i) == CASK_OK)
                i++;
        }
        check_all(&model);
        model.budget.limit_bytes *= 4;
        for (; i < full * 2; i++)
            insert(&model, i);
        check_all(&model);
        model_stop(&model);
    }
}

/* "Makes sure that more inserts will succeed": with the budget used up, too. */
static void test_an_insert_after_its_reservation_does_not_fail_for_want_of_budget(void **state)
{
    unsigned failures = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct model model = model_start(20000, 1, seed, 8192 + seed % 20 * 4096);
        uint64_t i = 0;

        model_open(&model, 64 << 20);
        while (keydir_reserve(model.keydir, 1) == CASK_OK) {
            failures += keydir_insert(model.keydir, tag_of(&model, i + seed * 20000), i + 1) !=
                        CASK_OK;
            i++;
        }
        model_stop(&model);
    }
    assert_int_equal(failures, 0);
}

/* Entries on their way find no room at the end of the table, and none can be had: they stay where
 * they were, and go when memory is there again. */
#define LAST 130u /* entries of the very last tag: more than fit behind a small table */

static void check_last_and_others(const struct keydir *keydir, const uint32_t *tags, uint64_t count)
{
    uint64_t locations[LAST + 1];
    uint64_t sum = 0;

    assert_int_equal(keydir_find(keydir, UINT32_MAX, locations, LAST + 1), LAST);
    for (unsigned i = 0; i < LAST; i++)
        sum += locations[i];
    assert_int_equal(sum, LAST * (LAST + 1) / 2);
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(keydir_find(keydir, tags[i], locations, 1), 1);
        assert_int_equal(locations[0], 1000 + i);
    }
}

static void test_a_growth_that_runs_out_of_memory_half_way_loses_nothing(void **state)
{
    struct model model = model_start(1, 1, 1, PLENTY);
    struct keydir *keydir = model.keydir;
    uint32_t tags[20000];
    uint64_t count = 0;
    bool poor = false;
    unsigned refused = 0;

    (void)state;
    model_open(&model, 64 << 20);
    for (uint64_t i = 1; i <= LAST; i++) {
        assert_ok(keydir_reserve(keydir, 1));
        assert_ok(keydir_insert(keydir, UINT32_MAX, i));
    }
    while (count < COUNT_OF(tags)) {
        int status = keydir_reserve(keydir, 1);

        if (status == CASK_OK) {
            tags[count] = (uint32_t)(count * 2654435761u);
            assert_ok(keydir_insert(keydir, tags[count], 1000 + count));
            count++;
        } else {
            assert_true(poor && status == CASK_ENOMEM);
            check_last_and_others(keydir, tags, count);
            model.budget.limit_bytes = PLENTY;
            poor = false;
            refused++;
        }
        if (status == CASK_OK && !poor && count > 500 && atomic_load(&keydir->grown) != 0 &&
            count % 3 == 0) {
            model.budget.limit_bytes = budget_used(&model.budget);
            poor = true;
        }
    }
    assert_true(refused > 0);
    check_last_and_others(keydir, tags, count);
    model_stop(&model);
}

static void test_the_reservation_of_addresses_is_a_limit_too(void **state)
{
    struct model model = model_start(10000, 1, 1, PLENTY);
    uint64_t i = 0;

    (void)state;
    model_open(&model, 64 << 10);
    while (try_insert(&model, i) == CASK_OK)
        i++;
    assert_in_range(i, 3500, 6144);
    assert_int_equal(model.keydir->committed_bytes <= 64 << 10, 1);
    check_all(&model);
    model_stop(&model);
}

static void test_two_tables_share_a_budget(void **state)
{
    struct budget budget = {.limit_bytes = 256 << 10};
    struct keydir *keydirs[2];
    uint64_t counts[2] = {0, 0};

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        keydirs[k] = aligned_alloc(64, align_up(sizeof *keydirs[k], 64));
        assert_ok(keydir_init(keydirs[k], 1 << 20, &budget));
    }
    for (uint64_t i = 0; i < 60000; i++) {
        size_t k = i % 3 == 0;

        if (keydir_reserve(keydirs[k], 1) != CASK_OK)
            continue;
        assert_ok(keydir_insert(keydirs[k], (uint32_t)mix64(i), i + 1));
        counts[k]++;
        assert_true(budget_used(&budget) <= budget.limit_bytes);
        assert_int_equal(budget_used(&budget),
                         keydirs[0]->committed_bytes + keydirs[1]->committed_bytes);
    }
    assert_true(counts[0] > counts[1] && counts[1] > 1000);
    keydir_release(keydirs[0]);
    assert_int_equal(budget_used(&budget), keydirs[1]->committed_bytes);
    keydir_release(keydirs[1]);
    assert_int_equal(budget_used(&budget), 0);
    free(keydirs[0]);
    free(keydirs[1]);
}

/* Growth that nobody brings memory in for begins all the same. */
static void test_growth_waits_for_its_memory_but_not_for_ever(void **state)
{
    struct model model = model_start(400000, 1, 1, PLENTY);
    unsigned growths = 0;

    (void)state;
    model_open(&model, 64 << 20);
    for (uint64_t i = 0; i < 400000; i++) {
        insert(&model, i);
        if (keydir_has_begun_growing(model.keydir)) {
            uint64_t cursor = atomic_load(&model.keydir->cursor);

            assert_true(atomic_load(&model.keydir->awaits_fresh));
            insert(&model, ++i);
            assert_int_equal(atomic_load(&model.keydir->cursor), cursor);
            growths++;
        }
    }
    assert_in_range(growths, 1, 20);
    check_all(&model);
    model_stop(&model);
}

/* Only a tag that nobody has goes in; whose it is else is told, however far from its home. */
static void test_what_is_new_is_inserted_and_what_is_not_is_found(void **state)
{
    struct model model = model_start(0, 1, 1, PLENTY);
    uint64_t location = 0;

    (void)state;
    model_open(&model, 1 << 20);
    for (uint32_t i = 0; i < 40;
         i++) { /* all of two neighbouring homes, so that most are passed on */
        assert_ok(keydir_reserve(model.keydir, 1));
        assert_ok(keydir_insert_new(model.keydir, i, i + 1, &location));
        assert_int_equal(keydir_count(model.keydir), i + 1);
        assert_int_equal(location, 0);
    }
    for (uint32_t i = 0; i < 40; i++) {
        assert_int_equal(keydir_insert_new(model.keydir, i, 99, &location), CASK_EEXIST);
        assert_int_equal(location, i + 1);
        assert_int_equal(keydir_find(model.keydir, i, &location, 1), 1);
    }
    assert_true(keydir_remove(model.keydir, 7, 8));
    location = 0;
    assert_ok(keydir_insert_new(model.keydir, 7, 77, &location));
    assert_int_equal(location, 0);
    assert_int_equal(keydir_find(model.keydir, 7, &location, 1), 1);
    assert_int_equal(location, 77);
    assert_int_equal(keydir_count(model.keydir), 40);
    model_stop(&model);
}

static void test_huge_pages_change_nothing(void **state)
{
    struct model model = model_start(400000, 1, 1, PLENTY);
    unsigned times = 0;

    (void)state;
    model_open(&model, 64 << 20);
    for (uint64_t i = 0; i < 400000; i++) {
        insert(&model, i);
        if (keydir_has_begun_growing(model.keydir)) {
            keydir_populate(model.keydir);
            times++;
        }
    }
    assert_in_range(times, 1, 20);
    assert_false(keydir_has_begun_growing(model.keydir));
    check_all(&model);
    model_stop(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_table_finds_nothing),
        cmocka_unit_test(test_only_the_very_entry_is_removed_or_replaced),
        cmocka_unit_test(test_locations_and_tags_keep_all_their_bits),
        cmocka_unit_test(test_find_tells_how_many_there_are_beyond_the_room),
        cmocka_unit_test(test_it_behaves_like_an_array_at_every_state_of_growing),
        cmocka_unit_test(test_it_behaves_like_an_array_over_millions_of_changes),
        cmocka_unit_test(test_what_was_reserved_can_be_inserted),
        cmocka_unit_test(test_batches_of_any_size_can_be_reserved),
        cmocka_unit_test(test_a_table_is_sized_for_what_is_coming),
        cmocka_unit_test(test_it_takes_few_bytes_per_entry),
        cmocka_unit_test(test_tables_in_all_phases_take_few_bytes_together),
        cmocka_unit_test(test_inserts_in_order_of_tags_work_or_are_refused),
        cmocka_unit_test(test_hundreds_of_equal_tags_work_or_are_refused),
        cmocka_unit_test(test_the_budget_is_never_passed),
        cmocka_unit_test(test_an_insert_after_its_reservation_does_not_fail_for_want_of_budget),
        cmocka_unit_test(test_a_growth_that_runs_out_of_memory_half_way_loses_nothing),
        cmocka_unit_test(test_the_reservation_of_addresses_is_a_limit_too),
        cmocka_unit_test(test_two_tables_share_a_budget),
        cmocka_unit_test(test_growth_waits_for_its_memory_but_not_for_ever),
        cmocka_unit_test(test_what_is_new_is_inserted_and_what_is_not_is_found),
        cmocka_unit_test(test_huge_pages_change_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
