#include "worker/main/stream_text.h"

#include "common/base/check.h"
#include "proto/codec.h"
#include "worker/text/output.h"
#include "worker/text/prompt_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct stream_text {
    const struct text_source *source;
    struct output *output;
    struct sampling_params sampling;
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[STOP_TOKENS_MAX + EOS_IDS_MAX];
    uint32_t min_tokens;
    bool logprobs;
    struct top_logprob tops[TOP_LOGPROBS_MAX]; // of the last record
    struct buf tail;
    struct checkpoint_found *found; // NULL: no checkpoint was named
    struct constraint *constraint;  // NULL: none
    uint32_t n_said;                // tokens so far
};

// One tokenisation, from the loop thread to the pool and back.
struct job {
    uv_work_t work;
    const struct text_source *source;
    uint64_t ticket;
    uint8_t *body;
    size_t body_len;
    uint32_t *delivered; // tokens of the records that the stream has already
    uint32_t n_delivered;
    uint64_t seed;
    struct stream_key key;
    char restore[NAME_SIZE]; // a checkpoint to look for; "": none
    uint32_t max_tokens;
    void (*done)(void *ctx, uint64_t ticket, const struct prepared *p);
    void *ctx;
    // the outcome
    struct error error;
    struct prompt_tokens prompt;
    bool is_known; // the answer:
    struct ids answer;
    struct stream_text *text;
    enum text_verdict verdict;
};

// What the answer is after a token. When it ends, calls that only the end makes certain count too.
static enum text_verdict verdict_of(struct stream_text *t, const struct output_text *text, bool ended) {
    if (!text->stopped && !ended) return TEXT_GO_ON;
    return output_calls(t->output) > 0 ? TEXT_STOP_TOOL_CALLS : TEXT_STOP;
}

static bool is_stop(const struct stream_text *t, uint32_t token) {
    for (uint32_t i = 0; i < t->n_stop_tokens; i++)
        if (t->stop_tokens[i] == token) return true;
    return false;
}

static bool ends(const struct stream_text *t, uint32_t token, uint32_t index) {
    return index >= t->min_tokens && is_stop(t, token);
}

enum tool_style text_source_tools(enum config_tools configured, enum tool_style model) {
    static const enum tool_style styles[] = {[TOOLS_NONE] = TOOL_STYLE_NONE,
                                             [TOOLS_HERMES] = TOOL_STYLE_HERMES,
                                             [TOOLS_LLAMA3] = TOOL_STYLE_LLAMA3,
                                             [TOOLS_DEEPSEEK_V3] = TOOL_STYLE_DEEPSEEK_V3,
                                             [TOOLS_DEEPSEEK_V31] = TOOL_STYLE_DEEPSEEK_V31};
    return configured == TOOLS_AUTO ? model : styles[configured];
}

// --- on the pool: from a prompt to tokens

static struct prompt_tokens_options tokens_options(const struct job *job) {
    return (struct prompt_tokens_options){job->source->model, job->source->vocab, time(NULL)};
}

// --- how the answer is sampled: the request's word, the model's, then Shoal's

static void set_sampling(struct stream_text *t, const struct prompt *p, const struct sampling *d, uint64_t seed,
                         uint32_t choice) {
    const struct sampling *s = &p->sampling;
    struct sampling_params *o = &t->sampling;
    sampling_params_default(o);
    if (d->has_temperature) o->temperature = d->temperature;
    if (d->has_top_p) o->top_p = d->top_p;
    if (d->has_top_k) o->top_k = (uint32_t)d->top_k;
    if (d->has_min_p) o->min_p = d->min_p;
    if (d->has_repetition_penalty) o->repetition_penalty = d->repetition_penalty;
    if (s->has_temperature) o->temperature = s->temperature;
    if (s->has_top_p) o->top_p = s->top_p;
    if (s->has_top_k) o->top_k = s->top_k > 0 ? (uint32_t)s->top_k : 0;
    if (s->has_min_p) o->min_p = s->min_p;
    if (d->has_typical_p) o->typical_p = d->typical_p;
    if (s->has_typical_p) o->typical_p = s->typical_p;
    if (s->has_repetition_penalty) o->repetition_penalty = s->repetition_penalty;
    o->presence_penalty = s->presence_penalty;
    o->frequency_penalty = s->frequency_penalty;
    o->seed = seed;
    o->choice = choice;
    o->want_logprob = p->logprobs;
    o->logprobs = p->top_logprobs;
    o->min_tokens = p->min_tokens;
}

