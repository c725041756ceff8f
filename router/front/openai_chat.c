// What only a chat's request has. Messages and tools are checked so far that a sentence can name what is wrong; they travel
// as JSON, because templates are programs over it.
#include "router/front/openai_request_internal.h"

#include "common/base/check.h"

#include <stdlib.h>
#include <string.h>

// ---- messages

static err_id check_content(const json_t *content, const char *param, uint32_t *bytes, struct error *e) {
    if (content == NULL) return ERR_NONE;
    if (json_is_string(content)) {
        *bytes += (uint32_t)json_string_length(content);
        return ERR_NONE;
    }
    size_t i;
    json_t *part;
    if (!json_is_array(content))
        return error_set_param(e, ERR_INVALID_ARGUMENT, param, "'%s' must be a string or an array of parts", param);
    json_array_foreach(content, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        json_t *text = json_object_get(part, "text");
        if (type == NULL || strcmp(type, "text") != 0 || !json_is_string(text))
            return error_set_param(e, ERR_INVALID_ARGUMENT, param, "'%s' may hold parts of type \"text\" only", param);
        *bytes += (uint32_t)json_string_length(text);
    }
    return ERR_NONE;
}

// DeepSeek's "prefix": the answer goes on behind the last message.
static err_id take_prefix(struct openai_request *r, json_t *last, struct error *e) {
    bool prefix = false;
    TRY(openai_bool(last, "prefix", &prefix, e));
    if (prefix && strcmp(json_string_value(json_object_get(last, "role")), "assistant") != 0)
        return error_set_param(e, ERR_INVALID_ARGUMENT, "messages", "'prefix' goes with a last message of the assistant");
    if (prefix) r->prompt.continue_final_message = true;
    return ERR_NONE;
}

// Other servers' names for what a message holds.
static void unify(json_t *message) {
    json_t *reasoning = openai_field(message, "reasoning");
    if (json_is_string(reasoning) && openai_field(message, "reasoning_content") == NULL)
        json_object_set(message, "reasoning_content", reasoning);
    json_object_del(message, "reasoning");
    json_object_del(message, "prefix");
    const char *role = json_string_value(json_object_get(message, "role"));
    bool developer = strcmp(role, "developer") == 0, assistant = strcmp(role, "assistant") == 0;
    if (developer) json_object_set_new(message, "role", json_string("system")); // role's text is gone with this
    if (assistant && openai_field(message, "content") == NULL &&
        json_array_size(json_object_get(message, "tool_calls")) == 0)
        json_object_set_new(message, "content", json_string(""));
}

static err_id parse_messages(struct openai_request *r, struct error *e) {
    json_t *messages = openai_field(r->root, "messages"), *m;
    size_t i;
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return openai_wrong(e, "messages", "an array of at least one message");
    json_array_foreach(messages, i, m) {
        char param[ERROR_PARAM_MAX];
        snprintf(param, sizeof param, "messages[%zu].role", i);
        if (!json_is_object(m) || !json_is_string(json_object_get(m, "role")))
            return error_set_param(e, ERR_INVALID_ARGUMENT, param, "'%s' must be a string", param);
        snprintf(param, sizeof param, "messages[%zu].content", i);
        TRY(check_content(openai_field(m, "content"), param, &r->view.prompt_bytes, e));
        if (i + 1 == json_array_size(messages)) TRY(take_prefix(r, m, e));
        unify(m);
    }
    r->messages = json_dumps(messages, JSON_COMPACT);
    r->prompt.messages_json = r->messages;
    return ERR_NONE;
}

// ---- tools

static const char *function_name(const json_t *tool) {
    return json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
}

static err_id check_tools(const json_t *tools, struct error *e) {
    size_t i;
    json_t *tool;
    if (!json_is_array(tools)) return openai_wrong(e, "tools", "an array");
    json_array_foreach(tools, i, tool) {
        char param[ERROR_PARAM_MAX];
        snprintf(param, sizeof param, "tools[%zu].function.name", i);
        const char *name = function_name(tool);
        if (name == NULL || name[0] == '\0' || strlen(name) > TOOL_NAME_BYTES_MAX)
            return error_set_param(e, ERR_INVALID_ARGUMENT, param, "'%s' must be a name of at most %d bytes", param,
                                   TOOL_NAME_BYTES_MAX);
    }
    return ERR_NONE;
}

static err_id named_choice(struct openai_request *r, const json_t *tools, const json_t *choice, struct error *e) {
    const char *name = function_name(choice);
    size_t i;
    json_t *tool;
    if (name == NULL)
        return openai_wrong(e, "tool_choice", "{\"type\": \"function\", \"function\": {\"name\": …}} when it is an object");
    json_array_foreach((json_t *)tools, i, tool) {
        if (strcmp(function_name(tool), name) != 0) continue;
        r->prompt.tool_choice = TOOL_CHOICE_NAMED;
        r->prompt.tool_name = name;
        return ERR_NONE;
    }
    return error_set_param(e, ERR_INVALID_ARGUMENT, "tool_choice", "'tool_choice' names '%.64s', which is not among 'tools'",
                           name);
}

