// What tensors a spec calls for, by role, shape and name.
#include "worker/model/spec.h"
#include <stdio.h>

static const char *const tensor_names[TENSOR_ROLES] = {
    [TENSOR_EMBED] = "model.embed_tokens.weight",
    [TENSOR_FINAL_NORM] = "model.norm.weight",
    [TENSOR_HEAD] = "lm_head.weight",
    [TENSOR_ATTENTION_NORM] = "input_layernorm.weight",
    [TENSOR_Q] = "self_attn.q_proj.weight",
    [TENSOR_Q_BIAS] = "self_attn.q_proj.bias",
    [TENSOR_K] = "self_attn.k_proj.weight",
    [TENSOR_K_BIAS] = "self_attn.k_proj.bias",
    [TENSOR_V] = "self_attn.v_proj.weight",
    [TENSOR_V_BIAS] = "self_attn.v_proj.bias",
    [TENSOR_OUT] = "self_attn.o_proj.weight",
    [TENSOR_OUT_BIAS] = "self_attn.o_proj.bias",
    [TENSOR_Q_NORM] = "self_attn.q_norm.weight",
    [TENSOR_K_NORM] = "self_attn.k_norm.weight",
    [TENSOR_Q_A] = "self_attn.q_a_proj.weight",
    [TENSOR_Q_A_NORM] = "self_attn.q_a_layernorm.weight",
    [TENSOR_Q_B] = "self_attn.q_b_proj.weight",
    [TENSOR_KV_A] = "self_attn.kv_a_proj_with_mqa.weight",
    [TENSOR_KV_A_NORM] = "self_attn.kv_a_layernorm.weight",
    [TENSOR_KV_B] = "self_attn.kv_b_proj.weight",
    [TENSOR_MLP_NORM] = "post_attention_layernorm.weight",
    [TENSOR_GATE] = "mlp.gate_proj.weight",
    [TENSOR_GATE_BIAS] = "mlp.gate_proj.bias",
    [TENSOR_UP] = "mlp.up_proj.weight",
    [TENSOR_UP_BIAS] = "mlp.up_proj.bias",
    [TENSOR_DOWN] = "mlp.down_proj.weight",
    [TENSOR_DOWN_BIAS] = "mlp.down_proj.bias",
    [TENSOR_ROUTER] = "mlp.gate.weight",
    [TENSOR_ROUTER_BIAS] = "mlp.gate.e_score_correction_bias",
    [TENSOR_EXPERT_GATE] = "gate_proj.weight",
    [TENSOR_EXPERT_UP] = "up_proj.weight",
    [TENSOR_EXPERT_DOWN] = "down_proj.weight",
    [TENSOR_SHARED_GATE] = "mlp.shared_experts.gate_proj.weight",
    [TENSOR_SHARED_UP] = "mlp.shared_experts.up_proj.weight",
    [TENSOR_SHARED_DOWN] = "mlp.shared_experts.down_proj.weight",
};

// Where Mixtral's names differ from the others'.
static const char *mixtral_name(enum tensor_role role) {
    switch (role) {
    case TENSOR_ROUTER:
        return "block_sparse_moe.gate.weight";
    case TENSOR_EXPERT_GATE:
        return "w1.weight";
    case TENSOR_EXPERT_UP:
        return "w3.weight";
    case TENSOR_EXPERT_DOWN:
        return "w2.weight";
    default:
        return tensor_names[role];
    }
}

void spec_tensor_name(const struct model_spec *spec, enum tensor_role role, uint32_t layer, uint32_t expert,
                      char name[MODEL_NAME_MAX]) {
    bool mixtral = spec->names == TENSOR_NAMES_MIXTRAL;
    const char *suffix = mixtral ? mixtral_name(role) : tensor_names[role];
    if (role <= TENSOR_HEAD) {
        snprintf(name, MODEL_NAME_MAX, "%s", suffix);
    } else if (role >= TENSOR_EXPERT_GATE && role <= TENSOR_EXPERT_DOWN) {
        const char *block = mixtral ? "block_sparse_moe" : "mlp";
        snprintf(name, MODEL_NAME_MAX, "model.layers.%u.%s.experts.%u.%s", layer, block, expert, suffix);
    } else {
        snprintf(name, MODEL_NAME_MAX, "model.layers.%u.%s", layer, suffix);
    }
}

struct visit {
    spec_need_fn *fn;
    void *context;
    uint32_t layer;
};

