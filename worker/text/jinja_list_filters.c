// Filters that go through the items of a value.
#include "common/base/check.h"
#include "worker/text/jinja_filters.h"
#include "worker/text/jinja_string.h"

#include <stdlib.h>
#include <string.h>

// ---- attributes of items: "a.b.0" ----

// absent: what stands for a part that isn't there, or NULL.
static err_id attribute_or(struct jrun *r, struct jvalue v, const struct jvalue *path, const struct jvalue *absent,
                           struct jvalue *out) {
    *out = v;
    if (path == NULL || path->type == J_NONE) return ERR_NONE;
    if (jv_is_integer(*path)) {
        TRY(jinja_item(r, v, *path, out));
        if (out->type == J_UNDEFINED && absent) *out = *absent;
        return ERR_NONE;
    }
    if (path->type != J_STRING) return jrun_fail(r, "an attribute must be a string or an integer");
    for (size_t i = 0; i <= path->len;) {
        size_t end = i;
        while (end < path->len && path->s[end] != '.') end++;
        struct jvalue key = jv_string(path->s + i, end - i);
        if (end > i && strspn(key.s, "0123456789") >= key.len && key.len < 10) {
            char digits[11] = "";
            memcpy(digits, key.s, key.len);
            key = jv_int(atoi(digits));
        }
        struct jvalue inner;
        TRY(jinja_item(r, *out, key, &inner));
        *out = inner.type == J_UNDEFINED && absent ? *absent : inner;
        i = end + 1;
    }
    return ERR_NONE;
}

static err_id attribute_path(struct jrun *r, struct jvalue v, const struct jvalue *path, struct jvalue *out) {
    return attribute_or(r, v, path, NULL, out);
}

// For filters that make a generator: what can't be iterated is only noticed when the generator is. *out becomes one that
// fails.
// falsy_is_empty: unless it is false, as None.
static bool iterate_later(struct jrun *r, struct jvalue v, bool falsy_is_empty, struct jlist *items, struct jvalue *out,
                          err_id *id) {
    *out = jv_list(r, J_GENERATOR);
    if (v.type == J_GENERATOR && v.list->broken) {
        out->list->broken = v.list->broken;
        *id = ERR_NONE;
        return false;
    }
    if (v.type == J_STRING || v.type == J_DICT || v.type == J_UNDEFINED || jv_is_list(v)) {
        *id = jv_iterate(r, v, items);
        return *id == ERR_NONE;
    }
    if (!falsy_is_empty || jv_truth(v)) out->list->broken = jv_type_name(&v);
    *id = ERR_NONE;
    return false;
}

// ---- first, last, list, items, reverse, join ----

FILTER(first) {
    struct jlist items;
    TRY(jv_iterate(r, v, &items));
    *out = items.len > 0 ? items.items[0] : jv_undefined("first item", 10);
    return ERR_NONE;
}

FILTER(last) {
    struct jlist items;
    if (v.type == J_GENERATOR) return jrun_fail(r, "'generator' object is not reversible");
    TRY(jv_iterate(r, v, &items));
    *out = items.len > 0 ? items.items[items.len - 1] : jv_undefined("last item", 9);
    return ERR_NONE;
}

FILTER(list) {
    struct jlist items;
    TRY(jv_iterate(r, v, &items));
    TRY(jrun_charge(r, items.len));
    *out = jv_list(r, J_LIST);
    for (uint32_t i = 0; i < items.len; i++) jv_push(r, *out, items.items[i]);
    return ERR_NONE;
}

FILTER(items) {
    *out = jv_list(r, J_GENERATOR);
    if (v.type != J_DICT && v.type != J_UNDEFINED) out->list->broken = jv_type_name(&v);
    for (uint32_t i = 0; v.type == J_DICT && i < v.dict->len; i++) {
        struct jvalue pair = jv_list(r, J_TUPLE);
        jv_push(r, pair, v.dict->entries[i].key);
        jv_push(r, pair, v.dict->entries[i].value);
        jv_push(r, *out, pair);
    }
    return jrun_charge(r, out->list->len);
}

