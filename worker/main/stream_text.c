#include "worker/main/stream_text.h"

#include "common/base/check.h"
#include "proto/codec.h"
#include "worker/text/channel.h"
#include "worker/text/messages.h"
#include "worker/text/output.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct stream_text {
    const struct text_source *source;
    struct output *output; // NULL: the mock's
    struct sampling_params sampling;
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[STOP_TOKENS_MAX + EOS_IDS_MAX];
    uint32_t min_tokens;
    bool logprobs;
    struct buf tail;
    char mock_text[2];
    struct checkpoint_found *found; // NULL: no checkpoint was named
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
    struct ids ids;
    struct stream_text *text;
    enum text_verdict verdict;
};

static bool ends(const struct stream_text *t, uint32_t token, uint32_t index) {
    if (index < t->min_tokens) return false;
    for (uint32_t i = 0; i < t->n_stop_tokens; i++)
        if (t->stop_tokens[i] == token) return true;
    return false;
}

// --- on the pool: from a prompt to tokens

static void mock_tokens(struct job *job, const struct prompt *p) {
    const char *text = p->kind == PROMPT_CHAT ? p->messages_json : p->text;
    size_t len = p->kind == PROMPT_CHAT ? strlen(text) : p->text_len;
    for (size_t i = 0; i < len; i++) ids_push(&job->ids, (uint8_t)text[i]);
}

static json_t *parse_json(const char *text, json_t *(*otherwise)(void)) {
    return text ? json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL) : otherwise ? otherwise() : NULL;
}

static err_id render_chat(const struct model_text *m, const struct prompt *p, struct buf *out, struct error *e) {
    if (m->chat == NULL) return error_set(e, ERR_INVALID_ARGUMENT, "this model has no chat template: use completions");
    json_t *given = parse_json(p->messages_json, NULL), *messages = NULL;
    json_t *tools = parse_json(p->tools_json, NULL), *extra = parse_json(p->template_kwargs_json, NULL);
    err_id id = given ? messages_normalise(m->chat, given, &messages, e)
                      : error_set_param(e, ERR_INVALID_ARGUMENT, "messages", "'messages' is not valid JSON");
    if (id == ERR_NONE) {
        struct template_input input = {.messages = messages,
                                       .tools = tools,
                                       .extra = extra,
                                       .add_generation_prompt = true,
                                       .special_tokens = m->special_tokens,
                                       .now_unix_s = time(NULL)};
        id = template_render(m->chat, &input, out, e);
    }
    json_decref(given);
    json_decref(messages);
    json_decref(tools);
    json_decref(extra);
    return id;
}

