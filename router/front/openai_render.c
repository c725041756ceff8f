#include "router/front/openai_render.h"

#include "common/base/check.h"

#include <math.h>

// --- JSON strings

// Length of the valid UTF-8 sequence at s, or 0 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
static size_t utf8_length(const unsigned char *s, size_t n) {
    if (s[0] < 0x80) return 1;
    size_t len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return len;
}

static void escape(struct buf *out, unsigned char c) {
    switch (c) {
    case '"':
        buf_str(out, "\\\"");
        break;
    case '\\':
        buf_str(out, "\\\\");
        break;
    case '\n':
        buf_str(out, "\\n");
        break;
    case '\r':
        buf_str(out, "\\r");
        break;
    case '\t':
        buf_str(out, "\\t");
        break;
    default:
        buf_printf(out, "\\u%04x", c);
    }
}

void json_append_string(struct buf *out, const char *text, size_t len) {
    const unsigned char *s = (const unsigned char *)text;
    buf_char(out, '"');
    size_t plain = 0; // bytes before i that can be copied as they are
    for (size_t i = 0; i < len;) {
        size_t n = utf8_length(s + i, len - i);
        if (n > 0 && !(n == 1 && (s[i] < 0x20 || s[i] == '"' || s[i] == '\\'))) {
            plain += n, i += n;
            continue;
        }
        buf_append(out, text + i - plain, plain);
        plain = 0;
        if (n == 0)
            buf_str(out, "\xef\xbf\xbd");
        else
            escape(out, s[i]);
        i++;
    }
    buf_append(out, text + len - plain, plain);
    buf_char(out, '"');
}

static void append_text(struct buf *out, const char *s) { json_append_string(out, s, strlen(s)); }

// --- parts shared by chunks and bodies

static const char *finish_text(enum finish finish) {
    switch (finish) {
    case FINISH_LENGTH:
        return "\"length\"";
    case FINISH_TOOL_CALLS:
        return "\"tool_calls\"";
    default:
        return "\"stop\"";
    }
}

