// Methods of strings, dicts, lists and loops. Those that would change their object don't exist here: the reference runs
// templates in a sandbox that forbids them.
#include "common/base/check.h"
#include "worker/text/jinja_filters.h"
#include "worker/text/jinja_string.h"
#include "worker/text/utf8.h"

#include <string.h>

#define METHOD(name) static err_id method_##name(struct jrun *r, struct jvalue o, const struct jargs *a, struct jvalue *out)

// ---- strings: case and stripping ----

typedef void text_function(const char *s, size_t n, struct buf *out);

static err_id through(struct jrun *r, struct jvalue o, text_function *f, struct jvalue *out) {
    TRY(jrun_charge(r, o.len / 4));
    struct buf text = {0};
    f(o.s, o.len, &text);
    *out = jv_take_buf(r, &text);
    return ERR_NONE;
}

METHOD(upper) { return through(r, o, jstring_upper, out); }
METHOD(lower) { return through(r, o, jstring_lower, out); }
METHOD(title) { return through(r, o, jstring_title, out); }
METHOD(capitalize) { return through(r, o, jstring_capitalize, out); }
METHOD(swapcase) { return through(r, o, jstring_swapcase, out); }

static err_id strip(struct jrun *r, struct jvalue o, const struct jargs *a, bool left, bool right, struct jvalue *out) {
    struct jvalue chars;
    bool has = a->n > 0 && a->values[0].type != J_NONE;
    TRY(jargs_string(r, a, 0, "chars", "", &chars));
    const char *s = o.s;
    size_t n = o.len;
    jstring_strip(&s, &n, has ? chars.s : NULL, chars.len, left, right);
    *out = jv_string(s, n);
    return jrun_charge(r, o.len / 16);
}

METHOD(strip) { return strip(r, o, a, true, true, out); }
METHOD(lstrip) { return strip(r, o, a, true, false, out); }
METHOD(rstrip) { return strip(r, o, a, false, true, out); }

static err_id classify(struct jrun *r, struct jvalue o, enum jstring_class class, struct jvalue *out) {
    *out = jv_bool(jstring_is(class, o.s, o.len));
    return jrun_charge(r, o.len / 16);
}

METHOD(isalpha) { return classify(r, o, JSTRING_ALPHA, out); }
METHOD(isdigit) { return classify(r, o, JSTRING_DIGIT, out); }
METHOD(isalnum) { return classify(r, o, JSTRING_ALNUM, out); }
METHOD(isspace) { return classify(r, o, JSTRING_SPACE, out); }
METHOD(isupper) { return classify(r, o, JSTRING_UPPER, out); }
METHOD(islower) { return classify(r, o, JSTRING_LOWER, out); }

// ---- strings: searching ----

static bool starts_with(struct jvalue s, struct jvalue with, bool at_end) {
    if (with.len > s.len) return false;
    return memcmp(at_end ? s.s + s.len - with.len : s.s, with.s, with.len) == 0;
}

// One string or a tuple of them.
static err_id edge(struct jrun *r, struct jvalue o, const struct jargs *a, bool at_end, struct jvalue *out) {
    if (a->n != 1) return jrun_fail(r, "startswith and endswith take one argument here");
    struct jvalue with = a->values[0];
    struct jvalue *items = &with;
    uint32_t n = 1;
    if (with.type == J_TUPLE) items = with.list->items, n = with.list->len;
    *out = jv_bool(false);
    for (uint32_t i = 0; i < n; i++) {
        if (items[i].type != J_STRING)
            return jrun_fail(r, "startswith and endswith need a string, not %s", jv_type_name(&items[i]));
        if (starts_with(o, items[i], at_end)) *out = jv_bool(true);
    }
    return jrun_charge(r, n);
}

METHOD(startswith) { return edge(r, o, a, false, out); }
METHOD(endswith) { return edge(r, o, a, true, out); }

static err_id remove_edge(struct jrun *r, struct jvalue o, const struct jargs *a, bool at_end, struct jvalue *out) {
    struct jvalue with;
    TRY(jargs_string(r, a, 0, "prefix", NULL, &with));
    *out = o;
    if (starts_with(o, with, at_end)) *out = jv_string(at_end ? o.s : o.s + with.len, o.len - with.len);
    return ERR_NONE;
}

