// From one row of logits to one token. A pure function of (logits, parameters, tokens so far, mask): the random part is
// Philox keyed by (seed, choice, position, token), so any machine draws the same token for the same place of the same
// answer. Shared by the backends; called on the engine's threads, one workspace each.
//
// In this order (as vLLM does): + logit_bias; repetition penalty over prompt and output (l > 0 ? l / r : l * r); - frequency
// times the token's count in the output, - presence if it occurs there (OpenAI's formula); bans: eos before min_tokens, what
// is banned, what is not allowed, what the mask doesn't name; then temperature 0: the largest, ties to the lowest id.
// Otherwise / temperature; min_p; top_k (ties to the lowest id); typical_p over what is left: the fewest tokens, those whose
// surprise is nearest to the entropy first, that hold typical_p of the mass (Meister et al., arXiv 2202.00666); top_p over
// what is left: the shortest prefix, most likely first, that holds top_p of the mass. Masses are summed in fixed point so
// that the order of summing can't matter. Then Gumbel-max over the survivors, ties to the lowest id.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "worker/engine/types.h"

struct sampler_work; // scratch for one thread

struct sampler_work *sampler_work_create(uint32_t vocab);
void sampler_work_destroy(struct sampler_work **work);

struct sampler_input {
    const float *logits; // [vocab], not changed
    uint32_t vocab;
    const struct sampling_params *params;
    const uint32_t *tokens;      // the sequence so far
    uint32_t n_prompt, n_tokens; // its length without and with output; n_tokens is also the new token's position
    const uint32_t *mask;        // NULL or (vocab + 31) / 32 words; bit set = allowed
    uint32_t forced;             // ENGINE_NO_TOKEN, or the token to take (its logprobs are reported)
};

// False: a logit is not finite (or beyond 2^100), or nothing is allowed; then *out is unspecified.
bool sampler_pick(struct sampler_work *work, const struct sampler_input *in, struct engine_token *out);

// ERR_INVALID_ARGUMENT with the field's name: parameters outside the ranges that sampling.h gives.
err_id sampler_check(const struct sampling_params *params, uint32_t vocab, struct error *e);
