/* log/record: bytes of a record, both ways, and what is refused. */
#include "unit.h"

#include "base/checksum.h"
#include "log/record.h"

#define PLACE 0x1122334455667788u
#define AT_VALUE_SIZE 4
#define AT_SEQUENCE 8
#define AT_KEY_SIZE 14
#define AT_TYPE 16
#define AT_EXPIRY 17

static struct record put_record(const char *key, const char *value)
{
    return (struct record){
        .type = RECORD_PUT, .sequence = 1, .key = slice_of(key), .value = slice_of(value)};
}

/* Encoded into a block of its exact size, so that ASan sees every step beyond. */
static uint8_t *encode(const struct record *record)
{
    uint8_t *bytes = malloc(record_size(record));

    assert_non_null(bytes);
    record_encode(record, PLACE, bytes);
    return bytes;
}

/* Makes the checksum right again, as far as the record says it goes. */
static void fix_checksum(uint8_t *bytes, size_t size)
{
    put_u32(bytes, checksum_placed(bytes + AT_VALUE_SIZE, size - AT_VALUE_SIZE, PLACE));
}

static enum record_outcome decode(const uint8_t *bytes, uint64_t available)
{
    struct record record;

    return record_decode(bytes, available, PLACE, true, &record);
}

static void assert_same(const struct record *a, const struct record *b)
{
    assert_true(a->sequence == b->sequence);
    assert_true(a->expires_at_ms == b->expires_at_ms);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->in_batch, b->in_batch);
    assert_slice(a->key, b->key.data, b->key.size);
    assert_slice(a->value, b->value.data, b->value.size);
}

static void check_round_trip(const struct record *record)
{
    uint8_t *bytes = encode(record);
    struct record back;

    assert_int_equal(record_decode(bytes, record_size(record), PLACE, true, &back), RECORD_VALID);
    assert_same(&back, record);
    assert_int_equal(record_claimed_size(bytes), record_size(record));
    assert_in_range(record_unpadded_size(bytes), record_size(record) - 7, record_size(record));
    assert_int_equal(record_size(record) % RECORD_ALIGNMENT, 0);
    free(bytes);
}

static void test_records_of_all_sizes_come_back(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 7, 8, 9, 100, 222, 223, 224, 1000, 65535};
    uint8_t *bytes = unit_bytes(70000, 1);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (size_t j = 0; j < COUNT_OF(sizes); j++) {
            struct record record = {.type = RECORD_PUT,
                                    .sequence = i * 100 + j + 1,
                                    .key = {bytes, sizes[i] == 0 ? 3 : sizes[i]},
                                    .value = {bytes + 1, sizes[j]}};

            check_round_trip(&record);
            record.expires_at_ms = 1;
            check_round_trip(&record);
        }
    }
    free(bytes);
}

static void test_every_type_and_flag_comes_back(void **state)
{
    struct record record = put_record("key", "value");

    (void)state;
    for (int flags = 0; flags < 4; flags++) {
        record.in_batch = (flags & 1) != 0;
        record.expires_at_ms = flags & 2 ? RECORD_EXPIRY_MAX : 0;
        record.type = RECORD_PUT;
        check_round_trip(&record);
        record.type = RECORD_DELETE;
        check_round_trip(&record);
    }
    record = (struct record){
        .type = RECORD_SEAL, .sequence = RECORD_SEQUENCE_MAX, .value = {"12345678", 8}};
    check_round_trip(&record);
    record.type = RECORD_BATCH_END;
    check_round_trip(&record);
}

static void test_the_layout_is_as_documented(void **state)
{
    struct record record = {.type = RECORD_PUT,
                            .in_batch = true,
                            .sequence = 0x060504030201,
                            .expires_at_ms = 0x17161514131211,
                            .key = {"k", 1},
                            .value = {"vw", 2}};
    static const uint8_t behind_checksum[] = {
        2,    0,    0,    0,    1,    2,    3,   4,   5,   6, 1, 0, 1 | 8 | 16, 0x11,
        0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 'k', 'v', 'w', 0, 0, 0, 0,          0};
    uint8_t *bytes = encode(&record);

    (void)state;
    assert_int_equal(record_size(&record), 32);
    assert_memory_equal(bytes + 4, behind_checksum, sizeof behind_checksum);
    assert_int_equal(get_u32(bytes), (uint32_t)XXH3_64bits_withSeed(bytes + 4, 23, PLACE));
    free(bytes);
}