static err_id parse_choice(struct openai_request *r, const json_t *tools, struct error *e) {
    static const char *const words[] = {"auto", "none", "required"};
    json_t *choice = openai_field(r->root, "tool_choice");
    if (json_is_object(choice)) return named_choice(r, tools, choice, e);
    const char *word = json_string_value(choice);
    if (choice == NULL) return ERR_NONE;
    for (size_t i = 0; word && i < ARRAY_LEN(words); i++) {
        if (strcmp(word, words[i]) != 0) continue;
        r->prompt.tool_choice = (enum tool_choice)i;
        if (i == TOOL_CHOICE_REQUIRED && json_array_size(tools) == 0)
            return error_set_param(e, ERR_INVALID_ARGUMENT, "tool_choice", "'tool_choice' needs 'tools'");
        return ERR_NONE;
    }
    return openai_wrong(e, "tool_choice", "\"auto\", \"none\", \"required\" or an object that names a function");
}

static err_id parse_tools(struct openai_request *r, struct error *e) {
    json_t *tools = openai_field(r->root, "tools");
    bool parallel = true;
    if (tools != NULL) TRY(check_tools(tools, e));
    TRY(parse_choice(r, tools, e));
    TRY(openai_bool(r->root, "parallel_tool_calls", &parallel, e));
    r->prompt.one_tool_call = !parallel;
    if (json_array_size(tools) == 0 || r->prompt.tool_choice == TOOL_CHOICE_NONE) return ERR_NONE;
    r->prompt.tools_json = r->tools = json_dumps(tools, JSON_COMPACT);
    r->view.prompt_bytes += (uint32_t)strlen(r->tools);
    return ERR_NONE;
}

// ---- the template's variables

// Templates name the switch differently: DeepSeek's "thinking", Qwen's "enable_thinking". What the request says by itself
// wins.
static void switch_thinking(json_t *kwargs, bool on) {
    static const char *const names[] = {"thinking", "enable_thinking"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (json_object_get(kwargs, names[i]) == NULL) json_object_set_new(kwargs, names[i], json_boolean(on));
}

static err_id parse_thinking(struct openai_request *r, json_t *kwargs, struct error *e) {
    json_t *thinking = openai_field(r->root, "thinking"), *effort = openai_field(r->root, "reasoning_effort");
    const char *type = json_string_value(json_object_get(thinking, "type"));
    bool enable = false;
    if (thinking != NULL) {
        if (type == NULL || (strcmp(type, "enabled") != 0 && strcmp(type, "disabled") != 0 && strcmp(type, "auto") != 0))
            return openai_wrong(e, "thinking", "{\"type\": \"enabled\"} or {\"type\": \"disabled\"}");
        if (strcmp(type, "auto") != 0) switch_thinking(kwargs, type[0] == 'e');
    }
    TRY(openai_bool(r->root, "enable_thinking", &enable, e));
    if (openai_field(r->root, "enable_thinking")) switch_thinking(kwargs, enable);
    if (effort == NULL) return ERR_NONE;
    if (!json_is_string(effort)) return openai_wrong(e, "reasoning_effort", "a word, as \"low\"");
    if (strcmp(json_string_value(effort), "none") == 0) switch_thinking(kwargs, false);
    if (json_object_get(kwargs, "reasoning_effort") == NULL) json_object_set(kwargs, "reasoning_effort", effort);
    return ERR_NONE;
}

static err_id parse_template(struct openai_request *r, struct error *e) {
    json_t *given = openai_field(r->root, "chat_template_kwargs");
    bool add = true, go_on = r->prompt.continue_final_message;
    if (given != NULL && !json_is_object(given)) return openai_wrong(e, "chat_template_kwargs", "an object");
    json_t *kwargs = given ? json_deep_copy(given) : json_object();
    err_id id = parse_thinking(r, kwargs, e);
    if (id == ERR_NONE && json_object_size(kwargs) > 0)
        r->prompt.template_kwargs_json = r->kwargs = json_dumps(kwargs, JSON_COMPACT);
    json_decref(kwargs);
    TRY(id);
    TRY(openai_bool(r->root, "add_generation_prompt", &add, e));
    TRY(openai_bool(r->root, "continue_final_message", &go_on, e));
    if (go_on && add && openai_field(r->root, "add_generation_prompt"))
        return error_set_param(e, ERR_INVALID_ARGUMENT, "continue_final_message",
                               "'continue_final_message' and 'add_generation_prompt' can't both be true");
    r->prompt.continue_final_message = go_on;
    r->prompt.no_generation_prompt = go_on || !add;
    return ERR_NONE;
}

err_id openai_chat_parse(struct openai_request *r, struct error *e) {
    TRY(parse_messages(r, e));
    TRY(parse_tools(r, e));
    return parse_template(r, e);
}