static void append_head(struct buf *out, const struct openai_answer *a, const char *object) {
    buf_printf(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", a->id, object, (long long)a->created);
    append_text(out, a->model);
    if (a->fingerprint && *a->fingerprint) buf_printf(out, ",\"system_fingerprint\":\"fp_%s\"", a->fingerprint);
}

static const char *chunk_object(const struct openai_answer *a) {
    return a->kind == OPENAI_CHAT ? "chat.completion.chunk" : "text_completion";
}

static void append_usage(struct buf *out, const struct usage *u) {
    buf_printf(out,
               "{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,"
               "\"prompt_tokens_details\":{\"cached_tokens\":%u},\"completion_tokens_details\":{\"reasoning_tokens\":%u},"
               "\"prompt_cache_hit_tokens\":%u,\"prompt_cache_miss_tokens\":%u}",
               u->prompt_tokens, u->completion_tokens, u->prompt_tokens + u->completion_tokens, u->cached_tokens,
               u->reasoning_tokens, u->cached_tokens, u->prompt_tokens - u->cached_tokens);
}

static void append_origin(struct buf *out, const struct openai_answer *a) {
    buf_str(out, ",\"shoal\":{\"replica\":");
    append_text(out, a->replica);
    buf_printf(out, ",\"attempt\":%u,\"seed\":%lld}", a->attempt, (long long)a->seed);
}

static void append_number(struct buf *out, float value) {
    buf_printf(out, "%.6g", isfinite(value) ? (double)value : -9999.0);
}

static void append_bytes_of(struct buf *out, const char *text, uint32_t len) {
    buf_char(out, '[');
    for (uint32_t i = 0; i < len; i++) buf_printf(out, "%s%u", i ? "," : "", (unsigned char)text[i]);
    buf_char(out, ']');
}

// A likely token's name: its text, or, where the worker didn't tell it, its id.
static void append_top_name(struct buf *out, const struct top_logprob *top) {
    if (top->text_len > 0)
        json_append_string(out, top->text, top->text_len);
    else
        buf_printf(out, "\"token_id:%u\"", top->token);
}

static void append_chat_logprob(struct buf *out, const struct record *r) {
    buf_str(out, "{\"token\":");
    json_append_string(out, r->text, r->text_len);
    buf_str(out, ",\"logprob\":");
    append_number(out, r->logprob);
    buf_str(out, ",\"bytes\":");
    append_bytes_of(out, r->text, r->text_len);
    buf_str(out, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < r->n_top; i++) {
        buf_str(out, i ? ",{\"token\":" : "{\"token\":");
        append_top_name(out, &r->top[i]);
        buf_str(out, ",\"logprob\":");
        append_number(out, r->top[i].logprob);
        buf_str(out, ",\"bytes\":");
        append_bytes_of(out, r->top[i].text, r->top[i].text_len);
        buf_char(out, '}');
    }
    buf_str(out, "]}");
}

static void append_chat_logprobs(struct buf *out, const struct record_log *log, uint32_t from, uint32_t to) {
    buf_str(out, "{\"content\":[");
    bool first = true;
    for (uint32_t i = from; i < to; i++) {
        struct record r = record_log_get(log, i);
        if (!r.has_logprob || r.channel != CHANNEL_CONTENT) continue;
        if (!first) buf_char(out, ',');
        append_chat_logprob(out, &r);
        first = false;
    }
    buf_str(out, "],\"refusal\":null}");
}

static size_t characters(struct record r) {
    size_t n = 0;
    for (uint32_t i = 0; i < r.text_len; i++) n += ((unsigned char)r.text[i] & 0xC0) != 0x80;
    return n;
}

static void append_completion_logprobs(struct buf *out, const struct record_log *log, uint32_t from, uint32_t to) {
    struct buf tokens = {0}, values = {0}, tops = {0}, offsets = {0};
    size_t offset = 0;
    for (uint32_t i = 0; i < from; i++) offset += characters(record_log_get(log, i));
    for (uint32_t i = from; i < to; i++) {
        struct record r = record_log_get(log, i);
        const char *comma = i > from ? "," : "";
        buf_str(&tokens, comma), buf_str(&values, comma), buf_str(&tops, comma);
        json_append_string(&tokens, r.text, r.text_len);
        buf_printf(&offsets, "%s%zu", comma, offset);
        offset += characters(r);
        append_number(&values, r.logprob);
        buf_char(&tops, '{');
        for (uint32_t t = 0; t < r.n_top; t++) {
            buf_str(&tops, t ? "," : "");
            append_top_name(&tops, &r.top[t]);
            buf_char(&tops, ':');
            append_number(&tops, r.top[t].logprob);
        }
        buf_char(&tops, '}');
    }
    buf_printf(out, "{\"tokens\":[%s],\"token_logprobs\":[%s],\"top_logprobs\":[%s],\"text_offset\":[%s]}",
               tokens.len ? tokens.data : "", values.len ? values.data : "", tops.len ? tops.data : "",
               offsets.len ? offsets.data : "");
    buf_free(&tokens), buf_free(&values), buf_free(&tops), buf_free(&offsets);
}

static void append_logprobs(struct buf *out, const struct openai_answer *a, const struct record_log *log, uint32_t from,
                            uint32_t to) {
    if (!a->logprobs)
        buf_str(out, "null");
    else if (a->kind == OPENAI_CHAT)
        append_chat_logprobs(out, log, from, to);
    else
        append_completion_logprobs(out, log, from, to);
}

// --- streaming

static void begin_chunk(struct buf *out, const struct openai_answer *a) {
    buf_str(out, "data: ");
    append_head(out, a, chunk_object(a));
}

static void end_event(struct buf *out, const struct openai_answer *a) {
    if (a->keys) {
        buf_str(out, "}\nid: ");
        stream_id_write(&a->event, a->keys, a->tenant, out);
        buf_str(out, "\n\n");
    } else {
        buf_str(out, "}\n\n");
    }
}

static void end_chunk(struct buf *out, const struct openai_answer *a) {
    if (a->include_usage) buf_str(out, ",\"usage\":null");
    end_event(out, a);
}

// ,"name":"text" for a channel other than the tools', without the comma; reasoning under the names that are configured.
static void append_field(struct buf *out, const struct openai_answer *a, uint8_t channel, const char *text, size_t len) {
    bool first = true;
    const char *const names[] = {channel == CHANNEL_CONTENT        ? "content"
                                 : a->reasoning != REASONING_SHORT ? "reasoning_content"
                                                                   : NULL,
                                 channel == CHANNEL_REASONING && a->reasoning != REASONING_CONTENT ? "reasoning" : NULL};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (names[i] == NULL) continue;
        buf_printf(out, "%s\"%s\":", first ? "" : ",", names[i]);
        json_append_string(out, text, len);
        first = false;
    }
}