static void test_decode_rejects_short_header(void **state)
{
    struct record record = put_record("key", "value");
    uint8_t *whole = encode(&record);

    (void)state;
    for (size_t size = 0; size < RECORD_HEADER_BYTES; size++) {
        uint8_t *part = malloc(size + 1);

        memcpy(part, whole, size);
        assert_int_equal(decode(part, size), RECORD_NONE);
        free(part);
    }
    free(whole);
}

static void test_decode_calls_a_cut_record_truncated(void **state)
{
    struct record record = put_record("some key", "some longer value");
    uint8_t *whole = encode(&record);

    (void)state;
    for (size_t size = RECORD_HEADER_BYTES; size < record_size(&record); size++) {
        uint8_t *part = malloc(size);

        memcpy(part, whole, size);
        assert_int_equal(decode(part, size), RECORD_TRUNCATED); /* its padding is part of it */
        free(part);
    }
    free(whole);
}

static void test_decode_rejects_every_flipped_bit(void **state)
{
    struct record record = put_record("key", "value");
    uint8_t *bytes;
    size_t bits;

    (void)state;
    record.expires_at_ms = 5;
    record.in_batch = true;
    bytes = encode(&record);
    bits = (size_t)record_unpadded_size(bytes) * 8;
    for (size_t bit = 0; bit < bits; bit++) {
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
        assert_int_not_equal(decode(bytes, record_size(&record)), RECORD_VALID);
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
    }
    assert_int_equal(decode(bytes, record_size(&record)), RECORD_VALID);
    free(bytes);
}

static void test_decode_rejects_a_record_at_another_place(void **state)
{
    struct record record = put_record("key", "value");
    uint8_t *bytes = encode(&record);
    struct record back;

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++)
        assert_int_equal(
            record_decode(bytes, record_size(&record), PLACE ^ (uint64_t)1 << bit, true, &back),
            RECORD_BAD);
    free(bytes);
}

static void test_zeros_are_no_record_whatever_the_checksum(void **state)
{
    uint8_t zeros[64] = {0};

    (void)state;
    assert_int_equal(decode(zeros, sizeof zeros), RECORD_NONE);
    for (size_t at = 0; at < RECORD_HEADER_BYTES; at++) {
        zeros[at] = 1;
        assert_int_not_equal(decode(zeros, sizeof zeros), RECORD_VALID);
        assert_int_not_equal(decode(zeros, sizeof zeros), RECORD_NONE);
        zeros[at] = 0;
    }
    put_u32(zeros, checksum_placed(zeros + 4, RECORD_HEADER_BYTES - 4, PLACE));
    assert_int_equal(decode(zeros, sizeof zeros), RECORD_BAD);
}

static void test_unverified_decoding_still_checks_fields_and_lengths(void **state)
{
    struct record record = put_record("key", "value");
    uint8_t *bytes = encode(&record);
    struct record back;

    (void)state;
    bytes[0] ^= 1;
    assert_int_equal(record_decode(bytes, record_size(&record), PLACE, false, &back), RECORD_VALID);
    assert_same(&back, &record);
    assert_int_equal(record_decode(bytes, 20, PLACE, false, &back), RECORD_TRUNCATED);
    bytes[AT_TYPE] = 7;
    assert_int_equal(record_decode(bytes, record_size(&record), PLACE, false, &back), RECORD_BAD);
    free(bytes);
}

/* ---- fields that contradict each other behind a good checksum -------------------------------- */

/* A block that holds just one record of `size` bytes and its padding, with one field changed. */
struct forged {
    uint8_t *bytes;
    size_t size;
    size_t stored;
};

static struct forged forge(size_t key_size, size_t value_size, unsigned type)
{
    struct forged forged = {.size = RECORD_HEADER_BYTES + key_size + value_size};

