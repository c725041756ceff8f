// A follower's half of checkpoints: writes its stage's parts to the store and reads them, on the thread pool. Loop thread.
#pragma once
#include "worker/checkpoint/store.h"
#include "worker/group/message.h"
#include <uv.h>

struct part_keeper;

struct part_keeper_options {
    uv_loop_t *loop;
    struct checkpoint_store *store;
    uint32_t stage;
    void *ctx;
    void (*done)(void *ctx, struct group_msg *m); // what was taken comes back, with part.error, or what was read
};

struct part_keeper *part_keeper_create(const struct part_keeper_options *options);
// GROUP_SAVE or GROUP_LOAD, as follower.h hands it over. Takes it.
void part_keeper_take(struct part_keeper *k, struct group_msg *m);
// done() is not called any more; jobs on the pool end by themselves while the loop runs on.
void part_keeper_close(struct part_keeper *k);
void part_keeper_destroy(struct part_keeper **k); // when the loop has ended
