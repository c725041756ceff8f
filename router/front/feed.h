// One session of the core and the calls' choices that read it: usually one, more when requests of the same Idempotency-Key
// meet. Every reader renders for itself from the session's log. Internal to this room.
#pragma once
#include "router/front/comeback.h"

struct choice;

struct feed {
    struct session *session;
    struct choice *readers; // by choice.next_reader
    bool accepted;
    enum feed_state { FEED_RUNNING, FEED_DONE, FEED_FAILED } state;
};

// Joins c to the session that g names, or submits g. NULL and *rejected: refused.
struct feed *feed_open(struct router_core *core, const struct msg_generate *g, const struct comeback *back, struct choice *c,
                       struct msg_rejected *rejected, ms_t now);
// c reads no more. The last one ends the session, or leaves it to itself (keep).
void feed_leave(struct router_core *core, struct feed *feed, struct choice *c, ms_t now);
void feed_forget(struct feed *feed, struct choice *c);        // the same, but the core is told nothing
void feed_event(struct feed *feed, enum session_event event); // from inside a core call: notes it, wakes the readers