    if (type & RECORD_EXPIRES)
        forged.size += RECORD_EXPIRY_BYTES;
    forged.stored = (size_t)align_up(forged.size, RECORD_ALIGNMENT);
    forged.bytes = malloc(forged.stored);
    assert_non_null(forged.bytes);
    memset(forged.bytes, 'f', forged.stored);
    put_u32(forged.bytes + AT_VALUE_SIZE, (uint32_t)value_size);
    put_u48(forged.bytes + AT_SEQUENCE, 1);
    put_u16(forged.bytes + AT_KEY_SIZE, (uint16_t)key_size);
    forged.bytes[AT_TYPE] = (uint8_t)type;
    return forged;
}

static enum record_outcome judge(struct forged forged)
{
    enum record_outcome outcome;

    fix_checksum(forged.bytes, forged.size);
    outcome = decode(forged.bytes, forged.stored);
    free(forged.bytes);
    return outcome;
}

static void test_decode_rejects_unknown_types_and_flags(void **state)
{
    (void)state;
    assert_int_equal(judge(forge(3, 5, RECORD_PUT)), RECORD_VALID);
    for (unsigned type = 0; type < 256; type++) {
        unsigned kind = type & RECORD_TYPE_MASK;
        bool known = (type & ~(RECORD_TYPE_MASK | RECORD_FLAGS_KNOWN)) == 0 &&
                     (kind == RECORD_PUT || kind == RECORD_DELETE);

        assert_int_equal(judge(forge(3, 5, type)), known ? RECORD_VALID : RECORD_BAD);
    }
}

static void test_decode_rejects_a_key_where_none_belongs_and_none_where_one_does(void **state)
{
    (void)state;
    assert_int_equal(judge(forge(0, 5, RECORD_PUT)), RECORD_BAD);
    assert_int_equal(judge(forge(0, 5, RECORD_DELETE)), RECORD_BAD);
    assert_int_equal(judge(forge(1, 5, RECORD_BATCH_END)), RECORD_BAD);
    assert_int_equal(judge(forge(1, 8, RECORD_SEAL)), RECORD_BAD);
    assert_int_equal(judge(forge(0, 4, RECORD_BATCH_END)), RECORD_VALID);
    assert_int_equal(judge(forge(0, 8, RECORD_SEAL)), RECORD_VALID);
}

/* T33: the length of a value is 4 GiB, the block has 100 bytes; and every length in between. */
static void test_decode_rejects_lengths_beyond_what_there_is(void **state)
{
    static const uint32_t sizes[] = {78, 1000, 0x7fffffff, 0x80000000, 0xffffffe0, 0xffffffff};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct forged forged = forge(10, 73, RECORD_PUT);

        put_u32(forged.bytes + AT_VALUE_SIZE, sizes[i]);
        assert_true(record_unpadded_size(forged.bytes) == (uint64_t)sizes[i] + 27);
        assert_true(record_claimed_size(forged.bytes) >= record_unpadded_size(forged.bytes));
        assert_int_equal(judge(forged), RECORD_TRUNCATED);
    }
}

static void test_decode_rejects_a_key_that_reaches_behind_the_record(void **state)
{
    (void)state;
    for (unsigned key_size = 80; key_size <= 65535; key_size += 991) {
        struct forged forged = forge(10, 60, RECORD_PUT);

        put_u16(forged.bytes + AT_KEY_SIZE, (uint16_t)key_size);
        assert_int_equal(judge(forged), RECORD_TRUNCATED);
    }
}

