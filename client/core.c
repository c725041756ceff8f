#include "client/core.h"

#include "common/base/check.h"

#include <stdio.h>
#include <stdlib.h>

static link_id link_of(int router) { return (link_id)router + 1; }

static void say(struct client_core *core, int router, const struct msg *m, ms_t now) {
    link_health_said(&core->routers[router].health, now);
    core->sink.send(core->sink.ctx, link_of(router), m);
}

// Clients may be quieter than others, and routers are quieter towards them.
static struct link_timers timers_of(const struct client_core *core, const struct core_router *r) {
    uint32_t beat = r->heartbeat_ms ? r->heartbeat_ms : 100;
    uint32_t silence = core->options.silence_ms > beat * 6 ? core->options.silence_ms : beat * 6;
    return (struct link_timers){.heartbeat_ms = beat * 5, .suspect_ms = silence / 2, .dead_ms = silence};
}

// ---- calls

void call_init(struct call *c, const struct msg_generate *request, ms_t deadline_at) {
    *c = (struct call){.request = *request, .log = record_log_create(), .router = -1, .deadline_at = deadline_at};
    stream_rx_init(&c->rx, &request->key);
}

void call_fini(struct call *c) {
    record_log_destroy(c->log);
    free((void *)c->done.tail);
    *c = (struct call){0};
}

struct call *core_find(struct client_core *core, const struct stream_key *key) {
    for (struct call *c = core->calls; c; c = c->next)
        if (stream_key_equal(&c->request.key, key)) return c;
    return NULL;
}

static void unplace(struct client_core *core, struct call *c) {
    if (c->state == CALL_PLACED) core->routers[c->router].calls--;
    stream_rx_unbind(&c->rx);
}

static void wait_again(struct client_core *core, struct call *c, ms_t same_router_until, ms_t now) {
    unplace(core, c);
    c->state = CALL_WAITING;
    c->waiting_since = now;
    c->same_router_until = same_router_until;
}

static void end(struct client_core *core, struct call *c) {
    unplace(core, c);
    c->state = CALL_ENDED;
    for (struct call **p = &core->calls; *p; p = &(*p)->next) {
        if (*p != c) continue;
        *p = c->next;
        core->n_calls--;
        break;
    }
    core->changed(core->ctx, c);
}

static void fail(struct client_core *core, struct call *c, const struct error *why) {
    c->failure = *why;
    if (c->failure.text[0] == '\0') snprintf(c->failure.text, sizeof c->failure.text, "%s", error_text(why));
    end(core, c);
}

static void tell_cancel(struct client_core *core, int router, const struct stream_key *key, const struct attempt *attempt,
                        ms_t now) {
    struct msg m = {.kind = MSG_CANCEL, .cancel = {.key = *key, .attempt = *attempt}};
    say(core, router, &m, now);
}

void core_cancel(struct client_core *core, struct call *c, const struct error *why, ms_t now) {
    if (c->state == CALL_PLACED) tell_cancel(core, c->router, &c->request.key, &c->rx.attempt, now);
    fail(core, c, why);
}

void core_begin(struct client_core *core, struct call *c, ms_t now) {
    c->state = CALL_WAITING;
    c->waiting_since = c->same_router_until = now;
    c->next = core->calls;
    core->calls = c;
    core->n_calls++;
}

// ---- placing

static bool usable(const struct client_core *core, int i, ms_t now) {
    const struct core_router *r = &core->routers[i];
    struct link_timers t = timers_of(core, r);
    return r->open && r->greeted && now >= r->avoid_until && link_health_state(&r->health, &t, now) == LINK_UP;
}

// The usable router with the fewest calls; turns around so that equals share. -1: none.
static int choose(struct client_core *core, const struct call *c, ms_t now) {
    int best = -1;
    uint32_t n = core->options.n_routers;
    for (uint32_t k = 0; k < n; k++) {
        int i = (int)((core->next_router + k) % n);
        if (c->refused & 1u << i || !usable(core, i, now)) continue;
        if (best < 0 || core->routers[i].calls < core->routers[best].calls) best = i;
    }
    if (best >= 0) core->next_router = (uint32_t)best + 1;
    return best;
}

