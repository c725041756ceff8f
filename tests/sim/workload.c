#include "tests/sim/workload.h"

#include "common/base/check.h"
#include "tests/sim/client_node.h"
#include "tests/sim/faults.h"
#include "tests/sim/http_client.h"
#include "tests/sim/worker_node.h"
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

// After the faults, links and queues need a while; a router that holds few streams also until the last old one has met its
// deadline.
enum { SETTLE_S = 25, OLD_STREAMS_S = 120, CANCEL_MEAN_S = 2, SIBLINGS_MAX = 3 };

static bool narrow(const struct params *p) { return p->queue_max < 8 || p->worker_queue_max < 4 || p->sessions_max < 64; }

static void draw_lengths(struct world *w, struct request *r) {
    struct rng *g = &w->load_rng;
    r->prompt_tokens = (uint32_t)rng_log(g, 1, 401);
    if (rng_chance(g, w->p.prefix_share)) {
        r->family = rng_below(g, w->p.prefix_families);
        r->prefix_tokens = rng_range(g, 0, r->prompt_tokens);
    }
    r->max_tokens = rng_chance(g, 0.05) ? 0 : (uint32_t)rng_log(g, 1, 201);
    r->tokens_max = r->max_tokens ? r->max_tokens : MAX_TOKENS_DEFAULT;
}

static void draw_manners(struct world *w, struct request *r) {
    struct rng *g = &w->load_rng;
    bool calm = w->phase != PHASE_SAFETY;
    double shortest_s = calm ? 30 : 0.3;
    if (rng_chance(g, 0.6)) r->deadline_ms = (uint32_t)(rng_log(g, shortest_s, 90) * 1000);
    if (rng_chance(g, w->p.cancel)) r->cancel_at = w->now + (us_t)(rng_exp(g, CANCEL_MEAN_S) * 1e6) + 1;
    r->keep = rng_chance(g, w->p.keep);
    r->poison = rng_chance(g, w->p.poison);
    r->nan_index = rng_chance(g, w->p.nan) ? rng_below(g, 20) : UINT32_MAX;
    r->tail = rng_chance(g, 0.3);
    r->tenant = rng_below(g, 4);
    r->extra = (uint8_t)rng_below(g, 200);
    if (r->via == VIA_HTTP && rng_chance(g, w->p.returns)) {
        r->http = xcalloc(1, sizeof *r->http);
        r->keep = true;
        if (!calm && rng_chance(g, w->p.breaks)) r->breaks_at = w->now + (us_t)(rng_exp(g, CANCEL_MEAN_S) * 1e6) + 1;
    }
    if (!calm && rng_chance(g, w->p.pin)) {
        const struct worker_node *k = w->workers[rng_below(g, w->n_workers)];
        r->model = k->model;
        memcpy(r->pin, k->node.name, NAME_SIZE);
    }
    bool ordinary =
        !r->poison && r->nan_index == UINT32_MAX && r->cancel_at == 0 && r->prompt_tokens < params_context(&w->p);
    us_t settle_s = SETTLE_S + (narrow(&w->p) ? OLD_STREAMS_S : 0);
    r->measured = calm && ordinary && w->now >= w->p.safety_end + w->p.load_max_us + settle_s * 1000000;
}

static struct request *make_request(struct world *w) {
    struct request *r = xcalloc(1, sizeof *r);
    struct rng *g = &w->load_rng;
    if (w->n_requests == w->requests_capacity) {
        w->requests_capacity = w->requests_capacity ? w->requests_capacity * 2 : 1024;
        w->requests = xrealloc(w->requests, w->requests_capacity * sizeof(struct request *));
    }
    r->number = w->n_requests;
    w->requests[w->n_requests++] = r;
    uint64_t id[2] = {rng_u64(g), rng_u64(g)};
    memcpy(r->key.request.bytes, id, sizeof id);
    r->issued_at = w->now;
    r->via = rng_chance(g, 0.5) || w->n_clients == 0 ? VIA_HTTP : VIA_LINK;
    r->region = rng_below(g, w->options->regions);
    r->model = rng_below(g, w->p.n_models);
    r->has_seed = r->via == VIA_LINK || rng_chance(g, 0.5);
    r->seed = r->has_seed ? rng_u64(g) : 0;
    r->alias = rng_chance(g, w->p.alias);
    draw_lengths(w, r);
    draw_manners(w, r);
    return r;
}

