#include "tests/sim/faults.h"

#include "common/base/check.h"
#include "tests/sim/client_node.h"
#include "tests/sim/router_node.h"
#include "tests/sim/worker_moves.h"
#include "tests/sim/world.h"

enum { BUSY_TRIES = 12 };

static us_t draw_time(struct world *w, double lo_s, double hi_s) {
    return (us_t)(rng_log(&w->fault_rng, lo_s < hi_s ? lo_s : hi_s / 2, hi_s) * 1e6);
}

static void again(struct world *w, event_fn *fn, double mean_s) {
    if (mean_s <= 0 || w->phase != PHASE_SAFETY) return;
    us_t at = w->now + (us_t)(rng_exp(&w->fault_rng, mean_s) * 1e6) + 1;
    if (at < w->p.safety_end) world_at(w, at, fn, NULL, 0);
}

static struct node *any_node(struct world *w) {
    double u = rng_unit(&w->fault_rng);
    if (u < 0.7) return &w->workers[rng_below(&w->fault_rng, w->n_workers)]->node;
    if (u < 0.9 || w->n_clients == 0) return &w->routers[rng_below(&w->fault_rng, w->n_routers)]->node;
    return &w->clients[rng_below(&w->fault_rng, w->n_clients)]->node;
}

static struct conn *any_conn(struct world *w) {
    uint32_t n = 0;
    for (struct conn *c = w->net.conns.next; c != &w->net.conns; c = c->next) n++;
    if (n == 0) return NULL;
    struct conn *c = w->net.conns.next;
    for (uint32_t k = rng_below(&w->fault_rng, n); k > 0; k--) c = c->next;
    return c;
}

// --- kill

static void restart(struct world *w, void *ctx, uint64_t lives) {
    struct node *n = ctx;
    if (n->alive || n->broken_for_good || n->lives != lives) return;
    node_start(n);
}

void fault_restart_later(struct world *w, struct node *n) {
    us_t after = w->phase == PHASE_SAFETY ? draw_time(w, 0.05, w->p.down_max_s > 0 ? w->p.down_max_s : 1) : 1000000;
    world_at(w, w->now + after, restart, n, n->lives);
}

void fault_kill(struct world *w, struct node *n) {
    if (!n->alive) return;
    world_disaster(w);
    fault_restart_later(w, n);
    node_kill(n);
}

static void kill_event(struct world *w, void *ctx, uint64_t arg) {
    struct node *n = any_node(w);
    if (n->alive && n->kind != NODE_CLIENT && rng_chance(&w->fault_rng, w->p.drain)) {
        if (n->kind == NODE_WORKER)
            worker_node_drain((struct worker_node *)n);
        else
            router_node_drain((struct router_node *)n);
    } else if (n->alive && n->kind == NODE_WORKER && rng_chance(&w->fault_rng, w->p.engine_fails)) {
        w->stats.kills++;
        world_disaster(w);
        worker_node_fail((struct worker_node *)n);
    } else if (n->alive) {
        if (n->kind == NODE_CLIENT)
            w->stats.client_kills++;
        else
            w->stats.kills++;
        fault_kill(w, n);
    }
    again(w, kill_event, w->p.kill_s);
}

// A worker that has something to lose, if there is one.
static struct worker_node *busy_worker(struct world *w) {
    struct worker_node *k = NULL;
    for (uint32_t tries = 0; tries < BUSY_TRIES; tries++) {
        struct worker_counters c = {0};
        k = w->workers[rng_below(&w->fault_rng, w->n_workers)];
        if (k->node.alive) worker_core_counters(k->core, &c);
        if (c.running > 0) break;
    }
    return k;
}

// SIGTERM, or an operator's word that travels over a client's routers.
static void notice_event(struct world *w, void *ctx, uint64_t arg) {
    struct worker_node *k = busy_worker(w);
    struct client_node *c = w->n_clients ? w->clients[rng_below(&w->fault_rng, w->n_clients)] : NULL;
    if (c && c->node.alive && rng_chance(&w->fault_rng, 0.3))
        client_node_notice(c, k->node.name, 1 + rng_below(&w->fault_rng, w->p.drain_max_ms));
    else if (k->node.alive)
        worker_node_drain(k);
    again(w, notice_event, w->p.notice_s);
}