static void need(const struct visit *v, enum tensor_role role, uint32_t rows, uint32_t cols) {
    v->fn(v->context, &(struct tensor_need){.role = role, .layer = v->layer, .rows = rows, .cols = cols});
}

static void need_gqa(const struct visit *v, const struct attention_spec *a, uint32_t hidden) {
    uint32_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    need(v, TENSOR_Q, q, hidden);
    need(v, TENSOR_K, kv, hidden);
    need(v, TENSOR_V, kv, hidden);
    need(v, TENSOR_OUT, hidden, q);
    if (a->qkv_bias) {
        need(v, TENSOR_Q_BIAS, q, 0);
        need(v, TENSOR_K_BIAS, kv, 0);
        need(v, TENSOR_V_BIAS, kv, 0);
    }
    if (a->out_bias) need(v, TENSOR_OUT_BIAS, hidden, 0);
    if (a->qk_norm) {
        need(v, TENSOR_Q_NORM, a->head_dim, 0);
        need(v, TENSOR_K_NORM, a->head_dim, 0);
    }
}

static void need_mla(const struct visit *v, const struct attention_spec *a, uint32_t hidden) {
    uint32_t q = a->heads * (a->nope_dim + a->rope_dim);
    if (a->q_lora == 0) {
        need(v, TENSOR_Q, q, hidden);
    } else {
        need(v, TENSOR_Q_A, a->q_lora, hidden);
        need(v, TENSOR_Q_A_NORM, a->q_lora, 0);
        need(v, TENSOR_Q_B, q, a->q_lora);
    }
    need(v, TENSOR_KV_A, a->kv_lora + a->rope_dim, hidden);
    need(v, TENSOR_KV_A_NORM, a->kv_lora, 0);
    need(v, TENSOR_KV_B, a->heads * (a->nope_dim + a->v_dim), a->kv_lora);
    need(v, TENSOR_OUT, hidden, a->heads * a->v_dim);
}

static void need_mlp(const struct visit *v, const struct mlp_spec *m, uint32_t hidden) {
    need(v, TENSOR_GATE, m->inter, hidden);
    need(v, TENSOR_UP, m->inter, hidden);
    need(v, TENSOR_DOWN, hidden, m->inter);
    if (m->bias) {
        need(v, TENSOR_GATE_BIAS, m->inter, 0);
        need(v, TENSOR_UP_BIAS, m->inter, 0);
        need(v, TENSOR_DOWN_BIAS, hidden, 0);
    }
}

static void need_moe(const struct visit *v, const struct mlp_spec *m, uint32_t hidden) {
    need(v, TENSOR_ROUTER, m->experts, hidden);
    if (m->choice_bias) need(v, TENSOR_ROUTER_BIAS, m->experts, 0);
    for (uint32_t x = 0; x < m->experts; x++) {
        struct tensor_need n = {.role = TENSOR_EXPERT_GATE, .layer = v->layer, .expert = x, m->expert_inter, hidden};
        v->fn(v->context, &n);
        n.role = TENSOR_EXPERT_UP;
        v->fn(v->context, &n);
        v->fn(v->context, &(struct tensor_need){TENSOR_EXPERT_DOWN, v->layer, x, hidden, m->expert_inter});
    }
    if (m->shared_inter > 0) {
        need(v, TENSOR_SHARED_GATE, m->shared_inter, hidden);
        need(v, TENSOR_SHARED_UP, m->shared_inter, hidden);
        need(v, TENSOR_SHARED_DOWN, hidden, m->shared_inter);
    }
}

void spec_needs(const struct model_spec *s, uint32_t first, uint32_t end, spec_need_fn *fn, void *context) {
    struct visit v = {fn, context, 0};
    bool last = end == s->layers;
    if (first == 0 || (last && s->tied)) need(&v, TENSOR_EMBED, s->vocab, s->hidden);
    for (uint32_t l = first; l < end; l++) {
        v.layer = l;
        const struct layer_spec *layer = &s->layer[l];
        need(&v, TENSOR_ATTENTION_NORM, s->hidden, 0);
        (layer->attention.kind == ATTENTION_MLA ? need_mla : need_gqa)(&v, &layer->attention, s->hidden);
        need(&v, TENSOR_MLP_NORM, s->hidden, 0);
        (layer->mlp.kind == MLP_MOE ? need_moe : need_mlp)(&v, &layer->mlp, s->hidden);
    }
    if (last) {
        v.layer = s->layers - 1;
        need(&v, TENSOR_FINAL_NORM, s->hidden, 0);
        if (!s->tied) need(&v, TENSOR_HEAD, s->vocab, s->hidden);
    }
}
