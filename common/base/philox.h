// Philox4x32-10: a counter-based random generator (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2,
// 3", SC 2011). A pure function of key and counter, so any process can draw the same number for the same thing, in any
// order.
#pragma once
#include <stdint.h>

struct philox {
    uint32_t v[4];
};

// Four independent uniform 32-bit values for this counter under this key.
struct philox philox4x32(struct philox counter, uint64_t key);
