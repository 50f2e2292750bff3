/* index/run_format: blocks, fence and footer, without a file. */
#include "unit.h"

#include "base/checksum.h"
#include "index/run_format.h"

#define PLACE 12345u

static struct run_config config_of(uint32_t shard)
{
    struct run_config config = {.shard = shard};

    memcpy(config.uuid, "0123456789abcdef", sizeof config.uuid);
    return config;
}

static void fill_block(uint8_t bytes[RUN_BLOCK_BYTES], unsigned count, uint32_t step)
{
    memset(bytes, 0, RUN_BLOCK_BYTES);
    for (unsigned i = 0; i < count; i++)
        run_block_put(bytes, i, i * step, (uint64_t)i << 39 | i);
    run_block_seal(bytes, count, PLACE);
}

static void test_a_block_comes_back_as_it_was_put(void **state)
{
    static const unsigned counts[] = {1, 2, 3, 20, 21, 22, 46, 47, 395, 396};
    uint8_t bytes[RUN_BLOCK_BYTES];
    struct run_block block;

    (void)state;
    for (size_t n = 0; n < COUNT_OF(counts); n++) {
        fill_block(bytes, counts[n], 1000);
        assert_ok(run_block_decode(bytes, sizeof bytes, PLACE, &block));
        assert_int_equal(block.count, counts[n]);
        for (unsigned i = 0; i < counts[n]; i++) {
            assert_int_equal(run_block_tag(&block, i), i * 1000);
            assert_int_equal(run_block_location(&block, i), (uint64_t)i << 39 | i);
        }
    }
}

