// A case: schemas that all hold and have nothing left to split. For each type that all of them allow, one alternative.
#include "common/base/buf.h"
#include "common/base/check.h"
#include "worker/grammar/schema.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INTEGER = 4,
    TYPE_FRACTION = 8,
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64
};

static unsigned type_named(const char *name) {
    static const struct {
        const char *name;
        unsigned type;
    } NAMES[] = {{"null", TYPE_NULL},       {"boolean", TYPE_BOOLEAN},
                 {"integer", TYPE_INTEGER}, {"number", TYPE_INTEGER | TYPE_FRACTION},
                 {"string", TYPE_STRING},   {"array", TYPE_ARRAY},
                 {"object", TYPE_OBJECT}};
    for (size_t i = 0; name && i < ARRAY_LEN(NAMES); i++)
        if (strcmp(NAMES[i].name, name) == 0) return NAMES[i].type;
    return 0;
}

static err_id types_of(const json_t *schema, unsigned *types, struct error *e) {
    const json_t *type = json_object_get(schema, "type");
    unsigned allowed = type ? type_named(json_string_value(type)) : ~0u;
    for (size_t i = 0; i < json_array_size(type); i++) {
        unsigned one = type_named(json_string_value(json_array_get(type, i)));
        if (one == 0) return error_set(e, ERR_INVALID_ARGUMENT, "the schema's 'type' isn't one of JSON Schema's");
        allowed |= one;
    }
    if (allowed == 0) return error_set(e, ERR_INVALID_ARGUMENT, "the schema's 'type' isn't one of JSON Schema's");
    *types &= allowed;
    return ERR_NONE;
}

static unsigned type_of(const json_t *v) {
    if (json_is_real(v)) return json_real_value(v) == floor(json_real_value(v)) ? TYPE_INTEGER : TYPE_FRACTION;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return TYPE_OBJECT;
    case JSON_ARRAY:
        return TYPE_ARRAY;
    case JSON_STRING:
        return TYPE_STRING;
    case JSON_INTEGER:
        return TYPE_INTEGER;
    case JSON_NULL:
        return TYPE_NULL;
    default:
        return TYPE_BOOLEAN;
    }
}

// A whole number from 0, or `otherwise`; several schemas: the strictest.
static err_id bound_of(struct schema_compiler *c, const struct schema_set *set, const char *name, bool upper,
                       uint32_t *out) {
    *out = upper ? NET_UNBOUNDED : 0;
    for (uint32_t i = 0; i < set->n; i++) {
        const json_t *v = json_object_get(set->list[i], name);
        if (v == NULL) continue;
        double d = json_number_value(v);
        if (!json_is_number(v) || d != floor(d) || d < 0 || d > 1e6)
            return error_set(c->e, ERR_INVALID_ARGUMENT, "the schema's '%s' must be a whole number from 0 to 1000000", name);
        if (upper ? d < *out : d > *out) *out = (uint32_t)d;
    }
    return ERR_NONE;
}

// ---- enum and const ----

static bool listed(const json_t *schema, const json_t *value) {
    const json_t *only = json_object_get(schema, "const"), *list = json_object_get(schema, "enum");
    if (only && !json_equal(only, value)) return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), value)) return true;
    return list == NULL;
}

// Only those keywords that can be looked up for a value are allowed beside enum and const.
static err_id check_beside(const struct schema_set *set, struct error *e) {
    static const char *const OTHERS[] = {"minimum",          "maximum",   "exclusiveMinimum",
                                         "exclusiveMaximum", "minLength", "maxLength",
                                         "pattern",          "format",    "items",
                                         "prefixItems",      "minItems",  "maxItems",
                                         "properties",       "required",  "additionalProperties"};
    for (uint32_t i = 0; i < set->n; i++)
        for (size_t k = 0; k < ARRAY_LEN(OTHERS); k++)
            if (json_object_get(set->list[i], OTHERS[k]))
                return error_set(e, ERR_UNSUPPORTED, "'%s' beside 'enum' or 'const' isn't supported", OTHERS[k]);
    return ERR_NONE;
}

static void add_value(struct schema_compiler *c, const struct schema_set *set, unsigned types, const json_t *value,
                      uint32_t from) {
    bool ok = (type_of(value) & types) != 0;
    for (uint32_t i = 0; i < set->n && ok; i++) ok = listed(set->list[i], value);
    if (ok) json_literal(&c->parts, from, value, c->parts.end);
}

