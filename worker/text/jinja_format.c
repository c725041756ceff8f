// Python's two ways to format text: "%s is %d" % (a, b), and "{} is {x:>5}".format(a, x=b). Of their format specifications,
// what templates use: fill, alignment, sign, width, precision, and the types s, d, i, f, e, g, x, X, r and %.
#include "common/base/check.h"
#include "worker/text/jinja_filters.h"
#include "worker/text/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH_MAX = 10000, PRECISION_MAX = 100, NUMBERED = 0x7FFFFFFF };

struct spec {
    struct jvalue fill;
    char align; // '<', '>', '^', '='; 0: the type's own
    char sign;  // '+', ' ', or 0
    bool comma, alternate;
    int64_t width;
    int precision; // -1: none
    char type;
};

static err_id number_at(struct jrun *r, const char **p, const char *end, int64_t max, int64_t *out) {
    *out = 0;
    while (*p < end && **p >= '0' && **p <= '9') {
        *out = *out * 10 + (*(*p)++ - '0');
        if (*out > max) return jrun_fail(r, "a width or precision in a format is over %d", (int)max);
    }
    return ERR_NONE;
}

static void group_by_comma(struct buf *digits) {
    struct buf out = {0};
    size_t whole = strcspn(digits->data, ".e");
    for (size_t i = 0; i < digits->len; i++) {
        bool comma = i > 0 && i < whole && (whole - i) % 3 == 0;
        if (comma) buf_char(&out, ',');
        buf_char(&out, digits->data[i]);
    }
    buf_free(digits);
    *digits = out;
}

// The number's digits without its sign; *negative says whether it has one.
static err_id number_digits(struct jrun *r, const struct spec *s, struct jvalue v, bool *negative, struct buf *out) {
    char type = s->type, format[8];
    bool whole = type == 'd' || type == 'i' || type == 'x' || type == 'X';
    if (!jv_is_number(v)) return jrun_fail(r, "a number is required for the format %c, not %s", type, jv_type_name(&v));
    if (whole && jv_is_integer(v)) {
        int64_t i = jv_integer(v);
        *negative = i < 0;
        unsigned long long magnitude = i < 0 ? 0 - (unsigned long long)i : (unsigned long long)i;
        if (s->alternate && type != 'd' && type != 'i') buf_printf(out, "0%c", type);
        buf_printf(out, type == 'x' ? "%llx" : type == 'X' ? "%llX" : "%llu", magnitude);
    } else if (whole) {
        return jrun_fail(r, "an integer is required for the format %c", type);
    } else {
        double f = jv_number(v);
        *negative = f < 0;
        snprintf(format, sizeof format, "%%.*%c", type == '%' ? 'f' : type);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        buf_printf(out, format, s->precision < 0 ? 6 : s->precision, (f < 0 ? -f : f) * (type == '%' ? 100 : 1));
#pragma GCC diagnostic pop
        if (type == '%') buf_char(out, '%');
    }
    if (s->comma) group_by_comma(out);
    return ERR_NONE;
}

static err_id put_padded(struct jrun *r, const struct spec *s, char align, const char *sign, struct jvalue text,
                         struct buf *out) {
    int64_t len;
    TRY(jv_length(r, text, &len));
    struct jvalue padded = text;
    int64_t width = s->width - (int64_t)strlen(sign);
    if (align == '=') {
        buf_str(out, sign);
        TRY(jinja_pad(r, text, width, s->fill, -1, &padded));
    } else {
        TRY(jinja_binary(r, OP_ADD, jv_copy_string(r, sign, strlen(sign)), text, &text));
        // '^' puts the odd one on the right, which str.center doesn't.
        int64_t pad = s->width - len - (int64_t)strlen(sign), left = align == '<' ? 0 : align == '>' ? pad : pad / 2;
        if (pad < 0) pad = left = 0;
        TRY(jinja_pad(r, text, s->width - (pad - left), s->fill, -1, &padded));
        TRY(jinja_pad(r, padded, s->width, s->fill, 1, &padded));
    }
    return jv_print(r, padded, out);
}

