/* A segment: one append-only file of records, written once from front to back.
 *
 * Header, 64 bytes:
 *    0  8  magic "CASKSEGM"
 *    8  4  format version            12  4  shard
 *   16 16  store uuid
 *   32  8  segment id                40  8  id of the segment before it, 0 for the first
 *   48  8  zero                      56  8  checksum of the 56 bytes before
 *
 * Invariants:
 *  1. Bytes below the tail never change. Bytes from the tail to the end of the file are zeros.
 *  2. A store into the mapping happens only below `allocated`, which the file system has given
 *     blocks to: a full disk is a status, never SIGBUS.
 *  3. What segment_append() wrote is part of the log only after segment_commit(); until then
 *     segment_rollback() takes it back, and a rollback that fails makes the segment useless for
 *     writing (the caller must refuse further writes).
 *  4. Readers see [0, tail); the tail is published after the bytes.
 *  5. No file is pre-zeroed, recycled or overwritten.
 */
#ifndef CASKADE_SEGMENT_H
#define CASKADE_SEGMENT_H

#include <stdatomic.h>

#include "io/io.h"
#include "log/record.h"

#define SEGMENT_HEADER_BYTES 64u
#define SEGMENT_SEAL_BYTES 32u      /* a seal record as stored: always kept free at the end */
#define SEGMENT_HEADROOM_MAX 16384u /* kept free of puts, so that a full disk takes deletes */
#define SEGMENT_STEP_BYTES ((uint64_t)2 << 20) /* by which blocks are had */
#define SEGMENT_EXTEND_BELOW (SEGMENT_STEP_BYTES / 2)
#define SEGMENT_VERSION 1u
#define SEGMENT_NAME_BYTES 32

/* No segment is longer: the largest segment_bytes, or one record of the largest kind. */
#define SEGMENT_BYTES_MAX (((uint64_t)2 << 30) + ((uint64_t)1 << 20))

_Static_assert(RECORD_HEADER_BYTES + 8 <= SEGMENT_SEAL_BYTES, "a seal fits its reserve");

/* What all segments of a shard have in common. */
struct log_config {
    uint8_t uuid[16];
    uint32_t shard;
    uint32_t shard_count;
    unsigned offset_bits;
    bool write_mapped;
    bool write_fallback; /* system calls will do where the file system cannot preallocate */
    bool read_mapped;
    bool verify_reads;
    uint64_t segment_bytes;
};

/* What a shard keeps beside each segment; changed under the shard's lock. */
struct segment_counts {
    uint64_t live_bytes;
    uint64_t dead_bytes;
    uint64_t tombstone_bytes; /* of the dead ones, those of tombstones */
    uint64_t records;
    uint64_t min_sequence; /* of records; 0: none */
    uint64_t max_sequence;
    uint64_t last_expiry; /* UINT64_MAX: a put without expiry is in it */
};

static inline void segment_counts_note(struct segment_counts *counts, uint64_t sequence,
                                       uint64_t expiry)
{
    counts->records++;
    if (counts->min_sequence == 0 || sequence < counts->min_sequence)
        counts->min_sequence = sequence;
    counts->max_sequence = max_u64(counts->max_sequence, sequence);
    counts->last_expiry = max_u64(counts->last_expiry, expiry);
}

/* What the runs of the index know of a segment: the entries of the records below `end`. An open
 * need not read those, and takes their figures from the manifest. Nothing but a flush, a merge of
 * runs or one of segments changes them: what an entry of the keydir gives way to lies behind. */
struct segment_cover {
    uint64_t end; /* bytes from the segment's start; 0: nothing */
    struct segment_counts counts;
};

