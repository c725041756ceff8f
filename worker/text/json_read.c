#include "worker/text/json_read.h"

err_id json_read_string(const json_t *object, const char *key, const char *where, const char **s, size_t *len,
                        struct error *e) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) return error_set(e, ERR_MODEL_FILES, "%s: \"%s\" must be a string", where, key);
    *s = json_string_value(value);
    *len = json_string_length(value);
    return ERR_NONE;
}

err_id json_read_bool(const json_t *object, const char *key, bool absent, const char *where, bool *value, struct error *e) {
    const json_t *found = json_object_get(object, key);
    *value = absent;
    if (found == NULL || json_is_null(found)) return ERR_NONE;
    if (!json_is_boolean(found)) return error_set(e, ERR_MODEL_FILES, "%s: \"%s\" must be true or false", where, key);
    *value = json_is_true(found);
    return ERR_NONE;
}

err_id json_read_size(const json_t *object, const char *key, uint32_t max, const char *where, uint32_t *value,
                      struct error *e) {
    const json_t *found = json_object_get(object, key);
    json_int_t n = json_is_integer(found) ? json_integer_value(found) : -1;
    if (n < 0 || n > (json_int_t)max)
        return error_set(e, ERR_MODEL_FILES, "%s: \"%s\" must be an integer from 0 to %u", where, key, max);
    *value = (uint32_t)n;
    return ERR_NONE;
}

err_id json_read_array(const json_t *object, const char *key, const char *where, const json_t **array, struct error *e) {
    *array = json_object_get(object, key);
    if (!json_is_array(*array)) return error_set(e, ERR_MODEL_FILES, "%s: \"%s\" must be an array", where, key);
    return ERR_NONE;
}

err_id json_read_document(struct bytes text, const char *where, json_t **out, struct error *e) {
    json_error_t error;
    *out = json_loadb(text.data ? text.data : "", text.len, JSON_ALLOW_NUL, &error);
    if (*out != NULL) return ERR_NONE;
    return error_set(e, ERR_MODEL_FILES, "%s is not valid JSON: %s (line %d)", where, error.text, error.line);
}
