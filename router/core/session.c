// The life of a session but for its deliveries: creation, waiting, placement, the next attempt, the end.
#include "router/core/session.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/base/mark.h"
#include "router/core/core.h"

#include <stdio.h>
#include <stdlib.h>

static bool has_key(const void *entry, const void *key) {
    return stream_key_equal(&((const struct session *)entry)->key, key);
}

struct session *session_find(const struct router_core *core, const struct stream_key *key) {
    return table_find(&core->sessions, stream_key_hash(key), has_key, key);
}

void session_copy_body(struct router_core *core, struct session *s, const struct msg_generate *g) {
    s->request.body = NULL;
    s->request.body_len = g->body_len;
    if (g->body_len == 0) return;
    uint8_t *body = xmalloc(g->body_len);
    memcpy(body, g->body, g->body_len);
    s->request.body = body;
    core->held_bytes += g->body_len;
}

static void copy_request(struct router_core *core, struct session *s, const struct msg_generate *g) {
    s->request = *g;
    session_copy_body(core, s, g);
    if (g->attempt.router == 0) s->request.restore[0] = s->request.store[0] = '\0'; // not for clients to say
    s->request.records = (struct records){0};
    if (!g->has_seed) {
        s->request.has_seed = true;
        uint64_t bits = hash_mix(core->options.seed + ++core->seed_count * UINT64_C(0x9e3779b97f4a7c15));
        s->request.seed = bits >> 1; // so that it can be written as a signed number and given again
    }
    s->log = record_log_create();
    for (uint32_t i = 0; i < g->records.count; i++) {
        struct record r = records_get(&g->records, i);
        record_log_append(s->log, &r);
    }
    core->held_bytes += record_log_bytes(s->log);
    snprintf(s->fingerprint, sizeof s->fingerprint, "%s", g->fingerprint);
    s->asks = generate_asks(&s->request);
}

struct session *session_create(struct router_core *core, const struct msg_generate *g, struct deployment *d, ms_t now) {
    struct session *s = xcalloc(1, sizeof *s);
    s->key = g->key;
    s->due.kind = DUE_SESSION;
    s->state = SESSION_QUEUED;
    s->deployment = d;
    d->sessions++;
    s->arrived_at = now;
    uint32_t deadline_ms = g->deadline_ms ? g->deadline_ms : core->options.deadline_default_ms;
    s->deadline_at = deadline_ms ? now + deadline_ms : MS_NEVER;
    s->give_up_at = s->retry_at = s->watch_at = MS_NEVER;
    copy_request(core, s, g);
    s->attempt = g->attempt;
    if (s->attempt.router == 0) { // a client says only its takeover
        s->attempt.router = core->options.incarnation;
        s->attempt.counter = last_attempt_counter(&core->last_attempts, &s->key);
    }
    list_init(&s->requester_node);
    list_init(&s->placed_node);
    list_init(&s->wait.node);
    stream_tx_init(&s->tx, &s->key, &s->attempt, 0, g->records.count);
    stream_rx_init(&s->rx, &s->key);
    s->rx.bug = core->options.bug == ROUTER_BUG_OFFSET_RULE     ? RX_BUG_OFFSET_RULE
                : core->options.bug == ROUTER_BUG_STALE_ATTEMPT ? RX_BUG_STALE_ATTEMPT
                                                                : RX_BUG_NONE;
    list_append(&core->session_list, &s->node);
    s->hash = stream_key_hash(&s->key);
    table_add(&core->sessions, s->hash, s);
    core->counters.accepted++;
    return s;
}

// --- waiting

struct route_request session_route_request(const struct session *s, ms_t now) {
    return (struct route_request){
        .prompt = s->prompt_expected,
        .decode = s->decode_expected,
        .budget_s = s->deadline_at == MS_NEVER ? DEADLINE_NONE_S : (double)(s->deadline_at - now) / 1000,
        .pin = s->request.pin,
        .pin_elsewhere = s->pin_elsewhere,
        .fingerprint = s->fingerprint,
        .store = s->request.store,
        .n_excluded = s->n_excluded,
        .excluded = s->excluded,
        .replicas_only = s->relayed,
        .apart = s->suspicion.kills > 0 || (s->relayed && s->attempt.counter > 1),
    };
}

static void wait_in(struct router_core *core, struct session *s, struct wait_queue *q, ms_t retry_at) {
    bool urgent = s->request.pin[0] || s->suspicion.deaths + s->refusals > 0 || s->n_excluded > 0 || s->move.open;
    wait_queue_push(q, &s->wait, urgent, s->prompt_expected, s->decode_expected);
    core->queued++;
    core->queued_tokens += s->wait.prompt;
    s->retry_at = retry_at;
    session_arm(core, s);
}

