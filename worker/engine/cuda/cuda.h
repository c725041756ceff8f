// The CUDA engine's own state: what backend.c (life, seam), run.c (steps) and moves.c (KV entries) share.
//
// Everything is ordered by one stream. A step is launched as soon as its input is there: forward, then, once sample() was
// called, the sampler, whose answers are copied to pinned memory behind it. Sampled tokens stay on the device, where the
// next step finds them; the host plans with the lengths that it knows in advance. Only result() waits.
#pragma once
#include <stdatomic.h>
#include "worker/engine/cpu/cost.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/cuda/forward.h"
#include "worker/engine/slots.h"
#include "worker/engine/steps.h"

// A row of a launched step.
struct flight_row {
    struct slot *slot;
    uint32_t id, end; // slot's number; positions after the row
    uint32_t answer;  // its place among the sampler's rows, or UINT32_MAX
    uint32_t first_logit, n_logits;
    bool accepts; // its token joins the sequence
};

// What is kept of a step between submit() and its answer; all memory is pinned but for rows.
struct flight {
    uint8_t *pinned; // a batch as on the device
    struct sample_answer *answers;
    float *in, *out; // hidden states of the stage before, for the stage behind; or NULL
    struct flight_row *rows;
    struct batch_size n;
    struct engine_load load;
    cudaEvent_t done;
    bool launched;       // with its sampler: `done` will come
    struct error failed; // id set: why it could not be launched
};

struct cuda {
    struct engine engine; // first
    struct cuda_plan plan;
    struct model_spec spec; // the model may be closed after load
    char fingerprint[ENGINE_FINGERPRINT_MAX];
    struct cuda_weights weights;
    struct forward forward;
    cudaStream_t stream;
    struct slots slots;
    uint32_t *ahead; // [slots] tokens of launched, unanswered rows that join the sequence
    struct steps steps;
    struct flight flight[ENGINE_DEPTH];
    struct cost cost;
    float *host_logits; // [logits][vocab] of the step that is being answered, pinned
    uint8_t *kv_block;  // pinned: one block of one layer
    struct engine_row_result *rows;
    uint64_t busy_until_us, tickets, ticket_hash;
    atomic_bool aborted;
};
static inline struct cuda *cuda_of(struct engine *engine) { return (struct cuda *)engine; }
static inline bool cuda_has_head(const struct cuda *c) { return c->plan.opts.layer_end == c->spec.layers; }
static inline bool cuda_is_first(const struct cuda *c) { return c->plan.opts.layer_first == 0; }

// run.c
enum engine_answer cuda_submit(struct engine *engine, const void *plan, size_t len, struct error *e);
enum engine_answer cuda_sample(struct engine *engine, uint64_t step, const uint32_t *const *masks, const uint32_t *forced,
                               struct error *e);
enum engine_answer cuda_result(struct engine *engine, uint64_t step, uint32_t wait_ms, struct engine_result *result,
                               struct error *e);
enum engine_answer cuda_hidden_in(struct engine *engine, uint64_t step, const float *states, uint32_t tokens,
                                  struct error *e);
enum engine_answer cuda_hidden_out(struct engine *engine, uint64_t step, uint32_t wait_ms, const float **states,
                                   uint32_t *tokens, struct error *e);
void cuda_quiesce(struct engine *engine);
err_id cuda_warmup(struct engine *engine, struct error *e);

// moves.c
err_id cuda_kv_export(struct engine *engine, struct engine_kv_span span, void *bytes, engine_ticket *ticket,
                      struct error *e);
err_id cuda_kv_import(struct engine *engine, struct engine_kv_span span, const void *bytes, uint64_t hash,
                      engine_ticket *ticket, struct error *e);
