// A simulated worker: worker_core, the fake engine, and the shell's part between them.
#pragma once
#include "tests/sim/node.h"
#include "tests/sim/worker_watch.h"
#include "worker/core/worker_core.h"

struct worker_node {
    struct node node;
    struct worker_core *core;
    struct engine *engine;
    uint32_t model, deployment;
    char fingerprint[FINGERPRINT_SIZE];
    us_t engine_free_at;
    us_t drain_until; // 0: not draining
    bool failed;      // its engine has
    uint32_t store;   // which, if there are any
    char store_name[NAME_SIZE];
    uint32_t epoch; // of its group
    us_t loaded_at, loading_since;
    struct worker_watch watch;
    struct instance_list {
        struct instance **items; // owned: those that this life holds
        uint32_t count, capacity;
    } instances;
};

struct worker_node *worker_node_create(struct world *w, uint32_t number, uint32_t region);
void worker_node_destroy(struct worker_node *n);
// Its engine reports a sticky error: the process says so and ends, and is started again.
void worker_node_fail(struct worker_node *n);
// SIGTERM: finishes or hands over what runs, then the process ends and is started again. A second one is in more of a hurry.
void worker_node_drain(struct worker_node *n);
