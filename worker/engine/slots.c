#include "worker/engine/slots.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"
#include "worker/engine/sampler.h"

void slots_init(struct slots *s, const struct plan_limits *lim) {
    *s = (struct slots){.count = lim->slots, .context = lim->context, .block_tokens = lim->block_tokens};
    s->indexes = (lim->context + lim->block_tokens - 1) / lim->block_tokens;
    s->slot = xcalloc(s->count, sizeof *s->slot);
    size_t each = (size_t)s->context + 1 + s->indexes;
    s->memory = xcalloc(s->count * each, sizeof *s->memory);
    for (uint32_t i = 0; i < s->count; i++) {
        s->slot[i].tokens = s->memory + i * each;
        s->slot[i].table = s->slot[i].tokens + s->context + 1;
    }
}

void slots_fini(struct slots *s) {
    free(s->slot);
    free(s->memory);
    *s = (struct slots){0};
}

err_id slots_open(struct slots *s, uint32_t id, const struct engine_slot_params *p, uint32_t vocab, struct error *e) {
    if (id >= s->count || s->slot[id].open || s->slot[id].in_flight > 0) {
        return error_set(e, ERR_INTERNAL, "slot %u can't be opened: it does not exist or is in use", id);
    }
    if (p->n_tokens == 0 || p->n_prompt > p->n_tokens) {
        return error_set(e, ERR_INVALID_ARGUMENT, "a sequence needs at least one token, and its prompt is part of it");
    }
    if (p->n_tokens > s->context) {
        return error_set(e, ERR_CONTEXT_LENGTH, "the sequence has %u tokens, the context holds %u", p->n_tokens, s->context);
    }
    for (uint32_t i = 0; i < p->n_tokens; i++) {
        if (p->tokens[i] >= vocab) {
            return error_set(e, ERR_INVALID_ARGUMENT, "token id %u is outside the vocabulary of %u", p->tokens[i], vocab);
        }
    }
    TRY(sampler_check(&p->sampling, vocab, e));
    struct slot *slot = &s->slot[id];
    slot->open = true;
    slot->sampling = p->sampling;
    slot->n_tokens = p->n_tokens;
    slot->n_prompt = p->n_prompt;
    slot->length = 0;
    memcpy(slot->tokens, p->tokens, p->n_tokens * sizeof *p->tokens);
    for (uint32_t i = 0; i < s->indexes; i++) slot->table[i] = SLOT_NO_BLOCK;
    return ERR_NONE;
}

void slots_close(struct slots *s, uint32_t id) {
    CHECK(id < s->count && s->slot[id].in_flight == 0);
    s->slot[id].open = false;
}

void slots_apply(struct slots *s, const struct plan_view *plan) {
    for (uint32_t i = 0; i < plan->head->n_deltas; i++) {
        s->slot[plan->deltas[i].slot].table[plan->deltas[i].index] = plan->deltas[i].block;
    }
}

static bool is_mapped(const struct slots *s, const struct slot *slot, uint32_t end) {
    for (uint32_t i = 0; i * s->block_tokens < end; i++) {
        if (slot->table[i] == SLOT_NO_BLOCK) return false;
    }
    return true;
}

err_id slots_resolve(struct slots *s, const struct plan_view *plan, uint32_t row, struct slot_row *out, struct error *e) {
    const struct plan_row *r = &plan->rows[row];
    struct slot *slot = &s->slot[r->slot];
    uint32_t pos = r->pos == PLAN_POS_DEVICE ? slot->length : r->pos;
    if (!slot->open || pos > s->context || r->q_len > s->context - pos || !is_mapped(s, slot, pos + r->q_len)) {
        return error_set(e, ERR_INTERNAL, "row %u of step %llu: slot %u is closed, or has no block for position %u", row,
                         (unsigned long long)plan->head->step, r->slot, pos + r->q_len - 1);
    }
    bool device = r->token_off == PLAN_TOKEN_DEVICE;
    *out = (struct slot_row){slot, pos, r->q_len, device ? &slot->tokens[slot->n_tokens - 1] : plan->tokens + r->token_off};
    return ERR_NONE;
}

void slots_accept(struct slot *slot, uint32_t end, uint32_t token) {
    if (end == slot->n_tokens) slot->tokens[slot->n_tokens++] = token;
}

err_id slots_check_span(const struct slots *s, const struct engine_kv_span *span, struct error *e) {
    bool fits = span->slot < s->count && s->slot[span->slot].open && span->first <= s->context &&
                span->count <= s->context - span->first && is_mapped(s, &s->slot[span->slot], span->first + span->count);
    if (fits) return ERR_NONE;
    return error_set(e, ERR_INTERNAL, "slot %u has no blocks for positions %u to %u", span->slot, span->first,
                     span->first + span->count);
}
