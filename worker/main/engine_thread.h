// The engine's thread: the only one that calls a backend (but for abort). The loop thread hands it slots and plans through
// one queue and takes step results from another; neither ever waits for the other. The engine is created, loaded and warmed
// up on this thread, so that device contexts belong to it.
#pragma once
#include "common/base/error.h"
#include "common/base/record.h"
#include "worker/engine/backend.h"

struct engine_thread;

enum engine_event_kind {
    ENGINE_EVENT_PROGRESS,  // loading: bytes_done of bytes_total
    ENGINE_EVENT_READY,     // info and fingerprint are set
    ENGINE_EVENT_STEP,      // a step's tokens
    ENGINE_EVENT_MOVED,     // an export's or import's outcome
    ENGINE_EVENT_REGROUPED, // the engine is empty and in this epoch
    ENGINE_EVENT_FAILED,    // sticky: nothing more will come; the process must end
};

struct engine_step_token {
    uint32_t token;
    bool numeric_error;
    bool none_allowed; // numeric_error because the row's mask was empty
    float logprob;
    uint32_t n_top;
    struct top_logprob top[SAMPLING_TOP_LOGPROBS_MAX];
};

struct engine_event {
    enum engine_event_kind kind;
    struct engine_load_progress progress;
    uint32_t epoch; // REGROUPED; of a STEP: the life of the engine that it belongs to
    uint64_t step;
    uint32_t n_tokens; // sampling rows of the plan, in row order
    uint32_t took_us;
    const struct engine_step_token *tokens; // valid until engine_thread_done_with()
    struct error error;                     // FAILED; MOVED: ERR_NONE when it went well
    uint64_t ticket, hash;                  // MOVED: the caller's; XXH3-64 of the entries
};

struct engine_thread_options {
    const struct backend *backend;
    struct engine_opts engine;        // engine.model must outlive loading
    struct comm *comm;                // of a group; NULL = none
    void (*nudge)(struct comm *comm); // with comm: ends the engine's wait for the other members; safe on the loop thread
    uint32_t plans_in_flight;
    size_t plan_bytes_max;
    const char *record_path; // a new file for the engine's calls (shoal-model replay); NULL = none
    void (*wake)(void *ctx); // called on the engine thread when an event is ready; must be safe there (uv_async_send)
    void *wake_ctx;
};

// Starts the thread, which creates and loads the engine. A recording that can't be created is a FAILED event.
struct engine_thread *engine_thread_start(const struct engine_thread_options *options, struct error *e);
// Aborts what runs, joins, frees. *t = NULL.
void engine_thread_stop(struct engine_thread **t);

// Loop thread. The next event, if any; a STEP event's tokens stay valid until the next call.
bool engine_thread_next(struct engine_thread *t, struct engine_event *event);
// What the engine holds is void: running steps are aborted, what was handed over before is dropped, no STEP event of before
// comes any more, open slots are closed. Then engine_thread_regroup().
void engine_thread_suspend(struct engine_thread *t);
void engine_thread_regroup(struct engine_thread *t, uint32_t epoch); // answered by REGROUPED
// After READY.
const struct engine_info *engine_thread_info(const struct engine_thread *t);
const char *engine_thread_fingerprint(const struct engine_thread *t);
// Expected rates, tokens per second, from the engine's own cost model.
void engine_thread_rates(const struct engine_thread *t, float *prefill_rate, float *decode_rate);
uint32_t engine_thread_lone_step_us(const struct engine_thread *t); // expected time of a step that decodes one sequence

// In order. Tokens, params and plan are copied. At most plans_in_flight plans may be unanswered.
void engine_thread_slot_open(struct engine_thread *t, uint32_t slot, const struct sampling_params *sampling,
                             const uint32_t *tokens, uint32_t n, uint32_t n_prompt);
void engine_thread_slot_close(struct engine_thread *t, uint32_t slot);
// Copies the KV entries of a slot's first `count` positions to or from `bytes` (info->kv_bytes_per_token each), once all
// plans submitted before are answered; bytes must stay until the MOVED event with this ticket, which always comes while the
// thread lives. An import whose bytes don't have this hash changes nothing.
struct engine_move {
    uint64_t ticket;
    uint32_t slot, count;
    void *bytes;
    uint64_t hash; // of an import
};
void engine_thread_export(struct engine_thread *t, const struct engine_move *move);
void engine_thread_import(struct engine_thread *t, const struct engine_move *move);
// masks: NULL, or taken over.
struct step_masks;
void engine_thread_submit(struct engine_thread *t, uint64_t step, const void *plan, size_t len, struct step_masks *masks);
