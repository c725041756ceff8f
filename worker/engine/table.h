// The one table of backends. Nothing else includes a backend.
#pragma once
#include "worker/engine/backend.h"

// By name ("cpu", "mock"); ERR_NOT_FOUND lists the names there are.
err_id backend_find(const char *name, const struct backend **backend, struct error *e);
// The names, separated by ", ".
const char *backend_names(void);

// Of a command line, for engine_opts; NULL is the default. ERR_INVALID_ARGUMENT lists what there is.
err_id engine_isa_parse(const char *text, uint32_t *isa, struct error *e); // "best", "generic", "avx2", "avx512", …
err_id engine_numeric_parse(const char *text, uint32_t *numeric, struct error *e); // "weights", "w8a8"