static void bind_to(struct client_core *core, struct call *c, int router, const struct attempt *attempt, ms_t now) {
    struct core_router *r = &core->routers[router];
    c->state = CALL_PLACED;
    c->router = router;
    c->placed_on = r->incarnation;
    c->watch_at = now + CORE_WATCH_MS;
    c->unanswered = 0;
    snprintf(c->router_name, sizeof c->router_name, "%s", r->name);
    r->calls++;
    stream_rx_bind(&c->rx, attempt, link_of(router), r->incarnation);
}

static void send_generate(struct client_core *core, struct call *c, int router, ms_t now) {
    if (c->placed_on != 0 && c->placed_on != core->routers[router].incarnation) {
        c->moves++;
        if (c->router != router) c->left |= 1u << c->router;
    }
    c->left &= ~(1u << router);
    c->placements++;
    struct attempt earliest = {.takeover = c->moves}; // what is under way of an earlier one began at other records
    bind_to(core, c, router, &earliest, now);
    struct msg m = {.kind = MSG_GENERATE, .generate = c->request};
    m.generate.attempt.takeover = c->moves;
    if (c->deadline_at != MS_NEVER) m.generate.deadline_ms = c->deadline_at > now ? (uint32_t)(c->deadline_at - now) : 1;
    m.generate.records = (struct records){.log = c->log, .count = record_log_count(c->log)};
    if (m.generate.records.count > 0) memcpy(m.generate.fingerprint, c->fingerprint, FINGERPRINT_SIZE);
    say(core, router, &m, now);
}

static void send_sync(struct client_core *core, struct call *c, ms_t now) {
    struct sync_entry entry = {.key = c->request.key, .attempt = c->rx.attempt, .next = record_log_count(c->log)};
    struct msg m = {.kind = MSG_SYNC, .sync = {.n_entries = 1, .entries = &entry}};
    c->watch_at = now + CORE_WATCH_MS;
    c->sync_at = now;
    say(core, c->router, &m, now);
}

static void give_up_waiting(struct client_core *core, struct call *c, ms_t now) {
    struct error why;
    error_set(&why, ERR_UNAVAILABLE, "no router answered within %lld ms (%s)", (long long)(now - c->waiting_since),
              core->options.routers_text);
    fail(core, c, &why);
}

// A waiting call, at any time: places it, gives it up, or leaves it.
static void try_place(struct client_core *core, struct call *c, ms_t now) {
    if (now < c->same_router_until) return;
    if (c->placements >= CORE_PLACEMENTS_MAX) {
        struct error why;
        error_set(&why, ERR_UNAVAILABLE, "the request was placed %d times without a result", CORE_PLACEMENTS_MAX);
        fail(core, c, &why);
        return;
    }
    int router = choose(core, c, now);
    if (router >= 0) {
        send_generate(core, c, router, now);
    } else if (now - c->waiting_since >= core->options.connect_ms) {
        give_up_waiting(core, c, now);
    }
}

// ---- links

static void say_hello(struct client_core *core, int router, bool reply_wanted, ms_t now) {
    struct msg m = {.kind = MSG_HELLO};
    m.hello = (struct msg_hello){.protocol_min = PROTOCOL_OLDEST,
                                 .protocol_max = PROTOCOL_VERSION,
                                 .role = ROLE_CLIENT,
                                 .incarnation = core->options.incarnation,
                                 .pid = core->options.pid,
                                 .reply_wanted = reply_wanted};
    snprintf(m.hello.name, sizeof m.hello.name, "%s", core->options.name);
    say(core, router, &m, now);
}

void core_link_opened(struct client_core *core, int router, ms_t now) {
    struct core_router *r = &core->routers[router];
    CHECK(!r->open);
    r->open = true;
    r->greeted = r->dead = false;
    r->queries = r->clusters = 0;
    link_health_init(&r->health, now);
    say_hello(core, router, true, now);
}

