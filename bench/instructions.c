/* For instructions.sh: puts KEYS keys, gets as many, and puts them again, in DIR. Nothing but calls
 * that any version of the library has. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "caskade.h"

#define KEY_BYTES 16u
#define VALUE_BYTES 100u
#define ODD UINT64_C(0x9e3779b97f4a7c15) /* by which numbers become keys all over, each another */

static struct cask_slice key_of(uint64_t number, char text[KEY_BYTES + 1])
{
    snprintf(text, KEY_BYTES + 1, "%016" PRIx64, number * ODD);
    return (struct cask_slice){text, KEY_BYTES};
}

static int put_all(struct cask_db *db, uint64_t keys, char mark)
{
    char text[KEY_BYTES + 1];
    char value[VALUE_BYTES];
    int status = CASK_OK;

    memset(value, mark, sizeof value);
    for (uint64_t i = 0; status == CASK_OK && i < keys; i++)
        status = cask_put(db, key_of(i, text), (struct cask_slice){value, sizeof value});
    return status;
}

/* Each once, in an order in which none follows its neighbour. */
static int get_all(struct cask_db *db, uint64_t keys)
{
    const uint64_t step = 7919;
    char text[KEY_BYTES + 1];
    char value[VALUE_BYTES];
    int status = CASK_OK;
    size_t size;

    for (uint64_t i = 0; status == CASK_OK && i < keys; i++)
        status = cask_get(db, key_of(i * step % keys, text), value, sizeof value, &size);
    return status;
}

int main(int argc, char **argv)
{
    struct cask_options options = {.size = sizeof options};
    uint64_t keys = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    struct cask_db *db;
    int status;

    if (keys == 0)
        return 2;
    status = cask_open(argv[1], &options, &db);
    if (status == CASK_OK) {
        int closed;

        status = put_all(db, keys, 'a');
        if (status == CASK_OK)
            status = get_all(db, keys);
        if (status == CASK_OK)
            status = put_all(db, keys, 'b');
        closed = cask_close(db);
        if (status == CASK_OK)
            status = closed;
    }
    if (status != CASK_OK)
        fprintf(stderr, "%s\n", cask_strerror(status));
    return status != CASK_OK;
}
