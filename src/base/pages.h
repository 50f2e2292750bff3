/* Anonymous memory in one reserved range: address space is taken at once, memory as it is
 * committed, so that a growing table never moves. */
#ifndef CASKADE_PAGES_H
#define CASKADE_PAGES_H

#include "base/status.h"

/* Reserves size bytes of address space at a 2 MiB boundary, unreadable until committed. */
CHECKED int pages_reserve(size_t size, void **ret_address);

/* Makes [offset, offset + size) of a reservation readable, writable and zero. Multiples of the page
 * size (4096). */
CHECKED int pages_commit(void *address, size_t offset, size_t size);

/* Brings committed memory in, ready for stores. Advice; other threads may use it meanwhile. */
void pages_populate(void *address, size_t offset, size_t size);

/* Huge pages for committed memory that is brought in from now on, as far as they are wholly within
 * what is committed up to the end of the range; and none any more for the first size bytes. Advice;
 * other threads may use the memory meanwhile. */
void pages_make_huge(void *address, size_t offset, size_t size);
void pages_make_small(void *address, size_t size);

/* Gives the first size bytes back to the system: they are committed still, and zero. */
void pages_discard(void *address, size_t size);

/* Asks for the first size bytes of a reservation to lie in huge pages, where it has grown in small
 * steps. Advice; other threads may use the memory meanwhile. */
void pages_collapse(void *address, size_t size);

/* Gives back the whole reservation. */
void pages_release(void *address, size_t size);

/* A block of memory of its own, for what is large and short-lived: it goes back to the system when
 * it is freed. *address NULL with old_size 0 makes a new one; size 0 is no block at all. */
CHECKED int pages_resize(void **address, size_t old_size, size_t new_size);
void pages_free(void *address, size_t size);

/* Memory for a while, not cleared; NULL if there is none. From 64 KiB on of its own pages, since
 * the heap keeps what is given back to it, once for every thread that ever asked; below from
 * there. */
void *pages_borrow(size_t size);
void pages_return(void *block, size_t size);

/* Gives back to the system what the heap keeps for the calling thread of about size bytes that it
 * has freed: after a library was used that takes large blocks from there. */
void pages_trim_heap(size_t size);

/* A page that reads 1 in this process and 0 in every child it forks. */
CHECKED int pages_fork_mark(const volatile uint8_t **ret_mark);
void pages_fork_unmark(const volatile uint8_t *mark);

#endif
