#include "worker/text/normalizer.h"

#include "common/base/check.h"
#include "worker/text/byte_level.h"
#include "worker/text/unicode.h"
#include "worker/text/unicode_reference.h"
#include "worker/text/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void normalizer_fini(struct normalizer *n) {
    for (size_t i = 0; i < n->n_steps; i++) {
        regex_destroy(n->steps[i].pattern);
        free(n->steps[i].content);
    }
    free(n->steps);
    *n = (struct normalizer){0};
}

void normalizer_add(struct normalizer *n, const struct normalizer_step *step) {
    n->steps = xrealloc(n->steps, (n->n_steps + 1) * sizeof *n->steps);
    n->steps[n->n_steps++] = *step;
}

// Code points that no normalisation form changes, alone or beside their neighbours, in the blocks that most text is in.
static bool surely_composed(uint32_t cp) {
    return cp < 0x300 || (cp >= 0x400 && cp < 0x483) || (cp >= 0x2010 && cp < 0x2028) || (cp >= 0x3000 && cp < 0x302A) ||
           (cp >= 0x3041 && cp < 0x3097) || (cp >= 0x30A0 && cp < 0x3100) || (cp >= 0x3400 && cp < 0xA000) ||
           (cp >= 0xAC00 && cp < 0xD7A4) || (cp >= 0xFF01 && cp < 0xFFE7);
}

static bool is_normalised(enum normalizer_kind kind, const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += utf8_next(s + i, n - i, &cp);
        if (kind == NORMALIZER_NFC ? !surely_composed(cp) : cp >= 0x80) return false;
    }
    return true;
}

static void unicode_form_between(enum normalizer_kind kind, const char *s, size_t n, struct buf *out) {
    static const utf8proc_option_t options[] = {
        [NORMALIZER_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [NORMALIZER_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [NORMALIZER_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [NORMALIZER_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    utf8proc_uint8_t *form = NULL;
    utf8proc_ssize_t len = -1;
    if (!is_normalised(kind, s, n))
        len = utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &form, options[kind]);
    if (len >= 0) {
        buf_append(out, form, (size_t)len);
    } else { // already in this form, or (never on valid UTF-8) not known to utf8proc
        buf_append(out, s, n);
    }
    free(form);
}

static void unicode_form(enum normalizer_kind kind, const char *s, size_t n, struct buf *out) {
    size_t done = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_next(s + i, n - i, &cp);
        if (unicode_reference_is_inert(cp)) {
            unicode_form_between(kind, s + done, i - done, out);
            buf_append(out, s + i, len);
            done = i + len;
        }
        i += len;
    }
    unicode_form_between(kind, s + done, n - done, out);
}

static void lowercase(const char *s, size_t n, struct buf *out) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += utf8_next(s + i, n - i, &cp);
        if (cp == 0x130) { // the one code point whose lower case is two
            utf8_append(out, 'i');
            utf8_append(out, 0x307);
        } else {
            utf8_append(out, unicode_lower(cp));
        }
    }
}

static void strip(const struct normalizer_step *step, const char *s, size_t n, struct buf *out) {
    uint32_t cp;
    size_t start = 0;
    while (step->strip_left && start < n) {
        size_t len = utf8_next(s + start, n - start, &cp);
        if (!unicode_is_space(cp)) break;
        start += len;
    }
    while (step->strip_right && n > start) {
        size_t last = utf8_prev(s, n);
        utf8_next(s + last, n - last, &cp);
        if (!unicode_is_space(cp)) break;
        n = last;
    }
    buf_append(out, s + start, n - start);
}

// SentencePiece's nmt rules: control characters vanish, other separators become spaces.
static void nmt(const char *s, size_t n, struct buf *out) {
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += utf8_next(s + i, n - i, &c);
        if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) continue;
        bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                     c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
        utf8_append(out, space ? ' ' : c);
    }
}

static void strip_accents(const char *s, size_t n, struct buf *out) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_next(s + i, n - i, &cp);
        if (cp < 0x80 || !unicode_reference_is_mark(cp)) buf_append(out, s + i, len);
        i += len;
    }
}

err_id normalizer_replace(const struct regex *pattern, struct regex_scratch *scratch, const char *text, size_t len,
                          const char *content, size_t content_len, struct buf *out, struct error *e) {
    struct regex_search search = {.text = text, .len = len, .has_new = unicode_has_new(text, len)};
    size_t copied = 0;
    for (;;) {
        bool found;
        TRY(regex_next(pattern, scratch, &search, &found, e));
        if (!found) break;
        buf_append(out, text + copied, search.start - copied);
        buf_append(out, content, content_len);
        copied = search.end;
    }
    buf_append(out, text + copied, len - copied);
    return ERR_NONE;
}

static err_id run_step(const struct normalizer_step *step, struct regex_scratch *scratch, const char *s, size_t n,
                       struct buf *out, struct error *e) {
    switch (step->kind) {
    case NORMALIZER_NFC:
    case NORMALIZER_NFD:
    case NORMALIZER_NFKC:
    case NORMALIZER_NFKD:
        unicode_form(step->kind, s, n, out);
        break;
    case NORMALIZER_LOWERCASE:
        lowercase(s, n, out);
        break;
    case NORMALIZER_STRIP:
        strip(step, s, n, out);
        break;
    case NORMALIZER_STRIP_ACCENTS:
        strip_accents(s, n, out);
        break;
    case NORMALIZER_REPLACE:
        return normalizer_replace(step->pattern, scratch, s, n, step->content, step->content_len, out, e);
    case NORMALIZER_PREPEND:
        if (n > 0) buf_append(out, step->content, step->content_len);
        buf_append(out, s, n);
        break;
    case NORMALIZER_NMT:
        nmt(s, n, out);
        break;
    case NORMALIZER_BYTE_LEVEL:
        byte_level_encode(s, n, out);
        break;
    }
    return ERR_NONE;
}

err_id normalizer_run(const struct normalizer *n, struct regex_scratch *scratch, const char *text, size_t len,
                      struct buf *out, struct buf *spare, struct error *e) {
    buf_reset(out);
    if (n->n_steps == 0) buf_append(out, text, len);
    for (size_t i = 0; i < n->n_steps; i++) {
        buf_reset(spare);
        TRY(run_step(&n->steps[i], scratch, text, len, spare, e));
        struct buf swap = *out;
        *out = *spare, *spare = swap;
        text = out->data ? out->data : "";
        len = out->len;
    }
    return ERR_NONE;
}
