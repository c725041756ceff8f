// Chat templates: the model's own Jinja template is run, byte for byte as Python's jinja2 does with the settings of Hugging
// Face's transformers (trim_blocks, lstrip_blocks, loop controls, generation blocks, tojson without escaping or sorting,
// raise_exception, strftime_now). What is not known is refused when the template is compiled, with its line. Running one is
// bounded in steps, depth, memory and output, so that no template can hang or exhaust the process. A compiled template is
// immutable and may be used by many threads at once. The reference: tests/e2e/test_template_conformance.py.
#pragma once
#include "common/base/buf.h"
#include "common/base/error.h"
#include "worker/text/tokenizer.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct chat_template;

enum {
    TEMPLATE_SOURCE_MAX = 1 << 20,   // bytes
    TEMPLATE_STEPS_MAX = 20000000,   // expressions evaluated, and bytes copied / 16
    TEMPLATE_DEPTH_MAX = 100,        // nesting of blocks, expressions, calls and values
    TEMPLATE_MEMORY_MAX = 256 << 20, // bytes of values in one run
    TEMPLATE_OUTPUT_MAX = 32 << 20,  // bytes
};

// ERR_MODEL_FILES with line and construct when it can't be compiled.
err_id template_create(const char *source, size_t len, struct chat_template **out, struct error *e);
void template_destroy(struct chat_template *t); // NULL is fine

struct template_input {
    const json_t *messages; // array
    const json_t *tools;    // array, or NULL: none in Python
    const json_t *extra;    // object of further variables (documents, chat_template_kwargs), or NULL; a key "messages",
                            // "tools" or "add_generation_prompt" in it loses against the fields here
    bool add_generation_prompt;
    const json_t
        *special_tokens; // object: bos_token, eos_token, … as the model's configuration names them, or NULL; loses to extra
    int64_t now_unix_s;  // what strftime_now tells, in UTC
};

// Appends the prompt to *out. ERR_INVALID_ARGUMENT when the template refuses the messages (raise_exception) or they don't
// have the shape it expects; *out is then as long as before.
err_id template_render(const struct chat_template *t, const struct template_input *input, struct buf *out, struct error *e);

// How a template wants its messages, found by looking at it.
bool template_wants_content_parts(const struct chat_template *t); // it loops over content
bool template_wants_argument_objects(
    const struct chat_template *t); // it passes tool-call arguments to tojson, or loops over them
