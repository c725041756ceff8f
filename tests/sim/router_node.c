#include "tests/sim/router_node.h"

#include "common/base/check.h"
#include "tests/sim/faults.h"
#include "tests/sim/http_client.h"
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

enum { RENDER_MAX_US = 200000 };

// Events name a call by its place and its request, since places are used again.
static uint64_t call_name(const struct call *c, uint32_t index) { return (uint64_t)c->request->number << 32 | index; }
static struct call *call_of(struct router_node *n, uint64_t name) {
    uint32_t index = (uint32_t)name;
    struct call *c = n->node.alive && index < n->n_calls ? &n->calls[index] : NULL;
    return c && c->session != NULL && c->request->number == name >> 32 ? c : NULL;
}

// --- what the core tells

static void on_session(void *ctx, struct session *s, void *user, enum session_event event) {
    struct router_node *n = ctx;
    if (n->n_happenings == n->happenings_capacity) {
        n->happenings_capacity = n->happenings_capacity ? n->happenings_capacity * 2 : 16;
        n->happenings = xrealloc(n->happenings, n->happenings_capacity * sizeof *n->happenings);
    }
    uint32_t call = (uint32_t)(uintptr_t)user - 1;
    struct call *c = &n->calls[call];
    if (c->session == NULL) c->session = s; // told from inside submit
    if (c->session != s)
        world_fail(n->node.world, "%s tells of a session that is not request %u's", n->node.name, c->request->number);
    n->happenings[n->n_happenings++] = (struct happening){call, event};
}

// What the ids of its events say.
static void tell_client(struct call *c, const struct session_view *v) {
    struct http_client *h = c->request->http;
    if (h == NULL || c->read == 0) return;
    h->told = true;
    h->seed = v->seed;
    memcpy(h->replica, v->replica, NAME_SIZE);
    memcpy(h->fingerprint, v->fingerprint, FINGERPRINT_SIZE);
}

static void read_records(struct router_node *n, struct call *c, const struct session_view *v) {
    uint32_t count = record_log_count(v->log);
    struct oracle *o = n->node.world->oracle;
    bool came_back = c->request->http && c->request->http->returns > 0; // to records of whichever replicas
    for (; c->read < count; c->read++) {
        struct record r = record_log_get(v->log, c->read);
        if (c->read < oracle_got_count(o, c->request))
            oracle_got_again(o, c->request, c->read, &r);
        else
            oracle_got(o, c->request, c->read, &r, &v->attempt, came_back ? NULL : v->replica);
    }
    tell_client(c, v);
}

static void release(struct world *w, void *ctx, uint64_t arg) {
    struct router_node *n = ctx;
    struct call *c = call_of(n, arg);
    if (c == NULL || node_puts_off(&n->node, release, ctx, arg)) return;
    struct session *s = c->session;
    c->session = NULL;
    router_core_release(n->core, s, node_ms(&n->node));
    node_wake(&n->node);
}

static void happened(struct router_node *n, const struct happening *h) {
    struct world *w = n->node.world;
    struct call *c = &n->calls[h->call];
    if (c->session == NULL) return; // cancelled in the same turn
    struct session_view v = session_view(c->session);
    switch (h->event) {
    case SESSION_ACCEPTED:
        oracle_seed(w->oracle, c->request, v.seed);
        if (v.prompt_tokens != c->request->prompt_tokens && v.prompt_tokens != 0) // 0: the worker's Accepted was lost
            world_fail(w, "request %u was accepted with %u prompt tokens", c->request->number, v.prompt_tokens);
        break;
    case SESSION_RECORDS:
        read_records(n, c, &v);
        break;
    case SESSION_DONE:
        if (c->read != record_log_count(v.log))
            world_fail(w, "request %u: Done came with unread records", c->request->number);
        oracle_done(w->oracle, c->request, v.done);
        break;
    case SESSION_FAILED:
        oracle_failed(w->oracle, c->request, &v.rejected->error);
        break;
    }
    if (h->event < SESSION_DONE) return;
    if (v.state != SESSION_ENDED) world_fail(w, "request %u has ended, but its session has not", c->request->number);
    world_at(w, w->now + rng_below(&w->shell_rng, RENDER_MAX_US), release, n, call_name(c, h->call));
}

static void deal_with_happenings(struct router_node *n) {
    for (uint32_t i = 0; i < n->n_happenings; i++) happened(n, &n->happenings[i]);
    n->n_happenings = 0;
}

// --- its clients

static void cancel(struct world *w, void *ctx, uint64_t arg) {
    struct router_node *n = ctx;
    struct call *c = call_of(n, arg);
    if (c == NULL || oracle_ended(w->oracle, c->request) || node_puts_off(&n->node, cancel, ctx, arg)) return;
    struct session *s = c->session;
    c->session = NULL;
    oracle_gave_up(w->oracle, c->request, OUTCOME_CANCELLED);
    router_core_cancel(n->core, s, node_ms(&n->node));
    deal_with_happenings(n);
    node_wake(&n->node);
}

