// What the files of the request parser share. Internal to them.
#pragma once
#include "router/front/openai_json.h"
#include "router/front/openai_request.h"

struct openai_request {
    struct openai_view view;
    struct prompt prompt;
    json_t *root;
    char *messages, *tools, *kwargs, *schema; // JSON text
    uint32_t *tokens, *stop_tokens, *allowed, *banned;
    const char *stop[STOP_STRINGS_MAX];
    const char *bad_words[BAD_WORDS_MAX];
    struct logit_bias *bias;
    struct buf ignored;
};

// What only a chat has: messages, tools, the template's variables.
err_id openai_chat_parse(struct openai_request *r, struct error *e);
// What the answer must look like: response_format and the dialects of it.
err_id openai_format_parse(struct openai_request *r, struct error *e);
