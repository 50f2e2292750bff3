/* A search over how far each thread has come and what the register holds then. Few such states can
 * be reached, since operations that do not overlap have only one order; each is tried once. */
#include "support_linear.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

/* How far each thread has come, and the register. */
struct place {
    uint8_t done[HISTORY_THREADS];
    uint32_t value;
};

_Static_assert(HISTORY_OPS < 256, "a place counts operations in bytes");

/* Places that were tried, by open addressing. */
struct tried {
    struct place *places;
    size_t count;
    size_t room; /* a power of two */
};

void history_clear(struct history *history)
{
    memset(history->counts, 0, sizeof history->counts);
}

void history_add(struct history *history, uint32_t thread, struct history_op op)
{
    CHECK(history->counts[thread] < HISTORY_OPS, "the history is full");
    history->ops[thread][history->counts[thread]++] = op;
}

static size_t slot_of(const struct tried *tried, const struct place *place)
{
    uint64_t hash = place->value;
    size_t slot;

    for (uint32_t i = 0; i < HISTORY_THREADS; i++)
        hash = mix64(hash << 8 | place->done[i]);
    slot = (size_t)hash & (tried->room - 1);
    while (tried->places[slot].value != UINT32_MAX &&
           memcmp(&tried->places[slot], place, sizeof *place) != 0)
        slot = (slot + 1) & (tried->room - 1);
    return slot;
}

static void make_room(struct tried *tried)
{
    struct tried grown = {.room = tried->room == 0 ? 1024 : tried->room * 2};

    grown.places = malloc(grown.room * sizeof *grown.places);
    CHECK(grown.places, "out of memory");
    memset(grown.places, 0xff, grown.room * sizeof *grown.places);
    for (size_t i = 0; i < tried->room; i++)
        if (tried->places[i].value != UINT32_MAX) {
            grown.places[slot_of(&grown, &tried->places[i])] = tried->places[i];
            grown.count++;
        }
    free(tried->places);
    *tried = grown;
}

/* False if it was tried before. */
static bool try_once(struct tried *tried, const struct place *place)
{
    size_t slot;

    if (tried->count * 2 >= tried->room)
        make_room(tried);
    slot = slot_of(tried, place);
    if (tried->places[slot].value != UINT32_MAX)
        return false;
    tried->places[slot] = *place;
    tried->count++;
    return true;
}

/* Whether an operation can take place now; *value then is what it leaves. */
static bool apply(const struct history_op *op, uint32_t *value)
{
    switch (op->kind) {
    case HISTORY_WRITE:
        *value = op->value;
        return true;
    case HISTORY_REMOVE:
        if (*value == 0)
            return false;
        *value = 0;
        return true;
    case HISTORY_FIND:
        return *value == op->value;
    case HISTORY_FIND_ANY:
        return *value != 0;
    case HISTORY_FIND_ABSENT:
        return *value == 0;
    case HISTORY_SWAP:
        if (*value != op->before)
            return false;
        *value = op->value;
        return true;
    }
    return false;
}

static const struct history_op *next_of(const struct history *history, const struct place *place,
                                        uint32_t thread)
{
    return place->done[thread] < history->counts[thread]
               ? &history->ops[thread][place->done[thread]]
               : NULL;
}

/* Nothing that is still to come ended before the operation began. */
static bool may_be_next(const struct history *history, const struct place *place,
                        const struct history_op *op)
{
    for (uint32_t i = 0; i < HISTORY_THREADS; i++) {
        const struct history_op *other = next_of(history, place, i);

        if (other && other->end < op->begin)
            return false;
    }
    return true;
}

static bool search(const struct history *history, struct tried *tried, const struct place *place)
{
    bool complete = true;

    for (uint32_t i = 0; i < HISTORY_THREADS; i++) {
        const struct history_op *op = next_of(history, place, i);
        struct place next = *place;

        if (!op)
            continue;
        complete = false;
        if (!may_be_next(history, place, op) || !apply(op, &next.value))
            continue;
        next.done[i]++;
        if (try_once(tried, &next) && search(history, tried, &next))
            return true;
    }
    return complete;
}

bool history_is_linearizable(const struct history *history)
{
    struct place start = {{0}, 0};
    struct tried tried = {NULL, 0, 0};
    bool linear = search(history, &tried, &start);

    free(tried.places);
    return linear;
}

static int by_begin(const void *a, const void *b)
{
    const struct history_op *left = a;
    const struct history_op *right = b;

    return left->begin < right->begin ? -1 : left->begin > right->begin;
}

void history_print(const struct history *history)
{
    static const char *const names[] = {"write",    "remove",      "find",
                                        "find any", "find absent", "swap"};
    static struct history_op all[HISTORY_THREADS * HISTORY_OPS];
    size_t count = 0;

    for (uint32_t i = 0; i < HISTORY_THREADS; i++)
        for (uint32_t j = 0; j < history->counts[i]; j++)
            all[count++] = history->ops[i][j];
    qsort(all, count, sizeof *all, by_begin);
    for (size_t i = 0; i < count; i++)
        (void)fprintf(stderr, "%10llu to %10llu: %s %x\n",
                      (unsigned long long)(all[i].begin - all[0].begin),
                      (unsigned long long)(all[i].end - all[0].begin), names[all[i].kind],
                      (unsigned)all[i].value);
}
