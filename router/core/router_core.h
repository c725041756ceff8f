// The router's mind: which candidates there are, who waits, where each stream is placed, what has been delivered. A pure
// state machine: events and a clock value in, messages and session events out through the two outputs below. No sockets,
// threads, clock or files; allocation only when a session or a link begins and as logs grow. One thread. The shells
// (router/link, router/front) and shoal-sim drive it with the same calls.
//
// Outputs are called from inside an event call. They must not call back into the core: note what happened, act afterwards.
// A link that turns out to be gone is reported by router_core_link_closed() in the next turn.
#pragma once
#include "common/base/message.h"
#include "common/delivery/link_health.h"
#include "common/delivery/stream_tx.h"
#include "router/core/odd.h"

struct router_core;
struct session; // one stream that this router serves; opaque, see session_view()

struct router_region {
    char name[NAME_SIZE];
    float weight;            // relative; 0 = only when no other region can serve
    uint32_t spill_after_ms; // another region is tried when this one's expected wait is longer; 0 = never
};

struct router_deployment_share {
    char model[NAME_SIZE];
    char deployment[NAME_SIZE];
    float share; // relative, among the deployments of the model
    uint32_t n_aliases;
    char aliases[ALIASES_MAX][NAME_SIZE];
};

struct router_core_options {
    struct router_view self;
    incarnation_t incarnation;
    struct link_timers timers;
    uint32_t n_regions; // of the cluster, this router's own among them; a region not listed has weight 0
    struct router_region regions[REGIONS_MAX];
    uint32_t n_shares; // what the configuration says of models; models of workers that it doesn't mention are served too
    struct router_deployment_share shares[MODELS_MAX * DEPLOYMENTS_MAX];
    uint32_t sessions_max;        // streams held at once
    uint32_t queue_max;           // of them waiting for a candidate
    uint64_t queue_tokens_max;    // their prompt tokens, estimated
    uint64_t held_bytes_max;      // requests and token records held; with more of them no request comes in; 0 = no limit
    uint32_t deadline_default_ms; // for requests that bring none
    uint32_t status_full_ms;      // full status to peers every (default 1000)
    uint64_t seed;                // of seeds given to requests without one, and of tie-breaks
    enum router_bug bug;
    struct buggify buggify; // all zero in everything that ships
};

enum session_event {
    SESSION_ACCEPTED, // a worker took it: headers may go out
    SESSION_RECORDS,  // the log grew
    SESSION_DONE,     // complete: see view.done
    SESSION_FAILED,   // will not go on: see view.rejected. Records delivered so far stay valid.
};

// For sessions that came by router_core_submit(); those of links are answered over their link.
struct session_output {
    void *ctx;
    void (*event)(void *ctx, struct session *s, void *user, enum session_event event);
};

struct router_core *router_core_create(const struct router_core_options *options, const struct sink *sink,
                                       const struct session_output *sessions, ms_t now);
void router_core_destroy(struct router_core *core);

// --- links. `dialled`: we called a peer router (it may become a candidate); else somebody called us and will say who it is.
// The core says Hello first either way. A re-dialled connection is a new link_id.
void router_core_link_opened(struct router_core *core, link_id link, bool dialled, ms_t now);
void router_core_link_closed(struct router_core *core, link_id link, ms_t now); // idempotent
// A client's key has told whose requests come over this link: another tenant's streams don't exist for it. Without it a
// client is believed what it says of its requests.
void router_core_link_tenant(struct router_core *core, link_id link, const char *tenant);
void router_core_message(struct router_core *core, link_id link, const struct msg *m, ms_t now);
// Links that have been silent for dead_ms: the core has dropped them; the shell closes (a dialled one: dials anew). Ask
// after each tick.
bool router_core_next_dead_link(struct router_core *core, link_id *link);

// --- sessions of the HTTP front. On refusal NULL and *rejected (error, retry_after_ms). Copies what it needs of g; g->key
// must be fresh.
struct session *router_core_submit(struct router_core *core, const struct msg_generate *g, void *user,
                                   struct msg_rejected *rejected, ms_t now);
