#include "worker/text/jinja_lex.h"

#include "common/base/check.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BRACKETS_MAX = 100 };

struct lexer {
    struct jlexed *out;
    const char *s;
    size_t n, at;
    int line;
    bool line_starting; // what stands before `at` ends a line, or nothing does
    char brackets[BRACKETS_MAX];
    int n_brackets;
    struct error *e;
};

void jlexed_free(struct jlexed *l) {
    free(l->tokens);
    buf_free(&l->source);
    buf_free(&l->strings);
    *l = (struct jlexed){0};
}

static err_id fail(struct lexer *x, const char *what) {
    return error_set(x->e, ERR_MODEL_FILES, "line %d: %s", x->line, what);
}

static struct jtoken *add(struct lexer *x, enum jtoken_kind kind, const char *text, size_t len) {
    struct jlexed *o = x->out;
    if (o->n == o->cap) {
        o->cap = o->cap ? o->cap * 2 : 256;
        o->tokens = xrealloc(o->tokens, o->cap * sizeof *o->tokens);
    }
    o->tokens[o->n] = (struct jtoken){.kind = kind, .line = x->line, .text = text, .len = (uint32_t)len};
    return &o->tokens[o->n++];
}

static bool starts(const struct lexer *x, size_t at, const char *what) {
    size_t n = strlen(what);
    return at + n <= x->n && memcmp(x->s + at, what, n) == 0;
}

// Moves behind n bytes and counts their lines.
static void advance(struct lexer *x, size_t to) {
    for (; x->at < to; x->at++) x->line += x->s[x->at] == '\n';
    if (to > 0) x->line_starting = x->s[to - 1] == '\n';
}

// White space in Python's sense: str.isspace.
static size_t space_len(const char *s, size_t n) {
    uint32_t cp;
    size_t len = utf8_next(s, n, &cp);
    return unicode_is_space(cp) || (cp >= 0x1C && cp <= 0x1F) ? len : 0;
}

static size_t skip_space(const struct lexer *x, size_t at) {
    while (at < x->n) {
        size_t len = space_len(x->s + at, x->n - at);
        if (len == 0) break;
        at += len;
    }
    return at;
}

static size_t strip_end(const char *s, size_t n) {
    while (n > 0) {
        size_t last = utf8_prev(s, n);
        if (space_len(s + last, n - last) == 0) break;
        n = last;
    }
    return n;
}

// ---- text outside tags ----

// The text before a tag: `sign` is what follows the tag's opening; lstrip_blocks doesn't touch {{.
static void add_data(struct lexer *x, size_t from, size_t to, char sign, bool print) {
    const char *text = x->s + from;
    size_t n = to - from;
    if (sign == '-') {
        n = strip_end(text, n);
    } else if (sign != '+' && !print) {
        const char *newline = memrchr(text, '\n', n);
        size_t line = newline ? (size_t)(newline - text) + 1 : 0;
        if ((line > 0 || x->line_starting) && strip_end(text + line, n - line) == 0) n = line;
    }
    if (n > 0) add(x, TOK_DATA, text, n);
}

// The end of a tag: "-%}" takes the white space behind it, "%}" (not "+%}") a newline. 0: it is not there.
static size_t tag_end(const struct lexer *x, size_t at, const char *close, bool trim) {
    bool minus = starts(x, at, "-"), plus = trim && starts(x, at, "+");
    if (!starts(x, at + (minus || plus), close)) return 0;
    size_t end = at + (minus || plus) + 2;
    if (minus) return skip_space(x, end);
    return trim && !plus && end < x->n && x->s[end] == '\n' ? end + 1 : end;
}

static err_id comment(struct lexer *x) {
    for (size_t i = x->at; i + 2 <= x->n; i++) {
        size_t end = tag_end(x, i, "#}", true);
        if (end == 0) continue;
        advance(x, end);
        return ERR_NONE;
    }
    return fail(x, "a comment {# is not closed");
}

// "{%- raw -%}" at x->at (behind the opening): its end, or 0.
static size_t raw_begin(const struct lexer *x, size_t at) {
    at = skip_space(x, at);
    if (!starts(x, at, "raw")) return 0;
    at = skip_space(x, at + 3);
    if (starts(x, at, "-%}")) return skip_space(x, at + 3);
    return starts(x, at, "%}") ? at + 2 : 0;
}

static err_id raw(struct lexer *x, size_t begin) {
    advance(x, begin);
    for (size_t i = begin; i + 2 <= x->n; i++) {
        if (!starts(x, i, "{%")) continue;
        char sign = i + 2 < x->n && (x->s[i + 2] == '-' || x->s[i + 2] == '+') ? x->s[i + 2] : 0;
        size_t at = skip_space(x, i + 2 + (sign != 0));
        if (!starts(x, at, "endraw")) continue;
        size_t end = tag_end(x, skip_space(x, at + 6), "%}", true);
        if (end == 0) continue;
        add_data(x, begin, i, sign, false);
        advance(x, end);
        return ERR_NONE;
    }
    return fail(x, "a {% raw %} is not closed");
}

// ---- inside tags ----

