// The body of a Generate. Its faults are the client's, so each becomes ERR_INVALID_ARGUMENT with the field's name.
#include "proto/codec_internal.h"

enum { STACK_BYTES = 4 << 10 };

#define GIVE(field, NAME_)                                                                                                  \
    do {                                                                                                                    \
        if (p->sampling.has_##field) {                                                                                      \
            out->field##_given_case = SHOAL__PROMPT__##NAME_##_GIVEN_##NAME_;                                               \
            out->field = p->sampling.field;                                                                                 \
        }                                                                                                                   \
    } while (0)

static ProtobufCBinaryData enc_optional_text(const char *s) { return s ? enc_text(s) : (ProtobufCBinaryData){0}; }

static void enc_sampling(const struct prompt *p, Shoal__Prompt *out) {
    GIVE(temperature, TEMPERATURE);
    GIVE(top_p, TOP_P);
    GIVE(top_k, TOP_K);
    GIVE(min_p, MIN_P);
    GIVE(typical_p, TYPICAL_P);
    GIVE(repetition_penalty, REPETITION_PENALTY);
    out->presence_penalty = p->sampling.presence_penalty;
    out->frequency_penalty = p->sampling.frequency_penalty;
}

static void enc_stop_and_bias(const struct prompt *p, struct codec_arena *a, Shoal__Prompt *out) {
    out->n_stop = p->n_stop;
    out->stop = enc_alloc(a, p->n_stop * sizeof *out->stop);
    for (uint32_t i = 0; i < p->n_stop; i++) out->stop[i] = enc_text(p->stop[i]);
    out->n_stop_tokens = p->n_stop_tokens;
    out->stop_tokens = (uint32_t *)p->stop_tokens;
    out->n_allowed_tokens = p->n_allowed;
    out->allowed_tokens = (uint32_t *)p->allowed;
    out->n_banned_tokens = p->n_banned;
    out->banned_tokens = (uint32_t *)p->banned;
    out->n_logit_bias = p->n_logit_bias;
    out->logit_bias = enc_alloc(a, p->n_logit_bias * sizeof *out->logit_bias);
    for (uint32_t i = 0; i < p->n_logit_bias; i++) {
        out->logit_bias[i] = enc_alloc(a, sizeof *out->logit_bias[i]);
        shoal__logit_bias__init(out->logit_bias[i]);
        out->logit_bias[i]->token = p->logit_bias[i].token;
        out->logit_bias[i]->bias = p->logit_bias[i].bias;
    }
}

static void enc_shape(const struct prompt *p, struct codec_arena *a, Shoal__Prompt *out) {
    out->n_bad_words = p->n_bad_words;
    out->bad_words = enc_alloc(a, p->n_bad_words * sizeof *out->bad_words);
    for (uint32_t i = 0; i < p->n_bad_words; i++) out->bad_words[i] = enc_text(p->bad_words[i]);
    out->tool_choice = (Shoal__ToolChoice)p->tool_choice;
    out->tool_name = enc_optional_text(p->tool_name);
    out->one_tool_call = p->one_tool_call;
    out->response_format = (Shoal__ResponseFormat)p->response_format;
    out->response_schema = enc_optional_text(p->response_schema);
    out->response_strict = p->response_strict;
    out->response_regex = enc_optional_text(p->response_regex);
    out->no_generation_prompt = p->no_generation_prompt;
    out->continue_final_message = p->continue_final_message;
    out->suffix = enc_optional_text(p->suffix);
    out->task = (Shoal__PromptTask)p->task;
    out->no_special_tokens = p->no_special_tokens;
    out->echo = p->echo;
}

bool codec_prompt_encode(const struct prompt *p, struct buf *out) {
    _Alignas(16) uint8_t stack[STACK_BYTES];
    struct codec_arena arena;
    codec_arena_borrow(&arena, stack, sizeof stack);
    Shoal__Prompt m;
    shoal__prompt__init(&m);
    m.kind = (Shoal__PromptKind)p->kind;
    m.messages_json = enc_optional_text(p->messages_json);
    m.tools_json = enc_optional_text(p->tools_json);
    m.template_kwargs_json = enc_optional_text(p->template_kwargs_json);
    m.text = (ProtobufCBinaryData){.len = p->text_len, .data = (uint8_t *)p->text};
    m.n_tokens = p->n_tokens;
    m.tokens = (uint32_t *)p->tokens;
    enc_sampling(p, &m);
    m.min_tokens = p->min_tokens;
    m.ignore_eos = p->ignore_eos;
    m.logprobs = p->logprobs;
    m.top_logprobs = p->top_logprobs;
    m.include_stop = p->include_stop;
    m.keep_special_tokens = p->keep_special_tokens;
    m.choices = p->n_choices;
    enc_stop_and_bias(p, &arena, &m);
    enc_shape(p, &arena, &m);
    bool fits = enc_pack(&m.base, BODY_BYTES_MAX, out);
    codec_arena_free(&arena);
    return fits;
}

