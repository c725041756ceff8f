// The simulator's dice: small, fast, and the same on every machine. Each concern (network, faults, workload, …) has a
// generator of its own, derived from the seed, so that a change in one does not reshuffle the others.
#pragma once
#include "common/base/hash.h"
#include "common/base/scalar_math.h"
#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline struct rng rng_make(uint64_t seed, uint64_t concern) {
    return (struct rng){hash_mix(seed * UINT64_C(0x9e3779b97f4a7c15) + hash_mix(concern + 1))};
}
static inline uint64_t rng_u64(struct rng *r) {
    r->state += UINT64_C(0x9e3779b97f4a7c15);
    return hash_mix(r->state);
}
static inline uint32_t rng_below(struct rng *r, uint32_t n) { return (uint32_t)((rng_u64(r) >> 32) * n >> 32); } // n > 0
static inline uint32_t rng_range(struct rng *r, uint32_t lo, uint32_t hi) {
    return lo + rng_below(r, hi - lo + 1);
} // both in
static inline double rng_unit(struct rng *r) { return (double)(rng_u64(r) >> 11) * 0x1p-53; } // [0, 1)
static inline bool rng_chance(struct rng *r, double p) { return p > 0 && rng_unit(r) < p; }
static inline double rng_exp(struct rng *r, double mean) { return -mean * math_log(1 - rng_unit(r)); }
// Between lo and hi so that each factor of ten is as likely as the next. lo > 0.
static inline double rng_log(struct rng *r, double lo, double hi) { return lo * math_exp(rng_unit(r) * math_log(hi / lo)); }