static void group_event(struct world *w, void *ctx, uint64_t arg) {
    struct worker_node *k = busy_worker(w);
    if (k->node.alive && k->node.paused_until <= w->now) worker_moves_lose_member(k);
    again(w, group_event, w->p.group_s);
}

// --- connections and pauses

static void reset_event(struct world *w, void *ctx, uint64_t arg) {
    struct conn *c = any_conn(w);
    if (c) {
        w->stats.resets++;
        world_disaster(w);
        trace_note(&w->trace, w->now, NULL, "the connection of %s to %s breaks", c->node[0]->name, c->node[1]->name);
        network_break(w, c);
    }
    again(w, reset_event, w->p.reset_s);
}

static void stall_event(struct world *w, void *ctx, uint64_t arg) {
    struct conn *c = any_conn(w);
    if (c) {
        int to = (int)rng_below(&w->fault_rng, 2);
        c->stalled_until[to] = w->now + draw_time(w, 0.02, w->p.stall_max_s);
        w->stats.stalls++;
        world_disaster(w);
        trace_note(&w->trace, w->now, NULL, "what goes to %s from %s is held up until %.3f", c->node[to]->name,
                   c->node[!to]->name, (double)c->stalled_until[to] / 1e6);
    }
    again(w, stall_event, w->p.stall_s);
}

static void pause_event(struct world *w, void *ctx, uint64_t arg) {
    struct node *n = any_node(w);
    if (n->alive && n->paused_until <= w->now) {
        n->paused_until = w->now + draw_time(w, 0.02, w->p.pause_max_s);
        w->stats.pauses++;
        world_disaster(w);
        trace_note(&w->trace, w->now, NULL, "%s is stopped until %.3f", n->name, (double)n->paused_until / 1e6);
    }
    again(w, pause_event, w->p.pause_s);
}

// --- partitions

static void cut(struct world *w, const struct node *a, const struct node *b, us_t until, int ways, bool drop) {
    world_disaster(w);
    if (ways & 1) network_partition(w, a->index, b->index, until, drop);
    if (ways & 2) network_partition(w, b->index, a->index, until, drop);
}

static void partition_event(struct world *w, void *ctx, uint64_t arg) {
    us_t until = w->now + draw_time(w, 0.1, w->p.partition_max_s);
    if (until > w->p.safety_end) until = w->p.safety_end;
    int ways = (int)rng_range(&w->fault_rng, 1, 3);
    bool drop = rng_chance(&w->fault_rng, 0.5);
    struct conn *c = any_conn(w);
    if (w->options->regions > 1 && rng_chance(&w->fault_rng, 0.25)) {
        uint32_t region = rng_below(&w->fault_rng, w->options->regions);
        for (uint32_t a = 0; a < w->n_nodes; a++) {
            for (uint32_t b = 0; b < w->n_nodes; b++) {
                if (w->nodes[a]->region == region && w->nodes[b]->region != region)
                    cut(w, w->nodes[a], w->nodes[b], until, ways, drop);
            }
        }
        trace_note(&w->trace, w->now, NULL, "%s is cut off (%d) until %.3f", region_name(region), ways, (double)until / 1e6);
    } else if (c) {
        cut(w, c->node[0], c->node[1], until, ways, drop);
        trace_note(&w->trace, w->now, NULL, "%s and %s are cut off (%d) until %.3f", c->node[0]->name, c->node[1]->name,
                   ways, (double)until / 1e6);
    }
    w->stats.partitions++;
    again(w, partition_event, w->p.partition_s);
}

void faults_start(struct world *w) {
    again(w, kill_event, w->p.kill_s);
    again(w, notice_event, w->p.notice_s);
    again(w, group_event, w->p.group_s);
    again(w, reset_event, w->p.reset_s);
    again(w, stall_event, w->p.stall_s);
    again(w, pause_event, w->p.pause_s);
    again(w, partition_event, w->p.partition_s);
}

// --- the liveness phase

bool router_serves(const struct world *w, uint32_t router, uint32_t region) {
    uint32_t of_region = 0;
    for (uint32_t i = 0; i < w->n_routers; i++) of_region += w->routers[i]->node.region == region;
    return of_region ? w->routers[router]->node.region == region : router == region % w->n_routers;
}

