// From a request's prompt to the tokens that the model reads: chat template, plain text, fill in the middle, ready tokens.
// Pure; any thread.
#pragma once
#include "worker/text/model_text.h"

struct prompt_tokens_options {
    const struct model_text *model; // NULL: the mock, whose tokens are the bytes of the text
    uint32_t vocab;                 // token ids are below
    int64_t now_unix_s;             // for templates that tell the date
};

struct prompt_tokens {
    struct ids ids;   // free with ids_free
    bool in_thinking; // the answer starts inside the reasoning
    struct buf echo;  // the prompt's text, when p->echo; free with buf_free
};

// *out must be zeroed; what is in it is the caller's, also after a failure. ERR_INVALID_ARGUMENT or ERR_UNSUPPORTED with the
// field's name.
err_id prompt_tokens(const struct prompt_tokens_options *o, const struct prompt *p, struct prompt_tokens *out,
                     struct error *e);

// Tokens that say one of p->bad_words, alone or behind a space. Appends them. ERR_UNSUPPORTED for a word of several tokens.
err_id prompt_bad_tokens(const struct prompt_tokens_options *o, const struct prompt *p, struct ids *out, struct error *e);
