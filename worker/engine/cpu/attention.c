// Attention of one layer, GQA or MLA: projections, rotation, the write into the cache, then (attend.c) queries against the
// cache alone.
//
// MLA runs absorbed, for prefill and decode alike (other forms have other bits): q_full[head] = [W_UK' q_nope | rotated
// q_rope] is matched with the cache's [latent | rotated key]; attended[head] is the weighted latent, and W_UV makes values
// of it.
#include <math.h>
#include "worker/engine/cpu/forward.h"
#include "worker/engine/cpu/w8a8.h"

struct pass {
    struct forward *f;
    const struct attention_spec *a;
    const struct layer_weights *w;
    const struct cache_layer *cache;
};

static void rotate(const struct forward *f, uint32_t pos, float *x) {
    const struct rope_spec *r = &f->spec->rope;
    uint32_t pairs = r->dim / 2;
    const float *c = f->cosine + (size_t)pos * pairs, *s = f->sine + (size_t)pos * pairs;
    for (uint32_t i = 0; i < pairs; i++) {
        float *a = r->interleaved ? x + 2 * i : x + i, *b = r->interleaved ? a + 1 : a + pairs;
        float va = *a, vb = *b;
        *a = va * c[i] - vb * s[i];
        *b = vb * c[i] + va * s[i];
    }
}

static struct gemm_job job(const struct matrix *w, const struct vectors *x, uint32_t m, float *out, size_t ld_out) {
    return (struct gemm_job){.w = w, .x = x->f, .packed = x->packed, .ld_x = x->ld, .m = m, .out = out, .ld_out = ld_out};
}

// ---- GQA ----

static void gqa_project(const struct pass *p) {
    struct forward *f = p->f;
    uint32_t kv = p->a->kv_heads * p->a->head_dim;
    f->jobs[0] = job(&p->w->q, &f->norm, f->n_tokens, f->q.f, f->q.ld);
    f->jobs[1] = job(&p->w->k, &f->norm, f->n_tokens, f->k, kv);
    f->jobs[2] = job(&p->w->v, &f->norm, f->n_tokens, f->v, kv);
    f->jobs[0].bias = p->w->q_bias;
    f->jobs[1].bias = p->w->k_bias;
    f->jobs[2].bias = p->w->v_bias;
    gemm_run(f->pool, f->kernels, f->jobs, 3);
}

static void gqa_heads(const struct pass *p, float *x, uint32_t heads, const float *weight, uint32_t pos) {
    for (uint32_t h = 0; h < heads; h++, x += p->a->head_dim) {
        if (weight != NULL) p->f->kernels->rms_norm(x, weight, p->a->head_dim, p->f->spec->norm_eps, x);
        rotate(p->f, pos, x);
    }
}

static void gqa_tokens(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct pass *p = context;
    struct forward *f = p->f;
    uint32_t kv = p->a->kv_heads * p->a->head_dim;
    for (uint32_t t = begin; t < end; t++) {
        float *k = f->k + (size_t)t * kv, *v = f->v + (size_t)t * kv;
        gqa_heads(p, f->q.f + t * f->q.ld, p->a->heads, p->w->q_norm, f->pos[t]);
        gqa_heads(p, k, p->a->kv_heads, p->w->k_norm, f->pos[t]);
        for (uint32_t h = 0; h < p->a->kv_heads; h++) {
            cache_write(f->cache, p->cache, f->table[t], f->pos[t], h, k + h * p->a->head_dim, v + h * p->a->head_dim);
        }
    }
}

// ---- MLA ----

static void mla_norm_q(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct pass *p = context;
    struct forward *f = p->f;
    for (uint32_t t = begin; t < end; t++) {
        size_t at = t * f->q_a.ld;
        f->kernels->rms_norm(f->q_a.f + at, p->w->q_a_norm, p->a->q_lora, p->a->lora_norm_eps, f->q_a.f + at);
        f->kernels->pack(f->q_a.f + at, p->a->q_lora, f->q_a.packed + at);
    }
}

