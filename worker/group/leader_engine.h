// A whole group as one engine, on the engine thread of its leader: stage 0's own layers (comm->inner) and the stages behind
// it, which are reached through comm. It keeps backend.h's contract; what it can't do is refused with a sentence: masks,
// forced tokens, logits, hidden states. KV entries that are moved are those of stage 0's layers, and so is
// info()->kv_bytes_per_token.
//
// abort() is also how the loop thread says that a member is gone: steps in flight end as FAILED with ERR_CANCELLED, and
// quiesce, slot_close of all open slots and regroup make the engine ready for the next epoch.
#pragma once
#include "worker/engine/backend.h"

// create() takes the options of stage 0 (layer_first, layer_end) and needs a comm.
extern const struct backend group_backend;
