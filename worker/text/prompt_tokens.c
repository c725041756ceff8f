#include "worker/text/prompt_tokens.h"

#include "common/base/check.h"
#include "worker/text/channel.h"
#include "worker/text/messages.h"

#include <stdlib.h>
#include <string.h>

// An echoed prompt travels in the answer's records.
enum { ECHO_BYTES_MAX = 64 << 10 };

static const char *chars(const struct buf *b) { return b->data ? b->data : ""; }

// ---- chat

static json_t *parse_json(const char *text) {
    return text ? json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL) : NULL;
}

static size_t trimmed(const char **s, size_t n) {
    while (n > 0 && strchr(" \n\r\t", (*s)[n - 1])) n--;
    while (n > 0 && strchr(" \n\r\t", **s)) ++*s, n--;
    return n;
}

// Cuts the prompt behind the last place where the last message's text stands: what the template closes a message with goes.
static err_id cut_behind_last(const json_t *messages, struct buf *text, struct error *e) {
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const json_t *content = json_object_get(last, "content");
    const char *s = json_is_string(content) ? json_string_value(content) : "";
    size_t n = json_string_length(content);
    for (int tries = 0; tries < 2 && n > 0; tries++, n = trimmed(&s, n)) {
        for (size_t at = text->len >= n ? text->len - n + 1 : 0; at-- > 0;) {
            if (memcmp(text->data + at, s, n) != 0) continue;
            text->len = at + n;
            text->data[text->len] = '\0';
            return ERR_NONE;
        }
    }
    return error_set_param(e, ERR_INVALID_ARGUMENT, "messages", "the answer can't go on behind the last message: %s",
                           n == 0 ? "it has no text" : "this model's template doesn't show it as it is");
}

static err_id render(const struct prompt_tokens_options *o, const struct prompt *p, const json_t *messages, struct buf *out,
                     struct error *e) {
    json_t *tools = parse_json(p->tools_json), *extra = parse_json(p->template_kwargs_json);
    struct template_input input = {.messages = messages,
                                   .tools = tools,
                                   .extra = extra,
                                   .add_generation_prompt = !p->no_generation_prompt && !p->continue_final_message,
                                   .special_tokens = o->model->special_tokens,
                                   .now_unix_s = o->now_unix_s};
    err_id id = template_render(o->model->chat, &input, out, e);
    if (id == ERR_NONE && p->continue_final_message) id = cut_behind_last(messages, out, e);
    json_decref(tools);
    json_decref(extra);
    return id;
}

static err_id chat_text(const struct prompt_tokens_options *o, const struct prompt *p, struct buf *out, struct error *e) {
    if (o->model->chat == NULL)
        return error_set(e, ERR_INVALID_ARGUMENT, "this model has no chat template: use completions");
    json_t *given = parse_json(p->messages_json), *messages = NULL;
    err_id id = given ? messages_normalise(o->model->chat, given, &messages, e)
                      : error_set_param(e, ERR_INVALID_ARGUMENT, "messages", "'messages' is not valid JSON");
    if (id == ERR_NONE) id = render(o, p, messages, out, e);
    json_decref(given);
    json_decref(messages);
    return id;
}

static err_id chat_tokens(const struct prompt_tokens_options *o, const struct prompt *p, struct prompt_tokens *out,
                          struct error *e) {
    struct buf text = {0};
    err_id id = chat_text(o, p, &text, e);
    out->in_thinking = channel_starts_inside(chars(&text), text.len);
    if (id == ERR_NONE) id = tokenizer_encode(o->model->tokenizer, chars(&text), text.len, ENCODE_PARSE_ADDED, &out->ids, e);
    buf_free(&text);
    return id;
}

// ---- fill in the middle: mark, text, mark, suffix, mark; the model writes what goes between

struct fim_marks {
    const char *before, *between, *behind;
};

static const struct fim_marks fim_marks[] = {
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"}, // DeepSeek
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}, // Qwen
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},       // StarCoder
    {"<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"},       // DeepSeek, written in ASCII
};

static bool is_token(const struct tokenizer *t, const char *mark) {
    return tokenizer_id(t, mark, strlen(mark)) != TOKEN_NONE;
}

static err_id fim_tokens(const struct tokenizer *t, const struct prompt *p, struct ids *out, struct error *e) {
    for (size_t i = 0; i < ARRAY_LEN(fim_marks); i++) {
        const struct fim_marks *m = &fim_marks[i];
        if (!is_token(t, m->before) || !is_token(t, m->between) || !is_token(t, m->behind)) continue;
        struct ids bos = {0};
        if (!p->no_special_tokens && tokenizer_encode(t, "", 0, ENCODE_ADD_SPECIAL, &bos, e) == ERR_NONE && bos.len > 0 &&
            bos.data[0] == tokenizer_bos(t))
            ids_push(out, bos.data[0]);
        ids_free(&bos);
        ids_push(out, tokenizer_id(t, m->before, strlen(m->before)));
        TRY(tokenizer_encode(t, p->text, p->text_len, 0, out, e));
        ids_push(out, tokenizer_id(t, m->between, strlen(m->between)));
        TRY(tokenizer_encode(t, p->suffix, strlen(p->suffix), 0, out, e));
        ids_push(out, tokenizer_id(t, m->behind, strlen(m->behind)));
        return ERR_NONE;
    }
    return error_set_param(e, ERR_UNSUPPORTED, "suffix",
                           "this model can't fill in the middle: its tokenizer has no tokens for it");
}

