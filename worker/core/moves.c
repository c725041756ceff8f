// Streams that leave this worker, and those that came from another one's checkpoint. Leaving: a LIVE stream is held, stands
// still when its last planned row is answered, is copied out by hooks.checkpoint if it has computed anything, then OFFERED
// to its router, and dropped when that commits the move. proto/README.md has the grammar.
#include "worker/core/core.h"
#include "worker/core/upkeep.h"

#include "common/base/check.h"
#include "common/base/mark.h"

#include <stdio.h>

enum { OFFER_MS = 250, OFFER_MAX_MS = 2000 }; // first and longest wait before an offer is repeated

// ---- leaving ----

// The stream's part here is over but for its log.
static void offer_first(struct worker_core *core, struct stream *s) {
    streams_set_state(&core->streams, s, STREAM_OFFERED);
    scheduler_end(&core->scheduler, &s->seq, true);
    answer_settle(core, s);
    core->counters.offered++;
    s->offer_ms = OFFER_MS;
    s->offer_at = core->now;
    answer_pump(core, s);
    move_offer(core, s);
    status_touch(core, STATUS_LOAD);
}

void move_offer(struct worker_core *core, struct stream *s) {
    if (s->tx.link == 0) return; // when a router attaches
    struct msg m = {.kind = MSG_MOVE_OFFER};
    struct msg_move_offer *o = &m.move_offer;
    *o = (struct msg_move_offer){.key = s->key, .attempt = s->tx.attempt, .n_tokens = record_log_count(s->log)};
    if (s->handle[0] != '\0' && s->lease_at > core->now) {
        snprintf(o->handle, sizeof o->handle, "%s", s->handle);
        snprintf(o->store, sizeof o->store, "%s", core->options.info.store);
        o->bytes = s->checkpoint_bytes;
        o->lease_ms = (uint32_t)(s->lease_at - core->now);
    }
    core_send(core, s->tx.link, &m);
    s->offer_at = core->now + s->offer_ms;
    s->offer_ms = s->offer_ms * 2 < OFFER_MAX_MS ? s->offer_ms * 2 : OFFER_MAX_MS;
    if (s->offer_at < core->streams_due) core->streams_due = s->offer_at;
}

static void write_checkpoint(struct worker_core *core, struct stream *s) {
    struct sequence *seq = &s->seq;
    seq->exporting = true;
    struct checkpoint_request r = {.key = s->key,
                                   .slot = seq->slot,
                                   .user = s->user,
                                   .tokens = seq->tokens,
                                   .n_tokens = seq->n_tokens,
                                   .n_prompt = seq->n_prompt,
                                   .n_computed = seq->computed};
    core->hooks.checkpoint(core->hooks.ctx, streams_take_ticket(&core->streams, s), &r);
}

void move_on(struct worker_core *core, struct stream *s) {
    struct sequence *seq = &s->seq;
    if (!s->known || s->state != STREAM_LIVE || !seq->held || seq->exporting || seq->in_flight > 0) return;
    bool computed = seq->slot != SLOT_NONE && !seq->restoring && seq->computed > 0;
    if (computed && core->options.info.store[0] != '\0')
        write_checkpoint(core, s);
    else
        offer_first(core, s);
}

void move_stop(struct worker_core *core, struct stream *s) {
    if (s->state != STREAM_LIVE || s->seq.held) return;
    s->seq.held = true;
    move_on(core, s);
}

bool worker_core_checkpointed(struct worker_core *core, uint64_t ticket, const char *handle, uint64_t bytes, ms_t now) {
    core_enter(core, now);
    bool wanted = worker_core_wants(core, ticket);
    if (ticket & UPKEEP_TICKET) {
        upkeep_done(core, ticket, handle != NULL);
        core_leave(core);
        return wanted;
    }
    struct stream *s = wanted ? streams_by_ticket(&core->streams, ticket) : NULL;
    if (handle != NULL)
        core->counters.checkpoints++;
    else
        core->counters.checkpoints_failed++;
    if (s != NULL) {
        if (handle != NULL) {
            snprintf(s->handle, sizeof s->handle, "%s", handle);
            s->checkpoint_bytes = bytes;
            s->lease_at = core->now + core->options.lease_ms;
        }
        s->seq.exporting = false;
        offer_first(core, s);
    }
    core_leave(core);
    return wanted;
}

void move_commit(struct worker_core *core, const struct msg_move_commit *m) {
    struct stream *s = streams_find(&core->streams, &m->key);
    if (s == NULL || s->state != STREAM_OFFERED || !attempt_equal(&s->tx.attempt, &m->attempt)) return;
    if (!attempt_is_none(&m->by)) core->counters.moved++;
    answer_drop(core, s);
}

// ---- arriving ----

void worker_core_restored(struct worker_core *core, uint64_t ticket, bool ok, ms_t now) {
    core_enter(core, now);
    if (ticket & UPKEEP_TICKET) {
        upkeep_done(core, ticket, ok);
        core_leave(core);
        return;
    }
    struct stream *s = streams_by_ticket(&core->streams, ticket);
    if (core->options.bug == WORKER_BUG_RESTORE_FAILED) ok = true;
    if (ok)
        core->counters.restores++;
    else
        core->counters.restores_failed++;
    if (s != NULL && s->seq.restoring) {
        scheduler_restored(&core->scheduler, &s->seq, ok);
        s->restored_tokens = s->seq.n_restored;
        status_touch(core, STATUS_LOAD);
    }
    core_leave(core);
}

bool worker_core_wants(const struct worker_core *core, uint64_t ticket) {
    if (ticket & UPKEEP_TICKET) return upkeep_wants(core, ticket);
    const struct stream *s = ticket == 0 ? NULL : streams_by_ticket(&core->streams, ticket);
    return s != NULL && s->state == STREAM_LIVE && s->seq.state == SEQUENCE_RUNNING &&
           (s->seq.exporting || s->seq.restoring);
}
