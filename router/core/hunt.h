// Who has a stream that this router knows by name only? Its client has come back (with the id of an event, or with the key
// of its request) after another router, or this one, was lost. Asked by Attach, with an attempt of this router's, in rounds:
// the candidate that had it last as far as the client knows, then the replicas here, then the peers. Who says Accepted has
// taken it over, and the session goes on there as if it had been placed. A round ends when everyone asked has said Unknown,
// or after HUNT_ROUND_MS. When nobody has it the session is placed as a new one: the seed is the same, so the answer is too.
//
// A relaying router hunts among its own replicas only, and passes on what it finds: Accepted, Unknown or Superseded.
#pragma once
#include "common/base/message.h"

enum {
    HUNT_ROUND_MS = 500,
    HUNT_ASKED_MAX = 1024, // candidates in one hunt
    HUNT_OUTBIDS_MAX = 4,  // attempts made later than one that some candidate has seen
};

enum hunt_round { HUNT_NAMED, HUNT_REPLICAS, HUNT_PEERS, HUNT_OVER };

struct hunt {
    enum hunt_round round;
    char name[NAME_SIZE]; // of the candidate for the first round; "" if none is known
    uint32_t outbids;
    uint32_t n_asked, n_open;
    struct hunt_asked {
        incarnation_t who;
        bool open; // has not answered
    } * asked;
};

struct router_core;
struct session;
struct link;

// The session is QUEUED, in no queue. It is ASKING when this returns, or, when there is nobody to ask, what hunt_failed
// makes of it: queued, failed, or for a relayed one gone.
void hunt_begin(struct router_core *core, struct session *s, const char *name, ms_t now);
void hunt_end(struct router_core *core, struct session *s); // forgets it; nothing is said
// From the first round, under the session's present attempt. As above.
void hunt_again(struct router_core *core, struct session *s, ms_t now);
// A round has lasted long enough.
void hunt_tick(struct router_core *core, struct session *s, ms_t now);
// A message of a candidate. True: it was an answer to a hunt, and is dealt with. Accepted, Tokens or Done of the first that
// has the stream return false: the session is placed there now, and takes them as ever.
bool hunt_hears(struct router_core *core, struct link *link, const struct msg *m, ms_t now);

// Says Attach for the session's present attempt to the candidate behind a link.
void attach_say(struct router_core *core, struct session *s, link_id link, bool to_peer, ms_t now);
