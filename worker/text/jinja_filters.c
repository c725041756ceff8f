// Filters on single values, and the table of all filters. Those that go through lists are in jinja_list_filters.c.
#include "worker/text/jinja_filters.h"

#include "common/base/check.h"
#include "worker/text/jinja_string.h"
#include "worker/text/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- text ----

typedef void text_function(const char *s, size_t n, struct buf *out);

static err_id through(struct jrun *r, struct jvalue v, text_function *f, struct jvalue *out) {
    err_id id;
    struct jvalue s = jv_to_string(r, v, &id);
    if (id != ERR_NONE) return id;
    TRY(jrun_charge(r, s.len / 4));
    struct buf text = {0};
    f(s.s, s.len, &text);
    *out = jv_take_buf(r, &text);
    return ERR_NONE;
}

FILTER(upper) { return through(r, v, jstring_upper, out); }
FILTER(lower) { return through(r, v, jstring_lower, out); }
FILTER(capitalize) { return through(r, v, jstring_capitalize, out); }
FILTER(title) { return through(r, v, jstring_title_words, out); }

static void escape_html(const char *s, size_t n, struct buf *out) {
    for (size_t i = 0; i < n; i++) {
        switch (s[i]) {
        case '&':
            buf_str(out, "&amp;");
            break;
        case '<':
            buf_str(out, "&lt;");
            break;
        case '>':
            buf_str(out, "&gt;");
            break;
        case '\'':
            buf_str(out, "&#39;");
            break;
        case '"':
            buf_str(out, "&#34;");
            break;
        default:
            buf_char(out, s[i]);
        }
    }
}

FILTER(escape) { return through(r, v, escape_html, out); }

FILTER(string) {
    err_id id;
    *out = jv_to_string(r, v, &id);
    return id;
}

FILTER(trim) {
    struct jvalue chars;
    const struct jvalue *given = jargs_get(a, 0, "chars");
    bool has = given != NULL && given->type != J_NONE;
    TRY(jargs_string(r, a, 0, "chars", "", &chars));
    TRY(filter_string(r, v, a, out));
    const char *s = out->s;
    size_t n = out->len;
    jstring_strip(&s, &n, has ? chars.s : NULL, chars.len, true, true);
    *out = jv_string(s, n);
    return jrun_charge(r, out->len / 16);
}

FILTER(replace) {
    struct jvalue s, old, new;
    int64_t count;
    TRY(filter_string(r, v, a, &s));
    TRY(jargs_string(r, a, 0, "old", NULL, &old));
    TRY(jargs_string(r, a, 1, "new", NULL, &new));
    TRY(jargs_int(r, a, 2, "count", -1, &count));
    return jinja_replace(r, s, old, new, count, out);
}

FILTER(indent) {
    struct jvalue s = v;
    if (v.type == J_UNDEFINED) return jinja_undefined_error(r, v);
    if (v.type != J_STRING) return jrun_fail(r, "indent needs a string, not %s", jv_type_name(&v));
    const struct jvalue *width = jargs_get(a, 0, "width");
    struct jvalue space = jv_string(" ", 1);
    if (width != NULL && width->type == J_STRING) {
        space = *width;
    } else {
        int64_t n;
        TRY(jargs_int(r, a, 0, "width", 4, &n));
        TRY(jinja_binary(r, OP_MUL, space, jv_int(n), &space));
    }
    bool first = jargs_flag(a, 1, "first", false), blank = jargs_flag(a, 2, "blank", false);
    struct buf text = {0};
    if (first) buf_append(&text, space.s, space.len);
    for (size_t i = 0, line = 0; i < s.len || line == 0; line++) {
        size_t end = i;
        while (end < s.len && jstring_line_break(s.s + end, s.len - end) == 0) end++;
        if (line > 0) buf_char(&text, '\n');
        if (line > 0 && (blank || end > i)) buf_append(&text, space.s, space.len);
        buf_append(&text, s.s + i, end - i);
        size_t gap = end < s.len ? jstring_line_break(s.s + end, s.len - end) : 0;
        i = end + gap;
        // A break at the very end opens one more, empty line.
        if (gap > 0 && i >= s.len) {
            buf_char(&text, '\n');
            if (blank) buf_append(&text, space.s, space.len);
        }
        if (text.len > TEMPLATE_OUTPUT_MAX) break;
    }
    *out = jv_take_buf(r, &text);
    if (out->len > TEMPLATE_OUTPUT_MAX) return jrun_fail(r, "a text has more than %d bytes", TEMPLATE_OUTPUT_MAX);
    return jrun_charge(r, out->len / 8);
}

FILTER(center) {
    struct jvalue s;
    int64_t width, len;
    TRY(filter_string(r, v, a, &s));
    TRY(jargs_int(r, a, 0, "width", 80, &width));
    TRY(jv_length(r, s, &len));
    return jinja_pad(r, s, width, jv_string(" ", 1), 0, out);
}

