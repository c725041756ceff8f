// Design notes. Text flows detokenizer -> channel splitter -> (content only) tool calls -> (content only) stop strings ->
// ready, a queue of runs. A record takes from its front: one channel, at most RECORD_TEXT_MAX bytes.
#include "worker/text/output.h"

#include "common/base/check.h"
#include "common/base/limits.h"
#include "worker/text/channel.h"
#include "worker/text/detokenizer.h"
#include "worker/text/stop.h"
#include "worker/text/tool_parser.h"
#include "worker/text/utf8.h"

#include <stdlib.h>
#include <string.h>

struct output {
    bool is_bytes;    // no tokenizer: tokens are bytes
    struct buf bytes; // of an incomplete character
    struct detokenizer detokenizer;
    bool split;
    struct channel_splitter splitter;
    struct tool_parser tools;
    struct stop *stop;
    struct buf fresh;        // what the token released, before splitting
    struct buf reasoning;    // of it
    struct buf content;      // of it, before calls
    struct text_runs parsed; // content and calls, before stop strings
    struct buf plain;        // content behind the stop strings
    struct text_runs ready;
    struct buf record; // what the last record was given
    bool closed;
};

static void show(struct output *o, const struct tokenizer *t, const char *mark) {
    uint32_t id = tokenizer_id(t, mark, strlen(mark));
    if (id != TOKEN_NONE) detokenizer_show(&o->detokenizer, id);
}

// Who looks for marks has to see them, special tokens or not.
static void show_marks(struct output *o, const struct tokenizer *t, enum tool_style style) {
    _Static_assert((int)TOOL_SHOWN_MAX + 2 <= (int)DETOKENIZER_SHOWN_MAX, "all marks can be shown");
    if (o->split) {
        show(o, t, CHANNEL_OPEN);
        show(o, t, CHANNEL_CLOSE);
    }
    for (size_t i = 0; tool_style_shown(style, i); i++) show(o, t, tool_style_shown(style, i));
}

err_id output_create(const struct tokenizer *t, const struct output_options *options, struct output **out, struct error *e) {
    struct stop *stop;
    TRY(stop_create(options->stop, options->n_stop, options->include_stop, &stop, e));
    struct output *o = xcalloc(1, sizeof *o);
    o->stop = stop;
    o->is_bytes = t == NULL;
    o->split = options->split_reasoning;
    channel_init(&o->splitter, options->starts_in_reasoning);
    tool_parser_init(&o->tools, options->tools, options->one_tool_call ? 1 : 0);
    if (t != NULL) {
        detokenizer_init(&o->detokenizer, t, !options->keep_special);
        show_marks(o, t, options->tools);
    }
    text_runs_add(&o->ready, CHANNEL_CONTENT, options->echo, options->echo_len);
    *out = o;
    return ERR_NONE;
}

void output_destroy(struct output *o) {
    if (o == NULL) return;
    buf_free(&o->bytes);
    detokenizer_fini(&o->detokenizer);
    channel_fini(&o->splitter);
    tool_parser_fini(&o->tools);
    stop_destroy(o->stop);
    buf_free(&o->fresh);
    buf_free(&o->reasoning);
    buf_free(&o->content);
    text_runs_fini(&o->parsed);
    buf_free(&o->plain);
    text_runs_fini(&o->ready);
    buf_free(&o->record);
    free(o);
}

// At most RECORD_TEXT_MAX bytes of ready text, whole characters.
static void take(struct output *o, enum channel quiet, struct output_text *text) {
    size_t n = o->ready.n > 0 ? o->ready.runs[0].len : 0;
    text->channel = n > 0 ? o->ready.runs[0].channel : quiet;
    if (n > RECORD_TEXT_MAX) {
        n = RECORD_TEXT_MAX;
        while (n > 0 && ((unsigned char)o->ready.bytes.data[n] & 0xC0) == 0x80) n--;
    }
    buf_reset(&o->record);
    if (n > 0) buf_append(&o->record, o->ready.bytes.data, n);
    text_runs_consume(&o->ready, n);
    text->text = o->record.data ? o->record.data : "";
    text->text_len = n;
}

