// Building a network and freezing it: edges are grouped by node once all are known, dead ends fall out, and cycles that
// would be followed for ever are found by a search over what takes no byte.
#include "worker/grammar/network.h"
#include "common/base/check.h"
#include <stdlib.h>
#include <string.h>

enum { NET_ROUNDS_MAX = 4096 };

void network_init(struct network *net, uint32_t budget) { *net = (struct network){.budget = budget, .start = NET_NONE}; }

void network_fini(struct network *net) {
    free(net->nodes);
    free(net->edges);
    free(net->links);
    free(net->edge_from);
    free(net->link_from);
    *net = (struct network){0};
}

static bool spend(struct network *net) {
    if (net->n_nodes + net->n_edges + net->n_links >= net->budget) net->over = true;
    return !net->over;
}

static uint32_t grown(uint32_t cap) { return cap ? cap * 2 : 64; }

uint32_t network_node(struct network *net) {
    if (!spend(net) && net->n_nodes > 0) return 0;
    if (net->n_nodes == net->cap_nodes) {
        net->cap_nodes = grown(net->cap_nodes);
        net->nodes = xrealloc(net->nodes, net->cap_nodes * sizeof *net->nodes);
    }
    net->nodes[net->n_nodes] = (struct net_node){.body = NET_NONE};
    return net->n_nodes++;
}

uint32_t network_final(struct network *net) {
    uint32_t node = network_node(net);
    net->nodes[node].final = true;
    return node;
}

void network_byte(struct network *net, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to) {
    if (!spend(net)) return;
    if (net->n_edges == net->cap_edges) {
        net->cap_edges = grown(net->cap_edges);
        net->edges = xrealloc(net->edges, net->cap_edges * sizeof *net->edges);
        net->edge_from = xrealloc(net->edge_from, net->cap_edges * sizeof *net->edge_from);
    }
    net->edge_from[net->n_edges] = from;
    net->edges[net->n_edges++] = (struct net_edge){.to = to, .lo = lo, .hi = hi};
}

void network_text(struct network *net, uint32_t from, const char *s, size_t len, uint32_t to) {
    if (len == 0) network_jump(net, from, to);
    for (size_t i = 0; i < len; i++) {
        uint32_t next = i + 1 == len ? to : network_node(net);
        network_byte(net, from, (uint8_t)s[i], (uint8_t)s[i], next);
        from = next;
    }
}

static void add_link(struct network *net, uint32_t from, struct net_link link) {
    if (!spend(net)) return;
    if (net->n_links == net->cap_links) {
        net->cap_links = grown(net->cap_links);
        net->links = xrealloc(net->links, net->cap_links * sizeof *net->links);
        net->link_from = xrealloc(net->link_from, net->cap_links * sizeof *net->link_from);
    }
    net->link_from[net->n_links] = from;
    net->links[net->n_links++] = link;
}

void network_jump(struct network *net, uint32_t from, uint32_t to) {
    add_link(net, from, (struct net_link){.callee = NET_NONE, .to = to});
}

void network_call(struct network *net, uint32_t from, uint32_t callee, uint32_t to) {
    add_link(net, from, (struct net_link){.callee = callee, .to = to});
}

void network_repeat(struct network *net, uint32_t from, uint32_t body, uint32_t min, uint32_t max, uint32_t to) {
    uint32_t counter = network_node(net);
    if (net->over) return;
    net->nodes[counter].body = body;
    net->nodes[counter].min = min;
    net->nodes[counter].max = max;
    net->nodes[counter].next = to;
    network_jump(net, from, counter);
}

// ---- which nodes lead anywhere ----

static bool ends_now(const struct network *net, const struct net_node *n, const bool *ok) {
    if (n->final) return true;
    if (n->body == NET_NONE) return false;
    return ok[n->next] && n->min <= n->max && (n->min == 0 || ok[n->body]);
}

bool *network_productive(const struct network *net) {
    bool *ok = xcalloc(net->n_nodes + 1, sizeof *ok);
    uint32_t rounds = 0; // as many as parts are nested in the wrong order
    for (bool changed = true; changed && rounds < NET_ROUNDS_MAX; rounds++) {
        changed = false;
        for (uint32_t i = net->n_nodes; i-- > 0;)
            if (!ok[i] && ends_now(net, &net->nodes[i], ok)) ok[i] = changed = true;
        for (uint32_t i = net->n_edges; i-- > 0;)
            if (!ok[net->edge_from[i]] && ok[net->edges[i].to]) ok[net->edge_from[i]] = changed = true;
        for (uint32_t i = net->n_links; i-- > 0;) {
            const struct net_link *l = &net->links[i];
            if (!ok[net->link_from[i]] && ok[l->to] && (l->callee == NET_NONE || ok[l->callee]))
                ok[net->link_from[i]] = changed = true;
        }
    }
    return ok;
}

// ---- freezing ----