static void hang_up(struct world *w, void *ctx, uint64_t arg) {
    struct router_node *n = ctx;
    struct call *c = call_of(n, arg);
    if (c == NULL || oracle_ended(w->oracle, c->request) || node_puts_off(&n->node, hang_up, ctx, arg)) return;
    struct session *s = c->session;
    c->session = NULL;
    http_client_lost(w, c->request);
    router_core_cancel(n->core, s, node_ms(&n->node));
    deal_with_happenings(n);
    node_wake(&n->node);
}

static uint32_t free_call(struct router_node *n) {
    for (uint32_t i = 0; i < n->n_calls; i++) {
        if (n->calls[i].session == NULL) return i;
    }
    n->calls = xrealloc(n->calls, (n->n_calls + 1) * sizeof *n->calls);
    return n->n_calls++;
}

// The client has what its last event's id said, and how long its deadline still is.
static struct session *resume(struct router_node *n, struct msg_generate *g, const struct request *r, void *user,
                              struct msg_rejected *why) {
    const struct http_client *h = r->http;
    struct router_resume back = {.takeover = h->returns};
    memcpy(back.replica, h->replica, NAME_SIZE);
    memcpy(g->fingerprint, h->fingerprint, FINGERPRINT_SIZE);
    g->has_seed = true;
    g->seed = h->seed;
    us_t gone = n->node.world->now - r->issued_at;
    if (r->deadline_ms) g->deadline_ms = gone / 1000 + 1 < r->deadline_ms ? r->deadline_ms - (uint32_t)(gone / 1000) : 1;
    return router_core_resume(n->core, g, &back, user, why, node_ms(&n->node));
}

// A session that this router had already may have records, or have ended: nobody tells of that again.
static void catch_up(struct router_node *n, uint32_t index) {
    struct call *c = &n->calls[index];
    struct session_view v = session_view(c->session);
    read_records(n, c, &v);
    if (v.state != SESSION_ENDED) return;
    struct happening done = {index, SESSION_DONE};
    happened(n, &done);
}

static void submit(struct world *w, void *ctx, uint64_t number) {
    struct router_node *n = ctx;
    const struct request *r = w->requests[number];
    if (!n->node.alive) { // it died just before
        http_client_lost(w, r);
        return;
    }
    if (node_puts_off(&n->node, submit, ctx, number)) return;
    uint8_t body[BODY_BYTES + 255];
    struct msg_generate g = {.key = r->key,
                             .has_seed = r->has_seed,
                             .seed = r->seed,
                             .deadline_ms = r->deadline_ms,
                             .max_tokens = r->max_tokens,
                             .prompt_bytes = r->prompt_tokens * 4,
                             .keep = r->keep,
                             .priority = request_priority(r),
                             .body = body};
    g.body_len = request_body(r, body);
    request_model(r, g.model);
    memcpy(g.pin, r->pin, NAME_SIZE);
    snprintf(g.tenant, NAME_SIZE, "tenant-%u", r->tenant);
    uint32_t index = free_call(n);
    n->calls[index] = (struct call){.request = r};
    struct msg_rejected why = {0};
    void *user = (void *)(uintptr_t)(index + 1);
    struct session *s = r->http && r->http->returns ? resume(n, &g, r, user, &why)
                                                    : router_core_submit(n->core, &g, user, &why, node_ms(&n->node));
    struct call *c = &n->calls[index];
    c->session = s;
    if (s == NULL) {
        oracle_failed(w->oracle, r, &why.error);
    } else {
        if (session_user(s) != user) world_fail(w, "request %u came back to the session of another client", r->number);
        if (r->cancel_at) world_at(w, r->cancel_at > w->now ? r->cancel_at : w->now, cancel, n, call_name(c, index));
        if (r->breaks_at > w->now) world_at(w, r->breaks_at, hang_up, n, call_name(c, index));
        if (n->n_happenings == 0) catch_up(n, index);
    }
    deal_with_happenings(n);
    node_wake(&n->node);
}

void router_node_submit(struct router_node *n, const struct request *r) { submit(n->node.world, n, r->number); }

// --- the node

