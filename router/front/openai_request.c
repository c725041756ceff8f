#include "router/front/openai_request.h"

#include "common/base/check.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

struct openai_request {
    struct openai_view view;
    struct prompt prompt;
    json_t *root;
    char *messages, *tools, *kwargs; // JSON text
    uint32_t *tokens, *stop_tokens, *allowed, *banned;
    const char *stop[STOP_STRINGS_MAX];
    struct logit_bias *bias;
    struct buf ignored;
};

// A field that is absent and one that is null are the same.
static json_t *field(const json_t *object, const char *name) {
    json_t *v = json_object_get(object, name);
    return json_is_null(v) ? NULL : v;
}

static err_id wrong(struct error *e, const char *name, const char *expected) {
    return error_set_param(e, ERR_INVALID_ARGUMENT, name, "'%s' must be %s", name, expected);
}

static err_id get_number(const json_t *o, const char *name, double min, double max, bool *has, float *out, struct error *e) {
    json_t *v = field(o, name);
    if (v == NULL) return ERR_NONE;
    double d = json_number_value(v);
    if (!json_is_number(v) || !isfinite(d) || d < min || d > max)
        return error_set_param(e, ERR_INVALID_ARGUMENT, name, "'%s' must be a number from %g to %g", name, min, max);
    if (has) *has = true;
    *out = (float)d;
    return ERR_NONE;
}

static err_id get_integer(const json_t *o, const char *name, json_int_t min, json_int_t max, bool *has, json_int_t *out,
                          struct error *e) {
    json_t *v = field(o, name);
    if (v == NULL) return ERR_NONE;
    double d = json_number_value(v);
    bool whole = json_is_integer(v) || (json_is_real(v) && d == floor(d) && fabs(d) < 9e15);
    json_int_t i = json_is_integer(v) ? json_integer_value(v) : whole ? (json_int_t)d : 0;
    if (!whole || i < min || i > max)
        return error_set_param(e, ERR_INVALID_ARGUMENT, name,
                               "'%s' must be a whole number from %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT, name,
                               min, max);
    if (has) *has = true;
    *out = i;
    return ERR_NONE;
}

static err_id get_bool(const json_t *o, const char *name, bool *out, struct error *e) {
    json_t *v = field(o, name);
    if (v == NULL) return ERR_NONE;
    if (!json_is_boolean(v)) return wrong(e, name, "true or false");
    *out = json_is_true(v);
    return ERR_NONE;
}

static err_id parse_sampling(struct openai_request *r, struct error *e) {
    struct sampling *s = &r->prompt.sampling;
    json_int_t top_k = 0;
    TRY(get_number(r->root, "temperature", 0, 2, &s->has_temperature, &s->temperature, e));
    TRY(get_number(r->root, "top_p", 0, 1, &s->has_top_p, &s->top_p, e));
    TRY(get_number(r->root, "min_p", 0, 1, &s->has_min_p, &s->min_p, e));
    TRY(get_number(r->root, "typical_p", 0, 1, &s->has_typical_p, &s->typical_p, e));
    TRY(get_integer(r->root, "top_k", -1, INT32_MAX, &s->has_top_k, &top_k, e));
    s->top_k = top_k < 0 ? 0 : (int32_t)top_k;
    TRY(get_number(r->root, "presence_penalty", -2, 2, NULL, &s->presence_penalty, e));
    TRY(get_number(r->root, "frequency_penalty", -2, 2, NULL, &s->frequency_penalty, e));
    return get_number(r->root, "repetition_penalty", 0.01, 10, &s->has_repetition_penalty, &s->repetition_penalty, e);
}

static err_id parse_stop(struct openai_request *r, struct error *e) {
    json_t *stop = field(r->root, "stop");
    size_t n = json_is_string(stop) ? 1 : json_array_size(stop);
    if (stop == NULL) return ERR_NONE;
    if ((!json_is_string(stop) && !json_is_array(stop)) || n > STOP_STRINGS_MAX)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "stop", "'stop' must be a string or an array of at most %d strings",
                               STOP_STRINGS_MAX);
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_is_string(stop) ? stop : json_array_get(stop, i);
        if (!json_is_string(v) || json_string_length(v) == 0 || json_string_length(v) > STOP_STRING_BYTES_MAX)
            return error_set_param(e, ERR_INVALID_ARGUMENT, "stop", "each stop string must have 1 to %d bytes",
                                   STOP_STRING_BYTES_MAX);
        r->stop[i] = json_string_value(v);
    }
    r->prompt.stop = r->stop;
    r->prompt.n_stop = (uint32_t)n;
    return ERR_NONE;
}

