// A mixture of experts: scores, choice, the sort of (token, rank) by expert, and the sum of the chosen experts' outputs by
// rank. The rules are those of struct mlp_spec; ties go to the lowest index.
#pragma once
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { MOE_EXPERTS_MAX = 1024, MOE_TOP_MAX = 32 };

struct moe_call {
    const float *x; // [tokens][ldx]
    uint64_t ldx;
    const float *router; // [experts][hidden]
    const float *bias;   // counts for the choice alone; or NULL
    uint32_t tokens, hidden, experts, top_k, groups, topk_groups;
    bool sigmoid, group_top2, norm_topk;
    float routed_scale;
    float *scores;    // [tokens][experts]
    uint32_t *choice; // [tokens][top_k]
    float *weight;    // [tokens][top_k]
    uint32_t *first;  // [experts + 1] rows of each expert
    uint32_t *of;     // [tokens top_k] token of a row
    uint32_t *place;  // [tokens][top_k] row
};
// Fills scores ... place.
cudaError_t moe_choose(const struct moe_call *call, cudaStream_t stream);
// hidden[t] += shared[t] + sum over ranks of weight * out[place]; shared (float, rows of ld) may be NULL; out: float
// [rows][ldo].
cudaError_t moe_combine(const struct moe_call *call, const float *out, uint64_t ldo, const float *shared, float *hidden,
                        uint64_t ld, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
