#include "worker/engine/cpu/cache.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "common/base/check.h"
#include "worker/engine/cpu/kernels.h"

static struct cache_layer geometry(const struct attention_spec *a, uint32_t block_tokens) {
    struct cache_layer l = {.mla = a->kind == ATTENTION_MLA};
    l.heads = l.mla ? 1 : a->kv_heads;
    l.k_dim = l.mla ? a->kv_lora + a->rope_dim : a->head_dim;
    l.v_dim = l.mla ? a->kv_lora : a->head_dim;
    l.v_padded = (l.v_dim + 15) / 16 * 16;
    l.v_ld = l.mla ? l.k_dim : l.v_padded;
    l.k_head = (size_t)block_tokens * l.k_dim;
    l.v_head = (size_t)block_tokens * l.v_ld;
    l.k_stride = l.k_head * l.heads;
    l.v_stride = l.v_head * l.heads;
    return l;
}

uint64_t cache_block_bytes(const struct model_spec *spec, uint32_t first, uint32_t end, uint32_t block_tokens) {
    uint64_t floats = 0;
    for (uint32_t i = first; i < end; i++) {
        struct cache_layer l = geometry(&spec->layer[i].attention, block_tokens);
        floats += l.k_stride + (l.mla ? 0 : l.v_stride);
    }
    return floats * sizeof(float);
}

bool cache_init(struct cache *c, const struct model_spec *spec, uint32_t first, uint32_t end, uint32_t blocks,
                uint32_t block_tokens) {
    *c = (struct cache){.blocks = blocks, .block_tokens = block_tokens, .n_layers = end - first};
    // Vectors may be read past the last value, whose lanes beyond v_dim don't count.
    c->bytes = cache_block_bytes(spec, first, end, block_tokens) * blocks + CACHE_GROUP * sizeof(float);
    void *p = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    madvise(p, c->bytes, MADV_HUGEPAGE); // a hint
    c->memory = p;
    c->layers = xcalloc(c->n_layers, sizeof *c->layers);
    float *at = p;
    for (uint32_t i = 0; i < c->n_layers; i++) {
        struct cache_layer l = geometry(&spec->layer[first + i].attention, block_tokens);
        l.k = at;
        l.v = l.mla ? at : at + l.k_stride * blocks;
        at = l.v + l.v_stride * blocks;
        c->layers[i] = l;
    }
    return true;
}

void cache_fini(struct cache *c) {
    if (c->memory != NULL) munmap(c->memory, c->bytes);
    free(c->layers);
    *c = (struct cache){0};
}

// A key's first element; the next one is key_step floats further on.
static float *key_at(const struct cache *c, const struct cache_layer *l, const uint32_t *table, uint32_t pos,
                     uint32_t head) {
    uint32_t in_block = pos % c->block_tokens;
    float *block = l->k + table[pos / c->block_tokens] * l->k_stride + head * l->k_head;
    if (l->mla) return block + (size_t)in_block * l->k_dim;
    return block + (size_t)(in_block / CACHE_GROUP) * l->k_dim * CACHE_GROUP + in_block % CACHE_GROUP;
}
static size_t key_step(const struct cache_layer *l) { return l->mla ? 1 : CACHE_GROUP; }

static float *value_at(const struct cache *c, const struct cache_layer *l, const uint32_t *table, uint32_t pos,
                       uint32_t head) {
    float *block = l->v + table[pos / c->block_tokens] * l->v_stride + head * l->v_head;
    return block + (size_t)(pos % c->block_tokens) * l->v_ld;
}

void cache_write(const struct cache *c, const struct cache_layer *l, const uint32_t *table, uint32_t pos, uint32_t head,
                 const float *k, const float *v) {
    float *to = key_at(c, l, table, pos, head);
    size_t step = key_step(l);
    for (uint32_t d = 0; d < l->k_dim; d++) to[d * step] = k[d];
    if (!l->mla) memcpy(value_at(c, l, table, pos, head), v, l->v_dim * sizeof *v);
}

void cache_copy_block(const struct cache *c, uint32_t src, uint32_t dst) {
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const struct cache_layer *l = &c->layers[i];
        memcpy(l->k + dst * l->k_stride, l->k + src * l->k_stride, l->k_stride * sizeof(float));
        if (!l->mla) memcpy(l->v + dst * l->v_stride, l->v + src * l->v_stride, l->v_stride * sizeof(float));
    }
}

uint32_t cache_elements(const struct cache_layer *l) { return l->mla ? l->k_dim : l->heads * (l->k_dim + l->v_dim); }

void cache_get(const struct cache *c, const struct cache_layer *l, const uint32_t *table, uint32_t pos, float *out) {
    for (uint32_t h = 0; h < l->heads; h++) {
        const float *k = key_at(c, l, table, pos, h);
        for (uint32_t d = 0; d < l->k_dim; d++) *out++ = k[d * key_step(l)];
    }
    if (l->mla) return;
    for (uint32_t h = 0; h < l->heads; h++, out += l->v_dim) {
        memcpy(out, value_at(c, l, table, pos, h), l->v_dim * sizeof *out);
    }
}

void cache_put(const struct cache *c, const struct cache_layer *l, const uint32_t *table, uint32_t pos, const float *in) {
    for (uint32_t h = 0; h < l->heads; h++) {
        const float *k = in + h * l->k_dim;
        cache_write(c, l, table, pos, h, k, l->mla ? NULL : in + l->heads * l->k_dim + h * l->v_dim);
    }
}