static void group_edges(struct network *net, const bool *ok) {
    struct net_edge *out = xmalloc((net->n_edges + 1) * sizeof *out);
    uint32_t n = 0;
    for (uint32_t i = 0; i < net->n_edges; i++)
        if (ok[net->edges[i].to]) net->nodes[net->edge_from[i]].n_edges++;
    for (uint32_t i = 0; i < net->n_nodes; i++)
        net->nodes[i].edges = n, n += net->nodes[i].n_edges, net->nodes[i].n_edges = 0;
    for (uint32_t i = 0; i < net->n_edges; i++) {
        struct net_node *from = &net->nodes[net->edge_from[i]];
        if (ok[net->edges[i].to]) out[from->edges + from->n_edges++] = net->edges[i];
    }
    free(net->edges);
    net->edges = out;
    net->n_edges = n;
}

static bool leads_on(const struct net_link *l, const bool *ok) {
    return ok[l->to] && (l->callee == NET_NONE || ok[l->callee]);
}

static void group_links(struct network *net, const bool *ok) {
    struct net_link *out = xmalloc((net->n_links + 1) * sizeof *out);
    uint32_t n = 0;
    for (uint32_t i = 0; i < net->n_links; i++)
        if (leads_on(&net->links[i], ok)) net->nodes[net->link_from[i]].n_links++;
    for (uint32_t i = 0; i < net->n_nodes; i++)
        net->nodes[i].links = n, n += net->nodes[i].n_links, net->nodes[i].n_links = 0;
    for (uint32_t i = 0; i < net->n_links; i++) {
        struct net_node *from = &net->nodes[net->link_from[i]];
        if (leads_on(&net->links[i], ok)) out[from->links + from->n_links++] = net->links[i];
    }
    free(net->links);
    net->links = out;
    net->n_links = n;
}

// Which nodes can end without taking a byte.
static bool *nullable(const struct network *net) {
    bool *null = xcalloc(net->n_nodes + 1, sizeof *null);
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = net->n_nodes; i-- > 0;) {
            const struct net_node *n = &net->nodes[i];
            bool is = n->final || (n->body != NET_NONE && null[n->next] && (n->min == 0 || null[n->body]));
            for (uint32_t k = 0; k < n->n_links && !is; k++) {
                const struct net_link *l = &net->links[n->links + k];
                is = null[l->to] && (l->callee == NET_NONE || null[l->callee]);
            }
            if (is && !null[i]) null[i] = changed = true;
        }
    }
    return null;
}

// Where one gets from node without taking a byte: its k-th neighbour, or NET_NONE.
static uint32_t beside(const struct network *net, const bool *null, uint32_t node, uint32_t k) {
    const struct net_node *n = &net->nodes[node];
    if (k < 2 * n->n_links) {
        const struct net_link *l = &net->links[n->links + k / 2];
        if (l->callee == NET_NONE) return l->to;
        return k % 2 == 0 || !null[l->callee] ? l->callee : l->to;
    }
    if (n->body == NET_NONE || k >= 2 * n->n_links + 2) return NET_NONE;
    return k % 2 == 0 || (n->min > 0 && !null[n->body]) ? n->body : n->next;
}

// A cycle that takes no byte would be followed for ever.
static bool circles(const struct network *net) {
    bool *null = nullable(net), found = false;
    uint32_t *path = xmalloc((net->n_nodes + 1) * sizeof *path), *at = xcalloc(net->n_nodes + 1, sizeof *at), len;
    uint8_t *seen = xcalloc(net->n_nodes + 1, 1); // 1: on the path, 2: done
    for (uint32_t i = 0; i < net->n_nodes && !found; i++) {
        if (seen[i]) continue;
        for (path[0] = i, len = 1, seen[i] = 1; len > 0 && !found;) {
            uint32_t node = path[len - 1], to = beside(net, null, node, at[node]++);
            if (to == NET_NONE) {
                seen[node] = 2, len--;
            } else if (seen[to] == 1) {
                found = true;
            } else if (seen[to] == 0) {
                path[len++] = to, seen[to] = 1;
            }
        }
    }
    for (uint32_t i = 0; i < net->n_nodes; i++) found |= net->nodes[i].body != NET_NONE && null[net->nodes[i].body];
    free(null);
    free(path);
    free(at);
    free(seen);
    return found;
}

err_id network_finish(struct network *net, uint32_t start, struct error *e) {
    if (net->over)
        return error_set(e, ERR_INVALID_ARGUMENT, "the grammar is larger than the limit of %u states", net->budget);
    bool *ok = network_productive(net);
    bool any = ok[start];
    group_edges(net, ok);
    group_links(net, ok);
    for (uint32_t i = 0; i < net->n_nodes; i++) { // a counter whose body is impossible is an empty one
        struct net_node *n = &net->nodes[i];
        if (n->body != NET_NONE && !ok[n->body]) n->max = 0;
    }
    free(ok);
    free(net->edge_from);
    free(net->link_from);
    net->edge_from = net->link_from = NULL;
    net->start = start;
    if (!any) return error_set(e, ERR_INVALID_ARGUMENT, "no text at all is valid");
    if (circles(net)) return error_set(e, ERR_INVALID_ARGUMENT, "it refers to itself without anything in between");
    return ERR_NONE;
}