void session_unqueue(struct router_core *core, struct session *s) {
    if (s->wait.queue == NULL) return;
    core->queued--;
    core->queued_tokens -= s->wait.prompt;
    wait_queue_remove(&s->wait);
    s->retry_at = MS_NEVER;
}

// Leaves the queue without having been served.
static void give_up_waiting(struct router_core *core, struct session *s) {
    bool leak = core->options.bug == ROUTER_BUG_QUEUE_RESERVATION && s->wait.queue;
    if (leak) core->queued++, core->queued_tokens += s->wait.prompt;
    session_unqueue(core, s);
}

// The records that there are will be prefilled with the prompt; what is left will be decoded.
static void expect_rest(struct session *s) {
    uint32_t count = record_log_count(s->log);
    s->prompt_expected = s->prompt_whole + count;
    s->decode_expected = s->decode_whole > count ? s->decode_whole - count : 1;
}

void session_enqueue(struct router_core *core, struct session *s, ms_t now) {
    s->state = SESSION_QUEUED;
    expect_rest(s);
    struct error none = {0};
    if (s->request.pin[0] &&
        !intake_pin(core, s->deployment, &s->request, s->n_excluded, s->excluded, &s->pin_elsewhere, &none)) {
        MARK(pin_is_gone);
        session_fail(core, s, &none, 0, now);
        return;
    }
    struct route_request r = session_route_request(s, now);
    struct region_request region = {.route = &r, .stay = s->pool, .book = !s->booked && !s->relayed};
    region.work = region_work(s->prompt_expected, s->decode_expected);
    struct pool *pool = region_choose(s->deployment, &region);
    if (pool) {
        s->booked = true;
        s->pool = pool;
        wait_in(core, s, &pool->queue, pool->spill_after_ms ? now + pool->spill_after_ms : MS_NEVER);
        core_dirty(core, pool);
    } else if (s->relayed) {
        RARE_MARK(relay_has_nowhere);
        error_set(&none, ERR_UNAVAILABLE, "no replica of %s is ready in region %s", s->request.model,
                  core->options.self.region);
        session_fail(core, s, &none, 0, now);
    } else {
        MARK(session_homeless);
        bool pause = s->n_excluded > 0; // everyone refused it: once more, a little later
        if (pause) MARK(everyone_refused);
        if (!s->request.pin[0]) s->n_excluded = 0;
        wait_in(core, s, &s->deployment->homeless, pause ? now + REFUSED_PAUSE_MS : MS_NEVER);
    }
}

// --- placing

uint32_t session_deadline_ms(const struct session *s, ms_t now) {
    ms_t left = s->deadline_at == MS_NEVER ? 0 : s->deadline_at - now;
    return left > UINT32_MAX ? UINT32_MAX : left > 0 ? (uint32_t)left : s->deadline_at != MS_NEVER;
}

static void send_generate(struct router_core *core, struct session *s, ms_t now) {
    struct candidate *c = s->offer->candidate;
    struct msg m = {.kind = MSG_GENERATE, .generate = s->request};
    struct msg_generate *g = &m.generate;
    g->attempt = s->attempt;
    snprintf(g->model, sizeof g->model, "%s", s->deployment->model);
    snprintf(g->deployment, sizeof g->deployment, "%s", s->deployment->name);
    snprintf(g->fingerprint, sizeof g->fingerprint, "%s", s->fingerprint);
    g->hops = s->request.hops + (c->kind == CANDIDATE_PEER);
    g->deadline_ms = session_deadline_ms(s, now);
    g->records = (struct records){.log = s->log, .from = 0, .count = record_log_count(s->log)};
    s->generate_index = ++c->generates_sent;
    list_remove(&s->placed_node);
    list_append(&s->offer->placed, &s->placed_node);
    core_say(core, c->link->id, &m);
}

void session_load(struct session *s, uint32_t prompt, uint32_t decode) {
    struct offer *o = s->offer;
    uint64_t prompt_change = (uint64_t)prompt - s->load_prompt, decode_change = (uint64_t)decode - s->load_decode;
    o->own_prompt += prompt_change; // modulo 2^64: the changes may be negative, the sums are not
    o->own_decode += decode_change;
    o->pool->own_prompt += prompt_change;
    o->pool->own_decode += decode_change;
    s->load_prompt = prompt;
    s->load_decode = decode;
}

