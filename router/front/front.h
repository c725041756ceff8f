// A router's HTTP side: OpenAI's endpoints over router_core sessions, health, metrics, and the admin socket. Loop thread
// only.
//   POST /v1/chat/completions, /v1/completions · GET /v1/models, /v1/models/NAME   (each also without /v1)
//   GET /livez (the process runs), /readyz and /health (requests can be served, else why not), /metrics
// With API keys, all but the health endpoints ask for one, and /metrics for an operator's (docs/security.md).
//   admin socket: POST /drain · GET /livez, /readyz, /metrics
#pragma once
#include "common/auth/guard.h"
#include "common/net/http_server.h"
#include "common/sys/config.h"
#include "router/core/router_core.h"

struct front;

struct front_options {
    uv_loop_t *loop;
    const char *http, *admin, *metrics; // addresses; "" or NULL: not opened
    const struct cluster_config *config;
    struct guard *guard; // who may ask for what
    uint32_t body_bytes_max, header_bytes_max, connections_max;
    size_t stream_bytes_max; // rendered and not yet taken by a slow client; records beyond wait in the log
    struct config_timers timers;
    void (*drain)(void *ctx); // the admin asked for it
    void *ctx;
    void (*more_metrics)(void *ctx, struct buf *out); // appended to /metrics
};

err_id front_create(const struct front_options *options, struct front **out, struct error *e);
struct session_output front_sessions(struct front *f); // for router_core_create
void front_run(struct front *f, struct router_core *core);
const char *front_address(const struct front *f); // of the HTTP listener, "" without one
// Renders what became available and what is due. Once per turn of the loop. Returns when it wants to be called again at the
// latest.
ms_t front_turn(struct front *f, ms_t now);
// Serves on, and tells clients to keep no connection.
void front_leave(struct front *f);
// Stops listening; running requests go on.
void front_stop(struct front *f);
// After front_stop: ends the requests that still run. A stream breaks off, for its client to take up at another router; its
// worker isn't told. An answer in one piece becomes ERR_DRAINING.
void front_hand_over(struct front *f, ms_t now);
bool front_idle(const struct front *f); // after front_stop: no request is open, and all bytes are out
void front_destroy(struct front **f);