static void lose_link(struct client_core *core, int router, ms_t same_router_until, ms_t now) {
    struct core_router *r = &core->routers[router];
    if (!r->open) return;
    r->open = r->greeted = false;
    for (struct call *c = core->calls; c; c = c->next)
        if (c->state == CALL_PLACED && c->router == router) wait_again(core, c, same_router_until, now);
}

void core_link_closed(struct client_core *core, int router, ms_t now) {
    lose_link(core, router, now + CORE_SAME_ROUTER_MS, now);
}

// A router is back that had a call which went elsewhere meanwhile: taken up again, so that it may be cancelled.
static void leave_for_good(struct client_core *core, struct call *c, int router, ms_t now) {
    static const struct attempt none;
    struct sync_entry entry = {.key = c->request.key, .next = record_log_count(c->log)};
    struct msg m = {.kind = MSG_SYNC, .sync = {.n_entries = 1, .entries = &entry}};
    say(core, router, &m, now);
    tell_cancel(core, router, &c->request.key, &none, now);
    c->left &= ~(1u << router);
}

static void on_hello(struct client_core *core, int router, const struct msg_hello *m, ms_t now) {
    struct core_router *r = &core->routers[router];
    bool restarted = r->incarnation != m->incarnation;
    r->incarnation = m->incarnation;
    r->heartbeat_ms = m->heartbeat_ms;
    r->greeted = true;
    snprintf(r->name, sizeof r->name, "%s", m->name);
    snprintf(r->region, sizeof r->region, "%s", m->region);
    for (struct call *c = core->calls; c; c = c->next) {
        if (c->left & 1u << router) leave_for_good(core, c, router, now);
        if (c->router != router || c->placed_on == 0) continue;
        c->unanswered = 0; // it hears us
        if (restarted && c->placed_on != m->incarnation) {
            if (c->state == CALL_PLACED) wait_again(core, c, now, now);
            c->same_router_until = now; // it knows nothing of us: Generate
        } else if (c->state == CALL_WAITING && now < c->same_router_until) {
            struct attempt attempt = c->rx.attempt;
            bind_to(core, c, router, &attempt, now);
            send_sync(core, c, now);
        }
    }
    if (m->reply_wanted) say_hello(core, router, false, now);
}

// ---- what a router says of a call

// NULL when this router is not the one that serves it now.
static struct call *placed_on(struct client_core *core, int router, const struct stream_key *key) {
    struct call *c = core_find(core, key);
    bool ours = c && c->state == CALL_PLACED && c->router == router && c->placed_on == core->routers[router].incarnation;
    return ours ? c : NULL;
}

// Follows the router to a later attempt; false: the message is of an earlier one.
static bool follow(struct client_core *core, struct call *c, const struct attempt *attempt, ms_t now) {
    c->watch_at = now + CORE_WATCH_MS;
    c->unanswered = 0;
    int order = attempt_compare(attempt, &c->rx.attempt);
    if (order < 0) {
        core->stale++;
        return false;
    }
    c->rx.attempt = *attempt;
    if (!attempt_is_none(attempt) && !attempt_equal(attempt, &c->seen)) {
        c->seen = *attempt;
        c->attempts++;
    }
    return true;
}

static void on_accepted(struct client_core *core, struct call *c, const struct msg_accepted *m, ms_t now) {
    uint32_t before = c->attempts;
    if (!follow(core, c, &m->attempt, now)) return;
    bool again = c->accepted > 0 && c->attempts == before && strcmp(c->replica, m->replica) == 0;
    if (m->replica[0]) memcpy(c->replica, m->replica, sizeof c->replica);
    c->prompt_tokens = m->prompt_tokens;
    c->max_tokens = m->max_tokens;
    if (record_log_count(c->log) == 0) memcpy(c->fingerprint, m->fingerprint, FINGERPRINT_SIZE);
    if (again) return;
    c->accepted++;
    core->changed(core->ctx, c);
}

