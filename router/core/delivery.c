// What a session's candidate says about it, and how it reaches the requester: the log, acknowledgements, timers.
#include "common/base/check.h"
#include "common/base/mark.h"
#include "router/core/core.h"

#include <stdio.h>

static ms_t sooner(ms_t a, ms_t b) { return a < b ? a : b; }

static void alive(struct session *s, ms_t now) {
    s->answered = true;
    s->watch_ms = WATCH_MS;
    s->watch_at = now + WATCH_MS;
}

void session_tell_accepted(struct router_core *core, struct session *s) {
    struct msg m = {.kind = MSG_ACCEPTED};
    struct msg_accepted *a = &m.accepted;
    a->key = s->key;
    a->attempt = s->tx.attempt;
    a->prompt_tokens = s->prompt_tokens;
    a->max_tokens = s->max_tokens;
    snprintf(a->replica, sizeof a->replica, "%s", s->replica);
    snprintf(a->fingerprint, sizeof a->fingerprint, "%s", s->fingerprint);
    core_say(core, s->requester->id, &m);
}

// A candidate has taken the attempt: the requester hears of it, and of each later one, since records carry its number.
static void accepted(struct router_core *core, struct session *s) {
    bool first = !s->accepted;
    s->accepted = true;
    s->state = SESSION_RUNNING;
    move_settle(core, s, true);
    if (s->local) {
        if (first) core_emit(core, s, SESSION_ACCEPTED);
        return;
    }
    stream_tx_attach(&s->tx, s->tx.link, &s->attempt, s->tx.acked);
    if (s->requester) session_tell_accepted(core, s);
}

static void take_fingerprint(struct session *s, const char *fingerprint) {
    if (s->fingerprint[0] == '\0') snprintf(s->fingerprint, sizeof s->fingerprint, "%s", fingerprint);
}

void session_on_accepted(struct router_core *core, struct session *s, const struct msg_accepted *m, ms_t now) {
    alive(s, now);
    if (s->state == SESSION_PLACED || s->prompt_tokens == 0) {
        s->prompt_tokens = m->prompt_tokens;
        s->max_tokens = m->max_tokens;
        if (m->replica[0]) snprintf(s->replica, sizeof s->replica, "%s", m->replica);
        take_fingerprint(s, m->fingerprint);
        uint32_t decode = s->load_decode;
        if (m->max_tokens && decode > m->max_tokens) decode = m->max_tokens;
        s->prompt_whole = m->prompt_tokens;
        session_load(s, s->load_prompt ? m->prompt_tokens + record_log_count(s->log) : 0, decode);
        s->offer->pool->deployment->ready_at = now;
    }
    if (s->state == SESSION_PLACED) accepted(core, s);
    session_arm(core, s);
}

static void cancel_there(struct router_core *core, struct link *from, const struct stream_key *key,
                         const struct attempt *attempt) {
    struct msg m = {.kind = MSG_CANCEL, .cancel = {*key, *attempt}};
    core_say(core, from->id, &m);
}

static void release_there(struct router_core *core, struct link *from, const struct msg_done *done) {
    struct msg m = {.kind = MSG_ACK};
    m.ack = (struct msg_ack){.key = done->key, .attempt = done->attempt, .next = done->n_tokens, .done = true};
    core_say(core, from->id, &m);
}

// What a router may do whenever records come (enum router_odd).
static void be_odd(struct router_core *core, struct session *s, ms_t now) {
    if (core_odd(core, ROUTER_ODD_ACK)) s->rx.ack_at = now;
    if (core_odd(core, ROUTER_ODD_SYNC)) session_ask_again(core, s, now);
    if (core_odd(core, ROUTER_ODD_RESEND)) {
        struct msg m = {.kind = MSG_RESEND, .resend = {s->key, s->attempt, record_log_count(s->log) / 2}};
        core_say(core, s->rx.link, &m);
    }
}

// The log grew by n records.
static void grown(struct router_core *core, struct session *s, uint32_t n, ms_t now) {
    core->counters.records += n;
    alive(s, now);
    if (s->state == SESSION_PLACED) { // its Accepted was lost
        MARK(accepted_by_records);
        take_fingerprint(s, s->offer->status.info.fingerprint);
        accepted(core, s);
    }
    suspicion_clear(core, s);
    s->refusals = 0; // a long answer may outlive many a replica's trouble
    session_load(s, 0, s->load_decode > n ? s->load_decode - n : 0);
    if (s->local)
        core_emit(core, s, SESSION_RECORDS);
    else
        stream_tx_pump(&s->tx, s->log, &core->wire, now);
}

