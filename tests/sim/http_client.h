// HTTP clients. They are no processes of the simulation: a client is a request that speaks to one router's front. Some opt
// in to coming back: when their router dies or their connection breaks they repeat the POST at any router, and all that they
// bring is what the id of the last event told them and how many records they have. The front's part is in router_node.c.
#pragma once
#include "tests/sim/request.h"

struct world;

struct http_client { // of a request that comes back
    bool told;       // an event came, with the id that has what follows
    uint64_t seed;
    char replica[NAME_SIZE], fingerprint[FINGERPRINT_SIZE];
    uint32_t returns; // so far
};

// To a living router, as a load balancer would.
void http_client_ask(struct world *w, const struct request *r);
// Its router, or the way to it, is gone.
void http_client_lost(struct world *w, const struct request *r);
