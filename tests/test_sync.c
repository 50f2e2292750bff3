/* shard/sync: what is durable, who waits for whom, and that a failed sync is final. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unit_shard.h"

#include "base/thread.h"

/* In place of the C library's: what happens while a sync is under way. */
static void (*during_sync)(struct rig *rig);
static struct rig *during_sync_rig;

static void act_during_sync(void)
{
    void (*act)(struct rig *) = during_sync;

    during_sync = NULL;
    if (act)
        act(during_sync_rig);
}

/* Of the segment whose syncs are to fail. */
static const uint8_t *broken_map;
static size_t broken_map_bytes;

/* Of the last of them. */
static const uint8_t *synced_from;
static const uint8_t *synced_end;

int msync(void *address, size_t size, int flags)
{
    act_during_sync();
    synced_from = address;
    synced_end = synced_from + size;
    if (broken_map && (const uint8_t *)address >= broken_map &&
        (const uint8_t *)address < broken_map + broken_map_bytes) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_msync, address, size, flags);
}

int fdatasync(int file)
{
    act_during_sync();
    return (int)syscall(SYS_fdatasync, file);
}

static void test_a_position_is_durable_after_the_call(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);
        struct shard *shard = &rig->shards[0];

        assert_ok(rig_put(rig, "key", "value"));
        assert_int_equal(atomic_load(&shard->synced), 0);
        assert_ok(shard_make_durable(shard, rig->position));
        assert_true(atomic_load(&shard->synced) >= rig->position);
        assert_int_equal(shard->counts.syncs, 1);
        assert_ok(shard_make_durable(shard, rig->position)); /* it is: nothing to do */
        assert_int_equal(shard->counts.syncs, 1);
        rig_stop(rig);
    }
}

/* What was made durable before is left out, in whole pages; nothing behind the last record is
 * taken along but the rest of its page. */
static void test_syncs_of_the_active_segment_join_up(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    struct shard *shard = &rig->shards[0];
    uint64_t durable = 0;
    char value[1001];

    (void)state;
    memset(value, 'x', 1000);
    value[1000] = '\0';
    for (unsigned round = 0; round < 12; round++) {
        const struct segment *active;

        for (unsigned i = 0; i < 20 + round; i++)
            assert_ok(rig_put(rig, "key", value));
        active = shard->active;
        assert_int_equal(active->id, 1);
        assert_ok(shard_make_durable(shard, rig->position));
        assert_true(synced_from <= active->map + durable);
        assert_true(synced_from + IO_PAGE_BYTES_MAX > active->map + durable);
        assert_ptr_equal(synced_end, active->map + segment_tail(active));
        durable = segment_tail(active);
    }
    assert_true(durable > 4 * IO_PAGE_BYTES_MAX);
    rig_stop(rig);
}

static void test_nothing_written_needs_no_sync(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);

    (void)state;
    assert_ok(shard_make_durable(&rig->shards[0], 0));
    assert_int_equal(rig->shards[0].counts.syncs, 0);
    rig_stop(rig);
}

static void put_another(struct rig *rig)
{
    assert_ok(rig_put(rig, "another", "value"));
}

/* Whether the sync covers what was appended after it began nobody knows. */
static void test_a_sync_does_not_answer_for_what_came_after_it_began(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);
        struct shard *shard = &rig->shards[0];
        uint64_t before;

        assert_ok(rig_put(rig, "key", "value"));
        before = rig->position;
        during_sync_rig = rig;
        during_sync = put_another;
        assert_ok(shard_make_durable(shard, before));
        assert_null(during_sync);
        assert_true(rig->position > before);
        assert_int_equal(atomic_load(&shard->synced), before);
        assert_ok(shard_make_durable(shard, rig->position));
        assert_int_equal(shard->counts.syncs, 2);
        rig_stop(rig);
    }
}

/* The segment before the active one is synced first: what is durable is a prefix of the log. */
static void test_rotated_segments_are_synced_too(void **state)
{
    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_make(1, unit_modes[m]);
        struct shard *shard;
        struct segment *segment;

        rig->config.segment_bytes = 512;
        rig_open(rig);
        shard = &rig->shards[0];
        while (shard->segments.count < 5)
            assert_ok(rig_put(rig, "key", "value"));
        assert_ok(shard_make_durable(shard, rig->position));
        assert_int_equal(shard->counts.syncs, 5);
        for (segment = shard->sealing_first; segment; segment = segment->next_sealing)
            assert_true(segment->synced);
        assert_ok(rig_put(rig, "key", "value"));
        assert_ok(shard_make_durable(shard, rig->position));
        assert_int_equal(shard->counts.syncs, 6);
        rig_stop(rig);
    }
}

/* ---- sharing syncs --------------------------------------------------------------------------- */

#define WRITERS 8

struct writer {
    struct rig *rig;
    unsigned number;
    int status;
    _Atomic bool written;
};

