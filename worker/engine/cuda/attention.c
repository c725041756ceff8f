// Attention of one layer, GQA or MLA: projections, rotation, the write into the cache, queries against the cache alone,
// output.
//
// MLA runs absorbed, for prefill and decode alike: q_full[head] = [W_UK' q_nope | rotated q_rope] is matched with the
// cache's [latent | rotated key]; W_UV makes values of the weighted latent.
#include "worker/engine/cuda/forward.h"
#include "worker/engine/cuda/kernels/elementwise.h"
#include "worker/engine/cuda/kernels/stream.h"

struct pass {
    struct forward *f;
    const struct attention_spec *a;
    const struct cuda_layer *w;
    const struct batch *b;
    const struct batch_size *n;
    uint16_t *k, *v; // of block 0
};

// out: head h of token t at out->x + t out->ld + h out_head.
static err_id attend(const struct pass *p, const struct vectors *out, uint32_t out_head, struct error *e) {
    struct forward *f = p->f;
    struct attend_call c = {.q = f->q, .k = p->k, .v = p->v, .block_step = f->block_elements, .head_step = f->head_elements};
    c.k_row = f->shape.k_pad;
    c.v_row = f->shape.shared ? f->shape.k_pad : f->shape.v_pad;
    c.table = f->table;
    c.table_ld = f->indexes;
    c.block_tokens = f->plan->opts.block_tokens;
    c.pos = p->b->pos;
    c.slot = p->b->slot;
    c.heads = p->a->heads;
    c.kv_heads = f->shape.heads;
    c.k_pad = f->shape.k_pad;
    c.v_dim = f->shape.v_dim;
    c.v_pad = f->shape.v_pad;
    c.window = p->a->window;
    c.scale = p->a->scale;
    c.out = out->x;
    c.out_token = out->ld;
    c.out_head = out_head;
    c.tiles = p->b->loop;
    c.n_tiles = p->n->n_loop;
    TRY(device_error(attend_run(&c, f->stream), "attention", e));
    c.tiles = p->b->split;
    c.n_tiles = p->n->n_split;
    c.segments = p->n->segments;
    c.parts = f->parts;
    return device_error(attend_run(&c, f->stream), "split attention", e);
}

static err_id gqa(const struct pass *p, struct error *e) {
    struct forward *f = p->f;
    const struct attention_spec *a = p->a;
    uint32_t tokens = p->n->tokens;
    TRY(forward_stack(f, &p->w->qkv, &f->norm, &f->qkv, tokens, e));
    struct rope_call c = {
        .qkv = f->qkv.x, .ld = f->qkv.ld, .bias = p->w->qkv_bias, .q_norm = p->w->q_norm, .k_norm = p->w->k_norm};
    c.eps = f->spec->norm_eps;
    c.cosine = f->cosine;
    c.sine = f->sine;
    c.dim = f->spec->rope.dim;
    c.interleaved = f->spec->rope.interleaved;
    c.tokens = tokens;
    c.heads = a->heads;
    c.kv_heads = a->kv_heads;
    c.head_dim = a->head_dim;
    c.k_pad = f->shape.k_pad;
    c.pos = p->b->pos;
    c.slot = p->b->slot;
    c.table = f->table;
    c.table_ld = f->indexes;
    c.block_tokens = f->plan->opts.block_tokens;
    c.q = f->q;
    c.k = p->k;
    c.v = p->v;
    c.block_step = f->block_elements;
    c.head_step = f->head_elements;
    c.k_row = f->shape.k_pad;
    c.v_row = f->shape.v_pad;
    TRY(device_error(rope_run(&c, f->stream), "rotating", e));
    TRY(attend(p, &f->attended, a->head_dim, e));
    return forward_add(f, &p->w->out, &f->attended, p->w->out_bias, tokens, e);
}

// ---- MLA ----

