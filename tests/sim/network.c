#include "tests/sim/network.h"

#include "common/base/check.h"
#include "tests/sim/faults.h"
#include "tests/sim/world.h"

#include <stdlib.h>

enum { REDIAL_MS = 100, REDIAL_MAX_MS = 5000, DIAL_TIMEOUT_US = 3000000, TWICE_LATE_US = 300000 };

void network_init(struct network *net) {
    *net = (struct network){0};
    net->conns.prev = net->conns.next = &net->conns;
}

void network_fini(struct network *net) {
    while (net->conns.next != &net->conns) {
        struct conn *c = net->conns.next;
        net->conns.next = c->next;
        free(c);
    }
    packet_pool_free(&net->pool);
}

static void conn_release(struct conn *c) {
    if (--c->refs > 0) return;
    c->prev->next = c->next;
    c->next->prev = c->prev;
    free(c);
}

static bool end_lives(const struct conn *c, int end) { return c->node[end]->alive && c->node[end]->lives == c->lives[end]; }

static us_t latency(struct world *w, const struct node *a, const struct node *b) {
    us_t base = w->p.latency_us[a->region][b->region];
    return base + (us_t)((double)base * w->p.jitter * rng_unit(&w->net_rng));
}

// --- which end has the connection open under which number

static void end_open(struct conn *c, int end) {
    struct node *n = c->node[end];
    if (n->n_links == n->links_capacity) {
        n->links_capacity = n->links_capacity ? n->links_capacity * 2 : 8;
        n->links = xrealloc(n->links, n->links_capacity * sizeof *n->links);
    }
    c->link[end] = ++n->last_link;
    n->links[n->n_links++] = (struct node_link){c->link[end], c, (uint8_t)end};
    c->refs++;
    n->ops->opened(n, c->link[end], end == END_DIALLER);
    node_wake(n);
}

static void end_close(struct conn *c, int end) {
    struct node *n = c->node[end];
    for (uint32_t i = 0; i < n->n_links; i++) {
        if (n->links[i].id != c->link[end]) continue;
        n->links[i] = n->links[--n->n_links];
        break;
    }
    c->link[end] = 0;
    conn_release(c);
}

// --- messages

static const struct partition *partition_of(struct world *w, const struct node *from, const struct node *to) {
    for (uint32_t i = 0; i < w->net.n_partitions; i++) {
        const struct partition *p = &w->net.partitions[i];
        if (p->from == from->index && p->to == to->index && p->until > w->now) return p;
    }
    return NULL;
}

bool network_reaches(struct world *w, const struct node *from, const struct node *to) {
    return !from->cut_out && !to->cut_in && partition_of(w, from, to) == NULL;
}

static void hand_over(struct world *w, struct node *n, link_id link, const struct msg *m) {
    bool watched = m->kind == MSG_RESEND && n->kind == NODE_WORKER;
    n->resend = watched ? &m->resend : NULL;
    n->resend_answered = false;
    n->heard++;
    n->ops->message(n, link, m);
    n->resend = NULL;
    if (watched) w->stats.resends++, w->stats.resends_answered += n->resend_answered;
    node_wake(n);
}

static void deliver(struct world *w, void *ctx, uint64_t arg) {
    struct packet *p = ctx;
    struct conn *c = p->conn;
    int to = p->to;
    struct node *n = c->node[to];
    bool lost = c->cut[to] || !end_lives(c, to);
    if (!lost && node_puts_off_owned(n, deliver, p, arg)) return;
    if (!lost && c->link[to] == 0) {
        if (to == END_LISTENER)
            end_open(c, to);
        else
            lost = true;
    }
    if (!lost) {
        if (trace_on(&w->trace)) trace_message(&w->trace, w->now, c->node[!to]->name, n->name, c->link[to], &p->msg);
        world_hash(w, (uint64_t)w->now << 20 ^ n->index << 8 ^ p->msg.kind);
        hand_over(w, n, c->link[to], &p->msg);
    }
    packet_release(&w->net.pool, p);
    conn_release(c);
}

static void schedule(struct world *w, struct packet *p, us_t at) {
    p->conn->refs++;
    world_at_owned(w, at, deliver, p, 0);
}

static void die(struct world *w, void *ctx, uint64_t lives) {
    struct node *n = ctx;
    if (!n->alive || n->lives != lives || w->phase != PHASE_SAFETY) return;
    w->stats.kills++;
    fault_kill(w, n);
}

static bool is_lost(struct world *w, struct node *from, const struct msg *m) {
    if (rng_chance(&w->net_rng, w->p.lose)) return true;
    if ((uint32_t)m->kind != w->p.lose_kind || !rng_chance(&w->net_rng, w->p.lose_kind_p)) return false;
    if (from->kind != NODE_CLIENT && rng_chance(&w->net_rng, w->p.die_of_it))
        world_at(w, w->now + 1000, die, from, from->lives);
    return true;
}