/* A value of 2 GiB or more is over CASK_VALUE_MAX; such a record is really there in memory. */
static void test_decode_rejects_a_value_over_the_maximum(void **state)
{
    size_t size = RECORD_HEADER_BYTES + 1 + ((size_t)1 << 31);
    size_t stored = (size_t)align_up(size, RECORD_ALIGNMENT);
    struct record back;
    uint8_t *bytes;

    (void)state;
#ifndef __OPTIMIZE__
    skip(); /* two checksums over 2 GiB: a matter of minutes */
#endif
    if (BUILT_WITH_ASAN)
        skip();
    bytes = calloc(1, stored);
    assert_non_null(bytes);
    put_u32(bytes + AT_VALUE_SIZE, 0x80000000);
    put_u16(bytes + AT_KEY_SIZE, 1);
    bytes[AT_TYPE] = RECORD_PUT;
    fix_checksum(bytes, size);
    assert_int_equal(record_decode(bytes, stored, PLACE, true, &back), RECORD_BAD);
    put_u32(bytes + AT_VALUE_SIZE, CASK_VALUE_MAX);
    put_u48(bytes + AT_SEQUENCE, 1);
    fix_checksum(bytes, size - 1);
    assert_int_equal(record_decode(bytes, stored, PLACE, true, &back), RECORD_VALID);
    free(bytes);
}

/* "sequence number, at least 1": a look-up would never take such a record for the newest. */
static void test_decode_rejects_sequence_number_zero(void **state)
{
    struct forged forged = forge(3, 5, RECORD_PUT);

    (void)state;
    put_u48(forged.bytes + AT_SEQUENCE, 0);
    assert_int_equal(judge(forged), RECORD_BAD);
}

/* record_size() of what was decoded says how far a scan goes on. With the flag set and no expiry it
 * would say 7 bytes less than the record has. */
static void test_decode_rejects_an_expiry_of_never(void **state)
{
    struct forged forged = forge(3, 5, RECORD_PUT | RECORD_EXPIRES);

    (void)state;
    put_u56(forged.bytes + AT_EXPIRY, 0);
    assert_int_equal(judge(forged), RECORD_BAD);
}

static void test_what_decodes_has_the_size_that_was_claimed(void **state)
{
    struct rng rng = {3};
    unsigned valid = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        struct forged forged = forge(rng_below(&rng, 4), rng_below(&rng, 12),
                                     (unsigned)rng_below(&rng, 64));
        struct record record;

        for (uint64_t changes = rng_below(&rng, 3); changes > 0; changes--)
            forged.bytes[AT_VALUE_SIZE + rng_below(&rng, forged.size - AT_VALUE_SIZE)] = (uint8_t)
                rng_below(&rng, 5);
        if (record_claimed_size(forged.bytes) <= forged.stored)
            fix_checksum(forged.bytes, (size_t)record_unpadded_size(forged.bytes));
        if (record_decode(forged.bytes, forged.stored, PLACE, true, &record) == RECORD_VALID) {
            assert_true(record_size(&record) == record_claimed_size(forged.bytes));
            valid++;
        }
        free(forged.bytes);
    }
    assert_true(valid > 1000);
}

static void test_a_head_is_the_same_as_that_of_the_whole_record(void **state)
{
    static const size_t sizes[] = {0, 1, 16, 240, 500, 70000};
    uint8_t *value = unit_bytes(70000, 2);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct record record = put_record("the key", "");
        uint8_t head[RECORD_HEADER_MAX + 7];
        uint8_t *whole;

        record.value = (struct cask_slice){sizes[i] ? value : NULL, sizes[i]};
        record.expires_at_ms = i % 2;
        whole = encode(&record);
        assert_int_equal(record_encode_head(&record, PLACE, head),
                         RECORD_HEADER_BYTES + 7 + (i % 2 ? RECORD_EXPIRY_BYTES : 0));
        assert_memory_equal(head, whole, RECORD_HEADER_BYTES + 7 + i % 2 * RECORD_EXPIRY_BYTES);
        free(whole);
    }
    free(value);
}

static void test_stored_sizes_do_not_wrap(void **state)
{
    (void)state;
    assert_int_equal(record_stored_size(1, 0, false), 24);
    assert_int_equal(record_stored_size(7, 0, false), 24);
    assert_int_equal(record_stored_size(8, 0, false), 32);
    assert_int_equal(record_stored_size(1, 0, true), 32);
    assert_true(record_stored_size(CASK_KEY_MAX, CASK_VALUE_MAX, true) ==
                align_up((uint64_t)24 + CASK_KEY_MAX + CASK_VALUE_MAX, 8));
}

/* ---- batch ends ------------------------------------------------------------------------------ */

