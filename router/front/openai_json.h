// Fields of a JSON request: absent and null are the same; a value of another kind, or out of range, is ERR_INVALID_ARGUMENT
// with the field's name. Outputs of absent fields are left as they are. Internal to this room.
#pragma once
#include "common/base/error.h"

#include <jansson.h>
#include <stdbool.h>

json_t *openai_field(const json_t *object, const char *name); // NULL: absent
err_id openai_wrong(struct error *e, const char *name, const char *expected);
err_id openai_number(const json_t *o, const char *name, double min, double max, bool *has, float *out, struct error *e);
err_id openai_integer(const json_t *o, const char *name, json_int_t min, json_int_t max, bool *has, json_int_t *out,
                      struct error *e);
err_id openai_bool(const json_t *o, const char *name, bool *out, struct error *e);