static err_id set_bias(struct stream_text *t, const struct prompt *p, uint32_t vocab, struct error *e) {
    if (p->n_logit_bias > SAMPLING_BIAS_MAX)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "logit_bias", "'logit_bias' may hold at most %d tokens",
                               SAMPLING_BIAS_MAX);
    for (uint32_t i = 0; i < p->n_logit_bias; i++) {
        if (p->logit_bias[i].token >= vocab)
            return error_set_param(e, ERR_INVALID_ARGUMENT, "logit_bias", "the token id %u is not below the vocabulary's %u",
                                   p->logit_bias[i].token, vocab);
        t->sampling.bias[i] = (struct sampling_bias){p->logit_bias[i].token, p->logit_bias[i].bias};
    }
    t->sampling.n_bias = p->n_logit_bias;
    return ERR_NONE;
}

static err_id set_list(const char *field, const uint32_t *from, uint32_t n, uint32_t vocab, uint32_t *to, struct error *e) {
    for (uint32_t i = 0; i < n; i++) {
        if (from[i] >= vocab)
            return error_set_param(e, ERR_INVALID_ARGUMENT, field, "the token id %u is not below the vocabulary's %u",
                                   from[i], vocab);
        to[i] = from[i];
    }
    return ERR_NONE;
}

static err_id set_lists(struct stream_text *t, const struct prompt *p, uint32_t vocab, struct error *e) {
    _Static_assert((int)TOKEN_LIST_MAX <= (int)SAMPLING_LIST_MAX, "what the codec lets through fits");
    t->sampling.n_allowed = p->n_allowed;
    t->sampling.n_banned = p->n_banned;
    TRY(set_list("allowed_token_ids", p->allowed, p->n_allowed, vocab, t->sampling.allowed, e));
    return set_list("banned_token_ids", p->banned, p->n_banned, vocab, t->sampling.banned, e);
}

static void set_stops(struct stream_text *t, const struct prompt *p, const struct model_text *m) {
    for (uint32_t i = 0; i < p->n_stop_tokens && i < STOP_TOKENS_MAX; i++)
        t->stop_tokens[t->n_stop_tokens++] = p->stop_tokens[i];
    for (uint32_t i = 0; m && !p->ignore_eos && i < m->n_eos; i++) t->stop_tokens[t->n_stop_tokens++] = m->eos[i];
    if (m == NULL && !p->ignore_eos) t->stop_tokens[t->n_stop_tokens++] = t->source->mock_eos;
    struct sampling_params *o = &t->sampling;
    for (uint32_t i = 0; i < t->n_stop_tokens && o->n_eos < SAMPLING_EOS_MAX; i++) o->eos[o->n_eos++] = t->stop_tokens[i];
}

static err_id ban_words(const struct job *job, struct stream_text *t, const struct prompt *p, struct error *e) {
    struct prompt_tokens_options options = tokens_options(job);
    struct ids bad = {0};
    err_id id = prompt_bad_tokens(&options, p, &bad, e);
    if (id == ERR_NONE && t->sampling.n_banned + bad.len > SAMPLING_LIST_MAX)
        id = error_set_param(e, ERR_INVALID_ARGUMENT, "bad_words", "more than %d tokens are banned", SAMPLING_LIST_MAX);
    for (size_t i = 0; id == ERR_NONE && i < bad.len; i++) t->sampling.banned[t->sampling.n_banned++] = bad.data[i];
    ids_free(&bad);
    return id;
}

