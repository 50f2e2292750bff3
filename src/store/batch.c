#include "store/batch.h"

#include <stdlib.h>

#define RELIEFS_MAX 64u /* flushes that a batch waits for when the index's memory is used up */

#define BLOCK_BYTES ((size_t)64 << 10)
#define OPS_MAX 0x7fffffffu

/* ---- collecting ------------------------------------------------------------------------------ */

int batch_create(struct cask_db *db, struct cask_batch **ret_batch)
{
    struct cask_batch *batch = calloc(1, sizeof *batch);

    if (!batch)
        return CASK_ENOMEM;
    batch->db = db;
    batch->parts = calloc(db->env.shard_count, sizeof *batch->parts);
    if (!batch->parts) {
        free(batch);
        return CASK_ENOMEM;
    }
    *ret_batch = batch;
    return CASK_OK;
}

static void free_blocks(struct batch_block *block)
{
    while (block) {
        struct batch_block *next = block->next;

        free(block);
        block = next;
    }
}

void batch_destroy(struct cask_batch *batch)
{
    if (!batch)
        return;
    free_blocks(batch->blocks);
    free(batch->ops);
    free(batch->order);
    free(batch->offsets);
    free(batch->parts);
    free(batch);
}

void batch_clear(struct cask_batch *batch)
{
    batch->count = 0;
    if (!batch->blocks)
        return;
    free_blocks(batch->blocks->next);
    batch->blocks->next = NULL;
    batch->blocks->used = 0;
}

static uint8_t *take_bytes(struct cask_batch *batch, size_t size)
{
    struct batch_block *block = batch->blocks;

    if (!block || block->room - block->used < size) {
        size_t room = size > BLOCK_BYTES ? size : BLOCK_BYTES;

        block = malloc(sizeof *block + room);
        if (!block)
            return NULL;
        block->next = batch->blocks;
        block->used = 0;
        block->room = room;
        batch->blocks = block;
    }
    block->used += size;
    return block->bytes + block->used - size;
}

int batch_add(struct cask_batch *batch, const struct shard_op *op)
{
    uint8_t *bytes;

    if (batch->count == OPS_MAX)
        return CASK_ETOOBIG;
    if (batch->count == batch->room) {
        uint32_t room = batch->room == 0 ? 64 : batch->room * 2;
        struct shard_op *grown = realloc(batch->ops, room * sizeof *grown);

        if (!grown)
            return CASK_ENOMEM;
        batch->ops = grown;
        batch->room = room;
    }
    bytes = take_bytes(batch, op->key.size + op->value.size);
    if (!bytes)
        return CASK_ENOMEM;
    bytes_copy(bytes, op->key.data, op->key.size);
    bytes_copy(bytes + op->key.size, op->value.data, op->value.size);
    batch->ops[batch->count] = *op;
    batch->ops[batch->count].key.data = bytes;
    batch->ops[batch->count].value.data = bytes + op->key.size;
    batch->count++;
    return CASK_OK;
}

/* ---- sorting by shard ------------------------------------------------------------------------ */

static int make_order(struct cask_batch *batch)
{
    uint32_t *order;
    uint64_t *offsets;

    if (batch->order_room >= batch->count)
        return CASK_OK;
    order = realloc(batch->order, batch->room * sizeof *order);
    if (order)
        batch->order = order;
    offsets = realloc(batch->offsets, batch->room * sizeof *offsets);
    if (offsets)
        batch->offsets = offsets;
    if (!order || !offsets)
        return CASK_ENOMEM;
    batch->order_room = batch->room;
    return CASK_OK;
}

/* Counts, then places: within a shard the operations keep their order. */
static void split(struct cask_batch *batch)
{
    struct cask_db *db = batch->db;
    uint32_t shard_count = db->env.shard_count;
    uint32_t first = 0;

    memset(batch->parts, 0, shard_count * sizeof *batch->parts);
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct shard_op *op = &batch->ops[i];
        struct batch_part *part = &batch->parts[hash_shard(op->hash, db->env.shard_bits)];

        part->count++;
        part->bytes += record_stored_size(op->key.size, op->value.size, op->expires_at_ms != 0);
    }
    for (uint32_t i = 0; i < shard_count; i++) {
        batch->parts[i].shard = i;
        batch->parts[i].first = first;
        first += batch->parts[i].count;
        batch->parts[i].count = 0;
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        struct batch_part *part = &batch->parts[hash_shard(batch->ops[i].hash, db->env.shard_bits)];

        batch->order[part->first + part->count++] = i;
    }
    batch->part_count = 0;
    for (uint32_t i = 0; i < shard_count; i++)
        if (batch->parts[i].count > 0)
            batch->parts[batch->part_count++] = batch->parts[i];
}

/* ---- writing --------------------------------------------------------------------------------- */

static struct shard *shard_of(const struct cask_batch *batch, uint32_t part)
{
    return &batch->db->shards[batch->parts[part].shard];
}

static void lock_all(struct cask_batch *batch)
{
    for (uint32_t i = 0; i < batch->part_count; i++)
        thread_lock_soon(&shard_of(batch, i)->lock);
}

