// The leader of a group within a worker's host: ties the group (worker/group/leader.h) to the engine thread and the core.
// Loop thread. host.c owns it when --parallel asks for more than one stage; everything else of a worker is as it is without.
#pragma once
#include "common/base/message.h"
#include "common/net/security.h"
#include "worker/core/suspend.h"
#include "worker/engine/backend.h"
#include "worker/main/engine_thread.h"
#include "worker/main/group_member.h"

#include <uv.h>

struct leader_host;

struct leader_host_options {
    uv_loop_t *loop;
    const struct host_settings *settings;
    const struct net_security *security; // of the links to the other stages
    const struct backend *backend;       // of stage 0's layers
    const struct model *model;           // open during the call of create; NULL for the mock
    const struct engine_opts *engine;    // with stage 0's layers
    uint32_t blocks;
    void *ctx;
    // All stages are there: start the engine thread with leader_host_comm(), unless it runs. Returns it.
    struct engine_thread *(*start)(void *ctx);
    // The group is up, in this epoch: serve.
    void (*up)(void *ctx, uint32_t epoch, uint32_t n, const struct member *members);
    void (*waits)(void *ctx, const char *reason);  // as in leader.h
    void (*lost)(void *ctx, const char *sentence); // what is under way is void; the engine thread is told next
    void (*part_done)(void *ctx, uint32_t stage, const struct group_part_done *done);
    void (*noticed)(void *ctx, uint32_t deadline_ms); // a follower will be taken away; see leader_host_turn()
};

err_id leader_host_create(const struct leader_host_options *options, struct leader_host **out, struct error *e);
void leader_host_destroy(struct leader_host **l); // the engine thread has been stopped
struct comm *leader_host_comm(struct leader_host *l);
// The engine thread says REGROUPED.
void leader_host_regrouped(struct leader_host *l, uint32_t epoch);
// The parts of a checkpoint, one per stage, while the group is up. 0: a stage sees no store, or another one than `store`,
// and `why` says so.
uint32_t leader_host_shards(const struct leader_host *l, const char *store, struct state_part shards[GROUP_STAGES_MAX],
                            struct error *why);
// Asks a stage for its part, behind all that the engine thread has said so far.
void leader_host_ask(struct leader_host *l, uint32_t stage, enum group_kind kind, const struct group_part *part);
// The members that are there now. Returns how many.
uint32_t leader_host_members(const struct leader_host *l, struct member members[GROUP_STAGES_MAX]);
// Once per turn of the loop: followers that a router wants away are given notice, and those that gave notice may go when no
// stream is left.
void leader_host_turn(struct leader_host *l, struct worker_core *core);
void leader_host_figures(const struct leader_host *l, struct group_figures *out);
