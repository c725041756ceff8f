// The shell's half of moving sequences: copies KV entries out of the engine into the store and back, on the thread pool but
// for the engine's own copying. Few at a time, so that memory is bounded; the others wait with their slots. Loop thread.
//
// A checkpoint of a replica in stages has a part of each. This process, the leader, has the first; it asks the followers for
// theirs (worker/group/part.h), and when all have answered it writes the manifest, or lets the sequence go on. Who fails,
// doesn't answer in time or is lost costs the checkpoint.
#pragma once
#include "worker/checkpoint/store.h"
#include "worker/core/worker_core.h"
#include "worker/group/message.h"
#include "worker/main/engine_thread.h"
#include "worker/main/host.h"
#include <uv.h>

enum {
    CHECKPOINTS_AT_ONCE = 4,
    CHECKPOINT_PART_MS = 10000,   // a follower's answer is waited for so long
    CHECKPOINT_LEASE_MS = 120000, // a checkpoint is kept so long at least, whatever room is needed
};

struct checkpoints;

struct checkpoints_options {
    uv_loop_t *loop;
    struct checkpoint_store *store;
    struct worker_core *core;
    // Asks a stage for its part: GROUP_SAVE or GROUP_LOAD. Answered by checkpoints_part_done(), or by checkpoints_lost().
    void (*ask)(void *ctx, uint32_t stage, enum group_kind kind, const struct group_part *part);
    void *ctx;
};

// The store that the settings name, for every process of a worker. *store = NULL: they name none.
err_id checkpoints_open_store(const struct host_settings *settings, struct checkpoint_store **store, struct error *e);

struct checkpoints *checkpoints_create(const struct checkpoints_options *options);
// Waits for nothing: jobs on the pool end by themselves while the loop runs on, and tell nobody.
void checkpoints_close(struct checkpoints *c);
void checkpoints_destroy(struct checkpoints **c); // when the loop has ended
// The engine is there; shards: the parts of a checkpoint, ours first (hashes are not looked at). n_shards 0: not all stages
// have the same store, nothing is read or written.
void checkpoints_serve(struct checkpoints *c, struct engine_thread *engine, const char *fingerprint,
                       const struct state_part *shards, uint32_t n_shards);
// Behind serve: what this worker writes and reads, as routers compare it: the store, and into which layers its entries are
// cut, because whoever is cut otherwise can't read them. "": nothing.
const char *checkpoints_place(const struct checkpoints *c);

// A checkpoint that a request names: what its manifest says of it, as far as this worker can use it.
struct checkpoint_found {
    char handle[CHECKPOINT_HANDLE_SIZE];
    struct sequence_state state; // tokens: NULL
    uint32_t n_usable;           // positions; 0: none
};
// Does the request name a checkpoint that is in our store and cut as we are?
bool checkpoints_reach(struct checkpoints *c, const struct msg_generate *g);
// Pool thread. tokens: of prompt and records, as the router knows them. What can't be used is logged, and n_usable is 0.
void checkpoints_look(struct checkpoints *c, const struct stream_key *key, const char *handle, const uint32_t *tokens,
                      uint32_t n_tokens, struct checkpoint_found *found);

// Hooks of the core.
void checkpoints_write(struct checkpoints *c, uint64_t ticket, const struct checkpoint_request *r);
void checkpoints_restore(struct checkpoints *c, uint64_t ticket, uint32_t slot, const struct checkpoint_found *found,
                         uint32_t n);
void checkpoints_moved(struct checkpoints *c, const struct engine_event *event); // ENGINE_EVENT_MOVED
void checkpoints_part_done(struct checkpoints *c, uint32_t stage, const struct group_part_done *done);
void checkpoints_lost(struct checkpoints *c); // the group has lost a stage: no more answers come from any
void checkpoints_turn(struct checkpoints *c); // once per turn of the loop: begins what may begin
