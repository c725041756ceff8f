// What the caller asks, as a message.
#include "client/internal.h"

#include <stdio.h>
#include <stdlib.h>

static err_id copy_name(const char *from, char out[NAME_SIZE], const char *field, struct error *e) {
    if (from == NULL) from = "";
    size_t n = strlen(from);
    if (n > NAME_MAX_BYTES)
        return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s has %zu bytes; at most %d are allowed", field, n,
                               NAME_MAX_BYTES);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)from[i] < 0x20 || from[i] == 0x7f)
            return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s holds a control character", field);
    memcpy(out, from, n + 1);
    return ERR_NONE;
}

static err_id read_content(const struct shoal_request *r, struct prompt *p, struct error *e) {
    int given = (r->messages_json != NULL) + (r->prompt != NULL) + (r->tokens != NULL);
    if (given != 1)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "messages_json",
                               "%d of messages_json, prompt and tokens are given; expected exactly one", given);
    p->kind = r->messages_json ? PROMPT_CHAT : r->prompt ? PROMPT_TEXT : PROMPT_TOKENS;
    p->messages_json = r->messages_json;
    p->tools_json = r->tools_json;
    p->template_kwargs_json = r->template_kwargs_json;
    p->text = r->prompt;
    p->text_len = r->prompt ? r->prompt_len : 0;
    p->tokens = r->tokens;
    p->n_tokens = r->n_tokens;
    return ERR_NONE;
}

#define GIVEN(field)                                                                                                        \
    do {                                                                                                                    \
        s->has_##field = !isnan(r->field);                                                                                  \
        s->field = s->has_##field ? r->field : 0;                                                                           \
    } while (0)

static void read_sampling(const struct shoal_request *r, struct sampling *s) {
    GIVEN(temperature);
    GIVEN(top_p);
    GIVEN(min_p);
    GIVEN(typical_p);
    GIVEN(repetition_penalty);
    s->has_top_k = r->top_k != INT32_MIN;
    s->top_k = s->has_top_k ? r->top_k : 0;
    s->presence_penalty = r->presence_penalty;
    s->frequency_penalty = r->frequency_penalty;
}

// The worker checks the prompt too; checking here says no without a journey.
static err_id check_body(const struct buf *body, struct error *e) {
    struct codec_arena arena = {0};
    struct prompt back;
    err_id id = codec_prompt_decode((const uint8_t *)body->data, body->len, &arena, &back, e);
    codec_arena_free(&arena);
    return id;
}

static err_id write_body(const struct shoal_request *r, struct buf *body, struct error *e) {
    struct prompt p = {
        .min_tokens = r->min_tokens,
        .ignore_eos = r->ignore_eos,
        .logprobs = r->logprobs || r->top_logprobs > 0,
        .top_logprobs = r->top_logprobs,
        .n_stop = r->n_stop,
        .stop = r->stop,
        .include_stop = r->include_stop,
        .keep_special_tokens = r->keep_special_tokens,
        .n_allowed = r->n_allowed_tokens,
        .allowed = r->allowed_tokens,
        .n_banned = r->n_banned_tokens,
        .banned = r->banned_tokens,
        .n_choices = r->n > 1 ? r->n : 0,
    };
    TRY(read_content(r, &p, e));
    read_sampling(r, &p.sampling);
    if (r->n_logit_bias > LOGIT_BIAS_MAX)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "logit_bias", "%u logit biases are given; at most %d are allowed",
                               r->n_logit_bias, LOGIT_BIAS_MAX);
    struct logit_bias bias[LOGIT_BIAS_MAX];
    for (uint32_t i = 0; i < r->n_logit_bias; i++)
        bias[i] = (struct logit_bias){.token = r->logit_bias[i].token, .bias = r->logit_bias[i].bias};
    p.logit_bias = bias;
    p.n_logit_bias = r->n_logit_bias;
    if (!codec_prompt_encode(&p, body))
        return error_set_param(e, ERR_TOO_LARGE, "messages_json", "the prompt is larger than %d bytes", BODY_BYTES_MAX);
    return check_body(body, e);
}

err_id request_read(const struct shoal_request *r, const char *tenant, struct buf *body, struct msg_generate *out,
                    struct error *e) {
    *out = (struct msg_generate){.deadline_ms = r->deadline_ms, .max_tokens = r->max_tokens, .has_seed = true, .keep = true};
    TRY(copy_name(r->model, out->model, "model", e));
    if (out->model[0] == '\0') return error_set_param(e, ERR_INVALID_ARGUMENT, "model", "model is missing");
    TRY(copy_name(r->pin_replica, out->pin, "pin_replica", e));
    TRY(copy_name(tenant, out->tenant, "tenant", e));
    if (r->max_tokens > OUTPUT_TOKENS_MAX)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "max_tokens", "max_tokens is %u; at most %d are allowed",
                               r->max_tokens, OUTPUT_TOKENS_MAX);
    if (r->n > CHOICES_MAX)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "n", "n is %u; at most %d answers are made", r->n, CHOICES_MAX);
    if (r->request_id == NULL) {
        draw_random(&out->key.request, sizeof out->key.request);
    } else if (!request_id_parse(r->request_id, &out->key.request)) {
        return error_set_param(e, ERR_INVALID_ARGUMENT, "request_id", "request_id is not 32 hex digits");
    }
    out->seed = r->seed;
    if (!r->has_seed) {
        draw_random(&out->seed, sizeof out->seed);
        out->seed >>= 1; // so that it can be written as a signed number and given again
    }
    TRY(write_body(r, body, e));
    size_t text = r->messages_json ? strlen(r->messages_json) : r->prompt ? r->prompt_len : (size_t)r->n_tokens * 4;
    out->prompt_bytes = (uint32_t)text;
    out->body = (const uint8_t *)body->data;
    out->body_len = body->len;
    return ERR_NONE;
}
