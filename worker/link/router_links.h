// A worker's connections to its routers: dials every address it is given or discovers, gives each connection a link_id,
// decodes frames into messages for worker_core and encodes what the core sends. Loop thread only.
#pragma once
#include "common/auth/guard.h"
#include "common/delivery/stream_tx.h"
#include "common/net/zmq_loop.h"
#include "common/sys/config.h"
#include "worker/core/worker_core.h"

struct router_links;

struct router_links_options {
    uv_loop_t *loop;
    struct config_discover routers; // LIST, DNS (asked again every few seconds) or FILE (read again when it changes)
    const struct guard *guard;      // who may speak; outlives the links
};

struct router_links_stats {
    uint64_t frames_in, frames_out, bytes_in, bytes_out, garbage, refused;
    uint32_t dialled, connected; // now
};

struct router_links *router_links_create(const struct router_links_options *options);
struct sink router_links_sink(struct router_links *l); // for worker_core_create
// Starts dialling. Fails on a listed address that can't be dialled.
err_id router_links_run(struct router_links *l, struct worker_core *core, struct error *e);
// Redials what the core gave up. Call once per turn of the loop.
void router_links_turn(struct router_links *l);
// The guard's list changed: routers that are no longer in it are hung up on.
void router_links_keys_changed(struct router_links *l);
void router_links_stats(const struct router_links *l, struct router_links_stats *out);
void router_links_destroy(struct router_links **l);
