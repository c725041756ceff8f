// OpenAI's messages as chat templates expect them. Clients may send content as a string, null or an array of parts, and
// tool-call arguments as a JSON text; most templates know only strings, and some want arguments as objects. Pure.
#pragma once
#include "worker/text/template.h"

// Checks an array of messages and returns a new one for this template (caller decrefs):
// - every message is an object with a string "role"; content is a string, null, an array of parts, or absent with tool calls
// - text parts are joined by newlines, unless the template loops over content; other kinds of part are refused
// - an absent content becomes null; "arguments" given as JSON text become objects when the template wants objects
// ERR_INVALID_ARGUMENT with the field's name ("messages[2].content[0].type") otherwise.
err_id messages_normalise(const struct chat_template *t, const json_t *messages, json_t **out, struct error *e);
