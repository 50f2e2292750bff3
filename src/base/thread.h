/* What threads of ours need from the system's scheduler. */
#ifndef CASKADE_THREAD_H
#define CASKADE_THREAD_H

#include <pthread.h>

#include "base/status.h"

/* Starts a thread that takes no signals: those are the program's business. CASK_ENOMEM if none can
 * be had. */
CHECKED int thread_start(pthread_t *ret_thread, void *(*run)(void *), void *argument);

/* Processors that this process may use, at least 1. */
unsigned thread_processors(void);

/* Lets the calling thread run only when a processor has nothing else to do, and the reverse. Hold no
 * lock in between. Advice: nothing happens where the system refuses. */
void thread_yield_to_all(void);
void thread_be_normal(void);

#endif
