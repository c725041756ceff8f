// --restore: the prefix cache outlives the worker. While it runs and when it ends, prefixes that are kept in KV blocks are
// written to the checkpoint store as states of no stream (worker/plan/sequence_state.h), under handles that begin with
// PREFIX_HANDLE and are a hash of their tokens; when it starts, those of its fingerprint and layout are read, the newest
// first, before it says that it is ready. What can't be read is logged and computed when it is asked for. One prefix at a
// time; the disk is the pool's. Loop thread.
#pragma once
#include "worker/checkpoint/store.h"
#include "worker/core/upkeep.h"
#include "worker/main/engine_thread.h"
#include <uv.h>

#define PREFIX_HANDLE "00000000"

struct prefix_keeper;

struct prefix_keeper_options {
    uv_loop_t *loop;
    struct checkpoint_store *store;
    struct worker_core *core;
    void (*ready)(void *ctx); // called once, in or after prefix_keeper_serve(): what there was has been read
    void *ctx;
};

struct prefix_keeper *prefix_keeper_create(const struct prefix_keeper_options *options);
void prefix_keeper_close(struct prefix_keeper *k); // a job on the pool ends by itself, and tells nobody
void prefix_keeper_destroy(struct prefix_keeper **k);
void prefix_keeper_serve(struct prefix_keeper *k, struct engine_thread *engine, const char *fingerprint);

// The core's hooks, with tickets of upkeep.
void prefix_keeper_write(struct prefix_keeper *k, uint64_t ticket, const struct checkpoint_request *r);
void prefix_keeper_restore(struct prefix_keeper *k, uint64_t ticket, uint32_t slot, uint32_t n);
void prefix_keeper_moved(struct prefix_keeper *k, const struct engine_event *event); // ENGINE_EVENT_MOVED of such a ticket
void prefix_keeper_turn(struct prefix_keeper *k);                                    // once per turn of the loop
// The worker would end: true when nothing is left to write, or it has taken too long.
bool prefix_keeper_may_end(struct prefix_keeper *k);