// Text of one choice: of records [from, to) of its log, or, log NULL, what was held back at its end.
struct piece {
    uint32_t choice;
    uint8_t channel;
    const char *text;
    size_t len;
    const struct record_log *log;
    uint32_t from, to;
};

// The calls that a piece adds to, as a delta's inside. False: none, nothing is to be rendered.
static bool append_calls(struct buf *out, struct openai_answer *a, const struct piece *p) {
    struct tool_cursor *c = &a->tools[p->choice];
    if (p->log) tool_cursor_seek(c, p->log, p->from);
    buf_str(out, "\"tool_calls\":[");
    bool any = tool_deltas(c, a->id, p->choice, p->text, p->len, out);
    if (p->log) c->offset = p->to;
    buf_char(out, ']');
    return any;
}

static void render_text(struct buf *out, struct openai_answer *a, const struct piece *p) {
    struct buf inside = {0};
    bool calls = p->channel == CHANNEL_TOOL;
    if (calls && !append_calls(&inside, a, p) && !a->logprobs) {
        buf_free(&inside);
        return;
    }
    if (!calls && a->kind == OPENAI_CHAT) append_field(&inside, a, p->channel, p->text, p->len);
    begin_chunk(out, a);
    buf_printf(out, ",\"choices\":[{\"index\":%u,", p->choice);
    if (a->kind == OPENAI_CHAT) {
        buf_str(out, "\"delta\":{");
        buf_append(out, inside.data, inside.len);
        buf_str(out, "},\"logprobs\":");
    } else {
        buf_str(out, "\"text\":");
        json_append_string(out, p->text, p->len);
        buf_str(out, ",\"logprobs\":");
    }
    buf_free(&inside);
    append_logprobs(out, a, p->log, p->from, p->to);
    buf_str(out, ",\"finish_reason\":null}]");
    end_chunk(out, a);
}

void openai_render_start(struct buf *out, struct openai_answer *a) {
    if (a->kind != OPENAI_CHAT) return;
    for (uint32_t i = 0; i < a->event.n; i++) {
        begin_chunk(out, a);
        buf_printf(out,
                   ",\"choices\":[{\"index\":%u,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
                   "\"finish_reason\":null}]",
                   i);
        end_chunk(out, a);
    }
}

void openai_render_records(struct buf *out, struct openai_answer *a, uint32_t choice, const struct record_log *log,
                           uint32_t to) {
    struct buf text = {0};
    struct stream_position *at = &a->event.at[choice];
    while (at->offset < to) {
        uint32_t from = at->offset;
        uint8_t channel = record_log_get(log, from).channel;
        buf_reset(&text);
        while (at->offset < to) {
            struct record r = record_log_get(log, at->offset);
            if (r.channel != channel) break;
            buf_append(&text, r.text, r.text_len);
            stream_position_record(at, &r);
        }
        if (text.len > 0 || a->logprobs) {
            struct piece p = {choice, channel, text.len ? text.data : "", text.len, log, from, at->offset};
            render_text(out, a, &p);
        }
    }
    buf_free(&text);
}

