/* log/hint: what a segment's digest says, and that a wrong one is not believed. */
#include <sys/stat.h>

#include "unit.h"

#include "base/checksum.h"
#include "log/hint.h"

#define SEGMENT_ID 7
#define SHARD_BITS 4
#define LENGTH 4096

/* Offsets in the file, as documented in hint.h. */
#define AT_VERSION 8
#define AT_SHARD 12
#define AT_UUID 16
#define AT_SEGMENT 32
#define AT_LENGTH 40
#define AT_COUNT 56
#define AT_MIN_SEQUENCE 64
#define AT_MAX_SEQUENCE 72
#define AT_MAX_BATCH 80
#define HEADER 128
#define ENTRY 25

static struct log_config config_of_test(void)
{
    return unit_config(unit_modes[0]);
}

static void add_entry(struct hint *hint, uint64_t hash, uint64_t sequence, uint64_t offset)
{
    struct record record = {.type = RECORD_PUT,
                            .sequence = sequence,
                            .key = slice_of("key"),
                            .value = slice_of("value")};

    assert_ok(hint_add(hint, &record, hash, offset));
}

static struct hint small_hint(unsigned count)
{
    struct hint hint;

    hint_init(&hint, SEGMENT_ID);
    for (unsigned i = 0; i < count; i++)
        add_entry(&hint, mix64(i), i + 1, SEGMENT_HEADER_BYTES + (uint64_t)i * 32);
    hint.length = SEGMENT_HEADER_BYTES + (uint64_t)count * 32;
    hint.data_checksum = 0x1234;
    return hint;
}

/* The file of a hint with that many entries. */
static uint8_t *file_of_hint(unsigned count, size_t *ret_size)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct hint hint = small_hint(count);
    uint8_t *bytes;

    assert_ok(hint_write(&hint, place.dir, &config, SHARD_BITS));
    bytes = read_whole_file(path_in(place.path, "7.hint"), ret_size);
    hint_release(&hint);
    place_remove(&place);
    return bytes;
}

static int parse(const uint8_t *bytes, size_t size)
{
    struct log_config config = config_of_test();
    struct hint hint;
    uint8_t *exact = malloc(size + (size == 0)); /* so that ASan sees every step beyond */
    int status;

    bytes_copy(exact, bytes, size);
    status = hint_parse(exact, size, &config, SEGMENT_ID, &hint);
    free(exact);
    return status;
}

/* The same with the checksum made right again. */
static int parse_fixed(uint8_t *bytes, size_t size)
{
    put_u64(bytes + size - 8, checksum_bytes(bytes, size - 8));
    return parse(bytes, size);
}

/* ---- writing and reading --------------------------------------------------------------------- */

static void test_entries_come_back_in_the_order_of_their_tags(void **state)
{
    static const unsigned counts[] = {0, 1, 2, 255, 256, 257, 5000};
    struct log_config config = config_of_test();

    (void)state;
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        struct place place = place_make();
        struct hint hint = small_hint(counts[c]);
        struct hint back;
        uint32_t previous = 0;
        uint64_t sum = 0;

        assert_ok(hint_write(&hint, place.dir, &config, SHARD_BITS));
        assert_ok(hint_read(place.dir, &config, SEGMENT_ID, &back));
        assert_int_equal(back.count, counts[c]);
        assert_int_equal(back.length, hint.length);
        assert_int_equal(back.data_checksum, 0x1234);
        assert_int_equal(back.max_sequence, counts[c]);
        for (uint64_t i = 0; i < back.count; i++) {
            struct hint_entry entry = hint_entry_at(&back, i);

            assert_true(hash_tag(entry.hash, SHARD_BITS) >= previous);
            previous = hash_tag(entry.hash, SHARD_BITS);
            assert_true(entry.hash == mix64(entry.sequence - 1));
            assert_int_equal(entry.offset, SEGMENT_HEADER_BYTES + (entry.sequence - 1) * 32);
            assert_int_equal(entry.size, 32);
            assert_int_equal(entry.key_size, 3);
            assert_int_equal(entry.type, RECORD_PUT);
            sum += entry.sequence;
        }
        assert_int_equal(sum, (uint64_t)counts[c] * (counts[c] + 1) / 2);
        hint_release(&back);
        hint_release(&hint);
        place_remove(&place);
    }
}