static void test_no_bit_of_a_block_may_change(void **state)
{
    uint8_t bytes[RUN_BLOCK_BYTES];
    struct run_block block;

    (void)state;
    fill_block(bytes, 300, 1000);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(run_block_decode(bytes, sizeof bytes, PLACE, &block), CASK_ECORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_ok(run_block_decode(bytes, sizeof bytes, PLACE, &block));
}

static void test_a_block_elsewhere_or_of_another_size_is_refused(void **state)
{
    uint8_t bytes[RUN_BLOCK_BYTES] = {0};
    struct run_block block;

    (void)state;
    assert_int_equal(run_block_decode(bytes, sizeof bytes, PLACE, &block), CASK_ECORRUPT);
    assert_int_equal(run_block_decode(bytes, sizeof bytes, 0, &block), CASK_ECORRUPT);
    fill_block(bytes, 300, 1000);
    assert_int_equal(run_block_decode(bytes, sizeof bytes, PLACE + 1, &block), CASK_ECORRUPT);
    assert_int_equal(run_block_decode(bytes, sizeof bytes - 1, PLACE, &block), CASK_ECORRUPT);
    assert_int_equal(run_block_decode(bytes, 0, PLACE, &block), CASK_ECORRUPT);
}

static void set_count(uint8_t bytes[RUN_BLOCK_BYTES], unsigned cell, unsigned count)
{
    size_t from = cell == 0 ? 0 : run_cell_at(cell, 0);
    size_t end = run_cell_at(cell, RUN_CELL_AT_CHECKSUM);

    bytes[run_cell_at(cell, RUN_CELL_AT_COUNT)] = (uint8_t)count;
    put_u32(bytes + end, checksum_small_placed(bytes + from, end - from, PLACE * 16 + cell));
}

/* A checksum is no defence against intent. */
static void test_counts_and_order_are_checked_behind_a_good_checksum(void **state)
{
    static const struct {
        unsigned cell, count;
    } bad[] = {{0, 0}, {0, 20}, {0, 22}, {0, 255}, {1, 0}, {1, 24}, {1, 26}, {14, 24}, {15, 255}};
    uint8_t bytes[RUN_BLOCK_BYTES];
    struct run_block block;
    unsigned end;

    (void)state;
    for (size_t n = 0; n < COUNT_OF(bad); n++) {
        fill_block(bytes, 396, 1000);
        set_count(bytes, bad[n].cell, bad[n].count);
        assert_int_equal(run_block_decode(bytes, sizeof bytes, PLACE, &block), CASK_ECORRUPT);
        assert_int_equal(run_cell_check(bytes, bad[n].cell, PLACE, &end),
                         bad[n].count < (bad[n].cell == 0 ? 22 : 26));
    }
    fill_block(bytes, 0, 1000);
    assert_int_equal(run_block_decode(bytes, sizeof bytes, PLACE, &block), CASK_ECORRUPT);
    for (unsigned i = 1; i < 396; i += 9) {
        fill_block(bytes, 396, 1000);
        run_block_put(bytes, i, (i - 1) * 1000 - (i > 1), 5);
        if (i == 1)
            run_block_put(bytes, 0, 1, 5);
        run_block_seal(bytes, 396, PLACE);
        assert_int_equal(run_block_decode(bytes, sizeof bytes, PLACE, &block), CASK_ECORRUPT);
    }
}

/* A look-up checks some cells only, and no more than these may count. */
static void test_a_cell_is_good_where_its_own_bytes_are(void **state)
{
    uint8_t bytes[RUN_BLOCK_BYTES];
    unsigned end;

    (void)state;
    fill_block(bytes, 100, 1000); /* 21 + 25 + 25 + 25 + 4 */
    for (size_t byte = 0; byte < sizeof bytes; byte++) {
        bytes[byte] ^= 0x10;
        for (unsigned cell = 0; cell < RUN_BLOCK_CELLS; cell++)
            CHECK(run_cell_check(bytes, cell, PLACE, &end) ==
                      (cell != (byte + RUN_PAGE_HEADER_BYTES) / RUN_CELL_BYTES),
                  "cell %u", cell);
        bytes[byte] ^= 0x10;
    }
    for (unsigned cell = 0; cell < RUN_BLOCK_CELLS; cell++) {
        assert_true(run_cell_check(bytes, cell, PLACE, &end));
        assert_int_equal(end, cell < 4 ? 25 : cell == 4 ? 4 : 0);
        assert_false(run_cell_check(bytes, cell, PLACE + 1, &end));
    }
    memmove(bytes + run_cell_at(2, 0), bytes + run_cell_at(3, 0), RUN_CELL_BYTES);
    assert_false(run_cell_check(bytes, 2, PLACE, &end));
}

/* Sorted tags: spread evenly, crowded at one end, or many alike. */
static uint32_t tag_at(struct rng *rng, unsigned kind)
{
    uint64_t random = rng_next(rng);

    switch (kind) {
    case 0:
        return (uint32_t)random;
    case 1:
        return (uint32_t)(random % 50);
    case 2:
        return UINT32_MAX - (uint32_t)(random % 3);
    default:
        return random % 7 == 0 ? (uint32_t)(random >> 32) : 1u << (random >> 32) % 32;
    }
}

static int compare_tags(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static unsigned linear_lower_bound(const uint32_t *tags, unsigned count, uint32_t tag)
{
    unsigned i = 0;

    while (i < count && tags[i] < tag)
        i++;
    return i;
}

static void check_bounds(const uint32_t *tags, unsigned count, uint32_t tag)
{
    uint8_t bytes[RUN_BLOCK_BYTES] = {0};
    uint8_t fence[RUN_BLOCK_ENTRIES * RUN_FENCE_BYTES];
    struct run_block block = {bytes, count};
    unsigned expected = linear_lower_bound(tags, count, tag);

    for (unsigned i = 0; i < count; i++) {
        run_block_put(bytes, i, tags[i], i);
        put_u32(fence + i * RUN_FENCE_BYTES, tags[i]);
    }
    assert_int_equal(run_fence_lower_bound(fence, count, tag), expected);
    assert_int_equal(run_block_lower_bound(&block, tag), expected);
}

static void test_lower_bounds_are_those_of_a_linear_search(void **state)
{
    struct rng rng = {11};
    uint32_t tags[RUN_BLOCK_ENTRIES];

    (void)state;
    for (unsigned round = 0; round < 400; round++) {
        unsigned count = 1 + (unsigned)rng_below(&rng, round % 3 ? 20 : RUN_BLOCK_ENTRIES);

        for (unsigned i = 0; i < count; i++)
            tags[i] = tag_at(&rng, round % 4);
        qsort(tags, count, sizeof *tags, compare_tags);
        check_bounds(tags, count, 0);
        check_bounds(tags, count, UINT32_MAX);
        for (unsigned i = 0; i < 10; i++) {
            uint32_t tag = tags[rng_below(&rng, count)];

            check_bounds(tags, count, tag);
            check_bounds(tags, count, tag + 1);
            check_bounds(tags, count, tag - 1);
            check_bounds(tags, count, tag_at(&rng, round % 4));
        }
    }
    assert_int_equal(run_fence_lower_bound(NULL, 0, 7), 0);
}

static struct run_footer footer_of(uint64_t *ret_bytes)
{
    struct run_footer footer = {.config = config_of(3),
                                .id = 9,
                                .count = 1000,
                                .blocks = 3,
                                .pages = 7,
                                .filter_bytes = 1280,
                                .filter_checksum = 1,
                                .fence_checksum = 2,
                                .body_checksum = 3,
                                .probes = 6};

    *ret_bytes = 7 * 4096 + 1280 + 3 * 8 + 128;
    return footer;
}

static int decode_sealed(const uint8_t *bytes, uint64_t file_bytes)
{
    struct run_config config = config_of(3);
    struct run_footer footer;

    return run_footer_decode(bytes, file_bytes, checksum_bytes(bytes, RUN_FOOTER_BYTES), &config, 9,
                             &footer);
}

static void test_a_footer_comes_back_as_it_was(void **state)
{
    uint8_t bytes[RUN_FOOTER_BYTES];
    uint64_t size;
    struct run_footer footer = footer_of(&size);
    struct run_footer back;

    (void)state;
    run_footer_encode(&footer, bytes);
    assert_ok(run_footer_decode(bytes, size, checksum_bytes(bytes, sizeof bytes), &footer.config, 9,
                                &back));
    assert_int_equal(back.count, 1000);
    assert_int_equal(back.blocks, 3);
    assert_int_equal(back.pages, 7);
    assert_int_equal(back.probes, 6);
    assert_int_equal(run_filter_at(&back), 7 * 4096);
    assert_int_equal(run_footer_at(&back) + RUN_FOOTER_BYTES, size);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        uint64_t checksum = checksum_bytes(bytes, sizeof bytes);

        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(run_footer_decode(bytes, size, checksum, &footer.config, 9, &back),
                         CASK_ECORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_a_footer_of_another_run_is_refused(void **state)
{
    uint8_t bytes[RUN_FOOTER_BYTES];
    uint64_t size;
    struct run_footer footer = footer_of(&size);
    struct run_config other_shard = config_of(4);
    struct run_config other_store = config_of(3);
    struct run_footer back;
    uint64_t checksum;

    (void)state;
    other_store.uuid[15]++;
    run_footer_encode(&footer, bytes);
    checksum = checksum_bytes(bytes, sizeof bytes);
    assert_int_equal(run_footer_decode(bytes, size, checksum, &other_shard, 9, &back),
                     CASK_ECORRUPT);
    assert_int_equal(run_footer_decode(bytes, size, checksum, &other_store, 9, &back),
                     CASK_ECORRUPT);
    assert_int_equal(run_footer_decode(bytes, size, checksum, &footer.config, 8, &back),
                     CASK_ECORRUPT);
    assert_int_equal(run_footer_decode(bytes, size, checksum + 1, &footer.config, 9, &back),
                     CASK_ECORRUPT);
}

static void test_sizes_in_a_footer_must_fit_the_file(void **state)
{
    static const unsigned fields[] = {40, 48, 56, 64}; /* count, blocks, pages, filter */
    static const uint64_t values[] = {0,
                                      1,
                                      2,
                                      63,
                                      64,
                                      65,
                                      1u << 31,
                                      UINT32_MAX,
                                      UINT64_MAX,
                                      UINT64_MAX / 8,
                                      UINT64_MAX - 4095,
                                      (uint64_t)1 << 52};
    uint8_t bytes[RUN_FOOTER_BYTES];
    uint64_t size;
    struct run_footer footer = footer_of(&size);

    (void)state;
    for (size_t f = 0; f < COUNT_OF(fields); f++) {
        for (size_t v = 0; v < COUNT_OF(values); v++) {
            run_footer_encode(&footer, bytes);
            put_u64(bytes + fields[f], values[v]);
            assert_int_equal(decode_sealed(bytes, size), CASK_ECORRUPT);
        }
    }
    run_footer_encode(&footer, bytes);
    assert_ok(decode_sealed(bytes, size));
    assert_int_equal(decode_sealed(bytes, size + 1), CASK_ECORRUPT);
    assert_int_equal(decode_sealed(bytes, size - 1), CASK_ECORRUPT);
    assert_int_equal(decode_sealed(bytes, 0), CASK_ECORRUPT);
    put_u32(bytes + 12, 8); /* probes */
    assert_int_equal(decode_sealed(bytes, size), CASK_ECORRUPT);
    put_u32(bytes + 12, 0);
    assert_int_equal(decode_sealed(bytes, size), CASK_ECORRUPT);
}

static void test_a_fence_must_be_in_order_and_inside(void **state)
{
    uint8_t fence[3 * RUN_FENCE_BYTES];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        put_u32(fence + i * RUN_FENCE_BYTES, 100);
        put_u32(fence + i * RUN_FENCE_BYTES + 4, 6 - i);
    }
    assert_true(run_fence_is_good(fence, 3, 7));
    assert_false(run_fence_is_good(fence, 3, 6));
    put_u32(fence + RUN_FENCE_BYTES, 99);
    assert_false(run_fence_is_good(fence, 3, 7));
    assert_true(run_fence_is_good(fence, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_block_comes_back_as_it_was_put),
        cmocka_unit_test(test_no_bit_of_a_block_may_change),
        cmocka_unit_test(test_a_block_elsewhere_or_of_another_size_is_refused),
        cmocka_unit_test(test_counts_and_order_are_checked_behind_a_good_checksum),
        cmocka_unit_test(test_a_cell_is_good_where_its_own_bytes_are),
        cmocka_unit_test(test_lower_bounds_are_those_of_a_linear_search),
        cmocka_unit_test(test_a_footer_comes_back_as_it_was),
        cmocka_unit_test(test_a_footer_of_another_run_is_refused),
        cmocka_unit_test(test_sizes_in_a_footer_must_fit_the_file),
        cmocka_unit_test(test_a_fence_must_be_in_order_and_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
