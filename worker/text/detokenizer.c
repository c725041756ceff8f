// Design notes. Three kinds of decoders need three kinds of state: byte-level ones hold the head of a UTF-8 sequence; byte
// fallback holds a whole run of byte tokens, because the reference turns a run that isn't UTF-8 into one U+FFFD per byte,
// which is known only at its end; a stripping one counts what it may still strip from the start.
#include "worker/text/detokenizer.h"

#include "common/base/check.h"
#include "worker/text/tokenizer_parts.h"
#include "worker/text/utf8.h"

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool skip_special) {
    *d = (struct detokenizer){.tokenizer = t, .skip_special = skip_special, .strip_left = t->decoder.strip_start};
}

void detokenizer_fini(struct detokenizer *d) {
    buf_free(&d->run);
    buf_free(&d->scratch);
}

void detokenizer_show(struct detokenizer *d, uint32_t id) {
    CHECK(d->n_shown < DETOKENIZER_SHOWN_MAX);
    d->shown[d->n_shown++] = id;
}

static bool is_skipped(const struct detokenizer *d, uint32_t id) {
    if (!d->skip_special || !tokenizer_is_special(d->tokenizer, id)) return false;
    // The reference asks by the token's normalised spelling, which is not the special one's.
    if (vocab_string(&d->tokenizer->forms, id).data != NULL) return false;
    for (uint32_t i = 0; i < d->n_shown; i++) {
        if (d->shown[i] == id) return false;
    }
    return true;
}

// The last stage: strips the start of the whole text.
static void release(struct detokenizer *d, const char *s, size_t n, struct buf *out) {
    while (d->strip_left > 0 && n > 0) {
        uint32_t cp;
        size_t len = utf8_next(s, n, &cp);
        if (cp != d->tokenizer->decoder.strip_character) {
            d->strip_left = 0;
        } else {
            d->strip_left--;
            s += len, n -= len;
        }
    }
    buf_append(out, s, n);
}

// A run of byte-fallback tokens is over.
static void release_run(struct detokenizer *d, struct buf *out) {
    if (d->run.len == 0) return;
    const struct decoder *c = &d->tokenizer->decoder;
    buf_reset(&d->scratch);
    size_t first_after = c->fallback + 1;
    if (utf8_valid_prefix(d->run.data, d->run.len) == d->run.len) {
        decoder_run(c, first_after, c->n_steps, false, d->run.data, d->run.len, &d->scratch);
    } else {
        for (size_t i = 0; i < d->run.len; i++)
            decoder_run(c, first_after, c->n_steps, false, "\xEF\xBF\xBD", 3, &d->scratch);
    }
    buf_reset(&d->run);
    release(d, d->scratch.data, d->scratch.len, out);
}

// Byte-level: what is whole goes out, the head of a sequence stays.
static void push_bytes(struct detokenizer *d, const char *s, size_t n, struct buf *out) {
    buf_append(&d->run, s, n);
    buf_reset(&d->scratch);
    size_t held = utf8_append_lossy(&d->scratch, d->run.data, d->run.len, true);
    buf_consume(&d->run, d->run.len - held);
    if (d->scratch.len > 0) release(d, d->scratch.data, d->scratch.len, out);
}

void detokenizer_push(struct detokenizer *d, uint32_t token, struct buf *out) {
    const struct decoder *c = &d->tokenizer->decoder;
    struct bytes name = tokenizer_token_name(d->tokenizer, token);
    if (name.data == NULL || is_skipped(d, token)) return;
    bool first = !d->started;
    d->started = true;
    if (c->byte[token] >= 0) {
        buf_append(&d->run, c->text.data + c->offset[token], 1);
        return;
    }
    if (c->bytes) {
        push_bytes(d, c->text.data + c->offset[token], c->length[token], out);
        return;
    }
    release_run(d, out);
    if (c->spaces && !first) release(d, " ", 1, out);
    if (first && c->first_differs) {
        buf_reset(&d->scratch);
        struct bytes form = vocab_string(&d->tokenizer->forms, token);
        if (form.data != NULL) name = form;
        decoder_run(c, 0, c->n_steps, true, name.data, name.len, &d->scratch);
        if (d->scratch.len > 0) release(d, d->scratch.data, d->scratch.len, out);
    } else {
        release(d, c->text.data + c->offset[token], c->length[token], out);
    }
}

void detokenizer_finish(struct detokenizer *d, struct buf *out) {
    if (!d->tokenizer->decoder.bytes) {
        release_run(d, out);
        return;
    }
    buf_reset(&d->scratch);
    utf8_append_lossy(&d->scratch, d->run.data, d->run.len, false);
    buf_reset(&d->run);
    if (d->scratch.len > 0) release(d, d->scratch.data, d->scratch.len, out);
}