static void on_tokens(struct client_core *core, int router, const struct msg_tokens *m, ms_t now) {
    struct call *c = placed_on(core, router, &m->key);
    if (c == NULL) {
        tell_cancel(core, router, &m->key, &m->attempt, now);
        core->stale++;
        return;
    }
    if (!follow(core, c, &m->attempt, now)) return;
    if (c->accepted == 0) { // nobody could go on behind records of an unknown fingerprint: its router says Accepted again
        if (now - c->sync_at >= RX_RESEND_MS) send_sync(core, c, now);
        return;
    }
    if (stream_rx_on_tokens(&c->rx, c->placed_on, m, c->log, &core->sink, now) != RX_EXTENDED) return;
    c->placements = 0;
    c->refused = 0;
    core->changed(core->ctx, c);
}

static void complete(struct client_core *core, struct call *c, const struct msg_done *m) {
    if (m->replica[0]) memcpy(c->replica, m->replica, sizeof c->replica);
    if (m->finish == FINISH_ERROR) {
        fail(core, c, &m->error);
        return;
    }
    c->complete = true;
    c->done = *m;
    char *tail = xmalloc(m->tail_len + 1);
    if (m->tail_len > 0) memcpy(tail, m->tail, m->tail_len);
    tail[m->tail_len] = '\0';
    c->done.tail = tail;
    end(core, c);
}

static void on_done(struct client_core *core, int router, const struct msg_done *m, ms_t now) {
    struct call *c = placed_on(core, router, &m->key);
    if (c == NULL) { // long forgotten: let the router forget it too
        struct msg ack = {.kind = MSG_ACK};
        ack.ack = (struct msg_ack){.key = m->key, .attempt = m->attempt, .next = m->n_tokens, .done = true};
        say(core, router, &ack, now);
        return;
    }
    if (!follow(core, c, &m->attempt, now)) return;
    enum rx_result result = stream_rx_on_done(&c->rx, c->placed_on, m, c->log, &core->sink, now);
    if (result == RX_DONE) complete(core, c, m);
    if (result == RX_INVALID) {
        struct error why;
        error_set(&why, ERR_PROTOCOL, "the router ended the answer at %u tokens after it had sent %u", m->n_tokens,
                  record_log_count(c->log));
        fail(core, c, &why);
    }
}

// What one router says of itself alone; the others may see more of the cluster.
static bool others_may(err_id id) { return id == ERR_UNAVAILABLE || id == ERR_MODEL_NOT_FOUND; }

static void on_rejected(struct client_core *core, struct call *c, const struct msg_rejected *m, ms_t now) {
    if (m->error.id == ERR_DRAINING && core->options.n_routers > 1) {
        core->routers[c->router].avoid_until = now + CORE_AVOID_MS;
        wait_again(core, c, now, now);
        return;
    }
    c->refused |= 1u << c->router;
    if (others_may(m->error.id) && choose(core, c, now) >= 0) {
        wait_again(core, c, now, now);
        return;
    }
    if (m->replica[0]) memcpy(c->replica, m->replica, sizeof c->replica);
    c->retry_after_ms = m->retry_after_ms;
    fail(core, c, &m->error);
}

static void on_superseded(struct client_core *core, struct call *c) {
    struct error why;
    error_set(&why, ERR_SUPERSEDED, "the answer was taken over by another client");
    fail(core, c, &why);
}

// Is this an answer to what was said before the call began anew? Such a one may come late, or twice.
static bool from_before(const struct call *c, const struct attempt *attempt) { return attempt->takeover < c->moves; }

