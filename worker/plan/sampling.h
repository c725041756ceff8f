// How a sequence's next token is chosen: what a request may ask for, as plain data. Part of a sequence's state, so it
// travels with it; the engine's sampler (worker/engine/sampler.h) gives each field its exact meaning.
#pragma once
#include <stdint.h>

enum { SAMPLING_EOS_MAX = 80, SAMPLING_BIAS_MAX = 300, SAMPLING_LIST_MAX = 300, SAMPLING_TOP_LOGPROBS_MAX = 20 };

struct sampling_bias {
    uint32_t token;
    float bias; // added to the logit; -100 and below bans in practice
};

struct sampling_params {
    float temperature;                         // 0 = the most likely token; else > 0
    uint32_t top_k;                            // 0 = all
    float top_p;                               // (0, 1]; 1 = all
    float min_p;                               // [0, 1]; 0 = off; relative to the most likely token's probability
    float typical_p;                           // (0, 1]; 1 = off
    float presence_penalty, frequency_penalty; // over the output so far; 0 = off
    float repetition_penalty;                  // over prompt and output; 1 = off
    uint64_t seed;
    uint32_t choice;       // which of the request's n answers
    uint32_t logprobs;     // how many top logprobs to report beside the token's own, <= SAMPLING_TOP_LOGPROBS_MAX
    uint32_t want_logprob; // 0: no logprobs at all
    uint32_t min_tokens;   // while the output is shorter, the eos tokens can't be chosen
    uint32_t n_eos;
    uint32_t eos[SAMPLING_EOS_MAX];
    uint32_t n_bias;
    struct sampling_bias bias[SAMPLING_BIAS_MAX];
    uint32_t n_allowed, n_banned; // n_allowed 0: all are
    uint32_t allowed[SAMPLING_LIST_MAX], banned[SAMPLING_LIST_MAX];
};

// temperature 1, everything else off.
void sampling_params_default(struct sampling_params *p);