/* Written in pieces of 1 MiB: numbers of entries that just fill them, and several of them. */
static void test_hints_of_any_length_are_written_whole(void **state)
{
    struct log_config config = config_of_test();
    static const unsigned counts[] = {41935, 41942, 41943, 41944, 83880, 83886, 83887};

    (void)state;
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        struct place place = place_make();
        struct hint hint = small_hint(counts[c]);
        struct hint back;

        assert_ok(hint_write(&hint, place.dir, &config, SHARD_BITS));
        assert_ok(hint_read(place.dir, &config, SEGMENT_ID, &back));
        assert_int_equal(back.count, counts[c]);
        hint_release(&back);
        hint_release(&hint);
        place_remove(&place);
    }
}

static void test_entries_of_equal_tag_stay_in_the_order_of_the_log(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct hint hint;
    struct hint back;

    (void)state;
    hint_init(&hint, SEGMENT_ID);
    for (uint64_t i = 0; i < 300; i++) /* the low bits of a hash are not part of the tag */
        add_entry(&hint, (uint64_t)(i % 3) << 40 | (300 - i), i + 1, SEGMENT_HEADER_BYTES + i * 32);
    hint.length = SEGMENT_HEADER_BYTES + 300 * 32;
    assert_ok(hint_write(&hint, place.dir, &config, SHARD_BITS));
    assert_ok(hint_read(place.dir, &config, SEGMENT_ID, &back));
    for (uint64_t i = 1; i < 300; i++) {
        struct hint_entry before = hint_entry_at(&back, i - 1);
        struct hint_entry entry = hint_entry_at(&back, i);

        if (hash_tag(before.hash, SHARD_BITS) == hash_tag(entry.hash, SHARD_BITS))
            assert_true(before.sequence < entry.sequence);
    }
    hint_release(&back);
    hint_release(&hint);
    place_remove(&place);
}

/* Few tags, and many entries of each: what sorts them has to go down to their places. */
static void test_entries_of_few_tags_are_sorted_by_their_place(void **state)
{
    const unsigned count = 20000;
    struct hint hint;

    (void)state;
    hint_init(&hint, SEGMENT_ID);
    for (unsigned i = 0; i < count; i++) /* added in no order at all */
        add_entry(&hint, mix64(i % 3), i + 1, SEGMENT_HEADER_BYTES + i * 7919u % count * 32);
    hint_sort(&hint, SHARD_BITS);
    for (uint64_t i = 1; i < count; i++) {
        struct hint_entry before = hint_entry_at(&hint, i - 1);
        struct hint_entry entry = hint_entry_at(&hint, i);
        uint32_t tag = hash_tag(before.hash, SHARD_BITS);

        assert_true(tag <= hash_tag(entry.hash, SHARD_BITS));
        assert_true(tag < hash_tag(entry.hash, SHARD_BITS) || before.offset < entry.offset);
        assert_true(entry.hash == mix64((entry.sequence - 1) % 3));
    }
    hint_release(&hint);
}

/* The part of small_hint(count) with the tags from first to last. */
static struct hint small_part(unsigned count, uint32_t first, uint32_t last)
{
    struct hint whole = small_hint(count);
    struct hint part;

    hint_init(&part, SEGMENT_ID);
    hint_keep(&part, first, last, SHARD_BITS);
    assert_ok(hint_reserve(&part, count / 8));
    assert_ok(hint_take_over(&part, &whole));
    assert_int_equal(part.count + part.passed_over, count);
    part.length = whole.length;
    part.data_checksum = 0x1234;
    hint_release(&whole);
    return part;
}

