/* A run during which calls may fail. Rules: see trial.h. */
#include "trial.h"

#include <stdio.h>
#include <string.h>

#include "../support_spill.h"
#include "simdisk.h"
#include "strays.h"

#define STEPS 34u
#define KEYS 10u
#define VALUE_ROOM 2048u
#define FAR_AHEAD_MS 4000000000000u

enum call {
    CALL_OPEN,
    CALL_CLOSE,
    CALL_WRITE, /* put, delete, write */
    CALL_BATCH, /* making and filling one */
    CALL_READ,  /* get, exists, iteration */
    CALL_VERIFY,
    CALL_SYNC,
    CALL_MERGE,
    CALL_SPILL
};

static uint8_t value_bytes[VALUE_ROOM];

void trial_init(struct trial *trial, const struct workload *workload, enum cask_read_mode read_mode,
                uint64_t seed)
{
    memset(trial, 0, sizeof *trial);
    trial->workload = workload;
    trial->read_mode = read_mode;
    trial->random = seed;
    history_init(&trial->history);
    simdisk_reset(seed);
    simdisk_set_allocate_supported(!workload->no_allocate);
    simdisk_record_begin();
}

void trial_release(struct trial *trial)
{
    history_release(&trial->history);
}

static unsigned below(struct trial *trial, unsigned limit)
{
    trial->random = trial->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(trial->random >> 33) % limit;
}

/* As caskade.h has it. */
static bool is_documented(enum call call, int status)
{
    switch (status) {
    case CASK_OK:
        return true;
    case CASK_ENOMEM:
        return call != CALL_SYNC;
    case CASK_EIO:
        return call != CALL_BATCH;
    case CASK_ENOSPC:
        return call == CALL_OPEN || call == CALL_CLOSE || call == CALL_WRITE ||
               call == CALL_MERGE || call == CALL_SPILL;
    case CASK_EMFILE:
        return call == CALL_OPEN || call == CALL_CLOSE || call == CALL_WRITE ||
               call == CALL_VERIFY || call == CALL_MERGE || call == CALL_SPILL;
    case CASK_ENOTSUP:
    case CASK_EROFS:
    case CASK_EACCES:
        return call == CALL_OPEN;
    default:
        return false;
    }
}

static bool wrong(struct trial *trial, const char *what, int status)
{
    char errors[300];

    workload_errors(errors, sizeof errors);
    snprintf(trial->why, sizeof trial->why, "%s says %s (%s)", what, cask_strerror(status), errors);
    return false;
}

static bool note_status(struct trial *trial, enum call call, const char *what, int status)
{
    trial->failures += status != CASK_OK && status != CASK_NOTFOUND;
    return is_documented(call, status) ? true : wrong(trial, what, status);
}

/* ---- what may be there ---- */

static bool is_version(const struct trial *trial, const struct history_view *view, unsigned key,
                       unsigned version)
{
    if (version == 0 || !view->present[key])
        return (version != 0) == view->present[key];
    if (view->empty[key])
        return trial->history.value_sizes[version] == 0;
    return view->version[key] == version;
}

static bool key_fits(struct trial *trial, const struct history_view *view, unsigned key)
{
    const struct trial_key *model = &trial->keys[key];

    if (is_version(trial, view, key, model->sure))
        return true;
    for (size_t i = 0; i < model->maybe_count; i++)
        if (is_version(trial, view, key, model->maybe[i]))
            return true;
    snprintf(trial->why, sizeof trial->why, "key %u should have version %u, has %u%s", key,
             model->sure, view->version[key], view->present[key] ? "" : " (absent)");
    return false;
}

bool trial_look(struct trial *trial, struct cask_db *db)
{
    struct history_view view;

    if (!history_look(&trial->history, db, &view, trial->why, sizeof trial->why))
        return false;
    for (unsigned key = 0; key < HISTORY_KEYS; key++)
        if (!key_fits(trial, &view, key))
            return false;
    return true;
}

static void wrote(struct trial *trial, unsigned key, unsigned version)
{
    trial->keys[key].sure = version;
    trial->keys[key].maybe_count = 0;
}

static void may_have_written(struct trial *trial, unsigned key, unsigned version)
{
    struct trial_key *model = &trial->keys[key];

    if (model->maybe_count < TRIAL_MAYBE)
        model->maybe[model->maybe_count++] = version;
}

