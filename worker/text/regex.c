// Design notes. Each expression is compiled twice: as PCRE2's own Unicode tables have it, and lazily-needed code points
// added (onig.h). The second is only for texts that hold a code point newer than those tables, which is rare, so that the
// ranges cost nothing elsewhere. JIT runs on the machine's stack; what needs more falls back to the interpreter with a match
// limit.
#include "worker/text/regex.h"

#include "common/base/buf.h"
#include "common/base/check.h"
#include "worker/text/onig.h"
#include "worker/text/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

enum { MATCH_LIMIT = 200000000, HEAP_LIMIT_KIB = 64 << 10 };

struct regex {
    pcre2_code *old, *with_new;
    bool jit;
};

struct regex_scratch {
    pcre2_match_data *data;
    pcre2_match_context *limits;
};

static err_id compile(const char *pattern, size_t len, bool literal, pcre2_code **out, struct error *e) {
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE);
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL) return error_set(e, ERR_SYSTEM, "out of memory for a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE at;
    *out = pcre2_compile((PCRE2_SPTR)pattern, len, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (*out != NULL) return ERR_NONE;
    char text[160];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    return error_set(e, ERR_MODEL_FILES, "regular expression can't be used: %s", text);
}

err_id regex_create(const char *pattern, size_t len, bool literal, struct regex **out, struct error *e) {
    struct regex *r = xcalloc(1, sizeof *r);
    struct buf translated = {0};
    err_id id = ERR_NONE;
    for (int with_new = 0; with_new < 2 && id == ERR_NONE; with_new++) {
        pcre2_code **code = with_new ? &r->with_new : &r->old;
        if (literal) {
            id = compile(pattern, len, true, code, e);
            continue;
        }
        buf_reset(&translated);
        id = onig_translate(pattern, len, with_new, &translated, e);
        if (id == ERR_NONE) id = compile(translated.data, translated.len, false, code, e);
    }
    buf_free(&translated);
    if (id != ERR_NONE) {
        regex_destroy(r);
        return id;
    }
    r->jit = pcre2_jit_compile(r->old, PCRE2_JIT_COMPLETE) == 0 && pcre2_jit_compile(r->with_new, PCRE2_JIT_COMPLETE) == 0;
    *out = r;
    return ERR_NONE;
}

void regex_destroy(struct regex *r) {
    if (r == NULL) return;
    pcre2_code_free(r->old);
    pcre2_code_free(r->with_new);
    free(r);
}

struct regex_scratch *regex_scratch_create(void) {
    struct regex_scratch *s = xcalloc(1, sizeof *s);
    s->data = pcre2_match_data_create(1, NULL);
    s->limits = pcre2_match_context_create(NULL);
    CHECK(s->data != NULL && s->limits != NULL);
    pcre2_set_match_limit(s->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(s->limits, HEAP_LIMIT_KIB);
    return s;
}

void regex_scratch_destroy(struct regex_scratch *s) {
    if (s == NULL) return;
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->limits);
    free(s);
}

// The match at or behind `at`; PCRE2's return code.
static int match_once(const struct regex *r, struct regex_scratch *s, const struct regex_search *search) {
    const pcre2_code *code = search->has_new ? r->with_new : r->old;
    PCRE2_SPTR text = (PCRE2_SPTR)search->text;
    if (r->jit) {
        int n = pcre2_jit_match(code, text, search->len, search->at, 0, s->data, s->limits);
        if (n != PCRE2_ERROR_JIT_STACKLIMIT) return n;
    }
    return pcre2_match(code, text, search->len, search->at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->data, s->limits);
}

err_id regex_next(const struct regex *r, struct regex_scratch *scratch, struct regex_search *search, bool *found,
                  struct error *e) {
    *found = false;
    while (search->at <= search->len) {
        int n = match_once(r, scratch, search);
        if (n == PCRE2_ERROR_NOMATCH) return ERR_NONE;
        if (n < 0)
            return error_set(e, ERR_INVALID_ARGUMENT, "the text needs too many steps of the tokenizer's regular expression");
        const PCRE2_SIZE *o = pcre2_get_ovector_pointer(scratch->data);
        // \K or a look-behind trick could move the start behind the end; such a match is empty at its end.
        size_t end = o[1], start = o[0] <= end ? o[0] : end;
        if (start == end && search->matched && search->last_end == end) {
            if (end >= search->len) return ERR_NONE;
            uint32_t cp;
            search->at = end + utf8_next(search->text + end, search->len - end, &cp);
            continue;
        }
        search->start = start, search->end = end;
        search->at = search->last_end = end;
        search->matched = true;
        *found = true;
        return ERR_NONE;
    }
    return ERR_NONE;
}