static err_id open_output(struct job *job, struct stream_text *t, const struct prompt *p, struct error *e) {
    const struct model_text *m = job->source->model;
    bool chats = p->kind == PROMPT_CHAT && p->task == TASK_GENERATE;
    bool calls = chats && p->tools_json != NULL && p->tool_choice != TOOL_CHOICE_NONE;
    struct output_options o = {.keep_special = p->keep_special_tokens,
                               .split_reasoning = chats,
                               .starts_in_reasoning = job->prompt.in_thinking,
                               .echo = job->prompt.echo.data,
                               .echo_len = job->prompt.echo.len,
                               .tools = calls ? job->source->tools : TOOL_STYLE_NONE,
                               .one_tool_call = p->one_tool_call,
                               .stop = p->stop,
                               .n_stop = p->n_stop,
                               .include_stop = p->include_stop};
    return output_create(m ? m->tokenizer : NULL, &o, &t->output, e);
}

// What this worker can't do is refused, never skipped.
static err_id check_task(const struct text_source *s, const struct prompt *p, struct error *e) {
    if (p->response_format != RESPONSE_TEXT && s->grammars == NULL)
        return error_set_param(e, ERR_UNSUPPORTED, "response_format",
                               "'response_format' can be {\"type\": \"text\"} only where a model is served in stages");
    if (p->response_format != RESPONSE_TEXT && p->tool_choice != TOOL_CHOICE_NONE && p->tools_json != NULL)
        return error_set_param(e, ERR_UNSUPPORTED, "response_format",
                               "'response_format' beside 'tools' isn't supported: set 'tool_choice' to \"none\"");
    if (p->tool_choice >= TOOL_CHOICE_REQUIRED)
        return error_set_param(e, ERR_UNSUPPORTED, "tool_choice", "'tool_choice' can be \"auto\" or \"none\"");
    if (p->task == TASK_EMBED) return error_set(e, ERR_UNSUPPORTED, "this model makes no embeddings");
    return ERR_NONE;
}

static err_id open_text(struct job *job, const struct prompt *p, struct error *e) {
    static const struct sampling nothing;
    const struct model_text *m = job->source->model;
    struct stream_text *t = job->text = xcalloc(1, sizeof *t);
    t->source = job->source;
    t->logprobs = p->logprobs;
    t->min_tokens = p->min_tokens;
    TRY(check_task(job->source, p, e));
    set_sampling(t, p, m ? &m->defaults : &nothing, job->seed, job->key.choice);
    TRY(set_bias(t, p, job->source->vocab, e));
    TRY(set_lists(t, p, job->source->vocab, e));
    TRY(ban_words(job, t, p, e));
    if (p->task == TASK_GENERATE) {
        set_stops(t, p, m);
        TRY(constraint_create(job->source->grammars, p, job->prompt.in_thinking, &t->constraint, e));
    }
    return open_output(job, t, p, e);
}

// The prompt's tokens are the answer. The core computes nothing, so one token will do for a prompt.
static void answer_with_prompt(struct job *job) {
    job->is_known = true;
    job->answer = job->prompt.ids;
    job->prompt.ids = (struct ids){0};
    ids_push(&job->prompt.ids, 0);
}

// One token through the output.
static enum text_verdict say(struct stream_text *t, uint32_t token, uint32_t index, struct output_text *text) {
    bool ended = ends(t, token, index);
    t->n_said = index + 1;
    if (t->constraint != NULL && !is_stop(t, token)) {
        constraint_push(t->constraint, token);
        // Whole, and no token is there to say so.
        if (constraint_ended(t->constraint) && (t->n_stop_tokens == 0 || t->n_said < t->min_tokens)) ended = true;
    }
    output_push(t->output, token, ended, text);
    return verdict_of(t, text, ended);
}

// Brings the text to where the delivered records left it; job->verdict: what the last of them said.
static void replay(struct job *job) {
    for (uint32_t i = 0; i < job->n_delivered; i++) {
        struct output_text text = {0};
        job->verdict = say(job->text, job->delivered[i], i, &text);
    }
}