static uint64_t sync_calls(void)
{
    return simdisk_calls(SIMDISK_SYNC) + simdisk_calls(SIMDISK_DIR_SYNC);
}

/* The exception of rule 2. The sync that failed may be one of the store's own threads, right before
 * the write wanted its own. */
static bool is_unknown(const struct trial *trial, int status, uint64_t syncs_before)
{
    return status == CASK_EIO && trial->workload->sync_mode == CASK_SYNC_ALWAYS &&
           (sync_calls() > syncs_before || simdisk_failed_syncs() > 0);
}

/* A key right after a write of it: what it must be, unless the read itself fails. */
static bool check_key(struct trial *trial, unsigned key)
{
    static uint8_t bytes[VALUE_ROOM];
    struct history_view view;
    size_t size = 0;
    int status = cask_get(trial->db, history_key(key), bytes, sizeof bytes, &size);

    if (status != CASK_OK && status != CASK_NOTFOUND)
        return note_status(trial, CALL_READ, "cask_get", status);
    memset(&view, 0, sizeof view);
    view.present[key] = status == CASK_OK;
    view.empty[key] = status == CASK_OK && size == 0;
    if (size >= 4)
        view.version[key] = bytes[1] | (unsigned)bytes[2] << 8 | (unsigned)bytes[3] << 16;
    return key_fits(trial, &view, key);
}

/* ---- the script ---- */

static unsigned new_value(struct trial *trial, unsigned key, struct cask_slice *ret_value)
{
    size_t size = below(trial, 10) == 0 ? 1200 : below(trial, 80);
    unsigned version = history_version(&trial->history, key, size, value_bytes);

    *ret_value = (struct cask_slice){value_bytes, trial->history.value_sizes[version]};
    return version;
}

bool trial_put(struct trial *trial, unsigned key)
{
    struct cask_slice value;
    unsigned version = new_value(trial, key, &value);
    uint64_t syncs = sync_calls();
    int status;

    if (version % 5 == 0)
        status = cask_put_expiring(trial->db, history_key(key), value, FAR_AHEAD_MS);
    else
        status = cask_put(trial->db, history_key(key), value);
    if (status == CASK_OK)
        wrote(trial, key, version);
    else if (is_unknown(trial, status, syncs))
        may_have_written(trial, key, version);
    return note_status(trial, CALL_WRITE, "cask_put", status) && check_key(trial, key);
}

/* `refused`: on a condition that does not hold. */
static bool step_put_if(struct trial *trial, bool refused)
{
    struct cask_view view = {.sequence = 0};
    unsigned key = below(trial, KEYS);
    int status = cask_view(trial->db, history_key(key), &view);
    uint64_t before = view.sequence;
    uint64_t sequence = 0;
    struct cask_slice value;
    unsigned version = new_value(trial, key, &value);
    uint64_t syncs = sync_calls();
    int expected = !refused ? CASK_OK : before != 0 ? CASK_EEXIST : CASK_NOTFOUND;

    cask_view_release(&view);
    if (status != CASK_OK && status != CASK_NOTFOUND)
        return note_status(trial, CALL_READ, "cask_view", status);
    status = cask_put_if(trial->db, history_key(key), value, before + refused, &sequence);
    if ((status == CASK_OK) != (sequence > before) || (status >= 0 && status != expected))
        return wrong(trial, "cask_put_if", status);
    if (status == CASK_OK)
        wrote(trial, key, version);
    else if (!refused && is_unknown(trial, status, syncs))
        may_have_written(trial, key, version);
    return (status == expected || note_status(trial, CALL_WRITE, "cask_put_if", status)) &&
           check_key(trial, key);
}

static bool step_delete(struct trial *trial)
{
    unsigned key = below(trial, KEYS);
    uint64_t syncs = sync_calls();
    int status = cask_delete(trial->db, history_key(key));

    if (status == CASK_NOTFOUND)
        return trial->keys[key].sure == 0 || trial->keys[key].maybe_count > 0
                   ? true
                   : wrong(trial, "cask_delete of a key that is there", status);
    if (status == CASK_OK)
        wrote(trial, key, 0);
    else if (is_unknown(trial, status, syncs))
        may_have_written(trial, key, 0);
    return note_status(trial, CALL_WRITE, "cask_delete", status) && check_key(trial, key);
}

struct planned {
    unsigned key;
    unsigned version;
};