void core_message(struct client_core *core, int router, const struct msg *m, ms_t now) {
    struct core_router *r = &core->routers[router];
    if (!r->open) return;
    link_health_heard(&r->health, now);
    struct call *c = NULL;
    switch (m->kind) {
    case MSG_HELLO:
        on_hello(core, router, &m->hello, now);
        break;
    case MSG_STATUS:
        break;
    case MSG_TOKENS:
        on_tokens(core, router, &m->tokens, now);
        break;
    case MSG_DONE:
        on_done(core, router, &m->done, now);
        break;
    case MSG_ACCEPTED:
        if ((c = placed_on(core, router, &m->accepted.key))) on_accepted(core, c, &m->accepted, now);
        break;
    case MSG_REJECTED:
        if ((c = placed_on(core, router, &m->rejected.key))) on_rejected(core, c, &m->rejected, now);
        break;
    case MSG_UNKNOWN:
        if ((c = placed_on(core, router, &m->unknown.key)) && !from_before(c, &m->unknown.attempt)) {
            c->moves++; // it starts anew there, and must not take up what became of its earlier attempts
            wait_again(core, c, now, now);
        }
        break;
    case MSG_SUPERSEDED:
        c = placed_on(core, router, &m->superseded.key);
        if (c && !from_before(c, &m->superseded.attempt)) on_superseded(core, c);
        break;
    case MSG_CLUSTER:
        r->clusters++;
        core->cluster(core->ctx, router, &m->cluster);
        break;
    default:
        core->protocol_errors++;
    }
}

void core_notice(struct client_core *core, int router, const struct msg_notice *notice, ms_t now) {
    struct msg m = {.kind = MSG_NOTICE, .notice = *notice};
    say(core, router, &m, now);
}

void core_query(struct client_core *core, int router, ms_t now) {
    struct msg m = {.kind = MSG_QUERY};
    core->routers[router].queries++;
    say(core, router, &m, now);
}

// ---- time

static ms_t earlier(ms_t a, ms_t b) { return a < b ? a : b; }

// Its router has said nothing of this call for a while, whatever else it says. The call may just be queued there, but a
// router that doesn't even answer Hello doesn't hear us.
static void watch(struct client_core *core, struct call *c, ms_t now) {
    if (c->unanswered++ < CORE_UNANSWERED_MAX) {
        say_hello(core, c->router, true, now);
        send_sync(core, c, now);
        return;
    }
    if (core->options.n_routers > 1) core->routers[c->router].avoid_until = now + CORE_DEAF_MS;
    wait_again(core, c, now, now);
}

static ms_t tick_call(struct client_core *core, struct call *c, ms_t now) {
    if (c->deadline_at <= now) {
        struct error why;
        error_set(&why, ERR_DEADLINE, "the call's deadline passed with %u tokens received", record_log_count(c->log));
        core_cancel(core, c, &why, now);
        return MS_NEVER;
    }
    if (c->state == CALL_WAITING) try_place(core, c, now);
    if (c->state == CALL_WAITING)
        return earlier(c->deadline_at, earlier(now + 100, c->waiting_since + core->options.connect_ms));
    if (c->state == CALL_ENDED) return MS_NEVER;
    if (c->watch_at <= now) watch(core, c, now);
    if (c->state != CALL_PLACED) return now + 1;
    ms_t next = stream_rx_tick(&c->rx, c->log, &core->sink, now);
    return earlier(earlier(next, c->watch_at), c->deadline_at);
}

static ms_t tick_router(struct client_core *core, int router, ms_t now) {
    struct core_router *r = &core->routers[router];
    if (!r->open) return MS_NEVER;
    struct link_timers t = timers_of(core, r);
    if (link_health_state(&r->health, &t, now) == LINK_DEAD) {
        r->dead = true;
        lose_link(core, router, now, now); // has been waited for long enough
        return MS_NEVER;
    }
    if (r->health.said_at + t.heartbeat_ms <= now) {
        struct msg m = {.kind = MSG_STATUS};
        if (r->greeted)
            say(core, router, &m, now);
        else
            say_hello(core, router, true, now);
    }
    ms_t next = link_health_next(&r->health, &t, now);
    return next > now ? next : now + 1;
}

ms_t core_tick(struct client_core *core, ms_t now) {
    ms_t next = now + 1000;
    for (int i = 0; i < (int)core->options.n_routers; i++) next = earlier(next, tick_router(core, i, now));
    for (struct call *c = core->calls, *after; c; c = after) {
        after = c->next;
        next = earlier(next, tick_call(core, c, now));
    }
    return next;
}
