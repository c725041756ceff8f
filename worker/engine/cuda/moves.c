// KV entries out of and into the paged cache, a block of a layer at a time through pinned memory. Canonical form: GQA all
// heads' keys, then all heads' values; MLA latent, then rotated key; bf16.
#include <string.h>
#include <xxhash.h>
#include "worker/engine/cuda/cuda.h"

static err_id span_check(const struct cuda *c, const struct engine_kv_span *span, struct error *e) {
    TRY(slots_check_span(&c->slots, span, e));
    if (c->slots.slot[span->slot].in_flight == 0) return ERR_NONE;
    return error_set(e, ERR_INTERNAL, "slot %u has unanswered rows", span->slot);
}

// One run of elements between the canonical bytes and a block.
static void move(uint16_t *block, uint8_t **bytes, uint32_t n, bool out) {
    memcpy(out ? (void *)*bytes : block, out ? block : (void *)*bytes, n * sizeof *block);
    *bytes += n * sizeof *block;
}

static void move_token(const struct cuda *c, uint32_t layer, uint32_t in_block, uint8_t **bytes, bool out) {
    const struct cache_shape s = c->forward.shape;
    uint32_t bt = c->plan.opts.block_tokens;
    uint16_t *block = (uint16_t *)c->kv_block;
    for (uint32_t h = 0; h < s.heads; h++)
        move(block + h * c->forward.head_elements + in_block * s.k_pad, bytes, s.k_dim, out);
    for (uint32_t h = 0; h < s.heads && !s.shared; h++) {
        move(block + h * c->forward.head_elements + (uint64_t)bt * s.k_pad + in_block * s.v_pad, bytes, s.v_dim, out);
    }
}

static err_id span_walk(struct cuda *c, const struct engine_kv_span *span, uint8_t *bytes, bool out, struct error *e) {
    const uint32_t *table = c->slots.slot[span->slot].table;
    uint32_t bt = c->plan.opts.block_tokens, end = span->first + span->count;
    uint64_t size = c->forward.block_elements * 2;
    for (uint32_t l = c->forward.first; l < c->forward.end; l++) {
        for (uint32_t at = span->first, next; at < end; at = next) {
            next = (at / bt + 1) * bt < end ? (at / bt + 1) * bt : end;
            uint8_t *device = (uint8_t *)forward_cache(&c->forward, l) + table[at / bt] * size;
            TRY_CUDA(cudaMemcpyAsync(c->kv_block, device, size, cudaMemcpyDeviceToHost, c->stream), "copying KV entries");
            TRY_CUDA(cudaStreamSynchronize(c->stream), "copying KV entries");
            for (uint32_t p = at; p < next; p++) move_token(c, l, p % bt, &bytes, out);
            if (out) continue;
            TRY_CUDA(cudaMemcpyAsync(device, c->kv_block, size, cudaMemcpyHostToDevice, c->stream), "copying KV entries");
            TRY_CUDA(cudaStreamSynchronize(c->stream), "copying KV entries");
        }
    }
    return ERR_NONE;
}

err_id cuda_kv_export(struct engine *engine, struct engine_kv_span span, void *bytes, engine_ticket *ticket,
                      struct error *e) {
    struct cuda *c = cuda_of(engine);
    TRY(span_check(c, &span, e));
    TRY(span_walk(c, &span, bytes, true, e));
    c->ticket_hash = XXH3_64bits(bytes, c->plan.info.kv_bytes_per_token * span.count);
    ticket->id = ++c->tickets;
    return ERR_NONE;
}

err_id cuda_kv_import(struct engine *engine, struct engine_kv_span span, const void *bytes, uint64_t hash,
                      engine_ticket *ticket, struct error *e) {
    struct cuda *c = cuda_of(engine);
    TRY(span_check(c, &span, e));
    c->ticket_hash = XXH3_64bits(bytes, c->plan.info.kv_bytes_per_token * span.count);
    if (c->ticket_hash != hash) return error_set(e, ERR_PROTOCOL, "the KV entries' hash differs from the one announced");
    TRY(span_walk(c, &span, (uint8_t *)bytes, false, e));
    ticket->id = ++c->tickets;
    return ERR_NONE;
}
