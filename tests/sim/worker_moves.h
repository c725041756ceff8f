// The part of a worker's shell that moves sequences: checkpoints to and from the store, and the loss of a member where a
// replica is several processes.
#pragma once
#include "tests/sim/worker_node.h"

// hooks.checkpoint and hooks.restore
void worker_moves_checkpoint(void *ctx, uint64_t ticket, const struct checkpoint_request *request);
void worker_moves_restore(void *ctx, uint64_t ticket, uint32_t slot, void *user, uint32_t n);
// How many positions of a sequence the checkpoint holds that its Generate named.
uint32_t worker_moves_look(struct worker_node *n, const struct instance *i);
// A member is gone: what was computed is void, the group forms again with a later epoch.
void worker_moves_lose_member(struct worker_node *n);
