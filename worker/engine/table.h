// The one table of backends. Nothing else includes a backend.
#pragma once
#include "worker/engine/backend.h"

// By name ("cpu", "mock"); ERR_NOT_FOUND lists the names there are.
err_id backend_find(const char *name, const struct backend **backend, struct error *e);
// The names, separated by ", ".
const char *backend_names(void);
