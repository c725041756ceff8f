// The feed-forward half of a layer: dense, or a mixture of experts with an expert that is always on.
//
// Tokens are sorted by expert, so that an expert's weights are read once for all its tokens; a token's outputs are then
// added up by the rank of its choice, never in the order in which experts finish.
#include <math.h>
#include "common/base/scalar_math.h"
#include "worker/engine/cpu/forward.h"
#include "worker/engine/cpu/w8a8.h"

struct silu_pass {
    struct forward *f;
    float *gate, *up;
    uint32_t *packed;
    uint32_t n;                // of one row
    const struct matrix *down; // that takes them
};

static void silu_rows(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct silu_pass *p = context;
    for (uint32_t r = begin; r < end; r++) {
        size_t at = (size_t)r * p->n;
        p->f->kernels->silu_mul(p->gate + at, p->up + at, p->n, p->gate + at);
        p->f->kernels->pack(p->gate + at, p->n, p->packed + at);
        if (p->f->w8a8 && p->down->form == FORM_F8) w8a8_round(p->gate + at, p->n);
    }
}

static struct gemm_job job(const struct matrix *w, const struct vectors *x, uint32_t m, float *out) {
    return (struct gemm_job){.w = w, .x = x->f, .packed = x->packed, .ld_x = x->ld, .m = m, .out = out, .ld_out = w->n};
}

static void dense(struct forward *f, const struct mlp_weights *w, const struct mlp_spec *m) {
    f->gate.ld = m->inter;
    w8a8_round_for(f, &f->norm, f->n_tokens, &w->gate);
    f->jobs[0] = job(&w->gate, &f->norm, f->n_tokens, f->gate.f);
    f->jobs[1] = job(&w->up, &f->norm, f->n_tokens, f->up);
    f->jobs[0].bias = w->gate_bias;
    f->jobs[1].bias = w->up_bias;
    gemm_run(f->pool, f->kernels, f->jobs, 2);
    struct silu_pass silu = {f, f->gate.f, f->up, f->gate.packed, m->inter, &w->down};
    pool_for(f->pool, f->n_tokens, 4, silu_rows, &silu);
    f->jobs[0] = job(&w->down, &f->gate, f->n_tokens, f->added);
    f->jobs[0].bias = w->down_bias;
    gemm_run(f->pool, f->kernels, f->jobs, 1);
}

// ---- choosing experts ----

struct moe_pass {
    struct forward *f;
    const struct mlp_spec *m;
    const struct layer_weights *w;
};

// From logits to the experts' scores, in place.
static void score_experts(const struct mlp_spec *m, float *s) {
    if (m->score == MOE_SIGMOID) {
        for (uint32_t x = 0; x < m->experts; x++) s[x] = (float)(1 / (1 + math_exp(-(double)s[x])));
        return;
    }
    float max = s[0];
    double sum = 0;
    for (uint32_t x = 1; x < m->experts; x++) max = s[x] > max ? s[x] : max;
    for (uint32_t x = 0; x < m->experts; x++) sum += math_exp((double)s[x] - max);
    for (uint32_t x = 0; x < m->experts; x++) s[x] = (float)(math_exp((double)s[x] - max) / sum);
}

static float choice_score(const struct moe_pass *p, const float *s, uint32_t x) {
    return p->w->router_bias == NULL ? s[x] : s[x] + p->w->router_bias[x];
}

static float group_score(const struct moe_pass *p, const float *s, uint32_t group) {
    uint32_t size = p->m->experts / p->m->groups;
    float first = -INFINITY, second = -INFINITY;
    for (uint32_t x = group * size; x < (group + 1) * size; x++) {
        float v = choice_score(p, s, x);
        if (v > first) {
            second = first;
            first = v;
        } else if (v > second) {
            second = v;
        }
    }
    return p->m->group_score == MOE_GROUP_TOP2 ? first + second : first;
}

// Bit per group that stays: the best topk_groups, ties to the lowest index.
static void keep_groups(const struct moe_pass *p, const float *s, uint8_t *kept) {
    const struct mlp_spec *m = p->m;
    for (uint32_t g = 0; g < m->groups; g++) {
        float mine = group_score(p, s, g);
        uint32_t better = 0;
        for (uint32_t o = 0; o < m->groups && m->topk_groups < m->groups; o++) {
            float other = group_score(p, s, o);
            better += other > mine || (other == mine && o < g);
        }
        kept[g] = better < m->topk_groups;
    }
}

static void choose(const struct moe_pass *p, const float *s, uint32_t *choice, float *weight) {
    enum { GROUPS_MAX = 4096 };
    const struct mlp_spec *m = p->m;
    uint8_t kept[GROUPS_MAX];
    keep_groups(p, s, kept);
    float sum = 0;
    for (uint32_t r = 0; r < m->top_k; r++) {
        uint32_t best = UINT32_MAX;
        float best_score = -INFINITY;
        for (uint32_t x = 0; x < m->experts; x++) {
            float v = choice_score(p, s, x);
            if (!kept[x / (m->experts / m->groups)] || (best != UINT32_MAX && !(v > best_score))) continue;
            bool taken = false;
            for (uint32_t k = 0; k < r; k++) taken |= choice[k] == x;
            if (taken) continue;
            best = x;
            best_score = v;
        }
        choice[r] = best;
        weight[r] = s[best];
        sum += s[best];
    }
    for (uint32_t r = 0; r < m->top_k; r++) {
        if (m->norm_topk) weight[r] /= sum + 1e-20f;
        weight[r] *= m->routed_scale;
    }
}

