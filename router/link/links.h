// A router's ZeroMQ connections: one socket that workers, clients and peer routers dial, and one dialled connection per
// peer. Gives each connection a link_id, decodes frames into messages for router_core and encodes what the core sends. With
// CURVE it is here that a key's role and tenant bind what its owner says: a client can't say Hello as a worker, nor ask in
// another tenant's name. Loop thread only.
#pragma once
#include "common/auth/guard.h"
#include "common/delivery/stream_tx.h"
#include "common/net/zmq_loop.h"
#include "router/core/router_core.h"

struct links;

struct links_options {
    uv_loop_t *loop;
    const char *listen; // endpoint for everybody who dials us
    uint32_t n_peers;   // routers that we dial
    const char *const *peers;
    struct guard *guard; // who may speak; outlives the links
};

struct links_stats {
    uint64_t frames_in, frames_out, bytes_in, bytes_out, garbage, unreachable, full,
        overstepped; // overstepped: a key does not allow it
};

// Listens at once; nothing is handed to the core before links_run().
err_id links_create(const struct links_options *options, struct links **out, struct error *e);
struct sink links_sink(struct links *l); // for router_core_create
// Starts dialling the peers.
err_id links_run(struct links *l, struct router_core *core, struct error *e);
const char *links_endpoint(const struct links *l);
// Tells the core of connections that broke since the last call and drops those that the core gave up. Call once per turn.
void links_turn(struct links *l);
void links_stats(const struct links *l, struct links_stats *out);
// The guard's list changed: who is no longer in it, or in it with another role or tenant, is cut off.
void links_keys_changed(struct links *l);
void links_destroy(struct links **l);
