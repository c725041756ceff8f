// A worker's own HTTP: /livez, /readyz and /metrics on one address, the admin socket with POST /drain on another. Loop
// thread.
#pragma once
#include "common/auth/guard.h"
#include "common/net/http_server.h"
#include "worker/core/worker_core.h"
#include "worker/link/router_links.h"
#include "worker/main/group_member.h"

struct worker_http;

struct worker_http_options {
    uv_loop_t *loop;
    const char *metrics, *admin; // addresses; NULL or "": not opened
    const struct cluster_config *config;
    struct guard *guard;            // who may read /metrics
    const struct worker_core *core; // with links; NULL for a follower of a group
    const struct router_links *links;
    void (*drain)(void *ctx, uint32_t deadline_ms); // 0: no deadline
    void (*figures)(void *ctx, struct group_figures *out);
    void *ctx;
};

err_id worker_http_create(const struct worker_http_options *options, struct worker_http **out, struct error *e);
void worker_http_destroy(struct worker_http **h);