// ---- decoding

#define REFUSE(field, ...) return error_set_param(e, ERR_INVALID_ARGUMENT, field, __VA_ARGS__)

// A copy with a zero byte behind it.
static err_id copy_text(const ProtobufCBinaryData *from, bool nul_allowed, struct codec_arena *a, const char *field,
                        const char **out, struct error *e) {
    if (utf8_prefix(from->data, from->len) != from->len) REFUSE(field, "%s is not valid UTF-8", field);
    if (!nul_allowed && from->len > 0 && memchr(from->data, 0, from->len)) REFUSE(field, "%s holds a NUL byte", field);
    char *s = codec_arena_alloc(a, from->len + 1);
    if (s == NULL) return dec_no_memory(e);
    if (from->len > 0) memcpy(s, from->data, from->len);
    s[from->len] = '\0';
    *out = s;
    return ERR_NONE;
}

static err_id in_range(float x, float low, float high, const char *field, struct error *e) {
    if (x >= low && x <= high) return ERR_NONE; // false for NaN
    REFUSE(field, "%s is %g; expected %g to %g", field, (double)x, (double)low, (double)high);
}

#define TAKE(field, NAME_)                                                                                                  \
    do {                                                                                                                    \
        s->has_##field = from->field##_given_case == SHOAL__PROMPT__##NAME_##_GIVEN_##NAME_;                                \
        s->field = s->has_##field ? from->field : 0;                                                                        \
    } while (0)

static err_id dec_sampling(const Shoal__Prompt *from, struct sampling *s, struct error *e) {
    static const float above_zero = 1e-6f;
    TAKE(temperature, TEMPERATURE);
    TAKE(top_p, TOP_P);
    TAKE(top_k, TOP_K);
    TAKE(min_p, MIN_P);
    TAKE(typical_p, TYPICAL_P);
    TAKE(repetition_penalty, REPETITION_PENALTY);
    s->presence_penalty = from->presence_penalty;
    s->frequency_penalty = from->frequency_penalty;
    TRY(in_range(s->temperature, 0, 100, "temperature", e));
    if (s->has_top_p) TRY(in_range(s->top_p, above_zero, 1, "top_p", e));
    TRY(in_range(s->min_p, 0, 1, "min_p", e));
    if (s->has_typical_p) TRY(in_range(s->typical_p, above_zero, 1, "typical_p", e));
    if (s->has_repetition_penalty) TRY(in_range(s->repetition_penalty, above_zero, 100, "repetition_penalty", e));
    TRY(in_range(s->presence_penalty, -100, 100, "presence_penalty", e));
    TRY(in_range(s->frequency_penalty, -100, 100, "frequency_penalty", e));
    if (s->top_k == -1) s->top_k = 0;
    if (s->top_k < 0) REFUSE("top_k", "top_k is %d; expected 0 (all) or more", (int)s->top_k);
    return ERR_NONE;
}

// n strings of 1 to STOP_STRING_BYTES_MAX bytes; what: their name in a sentence.
static err_id dec_strings(const ProtobufCBinaryData *from, size_t n, size_t max, const char *field, const char *what,
                          struct codec_arena *a, const char *const **out, struct error *e) {
    if (n > max) REFUSE(field, "%zu %ss are given; at most %zu are allowed", n, what, max);
    const char **strings = codec_arena_alloc(a, n * sizeof *strings);
    if (strings == NULL) return dec_no_memory(e);
    for (size_t i = 0; i < n; i++) {
        if (from[i].len == 0 || from[i].len > STOP_STRING_BYTES_MAX)
            REFUSE(field, "a %s has %zu bytes; expected 1 to %d", what, from[i].len, STOP_STRING_BYTES_MAX);
        TRY(copy_text(&from[i], false, a, field, &strings[i], e));
    }
    *out = strings;
    return ERR_NONE;
}