// Puts it on an offer, under its present attempt.
static void put(struct router_core *core, struct session *s, struct offer *o, ms_t now) {
    CHECK(s->offer == NULL);
    session_unqueue(core, s);
    core->counters.placements++;
    if (s->placed_before) core->counters.replacements++;
    s->placed_before = true;
    s->placed_at = now;
    s->placed_with = record_log_count(s->log);
    s->state = SESSION_PLACED;
    s->offer = o;
    s->answered = false;
    o->own++;
    stream_rx_bind(&s->rx, &s->attempt, o->candidate->link->id, o->candidate->incarnation);
    snprintf(s->replica, sizeof s->replica, "%s", o->candidate->name);
    s->watch_ms = WATCH_MS;
    s->watch_at = now + WATCH_MS;
}

void session_place(struct router_core *core, struct session *s, struct offer *o, ms_t now) {
    move_check_lease(s, now);
    struct route_request r = session_route_request(s, now);
    bool same = core->options.bug == ROUTER_BUG_ATTEMPT_AGAIN && s->placed_before;
    if (!s->relayed && !same) s->attempt.counter++;
    put(core, s, o, now);
    s->suspicion.unproven = r.apart && o->candidate->kind == CANDIDATE_REPLICA;
    o->candidate->unproven += s->suspicion.unproven;
    session_load(s, s->prompt_expected, s->decode_expected);
    send_generate(core, s, now);
    session_arm(core, s);
}

void session_bind(struct router_core *core, struct session *s, struct offer *o, ms_t now) {
    put(core, s, o, now);
    s->pool = o->pool;
    expect_rest(s);
    session_load(s, 0, s->decode_expected);
    s->generate_index = o->candidate->generates_sent;
    list_append(&o->placed, &s->placed_node);
    session_arm(core, s);
}

void session_ask_again(struct router_core *core, struct session *s, ms_t now) {
    link_id link = s->rx.link;
    if (s->state == SESSION_PLACED) {
        MARK(generate_repeated);
        send_generate(core, s, now);
    } else {
        MARK(sync_repeated);
        struct sync_entry entry = {s->key, s->attempt, record_log_count(s->log)};
        struct msg m = {.kind = MSG_SYNC, .sync = {.n_entries = 1, .entries = &entry}};
        core_say(core, link, &m);
    }
    s->watch_ms = s->watch_ms * 2 < WATCH_MAX_MS ? s->watch_ms * 2 : WATCH_MAX_MS;
    s->watch_at = now + s->watch_ms;
}

void session_unplace(struct router_core *core, struct session *s, bool tell) {
    struct offer *o = s->offer;
    if (o == NULL) return;
    if (tell) {
        struct msg m = {.kind = MSG_CANCEL, .cancel = {s->key, s->attempt}};
        core_say(core, s->rx.link, &m);
    }
    CHECK(o->own > 0);
    session_load(s, 0, 0);
    o->own--;
    o->candidate->unproven -= s->suspicion.unproven;
    s->suspicion.unproven = false;
    list_remove(&s->placed_node);
    stream_rx_unbind(&s->rx);
    s->watch_at = MS_NEVER;
    s->offer = NULL;
    core_dirty(core, o->pool);
}

void session_again(struct router_core *core, struct session *s, const struct error *why, ms_t now) {
    if (s->relayed) {
        MARK(relay_reports_failure);
        session_fail(core, s, why, 0, now);
    } else {
        MARK(next_attempt);
        session_enqueue(core, s, now);
    }
}

void session_convict(struct router_core *core, struct session *s, ms_t now) {
    struct error why = {0};
    MARK(request_convicted);
    core->counters.poisoned++;
    error_set(&why, ERR_POISON_REQUEST, "the request was refused because %u workers died while serving it",
              s->suspicion.deaths);
    session_fail(core, s, &why, 0, now);
}

// A worker whose connection alone was lost turns up again soon, and acquits it.
static void adjourn(struct router_core *core, struct session *s, ms_t now) {
    MARK(verdict_adjourned);
    s->state = SESSION_QUEUED;
    wait_in(core, s, &core->adjourned, now + core->options.timers.dead_ms);
}

void session_bereaved(struct router_core *core, struct session *s, ms_t now) {
    session_unplace(core, s, false);
    if (suspicion_convicts(s)) {
        adjourn(core, s, now);
        return;
    }
    struct error why = {0};
    error_set(&why, ERR_WORKER_LOST, "the connection to %s, which served the request, was lost", s->replica);
    session_again(core, s, &why, now);
}

// --- ending

static void leave(struct router_core *core, struct session *s, bool tell) {
    hunt_end(core, s);
    move_settle(core, s, false);
    give_up_waiting(core, s);
    session_unplace(core, s, tell);
    s->state = SESSION_ENDED;
    s->deadline_at = MS_NEVER;
}

