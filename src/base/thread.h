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

/* Locks a mutex that others hold for a few microseconds at a time: looks for a while whether it
 * comes free before it sleeps, since being woken takes longer than most of them hold it. */
void thread_lock_soon(pthread_mutex_t *lock);

/* Nice values of background work: about a tenth, and a third, of the weight of a thread that is not
 * nice, so that whoever waits for it waits not for ever. */
#define THREAD_NICE 10
#define THREAD_LESS_NICE 5

/* From now on the calling thread, when it wakes up, drives no other off a processor: it waits for
 * one that is free, or for its turn. */
void thread_do_not_disturb(void);

/* Runs run(argument) and waits for it, in a thread of this nice value, or of the caller's where
 * that is larger: one of its own, since without privilege none may come back from there. Hold no
 * lock meanwhile. Where no thread can be had it runs as any other. */
void thread_run_nice(int nice_value, void *(*run)(void *), void *argument);

#endif
