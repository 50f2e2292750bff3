#include "log/scan.h"

#include "base/checksum.h"
#include "base/pages.h"

#define PIECE_BYTES ((size_t)1 << 20)
#define SMALL_BYTES ((uint64_t)4096)
#define RESYNC_BUDGET_BYTES ((uint64_t)256 << 20)

int scan_init(struct scan *scan, const struct segment *segment, struct io_file *file, uint64_t from,
              uint64_t end)
{
    size_t room = (size_t)min_u64(PIECE_BYTES, end > from ? end - from : 0) + 1;

    *scan = (struct scan){.segment = segment,
                          .file = file ? file : segment->file,
                          .at = from,
                          .end = end,
                          .buffer = pages_borrow(room),
                          .buffer_bytes = room};
    scan->piece = scan->buffer;
    return scan->buffer ? CASK_OK : CASK_ENOMEM;
}

void scan_init_mapped(struct scan *scan, const struct segment *segment, uint64_t from, uint64_t end)
{
    *scan = (struct scan){.segment = segment,
                          .file = segment->file,
                          .at = from,
                          .end = end,
                          .piece = segment->map,
                          .piece_bytes = (size_t)end};
}

void scan_release(struct scan *scan)
{
    pages_return(scan->buffer, scan->buffer_bytes);
    scan->buffer = NULL;
}

/* Makes [at, at + size) of the file part of the piece, as far as the file goes. */
static int load_piece(struct scan *scan, uint64_t at, size_t size)
{
    size_t got;
    int status;

    if (!scan->buffer || (at >= scan->piece_at && at + size <= scan->piece_at + scan->piece_bytes))
        return CASK_OK;
    status = io_read(scan->file, at, scan->buffer, (size_t)min_u64(PIECE_BYTES, scan->end - at),
                     &got);
    scan->piece_at = at;
    scan->piece_bytes = status == CASK_OK ? got : 0;
    return status;
}

/* Checks a record that is larger than the piece, whose start is in it. */
static int check_large(struct scan *scan, uint64_t size, bool *ret_good)
{
    uint64_t place = segment_place(scan->segment, scan->at);
    const uint8_t *head = scan->piece + (scan->at - scan->piece_at);
    uint32_t expected = get_u32(head);
    uint8_t *chunk = pages_borrow(PIECE_BYTES);
    uint64_t done = 4;
    int status = chunk ? CASK_OK : CASK_ENOMEM;
    XXH3_state_t state;

    XXH3_INITSTATE(&state);
    XXH3_64bits_reset_withSeed(&state, place);
    while (status == CASK_OK && done < size) {
        size_t want = (size_t)min_u64(PIECE_BYTES, size - done);
        size_t got;

        status = io_read(scan->file, scan->at + done, chunk, want, &got);
        if (status == CASK_OK && got < want)
            break;
        if (status == CASK_OK)
            XXH3_64bits_update(&state, chunk, want);
        done += want;
    }
    pages_return(chunk, PIECE_BYTES);
    *ret_good = done == size && (uint32_t)XXH3_64bits_digest(&state) == expected;
    return status;
}

/* A record of which only the head is in memory. */
static int next_large(struct scan *scan, uint64_t available, enum record_outcome *ret_outcome,
                      struct record *ret_record)
{
    const uint8_t *head = scan->piece + (scan->at - scan->piece_at);
    uint64_t unpadded = record_unpadded_size(head);
    uint64_t padded = align_up(unpadded, RECORD_ALIGNMENT);
    bool good;
    int status;

    *ret_outcome = RECORD_TRUNCATED;
    if (padded > available)
        return CASK_OK;
    *ret_outcome = RECORD_BAD;
    if (!record_is_plausible(head))
        return CASK_OK;
    status = check_large(scan, unpadded, &good);
    if (status != CASK_OK)
        return status;
    if (!good)
        return CASK_OK;
    *ret_outcome = record_decode(head, available, 0, false, ret_record);
    ret_record->value.data = NULL;
    return CASK_OK;
}