static err_id put_formatted(struct jrun *r, const struct spec *s, struct jvalue v, struct buf *out) {
    if (s->type == 's' || s->type == 'r') {
        struct buf text = {0};
        err_id id = s->type == 'r' ? jv_repr(r, v, &text) : jv_print(r, v, &text);
        struct jvalue whole = jv_take_buf(r, &text);
        if (id != ERR_NONE) return id;
        uint32_t at = 0, cp;
        if (s->precision >= 0) {
            for (int i = 0; i < s->precision && at < whole.len; i++)
                at += (uint32_t)utf8_next(whole.s + at, whole.len - at, &cp);
            whole.len = at;
        }
        return put_padded(r, s, s->align ? s->align : '<', "", whole, out);
    }
    bool negative = false;
    struct buf digits = {0};
    err_id id = number_digits(r, s, v, &negative, &digits);
    struct jvalue text = jv_take_buf(r, &digits);
    if (id != ERR_NONE) return id;
    const char *sign = negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
    return put_padded(r, s, s->align ? s->align : '>', sign, text, out);
}

// ---- % ----

static err_id percent_spec(struct jrun *r, const char **p, const char *end, struct spec *s) {
    *s = (struct spec){.fill = jv_string(" ", 1), .precision = -1};
    bool zero = false;
    for (; *p < end && strchr("-+ 0#", **p) != NULL; (*p)++) {
        if (**p == '-') s->align = '<';
        if (**p == '+' || (**p == ' ' && s->sign == 0)) s->sign = **p;
        if (**p == '0') zero = true;
        if (**p == '#') s->alternate = true;
    }
    TRY(number_at(r, p, end, WIDTH_MAX, &s->width));
    if (*p < end && **p == '.') {
        int64_t n;
        (*p)++;
        TRY(number_at(r, p, end, PRECISION_MAX, &n));
        s->precision = (int)n;
    }
    if (*p == end || strchr("sdifegxXr", **p) == NULL) return jrun_fail(r, "a %% format is not supported");
    s->type = *(*p)++;
    if (zero && s->align == 0 && s->type != 's' && s->type != 'r') s->fill = jv_string("0", 1), s->align = '=';
    return ERR_NONE;
}

static err_id percent(struct jrun *r, struct jvalue format, const struct jvalue *args, uint32_t n, struct buf *out) {
    const char *p = format.s, *end = format.s + format.len;
    uint32_t used = 0;
    while (p < end) {
        if (*p != '%') {
            buf_char(out, *p++);
            continue;
        }
        if (++p < end && *p == '%') {
            buf_char(out, *p++);
            continue;
        }
        struct spec s;
        TRY(percent_spec(r, &p, end, &s));
        if (used == n) return jrun_fail(r, "not enough arguments for format string");
        struct jvalue v = args[used++];
        if ((s.type == 'd' || s.type == 'i') && v.type == J_FLOAT) v = jv_int((int64_t)v.f);
        TRY(put_formatted(r, &s, v, out));
    }
    // What can be indexed counts as a mapping, which may go unused.
    bool mapping = n == 1 && (args[0].type == J_LIST || args[0].type == J_DICT || args[0].type == J_UNDEFINED);
    if (used < n && !mapping) return jrun_fail(r, "not all arguments converted during string formatting");
    return ERR_NONE;
}

err_id jinja_format_percent(struct jrun *r, struct jvalue format, const struct jvalue *args, uint32_t n,
                            struct jvalue *out) {
    TRY(jrun_charge(r, 1 + format.len / 16));
    struct buf text = {0};
    err_id id = percent(r, format, args, n, &text);
    *out = jv_take_buf(r, &text);
    return id;
}

// ---- {} ----

static err_id brace_spec(struct jrun *r, const char *p, const char *end, struct spec *s) {
    *s = (struct spec){.fill = jv_string(" ", 1), .precision = -1};
    uint32_t cp;
    size_t first = p < end ? utf8_next(p, (size_t)(end - p), &cp) : 0;
    if (first > 0 && p + first < end && strchr("<>^=", p[first]) != NULL) {
        s->fill = jv_string(p, first), s->align = p[first];
        p += first + 1;
    } else if (p < end && strchr("<>^=", *p) != NULL) {
        s->align = *p++;
    }
    if (p < end && strchr("+- ", *p) != NULL) s->sign = *p++;
    if (p < end && *p == '#') s->alternate = true, p++;
    if (p < end && *p == '0' && s->align == 0) s->fill = jv_string("0", 1), s->align = '=', p++;
    TRY(number_at(r, &p, end, WIDTH_MAX, &s->width));
    if (p < end && *p == ',') s->comma = true, p++;
    if (p < end && *p == '.') {
        int64_t n;
        p++;
        TRY(number_at(r, &p, end, PRECISION_MAX, &n));
        s->precision = (int)n;
    }
    if (p < end && strchr("sdfegxX%", *p) != NULL) s->type = *p++;
    return p == end ? ERR_NONE : jrun_fail(r, "a format specification is not supported");
}

