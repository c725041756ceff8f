#include "worker/text/template.h"

#include "common/base/check.h"
#include "worker/text/jinja_run.h"
#include "worker/text/utf8.h"

#include <stdlib.h>
#include <string.h>

err_id template_create(const char *source, size_t len, struct chat_template **out, struct error *e) {
    if (len > TEMPLATE_SOURCE_MAX)
        return error_set(e, ERR_MODEL_FILES, "the chat template has more than %d bytes", TEMPLATE_SOURCE_MAX);
    if (utf8_valid_prefix(source, len) != len) return error_set(e, ERR_MODEL_FILES, "the chat template is not UTF-8");
    struct chat_template *t = xcalloc(1, sizeof *t);
    err_id id = jinja_parse(t, source, len, e);
    if (id != ERR_NONE) {
        template_destroy(t);
        return id;
    }
    *out = t;
    return ERR_NONE;
}

void template_destroy(struct chat_template *t) {
    if (t == NULL) return;
    jchunk_free(t->chunks);
    free(t->names);
    free(t);
}

bool template_wants_content_parts(const struct chat_template *t) { return t->wants_parts; }
bool template_wants_argument_objects(const struct chat_template *t) { return t->wants_objects; }

static err_id put_variables(struct jrun *r, const json_t *object) {
    const char *key;
    json_t *value;
    if (object == NULL) return ERR_NONE;
    json_object_foreach((json_t *)object, key, value) {
        struct jvalue v;
        TRY(jv_from_json(r, value, &v));
        jv_put(r, r->context, jv_string(key, strlen(key)), v);
    }
    return ERR_NONE;
}

static err_id fill_context(struct jrun *r, const struct template_input *input) {
    struct jvalue context = jv_dict(r, J_DICT), messages, tools = jv_none();
    r->context = context.dict;
    TRY(put_variables(r, input->special_tokens));
    TRY(put_variables(r, input->extra));
    TRY(jv_from_json(r, input->messages, &messages));
    if (input->tools != NULL) TRY(jv_from_json(r, input->tools, &tools));
    jv_put(r, r->context, jv_string("messages", 8), messages);
    jv_put(r, r->context, jv_string("tools", 5), tools);
    jv_put(r, r->context, jv_string("add_generation_prompt", 21), jv_bool(input->add_generation_prompt));
    if (jv_find(r->context, jv_string("documents", 9)) == NULL) jv_put(r, r->context, jv_string("documents", 9), jv_none());
    return ERR_NONE;
}

err_id template_render(const struct chat_template *t, const struct template_input *input, struct buf *out, struct error *e) {
    size_t before = out->len;
    struct jrun r = {.t = t, .out = out, .now_unix_s = input->now_unix_s, .e = e};
    r.scope = jscope_push(&r, NULL);
    err_id id = fill_context(&r, input);
    if (id == ERR_NONE) id = jinja_exec(&r, t->body);
    jchunk_free(r.chunks);
    if (id != ERR_NONE && out->data != NULL) {
        out->len = before;
        out->data[before] = '\0';
    }
    return id;
}
