#include "tests/sim/rest.h"

#include "tests/sim/faults.h"
#include "tests/sim/router_node.h"
#include "tests/sim/worker_node.h"
#include "tests/sim/world.h"

#include <stdio.h>

enum { REST_PERIOD_US = 500000, LAST_ANSWER_S = 60, REST_S = 120 };
enum { NEWS_US = 6000000, QUIET_US = 3000000 }; // until everybody must know everything; and what is watched from then on

// --- nothing is left

static const char *router_leftover(const struct router_node *n) {
    struct router_counters c;
    router_core_counters(n->core, &c);
    if (c.sessions) return "holds sessions";
    if (c.queued || c.queued_tokens) return "holds reservations in its queue";
    if (c.held_bytes) return "holds requests or logs";
    return router_core_idle(n->core) ? NULL : "is not idle";
}

static const char *worker_leftover(const struct world *w, const struct worker_node *n) {
    struct worker_counters c;
    worker_core_counters(n->core, &c);
    if (c.streams || c.running || c.waiting || c.preparing) return "holds streams";
    if (c.plans_in_flight) return "has plans in flight";
    if (c.blocks_free != w->p.n_blocks || c.blocks_total != w->p.n_blocks) return "holds KV blocks";
    if (c.slots_free != w->p.max_seqs + w->p.spare_slots) return "holds slots";
    if (c.log_bytes) return "holds logs";
    if (n->instances.count) return "has not released every stream";
    return worker_core_idle(n->core) ? NULL : "is not idle";
}

static bool out_of_reach(const struct node *n) { return !n->alive || n->paused_until > n->world->now; }

// NULL: at rest.
static const char *leftover(struct world *w, const char **who) {
    for (uint32_t i = 0; i < w->n_routers; i++) {
        const char *what = out_of_reach(&w->routers[i]->node) ? NULL : router_leftover(w->routers[i]);
        *who = w->routers[i]->node.name;
        if (what) return what;
    }
    for (uint32_t i = 0; i < w->n_workers; i++) {
        const char *what = out_of_reach(&w->workers[i]->node) ? NULL : worker_leftover(w, w->workers[i]);
        *who = w->workers[i]->node.name;
        if (what) return what;
    }
    return NULL;
}

static void check_cores(struct world *w) {
    for (uint32_t i = 0; i < w->n_routers; i++) {
        struct router_counters c = {0};
        if (w->routers[i]->node.alive) router_core_counters(w->routers[i]->core, &c);
        w->stats.protocol_errors += c.protocol_errors;
    }
    for (uint32_t i = 0; i < w->n_workers; i++) {
        struct worker_counters c = {0};
        if (w->workers[i]->node.alive) worker_core_counters(w->workers[i]->core, &c);
        w->stats.protocol_errors += c.protocol_errors;
    }
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        if (w->nodes[i]->alive) w->nodes[i]->ops->check(w->nodes[i]);
    }
}

static void check_goodput(struct world *w) {
    const struct stats *s = &w->stats;
    uint64_t lost = s->measured - s->measured_done;
    if (lost > 2 && (double)s->measured_done < 0.95 * (double)s->measured)
        world_fail(w, "with all faults over, only %llu of %llu requests were served", (unsigned long long)s->measured_done,
                   (unsigned long long)s->measured);
}

// At a fifth of its capacity a cluster lets few requests wait.
static void check_delays(struct world *w) {
    const struct stats *s = &w->stats;
    if (s->measured_done >= 20 && s->measured_prompt * 2 < s->measured_done)
        world_fail(w, "with all faults over and little to do, only %llu of %llu requests took the time that they should",
                   (unsigned long long)s->measured_prompt, (unsigned long long)s->measured_done);
}

// Some Resends find that their stream has moved on, most must be answered.
static void check_resends(struct world *w) {
    const struct stats *s = &w->stats;
    if (s->resends >= 20 && s->resends_answered * 2 < s->resends)
        world_fail(w, "workers answered only %llu of %llu Resends", (unsigned long long)s->resends_answered,
                   (unsigned long long)s->resends);
}

// --- everybody knows the truth

static bool sound(const struct node *n) { return n->alive && !n->broken_for_good && n->paused_until <= n->world->now; }

