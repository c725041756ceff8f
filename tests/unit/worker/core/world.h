// One worker core with a fake engine, a router that speaks the protocol through stream_rx, and a clock that is turned by
// hand. Prompts, and so answers, are functions of the stream's number alone: whatever happens, a stream's records must be
// those that world_expected() computes without any core.
#pragma once
#include "common/delivery/stream_rx.h"
#include "tests/unit/worker/core/fake_engine.h"
#include "tests/unit/worker/core/fake_store.h"
#include "worker/core/worker_core.h"

enum { WORLD_STREAMS = 4200, WORLD_TOKENS = 1024, WORLD_LINKS = 64 };

struct world_options {
    uint64_t seed;
    uint32_t max_seqs, spare_slots, block_tokens, n_blocks, step_tokens, chunk_tokens, plans_in_flight, micro_batches,
        max_context, queue_max;
    uint32_t orphan_tokens, grace_ms;
    uint64_t kept_bytes_max;
    uint32_t inter_token_ms;
    uint32_t family_prefix; // tokens at the start of every prompt that all streams of a family share
    enum prefix_cache prefix_cache;
    bool priorities;       // streams have one of three, and one of three tenants
    uint32_t loss_percent; // of messages either way, but Hello and Status
    enum worker_bug bug;
    struct fake_store *store; // checkpoints go here and come from here; NULL: the worker has none
    bool starts_loading;      // not READY by itself
    bool unchecked;           // no invariants are checked, wrong tokens are only counted
};
struct world_options world_defaults(void);

struct world_stream {
    struct stream_key key;
    struct attempt attempt; // current
    uint32_t prompt[WORLD_TOKENS], n_prompt, max_tokens;
    uint32_t deadline_ms;
    int32_t priority;
    uint32_t tenant;
    struct stream_rx rx;
    struct record_log *log;
    link_id link; // where Generate was last sent
    bool asked, accepted, done, rejected, unknown, superseded;
    uint32_t accepted_max_tokens;
    uint32_t n_tokens, least_offset; // Tokens messages taken; the least offset of them
    struct msg_done end;             // done; its tail is copied
    char tail[64];
    struct msg_rejected refusal;
    bool offered;
    struct msg_move_offer offer; // the last one
    uint32_t n_offers;
    char restore[NAME_SIZE];                                          // goes along with Generate
    uint32_t n_done, n_accepted, n_rejected, n_unknown, n_superseded; // messages taken, of the current attempt
};

struct world_status { // the last one that came over a link
    uint32_t n, n_full, n_empty;
    uint64_t seq;
    bool has_life;
    enum lifecycle state;
    uint32_t deadline_ms;
    struct deployment_status load; // merged
};

struct world {
    struct world_options options;
    struct worker_core *core;
    struct fake_engine *engine;
    incarnation_t router;
    ms_t now;
    uint64_t random;
    uint32_t n_streams;
    struct world_stream streams[WORLD_STREAMS];
    bool link_up[WORLD_LINKS];
    uint32_t links; // opened so far; the last one is the newest
    struct world_status status[WORLD_LINKS];
    uint32_t n_hellos;
    bool last_hello_wants_reply;
    struct post {
        link_id link;
        struct msg m;
        struct sync_entry entry;
    } * posts; // from the router to the core
    uint32_t n_posts, posts_cap;
    struct preparation {
        uint64_t ticket;
        uint32_t stream, n_given, last_token;
        char restore[NAME_SIZE];
    } * preparations;
    uint32_t n_preparations, preparations_cap;
    bool hold_preparations, hold_steps;
    struct fake_moves *moves;
    uint32_t prefix[WORLD_TOKENS], n_prefix, n_prefixes; // the last one that went to the store, and how many did
    const char *brought;                                 // the handle of one that is brought back
    bool deaf;                                           // the router takes nothing of what the worker says
    bool other_request;             // Generates ask for something else than before, as far as the core can tell
    bool garble_next;               // the first row that is sampled next holds NaN
    uint32_t users;                 // alive
    uint32_t opened[256], n_opened; // streams, in the order in which they were given slots
    struct fake_work last_work;
    uint32_t step_us, row_us, token_us; // what a step takes: by itself, per decode row, per prompt token
};

// READY and with one link (number 1) that has said Hello, unless options say otherwise.
struct world *world_create(const struct world_options *options);
// Fails the test unless everything was released.
void world_destroy(struct world *w);
void world_discard(struct world *w); // without asking

uint32_t world_random(struct world *w, uint32_t below);
link_id world_open_link(struct world *w);
link_id world_open_silent_link(struct world *w); // without the router's Hello
void world_close_link(struct world *w, link_id link);
void world_hello(struct world *w, link_id link, incarnation_t router, uint32_t heartbeat_ms);

// A new stream (its number is returned), and the Generate for it. Again: the same attempt. Next: the next attempt, with the
// records that the router holds.
uint32_t world_generate(struct world *w, link_id link, uint32_t n_prompt, uint32_t max_tokens);
uint32_t world_stream(struct world *w, uint32_t n_prompt, uint32_t max_tokens); // no Generate yet
uint32_t world_sibling(struct world *w, uint32_t of, uint32_t max_tokens);      // of the same prompt; no Generate yet
void world_ask(struct world *w, uint32_t stream, link_id link);
void world_ask_next(struct world *w, uint32_t stream, link_id link);
void world_sync(struct world *w, uint32_t stream, link_id link);
void world_cancel(struct world *w, uint32_t stream, link_id link);
void world_give_records(struct world *w, uint32_t stream, uint32_t n); // the router holds the first n records already

// The router commits what it was offered.
void world_commit(struct world *w, uint32_t stream, link_id link);

// Delivers posts and answers preparations; one engine step if there is one; a tick; `ms` later. Checks invariants after
// each.
void world_turn(struct world *w, uint32_t ms);
void world_turns(struct world *w, uint32_t n);
void world_step(struct world *w); // answers the oldest plan
// Until no stream is open and nothing is under way, for at most n turns of 1 ms; then fails.
void world_settle(struct world *w, uint32_t n);
bool world_ended(const struct world *w, uint32_t stream);

// The records that the stream must have when it ends by itself. Returns how many; *finish: why it ends.
uint32_t world_expected(const struct world *w, uint32_t stream, uint32_t *tokens, enum finish *finish);
// The stream ended as expected; and: what it has is a prefix of that.
void world_assert_whole(struct world *w, uint32_t stream);
void world_assert_prefix(struct world *w, uint32_t stream);
struct worker_counters world_counters(const struct world *w);
