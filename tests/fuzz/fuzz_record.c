/* Records, batch ends and walks over a segment's bytes: whatever stands there, nothing is read
 * beyond what may be touched, and what is decoded lies inside. An odd first byte has the checksum
 * mended, so that the fields behind it are reached too. */
#include <assert.h>
#include <stdlib.h>

#include "base/checksum.h"
#include "log/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(const uint8_t *from, size_t size, const struct record *record)
{
    const uint8_t *key = record->key.data;
    const uint8_t *value = record->value.data;

    assert(key >= from && record->key.size <= (size_t)(from + size - key));
    assert(value >= from && record->value.size <= (size_t)(from + size - value));
    assert(record_size(record) <= size && record->sequence != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint64_t place = 42;
    struct record record;
    struct batch_end end;
    uint8_t *bytes;

    if (size < 2)
        return 0;
    bytes = malloc(size);
    if (!bytes)
        return 0;
    memcpy(bytes, data, size);
    if (size - 1 >= RECORD_HEADER_BYTES && (data[0] & 1)) {
        uint64_t claimed = record_unpadded_size(bytes + 1);

        if (claimed <= size - 1)
            put_u32(bytes + 1, checksum_placed(bytes + 5, (size_t)claimed - 4, place));
    }
    if (record_decode(bytes + 1, size - 1, place, (data[0] & 2) == 0, &record) == RECORD_VALID) {
        check_inside(bytes + 1, size - 1, &record);
        if (record.type == RECORD_BATCH_END && batch_end_decode(record.value, 256, &end))
            assert(end.number <= RECORD_BATCH_MAX);
    }
    free(bytes);
    return 0;
}
