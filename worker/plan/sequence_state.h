// The state of a sequence as bytes: what one worker writes so that another can go on with it. A manifest says whose it is,
// what its tokens are and which parts belong to it; a part holds the KV entries that one shard of the replica has computed.
// Sampling, penalties and text are functions of the tokens, so there is nothing else. One codec for resuming, for
// checkpoints and for state that is handed from worker to worker. Pure; little endian.
//
//   manifest: head (magic, version, lengths, fingerprint, stream) | parts[n_parts] | tokens[n_tokens] | XXH3-64 of all
//   before part:     head (magic, version, which shard of which sequence, XXH3-64 of the entries, XXH3-64 of the head) |
//   entries
//
// Entries are canonical: [layer][position][element], the element type being the cache's. Every byte read is checked before
// it is believed; what fails is an ERR_PROTOCOL that says what was found.
#pragma once
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/base/limits.h"

#include <stddef.h>

enum {
    STATE_VERSION = 1,
    STATE_PARTS_MAX = MEMBERS_MAX,
    STATE_TOKENS_MAX = 1 << 24,
    STATE_PART_HEAD_BYTES = 128,
};

// One shard's part of the KV entries.
struct state_part {
    uint32_t stage;                  // the number of the shard, from 0
    uint32_t layer_first, layer_end; // its layers
    uint64_t bytes_per_token;        // over these layers
    uint64_t hash;                   // XXH3-64 of the entries
};

struct sequence_state {
    char fingerprint[FINGERPRINT_SIZE];
    struct stream_key key;
    uint32_t n_tokens, n_prompt; // prompt, then output
    uint32_t n_computed;         // the parts hold entries of the first so many positions
    const uint32_t *tokens;      // borrowed; when decoded, they lie in the manifest's bytes
    uint32_t n_parts;
    struct state_part parts[STATE_PARTS_MAX];
};

static inline uint64_t state_part_bytes(const struct sequence_state *s, uint32_t part) {
    return s->parts[part].bytes_per_token * s->n_computed;
}

size_t state_manifest_bytes(const struct sequence_state *s);
void state_manifest_encode(const struct sequence_state *s, uint8_t *out); // state_manifest_bytes() of them
// bytes: 8-byte aligned, and stay while *out is used.
err_id state_manifest_decode(const uint8_t *bytes, size_t len, struct sequence_state *out, struct error *e);

// The head of a part's bytes; the entries follow. `part` must be one of s->parts.
void state_part_head_encode(const struct sequence_state *s, uint32_t part, uint8_t out[STATE_PART_HEAD_BYTES]);
// A part's bytes are those that the manifest announced: head, length and hash of the entries, which begin behind the head.
err_id state_part_check(const struct sequence_state *s, uint32_t part, const uint8_t *bytes, size_t len, struct error *e);

// Is this the state of the stream `key`, of these tokens (a beginning of them) under this fingerprint, and made by shards
// like ours? Then *n_usable positions of it may be loaded: those that were computed, and no more than the tokens that both
// have.
struct state_expectation {
    const char *fingerprint;
    struct stream_key key;
    const uint32_t *tokens;
    uint32_t n_tokens;
    uint32_t n_parts;               // the replica's shards
    const struct state_part *parts; // stage, layers and bytes_per_token of each
};
err_id state_matches(const struct sequence_state *s, const struct state_expectation *want, uint32_t *n_usable,
                     struct error *e);
