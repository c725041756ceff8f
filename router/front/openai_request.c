#include "router/front/openai_request_internal.h"

#include "common/base/check.h"
#include "router/front/openai_known.h"

#include <math.h>
#include <stdlib.h>

static err_id parse_sampling(struct openai_request *r, struct error *e) {
    struct sampling *s = &r->prompt.sampling;
    json_int_t top_k = 0;
    TRY(openai_number(r->root, "temperature", 0, 2, &s->has_temperature, &s->temperature, e));
    TRY(openai_number(r->root, "top_p", 0, 1, &s->has_top_p, &s->top_p, e));
    TRY(openai_number(r->root, "min_p", 0, 1, &s->has_min_p, &s->min_p, e));
    TRY(openai_number(r->root, "typical_p", 0, 1, &s->has_typical_p, &s->typical_p, e));
    TRY(openai_integer(r->root, "top_k", -1, INT32_MAX, &s->has_top_k, &top_k, e));
    s->top_k = top_k < 0 ? 0 : (int32_t)top_k;
    TRY(openai_number(r->root, "presence_penalty", -2, 2, NULL, &s->presence_penalty, e));
    TRY(openai_number(r->root, "frequency_penalty", -2, 2, NULL, &s->frequency_penalty, e));
    return openai_number(r->root, "repetition_penalty", 0.01, 10, &s->has_repetition_penalty, &s->repetition_penalty, e);
}

static err_id parse_stop(struct openai_request *r, struct error *e) {
    json_t *stop = openai_field(r->root, "stop");
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
    if (!json_is_array(array) || count > max) return openai_wrong(e, name, "an array of token ids");
    *tokens = xmalloc((count ? count : 1) * sizeof **tokens);
    for (size_t i = 0; i < count; i++) {
        json_t *v = json_array_get(array, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
            return openai_wrong(e, name, "an array of token ids");
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
        json_t *array = openai_field(r->root, lists[i].name);
        if (array == NULL) continue;
        if (json_array_size(array) > TOKEN_LIST_MAX)
            return error_set_param(e, ERR_INVALID_ARGUMENT, lists[i].name, "'%s' may hold at most %d token ids",
                                   lists[i].name, TOKEN_LIST_MAX);
        TRY(parse_token_array(array, lists[i].name, TOKEN_LIST_MAX, lists[i].tokens, lists[i].n, e));
    }
    if (r->allowed != NULL && r->prompt.n_allowed == 0)
        return openai_wrong(e, "allowed_token_ids", "an array with a token id in it");
    r->prompt.allowed = r->allowed;
    r->prompt.banned = r->banned;
    return ERR_NONE;
}

static err_id parse_logit_bias(struct openai_request *r, struct error *e) {
    json_t *bias = openai_field(r->root, "logit_bias"), *v;
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
            return openai_wrong(e, "logit_bias", "an object of token ids with biases from -100 to 100");
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
        if (json_is_boolean(openai_field(r->root, "logprobs")))
            return openai_bool(r->root, "logprobs", &r->prompt.logprobs, e);
        TRY(openai_integer(r->root, "logprobs", 0, TOP_LOGPROBS_MAX, &has, &top, e));
        r->prompt.logprobs = has;
    } else {
        TRY(openai_bool(r->root, "logprobs", &r->prompt.logprobs, e));
        TRY(openai_integer(r->root, "top_logprobs", 0, TOP_LOGPROBS_MAX, &has, &top, e));
        if (top > 0 && !r->prompt.logprobs)
            return error_set_param(e, ERR_INVALID_ARGUMENT, "top_logprobs", "'top_logprobs' needs 'logprobs' to be true");
    }
    r->prompt.top_logprobs = (uint32_t)top;
    return ERR_NONE;
}

