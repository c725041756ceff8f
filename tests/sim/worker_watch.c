#include "tests/sim/worker_watch.h"

#include "common/base/check.h"
#include "tests/sim/worker_node.h"
#include "tests/sim/world.h"

#include <stdlib.h>

enum {
    CLOCK_MS = 2,     // clocks are cut to milliseconds, and a turn comes a little later than was asked for
    IDLE_MAX_MS = 50, // with something to compute
    EARLY_MAX = 10,   // statuses beyond those that are due
};

static struct watched_link *link_of(struct worker_watch *watch, link_id link) {
    for (uint32_t i = 0; i < watch->n_links; i++) {
        if (watch->links[i].link == link) return &watch->links[i];
    }
    return NULL;
}

void worker_watch_begin(struct worker_node *n) {
    struct worker_watch *watch = &n->watch;
    *watch = (struct worker_watch){.links = watch->links, .capacity = watch->capacity, .idle_since = MS_NEVER};
}

void worker_watch_fini(struct worker_watch *watch) { free(watch->links); }

void worker_watch_opened(struct worker_node *n, link_id link) {
    struct worker_watch *watch = &n->watch;
    if (watch->n_links == watch->capacity) {
        watch->capacity = watch->capacity ? watch->capacity * 2 : 4;
        watch->links = xrealloc(watch->links, watch->capacity * sizeof *watch->links);
    }
    ms_t now = node_ms(&n->node);
    watch->links[watch->n_links++] =
        (struct watched_link){.link = link, .opened_at = now, .said_at = now, .full_at = now, .wrong_since = MS_NEVER};
}

void worker_watch_closed(struct worker_node *n, link_id link) {
    struct watched_link *l = link_of(&n->watch, link);
    if (l) *l = n->watch.links[--n->watch.n_links];
    n->watch.link_lost_at = node_ms(&n->node);
}

// --- what it says

static void hear_load(struct worker_node *n, struct watched_link *l, const struct deployment_status *d) {
    struct worker_counters c;
    worker_core_counters(n->core, &c);
    bool true_now = d->queued == c.waiting + c.preparing && d->running <= c.running && d->blocks_free == c.blocks_free &&
                    d->blocks_total == c.blocks_total && d->replicas_total == 1 &&
                    d->replicas_ready == (worker_core_life(n->core) == LIFECYCLE_READY);
    if (!true_now)
        world_fail(n->node.world, "%s says %u running, %u queued, %u blocks free; it has %u, %u and %u", n->node.name,
                   d->running, d->queued, d->blocks_free, c.running, c.waiting + c.preparing, c.blocks_free);
    l->load_told = true;
    l->load = *d;
}

static void hear_status(struct worker_node *n, struct watched_link *l, const struct msg_status *m) {
    struct world *w = n->node.world;
    ms_t now = node_ms(&n->node);
    if (m->seq != l->seq + 1 && m->seq != 1)
        world_fail(w, "%s numbers a status %llu, the last was %llu", n->node.name, (unsigned long long)m->seq,
                   (unsigned long long)l->seq);
    l->seq = m->seq;
    l->statuses++;
    if (m->has_life || m->n_deployments) l->wrong_since = MS_NEVER; // to be seen at the end of this turn
    if (m->full) l->full_at = now;
    if (m->has_life) {
        if (!l->life_told || l->life != m->state) l->urgent++;
        if (m->state != worker_core_life(n->core)) world_fail(w, "%s lies about its life", n->node.name);
        l->life_told = true;
        l->life = m->state;
        l->deadline_ms = m->deadline_ms;
    }
    if (m->full &&
        (!m->has_life || m->n_deployments != 1 || m->deployments[0].groups != (STATUS_ALL & ~(uint32_t)STATUS_LIFE)))
        world_fail(w, "%s says less than everything in a full status", n->node.name);
    if (m->n_deployments && m->deployments[0].groups & STATUS_LOAD) hear_load(n, l, &m->deployments[0]);
}

