#include "load/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(struct source *source, const char *problem)
{
    source->problem = problem;
    return false;
}

bool source_open(struct source *source, const char *path, const struct format *format,
                 size_t block_bytes)
{
    bool standard = strcmp(path, "-") == 0;
    struct stat status;
    memset(source, 0, sizeof(*source));
    source->format = format;
    source->name = standard ? "<stdin>" : path;
    source->block_bytes = block_bytes;
    source->record_max = FORMAT_RECORD_MAX;
    source->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (source->fd < 0 || fstat(source->fd, &status) != 0) {
        return fail(source, strerror(errno));
    }
    if (S_ISDIR(status.st_mode)) {
        return fail(source, strerror(EISDIR));
    }
    if (S_ISREG(status.st_mode)) {
        source->input_size = (uint64_t)status.st_size;
        (void)posix_fadvise(source->fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* advice only */
    }
    if (!standard && format_path_is_zstd(path)) {
        const char *problem = unzstd_create(source->fd, &source->unzstd);
        return problem == NULL || fail(source, problem);
    }
    return true;
}

void source_close(struct source *source)
{
    unzstd_destroy(source->unzstd);
    free(source->rest);
    if (source->fd > STDIN_FILENO) {
        (void)close(source->fd); /* it was only read */
    }
}

void text_block_release(struct text_block *block)
{
    free(block->data);
    memset(block, 0, sizeof(*block));
}

static bool grow(uint8_t **data, size_t *capacity, size_t wanted)
{
    if (wanted <= *capacity) {
        return true;
    }
    uint8_t *larger = realloc(*data, wanted);
    if (larger == NULL) {
        return false;
    }
    *data = larger;
    *capacity = wanted;
    return true;
}

static ssize_t read_some(struct source *source, void *buffer, size_t size)
{
    if (source->unzstd != NULL) {
        return unzstd_read(source->unzstd, buffer, size, &source->taken, &source->problem);
    }
    ssize_t n;
    do {
        n = read(source->fd, buffer, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        source->problem = strerror(errno);
    } else {
        source->taken += (uint64_t)n;
    }
    return n;
}

/* Reads until the block holds wanted bytes or the input ends. */
static bool read_up_to(struct source *source, struct text_block *block, size_t wanted)
{
    if (!grow(&block->data, &block->capacity, wanted)) {
        return fail(source, "out of memory for a line this long");
    }
    while (block->size < wanted && !source->ended) {
        ssize_t n = read_some(source, block->data + block->size, wanted - block->size);
        if (n < 0) {
            return false;
        }
        source->ended = n == 0;
        block->size += (size_t)n;
    }
    block->input_end = source->taken;
    return true;
}

/* Puts what lies behind the cut aside for the next block. */
static bool keep_rest(struct source *source, struct text_block *block, size_t cut)
{
    size_t size = block->size - cut;
    if (!grow(&source->rest, &source->rest_capacity, size)) {
        return fail(source, "out of memory for a line this long");
    }
    if (size > 0) {
        memcpy(source->rest, block->data + cut, size);
    }
    source->rest_size = size;
    block->size = cut;
    return true;
}

static void take_rest(struct source *source, struct text_block *block)
{
    if (source->rest_size > 0) {
        memcpy(block->data, source->rest, source->rest_size);
    }
    block->size = source->rest_size;
    source->rest_size = 0;
    if (source->rest_capacity > 4 * source->block_bytes) { /* a long line is over */
        free(source->rest);
        source->rest = NULL;
        source->rest_capacity = 0;
    }
}

bool source_fill(struct source *source, struct text_block *block)
{
    size_t wanted = source->block_bytes;
    while (wanted <= source->rest_size) {
        wanted *= 2;
    }
    block->last = block->too_long = false;
    block->start = source->state;
    if (!grow(&block->data, &block->capacity, wanted)) {
        return fail(source, "out of memory for a line this long");
    }
    take_rest(source, block);
    for (;;) {
        if (!read_up_to(source, block, wanted)) {
            return false;
        }
        if (source->ended) {
            block->last = true;
            return true;
        }
        struct format_state state = source->state;
        size_t cut = source->format->cut(&state, block->data, block->size);
        if (cut > 0) {
            source->state = state;
            return keep_rest(source, block, cut);
        }
        if (block->size > source->record_max) {
            block->size = 0;
            block->last = block->too_long = true;
            source->ended = true;
            return true;
        }
        wanted *= 2;
    }
}
