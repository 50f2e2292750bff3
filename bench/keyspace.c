#include "keyspace.h"

void order_init(struct order *order, uint64_t num, uint64_t salt)
{
    unsigned bits = 0;
    while (bits < 60 && (UINT64_C(1) << bits) < num) {
        bits++;
    }
    order->num = num;
    order->low_bits = bits / 2;
    order->high_count = ((num - 1) >> order->low_bits) + 1;
    uint64_t state = keyspace_mix(salt + KEYSPACE_WEYL);
    for (unsigned i = 0; i < 4; i++) {
        order->factors[i] = keyspace_mix(state + 2 * i) | 1;
        order->terms[i] = keyspace_mix(state + 2 * i + 1);
    }
}
