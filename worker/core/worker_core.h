// The worker's mind: which streams it serves, which sequences run, what the next step computes, what it tells its routers. A
// pure state machine like router_core: events and a clock value in, calls through `hooks` out; hooks must not call back into
// the core. It schedules sequences over KV blocks, makes step plans (worker/plan), keeps each stream's log, and speaks the
// worker's half of the protocol. It knows no text and no weights: tokens come in, records come from a hook.
//
// A worker that will be taken away (worker_core_notice) finishes the streams that can end in time and stops the others
// between two steps: hooks.checkpoint writes what is computed, MoveOffer goes to the router until it commits the move, and
// the stream is gone. On the other side prepare finds the checkpoint that Generate names, and hooks.restore loads it into
// the slot. A checkpoint that is missing or damaged anywhere on this way costs a prefill and nothing else.
//
// The life of a stream: Generate → hooks.prepare (tokenise, elsewhere) → worker_core_prepared → Accepted → waiting →
// slot_open → prompt chunks in plans → one decode row per plan → records → Done → kept until acknowledged and a grace period
// is over → hooks.release. A stream whose sequence was preempted goes back to waiting and prefills again what it has.
#pragma once
#include "common/base/message.h"
#include "common/delivery/link_health.h"
#include "common/delivery/stream_tx.h"
#include "worker/core/odd.h"

struct worker_core;

// Whether sequences find each other's prefixes in KV blocks: all do, or those of one tenant, or none.
enum prefix_cache { PREFIX_CACHE_SHARED, PREFIX_CACHE_TENANT, PREFIX_CACHE_OFF };

struct worker_core_options {
    char name[NAME_SIZE], region[NAME_SIZE], zone[NAME_SIZE]; // name: of the replica
    incarnation_t incarnation;
    uint32_t n_members;
    struct member members[MEMBERS_MAX];
    struct deployment_info info; // the fingerprint may come later, with worker_core_ready_to_serve()
    struct link_timers timers;
    uint32_t status_full_ms; // default 1000
    uint32_t max_seqs;       // sequences computed in a step
    uint32_t spare_slots;    // slots beyond max_seqs: a new sequence starts while the last step of an ended one is under way
    uint32_t block_tokens;   // KV block size
    uint32_t n_blocks;       // KV blocks
    uint32_t step_tokens;    // budget: tokens of all rows of one plan
    uint32_t inter_token_ms; // target for the time between two tokens of an answer; prompts wait for it (0: none)
    uint32_t chunk_tokens;   // longest prompt chunk of one sequence in one plan
    uint32_t plans_in_flight; // submitted and unanswered, ≥ 1, default 2
    uint32_t micro_batches;   // stages of a pipeline that work at the same time; 0 or 1: no pipeline. See scheduler.h
    uint32_t max_context;     // tokens of prompt and answer
    enum prefix_cache prefix_cache;
    uint64_t prefix_salt;    // of this process: makes keys of prefixes that nobody can foresee
    uint32_t queue_max;      // streams waiting for a slot
    uint32_t orphan_tokens;  // records made beyond the last acknowledgement while no router is attached (256)
    uint32_t lease_ms;       // how long the store keeps a checkpoint at least, from when it was written (60000)
    uint32_t grace_ms;       // a finished stream's log is kept after Done was acknowledged, or while no router asks for it
    uint64_t kept_bytes_max; // of finished streams' logs that nobody waits for: the oldest go first (0: no limit)
    enum worker_bug bug;
    struct buggify buggify; // all zero in everything that ships
};

enum text_verdict { TEXT_GO_ON, TEXT_STOP, TEXT_STOP_TOOL_CALLS };

// What prepare found. Arrays are copied.
struct prepared {
    struct error error; // ERR_NONE: fine; else the request is refused with it
    // What the last of g->records said when it was made. Not TEXT_GO_ON: the answer was complete and only its Done was lost
    // with the worker that made it, so the stream is done at once.
    enum text_verdict verdict;
    const uint32_t *tokens;
    uint32_t n_tokens;
    uint32_t max_tokens; // the client's, or a default; cut to the context by the core
    // The answer is known already: hooks.record is called for these tokens at once, then the stream is done. The prompt is
    // not computed.
    bool is_known;
    const uint32_t *answer;
    uint32_t n_answer;
    // Of the prompt's and the given records' positions, the first so many were found in the checkpoint that g names, for
    // these very tokens: hooks.restore will be called for them (for all but the last position at most). 0: none.
    uint32_t n_restored;
    bool one_by_one; // what may follow a token depends on it: submit() is to find every earlier one recorded
    void *user;      // the shell's text and sampling state of this stream; handed to the hooks, released by hooks.release
};

struct worker_token { // one sequence's share of a step result
    uint32_t token;
    bool nan, none_allowed; // token is void: NaN or infinity in the logits; and this because the answer's form left none
    float logprob;
    uint32_t n_top;
    const struct top_logprob *top;
};

// A sequence at a step boundary, to be written to the store: tokens, of which the first n_computed are in the slot's blocks.
struct checkpoint_request {
    struct stream_key key;
    uint32_t slot;
    void *user;
    const uint32_t *tokens; // die with the call
    uint32_t n_tokens, n_prompt, n_computed;
};

