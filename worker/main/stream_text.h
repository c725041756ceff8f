// The text side of the streams that a worker serves: turns a Generate into tokens on the thread pool, and chosen tokens into
// records on the loop thread. One stream_text per stream is the `user` that worker_core hands back to its hooks.
#pragma once
#include "common/sys/config.h"
#include "worker/core/worker_core.h"
#include "worker/main/checkpoints.h"
#include "worker/main/constraint.h"
#include "worker/plan/sampling.h"
#include "worker/text/model_text.h"
#include <uv.h>

// What texts are made with: a model's tokenizer and template, or the mock's bytes-as-tokens when model is NULL.
struct text_source {
    const struct model_text *model;
    uint32_t vocab;                  // token ids are below
    uint32_t mock_eos;               // the token that ends a mock's answer
    enum tool_style tools;           // how calls of tools are written
    struct checkpoints *checkpoints; // NULL: there is no store
    struct grammars *grammars;       // NULL: this worker binds no answer to a form
};

// How a deployment's calls are written: the configuration's word, or what the model says.
enum tool_style text_source_tools(enum config_tools configured, enum tool_style model);

struct stream_text;

// Starts the job. `done` is called on the loop thread, once, with what worker_core_prepared() wants.
void stream_text_prepare(uv_loop_t *loop, const struct text_source *source, uint64_t ticket, const struct msg_generate *g,
                         void (*done)(void *ctx, uint64_t ticket, const struct prepared *p), void *ctx);
const struct sampling_params *stream_text_sampling(const struct stream_text *t);
// What was found of the checkpoint that the request named; n_usable 0: nothing.
const struct checkpoint_found *stream_text_checkpoint(const struct stream_text *t);
// Which tokens may come next: sets mask ((vocab + 31) / 32 words). False: all that the sampling parameters allow.
bool stream_text_is_bound(const struct stream_text *t); // to a form: stream_text_mask() is worth asking
bool stream_text_mask(struct stream_text *t, uint32_t *mask);
// worker_hooks.record and .tail.
enum text_verdict stream_text_record(struct stream_text *t, uint32_t index, const struct worker_token *token,
                                     struct record *out);
void stream_text_tail(struct stream_text *t, uint8_t *channel, const char **text, uint32_t *len);
void stream_text_destroy(struct stream_text *t);

// The same as hooks of the core; ctx is not used.
enum text_verdict stream_text_on_record(void *ctx, void *user, uint32_t index, const struct worker_token *token,
                                        struct record *out);
void stream_text_on_tail(void *ctx, void *user, uint8_t *channel, const char **text, uint32_t *len);
void stream_text_on_release(void *ctx, void *user);
