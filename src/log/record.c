#include "log/record.h"

#include "base/checksum.h"

#define AT_CHECKSUM 0
#define AT_VALUE_SIZE 4
#define AT_SEQUENCE 8
#define AT_KEY_SIZE 14
#define AT_TYPE 16
#define AT_EXPIRY 17

/* All of the header but the checksum, and the key. */
static size_t encode_fields(const struct record *record, uint8_t *to)
{
    size_t used = RECORD_HEADER_BYTES;
    uint8_t type = (uint8_t)record->type;

    if (record->in_batch)
        type |= RECORD_IN_BATCH;
    if (record->expires_at_ms != 0)
        type |= RECORD_EXPIRES;
    put_u32(to + AT_VALUE_SIZE, (uint32_t)record->value.size);
    put_u48(to + AT_SEQUENCE, record->sequence);
    put_u16(to + AT_KEY_SIZE, (uint16_t)record->key.size);
    to[AT_TYPE] = type;
    if (record->expires_at_ms != 0) {
        put_u56(to + AT_EXPIRY, record->expires_at_ms);
        used += RECORD_EXPIRY_BYTES;
    }
    bytes_copy(to + used, record->key.data, record->key.size);
    return used + record->key.size;
}

void record_encode(const struct record *record, uint64_t place, uint8_t *to)
{
    size_t used = encode_fields(record, to);

    bytes_copy(to + used, record->value.data, record->value.size);
    used += record->value.size;
    memset(to + used, 0, record_size(record) - used);
    put_u32(to + AT_CHECKSUM, checksum_placed(to + AT_VALUE_SIZE, used - AT_VALUE_SIZE, place));
}

size_t record_encode_head(const struct record *record, uint64_t place, uint8_t *to)
{
    size_t used = encode_fields(record, to);
    XXH3_state_t state;

    XXH3_INITSTATE(&state);
    XXH3_64bits_reset_withSeed(&state, place);
    XXH3_64bits_update(&state, to + AT_VALUE_SIZE, used - AT_VALUE_SIZE);
    XXH3_64bits_update(&state, record->value.data, record->value.size);
    put_u32(to + AT_CHECKSUM, (uint32_t)XXH3_64bits_digest(&state));
    return used;
}

uint64_t record_unpadded_size(const uint8_t *from)
{
    uint64_t size = RECORD_HEADER_BYTES + (uint64_t)get_u16(from + AT_KEY_SIZE) +
                    get_u32(from + AT_VALUE_SIZE);

    return from[AT_TYPE] & RECORD_EXPIRES ? size + RECORD_EXPIRY_BYTES : size;
}

uint64_t record_claimed_size(const uint8_t *from)
{
    return align_up(record_unpadded_size(from), RECORD_ALIGNMENT);
}

static bool all_zero(const uint8_t *from)
{
    return get_u64(from) == 0 && get_u64(from + 8) == 0 && from[AT_TYPE] == 0;
}

bool record_is_plausible(const uint8_t *from)
{
    unsigned type = from[AT_TYPE] & RECORD_TYPE_MASK;
    unsigned flags = from[AT_TYPE] & ~RECORD_TYPE_MASK;
    bool keyless = type == RECORD_BATCH_END || type == RECORD_SEAL;

    /* The expiry is read only where the sizes leave room for it: see RECORD_HEADER_BYTES. */
    return type >= RECORD_PUT && type <= RECORD_SEAL && (flags & ~RECORD_FLAGS_KNOWN) == 0 &&
           get_u32(from + AT_VALUE_SIZE) <= CASK_VALUE_MAX && get_u48(from + AT_SEQUENCE) != 0 &&
           ((flags & RECORD_EXPIRES) == 0 || get_u56(from + AT_EXPIRY) != 0) &&
           (get_u16(from + AT_KEY_SIZE) == 0) == keyless;
}

enum record_outcome record_decode(const uint8_t *from, uint64_t available, uint64_t place,
                                  bool verify, struct record *ret_record)
{
    uint64_t size;
    size_t at = RECORD_HEADER_BYTES;

    if (available < RECORD_HEADER_BYTES)
        return RECORD_NONE;
    if (all_zero(from))
        return RECORD_NONE;
    size = record_unpadded_size(from);
    if (align_up(size, RECORD_ALIGNMENT) > available)
        return RECORD_TRUNCATED; /* its padding is part of it */
    if (!record_is_plausible(from))
        return RECORD_BAD;
    if (verify && get_u32(from + AT_CHECKSUM) !=
                      checksum_placed(from + AT_VALUE_SIZE, (size_t)size - AT_VALUE_SIZE, place))
        return RECORD_BAD;
    ret_record->sequence = get_u48(from + AT_SEQUENCE);
    ret_record->type = (enum record_type)(from[AT_TYPE] & RECORD_TYPE_MASK);
    ret_record->in_batch = (from[AT_TYPE] & RECORD_IN_BATCH) != 0;
    ret_record->expires_at_ms = 0;
    if (from[AT_TYPE] & RECORD_EXPIRES) {
        ret_record->expires_at_ms = get_u56(from + AT_EXPIRY);
        at += RECORD_EXPIRY_BYTES;
    }
    ret_record->key = (struct cask_slice){from + at, get_u16(from + AT_KEY_SIZE)};
    ret_record->value = (struct cask_slice){from + at + ret_record->key.size,
                                            get_u32(from + AT_VALUE_SIZE)};
    return RECORD_VALID;
}

size_t batch_end_encode(const struct batch_end *end, unsigned shard_count, uint8_t *to)
{
    size_t mask_bytes = (shard_count + 7) / 8;

    put_u32(to, end->count);
    if (end->number == 0)
        return 4;
    put_u64(to + 4, end->number);
    memcpy(to + 12, end->shards, mask_bytes);
    return 12 + mask_bytes;
}

bool batch_end_decode(struct cask_slice value, unsigned shard_count, struct batch_end *ret_end)
{
    const uint8_t *from = value.data;
    size_t mask_bytes = (shard_count + 7) / 8;

    memset(ret_end, 0, sizeof *ret_end);
    if (value.size != 4 && value.size != 12 + mask_bytes)
        return false;
    ret_end->count = get_u32(from);
    if (value.size == 4)
        return true;
    ret_end->number = get_u64(from + 4);
    memcpy(ret_end->shards, from + 12, mask_bytes);
    return ret_end->number != 0 && ret_end->number <= RECORD_BATCH_MAX;
}
