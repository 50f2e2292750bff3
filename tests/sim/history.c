/* The judge of what a store may hold. Rules: see history.h. */
#include "history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_internal.h"

#define VALUE_HEADER 4u /* the key, 24 bits of the version */
#define VALUE_MAX 8192u /* no run writes a longer one */

static char key_texts[HISTORY_KEYS][12];

void history_init(struct history *history)
{
    memset(history, 0, sizeof *history);
    for (unsigned i = 0; i < HISTORY_KEYS; i++)
        snprintf(key_texts[i], sizeof key_texts[i], "<key-%02u>", i);
}

void history_release(struct history *history)
{
    free(history->events);
    free(history->units);
    free(history->value_sizes);
    memset(history, 0, sizeof *history);
}

struct cask_slice history_key(unsigned key)
{
    return (struct cask_slice){key_texts[key], strlen(key_texts[key])};
}

static void value_bytes(unsigned key, unsigned version, size_t size, uint8_t *buffer)
{
    uint8_t header[VALUE_HEADER] = {(uint8_t)key, (uint8_t)version, (uint8_t)(version >> 8),
                                    (uint8_t)(version >> 16)};

    for (size_t i = 0; i < size; i++)
        buffer[i] = i < VALUE_HEADER ? header[i] : (uint8_t)(version * 31 + key * 7 + i * 13 + 1);
}

/* A size in between could not hold the header. */
static size_t legal_size(size_t size)
{
    return size > 0 && size < VALUE_HEADER ? VALUE_HEADER : size;
}

unsigned history_version(struct history *history, unsigned key, size_t size, uint8_t *buffer)
{
    unsigned version = ++history->version_count;

    if (version >= history->version_capacity) {
        history->version_capacity = history->version_capacity * 2 + 64;
        history->value_sizes = sim_reallocate(history->value_sizes,
                                              history->version_capacity * sizeof(size_t));
    }
    history->value_sizes[version] = legal_size(size);
    value_bytes(key, version, legal_size(size), buffer);
    return version;
}

/* ---- recording ---- */

void history_start(struct history *history, size_t position)
{
    if (history->unit_count == history->unit_capacity) {
        history->unit_capacity = history->unit_capacity * 2 + 64;
        history->units = sim_reallocate(history->units,
                                        history->unit_capacity * sizeof *history->units);
    }
    history->units[history->unit_count++] = (struct history_unit){
        .first_event = history->event_count,
        .started = position,
        .returned = HISTORY_NEVER,
        .durable = HISTORY_NEVER};
}

void history_add(struct history *history, unsigned key, unsigned version, uint64_t expires_at_ms)
{
    if (history->event_count == history->event_capacity) {
        history->event_capacity = history->event_capacity * 2 + 64;
        history->events = sim_reallocate(history->events,
                                         history->event_capacity * sizeof *history->events);
    }
    history->events[history->event_count++] = (struct history_event){key, version,
                                                                     version ? expires_at_ms : 0};
    history->units[history->unit_count - 1].event_count++;
}

void history_return(struct history *history, size_t position)
{
    history->units[history->unit_count - 1].returned = position;
}

void history_drop(struct history *history)
{
    history->event_count = history->units[--history->unit_count].first_event;
}

void history_all_durable(struct history *history, size_t position)
{
    for (size_t i = 0; i < history->unit_count; i++) {
        struct history_unit *unit = &history->units[i];

        if (unit->returned != HISTORY_NEVER && unit->durable == HISTORY_NEVER)
            unit->durable = position;
    }
}

static int shard_of_path(const char *path)
{
    const char *at = strstr(path, "/shard-");

    return at ? atoi(at + 7) : -1;
}

void history_learn_shards(struct history *history, const struct simlog *log)
{
    bool known[HISTORY_KEYS] = {false};
    char path[256];

    history->shards = 1;
    memset(history->shard_of, 0, sizeof history->shard_of);
    for (size_t i = 0; i < log->count; i++) {
        const struct simop *op = &log->ops[i];
        int shard;

        if (op->kind != SIMOP_WRITE && op->kind != SIMOP_STORE)
            continue;
        simlog_path(log, i, op->inode, path, sizeof path);
        shard = shard_of_path(path);
        for (unsigned key = 0; shard >= 0 && key < HISTORY_KEYS; key++) {
            struct cask_slice text = history_key(key);

            if (!memmem(op->bytes, op->size, text.data, text.size))
                continue;
            if (known[key] && history->shard_of[key] != (unsigned)shard)
                sim_fatal("key %u lies in two shards", key);
            known[key] = true;
            history->shard_of[key] = (unsigned)shard;
            if ((unsigned)shard >= history->shards)
                history->shards = (unsigned)shard + 1;
        }
    }
    if (history->shards > HISTORY_SHARDS)
        sim_fatal("more shards than the judge can count");
}

/* ---- looking ---- */

static bool look_at_value(const struct history *history, unsigned key, struct cask_slice value,
                          struct history_view *view, char *why, size_t size)
{
    const uint8_t *bytes = value.data;
    static uint8_t expected[VALUE_MAX];
    unsigned version;

