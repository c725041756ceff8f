// Where a request's wish becomes a network: the only door of this room for what clients send.
#include "worker/grammar/grammar.h"
#include "worker/grammar/automaton.h"
#include "worker/grammar/json_parts.h"
#include "worker/grammar/schema.h"

static err_id compile_regex(const char *text, size_t len, struct network *net, struct error *e) {
    struct automaton *a;
    TRY(automaton_regex(text, len, false, &a, e));
    uint32_t start = network_node(net);
    automaton_emit(a, false, net, start, network_final(net));
    automaton_free(a);
    return network_finish(net, start, e);
}

static err_id compile_object(struct network *net, struct error *e) {
    struct json_parts parts;
    json_parts_init(&parts, net);
    return network_finish(net, parts.object, e);
}

static err_id compile_schema(const char *text, size_t len, struct network *net, struct error *e) {
    json_error_t where;
    json_t *root = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    if (root == NULL) return error_set(e, ERR_INVALID_ARGUMENT, "the schema isn't valid JSON: %s", where.text);
    err_id id = schema_compile(root, net, e);
    json_decref(root);
    return id;
}

err_id grammar_compile(enum grammar_kind kind, const char *text, size_t len, struct network *net, struct error *e) {
    network_init(net, GRAMMAR_STATES_MAX);
    if (len > GRAMMAR_TEXT_MAX) return error_set(e, ERR_INVALID_ARGUMENT, "the grammar is longer than 1 MB");
    if (kind == GRAMMAR_REGEX) return compile_regex(text, len, net, e);
    return kind == GRAMMAR_JSON_OBJECT ? compile_object(net, e) : compile_schema(text, len, net, e);
}