static err_id dec_stop(const Shoal__Prompt *from, struct codec_arena *a, struct prompt *out, struct error *e) {
    TRY(dec_strings(from->stop, from->n_stop, STOP_STRINGS_MAX, "stop", "stop string", a, &out->stop, e));
    TRY(dec_strings(from->bad_words, from->n_bad_words, BAD_WORDS_MAX, "bad_words", "bad word", a, &out->bad_words, e));
    out->n_stop = (uint32_t)from->n_stop;
    out->n_bad_words = (uint32_t)from->n_bad_words;
    if (from->n_stop_tokens > STOP_TOKENS_MAX)
        REFUSE("stop_token_ids", "%zu stop tokens are given; at most %d are allowed", from->n_stop_tokens, STOP_TOKENS_MAX);
    out->n_stop_tokens = (uint32_t)from->n_stop_tokens;
    out->stop_tokens = from->stop_tokens;
    return ERR_NONE;
}

static err_id dec_token_lists(const Shoal__Prompt *from, struct prompt *out, struct error *e) {
    if (from->n_allowed_tokens > TOKEN_LIST_MAX || from->n_banned_tokens > TOKEN_LIST_MAX) {
        bool allowed = from->n_allowed_tokens > TOKEN_LIST_MAX;
        REFUSE(allowed ? "allowed_token_ids" : "banned_token_ids", "%zu tokens are given; at most %d are allowed",
               allowed ? from->n_allowed_tokens : from->n_banned_tokens, TOKEN_LIST_MAX);
    }
    out->n_allowed = (uint32_t)from->n_allowed_tokens;
    out->allowed = from->allowed_tokens;
    out->n_banned = (uint32_t)from->n_banned_tokens;
    out->banned = from->banned_tokens;
    return ERR_NONE;
}

static err_id dec_logit_bias(const Shoal__Prompt *from, struct codec_arena *a, struct prompt *out, struct error *e) {
    if (from->n_logit_bias > LOGIT_BIAS_MAX)
        REFUSE("logit_bias", "%zu logit biases are given; at most %d are allowed", from->n_logit_bias, LOGIT_BIAS_MAX);
    struct logit_bias *all = codec_arena_alloc(a, from->n_logit_bias * sizeof *all);
    if (all == NULL) return dec_no_memory(e);
    for (size_t i = 0; i < from->n_logit_bias; i++) {
        all[i] = (struct logit_bias){.token = from->logit_bias[i]->token, .bias = from->logit_bias[i]->bias};
        TRY(in_range(all[i].bias, -100, 100, "logit_bias", e));
    }
    out->n_logit_bias = (uint32_t)from->n_logit_bias;
    out->logit_bias = all;
    return ERR_NONE;
}

static err_id dec_content(const Shoal__Prompt *from, struct codec_arena *a, struct prompt *out, struct error *e) {
    if ((uint32_t)from->kind > PROMPT_TOKENS) REFUSE("kind", "the prompt's kind is %d, which is not known", (int)from->kind);
    out->kind = (enum prompt_kind)from->kind;
    TRY(copy_text(&from->messages_json, false, a, "messages", &out->messages_json, e));
    if (from->tools_json.len > 0) TRY(copy_text(&from->tools_json, false, a, "tools", &out->tools_json, e));
    if (from->template_kwargs_json.len > 0)
        TRY(copy_text(&from->template_kwargs_json, false, a, "chat_template_kwargs", &out->template_kwargs_json, e));
    TRY(copy_text(&from->text, true, a, "prompt", &out->text, e));
    out->text_len = from->text.len;
    out->n_tokens = (uint32_t)from->n_tokens;
    out->tokens = from->tokens;
    if (out->kind == PROMPT_CHAT && from->messages_json.len == 0) REFUSE("messages", "messages is missing");
    return ERR_NONE;
}

// NULL when it is empty.
static err_id dec_optional(const ProtobufCBinaryData *from, struct codec_arena *a, const char *field, const char **out,
                           struct error *e) {
    *out = NULL;
    return from->len > 0 ? copy_text(from, false, a, field, out, e) : ERR_NONE;
}