static err_id parse_token_array(const json_t *array, const char *name, size_t max, uint32_t **tokens, uint32_t *n,
                                struct error *e) {
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count > max) return wrong(e, name, "an array of token ids");
    *tokens = xmalloc((count ? count : 1) * sizeof **tokens);
    for (size_t i = 0; i < count; i++) {
        json_t *v = json_array_get(array, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
            return wrong(e, name, "an array of token ids");
        (*tokens)[i] = (uint32_t)json_integer_value(v);
    }
    *n = (uint32_t)count;
    return ERR_NONE;
}

static err_id parse_token_lists(struct openai_request *r, struct error *e) {
    const struct {
        const char *name;
        uint32_t **tokens, *n;
    } lists[] = {{"allowed_token_ids", &r->allowed, &r->prompt.n_allowed},
                 {"banned_token_ids", &r->banned, &r->prompt.n_banned}};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        json_t *array = field(r->root, lists[i].name);
        if (array == NULL) continue;
        if (json_array_size(array) > TOKEN_LIST_MAX)
            return error_set_param(e, ERR_INVALID_ARGUMENT, lists[i].name, "'%s' may hold at most %d token ids",
                                   lists[i].name, TOKEN_LIST_MAX);
        TRY(parse_token_array(array, lists[i].name, TOKEN_LIST_MAX, lists[i].tokens, lists[i].n, e));
    }
    if (r->allowed != NULL && r->prompt.n_allowed == 0)
        return wrong(e, "allowed_token_ids", "an array with a token id in it");
    r->prompt.allowed = r->allowed;
    r->prompt.banned = r->banned;
    return ERR_NONE;
}

static err_id parse_logit_bias(struct openai_request *r, struct error *e) {
    json_t *bias = field(r->root, "logit_bias"), *v;
    const char *key;
    if (bias == NULL) return ERR_NONE;
    if (!json_is_object(bias) || json_object_size(bias) > LOGIT_BIAS_MAX)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "logit_bias", "'logit_bias' must be an object of at most %d entries",
                               LOGIT_BIAS_MAX);
    r->bias = xcalloc(json_object_size(bias) + 1, sizeof *r->bias);
    json_object_foreach(bias, key, v) {
        char *end;
        long token = strtol(key, &end, 10);
        double d = json_number_value(v);
        if (*key == '\0' || *end || token < 0 || token > INT32_MAX || !json_is_number(v) || d < -100 || d > 100)
            return wrong(e, "logit_bias", "an object of token ids with biases from -100 to 100");
        r->bias[r->prompt.n_logit_bias++] = (struct logit_bias){(uint32_t)token, (float)d};
    }
    r->prompt.logit_bias = r->bias;
    return ERR_NONE;
}

// chat: logprobs is a switch and top_logprobs a number; completions: logprobs is the number.
static err_id parse_logprobs(struct openai_request *r, struct error *e) {
    json_int_t top = 0;
    bool has = false;
    if (r->view.kind == OPENAI_COMPLETION) {
        if (json_is_boolean(field(r->root, "logprobs"))) return get_bool(r->root, "logprobs", &r->prompt.logprobs, e);
        TRY(get_integer(r->root, "logprobs", 0, TOP_LOGPROBS_MAX, &has, &top, e));
        r->prompt.logprobs = has;
    } else {
        TRY(get_bool(r->root, "logprobs", &r->prompt.logprobs, e));
        TRY(get_integer(r->root, "top_logprobs", 0, TOP_LOGPROBS_MAX, &has, &top, e));
        if (top > 0 && !r->prompt.logprobs)
            return error_set_param(e, ERR_INVALID_ARGUMENT, "top_logprobs", "'top_logprobs' needs 'logprobs' to be true");
    }
    r->prompt.top_logprobs = (uint32_t)top;
    return ERR_NONE;
}

