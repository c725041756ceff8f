#include "worker/text/pretokenize.h"

#include "common/base/check.h"
#include "worker/text/byte_level.h"
#include "worker/text/unicode.h"
#include "worker/text/unicode_reference.h"
#include "worker/text/utf8.h"

#include <stdlib.h>
#include <string.h>

void pretokenizer_fini(struct pretokenizer *p) {
    for (size_t i = 0; i < p->n_steps; i++) regex_destroy(p->steps[i].pattern);
    free(p->steps);
    *p = (struct pretokenizer){0};
}

void pretokenizer_add(struct pretokenizer *p, const struct pretokenizer_step *step) {
    p->steps = xrealloc(p->steps, (p->n_steps + 1) * sizeof *p->steps);
    p->steps[p->n_steps++] = *step;
}

void pretokenize_scratch_fini(struct pretokenize_scratch *s) {
    for (int i = 0; i < 2; i++) {
        buf_free(&s->texts[i]);
        free(s->lists[i]);
    }
    *s = (struct pretokenize_scratch){0};
}

// ---- from matches to pieces ----

// Collects the pieces that one piece is cut into: segments come in order, matched or not, and cover it.
struct cutter {
    struct pretokenize_scratch *s;
    int list;     // s->lists[] that is written
    size_t first; // first piece in it that is of the piece being cut
    size_t n;
    enum split_behavior behavior;
    bool previous;        // the last segment was a match
    struct piece waiting; // MERGED_NEXT: a match that the next segment takes along
    bool has_waiting;
};

static void put(struct cutter *c, struct piece piece) {
    struct pretokenize_scratch *s = c->s;
    if (c->n == s->caps[c->list]) {
        s->caps[c->list] = c->n ? c->n * 2 : 256;
        s->lists[c->list] = xrealloc(s->lists[c->list], s->caps[c->list] * sizeof *s->lists[0]);
    }
    s->lists[c->list][c->n++] = piece;
}

static void put_or_extend(struct cutter *c, struct piece piece, bool extend) {
    if (extend && c->n > c->first) {
        c->s->lists[c->list][c->n - 1].end = piece.end;
    } else {
        put(c, piece);
    }
}

static void flush_waiting(struct cutter *c) {
    if (c->has_waiting) put(c, c->waiting);
    c->has_waiting = false;
}

static void segment(struct cutter *c, size_t start, size_t end, bool match) {
    if (start == end) return;
    struct piece piece = {(uint32_t)start, (uint32_t)end};
    switch (c->behavior) {
    case SPLIT_ISOLATED:
        put(c, piece);
        break;
    case SPLIT_REMOVED:
        if (!match) put(c, piece);
        break;
    case SPLIT_CONTIGUOUS:
        put_or_extend(c, piece, match == c->previous);
        break;
    case SPLIT_MERGED_PREVIOUS:
        put_or_extend(c, piece, match && !c->previous);
        break;
    case SPLIT_MERGED_NEXT:
        if (match) {
            flush_waiting(c);
            c->waiting = piece, c->has_waiting = true;
        } else {
            if (c->has_waiting) piece.start = c->waiting.start;
            c->has_waiting = false;
            put(c, piece);
        }
        break;
    }
    c->previous = match;
}

static void begin(struct cutter *c) {
    c->first = c->n;
    c->previous = false;
}

static err_id cut_by_pattern(struct cutter *c, const struct regex *pattern, bool invert, struct regex_scratch *scratch,
                             struct piece p, bool has_new, struct error *e) {
    begin(c);
    struct regex_search search = {.text = c->s->text + p.start, .len = p.end - p.start, .has_new = has_new};
    size_t done = 0;
    for (;;) {
        bool found;
        TRY(regex_next(pattern, scratch, &search, &found, e));
        if (!found) break;
        segment(c, p.start + done, p.start + search.start, invert);
        segment(c, p.start + search.start, p.start + search.end, !invert);
        done = search.end;
    }
    segment(c, p.start + done, p.end, invert);
    flush_waiting(c);
    return ERR_NONE;
}

enum word_class { CLASS_SPACE, CLASS_WORD, CLASS_OTHER };

static enum word_class word_class(uint32_t cp) {
    if (unicode_is_word(cp)) return CLASS_WORD;
    return unicode_is_space(cp) ? CLASS_SPACE : CLASS_OTHER;
}

static void cut_words(struct cutter *c, struct piece p) {
    begin(c);
    size_t start = p.start;
    enum word_class class = CLASS_SPACE;
    for (size_t i = p.start; i < p.end;) {
        uint32_t cp;
        size_t len = utf8_next(c->s->text + i, p.end - i, &cp);
        enum word_class now = word_class(cp);
        if (now != class) {
            segment(c, start, i, class == CLASS_SPACE);
            start = i, class = now;
        }
        i += len;
    }
    segment(c, start, p.end, class == CLASS_SPACE);
}

static bool is_match(const struct pretokenizer_step *step, uint32_t cp) {
    switch (step->kind) {
    case PRETOKENIZER_DIGITS:
        return unicode_is_numeric(cp);
    case PRETOKENIZER_PUNCTUATION:
        return unicode_reference_is_punctuation(cp);
    case PRETOKENIZER_WHITESPACE_SPLIT:
        return unicode_is_space(cp);
    default:
        return cp == step->character;
    }
}

