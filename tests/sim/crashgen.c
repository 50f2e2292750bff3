/* Which crash states of a position are visited, and in what order. Rules: see crashstate.h.
 *
 * A recipe is a base (everything, nothing, only names, names and sizes, random) with up to two
 * units set to another level. The plainest recipes come first; the rest are shuffled, so that a
 * limit takes a fair sample of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crashstate.h"
#include "sim_internal.h"

enum base {
    BASE_ALL,
    BASE_NAMES,           /* names got through, sizes and data did not */
    BASE_NAMES_AND_SIZES, /* files read as zeros */
    BASE_NONE,
    BASE_RANDOM
};

struct recipe {
    enum base base;
    bool kill;
    bool names_in_order; /* the first `names` changes of names got through and no other */
    size_t names;
    unsigned overrides;
    size_t unit[2];
    unsigned level[2];
    uint64_t seed; /* of BASE_RANDOM */
    bool mix;
    bool torn;
    bool torn_tail;
    size_t torn_size;
};

struct kitchen {
    struct crash_tracker *tracker;
    const struct crash_limits *limits;
    uint64_t random;
    size_t count;
    size_t capacity;
    size_t plain; /* recipes that are not shuffled */
    struct recipe *recipes;
};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t below(struct kitchen *kitchen, size_t limit)
{
    return (size_t)(next_random(&kitchen->random) % limit);
}

static void add(struct kitchen *kitchen, struct recipe recipe)
{
    if (kitchen->count == kitchen->capacity) {
        kitchen->capacity = kitchen->capacity * 2 + 64;
        kitchen->recipes = sim_reallocate(kitchen->recipes,
                                          kitchen->capacity * sizeof *kitchen->recipes);
    }
    kitchen->recipes[kitchen->count++] = recipe;
}

static void add_plain(struct kitchen *kitchen)
{
    size_t names = kitchen->tracker->pending_count;

    add(kitchen, (struct recipe){.base = BASE_ALL, .kill = true});
    add(kitchen, (struct recipe){.base = BASE_ALL});
    add(kitchen, (struct recipe){.base = BASE_NONE});
    add(kitchen, (struct recipe){.base = BASE_NAMES});
    add(kitchen, (struct recipe){.base = BASE_NAMES_AND_SIZES});
    kitchen->plain = kitchen->count;
    for (size_t i = 0; i <= names; i++) {
        add(kitchen, (struct recipe){.base = BASE_ALL, .names_in_order = true, .names = i});
        add(kitchen, (struct recipe){.base = BASE_NONE, .names_in_order = true, .names = i});
    }
}

/* Each pending item dropped, and each alone. */
static void add_single(struct kitchen *kitchen)
{
    const struct crash_tracker *tracker = kitchen->tracker;

    for (size_t unit = 0; unit < tracker->unit_count; unit++) {
        for (unsigned level = 0; level <= tracker->units[unit].levels; level++) {
            struct recipe recipe = {.overrides = 1, .unit = {unit}, .level = {level}};

            if (level < tracker->units[unit].levels) {
                recipe.base = BASE_ALL;
                add(kitchen, recipe);
            }
            if (level == 0)
                continue;
            recipe.base = BASE_NONE;
            if (tracker->units[unit].kind == CRASH_SIZE)
                recipe.base = BASE_NAMES;
            else if (tracker->units[unit].kind == CRASH_PAGE)
                recipe.base = BASE_NAMES_AND_SIZES;
            add(kitchen, recipe);
        }
    }
}

static void add_pairs(struct kitchen *kitchen)
{
    const struct crash_tracker *tracker = kitchen->tracker;

    if (tracker->unit_count < 2)
        return;
    for (size_t i = 0; i < kitchen->limits->pairs; i++) {
        struct recipe recipe = {.overrides = 2};

        recipe.base = below(kitchen, 2) ? BASE_ALL : BASE_NAMES_AND_SIZES;
        for (unsigned k = 0; k < 2; k++) {
            recipe.unit[k] = below(kitchen, tracker->unit_count);
            recipe.level[k] = (unsigned)below(kitchen,
                                              tracker->units[recipe.unit[k]].levels + (size_t)1);
        }
        add(kitchen, recipe);
    }
}

static const struct simop *last_write(const struct crash_tracker *tracker)
{
    const struct simop *op;

    if (tracker->position == 0)
        return NULL;
    op = &tracker->log->ops[tracker->position - 1];
    return (op->kind == SIMOP_WRITE || op->kind == SIMOP_STORE) && op->size > 1 ? op : NULL;
}

/* The last write, cut at each sector and at some other places. */
static void add_torn(struct kitchen *kitchen)
{
    const struct simop *op = last_write(kitchen->tracker);
    size_t sector = kitchen->tracker->sector_bytes;
    size_t end;

    if (!op)
        return;
    end = (size_t)op->offset + op->size;
    for (size_t at = (size_t)op->offset / sector * sector + sector; at < end; at += sector) {
        struct recipe recipe = {.torn = true, .torn_size = at - (size_t)op->offset};

        recipe.base = BASE_ALL;
        add(kitchen, recipe);
        recipe.torn_tail = true;
        add(kitchen, recipe);
    }
    for (size_t i = 0; i < 12; i++) {
        static const size_t edges[] = {1, 4, 8, 17, 24};
        struct recipe recipe = {.base = BASE_ALL, .kill = true, .torn = true};

        recipe.torn_size = i < 5 ? edges[i] : i == 5 ? op->size - 1 : 1 + below(kitchen, op->size);
        recipe.torn_tail = i >= 9;
        if (recipe.torn_size < op->size)
            add(kitchen, recipe);
    }
}

