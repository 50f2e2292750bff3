#include "ticks.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define CALIBRATE_NS UINT64_C(50000000)

bool ticks_use_tsc;
static double ns_per_tick = 1.0;

void ticks_init(void)
{
#if defined(__x86_64__)
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    /* Bit 8: the counter runs at one rate whatever the processor's speed or sleep state. */
    if (__get_cpuid(0x80000007, &eax, &ebx, &ecx, &edx) == 0 || (edx & (1u << 8)) == 0) {
        return;
    }
    ticks_use_tsc = true;
    uint64_t from_ns = clock_ns();
    uint64_t from_ticks = ticks_now();
    uint64_t ns = 0;
    uint64_t ticks = 0;
    do {
        ns = clock_ns() - from_ns;
        ticks = ticks_now() - from_ticks;
    } while (ns < CALIBRATE_NS);
    ns_per_tick = (double)ns / (double)ticks;
#endif
}

double ticks_to_ns(uint64_t ticks)
{
    return (double)ticks * ns_per_tick;
}
