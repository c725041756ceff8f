// Streams that a worker offers because it must go (MoveOffer): the router takes an offer once it holds all records up to it,
// ends the attempt, places the stream as the next one with the checkpoint's name, and settles the offer (MoveCommit) when
// that has been accepted, or when the stream ends. An offer that is not settled comes again, so nothing here is repeated. A
// relayed stream's offer goes on to its owner.
#pragma once
#include "common/base/message.h"

struct router_core;
struct session;
struct link;

struct move { // an offer that was taken
    bool open;
    link_id link;           // that it came over
    struct attempt attempt; // that was offered
    ms_t lease_at;          // until then the checkpoint is there; MS_NEVER: none
};

void move_on_offer(struct router_core *core, struct link *link, const struct msg_move_offer *m, ms_t now);
// From a requester that is a router: the owner of a relayed stream has placed it elsewhere.
void move_on_commit(struct router_core *core, struct link *link, const struct msg_move_commit *m, ms_t now);
// The stream goes on as its present attempt (accepted), or ends.
void move_settle(struct router_core *core, struct session *s, bool accepted);
// Is this the attempt that was offered and is not settled?
bool move_concerns(const struct session *s, const struct attempt *attempt);
// Before a Generate: forgets a checkpoint that may be gone by now.
void move_check_lease(struct session *s, ms_t now);
// Notice for one of our workers, from a client.
void move_pass_notice(struct router_core *core, const struct msg_notice *m);