/* The second part begins at `second`. */
static int write_in_parts(struct place *place, unsigned count, uint32_t second, bool keep)
{
    struct log_config config = config_of_test();
    struct hint part = small_part(count, 0, UINT32_MAX / 3);
    struct hint_writer writer;

    assert_ok(hint_writer_open(&writer, place->dir, &config, &part));
    assert_ok(hint_writer_add(&writer, &part, SHARD_BITS));
    hint_release(&part);
    part = small_part(count, second, UINT32_MAX);
    assert_ok(hint_writer_add(&writer, &part, SHARD_BITS));
    hint_release(&part);
    return hint_writer_close(&writer, keep);
}

static void test_a_hint_written_in_parts_is_the_same(void **state)
{
    (void)state;
    for (unsigned count = 0; count < 60000; count = count * 9 + 1) {
        struct place place = place_make();
        size_t whole_size;
        size_t size;
        uint8_t *whole = file_of_hint(count, &whole_size);
        uint8_t *parts;

        assert_ok(write_in_parts(&place, count, UINT32_MAX / 3 + 1, true));
        parts = read_whole_file(path_in(place.path, "7.hint"), &size);
        assert_true(size == whole_size && memcmp(parts, whole, size) == 0);
        free(parts);
        free(whole);
        place_remove(&place);
    }
}

static void test_parts_that_do_not_add_up_are_no_hint(void **state)
{
    struct place place = place_make();

    (void)state;
    assert_int_equal(write_in_parts(&place, 1000, UINT32_MAX / 2, true), CASK_ECORRUPT);
    assert_int_equal(write_in_parts(&place, 1000, UINT32_MAX / 4, true), CASK_ECORRUPT);
    assert_ok(write_in_parts(&place, 1000, UINT32_MAX / 3 + 1, false)); /* given up */
    assert_false(path_exists(path_in(place.path, "7.hint")));
    assert_false(path_exists(path_in(place.path, "7.hint.tmp")));
    place_remove(&place);
}

static void test_types_sizes_and_extremes_come_back(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct record record = {.type = RECORD_DELETE,
                            .in_batch = true,
                            .expires_at_ms = 77,
                            .sequence = RECORD_SEQUENCE_MAX,
                            .key = {"k", CASK_KEY_MAX},
                            .value = {"v", CASK_VALUE_MAX}};
    struct record small = {.type = RECORD_PUT, .sequence = 1, .key = slice_of("k")};
    struct hint hint;
    struct hint back;
    struct hint_entry entry;

    (void)state;
    hint_init(&hint, SEGMENT_ID);
    assert_ok(hint_add(&hint, &record, UINT64_MAX, SEGMENT_HEADER_BYTES));
    assert_int_equal(hint.max_expiry, 77);
    assert_ok(hint_add(&hint, &small, 0, ((uint64_t)1 << 31) - 24));
    hint.length = SEGMENT_BYTES_MAX;
    hint.max_batch = RECORD_BATCH_MAX;
    assert_ok(hint_write(&hint, place.dir, &config, SHARD_BITS));
    assert_ok(hint_read(place.dir, &config, SEGMENT_ID, &back));
    entry = hint_entry_at(&back, 1);
    assert_true(entry.hash == UINT64_MAX);
    assert_true(entry.sequence == RECORD_SEQUENCE_MAX);
    assert_int_equal(entry.offset, SEGMENT_HEADER_BYTES);
    assert_true(entry.size == record_size(&record));
    assert_int_equal(entry.key_size, CASK_KEY_MAX);
    assert_int_equal(entry.type, RECORD_DELETE | RECORD_IN_BATCH | RECORD_EXPIRES);
    entry = hint_entry_at(&back, 0);
    assert_true(entry.hash == 0 && entry.sequence == 1 && entry.key_size == 1);
    assert_true(entry.offset == ((uint64_t)1 << 31) - 24);
    assert_true(back.max_batch == RECORD_BATCH_MAX);
    assert_true(back.min_sequence == 1);
    assert_true(back.max_sequence == RECORD_SEQUENCE_MAX);
    hint_release(&back);
    hint_release(&hint);
    place_remove(&place);
}

