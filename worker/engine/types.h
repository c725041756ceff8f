// What goes through the engine's seam (backend.h): options, facts about an engine, and results, as plain data.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "worker/plan/plan.h"
#include "worker/plan/sampling.h"

struct model; // worker/model/model.h: an opened model folder
struct comm;  // the collectives of a sharded replica; NULL when the shard is the whole replica

enum { ENGINE_ACCEPT_MAX = 8, ENGINE_DEPTH = 8, ENGINE_FINGERPRINT_MAX = 64 };
#define ENGINE_NO_TOKEN UINT32_MAX

// OK: done. FULL: as many plans are in flight as the engine takes; nothing was changed. PENDING: not there yet, ask again.
// FAILED: see the error; ERR_CANCELLED after abort().
enum engine_answer { ENGINE_OK, ENGINE_FULL, ENGINE_PENDING, ENGINE_FAILED };

// The mock without a model folder: token id = byte of text.
enum { ENGINE_MOCK_CRASH_MAX = 32 };
struct engine_mock_opts {
    float prefill_tokens_s; // 0 = at once
    float decode_ms;        // shortest time of a step that decodes; 0 = at once
    uint32_t vocab;         // 0 = 512
    uint32_t layers;        // 0 = 1; more, so that it can be cut into stages
    uint32_t eos;           // the token that ends an answer
    uint32_t eos_every;     // mean length of an answer; 0 = answers never end by themselves
    uint32_t n_crash;       // a prompt that contains this sequence of tokens kills the process; 0 = none does
    uint32_t crash[ENGINE_MOCK_CRASH_MAX];
};

// What FP8 checkpoints are computed with. WEIGHTS: the weights' values, activations as they are. W8A8: activations made e4m3
// too, with a scale for every 128 of a token, as the reference does on GPUs. Streams never cross from one to the other.
enum engine_numeric { ENGINE_NUMERIC_WEIGHTS, ENGINE_NUMERIC_W8A8 };

struct engine_opts {
    const struct model *model;       // stays open while load() runs; the mock takes NULL
    uint32_t threads;                // 0 = from affinity and cgroup
    uint32_t slots, rows;            // sequences held, rows in a step
    uint32_t batch_tokens;           // tokens in a step
    uint32_t context;                // longest sequence; 0 = the model's
    uint32_t block_tokens;           // tokens in a KV block; 0 = 32
    uint64_t kv_bytes;               // memory for KV blocks; 0 = for slots × context, at most half of what is free
    uint32_t layer_first, layer_end; // this shard's layers; 0, 0 = all
    uint32_t step_min_ms;            // pace: a step's result comes no sooner
    uint32_t quant;                  // enum quant (worker/model/spec.h): quantise at load; 0 = as the files have it
    uint32_t numeric;                // enum engine_numeric
    bool deterministic;              // cuda: own kernels alone; bits depend on no batch or chunking, as the CPU's never do
    bool show_logits;                // results bring LAST rows' logits too; the CPU's always do
    uint32_t isa;                    // cpu: which instructions; 0 = the best there are (table.h)
    struct engine_mock_opts mock;
    const char *mock_say; // the mock's answer to everything, before eos; NULL: letters
};

// What probe() finds: a device of this kind, and what it has.
struct engine_device {
    char name[96];
    uint64_t memory_bytes, memory_free_bytes;
    uint32_t cores;
};

// mem_plan(): what would be taken, from the opts alone.
struct engine_mem {
    uint64_t weights_bytes, kv_bytes, workspace_bytes, kv_bytes_per_token;
    uint32_t blocks;
    uint64_t kv_tokens; // context × sequences that fit
};

struct engine_info {
    struct plan_limits limits; // what submit() accepts
    uint32_t hidden;           // floats in one token's hidden state
    uint32_t layer_first, layer_end, layers;
    uint64_t kv_bytes_per_token; // in kv_export's form, over this shard's layers
    struct engine_mem mem;
    uint32_t logits; // most rows of logits in one step: a LAST row has one, an ALL row q_len
    uint32_t modes;  // bit per enum plan_logits that the backend can do
};

struct engine_load_progress {
    uint64_t bytes_done, bytes_total;
};
// Returns false to give loading up (load() then fails with ERR_CANCELLED).
typedef bool engine_load_fn(void *context, struct engine_load_progress progress);

struct engine_top {
    uint32_t token;
    float logprob;
};

struct engine_token {
    uint32_t token;
    float logprob;  // of the model's own distribution (before temperature, penalties and masks)
    uint32_t n_top; // most likely first, ties by lowest id
    struct engine_top top[SAMPLING_TOP_LOGPROBS_MAX];
};

// One row's outcome. With numeric_error (a NaN or infinity in this row's logits) there are no tokens; other rows are well.
struct engine_row_result {
    uint32_t slot;
    uint32_t n_tokens; // 0 for rows that don't sample
    bool numeric_error;
    struct engine_token tokens[ENGINE_ACCEPT_MAX];
    // Rows with PLAN_LOGITS_LAST or ALL: [n_logits][vocab], NULL where this shard has no head.
    const float *logits;
    uint32_t n_logits;
};

// Owned by the engine; valid until the next call of result().
struct engine_result {
    uint64_t step;
    uint32_t n_rows;
    const struct engine_row_result *rows; // in the plan's order
    uint32_t elapsed_us;                  // since its submission or the answer before it, whichever was later
};

// Everything a slot needs to go on: its parameters and all its tokens so far (prompt, then output), of which the first
// n_prompt are the prompt. Opening with output in it is how a sequence resumes. KV entries come through plans or kv_import.
struct engine_slot_params {
    struct sampling_params sampling;
    const uint32_t *tokens; // borrowed for the call
    uint32_t n_tokens, n_prompt;
};

// Work of a step that step_cost() is asked about.
struct engine_load {
    uint32_t rows;     // rows that sample
    uint32_t tokens;   // tokens run forward in all
    uint64_t attended; // sum over the tokens of the positions each one attends to
};

// Which tokens of a slot, on all of the shard's layers: [layer][token][element], the element type being the cache's.
struct engine_kv_span {
    uint32_t slot, first, count;
};

typedef struct {
    uint64_t id;
} engine_ticket;
