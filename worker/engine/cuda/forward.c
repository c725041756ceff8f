// Design notes: buffers are laid out by one function, which counts when the arena has no memory. Lengths that differ from
// layer to layer get the largest.
#include "worker/engine/cuda/forward.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "common/base/scalar_math.h"
#include "worker/engine/cuda/kernels/elementwise.h"
#include "worker/engine/cuda/kernels/quantise.h"

enum { PAD = 128, PARTS_FLOATS = 16 << 20 };

// ---- buffers ----

struct sizes {
    uint64_t q_a, qkv, kv_a, attended, q, q_nope, latent, inter, shared, expert, rows, experts, top_k, widest;
};

static void most(uint64_t *a, uint64_t b) { *a = *a > b ? *a : b; }

static void attention_sizes(struct sizes *z, const struct attention_spec *a) {
    struct cache_shape c = cache_shape(a);
    bool mla = a->kind == ATTENTION_MLA;
    most(&z->q, (uint64_t)a->heads * c.k_pad);
    if (!mla) {
        most(&z->qkv, (uint64_t)(a->heads + 2 * a->kv_heads) * a->head_dim);
        most(&z->attended, (uint64_t)a->heads * a->head_dim);
        return;
    }
    most(&z->q_a, a->q_lora);
    most(&z->qkv, (uint64_t)a->heads * (a->nope_dim + a->rope_dim));
    most(&z->kv_a, a->kv_lora + a->rope_dim);
    most(&z->q_nope, a->heads * round_up(a->nope_dim, PAD));
    most(&z->latent, a->heads * round_up(a->kv_lora, PAD));
    most(&z->attended, (uint64_t)a->heads * a->v_dim);
}

static struct sizes sizes_of(const struct cuda_plan *p) {
    struct sizes z = {0};
    for (uint32_t i = p->opts.layer_first; i < p->opts.layer_end; i++) {
        const struct mlp_spec *m = &p->spec->layer[i].mlp;
        attention_sizes(&z, &p->spec->layer[i].attention);
        if (m->kind != MLP_MOE) {
            most(&z.inter, m->inter);
            continue;
        }
        most(&z.shared, m->shared_inter);
        most(&z.expert, m->expert_inter);
        most(&z.experts, m->experts);
        most(&z.top_k, m->top_k);
    }
    z.rows = z.top_k * p->opts.batch_tokens;
    const uint64_t widths[] = {p->spec->hidden, z.q_a, z.attended, z.inter, z.shared};
    for (size_t i = 0; i < ARRAY_LEN(widths); i++) most(&z.widest, round_up(widths[i], PAD) * p->opts.batch_tokens);
    most(&z.widest, round_up(z.expert, PAD) * z.rows);
    most(&z.widest, round_up(p->spec->hidden, PAD) * p->logits);
    return z;
}

static struct vectors take_vectors(struct arena *a, uint64_t m, uint64_t n) {
    uint64_t ld = round_up(n, PAD);
    return (struct vectors){arena_take(a, m * ld * 2), ld};
}

static struct floats take_floats(struct arena *a, uint64_t m, uint64_t n) {
    uint64_t ld = round_up(n, PAD);
    return (struct floats){arena_take(a, m * ld * sizeof(float)), ld};
}

static void lay_out_slots(struct forward *f, struct arena *a) {
    const struct engine_opts *o = &f->plan->opts;
    uint64_t words = (uint64_t)o->rows * f->spec->vocab;
    f->indexes = (o->context + o->block_tokens - 1) / o->block_tokens;
    f->tokens_ld = o->context + 1;
    f->table = arena_take(a, (uint64_t)o->slots * f->indexes * sizeof *f->table);
    f->tokens = arena_take(a, (uint64_t)o->slots * f->tokens_ld * sizeof *f->tokens);
    f->params = arena_take(a, o->slots * sizeof *f->params);
    f->batch = arena_take(a, batch_bytes(f->plan));
    f->answers = arena_take(a, o->rows * sizeof *f->answers);
    if (f->end != f->spec->layers) return;
    f->ld_logits = round_up(f->spec->vocab, PAD);
    f->logits = arena_take(a, f->plan->logits * f->ld_logits * sizeof *f->logits);
    f->sample_w = arena_take(a, words * sizeof *f->sample_w);
    f->sample_order = arena_take(a, words * sizeof *f->sample_order);
    f->sample_mass = arena_take(a, words * sizeof *f->sample_mass);
    f->sample_counts = arena_take(a, words * sizeof *f->sample_counts);
}