static void test_one_record_that_never_expires_makes_the_segment_never_expire(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct record record = {
        .type = RECORD_PUT, .expires_at_ms = 77, .sequence = 1, .key = slice_of("k")};
    struct hint hint;
    struct hint back;

    (void)state;
    hint_init(&hint, SEGMENT_ID);
    assert_ok(hint_add(&hint, &record, 1, 64));
    record.expires_at_ms = 0;
    record.sequence = 2;
    assert_ok(hint_add(&hint, &record, 2, 96));
    record.expires_at_ms = 99;
    record.sequence = 3;
    assert_ok(hint_add(&hint, &record, 3, 120));
    hint.length = 152;
    assert_ok(hint_write(&hint, place.dir, &config, SHARD_BITS));
    assert_ok(hint_read(place.dir, &config, SEGMENT_ID, &back));
    assert_int_equal(back.max_expiry, 0);
    hint_release(&back);
    hint_release(&hint);
    place_remove(&place);
}

/* The hint of a segment that has grown since its last one: the old entries, then the new
 * records. */
static void test_what_the_last_hint_knew_is_taken_over(void **state)
{
    struct log_config config = config_of_test();

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        bool from_file = i % 2 == 1;
        unsigned old_count = i / 2 * 133;
        struct place place = place_make();
        struct hint old = small_hint(old_count);
        struct hint hint;
        uint64_t sum = 0;

        old.max_batch = 5;
        if (from_file) {
            assert_ok(hint_write(&old, place.dir, &config, SHARD_BITS));
            hint_release(&old);
            assert_ok(hint_read(place.dir, &config, SEGMENT_ID, &old));
        }
        hint_init(&hint, SEGMENT_ID);
        assert_ok(hint_take_over(&hint, &old));
        assert_int_equal(hint.count, old_count);
        add_entry(&hint, mix64(1000), 1000, SEGMENT_HEADER_BYTES + (uint64_t)old_count * 32);
        hint.length = SEGMENT_HEADER_BYTES + ((uint64_t)old_count + 1) * 32;
        assert_int_equal(hint.max_sequence, 1000);
        assert_int_equal(hint.min_sequence, old_count == 0 ? 1000 : 1);
        assert_int_equal(hint.max_batch, 5);
        assert_ok(hint_write(&hint, place.dir, &config, SHARD_BITS));
        hint_release(&hint);
        hint_release(&old);
        assert_ok(hint_read(place.dir, &config, SEGMENT_ID, &hint));
        assert_int_equal(hint.count, old_count + 1);
        assert_int_equal(hint.max_expiry, 0);
        for (uint64_t n = 0; n < hint.count; n++)
            sum += hint_entry_at(&hint, n).sequence;
        assert_int_equal(sum, (uint64_t)old_count * (old_count + 1) / 2 + 1000);
        hint_release(&hint);
        place_remove(&place);
    }
}

static void test_expiries_are_taken_over(void **state)
{
    struct record record = {
        .type = RECORD_PUT, .expires_at_ms = 77, .sequence = 1, .key = slice_of("k")};
    struct hint old;
    struct hint hint;

    (void)state;
    hint_init(&old, SEGMENT_ID);
    hint_init(&hint, SEGMENT_ID);
    assert_ok(hint_take_over(&hint, &old)); /* of nothing: nothing */
    assert_int_equal(hint.max_expiry, 0);
    assert_ok(hint_add(&old, &record, 1, 64));
    assert_ok(hint_take_over(&hint, &old));
    assert_int_equal(hint.max_expiry, 77);
    record.expires_at_ms = 0;
    assert_ok(hint_add(&old, &record, 2, 96));
    assert_ok(hint_take_over(&hint, &old));
    assert_true(hint.max_expiry == UINT64_MAX);
    hint_release(&old);
    hint_release(&hint);
}

