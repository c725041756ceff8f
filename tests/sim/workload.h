// The clients: when requests come, what they ask, and through which door.
#pragma once
#include "tests/sim/event_queue.h"

void workload_start(struct world *w);
void workload_settle(struct world *w); // the liveness phase: no more than the core can do, nothing vicious
