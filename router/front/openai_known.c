#include "router/front/openai_known.h"

#include "common/base/check.h"
#include "common/base/limits.h"

#include <string.h>

enum { NAMES_BYTES_MAX = 1000 };

// Acted on, but for the last lines: they change no answer here.
static const char *const everywhere[] = {
    "add_special_tokens", "allowed_token_ids", "bad_words", "banned_token_ids", "best_of", "frequency_penalty",
    "guided_json", "guided_regex", "ignore_eos", "include_stop_str_in_output", "logit_bias", "logprobs", "max_tokens",
    "min_p", "min_tokens", "model", "n", "presence_penalty", "priority", "regex", "repetition_penalty", "response_format",
    "seed", "skip_special_tokens", "stop", "stop_token_ids", "stream", "stream_options", "structured_outputs", "temperature",
    "top_k", "top_p", "typical_p",
    // without an effect here
    "metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user", NULL};
static const char *const chat[] = {"add_generation_prompt",
                                   "chat_template_kwargs",
                                   "continue_final_message",
                                   "enable_thinking",
                                   "max_completion_tokens",
                                   "messages",
                                   "parallel_tool_calls",
                                   "reasoning_effort",
                                   "thinking",
                                   "tool_choice",
                                   "tools",
                                   "top_logprobs",
                                   NULL};
static const char *const completion[] = {"echo", "max_completion_tokens", "prompt", "suffix", NULL};
static const char *const embedding[] = {"dimensions", "encoding_format", "input", "model", "priority", "user", NULL};
static const char *const tokenize[] = {"add_generation_prompt",
                                       "add_special_tokens",
                                       "chat_template_kwargs",
                                       "continue_final_message",
                                       "messages",
                                       "model",
                                       "prompt",
                                       "return_token_strs",
                                       "tools",
                                       NULL};
static const char *const detokenize[] = {"model", "tokens", NULL};

static bool is_in(const char *const *list, const char *name) {
    for (; *list; list++)
        if (strcmp(*list, name) == 0) return true;
    return false;
}

static bool is_known(enum openai_kind kind, const char *name) {
    switch (kind) {
    case OPENAI_CHAT:
        return is_in(everywhere, name) || is_in(chat, name);
    case OPENAI_COMPLETION:
        return is_in(everywhere, name) || is_in(completion, name);
    case OPENAI_EMBEDDING:
        return is_in(embedding, name);
    case OPENAI_TOKENIZE:
        return is_in(tokenize, name);
    case OPENAI_DETOKENIZE:
        return is_in(detokenize, name);
    }
    return false;
}

// Fits a header's value.
static bool is_printable(const char *name) {
    if (strlen(name) > NAME_MAX_BYTES) return false;
    for (; *name; name++)
        if (*name <= ' ' || *name >= 127 || *name == ',') return false;
    return true;
}

static void note(const char *prefix, const char *name, struct buf *out) {
    if (out->len > NAMES_BYTES_MAX) return;
    bool printable = is_printable(name);
    buf_printf(out, "%s%s%s", out->len ? ", " : "", printable ? prefix : "", printable ? name : "?");
}

void openai_unknown_fields(enum openai_kind kind, const json_t *request, struct buf *out) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)request, key, value) {
        if (!json_is_null(value) && !is_known(kind, key)) note("", key, out);
    }
    json_object_foreach(json_object_get(request, "stream_options"), key, value) {
        if (json_is_true(value) && strcmp(key, "include_usage") != 0) note("stream_options.", key, out);
    }
}