static void *write_durably(void *argument)
{
    struct writer *writer = argument;
    char key[16];
    struct shard_op op;
    uint64_t position;

    snprintf(key, sizeof key, "key%u", writer->number);
    op = op_of(writer->rig, key, "value");
    writer->status = shard_put(&writer->rig->shards[0], &op, &position);
    atomic_store(&writer->written, true);
    if (writer->status == CASK_OK)
        writer->status = shard_make_durable(&writer->rig->shards[0], position);
    return NULL;
}

/* Starts writers while syncs are held off, so that all of them wait; then lets syncs go. */
static void write_together(struct rig *rig, struct writer *writers)
{
    pthread_t threads[WRITERS];

    shard_hold_syncs(&rig->shards[0]);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].rig = rig;
        writers[i].number = i;
        atomic_init(&writers[i].written, false);
        assert_ok(thread_start(&threads[i], write_durably, &writers[i]));
    }
    for (unsigned i = 0; i < WRITERS; i++)
        while (!atomic_load(&writers[i].written))
            pause_us(100);
    shard_allow_syncs(&rig->shards[0]);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
}

static void test_writers_that_wait_share_one_sync(void **state)
{
    struct writer writers[WRITERS];

    (void)state;
    for (size_t m = 0; m < UNIT_MODES; m++) {
        struct rig *rig = rig_start(1, unit_modes[m]);

        assert_ok(rig_put(rig, "first", "value"));
        write_together(rig, writers);
        for (unsigned i = 0; i < WRITERS; i++)
            assert_ok(writers[i].status);
        assert_int_equal(rig->shards[0].counts.syncs, 1);
        assert_int_equal(atomic_load(&rig->shards[0].synced), rig->shards[0].position);
        rig_stop(rig);
    }
}

/* ---- batches across shards ------------------------------------------------------------------- */

static void depend(struct rig *rig, uint32_t shard, uint32_t other)
{
    pthread_mutex_lock(&rig->shards[shard].lock);
    assert_ok(shard_depend(&rig->shards[shard], &rig->shards[other]));
    pthread_mutex_unlock(&rig->shards[shard].lock);
}

/* A put to each of the rig's shards. */
static void put_everywhere(struct rig *rig)
{
    for (unsigned i = 0; i < 64; i++) {
        char key[16];

        snprintf(key, sizeof key, "key%u", i);
        assert_ok(rig_put(rig, key, "value"));
    }
    for (uint32_t i = 0; i < rig->env.shard_count; i++)
        assert_true(rig->shards[i].position > 0);
}

static bool is_durable(struct rig *rig, uint32_t shard)
{
    return atomic_load(&rig->shards[shard].synced) >= rig->shards[shard].position;
}

static void test_shards_sync_alone_unless_a_batch_ties_them(void **state)
{
    struct rig *rig = rig_start(4, unit_modes[0]);

    (void)state;
    put_everywhere(rig);
    assert_ok(shard_make_durable(&rig->shards[0], rig->shards[0].position));
    assert_true(is_durable(rig, 0));
    assert_false(is_durable(rig, 1) || is_durable(rig, 2) || is_durable(rig, 3));
    rig_stop(rig);
}

static void test_dependencies_are_made_durable_too_through_others(void **state)
{
    struct rig *rig = rig_start(4, unit_modes[0]);

    (void)state;
    put_everywhere(rig);
    depend(rig, 0, 2);
    depend(rig, 2, 1);
    depend(rig, 1, 0); /* a circle, as batches make them */
    assert_ok(shard_make_durable(&rig->shards[0], rig->shards[0].position));
    assert_true(is_durable(rig, 0) && is_durable(rig, 1) && is_durable(rig, 2));
    assert_false(is_durable(rig, 3));
    rig_stop(rig);
}

/* ---- failure --------------------------------------------------------------------------------- */

/* The open descriptors of a file. */
static unsigned descriptors_of(const char *path, int *ret_descriptors, unsigned room)
{
    char target[512];
    char link[300];
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    unsigned count = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        ssize_t size;

        snprintf(link, sizeof link, "/proc/self/fd/%s", entry->d_name);
        size = readlink(link, target, sizeof target - 1);
        if (size < 0)
            continue;
        target[size] = '\0';
        if (strcmp(target, path) == 0 && count < room)
            ret_descriptors[count++] = atoi(entry->d_name);
    }
    closedir(dir);
    return count;
}

/* A file whose syncs fail: its descriptors are pipes for a while. */
struct broken {
    int descriptors[8];
    int kept[8];
    unsigned count;
    int pipe[2];
};

/* Of a shard's first segment, through its descriptors and through its mapping. */
static void break_syncs(struct broken *broken, struct rig *rig, uint32_t shard)
{
    const struct segment *active = rig->shards[shard].active;

    broken_map = active->map_writable ? active->map : NULL;
    broken_map_bytes = active->map_bytes;
    broken->count = descriptors_of(rig_path(rig, shard, "1.data"), broken->descriptors, 8);
    assert_true(broken->count > 0);
    assert_int_equal(pipe(broken->pipe), 0);
    for (unsigned i = 0; i < broken->count; i++) {
        broken->kept[i] = dup(broken->descriptors[i]);
        assert_true(dup2(broken->pipe[1], broken->descriptors[i]) >= 0);
    }
}