static err_id parse_limits(struct openai_request *r, struct error *e) {
    json_int_t max = 0, min = 0, n = 1, best = 1;
    TRY(get_integer(r->root, "max_tokens", 1, OUTPUT_TOKENS_MAX, NULL, &max, e));
    TRY(get_integer(r->root, "max_completion_tokens", 1, OUTPUT_TOKENS_MAX, NULL, &max, e));
    TRY(get_integer(r->root, "min_tokens", 0, OUTPUT_TOKENS_MAX, NULL, &min, e));
    TRY(get_integer(r->root, "n", 1, CHOICES_MAX, NULL, &n, e));
    best = n;
    TRY(get_integer(r->root, "best_of", 1, CHOICES_MAX, NULL, &best, e));
    if (best != n) return error_set_param(e, ERR_UNSUPPORTED, "best_of", "'best_of' can be what 'n' is only: %d", (int)n);
    r->view.n = (uint32_t)n;
    r->prompt.n_choices = n > 1 ? (uint32_t)n : 0; // so that one answer's body is what it always was
    r->view.max_tokens = (uint32_t)max;
    r->prompt.min_tokens = (uint32_t)min;
    json_int_t seed = 0;
    TRY(get_integer(r->root, "seed", INT64_MIN, INT64_MAX, &r->view.has_seed, &seed, e));
    r->view.seed = (uint64_t)seed;
    TRY(get_bool(r->root, "ignore_eos", &r->prompt.ignore_eos, e));
    TRY(get_bool(r->root, "include_stop_str_in_output", &r->prompt.include_stop, e));
    bool skip = true;
    TRY(get_bool(r->root, "skip_special_tokens", &skip, e));
    r->prompt.keep_special_tokens = !skip;
    json_t *stop_tokens = field(r->root, "stop_token_ids");
    if (stop_tokens == NULL) return ERR_NONE;
    TRY(parse_token_array(stop_tokens, "stop_token_ids", STOP_TOKENS_MAX, &r->stop_tokens, &r->prompt.n_stop_tokens, e));
    r->prompt.stop_tokens = r->stop_tokens;
    return ERR_NONE;
}

static err_id check_content(const json_t *content, const char *param, uint32_t *bytes, struct error *e) {
    if (content == NULL) return ERR_NONE;
    if (json_is_string(content)) {
        *bytes += (uint32_t)json_string_length(content);
        return ERR_NONE;
    }
    size_t i;
    json_t *part;
    if (!json_is_array(content))
        return error_set_param(e, ERR_INVALID_ARGUMENT, param, "'%s' must be a string or an array of parts", param);
    json_array_foreach(content, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        json_t *text = json_object_get(part, "text");
        if (type == NULL || strcmp(type, "text") != 0 || !json_is_string(text))
            return error_set_param(e, ERR_INVALID_ARGUMENT, param, "'%s' may hold parts of type \"text\" only", param);
        *bytes += (uint32_t)json_string_length(text);
    }
    return ERR_NONE;
}

static err_id parse_messages(struct openai_request *r, struct error *e) {
    json_t *messages = field(r->root, "messages"), *m;
    size_t i;
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return wrong(e, "messages", "an array of at least one message");
    json_array_foreach(messages, i, m) {
        char param[ERROR_PARAM_MAX];
        snprintf(param, sizeof param, "messages[%zu].role", i);
        if (!json_is_object(m) || !json_is_string(json_object_get(m, "role")))
            return error_set_param(e, ERR_INVALID_ARGUMENT, param, "'%s' must be a string", param);
        snprintf(param, sizeof param, "messages[%zu].content", i);
        TRY(check_content(field(m, "content"), param, &r->view.prompt_bytes, e));
    }
    r->messages = json_dumps(messages, JSON_COMPACT);
    r->prompt.messages_json = r->messages;
    return ERR_NONE;
}

