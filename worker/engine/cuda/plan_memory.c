#include "worker/engine/cuda/plan_memory.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/cuda/forward.h"
#include "worker/engine/cuda/weights.h"

enum { BLOCK_TOKENS = 32, BATCH_TOKENS = 2048, SLOTS = 64, LOGITS_LEAST = 64 };
static const uint64_t RESERVE = UINT64_C(1) << 30; // left free of the device's memory

struct cache_shape cache_shape(const struct attention_spec *a) {
    bool mla = a->kind == ATTENTION_MLA;
    struct cache_shape c = {.heads = mla ? 1 : a->kv_heads, .shared = mla};
    c.k_dim = mla ? a->kv_lora + a->rope_dim : a->head_dim;
    c.v_dim = mla ? a->kv_lora : a->head_dim;
    c.k_pad = (uint32_t)round_up(c.k_dim, 32);
    c.v_pad = (uint32_t)round_up(c.v_dim, 32);
    if (mla && c.v_pad > c.k_pad) c.k_pad = c.v_pad;
    c.token = (uint64_t)c.heads * (c.k_pad + (mla ? 0 : c.v_pad));
    return c;
}

static err_id fill_opts(struct engine_opts *o, const struct model_spec *s, struct error *e) {
    if (o->slots == 0) o->slots = SLOTS;
    if (o->rows == 0) o->rows = o->slots;
    if (o->batch_tokens == 0) o->batch_tokens = BATCH_TOKENS;
    if (o->context == 0) o->context = s->context;
    if (o->block_tokens == 0) o->block_tokens = BLOCK_TOKENS;
    if (o->layer_first == 0 && o->layer_end == 0) o->layer_end = s->layers;
    if (o->threads == 0) o->threads = pool_default_threads();
    if (o->slots > PLAN_SLOTS_MAX || o->rows > o->slots || o->batch_tokens > 1 << 16 || o->batch_tokens < o->rows) {
        return error_set(e, ERR_CONFIG,
                         "%u slots, %u rows and %u tokens a step don't go together: rows <= slots <= %d, rows <= tokens",
                         o->slots, o->rows, o->batch_tokens, PLAN_SLOTS_MAX);
    }
    if (o->context > s->context)
        return error_set(e, ERR_CONFIG, "a context of %u tokens was asked for, the model has %u", o->context, s->context);
    if ((uint64_t)o->slots * (o->context + 1) >> 31)
        return error_set(e, ERR_CONFIG, "%u slots of %u tokens are more than this device addresses (2^31)", o->slots,
                         o->context);
    if (o->layer_first >= o->layer_end || o->layer_end > s->layers)
        return error_set(e, ERR_CONFIG, "layers %u to %u are not a range of the model's %u", o->layer_first, o->layer_end,
                         s->layers);
    if (o->quant != QUANT_NONE)
        return error_set(e, ERR_UNSUPPORTED,
                         "--device cuda does not quantise at load: leave --quant out (a quantised folder is "
                         "expanded to bf16)");
    return ERR_NONE;
}

// The kernels' limits.
static err_id check_spec(const struct model_spec *s, struct error *e) {
    for (uint32_t i = 0; i < s->layers; i++) {
        const struct attention_spec *a = &s->layer[i].attention, *first = &s->layer[0].attention;
        const struct mlp_spec *m = &s->layer[i].mlp;
        struct cache_shape c = cache_shape(a), same = cache_shape(first);
        if (c.v_dim > 512 || c.k_dim > 768 || (!c.shared && c.k_dim > 512))
            return error_set(e, ERR_UNSUPPORTED, "layer %u: --device cuda has attention for heads up to 512 wide", i);
        if (c.token != same.token)
            return error_set(e, ERR_UNSUPPORTED, "layer %u: --device cuda needs the same KV size in all layers", i);
        if (m->kind == MLP_MOE && (m->experts > 1024 || m->top_k > 32))
            return error_set(e, ERR_UNSUPPORTED, "layer %u: --device cuda has at most 1024 experts, 32 of them for a token",
                             i);
    }
    return ERR_NONE;
}

