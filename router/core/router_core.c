// The events: each notes what has happened in candidates and sessions, then settles, which places whatever can be placed.
#include "router/core/router_core.h"

#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/base/mark.h"
#include "router/core/core.h"

#include <stdio.h>
#include <stdlib.h>

enum { URGENT_SKIPS_MAX = 16 }; // urgent sessions passed over because their candidates are full, per look

// --- services of the core

void core_say(struct router_core *core, link_id id, const struct msg *m) {
    struct link *link = link_by_id(core, id);
    if (link == NULL) return;
    link_health_said(&link->health, core->now);
    core->outside.send(core->outside.ctx, id, m);
}

static void wire_send(void *ctx, link_id id, const struct msg *m) { core_say(ctx, id, m); }

void core_begin(struct router_core *core, ms_t now) {
    ms_t away = now - core->now, usual = core->options.timers.heartbeat_ms + core->options.timers.suspect_ms / 2;
    if (away > usual) {
        MARK(router_was_away);
        LIST_FOREACH(node, &core->link_list) { LIST_ENTRY(node, struct link, node)->health.heard_at += away; }
    }
    core->now = now;
}

void core_emit(struct router_core *core, struct session *s, enum session_event event) {
    core->output.event(core->output.ctx, s, s->user, event);
}

uint64_t core_random(struct router_core *core) { return hash_mix(core->options.seed ^ ++core->random_count << 20); }

void core_dirty(struct router_core *core, struct pool *pool) {
    if (pool->dirty) return;
    pool->dirty = true;
    pool->dirty_next = core->dirty;
    core->dirty = pool;
}

// --- placing what waits

static void move_on(struct router_core *core, struct session *s, ms_t now) {
    session_unqueue(core, s);
    session_enqueue(core, s, now);
}

static enum route_verdict try_to_place(struct router_core *core, struct pool *pool, struct session *s, double ahead_s,
                                       ms_t now) {
    struct route_request r = session_route_request(s, now);
    r.ahead_s = ahead_s;
    r.any = core_odd(core, ROUTER_ODD_ANY_OFFER);
    struct route decision = route(pool, &r, core_random(core));
    if (decision.verdict == ROUTE_PLACE) session_place(core, s, decision.offer, now);
    if (decision.verdict == ROUTE_NOWHERE) move_on(core, s, now);
    return decision.verdict;
}

static struct session *waiting(struct list *node) { return LIST_ENTRY(node, struct session, wait.node); }

static void dispatch_urgent(struct router_core *core, struct pool *pool, ms_t now) {
    uint32_t skipped = 0;
    struct list *head = &pool->queue.urgent;
    for (struct list *node = head->next, *next; node != head && skipped < URGENT_SKIPS_MAX; node = next) {
        next = node->next;
        enum route_verdict v = try_to_place(core, pool, waiting(node), 0, now);
        skipped += v == ROUTE_WAIT || v == ROUTE_WAIT_FASTER;
    }
}

// The first in the queue goes to the best free candidate. If only candidates too slow for it are free, they are offered to
// the last: what is slow now may still be sooner than the whole queue.
static void dispatch_fresh(struct router_core *core, struct pool *pool, ms_t now) {
    struct wait_queue *q = &pool->queue;
    while (!list_empty(&q->fresh)) {
        enum route_verdict v = try_to_place(core, pool, waiting(q->fresh.next), 0, now);
        if (v == ROUTE_WAIT) break;
        if (v != ROUTE_WAIT_FASTER) continue;
        struct session *last = waiting(q->fresh.prev);
        pool_sum(pool);
        double ahead_s = (double)(q->prompt - last->wait.prompt) / pool->prefill_rate +
                         (double)(q->decode - last->wait.decode) / pool->decode_rate;
        v = try_to_place(core, pool, last, ahead_s, now);
        if (v == ROUTE_WAIT || v == ROUTE_WAIT_FASTER) break;
    }
}

static void dispatch(struct router_core *core, struct pool *pool, ms_t now) {
    struct wait_queue *q = &pool->queue;
    if (pool->usable == 0) {
        MARK(region_lost_its_last);
        while (!list_empty(&q->urgent)) move_on(core, waiting(q->urgent.next), now);
        while (!list_empty(&q->fresh)) move_on(core, waiting(q->fresh.next), now);
        return;
    }
    dispatch_urgent(core, pool, now);
    dispatch_fresh(core, pool, now);
}

static void house(struct router_core *core, struct deployment *d, ms_t now) {
    uint32_t urgent = d->homeless.count_urgent, fresh = d->homeless.count - urgent;
    while (urgent-- > 0) move_on(core, waiting(d->homeless.urgent.next), now);
    while (fresh-- > 0 && !list_empty(&d->homeless.fresh)) move_on(core, waiting(d->homeless.fresh.next), now);
}

void core_settle(struct router_core *core, ms_t now) {
    if (core->woken) {
        core->woken = false;
        for (uint32_t i = 0; i < core->n_deployments; i++) {
            if (!core->deployments[i]->woken) continue;
            core->deployments[i]->woken = false;
            house(core, core->deployments[i], now);
        }
    }
    while (core->dirty) {
        struct pool *pool = core->dirty;
        core->dirty = pool->dirty_next;
        pool->dirty = false;
        dispatch(core, pool, now);
    }
}