static const struct replica_view *view_of(const struct msg_cluster *c, const char *name) {
    for (uint32_t i = 0; i < c->n_replicas; i++) {
        if (strcmp(c->replicas[i].name, name) == 0) return &c->replicas[i];
    }
    return NULL;
}

static const char *load_fault(const struct params *p, const struct deployment_status *s) {
    if (s->running || s->queued || s->queued_tokens || s->decode_left) return "to have work";
    if (s->blocks_free != p->n_blocks || s->blocks_total != p->n_blocks) return "to have other KV blocks";
    if (s->replicas_total != 1) return "to be several";
    return NULL;
}

static const char *view_fault(const struct worker_node *k, const struct replica_view *v) {
    const struct params *p = &k->node.world->p;
    struct worker_counters c;
    worker_core_counters(k->core, &c);
    if (v->suspect) return "suspect";
    if (v->state != worker_core_life(k->core)) return "in another state";
    if (v->deadline_ms && v->state != LIFECYCLE_NOTICED) return "to go soon";
    if (strcmp(v->region, region_name(k->node.region)) != 0 || v->zone[0] == '\0') return "in another place";
    if (v->state != LIFECYCLE_READY) return NULL;
    if (v->status.replicas_ready != 1) return "unable to serve";
    if (strcmp(v->status.info.fingerprint, k->fingerprint) != 0) return "with another fingerprint";
    if (v->status.info.max_seqs != p->max_seqs || v->status.info.max_context > p->max_context) return "of another size";
    if (strcmp(v->status.info.store, p->n_stores ? k->store_name : "") != 0) return "with another store";
    bool told = (p->faults & (FAULT_LOSE | FAULT_DOUBLE | FAULT_PARTITION)) == 0; // a Hello, which says it, is not repeated
    if (told &&
        (v->n_members != (k->epoch ? 2 : 1) || v->members[v->n_members - 1].pid != (k->epoch ? k->epoch : k->node.lives)))
        return "with other members";
    if (v->status.prefill_rate != c.prefill_rate || v->status.decode_rate != c.decode_rate) return "at another speed";
    if (v->status.decoded_total != c.decoded_tokens || v->status.prefilled_total != c.prefilled_tokens)
        return "with other counts";
    return load_fault(p, &v->status);
}

static void check_models(struct router_node *n, uint32_t own_ready, uint32_t all_ready) {
    struct world *w = n->node.world;
    struct model_view models[REQUEST_MODELS_MAX];
    uint32_t count = router_core_models(n->core, models, REQUEST_MODELS_MAX), ready = 0;
    for (uint32_t i = 0; i < count && i < REQUEST_MODELS_MAX; i++) {
        ready += models[i].replicas_ready;
        if (models[i].replicas_ready > models[i].replicas_total || models[i].max_context > w->p.max_context ||
            models[i].n_aliases != 1)
            world_fail(w, "%s tells wrong things of %s", n->node.name, models[i].name);
    }
    if (ready < own_ready || ready > all_ready)
        world_fail(w, "%s tells of %u replicas that are ready, it has %u and there are %u", n->node.name, ready, own_ready,
                   all_ready);
    char why[256];
    if (router_core_ready(n->core, why, sizeof why) != (ready > 0) && !n->draining)
        world_fail(w, "%s with %u replicas says: %s", n->node.name, ready, why);
}

static void check_view(struct router_node *n, uint32_t all_ready) {
    struct world *w = n->node.world;
    struct msg_cluster cluster;
    router_core_cluster(n->core, &cluster);
    uint32_t own_ready = 0, shown_ready = 0;
    for (uint32_t i = 0; i < w->n_workers; i++) {
        struct worker_node *k = w->workers[i];
        if (!router_serves(w, n->node.number, k->node.region)) continue;
        const struct replica_view *v = view_of(&cluster, k->node.name);
        bool gone = !k->node.alive || k->node.paused_until > w->now || k->node.cut_out;
        shown_ready += v && v->status.replicas_ready;
        if (gone && v && v->status.replicas_ready) world_fail(w, "%s thinks that %s can serve", n->node.name, k->node.name);
        if (!sound(&k->node)) continue;
        own_ready += worker_core_life(k->core) == LIFECYCLE_READY;
        const char *fault = v ? view_fault(k, v) : "unknown";
        if (fault) world_fail(w, "%s thinks that %s is %s", n->node.name, k->node.name, fault);
    }
    struct router_counters c;
    router_core_counters(n->core, &c);
    if (c.replicas_ready != shown_ready)
        world_fail(w, "%s counts %u replicas that are ready, and shows %u", n->node.name, c.replicas_ready, shown_ready);
    check_models(n, own_ready, all_ready);
}