FILTER(reverse) {
    struct jlist items;
    if (v.type == J_GENERATOR || v.type == J_UNDEFINED || v.type == J_LIST || v.type == J_TUPLE || v.type == J_STRING ||
        v.type == J_DICT) {
        TRY(jv_iterate(r, v, &items));
    } else {
        return jrun_fail(r, "argument must be iterable");
    }
    TRY(jrun_charge(r, items.len));
    struct buf text = {0};
    *out = jv_list(r, J_GENERATOR);
    for (uint32_t i = items.len; i-- > 0;) {
        if (v.type == J_STRING) {
            buf_append(&text, items.items[i].s, items.items[i].len);
        } else {
            jv_push(r, *out, items.items[i]);
        }
    }
    if (v.type == J_STRING) *out = jv_take_buf(r, &text);
    return ERR_NONE;
}

err_id jinja_join(struct jrun *r, const struct jlist *items, struct jvalue separator, struct jvalue *out) {
    struct buf text = {0};
    err_id id = ERR_NONE;
    for (uint32_t i = 0; i < items->len && id == ERR_NONE; i++) {
        if (i > 0) id = jv_print(r, separator, &text);
        if (id == ERR_NONE) id = jv_print(r, items->items[i], &text);
    }
    *out = jv_take_buf(r, &text);
    return id;
}

FILTER(join) {
    struct jvalue separator;
    struct jlist items;
    TRY(jargs_string(r, a, 0, "d", "", &separator));
    TRY(jv_iterate(r, v, &items));
    const struct jvalue *attribute = jargs_get(a, 1, "attribute");
    struct jvalue parts = jv_list(r, J_LIST);
    for (uint32_t i = 0; i < items.len; i++) {
        struct jvalue part;
        TRY(attribute_path(r, items.items[i], attribute, &part));
        jv_push(r, parts, part);
    }
    return jinja_join(r, parts.list, separator, out);
}

// ---- map, select and their kin ----

// The arguments from the given one on.
static struct jargs rest(const struct jargs *a, uint32_t from) {
    struct jargs out = *a;
    if (from > a->n) from = a->n;
    out.values += a->n > 0 ? from : 0;
    out.n -= from;
    return out;
}

static err_id find_filter(struct jrun *r, struct jvalue name, const struct jfilter **out) {
    char text[40] = "";
    if (name.type == J_STRING && name.len < sizeof text) memcpy(text, name.s, name.len);
    *out = jinja_filter_find(text);
    return *out ? ERR_NONE : jrun_fail(r, "the filter \"%s\" is not supported", text);
}

static err_id map_attribute(struct jrun *r, const struct jlist *items, const struct jargs *a, struct jvalue out) {
    const struct jvalue *attribute = jargs_get(a, UINT32_MAX, "attribute"), *absent = jargs_get(a, UINT32_MAX, "default");
    for (uint32_t i = 0; i < items->len; i++) {
        struct jvalue item;
        TRY(attribute_or(r, items->items[i], attribute, absent && absent->type != J_NONE ? absent : NULL, &item));
        jv_push(r, out, item);
    }
    return ERR_NONE;
}

FILTER(map) {
    struct jlist items;
    err_id id;
    if (!iterate_later(r, v, true, &items, out, &id)) return id;
    if (a->n == 0) {
        if (jargs_get(a, UINT32_MAX, "attribute") == NULL) return jrun_fail(r, "map requires a filter argument");
        return map_attribute(r, &items, a, *out);
    }
    const struct jfilter *filter;
    TRY(find_filter(r, a->values[0], &filter));
    struct jargs others = rest(a, 1);
    for (uint32_t i = 0; i < items.len; i++) {
        struct jvalue item;
        TRY(filter->run(r, items.items[i], &others, &item));
        jv_push(r, *out, item);
    }
    return ERR_NONE;
}

