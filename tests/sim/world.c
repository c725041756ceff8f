#include "tests/sim/world.h"

#include "common/base/check.h"
#include "tests/sim/client_node.h"
#include "tests/sim/faults.h"
#include "tests/sim/router_node.h"
#include "tests/sim/worker_node.h"
#include "tests/sim/workload.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { START_SPREAD_US = 1000000, REST_PERIOD_US = 500000, LAST_ANSWER_S = 60, REST_S = 120 };

void world_fail(struct world *w, const char *format, ...) {
    if (w->failed) return;
    w->failed = true;
    va_list ap;
    va_start(ap, format);
    vsnprintf(w->failure, sizeof w->failure, format, ap);
    va_end(ap);
}

void world_disaster(struct world *w) { w->disasters[w->n_disasters++ % DISASTERS_MAX] = w->now; }

uint32_t world_disasters_since(const struct world *w, us_t since) {
    uint32_t n = 0, known = w->n_disasters < DISASTERS_MAX ? w->n_disasters : DISASTERS_MAX;
    for (uint32_t i = 0; i < known; i++) n += w->disasters[i] >= since;
    return n;
}

static void dial_everybody(struct world *w, struct node *n,
                           bool (*wanted)(const struct world *w, const struct node *n, uint32_t router)) {
    n->diallers = xcalloc(w->n_routers, sizeof *n->diallers);
    for (uint32_t i = 0; i < w->n_routers; i++) {
        if (wanted(w, n, i)) n->diallers[n->n_diallers++] = (struct dialler){.from = n, .to = &w->routers[i]->node};
    }
}

static bool worker_wants(const struct world *w, const struct node *n, uint32_t router) {
    return router_serves(w, router, n->region);
}
static bool peer_wants(const struct world *w, const struct node *n, uint32_t router) {
    return w->routers[router]->node.region != n->region;
}
static bool client_wants(const struct world *w, const struct node *n, uint32_t router) { return true; }

static void start_node(struct world *w, void *ctx, uint64_t arg) {
    struct node *n = ctx;
    if (!n->alive && n->lives == 0 && !n->broken_for_good) node_start(n);
}

struct world *world_create(const struct sim_options *options, uint64_t seed) {
    struct world *w = xcalloc(1, sizeof *w);
    w->options = options;
    w->seed = seed;
    params_draw(&w->p, options, seed);
    w->net_rng = rng_make(seed, 2);
    w->fault_rng = rng_make(seed, 3);
    w->load_rng = rng_make(seed, 4);
    w->shell_rng = rng_make(seed, 5);
    w->n_routers = options->routers;
    w->n_workers = options->workers;
    w->n_clients = options->clients;
    network_init(&w->net);
    trace_init(&w->trace, options->trace);
    w->oracle = oracle_create(w);
    w->stores = store_set_create();
    for (uint32_t i = 0; i < w->n_routers; i++) w->routers[i] = router_node_create(w, i, i % options->regions);
    for (uint32_t i = 0; i < w->n_workers; i++) w->workers[i] = worker_node_create(w, i, i % options->regions);
    for (uint32_t i = 0; i < w->n_clients; i++) w->clients[i] = client_node_create(w, i, i % options->regions);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        struct node *n = w->nodes[i];
        dial_everybody(w, n, n->kind == NODE_WORKER ? worker_wants : n->kind == NODE_ROUTER ? peer_wants : client_wants);
        world_at(w, rng_below(&w->shell_rng, START_SPREAD_US), start_node, n, 0);
    }
    return w;
}

void world_destroy(struct world *w) {
    struct event e;
    for (uint32_t i = 0; i < w->n_nodes; i++) node_kill(w->nodes[i]);
    while (event_queue_pop(&w->queue, &e)) {
        if (event_owns(&e)) e.fn(w, e.ctx, e.arg);
    }
    for (uint32_t i = 0; i < w->n_routers; i++) router_node_destroy(w->routers[i]);
    for (uint32_t i = 0; i < w->n_workers; i++) worker_node_destroy(w->workers[i]);
    for (uint32_t i = 0; i < w->n_clients; i++) client_node_destroy(w->clients[i]);
    network_fini(&w->net);
    oracle_destroy(w->oracle);
    store_set_destroy(w->stores);
    trace_free(&w->trace);
    event_queue_free(&w->queue);
    for (uint32_t i = 0; i < w->n_requests; i++) {
        free(w->requests[i]->http);
        free(w->requests[i]);
    }
    free(w->requests);
    free(w);
}

// --- the end of a run: nothing may be left anywhere

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

static void rest(struct world *w, void *ctx, uint64_t arg) {
    us_t answers_by = w->p.arrivals_end + ((us_t)w->p.deadline_default_ms + LAST_ANSWER_S * 1000) * 1000;
    us_t rest_by = answers_by + ((us_t)w->p.grace_ms + REST_S * 1000) * 1000;
    const char *who = "", *what = oracle_open(w->oracle) ? NULL : leftover(w, &who);
    if (oracle_open(w->oracle) == 0 && what == NULL) {
        check_cores(w);
        check_goodput(w);
        check_resends(w);
        check_delays(w);
        w->phase = PHASE_REST;
        return;
    }
    if (w->now > answers_by && oracle_open(w->oracle))
        world_fail(w, "request %u was asked at %.3f and has never ended", oracle_an_open_one(w->oracle)->number,
                   (double)oracle_an_open_one(w->oracle)->issued_at / 1e6);
    if (w->now > rest_by && what) world_fail(w, "all requests have ended, but %s %s", who, what);
    world_at(w, w->now + REST_PERIOD_US, rest, NULL, 0);
}

static void liveness(struct world *w, void *ctx, uint64_t arg) {
    trace_note(&w->trace, w->now, NULL, "--- the faults end");
    w->phase = PHASE_LIVENESS;
    faults_settle(w);
    workload_settle(w);
}

void world_run(struct world *w) {
    workload_start(w);
    faults_start(w);
    world_at(w, w->p.safety_end, liveness, NULL, 0);
    world_at(w, w->p.arrivals_end, rest, NULL, 0);
    struct event e;
    while (!w->failed && w->phase != PHASE_REST && event_queue_pop(&w->queue, &e)) {
        w->now = e.at;
        w->events++;
        e.fn(w, e.ctx, e.arg);
    }
    world_hash(w, w->events);
}