// Fills job->ids; *inside: the answer starts in the reasoning.
static err_id tokenise(struct job *job, const struct prompt *p, bool *inside, struct error *e) {
    const struct model_text *m = job->source->model;
    if (p->kind == PROMPT_TOKENS) {
        for (uint32_t i = 0; i < p->n_tokens; i++) {
            if (p->tokens[i] >= job->source->vocab)
                return error_set_param(e, ERR_INVALID_ARGUMENT, "prompt", "the token id %u is not below the vocabulary's %u",
                                       p->tokens[i], job->source->vocab);
            ids_push(&job->ids, p->tokens[i]);
        }
        return ERR_NONE;
    }
    if (m == NULL) {
        mock_tokens(job, p);
        return ERR_NONE;
    }
    if (p->kind == PROMPT_TEXT)
        return tokenizer_encode(m->tokenizer, p->text, p->text_len, ENCODE_PARSE_ADDED | ENCODE_ADD_SPECIAL, &job->ids, e);
    struct buf text = {0};
    err_id id = render_chat(m, p, &text, e);
    *inside = channel_starts_inside(text.len ? text.data : "", text.len);
    if (id == ERR_NONE)
        id = tokenizer_encode(m->tokenizer, text.len ? text.data : "", text.len, ENCODE_PARSE_ADDED, &job->ids, e);
    buf_free(&text);
    return id;
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

static err_id open_text(struct job *job, const struct prompt *p, bool inside, struct error *e) {
    static const struct sampling nothing;
    const struct model_text *m = job->source->model;
    struct stream_text *t = job->text = xcalloc(1, sizeof *t);
    t->source = job->source;
    t->logprobs = p->logprobs;
    t->min_tokens = p->min_tokens;
    set_sampling(t, p, m ? &m->defaults : &nothing, job->seed, job->key.choice);
    TRY(set_bias(t, p, job->source->vocab, e));
    TRY(set_lists(t, p, job->source->vocab, e));
    set_stops(t, p, m);
    if (m == NULL) return ERR_NONE;
    struct output_options o = {.keep_special = p->keep_special_tokens,
                               .split_reasoning = p->kind == PROMPT_CHAT,
                               .starts_in_reasoning = inside,
                               .stop = p->stop,
                               .n_stop = p->n_stop,
                               .include_stop = p->include_stop};
    return output_create(m->tokenizer, &o, &t->output, e);
}

// Brings the text to where the delivered records left it; job->verdict: what the last of them said.
static void replay(struct job *job) {
    struct output_text text = {0};
    for (uint32_t i = 0; i < job->n_delivered; i++) {
        if (job->text->output) output_push(job->text->output, job->delivered[i], &text);
        bool ended = text.stopped || ends(job->text, job->delivered[i], i);
        job->verdict = ended ? TEXT_STOP : TEXT_GO_ON;
    }
}

// The checkpoint must be of these very tokens.
static void look_for_checkpoint(struct job *job) {
    uint32_t n = (uint32_t)job->ids.len + job->n_delivered, *tokens = xmalloc((n ? n : 1) * sizeof *tokens);
    memcpy(tokens, job->ids.data, job->ids.len * sizeof *tokens);
    memcpy(tokens + job->ids.len, job->delivered, job->n_delivered * sizeof *tokens);
    job->text->found = xcalloc(1, sizeof *job->text->found);
    checkpoints_look(job->source->checkpoints, &job->key, job->restore, tokens, n, job->text->found);
    free(tokens);
}

static void on_pool(uv_work_t *work) {
    struct job *job = work->data;
    struct codec_arena arena = {0};
    struct prompt p;
    bool inside = false;
    struct error *e = &job->error;
    if (codec_prompt_decode(job->body, job->body_len, &arena, &p, e) == ERR_NONE &&
        tokenise(job, &p, &inside, e) == ERR_NONE && open_text(job, &p, inside, e) == ERR_NONE) {
        replay(job);
        if (job->ids.len == 0)
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
                         .tokens = job->ids.data,
                         .n_tokens = (uint32_t)job->ids.len,
                         .max_tokens = job->max_tokens ? job->max_tokens : UINT32_MAX,
                         .n_restored = job->text && job->text->found ? job->text->found->n_usable : 0,
                         .user = job->text};
    job->done(job->ctx, job->ticket, &p);
    ids_free(&job->ids);
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

enum text_verdict stream_text_record(struct stream_text *t, uint32_t index, const struct worker_token *token,
                                     struct record *out) {
    struct output_text text = {.channel = CHANNEL_CONTENT};
    if (t->output) {
        output_push(t->output, token->token, &text);
    } else { // the mock's tokens are characters
        t->mock_text[0] = token->token < 128 ? (char)token->token : '?';
        text.text = t->mock_text;
        text.text_len = 1;
    }
    *out = (struct record){.token = token->token,
                           .channel = (uint8_t)text.channel,
                           .has_logprob = t->logprobs,
                           .logprob = token->logprob,
                           .text = text.text,
                           .text_len = (uint32_t)text.text_len,
                           .n_top = t->logprobs ? token->n_top : 0,
                           .top = token->top};
    return text.stopped || ends(t, token->token, index) ? TEXT_STOP : TEXT_GO_ON;
}

void stream_text_tail(struct stream_text *t, uint8_t *channel, const char **text, uint32_t *len) {
    struct output_text piece = {0};
    buf_reset(&t->tail);
    *channel = CHANNEL_CONTENT;
    if (t->output) {
        for (output_finish(t->output, &piece); piece.text_len > 0; output_finish(t->output, &piece)) {
            if (t->tail.len == 0) *channel = (uint8_t)piece.channel;
            buf_append(&t->tail, piece.text, piece.text_len);
        }
    }
    *text = t->tail.len ? t->tail.data : "";
    *len = (uint32_t)t->tail.len;
}

void stream_text_destroy(struct stream_text *t) {
    if (t == NULL) return;
    output_destroy(t->output);
    buf_free(&t->tail);
    free(t->found);
    free(t);
}
