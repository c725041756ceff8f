// What goes wrong, when, and for how long; and, in the liveness phase, what stays broken for good.
#pragma once
#include "tests/sim/event_queue.h"

struct node;

void faults_start(struct world *w);
// As by kill -9; it is started again later.
void fault_kill(struct world *w, struct node *n);
void fault_restart_later(struct world *w, struct node *n);
// Ends all faults, picks a core of routers and workers that lives on, and leaves the rest broken for good.
void faults_settle(struct world *w);
// Does this router serve workers of that region?
bool router_serves(const struct world *w, uint32_t router, uint32_t region);
// Requests per second for a model that the core can serve, if regions get them by their weights.
double core_capacity(const struct world *w, uint32_t model);