// A client asks for a stream that it knows by name (g->key, g->seed): it joins the session that this router has, or
// candidates are asked who has it, and it is made anew when nobody does. g->fingerprint, if set, is the stream's: nothing
// else may answer.
struct router_resume {
    uint32_t takeover;       // more than the client has seen. 0: nobody else can have it, only this router is asked
    char replica[NAME_SIZE]; // that had it last; "" if not known
};
// The session may be one that the front has already (session_user() is then not `user`), or one that a client left, or that
// came over a link: its requester there is told that it is superseded. On refusal as above; ERR_KEY_REUSED when g asks for
// something else than the session of this name does.
struct session *router_core_resume(struct router_core *core, const struct msg_generate *g, const struct router_resume *r,
                                   void *user, struct msg_rejected *rejected, ms_t now);
void *session_user(const struct session *s);
// The client went away: cancels at the worker and ends the session. With g->keep the stream goes on for a while without a
// requester, and a Generate of the same key over a link, or router_core_resume(), attaches to it. Either way: no more
// events; s is gone.
void router_core_cancel(struct router_core *core, struct session *s, ms_t now);
// The front has rendered everything it wants of a DONE or FAILED session. s is gone; with g->keep a DONE one is kept for
// router_core_resume() for a while.
void router_core_release(struct router_core *core, struct session *s, ms_t now);

enum session_state { SESSION_QUEUED, SESSION_ASKING, SESSION_PLACED, SESSION_RUNNING, SESSION_ENDED };

struct session_view {
    struct stream_key key;
    enum session_state state;
    const struct record_log *log;
    struct attempt attempt; // current, or last
    const char *replica;    // that serves or served it; "" before the first placement
    const char *fingerprint;
    const char *deployment;
    uint64_t seed;
    uint32_t prompt_tokens;              // 0 before Accepted
    const struct msg_done *done;         // SESSION_DONE
    const struct msg_rejected *rejected; // SESSION_FAILED: why, and when to come again
};
struct session_view session_view(const struct session *s);

// --- time. Does everything that is due; returns when to call again at the latest (never MS_NEVER: links need heartbeats).
ms_t router_core_tick(struct router_core *core, ms_t now);

// --- shutting down. First, not ready any more: peers and load balancers are told so, what comes is still served.
void router_core_leave(struct router_core *core, ms_t now);
// Then: refuse new sessions (ERR_DRAINING), finish those there are.
void router_core_drain(struct router_core *core, ms_t now);
bool router_core_idle(const struct router_core *core); // no session left
// No session is left that anybody waits for. Those parked for a requester that is gone are found at their workers as well.
bool router_core_may_end(const struct router_core *core);

// --- what people ask.
struct model_view {
    char name[NAME_SIZE];
    uint32_t n_aliases;
    char aliases[ALIASES_MAX][NAME_SIZE];
    uint32_t max_context;
    uint32_t replicas_ready, replicas_total; // own region and peers
};
// Fills up to max; returns how many there are.
uint32_t router_core_models(const struct router_core *core, struct model_view *out, uint32_t max);
// May a load balancer send requests here? If not, `why` gets a sentence: "0 of 2 replicas: loading 43 %, about 20 s".
bool router_core_ready(const struct router_core *core, char *why, size_t why_size);
// The pointers in *out lead into the core and live until its next event.
void router_core_cluster(struct router_core *core, struct msg_cluster *out);

struct router_counters {
    uint64_t requests, accepted, refused, completed, failed, cancelled;
    uint64_t attached, not_found;      // streams that some candidate still had; that had to be made anew
    uint64_t placements, replacements; // attempts made; those after the first of a stream
    uint64_t records, duplicates_dropped, stale_dropped, gaps, protocol_errors;
    uint64_t offers, moved;         // of workers that must go: taken, and committed
    uint64_t poisoned;              // refused because they killed KILLS_MAX workers
    uint64_t suspects, deaths;      // of links
    uint32_t sessions, queued;      // now
    uint64_t queued_tokens;         // now
    uint32_t links, replicas_ready; // now
    uint64_t held_bytes;            // now
};
void router_core_counters(const struct router_core *core, struct router_counters *out);
// Every invariant that holds between events; aborts (CHECK) on a violation. For tests and the simulator.
void router_core_check(const struct router_core *core);
