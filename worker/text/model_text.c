#include "worker/text/model_text.h"

#include "common/base/check.h"
#include "worker/gguf/documents.h"
#include "worker/text/json_read.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Reads a whole file, or what a GGUF file says of it. *found = false, and no error, when it isn't there.
static err_id read_file(const char *folder, const char *name, struct buf *out, bool *found, struct error *e) {
    if (gguf_is_file(folder)) return gguf_document(folder, name, out, found, e);
    struct buf path = {0};
    buf_printf(&path, "%s/%s", folder, name);
    FILE *f = fopen(path.data, "rb");
    int open_errno = errno;
    *found = f != NULL;
    err_id id = ERR_NONE;
    if (f == NULL && open_errno != ENOENT) id = error_set(e, ERR_MODEL_FILES, "%s: %s", path.data, strerror(open_errno));
    size_t n = 1;
    while (f != NULL && id == ERR_NONE && n > 0) {
        n = fread(buf_reserve(out, 1 << 16), 1, 1 << 16, f);
        out->len += n;
        if (out->len > MODEL_TEXT_FILE_MAX)
            id = error_set(e, ERR_MODEL_FILES, "%s: more than %d bytes", path.data, MODEL_TEXT_FILE_MAX);
    }
    if (f != NULL && ferror(f)) id = error_set(e, ERR_MODEL_FILES, "%s: can't be read", path.data);
    if (f != NULL) fclose(f);
    if (id == ERR_NONE && *found) buf_append(out, "", 0);
    buf_free(&path);
    return id;
}

static struct bytes bytes_of(const struct buf *b) { return (struct bytes){b->data, b->len}; }

err_id model_text_load_tokenizer(const char *folder, struct tokenizer **out, struct error *e) {
    struct buf json = {0}, config = {0};
    bool found, has_config;
    err_id id = read_file(folder, "tokenizer.json", &json, &found, e);
    if (id == ERR_NONE && !found) id = error_set(e, ERR_MODEL_FILES, "%s: tokenizer.json is missing", folder);
    if (id == ERR_NONE) id = read_file(folder, "tokenizer_config.json", &config, &has_config, e);
    if (id == ERR_NONE) {
        id = tokenizer_create(bytes_of(&json), bytes_of(&config), out, e);
        if (id != ERR_NONE) error_wrap(e, "%s", folder);
    }
    buf_free(&json);
    buf_free(&config);
    return id;
}

// ---- chat template ----

// The object of a JSON file; an empty object when the file isn't there.
static err_id read_json(const char *folder, const char *name, json_t **out, struct error *e) {
    struct buf text = {0};
    bool found;
    err_id id = read_file(folder, name, &text, &found, e);
    if (id == ERR_NONE && !found) *out = json_object();
    if (id == ERR_NONE && found) {
        id = json_read_document(bytes_of(&text), name, out, e);
        if (id == ERR_NONE && !json_is_object(*out)) {
            json_decref(*out);
            id = error_set(e, ERR_MODEL_FILES, "%s must hold an object", name);
        }
        if (id != ERR_NONE) error_wrap(e, "%s", folder);
    }
    buf_free(&text);
    return id;
}

// Every "…_token" of the configuration as its string.
static json_t *special_tokens_of(const json_t *config) {
    json_t *out = json_object();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)config, key, value) {
        size_t n = strlen(key);
        if (n < 6 || strcmp(key + n - 6, "_token") != 0 || strncmp(key, "add_", 4) == 0) continue;
        if (json_is_object(value)) value = json_object_get(value, "content");
        if (json_is_string(value)) json_object_set(out, key, value);
    }
    return out;
}

// A string, or a list of {"name", "template"}, of which "default" is taken.
static const json_t *config_template(const json_t *config) {
    const json_t *value = json_object_get(config, "chat_template");
    if (!json_is_array(value)) return value;
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *entry = json_array_get(value, i), *name = json_object_get(entry, "name");
        if (json_is_string(name) && strcmp(json_string_value(name), "default") == 0)
            return json_object_get(entry, "template");
    }
    return NULL;
}

// *chat = NULL when the folder has no template.
static err_id load_chat(const char *folder, struct chat_template **chat, enum tool_style *tools, json_t **special_tokens,
                        struct error *e) {
    json_t *config;
    TRY(read_json(folder, "tokenizer_config.json", &config, e));
    struct buf file = {0};
    bool found = false;
    const char *where = "chat_template.jinja";
    err_id id = read_file(folder, where, &file, &found, e);
    const json_t *inside = config_template(config);
    *chat = NULL;
    *tools = TOOL_STYLE_NONE;
    const char *source = found ? file.data : NULL;
    size_t len = file.len;
    if (!found && json_is_string(inside)) {
        where = "tokenizer_config.json: chat_template";
        source = json_string_value(inside);
        len = json_string_length(inside);
    }
    if (id == ERR_NONE && source != NULL) {
        id = template_create(source, len, chat, e);
        *tools = tool_style_of_template(source, len);
    }
    if (id != ERR_NONE) {
        error_wrap(e, "%s: %s", folder, where);
    } else {
        *special_tokens = special_tokens_of(config);
    }
    buf_free(&file);
    json_decref(config);
    return id;
}