void session_fail(struct router_core *core, struct session *s, const struct error *why, uint32_t retry_after_ms, ms_t now) {
    leave(core, s, true);
    core->counters.failed++;
    s->failed = true;
    struct msg m = {.kind = MSG_REJECTED};
    m.rejected = (struct msg_rejected){.key = s->key, .attempt = s->attempt, .error = *why};
    m.rejected.retry_after_ms = retry_after_ms;
    m.rejected.kills = s->relayed ? s->suspicion.kills : 0;
    snprintf(m.rejected.replica, sizeof m.rejected.replica, "%s", s->replica);
    s->rejected = m.rejected;
    if (s->local) {
        session_arm(core, s);
        core_emit(core, s, SESSION_FAILED);
        return;
    }
    if (s->requester) core_say(core, s->requester->id, &m);
    session_end(core, s, now);
}

// It has ended and nobody reads it: for clients that may ask for it again. s may be gone afterwards.
static void keep_for_a_while(struct router_core *core, struct session *s, ms_t now) {
    if (core->draining) {
        session_end(core, s, now);
        return;
    }
    MARK(ended_session_kept);
    list_append(&core->kept, &s->requester_node);
    s->kept = true;
    if (++core->n_kept > KEPT_MAX) session_end(core, LIST_ENTRY(core->kept.next, struct session, requester_node), now);
}

void session_complete(struct router_core *core, struct session *s, const struct msg_done *done, ms_t now) {
    struct pool *pool = s->offer->pool;
    uint32_t count = record_log_count(s->log);
    leave(core, s, false);
    if (done->finish == FINISH_ERROR)
        core->counters.failed++;
    else
        core->counters.completed++;
    s->done = *done;
    s->done.tail = NULL;
    if (done->tail_len) {
        char *tail = xmalloc(done->tail_len);
        memcpy(tail, done->tail, done->tail_len);
        s->done.tail = tail;
    }
    bool natural = done->finish <= FINISH_TOOL_CALLS;
    if (natural) output_length_learn(&s->deployment->lengths, s->request.max_tokens, count);
    if (natural && s->foreseen_s > 0 && s->suspicion.deaths + s->refusals == 0) {
        admission_learn(pool, s->foreseen_s, (double)(now - s->arrived_at) / 1000);
    }
    if (s->local) {
        core_emit(core, s, SESSION_DONE);
    } else {
        stream_tx_finish(&s->tx, &s->done);
        stream_tx_pump(&s->tx, s->log, &core->wire, now);
        if (s->give_up_at == MS_NEVER) s->give_up_at = now + UNACKED_MS;
    }
    session_arm(core, s);
    if (!s->local && s->requester == NULL && !s->relayed && s->request.keep) keep_for_a_while(core, s, now);
}

void session_cancel(struct router_core *core, struct session *s, ms_t now) {
    if (s->state == SESSION_ENDED) { // its Done is under way
        MARK(cancel_after_done);
        return;
    }
    leave(core, s, true);
    core->counters.cancelled++;
    s->done = (struct msg_done){.n_tokens = record_log_count(s->log), .finish = FINISH_CANCELLED};
    s->done.usage.prompt_tokens = s->prompt_tokens;
    s->done.usage.completion_tokens = s->done.n_tokens;
    snprintf(s->done.replica, sizeof s->done.replica, "%s", s->replica);
    if (!s->accepted) s->tx.attempt = s->attempt;
    stream_tx_finish(&s->tx, &s->done);
    stream_tx_pump(&s->tx, s->log, &core->wire, now);
    s->give_up_at = now + UNACKED_MS;
    session_arm(core, s);
}

void session_abandon(struct router_core *core, struct session *s, ms_t now) {
    MARK(session_abandoned);
    s->local = false;
    s->user = NULL;
    session_park(core, s, now);
    if (s->state != SESSION_ENDED) return;
    if (!s->tx.finished) stream_tx_finish(&s->tx, &s->done);
    keep_for_a_while(core, s, now);
}

void session_part(struct router_core *core, struct session *s) {
    list_remove(&s->requester_node);
    core->n_kept -= s->kept;
    s->kept = false;
}

void session_end(struct router_core *core, struct session *s, ms_t now) {
    if (s->state != SESSION_ENDED) core->counters.cancelled++;
    leave(core, s, true);
    bool again = !s->local || s->request.keep || s->attempt.takeover > 0; // its client may ask for it again
    if (again && !s->relayed && s->placed_before) {
        last_attempt_note(&core->last_attempts, &s->key, s->attempt.counter, now);
    }
    due_set(&core->due, &s->due, MS_NEVER);
    session_part(core, s);
    list_remove(&s->node);
    table_remove(&core->sessions, s->hash, s);
    s->deployment->sessions--;
    core->held_bytes -= s->request.body_len + record_log_bytes(s->log);
    record_log_destroy(s->log);
    free((void *)s->request.body);
    free((void *)s->done.tail);
    free(s);
}
