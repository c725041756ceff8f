#include "tests/sim/client_node.h"

#include "common/base/check.h"
#include "common/base/mark.h"
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

enum { SAME_ROUTER_MS = 300, WATCH_MS = 3000, AVOID_MS = 2000, CANCEL_AGAIN_MS = 1000, UNANSWERED_MAX = 3, DEAF_MS = 20000 };

static void say(struct client_node *n, uint32_t router, const struct msg *m) {
    struct client_router *r = &n->routers[router];
    if (r->link == 0) return;
    link_health_said(&r->health, node_ms(&n->node));
    struct sink s = node_sink(&n->node);
    s.send(s.ctx, r->link, m);
}

static uint32_t router_of(const struct client_node *n, link_id link) {
    uint32_t i = 0;
    while (i < n->node.n_diallers && n->routers[i].link != link) i++;
    return i;
}

// --- streams

static void stream_free(struct client_stream *s) {
    record_log_destroy(s->log);
    free(s);
}

static void forget(struct client_node *n, struct client_stream *s) {
    for (uint32_t i = 0; i < n->n_streams; i++) {
        if (n->streams[i] != s) continue;
        n->streams[i] = n->streams[--n->n_streams];
        break;
    }
    stream_free(s);
}

static struct client_stream *find(const struct client_node *n, const struct stream_key *key) {
    for (uint32_t i = 0; i < n->n_streams; i++) {
        if (stream_key_equal(&n->streams[i]->request->key, key)) return n->streams[i];
    }
    return NULL;
}

// The stream, if this router is the one that serves it.
static struct client_stream *placed(const struct client_node *n, uint32_t router, const struct stream_key *key) {
    struct client_stream *s = find(n, key);
    return s && s->placed && s->router == router && s->placed_on == n->routers[router].incarnation ? s : NULL;
}

static void tell_cancel(struct client_node *n, uint32_t router, const struct stream_key *key,
                        const struct attempt *attempt) {
    struct msg m = {.kind = MSG_CANCEL, .cancel = {*key, *attempt}};
    say(n, router, &m);
}

static void unplace(struct client_stream *s, ms_t same_until) {
    s->placed = false;
    s->same_until = same_until;
    stream_rx_unbind(&s->rx);
}

static void bind_to(struct client_node *n, struct client_stream *s, uint32_t router, const struct attempt *attempt) {
    struct client_router *r = &n->routers[router];
    s->placed = true;
    s->router = router;
    s->placed_on = r->incarnation;
    s->unanswered = 0;
    s->watch_at = node_ms(&n->node) + WATCH_MS;
    stream_rx_bind(&s->rx, attempt, r->link, r->incarnation);
}

static void send_generate(struct client_node *n, struct client_stream *s, uint32_t router) {
    const struct request *r = s->request;
    ms_t now = node_ms(&n->node);
    if (s->placed_on && s->placed_on != n->routers[router].incarnation) s->moves++;
    struct attempt earliest = {.takeover = s->moves};
    bind_to(n, s, router, &earliest);
    uint8_t body[BODY_BYTES + 255];
    struct msg m = {.kind = MSG_GENERATE};
    struct msg_generate *g = &m.generate;
    *g = (struct msg_generate){.key = r->key,
                               .has_seed = r->has_seed,
                               .seed = r->seed,
                               .max_tokens = r->max_tokens,
                               .prompt_bytes = r->prompt_tokens * 4,
                               .keep = r->keep,
                               .priority = request_priority(r),
                               .body = body};
    g->attempt.takeover = s->moves;
    g->body_len = request_body(r, body);
    g->records = (struct records){.log = s->log, .count = record_log_count(s->log)};
    if (s->deadline_at != MS_NEVER) g->deadline_ms = s->deadline_at > now ? (uint32_t)(s->deadline_at - now) : 1;
    request_model(r, g->model);
    memcpy(g->pin, r->pin, NAME_SIZE);
    if (g->records.count) memcpy(g->fingerprint, s->fingerprint, FINGERPRINT_SIZE);
    snprintf(g->tenant, NAME_SIZE, "tenant-%u", r->tenant);
    say(n, router, &m);
}

static void send_sync(struct client_node *n, struct client_stream *s) {
    struct sync_entry entry = {s->request->key, s->rx.attempt, record_log_count(s->log)};
    struct msg m = {.kind = MSG_SYNC, .sync = {1, &entry}};
    s->watch_at = node_ms(&n->node) + WATCH_MS;
    s->sync_at = node_ms(&n->node);
    say(n, s->router, &m);
}

