/* Whether a store that was closed has left files behind that nothing refers to: in each shard there
 * are a manifest, segments that it lists, and hints of these. */
#ifndef CASKADE_STRAYS_H
#define CASKADE_STRAYS_H

#include <stdbool.h>
#include <stddef.h>

#include "simimage.h"

/* True, with the path, if there is such a file. */
bool strays_find(const struct simimage *image, char *ret_path, size_t size);

/* The same for the machine's disk as it is. */
bool strays_find_now(char *ret_path, size_t size);

#endif
