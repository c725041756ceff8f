#include "worker/main/worker_guard.h"

err_id worker_guard_create(uv_loop_t *loop, const struct host_settings *settings, void (*changed)(void *ctx), void *ctx,
                           struct guard **out, struct error *e) {
    struct guard_options o = {.loop = loop,
                              .config = &settings->config,
                              .api_keys = guard_metrics_keyed(&settings->config, GUARD_METRICS, settings->metrics),
                              .certificate = settings->key,
                              .role = CERTIFICATE_WORKER,
                              .ctx = ctx,
                              .changed = changed};
    return guard_create(&o, out, e);
}
