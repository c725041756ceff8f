// Design notes. Text flows detokenizer -> channel splitter -> (content only) stop strings -> ready[channel]. A record takes
// from ready: reasoning first, because content can only follow it.
#include "worker/text/output.h"

#include "common/base/check.h"
#include "common/base/limits.h"
#include "worker/text/channel.h"
#include "worker/text/detokenizer.h"
#include "worker/text/stop.h"

#include <stdlib.h>
#include <string.h>

struct output {
    struct detokenizer detokenizer;
    bool split;
    struct channel_splitter splitter;
    struct stop *stop;
    struct buf fresh;    // what the token released, before splitting
    struct buf content;  // of it, before stop strings
    struct buf ready[2]; // by channel
    struct buf record;   // what the last record was given
    bool finished;
};

err_id output_create(const struct tokenizer *t, const struct output_options *options, struct output **out, struct error *e) {
    struct stop *stop;
    TRY(stop_create(options->stop, options->n_stop, options->include_stop, &stop, e));
    struct output *o = xcalloc(1, sizeof *o);
    o->stop = stop;
    o->split = options->split_reasoning;
    detokenizer_init(&o->detokenizer, t, !options->keep_special);
    channel_init(&o->splitter, options->starts_in_reasoning);
    if (o->split) { // the splitter has to see its marks, special tokens or not
        const char *const marks[] = {CHANNEL_OPEN, CHANNEL_CLOSE};
        for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
            uint32_t id = tokenizer_id(t, marks[i], strlen(marks[i]));
            if (id != TOKEN_NONE) detokenizer_show(&o->detokenizer, id);
        }
    }
    *out = o;
    return ERR_NONE;
}

void output_destroy(struct output *o) {
    if (o == NULL) return;
    detokenizer_fini(&o->detokenizer);
    channel_fini(&o->splitter);
    stop_destroy(o->stop);
    buf_free(&o->fresh);
    buf_free(&o->content);
    buf_free(&o->ready[CHANNEL_CONTENT]);
    buf_free(&o->ready[CHANNEL_REASONING]);
    buf_free(&o->record);
    free(o);
}

// At most RECORD_TEXT_MAX bytes of ready text, whole characters.
static void take(struct output *o, enum channel quiet, struct output_text *text) {
    enum channel channel = o->ready[CHANNEL_REASONING].len > 0 ? CHANNEL_REASONING : CHANNEL_CONTENT;
    struct buf *from = &o->ready[channel];
    size_t n = from->len;
    if (n > RECORD_TEXT_MAX) {
        n = RECORD_TEXT_MAX;
        while (n > 0 && ((unsigned char)from->data[n] & 0xC0) == 0x80) n--;
    }
    buf_reset(&o->record);
    if (n > 0) buf_append(&o->record, from->data, n);
    buf_consume(from, n);
    text->channel = n > 0 ? channel : quiet;
    text->text = o->record.data ? o->record.data : "";
    text->text_len = n;
}

static enum channel channel_now(const struct output *o) {
    return o->split && o->splitter.state == CHANNEL_STATE_REASONING ? CHANNEL_REASONING : CHANNEL_CONTENT;
}

static const char *chars(const struct buf *b) { return b->data ? b->data : ""; }

void output_push(struct output *o, uint32_t token, struct output_text *text) {
    enum channel before = channel_now(o);
    buf_reset(&o->fresh);
    buf_reset(&o->content);
    detokenizer_push(&o->detokenizer, token, &o->fresh);
    const struct buf *content = o->split ? &o->content : &o->fresh;
    if (o->split) channel_push(&o->splitter, chars(&o->fresh), o->fresh.len, &o->ready[CHANNEL_REASONING], &o->content);
    text->stopped = stop_push(o->stop, chars(content), content->len, &o->ready[CHANNEL_CONTENT]);
    // A token without text counts for the reasoning when it opens, goes on with or closes it.
    take(o, before == CHANNEL_REASONING ? before : channel_now(o), text);
}

void output_finish(struct output *o, struct output_text *text) {
    if (!o->finished && !stop_matched(o->stop)) {
        buf_reset(&o->fresh);
        buf_reset(&o->content);
        detokenizer_finish(&o->detokenizer, &o->fresh);
        const struct buf *content = o->split ? &o->content : &o->fresh;
        if (o->split) {
            channel_push(&o->splitter, chars(&o->fresh), o->fresh.len, &o->ready[CHANNEL_REASONING], &o->content);
            channel_finish(&o->splitter, &o->ready[CHANNEL_REASONING], &o->content);
        }
        if (!stop_push(o->stop, chars(content), content->len, &o->ready[CHANNEL_CONTENT]))
            stop_finish(o->stop, &o->ready[CHANNEL_CONTENT]);
    }
    o->finished = true;
    take(o, channel_now(o), text);
    text->stopped = stop_matched(o->stop);
}