static bool is_name_char(const char *s, size_t n, bool first, size_t *len) {
    uint32_t cp;
    *len = utf8_next(s, n, &cp);
    if (first && cp >= '0' && cp <= '9') return false;
    return unicode_is_word(cp);
}

static int digit_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
}

// Digits of a base with single underscores between them; appends them to *digits. Returns where they end.
static size_t digits(const struct lexer *x, size_t at, int base, struct buf *out) {
    size_t start = at;
    while (at < x->n) {
        bool underscore = at > start && x->s[at] == '_' && at + 1 < x->n && digit_value(x->s[at + 1]) < base;
        if (underscore) at++;
        if (digit_value(x->s[at]) >= base) break;
        buf_char(out, x->s[at++]);
    }
    return at;
}

static err_id prefixed_integer(struct lexer *x, int base) {
    struct buf text = {0};
    size_t at = x->at + 2;
    if (at < x->n && x->s[at] == '_') at++;
    size_t end = digits(x, at, base, &text);
    errno = 0;
    int64_t value = text.len > 0 ? strtoll(text.data, NULL, base) : 0;
    bool bad = text.len == 0 || errno != 0;
    buf_free(&text);
    if (bad) return fail(x, "a number can't be read, or is over 64 bits");
    add(x, TOK_INT, x->s + x->at, end - x->at)->i = value;
    advance(x, end);
    return ERR_NONE;
}

// "1", "1.5", "1e3", "1.5e-3". Behind a dot ("a.0.1") only integers are meant.
static err_id number(struct lexer *x) {
    char second = x->at + 1 < x->n ? (char)(x->s[x->at + 1] | 0x20) : 0;
    if (x->s[x->at] == '0' && (second == 'x' || second == 'o' || second == 'b'))
        return prefixed_integer(x, second == 'x' ? 16 : second == 'o' ? 8 : 2);
    struct buf text = {0};
    bool is_float = false, after_dot = x->at > 0 && x->s[x->at - 1] == '.';
    size_t at = digits(x, x->at, 10, &text);
    if (!after_dot && at + 1 < x->n && x->s[at] == '.' && digit_value(x->s[at + 1]) < 10) {
        is_float = true;
        buf_char(&text, '.');
        at = digits(x, at + 1, 10, &text);
    }
    if (!after_dot && at < x->n && (x->s[at] | 0x20) == 'e') {
        size_t exponent = at + 1 + (at + 1 < x->n && (x->s[at + 1] == '+' || x->s[at + 1] == '-'));
        if (exponent < x->n && digit_value(x->s[exponent]) < 10) {
            is_float = true;
            buf_append(&text, x->s + at, exponent - at);
            at = digits(x, exponent, 10, &text);
        }
    }
    errno = 0;
    struct jtoken *t = add(x, is_float ? TOK_FLOAT : TOK_INT, x->s + x->at, at - x->at);
    if (is_float) {
        t->f = strtod(text.data, NULL);
    } else {
        t->i = strtoll(text.data, NULL, 10);
        if (errno != 0) {
            buf_free(&text);
            return fail(x, "a number is over 64 bits");
        }
    }
    buf_free(&text);
    advance(x, at);
    return ERR_NONE;
}

static size_t hex_escape(const char *s, size_t n, size_t want, uint32_t *cp) {
    *cp = 0;
    if (n < want) return 0;
    for (size_t i = 0; i < want; i++) {
        if (digit_value(s[i]) >= 16) return 0;
        *cp = *cp << 4 | (uint32_t)digit_value(s[i]);
    }
    return *cp <= 0x10FFFF && (*cp < 0xD800 || *cp > 0xDFFF) ? want : 0;
}

// One escape of a string literal, as Python's unicode-escape: s stands behind the backslash. Returns its length, 0: not
// valid.
static size_t escape(const char *s, size_t n, struct buf *out) {
    static const char letters[] = "abfnrtv\\'\"", values[] = "\a\b\f\n\r\t\v\\'\"";
    uint32_t cp = 0;
    size_t len;
    const char *known = s[0] ? strchr(letters, s[0]) : NULL;
    if (known != NULL) {
        buf_char(out, values[known - letters]);
        return 1;
    }
    if (s[0] == '\n') return 1;
    if (s[0] >= '0' && s[0] <= '7') {
        for (len = 0; len < 3 && len < n && s[len] >= '0' && s[len] <= '7'; len++) cp = cp * 8 + (uint32_t)(s[len] - '0');
        utf8_append(out, cp);
        return len;
    }
    if (s[0] == 'x' || s[0] == 'u' || s[0] == 'U') {
        len = hex_escape(s + 1, n - 1, s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : 8, &cp);
        if (len == 0) return 0;
        utf8_append(out, cp);
        return len + 1;
    }
    if (s[0] == 'N') return 0;
    buf_char(out, '\\'); // an unknown escape stands for itself
    len = utf8_next(s, n, &cp);
    buf_append(out, s, len);
    return len;
}

