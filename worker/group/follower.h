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
    struct stage_options stage; // ctx, send and failed are set here
    uint64_t weights_bytes;     // of its own tensors
    uint32_t beat_ms, dead_ms;  // until the leader says others
    void *ctx;
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
void follower_view(const struct follower *f, struct follower_view *out);