// --- life

struct router_core *router_core_create(const struct router_core_options *options, const struct sink *sink,
                                       const struct session_output *sessions, ms_t now) {
    struct router_core *core = xcalloc(1, sizeof *core);
    core->options = *options;
    if (core->options.status_full_ms == 0) core->options.status_full_ms = 1000;
    core->outside = *sink;
    core->wire = (struct sink){core, wire_send};
    core->output = *sessions;
    core->now = core->started_at = now;
    list_init(&core->link_list);
    list_init(&core->session_list);
    list_init(&core->candidates);
    list_init(&core->kept);
    list_init(&core->last_attempts.oldest_first);
    wait_queue_init(&core->adjourned);
    models_configure(core);
    return core;
}

static void say_nothing(void *ctx, link_id link, const struct msg *m) {}

void router_core_destroy(struct router_core *core) {
    if (core == NULL) return;
    core->outside.send = say_nothing;
    while (!list_empty(&core->session_list)) {
        session_end(core, LIST_ENTRY(core->session_list.next, struct session, node), core->now);
    }
    while (!list_empty(&core->link_list)) {
        link_drop(core, LIST_ENTRY(core->link_list.next, struct link, node), false, core->now);
    }
    for (uint32_t i = 0; i < core->n_deployments; i++) deployment_destroy(core->deployments[i]);
    table_free(&core->names);
    table_free(&core->links);
    table_free(&core->sessions);
    due_heap_free(&core->due);
    last_attempts_free(&core->last_attempts);
    free(core->dead);
    free(core->view_routers);
    free(core->view_replicas);
    free(core);
}

// --- links

void router_core_link_opened(struct router_core *core, link_id id, bool dialled, ms_t now) {
    core_begin(core, now);
    if (id != 0 && link_by_id(core, id) == NULL) link_open(core, id, dialled, now);
}

void router_core_link_tenant(struct router_core *core, link_id id, const char *tenant) {
    struct link *link = link_by_id(core, id);
    if (link == NULL) return;
    link->has_tenant = true;
    snprintf(link->tenant, sizeof link->tenant, "%s", tenant);
}

void router_core_link_closed(struct router_core *core, link_id id, ms_t now) {
    core_begin(core, now);
    struct link *link = link_by_id(core, id);
    if (link) link_drop(core, link, false, now);
    core_settle(core, now);
}

bool router_core_next_dead_link(struct router_core *core, link_id *link) {
    if (core->n_dead == 0) return false;
    *link = core->dead[--core->n_dead];
    return true;
}

// --- sessions of the HTTP front

struct session *router_core_submit(struct router_core *core, const struct msg_generate *g, void *user,
                                   struct msg_rejected *rejected, ms_t now) {
    core_begin(core, now);
    if (session_find(core, &g->key)) {
        *rejected = (struct msg_rejected){.key = g->key};
        core->counters.requests++;
        core->counters.refused++;
        error_set(&rejected->error, ERR_INVALID_ARGUMENT, "the request id is in use by another request");
        return NULL;
    }
    struct session *s = intake(core, g, false, rejected, now);
    if (s == NULL) return NULL;
    s->local = true;
    s->user = user;
    session_enqueue(core, s, now);
    core_settle(core, now);
    return s;
}

void *session_user(const struct session *s) { return s->user; }

void router_core_cancel(struct router_core *core, struct session *s, ms_t now) {
    core_begin(core, now);
    if (s->request.keep && !s->failed)
        session_abandon(core, s, now);
    else
        session_end(core, s, now);
    core_settle(core, now);
}

void router_core_release(struct router_core *core, struct session *s, ms_t now) { router_core_cancel(core, s, now); }

// --- time

ms_t router_core_tick(struct router_core *core, ms_t now) {
    core_begin(core, now);
    for (struct due *d; (d = due_pop(&core->due, now)) != NULL;) {
        if (d->kind == DUE_SESSION)
            session_tick(core, LIST_ENTRY(d, struct session, due), now);
        else
            link_tick(core, LIST_ENTRY(d, struct link, due), now);
    }
    core_settle(core, now);
    ms_t next = due_next(&core->due), latest = now + core->options.timers.heartbeat_ms;
    if (next <= now) next = now + 1;
    return next < latest ? next : latest > now ? latest : now + 1;
}

void router_core_leave(struct router_core *core, ms_t now) {
    core_begin(core, now);
    core->leaving = true;
    LIST_FOREACH(node, &core->link_list) {
        struct link *link = LIST_ENTRY(node, struct link, node);
        if (link->greeted && !link->ignored && link->role == ROLE_ROUTER && !link->dialled) status_say(core, link, now);
    }
}

void router_core_drain(struct router_core *core, ms_t now) {
    if (!core->leaving) router_core_leave(core, now);
    core->draining = true;
    while (!list_empty(&core->kept)) {
        session_end(core, LIST_ENTRY(core->kept.next, struct session, requester_node), now);
    }
}

bool router_core_idle(const struct router_core *core) { return core->sessions.count == 0; }

bool router_core_may_end(const struct router_core *core) {
    LIST_FOREACH(node, &core->session_list) {
        const struct session *s = LIST_ENTRY(node, struct session, node);
        if (s->local || s->requester) return false;
    }
    return true;
}
