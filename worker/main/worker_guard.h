// Who may speak with a worker: its guard (common/auth), as its settings ask for it. Loop thread.
#pragma once
#include "common/auth/guard.h"
#include "worker/main/host.h"

// changed may be NULL.
err_id worker_guard_create(uv_loop_t *loop, const struct host_settings *settings, void (*changed)(void *ctx), void *ctx,
                           struct guard **out, struct error *e);
