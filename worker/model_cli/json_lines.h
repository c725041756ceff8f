// One JSON object per line in, one per line out: the form of shoal-model's text subcommands. A line that is no good gets
// {"error": "…"} as its answer, the others are served, and the exit code is 2 in the end.
#pragma once
#include "common/base/error.h"
#include <jansson.h>
#include <stdint.h>

// Answers one line; *answer is a new object.
typedef err_id json_line_answer(void *context, const json_t *line, json_t **answer, struct error *e);

int json_lines_run(json_line_answer *answer, void *context);

// {"ids": [1, 2]} of a line as numbers in [0, UINT32_MAX]; the caller frees *ids.
err_id json_lines_ids(const json_t *line, uint32_t **ids, size_t *n, struct error *e);