static void mla_project(struct pass *p) {
    struct forward *f = p->f;
    bool lora = p->a->q_lora > 0;
    struct vectors *first = lora ? &f->q_a : &f->q;
    f->jobs[0] = job(lora ? &p->w->q_a : &p->w->q, &f->norm, f->n_tokens, first->f, first->ld);
    f->jobs[1] = job(&p->w->kv_a, &f->norm, f->n_tokens, f->k, p->a->kv_lora + p->a->rope_dim);
    gemm_run(f->pool, f->kernels, f->jobs, 2);
    if (!lora) return;
    pool_for(f->pool, f->n_tokens, 8, mla_norm_q, p);
    w8a8_round_for(f, &f->q_a, f->n_tokens, &p->w->q_b);
    f->jobs[0] = job(&p->w->q_b, &f->q_a, f->n_tokens, f->q.f, f->q.ld);
    gemm_run(f->pool, f->kernels, f->jobs, 1);
}

static void mla_tokens(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct pass *p = context;
    const struct attention_spec *a = p->a;
    struct forward *f = p->f;
    uint32_t head = a->nope_dim + a->rope_dim, k_dim = a->kv_lora + a->rope_dim;
    for (uint32_t t = begin; t < end; t++) {
        float *k = f->k + (size_t)t * k_dim, *q = f->q.f + t * f->q.ld, *full = f->q_full.f + t * f->q_full.ld;
        f->kernels->rms_norm(k, p->w->kv_a_norm, a->kv_lora, a->lora_norm_eps, k);
        if (f->w8a8 && p->w->kv_a.form == FORM_F8) w8a8_round(k, a->kv_lora); // as an input of kv_b, absorbed or not
        rotate(f, f->pos[t], k + a->kv_lora);
        cache_write(f->cache, p->cache, f->table[t], f->pos[t], 0, k, NULL);
        for (uint32_t h = 0; h < a->heads; h++) {
            float *rope = full + h * k_dim + a->kv_lora;
            for (uint32_t i = 0; i < a->rope_dim; i++) rope[i] = q[h * head + a->nope_dim + i];
            rotate(f, f->pos[t], rope);
        }
        f->kernels->pack(q, a->heads * head, f->q.packed + t * f->q.ld);
    }
}

static void mla_absorb(struct pass *p) {
    struct forward *f = p->f;
    uint32_t head = p->a->nope_dim + p->a->rope_dim, k_dim = p->a->kv_lora + p->a->rope_dim;
    for (uint32_t h = 0; h < p->a->heads; h++) {
        f->jobs[h] = job(&p->w->uk[h], &f->q, f->n_tokens, f->q_full.f + h * k_dim, f->q_full.ld);
        f->jobs[h].x += h * head;
        f->jobs[h].packed += h * head;
    }
    gemm_run(f->pool, f->kernels, f->jobs, p->a->heads);
}

static void pack_values(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct pass *p = context;
    struct vectors *v = &p->f->values;
    for (uint32_t t = begin; t < end; t++) p->f->kernels->pack(v->f + t * v->ld, (uint32_t)v->ld, v->packed + t * v->ld);
}

static void mla_values(struct pass *p) {
    struct forward *f = p->f;
    for (uint32_t h = 0; h < p->a->heads; h++) {
        f->jobs[h] = job(&p->w->uv[h], &f->attended, f->n_tokens, f->values.f + h * p->a->v_dim, f->values.ld);
        f->jobs[h].x += h * p->a->kv_lora;
        f->jobs[h].packed += h * p->a->kv_lora;
    }
    gemm_run(f->pool, f->kernels, f->jobs, p->a->heads);
    pool_for(f->pool, f->n_tokens, 8, pack_values, p);
}

void attention_run(struct forward *f, uint32_t layer) {
    uint32_t i = layer - f->first;
    struct pass p = {
        .f = f, .a = &f->spec->layer[layer].attention, .w = &f->weights->layers[i], .cache = &f->cache->layers[i]};
    bool mla = p.a->kind == ATTENTION_MLA;
    w8a8_round_for(f, &f->norm, f->n_tokens, mla ? &p.w->kv_a : &p.w->k);
    (mla ? mla_project(&p) : gqa_project(&p));
    pool_for(f->pool, f->n_tokens, 4, mla ? mla_tokens : gqa_tokens, &p);
    if (mla) mla_absorb(&p);
    attend_run(f, p.a, p.cache, mla ? &f->q_full : &f->q);
    if (mla) mla_values(&p);
    w8a8_round_for(f, mla ? &f->values : &f->attended, f->n_tokens, &p.w->out);
    f->jobs[0] = job(&p.w->out, mla ? &f->values : &f->attended, f->n_tokens, f->added, f->spec->hidden);
    f->jobs[0].bias = p.w->out_bias;
    gemm_run(f->pool, f->kernels, f->jobs, 1);
}
