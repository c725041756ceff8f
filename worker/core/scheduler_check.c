// What holds within the scheduler between two events.
#include "common/base/check.h"
#include "worker/core/scheduler.h"

static void check_lists(const struct scheduler *s) {
    waiting_check(&s->waiting);
    for (uint32_t i = 0; i < s->n_running; i++) {
        CHECK(s->running[i]->state == SEQUENCE_RUNNING && s->slots.held[s->running[i]->slot] == s->running[i]);
        CHECK(i == 0 || sequence_outranks(s->running[i - 1], s->running[i]));
        CHECK(!sequence_decodes(s->running[i]) ||
              s->running[i]->planned == s->running[i]->n_tokens + s->running[i]->unsampled - 1);
    }
    CHECK(s->n_running + s->n_leaving + s->slots.n_free == s->slots.count);
}

static void check_holder(const struct scheduler *s, uint32_t slot) {
    const struct sequence *seq = s->slots.held[slot];
    uint32_t rows = 0, unsampled = 0, tokens = 0;
    for (uint32_t i = 0; i < s->n_plans; i++) {
        const struct pending_plan *plan = &s->plans[(s->plans_first + i) % s->plans_max];
        for (uint32_t k = 0; k < plan->n_entries; k++) {
            if (plan->entries[k].seq != seq) continue;
            rows++, unsampled += plan->entries[k].samples, tokens += plan->entries[k].q_len;
        }
    }
    CHECK(seq->slot == slot && seq->in_flight == rows && seq->unsampled == unsampled);
    CHECK(seq->state == SEQUENCE_RUNNING || rows > 0); // who leaves stays no longer than its plans
    CHECK(seq->computed + tokens == seq->planned && seq->planned <= seq->n_blocks * s->block_tokens);
    CHECK(!seq->restoring || (seq->n_restored > 0 && seq->n_restored < seq->n_tokens && tokens == 0));
    CHECK(!seq->exporting || (seq->held && rows == 0));
    CHECK(seq->blocks_told <= seq->n_blocks && blocks_for(seq->planned, s->block_tokens) <= seq->blocks_told);
    CHECK(seq->n_tokens <= seq->tokens_max && seq->n_named <= seq->n_blocks);
    CHECK(s->micro_batches == 1 || seq->unsampled <= 1);
}

void scheduler_check(const struct scheduler *s, uint32_t *block_refs) {
    check_lists(s);
    slot_map_check(&s->slots);
    for (uint32_t i = 0; i < s->slots.count; i++)
        if (s->slots.held[i] != NULL) check_holder(s, i);
    blocks_check(&s->blocks, block_refs);
}