static void lay_out_experts(struct forward *f, struct arena *a, const struct sizes *z) {
    uint64_t t = f->plan->opts.batch_tokens;
    f->shared_gate_up = take_floats(a, t, 2 * round_up(z->shared, PAD));
    f->shared_act = take_vectors(a, t, z->shared);
    f->shared_out = arena_take(a, z->shared > 0 ? t * f->ld * sizeof *f->shared_out : 0);
    f->expert_gate_up = take_floats(a, z->rows, 2 * round_up(z->expert, PAD));
    f->expert_act = take_vectors(a, z->rows, z->expert);
    f->expert_out = arena_take(a, z->rows * f->ld * sizeof *f->expert_out);
    f->scores = arena_take(a, t * z->experts * sizeof *f->scores);
    f->choice = arena_take(a, z->rows * sizeof *f->choice);
    f->choice_weight = arena_take(a, z->rows * sizeof *f->choice_weight);
    f->expert_first = arena_take(a, (z->experts + 1) * sizeof *f->expert_first);
    f->expert_of = arena_take(a, z->rows * sizeof *f->expert_of);
    f->expert_place = arena_take(a, z->rows * sizeof *f->expert_place);
}

static struct attend_call parts_call(const struct forward *f) {
    const struct attention_spec *a = &f->spec->layer[f->first].attention;
    return (struct attend_call){.heads = a->heads, .kv_heads = f->shape.heads, .v_pad = f->shape.v_pad};
}

static void lay_out(struct forward *f, struct arena *a) {
    const struct engine_opts *o = &f->plan->opts;
    struct sizes z = sizes_of(f->plan);
    uint64_t t = o->batch_tokens, rows = t > f->plan->logits ? t : f->plan->logits;
    f->ld = round_up(f->spec->hidden, PAD);
    lay_out_slots(f, a);
    f->hidden = arena_take(a, t * f->ld * sizeof *f->hidden);
    f->norm = take_vectors(a, rows, f->spec->hidden);
    f->norm_f32 = take_floats(a, z.experts > 0 ? t : 0, f->spec->hidden);
    f->q_a = take_floats(a, t, z.q_a);
    f->q_a_norm = take_vectors(a, t, z.q_a);
    f->qkv = take_floats(a, t, z.qkv);
    f->kv_a = take_floats(a, t, z.kv_a);
    f->q = arena_take(a, t * z.q * 2);
    f->q_nope = arena_take(a, t * z.q_nope * 2);
    f->latent = take_vectors(a, t, z.latent);
    f->attended = take_vectors(a, t, z.attended);
    f->gate_up = take_floats(a, t, 2 * round_up(z.inter, PAD));
    f->act = take_vectors(a, t, z.inter);
    f->quantised = arena_take(a, z.widest * 2);
    f->q_scale = arena_take(a, z.widest / PAD * sizeof *f->q_scale);
    lay_out_experts(f, a, &z);
    uint64_t angles = (uint64_t)o->context * (f->spec->rope.dim / 2);
    f->cosine = arena_take(a, angles * sizeof *f->cosine);
    f->sine = arena_take(a, angles * sizeof *f->sine);
    struct attend_call c = parts_call(f);
    uint32_t seg = attend_segment(f->shape.v_pad);
    f->parts_floats = attend_parts_floats(&c, o->rows, (o->context + seg - 1) / seg);
    if (f->parts_floats > PARTS_FLOATS) f->parts_floats = PARTS_FLOATS;
    f->parts = arena_take(a, f->parts_floats * sizeof *f->parts);
}