err_id model_text_load_chat(const char *folder, struct chat_template **chat, json_t **special_tokens, struct error *e) {
    enum tool_style tools;
    TRY(load_chat(folder, chat, &tools, special_tokens, e));
    if (*chat != NULL) return ERR_NONE;
    json_decref(*special_tokens);
    return error_set(e, ERR_MODEL_FILES,
                     "%s: no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)", folder);
}

// ---- generation_config.json ----

static err_id add_eos(struct model_text *m, const json_t *id, struct error *e) {
    json_int_t n = json_is_integer(id) ? json_integer_value(id) : -1;
    if (n < 0 || n >= TOKEN_ID_MAX)
        return error_set(e, ERR_MODEL_FILES, "generation_config.json: eos_token_id must be a token id");
    for (uint32_t i = 0; i < m->n_eos; i++) {
        if (m->eos[i] == (uint32_t)n) return ERR_NONE;
    }
    if (m->n_eos == EOS_IDS_MAX)
        return error_set(e, ERR_MODEL_FILES, "generation_config.json: more than %d eos_token_id", EOS_IDS_MAX);
    m->eos[m->n_eos++] = (uint32_t)n;
    return ERR_NONE;
}

// A number in [low, high], or absent.
static err_id read_number(const json_t *config, const char *key, double low, double high, bool *has, double *value,
                          struct error *e) {
    const json_t *found = json_object_get(config, key);
    *has = found != NULL && !json_is_null(found);
    if (!*has) return ERR_NONE;
    *value = json_number_value(found);
    if (json_is_number(found) && *value >= low && *value <= high) return ERR_NONE;
    return error_set(e, ERR_MODEL_FILES, "generation_config.json: %s must be a number from %g to %g", key, low, high);
}

static err_id read_sampling(const json_t *config, struct sampling *s, struct error *e) {
    double v = 0;
    TRY(read_number(config, "temperature", 0, 1e6, &s->has_temperature, &v, e));
    if (s->has_temperature) s->temperature = (float)v;
    TRY(read_number(config, "top_p", 0, 1, &s->has_top_p, &v, e));
    if (s->has_top_p) s->top_p = (float)v;
    TRY(read_number(config, "top_k", 0, 1e9, &s->has_top_k, &v, e));
    if (s->has_top_k) s->top_k = (int32_t)v;
    TRY(read_number(config, "min_p", 0, 1, &s->has_min_p, &v, e));
    if (s->has_min_p) s->min_p = (float)v;
    TRY(read_number(config, "typical_p", 0, 1, &s->has_typical_p, &v, e));
    if (s->has_typical_p) s->typical_p = (float)v;
    TRY(read_number(config, "repetition_penalty", 1e-6, 1e6, &s->has_repetition_penalty, &v, e));
    if (s->has_repetition_penalty) s->repetition_penalty = (float)v;
    return ERR_NONE;
}

static err_id load_generation(struct model_text *m, const char *folder, struct error *e) {
    json_t *config;
    TRY(read_json(folder, "generation_config.json", &config, e));
    const json_t *eos = json_object_get(config, "eos_token_id");
    err_id id = ERR_NONE;
    if (json_is_array(eos)) {
        for (size_t i = 0; i < json_array_size(eos) && id == ERR_NONE; i++) id = add_eos(m, json_array_get(eos, i), e);
    } else if (eos != NULL && !json_is_null(eos)) {
        id = add_eos(m, eos, e);
    }
    if (id == ERR_NONE) id = read_sampling(config, &m->defaults, e);
    if (id != ERR_NONE) error_wrap(e, "%s", folder);
    json_decref(config);
    return id;
}

static void add_tokenizer_eos(struct model_text *m) {
    uint32_t eos = tokenizer_eos(m->tokenizer);
    for (uint32_t i = 0; i < m->n_eos; i++) {
        if (m->eos[i] == eos) return;
    }
    if (eos != TOKEN_NONE && m->n_eos < EOS_IDS_MAX) m->eos[m->n_eos++] = eos;
}

err_id model_text_load(const char *folder, struct model_text **out, struct error *e) {
    struct model_text *m = xcalloc(1, sizeof *m);
    err_id id = model_text_load_tokenizer(folder, &m->tokenizer, e);
    if (id == ERR_NONE) id = load_chat(folder, &m->chat, &m->tools, &m->special_tokens, e);
    if (id == ERR_NONE) id = load_generation(m, folder, e);
    if (id != ERR_NONE) {
        model_text_destroy(m);
        return id;
    }
    add_tokenizer_eos(m);
    *out = m;
    return ERR_NONE;
}

void model_text_destroy(struct model_text *m) {
    if (m == NULL) return;
    tokenizer_destroy(m->tokenizer);
    template_destroy(m->chat);
    json_decref(m->special_tokens);
    free(m);
}