struct segment {
    uint64_t id;
    uint64_t predecessor;
    uint64_t seed;      /* of the places of its records */
    uint64_t capacity;  /* bytes the file may grow to */
    uint64_t reach;     /* records begin below this: locations hold no larger offset */
    uint64_t allocated; /* bytes that have blocks */
    uint64_t pending;   /* end of what was appended, committed or not */
    uint64_t settled;   /* mapped mode: bytes from the start that are mapped for reading alone */
    uint64_t synced_to; /* bytes from the start that segment_sync() has made durable */
    uint64_t flushed;   /* system-call mode: end of what was written to the file */
    _Atomic uint64_t tail;
    struct io_file *file; /* NULL once sealed, where reads are mapped */
    uint8_t *map;
    size_t map_bytes;
    bool map_writable;
    bool write_mapped;
    bool grow_large; /* not the shard's first: allocate in large steps from the start */
    bool sealed;     /* ends with a seal or was found so; takes no more records */
    uint8_t *scratch;
    size_t scratch_bytes;
    uint64_t sealed_checksum; /* of its bytes, where the manifest knows it */
    uint64_t clean_length;    /* what its hint at the last close covers; 0: none */
    bool in_manifest_sealed;
    bool unlisted;    /* left out of the manifest: on its way in or out */
    bool queued;      /* for sealing: not to be merged before it has left the queue */
    bool hintless;    /* its hint found no room on the disk */
    bool unmergeable; /* damage was met in it: it stays as it is */
    struct segment_cover covered;
    struct segment_cover covering; /* the same once the flush under way is over */
    struct segment_cover covered_before;
    uint64_t shadowed_bytes; /* of live_bytes: dead by the index alone, as cask_merge() found */
    uint64_t carried_at; /* count of the shard's merges when its tombstones had to stay; 0: none */
    struct segment *next_retired;
    bool header_damaged;   /* its records still prove themselves */
    bool synced;           /* sealed, and all of it is durable */
    uint64_t end_position; /* sealed: where it ends in the shard's count of appended bytes */
    uint64_t max_batch;    /* largest batch number in it */
    struct segment *next_sealing;
    struct segment_counts counts;
    _Atomic uint32_t pins;
};

/* A place to read a record into where it is not mapped. */
struct record_buffer {
    uint8_t *heap;
    uint8_t bytes[1024];
};

static inline void record_buffer_init(struct record_buffer *buffer)
{
    buffer->heap = NULL;
}
void record_buffer_release(struct record_buffer *buffer);

void segment_data_name(uint64_t id, char name[SEGMENT_NAME_BYTES]);
void segment_hint_name(uint64_t id, char name[SEGMENT_NAME_BYTES]);

/* Makes an empty segment of at most capacity bytes. Nothing is synced. On an error the file is gone
 * again. */
CHECKED int segment_create(struct io_dir *dir, const struct log_config *config, uint64_t id,
                           uint64_t predecessor, uint64_t capacity, struct segment **ret_segment);

/* Opens a segment to read; its tail is the file's size, but never within the header, until
 * segment_set_tail(). CASK_NOTFOUND if the file is missing. A damaged header is noted in
 * header_damaged and no failure: every record proves by its checksum where it belongs. */
CHECKED int segment_open(struct io_dir *dir, const struct log_config *config, uint64_t id,
                         struct segment **ret_segment);

/* Takes in what its writer, another process, has made the file grow by since it was opened to read.
 * Nobody reads it meanwhile. */
CHECKED int segment_look_again(struct segment *segment, const struct log_config *config);

/* Stands for a segment whose file is gone: every read of it is CASK_ECORRUPT. */
CHECKED int segment_open_missing(const struct log_config *config, uint64_t id,
                                 struct segment **ret_segment);

/* Makes an opened segment writable behind `tail`, where the file has been cut. CASK_ENOTSUP where
 * writes are to be mapped and the file system cannot preallocate. */
CHECKED int segment_resume(struct segment *segment, struct io_dir *dir,
                           const struct log_config *config, uint64_t tail);

void segment_close(struct segment *segment);

static inline uint64_t segment_tail(const struct segment *segment)
{
    return atomic_load_explicit(&segment->tail, memory_order_acquire);
}

static inline void segment_set_tail(struct segment *segment, uint64_t tail)
{
    segment->pending = tail;
    segment->flushed = tail;
    atomic_store_explicit(&segment->tail, tail, memory_order_release);
}

static inline uint64_t segment_place(const struct segment *segment, uint64_t offset)
{
    return segment->seed ^ offset;
}

/* What is kept free behind a record of `size` bytes: the seal and, for all but deletes, headroom
 * for tombstones. */
static inline uint64_t segment_reserve(const struct segment *segment, bool keep_headroom)
{
    return SEGMENT_SEAL_BYTES +
           (keep_headroom ? min_u64(SEGMENT_HEADROOM_MAX, segment->capacity / 16) : 0);
}

