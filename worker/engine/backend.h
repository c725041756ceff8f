// The seam between the worker and what computes. One `struct backend` of functions per kind of device (cpu, mock, cuda);
// table.h lists them. An engine holds one shard: a range of layers of one model, its weights, KV blocks and slots.
//
// Threads: one engine thread calls everything; only abort() may be called from any thread.
// Order: plans run in the order of submit(). slot_open, slot_close, kv_export and kv_import act after every plan submitted
// before them; a slot is opened, closed or imported into only while no unanswered plan has a row of it (else ERR_INTERNAL).
// The life of a step:  submit(plan n) … [hidden_in(n)] … sample(n) … result(n) until ENGINE_OK; steps are answered in order.
// Step n+1 may be submitted, with PLAN_POS_DEVICE and PLAN_TOKEN_DEVICE, before step n is sampled: the device knows length
// and last token of each slot, the host plans upper bounds. If the host learns from result(n) that a sequence has ended, it
// ignores that slot's row in result(n+1) and then closes the slot.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/error.h"
#include "worker/engine/types.h"

struct engine; // opaque but for its first member, see below

struct backend {
    const char *name;
    // Is there such a device here? ERR_UNAVAILABLE says why not.
    err_id (*probe)(struct engine_device *device, struct error *e);
    // Pure: what create() would take. Where only the machine is too small for it, *mem is filled in too.
    err_id (*mem_plan)(const struct engine_opts *opts, struct engine_mem *mem, struct error *e);
    // Allocates everything but weights. comm may be NULL.
    err_id (*create)(const struct engine_opts *opts, struct comm *comm, struct engine **engine, struct error *e);
    // Reads this shard's weights. progress may be NULL; it is called about every 16 MB.
    err_id (*load)(struct engine *engine, engine_load_fn *progress, void *context, struct error *e);
    // A few steps on scratch, to touch memory and to measure step_cost. Nothing allocates after it.
    err_id (*warmup)(struct engine *engine, struct error *e);
    // Numeric class and weights as hexadecimal text: streams never cross unequal ones. The same for every shard layout.
    void (*fingerprint)(struct engine *engine, char text[ENGINE_FINGERPRINT_MAX]);
    const struct engine_info *(*info)(struct engine *engine);

    err_id (*slot_open)(struct engine *engine, uint32_t slot, const struct engine_slot_params *params, struct error *e);
    void (*slot_close)(struct engine *engine, uint32_t slot);

    // Enqueues a plan (checked against info()->limits; its bytes are copied) and returns at once. OK, FULL or FAILED.
    enum engine_answer (*submit)(struct engine *engine, const void *plan, size_t len, struct error *e);
    // Chooses the tokens of a submitted step's sampling rows. masks and forced are NULL or one entry per row of the plan.
    // masks[i]: NULL or (vocab + 31) / 32 words, bit t of word t/32 set = token t allowed; must stay valid until result().
    // forced[i]: the token to take as if it had been sampled, or ENGINE_NO_TOKEN. A shard without the head is given the
    // tokens that the last stage chose this way. Every step with sampling rows needs exactly one call. OK or FAILED.
    enum engine_answer (*sample)(struct engine *engine, uint64_t step, const uint32_t *const *masks, const uint32_t *forced,
                                 struct error *e);
    // The oldest unanswered step's outcome; waits up to wait_ms. The CPU works in here: it runs a step as soon as sample()
    // and, on a later stage, hidden_in() were called, and may take longer than wait_ms. OK, PENDING or FAILED.
    enum engine_answer (*result)(struct engine *engine, uint64_t step, uint32_t wait_ms, struct engine_result *result,
                                 struct error *e);

    // Pipeline stages. hidden_in: the previous stage's hidden states of this step, [tokens in plan order][hidden], copied.
    // hidden_out: this stage's, valid until result(step); waits up to wait_ms, and runs the forward where need be, which may
    // take longer. A stage may be ahead of its answers: hidden_out(n+1) may come before result(n). PENDING: hidden_in(n+1)
    // or hidden_out(n) has not been called, or a row takes a token from the device that sample(n) has yet to say. OK,
    // PENDING, FAILED.
    enum engine_answer (*hidden_in)(struct engine *engine, uint64_t step, const float *states, uint32_t tokens,
                                    struct error *e);
    enum engine_answer (*hidden_out)(struct engine *engine, uint64_t step, uint32_t wait_ms, const float **states,
                                     uint32_t *tokens, struct error *e);

    // Copies a slot's KV entries out to, or in from, the caller's memory (info()->kv_bytes_per_token × count bytes), which
    // must stay until the ticket is done. The slot's block table must cover the span. hash is XXH3-64 over the bytes.
    err_id (*kv_export)(struct engine *engine, struct engine_kv_span span, void *bytes, engine_ticket *ticket,
                        struct error *e);
    err_id (*kv_import)(struct engine *engine, struct engine_kv_span span, const void *bytes, uint64_t hash,
                        engine_ticket *ticket, struct error *e);
    // OK: done, *hash is the bytes' hash. FAILED: ERR_PROTOCOL when an import's hash differed (nothing was written).
    enum engine_answer (*ticket_poll)(struct engine *engine, engine_ticket ticket, uint64_t *hash, struct error *e);
    void (*ticket_cancel)(struct engine *engine, engine_ticket ticket);

    // Rows of a submitted, unanswered step; 0 when there is no such step.
    uint32_t (*step_rows)(struct engine *engine, uint64_t step);
    // Expected time of a step, from what was measured so far; before that from the device's figures.
    uint32_t (*step_cost_us)(struct engine *engine, const struct engine_load *load);
    // Answers every submitted step (results are dropped) and leaves the engine idle; clears an abort. Slots stay open.
    void (*quiesce)(struct engine *engine);
    // Any thread: submitted steps end soon as FAILED with ERR_CANCELLED. The slots they touched must be opened again.
    void (*abort)(struct engine *engine);
    // A new group of workers, weights kept; plans of other epochs are refused from now on, and steps may be numbered anew.
    // The engine must be idle.
    err_id (*regroup)(struct engine *engine, struct comm *comm, uint32_t epoch, struct error *e);
    void (*destroy)(struct engine **engine);
};

// Every backend's engine starts with this.
struct engine {
    const struct backend *ops;
};
