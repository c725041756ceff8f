// What happens to candidates: their statuses, their changes of usability, their death.
#include "common/base/check.h"
#include "common/base/mark.h"
#include "router/core/core.h"

#include <stdlib.h>

// Its offer of this deployment, made when new. NULL: too many deployments or regions; counted.
static struct offer *offer_of(struct router_core *core, struct candidate *c, const struct deployment_info *info) {
    struct deployment *d = models_add(core, info->model, info->deployment);
    struct offer *o = d ? candidate_offer(c, d) : NULL;
    if (o) return o;
    struct pool *pool = d ? models_pool(core, d, c->region) : NULL;
    if (pool == NULL || c->n_offers == ARRAY_LEN(c->offers)) {
        core->counters.protocol_errors++;
        return NULL;
    }
    o = offer_create(c, pool);
    o->status.info = *info;
    o->status.groups = STATUS_INFO;
    return o;
}

void candidate_learn(struct router_core *core, struct candidate *c, const struct deployment_info *info) {
    struct offer *o = offer_of(core, c, info);
    if (o == NULL) return;
    o->status.info = *info;
    o->pool->stale = true;
    models_learn(o->pool->deployment, info);
}

// Own sessions on this offer that the sender of a status had not seen: placed behind its generates_seen and not answered
// yet.
static void merge(struct offer *o, const struct deployment_status *d) {
    uint32_t unseen = 0;
    for (struct list *node = o->placed.prev; node != &o->placed; node = node->prev) {
        const struct session *s = LIST_ENTRY(node, struct session, placed_node);
        if (s->generate_index <= d->generates_seen) break;
        MARK(status_is_behind);
        unseen += !s->answered;
    }
    offer_merge(o, d, unseen);
}

static void take_deployment(struct router_core *core, struct candidate *c, const struct msg_status *m, uint32_t i) {
    const struct deployment_status *d = &m->deployments[i];
    struct offer *o = NULL;
    if (d->groups & STATUS_INFO && d->info.model[0]) {
        o = offer_of(core, c, &d->info);
        if (o) models_learn(o->pool->deployment, &d->info);
    } else if (c->n_offers == m->n_deployments) {
        o = c->offers[i];
    }
    if (o == NULL) return;
    struct deployment_status copy = *d;
    if (o->status.info.model[0] && !d->info.model[0]) copy.groups &= ~(uint32_t)STATUS_INFO;
    bool known = strcmp(o->status.info.fingerprint, d->info.fingerprint) == 0 || !(copy.groups & STATUS_INFO);
    merge(o, &copy);
    if (!known) { // somebody may wait for this fingerprint
        MARK(fingerprint_learned);
        o->pool->deployment->woken = core->woken = true;
    }
    if (o->pool->queue.count) core_dirty(core, o->pool);
}

// A full status names everything there is: what it leaves out is gone.
static void retire_others(struct candidate *c, const struct msg_status *m) {
    for (uint32_t i = 0; i < c->n_offers; i++) {
        const struct deployment *d = c->offers[i]->pool->deployment;
        bool named = c->kind == CANDIDATE_REPLICA;
        for (uint32_t k = 0; k < m->n_deployments && !named; k++) {
            const struct deployment_info *info = &m->deployments[k].info;
            named = strcmp(info->model, d->model) == 0 && strcmp(info->deployment, d->name) == 0;
        }
        if (named) continue;
        MARK(offer_retired);
        c->offers[i]->status.replicas_ready = 0;
    }
}

void candidate_on_status(struct router_core *core, struct candidate *c, const struct msg_status *m, ms_t now) {
    if (m->seq <= c->status_seq) { // doubled or late: values are absolute, the newer ones stand
        MARK(status_out_of_order);
        return;
    }
    c->status_seq = m->seq;
    if (m->has_life) {
        c->state = m->state <= LIFECYCLE_FAILED ? m->state : LIFECYCLE_FAILED;
        c->progress = m->progress;
        c->eta_ms = m->eta_ms;
        memcpy(c->reason, m->reason, sizeof c->reason);
        c->deadline_at = m->deadline_ms ? now + m->deadline_ms : MS_NEVER;
    }
    for (uint32_t i = 0; i < m->n_deployments; i++) take_deployment(core, c, m, i);
    if (m->full) retire_others(c, m);
    candidate_refresh(core, c, now);
}

void candidate_refresh(struct router_core *core, struct candidate *c, ms_t now) {
    for (uint32_t i = 0; i < c->n_offers; i++) {
        struct offer *o = c->offers[i];
        bool before = o->usable;
        if (offer_refresh(o, now)) o->pool->deployment->woken = core->woken = true;
        if (before != o->usable) core_dirty(core, o->pool);
    }
}

void candidate_die(struct router_core *core, struct candidate *c, ms_t now) {
    bool worker_died = c->kind == CANDIDATE_REPLICA && c->state == LIFECYCLE_READY; // a drained one went on purpose
    core->counters.deaths++;
    for (uint32_t i = 0; worker_died && i < c->n_offers; i++) {
        LIST_FOREACH(node, &c->offers[i]->placed) {
            suspicion_blame(core, LIST_ENTRY(node, struct session, placed_node), c, now);
        }
    }
    c->link->candidate = NULL;
    c->link = NULL;
    candidate_refresh(core, c, now);
    for (uint32_t i = 0; i < c->n_offers; i++) {
        struct list *placed = &c->offers[i]->placed;
        while (!list_empty(placed)) session_bereaved(core, LIST_ENTRY(placed->next, struct session, placed_node), now);
    }
    CHECK(c->unproven == 0);
    for (uint32_t i = 0; i < c->n_offers; i++) offer_destroy(c->offers[i]);
    list_remove(&c->node);
    table_remove(&core->names, c->hash, c);
    free(c->members);
    free(c);
}
