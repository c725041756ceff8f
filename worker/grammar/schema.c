// From a JSON schema to a network. The unit of work is a set of schemas that must all hold: $ref and allOf add to it, anyOf
// and oneOf split it into cases, and each case becomes one alternative for each type that it allows. A set is compiled once,
// however often and in whatever depth it is asked for, so that recursion is a call.
#include "worker/grammar/schema.h"
#include "common/base/check.h"
#include <stdlib.h>
#include <string.h>

static err_id flatten(struct schema_compiler *c, struct schema_set todo, struct schema_set done, uint32_t from);

void schema_set_add(struct schema_set *s, const json_t *schema) {
    for (uint32_t i = 0; i < s->n; i++)
        if (s->list[i] == schema) return;
    s->full |= s->n == SCHEMA_SET_MAX;
    if (!s->full) s->list[s->n++] = schema;
}

static const json_t *take_first(struct schema_set *s) {
    const json_t *first = s->list[0];
    memmove(s->list, s->list + 1, --s->n * sizeof *s->list);
    return first;
}

uint32_t schema_demand(struct schema_compiler *c, const struct schema_set *set) {
    for (uint32_t i = 0; i < c->n_demands; i++) {
        const struct schema_demand *d = &c->demands[i];
        if (d->set.n == set->n && memcmp(d->set.list, set->list, set->n * sizeof *set->list) == 0) return d->start;
    }
    if (c->n_demands == SCHEMA_DEMANDS_MAX) {
        c->parts.net->over = true;
        return 0;
    }
    c->demands = xrealloc(c->demands, (c->n_demands + 1) * sizeof *c->demands);
    c->demands[c->n_demands] = (struct schema_demand){*set, network_node(c->parts.net)};
    return c->demands[c->n_demands++].start;
}

// ---- references ----

static const json_t *step_into(const json_t *at, char *name) {
    char *out = name;
    for (const char *s = name; *s; s++) { // ~1 is /, ~0 is ~, %XX a byte
        unsigned byte;
        if (s[0] == '~' && (s[1] == '0' || s[1] == '1'))
            *out++ = *++s == '1' ? '/' : '~';
        else if (s[0] == '%' && sscanf(s + 1, "%2x", &byte) == 1 && strlen(s) > 2)
            *out++ = (char)byte, s += 2;
        else
            *out++ = *s;
    }
    *out = '\0';
    if (json_is_array(at)) return json_array_get(at, (size_t)strtoul(name, NULL, 10));
    return json_object_get(at, name);
}

static err_id resolve(const struct schema_compiler *c, const char *ref, const json_t **out, struct error *e) {
    if (ref[0] != '#' || (ref[1] != '\0' && ref[1] != '/'))
        return error_set(e, ERR_UNSUPPORTED, "'$ref' to \"%.100s\" isn't supported: only \"#\" and \"#/…\" are", ref);
    char *path = xstrdup(ref + 1), *rest = path, *name;
    const json_t *at = c->root;
    strsep(&rest, "/");
    while (at != NULL && (name = strsep(&rest, "/")) != NULL) at = step_into(at, name);
    free(path);
    if (at == NULL) return error_set(e, ERR_INVALID_ARGUMENT, "'$ref' to \"%.100s\" leads nowhere", ref);
    *out = at;
    return ERR_NONE;
}

// ---- what a schema says ----

static const char *const REFUSED[] = {"not",
                                      "if",
                                      "then",
                                      "else",
                                      "contains",
                                      "minContains",
                                      "maxContains",
                                      "patternProperties",
                                      "propertyNames",
                                      "minProperties",
                                      "maxProperties",
                                      "multipleOf",
                                      "dependentRequired",
                                      "dependentSchemas",
                                      "unevaluatedItems",
                                      "unevaluatedProperties",
                                      "$dynamicRef",
                                      "$recursiveRef",
                                      "dependencies",
                                      "additionalItems",
                                      "$anchor",
                                      "$dynamicAnchor"};

static err_id check_keywords(const json_t *schema, struct error *e) {
    for (size_t i = 0; i < ARRAY_LEN(REFUSED); i++)
        if (json_object_get(schema, REFUSED[i]))
            return error_set(e, ERR_UNSUPPORTED, "the schema's keyword '%s' isn't supported", REFUSED[i]);
    if (json_is_true(json_object_get(schema, "uniqueItems")))
        return error_set(e, ERR_UNSUPPORTED, "the schema's keyword 'uniqueItems' isn't supported");
    const json_t *items = json_object_get(schema, "items");
    if (json_is_array(items)) return error_set(e, ERR_UNSUPPORTED, "'items' as a list isn't supported: use 'prefixItems'");
    static const char *const LISTS[] = {"allOf", "anyOf", "oneOf", "prefixItems", "enum", "required"};
    for (size_t i = 0; i < ARRAY_LEN(LISTS); i++) {
        const json_t *list = json_object_get(schema, LISTS[i]);
        if (list && !json_is_array(list))
            return error_set(e, ERR_INVALID_ARGUMENT, "the schema's '%s' isn't a list", LISTS[i]);
    }
    static const char *const OBJECTS[] = {"properties", "$defs"};
    for (size_t i = 0; i < ARRAY_LEN(OBJECTS); i++) {
        const json_t *object = json_object_get(schema, OBJECTS[i]);
        if (object && !json_is_object(object))
            return error_set(e, ERR_INVALID_ARGUMENT, "the schema's '%s' isn't an object", OBJECTS[i]);
    }
    static const char *const TEXTS[] = {"pattern", "format", "$ref"};
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        const json_t *text = json_object_get(schema, TEXTS[i]);
        if (text && !json_is_string(text))
            return error_set(e, ERR_INVALID_ARGUMENT, "the schema's '%s' isn't a string", TEXTS[i]);
    }
    return ERR_NONE;
}

