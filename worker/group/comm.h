// What the two threads of a leader share: its engine thread, on which the group looks like one engine (leader_engine.h), and
// its loop thread, which has the sockets (leader.h). The engine's `struct comm`.
#pragma once
#include <stdatomic.h>
#include "worker/engine/backend.h"
#include "worker/group/mailbox.h"
#include "worker/group/message.h"

// A frame on its way from the engine thread to the loop thread, which sends and frees it.
struct outgoing {
    uint32_t stage; // 0: to all followers
    uint32_t epoch;
    struct buf frame;
};

struct comm {
    const struct backend *inner; // of stage 0's own layers
    uint32_t stages;
    struct mailbox inbox;    // struct group_msg: Results
    struct mailbox outbox;   // struct outgoing
    void (*wake)(void *ctx); // the loop thread should look into the outbox; safe on any thread
    void *wake_ctx;
    atomic_uint complaint;   // a stage whose answer makes no sense; 0: none. The loop thread drops it
    atomic_ullong busy_us;   // stage 0 computed
    atomic_ullong active_us; // steps were in flight
    atomic_ullong steps;
};

void comm_init(struct comm *c, const struct backend *inner, uint32_t stages);
void comm_fini(struct comm *c);
// Engine thread. False: the outbox is full.
bool comm_send(struct comm *c, uint32_t stage, uint32_t epoch, const struct group_msg *m);
// Loop thread: the engine thread has something else to do than to wait for an answer.
void comm_nudge(struct comm *c);
void comm_complain(struct comm *c, uint32_t stage);
void outgoing_free(struct outgoing *o);
