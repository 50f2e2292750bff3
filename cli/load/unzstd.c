#include "load/unzstd.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

struct unzstd {
    int fd;
    bool in_frame; /* a frame has begun and not ended */
    ZSTD_DStream *stream;
    ZSTD_inBuffer packed;
    size_t packed_capacity;
    char packed_bytes[];
};

const char *unzstd_create(int fd, struct unzstd **ret_unzstd)
{
    size_t capacity = ZSTD_DStreamInSize();
    struct unzstd *unzstd = calloc(1, sizeof(*unzstd) + capacity);
    if (unzstd == NULL) {
        return strerror(ENOMEM);
    }
    unzstd->fd = fd;
    unzstd->packed_capacity = capacity;
    unzstd->packed.src = unzstd->packed_bytes;
    unzstd->stream = ZSTD_createDStream();
    if (unzstd->stream == NULL) {
        free(unzstd);
        return strerror(ENOMEM);
    }
    *ret_unzstd = unzstd;
    return NULL;
}

void unzstd_destroy(struct unzstd *unzstd)
{
    if (unzstd != NULL) {
        ZSTD_freeDStream(unzstd->stream);
        free(unzstd);
    }
}

static ssize_t refill(struct unzstd *unzstd, uint64_t *taken)
{
    ssize_t n;
    do {
        n = read(unzstd->fd, unzstd->packed_bytes, unzstd->packed_capacity);
    } while (n < 0 && errno == EINTR);
    unzstd->packed.pos = 0;
    unzstd->packed.size = n > 0 ? (size_t)n : 0;
    *taken += unzstd->packed.size;
    return n;
}

ssize_t unzstd_read(struct unzstd *unzstd, void *buffer, size_t size, uint64_t *taken,
                    const char **ret_problem)
{
    ZSTD_outBuffer plain = {buffer, size, 0};
    for (;;) {
        /* Even without new input the stream may hold unpacked bytes back from the last call. */
        size_t packed_before = unzstd->packed.pos;
        size_t result = ZSTD_decompressStream(unzstd->stream, &plain, &unzstd->packed);
        if (ZSTD_isError(result)) {
            *ret_problem = ZSTD_getErrorName(result);
            return -1;
        }
        if (unzstd->packed.pos > packed_before || plain.pos > 0) {
            unzstd->in_frame = result != 0;
        }
        if (plain.pos > 0) {
            return (ssize_t)plain.pos;
        }
        if (unzstd->packed.pos < unzstd->packed.size) {
            continue;
        }
        ssize_t n = refill(unzstd, taken);
        if (n < 0) {
            *ret_problem = strerror(errno);
            return -1;
        }
        if (n == 0) {
            *ret_problem = "the compressed file ends in the middle";
            return unzstd->in_frame ? -1 : 0;
        }
    }
}
