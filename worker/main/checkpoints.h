// The shell's half of moving sequences: copies KV entries out of the engine into the store and back, on the thread pool but
// for the engine's own copying. Few at a time, so that memory is bounded; the others wait with their slots. Loop thread.
#pragma once
#include "worker/checkpoint/store.h"
#include "worker/core/worker_core.h"
#include "worker/main/engine_thread.h"
#include <uv.h>

enum { CHECKPOINTS_AT_ONCE = 4 };

struct checkpoints;

struct checkpoints_options {
    uv_loop_t *loop;
    struct checkpoint_store *store;
    struct worker_core *core;
};

struct checkpoints *checkpoints_create(const struct checkpoints_options *options);
// Waits for nothing: jobs on the pool end by themselves while the loop runs on, and tell nobody.
void checkpoints_close(struct checkpoints *c);
void checkpoints_destroy(struct checkpoints **c); // when the loop has ended
// The engine is there, and which shard of what it holds.
void checkpoints_serve(struct checkpoints *c, struct engine_thread *engine, const char *fingerprint);

// A checkpoint that a request names: what its manifest says of it, as far as this worker can use it.
struct checkpoint_found {
    char handle[CHECKPOINT_HANDLE_SIZE];
    struct sequence_state state; // tokens: NULL
    uint32_t n_usable;           // positions; 0: none
};
// Does the request name a checkpoint in our store?
bool checkpoints_reach(const struct checkpoints *c, const struct msg_generate *g);
// Pool thread. tokens: of prompt and records, as the router knows them. What can't be used is logged, and n_usable is 0.
void checkpoints_look(struct checkpoints *c, const struct stream_key *key, const char *handle, const uint32_t *tokens,
                      uint32_t n_tokens, struct checkpoint_found *found);

// Hooks of the core.
void checkpoints_write(struct checkpoints *c, uint64_t ticket, const struct checkpoint_request *r);
void checkpoints_restore(struct checkpoints *c, uint64_t ticket, uint32_t slot, const struct checkpoint_found *found,
                         uint32_t n);
void checkpoints_moved(struct checkpoints *c, const struct engine_event *event); // ENGINE_EVENT_MOVED
void checkpoints_turn(struct checkpoints *c); // once per turn of the loop: begins what may begin
