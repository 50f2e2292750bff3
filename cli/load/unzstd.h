/* Reads a descriptor through zstd. Two implementations, picked when linking: unzstd.c, and
 * unzstd_none.c where libzstd is not there. */
#ifndef CASKADE_CLI_UNZSTD_H
#define CASKADE_CLI_UNZSTD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct unzstd;

/* NULL, or why it cannot be done. */
const char *unzstd_create(int fd, struct unzstd **ret_unzstd);

/* At least one byte of unpacked data, 0 at the end, -1 after setting *ret_problem. *taken grows by
 * the packed bytes read. */
ssize_t unzstd_read(struct unzstd *unzstd, void *buffer, size_t size, uint64_t *taken,
                    const char **ret_problem);

void unzstd_destroy(struct unzstd *unzstd);

#endif
