// What can be seen of a worker core from outside: its counters, and whether its invariants hold.
#include "worker/core/core.h"

#include "common/base/check.h"

#include <stdlib.h>

void worker_core_counters(const struct worker_core *core, struct worker_counters *out) {
    const struct scheduler *sched = &core->scheduler;
    *out = core->counters;
    out->prefilled_tokens = sched->prefilled_tokens;
    out->preemptions = sched->preemptions;
    out->steps = sched->steps;
    out->restored_tokens = sched->restored_tokens;
    out->cached_tokens = sched->cached_tokens;
    out->blocks_kept = sched->blocks.n_kept;
    out->blocks_held_most = sched->blocks.held_most;
    out->evictions = sched->blocks.evictions;
    out->streams = core->streams.n_known;
    out->running = sched->n_running + sched->n_leaving;
    out->waiting = sched->waiting.n;
    out->preparing = core->streams.n_preparing;
    out->plans_in_flight = sched->n_plans;
    out->blocks_free = sched->blocks.n_free;
    out->blocks_total = sched->blocks.count;
    out->slots_free = sched->slots.n_free;
    out->log_bytes = 0;
    for (const struct stream *s = core->streams.first; s != NULL; s = s->next) out->log_bytes += record_log_bytes(s->log);
    out->prefill_rate = step_model_prefill_rate(&core->pace.model);
    out->decode_rate = step_model_decode_rate(&core->pace.model);
}

static void check_stream(const struct worker_core *core, const struct stream *s) {
    const struct sequence *seq = &s->seq;
    bool at_work = seq->state == SEQUENCE_WAITING || seq->state == SEQUENCE_RUNNING || seq->state == SEQUENCE_LEAVING;
    CHECK(at_work == (s->known && s->state == STREAM_LIVE));
    CHECK((seq->state == SEQUENCE_NEW) == (s->known && s->state == STREAM_PREPARING));
    CHECK(s->known || !scheduler_idle(seq)); // else it would have been freed
    CHECK((seq->slot == SLOT_NONE) == (seq->n_blocks == 0));
    CHECK(!seq->held || core->life == LIFECYCLE_NOTICED || core->life == LIFECYCLE_FAILED);
    CHECK(s->state != STREAM_OFFERED || seq->held);
    CHECK(!(seq->exporting || seq->restoring) || !at_work || s->ticket != 0);
    if (!at_work) return;
    CHECK(seq->n_tokens == seq->n_prompt + record_log_count(s->log));
    CHECK(record_log_count(s->log) < s->max_tokens && seq->n_prompt + s->max_tokens <= core->context);
    for (uint32_t i = 0; i < record_log_count(s->log); i++)
        CHECK(seq->tokens[seq->n_prompt + i] == record_log_get(s->log, i).token);
}

void worker_core_check(const struct worker_core *core) {
    streams_check(&core->streams);
    uint32_t *refs = xcalloc(core->scheduler.blocks.count, sizeof *refs);
    uint32_t with_slot = 0;
    for (const struct stream *s = core->streams.first; s != NULL; s = s->next) {
        check_stream(core, s);
        for (uint32_t i = 0; i < s->seq.n_blocks; i++) refs[s->seq.blocks[i]]++;
        with_slot += s->seq.slot != SLOT_NONE;
    }
    const struct upkeep *u = &core->upkeep;
    for (uint32_t i = 0; u->active && i < u->seq.n_blocks; i++) refs[u->seq.blocks[i]]++;
    with_slot += u->active && u->seq.slot != SLOT_NONE;
    CHECK(with_slot + core->scheduler.slots.n_free == core->scheduler.slots.count);
    scheduler_check(&core->scheduler, refs);
    free(refs);
}
