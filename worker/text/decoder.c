#include "worker/text/decoder.h"

#include "common/base/check.h"
#include "worker/text/byte_level.h"
#include "worker/text/normalizer.h"
#include "worker/text/utf8.h"

#include <stdlib.h>
#include <string.h>

void decoder_fini(struct decoder *d) {
    for (size_t i = 0; i < d->n_steps; i++) {
        regex_destroy(d->steps[i].pattern);
        free(d->steps[i].content);
    }
    free(d->steps);
    buf_free(&d->text);
    free(d->offset);
    free(d->length);
    free(d->byte);
    *d = (struct decoder){0};
}

static err_id refuse(struct decoder_step *step, struct error *e, const char *why) {
    regex_destroy(step->pattern);
    free(step->content);
    return error_set(e, ERR_MODEL_FILES, "decoder: %s", why);
}

static bool has_fallback(const struct decoder *d) {
    return d->n_steps > 0 && d->fallback < d->n_steps && d->steps[d->fallback].kind == DECODER_BYTE_FALLBACK;
}

err_id decoder_add(struct decoder *d, struct decoder_step *step, struct error *e) {
    bool fallback = has_fallback(d);
    if (d->fused) {
        if (step->kind == DECODER_FUSE) return ERR_NONE;
        if (step->kind != DECODER_STRIP || step->strip_stop > 0 || d->strip_start > 0)
            return refuse(step, e, "only one Strip from the start is supported behind Fuse or ByteLevel");
        d->strip_character = step->character, d->strip_start = step->strip_start;
        return ERR_NONE;
    }
    if (step->kind == DECODER_FUSE) {
        d->fused = true;
        return ERR_NONE;
    }
    if (fallback && step->kind != DECODER_REPLACE && step->kind != DECODER_STRIP)
        return refuse(step, e, "only Replace, Strip and Fuse are supported behind ByteFallback");
    if (step->kind == DECODER_BYTE_LEVEL) d->fused = d->bytes = true;
    if (step->kind == DECODER_METASPACE && step->drops_first) d->first_differs = true;
    d->steps = xrealloc(d->steps, (d->n_steps + 1) * sizeof *d->steps);
    if (!fallback) d->fallback = step->kind == DECODER_BYTE_FALLBACK ? d->n_steps : d->n_steps + 1;
    d->steps[d->n_steps++] = *step;
    return ERR_NONE;
}

static void run_strip(const struct decoder_step *step, const char *s, size_t n, struct buf *out) {
    uint32_t cp;
    size_t start = 0;
    for (uint32_t i = 0; i < step->strip_start && start < n; i++) {
        size_t len = utf8_next(s + start, n - start, &cp);
        if (cp != step->character) break;
        start += len;
    }
    for (uint32_t i = 0; i < step->strip_stop && n > start; i++) {
        size_t last = utf8_prev(s, n);
        utf8_next(s + last, n - last, &cp);
        if (cp != step->character) break;
        n = last;
    }
    buf_append(out, s + start, n - start);
}

static void run_metaspace(const struct decoder_step *step, bool first, const char *s, size_t n, struct buf *out) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_next(s + i, n - i, &cp);
        if (cp != step->character) {
            buf_append(out, s + i, len);
        } else if (!first || !step->drops_first) {
            buf_char(out, ' ');
        }
        i += len;
    }
}

static void run_replace(const struct decoder_step *step, const char *s, size_t n, struct buf *out) {
    struct regex_scratch *scratch = regex_scratch_create();
    struct error ignored;
    size_t before = out->len;
    // A token over the match limit is left as it is: the model file's fault, and tokens are short.
    if (normalizer_replace(step->pattern, scratch, s, n, step->content, step->content_len, out, &ignored) != ERR_NONE) {
        out->len = before;
        buf_append(out, s, n);
    }
    regex_scratch_destroy(scratch);
}

static void run_step(const struct decoder_step *step, bool first, const char *s, size_t n, struct buf *out) {
    switch (step->kind) {
    case DECODER_BYTE_LEVEL:
        if (!byte_level_decode(s, n, out)) buf_append(out, s, n);
        break;
    case DECODER_REPLACE:
        run_replace(step, s, n, out);
        break;
    case DECODER_STRIP:
        run_strip(step, s, n, out);
        break;
    case DECODER_METASPACE:
        run_metaspace(step, first, s, n, out);
        break;
    case DECODER_BYTE_FALLBACK:
    case DECODER_FUSE:
        buf_append(out, s, n);
        break;
    }
}

void decoder_run(const struct decoder *d, size_t from, size_t to, bool first, const char *s, size_t len, struct buf *out) {
    struct buf a = {0}, b = {0};
    for (size_t i = from; i < to; i++) {
        buf_reset(&b);
        run_step(&d->steps[i], first, s, len, &b);
        struct buf swap = a;
        a = b, b = swap;
        s = a.data ? a.data : "", len = a.len;
    }
    buf_append(out, s, len);
    buf_free(&a);
    buf_free(&b);
}

// The byte of "<0xNN>", or -1.
static int fallback_byte(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        char c = s[i], lower = (char)(c | 0x20);
        int digit = c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
        // The reference's parser takes a sign too: "<0x+F>" is 15.
        if (digit < 0 && i == 3 && c == '+') digit = 0;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

void decoder_prepare(struct decoder *d, const struct bytes *names, uint32_t n_ids) {
    d->spaces = d->n_steps == 0 && !d->fused;
    if (d->n_steps == 0) d->fallback = 0;
    d->n_ids = n_ids;
    d->offset = xcalloc(n_ids + 1, sizeof *d->offset);
    d->length = xcalloc(n_ids + 1, sizeof *d->length);
    d->byte = xcalloc(n_ids + 1, sizeof *d->byte);
    struct buf seen = {0};
    for (uint32_t id = 0; id < n_ids; id++) {
        buf_reset(&seen);
        size_t before_fallback = d->fallback < d->n_steps ? d->fallback : d->n_steps;
        if (names[id].data != NULL) decoder_run(d, 0, before_fallback, false, names[id].data, names[id].len, &seen);
        d->byte[id] = (int16_t)(has_fallback(d) ? fallback_byte(seen.data ? seen.data : "", seen.len) : -1);
        d->offset[id] = (uint32_t)d->text.len;
        if (d->byte[id] >= 0) {
            buf_char(&d->text, (char)d->byte[id]);
        } else if (names[id].data != NULL) {
            decoder_run(d, before_fallback, d->n_steps, false, seen.data ? seen.data : "", seen.len, &d->text);
        }
        d->length[id] = (uint32_t)(d->text.len - d->offset[id]);
    }
    buf_free(&seen);
}
