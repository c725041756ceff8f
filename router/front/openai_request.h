// An OpenAI request body (chat/completions, completions, tokenize, detokenize) as what Shoal sends on: routing fields and a
// prompt. Pure translation: no model, no network. null means absent; fields of other servers' dialects that Shoal honours
// are listed in the .c; others are ignored and named in `ignored`, for the response header.
#pragma once
#include "common/base/buf.h"
#include "common/base/message.h"
#include "common/base/prompt.h"

enum openai_kind {
    OPENAI_CHAT,
    OPENAI_COMPLETION,
    OPENAI_TOKENIZE,   // vLLM's: text or messages to tokens
    OPENAI_DETOKENIZE, // and back
    OPENAI_EMBEDDING,
};

struct openai_request; // owns the parsed JSON that the views below point into

struct openai_view {
    enum openai_kind kind;
    bool stream;
    bool include_usage; // stream_options.include_usage
    const char *model;
    const struct prompt *prompt;
    uint32_t n;          // choices, ≥ 1
    uint32_t max_tokens; // 0 = not given
    bool has_seed;
    uint64_t seed;
    uint32_t prompt_bytes; // of all text in the prompt
    int32_t priority;
    bool token_strings;  // TOKENIZE: each token's text is wanted
    const char *ignored; // "foo, bar" or ""
};

// ERR_INVALID_ARGUMENT with the field in e->param, or ERR_UNSUPPORTED. *out = NULL on failure.
err_id openai_request_parse(enum openai_kind kind, const char *body, size_t len, struct openai_request **out,
                            struct error *e);
void openai_request_destroy(struct openai_request *r);
struct openai_view openai_request_view(const struct openai_request *r);