FILTER(wordcount) {
    struct jvalue s;
    TRY(filter_string(r, v, a, &s));
    TRY(jrun_charge(r, s.len / 16));
    int64_t words = 0;
    bool inside = false;
    for (size_t i = 0; i < s.len;) {
        uint32_t cp;
        size_t n = utf8_next(s.s + i, s.len - i, &cp);
        const char c = cp < 0x80 ? (char)cp : 0;
        bool word = jstring_is(JSTRING_ALNUM, s.s + i, n) || c == '_';
        words += word && !inside;
        inside = word;
        i += n;
    }
    *out = jv_int(words);
    return ERR_NONE;
}

FILTER(truncate) {
    struct jvalue s, end, cut;
    int64_t length, leeway, len, end_len;
    TRY(jargs_int(r, a, 0, "length", 255, &length));
    TRY(jargs_string(r, a, 2, "end", "...", &end));
    TRY(jargs_int(r, a, 3, "leeway", 5, &leeway));
    TRY(jv_length(r, v, &len));
    TRY(jv_length(r, end, &end_len));
    if (length < end_len || leeway < 0) return jrun_fail(r, "truncate: length and leeway are too small");
    *out = v;
    if (len <= length || len - length <= leeway) return ERR_NONE;
    if (v.type != J_STRING) return jrun_fail(r, "truncate needs a string, not %s", jv_type_name(&v));
    s = v;
    uint32_t at = 0, cp;
    for (int64_t i = 0; i < length - end_len; i++) at += (uint32_t)utf8_next(s.s + at, s.len - at, &cp);
    const char *space = jargs_flag(a, 1, "killwords", false) ? NULL : memrchr(s.s, ' ', at);
    cut = jv_string(s.s, space ? (size_t)(space - s.s) : at);
    return jinja_binary(r, OP_ADD, cut, end, out);
}

// ---- numbers ----

FILTER(abs) {
    if (v.type == J_UNDEFINED) return jinja_undefined_error(r, v);
    if (!jv_is_number(v)) return jrun_fail(r, "bad operand type for abs(): '%s'", jv_type_name(&v));
    if (jv_number(v) >= 0) return *out = v.type == J_BOOL ? jv_int(v.b) : v, ERR_NONE;
    return jinja_binary(r, OP_MUL, v, jv_int(-1), out);
}

// A Python number literal between white space, the whole of s. *is_int: no point, no exponent.
static bool parse_number(struct jvalue s, int base, bool whole, int64_t *i, double *f) {
    const char *p = s.s;
    size_t n = s.len;
    jstring_strip(&p, &n, NULL, 0, true, true);
    char text[400];
    if (n == 0 || n >= sizeof text) return false;
    size_t len = 0;
    for (size_t k = 0; k < n; k++) {
        bool between = p[k] == '_' && k > 0 && k + 1 < n && p[k - 1] != '_';
        if (!between) text[len++] = p[k];
    }
    text[len] = '\0';
    bool alpha_only_in_base = base > 10 || strspn(text, "+-0123456789.eE") == len || !whole;
    if (memchr(text, '_', len) != NULL || !alpha_only_in_base) return false;
    char *end;
    if (whole) {
        *i = strtoll(text, &end, base);
    } else {
        if (strpbrk(text, "xXpP(") != NULL) return false;
        *f = strtod(text, &end);
    }
    return end == text + len;
}

static bool to_float(struct jvalue v, double *f) {
    if (v.type == J_STRING) return parse_number(v, 10, false, NULL, f);
    if (!jv_is_number(v)) return false;
    *f = jv_number(v);
    return true;
}

FILTER(int) {
    const struct jvalue *absent = jargs_get(a, 0, "default");
    int64_t base, i;
    double f;
    TRY(jargs_int(r, a, 1, "base", 10, &base));
    if (v.type == J_UNDEFINED) return jinja_undefined_error(r, v);
    if (base < 0 || base > 36 || base == 1) return jrun_fail(r, "int: base must be 0 or from 2 to 36");
    if (jv_is_integer(v)) {
        *out = jv_int(jv_integer(v));
    } else if (v.type == J_STRING && parse_number(v, (int)base, true, &i, NULL)) {
        *out = jv_int(i);
    } else if (to_float(v, &f) && !isnan(f) && !isinf(f)) {
        if (fabs(f) >= 9e18) return jrun_fail(r, "a number is over 64 bits");
        *out = jv_int((int64_t)f);
    } else {
        *out = absent ? *absent : jv_int(0);
    }
    return ERR_NONE;
}

FILTER(float) {
    const struct jvalue *absent = jargs_get(a, 0, "default");
    double f;
    if (v.type == J_UNDEFINED) return jinja_undefined_error(r, v);
    *out = to_float(v, &f) ? jv_float(f) : absent ? *absent : jv_float(0);
    return ERR_NONE;
}

// Python's round(): exact on the decimal digits, ties to even.
static double round_to(double f, int64_t digits) {
    char text[400];
    if (digits > 300) return f;
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)digits, f);
        return strtod(text, NULL);
    }
    double scale = pow(10, (double)(digits < -300 ? 300 : -digits));
    return nearbyint(f / scale) * scale;
}