static err_id string(struct lexer *x) {
    char quote = x->s[x->at];
    struct buf *out = &x->out->strings;
    size_t start = out->len, i = x->at + 1;
    for (; i < x->n && x->s[i] != quote; i++) {
        if (x->s[i] != '\\') {
            buf_char(out, x->s[i]);
            continue;
        }
        size_t len = i + 1 < x->n ? escape(x->s + i + 1, x->n - i - 1, out) : 0;
        if (len == 0) return fail(x, "a string has an escape that can't be read");
        i += len;
    }
    if (i >= x->n) return fail(x, "a string is not closed");
    // The offset for now: the buffer may still move.
    add(x, TOK_STRING, NULL, out->len - start)->i = (int64_t)start;
    advance(x, i + 1);
    return ERR_NONE;
}

static err_id bracket(struct lexer *x, char c) {
    static const char open[] = "([{", close[] = ")]}";
    const char *o = strchr(open, c), *k = strchr(close, c);
    if (o != NULL) {
        if (x->n_brackets == BRACKETS_MAX) return fail(x, "brackets are nested too deep");
        x->brackets[x->n_brackets++] = close[o - open];
    } else if (k != NULL && (x->n_brackets == 0 || x->brackets[--x->n_brackets] != c)) {
        return fail(x, "a bracket does not match");
    }
    return ERR_NONE;
}

static err_id operator(struct lexer *x) {
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                            "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (!starts(x, x->at, operators[i])) continue;
        TRY(bracket(x, operators[i][0]));
        add(x, TOK_OPERATOR, x->s + x->at, strlen(operators[i]));
        advance(x, x->at + strlen(operators[i]));
        return ERR_NONE;
    }
    return fail(x, "a character is not part of the language");
}

static err_id inner_token(struct lexer *x) {
    char c = x->s[x->at];
    size_t len;
    if (c >= '0' && c <= '9') return number(x);
    if (c == '\'' || c == '"') return string(x);
    if (!is_name_char(x->s + x->at, x->n - x->at, true, &len)) return operator(x);
    size_t end = x->at;
    while (end < x->n && is_name_char(x->s + end, x->n - end, false, &len)) end += len;
    add(x, TOK_NAME, x->s + x->at, end - x->at);
    advance(x, end);
    return ERR_NONE;
}

static err_id tag(struct lexer *x, bool print) {
    add(x, print ? TOK_PRINT : TOK_BLOCK, x->s + x->at, 2);
    char sign = x->at + 2 < x->n ? x->s[x->at + 2] : 0;
    advance(x, x->at + 2 + (sign == '-' || sign == '+'));
    x->n_brackets = 0;
    while (x->at < x->n) {
        size_t space = skip_space(x, x->at);
        if (space > x->at) {
            advance(x, space);
            continue;
        }
        size_t end = x->n_brackets == 0 ? tag_end(x, x->at, print ? "}}" : "%}", !print) : 0;
        if (end > 0) {
            add(x, print ? TOK_PRINT_END : TOK_BLOCK_END, x->s + x->at, 0);
            advance(x, end);
            return ERR_NONE;
        }
        TRY(inner_token(x));
    }
    return fail(x, print ? "a {{ is not closed" : "a {% is not closed");
}

// From the start of a text to the end of the tag behind it.
static err_id text_and_tag(struct lexer *x) {
    size_t i = x->at;
    while (i < x->n && !(x->s[i] == '{' && i + 1 < x->n && strchr("{%#", x->s[i + 1]) != NULL && x->s[i + 1] != 0)) i++;
    if (i == x->n) {
        if (i > x->at) add(x, TOK_DATA, x->s + x->at, i - x->at);
        advance(x, i);
        return ERR_NONE;
    }
    char kind = x->s[i + 1], sign = i + 2 < x->n ? x->s[i + 2] : 0;
    size_t begin = kind == '%' ? raw_begin(x, i + 2 + (sign == '-' || sign == '+')) : 0;
    add_data(x, x->at, i, sign, kind == '{');
    advance(x, i);
    if (begin > 0) return raw(x, begin);
    if (kind == '#') {
        advance(x, i + 2);
        return comment(x);
    }
    return tag(x, kind == '{');
}

// \r\n and \r become \n; one newline at the very end goes.
static void normalise(const char *source, size_t len, struct buf *out) {
    buf_reserve(out, len);
    for (size_t i = 0; i < len; i++) {
        char c = source[i];
        if (c == '\r') {
            c = '\n';
            if (i + 1 < len && source[i + 1] == '\n') i++;
        }
        buf_char(out, c);
    }
    if (out->len > 0 && out->data[out->len - 1] == '\n') out->len--;
    out->data[out->len] = '\0';
}

err_id jinja_lex(const char *source, size_t len, struct jlexed *out, struct error *e) {
    *out = (struct jlexed){0};
    normalise(source, len, &out->source);
    struct lexer x = {.out = out, .s = out->source.data, .n = out->source.len, .line = 1, .line_starting = true, .e = e};
    while (x.at < x.n) TRY(text_and_tag(&x));
    add(&x, TOK_END, "", 0);
    for (uint32_t i = 0; i < out->n; i++) {
        if (out->tokens[i].kind == TOK_STRING)
            out->tokens[i].text = out->strings.data ? out->strings.data + out->tokens[i].i : "";
    }
    return ERR_NONE;
}
