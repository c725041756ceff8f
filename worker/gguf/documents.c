#include "worker/gguf/documents.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/check.h"

static const struct {
    const char *name;
    err_id (*make)(const struct gguf *g, json_t **out, struct error *e);
} documents[] = {
    {"config.json", gguf_config},
    {"generation_config.json", gguf_generation_config},
    {"tokenizer.json", gguf_tokenizer},
    {"tokenizer_config.json", gguf_tokenizer_config},
};

static err_id make(const struct gguf *g, size_t which, struct buf *out, struct error *e) {
    json_t *json = NULL;
    err_id id = documents[which].make(g, &json, e);
    if (id != ERR_NONE) return error_wrap(e, "%s", gguf_name(g));
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (text == NULL) return error_set(e, ERR_MODEL_FILES, "%s: its metadata can't be put as JSON", gguf_name(g));
    buf_str(out, text);
    free(text);
    return ERR_NONE;
}

err_id gguf_document(const char *path, const char *name, struct buf *out, bool *found, struct error *e) {
    *found = false;
    for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
        if (strcmp(documents[i].name, name) != 0) continue;
        *found = true;
        struct gguf *g;
        TRY(gguf_open(path, &g, e));
        err_id id = make(g, i, out, e);
        gguf_close(&g);
        return id;
    }
    return ERR_NONE;
}