static err_id dec_tool_choice(const Shoal__Prompt *from, struct codec_arena *a, struct prompt *out, struct error *e) {
    if ((uint32_t)from->tool_choice > TOOL_CHOICE_NAMED)
        REFUSE("tool_choice", "the tool choice is %d, which is not known", (int)from->tool_choice);
    if (from->tool_name.len > TOOL_NAME_BYTES_MAX)
        REFUSE("tool_choice", "the name of a tool has %zu bytes; at most %d are allowed", from->tool_name.len,
               TOOL_NAME_BYTES_MAX);
    out->tool_choice = (enum tool_choice)from->tool_choice;
    out->one_tool_call = from->one_tool_call;
    TRY(dec_optional(&from->tool_name, a, "tool_choice", &out->tool_name, e));
    if ((out->tool_choice == TOOL_CHOICE_NAMED) != (out->tool_name != NULL))
        REFUSE("tool_choice", "a tool's name goes with a named tool choice, and only with one");
    if (out->tool_choice >= TOOL_CHOICE_REQUIRED && out->tools_json == NULL)
        REFUSE("tool_choice", "a call is required, but there are no tools");
    return ERR_NONE;
}

static err_id dec_response(const Shoal__Prompt *from, struct codec_arena *a, struct prompt *out, struct error *e) {
    if ((uint32_t)from->response_format > RESPONSE_REGEX)
        REFUSE("response_format", "the response format is %d, which is not known", (int)from->response_format);
    out->response_format = (enum response_format)from->response_format;
    out->response_strict = from->response_strict;
    TRY(dec_optional(&from->response_schema, a, "response_format", &out->response_schema, e));
    TRY(dec_optional(&from->response_regex, a, "response_format", &out->response_regex, e));
    if ((out->response_format == RESPONSE_JSON_SCHEMA) != (out->response_schema != NULL))
        REFUSE("response_format", "a schema goes with the response format json_schema, and only with it");
    if ((out->response_format == RESPONSE_REGEX) != (out->response_regex != NULL))
        REFUSE("response_format", "a regex goes with the response format regex, and only with it");
    return ERR_NONE;
}

static err_id dec_shape(const Shoal__Prompt *from, struct codec_arena *a, struct prompt *out, struct error *e) {
    if ((uint32_t)from->task > TASK_EMBED) REFUSE("task", "the task is %d, which is not known", (int)from->task);
    out->task = (enum prompt_task)from->task;
    out->no_generation_prompt = from->no_generation_prompt;
    out->continue_final_message = from->continue_final_message;
    out->no_special_tokens = from->no_special_tokens;
    out->echo = from->echo;
    TRY(dec_optional(&from->suffix, a, "suffix", &out->suffix, e));
    TRY(dec_tool_choice(from, a, out, e));
    return dec_response(from, a, out, e);
}

err_id codec_prompt_decode(const uint8_t *body, size_t len, struct codec_arena *arena, struct prompt *out, struct error *e) {
    *out = (struct prompt){0};
    if (len > BODY_BYTES_MAX)
        return error_set(e, ERR_TOO_LARGE, "the prompt has %zu bytes; at most %d are allowed", len, BODY_BYTES_MAX);
    ProtobufCAllocator allocator = codec_arena_allocator(arena);
    Shoal__Prompt *from = shoal__prompt__unpack(&allocator, len, body);
    if (from == NULL) return error_set(e, ERR_INVALID_ARGUMENT, "the body of %zu bytes is not a valid Prompt", len);
    if (from->base.n_unknown_fields > 0)
        return error_set(e, ERR_INVALID_ARGUMENT, "field %u of the prompt is not known to this worker",
                         from->base.unknown_fields[0].tag);
    TRY(dec_content(from, arena, out, e));
    TRY(dec_sampling(from, &out->sampling, e));
    if (from->top_logprobs > TOP_LOGPROBS_MAX)
        REFUSE("top_logprobs", "top_logprobs is %u; at most %d are allowed", from->top_logprobs, TOP_LOGPROBS_MAX);
    if (from->min_tokens > OUTPUT_TOKENS_MAX)
        REFUSE("min_tokens", "min_tokens is %u; at most %d are allowed", from->min_tokens, OUTPUT_TOKENS_MAX);
    out->min_tokens = from->min_tokens;
    out->ignore_eos = from->ignore_eos;
    out->logprobs = from->logprobs;
    out->top_logprobs = from->top_logprobs;
    out->include_stop = from->include_stop;
    out->keep_special_tokens = from->keep_special_tokens;
    if (from->choices > CHOICES_MAX)
        REFUSE("n", "%u answers are asked for; at most %d are made", from->choices, CHOICES_MAX);
    out->n_choices = from->choices;
    TRY(dec_stop(from, arena, out, e));
    TRY(dec_token_lists(from, out, e));
    TRY(dec_shape(from, arena, out, e));
    return dec_logit_bias(from, arena, out, e);
}