static void render_tail(struct buf *out, struct openai_answer *a, uint32_t choice, const struct msg_done *done) {
    stream_position_tail(&a->event.at[choice], done);
    if (done->tail_len == 0) return;
    struct piece p = {.choice = choice, .channel = done->tail_channel, .text = done->tail, .len = done->tail_len};
    render_text(out, a, &p);
}

static void render_reason(struct buf *out, struct openai_answer *a, uint32_t choice, const struct msg_done *done) {
    a->event.at[choice].phase = PHASE_FINISH;
    begin_chunk(out, a);
    buf_printf(out, ",\"choices\":[{\"index\":%u,%s,\"logprobs\":null,\"finish_reason\":%s}]", choice,
               a->kind == OPENAI_CHAT ? "\"delta\":{}" : "\"text\":\"\"", finish_text(done->finish));
    append_origin(out, a);
    end_chunk(out, a);
}

static void render_usage(struct buf *out, struct openai_answer *a, const struct usage *usage) {
    for (uint32_t i = 0; i < a->event.n; i++) a->event.at[i].phase = PHASE_USAGE;
    begin_chunk(out, a);
    buf_str(out, ",\"choices\":[],\"usage\":");
    append_usage(out, usage);
    end_event(out, a);
}

void openai_render_finish(struct buf *out, struct openai_answer *a, uint32_t choice, const struct msg_done *done) {
    const struct stream_position *at = &a->event.at[choice];
    if (at->phase < PHASE_TAIL) render_tail(out, a, choice, done);
    if (at->phase < PHASE_FINISH) render_reason(out, a, choice, done);
}

void openai_render_end(struct buf *out, struct openai_answer *a, const struct usage *usage) {
    if (a->include_usage && a->event.at[0].phase < PHASE_USAGE) render_usage(out, a, usage);
    buf_str(out, "data: [DONE]\n\n");
}

void openai_render_stream_error(struct buf *out, const struct error *e) {
    buf_str(out, "data: ");
    openai_render_error(out, e);
    buf_str(out, "\n\n");
}

// --- bodies

// All text of one channel of a choice.
static void channel_text(const struct openai_choice *c, uint8_t channel, struct buf *out) {
    buf_str(out, "");
    for (uint32_t i = 0; i < record_log_count(c->log); i++) {
        struct record r = record_log_get(c->log, i);
        if (r.channel == channel) buf_append(out, r.text, r.text_len);
    }
    if (c->done->tail_len > 0 && c->done->tail_channel == channel) buf_append(out, c->done->tail, c->done->tail_len);
}

static bool has_channel(const struct record_log *log, uint8_t channel) {
    for (uint32_t i = 0; i < record_log_count(log); i++)
        if (record_log_get(log, i).channel == channel) return true;
    return false;
}

static void append_message(struct buf *out, const struct openai_answer *a, uint32_t index, const struct openai_choice *c) {
    struct buf content = {0}, reasoning = {0}, tools = {0}, calls = {0};
    channel_text(c, CHANNEL_CONTENT, &content);
    channel_text(c, CHANNEL_REASONING, &reasoning);
    channel_text(c, CHANNEL_TOOL, &tools);
    uint32_t n_calls = tool_calls(a->id, index, tools.data, tools.len, &calls);
    buf_str(out, "\"message\":{\"role\":\"assistant\",");
    if (n_calls > 0 && content.len == 0)
        buf_str(out, "\"content\":null");
    else
        append_field(out, a, CHANNEL_CONTENT, content.data, content.len);
    if (has_channel(c->log, CHANNEL_REASONING)) {
        buf_char(out, ',');
        append_field(out, a, CHANNEL_REASONING, reasoning.data, reasoning.len);
    }
    if (n_calls > 0) buf_printf(out, ",\"tool_calls\":[%s]", calls.data);
    buf_str(out, ",\"refusal\":null}");
    buf_free(&content), buf_free(&reasoning), buf_free(&tools), buf_free(&calls);
}