FILTER(round) {
    struct jvalue method;
    int64_t digits;
    TRY(jargs_int(r, a, 0, "precision", 0, &digits));
    TRY(jargs_string(r, a, 1, "method", "common", &method));
    if (v.type == J_UNDEFINED) return jinja_undefined_error(r, v);
    if (!jv_is_number(v)) return jrun_fail(r, "type %s doesn't define __round__ method", jv_type_name(&v));
    bool ceiling = method.len == 4 && memcmp(method.s, "ceil", 4) == 0;
    bool down = method.len == 5 && memcmp(method.s, "floor", 5) == 0;
    if (ceiling || down) {
        double scale = pow(10, (double)digits), f = jv_number(v) * scale;
        *out = jv_float((ceiling ? ceil(f) : floor(f)) / scale);
    } else if (jv_is_integer(v) && digits >= 0) {
        *out = jv_int(jv_integer(v));
    } else {
        *out = jv_float(round_to(jv_number(v), digits));
        if (jv_is_integer(v)) *out = jv_int((int64_t)out->f);
    }
    return ERR_NONE;
}

// ---- any value ----

FILTER(default) {
    const struct jvalue *other = jargs_get(a, 0, "default_value");
    bool missing = v.type == J_UNDEFINED || (jargs_flag(a, 1, "boolean", false) && !jv_truth(v));
    *out = !missing ? v : other ? *other : jv_string("", 0);
    return ERR_NONE;
}

FILTER(safe) { return filter_string(r, v, a, out); }

FILTER(length) {
    int64_t n;
    TRY(jv_length(r, v, &n));
    *out = jv_int(n);
    return ERR_NONE;
}

FILTER(attr) {
    struct jvalue name;
    TRY(jargs_string(r, a, 0, "name", NULL, &name));
    if (v.type == J_DICT) { // attributes only, no keys
        const struct jmethod_kind *kind = jinja_method_find(J_DICT, name.s, name.len);
        if (kind == NULL) return *out = jv_undefined(name.s, name.len), ERR_NONE;
    }
    return jinja_attribute(r, v, name.s, name.len, out);
}

FILTER(format) {
    struct jvalue s;
    TRY(filter_string(r, v, a, &s));
    return jinja_format_percent(r, s, a->values, a->n, out);
}

// The separators=(',', ':') of json.dumps.
static err_id json_separators(struct jrun *r, const struct jvalue *given, struct json_style *style) {
    if (given == NULL || given->type == J_NONE) return ERR_NONE;
    bool pair = (given->type == J_TUPLE || given->type == J_LIST) && given->list->len == 2 &&
                given->list->items[0].type == J_STRING && given->list->items[1].type == J_STRING;
    if (!pair) return jrun_fail(r, "tojson: separators must be two strings");
    struct jvalue item = given->list->items[0], key = given->list->items[1];
    style->item_separator = jv_copy_string(r, item.s, item.len).s;
    style->key_separator = jv_copy_string(r, key.s, key.len).s;
    return ERR_NONE;
}

FILTER(tojson) {
    static const char *const names[] = {"ensure_ascii", "indent", "separators", "sort_keys", NULL};
    TRY(jargs_check(r, a, "tojson", 4, names));
    struct json_style style = {.item_separator = ", ", .key_separator = ": "};
    style.ensure_ascii = jargs_flag(a, 0, "ensure_ascii", false);
    style.sort_keys = jargs_flag(a, 3, "sort_keys", false);
    const struct jvalue *indent = jargs_get(a, 1, "indent");
    if (indent != NULL && indent->type == J_STRING) {
        style.indent = indent->s, style.indent_len = indent->len;
    } else if (indent != NULL && indent->type != J_NONE) {
        int64_t n;
        struct jvalue space;
        TRY(jargs_int(r, a, 1, "indent", 0, &n));
        TRY(jinja_binary(r, OP_MUL, jv_string(" ", 1), jv_int(n), &space));
        style.indent = space.s, style.indent_len = space.len;
    }
    if (style.indent != NULL) style.item_separator = ",";
    TRY(json_separators(r, jargs_get(a, 2, "separators"), &style));
    struct buf text = {0};
    err_id id = jv_tojson(r, v, &style, &text);
    *out = jv_take_buf(r, &text);
    return id;
}

const struct jfilter *jinja_filter_find(const char *name) {
    static const struct jfilter own[] = {
        {"abs", filter_abs},
        {"attr", filter_attr},
        {"capitalize", filter_capitalize},
        {"center", filter_center},
        {"count", filter_length},
        {"d", filter_default},
        {"default", filter_default},
        {"e", filter_escape},
        {"escape", filter_escape},
        {"float", filter_float},
        {"format", filter_format},
        {"indent", filter_indent},
        {"int", filter_int},
        {"length", filter_length},
        {"lower", filter_lower},
        {"replace", filter_replace},
        {"round", filter_round},
        {"safe", filter_safe},
        {"string", filter_string},
        {"title", filter_title},
        {"tojson", filter_tojson},
        {"trim", filter_trim},
        {"truncate", filter_truncate},
        {"upper", filter_upper},
        {"wordcount", filter_wordcount},
    };
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        if (strcmp(own[i].name, name) == 0) return &own[i];
    }
    return jinja_list_filter_find(name);
}
