// Reading fields of a JSON object with errors that name them. Thin wrappers around jansson.
#pragma once
#include "common/base/error.h"
#include "worker/text/tokenizer.h"
#include <jansson.h>

// Each names `where` ("tokenizer.json: pre_tokenizer") and the key when the field is absent or of another type.
err_id json_read_string(const json_t *object, const char *key, const char *where, const char **s, size_t *len,
                        struct error *e);
err_id json_read_bool(const json_t *object, const char *key, bool absent, const char *where, bool *value, struct error *e);
// An integer in [0, max].
err_id json_read_size(const json_t *object, const char *key, uint32_t max, const char *where, uint32_t *value,
                      struct error *e);
err_id json_read_array(const json_t *object, const char *key, const char *where, const json_t **array, struct error *e);
// Parses a whole document; the error has the line.
err_id json_read_document(struct bytes text, const char *where, json_t **out, struct error *e);