static void unlock_all(struct cask_batch *batch)
{
    for (uint32_t i = batch->part_count; i-- > 0;)
        pthread_mutex_unlock(&shard_of(batch, i)->lock);
}

/* With all locks held: whether every shard can take its part now. */
static int all_ready(struct cask_batch *batch)
{
    int status = CASK_OK;

    for (uint32_t i = 0; status == CASK_OK && i < batch->part_count; i++) {
        struct batch_part *part = &batch->parts[i];
        struct shard *shard = shard_of(batch, i);

        status = shard_batch_ready(shard, part->bytes, part->count);
        if (status == CASK_OK)
            part->tail = segment_tail(shard->active);
        for (uint32_t j = 0; status == CASK_OK && j < batch->part_count; j++)
            if (i != j)
                status = shard_depend(shard, shard_of(batch, j));
    }
    return status;
}

/* Returns with all locks held on CASK_OK, with none otherwise. */
static int lock_ready(struct cask_batch *batch)
{
    unsigned reliefs = 0;

    for (;;) {
        int status = CASK_OK;

        for (uint32_t i = 0; status == CASK_OK && i < batch->part_count; i++)
            status = shard_batch_room(shard_of(batch, i), batch->parts[i].bytes);
        if (status != CASK_OK)
            return status;
        lock_all(batch);
        status = all_ready(batch);
        if (status == CASK_OK)
            return CASK_OK;
        unlock_all(batch);
        if (status == CASK_ENOMEM && reliefs++ < RELIEFS_MAX)
            status = spill_relieve(&batch->db->env) == CASK_OK ? CASK_EBUSY : CASK_ENOMEM;
        if (status != CASK_EBUSY)
            return status;
    }
}

static int append_all(struct cask_batch *batch, struct batch_end *end)
{
    int status = CASK_OK;
    uint32_t done = 0;

    while (done < batch->part_count) {
        struct batch_part *part = &batch->parts[done];

        status = shard_batch_append(shard_of(batch, done), batch->ops, batch->order + part->first,
                                    part->count, end, batch->offsets + part->first);
        if (status != CASK_OK)
            break;
        done++;
    }
    while (status != CASK_OK && done > 0) {
        done--;
        shard_batch_undo(shard_of(batch, done), batch->parts[done].tail);
    }
    return status;
}

/* All parts are in the log: where one cannot be indexed, the others are nevertheless. */
static int publish_all(struct cask_batch *batch, const struct batch_end *end)
{
    int status = CASK_OK;

    for (uint32_t i = 0; i < batch->part_count; i++) {
        struct batch_part *part = &batch->parts[i];
        int outcome = shard_batch_publish(shard_of(batch, i), batch->ops,
                                          batch->order + part->first, part->count,
                                          batch->offsets + part->first, end);

        status = status_first(status, outcome);
    }
    for (uint32_t i = 0; i < batch->part_count; i++)
        for (uint32_t j = 0; j < batch->part_count; j++)
            if (i != j)
                shard_of(batch, i)->depends_on[shard_of(batch, j)->number] = shard_of(batch, j)
                                                                                 ->position;
    return status;
}

/* Which shards take part, and how much the end will add to each part. */
static struct batch_end plan_end(struct cask_batch *batch)
{
    struct batch_end end = {0};
    uint8_t scratch[BATCH_END_MAX];
    size_t size;

    if (batch->part_count > 1) {
        end.number = 1; /* the real one is given out under the locks */
        for (uint32_t i = 0; i < batch->part_count; i++)
            batch_end_add(&end, batch->parts[i].shard);
    }
    size = batch_end_encode(&end, batch->db->env.shard_count, scratch);
    for (uint32_t i = 0; i < batch->part_count; i++)
        batch->parts[i].bytes += record_stored_size(0, size, false);
    return end;
}

static int check_sizes(const struct cask_batch *batch)
{
    uint64_t reach = (uint64_t)RECORD_ALIGNMENT << batch->db->config.offset_bits;

    for (uint32_t i = 0; i < batch->part_count; i++)
        if (batch->parts[i].count > 1 && SEGMENT_HEADER_BYTES + batch->parts[i].bytes > reach)
            return CASK_ETOOBIG;
    return CASK_OK;
}

int batch_write(struct cask_batch *batch)
{
    struct cask_db *db = batch->db;
    struct batch_end end;
    uint64_t position = 0;
    int status = make_order(batch);

    if (status != CASK_OK || batch->count == 0)
        return status;
    split(batch);
    status = check_sizes(batch);
    if (status != CASK_OK)
        return status;
    end = plan_end(batch);
    status = lock_ready(batch);
    if (status != CASK_OK)
        return status;
    if (end.number != 0)
        end.number = atomic_fetch_add(&db->env.batch_number, 1) + 1;
    status = append_all(batch, &end);
    if (status == CASK_OK) {
        status = publish_all(batch, &end);
        position = shard_of(batch, 0)->position;
    }
    unlock_all(batch);
    for (uint32_t i = 0; i < batch->part_count; i++)
        if (shard_work_due(shard_of(batch, i)))
            store_wake_worker(db, shard_of(batch, i));
    if (status == CASK_OK && db->sync_mode == CASK_SYNC_ALWAYS)
        status = shard_make_durable(shard_of(batch, 0), position);
    return status;
}