// The checkpoint must be of these very tokens.
static void look_for_checkpoint(struct job *job) {
    uint32_t n = (uint32_t)job->prompt.ids.len + job->n_delivered, *tokens = xmalloc((n ? n : 1) * sizeof *tokens);
    memcpy(tokens, job->prompt.ids.data, job->prompt.ids.len * sizeof *tokens);
    memcpy(tokens + job->prompt.ids.len, job->delivered, job->n_delivered * sizeof *tokens);
    job->text->found = xcalloc(1, sizeof *job->text->found);
    checkpoints_look(job->source->checkpoints, &job->key, job->restore, tokens, n, job->text->found);
    free(tokens);
}

static void on_pool(uv_work_t *work) {
    struct job *job = work->data;
    struct codec_arena arena = {0};
    struct prompt p;
    struct error *e = &job->error;
    struct prompt_tokens_options options = tokens_options(job);
    if (codec_prompt_decode(job->body, job->body_len, &arena, &p, e) == ERR_NONE &&
        prompt_tokens(&options, &p, &job->prompt, e) == ERR_NONE && open_text(job, &p, e) == ERR_NONE) {
        replay(job);
        if (p.task == TASK_TOKENIZE)
            answer_with_prompt(job);
        else if (job->prompt.ids.len == 0)
            error_set_param(e, ERR_INVALID_ARGUMENT, "prompt", "the prompt is empty");
        else if (job->restore[0] != '\0')
            look_for_checkpoint(job);
    }
    codec_arena_free(&arena);
}

static void on_done(uv_work_t *work, int status) {
    struct job *job = work->data;
    if (status != 0) error_set(&job->error, ERR_CANCELLED, "the process is ending");
    if (job->error.id != ERR_NONE && job->text) {
        stream_text_destroy(job->text);
        job->text = NULL;
    }
    struct prepared p = {.error = job->error,
                         .verdict = job->verdict,
                         .tokens = job->prompt.ids.data,
                         .n_tokens = (uint32_t)job->prompt.ids.len,
                         .is_known = job->is_known,
                         .answer = job->answer.data,
                         .n_answer = (uint32_t)job->answer.len,
                         .max_tokens = job->max_tokens ? job->max_tokens : UINT32_MAX,
                         .n_restored = job->text && job->text->found ? job->text->found->n_usable : 0,
                         .one_by_one = job->text && job->text->constraint != NULL,
                         .user = job->text};
    job->done(job->ctx, job->ticket, &p);
    ids_free(&job->prompt.ids);
    ids_free(&job->answer);
    buf_free(&job->prompt.echo);
    free(job->delivered);
    free(job->body);
    free(job);
}

void stream_text_prepare(uv_loop_t *loop, const struct text_source *source, uint64_t ticket, const struct msg_generate *g,
                         void (*done)(void *ctx, uint64_t ticket, const struct prepared *p), void *ctx) {
    struct job *job = xcalloc(1, sizeof *job);
    job->work.data = job;
    job->source = source;
    job->ticket = ticket;
    job->body = xmalloc(g->body_len + 1);
    memcpy(job->body, g->body, g->body_len);
    job->body_len = g->body_len;
    job->n_delivered = g->records.count;
    job->delivered = xmalloc((g->records.count + 1) * sizeof *job->delivered);
    for (uint32_t i = 0; i < g->records.count; i++) job->delivered[i] = records_get(&g->records, i).token;
    job->seed = g->seed;
    job->key = g->key;
    if (source->checkpoints && checkpoints_reach(source->checkpoints, g))
        snprintf(job->restore, sizeof job->restore, "%s", g->restore);
    job->max_tokens = g->max_tokens;
    job->done = done;
    job->ctx = ctx;
    CHECK(uv_queue_work(loop, &job->work, on_pool, on_done) == 0);
}

// --- on the loop: from tokens to records

const struct sampling_params *stream_text_sampling(const struct stream_text *t) { return &t->sampling; }

const struct checkpoint_found *stream_text_checkpoint(const struct stream_text *t) { return t->found; }