static err_id add_listed(struct schema_compiler *c, const struct schema_set *set, unsigned types, const json_t *of,
                         uint32_t from) {
    const json_t *only = json_object_get(of, "const"), *list = json_object_get(of, "enum");
    TRY(check_beside(set, c->e));
    if (only) add_value(c, set, types, only, from);
    for (size_t i = 0; !only && i < json_array_size(list); i++) add_value(c, set, types, json_array_get(list, i), from);
    return ERR_NONE;
}

// ---- numbers ----

static err_id narrow(struct schema_compiler *c, const json_t *v, const char *name, int64_t *min, int64_t *max) {
    if (v == NULL) return ERR_NONE;
    double d = json_number_value(v);
    if (!json_is_number(v)) return error_set(c->e, ERR_INVALID_ARGUMENT, "the schema's '%s' isn't a number", name);
    bool upper = strstr(name, "ax") != NULL, excluded = name[0] == 'e';
    double at = upper ? floor(d) : ceil(d);
    if (excluded && at == d) at += upper ? -1 : 1;
    if (fabs(at) > 1e17) at = at < 0 ? -1e17 : 1e17;
    if (upper && at < (double)*max) *max = (int64_t)at;
    if (!upper && at > (double)*min) *min = (int64_t)at;
    return ERR_NONE;
}

