// A model as data: what config.json says, in the form that every backend runs. No names of architectures past this point.
// Where the formulas come from: DeepSeek-V2 and -V3 technical reports (MLA, mixture of experts), the Llama, Mistral and Qwen
// model cards; YaRN: Peng et al., arXiv 2309.00071.
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { MODEL_LAYERS_MAX = 256, MODEL_EOS_MAX = 16, MODEL_NAME_MAX = 160 };

enum attention_kind { ATTENTION_GQA, ATTENTION_MLA };

// Multi-head and multi-query attention are GQA with kv_heads = heads and 1. MLA caches a normed latent of kv_lora floats and
// one rotated key of rope_dim floats per token, shared by all heads.
struct attention_spec {
    enum attention_kind kind;
    uint32_t heads, kv_heads;
    uint32_t head_dim; // GQA: of q, k and v
    uint32_t window;   // tokens a query sees, itself included; 0 = all before it
    bool qkv_bias, out_bias;
    bool qk_norm;                                        // RMSNorm over each head of q and k before the rotation
    uint32_t q_lora, kv_lora, nope_dim, rope_dim, v_dim; // MLA; q_lora 0 = q is projected directly
    float lora_norm_eps;                                 // MLA: of the norms over both latents, whatever norm_eps is
    float scale;                                         // of q·k before the softmax
};

enum mlp_kind { MLP_DENSE, MLP_MOE };
enum moe_score { MOE_SOFTMAX, MOE_SIGMOID };
enum moe_group_score { MOE_GROUP_MAX, MOE_GROUP_TOP2 };

// Gate and up projection, SiLU(gate) * up, down projection.
struct mlp_spec {
    enum mlp_kind kind;
    uint32_t inter; // of the dense MLP
    bool bias;
    // MoE: scores over all experts; the best topk_groups of groups stay; top_k of what is left, ties to the lowest index.
    uint32_t experts, top_k, groups, topk_groups, expert_inter;
    uint32_t shared_inter; // of the always-on expert; 0 = none
    enum moe_score score;
    enum moe_group_score group_score;
    bool choice_bias; // a bias per expert that counts for the choice, not for the weight
    bool norm_topk;   // weights of the chosen divided by their sum
    float routed_scale;
};

struct layer_spec {
    struct attention_spec attention;
    struct mlp_spec mlp;
};

enum quant { QUANT_NONE, QUANT_INT8, QUANT_INT4 }; // quant.h

enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN };

struct rope_spec {
    enum rope_kind kind;
    bool interleaved; // pairs (2i, 2i+1); else (i, i + dim/2)
    uint32_t dim;     // rotated elements of a head, the first ones
    double theta, factor;
    double original_context;
    double low_freq_factor, high_freq_factor;            // llama3
    double beta_fast, beta_slow, mscale, mscale_all_dim; // yarn; 0 = not given
    double attention_factor;                             // yarn, on cos and sin; 0 = from factor and the mscales
    bool truncate;                                       // yarn: whole numbers as ends of the ramp
};

// How a checkpoint names its tensors.
enum tensor_names { TENSOR_NAMES_COMMON, TENSOR_NAMES_MIXTRAL };

struct model_spec {
    char architecture[64];
    enum tensor_names names;
    uint32_t vocab, hidden, layers, context;
    float norm_eps;
    bool tied;             // the head is the embedding
    enum quant quant;      // of the files' own matrices
    uint32_t fp8_block[2]; // rows and columns that share a scale in FP8 matrices; 0 = no such matrices
    struct rope_spec rope;
    struct layer_spec layer[MODEL_LAYERS_MAX];
    uint32_t n_eos;
    uint32_t eos[MODEL_EOS_MAX];
};

// A tensor's part in the model. The order is that of the names in spec.c.
enum tensor_role {
    TENSOR_EMBED,
    TENSOR_FINAL_NORM,
    TENSOR_HEAD,
    TENSOR_ATTENTION_NORM,
    TENSOR_Q,
    TENSOR_Q_BIAS,
    TENSOR_K,
    TENSOR_K_BIAS,
    TENSOR_V,
    TENSOR_V_BIAS,
    TENSOR_OUT,
    TENSOR_OUT_BIAS,
    TENSOR_Q_NORM,
    TENSOR_K_NORM,
    TENSOR_Q_A,
    TENSOR_Q_A_NORM,
    TENSOR_Q_B,
    TENSOR_KV_A,
    TENSOR_KV_A_NORM,
    TENSOR_KV_B,
    TENSOR_MLP_NORM,
    TENSOR_GATE,
    TENSOR_GATE_BIAS,
    TENSOR_UP,
    TENSOR_UP_BIAS,
    TENSOR_DOWN,
    TENSOR_DOWN_BIAS,
    TENSOR_ROUTER,
    TENSOR_ROUTER_BIAS,
    TENSOR_EXPERT_GATE,
    TENSOR_EXPERT_UP,
    TENSOR_EXPERT_DOWN,
    TENSOR_SHARED_GATE,
    TENSOR_SHARED_UP,
    TENSOR_SHARED_DOWN,
    TENSOR_ROLES
};

// One tensor that a range of layers needs. cols 0 = a vector of `rows`.
struct tensor_need {
    enum tensor_role role;
    uint32_t layer, expert;
    uint32_t rows, cols;
};
typedef void spec_need_fn(void *context, const struct tensor_need *need);
// Calls fn for every tensor of the layers [first, end); the embedding with layer 0, norm and head with the last layer.
void spec_needs(const struct model_spec *spec, uint32_t first, uint32_t end, spec_need_fn *fn, void *context);
// The tensor's name in a Hugging Face checkpoint.
void spec_tensor_name(const struct model_spec *spec, enum tensor_role role, uint32_t layer, uint32_t expert,
                      char name[MODEL_NAME_MAX]);

// Angle per position of each of the rope->dim / 2 pairs, and the factor on cos and sin.
void rope_frequencies(const struct rope_spec *rope, double *frequency, double *factor);
// YaRN's correction of attention's scale (DeepSeek: mscale_all_dim squared); 1 where there is none.
double rope_scale_correction(const struct rope_spec *rope);
