// What people ask: models, readiness, who there is, counters.
#include "common/base/check.h"
#include "router/core/core.h"

#include <stdio.h>
#include <stdlib.h>

struct session_view session_view(const struct session *s) {
    return (struct session_view){
        .key = s->key,
        .state = s->state,
        .log = s->log,
        .attempt = s->attempt,
        .replica = s->replica,
        .fingerprint = s->fingerprint,
        .deployment = s->deployment->name,
        .seed = s->request.seed,
        .prompt_tokens = s->prompt_tokens,
        .done = &s->done,
        .rejected = &s->rejected,
    };
}

// Several peers of a region speak of the same replicas.
static void count_region(const struct pool *p, uint32_t *ready, uint32_t *total) {
    uint32_t told_ready = 0, told_total = 0;
    for (uint32_t i = 0; i < p->n_offers; i++) {
        const struct offer *o = p->offers[i];
        if (o->candidate->kind == CANDIDATE_REPLICA) {
            *total += 1;
            *ready += o->usable;
            continue;
        }
        if (o->status.replicas_total > told_total) told_total = o->status.replicas_total;
        if (o->usable && o->status.replicas_ready > told_ready) told_ready = o->status.replicas_ready;
    }
    *ready += told_ready;
    *total += told_total;
}

static void count_replicas(const struct deployment *d, uint32_t *ready, uint32_t *total) {
    for (uint32_t i = 0; i < d->n_pools; i++) count_region(d->pools[i], ready, total);
}

uint32_t router_core_models(const struct router_core *core, struct model_view *out, uint32_t max) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < core->n_deployments; i++) {
        const struct deployment *d = core->deployments[i];
        bool again = false;
        for (uint32_t k = 0; k < i; k++) again = again || strcmp(core->deployments[k]->model, d->model) == 0;
        if (again) continue;
        if (n++ >= max) continue;
        struct model_view *v = &out[n - 1];
        *v = (struct model_view){.n_aliases = d->n_aliases, .max_context = d->max_context};
        snprintf(v->name, sizeof v->name, "%s", d->model);
        memcpy(v->aliases, d->aliases, sizeof v->aliases);
        for (uint32_t k = i; k < core->n_deployments; k++) {
            const struct deployment *same = core->deployments[k];
            if (strcmp(same->model, d->model) != 0) continue;
            if (same->max_context > v->max_context) v->max_context = same->max_context;
            count_replicas(same, &v->replicas_ready, &v->replicas_total);
        }
    }
    return n;
}

// The one that will be ready first, among those that are loading.
static const struct candidate *furthest(const struct router_core *core) {
    const struct candidate *best = NULL;
    LIST_FOREACH(node, &core->candidates) {
        const struct candidate *c = LIST_ENTRY(node, struct candidate, node);
        if (c->kind != CANDIDATE_REPLICA || c->state != LIFECYCLE_LOADING) continue;
        if (best == NULL || c->progress > best->progress) best = c;
    }
    return best;
}

bool router_core_ready(const struct router_core *core, char *why, size_t why_size) {
    uint32_t ready = 0, total = 0;
    for (uint32_t i = 0; i < core->n_deployments; i++) count_replicas(core->deployments[i], &ready, &total);
    if (core->leaving) {
        snprintf(why, why_size, "draining: this router is shutting down");
        return false;
    }
    if (ready > 0) {
        snprintf(why, why_size, "%u of %u replicas", ready, total);
        return true;
    }
    const struct candidate *c = furthest(core);
    int n = snprintf(why, why_size, "0 of %u replicas", total);
    if (total == 0 || c == NULL || n < 0 || (size_t)n >= why_size) return false;
    if (c->reason[0]) {
        snprintf(why + n, why_size - (size_t)n, ": %s", c->reason);
        return false;
    }
    n += snprintf(why + n, why_size - (size_t)n, ": loading %.0f %%", (double)c->progress * 100);
    if (c->eta_ms && (size_t)n < why_size) snprintf(why + n, why_size - (size_t)n, ", about %u s", (c->eta_ms + 999) / 1000);
    return false;
}

static void view_of(const struct offer *o, struct replica_view *v, ms_t now) {
    const struct candidate *c = o->candidate;
    *v = (struct replica_view){.state = c->state, .suspect = c->suspect, .status = o->status};
    snprintf(v->name, sizeof v->name, "%s", c->name);
    snprintf(v->region, sizeof v->region, "%s", c->region);
    snprintf(v->zone, sizeof v->zone, "%s", c->zone);
    v->status.replicas_ready = o->usable;
    v->status.replicas_total = 1;
    v->n_members = c->n_members;
    v->members = c->members;
    memcpy(v->reason, c->reason, sizeof v->reason);
    if (c->deadline_at != MS_NEVER) v->deadline_ms = c->deadline_at > now ? (uint32_t)(c->deadline_at - now) : 1;
}

void router_core_cluster(struct router_core *core, struct msg_cluster *out) {
    uint32_t routers = 1, replicas = 0;
    LIST_FOREACH(node, &core->candidates) {
        const struct candidate *c = LIST_ENTRY(node, struct candidate, node);
        routers += c->kind == CANDIDATE_PEER;
        replicas += c->kind == CANDIDATE_REPLICA ? c->n_offers : 0;
    }
    core->view_routers = xrealloc(core->view_routers, routers * sizeof *core->view_routers);
    core->view_replicas = xrealloc(core->view_replicas, (replicas + 1) * sizeof *core->view_replicas);
    core->view_routers[0] = core->options.self;
    *out = (struct msg_cluster){.n_routers = 1, .routers = core->view_routers, .replicas = core->view_replicas};
    LIST_FOREACH(node, &core->candidates) {
        const struct candidate *c = LIST_ENTRY(node, struct candidate, node);
        if (c->kind == CANDIDATE_PEER)
            core->view_routers[out->n_routers++] = c->router;
        else
            for (uint32_t i = 0; i < c->n_offers; i++)
                view_of(c->offers[i], &core->view_replicas[out->n_replicas++], core->now);
    }
}

void router_core_counters(const struct router_core *core, struct router_counters *out) {
    *out = core->counters;
    out->sessions = core->sessions.count;
    out->queued = core->queued;
    out->queued_tokens = core->queued_tokens;
    out->links = core->links.count;
    out->held_bytes = core->held_bytes;
    LIST_FOREACH(node, &core->candidates) {
        const struct candidate *c = LIST_ENTRY(node, struct candidate, node);
        for (uint32_t i = 0; i < c->n_offers; i++) {
            if (c->offers[i]->usable && c->kind == CANDIDATE_REPLICA) out->replicas_ready++;
        }
    }
}