METHOD(removeprefix) { return remove_edge(r, o, a, false, out); }
METHOD(removesuffix) { return remove_edge(r, o, a, true, out); }

static const char *find_last(struct jvalue s, struct jvalue what) {
    for (size_t i = s.len + 1; i-- > 0;) {
        if (i + what.len <= s.len && memcmp(s.s + i, what.s, what.len) == 0) return s.s + i;
    }
    return NULL;
}

static const char *find_first(const char *s, size_t n, struct jvalue what) {
    if (what.len == 0) return s;
    return n >= what.len ? memmem(s, n, what.s, what.len) : NULL;
}

static err_id position(struct jrun *r, struct jvalue o, const struct jargs *a, bool last, struct jvalue *out) {
    struct jvalue what;
    TRY(jargs_check(r, a, "find", 1, NULL));
    TRY(jargs_string(r, a, 0, "sub", NULL, &what));
    TRY(jrun_charge(r, (size_t)(o.len / 16) * (last ? 1 + what.len : 1)));
    const char *at = last ? find_last(o, what) : find_first(o.s, o.len, what);
    *out = jv_int(at ? (int64_t)utf8_count(o.s, (size_t)(at - o.s)) : -1);
    return ERR_NONE;
}

METHOD(find) { return position(r, o, a, false, out); }
METHOD(rfind) { return position(r, o, a, true, out); }

static err_id found(struct jrun *r, struct jvalue v) { return v.i >= 0 ? ERR_NONE : jrun_fail(r, "substring not found"); }

METHOD(index) {
    TRY(position(r, o, a, false, out));
    return found(r, *out);
}
METHOD(rindex) {
    TRY(position(r, o, a, true, out));
    return found(r, *out);
}

METHOD(count) {
    struct jvalue what;
    TRY(jargs_string(r, a, 0, "sub", NULL, &what));
    TRY(jrun_charge(r, o.len / 16));
    int64_t n = 0;
    if (what.len == 0) n = (int64_t)utf8_count(o.s, o.len) + 1;
    const char *at = o.s, *end = o.s + o.len;
    while (what.len > 0 && (at = find_first(at, (size_t)(end - at), what)) != NULL) n++, at += what.len;
    *out = jv_int(n);
    return ERR_NONE;
}

// ---- strings: cutting and joining ----

err_id jinja_replace(struct jrun *r, struct jvalue s, struct jvalue old, struct jvalue new, int64_t count,
                     struct jvalue *out) {
    struct buf text = {0};
    const char *at = s.s, *end = s.s + s.len;
    if (count < 0) count = INT64_MAX;
    for (; count > 0 && text.len <= TEMPLATE_OUTPUT_MAX; count--) {
        const char *next = find_first(at, (size_t)(end - at), old);
        if (next == NULL) break;
        buf_append(&text, at, (size_t)(next - at));
        buf_append(&text, new.s, new.len);
        at = next + old.len;
        if (old.len > 0) continue;
        if (at == end) break; // an empty string is found before each character and at the end
        uint32_t cp;
        size_t n = utf8_next(at, (size_t)(end - at), &cp);
        buf_append(&text, at, n);
        at += n;
    }
    buf_append(&text, at, (size_t)(end - at));
    *out = jv_take_buf(r, &text);
    if (out->len > TEMPLATE_OUTPUT_MAX) return jrun_fail(r, "a text has more than %d bytes", TEMPLATE_OUTPUT_MAX);
    return jrun_charge(r, (s.len + out->len) / 16);
}

METHOD(replace) {
    struct jvalue old, new;
    int64_t count;
    TRY(jargs_string(r, a, 0, "old", NULL, &old));
    TRY(jargs_string(r, a, 1, "new", NULL, &new));
    TRY(jargs_int(r, a, 2, "count", -1, &count));
    return jinja_replace(r, o, old, new, count, out);
}

static void push_part(struct jrun *r, struct jvalue list, const char *s, const char *end) {
    jv_push(r, list, jv_string(s, (size_t)(end - s)));
}