static bool write_batch(struct trial *trial, struct cask_batch *batch, struct planned *planned)
{
    unsigned count = 2 + below(trial, 4);
    unsigned added = 0;
    uint64_t syncs;
    int status;

    for (unsigned i = 0; i < count; i++) {
        unsigned key = below(trial, KEYS);
        bool deletes = below(trial, 5) == 0;
        struct cask_slice value;
        unsigned version = deletes ? 0 : new_value(trial, key, &value);

        status = deletes ? cask_batch_delete(batch, history_key(key))
                         : cask_batch_put(batch, history_key(key), value);
        if (!note_status(trial, CALL_BATCH, "cask_batch_put", status))
            return false;
        if (status == CASK_OK) /* else the batch is as it was, and goes on */
            planned[added++] = (struct planned){key, version};
    }
    syncs = sync_calls();
    status = cask_write(trial->db, batch);
    for (unsigned i = 0; i < added; i++) {
        if (status == CASK_OK)
            wrote(trial, planned[i].key, planned[i].version);
        else if (is_unknown(trial, status, syncs))
            may_have_written(trial, planned[i].key, planned[i].version);
    }
    if (!note_status(trial, CALL_WRITE, "cask_write", status))
        return false;
    for (unsigned i = 0; i < added; i++)
        if (!check_key(trial, planned[i].key))
            return false;
    return true;
}

static bool step_batch(struct trial *trial)
{
    struct planned planned[8];
    struct cask_batch *batch;
    int status = cask_batch_create(trial->db, &batch);
    bool good;

    if (status != CASK_OK)
        return note_status(trial, CALL_BATCH, "cask_batch_create", status);
    good = write_batch(trial, batch, planned);
    cask_batch_destroy(batch);
    return good;
}

static bool step_iterate(struct trial *trial)
{
    struct cask_iter *iter;
    struct cask_entry entry;
    unsigned errors = 0;
    int status = cask_iter_create(trial->db, &iter);

    if (status != CASK_OK)
        return note_status(trial, CALL_BATCH, "cask_iter_create", status);
    do {
        status = cask_iter_next(iter, &entry);
        errors += status < 0;
    } while (status != CASK_NOTFOUND && is_documented(CALL_READ, status) && errors < 1000);
    cask_iter_destroy(iter);
    trial->failures += errors;
    if (trial->workload->spill_percent > 0 && errors == 1000 && status == CASK_ENOMEM)
        return true; /* what is staged finds no room */
    return status == CASK_NOTFOUND ? true : wrong(trial, "cask_iter_next", status);
}

static bool step_many(struct trial *trial)
{
    static uint8_t bytes[KEYS * VALUE_ROOM];
    struct cask_slice keys[KEYS];
    struct cask_slice values[KEYS];
    int statuses[KEYS];
    int status;

    for (unsigned i = 0; i < KEYS; i++)
        keys[i] = history_key(i);
    status = cask_get_many(trial->db, KEYS, keys, bytes, sizeof bytes, values, statuses);
    return note_status(trial, CALL_READ, "cask_get_many", status);
}

static bool step_view(struct trial *trial)
{
    struct cask_view view;
    int status = cask_view(trial->db, history_key(below(trial, KEYS)), &view);

    if (status == CASK_OK)
        cask_view_release(&view);
    return status == CASK_NOTFOUND ? true : note_status(trial, CALL_READ, "cask_view", status);
}

/* Rule 5. A merge that met its fault before it chose its inputs is none that failed. */
static bool step_merge(struct trial *trial)
{
    struct cask_stats before = {.size = sizeof before};
    struct cask_stats after = {.size = sizeof after};
    int status = cask_stats(trial->db, &before);

    if (status != CASK_OK)
        return wrong(trial, "cask_stats", status);
    status = cask_merge(trial->db, NULL, NULL);
    if (!note_status(trial, CALL_MERGE, "cask_merge", status))
        return false;
    if (cask_stats(trial->db, &after) != CASK_OK)
        return wrong(trial, "cask_stats", CASK_EINVAL);
    if (status == CASK_OK || after.merges_failed == before.merges_failed ||
        after.merge_last_error != CASK_OK)
        return true;
    return wrong(trial, "no error in the statistics, but cask_merge", status);
}