static err_id plan_cache(struct cuda_plan *p, struct error *e) {
    const struct engine_opts *o = &p->opts;
    uint64_t layers = o->layer_end - o->layer_first;
    uint64_t block = cache_shape(&p->spec->layer[0].attention).token * 2 * o->block_tokens * layers;
    uint64_t each = (o->context + o->block_tokens - 1) / o->block_tokens, bytes = o->kv_bytes;
    struct engine_device d = {0};
    struct error none = {0};
    bool there = device_probe(&d, &none) == ERR_NONE;
    uint64_t rest = p->mem.weights_bytes + p->mem.workspace_bytes + RESERVE;
    if (bytes == 0) {
        bytes = (each * o->slots + 1) * block;
        uint64_t room = there && d.memory_free_bytes > rest ? d.memory_free_bytes - rest : there ? 0 : bytes;
        if (bytes > room) bytes = room;
    }
    uint64_t blocks = bytes / block;
    if (blocks > 1) blocks--; // one more is made, for rows that pad a batch
    if (there && rest + bytes > d.memory_free_bytes + RESERVE) {
        return error_set(e, ERR_CONFIG,
                         "%.1f GB are needed (weights %.1f, KV %.1f, work buffers %.1f), the GPU has %.1f GB free",
                         (double)(rest + bytes) / 1e9, (double)p->mem.weights_bytes / 1e9, (double)bytes / 1e9,
                         (double)p->mem.workspace_bytes / 1e9, (double)d.memory_free_bytes / 1e9);
    }
    if (blocks < 1 || blocks > 1 << 24) {
        return error_set(e, ERR_CONFIG,
                         "%llu bytes for KV make %llu blocks of %llu bytes: at least 1 and at most 2^24 are needed",
                         (unsigned long long)bytes, (unsigned long long)blocks, (unsigned long long)block);
    }
    p->mem.kv_bytes = (blocks + 1) * block;
    p->mem.kv_bytes_per_token = block / o->block_tokens;
    p->mem.blocks = (uint32_t)blocks;
    p->mem.kv_tokens = blocks * o->block_tokens;
    return ERR_NONE;
}

struct plan_caps plan_caps_of(const struct cuda_plan *p) {
    const struct engine_opts *o = &p->opts;
    uint32_t indexes = (o->context + o->block_tokens - 1) / o->block_tokens;
    return (struct plan_caps){o->rows, o->batch_tokens, plan_deltas_max(o->rows, o->batch_tokens, indexes), o->slots};
}

static void plan_info(struct cuda_plan *p) {
    const struct engine_opts *o = &p->opts;
    p->info = (struct engine_info){.hidden = p->spec->hidden, .layer_first = o->layer_first, .layer_end = o->layer_end};
    p->info.layers = p->spec->layers;
    p->info.mem = p->mem;
    p->info.logits = p->logits;
    p->info.modes = 1u << PLAN_LOGITS_NONE | 1u << PLAN_LOGITS_LAST | 1u << PLAN_LOGITS_ALL;
    p->info.limits = (struct plan_limits){
        .caps = plan_caps_of(p),
        .batch_tokens = o->batch_tokens,
        .slots = o->slots,
        .blocks = p->mem.blocks,
        .block_tokens = o->block_tokens,
        .context = o->context,
        .vocab = p->spec->vocab,
    };
    for (uint32_t i = o->layer_first; i < o->layer_end; i++) {
        const struct attention_spec *a = &p->spec->layer[i].attention;
        bool mla = a->kind == ATTENTION_MLA;
        p->info.kv_bytes_per_token += 2ull * (mla ? a->kv_lora + a->rope_dim : 2 * a->kv_heads * a->head_dim);
    }
}

err_id cuda_plan(const struct engine_opts *opts, struct cuda_plan *p, struct error *e) {
    *p = (struct cuda_plan){.opts = *opts};
    if (opts->model == NULL) return error_set(e, ERR_CONFIG, "the cuda device needs a model");
    p->spec = model_spec(opts->model);
    TRY(check_spec(p->spec, e));
    TRY(fill_opts(&p->opts, p->spec, e));
    const struct engine_opts *o = &p->opts;
    p->logits = o->rows > LOGITS_LEAST ? o->rows : LOGITS_LEAST;
    struct cuda_load load = {.model = opts->model, .spec = p->spec, .first = o->layer_first, .end = o->layer_end};
    p->mem.weights_bytes = cuda_weights_bytes(&load);
    p->mem.workspace_bytes = forward_bytes(p);
    TRY(plan_cache(p, e));
    plan_info(p);
    return ERR_NONE;
}