static void test_a_hint_replaces_the_one_before_and_what_a_crash_left(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct hint hint = small_hint(3);
    struct hint back;
    struct stat info;

    (void)state;
    write_file(path_in(place.path, "7.hint"), "old", 3);
    write_file(path_in(place.path, "7.hint.tmp"), "half", 4);
    assert_ok(hint_write(&hint, place.dir, &config, SHARD_BITS));
    assert_false(path_exists(path_in(place.path, "7.hint.tmp")));
    assert_ok(hint_read(place.dir, &config, SEGMENT_ID, &back));
    assert_int_equal(back.count, 3);
    assert_int_equal(stat(path_in(place.path, "7.hint"), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    hint_release(&back);
    hint_release(&hint);
    place_remove(&place);
}

static void test_a_hint_that_cannot_be_written_leaves_the_old_one(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct hint hint = small_hint(3);
    struct hint back;

    (void)state;
    assert_ok(hint_write(&hint, place.dir, &config, SHARD_BITS));
    assert_int_equal(mkdir(path_in(place.path, "7.hint.tmp"), 0700), 0);
    assert_int_not_equal(hint_write(&hint, place.dir, &config, SHARD_BITS), CASK_OK);
    assert_ok(hint_read(place.dir, &config, SEGMENT_ID, &back));
    hint_release(&back);
    hint_release(&hint);
    place_remove(&place);
}

static void test_a_missing_hint_is_not_found(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct hint back;

    (void)state;
    assert_int_equal(hint_read(place.dir, &config, SEGMENT_ID, &back), CASK_NOTFOUND);
    place_remove(&place);
}

/* ---- what is not believed -------------------------------------------------------------------- */

static void test_parse_rejects_every_flipped_bit(void **state)
{
    size_t size;
    uint8_t *bytes = file_of_hint(4, &size);

    (void)state;
    assert_ok(parse(bytes, size));
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
        assert_int_equal(parse(bytes, size), CASK_ECORRUPT);
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
    }
    free(bytes);
}

static void test_parse_rejects_every_other_length(void **state)
{
    size_t size;
    uint8_t *bytes = file_of_hint(4, &size);
    uint8_t *longer = calloc(1, size + 64);

    (void)state;
    memcpy(longer, bytes, size);
    for (size_t length = 0; length < size + 64; length++) {
        assert_int_equal(parse(longer, length), length == size ? CASK_OK : CASK_ECORRUPT);
        if (length >= HEADER + 8 && length != size) {
            uint8_t *copy = malloc(length);

            memcpy(copy, longer, length);
            assert_int_equal(parse_fixed(copy, length), CASK_ECORRUPT);
            free(copy);
        }
    }
    free(longer);
    free(bytes);
}

static void test_parse_rejects_the_hint_of_another_segment_shard_or_store(void **state)
{
    struct log_config config = config_of_test();
    struct hint hint;
    size_t size;
    uint8_t *bytes = file_of_hint(4, &size);

    (void)state;
    assert_int_equal(hint_parse(bytes, size, &config, SEGMENT_ID + 1, &hint), CASK_ECORRUPT);
    config.shard++;
    assert_int_equal(hint_parse(bytes, size, &config, SEGMENT_ID, &hint), CASK_ECORRUPT);
    config.shard--;
    config.uuid[15]++;
    assert_int_equal(hint_parse(bytes, size, &config, SEGMENT_ID, &hint), CASK_ECORRUPT);
    free(bytes);
}

static void test_parse_rejects_other_magic_and_version(void **state)
{
    size_t size;
    uint8_t *bytes = file_of_hint(4, &size);

    (void)state;
    put_u32(bytes + AT_VERSION, 2);
    assert_int_equal(parse_fixed(bytes, size), CASK_ECORRUPT);
    put_u32(bytes + AT_VERSION, 1);
    assert_ok(parse_fixed(bytes, size));
    bytes[7] = 'X';
    assert_int_equal(parse_fixed(bytes, size), CASK_ECORRUPT);
    free(bytes);
}

/* T33: counts whose product with the size of an entry wraps around. */
static void test_parse_rejects_counts_that_the_file_cannot_hold(void **state)
{
    static const uint64_t counts[] = {0,
                                      3,
                                      5,
                                      UINT64_MAX,
                                      UINT64_MAX / ENTRY,
                                      UINT64_MAX / ENTRY + 1,
                                      UINT64_MAX / ENTRY + 5,
                                      (uint64_t)1 << 63,
                                      ((uint64_t)1 << 32) + 4,
                                      ((uint64_t)1 << 59) + 4};
    size_t size;
    uint8_t *bytes = file_of_hint(4, &size);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        put_u64(bytes + AT_COUNT, counts[i]);
        assert_int_equal(parse_fixed(bytes, size), CASK_ECORRUPT);
    }
    put_u64(bytes + AT_COUNT, 4);
    assert_ok(parse_fixed(bytes, size));
    free(bytes);
}

