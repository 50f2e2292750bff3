/* base/hash.h: the key hash, and how it is cut into shard and tag. */
#include "unit.h"

#include "base/hash.h"

static void test_the_key_hash_is_xxh3(void **state)
{
    /* Published value: XXH3-64 of nothing. A store's keys are found by it, so it may never
     * change. */
    (void)state;
    assert_true(hash_key("", 0, 0) == 0x2D06800538D394C2u);
}

static void test_the_key_hash_depends_on_key_size_and_seed(void **state)
{
    uint64_t base = hash_key("abc", 3, 7);

    (void)state;
    assert_true(base == hash_key("abcd", 3, 7));
    assert_true(base != hash_key("abd", 3, 7));
    assert_true(base != hash_key("abc", 2, 7));
    assert_true(base != hash_key("abc", 3, 8));
    assert_true(hash_key("a", 1, 7) != hash_key("a\0", 2, 7));
}

static void test_one_shard_is_always_shard_zero(void **state)
{
    (void)state;
    assert_int_equal(hash_shard(UINT64_MAX, 0), 0);
    assert_int_equal(hash_shard(0, 0), 0);
    assert_int_equal(hash_tag(0x123456789abcdef0u, 0), 0x12345678);
}

static void test_shard_and_tag_are_neighbouring_bits(void **state)
{
    struct rng rng = {1};

    (void)state;
    for (unsigned bits = 1; bits <= 8; bits++) {
        for (int i = 0; i < 1000; i++) {
            uint64_t hash = rng_next(&rng);
            uint64_t both = (uint64_t)hash_shard(hash, bits) << 32 | hash_tag(hash, bits);

            assert_true(both == hash >> (32 - bits));
            assert_true(hash_shard(hash, bits) < 1u << bits);
        }
    }
}

static void test_tags_keep_the_order_of_hashes_within_a_shard(void **state)
{
    struct rng rng = {2};

    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t a = rng_next(&rng) >> 4 | (uint64_t)5 << 60;
        uint64_t b = rng_next(&rng) >> 4 | (uint64_t)5 << 60;

        if (a > b)
            assert_true(hash_tag(a, 4) >= hash_tag(b, 4));
        else
            assert_true(hash_tag(a, 4) <= hash_tag(b, 4));
    }
}

static void test_shards_get_even_shares(void **state)
{
    unsigned counts[16] = {0};
    unsigned keys = 160000;

    (void)state;
    for (unsigned i = 0; i < keys; i++) {
        char key[16];

        (void)snprintf(key, sizeof key, "user:%08u", i);
        counts[hash_shard(hash_key(key, 13, 99), 4)]++;
    }
    for (unsigned i = 0; i < 16; i++)
        assert_in_range(counts[i], keys / 16 * 95 / 100, keys / 16 * 105 / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_key_hash_is_xxh3),
        cmocka_unit_test(test_the_key_hash_depends_on_key_size_and_seed),
        cmocka_unit_test(test_one_shard_is_always_shard_zero),
        cmocka_unit_test(test_shard_and_tag_are_neighbouring_bits),
        cmocka_unit_test(test_tags_keep_the_order_of_hashes_within_a_shard),
        cmocka_unit_test(test_shards_get_even_shares),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
