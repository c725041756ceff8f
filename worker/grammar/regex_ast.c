// A parser by recursive descent; what it can't express as a tree is refused by name.
#include "worker/grammar/regex_ast.h"
#include "common/base/check.h"
#include "worker/grammar/utf8_ranges.h"
#include <stdlib.h>
#include <string.h>

struct parser {
    const char *s;
    size_t len, at;
    uint32_t depth;
    struct error *e;
    bool failed;
};

static struct ast *make(enum ast_kind kind, struct ast *left, struct ast *right) {
    struct ast *a = xcalloc(1, sizeof *a);
    *a = (struct ast){.kind = kind, .left = left, .right = right};
    return a;
}

void ast_free(struct ast *a) {
    while (a != NULL) { // runs of text lean to the left
        struct ast *left = a->left;
        ast_free(a->right);
        free(a->ranges);
        free(a);
        a = left;
    }
}

static void fail(struct parser *p, const char *what) {
    if (!p->failed) error_set(p->e, ERR_INVALID_ARGUMENT, "the regular expression %s (at byte %zu of it)", what, p->at);
    p->failed = true;
}

static bool more(const struct parser *p) { return p->at < p->len && !p->failed; }
static char peek(const struct parser *p) { return p->at < p->len ? p->s[p->at] : '\0'; }
static bool take(struct parser *p, char c) {
    if (!more(p) || p->s[p->at] != c) return false;
    p->at++;
    return true;
}
static bool ahead(const struct parser *p, const char *word) {
    size_t n = strlen(word);
    return p->len - p->at >= n && memcmp(p->s + p->at, word, n) == 0;
}

// ---- sets ----

static void add_range(struct ast *set, uint32_t lo, uint32_t hi) {
    set->ranges = xrealloc(set->ranges, (set->n_ranges + 1) * sizeof *set->ranges);
    set->ranges[set->n_ranges++] = (struct code_range){lo, hi};
}

static int by_lo(const void *a, const void *b) {
    const struct code_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static void tidy_set(struct ast *set) {
    if (set->n_ranges == 0) return;
    qsort(set->ranges, set->n_ranges, sizeof *set->ranges, by_lo);
    uint32_t n = 0;
    for (uint32_t i = 1; i < set->n_ranges; i++) {
        struct code_range *last = &set->ranges[n], *r = &set->ranges[i];
        if (r->lo <= last->hi + 1) {
            last->hi = r->hi > last->hi ? r->hi : last->hi;
        } else {
            set->ranges[++n] = *r;
        }
    }
    set->n_ranges = n + 1;
}

static void negate_set(struct ast *set) {
    tidy_set(set);
    struct code_range *old = set->ranges;
    uint32_t n = set->n_ranges, next = 0;
    set->ranges = NULL;
    set->n_ranges = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (old[i].lo > next) add_range(set, next, old[i].lo - 1);
        next = old[i].hi + 1;
    }
    if (next <= CODE_POINT_MAX) add_range(set, next, CODE_POINT_MAX);
    free(old);
}

