// What a router tells Prometheus. Internal to this room.
#pragma once
#include "common/base/buf.h"
#include "router/core/router_core.h"

struct front_metrics;

struct front_metrics *front_metrics_create(void);
void front_metrics_destroy(struct front_metrics **m);
void front_metrics_first_token(struct front_metrics *m, double seconds);
void front_metrics_ended(struct front_metrics *m, const char *how, double seconds); // how: a literal
void front_metrics_write(struct front_metrics *m, const struct router_core *core, struct buf *out);
