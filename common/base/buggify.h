// Legal but unusual behaviour on purpose: the points at which a core may choose (a smaller batch, an early heartbeat, a
// refusal, a needless hand-over) and that a healthy cluster rarely shows. The simulator switches some of them on for a run,
// as FoundationDB's BUGGIFY does; all zero, as in everything that ships, none ever fires.
#pragma once
#include "common/base/hash.h"
#include "common/base/ids.h"
#include <stdbool.h>

struct buggify {
    uint64_t seed;
    uint32_t points; // bits: which of the core's points may fire
    uint32_t one_in; // they fire on average once in so many chances; 0: never
    ms_t until;      // and not from this time on
    uint64_t chances;
};

// Does this point (a bit number) fire now?
static inline bool buggify(struct buggify *b, uint32_t point, ms_t now) {
    if (b->one_in == 0 || !(b->points & 1u << point) || now >= b->until) return false;
    return hash_mix(b->seed + ++b->chances) % b->one_in == 0;
}
