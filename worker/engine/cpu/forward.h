// One shard's forward pass over a batch of tokens: embedding or incoming hidden states, layers, final norm and head. Owns
// the work buffers; borrows weights, cache and pool. Runs on the engine thread (worker 0 of the pool), allocates only in
// create.
#pragma once
#include <stdatomic.h>
#include "worker/engine/cpu/cache.h"
#include "worker/engine/cpu/gemm.h"
#include "worker/engine/cpu/kernels.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/cpu/weights.h"

// Vectors as floats and packed, at the same places.
struct vectors {
    float *f;
    uint32_t *packed;
    size_t ld;
};

struct forward_limits {
    uint32_t tokens, logits, context; // in a batch; rows of logits; positions
};

struct forward {
    const struct model_spec *spec;
    uint32_t first, end; // layers
    struct pool *pool;
    const struct kernels *kernels;
    const struct weights *weights;
    const struct cache *cache;
    struct forward_limits limits;
    bool w8a8; // w8a8.h

    // The batch, set by forward_begin and forward_add.
    uint32_t n_tokens, n_logits;
    uint32_t *token, *pos;
    const uint32_t **table; // block table of each token's sequence
    uint32_t *logits_of;    // [n_logits] tokens whose logits are wanted

    float *hidden;                                   // [tokens][hidden] the residual stream
    float *added;                                    // [tokens][hidden] what a sublayer adds to it
    struct vectors norm;                             // normed hidden
    struct vectors q_a, q, q_full, attended, values; // q_full, attended, values: see attention.c
    float *k, *v;                                    // GQA's new keys and values; MLA's kv_a in k
    struct vectors gate;                             // gate, then SiLU(gate) * up
    float *up;
    struct vectors shared;
    float *shared_up, *shared_out;
    float *router;           // [tokens][experts]
    uint32_t *choice;        // [tokens][top_k] experts by rank
    float *choice_weight;    // [tokens][top_k]
    uint32_t *place;         // [tokens][top_k] row of that expert's output
    uint32_t *expert_tokens; // [tokens * top_k] sorted by expert
    uint32_t *expert_first;  // [experts + 1]
    float *expert_out;       // [tokens * top_k][hidden]
    struct gemm_job *jobs;
    uint32_t jobs_max;
    float *cosine, *sine; // [context][rope dim / 2]
    uint32_t *span;       // [tokens + 1] attention: where each run of queries begins
    float *scratch;       // [threads] of attention
    size_t scratch_each;  // floats per thread
    float *parts;         // [parts_rows][segments] partial results of attention split over segments
    uint32_t parts_rows;
    float *logits;  // [logits][vocab]
    uint64_t bytes; // of all these
    void *blocks[40];
    uint32_t n_blocks;
};

// What forward_create would allocate.
uint64_t forward_bytes(const struct model_spec *spec, uint32_t first, uint32_t end, const struct forward_limits *limits,
                       uint32_t threads);
// f->spec ... f->limits are set by the caller.
void forward_create(struct forward *f);
void forward_destroy(struct forward *f);

void forward_begin(struct forward *f);
// Adds q_len tokens of a sequence at pos. all: logits after each of them, last: after the last one.
void forward_add(struct forward *f, const uint32_t *tokens, uint32_t q_len, uint32_t pos, const uint32_t *table, bool last,
                 bool all);
// Runs what was added. incoming: hidden states for a stage past the first, else NULL. Stops between layers once *stop.
// False: stopped.
bool forward_run(struct forward *f, const float *incoming, atomic_bool *stop);

// attention.c and mlp.c: a sublayer, from f->norm to f->added.
void attention_run(struct forward *f, uint32_t layer);
// attend.c: the batch's queries q against one layer's cache, into f->attended.
void attend_run(struct forward *f, const struct attention_spec *a, const struct cache_layer *cache, const struct vectors *q);
// Floats of its scratch per thread, and of a row of partial results per segment.
size_t attend_scratch(size_t k_dim, size_t v_padded);
size_t attend_part(size_t v_padded);
void mlp_run(struct forward *f, uint32_t layer);