static void set_shape(struct forward *f, const struct cuda_plan *plan) {
    f->plan = plan;
    f->spec = plan->spec;
    f->first = plan->opts.layer_first;
    f->end = plan->opts.layer_end;
    f->shape = cache_shape(&f->spec->layer[f->first].attention);
    f->head_elements = f->shape.token / f->shape.heads * plan->opts.block_tokens;
    f->block_elements = f->shape.token * plan->opts.block_tokens;
    f->layer_elements = f->block_elements * (plan->mem.blocks + 1ull); // the last one takes padding rows
}

uint64_t forward_bytes(const struct cuda_plan *plan) {
    struct forward f = {0};
    set_shape(&f, plan);
    lay_out(&f, &f.memory);
    return f.memory.used + gemm_workspace_bytes();
}

static err_id fill_angles(struct forward *f, struct error *e) {
    const struct rope_spec *r = &f->spec->rope;
    uint32_t pairs = r->dim / 2, context = f->plan->opts.context;
    size_t count = (size_t)context * pairs;
    double *frequency = xmalloc(pairs * sizeof *frequency), factor, s, c;
    float *cosine = xmalloc(2 * count * sizeof *cosine), *sine = cosine + count;
    rope_frequencies(r, frequency, &factor);
    for (uint32_t p = 0; p < context; p++) {
        for (uint32_t i = 0; i < pairs; i++) {
            math_sincos(p * frequency[i], &s, &c);
            cosine[(size_t)p * pairs + i] = (float)(c * factor);
            sine[(size_t)p * pairs + i] = (float)(s * factor);
        }
    }
    cudaError_t id = cudaMemcpy(f->cosine, cosine, count * sizeof *cosine, cudaMemcpyHostToDevice);
    if (id == cudaSuccess) id = cudaMemcpy(f->sine, sine, count * sizeof *sine, cudaMemcpyHostToDevice);
    free(frequency);
    free(cosine);
    return device_error(id, "copying the rotation's angles", e);
}

err_id forward_create(struct forward *f, const struct cuda_plan *plan, const struct cuda_weights *weights,
                      bool deterministic, cudaStream_t stream, struct error *e) {
    *f = (struct forward){.weights = weights, .stream = stream};
    set_shape(f, plan);
    f->memory.used = forward_bytes(plan);
    TRY(arena_create(&f->memory, "work buffers", e));
    lay_out(f, &f->memory);
    TRY(gemm_create(&f->gemm, deterministic, &f->memory, e));
    f->cache.used = f->layer_elements * 2 * (f->end - f->first);
    TRY(arena_create(&f->cache, "the KV cache", e));
    return fill_angles(f, e);
}

void forward_destroy(struct forward *f) {
    gemm_destroy(&f->gemm);
    arena_destroy(&f->memory);
    arena_destroy(&f->cache);
}

void *forward_cache(const struct forward *f, uint32_t layer) {
    return f->cache.base + (layer - f->first) * f->layer_elements * 2;
}

bool forward_can_split(const struct forward *f, uint32_t tiles, uint32_t segments) {
    struct attend_call c = parts_call(f);
    return attend_parts_floats(&c, tiles, segments) <= f->parts_floats;
}

// ---- products ----

err_id forward_vectors(struct forward *f, struct gemm_vectors *v, const struct vectors *x, const struct cuda_matrix *w,
                       uint32_t m, struct error *e) {
    *v = (struct gemm_vectors){.x = x->x, .ldx = x->ld};
    if (w->scale == NULL) return ERR_NONE;
    v->q = f->quantised;
    v->q_scale = f->q_scale;
    return device_error(quantise_run(x->x, x->ld, f->quantised, f->q_scale, w->ld, w->k, m, f->stream), "quantising", e);
}

err_id forward_product(struct forward *f, const struct cuda_matrix *w, const struct vectors *x, const struct floats *out,
                       uint32_t m, struct error *e) {
    struct gemm_vectors v;
    TRY(forward_vectors(f, &v, x, w, m, e));
    return gemm_run(f->gemm, w, &v, m, (struct gemm_out){.to = out->x, .ld = out->ld, .f32 = true}, f->stream, e);
}