static bool usable(const struct client_node *n, uint32_t router, ms_t now) {
    const struct client_router *r = &n->routers[router];
    return r->link && r->greeted && now >= r->avoid_until;
}

static void try_place(struct client_node *n, struct client_stream *s, ms_t now) {
    if (now < s->same_until) return;
    for (uint32_t k = 0; k < n->node.n_diallers; k++) {
        uint32_t router = n->turn++ % n->node.n_diallers;
        if (!usable(n, router, now)) continue;
        send_generate(n, s, router);
        return;
    }
}

// --- what routers say

static void say_hello(struct client_node *n, uint32_t router, bool reply_wanted) {
    struct msg m = {.kind = MSG_HELLO};
    m.hello = (struct msg_hello){.protocol_min = PROTOCOL_OLDEST,
                                 .protocol_max = PROTOCOL_VERSION,
                                 .role = ROLE_CLIENT,
                                 .incarnation = n->node.incarnation,
                                 .reply_wanted = reply_wanted};
    memcpy(m.hello.name, n->node.name, NAME_SIZE);
    say(n, router, &m);
}

static void on_hello(struct client_node *n, uint32_t router, const struct msg_hello *m) {
    struct client_router *r = &n->routers[router];
    bool restarted = r->incarnation != m->incarnation;
    r->incarnation = m->incarnation;
    r->greeted = true;
    for (uint32_t i = 0; i < n->n_streams; i++) {
        struct client_stream *s = n->streams[i];
        if (s->placed_on == 0 || s->router != router) continue;
        s->unanswered = 0; // it hears us
        if (restarted && s->placed_on != m->incarnation) {
            if (s->placed) unplace(s, 0);
            s->same_until = 0;
        } else if (!s->placed && node_ms(&n->node) < s->same_until) {
            struct attempt attempt = s->rx.attempt;
            bind_to(n, s, router, &attempt);
            send_sync(n, s);
        }
    }
    if (m->reply_wanted) say_hello(n, router, false);
}

// Follows to a later attempt; false: an earlier one.
static bool follow(struct client_node *n, struct client_stream *s, const struct attempt *attempt) {
    s->watch_at = node_ms(&n->node) + WATCH_MS;
    s->unanswered = 0;
    if (attempt_compare(attempt, &s->rx.attempt) < 0) return false;
    s->rx.attempt = *attempt;
    return true;
}

static void on_tokens(struct client_node *n, uint32_t router, const struct msg_tokens *m) {
    struct world *w = n->node.world;
    struct client_stream *s = placed(n, router, &m->key);
    if (s == NULL) {
        tell_cancel(n, router, &m->key, &m->attempt);
        return;
    }
    if (!follow(n, s, &m->attempt)) return;
    if (s->fingerprint[0] == '\0') { // nobody could go on behind records of an unknown fingerprint: asks for Accepted
        MARK(client_waits_for_accepted);
        if (node_ms(&n->node) - s->sync_at >= RX_RESEND_MS) send_sync(n, s);
        return;
    }
    struct sink sink = node_sink(&n->node);
    uint32_t before = record_log_count(s->log);
    if (stream_rx_on_tokens(&s->rx, s->placed_on, m, s->log, &sink, node_ms(&n->node)) != RX_EXTENDED) return;
    for (uint32_t i = before; i < record_log_count(s->log); i++) {
        struct record r = record_log_get(s->log, i);
        oracle_got(w->oracle, s->request, i, &r, &s->rx.attempt, NULL);
    }
}

static void on_done(struct client_node *n, uint32_t router, const struct msg_done *m) {
    struct client_stream *s = placed(n, router, &m->key);
    if (s == NULL) { // long forgotten: let the router forget it too
        struct msg ack = {.kind = MSG_ACK, .ack = {m->key, m->attempt, m->n_tokens, true}};
        say(n, router, &ack);
        return;
    }
    if (!follow(n, s, &m->attempt)) return;
    struct sink sink = node_sink(&n->node);
    enum rx_result result = stream_rx_on_done(&s->rx, s->placed_on, m, s->log, &sink, node_ms(&n->node));
    if (result == RX_INVALID)
        world_fail(n->node.world, "request %u: Done says %u tokens, %u were got", s->request->number, m->n_tokens,
                   record_log_count(s->log));
    if (result != RX_DONE) return;
    oracle_done(n->node.world->oracle, s->request, m);
    forget(n, s);
}

static void on_rejected(struct client_node *n, uint32_t router, struct client_stream *s, const struct msg_rejected *m) {
    if (m->error.id == ERR_DRAINING && n->node.n_diallers > 1) {
        n->routers[router].avoid_until = node_ms(&n->node) + AVOID_MS;
        unplace(s, 0);
        return;
    }
    oracle_failed(n->node.world->oracle, s->request, &m->error);
    forget(n, s);
}