static enum channel channel_now(const struct output *o) {
    return o->split && o->splitter.state == CHANNEL_STATE_REASONING ? CHANNEL_REASONING : CHANNEL_CONTENT;
}

static const char *chars(const struct buf *b) { return b->data ? b->data : ""; }

// What a mock says: bytes, of which whole characters are released.
static void release_byte(struct output *o, uint32_t token) {
    if (token > 255) return; // the end of an answer
    buf_char(&o->bytes, (char)token);
    size_t whole = utf8_valid_prefix(o->bytes.data, o->bytes.len);
    bool hopeless = whole == 0 && o->bytes.len >= 4;
    buf_append(&o->fresh, o->bytes.data, whole);
    if (hopeless) buf_str(&o->fresh, "?");
    buf_consume(&o->bytes, hopeless ? 1 : whole);
}

static void release_token(struct output *o, uint32_t token) {
    if (o->is_bytes)
        release_byte(o, token);
    else
        detokenizer_push(&o->detokenizer, token, &o->fresh);
}

static void release_rest(struct output *o) {
    if (!o->is_bytes)
        detokenizer_finish(&o->detokenizer, &o->fresh);
    else if (o->bytes.len > 0)
        buf_str(&o->fresh, "?");
}

// Through the splitter: o->fresh to o->reasoning and o->content.
static void split(struct output *o, bool final) {
    buf_reset(&o->reasoning);
    buf_reset(&o->content);
    if (!o->split) {
        buf_append(&o->content, chars(&o->fresh), o->fresh.len);
        return;
    }
    channel_push(&o->splitter, chars(&o->fresh), o->fresh.len, &o->reasoning, &o->content);
    if (final) channel_finish(&o->splitter, &o->reasoning, &o->content);
}

// Sends what came out of the splitter on its way. True: a stop string is complete.
static bool flow(struct output *o, bool final) {
    bool stopped = false;
    text_runs_add(&o->ready, CHANNEL_REASONING, chars(&o->reasoning), o->reasoning.len);
    text_runs_reset(&o->parsed);
    tool_parser_push(&o->tools, chars(&o->content), o->content.len, &o->parsed);
    if (final) tool_parser_finish(&o->tools, &o->parsed);
    const char *at = chars(&o->parsed.bytes);
    for (size_t i = 0; i < o->parsed.n && !stopped; at += o->parsed.runs[i++].len) {
        const struct text_run *run = &o->parsed.runs[i];
        if (run->channel == CHANNEL_CONTENT) {
            buf_reset(&o->plain);
            stopped = stop_push(o->stop, at, run->len, &o->plain);
            text_runs_add(&o->ready, CHANNEL_CONTENT, chars(&o->plain), o->plain.len);
        } else {
            text_runs_add(&o->ready, run->channel, at, run->len);
        }
    }
    return stopped;
}

static void close_output(struct output *o) {
    if (o->closed || stop_matched(o->stop)) return;
    o->closed = true;
    buf_reset(&o->fresh);
    release_rest(o);
    split(o, true);
    if (flow(o, true)) return;
    buf_reset(&o->plain);
    stop_finish(o->stop, &o->plain);
    text_runs_add(&o->ready, CHANNEL_CONTENT, chars(&o->plain), o->plain.len);
}

void output_push(struct output *o, uint32_t token, bool last, struct output_text *text) {
    enum channel before = channel_now(o);
    bool stopped = o->closed;
    if (!o->closed) {
        buf_reset(&o->fresh);
        release_token(o, token);
        split(o, false);
        stopped = flow(o, false) || tool_parser_full(&o->tools);
        if (last) close_output(o);
    }
    // A token without text counts for the reasoning when it opens, goes on with or closes it.
    take(o, before == CHANNEL_REASONING ? before : channel_now(o), text);
    text->stopped = stopped;
}

uint32_t output_calls(const struct output *o) { return o->tools.n_calls; }

void output_finish(struct output *o, struct output_text *text) {
    close_output(o);
    take(o, channel_now(o), text);
    text->stopped = stop_matched(o->stop);
}