static void fail_attempt_for_good(struct router_core *core, struct session *s, err_id id, const char *text, ms_t now) {
    struct error why = {0};
    error_set(&why, id, "%s", text);
    session_fail(core, s, &why, 0, now);
}

void session_on_tokens(struct router_core *core, struct session *s, struct link *from, const struct msg_tokens *m,
                       ms_t now) {
    uint32_t before = s ? record_log_count(s->log) : 0;
    size_t bytes = s ? record_log_bytes(s->log) : 0;
    enum rx_result result = RX_STALE;
    if (s) result = stream_rx_on_tokens(&s->rx, from->incarnation, m, s->log, &core->wire, now);
    switch (result) {
    case RX_EXTENDED:
        core->held_bytes += record_log_bytes(s->log) - bytes;
        if (m->offset < before) core->counters.duplicates_dropped += before - m->offset;
        grown(core, s, record_log_count(s->log) - before, now);
        if (record_log_count(s->log) > OUTPUT_TOKENS_MAX) {
            fail_attempt_for_good(core, s, ERR_TOO_LARGE, "the answer is longer than a stream may be", now);
            return;
        }
        be_odd(core, s, now);
        break;
    case RX_DUPLICATE:
        core->counters.duplicates_dropped += m->records.count;
        break;
    case RX_GAP:
        MARK(tokens_behind_a_gap);
        core->counters.gaps++;
        break;
    default: // nobody's, or an attempt that is over: its sender may stop
        MARK(tokens_stale);
        core->counters.stale_dropped++;
        if (s == NULL || !move_concerns(s, &m->attempt)) cancel_there(core, from, &m->key, &m->attempt);
        return;
    }
    session_arm(core, s);
}

static void exclude(struct session *s) {
    incarnation_t refuser = s->offer->candidate->incarnation;
    if (s->n_excluded < EXCLUDED_MAX) s->excluded[s->n_excluded++] = refuser;
}

// It ended the answer before what it had sent: this attempt has failed.
static void contradicted(struct router_core *core, struct session *s, ms_t now) {
    struct error why = {0};
    core->counters.protocol_errors++;
    error_set(&why, ERR_INTERNAL, "%s ended the answer before what it had sent", s->replica);
    exclude(s);
    session_unplace(core, s, true);
    if (++s->refusals > REFUSALS_MAX)
        session_fail(core, s, &why, 0, now);
    else
        session_again(core, s, &why, now);
}

// Nobody here cancelled it: a Cancel of this attempt is late or came twice, from when a relay had forgotten it. The stream
// is not over, the attempt is.
static void cancelled_by_nobody(struct router_core *core, struct session *s, ms_t now) {
    struct error why = {0};
    RARE_MARK(cancelled_by_nobody);
    error_set(&why, ERR_WORKER_LOST, "%s has cancelled the stream, which nobody asked for", s->replica);
    session_unplace(core, s, false);
    if (++s->refusals > REFUSALS_MAX)
        session_fail(core, s, &why, 0, now);
    else
        session_again(core, s, &why, now);
}

void session_on_done(struct router_core *core, struct session *s, struct link *from, const struct msg_done *m, ms_t now) {
    enum rx_result result = RX_STALE;
    if (s) result = stream_rx_on_done(&s->rx, from->incarnation, m, s->log, &core->wire, now);
    switch (result) {
    case RX_DONE:
        if (m->finish == FINISH_CANCELLED) { // who cancels here has no session that is placed
            cancelled_by_nobody(core, s, now);
            return;
        }
        if (s->state == SESSION_PLACED) {
            RARE_MARK(accepted_by_done);
            take_fingerprint(s, s->offer->status.info.fingerprint);
            accepted(core, s);
        }
        session_complete(core, s, m, now);
        return;
    case RX_GAP:
        MARK(done_behind_a_gap);
        core->counters.gaps++;
        break;
    case RX_INVALID:
        contradicted(core, s, now);
        return;
    case RX_STALE:
        MARK(done_stale);
        core->counters.stale_dropped++;
        release_there(core, from, m);
        return;
    default:
        break;
    }
    session_arm(core, s);
}