static void on_accepted(struct client_node *n, struct client_stream *s, const struct msg_accepted *m) {
    const struct request *r = s->request;
    struct world *w = n->node.world;
    uint32_t room = params_context(&w->p) - r->prompt_tokens, most = r->tokens_max < room ? r->tokens_max : room;
    if (record_log_count(s->log) == 0) memcpy(s->fingerprint, m->fingerprint, FINGERPRINT_SIZE);
    if (m->prompt_tokens == 0) return; // the worker's own was lost on the way
    if (m->prompt_tokens != r->prompt_tokens || m->max_tokens != most)
        world_fail(w, "request %u was accepted with %u and at most %u tokens, it has %u and %u", r->number, m->prompt_tokens,
                   m->max_tokens, r->prompt_tokens, most);
}

static void message(struct node *node, link_id link, const struct msg *m) {
    struct client_node *n = (struct client_node *)node;
    uint32_t router = router_of(n, link);
    if (router == n->node.n_diallers) return;
    link_health_heard(&n->routers[router].health, node_ms(node));
    struct client_stream *s = NULL;
    switch (m->kind) {
    case MSG_HELLO:
        on_hello(n, router, &m->hello);
        break;
    case MSG_TOKENS:
        on_tokens(n, router, &m->tokens);
        break;
    case MSG_DONE:
        on_done(n, router, &m->done);
        break;
    case MSG_ACCEPTED:
        if ((s = placed(n, router, &m->accepted.key)) && follow(n, s, &m->accepted.attempt)) on_accepted(n, s, &m->accepted);
        break;
    case MSG_REJECTED:
        if ((s = placed(n, router, &m->rejected.key))) on_rejected(n, router, s, &m->rejected);
        break;
    case MSG_UNKNOWN:
        if ((s = placed(n, router, &m->unknown.key)) && m->unknown.attempt.takeover >= s->moves) {
            s->moves++; // it starts anew there, and must not take up what became of its earlier attempts
            unplace(s, 0);
        }
        break;
    case MSG_SUPERSEDED:
        s = placed(n, router, &m->superseded.key);
        if (s && m->superseded.attempt.takeover >= s->moves) // else an answer to what it said before it began anew
            world_fail(node->world, "request %u was superseded, but nobody else asks for it", s->request->number);
        break;
    case MSG_STATUS:
    case MSG_CLUSTER:
        break;
    default:
        world_fail(node->world, "a client was sent a message of kind %s", msg_kind_name(m->kind));
    }
}

static void opened(struct node *node, link_id link, bool dialled) {
    struct client_node *n = (struct client_node *)node;
    for (uint32_t i = 0; i < node->n_diallers; i++) {
        struct conn *c = node->diallers[i].conn;
        if (c == NULL || c->link[END_DIALLER] != link) continue;
        n->routers[i].link = link;
        n->routers[i].greeted = n->routers[i].dead = false;
        link_health_init(&n->routers[i].health, node_ms(node));
        say_hello(n, i, true);
    }
}

static void lost(struct client_node *n, uint32_t router) {
    n->routers[router].link = 0;
    n->routers[router].greeted = false;
    for (uint32_t i = 0; i < n->n_streams; i++) {
        struct client_stream *s = n->streams[i];
        if (s->placed && s->router == router) unplace(s, node_ms(&n->node) + SAME_ROUTER_MS);
    }
}

static void link_closed(struct node *node, link_id link) {
    struct client_node *n = (struct client_node *)node;
    uint32_t router = router_of(n, link);
    if (router < node->n_diallers) lost(n, router);
}

// --- time

static ms_t sooner(ms_t a, ms_t b) { return a < b ? a : b; }

// The router has said nothing of this stream for a while. It may just be queued there, but a router that doesn't even answer
// Hello doesn't hear us.
static void watch(struct client_node *n, struct client_stream *s, ms_t now) {
    if (s->unanswered++ < UNANSWERED_MAX) {
        say_hello(n, s->router, true);
        send_sync(n, s);
        return;
    }
    if (n->node.n_diallers > 1) n->routers[s->router].avoid_until = now + DEAF_MS;
    unplace(s, 0);
}

