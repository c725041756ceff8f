// The sampler of worker/engine/sampler.h on the device: from the same logits, parameters, tokens and mask the same token,
// bit for bit (logprobs agree to rounding). One block per row.
#pragma once
#include <cuda_runtime_api.h>
#include <stdint.h>
#include "worker/engine/types.h"
#ifdef __cplusplus
extern "C" {
#endif

struct sample_row {
    uint32_t slot, logits_row;
    uint32_t n_prompt, n_tokens; // of the sequence so far
    uint32_t accept;             // 1: the token joins the slot's tokens at n_tokens
    uint32_t forced;             // or ENGINE_NO_TOKEN
    uint32_t mask;               // row of masks, or UINT32_MAX
    uint32_t check_rows;         // 0: samples; else only says whether this many rows of logits are finite
};

struct sample_answer {
    struct engine_token token;
    uint32_t ok;
};

struct sample_call {
    const struct sample_row *rows; // device
    uint32_t n_rows, vocab;
    const float *logits; // [][ld]
    uint64_t ld;
    const struct sampling_params *params; // [slots]
    uint32_t *tokens;                     // [slots][tokens_ld]
    uint64_t tokens_ld;
    const uint32_t *masks; // [][(vocab + 31) / 32]
    float *w, *order;      // scratch [rows][vocab]
    uint64_t *mass;
    uint32_t *counts; // all zero between calls
    struct sample_answer *answers;
};
cudaError_t sample_run(const struct sample_call *call, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
