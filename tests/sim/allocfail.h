/* Makes allocations of the library fail: linked with --wrap for each function in allocfail.c, which
 * stands between the library and the C library. What the simulated disk allocates is left alone. */
#ifndef CASKADE_ALLOCFAIL_H
#define CASKADE_ALLOCFAIL_H

#include <stdbool.h>
#include <stdint.h>

/* The nth allocation from now (1 is the next) fails, once or from then on; 0: none does. */
void allocfail_set(uint64_t nth, bool persistent);
/* Allocations since then, and how many of them failed; the kind of the first. */
uint64_t allocfail_seen(void);
uint64_t allocfail_hits(void);
const char *allocfail_place(void);
/* Bytes of address space that the library has mapped and not given back. */
int64_t allocfail_mapped_bytes(void);

#endif