err_id forward_stack(struct forward *f, const struct cuda_stack *s, const struct vectors *x, const struct floats *out,
                     uint32_t m, struct error *e) {
    for (uint32_t i = 0; i < s->parts; i++) {
        struct floats to = {out->x + s->column[i], out->ld};
        TRY(forward_product(f, &s->part[i], x, &to, m, e));
    }
    return ERR_NONE;
}

err_id forward_add(struct forward *f, const struct cuda_matrix *w, const struct vectors *x, const float *bias, uint32_t m,
                   struct error *e) {
    struct gemm_vectors v;
    TRY(forward_vectors(f, &v, x, w, m, e));
    struct gemm_out to = {.to = f->hidden, .ld = f->ld, .f32 = true, .add = true, .bias = bias};
    return gemm_run(f->gemm, w, &v, m, to, f->stream, e);
}

// ---- the pass ----

// gather: which rows of the residual stream, or NULL. f32: to f->norm_f32 too.
static err_id norm(struct forward *f, const float *weight, const uint32_t *gather, uint32_t m, bool f32, struct error *e) {
    struct norm_call c = {.x = f->hidden, .ldx = f->ld, .gather = gather, .weight = weight, .n = f->spec->hidden, .m = m};
    c.eps = f->spec->norm_eps;
    c.out = f->norm.x;
    c.ldo = f->norm.ld;
    c.out_f32 = f32 ? f->norm_f32.x : NULL;
    return device_error(norm_run(&c, f->stream), "a norm", e);
}

static err_id apply_tables(struct forward *f, const struct batch *b, const struct batch_size *n, struct error *e) {
    struct tables_call c = {.table = f->table, .table_ld = f->indexes, .n_deltas = n->n_deltas, .n_copies = n->n_copies};
    c.deltas = b->deltas;
    c.copies = b->copies;
    c.cache = f->cache.base;
    c.layer_bytes = f->layer_elements * 2;
    c.block_bytes = f->block_elements * 2;
    c.layers = f->end - f->first;
    return device_error(tables_run(&c, f->stream), "block tables", e);
}

static err_id head(struct forward *f, const struct batch *b, const struct batch_size *n, struct error *e) {
    if (n->n_logits == 0) return ERR_NONE;
    TRY(norm(f, f->weights->final_norm, b->logits_of, n->n_logits, false, e));
    struct floats to = {f->logits, f->ld_logits};
    return forward_product(f, &f->weights->head, &f->norm, &to, n->n_logits, e);
}

err_id forward_run(struct forward *f, const struct batch *b, const struct batch_size *n, bool incoming, struct error *e) {
    const struct cuda_weights *w = f->weights;
    TRY(apply_tables(f, b, n, e));
    if (n->tokens == 0) return ERR_NONE;
    if (!incoming) {
        cudaError_t id =
            embed_run(w->embed, w->embed_ld, b->at, f->tokens, f->hidden, f->ld, f->spec->hidden, n->tokens, f->stream);
        TRY(device_error(id, "the embedding", e));
    }
    for (uint32_t i = f->first; i < f->end; i++) {
        const struct cuda_layer *l = &w->layers[i - f->first];
        TRY(norm(f, l->attention_norm, NULL, n->tokens, false, e));
        TRY(attention_run(f, i, b, n, e));
        TRY(norm(f, l->mlp_norm, NULL, n->tokens, l->router != NULL, e));
        TRY(mlp_run(f, i, n->tokens, e));
    }
    return f->end == f->spec->layers ? head(f, b, n, e) : ERR_NONE;
}

err_id forward_sample(struct forward *f, const struct batch *b, const struct batch_size *n, struct error *e) {
    struct sample_call c = {.rows = b->rows, .n_rows = n->n_rows, .vocab = f->spec->vocab, .logits = f->logits};
    c.ld = f->ld_logits;
    c.params = f->params;
    c.tokens = f->tokens;
    c.tokens_ld = f->tokens_ld;
    c.masks = b->masks;
    c.w = f->sample_w;
    c.order = f->sample_order;
    c.mass = f->sample_mass;
    c.counts = f->sample_counts;
    c.answers = f->answers;
    return device_error(sample_run(&c, f->stream), "sampling", e);
}
