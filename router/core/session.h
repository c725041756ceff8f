// One stream that this router serves, from its admission to its end. States: QUEUED (waits in a pool's queue, or homeless) →
// PLACED (Generate sent) → RUNNING (accepted) → ENDED; PLACED and RUNNING go back to QUEUED when the candidate is lost,
// refuses or has forgotten it: the next attempt. One that is asked for by name begins as ASKING (hunt.h). Two halves meet in
// the log: stream_rx fills it from the candidate, stream_tx serves it to a requester on a link (a client, or the router that
// owns a relayed stream); a session of the HTTP front has no stream_tx, its shell reads the log.
//
// A relayed session keeps the attempt it came with, is placed once, and reports failure to its owner.
#pragma once
#include "common/delivery/stream_rx.h"
#include "router/core/candidates.h"
#include "router/core/due_heap.h"
#include "router/core/hunt.h"
#include "router/core/move.h"
#include "router/core/router_core.h"
#include "router/core/suspicion.h"

enum {
    EXCLUDED_MAX = 16,      // candidates that refused this session
    REFUSALS_MAX = 8,       // by candidates, before the requester gets the last one's error
    PARK_KEEP_MS = 30000,   // a requester's link is gone: how long a session is kept for it with `keep`
    PARK_MS = 2000,         // and without
    KEPT_MAX = 1024,        // sessions kept after their end, for HTTP clients that asked for it
    UNACKED_MS = 30000,     // a finished stream waits for its requester's acknowledgement
    WATCH_MS = 1000,        // silence of the candidate until Generate or Sync is sent again, doubling
    WATCH_MAX_MS = 8000,    // up to
    REFUSED_PAUSE_MS = 200, // all candidates refused: next round after
};

struct link;

struct session {
    uint64_t hash;    // of its key
    struct list node; // of all sessions
    struct due due;
    struct stream_key key;
    enum session_state state;

    // who asked
    bool local; // the HTTP front, by submit
    void *user; // its
    bool relayed;
    struct link *requester;     // NULL: local or parked
    struct list requester_node; // of its link's sessions, or of core->kept
    bool kept;                  // in the latter: ended, for a client that may come back
    struct stream_tx tx;
    ms_t give_up_at; // parked, or finished and unacknowledged: when it ends; MS_NEVER otherwise

    // what was asked: body owned, records moved to the log
    struct msg_generate request;
    uint64_t asks;   // generate_asks() of it
    uint32_t held;   // for Attach: records that the client or the log was last known to hold
    uint64_t prefix; // their hash
    struct deployment *deployment;
    ms_t deadline_at;
    uint32_t prompt_whole, decode_whole;       // tokens: of the prompt alone, of the whole answer, expected
    uint32_t prompt_expected, decode_expected; // still to be computed in the next attempt: what is known is prompt too
    ms_t arrived_at;
    double foreseen_s; // plain estimate at arrival

    struct record_log *log; // owned
    bool accepted;          // some worker took it once
    uint32_t max_tokens;    // effective, as accepted

    // where it waits
    struct wait_entry wait;
    struct hunt *hunt; // ASKING; owned
    ms_t retry_at; // homeless for a pause, queued in a region that it may leave (spilling), or adjourned; MS_NEVER otherwise

    // where it is placed
    struct offer *offer; // NULL: nowhere
    struct list placed_node;
    struct pool *pool; // last chosen
    bool booked;       // charged to its region's share
    bool placed_before, pin_elsewhere;
    struct stream_rx rx;
    struct attempt attempt;
    uint64_t generate_index;           // on the link it was sent over
    uint32_t load_prompt, load_decode; // counted in the offer's own load
    bool answered;                     // in this attempt: Accepted or Tokens came
    struct suspicion suspicion;
    struct move move; // request.restore and .store name the checkpoint while it may be used
    ms_t placed_at;
    uint32_t placed_with; // records
    ms_t watch_at;
    uint32_t watch_ms;
    uint32_t refusals;
    uint32_t n_excluded;
    incarnation_t excluded[EXCLUDED_MAX];