// At runs of white space, ignoring those at the ends. What is left after max splits is one part.
static void split_space(struct jrun *r, struct jvalue o, int64_t max, struct jvalue list) {
    const char *s = o.s;
    size_t n = o.len;
    jstring_strip(&s, &n, NULL, 0, true, false);
    while (n > 0) {
        if (max-- == 0) {
            push_part(r, list, s, s + n);
            return;
        }
        size_t end = 0;
        while (end < n && jstring_space(s + end, n - end) == 0) end++;
        push_part(r, list, s, s + end);
        s += end, n -= end;
        jstring_strip(&s, &n, NULL, 0, true, false);
    }
}

static void split_at(struct jrun *r, struct jvalue o, struct jvalue separator, int64_t max, struct jvalue list) {
    const char *s = o.s, *end = o.s + o.len, *at;
    while (max-- != 0 && (at = find_first(s, (size_t)(end - s), separator)) != NULL) {
        push_part(r, list, s, at);
        s = at + separator.len;
    }
    push_part(r, list, s, end);
}

static void reverse_items(struct jlist *l) {
    for (uint32_t i = 0; i < l->len / 2; i++) {
        struct jvalue swap = l->items[i];
        l->items[i] = l->items[l->len - 1 - i];
        l->items[l->len - 1 - i] = swap;
    }
}

static void split_last(struct jrun *r, struct jvalue o, struct jvalue separator, int64_t max, struct jvalue list) {
    const char *at;
    while (max-- != 0 && (at = find_last(o, separator)) != NULL) {
        push_part(r, list, at + separator.len, o.s + o.len);
        o.len = (uint32_t)(at - o.s);
    }
    push_part(r, list, o.s, o.s + o.len);
    reverse_items(list.list);
}

static void split_space_last(struct jrun *r, struct jvalue o, int64_t max, struct jvalue list) {
    const char *s = o.s;
    size_t n = o.len;
    jstring_strip(&s, &n, NULL, 0, false, true);
    while (n > 0) {
        if (max-- == 0) {
            push_part(r, list, s, s + n);
            break;
        }
        size_t start = n;
        while (start > 0) {
            size_t last = utf8_prev(s, start);
            if (jstring_space(s + last, start - last) > 0) break;
            start = last;
        }
        push_part(r, list, s + start, s + n);
        n = start;
        jstring_strip(&s, &n, NULL, 0, false, true);
    }
    reverse_items(list.list);
}

static err_id split(struct jrun *r, struct jvalue o, const struct jargs *a, bool last, struct jvalue *out) {
    const struct jvalue *given = jargs_get(a, 0, "sep");
    bool at_space = given == NULL || given->type == J_NONE;
    struct jvalue separator;
    int64_t max;
    TRY(jargs_string(r, a, 0, "sep", " ", &separator));
    TRY(jargs_int(r, a, 1, "maxsplit", -1, &max));
    if (separator.len == 0) return jrun_fail(r, "empty separator");
    TRY(jrun_charge(r, o.len));
    *out = jv_list(r, J_LIST);
    if (at_space) {
        (last ? split_space_last : split_space)(r, o, max, *out);
    } else {
        (last ? split_last : split_at)(r, o, separator, max, *out);
    }
    return ERR_NONE;
}

METHOD(split) { return split(r, o, a, false, out); }
METHOD(rsplit) { return split(r, o, a, true, out); }

METHOD(splitlines) {
    bool keep = jargs_flag(a, 0, "keepends", false);
    TRY(jrun_charge(r, o.len));
    *out = jv_list(r, J_LIST);
    for (size_t start = 0, i = 0; i < o.len;) {
        size_t gap = 0;
        while (i < o.len && (gap = jstring_line_break(o.s + i, o.len - i)) == 0) i++;
        push_part(r, *out, o.s + start, o.s + i + (keep ? gap : 0));
        start = i += gap;
    }
    return ERR_NONE;
}

static err_id partition(struct jrun *r, struct jvalue o, const struct jargs *a, bool last, struct jvalue *out) {
    struct jvalue separator;
    TRY(jargs_string(r, a, 0, "sep", NULL, &separator));
    if (separator.len == 0) return jrun_fail(r, "empty separator");
    const char *end = o.s + o.len, *at = last ? find_last(o, separator) : find_first(o.s, o.len, separator);
    *out = jv_list(r, J_TUPLE);
    if (at == NULL) {
        jv_push(r, *out, last ? jv_string("", 0) : o);
        jv_push(r, *out, jv_string("", 0));
        jv_push(r, *out, last ? o : jv_string("", 0));
    } else {
        push_part(r, *out, o.s, at);
        jv_push(r, *out, separator);
        push_part(r, *out, at + separator.len, end);
    }
    return jrun_charge(r, o.len / 16 * (last ? 1 + separator.len : 1));
}