static err_id parse_tools(struct openai_request *r, struct error *e) {
    json_t *tools = field(r->root, "tools"), *choice = field(r->root, "tool_choice");
    json_t *kwargs = field(r->root, "chat_template_kwargs");
    if (tools != NULL && !json_is_array(tools)) return wrong(e, "tools", "an array");
    if (choice != NULL && !json_is_string(choice) && !json_is_object(choice))
        return wrong(e, "tool_choice", "a string or an object");
    bool none = json_is_string(choice) && strcmp(json_string_value(choice), "none") == 0;
    bool automatic = choice == NULL || none || (json_is_string(choice) && strcmp(json_string_value(choice), "auto") == 0);
    if (!automatic) return error_set_param(e, ERR_UNSUPPORTED, "tool_choice", "'tool_choice' can be \"auto\" or \"none\"");
    if (tools != NULL && json_array_size(tools) > 0 && !none)
        r->prompt.tools_json = r->tools = json_dumps(tools, JSON_COMPACT);
    if (kwargs != NULL && !json_is_object(kwargs)) return wrong(e, "chat_template_kwargs", "an object");
    if (kwargs != NULL) r->prompt.template_kwargs_json = r->kwargs = json_dumps(kwargs, JSON_COMPACT);
    if (r->tools) r->view.prompt_bytes += (uint32_t)strlen(r->tools);
    json_t *format = field(r->root, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (format != NULL && (type == NULL || strcmp(type, "text") != 0))
        return error_set_param(e, ERR_UNSUPPORTED, "response_format", "'response_format' can be {\"type\": \"text\"} only");
    return ERR_NONE;
}

static err_id parse_text_prompt(struct openai_request *r, struct error *e) {
    json_t *prompt = field(r->root, "prompt");
    if (json_array_size(prompt) == 1 && !json_is_integer(json_array_get(prompt, 0))) prompt = json_array_get(prompt, 0);
    if (json_is_string(prompt)) {
        r->prompt.kind = PROMPT_TEXT;
        r->prompt.text = json_string_value(prompt);
        r->prompt.text_len = json_string_length(prompt);
        r->view.prompt_bytes = (uint32_t)r->prompt.text_len;
        return ERR_NONE;
    }
    if (!json_is_array(prompt) || json_array_size(prompt) == 0)
        return wrong(e, "prompt", "a string or an array of token ids (one prompt in a request)");
    r->prompt.kind = PROMPT_TOKENS;
    TRY(parse_token_array(prompt, "prompt", BODY_BYTES_MAX / 4, &r->tokens, &r->prompt.n_tokens, e));
    r->prompt.tokens = r->tokens;
    r->view.prompt_bytes = r->prompt.n_tokens * 4;
    return ERR_NONE;
}

// Everything that is read, or may be sent without harm: metadata that changes no answer.
static const char *const known_fields[] = {
    "allowed_token_ids",
    "banned_token_ids",
    "best_of",
    "chat_template_kwargs",
    "frequency_penalty",
    "ignore_eos",
    "include_stop_str_in_output",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "min_p",
    "min_tokens",
    "model",
    "n",
    "presence_penalty",
    "prompt",
    "repetition_penalty",
    "response_format",
    "seed",
    "skip_special_tokens",
    "stop",
    "stop_token_ids",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "typical_p",
    "user",
};

static void note_ignored(struct openai_request *r) {
    const char *key;
    json_t *v;
    json_object_foreach(r->root, key, v) {
        bool known = json_is_null(v);
        for (size_t i = 0; i < ARRAY_LEN(known_fields) && !known; i++) known = strcmp(key, known_fields[i]) == 0;
        bool printable = strlen(key) <= NAME_MAX_BYTES;
        for (const char *p = key; *p && printable; p++) printable = *p > ' ' && *p < 127 && *p != ',';
        if (known || !printable || r->ignored.len > 1024) continue;
        buf_printf(&r->ignored, "%s%s", r->ignored.len ? ", " : "", key);
    }
    r->view.ignored = r->ignored.len ? r->ignored.data : "";
}

static err_id parse_all(struct openai_request *r, struct error *e) {
    json_t *model = field(r->root, "model");
    if (!json_is_string(model) || json_string_length(model) == 0 || json_string_length(model) > NAME_MAX_BYTES)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "model", "'model' must be the name of a model, of at most %d bytes",
                               NAME_MAX_BYTES);
    r->view.model = json_string_value(model);
    if (r->view.kind == OPENAI_CHAT) {
        TRY(parse_messages(r, e));
        TRY(parse_tools(r, e));
    } else {
        TRY(parse_text_prompt(r, e));
    }
    TRY(parse_sampling(r, e));
    TRY(parse_stop(r, e));
    TRY(parse_logprobs(r, e));
    TRY(parse_logit_bias(r, e));
    TRY(parse_token_lists(r, e));
    TRY(parse_limits(r, e));
    TRY(get_bool(r->root, "stream", &r->view.stream, e));
    json_t *options = field(r->root, "stream_options");
    if (options != NULL && !json_is_object(options)) return wrong(e, "stream_options", "an object");
    if (options != NULL) TRY(get_bool(options, "include_usage", &r->view.include_usage, e));
    note_ignored(r);
    return ERR_NONE;
}

err_id openai_request_parse(enum openai_kind kind, const char *body, size_t len, struct openai_request **out,
                            struct error *e) {
    *out = NULL;
    json_error_t where;
    json_t *root = json_loadb(body, len, JSON_ALLOW_NUL, &where);
    if (root == NULL || !json_is_object(root)) {
        json_decref(root);
        if (root != NULL) return error_set(e, ERR_INVALID_ARGUMENT, "the body must be a JSON object");
        return error_set(e, ERR_INVALID_ARGUMENT, "the body is not valid JSON: line %d, column %d: %s", where.line,
                         where.column, where.text);
    }
    struct openai_request *r = xcalloc(1, sizeof *r);
    r->root = root;
    r->view.kind = kind;
    r->view.prompt = &r->prompt;
    r->view.ignored = "";
    err_id id = parse_all(r, e);
    if (id != ERR_NONE) {
        openai_request_destroy(r);
        return id;
    }
    *out = r;
    return ERR_NONE;
}

void openai_request_destroy(struct openai_request *r) {
    if (r == NULL) return;
    json_decref(r->root);
    free(r->messages);
    free(r->tools);
    free(r->kwargs);
    free(r->tokens);
    free(r->stop_tokens);
    free(r->allowed);
    free(r->banned);
    free(r->bias);
    buf_free(&r->ignored);
    free(r);
}

struct openai_view openai_request_view(const struct openai_request *r) {
    return r->view;
}