static err_id mla_project(const struct pass *p, struct error *e) {
    struct forward *f = p->f;
    uint32_t tokens = p->n->tokens;
    bool lora = p->a->q_lora > 0;
    TRY(forward_product(f, &p->w->kv_a, &f->norm, &f->kv_a, tokens, e));
    if (!lora) return forward_product(f, &p->w->q, &f->norm, &f->qkv, tokens, e);
    TRY(forward_product(f, &p->w->q_a, &f->norm, &f->q_a, tokens, e));
    struct norm_call norm = {.x = f->q_a.x, .ldx = f->q_a.ld, .ldo = f->q_a_norm.ld, .weight = p->w->q_a_norm};
    norm.n = p->a->q_lora;
    norm.m = tokens;
    norm.eps = p->a->lora_norm_eps;
    norm.out = f->q_a_norm.x;
    TRY(device_error(norm_run(&norm, f->stream), "a norm", e));
    return forward_product(f, &p->w->q_b, &f->q_a_norm, &f->qkv, tokens, e);
}

static err_id mla_rotate(const struct pass *p, struct error *e) {
    struct forward *f = p->f;
    const struct attention_spec *a = p->a;
    struct mla_call c = {.q = f->qkv.x, .kv = f->kv_a.x, .ld_q = f->qkv.ld, .ld_kv = f->kv_a.ld, .norm = p->w->kv_a_norm};
    c.eps = a->lora_norm_eps;
    c.cosine = f->cosine;
    c.sine = f->sine;
    c.interleaved = f->spec->rope.interleaved;
    c.round_latent = p->w->kv_a.scale != NULL;
    c.tokens = p->n->tokens;
    c.heads = a->heads;
    c.nope_dim = a->nope_dim;
    c.nope_pad = p->w->uk.ld;
    c.rope_dim = a->rope_dim;
    c.kv_lora = a->kv_lora;
    c.k_pad = f->shape.k_pad;
    c.pos = p->b->pos;
    c.slot = p->b->slot;
    c.table = f->table;
    c.table_ld = f->indexes;
    c.block_tokens = f->plan->opts.block_tokens;
    c.q_nope = f->q_nope;
    c.q_full = f->q;
    c.k = p->k;
    c.block_step = f->block_elements;
    c.k_row = f->shape.k_pad;
    return device_error(mla_run(&c, f->stream), "rotating", e);
}

// One product per head: x [m][heads][w->ld], out [m][..] with out_step from head to head.
static err_id by_head(const struct pass *p, const struct cuda_matrix *w, const void *x, const struct vectors *out,
                      uint32_t out_step, struct error *e) {
    struct stream_call c = {.w = w->w, .ldw = w->ld, .n = w->n, .k = w->ld, .x = x, .m = p->n->tokens, .batch = p->a->heads};
    c.ldx = (uint64_t)p->a->heads * w->ld;
    c.x_step = w->ld;
    c.w_step = (uint64_t)w->n * w->ld;
    c.out = out->x;
    c.ldo = out->ld;
    c.out_step = out_step;
    return device_error(stream_run(&c, p->f->stream), "a product by heads", e);
}

static err_id mla(const struct pass *p, struct error *e) {
    struct forward *f = p->f;
    const struct attention_spec *a = p->a;
    TRY(mla_project(p, e));
    TRY(mla_rotate(p, e));
    struct vectors q = {f->q, (uint64_t)a->heads * f->shape.k_pad};
    TRY(by_head(p, &p->w->uk, f->q_nope, &q, f->shape.k_pad, e));
    struct vectors latent = {f->latent.x, (uint64_t)a->heads * p->w->uv.ld};
    TRY(attend(p, &latent, p->w->uv.ld, e));
    TRY(by_head(p, &p->w->uv, f->latent.x, &f->attended, a->v_dim, e));
    return forward_add(f, &p->w->out, &f->attended, p->w->out_bias, p->n->tokens, e);
}

err_id attention_run(struct forward *f, uint32_t layer, const struct batch *b, const struct batch_size *n, struct error *e) {
    struct pass p = {
        .f = f, .a = &f->spec->layer[layer].attention, .w = &f->weights->layers[layer - f->first], .b = b, .n = n};
    p.k = forward_cache(f, layer);
    p.v = f->shape.shared ? p.k : p.k + (uint64_t)f->plan->opts.block_tokens * f->shape.k_pad;
    return (p.a->kind == ATTENTION_MLA ? mla : gqa)(&p, e);
}