// The likeliest tokens with their texts: the router knows no vocabulary.
static const struct top_logprob *name_tops(struct stream_text *t, const struct worker_token *token) {
    for (uint32_t i = 0; i < token->n_top && i < TOP_LOGPROBS_MAX; i++) {
        struct top_logprob *top = &t->tops[i];
        *top = token->top[i];
        if (t->source->model == NULL) continue;
        struct bytes b = tokenizer_token_bytes(t->source->model->tokenizer, top->token);
        top->text_len = (uint8_t)(b.len < TOP_TEXT_MAX ? b.len : TOP_TEXT_MAX);
        if (b.len > 0) memcpy(top->text, b.data, top->text_len);
    }
    return t->tops;
}

bool stream_text_is_bound(const struct stream_text *t) { return t->constraint != NULL; }

static void set_bit(uint32_t *mask, uint32_t token) { mask[token / 32] |= UINT32_C(1) << token % 32; }
static void clear_bit(uint32_t *mask, uint32_t token) { mask[token / 32] &= ~(UINT32_C(1) << token % 32); }

bool stream_text_mask(struct stream_text *t, uint32_t *mask) {
    const struct sampling_params *o = &t->sampling;
    bool complete;
    if (t->constraint == NULL || !constraint_mask(t->constraint, mask, &complete)) return false;
    for (uint32_t i = 0; i < t->n_stop_tokens; i++) {
        uint32_t stop = t->stop_tokens[i];
        if (stop >= t->source->vocab) continue;
        if (complete && t->n_said >= t->min_tokens)
            set_bit(mask, stop);
        else
            clear_bit(mask, stop);
    }
    for (uint32_t i = 0; i < o->n_banned; i++) clear_bit(mask, o->banned[i]);
    for (uint32_t token = 0; o->n_allowed > 0 && token < t->source->vocab; token++) {
        bool allowed = false;
        for (uint32_t i = 0; i < o->n_allowed; i++) allowed |= o->allowed[i] == token;
        if (!allowed) clear_bit(mask, token);
    }
    return true;
}

enum text_verdict stream_text_record(struct stream_text *t, uint32_t index, const struct worker_token *token,
                                     struct record *out) {
    struct output_text text = {0};
    enum text_verdict verdict = say(t, token->token, index, &text);
    *out = (struct record){.token = token->token,
                           .channel = (uint8_t)text.channel,
                           .has_logprob = t->logprobs,
                           .logprob = token->logprob,
                           .text = text.text,
                           .text_len = (uint32_t)text.text_len,
                           .n_top = t->logprobs ? token->n_top : 0,
                           .top = name_tops(t, token)};
    return verdict;
}

void stream_text_tail(struct stream_text *t, uint8_t *channel, const char **text, uint32_t *len) {
    struct output_text piece = {0};
    buf_reset(&t->tail);
    *channel = CHANNEL_CONTENT;
    for (output_finish(t->output, &piece); piece.text_len > 0; output_finish(t->output, &piece)) {
        if (t->tail.len == 0) *channel = (uint8_t)piece.channel;
        if (*channel == (uint8_t)piece.channel) buf_append(&t->tail, piece.text, piece.text_len);
    }
    *text = t->tail.len ? t->tail.data : "";
    *len = (uint32_t)t->tail.len;
}

void stream_text_destroy(struct stream_text *t) {
    if (t == NULL) return;
    output_destroy(t->output);
    constraint_destroy(t->constraint);
    buf_free(&t->tail);
    free(t->found);
    free(t);
}

// --- as hooks

enum text_verdict stream_text_on_record(void *ctx, void *user, uint32_t index, const struct worker_token *token,
                                        struct record *out) {
    return stream_text_record(user, index, token, out);
}

void stream_text_on_tail(void *ctx, void *user, uint8_t *channel, const char **text, uint32_t *len) {
    stream_text_tail(user, channel, text, len);
}

void stream_text_on_release(void *ctx, void *user) { stream_text_destroy(user); }
