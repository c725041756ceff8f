#include "worker/engine/cuda/batch.h"
#include "worker/engine/cuda/device.h"

static void *take(uint8_t *base, uint64_t *used, uint64_t bytes) {
    void *p = base == NULL ? NULL : base + *used;
    *used += round_up(bytes, DEVICE_ALIGN);
    return p;
}

struct batch batch_at(uint8_t *base, const struct cuda_plan *plan) {
    const struct plan_caps caps = plan_caps_of(plan);
    uint64_t used = 0, tokens = plan->opts.batch_tokens;
    struct batch b;
    b.at = take(base, &used, tokens * sizeof *b.at);
    b.pos = take(base, &used, tokens * sizeof *b.pos);
    b.slot = take(base, &used, tokens * sizeof *b.slot);
    b.logits_of = take(base, &used, plan->logits * sizeof *b.logits_of);
    b.split = take(base, &used, caps.rows * sizeof *b.split);
    b.loop = take(base, &used, tokens * sizeof *b.loop);
    b.deltas = take(base, &used, caps.deltas * 3ull * sizeof *b.deltas);
    b.copies = take(base, &used, caps.copies * 2ull * sizeof *b.copies);
    b.step_bytes = used;
    b.rows = take(base, &used, caps.rows * sizeof *b.rows);
    b.masks = take(base, &used, caps.rows * ((plan->spec->vocab + 31ull) / 32) * sizeof *b.masks);
    b.sample_bytes = used - b.step_bytes;
    return b;
}

uint64_t batch_bytes(const struct cuda_plan *plan) {
    struct batch b = batch_at(NULL, plan);
    return b.step_bytes + b.sample_bytes;
}

void batch_add_tiles(struct batch *b, struct batch_size *n, const struct cuda_plan *plan, uint32_t token, uint32_t q_len,
                     uint32_t pos, bool split) {
    const struct attention_spec *a = &plan->spec->layer[plan->opts.layer_first].attention;
    struct cache_shape shape = cache_shape(a);
    uint32_t group = a->heads / shape.heads, heads = group < ATTEND_ROWS_SPLIT ? group : ATTEND_ROWS_SPLIT;
    uint32_t rows = split ? ATTEND_ROWS_SPLIT : attend_loop_rows(shape.v_pad), each = rows / heads;
    uint32_t seg = attend_segment(shape.v_pad);
    for (uint32_t i = 0; i < q_len; i += each) {
        struct attend_tile tile = {token + i, q_len - i < each ? q_len - i : each};
        if (!split) {
            b->loop[n->n_loop++] = tile;
            continue;
        }
        b->split[n->n_split++] = tile;
        uint32_t segments = (pos + i + tile.count + seg - 1) / seg; // of a layer without a window
        if (segments > n->segments) n->segments = segments;
    }
}