// Returns false when the stream has ended.
static bool stream_tick(struct client_node *n, struct client_stream *s, ms_t now, ms_t *next) {
    struct world *w = n->node.world;
    if (s->deadline_at <= now) {
        struct error e = {.id = ERR_DEADLINE};
        if (s->placed) tell_cancel(n, s->router, &s->request->key, &s->rx.attempt);
        oracle_failed(w->oracle, s->request, &e);
        forget(n, s);
        return false;
    }
    if (s->cancel_at <= now) {
        if (s->placed) {
            tell_cancel(n, s->router, &s->request->key, &s->rx.attempt);
            s->cancel_at = now + CANCEL_AGAIN_MS;
        } else {
            oracle_gave_up(w->oracle, s->request, OUTCOME_CANCELLED);
            forget(n, s);
            return false;
        }
    }
    if (!s->placed) try_place(n, s, now);
    if (s->placed && s->watch_at <= now) watch(n, s, now);
    struct sink sink = node_sink(&n->node);
    ms_t at = s->placed ? sooner(s->watch_at, stream_rx_tick(&s->rx, s->log, &sink, now)) : now + 100;
    *next = sooner(*next, sooner(at, sooner(s->deadline_at, s->cancel_at)));
    return true;
}

static ms_t tick(struct node *node) {
    struct client_node *n = (struct client_node *)node;
    ms_t now = node_ms(node), next = now + 1000;
    struct link_timers t = node->world->p.timers;
    t.heartbeat_ms *= 10; // clients are allowed that
    t.suspect_ms *= 3, t.dead_ms *= 3;
    for (uint32_t i = 0; i < node->n_diallers; i++) {
        struct client_router *r = &n->routers[i];
        if (r->link == 0) continue;
        if (link_health_state(&r->health, &t, now) == LINK_DEAD) r->dead = true;
        if (r->greeted && r->health.said_at + t.heartbeat_ms <= now) {
            bool query = rng_chance(&node->world->shell_rng, node->world->p.query);
            struct msg m = {.kind = query ? MSG_QUERY : MSG_STATUS};
            say(n, i, &m);
        }
        next = sooner(next, link_health_next(&r->health, &t, now));
    }
    for (uint32_t i = 0; i < n->n_streams;) i += stream_tick(n, n->streams[i], now, &next);
    return next;
}

static bool next_dead_link(struct node *node, link_id *link) {
    struct client_node *n = (struct client_node *)node;
    for (uint32_t i = 0; i < node->n_diallers; i++) {
        if (!n->routers[i].dead) continue;
        n->routers[i].dead = false;
        *link = n->routers[i].link;
        lost(n, i);
        if (*link) return true;
    }
    return false;
}

// --- life

static void start(struct node *node) {
    struct client_node *n = (struct client_node *)node;
    memset(n->routers, 0, sizeof n->routers);
    n->turn = node->number;
}

static void stop(struct node *node) {
    struct client_node *n = (struct client_node *)node;
    for (uint32_t i = 0; i < n->n_streams; i++) {
        oracle_gave_up(node->world->oracle, n->streams[i]->request, OUTCOME_CLIENT_DIED);
        stream_free(n->streams[i]);
    }
    n->n_streams = 0;
}

void client_node_notice(struct client_node *n, const char *worker, uint32_t deadline_ms) {
    struct msg m = {.kind = MSG_NOTICE, .notice = {.deadline_ms = deadline_ms}};
    memcpy(m.notice.name, worker, NAME_SIZE);
    for (uint32_t i = 0; i < n->node.n_diallers; i++) {
        if (n->routers[i].greeted) say(n, i, &m);
    }
}

static void check(struct node *node) {}

static const struct node_ops client_ops = {start, stop, opened, link_closed, message, tick, next_dead_link, check};

void client_node_ask(struct client_node *n, const struct request *r) {
    struct client_stream *s = xcalloc(1, sizeof *s);
    s->request = r;
    s->log = record_log_create();
    stream_rx_init(&s->rx, &r->key);
    s->deadline_at = r->deadline_ms ? node_ms(&n->node) + r->deadline_ms : MS_NEVER;
    s->cancel_at = r->cancel_at ? node_ms(&n->node) + (r->cancel_at - n->node.world->now) / 1000 + 1 : MS_NEVER;
    if (n->n_streams == n->streams_capacity) {
        n->streams_capacity = n->streams_capacity ? n->streams_capacity * 2 : 16;
        n->streams = xrealloc(n->streams, n->streams_capacity * sizeof(struct client_stream *));
    }
    n->streams[n->n_streams++] = s;
    node_wake(&n->node);
}

struct client_node *client_node_create(struct world *w, uint32_t number, uint32_t region) {
    struct client_node *n = xcalloc(1, sizeof *n);
    node_init(&n->node, w, &client_ops, NODE_CLIENT, number, region);
    return n;
}

void client_node_destroy(struct client_node *n) {
    free(n->streams);
    node_fini(&n->node);
    free(n);
}
