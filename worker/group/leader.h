// The leader's side of a group, on its loop thread: listens for the followers, checks that they fit, forms the group,
// watches over it, and carries frames between the sockets and the engine thread (comm.h). What it decides is roster.h's;
// here it meets the network.
#pragma once
#include "common/net/zmq_loop.h"
#include "worker/group/comm.h"
#include "worker/group/roster.h"

struct leader;

struct leader_options {
    uv_loop_t *loop;
    const char *listen;                  // address for followers
    const struct net_security *security; // of their links (common/net/security.h)
    struct group_join self;              // stage 0
    struct group_limits limits;          // for all engines
    uint32_t beat_ms, dead_ms;
    struct comm *comm; // its wake is set here
    void *ctx;
    // All are there and agree: load, or regroup what is loaded, then leader_self_ready().
    void (*forming)(void *ctx, uint32_t epoch);
    void (*up)(void *ctx);                         // every member is ready
    void (*waits)(void *ctx, const char *reason);  // what for, with every beat; "" when the group is up
    void (*lost)(void *ctx, const char *sentence); // what was forming or up is void; the next thing is forming()
    void (*part_done)(void *ctx, uint32_t stage, const struct group_part_done *done); // of this epoch
    // A follower's machine will be taken away after deadline_ms (0: when all streams have ended), told with every beat until
    // it is released.
    void (*noticed)(void *ctx, uint32_t stage, uint32_t deadline_ms);
};

struct leader_member_view {
    bool present;
    struct group_join join;
    struct group_beat beat;   // the last one
    struct group_ready ready; // the last one
};

struct leader_view {
    uint32_t epoch, stages;
    bool up;
    uint64_t reforms;                 // formings after the first
    uint64_t refused, garbage, stale; // Joins, frames
    char waiting[ERROR_TEXT_MAX];     // why it is not up; "" when it is
    struct leader_member_view members[GROUP_STAGES_MAX];
};

err_id leader_create(const struct leader_options *options, struct leader **out, struct error *e);
void leader_destroy(struct leader **l);
// The engine is loaded, empty and in this epoch; fingerprint: its own, which the followers' must equal.
void leader_self_ready(struct leader *l, uint32_t epoch, const char *fingerprint);
// No stream needs this follower any more: it may end.
void leader_release(struct leader *l, uint32_t stage);
const char *leader_endpoint(const struct leader *l);
void leader_view(const struct leader *l, struct leader_view *out);
