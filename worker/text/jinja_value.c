#include "worker/text/jinja_value.h"

#include "common/base/check.h"
#include "worker/text/jinja_run.h"
#include "worker/text/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Dicts of more entries are equal only in the same order, so that comparing stays linear.
enum { COMPARE_DEPTH_MAX = 200, UNORDERED_MAX = 1000 };

// ---- making values ----

struct jvalue jv_copy_string(struct jrun *r, const char *s, size_t len) {
    char *copy = jrun_alloc(r, len + 1);
    if (len > 0) memcpy(copy, s, len);
    copy[len] = '\0';
    return jv_string(copy, len);
}

struct jvalue jv_take_buf(struct jrun *r, struct buf *b) {
    struct jvalue v = jv_copy_string(r, b->data, b->len);
    buf_free(b);
    return v;
}

struct jvalue jv_list(struct jrun *r, enum jtype type) {
    struct jlist *list = jrun_alloc(r, sizeof *list);
    *list = (struct jlist){0};
    return (struct jvalue){.type = (uint8_t)type, .list = list};
}

void jv_push(struct jrun *r, struct jvalue list, struct jvalue item) {
    struct jlist *l = list.list;
    if (l->len == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 8;
        struct jvalue *items = jrun_alloc(r, cap * sizeof *items);
        if (l->len > 0) memcpy(items, l->items, l->len * sizeof *items);
        l->items = items, l->cap = cap;
    }
    l->items[l->len++] = item;
}

struct jvalue jv_dict(struct jrun *r, enum jtype type) {
    struct jdict *dict = jrun_alloc(r, sizeof *dict);
    *dict = (struct jdict){0};
    return (struct jvalue){.type = (uint8_t)type, .dict = dict};
}

void jv_put(struct jrun *r, struct jdict *d, struct jvalue key, struct jvalue value) {
    struct jvalue *known = (struct jvalue *)jv_find(d, key);
    if (known != NULL) {
        *known = value;
        return;
    }
    if (d->len == d->cap) {
        uint32_t cap = d->cap ? d->cap * 2 : 8;
        struct jentry *entries = jrun_alloc(r, cap * sizeof *entries);
        if (d->len > 0) memcpy(entries, d->entries, d->len * sizeof *entries);
        d->entries = entries, d->cap = cap;
    }
    d->entries[d->len++] = (struct jentry){key, value};
}

static err_id from_array(struct jrun *r, const json_t *json, struct jvalue *out) {
    *out = jv_list(r, J_LIST);
    for (size_t i = 0; i < json_array_size(json); i++) {
        struct jvalue item;
        TRY(jv_from_json(r, json_array_get(json, i), &item));
        jv_push(r, *out, item);
    }
    return ERR_NONE;
}

// Keys of a JSON object are unique: no search.
static err_id from_object(struct jrun *r, const json_t *json, struct jvalue *out) {
    *out = jv_dict(r, J_DICT);
    struct jdict *d = out->dict;
    d->cap = (uint32_t)json_object_size(json);
    d->entries = jrun_alloc(r, d->cap * sizeof *d->entries);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)json, key, value) {
        d->entries[d->len].key = jv_string(key, strlen(key));
        TRY(jv_from_json(r, value, &d->entries[d->len].value));
        d->len++;
    }
    return ERR_NONE;
}

