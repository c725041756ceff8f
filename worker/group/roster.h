// Who is in the group, as its leader sees it: which stages are there, whether they agree, and which epoch they are in. Pure:
// no clock, no sockets. Index k of members is stage k; the leader itself is member 0.
//
//   ABSENT → JOINED → INVITED → READY        A group forms when all are JOINED: a new epoch, everybody is INVITED, loads or
//   keeps
//      ▲________________________│           what it has loaded, and is READY. It is up when all are READY. Whoever is lost
//      is
//                                           ABSENT, and everybody else JOINED again: what was under way is void.
#pragma once
#include "worker/group/message.h"

enum roster_state { ROSTER_ABSENT, ROSTER_JOINED, ROSTER_INVITED, ROSTER_READY };

struct roster_member {
    enum roster_state state;
    struct group_join join;
    ms_t heard_at;
};

struct roster {
    uint32_t stages, epoch; // epoch: of the last forming; 0: none yet
    bool forming;           // since the last forming nobody was lost
    struct roster_member members[GROUP_STAGES_MAX];
};

// self: the leader's own Join.
void roster_init(struct roster *r, const struct group_join *self);
// A follower wants in. ERR_NONE: it is JOINED (*broken: an epoch was under way with it). Else a sentence for both sides;
// *final: asking again can't help.
err_id roster_join(struct roster *r, const struct group_join *join, ms_t now, bool *broken, bool *final, struct error *e);
// The stage is gone. True: an epoch was under way, which is void now.
bool roster_lost(struct roster *r, uint32_t stage);
// All are there and no epoch is under way.
bool roster_complete(const struct roster *r);
// Begins the next epoch; roster_complete() was true. Returns it.
uint32_t roster_form(struct roster *r);
// False: not of this epoch.
bool roster_ready(struct roster *r, uint32_t stage, uint32_t epoch);
bool roster_is_up(const struct roster *r);
// A follower that was not heard for dead_ms; 0: none.
uint32_t roster_silent(const struct roster *r, ms_t now, uint32_t dead_ms);
// "waiting for stage 1 of group g", "stage 1 of group g is loading", or "" when it is up.
void roster_explain(const struct roster *r, char text[ERROR_TEXT_MAX]);