    view->present[key] = true;
    view->empty[key] = value.size == 0;
    if (value.size == 0)
        return true;
    version = value.size < VALUE_HEADER
                  ? 0
                  : bytes[1] | (unsigned)bytes[2] << 8 | (unsigned)bytes[3] << 16;
    if (version == 0 || version > history->version_count ||
        history->value_sizes[version] != value.size) {
        snprintf(why, size, "key %u has a value of %zu bytes that was never written", key,
                 value.size);
        return false;
    }
    value_bytes(key, version, value.size, expected);
    if (memcmp(expected, bytes, value.size) != 0) {
        snprintf(why, size, "key %u has a damaged version %u", key, version);
        return false;
    }
    view->version[key] = version;
    return true;
}

static bool look_by_get(const struct history *history, struct cask_db *db,
                        struct history_view *view, char *why, size_t size)
{
    static uint8_t buffer[VALUE_MAX];

    for (unsigned key = 0; key < HISTORY_KEYS; key++) {
        size_t got = 0;
        int status = cask_get(db, history_key(key), buffer, sizeof buffer, &got);

        if (status == CASK_NOTFOUND)
            continue;
        if (status != CASK_OK) {
            snprintf(why, size, "get of key %u says %s", key, cask_strerror(status));
            return false;
        }
        if (!look_at_value(history, key, (struct cask_slice){buffer, got}, view, why, size))
            return false;
    }
    return true;
}

static bool key_number(struct cask_slice text, unsigned *ret_key)
{
    for (unsigned key = 0; key < HISTORY_KEYS; key++) {
        struct cask_slice known = history_key(key);

        if (known.size == text.size && memcmp(known.data, text.data, text.size) == 0) {
            *ret_key = key;
            return true;
        }
    }
    return false;
}

static bool take_entry(const struct history *history, const struct cask_entry *entry,
                       struct history_view *walked, char *why, size_t size)
{
    unsigned key;

    if (!key_number(entry->key, &key)) {
        snprintf(why, size, "iteration returns a key that was never written");
        return false;
    }
    if (walked->present[key]) {
        snprintf(why, size, "iteration returns key %u twice", key);
        return false;
    }
    return look_at_value(history, key, entry->value, walked, why, size);
}

static bool look_by_iteration(const struct history *history, struct cask_db *db,
                              struct history_view *walked, char *why, size_t size)
{
    struct cask_iter *iter;
    struct cask_entry entry;
    bool good = true;
    int status = cask_iter_create(db, &iter);

    if (status != CASK_OK) {
        snprintf(why, size, "no iterator: %s", cask_strerror(status));
        return false;
    }
    while (good && (status = cask_iter_next(iter, &entry)) == CASK_OK)
        good = take_entry(history, &entry, walked, why, size);
    cask_iter_destroy(iter);
    if (good && status != CASK_NOTFOUND) {
        snprintf(why, size, "iteration says %s", cask_strerror(status));
        return false;
    }
    return good;
}

bool history_look(const struct history *history, struct cask_db *db, struct history_view *ret_view,
                  char *why, size_t size)
{
    struct history_view walked;
    char inner[128];

    memset(ret_view, 0, sizeof *ret_view);
    memset(&walked, 0, sizeof walked);
    if (!look_by_get(history, db, ret_view, why, size) ||
        !look_by_iteration(history, db, &walked, why, size))
        return false;
    if (!history_same(ret_view, &walked, inner, sizeof inner)) {
        snprintf(why, size, "gets and iteration differ: %s", inner);
        return false;
    }
    return true;
}

bool history_same(const struct history_view *a, const struct history_view *b, char *why,
                  size_t size)
{
    for (unsigned key = 0; key < HISTORY_KEYS; key++) {
        if (a->present[key] == b->present[key] && a->version[key] == b->version[key])
            continue;
        snprintf(why, size, "key %u: version %u%s, then %u%s", key, a->version[key],
                 a->present[key] ? "" : " (absent)", b->version[key],
                 b->present[key] ? "" : " (absent)");
        return false;
    }
    return true;
}

/* ---- judging ---- */

struct model {
    unsigned version[HISTORY_KEYS]; /* 0: absent */
    uint64_t expires[HISTORY_KEYS];
};

static bool fits(const struct history *history, const struct model *model, unsigned key,
                 uint64_t now_ms, const struct history_view *view)
{
    unsigned version = model->version[key];

    if (version != 0 && model->expires[key] != 0 && model->expires[key] <= now_ms)
        version = 0;
    if (version == 0 || !view->present[key])
        return (version != 0) == view->present[key];
    if (view->empty[key])
        return history->value_sizes[version] == 0;
    return view->version[key] == version;
}

/* Which prefixes of one shard's units explain what it holds: possible[n] for the first n of all
 * units, counting those of other shards as well. */
struct prefixes {
    size_t least; /* that it must reach */
    size_t count; /* of possible[] */
    bool *possible;
    bool any;
    unsigned misfit; /* a key that no prefix at least that long explains */
};