// One case for each alternative, all of them with the rest of the set.
static err_id split(struct schema_compiler *c, const json_t *list, const struct schema_set *todo,
                    const struct schema_set *done, uint32_t from) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct schema_set with = *todo;
        schema_set_add(&with, json_array_get(list, i));
        if (++c->n_cases > SCHEMA_CASES_MAX)
            return error_set(c->e, ERR_INVALID_ARGUMENT, "the schema's alternatives multiply to more than %d",
                             SCHEMA_CASES_MAX);
        with.full |= todo->full;
        TRY(flatten(c, with, *done, from));
    }
    return ERR_NONE;
}

static err_id note_one_of(struct schema_compiler *c, const json_t *list) {
    for (uint32_t i = 0; i < c->n_one_of; i++)
        if (c->one_of[i] == list) return ERR_NONE;
    if (c->n_one_of == SCHEMA_ONE_OF_MAX || json_array_size(list) > 32)
        return error_set(c->e, ERR_INVALID_ARGUMENT,
                         "the schema has too many 'oneOf', or one with more than 32 alternatives");
    c->one_of[c->n_one_of++] = list;
    return ERR_NONE;
}

// todo: still to be looked at. done: looked into, without what was split. The alternative is made at `from`.
static err_id flatten(struct schema_compiler *c, struct schema_set todo, struct schema_set done, uint32_t from) {
    while (todo.n > 0) {
        const json_t *s = take_first(&todo), *to = NULL;
        if (json_is_true(s)) continue;
        if (json_is_false(s)) return ERR_NONE;
        if (!json_is_object(s)) return error_set(c->e, ERR_INVALID_ARGUMENT, "a schema must be an object, true or false");
        uint32_t before = done.n;
        schema_set_add(&done, s);
        if (done.n == before && !done.full) continue; // it refers to itself
        TRY(check_keywords(s, c->e));
        const char *ref = json_string_value(json_object_get(s, "$ref"));
        if (ref) {
            TRY(resolve(c, ref, &to, c->e));
            schema_set_add(&todo, to);
        }
        const json_t *all = json_object_get(s, "allOf");
        for (size_t i = 0; i < json_array_size(all); i++) schema_set_add(&todo, json_array_get(all, i));
        if (todo.full || done.full)
            return error_set(c->e, ERR_INVALID_ARGUMENT, "more than %d schemas hold at once", SCHEMA_SET_MAX);
        const json_t *any = json_object_get(s, "anyOf"), *one = json_object_get(s, "oneOf");
        if (any && one)
            return error_set(c->e, ERR_UNSUPPORTED, "'anyOf' beside 'oneOf' isn't supported: put one into 'allOf'");
        if (one) TRY(note_one_of(c, one));
        if (any || one) return split(c, any ? any : one, &todo, &done, from);
    }
    return schema_case(c, &done, from);
}

// Two alternatives of a oneOf that one value fits would have to be told apart by what they don't say.
static err_id check_one_of(struct schema_compiler *c, uint32_t *pairs) {
    bool *ok = network_productive(c->parts.net);
    uint32_t at = 0;
    err_id id = ERR_NONE;
    for (uint32_t i = 0; i < c->n_one_of; i++)
        for (size_t a = 0; a < json_array_size(c->one_of[i]); a++)
            for (size_t b = a + 1; b < json_array_size(c->one_of[i]); b++)
                if (at < c->n_pairs && ok[pairs[at++]] && id == ERR_NONE)
                    id = error_set(
                        c->e, ERR_UNSUPPORTED,
                        "a value can fit the alternatives %zu and %zu of 'oneOf' both: use 'anyOf', or a 'const' or "
                        "'required' that tells them apart",
                        a, b);
    free(ok);
    return id;
}

static void demand_pairs(struct schema_compiler *c, uint32_t one_of, uint32_t **pairs) {
    const json_t *list = c->one_of[one_of];
    for (size_t a = 0; a < json_array_size(list); a++) {
        for (size_t b = a + 1; b < json_array_size(list); b++) {
            struct schema_set both = {0};
            schema_set_add(&both, json_array_get(list, a));
            schema_set_add(&both, json_array_get(list, b));
            *pairs = xrealloc(*pairs, (c->n_pairs + 1) * sizeof **pairs);
            (*pairs)[c->n_pairs++] = schema_demand(c, &both);
        }
    }
}

static err_id compile_all(struct schema_compiler *c) {
    uint32_t *pairs = NULL, paired = 0;
    err_id id = ERR_NONE;
    for (uint32_t i = 0; id == ERR_NONE && (i < c->n_demands || paired < c->n_one_of);) {
        if (i == c->n_demands) {
            demand_pairs(c, paired++, &pairs);
            continue;
        }
        struct schema_set set = c->demands[i].set, done = {0};
        uint32_t start = c->demands[i++].start;
        id = flatten(c, set, done, start);
        if (id == ERR_NONE && c->parts.net->over)
            id = error_set(c->e, ERR_INVALID_ARGUMENT, "the schema needs more than the limit of %u states",
                           c->parts.net->budget);
    }
    if (id == ERR_NONE) id = check_one_of(c, pairs);
    free(pairs);
    return id;
}

err_id schema_compile(const json_t *root, struct network *net, struct error *e) {
    struct schema_compiler c = {.root = root, .e = e};
    struct schema_set all = {0};
    json_parts_init(&c.parts, net);
    schema_set_add(&all, root);
    uint32_t start = schema_demand(&c, &all);
    err_id id = compile_all(&c);
    free(c.demands);
    return id == ERR_NONE ? network_finish(net, start, e) : id;
}