// Keeps the items whose truth, or test, is `keep`. with_attribute: of an attribute that the first argument names.
static err_id select_items(struct jrun *r, struct jvalue v, const struct jargs *a, bool with_attribute, bool keep,
                           struct jvalue *out) {
    struct jlist items;
    err_id id;
    if (with_attribute && a->n == 0) return jrun_fail(r, "selectattr and rejectattr need an attribute");
    if (!iterate_later(r, v, true, &items, out, &id)) return id;
    uint32_t at = with_attribute;
    const struct jtest *test = NULL;
    if (a->n > at) {
        char name[40] = "";
        if (a->values[at].type == J_STRING && a->values[at].len < sizeof name)
            memcpy(name, a->values[at].s, a->values[at].len);
        test = jinja_test_find(name);
        if (test == NULL) return jrun_fail(r, "the test \"%s\" is not supported", name);
    }
    struct jargs others = rest(a, at + 1);
    for (uint32_t i = 0; i < items.len; i++) {
        struct jvalue item;
        TRY(jrun_charge(r, 1));
        TRY(attribute_path(r, items.items[i], with_attribute ? &a->values[0] : NULL, &item));
        bool passes = jv_truth(item);
        if (test != NULL) TRY(test->run(r, item, &others, &passes));
        if (passes == keep) jv_push(r, *out, items.items[i]);
    }
    return ERR_NONE;
}

FILTER(select) { return select_items(r, v, a, false, true, out); }
FILTER(reject) { return select_items(r, v, a, false, false, out); }
FILTER(selectattr) { return select_items(r, v, a, true, true, out); }
FILTER(rejectattr) { return select_items(r, v, a, true, false, out); }

// ---- order ----

struct keyed {
    struct jvalue key, item;
};

static struct jvalue fold_case(struct jrun *r, struct jvalue v, bool case_sensitive) {
    if (case_sensitive || v.type != J_STRING) return v;
    struct buf text = {0};
    jstring_lower(v.s, v.len, &text);
    return jv_take_buf(r, &text);
}

// Merge sort: stable, and able to fail in a comparison.
static err_id merge_sort(struct jrun *r, struct keyed *k, struct keyed *spare, uint32_t n, bool reverse) {
    if (n < 2) return ERR_NONE;
    uint32_t half = n / 2;
    TRY(merge_sort(r, k, spare, half, reverse));
    TRY(merge_sort(r, k + half, spare, n - half, reverse));
    memcpy(spare, k, n * sizeof *k);
    for (uint32_t i = 0, left = 0, right = half; i < n; i++) {
        int cmp = -1;
        if (left < half && right < n) {
            bool same = jv_equal(spare[left].key, spare[right].key); // as attributes that no item has
            if (same) cmp = 0;
            if (!same) TRY(jv_compare(r, spare[left].key, spare[right].key, &cmp));
            if (reverse) cmp = -cmp;
        }
        k[i] = left < half && (right == n || cmp <= 0) ? spare[left++] : spare[right++];
    }
    return ERR_NONE;
}

static err_id keyed_items(struct jrun *r, struct jvalue v, const struct jvalue *attribute, bool case_sensitive,
                          struct keyed **out, uint32_t *n) {
    struct jlist items;
    TRY(jv_iterate(r, v, &items));
    TRY(jrun_charge(r, items.len));
    *n = items.len;
    *out = jrun_alloc(r, (items.len + 1) * sizeof **out);
    for (uint32_t i = 0; i < items.len; i++) {
        struct jvalue key;
        TRY(attribute_path(r, items.items[i], attribute, &key));
        (*out)[i] = (struct keyed){fold_case(r, key, case_sensitive), items.items[i]};
    }
    return ERR_NONE;
}

static err_id sort_keyed(struct jrun *r, struct keyed *k, uint32_t n, bool reverse, struct jvalue *out) {
    struct keyed *spare = jrun_alloc(r, (n + 1) * sizeof *spare);
    TRY(merge_sort(r, k, spare, n, reverse));
    *out = jv_list(r, J_LIST);
    for (uint32_t i = 0; i < n; i++) jv_push(r, *out, k[i].item);
    return ERR_NONE;
}

FILTER(sort) {
    struct keyed *k;
    uint32_t n;
    TRY(keyed_items(r, v, jargs_get(a, 2, "attribute"), jargs_flag(a, 1, "case_sensitive", false), &k, &n));
    return sort_keyed(r, k, n, jargs_flag(a, 0, "reverse", false), out);
}

FILTER(dictsort) {
    struct jvalue by, pairs;
    if (v.type != J_DICT) return jrun_fail(r, "dictsort needs a mapping");
    TRY(jargs_string(r, a, 1, "by", "key", &by));
    TRY(filter_items(r, v, a, &pairs));
    bool value = by.len == 5 && memcmp(by.s, "value", 5) == 0;
    struct jvalue position = jv_int(value);
    struct keyed *k;
    uint32_t n;
    TRY(keyed_items(r, pairs, &position, jargs_flag(a, 0, "case_sensitive", false), &k, &n));
    return sort_keyed(r, k, n, jargs_flag(a, 2, "reverse", false), out);
}