void network_send(struct world *w, struct conn *c, uint8_t end, const struct msg *m) {
    int to = !end;
    if (c->cut[to]) return;
    if (is_lost(w, c->node[end], m)) {
        w->stats.lost++;
        if (trace_on(&w->trace)) trace_message(&w->trace, w->now, "LOST", c->node[to]->name, c->link[to], m);
        return;
    }
    us_t at = w->now + latency(w, c->node[end], c->node[to]);
    const struct partition *cut = w->net.n_partitions ? partition_of(w, c->node[end], c->node[to]) : NULL;
    if ((cut && cut->drop) || c->node[end]->cut_out || c->node[to]->cut_in) {
        w->stats.lost++;
        if (trace_on(&w->trace)) trace_message(&w->trace, w->now, "CUT OFF", c->node[to]->name, c->link[to], m);
        return;
    }
    if (cut && cut->until > at) at = cut->until;
    if (c->stalled_until[to] > at) at = c->stalled_until[to];
    if (c->last_at[to] > at) at = c->last_at[to];
    c->last_at[to] = at;
    struct packet *p = packet_copy(&w->net.pool, m);
    p->conn = c;
    p->to = (uint8_t)to;
    schedule(w, p, at);
    if (!rng_chance(&w->net_rng, w->p.twice)) return;
    p->refs++;
    schedule(w, p, at + rng_below(&w->net_rng, TWICE_LATE_US));
    w->stats.doubled++;
}

// --- connecting

static us_t redial_pause(struct world *w, uint32_t failures) {
    us_t ms = REDIAL_MS << (failures < 6 ? failures : 6);
    if (ms > REDIAL_MAX_MS) ms = REDIAL_MAX_MS;
    return ms * 500 + rng_below(&w->net_rng, (uint32_t)ms * 1000);
}

static void connect_now(struct world *w, void *ctx, uint64_t arg) {
    struct dialler *d = ctx;
    struct node *from = d->from, *to = d->to;
    if (node_puts_off(from, connect_now, ctx, arg)) return;
    d->due = false;
    if (!from->alive || d->conn) return;
    bool unreachable = !network_reaches(w, from, to) || !network_reaches(w, to, from);
    if (!to->alive || unreachable) {
        d->failures++;
        network_dial(w, d, redial_pause(w, d->failures) + (unreachable ? DIAL_TIMEOUT_US : 0));
        return;
    }
    struct conn *c = xcalloc(1, sizeof *c);
    *c = (struct conn){.node = {from, to}, .lives = {from->lives, to->lives}, .dialler = d, .refs = 0};
    c->prev = w->net.conns.prev;
    c->next = &w->net.conns;
    c->prev->next = c->next->prev = c;
    d->failures = 0;
    d->conn = c;
    end_open(c, END_DIALLER);
}

void network_dial(struct world *w, struct dialler *d, us_t after) {
    if (d->due) return;
    d->due = true;
    world_at(w, w->now + after + 2 * latency(w, d->from, d->to), connect_now, d, 0);
}

// --- breaking

static void closed(struct world *w, void *ctx, uint64_t end) {
    struct conn *c = ctx;
    struct node *n = c->node[end];
    if (end_lives(c, (int)end) && c->link[end] != 0) {
        if (node_puts_off(n, closed, ctx, end)) return;
        link_id link = c->link[end];
        trace_note(&w->trace, w->now, NULL, "%s: link %u to %s is closed", n->name, link, c->node[!end]->name);
        c->cut[end] = true;
        n->ops->closed(n, link);
        if (end == END_DIALLER) {
            c->dialler->conn = NULL;
            network_dial(w, c->dialler, redial_pause(w, 0));
        }
        end_close(c, (int)end);
        node_wake(n);
    }
    conn_release(c);
}

// This end will learn of the end of the connection, late or never.
static void tell_closed(struct world *w, struct conn *c, int end) {
    if (c->link[end] == 0 || rng_chance(&w->net_rng, w->p.silent_close)) return;
    if (!network_reaches(w, c->node[!end], c->node[end])) return;
    us_t late = rng_chance(&w->net_rng, 0.3) ? rng_below(&w->net_rng, 1000000) : 0;
    c->refs++;
    world_at(w, w->now + latency(w, c->node[!end], c->node[end]) + late, closed, c, (uint64_t)end);
}

void network_drop(struct world *w, struct conn *c, uint8_t end) {
    if (end == END_LISTENER) {
        end_close(c, end);
        return;
    }
    c->cut[END_DIALLER] = true;
    c->cut[END_LISTENER] = rng_chance(&w->net_rng, 0.5); // or what is under way still arrives
    c->dialler->conn = NULL;
    network_dial(w, c->dialler, redial_pause(w, 0));
    tell_closed(w, c, END_LISTENER);
    end_close(c, end);
}

void network_break(struct world *w, struct conn *c) {
    c->cut[0] = c->cut[1] = true;
    tell_closed(w, c, END_DIALLER);
    tell_closed(w, c, END_LISTENER);
}

void network_node_died(struct world *w, struct node *n) {
    while (n->n_links > 0) {
        struct node_link l = n->links[n->n_links - 1];
        l.conn->cut[0] = l.conn->cut[1] = true;
        if (l.end == END_DIALLER) l.conn->dialler->conn = NULL;
        tell_closed(w, l.conn, !l.end);
        end_close(l.conn, l.end);
    }
    for (struct conn *c = w->net.conns.next; c != &w->net.conns; c = c->next) { // we listened, but had forgotten the link
        if (c->node[END_LISTENER] != n || c->lives[END_LISTENER] != n->lives || c->link[END_LISTENER] != 0 || c->cut[0])
            continue;
        c->cut[0] = c->cut[1] = true;
        tell_closed(w, c, END_DIALLER);
    }
}

// --- partitions

bool network_partition(struct world *w, uint32_t from, uint32_t to, us_t until, bool drop) {
    struct network *net = &w->net;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < net->n_partitions; i++) {
        if (net->partitions[i].until > w->now) net->partitions[kept++] = net->partitions[i];
    }
    net->n_partitions = kept;
    if (kept == PARTITIONS_MAX) return false;
    net->partitions[net->n_partitions++] = (struct partition){from, to, until, drop};
    return true;
}

void network_heal(struct network *net) { net->n_partitions = 0; }
