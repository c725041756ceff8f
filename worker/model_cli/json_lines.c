#include "worker/model_cli/json_lines.h"

#include "common/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static err_id answer_line(json_line_answer *answer, void *context, const char *text, size_t len, json_t **out,
                          struct error *e) {
    json_error_t error;
    json_t *line = json_loadb(text, len, JSON_ALLOW_NUL, &error);
    if (line == NULL) return error_set(e, ERR_INVALID_ARGUMENT, "not valid JSON: %s", error.text);
    err_id id = json_is_object(line) ? answer(context, line, out, e)
                                     : error_set(e, ERR_INVALID_ARGUMENT, "each line must be an object");
    json_decref(line);
    return id;
}

int json_lines_run(json_line_answer *answer, void *context) {
    char *text = NULL;
    size_t cap = 0;
    ssize_t len;
    int exit_code = 0;
    while ((len = getline(&text, &cap, stdin)) >= 0) {
        if (strspn(text, " \t\r\n") == (size_t)len) continue;
        json_t *out = NULL;
        struct error e = {0};
        if (answer_line(answer, context, text, (size_t)len, &out, &e) != ERR_NONE) {
            exit_code = 2;
            out = json_pack("{s:s}", "error", error_text(&e));
            if (out == NULL) out = json_pack("{s:s}", "error", error_info(e.id)->sentence);
        }
        json_dumpf(out, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(out);
    }
    free(text);
    return exit_code;
}

err_id json_lines_ids(const json_t *line, uint32_t **ids, size_t *n, struct error *e) {
    const json_t *array = json_object_get(line, "ids");
    if (!json_is_array(array)) return error_set(e, ERR_INVALID_ARGUMENT, "\"ids\" must be an array of token ids");
    *n = json_array_size(array);
    *ids = xcalloc(*n + 1, sizeof **ids);
    for (size_t i = 0; i < *n; i++) {
        const json_t *id = json_array_get(array, i);
        json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value > UINT32_MAX) {
            free(*ids);
            return error_set(e, ERR_INVALID_ARGUMENT, "\"ids\" must be an array of token ids");
        }
        (*ids)[i] = (uint32_t)value;
    }
    return ERR_NONE;
}
