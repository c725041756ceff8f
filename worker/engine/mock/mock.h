// A paced engine without a model, for testing routers, schedulers and clients. Each KV entry is a hash of its token and of
// the entry before it, kept in the blocks that the plan names; the next token is a function of the last entry, the position
// and (above temperature 0) the seed. So a stream is right only if every token reached the right place of the right block,
// and a resumed one is identical. Tokens are lower-case letters and spaces as bytes.
#pragma once
#include "worker/engine/backend.h"

extern const struct backend mock_backend;