void worker_watch_says(struct worker_node *n, link_id link, const struct msg *m) {
    struct watched_link *l = link_of(&n->watch, link);
    if (l == NULL) return;
    l->said_at = node_ms(&n->node);
    if (m->kind == MSG_HELLO) l->urgent++;
    if (m->kind == MSG_STATUS) hear_status(n, l, &m->status);
}

// --- between turns

static void check_link(struct worker_node *n, struct watched_link *l, const struct worker_counters *c, ms_t now) {
    struct world *w = n->node.world;
    ms_t beat = w->p.timers.heartbeat_ms, since = now - l->opened_at;
    if (now - l->said_at > beat + CLOCK_MS)
        world_fail(w, "%s has said nothing on a link for %lld ms", n->node.name, (long long)(now - l->said_at));
    if (now - l->full_at > w->p.status_full_ms + CLOCK_MS)
        world_fail(w, "%s has not said everything for %lld ms", n->node.name, (long long)(now - l->full_at));
    uint64_t due = (uint64_t)since * 4 / (uint64_t)beat + (uint64_t)since / w->p.status_full_ms + l->urgent + EARLY_MAX;
    if (l->statuses > due && !(w->p.faults & FAULT_ODD))
        world_fail(w, "%s has said its status %u times in %lld ms", n->node.name, l->statuses, (long long)since);
    // What routers decide by travels at once, what they only reckon with travels along.
    bool right =
        l->life_told && l->life == worker_core_life(n->core) && l->load_told && l->load.queued == c->waiting + c->preparing;
    if (right)
        l->wrong_since = MS_NEVER;
    else if (l->wrong_since == MS_NEVER)
        l->wrong_since = now;
    else if (now - l->wrong_since > beat + CLOCK_MS)
        world_fail(w, "what %s told is wrong for %lld ms: life %d, %u queued; it is %d and %u", n->node.name,
                   (long long)(now - l->wrong_since), (int)l->life, l->load.queued, (int)worker_core_life(n->core),
                   c->waiting + c->preparing);
}

// Whatever can be computed is computed at once.
static void check_idle(struct worker_node *n, const struct worker_counters *c, ms_t now) {
    struct worker_watch *watch = &n->watch;
    const struct params *p = &n->node.world->p;
    bool parked = now - watch->link_lost_at < p->grace_ms + CLOCK_MS; // or some may be
    bool idle = worker_core_life(n->core) == LIFECYCLE_READY && c->plans_in_flight == 0 && c->running + c->waiting > 0 &&
                watch->restores == 0 && !parked && !(p->faults & FAULT_ODD);
    if (!idle)
        watch->idle_since = MS_NEVER;
    else if (watch->idle_since == MS_NEVER)
        watch->idle_since = now;
    else if (now - watch->idle_since > IDLE_MAX_MS)
        world_fail(n->node.world, "%s computes nothing for %lld ms, and has %u running and %u waiting", n->node.name,
                   (long long)(now - watch->idle_since), c->running, c->waiting);
}

static void check_counters(struct worker_node *n, const struct worker_counters *c) {
    struct world *w = n->node.world;
    if (c->steps != n->watch.steps || c->prefilled_tokens != n->watch.prefilled)
        world_fail(w, "%s counts %llu steps and %llu prefilled tokens, there were %llu and %llu", n->node.name,
                   (unsigned long long)c->steps, (unsigned long long)c->prefilled_tokens, (unsigned long long)n->watch.steps,
                   (unsigned long long)n->watch.prefilled);
    if (c->restored_tokens > n->watch.restored_most)
        world_fail(w, "%s counts %llu restored tokens, there were %llu", n->node.name,
                   (unsigned long long)c->restored_tokens, (unsigned long long)n->watch.restored_most);
}

void worker_watch_turn(struct worker_node *n) {
    struct worker_counters c;
    ms_t now = node_ms(&n->node);
    worker_core_counters(n->core, &c);
    for (uint32_t i = 0; i < n->watch.n_links; i++) check_link(n, &n->watch.links[i], &c, now);
    check_idle(n, &c, now);
    check_counters(n, &c);
}
