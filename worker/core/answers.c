// What a stream's router hears, and how a stream goes: tokens, its end, its expiry.
#include "worker/core/core.h"

#include "common/base/check.h"
#include "common/base/mark.h"

#include <stdio.h>

static void reject(struct worker_core *core, link_id link, struct msg_rejected *rejected) {
    core->counters.rejected++;
    if (link == 0) return;
    snprintf(rejected->replica, sizeof rejected->replica, "%s", core->options.name);
    struct msg m = {.kind = MSG_REJECTED, .rejected = *rejected};
    core_send(core, link, &m);
}

void answer_rejected(struct worker_core *core, link_id link, const struct stream_key *key, const struct attempt *attempt,
                     const struct error *error, uint32_t retry_after_ms) {
    struct msg_rejected m = {.key = *key, .attempt = *attempt, .error = *error, .retry_after_ms = retry_after_ms};
    reject(core, link, &m);
}

void answer_accepted(struct worker_core *core, struct stream *s) {
    if (s->tx.link == 0) return;
    struct msg m = {.kind = MSG_ACCEPTED};
    m.accepted = (struct msg_accepted){.key = s->key, .attempt = s->tx.attempt, .prompt_tokens = s->prompt_tokens};
    m.accepted.max_tokens = s->max_tokens;
    snprintf(m.accepted.replica, sizeof m.accepted.replica, "%s", core->options.name);
    snprintf(m.accepted.fingerprint, sizeof m.accepted.fingerprint, "%s", core->options.info.fingerprint);
    core_send(core, s->tx.link, &m);
}

// ---- when a stream wants to be looked at ----

// The time at which nobody can still want it; MS_NEVER while it runs for a router.
static ms_t expires_at(const struct worker_core *core, const struct stream *s) {
    ms_t grace = core->options.grace_ms;
    ms_t parked = s->parked_at == MS_NEVER ? MS_NEVER : s->parked_at + grace;
    if (s->state != STREAM_ENDED) return parked;
    ms_t ended = s->heard_at + grace + (s->tx.done_acked ? 0 : UNCLAIMED_MS);
    return ended < parked ? ended : parked;
}

static void note_due(struct worker_core *core, ms_t at) {
    if (at < core->streams_due) core->streams_due = at;
}

static void note_stream(struct worker_core *core, const struct stream *s) {
    note_due(core, expires_at(core, s));
    note_due(core, s->deadline_at);
    if (s->tx.link == 0) return;
    note_due(core, s->tx.retry_at);
    if (s->state == STREAM_OFFERED) note_due(core, s->offer_at);
}

void answer_pump(struct worker_core *core, struct stream *s) {
    if (s->state != STREAM_PREPARING) stream_tx_pump(&s->tx, s->log, &core->out, core->now);
    note_stream(core, s);
}

// ---- attached and parked ----

void answer_attach(struct worker_core *core, struct stream *s, link_id link, uint32_t next) {
    uint32_t count = record_log_count(s->log);
    struct attempt attempt = s->tx.attempt;
    bool was_acked = s->tx.done_acked;
    stream_tx_attach(&s->tx, link, &attempt, next < count ? next : count);
    if (s->state == STREAM_ENDED && was_acked) core->streams.n_unclaimed++;
    s->parked_at = MS_NEVER;
    s->heard_at = s->offer_at = core->now;
    s->seq.pause_at = UINT32_MAX;
    answer_pump(core, s);
}

static void set_pause(struct worker_core *core, struct stream *s) {
    uint64_t at = (uint64_t)s->seq.n_prompt + s->tx.acked + core->options.orphan_tokens;
    s->seq.pause_at = at < UINT32_MAX ? (uint32_t)at : UINT32_MAX;
}

void answer_park(struct worker_core *core, struct stream *s) {
    if (s->tx.link == 0) return;
    MARK(stream_parked);
    stream_tx_detach(&s->tx);
    s->parked_at = core->now;
    set_pause(core, s);
    note_stream(core, s);
}

// ---- the end ----

static void count_end(struct worker_core *core, const struct stream *s, enum finish finish) {
    if (finish == FINISH_CANCELLED) {
        core->counters.cancelled++;
    } else if (finish == FINISH_ERROR) {
        core->counters.failed++;
    } else {
        core->counters.completed++;
        core->answer_tokens += (float)(((double)record_log_count(s->log) - (double)core->answer_tokens) / 16);
    }
}

void answer_finish(struct worker_core *core, struct stream *s, enum finish finish, const struct error *error) {
    bool whole = finish != FINISH_CANCELLED && finish != FINISH_ERROR;
    struct msg_done done = {.n_tokens = record_log_count(s->log), .finish = finish};
    if (error) done.error = *error;
    done.usage.prompt_tokens = s->prompt_tokens;
    done.usage.completion_tokens = done.n_tokens;
    done.usage.reasoning_tokens = s->reasoning_tokens;
    done.usage.cached_tokens = s->seq.cached < s->prompt_tokens ? s->seq.cached : s->prompt_tokens;
    done.usage.restored_tokens = s->restored_tokens;
    if (whole) core->hooks.tail(core->hooks.ctx, s->user, &done.tail_channel, &done.tail, &done.tail_len);
    snprintf(done.replica, sizeof done.replica, "%s", core->options.name);
    count_end(core, s, finish);
    scheduler_end(&core->scheduler, &s->seq, !whole);
    stream_tx_finish(&s->tx, &done);
    streams_set_state(&core->streams, s, STREAM_ENDED);
    s->deadline_at = MS_NEVER;
    s->heard_at = core->now;
    answer_pump(core, s);
    answer_settle(core, s);
    status_touch(core, STATUS_LOAD);
}

