/* Records, batch ends and walks over a segment's bytes: whatever stands there, nothing is read
 * beyond what may be touched, what is decoded lies inside, and a walk ends.
 *
 * The input is a list of pieces: two bytes of length, one of flags, then that many bytes, each
 * piece at the next multiple of 8. Flags: 1 mends the checksum of the record that the piece claims
 * to be, at its place; 2 first makes its key and value fill the piece, so that the fields behind
 * the checksum are reached with sizes that fit; 4 leaves the piece out of that and so damages the
 * log. */
#include <assert.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "log/scan.h"

#define AT_VALUE_SIZE 4
#define AT_KEY_SIZE 14
#define AT_TYPE 16
#define PIECE_HEAD 3
#define MAP_ROOM ((size_t)1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(const uint8_t *from, uint64_t size, const struct record *record)
{
    const uint8_t *key = record->key.data;
    const uint8_t *value = record->value.data;

    assert(key >= from && record->key.size <= (size_t)(from + size - key));
    assert(value >= from && record->value.size <= (size_t)(from + size - value));
    assert(record_size(record) <= size && record_size(record) == record_claimed_size(from));
    assert(record->sequence != 0);
}

static void check_batch_end(const struct record *record)
{
    struct batch_end end;

    for (unsigned shards = 1; shards <= 256; shards *= 2)
        if (batch_end_decode(record->value, shards, &end)) {
            uint8_t again[BATCH_END_MAX];
            size_t size = batch_end_encode(&end, shards, again);

            assert(end.number <= RECORD_BATCH_MAX && size == record->value.size);
            assert(bytes_equal(again, record->value.data, size));
        }
}

/* What decodes, encodes to the same bytes. */
static void check_round_trip(const uint8_t *from, uint64_t place, const struct record *record)
{
    size_t size = record_size(record);
    uint8_t *again = malloc(size);

    if (!again)
        return;
    record_encode(record, place, again);
    assert(memcmp(again, from, (size_t)record_unpadded_size(from)) == 0);
    free(again);
}

static void mend(uint8_t *at, size_t size, unsigned flags, uint64_t place)
{
    uint64_t unpadded;

    if (size < RECORD_HEADER_MAX || (flags & 4))
        return;
    if (flags & 2) {
        size_t body = size - RECORD_HEADER_MAX;
        unsigned type = at[AT_TYPE] & RECORD_TYPE_MASK;
        size_t key = type == RECORD_PUT || type == RECORD_DELETE ? body - body / 2 : 0;

        put_u16(at + AT_KEY_SIZE, (uint16_t)key);
        put_u32(at + AT_VALUE_SIZE, (uint32_t)(body - key));
    }
    unpadded = record_unpadded_size(at);
    if ((flags & 1) && unpadded <= size)
        put_u32(at, checksum_placed(at + 4, (size_t)unpadded - 4, place));
}

/* Lays the pieces out as a segment of exactly that many bytes. */
static uint8_t *lay_out(const uint8_t *data, size_t size, const struct segment *segment,
                        size_t *ret_size)
{
    uint8_t *map = calloc(1, MAP_ROOM);
    size_t at = SEGMENT_HEADER_BYTES;

    while (map && size > PIECE_HEAD) {
        size_t length = get_u16(data) % 4096;
        unsigned flags = data[2];

        data += PIECE_HEAD;
        size -= PIECE_HEAD;
        length = length < size ? length : size;
        if (at + length + 8 > MAP_ROOM)
            break;
        memcpy(map + at, data, length);
        mend(map + at, length, flags, segment_place(segment, at));
        data += length;
        size -= length;
        at = (size_t)align_up(at + length, RECORD_ALIGNMENT);
    }
    *ret_size = at;
    return map ? realloc(map, at) : NULL;
}

static void walk(struct segment *segment, size_t size)
{
    struct scan scan;
    int status = CASK_OK;

    scan_init_mapped(&scan, segment, SEGMENT_HEADER_BYTES, size);
    while (status == CASK_OK && scan.at < size) {
        enum record_outcome outcome;
        struct record record;
        uint64_t before = scan.at;
        uint64_t offset;

        status = scan_next(&scan, &outcome, &record, &offset);
        assert(status == CASK_OK);
        if (outcome == RECORD_VALID) {
            assert(offset == before && scan.at > before && scan.at <= size);
            check_inside(segment->map + offset, size - offset, &record);
            check_round_trip(segment->map + offset, segment_place(segment, offset), &record);
            if (record.type == RECORD_BATCH_END)
                check_batch_end(&record);
        } else {
            uint64_t last;

            assert(scan.at == before);
            status = scan_last_byte(&scan, &last);
            assert(status == CASK_OK && last >= scan.at && last <= size);
            status = scan_resync(&scan);
            assert(status == CASK_NOTFOUND || (status == CASK_OK && scan.at > before));
        }
    }
    scan_release(&scan);
}

/* Every offset, without the checksum: what a look-up by a wrong location would read. */
static void read_everywhere(struct segment *segment, size_t size)
{
    for (uint64_t offset = 0; offset < size; offset += RECORD_ALIGNMENT) {
        struct record_buffer buffer;
        struct record record;

        record_buffer_init(&buffer);
        if (segment_read(segment, offset, true, false, &buffer, &record) == CASK_OK)
            check_inside(segment->map + offset, size - offset, &record);
        record_buffer_release(&buffer);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment segment = {.id = 1, .seed = 0x123456789abcdef0u};
    size_t map_size = 0;

    segment.map = lay_out(data, size, &segment, &map_size);
    if (!segment.map)
        return 0;
    segment.map_bytes = map_size;
    segment.capacity = map_size;
    segment_set_tail(&segment, map_size);
    walk(&segment, map_size);
    read_everywhere(&segment, map_size);
    free(segment.map);
    return 0;
}