static void choose_tokens(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct moe_pass *p = context;
    for (uint32_t t = begin; t < end; t++) {
        float *s = p->f->router + (size_t)t * p->m->experts;
        score_experts(p->m, s);
        choose(p, s, p->f->choice + t * p->m->top_k, p->f->choice_weight + t * p->m->top_k);
    }
}

// Counting sort of (token, rank) by expert.
static void sort_by_expert(struct forward *f, const struct mlp_spec *m) {
    uint32_t n = f->n_tokens * m->top_k, *first = f->expert_first;
    for (uint32_t x = 0; x <= m->experts; x++) first[x] = 0;
    for (uint32_t i = 0; i < n; i++) first[f->choice[i] + 1]++;
    for (uint32_t x = 0; x < m->experts; x++) first[x + 1] += first[x];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = first[f->choice[i]]++;
        f->expert_tokens[at] = i / m->top_k;
        f->place[i] = at;
    }
    for (uint32_t x = m->experts; x > 0; x--) first[x] = first[x - 1];
    first[0] = 0;
}

// ---- running them ----

static void add_outputs(void *context, uint32_t begin, uint32_t end, uint32_t thread) {
    const struct moe_pass *p = context;
    struct forward *f = p->f;
    uint32_t hidden = f->spec->hidden;
    for (uint32_t t = begin; t < end; t++) {
        float *sum = f->added + (size_t)t * hidden;
        for (uint32_t i = 0; i < hidden; i++) sum[i] = p->m->shared_inter > 0 ? f->shared_out[(size_t)t * hidden + i] : 0;
        for (uint32_t r = 0; r < p->m->top_k; r++) {
            uint32_t i = t * p->m->top_k + r;
            f->kernels->add_scaled(f->expert_out + (size_t)f->place[i] * hidden, f->choice_weight[i], hidden, sum);
        }
    }
}

static void gate_and_up(struct moe_pass *p) {
    struct forward *f = p->f;
    uint32_t n = 0, inter = p->m->expert_inter;
    if (p->m->shared_inter > 0) {
        f->jobs[n++] = job(&p->w->shared.gate, &f->norm, f->n_tokens, f->shared.f);
        f->jobs[n++] = job(&p->w->shared.up, &f->norm, f->n_tokens, f->shared_up);
    }
    for (uint32_t x = 0; x < p->m->experts; x++) {
        uint32_t first = f->expert_first[x], rows = f->expert_first[x + 1] - first;
        if (rows == 0) continue;
        f->jobs[n] = job(&p->w->experts[x].gate, &f->norm, rows, f->gate.f + (size_t)first * inter);
        f->jobs[n++].rows = f->expert_tokens + first;
        f->jobs[n] = job(&p->w->experts[x].up, &f->norm, rows, f->up + (size_t)first * inter);
        f->jobs[n++].rows = f->expert_tokens + first;
    }
    gemm_run(f->pool, f->kernels, f->jobs, n);
}

static void down(struct moe_pass *p) {
    struct forward *f = p->f;
    uint32_t n = 0, inter = p->m->expert_inter;
    f->gate.ld = inter;
    f->shared.ld = p->m->shared_inter;
    if (p->m->shared_inter > 0) f->jobs[n++] = job(&p->w->shared.down, &f->shared, f->n_tokens, f->shared_out);
    for (uint32_t x = 0; x < p->m->experts; x++) {
        uint32_t first = f->expert_first[x], rows = f->expert_first[x + 1] - first;
        if (rows == 0) continue;
        f->jobs[n] = job(&p->w->experts[x].down, &f->gate, rows, f->expert_out + (size_t)first * f->spec->hidden);
        f->jobs[n].x += (size_t)first * inter;
        f->jobs[n++].packed += (size_t)first * inter;
    }
    gemm_run(f->pool, f->kernels, f->jobs, n);
}

static void moe(struct forward *f, const struct layer_weights *w, const struct mlp_spec *m) {
    struct moe_pass p = {f, m, w};
    f->jobs[0] = job(&w->router, &f->norm, f->n_tokens, f->router);
    gemm_run(f->pool, f->kernels, f->jobs, 1);
    pool_for(f->pool, f->n_tokens, 8, choose_tokens, &p);
    sort_by_expert(f, m);
    w8a8_round_for(f, &f->norm, f->n_tokens, &w->experts[0].gate); // behind the router, which is no FP8 matrix
    gate_and_up(&p);
    struct silu_pass routed = {f, f->gate.f, f->up, f->gate.packed, m->expert_inter, &w->experts[0].down};
    pool_for(f->pool, f->n_tokens * m->top_k, 8, silu_rows, &routed);
    struct silu_pass shared = {f, f->shared.f, f->shared_up, f->shared.packed, m->shared_inter, &w->shared.down};
    if (m->shared_inter > 0) pool_for(f->pool, f->n_tokens, 4, silu_rows, &shared);
    down(&p);
    pool_for(f->pool, f->n_tokens, 4, add_outputs, &p);
}

void mlp_run(struct forward *f, uint32_t layer) {
    const struct layer_weights *w = &f->weights->layers[layer - f->first];
    const struct mlp_spec *m = &f->spec->layer[layer].mlp;
    if (m->kind == MLP_MOE) {
        moe(f, w, m);
    } else {
        dense(f, &w->mlp, m);
    }
}
