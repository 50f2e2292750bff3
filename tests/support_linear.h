/* Histories of one key, and whether a register can have them: whether there is an order of all
 * operations in which each takes place somewhere between its beginning and its end, and every
 * answer is right.
 *
 * A register holds a number, 0 for nothing, and begins with nothing.
 */
#ifndef CASKADE_TESTS_SUPPORT_LINEAR_H
#define CASKADE_TESTS_SUPPORT_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

#define HISTORY_THREADS 4u
#define HISTORY_OPS 120u /* of one thread */

enum history_kind {
    HISTORY_WRITE,       /* value; 0: a delete that does not say what was there */
    HISTORY_REMOVE,      /* a delete that found something */
    HISTORY_FIND,        /* found this value */
    HISTORY_FIND_ANY,    /* found something */
    HISTORY_FIND_ABSENT, /* found nothing */
    HISTORY_SWAP,        /* wrote value where `before` was, 0 for nothing */
};

struct history_op {
    uint64_t begin;
    uint64_t end;
    enum history_kind kind;
    uint32_t value;
    uint32_t before;
};

/* Each thread adds to its own part; the operations of a thread follow one another. */
struct history {
    struct history_op ops[HISTORY_THREADS][HISTORY_OPS];
    uint32_t counts[HISTORY_THREADS];
};

void history_clear(struct history *history);
void history_add(struct history *history, uint32_t thread, struct history_op op);
bool history_is_linearizable(const struct history *history);
void history_print(const struct history *history); /* to stderr */

#endif
