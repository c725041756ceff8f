// A router_core among fakes, on a virtual clock of 1 ms: servers (workers, or a peer router as one big worker) that prefill,
// decode in steps and answer as the protocol says, and an HTTP front that submits and keeps count. The token of a stream at
// an offset is a function of its seed and the offset, so every delivered record is checked against what an undisturbed run
// would give.
#pragma once
#include "router/core/router_core.h"

enum { WORLD_SERVERS = 16, WORLD_REQUESTS = 20000, WORLD_JOBS = 4096 };

struct job { // a stream on a server
    bool used, done, cancelled;
    struct stream_key key;
    struct attempt attempt;
    uint64_t seed;
    uint32_t records;   // made, those given along included
    uint32_t given;     // of them given along
    uint32_t total;     // records of the whole answer
    double prompt_left; // tokens
    bool running;
    uint64_t order;
    ms_t next_token_at;
};

struct server_options {
    const char *name, *region;
    enum role role;
    uint32_t slots;
    double prefill_rate;
    uint32_t step_ms;
    const char *model; // NULL: "m"
    const char *fingerprint;
};

struct server {
    struct server_options o;
    bool alive, frozen; // frozen: says nothing
    link_id link;
    incarnation_t incarnation;
    uint64_t status_seq, generates_seen, jobs_made;
    uint32_t n_jobs;
    struct job *jobs;
    ms_t status_at, finished_at;
    uint32_t served;  // streams ended here
    uint64_t decoded; // records made
    bool changed;     // since the last status
    uint32_t outstanding_max;
    struct msg_generate last_generate; // pointers void
};

struct request {
    struct session *session;
    struct stream_key key;
    uint32_t total;
    ms_t submitted_at, deadline_at, ended_at;
    bool accepted, done, failed, refused, late;
    err_id error;
    uint32_t seen; // records checked
    uint32_t retry_after_ms;
};

struct world {
    struct router_core *core;
    struct router_core_options options;
    ms_t now, tick_at;
    struct server servers[WORLD_SERVERS];
    uint32_t n_servers;
    link_id next_link;
    incarnation_t next_incarnation;
    struct request *requests;
    uint32_t n_requests;
    uint32_t n_ended, n_done, n_failed, n_refused;
    uint32_t latency_ms; // of messages from servers, ± half at random but in order
    uint64_t random;
    struct pending *pending; // messages on their way to the core, by time
    uint32_t n_pending, pending_capacity;
    bool check;                // router_core_check() after each ms
    struct captured *captured; // what the core said to scripted links (script.h)
    uint32_t n_captured;
};

void world_options(struct router_core_options *o); // sane ones: region "here", large limits, no deadline
void world_init(struct world *w, const struct router_core_options *o);
void world_fini(struct world *w); // also asserts that everything has drained to zero
struct server *world_server(struct world *w, const struct server_options *o);
// It is gone, with a closed link.
void world_kill(struct world *w, struct server *s);
void world_revive(struct world *w, struct server *s); // as a new process
// Submits as the HTTP front would. The answer will have `total` records.
struct request *world_submit(struct world *w, const char *model, uint32_t total, uint32_t max_tokens, uint32_t prompt_bytes,
                             uint32_t deadline_ms);
struct request *world_submit_pinned(struct world *w, const char *model, uint32_t total, const char *pin);
void world_run(struct world *w, ms_t ms);
// Runs until all requests have ended; fails the test after limit_ms.
void world_finish(struct world *w, ms_t limit_ms);
uint32_t world_token(uint64_t seed, uint32_t index);

struct captured {
    link_id link;
    struct msg m; // pointers inside are void, but for what is copied below
    uint32_t n_records, first_token;
    struct sync_entry first_entry;
    float prefill_rate; // of the first deployment in a Status
};
