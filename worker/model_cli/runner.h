// One sequence on one engine: what the engine's subcommands of shoal-model share.
#pragma once
#include "worker/engine/backend.h"
#include "worker/model/model.h"

struct runner_options {
    const char *model, *device;
    uint32_t threads, context; // 0 = default
    uint32_t chunk;            // prompt tokens per step; 0 = as many as fit
    const char *isa, *numeric; // table.h; NULL = default
    const char *quant;         // "int8", "int4"; NULL = as the files have it
    const char *parallel;      // "pp=N": in N pipeline stages, one after the other; NULL = in one
};

struct runner {
    struct model *model;
    struct engine *engine;
    const struct engine_info *info;
    void *buffer; // of plans
    uint64_t step;
    uint32_t chunk, mapped; // mapped: blocks in the slot's table
};

// Opens model and engine for sequences of up to n_tokens tokens.
err_id runner_open(struct runner *r, const struct runner_options *options, uint32_t n_tokens, struct error *e);
void runner_close(struct runner *r);
// Opens slot 0 with the prompt and runs it; *result is its last step's, valid until the next step.
err_id runner_prompt(struct runner *r, const uint32_t *tokens, uint32_t n, const struct sampling_params *sampling,
                     struct engine_result *result, struct error *e);
// As runner_prompt, but with logits after every token: fn gets those of each step, [count][vocab], from position first on.
typedef void runner_logits_fn(void *context, uint32_t first, uint32_t count, const float *logits);
err_id runner_prompt_all(struct runner *r, const uint32_t *tokens, uint32_t n, runner_logits_fn *fn, void *context,
                         struct error *e);
// One more token, from the one that was sampled last.
err_id runner_next(struct runner *r, struct engine_result *result, struct error *e);

// Flags that decide which bits come out, for the commands that run an engine.
#define RUNNER_QUANT_FLAG(to)                                                                                               \
    { .name = "quant", .kind = FLAG_STRING, .target = (to), .value = "FORMAT", .help = "quantise at load: int8 or int4" }
#define RUNNER_ISA_FLAG(to)                                                                                                 \
    {                                                                                                                       \
        .name = "isa", .kind = FLAG_STRING, .target = (to), .value = "SET",                                                 \
        .help = "cpu: best, generic, avx2, avx512 or avx512-bf16; the bits are the same"                                    \
    }
#define RUNNER_NUMERIC_FLAG(to)                                                                                             \
    {                                                                                                                       \
        .name = "numeric", .kind = FLAG_STRING, .target = (to), .value = "CLASS",                                           \
        .help = "FP8 checkpoints: weights, or w8a8, which makes activations FP8 too"                                        \
    }

// "1,2,3" as numbers; the caller frees *tokens.
err_id runner_parse_tokens(const char *text, uint32_t **tokens, uint32_t *n, struct error *e);
// "shoal-model NAME: sentence" on stderr; 2.
int runner_fail(const char *name, const struct error *e);
