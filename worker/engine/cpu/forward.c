// Design notes: phases that go by token run as loops of their own; with one token in the batch they run in the engine
// thread, so a decode step only meets the pool in its matrix products and in long attention.
#include "worker/engine/cpu/forward.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "common/base/scalar_math.h"

enum { BUFFER_ALIGN = 64 };

static size_t round16(size_t n) { return (n + 15) / 16 * 16; }

// ---- buffers ----

struct sizes {
    size_t q_a, q, q_full, attended, values, k, v, inter, rows, shared, experts, top_k, jobs, k_dim, v_padded;
};

static void most(size_t *a, size_t b) { *a = *a > b ? *a : b; }

static void attention_sizes(struct sizes *z, const struct attention_spec *a) {
    bool mla = a->kind == ATTENTION_MLA;
    size_t head = mla ? a->nope_dim + a->rope_dim : a->head_dim, latent = mla ? a->kv_lora : a->head_dim;
    most(&z->q_a, a->q_lora);
    most(&z->q, a->heads * head);
    if (mla) most(&z->q_full, (size_t)a->heads * (a->kv_lora + a->rope_dim));
    most(&z->attended, a->heads * latent);
    if (mla) most(&z->values, (size_t)a->heads * a->v_dim);
    most(&z->k, mla ? a->kv_lora + a->rope_dim : (size_t)a->kv_heads * a->head_dim);
    most(&z->v, mla ? 0 : (size_t)a->kv_heads * a->head_dim);
    most(&z->k_dim, mla ? a->kv_lora + a->rope_dim : 0);
    most(&z->v_padded, round16(latent));
    if (mla) most(&z->jobs, a->heads);
}

static struct sizes sizes_of(const struct model_spec *s, uint32_t first, uint32_t end, uint32_t tokens) {
    struct sizes z = {.jobs = 4};
    for (uint32_t i = first; i < end; i++) {
        const struct mlp_spec *m = &s->layer[i].mlp;
        attention_sizes(&z, &s->layer[i].attention);
        bool moe = m->kind == MLP_MOE;
        most(&z.inter, (moe ? m->expert_inter * (size_t)m->top_k : m->inter) * tokens);
        if (!moe) continue;
        most(&z.rows, (size_t)tokens * m->top_k);
        most(&z.shared, m->shared_inter);
        most(&z.experts, m->experts);
        most(&z.top_k, m->top_k);
        most(&z.jobs, 2 * (size_t)m->experts + 2);
    }
    return z;
}

// With f->blocks NULL-counting: `count` only adds sizes up.
struct builder {
    struct forward *f;
    bool count;
};

static void *buffer(struct builder *b, size_t n, size_t size) {
    size_t bytes = (n * size + BUFFER_ALIGN) / BUFFER_ALIGN * BUFFER_ALIGN;
    b->f->bytes += bytes;
    if (b->count || n == 0) return NULL;
    CHECK(b->f->n_blocks < ARRAY_LEN(b->f->blocks));
    void *p = aligned_alloc(BUFFER_ALIGN, bytes);
    CHECK(p != NULL);
    memset(p, 0, bytes);
    return b->f->blocks[b->f->n_blocks++] = p;
}

static struct vectors vectors(struct builder *b, size_t n, size_t ld) {
    return (struct vectors){buffer(b, n * ld, sizeof(float)), buffer(b, n * ld, sizeof(uint32_t)), ld};
}

static void build(struct builder *b, uint32_t threads) {
    struct forward *f = b->f;
    uint32_t t = f->limits.tokens, hidden = f->spec->hidden;
    struct sizes z = sizes_of(f->spec, f->first, f->end, t);
    f->token = buffer(b, t, sizeof *f->token);
    f->pos = buffer(b, t, sizeof *f->pos);
    f->table = buffer(b, t, sizeof *f->table);
    f->logits_of = buffer(b, f->limits.logits, sizeof *f->logits_of);
    f->hidden = buffer(b, (size_t)t * hidden, sizeof(float));
    f->added = buffer(b, (size_t)t * hidden, sizeof(float));
    f->norm = vectors(b, t > f->limits.logits ? t : f->limits.logits, hidden);
    f->q_a = vectors(b, t, z.q_a);
    f->q = vectors(b, t, z.q);
    f->q_full = vectors(b, t, z.q_full);
    f->attended = vectors(b, t, z.attended);
    f->values = vectors(b, t, z.values);
    f->k = buffer(b, t * z.k, sizeof(float));
    f->v = buffer(b, t * z.v, sizeof(float));
    f->gate = vectors(b, 1, z.inter);
    f->up = buffer(b, z.inter, sizeof(float));
    f->shared = vectors(b, t, z.shared);
    f->shared_up = buffer(b, t * z.shared, sizeof(float));
    f->shared_out = buffer(b, z.shared > 0 ? (size_t)t * hidden : 0, sizeof(float));
    f->router = buffer(b, t * z.experts, sizeof(float));
    f->choice = buffer(b, t * z.top_k, sizeof *f->choice);
    f->choice_weight = buffer(b, t * z.top_k, sizeof(float));
    f->place = buffer(b, t * z.top_k, sizeof *f->place);
    f->expert_tokens = buffer(b, z.rows, sizeof *f->expert_tokens);
    f->expert_first = buffer(b, z.experts + 1, sizeof *f->expert_first);
    f->expert_out = buffer(b, z.rows * hidden, sizeof(float));
    f->jobs_max = (uint32_t)z.jobs;
    f->jobs = buffer(b, z.jobs, sizeof *f->jobs);
    size_t angles = (size_t)f->limits.context * (f->spec->rope.dim / 2);
    f->cosine = buffer(b, angles, sizeof(float));
    f->sine = buffer(b, angles, sizeof(float));
    size_t segments = (f->limits.context + SEGMENT_TOKENS - 1) / SEGMENT_TOKENS;
    f->span = buffer(b, t + 1, sizeof *f->span);
    f->scratch_each = attend_scratch(z.k_dim, z.v_padded);
    f->scratch = buffer(b, threads * f->scratch_each, sizeof(float));
    f->parts_rows = 16 * threads;
    f->parts = buffer(b, f->parts_rows * segments * attend_part(z.v_padded), sizeof(float));
    bool last = f->end == f->spec->layers;
    f->logits = buffer(b, last ? (size_t)f->limits.logits * f->spec->vocab : 0, sizeof(float));
}