static bool touches(const struct history *history, const struct history_unit *unit, unsigned shard)
{
    for (size_t i = 0; i < unit->event_count; i++)
        if (history->shard_of[history->events[unit->first_event + i].key] == shard)
            return true;
    return false;
}

static void apply_unit(const struct history *history, const struct history_unit *unit,
                       unsigned shard, struct model *model)
{
    for (size_t i = 0; i < unit->event_count; i++) {
        const struct history_event *event = &history->events[unit->first_event + i];

        if (history->shard_of[event->key] != shard)
            continue;
        model->version[event->key] = event->version;
        model->expires[event->key] = event->expires_at_ms;
    }
}

static bool explains(const struct history *history, const struct model *model, unsigned shard,
                     const struct history_moment *moment, const struct history_view *view,
                     unsigned *ret_misfit)
{
    for (unsigned key = 0; key < HISTORY_KEYS; key++) {
        if (history->shard_of[key] != shard || fits(history, model, key, moment->now_ms, view))
            continue;
        *ret_misfit = key;
        return false;
    }
    return true;
}

static void find_prefixes(const struct history *history, const struct history_moment *moment,
                          const struct history_view *view, unsigned shard,
                          struct prefixes *prefixes)
{
    struct model model;
    bool good;

    memset(&model, 0, sizeof model);
    prefixes->least = 0;
    prefixes->any = false;
    for (prefixes->count = 0; prefixes->count < history->unit_count; prefixes->count++) {
        const struct history_unit *unit = &history->units[prefixes->count];

        if (unit->started > moment->position)
            break;
        if ((moment->kill ? unit->returned : unit->durable) <= moment->position &&
            touches(history, unit, shard))
            prefixes->least = prefixes->count + 1;
    }
    prefixes->possible = sim_allocate((prefixes->count + 1) * sizeof *prefixes->possible);
    good = explains(history, &model, shard, moment, view, &prefixes->misfit);
    for (size_t i = 0; i <= prefixes->count; i++) {
        if (i > 0 && touches(history, &history->units[i - 1], shard)) {
            apply_unit(history, &history->units[i - 1], shard, &model);
            good = explains(history, &model, shard, moment, view, &prefixes->misfit);
        }
        prefixes->possible[i] = good && i >= prefixes->least;
        prefixes->any = prefixes->any || prefixes->possible[i];
    }
}

static bool some_possible(const struct prefixes *prefixes, size_t from, size_t to)
{
    for (size_t i = from; i <= to && i <= prefixes->count; i++)
        if (prefixes->possible[i])
            return true;
    return false;
}

/* Unit `index` is within a shard's prefix if that is index + 1 long or more. */
static bool batch_is_whole(const struct history *history, const struct prefixes *prefixes,
                           size_t index)
{
    const struct history_unit *unit = &history->units[index];
    bool all_in = true;
    bool all_out = true;

    for (unsigned shard = 0; shard < history->shards; shard++) {
        if (!touches(history, unit, shard))
            continue;
        all_in = all_in && some_possible(&prefixes[shard], index + 1, SIZE_MAX - 1);
        all_out = all_out && some_possible(&prefixes[shard], 0, index);
    }
    return all_in || all_out;
}

static bool judge_batches(const struct history *history, const struct prefixes *prefixes, char *why,
                          size_t size)
{
    for (size_t i = 0; i < prefixes[0].count; i++) {
        if (history->units[i].event_count > 1 && !batch_is_whole(history, prefixes, i)) {
            snprintf(why, size, "unit %zu, a batch, is there in some shards only", i);
            return false;
        }
    }
    return true;
}

bool history_judge(const struct history *history, const struct history_moment *moment,
                   const struct history_view *view, char *why, size_t size)
{
    struct prefixes prefixes[HISTORY_SHARDS] = {0};
    bool good = true;

    for (unsigned shard = 0; shard < history->shards; shard++) {
        find_prefixes(history, moment, view, shard, &prefixes[shard]);
        if (prefixes[shard].any || !good)
            continue;
        good = false;
        snprintf(why, size,
                 "shard %u holds no prefix of its units of at least %zu and at most %zu; key %u: "
                 "version %u%s",
                 shard, prefixes[shard].least, prefixes[shard].count, prefixes[shard].misfit,
                 view->version[prefixes[shard].misfit],
                 view->present[prefixes[shard].misfit] ? "" : " (absent)");
    }
    good = good && judge_batches(history, prefixes, why, size);
    for (unsigned shard = 0; shard < history->shards; shard++)
        free(prefixes[shard].possible);
    return good;
}

void history_final(const struct history *history, uint64_t now_ms, struct history_view *ret_view)
{
    memset(ret_view, 0, sizeof *ret_view);
    for (size_t i = 0; i < history->event_count; i++) {
        const struct history_event *event = &history->events[i];
        bool gone = event->version == 0 ||
                    (event->expires_at_ms != 0 && event->expires_at_ms <= now_ms);

        ret_view->present[event->key] = !gone;
        ret_view->empty[event->key] = !gone && history->value_sizes[event->version] == 0;
        ret_view->version[event->key] = gone || ret_view->empty[event->key] ? 0 : event->version;
    }
}