// The value that "name.attr[0]" stands for; an empty name takes the next positional one.
static err_id brace_value(struct jrun *r, const char *p, const char *end, const struct jargs *a, uint32_t *next,
                          struct jvalue *out) {
    const char *start = p;
    while (p < end && *p != '.' && *p != '[') p++;
    int64_t index = (int64_t)*next;
    bool numbered = p == start || strspn(start, "0123456789") >= (size_t)(p - start);
    bool automatic = p == start;
    if (numbered && *next != 0 && automatic != (*next != NUMBERED))
        return jrun_fail(r, "numbered and automatic fields can't be mixed");
    if (automatic) {
        (*next)++;
    } else if (numbered) {
        const char *q = start;
        TRY(number_at(r, &q, p, WIDTH_MAX, &index));
        *next = NUMBERED;
    }
    char name[64] = "";
    if (!numbered && (size_t)(p - start) < sizeof name) memcpy(name, start, (size_t)(p - start));
    const struct jvalue *v = numbered ? jargs_get(a, (uint32_t)index, "") : jargs_get(a, UINT32_MAX, name);
    if (v == NULL) return jrun_fail(r, "a replacement in a format string has no argument");
    *out = *v;
    return p == end ? ERR_NONE : jrun_fail(r, "attributes in a format string are not supported");
}

static err_id brace_field(struct jrun *r, const char *p, const char *end, const struct jargs *a, uint32_t *next,
                          struct buf *out) {
    const char *colon = memchr(p, ':', (size_t)(end - p)), *name_end = colon ? colon : end;
    bool repr = name_end - p >= 2 && name_end[-2] == '!' && name_end[-1] == 'r';
    bool str = name_end - p >= 2 && name_end[-2] == '!' && name_end[-1] == 's';
    struct jvalue v;
    struct spec s;
    TRY(brace_value(r, p, name_end - (repr || str ? 2 : 0), a, next, &v));
    TRY(brace_spec(r, colon ? colon + 1 : end, end, &s));
    if (repr) s.type = 'r';
    bool number = jv_is_number(v) && v.type != J_BOOL && !str;
    if (s.type == 0) {
        bool plain = !number || (v.type == J_FLOAT && s.precision < 0);
        s.type = plain ? 's' : v.type == J_FLOAT ? 'g' : 'd';
        if (plain && number && s.align == 0) s.align = '>';
    }
    return put_formatted(r, &s, v, out);
}

static err_id braces(struct jrun *r, struct jvalue format, const struct jargs *a, struct buf *out) {
    const char *p = format.s, *end = format.s + format.len;
    uint32_t next = 0;
    while (p < end) {
        if ((*p == '{' || *p == '}') && p + 1 < end && p[1] == *p) {
            buf_char(out, *p);
            p += 2;
        } else if (*p == '{') {
            const char *close = memchr(p, '}', (size_t)(end - p));
            if (close == NULL) return jrun_fail(r, "expected '}' before end of string");
            TRY(brace_field(r, p + 1, close, a, &next, out));
            p = close + 1;
        } else if (*p == '}') {
            return jrun_fail(r, "single '}' encountered in format string");
        } else {
            buf_char(out, *p++);
        }
    }
    return ERR_NONE;
}

err_id jinja_format_braces(struct jrun *r, struct jvalue format, const struct jargs *args, struct jvalue *out) {
    TRY(jrun_charge(r, 1 + format.len / 16));
    struct buf text = {0};
    err_id id = braces(r, format, args, &text);
    *out = jv_take_buf(r, &text);
    return id;
}