static err_id extreme(struct jrun *r, struct jvalue v, const struct jargs *a, int sign, struct jvalue *out) {
    struct keyed *k;
    uint32_t n, best = 0;
    TRY(keyed_items(r, v, jargs_get(a, 1, "attribute"), jargs_flag(a, 0, "case_sensitive", false), &k, &n));
    if (n == 0) return *out = jv_undefined("item of an empty sequence", 25), ERR_NONE;
    for (uint32_t i = 1; i < n; i++) {
        int cmp;
        TRY(jv_compare(r, k[i].key, k[best].key, &cmp));
        if (cmp * sign > 0) best = i;
    }
    *out = k[best].item;
    return ERR_NONE;
}

FILTER(min) { return extreme(r, v, a, -1, out); }
FILTER(max) { return extreme(r, v, a, 1, out); }

FILTER(unique) {
    struct keyed *k;
    uint32_t n;
    struct jlist items;
    err_id id;
    bool broken = v.type == J_GENERATOR && v.list->broken;
    if ((v.type != J_GENERATOR || broken) && !iterate_later(r, v, false, &items, out, &id)) return id;
    TRY(keyed_items(r, v, jargs_get(a, 1, "attribute"), jargs_flag(a, 0, "case_sensitive", false), &k, &n));
    *out = jv_list(r, J_GENERATOR);
    struct jvalue seen = jv_list(r, J_LIST);
    for (uint32_t i = 0; i < n; i++) {
        bool known;
        TRY(jinja_contains(r, seen, k[i].key, &known));
        if (known) continue;
        jv_push(r, seen, k[i].key);
        jv_push(r, *out, k[i].item);
    }
    return ERR_NONE;
}

FILTER(sum) {
    struct jlist items;
    TRY(jv_iterate(r, v, &items));
    const struct jvalue *attribute = jargs_get(a, 0, "attribute"), *start = jargs_get(a, 1, "start");
    *out = start ? *start : jv_int(0);
    for (uint32_t i = 0; i < items.len; i++) {
        struct jvalue item, total;
        TRY(attribute_path(r, items.items[i], attribute, &item));
        TRY(jinja_binary(r, OP_ADD, *out, item, &total));
        *out = total;
    }
    return ERR_NONE;
}

FILTER(batch) {
    struct jlist items;
    int64_t size;
    TRY(jargs_int(r, a, 0, "linecount", 0, &size));
    const struct jvalue *fill = jargs_get(a, 1, "fill_with");
    if (size < 1 || size > INT32_MAX) return jrun_fail(r, "batch: linecount must be at least 1");
    err_id id;
    if (!iterate_later(r, v, false, &items, out, &id)) return id;
    TRY(jrun_charge(r, items.len + (fill ? (size_t)size : 0)));
    for (uint32_t i = 0; i < items.len;) {
        struct jvalue row = jv_list(r, J_LIST);
        for (int64_t k = 0; k < size && i < items.len; k++) jv_push(r, row, items.items[i++]);
        while (fill != NULL && fill->type != J_NONE && row.list->len < size) jv_push(r, row, *fill);
        jv_push(r, *out, row);
    }
    return ERR_NONE;
}

const struct jfilter *jinja_list_filter_find(const char *name) {
    static const struct jfilter own[] = {
        {"batch", filter_batch},     {"dictsort", filter_dictsort}, {"first", filter_first},
        {"items", filter_items},     {"join", filter_join},         {"last", filter_last},
        {"list", filter_list},       {"map", filter_map},           {"max", filter_max},
        {"min", filter_min},         {"reject", filter_reject},     {"rejectattr", filter_rejectattr},
        {"reverse", filter_reverse}, {"select", filter_select},     {"selectattr", filter_selectattr},
        {"sort", filter_sort},       {"sum", filter_sum},           {"unique", filter_unique},
    };
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        if (strcmp(own[i].name, name) == 0) return &own[i];
    }
    return NULL;
}