static void add_class(struct ast *set, char name) {
    static const struct code_range DIGIT[] = {{'0', '9'}}, WORD[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                                   SPACE[] = {{9, 13},          {32, 32},         {0xA0, 0xA0},     {0x1680, 0x1680},
                                              {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                                              {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    char kind = name | 0x20;
    const struct code_range *r = kind == 'd' ? DIGIT : kind == 'w' ? WORD : SPACE;
    size_t n = kind == 'd' ? ARRAY_LEN(DIGIT) : kind == 'w' ? ARRAY_LEN(WORD) : ARRAY_LEN(SPACE);
    struct ast part = {.kind = AST_SET};
    for (size_t i = 0; i < n; i++) add_range(&part, r[i].lo, r[i].hi);
    if (name != kind) negate_set(&part);
    for (uint32_t i = 0; i < part.n_ranges; i++) add_range(set, part.ranges[i].lo, part.ranges[i].hi);
    free(part.ranges);
}

static uint32_t read_char(struct parser *p) {
    uint32_t cp = 0, n = utf8_read(p->s + p->at, p->len - p->at, &cp);
    if (n == 0) fail(p, "isn't valid UTF-8");
    p->at += n;
    return cp;
}

static uint32_t read_hex(struct parser *p, uint32_t digits) {
    uint32_t value = 0;
    for (uint32_t i = 0; i < digits; i++, p->at++) {
        char c = peek(p), low = c | 0x20;
        if (!(c >= '0' && c <= '9') && !(low >= 'a' && low <= 'f')) return fail(p, "has a bad hexadecimal escape"), 0;
        value = value * 16 + (uint32_t)(c <= '9' ? c - '0' : low - 'a' + 10);
    }
    return value;
}

static uint32_t read_unicode_escape(struct parser *p) {
    if (take(p, '{')) {
        uint32_t value = 0;
        while (more(p) && peek(p) != '}' && value <= CODE_POINT_MAX) value = value * 16 + read_hex(p, 1);
        if (!take(p, '}') || value > CODE_POINT_MAX) fail(p, "has a bad \\u{…} escape");
        return value;
    }
    uint32_t high = read_hex(p, 4);
    if (high < 0xD800 || high > 0xDBFF || !ahead(p, "\\u")) return high;
    p->at += 2;
    uint32_t low = read_hex(p, 4);
    if (low < 0xDC00 || low > 0xDFFF) return fail(p, "has half a surrogate pair"), 0;
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

// Behind a backslash. A class (\d) goes into *set and true is returned; else *cp is the character.
static bool read_escape(struct parser *p, struct ast *set, bool in_set, uint32_t *cp) {
    static const char FROM[] = "tnrfv0", TO[] = "\t\n\r\f\v\0";
    char c = peek(p);
    if (p->at >= p->len) return fail(p, "ends with a backslash"), false;
    if (c != '\0' && strchr("dDwWsS", c)) {
        p->at++;
        add_class(set, c);
        return true;
    }
    const char *simple = c != '\0' ? strchr(FROM, c) : NULL;
    if (simple != NULL) return p->at++, *cp = (uint8_t)TO[simple - FROM], false;
    if (c == 'b' && in_set) return p->at++, *cp = 8, false;
    if (c == 'b' || c == 'B') return fail(p, "uses \\b, which isn't supported"), false;
    if (c == 'p' || c == 'P') return fail(p, "uses \\p, which isn't supported"), false;
    if (c == 'k' || (c >= '1' && c <= '9')) return fail(p, "uses a back reference, which isn't supported"), false;
    if (c == 'x') return p->at++, *cp = read_hex(p, 2), false;
    if (c == 'u') return p->at++, *cp = read_unicode_escape(p), false;
    if (c == 'c' && p->at + 1 < p->len) return p->at += 2, *cp = p->s[p->at - 1] & 0x1F, false;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return fail(p, "has an unknown escape"), false;
    *cp = read_char(p);
    return false;
}

// One member of [...]: true if it is a single character.
static bool read_member(struct parser *p, struct ast *set, uint32_t *cp) {
    if (!take(p, '\\')) return *cp = read_char(p), true;
    return !read_escape(p, set, true, cp) && !p->failed;
}

static struct ast *parse_set(struct parser *p) {
    struct ast *set = make(AST_SET, NULL, NULL);
    bool negated = take(p, '^');
    while (more(p) && peek(p) != ']') {
        uint32_t lo, hi;
        if (!read_member(p, set, &lo)) continue;
        if (peek(p) == '-' && p->at + 1 < p->len && p->s[p->at + 1] != ']') {
            p->at++;
            if (read_member(p, set, &hi)) {
                if (hi < lo) fail(p, "has a range that ends before it begins");
                if (!p->failed) add_range(set, lo, hi);
                continue;
            }
            add_range(set, '-', '-');
        }
        add_range(set, lo, lo);
    }
    if (!take(p, ']')) fail(p, "has a [ without its ]");
    if (negated) negate_set(set);
    tidy_set(set);
    return set;
}

// ---- expressions ----

static struct ast *parse_alternatives(struct parser *p);

static struct ast *parse_group(struct parser *p) {
    if (ahead(p, "?=") || ahead(p, "?!") || ahead(p, "?<=") || ahead(p, "?<!"))
        fail(p, "uses look-around, which isn't supported");
    if (ahead(p, "?:")) {
        p->at += 2;
    } else if (ahead(p, "?<") || ahead(p, "?P<")) {
        while (more(p) && peek(p) != '>') p->at++;
        p->at += more(p);
    } else if (peek(p) == '?') {
        fail(p, "has an unknown kind of group");
    }
    if (++p->depth > REGEX_DEPTH_MAX) fail(p, "is nested too deeply");
    struct ast *inner = parse_alternatives(p);
    p->depth--;
    if (!take(p, ')')) fail(p, "has a ( without its )");
    return inner;
}

static struct ast *parse_atom(struct parser *p) {
    if (take(p, '(')) return parse_group(p);
    if (take(p, '[')) return parse_set(p);
    if (take(p, '^')) return make(AST_BEGIN, NULL, NULL);
    if (take(p, '$')) return make(AST_END, NULL, NULL);
    struct ast *set = make(AST_SET, NULL, NULL);
    uint32_t cp = 0;
    if (take(p, '.')) {
        add_range(set, '\n', '\n'), add_range(set, '\r', '\r'), add_range(set, 0x2028, 0x2029);
        negate_set(set);
    } else if (take(p, '\\')) {
        if (!read_escape(p, set, false, &cp)) add_range(set, cp, cp);
    } else if (strchr("*+?)", peek(p)) && peek(p) != '\0') {
        fail(p, "repeats nothing");
    } else {
        cp = read_char(p);
        add_range(set, cp, cp);
    }
    tidy_set(set);
    return set;
}

static bool read_number(struct parser *p, uint32_t *out) {
    size_t from = p->at;
    for (*out = 0; peek(p) >= '0' && peek(p) <= '9' && more(p); p->at++)
        if (*out <= REGEX_COUNT_MAX) *out = *out * 10 + (uint32_t)(peek(p) - '0');
    return p->at > from;
}

// {m}, {m,} or {m,n}; anything else is text.
static bool read_counts(struct parser *p, uint32_t *min, uint32_t *max) {
    size_t from = p->at;
    bool ok = take(p, '{') && read_number(p, min);
    *max = *min;
    if (ok && take(p, ',') && !read_number(p, max)) *max = AST_UNBOUNDED;
    ok = ok && take(p, '}');
    if (!ok) p->at = from;
    if (ok && (*min > REGEX_COUNT_MAX || (*max > REGEX_COUNT_MAX && *max != AST_UNBOUNDED)))
        fail(p, "repeats more than 10000 times");
    if (ok && *max < *min) fail(p, "has a repetition with its numbers out of order");
    return ok;
}

static struct ast *parse_repeats(struct parser *p) {
    struct ast *a = parse_atom(p);
    for (uint32_t times = 0; more(p); times++) {
        uint32_t min = 0, max = AST_UNBOUNDED;
        if (take(p, '+')) {
            min = 1;
        } else if (take(p, '?')) {
            max = 1;
        } else if (!take(p, '*') && !read_counts(p, &min, &max)) {
            break;
        }
        if (times > 0) fail(p, "repeats a repetition");
        take(p, '?'); // lazy or not, the same texts match
        a = make(AST_REPEAT, a, NULL);
        a->min = min;
        a->max = max;
    }
    return a;
}

static struct ast *parse_sequence(struct parser *p) {
    struct ast *a = make(AST_EMPTY, NULL, NULL);
    while (more(p) && peek(p) != '|' && peek(p) != ')') a = make(AST_CONCAT, a, parse_repeats(p));
    return a;
}

static struct ast *parse_alternatives(struct parser *p) {
    struct ast *a = parse_sequence(p);
    while (take(p, '|')) a = make(AST_ALTERNATE, a, parse_sequence(p));
    return a;
}

err_id regex_parse(const char *pattern, size_t len, struct ast **out, struct error *e) {
    struct parser p = {.s = pattern, .len = len, .e = e};
    *out = NULL;
    if (len > REGEX_BYTES_MAX) return error_set(e, ERR_INVALID_ARGUMENT, "the regular expression is longer than 64 KB");
    struct ast *a = parse_alternatives(&p);
    if (!p.failed && p.at < len) fail(&p, "has a ) without its (");
    if (p.failed) {
        ast_free(a);
        return ERR_INVALID_ARGUMENT;
    }
    *out = a;
    return ERR_NONE;
}