METHOD(partition) { return partition(r, o, a, false, out); }
METHOD(rpartition) { return partition(r, o, a, true, out); }

METHOD(join) {
    struct jlist items;
    if (a->n != 1) return jrun_fail(r, "join takes one argument");
    TRY(jv_iterate(r, a->values[0], &items));
    for (uint32_t i = 0; i < items.len; i++) {
        if (items.items[i].type != J_STRING)
            return jrun_fail(r, "sequence item %u: expected str instance, %s found", i, jv_type_name(&items.items[i]));
    }
    return jinja_join(r, &items, o, out);
}

METHOD(format) { return jinja_format_braces(r, o, a, out); }

// ---- strings: padding ----

static err_id repeat_fill(struct jrun *r, struct jvalue fill, int64_t n, struct jvalue *out) {
    return jinja_binary(r, OP_MUL, fill, jv_int(n), out);
}

err_id jinja_pad(struct jrun *r, struct jvalue s, int64_t width, struct jvalue fill, int side, struct jvalue *out) {
    int64_t len;
    TRY(jv_length(r, s, &len));
    *out = s;
    if (width <= len) return ERR_NONE;
    int64_t pad = width - len, left = side < 0 ? pad : side > 0 ? 0 : pad / 2 + (pad & width & 1);
    struct jvalue before, after, both;
    TRY(repeat_fill(r, fill, left, &before));
    TRY(repeat_fill(r, fill, pad - left, &after));
    TRY(jinja_binary(r, OP_ADD, before, s, &both));
    return jinja_binary(r, OP_ADD, both, after, out);
}

static err_id pad(struct jrun *r, struct jvalue o, const struct jargs *a, int side, struct jvalue *out) {
    struct jvalue fill;
    int64_t width;
    TRY(jargs_int(r, a, 0, "width", 0, &width));
    TRY(jargs_string(r, a, 1, "fillchar", " ", &fill));
    if (utf8_count(fill.s, fill.len) != 1) return jrun_fail(r, "the fill character must be exactly one character long");
    return jinja_pad(r, o, width, fill, side, out);
}

METHOD(ljust) { return pad(r, o, a, 1, out); }
METHOD(rjust) { return pad(r, o, a, -1, out); }
METHOD(center) { return pad(r, o, a, 0, out); }

METHOD(zfill) {
    int64_t width;
    TRY(jargs_int(r, a, 0, "width", 0, &width));
    bool sign = o.len > 0 && (o.s[0] == '-' || o.s[0] == '+');
    struct jvalue digits = jv_string(o.s + sign, o.len - sign), padded;
    TRY(jinja_pad(r, digits, width - sign, jv_string("0", 1), -1, &padded));
    return jinja_binary(r, OP_ADD, jv_string(o.s, sign), padded, out);
}

// ---- dicts, lists, loops ----

METHOD(get) {
    if (a->n < 1 || a->n > 2) return jrun_fail(r, "get takes one or two arguments");
    TRY(jrun_charge(r, o.dict->len / 16));
    const struct jvalue *v = jv_find(o.dict, a->values[0]);
    *out = v ? *v : a->n > 1 ? a->values[1] : jv_none();
    return ERR_NONE;
}

static err_id view(struct jrun *r, const struct jdict *d, bool keys, bool values, struct jvalue *out) {
    TRY(jrun_charge(r, d->len));
    *out = jv_list(r, J_LIST);
    for (uint32_t i = 0; i < d->len; i++) {
        struct jvalue item = keys ? d->entries[i].key : d->entries[i].value;
        if (keys && values) {
            item = jv_list(r, J_TUPLE);
            jv_push(r, item, d->entries[i].key);
            jv_push(r, item, d->entries[i].value);
        }
        jv_push(r, *out, item);
    }
    return ERR_NONE;
}