static err_id parse_limits(struct openai_request *r, struct error *e) {
    json_int_t max = 0, min = 0, n = 1, best = 1;
    TRY(openai_integer(r->root, "max_tokens", 1, OUTPUT_TOKENS_MAX, NULL, &max, e));
    TRY(openai_integer(r->root, "max_completion_tokens", 1, OUTPUT_TOKENS_MAX, NULL, &max, e));
    TRY(openai_integer(r->root, "min_tokens", 0, OUTPUT_TOKENS_MAX, NULL, &min, e));
    TRY(openai_integer(r->root, "n", 1, CHOICES_MAX, NULL, &n, e));
    best = n;
    TRY(openai_integer(r->root, "best_of", 1, CHOICES_MAX, NULL, &best, e));
    if (best != n) return error_set_param(e, ERR_UNSUPPORTED, "best_of", "'best_of' can be what 'n' is only: %d", (int)n);
    r->view.n = (uint32_t)n;
    r->prompt.n_choices = n > 1 ? (uint32_t)n : 0; // so that one answer's body is what it always was
    r->view.max_tokens = (uint32_t)max;
    r->prompt.min_tokens = (uint32_t)min;
    json_int_t seed = 0;
    TRY(openai_integer(r->root, "seed", INT64_MIN, INT64_MAX, &r->view.has_seed, &seed, e));
    r->view.seed = (uint64_t)seed;
    TRY(openai_bool(r->root, "ignore_eos", &r->prompt.ignore_eos, e));
    TRY(openai_bool(r->root, "include_stop_str_in_output", &r->prompt.include_stop, e));
    bool skip = true;
    TRY(openai_bool(r->root, "skip_special_tokens", &skip, e));
    r->prompt.keep_special_tokens = !skip;
    json_t *stop_tokens = openai_field(r->root, "stop_token_ids");
    if (stop_tokens == NULL) return ERR_NONE;
    TRY(parse_token_array(stop_tokens, "stop_token_ids", STOP_TOKENS_MAX, &r->stop_tokens, &r->prompt.n_stop_tokens, e));
    r->prompt.stop_tokens = r->stop_tokens;
    return ERR_NONE;
}

static err_id parse_text_prompt(struct openai_request *r, struct error *e) {
    json_t *prompt = openai_field(r->root, "prompt");
    if (json_array_size(prompt) == 1 && !json_is_integer(json_array_get(prompt, 0))) prompt = json_array_get(prompt, 0);
    if (json_is_string(prompt)) {
        r->prompt.kind = PROMPT_TEXT;
        r->prompt.text = json_string_value(prompt);
        r->prompt.text_len = json_string_length(prompt);
        r->view.prompt_bytes = (uint32_t)r->prompt.text_len;
        return ERR_NONE;
    }
    if (!json_is_array(prompt) || json_array_size(prompt) == 0)
        return openai_wrong(e, "prompt", "a string or an array of token ids (one prompt in a request)");
    r->prompt.kind = PROMPT_TOKENS;
    TRY(parse_token_array(prompt, "prompt", BODY_BYTES_MAX / 4, &r->tokens, &r->prompt.n_tokens, e));
    r->prompt.tokens = r->tokens;
    r->view.prompt_bytes = r->prompt.n_tokens * 4;
    return ERR_NONE;
}

static err_id parse_bad_words(struct openai_request *r, struct error *e) {
    json_t *words = openai_field(r->root, "bad_words"), *word;
    size_t i;
    if (words == NULL) return ERR_NONE;
    if (!json_is_array(words) || json_array_size(words) > BAD_WORDS_MAX)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "bad_words", "'bad_words' must be an array of at most %d strings",
                               BAD_WORDS_MAX);
    json_array_foreach(words, i, word) {
        if (!json_is_string(word) || json_string_length(word) == 0 || json_string_length(word) > STOP_STRING_BYTES_MAX)
            return error_set_param(e, ERR_INVALID_ARGUMENT, "bad_words", "each bad word must have 1 to %d bytes",
                                   STOP_STRING_BYTES_MAX);
        r->bad_words[i] = json_string_value(word);
    }
    r->prompt.bad_words = r->bad_words;
    r->prompt.n_bad_words = (uint32_t)json_array_size(words);
    return ERR_NONE;
}

