#include "worker/text/messages.h"

#include "common/base/check.h"
#include "worker/text/utf8.h"

#include <stdio.h>
#include <string.h>

// ---- content ----

static err_id check_part(const json_t *part, size_t message, size_t index, struct error *e) {
    char field[64];
    snprintf(field, sizeof field, "messages[%zu].content[%zu]", message, index);
    if (!json_is_object(part)) return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s must be an object", field);
    const json_t *type = json_object_get(part, "type");
    if (!json_is_string(type) || strcmp(json_string_value(type), "text") != 0)
        return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s: only parts of type \"text\" are supported by this model",
                               field);
    if (!json_is_string(json_object_get(part, "text")))
        return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s: \"text\" must be a string", field);
    return ERR_NONE;
}

static err_id join_parts(json_t *message, const json_t *parts, size_t index, bool keep, struct error *e) {
    struct buf text = {0};
    err_id id = ERR_NONE;
    for (size_t i = 0; i < json_array_size(parts) && id == ERR_NONE; i++) {
        const json_t *part = json_array_get(parts, i);
        id = check_part(part, index, i, e);
        if (id != ERR_NONE) break;
        const json_t *s = json_object_get(part, "text");
        if (i > 0) buf_char(&text, '\n');
        buf_append(&text, json_string_value(s), json_string_length(s));
    }
    if (id == ERR_NONE && !keep)
        json_object_set_new(message, "content", json_stringn_nocheck(text.data ? text.data : "", text.len));
    buf_free(&text);
    return id;
}

static err_id normalise_content(const struct chat_template *t, json_t *message, size_t index, struct error *e) {
    const json_t *content = json_object_get(message, "content");
    char field[64];
    snprintf(field, sizeof field, "messages[%zu].content", index);
    if (json_is_array(content)) return join_parts(message, content, index, template_wants_content_parts(t), e);
    if (json_is_string(content)) return ERR_NONE;
    const json_t *calls = json_object_get(message, "tool_calls");
    bool may_be_absent = json_array_size(calls) > 0;
    if (content != NULL && !json_is_null(content))
        return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s must be a string, an array of parts, or null", field);
    if (!may_be_absent) return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s is missing", field);
    json_object_set_new(message, "content", json_null());
    return ERR_NONE;
}

// ---- tool calls ----

static err_id normalise_call(const struct chat_template *t, json_t *calls, size_t message, size_t index, struct error *e) {
    char field[80];
    snprintf(field, sizeof field, "messages[%zu].tool_calls[%zu].function", message, index);
    json_t *function = json_object_get(json_array_get(calls, index), "function");
    if (!json_is_object(function) || !json_is_string(json_object_get(function, "name")))
        return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s must be an object with a \"name\"", field);
    const json_t *arguments = json_object_get(function, "arguments");
    if (arguments == NULL) {
        json_object_set_new(function, "arguments", template_wants_argument_objects(t) ? json_object() : json_string("{}"));
        return ERR_NONE;
    }
    bool wants_object = template_wants_argument_objects(t);
    if (json_is_string(arguments) && wants_object) {
        json_t *parsed = json_loadb(json_string_value(arguments), json_string_length(arguments), JSON_ALLOW_NUL, NULL);
        // Not an object: the model wrote it so, and the template prints the text as it is.
        if (json_is_object(parsed)) {
            json_object_set_new(function, "arguments", parsed);
        } else {
            json_decref(parsed);
        }
    } else if (!json_is_string(arguments) && !wants_object) {
        char *text = json_dumps(arguments, JSON_ENCODE_ANY);
        json_object_set_new(function, "arguments", json_string(text ? text : "{}"));
        free(text);
    }
    return ERR_NONE;
}

static err_id normalise_message(const struct chat_template *t, json_t *message, size_t index, struct error *e) {
    char field[64];
    snprintf(field, sizeof field, "messages[%zu]", index);
    if (!json_is_object(message)) return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s must be an object", field);
    snprintf(field, sizeof field, "messages[%zu].role", index);
    if (!json_is_string(json_object_get(message, "role")))
        return error_set_param(e, ERR_INVALID_ARGUMENT, field, "%s must be a string", field);
    TRY(normalise_content(t, message, index, e));
    json_t *calls = json_object_get(message, "tool_calls");
    if (calls != NULL && !json_is_null(calls) && !json_is_array(calls))
        return error_set_param(e, ERR_INVALID_ARGUMENT, field, "messages[%zu].tool_calls must be an array", index);
    if (json_is_null(calls) || (calls != NULL && json_array_size(calls) == 0)) json_object_del(message, "tool_calls");
    calls = json_object_get(message, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) TRY(normalise_call(t, calls, index, i, e));
    return ERR_NONE;
}

err_id messages_normalise(const struct chat_template *t, const json_t *messages, json_t **out, struct error *e) {
    if (!json_is_array(messages)) return error_set_param(e, ERR_INVALID_ARGUMENT, "messages", "messages must be an array");
    if (json_array_size(messages) == 0)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "messages", "messages must not be empty");
    json_t *copy = json_deep_copy(messages);
    err_id id = ERR_NONE;
    for (size_t i = 0; i < json_array_size(copy) && id == ERR_NONE; i++)
        id = normalise_message(t, json_array_get(copy, i), i, e);
    if (id != ERR_NONE) {
        json_decref(copy);
        return id;
    }
    *out = copy;
    return ERR_NONE;
}