static void add_random(struct kitchen *kitchen)
{
    const struct simop *op = last_write(kitchen->tracker);

    if (kitchen->tracker->unit_count == 0)
        return;
    for (size_t i = 0; i < kitchen->limits->random; i++) {
        struct recipe recipe = {.base = BASE_RANDOM, .seed = next_random(&kitchen->random)};

        recipe.mix = below(kitchen, 3) == 0;
        recipe.torn = op && below(kitchen, 4) == 0;
        if (recipe.torn) {
            recipe.torn_size = 1 + below(kitchen, op->size - 1);
            recipe.torn_tail = below(kitchen, 4) == 0;
        }
        if (below(kitchen, 3) == 0) {
            recipe.names_in_order = true;
            recipe.names = below(kitchen, kitchen->tracker->pending_count + 1);
        }
        add(kitchen, recipe);
    }
}

static void shuffle(struct kitchen *kitchen)
{
    for (size_t left = kitchen->count - kitchen->plain; left > 1; left--) {
        size_t a = kitchen->plain + below(kitchen, left);
        size_t b = kitchen->plain + left - 1;
        struct recipe swapped = kitchen->recipes[a];

        kitchen->recipes[a] = kitchen->recipes[b];
        kitchen->recipes[b] = swapped;
    }
}

/* Half of the units at the top, a quarter at the bottom, the others anywhere. */
static unsigned random_level(uint64_t *state, unsigned levels)
{
    switch (next_random(state) >> 33 & 3) {
    case 0:
    case 1:
        return levels;
    case 2:
        return 0;
    default:
        return (unsigned)(next_random(state) % (levels + 1u));
    }
}

static void set_levels(const struct crash_tracker *tracker, const struct recipe *recipe,
                       unsigned *levels)
{
    size_t first_name = tracker->unit_count - tracker->pending_count;
    uint64_t random = recipe->seed;

    for (size_t i = 0; i < tracker->unit_count; i++) {
        const struct crash_unit *unit = &tracker->units[i];
        bool all = recipe->base == BASE_ALL ||
                   (recipe->base == BASE_NAMES && unit->kind == CRASH_NAME) ||
                   (recipe->base == BASE_NAMES_AND_SIZES && unit->kind != CRASH_PAGE);

        levels[i] = all ? unit->levels : 0;
        if (recipe->base == BASE_RANDOM)
            levels[i] = random_level(&random, unit->levels);
        if (recipe->names_in_order && unit->kind == CRASH_NAME)
            levels[i] = i - first_name < recipe->names;
    }
    for (unsigned i = 0; i < recipe->overrides; i++)
        levels[recipe->unit[i]] = recipe->level[i];
}

static void describe(const struct crash_tracker *tracker, const struct recipe *recipe,
                     struct crash_state *state)
{
    static const char *const bases[] = {"all", "names only", "names and sizes only", "nothing",
                                        "random"};
    char entry[128];
    size_t used;

    snprintf(state->text, sizeof state->text, "%s, %s", recipe->kill ? "kill" : "power loss",
             bases[recipe->base]);
    for (unsigned i = 0; i < recipe->overrides; i++) {
        unsigned level = recipe->level[i];

        used = strlen(state->text);
        simlog_describe(tracker->log, crash_unit_op(tracker, recipe->unit[i], level ? level : 1),
                        entry, sizeof entry);
        snprintf(state->text + used, sizeof state->text - used, ", %s: %s",
                 level ? "up to" : "without", entry);
    }
    used = strlen(state->text);
    if (recipe->names_in_order)
        snprintf(state->text + used, sizeof state->text - used, ", first %zu names", recipe->names);
    used = strlen(state->text);
    if (recipe->torn)
        snprintf(state->text + used, sizeof state->text - used, ", %s %zu bytes of the last write",
                 recipe->torn_tail ? "last" : "first", recipe->torn_size);
    used = strlen(state->text);
    if (recipe->mix)
        snprintf(state->text + used, sizeof state->text - used, ", sectors mixed");
}

static bool serve(struct kitchen *kitchen, const struct recipe *recipe, unsigned *levels,
                  struct simimage *image, crash_state_fn visit, void *context)
{
    struct crash_tracker *tracker = kitchen->tracker;
    struct crash_choice choice = {.levels = levels,
                                  .mix_sectors = recipe->mix,
                                  .mix_seed = recipe->seed,
                                  .torn = recipe->torn,
                                  .torn_tail = recipe->torn_tail,
                                  .torn_size = recipe->torn_size};
    struct crash_state state = {.image = image, .kill = recipe->kill, .torn = recipe->torn};

    set_levels(tracker, recipe, levels);
    crash_tracker_build(tracker, &choice, image);
    state.hash = simimage_hash(image);
    state.position = tracker->position - (recipe->torn ? 1 : 0);
    describe(tracker, recipe, &state);
    return visit(context, &state);
}

void crash_states(struct crash_tracker *tracker, const struct crash_limits *limits,
                  crash_state_fn visit, void *context)
{
    struct kitchen kitchen = {.tracker = tracker, .limits = limits};
    struct simimage *image = simimage_create();
    bool go_on = true;
    unsigned *levels;

    kitchen.random = limits->seed ^ tracker->position * 0xd1342543de82ef95u;
    crash_tracker_plan(tracker);
    levels = sim_allocate((tracker->unit_count + 1) * sizeof *levels);
    add_plain(&kitchen);
    add_single(&kitchen);
    add_torn(&kitchen);
    add_pairs(&kitchen);
    add_random(&kitchen);
    shuffle(&kitchen);
    for (size_t i = 0; go_on && i < kitchen.count && i < limits->total; i++)
        go_on = serve(&kitchen, &kitchen.recipes[i], levels, image, visit, context);
    free(levels);
    free(kitchen.recipes);
    simimage_release(image);
}