static void cut_by_character(struct cutter *c, const struct pretokenizer_step *step, struct piece p) {
    begin(c);
    size_t start = p.start;
    for (size_t i = p.start; i < p.end;) {
        uint32_t cp;
        size_t len = utf8_next(c->s->text + i, p.end - i, &cp);
        if (is_match(step, cp)) {
            segment(c, start, i, false);
            segment(c, i, i + len, true);
            start = i + len;
        }
        i += len;
    }
    segment(c, start, p.end, false);
    flush_waiting(c);
}

// ---- rewriting pieces ----

// Rewrites every piece into the other text buffer; the pieces then mean that one.
struct rewriter {
    struct pretokenize_scratch *s;
    struct buf *out;
};

static struct rewriter rewrite_begin(struct pretokenize_scratch *s) {
    struct buf *out = s->text == s->texts[0].data ? &s->texts[1] : &s->texts[0];
    buf_reset(out);
    buf_reserve(out, 0);
    return (struct rewriter){s, out};
}

static void rewrite_end(struct rewriter *r) { r->s->text = r->out->data; }

static void append_metaspaced(const struct pretokenizer_step *step, struct rewriter *r, struct piece p, bool first) {
    const char *s = r->s->text;
    char mark[4];
    size_t mark_len = utf8_encode(step->character, mark);
    bool has_mark = s[p.start] == ' ' || (p.end - p.start >= mark_len && memcmp(s + p.start, mark, mark_len) == 0);
    bool wanted = step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && first);
    if (wanted && !has_mark) buf_append(r->out, mark, mark_len);
    for (uint32_t i = p.start; i < p.end; i++) {
        if (s[i] == ' ') {
            buf_append(r->out, mark, mark_len);
        } else {
            buf_char(r->out, s[i]);
        }
    }
}

static void rewrite_metaspace(const struct pretokenizer_step *step, struct pretokenize_scratch *s, bool at_start) {
    struct rewriter r = rewrite_begin(s);
    for (size_t i = 0; i < s->n_pieces; i++) {
        size_t start = r.out->len;
        append_metaspaced(step, &r, s->pieces[i], at_start && s->pieces[i].start == 0);
        s->pieces[i] = (struct piece){(uint32_t)start, (uint32_t)r.out->len};
    }
    rewrite_end(&r);
}

static void rewrite_prefix_space(struct pretokenize_scratch *s) {
    struct rewriter r = rewrite_begin(s);
    for (size_t i = 0; i < s->n_pieces; i++) {
        struct piece p = s->pieces[i];
        size_t start = r.out->len;
        if (s->text[p.start] != ' ') buf_char(r.out, ' ');
        buf_append(r.out, s->text + p.start, p.end - p.start);
        s->pieces[i] = (struct piece){(uint32_t)start, (uint32_t)r.out->len};
    }
    rewrite_end(&r);
}

static void rewrite_bytes(struct pretokenize_scratch *s) {
    struct rewriter r = rewrite_begin(s);
    for (size_t i = 0; i < s->n_pieces; i++) {
        struct piece p = s->pieces[i];
        size_t start = r.out->len;
        byte_level_encode(s->text + p.start, p.end - p.start, r.out);
        s->pieces[i] = (struct piece){(uint32_t)start, (uint32_t)r.out->len};
    }
    rewrite_end(&r);
}

// ---- steps ----

static err_id cut_all(const struct pretokenizer_step *step, struct pretokenize_scratch *s, struct regex_scratch *scratch,
                      bool has_new, struct error *e) {
    struct cutter c = {.s = s, .list = s->pieces == s->lists[0], .behavior = step->behavior};
    for (size_t i = 0; i < s->n_pieces; i++) {
        struct piece p = s->pieces[i];
        if (step->pattern != NULL) {
            TRY(cut_by_pattern(&c, step->pattern, step->invert, scratch, p, has_new, e));
        } else if (step->kind == PRETOKENIZER_WHITESPACE) {
            cut_words(&c, p);
        } else {
            cut_by_character(&c, step, p);
        }
    }
    s->pieces = s->lists[c.list];
    s->n_pieces = c.n;
    return ERR_NONE;
}

static err_id run_step(const struct pretokenizer_step *step, const struct pretokenize_input *input,
                       struct regex_scratch *scratch, struct pretokenize_scratch *s, struct error *e) {
    if (step->kind == PRETOKENIZER_METASPACE) {
        rewrite_metaspace(step, s, input->at_start);
        return step->split ? cut_all(step, s, scratch, input->has_new, e) : ERR_NONE;
    }
    if (step->kind != PRETOKENIZER_BYTE_LEVEL) return cut_all(step, s, scratch, input->has_new, e);
    if (step->add_prefix_space) rewrite_prefix_space(s);
    if (step->pattern != NULL) TRY(cut_all(step, s, scratch, input->has_new, e));
    if (!step->keep_bytes) rewrite_bytes(s);
    return ERR_NONE;
}

err_id pretokenize(const struct pretokenizer *p, const struct pretokenize_input *input, struct regex_scratch *scratch,
                   struct pretokenize_scratch *s, struct error *e) {
    struct cutter c = {.s = s, .list = 0};
    s->text = input->text;
    if (input->len > 0) put(&c, (struct piece){0, (uint32_t)input->len});
    s->pieces = s->lists[0];
    s->n_pieces = c.n;
    for (size_t i = 0; i < p->n_steps; i++) TRY(run_step(&p->steps[i], input, scratch, s, e));
    return ERR_NONE;
}
