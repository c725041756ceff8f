// What every backend keeps of its slots on the host: parameters, tokens, block table and length. Used by the engine thread
// alone; for a device that holds this state itself it is the mirror that prompts are rebuilt from.
#pragma once
#include "worker/engine/types.h"

#define SLOT_NO_BLOCK UINT32_MAX

struct slot {
    bool open;
    struct sampling_params sampling;
    uint32_t *tokens; // [context + 1]
    uint32_t n_tokens, n_prompt;
    uint32_t length;    // KV entries written; where a PLAN_POS_DEVICE row starts
    uint32_t *table;    // [indexes] blocks, or SLOT_NO_BLOCK
    uint32_t in_flight; // rows in submitted, unanswered plans
};

struct slots {
    struct slot *slot;
    uint32_t count, context, block_tokens, indexes;
    uint32_t *memory;
};

void slots_init(struct slots *s, const struct plan_limits *limits);
void slots_fini(struct slots *s);
// ERR_INTERNAL for a slot that is open, in flight or out of range; ERR_INVALID_ARGUMENT for parameters or tokens.
err_id slots_open(struct slots *s, uint32_t slot, const struct engine_slot_params *params, uint32_t vocab, struct error *e);
void slots_close(struct slots *s, uint32_t slot);
void slots_apply(struct slots *s, const struct plan_view *plan);

// Where a row of a submitted plan starts and what its i-th token is, now that the steps before it are done.
struct slot_row {
    struct slot *slot;
    uint32_t pos, q_len;
    const uint32_t *tokens; // [q_len]
};
// ERR_INTERNAL: the slot is closed, the row leaves the context, or a position up to its end has no block.
err_id slots_resolve(struct slots *s, const struct plan_view *plan, uint32_t row, struct slot_row *out, struct error *e);
// The chosen token joins the sequence. A row whose end isn't the sequence's end (a prompt being replayed) changes nothing.
void slots_accept(struct slot *slot, uint32_t end, uint32_t token);
// ERR_INTERNAL: the span isn't within the slot's mapped blocks.
err_id slots_check_span(const struct slots *s, const struct engine_kv_span *span, struct error *e);
