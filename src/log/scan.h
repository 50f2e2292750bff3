/* Walks the records of a segment from front to back, by reading the file in large pieces.
 *
 * Invariants:
 *  1. A read error is a status, never the end of the log.
 *  2. A record larger than the piece is checked in a stream; its value is then not in memory.
 *  3. Nothing is believed that did not validate at its place.
 */
#ifndef CASKADE_SCAN_H
#define CASKADE_SCAN_H

#include "log/segment.h"

struct scan {
    const struct segment *segment;
    struct io_file *file;
    uint64_t at;  /* of the record to come */
    uint64_t end; /* of what may be read */
    const uint8_t *piece;
    uint8_t *buffer; /* behind piece, where that is not the mapping */
    size_t buffer_bytes;
    uint64_t piece_at;
    size_t piece_bytes;
};

/* Reads by way of the segment's own descriptor, or by `file` where it has let that go; the caller
 * keeps either open. */
CHECKED int scan_init(struct scan *scan, const struct segment *segment, struct io_file *file,
                      uint64_t from, uint64_t end);
/* The same over the segment's mapping, for bytes that are in memory anyway. */
void scan_init_mapped(struct scan *scan, const struct segment *segment, uint64_t from,
                      uint64_t end);
void scan_release(struct scan *scan);

/* What stands at scan->at. RECORD_VALID: *ret_record and *ret_offset are set and the scan has moved
 * behind it; the key is valid until the next call, the value too where its data is not NULL. On any
 * other outcome the scan stays. The status is CASK_OK, CASK_EIO or CASK_ENOMEM. */
CHECKED int scan_next(struct scan *scan, enum record_outcome *ret_outcome,
                      struct record *ret_record, uint64_t *ret_offset);

/* Reads anew what the scan stands at: another process may have written it meanwhile. */
void scan_forget(struct scan *scan);

/* The end of the last byte from the scan's place on that is not zero; the place itself if none
 * is. */
CHECKED int scan_last_byte(struct scan *scan, uint64_t *ret_end);

/* Moves on to the next place at which a record validates; CASK_NOTFOUND if there is none. Looks at
 * large candidates only as far as a budget goes. */
CHECKED int scan_resync(struct scan *scan);

#endif