static void mend_syncs(struct broken *broken)
{
    broken_map = NULL;
    for (unsigned i = 0; i < broken->count; i++) {
        assert_true(dup2(broken->kept[i], broken->descriptors[i]) >= 0);
        close(broken->kept[i]);
    }
    close(broken->pipe[0]);
    close(broken->pipe[1]);
}

static void test_a_failed_sync_is_final(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    struct shard *shard = &rig->shards[0];
    struct broken broken;

    (void)state;
    assert_ok(rig_put(rig, "durable", "value"));
    assert_ok(shard_make_durable(shard, rig->position));
    assert_ok(rig_put(rig, "key", "value"));
    break_syncs(&broken, rig, 0);
    assert_int_equal(shard_make_durable(shard, rig->position), CASK_EIO);
    mend_syncs(&broken);
    /* The disk works again, but what it lost meanwhile nobody knows. */
    assert_int_equal(shard_make_durable(shard, rig->position), CASK_EIO);
    assert_int_equal(shard->counts.syncs, 2);
    assert_int_equal(rig_put(rig, "more", "value"), CASK_EIO);
    assert_int_equal(rig_delete(rig, "key"), CASK_EIO);
    assert_value(rig, "durable", "value");
    assert_value(rig, "more", NULL);
    assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_ERROR), 1);
    assert_true(log_lines_mention(&rig->lines, "shard-000"));
    assert_int_equal(shard_close(shard), CASK_EIO);
    rig_abandon(rig);
    rig_open(rig);
    assert_ok(rig_put(rig, "more", "value"));
    assert_value(rig, "durable", "value");
    rig_stop(rig);
}

static void test_every_waiter_is_told_of_a_failed_sync(void **state)
{
    struct rig *rig = rig_start(1, unit_modes[0]);
    struct writer writers[WRITERS];
    struct broken broken;

    (void)state;
    assert_ok(rig_put(rig, "first", "value"));
    break_syncs(&broken, rig, 0);
    write_together(rig, writers);
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(writers[i].status, CASK_EIO);
    assert_int_equal(rig->shards[0].counts.syncs, 1);
    assert_int_equal(log_lines_count(&rig->lines, CASK_LOG_ERROR), 1);
    mend_syncs(&broken);
    rig_abandon(rig);
    rig_stop(rig);
}

static void test_a_write_that_depends_on_a_failed_shard_is_not_durable(void **state)
{
    struct rig *rig = rig_start(2, unit_modes[0]);
    struct broken broken;

    (void)state;
    put_everywhere(rig);
    depend(rig, 0, 1);
    break_syncs(&broken, rig, 1);
    assert_int_equal(shard_make_durable(&rig->shards[0], rig->shards[0].position), CASK_EIO);
    assert_int_equal(atomic_load(&rig->shards[1].failed), CASK_EIO);
    mend_syncs(&broken);
    rig_abandon(rig);
    rig_stop(rig);
}

/* Sealing syncs first; where that fails the segment is never called sealed. */
static void test_nothing_is_sealed_after_a_failed_sync(void **state)
{
    struct rig *rig = rig_make(1, unit_modes[0]);
    struct manifest manifest;
    struct broken broken;

    (void)state;
    rig->config.segment_bytes = 512;
    rig_open(rig);
    while (rig->shards[0].segments.count < 3)
        assert_ok(rig_put(rig, "key", "value"));
    break_syncs(&broken, rig, 0);
    shard_do_work(&rig->shards[0], SHARD_WORK_SEAL);
    mend_syncs(&broken);
    shard_do_work(&rig->shards[0], SHARD_WORK_SEAL);
    assert_int_equal(shard_close(&rig->shards[0]), CASK_EIO);
    assert_false(path_exists(rig_path(rig, 0, "1.hint")));
    assert_ok(manifest_read(rig->shards[0].dir, &rig->shards[0].config, &manifest));
    for (uint64_t i = 0; i < manifest.count; i++)
        assert_int_equal(manifest.segments[i].flags, 0);
    manifest_release(&manifest);
    rig_abandon(rig);
    rig_stop(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_position_is_durable_after_the_call),
        cmocka_unit_test(test_syncs_of_the_active_segment_join_up),
        cmocka_unit_test(test_nothing_written_needs_no_sync),
        cmocka_unit_test(test_a_sync_does_not_answer_for_what_came_after_it_began),
        cmocka_unit_test(test_rotated_segments_are_synced_too),
        cmocka_unit_test(test_writers_that_wait_share_one_sync),
        cmocka_unit_test(test_shards_sync_alone_unless_a_batch_ties_them),
        cmocka_unit_test(test_dependencies_are_made_durable_too_through_others),
        cmocka_unit_test(test_a_failed_sync_is_final),
        cmocka_unit_test(test_every_waiter_is_told_of_a_failed_sync),
        cmocka_unit_test(test_a_write_that_depends_on_a_failed_shard_is_not_durable),
        cmocka_unit_test(test_nothing_is_sealed_after_a_failed_sync),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
