// Design notes. One pass over the pattern. Outside brackets nearly everything is the same in both; a bracket expression is
// taken apart into a body of items that PCRE2 can hold in one class, and alternatives that it can't (negated categories with
// additions, nested negated classes). Intersections become look-aheads: [A&&B] = (?:(?=A)B).
#include "worker/text/onig.h"

#include "common/base/check.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { CLASS_DEPTH_MAX = 20 };

struct translator {
    const char *p, *end;
    bool with_new;
    int depth;
    struct error *e;
};

// What one class escape or one bracket expression matches.
struct set {
    struct buf items;  // what may stand between [ and ]
    struct buf others; // "|expr" for each alternative that may not
    bool negated;      // of a whole bracket expression
};

static void set_free(struct set *s) {
    buf_free(&s->items);
    buf_free(&s->others);
}

static err_id refuse(struct translator *t, const char *what) {
    return error_set(t->e, ERR_MODEL_FILES, "regular expression can't be used: %s is not supported", what);
}

static void append_code_point(struct buf *out, uint32_t cp) {
    bool plain = (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z');
    if (plain) {
        buf_char(out, (char)cp);
    } else {
        buf_printf(out, "\\x{%X}", cp);
    }
}

// ---- categories ----

static bool range_in(const struct unicode_range *r, const char *name) {
    if (strcmp(name, "Han") == 0) return r->han;
    if (strcmp(name, "L&") == 0) return r->category[0] == 'L' && strchr("ult", r->category[1]) != NULL;
    return r->category[0] == name[0] && (name[1] == '\0' || r->category[1] == name[1]);
}

// Categories have one or two letters; "Cn" and "C" lose what has been assigned since, which is not worth the words.
static void append_new(struct buf *out, const char *name) {
    for (size_t i = 0; i < unicode_n_new; i++) {
        const struct unicode_range *r = &unicode_new[i];
        if (range_in(r, name)) buf_printf(out, "\\x{%X}-\\x{%X}", r->low, r->high);
    }
}

static void append_category(const struct translator *t, struct buf *out, const char *name) {
    bool script = strlen(name) > 2;
    buf_printf(out, script ? "\\p{sc:%s}" : "\\p{%s}", name);
    if (t->with_new && name[0] != 'C' && (!script || strcmp(name, "Han") == 0)) append_new(out, name);
}

// Adds the class with these items, or what is outside it.
static void set_add(struct set *s, const char *items, bool negated) {
    if (negated) {
        buf_printf(&s->others, "|[^%s]", items);
    } else {
        buf_str(&s->items, items);
    }
}

static const struct {
    const char *name;  // POSIX names, which Oniguruma also takes between \p{ and }
    const char *class; // PCRE2's
} posix[] = {
    {"alnum", "[:alnum:]"},  {"alpha", "[:alpha:]"},  {"ascii", "\\x{0}-\\x{7F}"},
    {"blank", "\\p{Zs}\\t"}, {"cntrl", "\\p{Cc}"},    {"digit", "\\p{Nd}"},
    {"graph", "[:graph:]"},  {"lower", "\\p{Ll}"},    {"print", "[:print:]"},
    {"punct", "[:punct:]"},  {"space", "\\s"},        {"upper", "\\p{Lu}"},
    {"word", "\\w"},         {"xdigit", "0-9A-Fa-f"},
};

// \p{Name}, \P{Name}, \p{^Name}; t->p stands behind the p.
static err_id property(struct translator *t, bool negated, struct set *out) {
    char name[40];
    size_t n = 0;
    if (t->p < t->end && *t->p != '{') {
        name[n++] = *t->p++;
    } else {
        if (t->p < t->end) t->p++;
        if (t->p < t->end && *t->p == '^') negated = !negated, t->p++;
        while (t->p < t->end && *t->p != '}') {
            if (n + 1 >= sizeof name) return refuse(t, "a property with so long a name");
            name[n++] = *t->p++;
        }
        if (t->p == t->end) return refuse(t, "a property without }");
        t->p++;
    }
    name[n] = '\0';
    if (n == 0 || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz&_") != n)
        return refuse(t, "a property of this name");
    for (size_t i = 0; i < ARRAY_LEN(posix); i++) {
        if (strcasecmp(name, posix[i].name) == 0) {
            set_add(out, posix[i].class, negated);
            return ERR_NONE;
        }
    }
    struct buf items = {0};
    append_category(t, &items, name);
    set_add(out, items.data, negated);
    buf_free(&items);
    return ERR_NONE;
}

// \s \S \d \D \w \W \h \H: White_Space without PCRE2's U+180E; \w as UTS 18 has it; \h is a hexadecimal digit.
// Outside brackets Oniguruma takes Latin-1's superscript digits and fractions for parts of words, inside it doesn't.
static void shorthand(const struct translator *t, char letter, bool in_class, struct set *out) {
    bool negated = letter < 'a';
    struct buf items = {0};
    switch (letter | 0x20) {
    case 's':
        buf_str(&items, "\\p{Z}\\t-\\r\\x{85}");
        break;
    case 'h':
        buf_str(&items, "0-9A-Fa-f");
        break;
    case 'd':
        append_category(t, &items, "Nd");
        break;
    default:
        append_category(t, &items, "L");
        append_category(t, &items, "M");
        append_category(t, &items, "Nd");
        append_category(t, &items, "Nl");
        append_category(t, &items, "Pc");
        buf_str(&items, "\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}");
        if (!in_class) buf_str(&items, "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}");
    }
    set_add(out, items.data, negated);
    buf_free(&items);
}

// ---- escapes ----

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') return (c | 0x20) - 'a' + 10;
    return -1;
}

// \xHH, \x{H...}, \uHHHH; t->p stands behind the letter.
static err_id hex_escape(struct translator *t, char letter, uint32_t *cp) {
    bool braces = letter == 'x' && t->p < t->end && *t->p == '{';
    if (braces) t->p++;
    int most = braces ? 8 : letter == 'u' ? 4 : 2, n = 0;
    *cp = 0;
    while (n < most && t->p < t->end && hex_value(*t->p) >= 0) *cp = *cp << 4 | (uint32_t)hex_value(*t->p++), n++;
    if (braces && (t->p == t->end || *t->p++ != '}')) return refuse(t, "\\x{ without }");
    if (n == 0 || (letter == 'u' && n != 4) || *cp > 0x10FFFF || (*cp >= 0xD800 && *cp < 0xE000))
        return refuse(t, "this hexadecimal escape");
    return ERR_NONE;
}

// An escape that stands for one character. t->p stands on what follows the backslash. *is_char = false: it is something
// else.
static err_id char_escape(struct translator *t, bool in_class, uint32_t *cp, bool *is_char) {
    static const char letters[] = "tnrfvae", values[] = "\t\n\r\f\v\a\x1B";
    *is_char = true;
    char c = *t->p;
    if (c == 'x' || c == 'u') {
        t->p++;
        return hex_escape(t, c, cp);
    }
    const char *known = strchr(letters, c);
    if (c != '\0' && known != NULL) {
        *cp = (uint32_t)values[known - letters];
        t->p++;
        return ERR_NONE;
    }
    if (in_class && c == 'b') {
        *cp = '\b';
        t->p++;
        return ERR_NONE;
    }
    bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    if (alnum) {
        *is_char = false;
        return ERR_NONE;
    }
    t->p += utf8_next(t->p, (size_t)(t->end - t->p), cp);
    return ERR_NONE;
}

// ---- bracket expressions ----

static void set_expression(const struct set *s, struct buf *out) {
    bool simple = s->others.len == 0 && s->items.len > 0;
    if (simple) {
        buf_printf(out, s->negated ? "[^%s]" : "[%s]", s->items.data);
        return;
    }
    buf_str(out, s->negated ? "(?:(?!" : "(?:");
    if (s->items.len > 0) {
        buf_printf(out, "[%s]%s", s->items.data, s->others.data ? s->others.data : "");
    } else {
        buf_str(out, s->others.len > 0 ? s->others.data + 1 : "(?!)");
    }
    buf_str(out, s->negated ? ")(?s:.))" : ")");
}

static err_id bracket(struct translator *t, struct set *out);

// A '[' inside brackets: a POSIX name or a nested class.
static err_id nested(struct translator *t, struct set *out) {
    for (size_t i = 0; i < ARRAY_LEN(posix); i++) {
        size_t n = strlen(posix[i].name);
        bool negated = t->end - t->p > 2 && t->p[2] == '^';
        const char *name = t->p + 2 + negated;
        if ((size_t)(t->end - t->p) < 4 + negated + n || t->p[1] != ':') continue;
        if (memcmp(name, posix[i].name, n) == 0 && memcmp(name + n, ":]", 2) == 0) {
            t->p = name + n + 2;
            set_add(out, posix[i].class, negated);
            return ERR_NONE;
        }
    }
    struct set inner = {0};
    err_id id = bracket(t, &inner);
    if (id == ERR_NONE && !inner.negated) {
        buf_append(&out->items, inner.items.data, inner.items.len);
        buf_append(&out->others, inner.others.data, inner.others.len);
    } else if (id == ERR_NONE) {
        buf_char(&out->others, '|');
        set_expression(&inner, &out->others);
    }
    set_free(&inner);
    return id;
}

// One item of a class. *is_char: it was the single character *cp, which is not added yet because a range may follow.
static err_id class_item(struct translator *t, struct set *out, uint32_t *cp, bool *is_char) {
    *is_char = false;
    if (*t->p == '[') return nested(t, out);
    if (*t->p != '\\') {
        *is_char = true;
        t->p += utf8_next(t->p, (size_t)(t->end - t->p), cp);
        return ERR_NONE;
    }
    if (++t->p == t->end) return refuse(t, "a backslash at the end");
    TRY(char_escape(t, true, cp, is_char));
    if (*is_char) return ERR_NONE;
    char c = *t->p++;
    if (c == 'p' || c == 'P') return property(t, c == 'P', out);
    if (strchr("sSdDwWhH", c) == NULL) return refuse(t, "this escape in a class");
    shorthand(t, c, true, out);
    return ERR_NONE;
}

// A range "a-z" when one follows the character low, else the character alone.
static err_id char_or_range(struct translator *t, struct set *out, uint32_t low) {
    bool range = t->end - t->p >= 2 && t->p[0] == '-' && t->p[1] != ']' && t->p[1] != '[' && memcmp(t->p, "-&&", 2) != 0;
    append_code_point(&out->items, low);
    if (!range) return ERR_NONE;
    const char *dash = t->p++;
    uint32_t high;
    bool is_char;
    struct set ignored = {0};
    err_id id = class_item(t, &ignored, &high, &is_char);
    set_free(&ignored);
    if (id != ERR_NONE) return id;
    if (!is_char) { // [a-\d]: the dash stands for itself
        t->p = dash + 1;
        buf_str(&out->items, "\\-");
        return ERR_NONE;
    }
    if (high < low) return refuse(t, "a range whose end is before its start");
    buf_char(&out->items, '-');
    append_code_point(&out->items, high);
    return ERR_NONE;
}

// Items up to ']' or "&&".
static err_id segment(struct translator *t, struct set *out) {
    bool first = true;
    while (t->p < t->end) {
        if (*t->p == ']' && !first) return ERR_NONE;
        if (t->end - t->p >= 2 && memcmp(t->p, "&&", 2) == 0) return ERR_NONE;
        first = false;
        uint32_t cp;
        bool is_char;
        TRY(class_item(t, out, &cp, &is_char));
        if (is_char) TRY(char_or_range(t, out, cp));
    }
    return refuse(t, "a class without ]");
}

static err_id segments(struct translator *t, struct set *out) {
    struct set part = {0};
    struct buf all = {0};
    bool several = false;
    err_id id;
    for (;;) {
        id = segment(t, &part);
        if (id != ERR_NONE || *t->p == ']') break;
        several = true;
        t->p += 2;
        buf_str(&all, "(?=");
        set_expression(&part, &all);
        buf_char(&all, ')');
        set_free(&part);
        part = (struct set){0};
    }
    if (id == ERR_NONE) t->p++;
    if (id == ERR_NONE && several) {
        set_expression(&part, &all);
        buf_printf(&out->others, "|%s", all.data);
    } else if (id == ERR_NONE) {
        buf_append(&out->items, part.items.data, part.items.len);
        buf_append(&out->others, part.others.data, part.others.len);
    }
    set_free(&part);
    buf_free(&all);
    return id;
}

// t->p stands on '['.
static err_id bracket(struct translator *t, struct set *out) {
    if (++t->depth > CLASS_DEPTH_MAX) return refuse(t, "a class nested so deep");
    t->p++;
    if (t->p < t->end && *t->p == '^') out->negated = true, t->p++;
    err_id id = segments(t, out);
    t->depth--;
    return id;
}

// ---- outside brackets ----

// \b and \B by the same idea of a word as \w, which PCRE2's own differs from.
static void word_border(const char *word, bool border, struct buf *out) {
    buf_printf(out, "(?:(?<=[%s])(?%c[%s])|(?<![%s])(?%c[%s]))", word, border ? '!' : '=', word, word, border ? '=' : '!',
               word);
}

static err_id outer_escape(struct translator *t, struct buf *out) {
    if (++t->p == t->end) return refuse(t, "a backslash at the end");
    uint32_t cp;
    bool is_char;
    TRY(char_escape(t, false, &cp, &is_char));
    if (is_char) {
        append_code_point(out, cp);
        return ERR_NONE;
    }
    char c = *t->p++;
    if (strchr("AzZGRX123456789", c) != NULL) {
        buf_printf(out, "\\%c", c);
        return ERR_NONE;
    }
    struct set s = {0};
    if (c == 'b' || c == 'B') {
        shorthand(t, 'w', false, &s);
        word_border(s.items.data, c == 'b', out);
        set_free(&s);
        return ERR_NONE;
    }
    err_id id = ERR_NONE;
    if (c == 'p' || c == 'P') {
        id = property(t, c == 'P', &s);
    } else if (strchr("sSdDwWhH", c) != NULL) {
        shorthand(t, c, false, &s);
    } else {
        id = refuse(t, "this escape");
    }
    if (id == ERR_NONE) set_expression(&s, out);
    set_free(&s);
    return id;
}

// "(?imx-imx:" and "(?imx-imx)": Oniguruma's m is PCRE2's s.
static err_id group_open(struct translator *t, struct buf *out) {
    buf_char(out, *t->p++);
    if (t->p == t->end || *t->p != '?') return ERR_NONE;
    const char *q = t->p + 1;
    while (q < t->end && strchr("imx-", *q) != NULL) q++;
    bool options = q > t->p + 1 && q < t->end && (*q == ':' || *q == ')');
    if (options) {
        for (; t->p < q; t->p++) buf_char(out, *t->p == 'm' ? 's' : *t->p);
        return ERR_NONE;
    }
    if (q == t->end || strchr(":=!<>#", *q) == NULL || q > t->p + 1) return refuse(t, "this kind of group");
    buf_char(out, *t->p++);
    return ERR_NONE;
}

// "{n,m}" as a quantifier, else a literal brace. "{,m}" means {0,m}; a '+' behind it would repeat, not possess.
static err_id brace(struct translator *t, struct buf *out) {
    const char *q = t->p + 1;
    size_t low = strspn(q, "0123456789");
    const char *comma = q + low;
    size_t high = *comma == ',' ? strspn(comma + 1, "0123456789") : 0;
    const char *close = *comma == ',' ? comma + 1 + high : comma;
    if (close >= t->end || *close != '}' || low + high == 0) {
        buf_str(out, "\\{");
        t->p++;
        return ERR_NONE;
    }
    if (low > 5 || high > 5) return refuse(t, "so large a repetition");
    if (close + 1 < t->end && close[1] == '+') return refuse(t, "{n,m}+");
    buf_str(out, low == 0 ? "{0" : "{");
    buf_append(out, q, (size_t)(close + 1 - q));
    t->p = close + 1;
    return ERR_NONE;
}

static err_id element(struct translator *t, struct buf *out) {
    switch (*t->p) {
    case '\\':
        return outer_escape(t, out);
    case '(':
        return group_open(t, out);
    case '{':
        return brace(t, out);
    case '[': {
        struct set s = {0};
        err_id id = bracket(t, &s);
        if (id == ERR_NONE) set_expression(&s, out);
        set_free(&s);
        return id;
    }
    default:
        buf_char(out, *t->p++);
        return ERR_NONE;
    }
}

err_id onig_translate(const char *pattern, size_t len, bool with_new, struct buf *out, struct error *e) {
    if (memchr(pattern, '\0', len) != NULL || utf8_valid_prefix(pattern, len) != len)
        return error_set(e, ERR_MODEL_FILES, "regular expression can't be used: it holds a zero byte or is not UTF-8");
    // A copy with a zero byte behind it, so that looking one character ahead is always safe.
    struct buf copy = {0};
    buf_append(&copy, pattern, len);
    struct translator t = {.p = copy.data, .end = copy.data + len, .with_new = with_new, .e = e};
    err_id id = ERR_NONE;
    buf_reserve(out, 0)[0] = '\0';
    while (t.p < t.end && id == ERR_NONE) id = element(&t, out);
    buf_free(&copy);
    return id;
}
