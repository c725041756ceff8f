#include "worker/text/jinja_string.h"

#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

#include <string.h>
#include <utf8proc.h>

static bool is_upper(uint32_t cp) { return unicode_category(cp)[0] == 'L' && unicode_category(cp)[1] == 'u'; }
static bool is_lower(uint32_t cp) {
    return (unicode_category(cp)[0] == 'L' && unicode_category(cp)[1] == 'l') || cp == 0xAA || cp == 0xBA;
}
static bool is_title(uint32_t cp) { return unicode_category(cp)[0] == 'L' && unicode_category(cp)[1] == 't'; }

static void put_upper(uint32_t cp, struct buf *out) {
    if (cp == 0xDF) { // ß: the common one of the few whose upper case is longer
        buf_str(out, "SS");
    } else {
        utf8_append(out, (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp));
    }
}

static void put_title(uint32_t cp, struct buf *out) {
    if (cp == 0xDF) {
        buf_str(out, "Ss");
    } else {
        utf8_append(out, (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp));
    }
}

// Σ at the end of a word becomes ς: behind a letter, and not before one.
static bool is_final_sigma(const char *s, size_t n, size_t at, size_t len) {
    uint32_t before = 0, after = 0;
    if (at > 0) utf8_next(s + utf8_prev(s, at), n, &before);
    if (at + len < n) utf8_next(s + at + len, n - at - len, &after);
    return at > 0 && unicode_category(before)[0] == 'L' && (at + len >= n || unicode_category(after)[0] != 'L');
}

static void put_lower(const char *s, size_t n, size_t at, size_t len, uint32_t cp, struct buf *out) {
    if (cp == 0x130) {
        buf_str(out, "i\xCC\x87");
    } else if (cp == 0x3A3 && is_final_sigma(s, n, at, len)) {
        utf8_append(out, 0x3C2);
    } else {
        utf8_append(out, unicode_lower(cp));
    }
}

void jstring_upper(const char *s, size_t n, struct buf *out) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += utf8_next(s + i, n - i, &cp);
        put_upper(cp, out);
    }
}

void jstring_lower(const char *s, size_t n, struct buf *out) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_next(s + i, n - i, &cp);
        put_lower(s, n, i, len, cp, out);
        i += len;
    }
}

void jstring_capitalize(const char *s, size_t n, struct buf *out) {
    uint32_t cp;
    for (size_t i = 0; i < n;) {
        size_t len = utf8_next(s + i, n - i, &cp);
        if (i == 0) {
            put_title(cp, out);
        } else {
            put_lower(s, n, i, len, cp, out);
        }
        i += len;
    }
}

void jstring_title(const char *s, size_t n, struct buf *out) {
    bool inside = false;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_next(s + i, n - i, &cp);
        if (inside) {
            put_lower(s, n, i, len, cp, out);
        } else {
            put_title(cp, out);
        }
        inside = is_upper(cp) || is_lower(cp) || is_title(cp);
        i += len;
    }
}

void jstring_title_words(const char *s, size_t n, struct buf *out) {
    bool first = true;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_next(s + i, n - i, &cp);
        bool separator = (cp < 0x80 && strchr("-({[<", (int)cp) != NULL && cp != 0) || jstring_space(s + i, n - i) > 0;
        if (separator) {
            buf_append(out, s + i, len);
        } else if (first) {
            put_upper(cp, out);
        } else {
            put_lower(s, n, i, len, cp, out);
        }
        first = separator;
        i += len;
    }
}

void jstring_swapcase(const char *s, size_t n, struct buf *out) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_next(s + i, n - i, &cp);
        if (is_upper(cp)) {
            put_lower(s, n, i, len, cp, out);
        } else if (is_lower(cp)) {
            put_upper(cp, out);
        } else {
            buf_append(out, s + i, len);
        }
        i += len;
    }
}

size_t jstring_space(const char *s, size_t n) {
    uint32_t cp;
    size_t len = utf8_next(s, n, &cp);
    return unicode_is_space(cp) || (cp >= 0x1C && cp <= 0x1F) ? len : 0;
}

// Length of the character at s when it is to be stripped, else 0.
static size_t strippable(const char *s, size_t n, const char *chars, size_t n_chars) {
    if (chars == NULL) return jstring_space(s, n);
    uint32_t cp, other;
    size_t len = utf8_next(s, n, &cp);
    for (size_t i = 0; i < n_chars;) {
        i += utf8_next(chars + i, n_chars - i, &other);
        if (other == cp) return len;
    }
    return 0;
}

void jstring_strip(const char **s, size_t *n, const char *chars, size_t n_chars, bool left, bool right) {
    size_t len;
    while (left && *n > 0 && (len = strippable(*s, *n, chars, n_chars)) > 0) *s += len, *n -= len;
    while (right && *n > 0) {
        size_t last = utf8_prev(*s, *n);
        if (strippable(*s + last, *n - last, chars, n_chars) == 0) break;
        *n = last;
    }
}

size_t jstring_line_break(const char *s, size_t n) {
    uint32_t cp;
    size_t len = utf8_next(s, n, &cp);
    if (cp == '\r' && n > 1 && s[1] == '\n') return 2;
    bool is = (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
    return is ? len : 0;
}

static bool has_class(enum jstring_class class, uint32_t cp, bool *cased) {
    char c = unicode_category(cp)[0];
    switch (class) {
    case JSTRING_ALPHA:
        return c == 'L';
    case JSTRING_DIGIT:
        return c == 'N' && unicode_category(cp)[1] == 'd';
    case JSTRING_ALNUM:
        return c == 'L' || c == 'N';
    case JSTRING_SPACE:
        return unicode_is_space(cp) || (cp >= 0x1C && cp <= 0x1F);
    default:
        break;
    }
    bool upper = is_upper(cp), lower = is_lower(cp);
    *cased = *cased || upper || lower;
    return class == JSTRING_UPPER ? !lower && !is_title(cp) : !upper && !is_title(cp);
}

bool jstring_is(enum jstring_class class, const char *s, size_t n) {
    bool cased = false;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += utf8_next(s + i, n - i, &cp);
        if (!has_class(class, cp, &cased)) return false;
    }
    return n > 0 && (cased || (class != JSTRING_UPPER && class != JSTRING_LOWER));
}