static void test_batch_ends_come_back_for_every_number_of_shards(void **state)
{
    (void)state;
    for (unsigned shards = 1; shards <= 256; shards *= 2) {
        struct batch_end end = {.count = 0xfffffffe, .number = RECORD_BATCH_MAX};
        struct batch_end back;
        uint8_t bytes[BATCH_END_MAX];
        size_t size;

        for (unsigned i = 0; i < shards; i += 3)
            batch_end_add(&end, i);
        size = batch_end_encode(&end, shards, bytes);
        assert_in_range(size, 13, BATCH_END_MAX);
        assert_true(batch_end_decode((struct cask_slice){bytes, size}, shards, &back));
        assert_memory_equal(&back, &end, sizeof end);
        for (unsigned i = 0; i < 256; i++)
            assert_int_equal(batch_end_has(&back, i), i < shards && i % 3 == 0);
    }
}

static void test_the_end_of_a_batch_in_one_shard_has_no_number(void **state)
{
    struct batch_end end = {.count = 3};
    struct batch_end back;
    uint8_t bytes[BATCH_END_MAX];

    (void)state;
    assert_int_equal(batch_end_encode(&end, 256, bytes), 4);
    assert_true(batch_end_decode((struct cask_slice){bytes, 4}, 256, &back));
    assert_int_equal(back.count, 3);
    assert_true(back.number == 0);
}

static void test_batch_end_decode_rejects_other_sizes_and_number_zero(void **state)
{
    uint8_t bytes[64] = {1};
    struct batch_end back;

    (void)state;
    for (unsigned shards = 1; shards <= 256; shards *= 2)
        for (size_t size = 0; size <= sizeof bytes; size++) {
            size_t full = 12 + (shards + 7) / 8;

            put_u64(bytes + 4, 0x0102030405);
            assert_int_equal(batch_end_decode((struct cask_slice){bytes, size}, shards, &back),
                             size == 4 || size == full);
            put_u64(bytes + 4, 0);
            assert_int_equal(batch_end_decode((struct cask_slice){bytes, size}, shards, &back),
                             size == 4);
            put_u64(bytes + 4, RECORD_BATCH_MAX + 1); /* numbers are counted on from */
            assert_int_equal(batch_end_decode((struct cask_slice){bytes, size}, shards, &back),
                             size == 4);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_of_all_sizes_come_back),
        cmocka_unit_test(test_every_type_and_flag_comes_back),
        cmocka_unit_test(test_the_layout_is_as_documented),
        cmocka_unit_test(test_decode_rejects_short_header),
        cmocka_unit_test(test_decode_calls_a_cut_record_truncated),
        cmocka_unit_test(test_decode_rejects_every_flipped_bit),
        cmocka_unit_test(test_decode_rejects_a_record_at_another_place),
        cmocka_unit_test(test_zeros_are_no_record_whatever_the_checksum),
        cmocka_unit_test(test_unverified_decoding_still_checks_fields_and_lengths),
        cmocka_unit_test(test_decode_rejects_unknown_types_and_flags),
        cmocka_unit_test(test_decode_rejects_a_key_where_none_belongs_and_none_where_one_does),
        cmocka_unit_test(test_decode_rejects_lengths_beyond_what_there_is),
        cmocka_unit_test(test_decode_rejects_a_key_that_reaches_behind_the_record),
        cmocka_unit_test(test_decode_rejects_a_value_over_the_maximum),
        cmocka_unit_test(test_decode_rejects_sequence_number_zero),
        cmocka_unit_test(test_decode_rejects_an_expiry_of_never),
        cmocka_unit_test(test_what_decodes_has_the_size_that_was_claimed),
        cmocka_unit_test(test_a_head_is_the_same_as_that_of_the_whole_record),
        cmocka_unit_test(test_stored_sizes_do_not_wrap),
        cmocka_unit_test(test_batch_ends_come_back_for_every_number_of_shards),
        cmocka_unit_test(test_the_end_of_a_batch_in_one_shard_has_no_number),
        cmocka_unit_test(test_batch_end_decode_rejects_other_sizes_and_number_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