int scan_next(struct scan *scan, enum record_outcome *ret_outcome, struct record *ret_record,
              uint64_t *ret_offset)
{
    uint64_t available = scan->end > scan->at ? scan->end - scan->at : 0;
    uint64_t here;
    uint64_t claimed;
    int status;

    *ret_outcome = RECORD_NONE;
    if (available < RECORD_HEADER_BYTES)
        return CASK_OK;
    status = load_piece(scan, scan->at, RECORD_HEADER_BYTES);
    if (status != CASK_OK)
        return status;
    here = scan->piece_at + scan->piece_bytes - scan->at;
    if (scan->piece_bytes < RECORD_HEADER_BYTES || here < RECORD_HEADER_BYTES)
        return CASK_OK;
    claimed = record_claimed_size(scan->piece + (scan->at - scan->piece_at));
    if (claimed > here && claimed <= PIECE_BYTES) {
        status = load_piece(scan, scan->at, (size_t)claimed);
        if (status != CASK_OK)
            return status;
        here = scan->piece_at + scan->piece_bytes - scan->at;
    } else if (claimed > here) {
        status = load_piece(scan, scan->at, (size_t)min_u64(available, PIECE_BYTES));
        if (status != CASK_OK)
            return status;
        here = scan->piece_at + scan->piece_bytes - scan->at;
    }
    if (claimed > here && claimed > PIECE_BYTES)
        status = next_large(scan, available, ret_outcome, ret_record);
    else
        *ret_outcome = record_decode(scan->piece + (scan->at - scan->piece_at), here,
                                     segment_place(scan->segment, scan->at), true, ret_record);
    if (status == CASK_OK && *ret_outcome == RECORD_VALID) {
        *ret_offset = scan->at;
        scan->at += record_size(ret_record);
    }
    return status;
}

void scan_forget(struct scan *scan)
{
    if (scan->buffer)
        scan->piece_bytes = 0;
}

/* Whether what stands here is worth a checksum, out of a budget of bytes: garbage may claim any
 * size at every step, and must not make this quadratic. */
static int is_candidate(struct scan *scan, uint64_t *budget, bool *ret_yes)
{
    const uint8_t *head;
    uint64_t size;
    int status;

    *ret_yes = false;
    if (scan->end - scan->at < RECORD_HEADER_MAX)
        return CASK_OK;
    status = load_piece(scan, scan->at, RECORD_HEADER_MAX);
    if (status != CASK_OK || scan->piece_at + scan->piece_bytes < scan->at + RECORD_HEADER_MAX)
        return status;
    head = scan->piece + (scan->at - scan->piece_at);
    size = record_claimed_size(head);
    if (size > scan->end - scan->at || !record_is_plausible(head) ||
        (size > SMALL_BYTES && size > *budget))
        return CASK_OK;
    if (size > SMALL_BYTES)
        *budget -= size;
    *ret_yes = true;
    return CASK_OK;
}

int scan_resync(struct scan *scan)
{
    uint64_t budget = RESYNC_BUDGET_BYTES;

    for (scan->at += RECORD_ALIGNMENT; scan->at < scan->end; scan->at += RECORD_ALIGNMENT) {
        enum record_outcome outcome;
        struct record record;
        uint64_t offset;
        bool candidate;
        int status = is_candidate(scan, &budget, &candidate);

        if (status == CASK_OK && !candidate)
            continue;
        if (status == CASK_OK)
            status = scan_next(scan, &outcome, &record, &offset);
        if (status != CASK_OK)
            return status;
        if (outcome == RECORD_VALID) {
            scan->at = offset;
            return CASK_OK;
        }
    }
    return CASK_NOTFOUND;
}

int scan_last_byte(struct scan *scan, uint64_t *ret_end)
{
    uint64_t last = scan->at;
    int status = CASK_OK;

    for (uint64_t at = scan->at; status == CASK_OK && at < scan->end;) {
        size_t size = (size_t)min_u64(PIECE_BYTES, scan->end - at);

        status = load_piece(scan, at, size);
        if (status == CASK_OK && scan->piece_at + scan->piece_bytes <= at)
            break;
        for (; status == CASK_OK && size > 0 && at < scan->piece_at + scan->piece_bytes;
             at++, size--)
            if (scan->piece[at - scan->piece_at] != 0)
                last = at + 1;
    }
    *ret_end = last;
    return status;
}
