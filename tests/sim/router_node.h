// A simulated router: router_core, and an HTTP front's part (without HTTP) for half of the workload.
#pragma once
#include "router/core/router_core.h"
#include "tests/sim/node.h"
#include "tests/sim/request.h"

struct call { // an HTTP request that this router serves
    const struct request *request;
    struct session *session; // NULL: free
    uint32_t read;           // records handed to the client
};

struct happening { // told by the core, dealt with after its call has returned
    uint32_t call;
    enum session_event event;
};

struct router_node {
    struct node node;
    struct router_core *core;
    struct call *calls; // owned
    uint32_t n_calls;
    struct happening *happenings; // owned
    uint32_t n_happenings, happenings_capacity;
    bool draining;
};

struct router_node *router_node_create(struct world *w, uint32_t number, uint32_t region);
void router_node_destroy(struct router_node *n);
void router_node_submit(struct router_node *n, const struct request *r);
// It will never answer again, although it isn't dead: its HTTP clients go away.
void router_node_abandon(struct router_node *n);
// Restarts once no session is left.
void router_node_drain(struct router_node *n);
