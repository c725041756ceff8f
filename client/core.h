// The client's mind: which routers there are, which calls, where each stream is, what has come of it. A pure state machine
// like the router's: events and a clock value in, messages out through `sink`, "this call has news" through `changed`. No
// sockets, threads or clock; the shell (handle.c) drives it with its lock held and carries out what it says.
//
// A call waits for a router (WAITING), is placed on one (PLACED), and ends. It waits again when its router is lost: a moment
// for the same router, in case only the connection broke (then Sync), after that it goes to any other (then Generate with
// the records it has). Links are numbered by router: link = index + 1.
#pragma once
#include "common/delivery/link_health.h"
#include "common/delivery/stream_rx.h"

enum {
    CORE_SAME_ROUTER_MS = 300, // how long a call waits for its lost router before it goes to another
    CORE_WATCH_MS = 3000,      // silence about a call until it asks its router again (Sync)
    CORE_AVOID_MS = 2000,      // a router that is shutting down gets nothing new for
    CORE_DEAF_MS = 20000,      // one that speaks but does not hear us gets nothing for
    CORE_UNANSWERED_MAX = 3,   // Syncs and Hellos without an answer until it is taken for deaf
    CORE_PLACEMENTS_MAX = 32,  // of one call without a new record in between
    CORE_CALLS_MAX = 4096,
};

enum call_state { CALL_WAITING, CALL_PLACED, CALL_ENDED };

// One stream. Made and freed by the shell; the core writes it, readers look with the shell's lock held.
struct call {
    struct call *next;
    struct msg_generate request; // body borrowed from the owner
    struct record_log *log;      // owned by the call's owner
    struct stream_rx rx;
    enum call_state state;
    int router;                                               // index, or -1
    incarnation_t placed_on;                                  // incarnation of that router
    ms_t deadline_at;                                         // MS_NEVER: none
    ms_t waiting_since, same_router_until, watch_at, sync_at; // sync_at: of the last Sync
    uint32_t placements;                                      // since the last new record
    uint32_t unanswered;                                      // Syncs and Hellos since its router last said anything to them
    char fingerprint[FINGERPRINT_SIZE];                       // that its records come from: only that may go on
    uint32_t moves;   // from one router's life to another's: told in Generate, so that later attempts win
    uint32_t refused; // bits of routers that couldn't serve it: another one may
    uint32_t left;    // bits of routers that it left: they get Cancel when they come back
    // what readers see
    uint32_t accepted;   // how often Accepted came, or a later attempt was seen
    uint32_t attempts;   // different attempts seen
    struct attempt seen; // the last of them
    char replica[NAME_SIZE], router_name[NAME_SIZE];
    uint32_t prompt_tokens, max_tokens;
    bool complete;        // CALL_ENDED by Done
    struct msg_done done; // complete: its tail is owned by the call
    struct error failure; // CALL_ENDED otherwise
    uint32_t retry_after_ms;
};
void call_init(struct call *c, const struct msg_generate *request, ms_t deadline_at);
void call_fini(struct call *c);

struct core_router { // a router of the list
    bool open;       // connected
    bool greeted;    // its Hello has come
    incarnation_t incarnation;
    char name[NAME_SIZE], region[NAME_SIZE];
    struct link_health health;
    uint32_t heartbeat_ms;
    uint32_t calls; // placed on it
    ms_t avoid_until;
    uint32_t queries, clusters; // asked, answered, on this connection
    bool dead;                  // silent: the shell redials
};

struct core_options {
    incarnation_t incarnation;
    char name[NAME_SIZE];
    uint32_t pid;
    uint32_t n_routers;
    const char *routers_text; // for sentences; borrowed
    uint32_t connect_ms, silence_ms;
};

struct client_core {
    struct core_options options;
    struct sink sink;
    void *ctx; // of the two below
    void (*changed)(void *ctx, struct call *c);
    void (*cluster)(void *ctx, int router, const struct msg_cluster *m); // an answer to a query
    struct core_router routers[ROUTERS_MAX];
    struct call *calls;
    uint32_t n_calls, next_router;
    uint64_t stale, protocol_errors; // dropped messages
};

void core_link_opened(struct client_core *core, int router, ms_t now);
void core_link_closed(struct client_core *core, int router, ms_t now); // idempotent
void core_message(struct client_core *core, int router, const struct msg *m, ms_t now);
// From here on until CALL_ENDED the core holds on to c.
void core_begin(struct client_core *core, struct call *c, ms_t now);
// Ends it as failed, and tells its router.
void core_cancel(struct client_core *core, struct call *c, const struct error *why, ms_t now);
void core_notice(struct client_core *core, int router, const struct msg_notice *notice, ms_t now);
void core_query(struct client_core *core, int router, ms_t now);                // asks a greeted router for its view
struct call *core_find(struct client_core *core, const struct stream_key *key); // NULL: none
// Does what is due. Returns when to call again at the latest. Afterwards routers[i].dead says which to dial again.
ms_t core_tick(struct client_core *core, ms_t now);