    char replica[NAME_SIZE];
    char fingerprint[FINGERPRINT_SIZE];
    uint32_t prompt_tokens; // as accepted
    struct msg_done done;   // its tail owned
    struct msg_rejected rejected;
    bool failed;
};

struct router_core;

struct session *session_find(const struct router_core *core, const struct stream_key *key);
// A session that was admitted: counted, in the tables, QUEUED but not in any queue yet. Copies the body, moves records to
// its log.
struct session *session_create(struct router_core *core, const struct msg_generate *g, struct deployment *d, ms_t now);
// Keeps the request's body, counted in what the router holds; there must be none yet.
void session_copy_body(struct router_core *core, struct session *s, const struct msg_generate *g);
// The only way out: takes it from everywhere, cancels at the candidate if it is placed, releases every reservation, frees.
void session_end(struct router_core *core, struct session *s, ms_t now);

// --- waiting
// Puts it into the queue of the pool that should serve it, or among the homeless; may fail it (a pinned replica that nobody
// has).
void session_enqueue(struct router_core *core, struct session *s, ms_t now);
void session_unqueue(struct router_core *core, struct session *s);

// --- placing
void session_place(struct router_core *core, struct session *s, struct offer *o, ms_t now);
// It turned out to be there already, under the present attempt: as placed, but for the Generate.
void session_bind(struct router_core *core, struct session *s, struct offer *o, ms_t now);
// Its share of the candidate's load: tokens still expected.
void session_load(struct session *s, uint32_t prompt, uint32_t decode);
// The candidate has been silent about it: Generate again (same attempt), or Sync.
void session_ask_again(struct router_core *core, struct session *s, ms_t now);
// Takes it off its candidate. tell: Cancel is sent there.
void session_unplace(struct router_core *core, struct session *s, bool tell);
// The attempt is over without a result; the next one, or for a relayed session the report to its owner.
void session_again(struct router_core *core, struct session *s, const struct error *why, ms_t now);
// Its candidate is gone.
void session_bereaved(struct router_core *core, struct session *s, ms_t now);
// Refused, because workers die of it.
void session_convict(struct router_core *core, struct session *s, ms_t now);

// --- ending
void session_fail(struct router_core *core, struct session *s, const struct error *why, uint32_t retry_after_ms, ms_t now);
// Its requester wants no more: cancelled at the candidate, answered by Done.
void session_cancel(struct router_core *core, struct session *s, ms_t now);
// Its client over HTTP is gone, or has had everything, but may come back over whichever link.
// Out of the list that it is in because of who asked.
void session_part(struct router_core *core, struct session *s);
void session_abandon(struct router_core *core, struct session *s, ms_t now);
// s may be gone afterwards.
void session_complete(struct router_core *core, struct session *s, const struct msg_done *done, ms_t now);

// --- what its candidate says
void session_on_accepted(struct router_core *core, struct session *s, const struct msg_accepted *m, ms_t now);
void session_on_tokens(struct router_core *core, struct session *s, struct link *from, const struct msg_tokens *m, ms_t now);
void session_on_done(struct router_core *core, struct session *s, struct link *from, const struct msg_done *m, ms_t now);
void session_on_rejected(struct router_core *core, struct session *s, const struct msg_rejected *m, ms_t now);

// --- its requester on a link
// It is now behind this link and holds the records before `next`.
void session_attach(struct router_core *core, struct session *s, struct link *link, uint32_t next, ms_t now);
void session_park(struct router_core *core, struct session *s, ms_t now); // its requester's link is gone
void session_tell_accepted(struct router_core *core, struct session *s);

uint32_t session_deadline_ms(const struct session *s, ms_t now); // remaining, as messages say it

// --- attach.c: a later attempt of a session that is known here: whoever serves it is told.
void attach_retake(struct router_core *core, struct session *s, const struct attempt *attempt, ms_t now);

// --- time
void session_tick(struct router_core *core, struct session *s, ms_t now); // sets its due time again; may end it
void session_arm(struct router_core *core, struct session *s);            // after a change: looked at soon enough
