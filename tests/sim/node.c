#include "tests/sim/node.h"

#include "common/base/check.h"
#include "tests/sim/worker_node.h"
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

enum { CHECK_EVERY = 64 };

const char *region_name(uint32_t region) {
    static const char *const names[SIM_REGIONS_MAX] = {"region-0", "region-1", "region-2", "region-3",
                                                       "region-4", "region-5", "region-6", "region-7"};
    CHECK(region < SIM_REGIONS_MAX);
    return names[region];
}

void node_init(struct node *n, struct world *w, const struct node_ops *ops, enum node_kind kind, uint32_t number,
               uint32_t region) {
    *n = (struct node){.world = w, .ops = ops, .kind = kind, .number = number, .region = region, .tick_at = MS_NEVER};
    n->index = w->n_nodes++;
    w->nodes[n->index] = n;
    snprintf(n->name, sizeof n->name, "%s-%u",
             kind == NODE_ROUTER   ? "router"
             : kind == NODE_WORKER ? "worker"
                                   : "client",
             number);
}

void node_fini(struct node *n) {
    free(n->links);
    free(n->diallers);
}

void node_start(struct node *n) {
    struct world *w = n->world;
    CHECK(!n->alive);
    n->alive = true;
    n->lives++;
    n->incarnation = rng_u64(&w->shell_rng) | 1;
    n->clock_offset = (ms_t)rng_below(&w->shell_rng, 1000000);
    n->tick_at = MS_NEVER;
    n->paused_until = 0;
    trace_note(&w->trace, w->now, NULL, "%s starts, life %llx", n->name, (unsigned long long)n->incarnation);
    n->ops->start(n);
    for (uint32_t i = 0; i < n->n_diallers; i++) network_dial(w, &n->diallers[i], rng_below(&w->net_rng, 100000));
    node_wake(n);
}

void node_kill(struct node *n) {
    if (!n->alive) return;
    trace_note(&n->world->trace, n->world->now, NULL, "%s dies", n->name);
    world_hash(n->world, 0xdead00 + n->index);
    network_node_died(n->world, n);
    n->ops->stop(n);
    n->alive = false;
}

ms_t node_ms(const struct node *n) { return n->world->now / 1000 + n->clock_offset; }
us_t node_us(const struct node *n, ms_t at) { return at == MS_NEVER ? INT64_MAX : (at - n->clock_offset) * 1000; }

bool node_puts_off(struct node *n, event_fn *fn, void *ctx, uint64_t arg) {
    if (!n->alive || n->paused_until <= n->world->now) return false;
    world_at(n->world, n->paused_until, fn, ctx, arg);
    return true;
}

bool node_puts_off_owned(struct node *n, event_fn *fn, void *ctx, uint64_t arg) {
    if (!n->alive || n->paused_until <= n->world->now) return false;
    world_at_owned(n->world, n->paused_until, fn, ctx, arg);
    return true;
}

static void drop_dead_links(struct node *n) {
    link_id link;
    while (n->ops->next_dead_link(n, &link)) {
        for (uint32_t i = 0; i < n->n_links; i++) {
            if (n->links[i].id != link) continue;
            trace_note(&n->world->trace, n->world->now, NULL, "%s gives up link %u to %s", n->name, link,
                       n->links[i].conn->node[!n->links[i].end]->name);
            network_drop(n->world, n->links[i].conn, n->links[i].end);
            break;
        }
    }
}

static void turn(struct world *w, void *ctx, uint64_t life) {
    struct node *n = ctx;
    if (!n->alive || n->lives != life || n->tick_at != w->now) return;
    if (node_puts_off(n, turn, ctx, life)) {
        n->tick_at = n->paused_until;
        return;
    }
    n->tick_at = MS_NEVER;
    n->turns++;
    ms_t next = n->ops->tick(n);
    if (!n->alive) return;
    drop_dead_links(n);
    if (n->kind == NODE_WORKER) worker_watch_turn((struct worker_node *)n);
    us_t at = node_us(n, next);
    node_wake_at(n, at > w->now ? at : w->now + 1000);
    if (w->options->check_all || ++n->checks % CHECK_EVERY == 0) n->ops->check(n);
}

void node_wake_at(struct node *n, us_t at) {
    if (at >= n->tick_at) return;
    n->tick_at = at;
    world_at(n->world, at, turn, n, n->lives);
}

void node_wake(struct node *n) { node_wake_at(n, n->world->now + n->world->p.loop_delay_us); }

// Whatever else mends a gap in time, a Resend that arrives is answered: with the records, Done, or that there is nothing.
static bool answers(const struct msg_resend *r, const struct msg *m) {
    switch (m->kind) {
    case MSG_TOKENS:
        return stream_key_equal(&r->key, &m->tokens.key) && m->tokens.offset <= r->from;
    case MSG_DONE:
        return stream_key_equal(&r->key, &m->done.key);
    case MSG_UNKNOWN:
        return stream_key_equal(&r->key, &m->unknown.key);
    case MSG_SUPERSEDED:
        return stream_key_equal(&r->key, &m->superseded.key);
    default:
        return false;
    }
}

static void sink_send(void *ctx, link_id link, const struct msg *m) {
    struct node *n = ctx;
    n->said++;
    if (n->resend && answers(n->resend, m)) n->resend_answered = true;
    if (n->kind == NODE_WORKER) worker_watch_says((struct worker_node *)n, link, m);
    for (uint32_t i = n->n_links; i-- > 0;) {
        if (n->links[i].id != link) continue;
        network_send(n->world, n->links[i].conn, n->links[i].end, m);
        return;
    }
}

struct buggify node_buggify(struct node *n, uint32_t points) {
    const struct params *p = &n->world->p;
    return (struct buggify){.seed = rng_u64(&n->world->shell_rng),
                            .points = points,
                            .one_in = p->odd_one_in,
                            .until = p->safety_end / 1000 + n->clock_offset};
}

struct sink node_sink(struct node *n) {
    return (struct sink){.ctx = n, .send = sink_send};
}