uint64_t forward_bytes(const struct model_spec *spec, uint32_t first, uint32_t end, const struct forward_limits *limits,
                       uint32_t threads) {
    struct forward f = {.spec = spec, .first = first, .end = end, .limits = *limits};
    struct builder b = {&f, true};
    build(&b, threads);
    return f.bytes;
}

static void fill_angles(struct forward *f) {
    const struct rope_spec *r = &f->spec->rope;
    uint32_t pairs = r->dim / 2;
    double *frequency = xmalloc(pairs * sizeof *frequency), factor, s, c;
    rope_frequencies(r, frequency, &factor);
    for (uint32_t p = 0; p < f->limits.context; p++) {
        for (uint32_t i = 0; i < pairs; i++) {
            math_sincos(p * frequency[i], &s, &c);
            f->cosine[(size_t)p * pairs + i] = (float)(c * factor);
            f->sine[(size_t)p * pairs + i] = (float)(s * factor);
        }
    }
    free(frequency);
}

void forward_create(struct forward *f) {
    struct builder b = {f, false};
    build(&b, pool_threads(f->pool));
    fill_angles(f);
}

void forward_destroy(struct forward *f) {
    for (uint32_t i = 0; i < f->n_blocks; i++) free(f->blocks[i]);
    f->n_blocks = 0;
}

// ---- the batch ----

void forward_begin(struct forward *f) { f->n_tokens = f->n_logits = 0; }

void forward_add(struct forward *f, const uint32_t *tokens, uint32_t q_len, uint32_t pos, const uint32_t *table, bool last,
                 bool all) {
    CHECK(q_len <= f->limits.tokens - f->n_tokens);
    for (uint32_t i = 0; i < q_len; i++) {
        uint32_t t = f->n_tokens++;
        f->token[t] = tokens[i];
        f->pos[t] = pos + i;
        f->table[t] = table;
        if (all || (last && i + 1 == q_len)) {
            CHECK(f->n_logits < f->limits.logits);
            f->logits_of[f->n_logits++] = t;
        }
    }
}

struct norm_pass {
    struct forward *f;
    const float *weight;
    bool add;    // f->added joins the residual stream first
    bool gather; // only the tokens whose logits are wanted
};

static void norm_tokens(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct norm_pass *p = context;
    struct forward *f = p->f;
    uint32_t hidden = f->spec->hidden;
    for (uint32_t i = begin; i < end; i++) {
        size_t from = (size_t)(p->gather ? f->logits_of[i] : i) * hidden, to = (size_t)i * hidden;
        if (p->add) f->kernels->add_scaled(f->added + from, 1, hidden, f->hidden + from);
        if (p->weight == NULL) continue;
        f->kernels->rms_norm(f->hidden + from, p->weight, hidden, f->spec->norm_eps, f->norm.f + to);
        f->kernels->pack(f->norm.f + to, hidden, f->norm.packed + to);
    }
}

// hidden += added where there is something to add, then the norm.
static void norm(struct forward *f, const float *weight, bool add) {
    struct norm_pass p = {f, weight, add, false};
    pool_for(f->pool, f->n_tokens, 8, norm_tokens, &p);
}

static void head(struct forward *f) {
    if (f->n_logits == 0) return;
    struct norm_pass p = {f, f->weights->final_norm, false, true};
    pool_for(f->pool, f->n_logits, 8, norm_tokens, &p);
    struct gemm_job job = {.w = &f->weights->head, .x = f->norm.f, .packed = f->norm.packed, .ld_x = f->norm.ld};
    job.m = f->n_logits;
    job.out = f->logits;
    job.ld_out = f->spec->vocab;
    gemm_run(f->pool, f->kernels, &job, 1);
}

bool forward_run(struct forward *f, const float *incoming, atomic_bool *stop) {
    uint32_t hidden = f->spec->hidden;
    if (incoming != NULL) memcpy(f->hidden, incoming, (size_t)f->n_tokens * hidden * sizeof(float));
    for (uint32_t t = 0; incoming == NULL && t < f->n_tokens; t++) {
        weights_embed(f->weights, f->token[t], hidden, f->hidden + (size_t)t * hidden);
    }
    for (uint32_t i = f->first; i < f->end; i++) {
        if (atomic_load(stop)) return false;
        const struct layer_weights *w = &f->weights->layers[i - f->first];
        norm(f, w->attention_norm, i > f->first);
        attention_run(f, i);
        norm(f, w->mlp_norm, true);
        mlp_run(f, i);
    }
    norm(f, NULL, true);
    if (f->end == f->spec->layers) head(f);
    return true;
}
