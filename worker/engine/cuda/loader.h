// Finds the CUDA backend: libshoal-cuda.so, loaded when --device cuda asks for it, so that the same programs run where there
// is neither a GPU nor NVIDIA's libraries. Looked for beside the program, in ../lib beside its folder, then where the
// system's loader looks. Once loaded it stays.
#pragma once
#include "worker/engine/backend.h"

// ERR_UNAVAILABLE says what is missing (this library, one that it needs, or the same build) and what to do.
err_id cuda_backend_find(const struct backend **backend, struct error *e);
// The same, for a library at this path.
err_id cuda_backend_load(const char *path, const struct backend **backend, struct error *e);