static void append_text_of(struct buf *out, const struct openai_choice *c) {
    struct buf text = {0};
    channel_text(c, CHANNEL_CONTENT, &text);
    buf_str(out, "\"text\":");
    json_append_string(out, text.data, text.len);
    buf_free(&text);
}

static void append_choice(struct buf *out, const struct openai_answer *a, uint32_t index, const struct openai_choice *c) {
    buf_printf(out, "{\"index\":%u,", index);
    if (a->kind == OPENAI_CHAT)
        append_message(out, a, index, c);
    else
        append_text_of(out, c);
    buf_str(out, ",\"logprobs\":");
    append_logprobs(out, a, c->log, 0, record_log_count(c->log));
    buf_printf(out, ",\"finish_reason\":%s}", finish_text(c->done->finish));
}

struct usage openai_usage(const struct openai_choice *choices, uint32_t n) {
    struct usage sum = choices[0].done->usage;
    for (uint32_t i = 1; i < n; i++) {
        sum.completion_tokens += choices[i].done->usage.completion_tokens;
        sum.reasoning_tokens += choices[i].done->usage.reasoning_tokens;
    }
    return sum;
}

void openai_render_answer(struct buf *out, const struct openai_answer *a, const struct openai_choice *choices, uint32_t n) {
    struct usage usage = openai_usage(choices, n);
    append_head(out, a, a->kind == OPENAI_CHAT ? "chat.completion" : "text_completion");
    buf_str(out, ",\"choices\":[");
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0) buf_char(out, ',');
        append_choice(out, a, i, &choices[i]);
    }
    buf_str(out, "],\"usage\":");
    append_usage(out, &usage);
    append_origin(out, a);
    buf_char(out, '}');
}

static void append_tokens(struct buf *out, const struct openai_answer *a, const struct record_log *log) {
    uint32_t n = record_log_count(log);
    buf_printf(out, "{\"count\":%u,\"max_model_len\":%u,\"tokens\":[", n, a->max_context);
    for (uint32_t i = 0; i < n; i++) buf_printf(out, "%s%u", i ? "," : "", record_log_get(log, i).token);
    buf_str(out, "],\"token_strs\":");
    buf_str(out, a->token_strings ? "[" : "null");
    for (uint32_t i = 0; a->token_strings && i < n; i++) {
        struct record r = record_log_get(log, i);
        if (i > 0) buf_char(out, ',');
        json_append_string(out, r.text, r.text_len);
    }
    buf_str(out, a->token_strings ? "]}" : "}");
}

void openai_render_tokens(struct buf *out, const struct openai_answer *a, const struct openai_choice *c) {
    struct buf text = {0};
    if (a->kind == OPENAI_TOKENIZE) {
        append_tokens(out, a, c->log);
        return;
    }
    channel_text(c, CHANNEL_CONTENT, &text);
    buf_str(out, "{\"prompt\":");
    json_append_string(out, text.data, text.len);
    buf_char(out, '}');
    buf_free(&text);
}

void openai_render_error(struct buf *out, const struct error *e) {
    const struct error_info *info = error_info(e->id);
    buf_str(out, "{\"error\":{\"message\":");
    append_text(out, error_text(e));
    buf_printf(out, ",\"type\":\"%s\",\"param\":", info->openai_type);
    if (e->param[0])
        append_text(out, e->param);
    else
        buf_str(out, "null");
    buf_str(out, ",\"code\":");
    if (info->openai_code)
        append_text(out, info->openai_code);
    else
        buf_str(out, "null");
    buf_str(out, "}}");
}