static inline bool segment_has_room(const struct segment *segment, uint64_t size,
                                    bool keep_headroom)
{
    uint64_t end = segment->pending + size;

    /* One record, or the whole of a batch, may pass the reach if it begins the segment. */
    return end + segment_reserve(segment, keep_headroom) <= segment->capacity &&
           (end <= segment->reach || segment->pending == SEGMENT_HEADER_BYTES);
}

static inline bool segment_has_blocks(const struct segment *segment, uint64_t size,
                                      bool keep_headroom)
{
    return segment->pending + size + segment_reserve(segment, keep_headroom) <= segment->allocated;
}

/* How far there are blocks once those up to `end` have been asked for. */
uint64_t segment_allocation_for(const struct segment *segment, uint64_t end);

/* Gets blocks for `size` more bytes and what is kept free, and some ahead. CASK_ENOSPC and the like
 * change nothing. */
CHECKED int segment_ensure(struct segment *segment, uint64_t size, bool keep_headroom);

/* The same with none ahead. */
CHECKED int segment_ensure_exactly(struct segment *segment, uint64_t size, bool keep_headroom);

/* Asks for the lines that the next records go to: whoever cleared the page has them. */
static inline void segment_prefetch_tail(const struct segment *segment)
{
    if (segment->map_writable && segment->pending + 256 <= segment->capacity)
        for (unsigned ahead = 64; ahead <= 192; ahead += 64)
            __builtin_prefetch(segment->map + segment->pending + ahead, 1);
}

/* Whether a writer will soon need blocks that segment_extend() can get ahead of it. */
static inline bool segment_wants_blocks(const struct segment *segment)
{
    return segment->allocated - segment->pending < SEGMENT_EXTEND_BELOW &&
           (segment->allocated >= SEGMENT_STEP_BYTES || segment->grow_large) &&
           segment->allocated < segment->capacity && segment->map_writable;
}

/* Gets the blocks of one more step from `allocated` on, and memory for them, while others append.
 * Returns how far there are blocks then: `allocated` where there are none to be had. */
uint64_t segment_extend(struct segment *segment, uint64_t allocated);

/* Takes write access away from what lies in front of the tail, which no batch may take back any
 * more, as far as whole huge pages go. While others append, but not while the file is cut. */
void segment_settle(struct segment *segment, uint64_t tail);

/* Appends a record behind what is pending, after segment_ensure() for its size; its offset goes to
 * *ret_offset. */
CHECKED int segment_append(struct segment *segment, const struct record *record,
                           uint64_t *ret_offset);

/* Gives back the blocks behind what is kept free for deletes. CASK_EIO and the like. */
CHECKED int segment_give_back(struct segment *segment);

CHECKED int segment_commit(struct segment *segment);
CHECKED int segment_rollback(struct segment *segment);

/* Reads the record at offset, whose key and value point into the mapping or into buffer.
 * CASK_ECORRUPT where none validates there. */
CHECKED int segment_read(const struct segment *segment, uint64_t offset, bool read_mapped,
                         bool verify, struct record_buffer *buffer, struct record *ret_record);

/* Asks for the record's header, and a key of the usual size, to be in the cache soon. */
static inline void segment_prefetch_key(const struct segment *segment, uint64_t offset)
{
    if (segment->map && offset < segment->map_bytes)
        __builtin_prefetch(segment->map + offset + RECORD_HEADER_BYTES);
}

/* Asks for the record's first bytes to be read from the disk, without waiting for them. */
void segment_read_ahead(const struct segment *segment, uint64_t offset, bool read_mapped);

/* Asks for the record's first lines to be in the cache soon. */
static inline void segment_prefetch(const struct segment *segment, uint64_t offset)
{
    if (segment->map && offset < segment->map_bytes) {
        __builtin_prefetch(segment->map + offset);
        __builtin_prefetch(segment->map + offset + 64);
        __builtin_prefetch(segment->map + offset + 128);
    }
}

/* Cuts the file behind the tail, once no more is written, and drops write access. */
CHECKED int segment_trim(struct segment *segment);

/* Makes the first `end` bytes durable, which have been committed. One call at a time. Memory that
 * segment_extend() has brought in behind them stays ready for stores, if the segment is to be
 * written further. CASK_EIO: nobody knows what is durable. */
CHECKED int segment_sync(struct segment *segment, uint64_t end, bool written_further);

/* Lets the descriptor go where reads are mapped: called when the segment is sealed and synced. */
void segment_let_file_go(struct segment *segment, bool read_mapped);

#endif
