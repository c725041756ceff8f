// A follower's side of a group, on its loop thread: dials the leader until it is welcome, dials the stage behind it, listens
// for the one before it, and carries frames between the sockets and the stage's engine thread (stage.h). When the leader is
// lost it keeps its weights and dials again.
#pragma once
#include "common/net/zmq_loop.h"
#include "worker/group/stage.h"

struct follower;

struct follower_options {
    uv_loop_t *loop;
    const char *leader;                  // its address
    const char *listen;                  // for the stage before; NULL when that is the leader, which needs no way of its own
    const struct net_security *security; // of the links of the group (common/net/security.h)
    struct group_join self;
    struct stage_options stage; // ctx, send, part and failed are set here
    uint64_t weights_bytes;     // of its own tensors
    uint32_t beat_ms, dead_ms;  // until the leader says others
    void *ctx;
    // A part to be written to the store (SAVE) or read from it (LOAD: m->owned[0], part.entries) while the loop goes on;
    // part.shard says which. The message is the callee's until follower_part_done(). NULL: stage.store is "".
    void (*part)(void *ctx, struct group_msg *m);
    void (*released)(void *ctx);                                   // after a notice: no stream needs this stage any more
    void (*ended)(void *ctx, int exit_code, const char *sentence); // it can't go on
};

struct follower_view {
    bool connected, in_group;
    uint32_t epoch;
    uint64_t joins, garbage;
    struct stage_stats stage;
    char waiting[ERROR_TEXT_MAX]; // why it does not work; "" when it does
};

err_id follower_create(const struct follower_options *options, struct follower **out, struct error *e);
void follower_destroy(struct follower **f);
// part.error says what became of it. Takes the message over.
void follower_part_done(struct follower *f, struct group_msg *m);
// This machine will be taken away after deadline_ms (0: when the replica's streams have ended): tells the leader, again
// with each beat. released() follows, at once when there is no group to tell. Again: the sooner deadline counts.
void follower_notice(struct follower *f, uint32_t deadline_ms);
void follower_view(const struct follower *f, struct follower_view *out);
