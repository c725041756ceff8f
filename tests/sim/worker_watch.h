// Watches one life of a worker from outside, between the turns of its loop: that it works when it could, that what it tells
// its routers is true and no older than a heartbeat, that it says neither too little nor too much, and that its counters
// count.
#pragma once
#include "common/base/message.h"
#include "tests/sim/options.h"

struct worker_node;

struct watched_link { // what it was told
    link_id link;
    bool life_told, load_told;
    enum lifecycle life;
    uint32_t deadline_ms;
    struct deployment_status load;
    uint64_t seq;
    ms_t opened_at, said_at, full_at;
    ms_t wrong_since; // MS_NEVER: what it was told is still true
    uint32_t statuses, urgent;
};

struct worker_watch {
    struct watched_link *links; // owned
    uint32_t n_links, capacity;
    ms_t idle_since; // MS_NEVER: at work, or nothing to do
    ms_t link_lost_at;
    uint32_t restores;                        // under way
    uint64_t steps, prefilled, restored_most; // of the engine, as far as the core was told
};

void worker_watch_begin(struct worker_node *n); // a new life
void worker_watch_fini(struct worker_watch *watch);
void worker_watch_opened(struct worker_node *n, link_id link);
void worker_watch_closed(struct worker_node *n, link_id link);
void worker_watch_says(struct worker_node *n, link_id link, const struct msg *m);
void worker_watch_turn(struct worker_node *n); // at the end of it
