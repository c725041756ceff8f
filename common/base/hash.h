// XXH3-64 with a seed (https://github.com/Cyan4973/xxHash): for tables, fingerprints and prefix chains. Not for secrets.
#pragma once
#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *data, size_t len, uint64_t seed);
// A bijective mixer of 64 bits (splitmix64's finaliser): cheap chain and pseudo-random steps.
static inline uint64_t hash_mix(uint64_t x) {
    x ^= x >> 30, x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27, x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}
