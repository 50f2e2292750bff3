/* A real disk that fills up (tmpfs; needs root, skipped with a message otherwise): the store that
 * filled it recovers by deleting keys and merging, without being reopened. The same on the
 * simulated disk, in all modes and without root: sim/test_space.c. */
#include "support_spill.h"
#include "unit_merge.h"

#define KEYS 200000u
#define VALUE_BYTES 500u
#define SMALL_BYTES 20u /* of values beside which the index is a large part of the disk */
#define SPILL_EACH 200u

static const struct mode {
    enum cask_write_mode write_mode;
    enum cask_read_mode read_mode;
    enum cask_switch merge;
    bool spills; /* the index goes to disk as the store grows */
} modes[] = {
    {CASK_WRITE_MAPPED, CASK_READ_MAPPED, CASK_SWITCH_OFF, false},
    {CASK_WRITE_SYSCALL, CASK_READ_PREAD, CASK_SWITCH_OFF, false},
    {CASK_WRITE_MAPPED, CASK_READ_MAPPED, CASK_SWITCH_ON, false},
    {CASK_WRITE_MAPPED, CASK_READ_MAPPED, CASK_SWITCH_OFF, true},
    {CASK_WRITE_SYSCALL, CASK_READ_PREAD, CASK_SWITCH_ON, true},
};

static size_t value_bytes;

static struct cask_slice key_text(uint32_t key, char text[24])
{
    snprintf(text, 24, "key-%06u", (unsigned)key);
    return slice_of(text);
}

static struct cask_slice value_of(uint32_t key, uint32_t version, uint8_t buffer[VALUE_BYTES])
{
    model_value_bytes(key, version, buffer, value_bytes);
    return slice_bytes(buffer, value_bytes);
}

static uint32_t versions[KEYS]; /* 0: absent */
static uint32_t last_version;

static int put_key(struct cask_db *db, uint32_t key)
{
    uint8_t value[VALUE_BYTES];
    char text[24];
    uint32_t version = ++last_version;
    int status = cask_put(db, key_text(key, text), value_of(key, version, value));

    if (status == CASK_OK)
        versions[key] = version;
    return status;
}

static void check_keys(struct cask_db *db, uint32_t end)
{
    for (uint32_t key = 0; key < end; key++) {
        uint8_t value[VALUE_BYTES];
        char text[24];
        size_t size = 0;
        int status = cask_get(db, key_text(key, text), value, sizeof value, &size);

        CHECK(status == (versions[key] != 0 ? CASK_OK : CASK_NOTFOUND), "key %u: %s", (unsigned)key,
              cask_strerror(status));
        if (versions[key] != 0)
            model_check_value(key, versions[key], slice_bytes(value, size));
    }
}

static void spill(struct cask_db *db)
{
    int status = spill_all(db);

    CHECK(status == CASK_OK || status == CASK_ENOSPC, "%s", cask_strerror(status));
}

/* Puts new keys until there is no more room in any shard. Returns the first that was never put. */
static uint32_t fill(struct cask_db *db, uint32_t first, bool spills)
{
    unsigned refused = 0;

    for (; first < KEYS && refused < 64; first++) {
        int status = put_key(db, first);

        CHECK(status == CASK_OK || status == CASK_ENOSPC, "%s", cask_strerror(status));
        refused = status == CASK_OK ? 0 : refused + 1;
        if (spills && first % SPILL_EACH == 0)
            spill(db);
    }
    CHECK(refused == 64, "the disk does not fill up");
    return first;
}

/* Deletes three keys in four, or as many as the disk takes tombstones for. Returns how many of
 * these are left. */
static uint32_t delete_some(struct cask_db *db, uint32_t end)
{
    uint32_t left = 0;

    for (uint32_t key = 0; key < end; key++) {
        char text[24];
        int status;

        if (versions[key] == 0 || key % 4 == 3)
            continue;
        status = left == 0 ? cask_delete(db, key_text(key, text)) : CASK_ENOSPC;
        CHECK(status == CASK_OK || status == CASK_ENOSPC, "%s", cask_strerror(status));
        if (status == CASK_OK)
            versions[key] = 0;
        else
            left++;
    }
    return left;
}

