// The form of an answer: OpenAI's response_format, and vLLM's and SGLang's ways to say the same.
#include "router/front/openai_request_internal.h"

#include <string.h>

static err_id set_schema(struct openai_request *r, const json_t *schema, const char *name, struct error *e) {
    if (!json_is_object(schema) && !json_is_boolean(schema) && !json_is_string(schema))
        return openai_wrong(e, name, "a JSON schema");
    r->prompt.response_format = RESPONSE_JSON_SCHEMA;
    r->schema =
        json_is_string(schema) ? strdup(json_string_value(schema)) : json_dumps(schema, JSON_COMPACT | JSON_ENCODE_ANY);
    r->prompt.response_schema = r->schema;
    return ERR_NONE;
}

static err_id set_regex(struct openai_request *r, const json_t *regex, const char *name, struct error *e) {
    if (!json_is_string(regex) || json_string_length(regex) == 0) return openai_wrong(e, name, "a regular expression");
    r->prompt.response_format = RESPONSE_REGEX;
    r->prompt.response_regex = json_string_value(regex);
    return ERR_NONE;
}

static err_id parse_schema(struct openai_request *r, const json_t *format, struct error *e) {
    json_t *outer = openai_field(format, "json_schema");
    const json_t *schema = openai_field(outer, "schema");
    if (schema == NULL)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "response_format",
                               "'response_format' of type \"json_schema\" needs json_schema.schema");
    TRY(openai_bool(outer, "strict", &r->prompt.response_strict, e));
    return set_schema(r, schema, "response_format", e);
}

static err_id parse_response_format(struct openai_request *r, struct error *e) {
    json_t *format = openai_field(r->root, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (format == NULL || (type && strcmp(type, "text") == 0)) return ERR_NONE;
    if (type && strcmp(type, "json_object") == 0) {
        r->prompt.response_format = RESPONSE_JSON_OBJECT;
        return ERR_NONE;
    }
    if (type && strcmp(type, "json_schema") == 0) return parse_schema(r, format, e);
    if (type && strcmp(type, "regex") == 0) return set_regex(r, openai_field(format, "regex"), "response_format", e);
    return openai_wrong(e, "response_format", "an object of type \"text\", \"json_object\", \"json_schema\" or \"regex\"");
}

err_id openai_format_parse(struct openai_request *r, struct error *e) {
    json_t *structured = openai_field(r->root, "structured_outputs");
    json_t *json = openai_field(r->root, "guided_json"), *regex = openai_field(r->root, "guided_regex");
    TRY(parse_response_format(r, e));
    if (regex == NULL) regex = openai_field(r->root, "regex");
    if (json == NULL) json = openai_field(structured, "json");
    if (regex == NULL) regex = openai_field(structured, "regex");
    bool given = json != NULL || regex != NULL;
    if (structured != NULL && !given)
        return error_set_param(e, ERR_UNSUPPORTED, "structured_outputs",
                               "'structured_outputs' can hold \"json\" or \"regex\"");
    if (given && ((json && regex) || r->prompt.response_format != RESPONSE_TEXT))
        return error_set_param(e, ERR_INVALID_ARGUMENT, "response_format", "the form of the answer is given twice");
    if (json) return set_schema(r, json, "guided_json", e);
    return regex ? set_regex(r, regex, "guided_regex", e) : ERR_NONE;
}
