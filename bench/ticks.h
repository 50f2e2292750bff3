/* A clock cheap enough to time every operation: the processor's time stamp counter where it runs at
 * a constant rate, clock_gettime elsewhere (11 and 28 ns a reading where this was written).
 *
 * ticks_init() is called once, before any other, by a process that has one thread.
 */
#ifndef BENCH_TICKS_H
#define BENCH_TICKS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

extern bool ticks_use_tsc;

void ticks_init(void);
double ticks_to_ns(uint64_t ticks);

/* Nanoseconds by the system's monotonic clock. */
static inline uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static inline uint64_t ticks_now(void)
{
#if defined(__x86_64__)
    if (ticks_use_tsc) {
        return __builtin_ia32_rdtsc();
    }
#endif
    return clock_ns();
}

#endif
