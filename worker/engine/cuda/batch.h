// What a step's kernels are told, in one piece of memory: built in pinned memory on the host, copied to the device as it is.
#pragma once
#include "worker/engine/cuda/kernels/attention.h"
#include "worker/engine/cuda/kernels/sample.h"
#include "worker/engine/cuda/plan_memory.h"

// Arrays at places that depend on the plan's capacity alone.
struct batch {
    uint32_t *at, *pos, *slot;         // [batch_tokens] embed_run()'s index; position; slot
    uint32_t *logits_of;               // [logits] tokens whose logits are wanted
    struct attend_tile *split, *loop;  // [rows], [batch_tokens]
    uint32_t *deltas, *copies;         // as tables_call takes them
    struct sample_row *rows;           // [rows] sampled, or checked
    uint32_t *masks;                   // [rows][(vocab + 31) / 32]
    uint64_t step_bytes, sample_bytes; // all before rows; rows and masks
};

// Of one step. segments: the most that a query of a split tile has.
struct batch_size {
    uint32_t tokens, n_split, n_loop, n_logits, n_rows, n_deltas, n_copies, n_masks, segments;
};

struct batch batch_at(uint8_t *base, const struct cuda_plan *plan);
uint64_t batch_bytes(const struct cuda_plan *plan);

// Adds q_len tokens of a slot from pos on as tiles for attention. split: one segment per block where that helps.
void batch_add_tiles(struct batch *b, struct batch_size *n, const struct cuda_plan *plan, uint32_t token, uint32_t q_len,
                     uint32_t pos, bool split);
