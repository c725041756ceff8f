// Who kills workers? A request dies with its worker again and again, wherever it is placed, soon after it is placed. So
// everyone who is new on a worker when it dies is suspected (kills + 1), and who has got MATURE_RECORDS records from it is
// not, unless it was alone there. A suspect is `unproven` in its next attempt until a new record comes; unproven sessions
// are kept apart, at most one on a replica, so that when the next replica dies too the one to blame is known: KILLS_MAX
// deaths without progress in between, and the request is refused. Progress clears it. So does a victim, when it turns up
// again: then only the way to it was lost. So that it can, the verdict is adjourned for as long as silence makes a link
// dead. Whatever it is suspected of, DEATHS_MAX lost workers end a request.
//
// A worker counts as having been reached if it answered, or said in a status that it has seen the request; not if it was
// found dead in the millisecond of the placement, or was heard for a while without having seen it; else if it had been heard
// of lately enough to have been there.
#pragma once
#include "common/base/ids.h"
#include "common/base/limits.h"
#include <stdbool.h>

struct router_core;
struct session;
struct candidate;

enum {
    DEATHS_MAX = 8,      // workers lost under one request
    MATURE_RECORDS = 16, // from the worker that died: the session was no newcomer there
    VICTIMS_MAX = 64,    // incarnations remembered, in case they turn up again
};

struct suspicion {
    uint32_t kills;  // since the last progress
    uint32_t deaths; // in all
    struct {
        incarnation_t worker; // 0: unknown, at a peer
        bool kill;            // counted in kills
    } lost[DEATHS_MAX];       // [deaths]
    bool unproven;            // placed on a replica since, without a new record
};

struct victims {
    incarnation_t incarnations[VICTIMS_MAX];
    uint32_t next;
};

// The candidate that this session is placed on is about to be declared dead (a worker, at its work): blames the session if
// the request had reached it.
void suspicion_blame(struct router_core *core, struct session *s, const struct candidate *c, ms_t now);
// `kills` workers died of this session at a peer.
void suspicion_report(struct session *s, uint32_t kills);
bool suspicion_convicts(const struct session *s); // it is to be refused
// It made progress.
void suspicion_clear(struct router_core *core, struct session *s);
// A worker of this incarnation is here: whoever is suspected of its death did not do it.
void suspicion_acquit(struct router_core *core, incarnation_t incarnation);
