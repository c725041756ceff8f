// shoal-model template: {"messages": …} lines to {"text": …} lines, through the model's own chat template. Messages reach
// the template as they are written, so that the result can be compared with Python's.
#include "worker/model_cli/commands.h"
#include "worker/model_cli/json_lines.h"
#include "worker/text/model_text.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char usage[] =
    "usage: shoal-model template --model DIR < lines of {\"messages\": […], \"add_generation_prompt\": true, \"tools\": "
    "[…], …}\n"
    "  Further keys of a line, and those of its \"chat_template_kwargs\", are variables of the template.\n";

struct render {
    struct chat_template *chat;
    json_t *special_tokens;
};

// The line without what template_input has fields for, and with chat_template_kwargs spread out.
static json_t *extra_of(const json_t *line) {
    json_t *extra = json_copy((json_t *)line);
    static const char *const own[] = {"messages", "tools", "add_generation_prompt", "chat_template_kwargs"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) json_object_del(extra, own[i]);
    json_t *kwargs = json_object_get(line, "chat_template_kwargs");
    if (json_is_object(kwargs)) json_object_update(extra, kwargs);
    return extra;
}

static err_id render_line(void *context, const json_t *line, json_t **answer, struct error *e) {
    const struct render *r = context;
    const json_t *messages = json_object_get(line, "messages"), *tools = json_object_get(line, "tools");
    if (!json_is_array(messages))
        return error_set_param(e, ERR_INVALID_ARGUMENT, "messages", "\"messages\" must be an array");
    json_t *extra = extra_of(line);
    struct template_input input = {
        .messages = messages,
        .tools = json_is_null(tools) ? NULL : tools,
        .extra = extra,
        .special_tokens = r->special_tokens,
        .add_generation_prompt = json_is_true(json_object_get(line, "add_generation_prompt")),
        .now_unix_s = time(NULL),
    };
    struct buf text = {0};
    err_id id = template_render(r->chat, &input, &text, e);
    if (id == ERR_NONE) *answer = json_pack("{s:o}", "text", json_stringn(text.data ? text.data : "", text.len));
    buf_free(&text);
    json_decref(extra);
    return id;
}

int shoal_model_template(int argc, char **argv) {
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    const char *folder = NULL;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        switch (c) {
        case 'm':
            folder = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (folder == NULL || optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    struct error e = {0};
    struct render r;
    if (model_text_load_chat(folder, &r.chat, &r.special_tokens, &e) != ERR_NONE) {
        fprintf(stderr, "shoal-model template: %s\n", error_text(&e));
        return 2;
    }
    int exit_code = json_lines_run(render_line, &r);
    template_destroy(r.chat);
    json_decref(r.special_tokens);
    return exit_code;
}