// Borrows the strings: the JSON outlives the run.
err_id jv_from_json(struct jrun *r, const json_t *json, struct jvalue *out) {
    TRY(jrun_charge(r, 1));
    TRY(jrun_enter(r));
    err_id id = ERR_NONE;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        id = from_object(r, json, out);
        break;
    case JSON_ARRAY:
        id = from_array(r, json, out);
        break;
    case JSON_STRING:
        *out = jv_string(json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER:
        *out = jv_int(json_integer_value(json));
        break;
    case JSON_REAL:
        *out = jv_float(json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = jv_bool(json_is_true(json));
        break;
    case JSON_NULL:
        *out = jv_none();
        break;
    }
    jrun_leave(r);
    return id;
}

// ---- asking values ----

const char *jv_type_name(const struct jvalue *v) {
    static const char *const names[] = {
        [J_UNDEFINED] = "Undefined", [J_NONE] = "NoneType",   [J_BOOL] = "bool",           [J_INT] = "int",
        [J_FLOAT] = "float",         [J_STRING] = "str",      [J_LIST] = "list",           [J_TUPLE] = "tuple",
        [J_GENERATOR] = "generator", [J_DICT] = "dict",       [J_NAMESPACE] = "Namespace", [J_LOOP] = "LoopContext",
        [J_MACRO] = "Macro",         [J_METHOD] = "function", [J_FUNCTION] = "function",
    };
    return names[v->type];
}

bool jv_truth(struct jvalue v) {
    switch (v.type) {
    case J_UNDEFINED:
    case J_NONE:
        return false;
    case J_BOOL:
        return v.b;
    case J_INT:
        return v.i != 0;
    case J_FLOAT:
        return v.f != 0;
    case J_STRING:
        return v.len > 0;
    case J_LIST:
    case J_TUPLE:
        return v.list->len > 0;
    case J_DICT:
        return v.dict->len > 0;
    default:
        return true;
    }
}

bool jv_is_number(struct jvalue v) { return v.type == J_INT || v.type == J_FLOAT || v.type == J_BOOL; }

double jv_number(struct jvalue v) { return v.type == J_FLOAT ? v.f : (double)jv_integer(v); }

static bool equal(struct jvalue a, struct jvalue b, int depth);

static bool lists_equal(const struct jlist *a, const struct jlist *b, int depth) {
    if (a->len != b->len) return false;
    for (uint32_t i = 0; i < a->len; i++) {
        if (!equal(a->items[i], b->items[i], depth)) return false;
    }
    return true;
}

static bool dicts_equal(const struct jdict *a, const struct jdict *b, int depth) {
    if (a->len != b->len) return false;
    for (uint32_t i = 0; i < a->len; i++) {
        const struct jentry *same = &b->entries[i]; // nearly always in the same place
        const struct jvalue *other = equal(same->key, a->entries[i].key, depth) ? &same->value : NULL;
        if (other == NULL && a->len <= UNORDERED_MAX) other = jv_find(b, a->entries[i].key);
        if (other == NULL || !equal(a->entries[i].value, *other, depth)) return false;
    }
    return true;
}

static bool equal(struct jvalue a, struct jvalue b, int depth) {
    if (depth > COMPARE_DEPTH_MAX) return false;
    if (jv_is_integer(a) && jv_is_integer(b)) return jv_integer(a) == jv_integer(b);
    if (jv_is_number(a) && jv_is_number(b)) return jv_number(a) == jv_number(b);
    if (a.type != b.type) return false;
    switch (a.type) {
    case J_UNDEFINED:
    case J_NONE:
        return true;
    case J_STRING:
        return a.len == b.len && memcmp(a.s, b.s, a.len) == 0;
    case J_LIST:
    case J_TUPLE:
        return lists_equal(a.list, b.list, depth + 1);
    case J_DICT:
        return dicts_equal(a.dict, b.dict, depth + 1);
    default:
        return a.list == b.list; // the same object
    }
}

bool jv_equal(struct jvalue a, struct jvalue b) { return equal(a, b, 0); }

const struct jvalue *jv_find(const struct jdict *d, struct jvalue key) {
    for (uint32_t i = 0; i < d->len; i++) {
        const struct jvalue *k = &d->entries[i].key;
        bool same = key.type == J_STRING && k->type == J_STRING ? k->len == key.len && memcmp(k->s, key.s, key.len) == 0
                                                                : jv_equal(*k, key);
        if (same) return &d->entries[i].value;
    }
    return NULL;
}

static err_id compare_lists(struct jrun *r, const struct jlist *a, const struct jlist *b, int *cmp) {
    TRY(jrun_enter(r));
    err_id id = ERR_NONE;
    uint32_t i = 0;
    while (i < a->len && i < b->len && jv_equal(a->items[i], b->items[i])) i++;
    if (i < a->len && i < b->len) {
        id = jv_compare(r, a->items[i], b->items[i], cmp);
    } else {
        *cmp = (a->len > b->len) - (a->len < b->len);
    }
    jrun_leave(r);
    return id;
}

err_id jv_compare(struct jrun *r, struct jvalue a, struct jvalue b, int *cmp) {
    TRY(jrun_charge(r, 1));
    if (jv_is_integer(a) && jv_is_integer(b)) {
        *cmp = (jv_integer(a) > jv_integer(b)) - (jv_integer(a) < jv_integer(b));
        return ERR_NONE;
    }
    if (jv_is_number(a) && jv_is_number(b)) {
        *cmp = (jv_number(a) > jv_number(b)) - (jv_number(a) < jv_number(b));
        return ERR_NONE;
    }
    if (a.type == J_STRING && b.type == J_STRING) {
        int order = memcmp(a.s, b.s, a.len < b.len ? a.len : b.len); // UTF-8's order is that of code points
        *cmp = order != 0 ? order : (a.len > b.len) - (a.len < b.len);
        return ERR_NONE;
    }
    if (a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) return compare_lists(r, a.list, b.list, cmp);
    if (a.type == J_UNDEFINED) return jinja_undefined_error(r, a);
    if (b.type == J_UNDEFINED) return jinja_undefined_error(r, b);
    return jrun_fail(r, "'%s' and '%s' can't be ordered", jv_type_name(&a), jv_type_name(&b));
}

static err_id string_items(struct jrun *r, struct jvalue v, struct jlist *out) {
    struct jvalue list = jv_list(r, J_LIST);
    for (uint32_t i = 0; i < v.len;) {
        TRY(jrun_charge(r, 1));
        uint32_t cp;
        size_t n = utf8_next(v.s + i, v.len - i, &cp);
        jv_push(r, list, jv_string(v.s + i, n));
        i += (uint32_t)n;
    }
    *out = *list.list;
    return ERR_NONE;
}

err_id jv_iterate(struct jrun *r, struct jvalue v, struct jlist *out) {
    *out = (struct jlist){0};
    switch (v.type) {
    case J_UNDEFINED:
        return ERR_NONE;
    case J_STRING:
        return string_items(r, v, out);
    case J_LIST:
    case J_TUPLE:
        *out = *v.list;
        return ERR_NONE;
    case J_GENERATOR:
        if (v.list->broken) return jrun_fail(r, "'%s' object is not iterable", v.list->broken);
        *out = *v.list;
        *v.list = (struct jlist){0};
        return ERR_NONE;
    case J_DICT: {
        TRY(jrun_charge(r, v.dict->len));
        struct jvalue keys = jv_list(r, J_LIST);
        for (uint32_t i = 0; i < v.dict->len; i++) jv_push(r, keys, v.dict->entries[i].key);
        *out = *keys.list;
        return ERR_NONE;
    }
    default:
        return jrun_fail(r, "'%s' object is not iterable", jv_type_name(&v));
    }
}

err_id jv_length(struct jrun *r, struct jvalue v, int64_t *n) {
    switch (v.type) {
    case J_UNDEFINED:
        *n = 0;
        return ERR_NONE;
    case J_STRING:
        *n = (int64_t)utf8_count(v.s, v.len);
        return jrun_charge(r, v.len / 16);
    case J_LIST:
    case J_TUPLE:
        *n = v.list->len;
        return ERR_NONE;
    case J_DICT:
        *n = v.dict->len;
        return ERR_NONE;
    case J_LOOP:
        *n = v.loop->items.len;
        return ERR_NONE;
    default:
        return jrun_fail(r, "object of type '%s' has no len()", jv_type_name(&v));
    }
}