static struct client_node *link_client(struct world *w) {
    uint32_t start = rng_below(&w->load_rng, w->n_clients);
    for (uint32_t k = 0; k < w->n_clients; k++) {
        struct client_node *n = w->clients[(start + k) % w->n_clients];
        if (n->node.alive) return n;
    }
    return NULL;
}

// Another choice of the same request: the same prompt, another stream.
static void make_sibling(struct world *w, struct request *r, const struct request *of) {
    r->key.request = of->key.request;
    r->key.choice = of->key.choice + 1;
    r->model = of->model;
    r->alias = of->alias;
    r->tenant = of->tenant;
    r->prompt_tokens = r->prefix_tokens = of->prompt_tokens;
    r->family = of->family;
    r->measured = r->measured && of->prompt_tokens < params_context(&w->p);
    if (of->pin[0] != r->pin[0]) memcpy(r->pin, of->pin, NAME_SIZE);
}

static void issue(struct world *w) {
    struct request *r = make_request(w);
    const struct request *before = r->number ? w->requests[r->number - 1] : NULL;
    if (before && before->prefix_tokens == before->prompt_tokens && before->key.choice < SIBLINGS_MAX)
        make_sibling(w, r, before);
    else if (rng_chance(&w->load_rng, w->p.siblings))
        r->prefix_tokens = r->prompt_tokens;
    struct client_node *client = r->via == VIA_LINK ? link_client(w) : NULL;
    if (r->measured) w->stats.measured++;
    oracle_asked(w->oracle, r);
    trace_note(&w->trace, w->now, &r->key, "request %u [%02x%02x] via %s: prompt %u, max %u, deadline %u ms%s%s%s",
               r->number, r->key.request.bytes[0], r->key.request.bytes[1], client ? client->node.name : "HTTP",
               r->prompt_tokens, r->max_tokens, r->deadline_ms, r->poison ? ", poison" : "", r->pin[0] ? ", pinned to " : "",
               r->pin);
    if (client)
        client_node_ask(client, r);
    else
        http_client_ask(w, r);
}

static void arrival(struct world *w, void *ctx, uint64_t arg) {
    if (w->now >= w->p.arrivals_end) return;
    issue(w);
    world_at(w, w->now + (us_t)(rng_exp(&w->load_rng, 1e6 / w->p.rate)) + 1, arrival, NULL, 0);
}

static void burst(struct world *w, void *ctx, uint64_t arg) {
    if (w->phase != PHASE_SAFETY || w->p.burst_s <= 0) return;
    for (uint32_t n = rng_range(&w->load_rng, 1, w->p.burst_max); n > 0; n--) issue(w);
    world_at(w, w->now + (us_t)(rng_exp(&w->load_rng, w->p.burst_s * 1e6)) + 1, burst, NULL, 0);
}

void workload_start(struct world *w) {
    world_at(w, 1, arrival, NULL, 0);
    if (w->p.burst_s > 0) world_at(w, (us_t)(rng_exp(&w->load_rng, w->p.burst_s * 1e6)) + 1, burst, NULL, 0);
}

void workload_settle(struct world *w) {
    double tightest = 1e9;
    for (uint32_t m = 0; m < w->p.n_models; m++) {
        double can = core_capacity(w, m) * w->p.n_models;
        if (can < tightest) tightest = can;
    }
    double most = tightest * (narrow(&w->p) ? 0.05 : 0.2);
    double held = w->p.sessions_max * 0.05 / ((double)params_service_us(&w->p, 90, 60) * 1e-6); // few of a router's places
    if (held < most) most = held;
    if (most < w->p.rate) w->p.rate = most;
}