/* One entry made wrong at a time. */
static int with_entry(size_t at, uint64_t value, unsigned width)
{
    size_t size;
    uint8_t *bytes = file_of_hint(4, &size);
    uint8_t *field = bytes + HEADER + 2 * ENTRY + at;
    int status;

    for (unsigned i = 0; i < width; i++)
        field[i] = (uint8_t)(value >> (8 * i));
    status = parse_fixed(bytes, size);
    free(bytes);
    return status;
}

static void test_parse_rejects_entries_outside_the_segment(void **state)
{
    (void)state;
    assert_ok(with_entry(14, 64 / 8, 4));
    assert_int_equal(with_entry(14, 0, 4), CASK_ECORRUPT);
    assert_int_equal(with_entry(14, 56 / 8, 4), CASK_ECORRUPT);
    assert_int_equal(with_entry(14, (64 + 4 * 32) / 8, 4), CASK_ECORRUPT);
    assert_int_equal(with_entry(14, (64 + 3 * 32) / 8 + 1, 4), CASK_ECORRUPT);
    assert_int_equal(with_entry(14, 0xffffffff, 4), CASK_ECORRUPT);
    assert_int_equal(with_entry(18, 0, 4), CASK_ECORRUPT);
    assert_int_equal(with_entry(18, 2, 4), CASK_ECORRUPT); /* 16 bytes: less than a header */
    assert_int_equal(with_entry(18, 17, 4), CASK_ECORRUPT);
    assert_int_equal(with_entry(18, 0xffffffff, 4), CASK_ECORRUPT);
}

static void test_parse_rejects_entries_that_contradict_themselves(void **state)
{
    (void)state;
    assert_int_equal(with_entry(8, 0, 6), CASK_ECORRUPT);   /* sequence number */
    assert_int_equal(with_entry(22, 0, 2), CASK_ECORRUPT);  /* key size */
    assert_ok(with_entry(22, 15, 2));                       /* 17 + 15 = 32 */
    assert_int_equal(with_entry(22, 16, 2), CASK_ECORRUPT); /* a key longer than its record */
    assert_int_equal(with_entry(22, 65535, 2), CASK_ECORRUPT);
    for (unsigned type = 0; type < 256; type++) {
        unsigned kind = type & RECORD_TYPE_MASK;
        bool known = (type & ~(RECORD_TYPE_MASK | RECORD_FLAGS_KNOWN)) == 0 &&
                     (kind == RECORD_PUT || kind == RECORD_DELETE);

        assert_int_equal(with_entry(24, type, 1), known ? CASK_OK : CASK_ECORRUPT);
    }
}

/* What the header says is added to and compared with later on. */
static void test_parse_rejects_numbers_out_of_range_in_the_header(void **state)
{
    static const struct {
        size_t at;
        uint64_t value;
    } wrong[] = {
        {AT_LENGTH, 0},
        {AT_LENGTH, SEGMENT_HEADER_BYTES - 1},
        {AT_LENGTH, SEGMENT_HEADER_BYTES + 3 * 32},
        {AT_LENGTH, SEGMENT_BYTES_MAX + 1},
        {AT_LENGTH, UINT64_MAX},
        {AT_MAX_SEQUENCE, UINT64_MAX},
        {AT_MAX_SEQUENCE, RECORD_SEQUENCE_MAX + 1},
        {AT_MAX_SEQUENCE, 3}, /* there is an entry of 4 */
        {AT_MAX_BATCH, RECORD_BATCH_MAX + 1},
        {AT_MAX_BATCH, UINT64_MAX},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        size_t size;
        uint8_t *bytes = file_of_hint(4, &size);

        put_u64(bytes + wrong[i].at, wrong[i].value);
        if (parse_fixed(bytes, size) != CASK_ECORRUPT)
            fail_msg("%zu: %llu was believed", wrong[i].at, (unsigned long long)wrong[i].value);
        free(bytes);
    }
}