static void empty(struct cask_db *db, uint32_t end)
{
    uint32_t left = 1;

    for (unsigned round = 0; round < 200 && left > 0; round++) {
        int status;

        left = delete_some(db, end);
        status = cask_merge(db, NULL, NULL);
        printf("left %u, merge %s\n", left, cask_strerror(status));
        CHECK(status == CASK_OK || status == CASK_ENOSPC, "%s", cask_strerror(status));
    }
    CHECK(left == 0, "%u of %u keys cannot be deleted", (unsigned)left, (unsigned)end);
}

/* All is as it should be, now and after another open. */
static void finish(const char *at, struct store *store, uint32_t end)
{
    CHECK_OK(cask_verify(store->db, NULL, NULL));
    CHECK_OK(cask_close(store->db));
    CHECK_OK(cask_open(path_in(at, "store"), &store->options, &store->db));
    check_keys(store->db, end);
    CHECK_OK(cask_verify(store->db, NULL, NULL));
    CHECK_OK(cask_close(store->db));
    check_no_strays(path_in(at, "store"));
    tree_remove(path_in(at, "store"));
    pthread_mutex_destroy(&store->lines.lock);
    free(store);
}

static void recover_a_full_disk(const char *at, const struct mode *mode)
{
    struct store *store = store_make(2);
    uint32_t end = 0;

    scratch_remove(store->path); /* it is on another disk */
    store->path = NULL;
    store->options.write_mode = mode->write_mode;
    store->options.read_mode = mode->read_mode;
    store->options.merge = mode->merge;
    store->options.segment_bytes = 256 << 10;
    value_bytes = VALUE_BYTES;
    memset(versions, 0, sizeof versions);
    CHECK_OK(cask_open(path_in(at, "store"), &store->options, &store->db));
    for (unsigned round = 0; round < 3; round++) {
        uint32_t before = end;

        end = fill(store->db, end, mode->spills);
        CHECK(end - before > 500, "only %u keys fitted in round %u", (unsigned)(end - before),
              round);
        empty(store->db, end);
        check_keys(store->db, end);
    }
    finish(at, store, end);
}

/* The index's memory is used up when the disk is full: a tombstone has no entry then, a run that
 * would make room for one no blocks, and what a merge copies costs the index more than a few
 * deleted records were. */
static void test_a_disk_full_of_small_records_is_recovered_too(void **state)
{
    char *at = scratch_make(SCRATCH_DISK);
    struct store *store = store_make(1);
    uint32_t end;

    (void)state;
    scratch_remove(store->path);
    store->path = NULL;
    if (!private_mounts() || !mount_memory(at, "size=12m")) {
        free(store);
        scratch_remove(at);
        skip();
    }
    store->options.segment_bytes = 1 << 20;
    store->options.index_memory = 1 << 20;
    value_bytes = SMALL_BYTES;
    memset(versions, 0, sizeof versions);
    CHECK_OK(cask_open(path_in(at, "store"), &store->options, &store->db));
    end = fill(store->db, 0, false);
    CHECK(stats_of(store).index_spilled_keys > 0, "all of the index is in memory");
    check_keys(store->db, end);
    empty(store->db, end);
    check_keys(store->db, end);
    finish(at, store, end);
    unmount(at);
    scratch_remove(at);
}

static void test_a_full_disk_is_recovered_by_deleting_and_merging(void **state)
{
    char *at = scratch_make(SCRATCH_DISK);

    (void)state;
    if (!private_mounts() || !mount_memory(at, "size=4m")) {
        scratch_remove(at);
        skip();
    }
    for (size_t i = 0; i < COUNT_OF(modes); i++)
        recover_a_full_disk(at, &modes[i]);
    unmount(at);
    scratch_remove(at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_disk_is_recovered_by_deleting_and_merging),
        cmocka_unit_test(test_a_disk_full_of_small_records_is_recovered_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
