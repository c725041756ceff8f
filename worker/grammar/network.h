// A grammar as a network of states over bytes: a pushdown automaton without tokens. A node has edges that take a byte, edges
// that take none (jump; call of another node as a subroutine, which returns when it reaches a final node), or is a counter
// that calls a body between min and max times. Several edges may fit the same byte: the matcher follows all of them.
// Built by one owner under a budget of nodes and edges; frozen by network_finish(), then immutable, for any thread.
#pragma once
#include "common/base/error.h"
#include <stdbool.h>
#include <stdint.h>

enum { NET_NONE = UINT32_MAX, NET_UNBOUNDED = UINT32_MAX };
enum net_free { FREE_NO, FREE_ALWAYS, FREE_COUNTED };

struct net_edge { // takes a byte
    uint32_t to;
    uint8_t lo, hi;
};

struct net_link { // takes none: jump (callee NET_NONE) or call
    uint32_t callee, to;
};

struct net_node {
    uint32_t edges, n_edges; // first and how many, after network_finish
    uint32_t links, n_links;
    uint32_t body, min, max, next; // a counter when body isn't NET_NONE
    bool final;
    uint8_t free; // enum net_free: any plain token (vocabulary.h) comes back to this node; COUNTED: a plain character
                  // ends it, its frame counts them
};

struct network {
    struct net_node *nodes;
    struct net_edge *edges;
    struct net_link *links;
    uint32_t n_nodes, n_edges, n_links, cap_nodes, cap_edges, cap_links;
    uint32_t *edge_from, *link_from; // while it is built
    uint32_t start, budget;          // nodes + edges + links that may be made
    bool over;                       // the budget is spent; what is made now is void
};

void network_init(struct network *net, uint32_t budget);
void network_fini(struct network *net);
uint32_t network_node(struct network *net);
uint32_t network_final(struct network *net); // a new final node
void network_byte(struct network *net, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to);
void network_text(struct network *net, uint32_t from, const char *s, size_t len, uint32_t to);
void network_jump(struct network *net, uint32_t from, uint32_t to);
void network_call(struct network *net, uint32_t from, uint32_t callee, uint32_t to);
void network_repeat(struct network *net, uint32_t from, uint32_t body, uint32_t min, uint32_t max, uint32_t to);
// Groups the edges by node and drops those that lead to where no text can ever end. ERR_INVALID_ARGUMENT: the budget was
// spent, no text is right at all, or a part contains itself without taking a byte in between.
err_id network_finish(struct network *net, uint32_t start, struct error *e);
// Before or after network_finish: can a text that starts here end? For every node, free()d by the caller.
bool *network_productive(const struct network *net);
