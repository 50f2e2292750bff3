/* unzstd.h where there is no libzstd: says so. */
#include "load/unzstd.h"

const char *unzstd_create(int fd, struct unzstd **ret_unzstd)
{
    (void)fd;
    (void)ret_unzstd;
    return "this caskade was built without zstd; try: zstd -dc FILE | caskade load DIR -";
}

/* Nothing can be created, so nothing can be read. */
/* NOLINTNEXTLINE(readability-non-const-parameter): as in unzstd.h */
ssize_t unzstd_read(struct unzstd *unzstd, void *buffer, size_t size, uint64_t *taken,
                    const char **ret_problem)
{
    (void)unzstd;
    (void)buffer;
    (void)size;
    (void)taken;
    *ret_problem = "built without zstd";
    return -1;
}

void unzstd_destroy(struct unzstd *unzstd)
{
    (void)unzstd;
}
