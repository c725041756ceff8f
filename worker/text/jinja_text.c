// Values as text: Python's str(), repr() and json.dumps().
#include "common/base/check.h"
#include "worker/text/jinja_run.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The shortest digits that read back as the same number; exponents from 1e16 on and below 1e-4, as Python's float.__repr__.
void jv_float_repr(double f, struct buf *out) {
    if (isnan(f) || isinf(f)) {
        buf_str(out, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    char digits[40];
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && ++precision < 17);
    char *e = strchr(digits, 'e');
    int exponent = atoi(e + 1);
    if (exponent < -4 || exponent >= 16) {
        *e = '\0';
        buf_printf(out, "%se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    int decimals = precision - exponent;
    buf_printf(out, "%.*f", decimals > 0 ? decimals : 1, f);
}

// ---- repr ----

static void repr_string(struct jvalue v, struct buf *out) {
    bool has_single = memchr(v.s, '\'', v.len) != NULL, has_double = memchr(v.s, '"', v.len) != NULL;
    char quote = has_single && !has_double ? '"' : '\'';
    buf_char(out, quote);
    for (uint32_t i = 0; i < v.len;) {
        uint32_t cp;
        size_t n = utf8_next(v.s + i, v.len - i, &cp);
        if (cp == (uint32_t)quote || cp == '\\') {
            buf_printf(out, "\\%c", (char)cp);
        } else if (cp == '\n' || cp == '\r' || cp == '\t') {
            buf_str(out, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
        } else if (unicode_is_printable(cp)) {
            buf_append(out, v.s + i, n);
        } else {
            buf_printf(out, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
        }
        i += (uint32_t)n;
    }
    buf_char(out, quote);
}

static err_id repr_list(struct jrun *r, struct jvalue v, struct buf *out) {
    buf_char(out, v.type == J_TUPLE ? '(' : '[');
    for (uint32_t i = 0; i < v.list->len; i++) {
        if (i > 0) buf_str(out, ", ");
        TRY(jv_repr(r, v.list->items[i], out));
    }
    if (v.type == J_TUPLE && v.list->len == 1) buf_char(out, ',');
    buf_char(out, v.type == J_TUPLE ? ')' : ']');
    return ERR_NONE;
}

static err_id repr_dict(struct jrun *r, struct jvalue v, struct buf *out) {
    if (v.type == J_NAMESPACE) buf_str(out, "<Namespace ");
    buf_char(out, '{');
    for (uint32_t i = 0; i < v.dict->len; i++) {
        if (i > 0) buf_str(out, ", ");
        TRY(jv_repr(r, v.dict->entries[i].key, out));
        buf_str(out, ": ");
        TRY(jv_repr(r, v.dict->entries[i].value, out));
    }
    buf_str(out, v.type == J_NAMESPACE ? "}>" : "}");
    return ERR_NONE;
}

static err_id repr(struct jrun *r, struct jvalue v, struct buf *out) {
    switch (v.type) {
    case J_UNDEFINED:
        buf_str(out, "Undefined");
        return ERR_NONE;
    case J_NONE:
        buf_str(out, "None");
        return ERR_NONE;
    case J_BOOL:
        buf_str(out, v.b ? "True" : "False");
        return ERR_NONE;
    case J_INT:
        buf_printf(out, "%lld", (long long)v.i);
        return ERR_NONE;
    case J_FLOAT:
        jv_float_repr(v.f, out);
        return ERR_NONE;
    case J_STRING:
        repr_string(v, out);
        return ERR_NONE;
    case J_LIST:
    case J_TUPLE:
        return repr_list(r, v, out);
    case J_DICT:
    case J_NAMESPACE:
        return repr_dict(r, v, out);
    case J_LOOP:
        buf_printf(out, "<LoopContext %u/%u>", v.loop->index0 + 1, v.loop->items.len);
        return ERR_NONE;
    default:
        return jrun_fail(r, "a %s has no text", jv_type_name(&v));
    }
}

err_id jv_repr(struct jrun *r, struct jvalue v, struct buf *out) {
    TRY(jrun_charge(r, 1 + (v.type == J_STRING ? v.len / 16 : 0)));
    if (out->len > TEMPLATE_OUTPUT_MAX) return jrun_fail(r, "a text has more than %d bytes", TEMPLATE_OUTPUT_MAX);
    TRY(jrun_enter(r));
    err_id id = repr(r, v, out);
    jrun_leave(r);
    return id;
}

err_id jv_print(struct jrun *r, struct jvalue v, struct buf *out) {
    if (v.type == J_UNDEFINED) return ERR_NONE;
    if (v.type != J_STRING) return jv_repr(r, v, out);
    TRY(jrun_charge(r, 1 + v.len / 16));
    if (out->len + v.len > TEMPLATE_OUTPUT_MAX)
        return jrun_fail(r, "the output has more than %d bytes", TEMPLATE_OUTPUT_MAX);
    buf_append(out, v.s, v.len);
    return ERR_NONE;
}

struct jvalue jv_to_string(struct jrun *r, struct jvalue v, err_id *id) {
    *id = ERR_NONE;
    if (v.type == J_STRING) return v;
    struct buf text = {0};
    *id = jv_print(r, v, &text);
    return jv_take_buf(r, &text);
}

// ---- json.dumps ----

static void dump_string(struct jvalue v, bool ascii, struct buf *out) {
    buf_char(out, '"');
    for (uint32_t i = 0; i < v.len;) {
        static const char plain[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
        uint32_t cp;
        size_t n = utf8_next(v.s + i, v.len - i, &cp);
        const char *known = cp > 0 && cp < 0x80 ? strchr(plain, (int)cp) : NULL;
        if (known != NULL) {
            buf_printf(out, "\\%c", letters[known - plain]);
        } else if (cp < 0x20 || (ascii && cp > 0x7E && cp < 0x10000)) {
            buf_printf(out, "\\u%04x", cp);
        } else if (ascii && cp >= 0x10000) {
            buf_printf(out, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10), 0xDC00 + ((cp - 0x10000) & 0x3FF));
        } else {
            buf_append(out, v.s + i, n);
        }
        i += (uint32_t)n;
    }
    buf_char(out, '"');
}

struct dumper {
    struct jrun *r;
    const struct json_style *style;
    struct buf *out;
    int level;
};

static err_id dump(struct dumper *d, struct jvalue v);

static void new_line(struct dumper *d) {
    if (d->style->indent == NULL) return;
    buf_char(d->out, '\n');
    for (int i = 0; i < d->level; i++) buf_append(d->out, d->style->indent, d->style->indent_len);
}

static err_id dump_list(struct dumper *d, const struct jlist *list) {
    if (list->len == 0) {
        buf_str(d->out, "[]");
        return ERR_NONE;
    }
    buf_char(d->out, '[');
    d->level++;
    for (uint32_t i = 0; i < list->len; i++) {
        if (i > 0) buf_str(d->out, d->style->item_separator);
        new_line(d);
        TRY(dump(d, list->items[i]));
    }
    d->level--;
    new_line(d);
    buf_char(d->out, ']');
    return ERR_NONE;
}

static err_id dump_key(struct dumper *d, struct jvalue key) {
    struct buf text = {0};
    switch (key.type) {
    case J_STRING:
        dump_string(key, d->style->ensure_ascii, d->out);
        return ERR_NONE;
    case J_NONE:
        buf_str(d->out, "\"null\"");
        return ERR_NONE;
    case J_BOOL:
        buf_str(d->out, key.b ? "\"true\"" : "\"false\"");
        return ERR_NONE;
    case J_INT:
        buf_printf(d->out, "\"%lld\"", (long long)key.i);
        return ERR_NONE;
    case J_FLOAT:
        jv_float_repr(key.f, &text);
        buf_printf(d->out, "\"%s\"", text.data);
        buf_free(&text);
        return ERR_NONE;
    default:
        return jrun_fail(d->r, "keys must be str, int, float, bool or None, not %s", jv_type_name(&key));
    }
}

static int by_key(const void *a, const void *b) {
    const struct jvalue *x = &((const struct jentry *)a)->key, *y = &((const struct jentry *)b)->key;
    int order = memcmp(x->s, y->s, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static err_id sorted_entries(struct dumper *d, const struct jdict *dict, const struct jentry **out) {
    *out = dict->entries;
    if (!d->style->sort_keys) return ERR_NONE;
    struct jentry *copy = jrun_alloc(d->r, dict->len * sizeof *copy);
    memcpy(copy, dict->entries, dict->len * sizeof *copy);
    for (uint32_t i = 0; i < dict->len; i++) {
        if (copy[i].key.type != J_STRING) return jrun_fail(d->r, "sort_keys needs keys that are strings");
    }
    qsort(copy, dict->len, sizeof *copy, by_key);
    *out = copy;
    return ERR_NONE;
}

static err_id dump_dict(struct dumper *d, const struct jdict *dict) {
    if (dict->len == 0) {
        buf_str(d->out, "{}");
        return ERR_NONE;
    }
    const struct jentry *entries;
    TRY(sorted_entries(d, dict, &entries));
    buf_char(d->out, '{');
    d->level++;
    for (uint32_t i = 0; i < dict->len; i++) {
        if (i > 0) buf_str(d->out, d->style->item_separator);
        new_line(d);
        TRY(dump_key(d, entries[i].key));
        buf_str(d->out, d->style->key_separator);
        TRY(dump(d, entries[i].value));
    }
    d->level--;
    new_line(d);
    buf_char(d->out, '}');
    return ERR_NONE;
}

static err_id dump_one(struct dumper *d, struct jvalue v) {
    switch (v.type) {
    case J_NONE:
        buf_str(d->out, "null");
        return ERR_NONE;
    case J_BOOL:
        buf_str(d->out, v.b ? "true" : "false");
        return ERR_NONE;
    case J_INT:
        buf_printf(d->out, "%lld", (long long)v.i);
        return ERR_NONE;
    case J_FLOAT:
        if (isnan(v.f) || isinf(v.f)) {
            buf_str(d->out, isnan(v.f) ? "NaN" : v.f > 0 ? "Infinity" : "-Infinity");
        } else {
            jv_float_repr(v.f, d->out);
        }
        return ERR_NONE;
    case J_STRING:
        dump_string(v, d->style->ensure_ascii, d->out);
        return ERR_NONE;
    case J_LIST:
    case J_TUPLE:
        return dump_list(d, v.list);
    case J_DICT:
        return dump_dict(d, v.dict);
    default:
        return jrun_fail(d->r, "Object of type %s is not JSON serializable", jv_type_name(&v));
    }
}

static err_id dump(struct dumper *d, struct jvalue v) {
    TRY(jrun_charge(d->r, 1 + (v.type == J_STRING ? v.len / 16 : 0)));
    if (d->out->len > TEMPLATE_OUTPUT_MAX) return jrun_fail(d->r, "a text has more than %d bytes", TEMPLATE_OUTPUT_MAX);
    TRY(jrun_enter(d->r));
    err_id id = dump_one(d, v);
    jrun_leave(d->r);
    return id;
}

err_id jv_tojson(struct jrun *r, struct jvalue v, const struct json_style *style, struct buf *out) {
    struct dumper d = {.r = r, .style = style, .out = out};
    return dump(&d, v);
}