// An estimate of itself that is far off makes every router's reckoning wrong; from few rows at a time it is a guess.
static void check_speed(const struct worker_node *k) {
    struct world *w = k->node.world;
    struct worker_counters c;
    worker_core_counters(k->core, &c);
    double slow = w->p.one_slow && k->node.number + 1 == w->n_workers ? 4 : 1, seqs = w->p.max_seqs;
    double decode = seqs / (slow * ((double)w->p.step_us * 1e-6 + seqs / w->p.prefill_rate));
    double ratio = (double)c.decode_rate / decode;
    if (c.decoded_tokens >= 2000 && (ratio < 0.03 || ratio > 30))
        world_fail(w, "%s thinks that it decodes %.0f tokens per second, it can do %.0f", k->node.name,
                   (double)c.decode_rate, decode);
}

static void check_truth(struct world *w) {
    uint32_t ready = 0;
    for (uint32_t i = 0; i < w->n_workers; i++) {
        struct worker_node *k = w->workers[i];
        ready += k->node.alive && worker_core_life(k->core) == LIFECYCLE_READY;
        if (k->node.alive) check_speed(k);
    }
    for (uint32_t i = 0; i < w->n_routers; i++) {
        if (sound(&w->routers[i]->node)) check_view(w->routers[i], ready);
    }
}

// --- and keeps quiet

static void check_quiet(struct world *w) {
    uint32_t beats = QUIET_US / 1000 / w->p.timers.heartbeat_ms + 2, fulls = QUIET_US / 1000 / w->p.status_full_ms + 2;
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        if (!sound(w->nodes[i])) return; // who can't be reached is dialled again and again
    }
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        const struct node *n = w->nodes[i];
        if (n->kind == NODE_CLIENT) continue;
        uint32_t says = n->n_links * (beats + fulls), turns = n->heard + 2 * n->n_links * (beats + fulls) + 4 * beats;
        if (n->said > says) world_fail(w, "%s has nothing to say and has said %u things in 3 s", n->name, n->said);
        if (n->turns > turns) world_fail(w, "%s has nothing to do and woke up %u times in 3 s", n->name, n->turns);
    }
}

static void end(struct world *w, void *ctx, uint64_t arg) {
    check_quiet(w);
    check_truth(w);
    check_cores(w);
    const char *who = "", *what = leftover(w, &who);
    if (what) world_fail(w, "at rest %s %s", who, what);
    w->phase = PHASE_REST;
}

static void quiet(struct world *w, void *ctx, uint64_t arg) {
    for (uint32_t i = 0; i < w->n_nodes; i++) w->nodes[i]->said = w->nodes[i]->heard = w->nodes[i]->turns = 0;
    world_at(w, w->now + QUIET_US, end, NULL, 0);
}

static void rest(struct world *w, void *ctx, uint64_t arg) {
    us_t answers_by = w->p.arrivals_end + ((us_t)w->p.deadline_default_ms + LAST_ANSWER_S * 1000) * 1000;
    us_t rest_by = answers_by + ((us_t)w->p.grace_ms + REST_S * 1000) * 1000;
    const char *who = "", *what = oracle_open(w->oracle) ? NULL : leftover(w, &who);
    if (oracle_open(w->oracle) == 0 && what == NULL) {
        check_goodput(w);
        check_resends(w);
        check_delays(w);
        world_at(w, w->now + 2 * (us_t)w->p.status_full_ms * 1000 + NEWS_US, quiet, NULL, 0);
        return;
    }
    if (w->now > answers_by && oracle_open(w->oracle))
        world_fail(w, "request %u was asked at %.3f and has never ended", oracle_an_open_one(w->oracle)->number,
                   (double)oracle_an_open_one(w->oracle)->issued_at / 1e6);
    if (w->now > rest_by && what) world_fail(w, "all requests have ended, but %s %s", who, what);
    world_at(w, w->now + REST_PERIOD_US, rest, NULL, 0);
}

void rest_begin(struct world *w) { world_at(w, w->p.arrivals_end, rest, NULL, 0); }
