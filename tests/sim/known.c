#include "known.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simdisk.h"
#include "strays.h"

#define VALUE_ROOM 512u

static unsigned error_lines;
static char last_error[200];

const char *known_error(void)
{
    return last_error;
}

static void note_error(void *context, enum cask_log_level level, const char *message)
{
    (void)context;
    if (level != CASK_LOG_ERROR && !strstr(message, "a run is missing"))
        return; /* that is mended, but by the rules of syncing it does not happen */
    error_lines++;
    snprintf(last_error, sizeof last_error, "%s", message);
}

void known_open(struct known *store)
{
    error_lines = 0;
    last_error[0] = '\0';
    EXPECT(cask_open(PATH, &store->options, &store->db), CASK_OK);
    if (error_lines > 0)
        fail_msg("the open reports damage: %s", last_error);
}

void known_close(struct known *store)
{
    EXPECT(cask_close(store->db), CASK_OK);
    store->db = NULL;
    assert_int_equal(simdisk_open_handles(), 0);
    assert_int_equal(simdisk_open_maps(), 0);
}

void known_begin(struct known *store, const struct cask_options *options)
{
    memset(store, 0, sizeof *store);
    store->options = *options;
    store->options.size = sizeof store->options;
    store->options.index_memory = 4 << 20;
    store->options.log = note_error;
    history_init(&store->history);
    simdisk_reset(3);
    simdisk_set_clock_ms(NOW_MS);
    simdisk_record_begin();
    known_open(store);
}

void known_end(struct known *store)
{
    if (store->db)
        known_close(store);
    simdisk_check();
    simimage_release(store->before_merge);
    history_release(&store->history);
}

static struct cask_slice new_value(struct known *store, unsigned key, unsigned *ret_version)
{
    static uint8_t bytes[VALUE_ROOM];
    size_t size = 20 + key * 3 % 50;

    *ret_version = history_version(&store->history, key, size, bytes);
    return (struct cask_slice){bytes, store->history.value_sizes[*ret_version]};
}

int known_try_put(struct known *store, unsigned key)
{
    unsigned version;
    struct cask_slice value = new_value(store, key, &version);
    int status = cask_put(store->db, history_key(key), value);

    if (status == CASK_OK)
        store->version[key] = version;
    return status;
}

void known_put_until(struct known *store, unsigned key, uint64_t expires_at_ms)
{
    unsigned version;
    struct cask_slice value = new_value(store, key, &version);

    EXPECT(cask_put_expiring(store->db, history_key(key), value, expires_at_ms), CASK_OK);
    store->version[key] = version;
}

void known_delete(struct known *store, unsigned key)
{
    EXPECT(cask_delete(store->db, history_key(key)), CASK_OK);
    store->version[key] = 0;
}

void known_check(struct known *store, const char *when)
{
    struct history_view view;
    char why[200];

    if (!history_look(&store->history, store->db, &view, why, sizeof why))
        fail_msg("%s: %s", when, why);
    for (unsigned key = 0; key < KEYS; key++)
        if (view.version[key] != store->version[key])
            fail_msg("%s: key %u has version %u, not %u", when, key, view.version[key],
                     store->version[key]);
}

void check_no_strays(const char *when)
{
    char path[200];

    if (strays_find_now(path, sizeof path))
        fail_msg("%s: %s is left behind", when, path);
}

struct cask_stats known_stats(struct known *store)
{
    struct cask_stats stats = {.size = sizeof stats};

    EXPECT(cask_stats(store->db, &stats), CASK_OK);
    return stats;
}

void known_build(struct known *store)
{
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned key = 0; key < KEYS; key++) {
            if (round == ROUNDS - 1 && key % 5 == 4)
                known_delete(store, key);
            else if (round == ROUNDS - 2 && key % 5 == 3)
                known_put_until(store, key, NOW_MS + 3600000);
            else if (round != ROUNDS - 1 || key % 5 != 3)
                EXPECT(known_try_put(store, key), CASK_OK);
        }
    known_put_until(store, 3, NOW_MS - 1); /* it hides what is there */
    store->version[3] = 0;
}
