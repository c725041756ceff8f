#include "worker/engine/cpu/plan_memory.h"
#include <stdio.h>
#include <string.h>
#include "worker/engine/cpu/pool.h"
#include "worker/model/model.h"

enum { BLOCK_TOKENS = 32, BATCH_TOKENS = 256, SLOTS = 16, LOGITS_LEAST = 64 };

void cpu_memory(uint64_t *total, uint64_t *available) {
    unsigned long long kb;
    char line[128];
    *total = *available = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "MemTotal: %llu kB", &kb) == 1) *total = kb * 1024;
        if (sscanf(line, "MemAvailable: %llu kB", &kb) == 1) *available = kb * 1024;
    }
    if (f != NULL) fclose(f);
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
    if (o->context > s->context) {
        return error_set(e, ERR_CONFIG, "a context of %u tokens was asked for, the model has %u", o->context, s->context);
    }
    if (o->block_tokens % CACHE_GROUP != 0 || SEGMENT_TOKENS % o->block_tokens != 0) {
        return error_set(e, ERR_CONFIG, "a KV block must hold 16, 32, 64, 128 or 256 tokens, not %u", o->block_tokens);
    }
    if (o->layer_first >= o->layer_end || o->layer_end > s->layers) {
        return error_set(e, ERR_CONFIG, "layers %u to %u are not a range of the model's %u", o->layer_first, o->layer_end,
                         s->layers);
    }
    return ERR_NONE;
}

static err_id plan_cache(struct cpu_plan *p, struct error *e) {
    const struct engine_opts *o = &p->opts;
    uint64_t block = cache_block_bytes(p->spec, o->layer_first, o->layer_end, o->block_tokens);
    uint64_t each = (o->context + o->block_tokens - 1) / o->block_tokens, bytes = o->kv_bytes;
    if (bytes == 0) {
        uint64_t total, half;
        cpu_memory(&total, &half);
        half /= 2;
        bytes = each * o->slots * block;
        if (bytes > half) bytes = half;
    }
    uint64_t blocks = bytes / block;
    if (blocks < 1 || blocks > 1 << 24) {
        return error_set(e, ERR_CONFIG,
                         "%llu bytes for KV make %llu blocks of %llu bytes: at least 1 and at most 2^24 are needed",
                         (unsigned long long)bytes, (unsigned long long)blocks, (unsigned long long)block);
    }
    p->mem.kv_bytes = blocks * block;
    p->mem.kv_bytes_per_token = block / o->block_tokens;
    p->mem.blocks = (uint32_t)blocks;
    p->mem.kv_tokens = blocks * o->block_tokens;
    return ERR_NONE;
}

static void plan_info(struct cpu_plan *p) {
    const struct engine_opts *o = &p->opts;
    uint32_t indexes = (o->context + o->block_tokens - 1) / o->block_tokens;
    p->info = (struct engine_info){.hidden = p->spec->hidden, .layer_first = o->layer_first, .layer_end = o->layer_end};
    p->info.layers = p->spec->layers;
    p->info.mem = p->mem;
    p->info.logits = p->forward.logits;
    p->info.modes = 1u << PLAN_LOGITS_NONE | 1u << PLAN_LOGITS_LAST | 1u << PLAN_LOGITS_ALL;
    p->info.limits = (struct plan_limits){
        .caps = {o->rows, o->batch_tokens, plan_deltas_max(o->rows, o->batch_tokens, indexes), o->slots},
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
        p->info.kv_bytes_per_token += sizeof(float) * (mla ? a->kv_lora + a->rope_dim : 2 * a->kv_heads * a->head_dim);
    }
}

err_id cpu_plan(const struct engine_opts *opts, struct cpu_plan *p, struct error *e) {
    *p = (struct cpu_plan){.opts = *opts};
    if (opts->model == NULL) return error_set(e, ERR_CONFIG, "the cpu device needs a model");
    p->spec = model_spec(opts->model);
    TRY(fill_opts(&p->opts, p->spec, e));
    TRY(plan_cache(p, e));
    const struct engine_opts *o = &p->opts;
    uint32_t logits = o->rows > LOGITS_LEAST ? o->rows : LOGITS_LEAST;
    p->forward = (struct forward_limits){o->batch_tokens, logits, o->context};
    enum quant quant = (enum quant)o->quant;
    TRY(quant_check(opts->model, quant, e));
    if (o->numeric == ENGINE_NUMERIC_W8A8 && (p->spec->fp8_block[1] != W8A8_GROUP || quant != QUANT_NONE)) {
        return error_set(e, ERR_INVALID_ARGUMENT,
                         "--numeric w8a8 is for FP8 checkpoints with blocks of %d columns, as they are", W8A8_GROUP);
    }
    struct weights_load load = {
        .model = opts->model, .spec = p->spec, .first = o->layer_first, .end = o->layer_end, .quant = quant};
    p->mem.weights_bytes = weights_bytes(&load);
    p->mem.workspace_bytes = forward_bytes(p->spec, o->layer_first, o->layer_end, &p->forward, o->threads);
    plan_info(p);
    uint64_t total, available, needed = p->mem.weights_bytes + p->mem.kv_bytes + p->mem.workspace_bytes;
    cpu_memory(&total, &available);
    if (total == 0 || needed <= total) return ERR_NONE;
    return error_set(e, ERR_CONFIG, "%.1f GB are needed (weights %.1f, KV %.1f, work buffers %.1f), the machine has %.1f GB",
                     (double)needed / 1e9, (double)p->mem.weights_bytes / 1e9, (double)p->mem.kv_bytes / 1e9,
                     (double)p->mem.workspace_bytes / 1e9, (double)total / 1e9);
}