void answer_settle(struct worker_core *core, struct stream *s) {
    if (s->seq.state != SEQUENCE_ENDED || !scheduler_idle(&s->seq)) return;
    sequence_fini(&s->seq); // a log that is kept needs no sequence
    if (s->known) return;
    if (s->user != NULL) core->hooks.release(core->hooks.ctx, s->user);
    streams_free(&core->streams, s);
}

void answer_drop(struct worker_core *core, struct stream *s) {
    if (s->state != STREAM_ENDED) status_touch(core, STATUS_LOAD);
    scheduler_end(&core->scheduler, &s->seq, true);
    streams_forget(&core->streams, s);
    answer_settle(core, s);
}

void answer_give_up(struct worker_core *core, struct stream *s, err_id id, const char *sentence) {
    struct error e = {0};
    error_set(&e, id, "%s", sentence);
    answer_rejected(core, s->tx.link, &s->key, &s->tx.attempt, &e, 0);
    answer_drop(core, s);
}

void answer_lost(struct worker_core *core, struct stream *s, const char *sentence, uint32_t kills) {
    struct msg_rejected m = {.key = s->key, .attempt = s->tx.attempt, .kills = kills};
    error_set(&m.error, ERR_WORKER_LOST, "%s", sentence);
    reject(core, s->tx.link, &m);
    answer_drop(core, s);
}

// ---- tokens ----

// The answer goes on.
static void send_on(struct worker_core *core, struct stream *s) {
    if (core_odd(core, WORKER_ODD_REPEAT)) s->tx.sent = s->tx.acked;
    if (!core_odd(core, WORKER_ODD_HOLD)) answer_pump(core, s);
}

void answer_token(struct worker_core *core, struct stream *s, const struct worker_token *token) {
    if (token->nan) {
        MARK(token_is_nan);
        struct error e = {0};
        core->counters.numeric_errors++;
        scheduler_poisoned(&core->scheduler, &s->seq);
        if (token->none_allowed)
            error_set(
                &e, ERR_INVALID_ARGUMENT,
                "no token can follow token %u of the answer: its form, allowed_token_ids, banned tokens and min_tokens "
                "leave none",
                record_log_count(s->log));
        else
            error_set(&e, ERR_NUMERIC, "the model produced values that are not numbers at token %u of the answer",
                      record_log_count(s->log));
        answer_finish(core, s, FINISH_ERROR, &e);
        return;
    }
    struct record r = {0};
    uint32_t index = record_log_count(s->log);
    enum text_verdict verdict = core->hooks.record(core->hooks.ctx, s->user, index, token, &r);
    record_log_append(s->log, &r);
    sequence_append(&s->seq, token->token);
    s->reasoning_tokens += r.channel == CHANNEL_REASONING;
    core->counters.decoded_tokens++;
    if (verdict != TEXT_GO_ON)
        answer_finish(core, s, verdict == TEXT_STOP ? FINISH_STOP : FINISH_TOOL_CALLS, NULL);
    else if (index + 1 >= s->max_tokens)
        answer_finish(core, s, FINISH_LENGTH, NULL);
    else
        send_on(core, s);
}

// ---- time ----

static void deadline_passed(struct worker_core *core, struct stream *s) {
    if (s->state == STREAM_PREPARING) {
        RARE_MARK(deadline_before_accepted);
        answer_give_up(core, s, ERR_DEADLINE, "the request's deadline passed before it was accepted");
        return;
    }
    MARK(deadline_in_the_answer);
    struct error e = {0};
    error_set(&e, ERR_DEADLINE, "the request's deadline passed after %u tokens", record_log_count(s->log));
    answer_finish(core, s, FINISH_ERROR, &e);
}

static void tick_stream(struct worker_core *core, struct stream *s) {
    if (s->deadline_at <= core->now) {
        bool gone = s->state == STREAM_PREPARING;
        deadline_passed(core, s);
        if (gone) return;
    }
    if (s->state == STREAM_LIVE && core_odd(core, WORKER_ODD_GIVE_UP)) {
        answer_give_up(core, s, ERR_OVERLOADED, "given up by chance");
        return;
    }
    bool forget = s->state == STREAM_ENDED && s->tx.done_acked && core_odd(core, WORKER_ODD_FORGET);
    if (expires_at(core, s) <= core->now || forget) {
        if (s->state != STREAM_ENDED)
            MARK(orphan_expires);
        else if (!s->tx.done_acked)
            MARK(unclaimed_expires);
        else
            MARK(kept_log_expires);
        answer_drop(core, s);
        return;
    }
    if (core->options.bug != WORKER_BUG_RESEND_IGNORED)
        stream_tx_tick(&s->tx, s->log, &core->out, core->now);
    else if (s->tx.retry_at <= core->now)
        s->tx.retry_at = MS_NEVER;
    if (s->state == STREAM_OFFERED && s->offer_at <= core->now) move_offer(core, s);
    note_stream(core, s);
}

void answer_tick(struct worker_core *core) {
    if (core->streams_due > core->now) return;
    core->streams_due = MS_NEVER;
    for (struct stream *s = core->streams.first, *next; s != NULL; s = next) {
        next = s->next;
        if (s->known) tick_stream(core, s);
    }
}
