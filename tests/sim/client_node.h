// A simulated client process with ZeroMQ links, as libshoal is one: connected to all routers, any number of streams, each
// placed on one router. It resumes by itself: Sync at the same router, Generate with its records at another.
#pragma once
#include "common/delivery/link_health.h"
#include "common/delivery/stream_rx.h"
#include "tests/sim/node.h"
#include "tests/sim/request.h"

struct client_router { // one that it dials
    link_id link;      // 0: not connected
    bool greeted, dead;
    incarnation_t incarnation;
    struct link_health health;
    ms_t avoid_until;
};

struct client_stream {
    const struct request *request;
    struct record_log *log; // owned
    struct stream_rx rx;
    bool placed;
    uint32_t router;         // where it is or was last
    incarnation_t placed_on; // 0: nowhere yet
    ms_t deadline_at, same_until, watch_at, cancel_at, sync_at;
    uint32_t moves;
    char fingerprint[FINGERPRINT_SIZE]; // of its first record
    uint32_t unanswered;                // Syncs to this router since it last said anything of this stream
};

struct client_node {
    struct node node;
    struct client_router routers[SIM_ROUTERS_MAX];
    struct client_stream **streams; // owned
    uint32_t n_streams, streams_capacity;
    uint32_t turn;
};

struct client_node *client_node_create(struct world *w, uint32_t number, uint32_t region);
void client_node_destroy(struct client_node *n);
// An operator's word to a worker, over this client's routers.
void client_node_notice(struct client_node *n, const char *worker, uint32_t deadline_ms);
void client_node_ask(struct client_node *n, const struct request *r);