// ---- text and tokens

static err_id check_tokens(const struct prompt_tokens_options *o, const struct prompt *p, struct ids *out, struct error *e) {
    for (uint32_t i = 0; i < p->n_tokens; i++) {
        if (p->tokens[i] >= o->vocab)
            return error_set_param(e, ERR_INVALID_ARGUMENT, "prompt", "the token id %u is not below the vocabulary's %u",
                                   p->tokens[i], o->vocab);
        ids_push(out, p->tokens[i]);
    }
    return ERR_NONE;
}

static err_id mock_tokens(const struct prompt *p, struct ids *out, struct error *e) {
    if (p->suffix) return error_set_param(e, ERR_UNSUPPORTED, "suffix", "a mock can't fill in the middle");
    const char *text = p->kind == PROMPT_CHAT ? p->messages_json : p->text;
    size_t len = p->kind == PROMPT_CHAT ? strlen(text) : p->text_len;
    for (size_t i = 0; i < len; i++) ids_push(out, (uint8_t)text[i]);
    return ERR_NONE;
}

static err_id set_echo(const struct prompt_tokens_options *o, const struct prompt *p, struct prompt_tokens *out,
                       struct error *e) {
    if (p->logprobs)
        return error_set_param(e, ERR_UNSUPPORTED, "echo",
                               "'echo' can't be had together with 'logprobs': a prompt's tokens have none");
    if (p->kind == PROMPT_TEXT)
        buf_append(&out->echo, p->text, p->text_len);
    else if (o->model)
        tokenizer_decode(o->model->tokenizer, out->ids.data, out->ids.len, !p->keep_special_tokens, &out->echo);
    else
        for (size_t i = 0; i < out->ids.len; i++) buf_char(&out->echo, (char)(out->ids.data[i] & 127));
    if (out->echo.len <= ECHO_BYTES_MAX) return ERR_NONE;
    return error_set_param(e, ERR_INVALID_ARGUMENT, "echo", "the prompt has %zu bytes; at most %d can be echoed",
                           out->echo.len, ECHO_BYTES_MAX);
}

err_id prompt_tokens(const struct prompt_tokens_options *o, const struct prompt *p, struct prompt_tokens *out,
                     struct error *e) {
    if (p->kind == PROMPT_TOKENS)
        TRY(check_tokens(o, p, &out->ids, e));
    else if (o->model == NULL)
        TRY(mock_tokens(p, &out->ids, e));
    else if (p->kind == PROMPT_CHAT)
        TRY(chat_tokens(o, p, out, e));
    else if (p->suffix)
        TRY(fim_tokens(o->model->tokenizer, p, &out->ids, e));
    else
        TRY(tokenizer_encode(o->model->tokenizer, p->text, p->text_len,
                             ENCODE_PARSE_ADDED | (p->no_special_tokens ? 0 : ENCODE_ADD_SPECIAL), &out->ids, e));
    return p->echo && p->kind != PROMPT_CHAT ? set_echo(o, p, out, e) : ERR_NONE;
}

// ---- bad words

static err_id one_token(const struct tokenizer *t, const char *word, bool spaced, struct ids *out, struct error *e) {
    struct buf text = {0};
    struct ids ids = {0};
    buf_printf(&text, "%s%s", spaced ? " " : "", word);
    err_id id = tokenizer_encode(t, text.data, text.len, 0, &ids, e);
    size_t n = ids.len;
    if (id == ERR_NONE && n == 1) ids_push(out, ids.data[0]);
    if (id == ERR_NONE && n != 1 && !spaced)
        id = error_set_param(e, ERR_UNSUPPORTED, "bad_words",
                             "'%.64s' is %zu tokens for this model: only words of one token can be banned", word, n);
    buf_free(&text);
    ids_free(&ids);
    return id;
}

err_id prompt_bad_tokens(const struct prompt_tokens_options *o, const struct prompt *p, struct ids *out, struct error *e) {
    for (uint32_t i = 0; i < p->n_bad_words; i++) {
        if (o->model == NULL) {
            ids_push(out, (uint8_t)p->bad_words[i][0]);
            continue;
        }
        TRY(one_token(o->model->tokenizer, p->bad_words[i], false, out, e));
        TRY(one_token(o->model->tokenizer, p->bad_words[i], true, out, e));
    }
    return ERR_NONE;
}