METHOD(items) { return view(r, o.dict, true, true, out); }
METHOD(keys) { return view(r, o.dict, true, false, out); }
METHOD(values) { return view(r, o.dict, false, true, out); }
METHOD(copy) { return *out = o, ERR_NONE; }

METHOD(list_count) {
    if (a->n != 1) return jrun_fail(r, "count takes one argument");
    TRY(jrun_charge(r, o.list->len));
    int64_t n = 0;
    for (uint32_t i = 0; i < o.list->len; i++) n += jv_equal(o.list->items[i], a->values[0]);
    *out = jv_int(n);
    return ERR_NONE;
}

METHOD(list_index) {
    if (a->n != 1) return jrun_fail(r, "index takes one argument here");
    TRY(jrun_charge(r, o.list->len));
    for (uint32_t i = 0; i < o.list->len; i++) {
        if (jv_equal(o.list->items[i], a->values[0])) return *out = jv_int(i), ERR_NONE;
    }
    return jrun_fail(r, "the value is not in the list");
}

METHOD(cycle) {
    if (a->n == 0) return jrun_fail(r, "no items for cycling given");
    *out = a->values[o.loop->index0 % a->n];
    return ERR_NONE;
}

METHOD(changed) {
    struct jvalue now = jv_list(r, J_TUPLE);
    for (uint32_t i = 0; i < a->n; i++) jv_push(r, now, a->values[i]);
    *out = jv_bool(!o.loop->has_changed || !jv_equal(o.loop->changed, now));
    o.loop->changed = now, o.loop->has_changed = true;
    return ERR_NONE;
}

// ---- tables ----

static const struct jmethod_kind string_methods[] = {
    {"capitalize", method_capitalize},
    {"center", method_center},
    {"count", method_count},
    {"endswith", method_endswith},
    {"find", method_find},
    {"format", method_format},
    {"index", method_index},
    {"isalnum", method_isalnum},
    {"isalpha", method_isalpha},
    {"isdecimal", method_isdigit},
    {"isdigit", method_isdigit},
    {"islower", method_islower},
    {"isnumeric", method_isdigit},
    {"isspace", method_isspace},
    {"isupper", method_isupper},
    {"join", method_join},
    {"ljust", method_ljust},
    {"lower", method_lower},
    {"casefold", method_lower},
    {"lstrip", method_lstrip},
    {"partition", method_partition},
    {"removeprefix", method_removeprefix},
    {"removesuffix", method_removesuffix},
    {"replace", method_replace},
    {"rfind", method_rfind},
    {"rindex", method_rindex},
    {"rjust", method_rjust},
    {"rpartition", method_rpartition},
    {"rsplit", method_rsplit},
    {"rstrip", method_rstrip},
    {"split", method_split},
    {"splitlines", method_splitlines},
    {"startswith", method_startswith},
    {"strip", method_strip},
    {"swapcase", method_swapcase},
    {"title", method_title},
    {"upper", method_upper},
    {"zfill", method_zfill},
};
static const struct jmethod_kind dict_methods[] = {
    {"copy", method_copy}, {"get", method_get}, {"items", method_items}, {"keys", method_keys}, {"values", method_values},
};
static const struct jmethod_kind list_methods[] = {
    {"copy", method_copy}, {"count", method_list_count}, {"index", method_list_index}};
static const struct jmethod_kind loop_methods[] = {{"changed", method_changed}, {"cycle", method_cycle}};

const struct jmethod_kind *jinja_method_find(enum jtype type, const char *name, size_t len) {
    const struct jmethod_kind *methods = NULL;
    size_t n = 0;
    switch (type) {
    case J_STRING:
        methods = string_methods, n = ARRAY_LEN(string_methods);
        break;
    case J_DICT:
        methods = dict_methods, n = ARRAY_LEN(dict_methods);
        break;
    case J_LIST:
    case J_TUPLE:
        methods = list_methods, n = ARRAY_LEN(list_methods);
        break;
    case J_LOOP:
        methods = loop_methods, n = ARRAY_LEN(loop_methods);
        break;
    default:
        break;
    }
    for (size_t i = 0; i < n; i++) {
        if (strlen(methods[i].name) == len && memcmp(methods[i].name, name, len) == 0) return &methods[i];
    }
    return NULL;
}