static err_id parse_completion(struct openai_request *r, struct error *e) {
    json_t *suffix = openai_field(r->root, "suffix");
    bool special = true;
    TRY(parse_text_prompt(r, e));
    TRY(openai_bool(r->root, "echo", &r->prompt.echo, e));
    TRY(openai_bool(r->root, "add_special_tokens", &special, e));
    r->prompt.no_special_tokens = !special;
    if (suffix != NULL && !json_is_string(suffix)) return openai_wrong(e, "suffix", "a string");
    if (json_string_length(suffix) == 0) return ERR_NONE;
    if (r->prompt.kind != PROMPT_TEXT)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "suffix", "'suffix' goes with a prompt that is a string");
    r->prompt.suffix = json_string_value(suffix);
    r->view.prompt_bytes += (uint32_t)json_string_length(suffix);
    return ERR_NONE;
}

static err_id parse_generation(struct openai_request *r, struct error *e) {
    json_int_t priority = 0;
    TRY(r->view.kind == OPENAI_CHAT ? openai_chat_parse(r, e) : parse_completion(r, e));
    TRY(openai_format_parse(r, e));
    TRY(parse_sampling(r, e));
    TRY(parse_stop(r, e));
    TRY(parse_bad_words(r, e));
    TRY(parse_logprobs(r, e));
    TRY(parse_logit_bias(r, e));
    TRY(parse_token_lists(r, e));
    TRY(parse_limits(r, e));
    TRY(openai_integer(r->root, "priority", -PRIORITY_MAX, PRIORITY_MAX, NULL, &priority, e));
    r->view.priority = (int32_t)priority;
    TRY(openai_bool(r->root, "stream", &r->view.stream, e));
    json_t *options = openai_field(r->root, "stream_options");
    if (options != NULL && !json_is_object(options)) return openai_wrong(e, "stream_options", "an object");
    return options ? openai_bool(options, "include_usage", &r->view.include_usage, e) : ERR_NONE;
}

// The answer's records are the prompt's tokens.
static err_id parse_tokenize(struct openai_request *r, struct error *e) {
    bool special = true;
    r->view.n = 1;
    r->prompt.task = TASK_TOKENIZE;
    TRY(openai_bool(r->root, "add_special_tokens", &special, e));
    TRY(openai_bool(r->root, "return_token_strs", &r->view.token_strings, e));
    r->prompt.no_special_tokens = !special;
    if (r->view.kind == OPENAI_DETOKENIZE) {
        json_t *tokens = openai_field(r->root, "tokens");
        if (!json_is_array(tokens)) return openai_wrong(e, "tokens", "an array of token ids");
        r->prompt.kind = PROMPT_TOKENS;
        r->prompt.keep_special_tokens = true;
        TRY(parse_token_array(tokens, "tokens", OUTPUT_TOKENS_MAX, &r->tokens, &r->prompt.n_tokens, e));
        r->prompt.tokens = r->tokens;
        return ERR_NONE;
    }
    r->prompt.keep_special_tokens = true;
    if (openai_field(r->root, "messages")) return openai_chat_parse(r, e);
    if (!json_is_string(openai_field(r->root, "prompt"))) return openai_wrong(e, "prompt", "a string");
    return parse_text_prompt(r, e);
}

static err_id parse_embedding(struct openai_request *r, struct error *e) {
    json_t *input = openai_field(r->root, "input");
    r->view.n = 1;
    r->prompt.task = TASK_EMBED;
    if (input) json_object_set(r->root, "prompt", input);
    if (input == NULL || parse_text_prompt(r, e) != ERR_NONE)
        return openai_wrong(e, "input", "a string or an array of token ids (one input in a request)");
    return ERR_NONE;
}

static err_id parse_all(struct openai_request *r, struct error *e) {
    json_t *model = openai_field(r->root, "model");
    if (!json_is_string(model) || json_string_length(model) == 0 || json_string_length(model) > NAME_MAX_BYTES)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "model", "'model' must be the name of a model, of at most %d bytes",
                               NAME_MAX_BYTES);
    r->view.model = json_string_value(model);
    openai_unknown_fields(r->view.kind, r->root, &r->ignored);
    r->view.ignored = r->ignored.len ? r->ignored.data : "";
    if (r->view.kind == OPENAI_EMBEDDING) return parse_embedding(r, e);
    bool generates = r->view.kind == OPENAI_CHAT || r->view.kind == OPENAI_COMPLETION;
    return generates ? parse_generation(r, e) : parse_tokenize(r, e);
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
    free(r->schema);
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
