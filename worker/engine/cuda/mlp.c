// The feed-forward half of a layer: dense, or a mixture of experts with an expert that is always on. Experts' rows are
// sorted by expert; a token's outputs are added by the rank of its choice.
#include "worker/engine/cuda/forward.h"
#include "worker/engine/cuda/kernels/elementwise.h"
#include "worker/engine/cuda/kernels/moe.h"
#include "worker/engine/cuda/kernels/quantise.h"
#include "worker/engine/cuda/kernels/stream.h"

static uint32_t padded(uint32_t n) { return (uint32_t)round_up(n, 128); }

// Gate and up with biases: each product by itself, also where they are one matrix.
static err_id biased_gate_up(struct forward *f, const struct cuda_mlp *w, uint32_t inter, uint32_t tokens, struct error *e) {
    for (uint32_t i = 0; i < 2; i++) {
        struct cuda_matrix part = w->gate_up.part[w->gate_up.parts == 1 ? 0 : i];
        if (w->gate_up.parts == 1) {
            part.w = (uint8_t *)part.w + (uint64_t)i * inter * part.ld * (part.scale != NULL ? 1 : 2);
            if (part.scale != NULL) part.scale += (uint64_t)i * (inter / 128) * (part.ld / 128);
            part.n = inter;
        }
        struct gemm_vectors v;
        TRY(forward_vectors(f, &v, &f->norm, &part, tokens, e));
        struct gemm_out out = {
            .to = f->gate_up.x + i * padded(inter), .ld = f->gate_up.ld, .f32 = true, .bias = w->gate_up_bias[i]};
        TRY(gemm_run(f->gemm, &part, &v, tokens, out, f->stream, e));
    }
    return ERR_NONE;
}

static err_id silu(struct forward *f, const struct floats *gate_up, const struct vectors *act, uint32_t inter, uint32_t m,
                   struct error *e) {
    cudaError_t id = silu_run(gate_up->x, gate_up->ld, padded(inter), act->x, act->ld, inter, m, f->stream);
    return device_error(id, "an activation", e);
}

static err_id dense(struct forward *f, const struct cuda_mlp *w, const struct mlp_spec *m, uint32_t tokens,
                    struct error *e) {
    if (w->gate_up_bias[0] != NULL) {
        TRY(biased_gate_up(f, w, m->inter, tokens, e));
    } else {
        TRY(forward_stack(f, &w->gate_up, &f->norm, &f->gate_up, tokens, e));
    }
    TRY(silu(f, &f->gate_up, &f->act, m->inter, tokens, e));
    return forward_add(f, &w->down, &f->act, w->down_bias, tokens, e);
}

// ---- a mixture of experts ----

static struct moe_call choice_call(const struct forward *f, const struct cuda_layer *l, const struct mlp_spec *m,
                                   uint32_t tokens) {
    struct moe_call c = {
        .x = f->norm_f32.x, .ldx = f->norm_f32.ld, .router = l->router, .bias = l->router_bias, .tokens = tokens};
    c.hidden = f->spec->hidden;
    c.experts = m->experts;
    c.top_k = m->top_k;
    c.groups = m->groups;
    c.topk_groups = m->topk_groups;
    c.sigmoid = m->score == MOE_SIGMOID;
    c.group_top2 = m->group_score == MOE_GROUP_TOP2;
    c.norm_topk = m->norm_topk;
    c.routed_scale = m->routed_scale;
    c.scores = f->scores;
    c.choice = f->choice;
    c.weight = f->choice_weight;
    c.first = f->expert_first;
    c.of = f->expert_of;
    c.place = f->expert_place;
    return c;
}

// All experts' products at once. x has a row per token when gathered, else one per row of an expert.
static err_id grouped(struct forward *f, const struct cuda_matrix *w, uint32_t experts, const struct vectors *x,
                      bool gathered, uint32_t rows, uint32_t tokens, struct floats out, struct error *e) {
    struct gemm_vectors v;
    TRY(forward_vectors(f, &v, x, w, gathered ? tokens : rows, e));
    struct stream_call c = {
        .w = w->w, .ldw = w->ld, .n = w->n, .k = w->ld, .x = v.x, .ldx = v.ldx, .m = tokens, .batch = experts};
    c.w_step = (uint64_t)w->n * w->ld;
    if (w->scale != NULL) {
        c.w_scale = w->scale;
        c.scale_ld = w->ld / 128;
        c.scale_step = (uint64_t)((w->n + 127) / 128) * c.scale_ld;
        c.x = v.q;
        c.x_scale = v.q_scale;
        c.ldx = w->ld;
    }
    c.group_first = f->expert_first;
    c.gather = gathered ? f->expert_of : NULL;
    c.out = out.x;
    c.ldo = out.ld;
    c.out_f32 = true;
    return device_error(stream_run(&c, f->stream), "experts' products", e);
}

static err_id shared_expert(struct forward *f, const struct cuda_layer *l, const struct mlp_spec *m, uint32_t tokens,
                            struct error *e) {
    TRY(forward_stack(f, &l->shared.gate_up, &f->norm, &f->shared_gate_up, tokens, e));
    TRY(silu(f, &f->shared_gate_up, &f->shared_act, m->shared_inter, tokens, e));
    struct floats out = {f->shared_out, f->ld};
    return forward_product(f, &l->shared.down, &f->shared_act, &out, tokens, e);
}

static err_id moe(struct forward *f, const struct cuda_layer *l, const struct mlp_spec *m, uint32_t tokens,
                  struct error *e) {
    struct moe_call c = choice_call(f, l, m, tokens);
    uint32_t rows = tokens * m->top_k;
    TRY(device_error(moe_choose(&c, f->stream), "choosing experts", e));
    struct floats gate = f->expert_gate_up, up = gate, down = {f->expert_out, f->ld};
    up.x += padded(m->expert_inter);
    TRY(grouped(f, &l->expert_gate, m->experts, &f->norm, true, rows, tokens, gate, e));
    TRY(grouped(f, &l->expert_up, m->experts, &f->norm, true, rows, tokens, up, e));
    TRY(silu(f, &f->expert_gate_up, &f->expert_act, m->expert_inter, rows, e));
    TRY(grouped(f, &l->expert_down, m->experts, &f->expert_act, false, rows, tokens, down, e));
    if (m->shared_inter > 0) TRY(shared_expert(f, l, m, tokens, e));
    const float *shared = m->shared_inter > 0 ? f->shared_out : NULL;
    return device_error(moe_combine(&c, f->expert_out, f->ld, shared, f->hidden, f->ld, f->stream), "adding experts up", e);
}

err_id mlp_run(struct forward *f, uint32_t layer, uint32_t tokens, struct error *e) {
    const struct cuda_layer *l = &f->weights->layers[layer - f->first];
    const struct mlp_spec *m = &f->spec->layer[layer].mlp;
    return m->kind == MLP_MOE ? moe(f, l, m, tokens, e) : dense(f, &l->mlp, m, tokens, e);
}