static void draw_options(struct router_node *n, struct router_core_options *o) {
    struct world *w = n->node.world;
    const struct params *p = &w->p;
    memcpy(o->self.name, n->node.name, NAME_SIZE);
    snprintf(o->self.region, NAME_SIZE, "%s", region_name(n->node.region));
    o->incarnation = n->node.incarnation;
    o->timers = p->timers;
    o->n_regions = w->options->regions;
    for (uint32_t i = 0; i < o->n_regions; i++) {
        snprintf(o->regions[i].name, NAME_SIZE, "%s", region_name(i));
        o->regions[i].weight = p->weights[i];
        o->regions[i].spill_after_ms = p->spill_after_ms;
    }
    for (uint32_t i = 0; p->n_deployments > 1 && i < p->n_deployments; i++) {
        struct router_deployment_share *s = &o->shares[o->n_shares++];
        model_name(0, s->model);
        snprintf(s->deployment, NAME_SIZE, "deployment-%u", i);
        s->share = i ? 1 : 3;
    }
    o->sessions_max = p->sessions_max;
    o->queue_max = p->queue_max;
    o->queue_tokens_max = p->queue_tokens_max;
    o->held_bytes_max = p->held_bytes_max;
    o->deadline_default_ms = p->deadline_default_ms;
    o->status_full_ms = p->status_full_ms;
    o->seed = rng_u64(&w->shell_rng);
    o->buggify = node_buggify(&n->node, p->router_odd);
    static const enum router_bug bugs[SIM_BUG_COUNT] = {
        [SIM_BUG_OFFSET] = ROUTER_BUG_OFFSET_RULE,
        [SIM_BUG_STALE] = ROUTER_BUG_STALE_ATTEMPT,
        [SIM_BUG_RESERVATION] = ROUTER_BUG_QUEUE_RESERVATION,
        [SIM_BUG_PARKED] = ROUTER_BUG_PARKED_FOR_EVER,
        [SIM_BUG_ATTEMPT] = ROUTER_BUG_ATTEMPT_AGAIN,
    };
    o->bug = bugs[w->options->bug];
}

static void start(struct node *node) {
    struct router_node *n = (struct router_node *)node;
    struct router_core_options *o = xcalloc(1, sizeof *o);
    draw_options(n, o);
    struct sink sink = node_sink(node);
    struct session_output sessions = {n, on_session};
    n->core = router_core_create(o, &sink, &sessions, node_ms(node));
    n->draining = false;
    free(o);
}

static void stop(struct node *node) {
    struct router_node *n = (struct router_node *)node;
    for (uint32_t i = 0; i < n->n_calls; i++) {
        struct call *c = &n->calls[i];
        if (c->session == NULL) continue;
        c->session = NULL;
        if (!oracle_ended(node->world->oracle, c->request)) http_client_lost(node->world, c->request);
    }
    node->world->router_died_at = node->world->now;
    n->n_happenings = 0;
    n->n_calls = 0;
    struct router_counters c;
    router_core_counters(n->core, &c);
    node->world->stats.protocol_errors += c.protocol_errors;
    router_core_destroy(n->core);
    n->core = NULL;
}

static void opened(struct node *node, link_id link, bool dialled) {
    struct router_node *n = (struct router_node *)node;
    router_core_link_opened(n->core, link, dialled, node_ms(node));
    deal_with_happenings(n);
}
static void link_closed(struct node *node, link_id link) {
    struct router_node *n = (struct router_node *)node;
    router_core_link_closed(n->core, link, node_ms(node));
    deal_with_happenings(n);
}
static void message(struct node *node, link_id link, const struct msg *m) {
    struct router_node *n = (struct router_node *)node;
    router_core_message(n->core, link, m, node_ms(node));
    if (n->n_happenings) deal_with_happenings(n);
}

static ms_t tick(struct node *node) {
    struct router_node *n = (struct router_node *)node;
    ms_t next = router_core_tick(n->core, node_ms(node));
    deal_with_happenings(n);
    if (n->draining && router_core_idle(n->core)) {
        fault_restart_later(node->world, node);
        node_kill(node);
    }
    return next;
}

static bool next_dead_link(struct node *node, link_id *link) {
    return router_core_next_dead_link(((struct router_node *)node)->core, link);
}

// Its invariants, and what people ask of it at any time.
static void check(struct node *node) {
    const struct router_core *core = ((struct router_node *)node)->core;
    struct model_view models[REQUEST_MODELS_MAX];
    char why[256] = "";
    router_core_check(core);
    if (router_core_models(core, models, REQUEST_MODELS_MAX) > node->world->p.n_models)
        world_fail(node->world, "%s knows of models that do not exist", node->name);
    if (!router_core_ready(core, why, sizeof why) && why[0] == '\0')
        world_fail(node->world, "%s is not ready and does not say why", node->name);
}

static const struct node_ops router_ops = {start, stop, opened, link_closed, message, tick, next_dead_link, check};

struct router_node *router_node_create(struct world *w, uint32_t number, uint32_t region) {
    struct router_node *n = xcalloc(1, sizeof *n);
    node_init(&n->node, w, &router_ops, NODE_ROUTER, number, region);
    return n;
}

void router_node_destroy(struct router_node *n) {
    free(n->calls);
    free(n->happenings);
    node_fini(&n->node);
    free(n);
}

void router_node_abandon(struct router_node *n) {
    struct oracle *o = n->node.world->oracle;
    for (uint32_t i = 0; i < n->n_calls; i++) {
        struct call *c = &n->calls[i];
        if (c->session == NULL || oracle_ended(o, c->request)) continue;
        c->session = NULL;
        http_client_lost(n->node.world, c->request);
    }
}

void router_node_drain(struct router_node *n) {
    if (n->draining) return;
    trace_note(&n->node.world->trace, n->node.world->now, NULL, "%s is drained", n->node.name);
    n->draining = true;
    n->node.world->stats.drains++;
    router_core_drain(n->core, node_ms(&n->node));
    deal_with_happenings(n);
    node_wake(&n->node);
}
