// Which fields of a request are acted on, or may be sent without harm. Internal to this room.
#pragma once
#include "common/base/buf.h"
#include "router/front/openai_request.h"

#include <jansson.h>

// Appends the names of the fields that are not known, as "foo, bar".
void openai_unknown_fields(enum openai_kind kind, const json_t *request, struct buf *out);