static err_id add_numbers(struct schema_compiler *c, const struct schema_set *set, unsigned types, uint32_t from) {
    static const char *const BOUNDS[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"};
    int64_t min = -JSON_INTEGER_MAX, max = JSON_INTEGER_MAX;
    bool bounded = false;
    for (uint32_t i = 0; i < set->n; i++) {
        for (size_t k = 0; k < ARRAY_LEN(BOUNDS); k++) {
            const json_t *v = json_object_get(set->list[i], BOUNDS[k]);
            bounded |= v != NULL;
            TRY(narrow(c, v, BOUNDS[k], &min, &max));
        }
    }
    bool whole = (types & TYPE_FRACTION) == 0;
    if (bounded && !whole && types & TYPE_FRACTION && json_object_get(set->list[0], "type") == NULL && set->n == 1)
        return error_set(c->e, ERR_UNSUPPORTED, "bounds of a number need \"type\": \"integer\"");
    if (bounded && !whole)
        return error_set(c->e, ERR_UNSUPPORTED, "bounds of a number are supported with \"type\": \"integer\" only");
    if (whole)
        json_integers(&c->parts, from, min, max, c->parts.end);
    else
        network_jump(c->parts.net, from, c->parts.number);
    return ERR_NONE;
}

// ---- strings ----

#define DATE  "[1-9]\\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))"
#define TIME  "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
#define BYTE  "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?"

static const char *format_regex(const char *name) {
    static const char *const FORMATS[][2] = {
        {"date", DATE},
        {"time", TIME},
        {"date-time", DATE "T" TIME},
        {"email", "[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@(" LABEL "\\.)+[A-Za-z]{2,24}"},
        {"hostname", LABEL "(\\." LABEL ")*"},
        {"ipv4", BYTE "(\\." BYTE "){3}"},
        {"ipv6", "[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){7}"},
        {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"}};
    for (size_t i = 0; i < ARRAY_LEN(FORMATS); i++)
        if (strcmp(FORMATS[i][0], name) == 0) return FORMATS[i][1];
    return NULL;
}

// *all = *all and the expression.
static err_id and_regex(struct automaton **all, const char *regex, size_t len, bool search, struct error *e) {
    struct automaton *one, *both;
    TRY(automaton_regex(regex, len, search, &one, e));
    if (*all == NULL) return *all = one, ERR_NONE;
    err_id id = automaton_intersect(*all, one, &both, e);
    automaton_free(one);
    automaton_free(*all);
    *all = id == ERR_NONE ? both : NULL;
    return id;
}

static err_id and_patterns(struct schema_compiler *c, const struct schema_set *set, struct automaton **all) {
    for (uint32_t i = 0; i < set->n; i++) {
        const json_t *pattern = json_object_get(set->list[i], "pattern");
        const char *format = json_string_value(json_object_get(set->list[i], "format"));
        const char *regex = format ? format_regex(format) : NULL;
        if (pattern) TRY(and_regex(all, json_string_value(pattern), json_string_length(pattern), true, c->e));
        if (regex) TRY(and_regex(all, regex, strlen(regex), false, c->e));
    }
    return ERR_NONE;
}

static err_id add_strings(struct schema_compiler *c, const struct schema_set *set, uint32_t from) {
    struct network *net = c->parts.net;
    struct automaton *all = NULL;
    uint32_t min, max;
    char length[64];
    TRY(bound_of(c, set, "minLength", false, &min));
    TRY(bound_of(c, set, "maxLength", true, &max));
    err_id id = and_patterns(c, set, &all);
    bool bounded = min > 0 || max != NET_UNBOUNDED;
    if (id == ERR_NONE && all && bounded) {
        snprintf(length, sizeof length, max == NET_UNBOUNDED ? "[\\s\\S]{%u,}" : "[\\s\\S]{%u,%u}", min, max);
        id = max < min ? ERR_NONE : and_regex(&all, length, strlen(length), false, c->e);
    }
    uint32_t open = network_node(net), close = network_node(net);
    if (id == ERR_NONE && !all && !bounded) {
        network_jump(net, from, c->parts.string);
    } else if (id == ERR_NONE && min <= max) {
        network_text(net, from, "\"", 1, open);
        network_text(net, close, "\"", 1, c->parts.end);
        if (all)
            automaton_emit(all, true, net, open, close);
        else
            network_repeat(net, open, c->parts.character, min, max, close);
    }
    automaton_free(all);
    return id;
}

// ---- arrays ----

static uint32_t item_at(struct schema_compiler *c, const struct schema_set *set, uint32_t index) {
    struct schema_set all = {0};
    for (uint32_t i = 0; i < set->n; i++) {
        const json_t *prefix = json_object_get(set->list[i], "prefixItems"), *rest = json_object_get(set->list[i], "items");
        const json_t *item = index < json_array_size(prefix) ? json_array_get(prefix, index) : rest;
        if (item) schema_set_add(&all, item);
    }
    return all.n == 0 ? c->parts.any : schema_demand(c, &all);
}

static err_id add_arrays(struct schema_compiler *c, const struct schema_set *set, uint32_t from) {
    struct json_parts *p = &c->parts;
    struct network *net = p->net;
    uint32_t min, max, n_prefix = 1, at = network_node(net);
    TRY(bound_of(c, set, "minItems", false, &min));
    TRY(bound_of(c, set, "maxItems", true, &max));
    for (uint32_t i = 0; i < set->n; i++) {
        size_t n = json_array_size(json_object_get(set->list[i], "prefixItems"));
        if (n > n_prefix) n_prefix = (uint32_t)n;
    }
    json_spaced(p, from, "[", at);
    if (min == 0) network_text(net, at, "]", 1, p->end);
    for (uint32_t i = 0; i < n_prefix && i < max; i++) {
        uint32_t next = network_node(net);
        network_call(net, at, item_at(c, set, i), next);
        if (i + 1 >= min) json_closed(p, next, "]", p->end);
        at = next;
        if (i + 1 == n_prefix || i + 1 >= max) break;
        json_spaced(p, next, ",", at = network_node(net));
    }
    if (max <= n_prefix) return ERR_NONE;
    uint32_t more = network_node(net), item = network_node(net), rest = network_node(net);
    json_spaced(p, more, ",", item);
    network_call(net, item, item_at(c, set, n_prefix), p->end);
    network_repeat(net, at, more, min > n_prefix ? min - n_prefix : 0, max == NET_UNBOUNDED ? max : max - n_prefix, rest);
    json_closed(p, rest, "]", p->end);
    return ERR_NONE;
}

// ---- objects ----

// What holds for a property of this name; NULL: one that no schema names.
static uint32_t property(struct schema_compiler *c, const struct schema_set *set, const char *name) {
    struct schema_set all = {0};
    for (uint32_t i = 0; i < set->n; i++) {
        const json_t *one = name ? json_object_get(json_object_get(set->list[i], "properties"), name) : NULL;
        if (one == NULL) one = json_object_get(set->list[i], "additionalProperties");
        if (one) schema_set_add(&all, one);
    }
    return all.n == 0 ? c->parts.any : schema_demand(c, &all);
}

// The names in their order, true for required ones.
static err_id names_of(struct schema_compiler *c, const struct schema_set *set, json_t *names) {
    const char *name;
    json_t *value;
    for (uint32_t i = 0; i < set->n; i++) {
        json_object_foreach(json_object_get(set->list[i], "properties"), name, value)
            json_object_set_new(names, name, json_false());
    }
    for (uint32_t i = 0; i < set->n; i++) {
        const json_t *required = json_object_get(set->list[i], "required");
        for (size_t k = 0; k < json_array_size(required); k++) {
            name = json_string_value(json_array_get(required, k));
            if (name == NULL) return error_set(c->e, ERR_INVALID_ARGUMENT, "the schema's 'required' isn't a list of names");
            json_object_set_new(names, name, json_true());
        }
    }
    return ERR_NONE;
}

static void quote_regex(struct buf *out, const char *name) {
    for (; *name; name++) {
        if (strchr("\\^$.|?*+()[]{}/", *name)) buf_char(out, '\\');
        buf_char(out, *name);
    }
}

// A member with any other name, as a part to be called.
static err_id other_member(struct schema_compiler *c, const struct schema_set *set, json_t *names, uint32_t *start) {
    struct network *net = c->parts.net;
    struct buf regex = {0};
    struct automaton *key = NULL;
    const char *name, *between = "";
    json_t *value;
    *start = network_node(net);
    uint32_t inside = network_node(net), close = network_node(net), quoted = network_node(net), colon = network_node(net);
    buf_str(&regex, json_object_size(names) == 0 ? "[^\\s\\S]" : "");
    json_object_foreach(names, name, value) {
        buf_str(&regex, between);
        quote_regex(&regex, name);
        between = "|";
    }
    err_id id = automaton_regex(regex.len ? regex.data : "", regex.len, false, &key, c->e);
    buf_free(&regex);
    if (id != ERR_NONE) return id;
    automaton_negate(key);
    network_text(net, *start, "\"", 1, inside);
    automaton_emit(key, true, net, inside, close);
    network_text(net, close, "\"", 1, quoted);
    json_colon(&c->parts, quoted, colon);
    network_call(net, colon, property(c, set, NULL), c->parts.end);
    automaton_free(key);
    return ERR_NONE;
}

static err_id others(struct schema_compiler *c, const struct schema_set *set, json_t *names, uint32_t first,
                     uint32_t behind) {
    struct network *net = c->parts.net;
    uint32_t member, more = network_node(net), rest = network_node(net);
    for (uint32_t i = 0; i < set->n; i++)
        if (json_is_false(json_object_get(set->list[i], "additionalProperties"))) return ERR_NONE;
    TRY(other_member(c, set, names, &member));
    network_call(net, first, member, behind);
    json_spaced(&c->parts, more, ",", member);
    network_repeat(net, behind, more, 1, NET_UNBOUNDED, rest);
    json_closed(&c->parts, rest, "}", c->parts.end);
    return ERR_NONE;
}

// first: nothing has been written yet; behind: something has, so that a comma comes next.
static err_id add_objects(struct schema_compiler *c, const struct schema_set *set, uint32_t from) {
    struct json_parts *p = &c->parts;
    struct network *net = p->net;
    json_t *names = json_object(), *required;
    const char *name;
    uint32_t first = network_node(net), behind = network_node(net);
    err_id id = names_of(c, set, names);
    json_spaced(p, from, "{", first);
    json_object_foreach(names, name, required) {
        uint32_t member = network_node(net), value = network_node(net), next_first = network_node(net),
                 next = network_node(net);
        network_jump(net, first, member);
        json_spaced(p, behind, ",", member);
        json_key(p, member, name, value);
        network_call(net, value, property(c, set, name), next);
        if (!json_is_true(required)) network_jump(net, first, next_first), network_jump(net, behind, next);
        first = next_first;
        behind = next;
    }
    network_text(net, first, "}", 1, p->end);
    json_closed(p, behind, "}", p->end);
    if (id == ERR_NONE) id = others(c, set, names, first, behind);
    json_decref(names);
    return id;
}

err_id schema_case(struct schema_compiler *c, const struct schema_set *set, uint32_t from) {
    struct network *net = c->parts.net;
    unsigned types = ~0u;
    const json_t *lists = NULL;
    for (uint32_t i = 0; i < set->n; i++) {
        TRY(types_of(set->list[i], &types, c->e));
        if (json_object_get(set->list[i], "enum") || json_object_get(set->list[i], "const")) lists = set->list[i];
    }
    if (set->n == 0) return network_jump(net, from, c->parts.any), ERR_NONE;
    if (lists) return add_listed(c, set, types, lists, from);
    if (types & TYPE_NULL) network_text(net, from, "null", 4, c->parts.end);
    if (types & TYPE_BOOLEAN)
        network_text(net, from, "true", 4, c->parts.end), network_text(net, from, "false", 5, c->parts.end);
    if (types & (TYPE_INTEGER | TYPE_FRACTION)) TRY(add_numbers(c, set, types, from));
    if (types & TYPE_STRING) TRY(add_strings(c, set, from));
    if (types & TYPE_ARRAY) TRY(add_arrays(c, set, from));
    if (types & TYPE_OBJECT) TRY(add_objects(c, set, from));
    return ERR_NONE;
}