void session_on_rejected(struct router_core *core, struct session *s, const struct msg_rejected *m, ms_t now) {
    bool pin_hunt = s->pin_elsewhere && m->error.id == ERR_NOT_FOUND; // the next peer may have the pinned replica
    bool other_may = error_info(m->error.id)->retryable || pin_hunt || m->error.id == ERR_SUPERSEDED;
    s->refusals++;
    if (other_may) exclude(s);
    session_unplace(core, s, false);
    if (m->kills) MARK(peer_reports_kills);
    suspicion_report(s, m->kills);
    if (suspicion_convicts(s)) {
        session_convict(core, s, now);
    } else if (!other_may || (s->refusals > REFUSALS_MAX && m->kills == 0)) {
        MARK(refused_for_good);
        session_fail(core, s, &m->error, m->retry_after_ms, now);
    } else {
        session_again(core, s, &m->error, now);
    }
}

// --- the requester's side

void session_attach(struct router_core *core, struct session *s, struct link *link, uint32_t next, ms_t now) {
    session_part(core, s);
    list_append(&link->sessions, &s->requester_node);
    s->requester = link;
    uint32_t count = record_log_count(s->log);
    stream_tx_attach(&s->tx, link->id, &s->tx.attempt, next < count ? next : count);
    s->give_up_at = s->state == SESSION_ENDED ? now + UNACKED_MS : MS_NEVER;
    if (!s->accepted) return;
    session_tell_accepted(core, s);
    stream_tx_pump(&s->tx, s->log, &core->wire, now);
    session_arm(core, s);
}

void session_park(struct router_core *core, struct session *s, ms_t now) {
    session_part(core, s);
    s->requester = NULL;
    stream_tx_detach(&s->tx);
    s->give_up_at = now + (s->request.keep || s->relayed ? PARK_KEEP_MS : PARK_MS);
    if (core->options.bug == ROUTER_BUG_PARKED_FOR_EVER) s->give_up_at = MS_NEVER;
    session_arm(core, s);
}

// --- time

static ms_t next_due(const struct session *s) {
    ms_t at = sooner(s->deadline_at, sooner(s->give_up_at, s->retry_at));
    at = sooner(at, sooner(s->watch_at, sooner(s->rx.ack_at, s->rx.resend_at)));
    return s->tx.link ? sooner(at, s->tx.retry_at) : at;
}

void session_arm(struct router_core *core, struct session *s) {
    ms_t at = next_due(s);
    if (at != MS_NEVER) due_sooner(&core->due, &s->due, at);
}

// Its region's queue is too slow: is another one faster? Otherwise it waits on.
static void spill(struct router_core *core, struct session *s, ms_t now) {
    struct route_request r = session_route_request(s, now);
    struct region_request region = {.route = &r, .book = !s->relayed};
    region.work = region_work(s->prompt_expected, s->decode_expected);
    struct pool *other = s->relayed ? NULL : region_spill(s->deployment, s->pool, &region);
    if (other == NULL) {
        MARK(spill_stays);
        s->retry_at = now + s->pool->spill_after_ms;
        return;
    }
    MARK(spills_over);
    s->pool = other;
    session_unqueue(core, s);
    session_enqueue(core, s, now);
}

// It has waited for as long as it was to wait where it is.
static void retry(struct router_core *core, struct session *s, ms_t now) {
    const struct wait_queue *q = s->wait.queue;
    if (s->hunt) {
        hunt_tick(core, s, now);
        return;
    }
    if (q == &core->adjourned && suspicion_convicts(s)) {
        session_convict(core, s, now);
    } else if (q == &core->adjourned || q == &s->deployment->homeless) {
        session_unqueue(core, s);
        session_enqueue(core, s, now);
    } else {
        spill(core, s, now);
    }
}

void session_tick(struct router_core *core, struct session *s, ms_t now) {
    if (s->give_up_at <= now) {
        if (s->state == SESSION_ENDED)
            MARK(unacked_given_up);
        else
            MARK(parked_given_up);
        session_end(core, s, now);
        return;
    }
    if (s->deadline_at <= now) {
        MARK(deadline_passes);
        fail_attempt_for_good(core, s, ERR_DEADLINE, "the request's deadline passed", now);
        return;
    }
    if (s->retry_at <= now) {
        struct stream_key key = s->key;
        retry(core, s, now);
        if (session_find(core, &key) != s) return; // it could not go on
    }
    if (s->state == SESSION_RUNNING && !s->relayed && core_odd(core, ROUTER_ODD_MOVE)) {
        session_arm(core, s);
        session_unplace(core, s, true);
        session_enqueue(core, s, now);
        return;
    }
    if (s->offer) {
        if (s->watch_at <= now) session_ask_again(core, s, now);
        stream_rx_tick(&s->rx, s->log, &core->wire, now);
    }
    if (s->tx.link) stream_tx_tick(&s->tx, s->log, &core->wire, now);
    due_set(&core->due, &s->due, next_due(s));
}