static void test_parse_survives_random_changes_behind_the_checksum(void **state)
{
    struct rng rng = {5};
    size_t size;
    uint8_t *good = file_of_hint(6, &size);
    uint8_t *bytes = malloc(size);
    struct log_config config = config_of_test();

    (void)state;
    for (int i = 0; i < 100000; i++) {
        struct hint hint;

        memcpy(bytes, good, size);
        for (uint64_t n = 1 + rng_below(&rng, 3); n > 0; n--)
            bytes[HEADER - 72 + rng_below(&rng, size - HEADER + 64)] = (uint8_t)(rng_percent(&rng,
                                                                                             30)
                                                                                     ? 0xff
                                                                                     : rng_next(
                                                                                           &rng));
        put_u64(bytes + size - 8, checksum_bytes(bytes, size - 8));
        if (hint_parse(bytes, size, &config, SEGMENT_ID, &hint) != CASK_OK)
            continue;
        for (uint64_t j = 0; j < hint.count; j++) {
            struct hint_entry entry = hint_entry_at(&hint, j);

            assert_true(entry.offset >= SEGMENT_HEADER_BYTES && entry.size > 0 &&
                        entry.offset + entry.size <= hint.length);
        }
    }
    free(bytes);
    free(good);
}

static void test_a_huge_sparse_file_is_not_loaded(void **state)
{
    struct place place = place_make();
    struct log_config config = config_of_test();
    struct io_file *file;
    struct hint hint;

    (void)state;
    assert_ok(io_open(place.dir, "7.hint", IO_CREATE_NEW, &file));
    assert_ok(io_truncate(file, (uint64_t)1 << 40));
    io_close(file);
    assert_int_equal(hint_read(place.dir, &config, SEGMENT_ID, &hint), CASK_ECORRUPT);
    place_remove(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_come_back_in_the_order_of_their_tags),
        cmocka_unit_test(test_hints_of_any_length_are_written_whole),
        cmocka_unit_test(test_entries_of_equal_tag_stay_in_the_order_of_the_log),
        cmocka_unit_test(test_entries_of_few_tags_are_sorted_by_their_place),
        cmocka_unit_test(test_a_hint_written_in_parts_is_the_same),
        cmocka_unit_test(test_parts_that_do_not_add_up_are_no_hint),
        cmocka_unit_test(test_types_sizes_and_extremes_come_back),
        cmocka_unit_test(test_one_record_that_never_expires_makes_the_segment_never_expire),
        cmocka_unit_test(test_what_the_last_hint_knew_is_taken_over),
        cmocka_unit_test(test_expiries_are_taken_over),
        cmocka_unit_test(test_a_hint_replaces_the_one_before_and_what_a_crash_left),
        cmocka_unit_test(test_a_hint_that_cannot_be_written_leaves_the_old_one),
        cmocka_unit_test(test_a_missing_hint_is_not_found),
        cmocka_unit_test(test_parse_rejects_every_flipped_bit),
        cmocka_unit_test(test_parse_rejects_every_other_length),
        cmocka_unit_test(test_parse_rejects_the_hint_of_another_segment_shard_or_store),
        cmocka_unit_test(test_parse_rejects_other_magic_and_version),
        cmocka_unit_test(test_parse_rejects_counts_that_the_file_cannot_hold),
        cmocka_unit_test(test_parse_rejects_entries_outside_the_segment),
        cmocka_unit_test(test_parse_rejects_entries_that_contradict_themselves),
        cmocka_unit_test(test_parse_rejects_numbers_out_of_range_in_the_header),
        cmocka_unit_test(test_parse_survives_random_changes_behind_the_checksum),
        cmocka_unit_test(test_a_huge_sparse_file_is_not_loaded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