/* Whatever becomes of it, the index is right. */
static bool step_spill(struct trial *trial, bool into_one)
{
    int status = into_one ? cask_flush_index(trial->db) : spill_all(trial->db);

    if (!note_status(trial, CALL_SPILL, "moving the index to disk", status))
        return false;
    for (unsigned key = 0; key < KEYS; key++)
        if (!check_key(trial, key))
            return false;
    return true;
}

bool trial_open(struct trial *trial)
{
    struct cask_options options;
    int status;

    workload_options(trial->workload, &options);
    options.read_mode = trial->read_mode;
    status = cask_open(WORKLOAD_PATH, &options, &trial->db);
    if (status != CASK_OK)
        trial->db = NULL;
    return note_status(trial, CALL_OPEN, "cask_open", status);
}

bool trial_close(struct trial *trial)
{
    int status = trial->db ? cask_close(trial->db) : CASK_OK;

    trial->db = NULL;
    if (!note_status(trial, CALL_CLOSE, "cask_close", status))
        return false;
    if (simdisk_open_handles() == 0 && simdisk_open_maps() == 0)
        return true;
    snprintf(trial->why, sizeof trial->why, "%u handles and %u mappings are left open",
             simdisk_open_handles(), simdisk_open_maps());
    return false;
}

/* A step of a store that could not be opened is to try again. */
static bool step(struct trial *trial, unsigned number)
{
    workload_clear_errors();
    if (!trial->db)
        return trial_open(trial);
    if (trial->workload->merge_percent > 0 && number % 6 == 5)
        return step_merge(trial);
    if (trial->workload->spill_percent > 0 && number % 3 == 1)
        return step_spill(trial, number % 9 == 7);
    switch (number % 17) {
    case 3:
    case 12:
        return step_put_if(trial, false);
    case 16:
        return step_put_if(trial, true);
    case 4:
        return step_delete(trial);
    case 5:
    case 14:
        return step_batch(trial);
    case 7:
        return note_status(trial, CALL_SYNC, "cask_sync", cask_sync(trial->db));
    case 9:
        return step_iterate(trial) && step_many(trial);
    case 11:
        return trial_close(trial) && trial_open(trial);
    case 13:
        return note_status(trial, CALL_VERIFY, "cask_verify", cask_verify(trial->db, NULL, NULL)) &&
               step_view(trial);
    default:
        return trial_put(trial, below(trial, KEYS));
    }
}

bool trial_run(struct trial *trial)
{
    bool good = trial_open(trial);
    char why[sizeof trial->why];

    for (unsigned i = 0; good && i < STEPS; i++)
        good = step(trial, i);
    if (good)
        return trial_close(trial);
    memcpy(why, trial->why, sizeof why);
    (void)trial_close(trial); /* what went wrong first is told */
    memcpy(trial->why, why, sizeof why);
    return false;
}

/* Verifies, and writes a little. */
static bool settle_opened(struct trial *trial)
{
    if (!trial_look(trial, trial->db))
        return false;
    if (!trial->may_complain &&
        !note_status(trial, CALL_VERIFY, "cask_verify", cask_verify(trial->db, NULL, NULL)))
        return false;
    return trial_put(trial, KEYS) && trial_put(trial, 0) && step_delete(trial) &&
           (trial->workload->spill_percent == 0 || step_spill(trial, true)) &&
           (trial->may_complain || (step_merge(trial) && trial_look(trial, trial->db)));
}

static bool no_strays(struct trial *trial)
{
    char path[200];

    if (!strays_find_now(path, sizeof path))
        return true;
    snprintf(trial->why, sizeof trial->why, "%s is left behind", path);
    return false;
}

bool trial_settle(struct trial *trial, bool leave_open)
{
    size_t failures = trial->failures;
    char errors[400];

    simdisk_check();
    workload_clear_errors();
    if (!trial_open(trial) || !trial->db || !settle_opened(trial))
        return false;
    if (!leave_open && (!trial_close(trial) || !trial_open(trial) || !trial->db ||
                        !trial_look(trial, trial->db) || !trial_close(trial) || !no_strays(trial)))
        return false;
    if ((workload_errors(errors, sizeof errors) > 0 && !trial->may_complain) ||
        trial->failures > failures) {
        snprintf(trial->why, sizeof trial->why, "with nothing failing any more: %zu errors; %.300s",
                 trial->failures - failures, errors);
        return false;
    }
    return true;
}