static bool region_served(const struct world *w, uint32_t region) {
    for (uint32_t i = 0; i < w->n_routers; i++) {
        if (!w->routers[i]->node.broken_for_good && router_serves(w, i, region)) return true;
    }
    return false;
}

// Workers of the core in one region that serve a model; the slow one counts for a quarter.
static double region_workers(const struct world *w, uint32_t model, uint32_t region) {
    double n = 0;
    for (uint32_t i = 0; i < w->n_workers && region_served(w, region); i++) {
        const struct worker_node *k = w->workers[i];
        bool slow = w->p.one_slow && i + 1 == w->n_workers;
        if (k->model == model && k->node.region == region && !k->node.broken_for_good) n += slow ? 0.25 : 1;
    }
    return n;
}

double core_capacity(const struct world *w, uint32_t model) {
    double each = params_capacity(&w->p, 1), weights = 0, least = 1e9, weightless = 1e9;
    for (uint32_t r = 0; r < w->options->regions; r++) {
        if (region_workers(w, model, r) > 0) weights += (double)w->p.weights[r];
    }
    for (uint32_t r = 0; r < w->options->regions; r++) {
        double can = region_workers(w, model, r) * each, weight = (double)w->p.weights[r];
        if (can > 0 && weight > 0 && can * weights / weight < least) least = can * weights / weight;
        if (can > 0 && can < weightless) weightless = can;
    }
    return weights > 0 ? least : weightless;
}

static void break_for_good(struct world *w, struct node *n) {
    static const char *const how[] = {"dead", "stopped", "cut off", "deaf", "mute"};
    uint32_t kind = rng_below(&w->fault_rng, 5);
    n->broken_for_good = true;
    world_disaster(w);
    if (kind == 0) node_kill(n);
    if (kind == 1) n->paused_until = INT64_MAX / 2;
    n->cut_in = kind == 2 || kind == 3;
    n->cut_out = kind == 2 || kind == 4;
    if (kind == 1 && n->kind == NODE_ROUTER && n->alive) router_node_abandon((struct router_node *)n);
    if (!n->alive) kind = 0;
    trace_note(&w->trace, w->now, NULL, "%s is %s for good", n->name, how[kind]);
}

// Marks what breaks; every kind of worker keeps one that a router of the core serves.
static void pick_core(struct world *w) {
    uint32_t keep = rng_below(&w->fault_rng, w->n_routers);
    for (uint32_t i = 0; i < w->n_routers; i++)
        w->routers[i]->node.broken_for_good = i != keep && rng_chance(&w->fault_rng, 0.4);
    for (uint32_t i = 0; i < w->n_workers; i++) w->workers[i]->node.broken_for_good = rng_chance(&w->fault_rng, 0.4);
    for (uint32_t kind = 0; kind < w->p.n_models * w->p.n_deployments; kind++) {
        struct worker_node *spare = NULL;
        bool have = false;
        for (uint32_t i = 0; i < w->n_workers; i++) {
            struct worker_node *k = w->workers[i];
            if (k->model + k->deployment * w->p.n_models != kind) continue;
            if (spare == NULL || !region_served(w, spare->node.region)) spare = k;
            have |= !k->node.broken_for_good && region_served(w, k->node.region);
        }
        if (have || spare == NULL) continue;
        spare->node.broken_for_good = false;
        for (uint32_t i = 0; i < w->n_routers; i++) {
            if (router_serves(w, i, spare->node.region)) w->routers[i]->node.broken_for_good = false;
        }
    }
}

void faults_settle(struct world *w) {
    struct params *p = &w->p;
    p->lose = p->twice = p->lose_kind_p = 0;
    p->silent_close = 0;
    p->poison = 0;
    network_heal(&w->net);
    for (struct conn *c = w->net.conns.next; c != &w->net.conns; c = c->next) c->stalled_until[0] = c->stalled_until[1] = 0;
    if (p->faults & (FAULT_KILL | FAULT_PARTITION | FAULT_LATE)) pick_core(w);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        struct node *n = w->nodes[i];
        if (n->broken_for_good)
            break_for_good(w, n);
        else if (!n->alive)
            node_start(n);
    }
}
