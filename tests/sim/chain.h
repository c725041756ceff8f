// What the fake engine computes, as pure functions that the engine and the oracle share: a hash chain over the tokens of a
// sequence. The engine keeps a link of the chain in each KV cell and makes the next from the one it reads back; the oracle
// makes it from what a client has seen.
#pragma once
#include "common/base/hash.h"

static inline uint64_t chain_start(const char *fingerprint, size_t len) { return hash_bytes(fingerprint, len, 7); }
static inline uint64_t chain_next(uint64_t before, uint32_t token) {
    return hash_mix(before + (uint64_t)token * UINT64_C(0xd1342543de82ef95) + 1);
}
enum { CHAIN_VOCAB = 1 << 30 };
// The token that follows a context. position: of the new token in the sequence. salt: of the replica's incarnation, or 0.
static inline uint32_t chain_token(uint64_t context, uint64_t seed, uint32_t position, uint64_t salt) {
    return (uint32_t)(hash_mix(context ^ hash_mix(seed + position) ^ salt) >> 34);
}
// Does the answer end with this token?
static inline bool chain_stops(uint32_t token, uint32_t one_in) { return one_in != 0 && token % one_in == 0; }
// And does it end with a tool call?
static inline bool chain_calls_tool(uint32_t token) { return token >> 20 & 1; }
static inline float chain_logprob(uint32_t token) { return -(float)(token % 1024) / 64; }