struct worker_hooks {
    void *ctx;
    // Tokenise and check `g` (copy what is needed: g dies with the call); answered by worker_core_prepared(…, ticket, …),
    // always, from a later turn. If the stream was dropped meanwhile, worker_core_prepared() calls release on the user
    // pointer. g->records: the detokeniser's state is replayed from them.
    void (*prepare)(void *ctx, uint64_t ticket, const struct msg_generate *g);
    // The engine, in order: open a slot for a sequence whose tokens so far are tokens[0..n), the first n_prompt of them the
    // prompt (sampling state is rebuilt from them); run a plan (bytes die with the call); close a slot.
    void (*slot_open)(void *ctx, uint32_t slot, void *user, const uint32_t *tokens, uint32_t n, uint32_t n_prompt);
    void (*slot_close)(void *ctx, uint32_t slot);
    void (*submit)(void *ctx, uint64_t step, const void *plan, size_t len);
    // Turns a chosen token into a record (its text released by the detokeniser; views live until the next call for this
    // user), and says whether the answer ends with it. index: of the record in the stream. Called once per record, in order.
    enum text_verdict (*record)(void *ctx, void *user, uint32_t index, const struct worker_token *token, struct record *out);
    // The answer has ended: the text still held back, valid until release.
    void (*tail)(void *ctx, void *user, uint8_t *channel, const char **text, uint32_t *len);
    void (*release)(void *ctx, void *user); // the stream is gone
    // Only where options.info.store is set, else NULL. checkpoint: write it; the slot stays as it is until
    // worker_core_checkpointed(…, ticket, …), or until worker_core_wants(ticket) turns false. restore: load the first n
    // positions into the slot, whose blocks the engine knows once all plans submitted so far are done; answered by
    // worker_core_restored(…, ticket, …). Both are answered always, from a later turn.
    void (*checkpoint)(void *ctx, uint64_t ticket, const struct checkpoint_request *request);
    void (*restore)(void *ctx, uint64_t ticket, uint32_t slot, void *user, uint32_t n);
};

struct worker_core *worker_core_create(const struct worker_core_options *options, const struct sink *sink,
                                       const struct worker_hooks *hooks, ms_t now);
void worker_core_destroy(struct worker_core *core); // releases every user

// --- links to routers (we dial them). The core says Hello first, then a full status.
void worker_core_link_opened(struct worker_core *core, link_id link, ms_t now);
void worker_core_link_closed(struct worker_core *core, link_id link, ms_t now); // idempotent
void worker_core_message(struct worker_core *core, link_id link, const struct msg *m, ms_t now);
// Links that have been silent for dead_ms: the core has dropped them (their streams go on, orphaned); the shell closes and
// dials anew. Ask after each tick.
bool worker_core_next_dead_link(struct worker_core *core, link_id *link);

// --- life
void worker_core_loading(struct worker_core *core, float progress, uint32_t eta_ms, ms_t now);
// Rates: first guesses (tokens per second), replaced by what is measured.
void worker_core_ready_to_serve(struct worker_core *core, const char *fingerprint, float prefill_rate, float decode_rate,
                                ms_t now);
void worker_core_failed(struct worker_core *core, ms_t now);
// The worker will be taken away after deadline_ms; 0: when it has finished. Nothing new from now on (Rejected
// ERR_DRAINING); running streams that can't end in time are offered to their routers; what is left at the deadline is
// rejected. Again: the sooner deadline counts.
void worker_core_notice(struct worker_core *core, uint32_t deadline_ms, ms_t now);
// No stream is left that somebody still needs. After a notice the process may exit once it is true.
bool worker_core_idle(const struct worker_core *core);

// --- work
void worker_core_prepared(struct worker_core *core, uint64_t ticket, const struct prepared *p, ms_t now);
// What became of hooks.checkpoint: handle names it in the store; NULL: it could not be written, and the stream is offered
// without. False: nobody wants it any more, it may be deleted.
bool worker_core_checkpointed(struct worker_core *core, uint64_t ticket, const char *handle, uint64_t bytes, ms_t now);
// What became of hooks.restore. When it failed, everything is computed.
void worker_core_restored(struct worker_core *core, uint64_t ticket, bool ok, ms_t now);
// Is the answer to this hooks.checkpoint or hooks.restore still waited for? Until then the slot is the sequence's: ask
// before the engine is told to copy.
bool worker_core_wants(const struct worker_core *core, uint64_t ticket);
// The outcome of the oldest unanswered plan: one entry per sampling row of the plan, in row order. took_us: time of the
// step.
void worker_core_step_done(struct worker_core *core, uint64_t step, const struct worker_token *tokens, uint32_t n,
                           uint32_t took_us, ms_t now);
// Does what is due (heartbeats, statuses, retransmissions, deadlines, plans). Returns when to call again at the latest.
ms_t worker_core_tick(struct worker_core *core, ms_t now);

struct worker_counters {
    uint64_t attached; // streams that a router took over by Attach
    uint64_t generates, accepted, rejected, completed, cancelled, superseded, failed, numeric_errors;
    uint64_t prefilled_tokens, decoded_tokens, preemptions, steps, resends, protocol_errors;
    uint64_t checkpoints, checkpoints_failed, offered, moved; // moved: offers that a router has committed
    uint64_t restores, restores_failed, restored_tokens;
    uint32_t streams, running, waiting, preparing, plans_in_flight; // now
    uint32_t blocks_free, blocks_total, slots_free;                 // now
    uint32_t blocks_kept;                                           // now: of the free ones, those that hold a prefix
    uint32_t blocks_held_most;                                      // at once, so far
    uint64_t cached_tokens;                                         // found in blocks when a sequence got its slot
    uint64_t prefixes_saved, prefixes_restored;                     // written to the store, brought back from it
    uint64_t evictions;                                             // blocks with a prefix that were taken for others
    uint64_t log_bytes;                                             // now
    float prefill_rate, decode_rate;                                // tokens per second
};
void worker_core_counters(const struct worker_core *core, struct worker_counters *out);
enum lifecycle worker_core_life(const struct worker_core *core);
void worker_core_check(const struct worker_core *core); // invariants; CHECK on violation
