// A chat template, and behind a zero byte its variables as a JSON object. It is refused with its line, or runs within its
// bounds; the prompt is valid UTF-8 as long as template and variables are.
#include "common/base/check.h"
#include "tests/fuzz/target.h"
#include "worker/text/template.h"
#include "worker/text/utf8.h"

#include <string.h>

static void try_render(const struct chat_template *t, const json_t *variables) {
    struct template_input input = {
        .messages = json_object_get(variables, "messages"),
        .tools = json_object_get(variables, "tools"),
        .extra = variables,
        .add_generation_prompt = true,
        .now_unix_s = 1700000000,
    };
    json_t *none = json_array();
    if (!json_is_array(input.messages)) input.messages = none;
    if (!json_is_array(input.tools)) input.tools = NULL;
    struct buf out = {0};
    struct error e = {0};
    if (template_render(t, &input, &out, &e) == ERR_NONE) {
        CHECK(out.len == 0 || utf8_valid_prefix(out.data, out.len) == out.len);
    } else {
        CHECK(out.len == 0 && e.id == ERR_INVALID_ARGUMENT && e.text[0] != '\0');
    }
    buf_free(&out);
    json_decref(none);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
    size_t source = zero != NULL ? (size_t)(zero - data) : size;
    struct chat_template *t;
    struct error e = {0};
    if (template_create((const char *)data, source, &t, &e) != ERR_NONE) {
        CHECK(e.id == ERR_MODEL_FILES && e.text[0] != '\0');
        return 0;
    }
    template_wants_content_parts(t);
    template_wants_argument_objects(t);
    json_t *variables = zero != NULL ? json_loadb((const char *)zero + 1, size - source - 1, 0, NULL) : NULL;
    if (!json_is_object(variables)) {
        json_decref(variables);
        variables = json_object();
    }
    try_render(t, variables);
    json_decref(variables);
    template_destroy(t);
    return 0;
}
