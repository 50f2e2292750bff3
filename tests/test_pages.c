/* base/pages: reserved memory that is committed bit by bit, and the mark that tells a forked
 * child. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#include "base/pages.h"

#define GIB ((size_t)1 << 30)

static void test_a_reservation_starts_at_a_huge_page(void **state)
{
    static const size_t sizes[] = {4096, 8192, 2u << 20, (2u << 20) + 4096, 64 * GIB};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        void *address;

        assert_ok(pages_reserve(sizes[i], &address));
        assert_int_equal((uintptr_t)address % (2u << 20), 0);
        pages_release(address, sizes[i]);
    }
}

static void test_committed_pages_are_zero_and_writable(void **state)
{
    uint8_t *bytes;
    void *address;

    (void)state;
    assert_ok(pages_reserve(16 * 4096, &address));
    bytes = address;
    assert_ok(pages_commit(address, 0, 4096));
    memset(bytes, 0xab, 4096);
    assert_ok(pages_commit(address, 4096, 8192));
    for (size_t i = 4096; i < 3 * 4096; i++)
        assert_int_equal(bytes[i], 0);
    memset(bytes + 4096, 0xcd, 8192);
    assert_int_equal(bytes[0], 0xab);
    assert_int_equal(bytes[4095], 0xab);
    pages_release(address, 16 * 4096);
}

/* How a child that reads one byte ends. */
static int fate_of_reading(const volatile uint8_t *byte)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        _exit(*byte == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_uncommitted_pages_cannot_be_read(void **state)
{
    void *address;
    int status;

    (void)state;
    assert_ok(pages_reserve(4 * 4096, &address));
    assert_ok(pages_commit(address, 0, 4096));
    assert_int_equal(fate_of_reading((uint8_t *)address + 4095), 0);
    status = fate_of_reading((uint8_t *)address + 4096);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    pages_release(address, 4 * 4096);
}

static void test_released_address_space_can_be_had_again(void **state)
{
    (void)state;
    for (int i = 0; i < 10000; i++) { /* 640 TiB in all: more than there is */
        void *address;

        assert_ok(pages_reserve(64 * GIB, &address));
        pages_release(address, 64 * GIB);
    }
}

static void test_more_than_the_address_space_is_refused(void **state)
{
    void *address = NULL;

    (void)state;
    assert_int_equal(pages_reserve((size_t)1 << 60, &address), CASK_ENOMEM);
    assert_null(address);
}

static void test_a_block_keeps_its_bytes_when_it_grows_and_shrinks(void **state)
{
    static const size_t sizes[] = {1, 100, 4096, 4097, 3 << 20, 5000, 64 << 20, 1};
    void *block = NULL;
    size_t size = 0;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t kept = size < sizes[i] ? size : sizes[i];
        uint8_t *bytes;

        assert_ok(pages_resize(&block, size, sizes[i]));
        bytes = block;
        for (size_t at = 0; at < kept; at += 997)
            assert_int_equal(bytes[at], (uint8_t)at);
        size = sizes[i];
        for (size_t at = 0; at < size; at++)
            bytes[at] = (uint8_t)at;
    }
    pages_free(block, size);
    pages_free(NULL, 0);
}

/* Also at the size from which on memory has pages of its own. */
static void test_borrowed_memory_can_be_written_to_its_end(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 65535, 65536, 65537, 3u << 20};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint8_t *block = pages_borrow(sizes[i]);

        assert_non_null(block);
        memset(block, 0xab, sizes[i]);
        pages_return(block, sizes[i]);
        pages_return(NULL, sizes[i]);
    }
    assert_null(pages_borrow(SIZE_MAX / 2));
}

/* What is in use stays as it is. */
static void test_a_trimmed_heap_keeps_what_is_in_use(void **state)
{
    uint8_t *blocks[64];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        blocks[i] = malloc(i * 4001 + 1);
        assert_non_null(blocks[i]);
        memset(blocks[i], (int)i, i * 4001 + 1);
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i += 2)
        free(blocks[i]);
    pages_trim_heap(0);
    pages_trim_heap(1);
    pages_trim_heap((size_t)64 << 20);
    for (size_t i = 1; i < COUNT_OF(blocks); i += 2) {
        for (size_t at = 0; at < i * 4001 + 1; at++)
            assert_int_equal(blocks[i][at], i);
        free(blocks[i]);
    }
}

static void test_a_block_of_nothing_is_none(void **state)
{
    void *block = NULL;

    (void)state;
    assert_ok(pages_resize(&block, 0, 0));
    assert_null(block);
    assert_ok(pages_resize(&block, 0, 5000));
    assert_non_null(block);
    assert_ok(pages_resize(&block, 5000, 0));
    pages_free(block, 0);
}

static void test_a_block_that_cannot_grow_stays(void **state)
{
    void *block = NULL;

    (void)state;
    assert_ok(pages_resize(&block, 0, 5000));
    memset(block, 7, 5000);
    assert_int_equal(pages_resize(&block, 5000, (size_t)1 << 60), CASK_ENOMEM);
    assert_int_equal(((uint8_t *)block)[4999], 7);
    pages_free(block, 5000);
}

static void test_the_fork_mark_reads_zero_in_children(void **state)
{
    const volatile uint8_t *mark;
    pid_t child;

    (void)state;
    assert_ok(pages_fork_mark(&mark));
    assert_int_equal(*mark, 1);
    child = fork();
    if (child == 0) {
        CHECK(*mark == 0, "the child reads %d", *mark);
        child = fork();
        if (child == 0)
            _exit(*mark == 0 ? 0 : 1);
        wait_for_success(child);
        _exit(0);
    }
    wait_for_success(child);
    assert_int_equal(*mark, 1);
    pages_fork_unmark(mark);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_reservation_starts_at_a_huge_page),
        cmocka_unit_test(test_committed_pages_are_zero_and_writable),
        cmocka_unit_test(test_uncommitted_pages_cannot_be_read),
        cmocka_unit_test(test_released_address_space_can_be_had_again),
        cmocka_unit_test(test_more_than_the_address_space_is_refused),
        cmocka_unit_test(test_a_block_keeps_its_bytes_when_it_grows_and_shrinks),
        cmocka_unit_test(test_borrowed_memory_can_be_written_to_its_end),
        cmocka_unit_test(test_a_trimmed_heap_keeps_what_is_in_use),
        cmocka_unit_test(test_a_block_of_nothing_is_none),
        cmocka_unit_test(test_a_block_that_cannot_grow_stays),
        cmocka_unit_test(test_the_fork_mark_reads_zero_in_children),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
