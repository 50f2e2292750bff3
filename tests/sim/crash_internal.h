/* What crashtrack.c (pending or durable?) and crashbuild.c (what does a state look like?) share. */
#ifndef CASKADE_CRASH_INTERNAL_H
#define CASKADE_CRASH_INTERNAL_H

#include "crashstate.h"

struct crash_piece {
    size_t op;
    size_t page;
    size_t offset; /* in the file */
    size_t size;
    const uint8_t *bytes;
    unsigned rank; /* among the pieces of its page, from 1 */
    size_t unit;   /* in the plan */
    bool stuck;    /* a sync of it failed */
};

/* The contents of a file with the levels of choice. Its units must be planned. */
struct simblob *crash_build_file(const struct crash_tracker *tracker,
                                 const struct crash_choice *choice, const struct crash_file *file);

/* What a change does to the names, whether or not those before it got through. names has room for
 * one more. */
void crash_name_apply(struct crash_name *names, size_t *count, const struct simop *op);

#endif
